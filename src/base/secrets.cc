#include "base/secrets.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/text.h"

namespace rigwise {
namespace {

/// A part of the text, [begin, end); nothing where they are equal.
using Place = std::pair<std::size_t, std::size_t>;

bool is_alnum(char byte) {
  return is_letter(byte) || is_digit(byte);
}
bool is_token_byte(char byte) {
  return is_alnum(byte) || byte == '_' || byte == '-';
}
bool is_hex(char byte) {
  return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}
bool is_name_byte(char byte) {
  return is_alnum(byte) || byte == '_' || byte == '-' || byte == '.';
}

/// Prefixes of issued tokens, and how many token bytes must follow.
struct Shape {
  std::string_view prefix;
  std::size_t at_least;
};
constexpr std::array kShapes = {
    Shape{"hf_", 16},     Shape{"sk-", 16},   Shape{"ghp_", 16},  Shape{"gho_", 16},
    Shape{"ghu_", 16},    Shape{"ghs_", 16},  Shape{"ghr_", 16},  Shape{"github_pat_", 16},
    Shape{"AKIA", 16},    Shape{"ASIA", 16},  Shape{"xoxb-", 10}, Shape{"xoxp-", 10},
    Shape{"xoxa-", 10},   Shape{"xoxs-", 10}, Shape{"xoxr-", 10}, Shape{"xoxe-", 10},
    Shape{"glpat-", 16},  Shape{"npm_", 30},  Shape{"AIza", 30},  Shape{"nvapi-", 20},
    Shape{"wandb_v", 20}, Shape{"pypi-", 32},
};

/// Length of the token that starts at text[at], 0 when none does.
std::size_t token_at(std::string_view text, std::size_t at) {
  if (at > 0 && is_alnum(text[at - 1])) return 0;
  const std::string_view rest = text.substr(at);
  for (const Shape& shape : kShapes) {
    if (!rest.starts_with(shape.prefix)) continue;
    std::size_t size = shape.prefix.size();
    bool digit = false;
    while (size < rest.size() && is_token_byte(rest[size])) {
      digit = digit || is_digit(rest[size]);
      ++size;
    }
    // A word such as "hf_trainer_integration_tests" has no digit; a token of this length has.
    if (size - shape.prefix.size() >= shape.at_least && digit) return size;
  }
  if (rest.starts_with("eyJ")) {  // a JSON web token: three base64 parts
    std::size_t size = 0;
    int dots = 0;
    while (size < rest.size() && (is_token_byte(rest[size]) || rest[size] == '.')) {
      if (rest[size] == '.') ++dots;
      ++size;
    }
    if (dots >= 2 && size >= 30) return size;
  }
  return 0;
}

/// 40 hex digits are a W&B key or a git commit: the words in front decide.
std::size_t hex_key_at(std::string_view text, std::size_t at) {
  constexpr std::size_t kHexKey = 40;
  if (!is_hex(text[at]) || (at > 0 && is_alnum(text[at - 1]))) return 0;
  std::size_t size = 0;
  while (at + size < text.size() && is_hex(text[at + size])) ++size;
  if (size != kHexKey || (at + size < text.size() && is_alnum(text[at + size]))) return 0;
  const std::size_t from = at > 48 ? at - 48 : 0;
  const std::string before = lower(text.substr(from, at - from));
  for (const auto word : {"wandb", "key", "token", "login", "secret"})
    if (before.find(word) != std::string::npos) return size;
  return 0;
}

/// What "://user:password@" gives away. Over http a user without a password is a token (git,
/// package indexes), and so is one beside the password "x-oauth-basic"; elsewhere it is a name.
Place url_secret(std::string_view text, std::size_t at) {
  constexpr std::size_t kMaxAuthority = 512, kLongUser = 16;
  const std::size_t start = at + 3;
  std::size_t end = start;
  while (end < text.size() && end - start < kMaxAuthority && !std::strchr("/?# \t\n\"'", text[end]))
    ++end;
  const std::string_view authority = text.substr(start, end - start);
  const std::size_t sign = authority.rfind('@');
  if (sign == std::string_view::npos || sign == 0) return {0, 0};
  const std::string_view before = text.substr(0, at);
  const bool http = before.ends_with("http") || before.ends_with("https");
  const std::size_t colon = authority.substr(0, sign).find(':');
  const std::string_view user = authority.substr(0, std::min(colon, sign));
  const bool long_user = user.size() >= kLongUser || token_at(user, 0) > 0;
  if (colon == std::string_view::npos) {
    const bool token = long_user || (http && user != "git");
    return token && user != kSecretMask ? Place{start, start + sign} : Place{0, 0};
  }
  const std::string_view password = authority.substr(colon + 1, sign - colon - 1);
  if (http && (long_user || password == "x-oauth-basic" || password.empty())) {
    return {start, start + sign};
  }
  if (password.empty() || password == kSecretMask) return {0, 0};
  return {start + colon + 1, start + sign};
}

std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words;
  std::string word;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char byte = name[i];
    const bool capital = byte >= 'A' && byte <= 'Z';
    const bool hump = capital && i > 0 && name[i - 1] >= 'a' && name[i - 1] <= 'z';  // apiKey
    if (!is_alnum(byte) || hump) {
      if (!word.empty()) words.push_back(word);
      word.clear();
    }
    if (is_alnum(byte)) word.push_back(capital ? static_cast<char>(byte - 'A' + 'a') : byte);
  }
  if (!word.empty()) words.push_back(word);
  return words;
}

bool any_of_words(std::string_view word, std::initializer_list<std::string_view> set) {
  return std::find(set.begin(), set.end(), word) != set.end();
}

bool is_plain_secret_word(std::string_view word) {
  return any_of_words(
      word, {"secret", "secrets", "password", "passwords", "passwd", "passphrase", "credential",
             "credentials", "apikey", "auth", "authorization", "pwd"});
}

/// "token" as in a tokenizer's settings.
bool names_a_text_token(std::string_view before) {
  return any_of_words(
      before, {"pad", "eos", "bos", "unk", "sep",  "cls", "mask",  "special", "image", "new",
               "per", "max", "min", "num", "stop", "end", "start", "add",     "use",   "split"});
}

bool names_a_key_to_something(std::string_view before) {
  return any_of_words(
      before, {"api", "access", "private", "wandb", "license", "encryption", "comet", "openai",
               "anthropic", "subscription", "hf", "ssh", "account"});
}

bool looks_random(std::string_view value) {
  constexpr std::size_t kLong = 16;
  bool digit = false, letter = false;
  for (const char byte : value) {
    if (is_digit(byte))
      digit = true;
    else if (is_alnum(byte))
      letter = true;
    else if (byte != '_' && byte != '-' && byte != '+' && byte != '=' && byte != '%')
      return false;
  }
  return value.size() >= kLong && digit && letter;
}

/// "NAME=value", "NAME": "value", "--name value" at text[at], where a name starts: the value's
/// place.
Place named_value(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && end - at < 64 && is_name_byte(text[end])) ++end;
  const std::string_view name = text.substr(at, end - at);
  const bool flag = name.starts_with("--");
  std::size_t from = end;
  if (from < text.size() && (text[from] == '"' || text[from] == '\'')) ++from;
  const bool separated = from < text.size() && (text[from] == '=' || text[from] == ':');
  if (separated) {
    if (text.substr(from).starts_with("://")) return {0, 0};
    if (lower(name).ends_with("authorization")) return {0, 0};  // a header: seen to already
    ++from;
  } else if (!flag || from >= text.size() || text[from] != ' ') {
    return {0, 0};
  }
  while (from < text.size() && text[from] == ' ') ++from;
  if (from < text.size() && (text[from] == '"' || text[from] == '\'')) ++from;
  std::size_t stop = from;
  while (stop < text.size() && !std::strchr(" \t\n\r\"'&,;)}]", text[stop])) ++stop;
  const std::string_view value = text.substr(from, stop - from);
  if (!separated && value.starts_with("-")) return {0, 0};
  if (!hides_secret(name, value)) return {0, 0};
  return {from, stop};
}

/// "Authorization: Bearer x", "Cookie: a=b" at text[at], where a name starts: what follows the
/// scheme. "bearer x" alone where x looks like a token.
Place header_secret(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && end - at < 64 && is_name_byte(text[end])) ++end;
  const std::string name = lower(text.substr(at, end - at));
  const auto skip = [&](std::size_t from, std::string_view bytes) {
    while (from < text.size() && bytes.find(text[from]) != std::string_view::npos) ++from;
    return from;
  };
  const auto upto = [&](std::size_t from, std::string_view bytes) {
    return std::min(text.find_first_of(bytes, from), text.size());
  };
  if (name == "bearer") {
    const std::size_t from = skip(end, " ");
    const std::size_t stop = upto(from, " \t\r\n\"',;)}]");
    const bool digit =
        text.substr(from, stop - from).find_first_of("0123456789") != std::string_view::npos;
    return from > end && stop - from >= 16 && digit ? Place{from, stop} : Place{0, 0};
  }
  const bool cookie = name.ends_with("cookie");
  if (!cookie && !name.ends_with("authorization")) return {0, 0};
  std::size_t from = skip(end, "\"'");
  if (from >= text.size() || (text[from] != ':' && (cookie || text[from] != '='))) return {0, 0};
  from = skip(from + 1, " \"'");
  if (cookie) return {from, upto(from, "\r\n\"'")};
  const std::size_t blank = upto(from, " \t\r\n\"',;");
  const std::string scheme = lower(text.substr(from, blank - from));
  const bool one = any_of_words(scheme, {"bearer", "basic", "token", "apikey", "key", "negotiate"});
  const bool many =
      any_of_words(scheme, {"digest", "hawk", "oauth", "signature"}) || scheme.starts_with("aws4-");
  if (one || many) from = skip(blank, " \t");
  const std::size_t stop = many ? upto(from, "\r\n") : upto(from, " \t\r\n\"',;");
  return text.substr(from, stop - from) == kSecretMask ? Place{0, 0} : Place{from, stop};
}

/// Environment variables whose value names a place, not a secret.
bool names_a_place(std::string_view name) {
  for (const std::string_view end : {"_FILE", "_PATH", "_DIR", "_SOCK", "_HOME", "_URL"})
    if (name.ends_with(end)) return true;
  return name == "XAUTHORITY" || name == "GOOGLE_APPLICATION_CREDENTIALS";
}

}  // namespace

bool is_harmless_value(std::string_view value) {
  const std::string low = lower(value.substr(0, 8));
  return value.empty() || value == kSecretMask ||
         any_of_words(
             low, {"true", "false", "none", "null", "yes", "no", "on", "off", "0", "1", "auto"});
}

Suspicion suspicion_of(std::string_view name) {
  const auto words = words_of(name);
  Suspicion found = Suspicion::none;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const std::string_view before = i > 0 ? std::string_view(words[i - 1]) : std::string_view();
    if (is_plain_secret_word(word)) return Suspicion::yes;
    if (word == "token" && !names_a_text_token(before)) return Suspicion::yes;
    if (word == "key" && names_a_key_to_something(before)) return Suspicion::yes;
    if (any_of_words(word, {"key", "sig", "signature"})) found = Suspicion::by_value;
  }
  return found;
}

Suspicion suspicion_of_variable(std::string_view name) {
  std::string upper(name);
  for (char& byte : upper)
    if (byte >= 'a' && byte <= 'z') byte = static_cast<char>(byte - 'a' + 'A');
  if (names_a_place(upper)) return Suspicion::none;
  const auto words = words_of(name);
  Suspicion found = Suspicion::none;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const std::string_view before = i > 0 ? std::string_view(words[i - 1]) : std::string_view();
    const auto ends = [&](std::string_view with) { return word.ends_with(with); };
    if (any_of_words(word, {"pwd", "pass", "pat"})) {  // PWD alone is where the shell stands
      if (!before.empty() && before != "old") return Suspicion::yes;
      continue;
    }
    if (is_plain_secret_word(word) || ends("password") || ends("passwd") || ends("secret") ||
        ends("apikey")) {
      return Suspicion::yes;
    }
    if (ends("token") && !names_a_text_token(before)) return Suspicion::yes;
    if (word == "key" && names_a_key_to_something(before)) return Suspicion::yes;
    if (ends("key") || word == "keys") found = Suspicion::by_value;
  }
  return found;
}

bool hides_secret(std::string_view name, std::string_view value) {
  if (is_harmless_value(value)) return false;
  const Suspicion suspicion = suspicion_of(name);
  return suspicion == Suspicion::yes || (suspicion == Suspicion::by_value && looks_random(value));
}

std::optional<std::pair<std::string_view, std::string_view>> split_named(
    std::string_view argument) {
  constexpr std::size_t kMaxName = 64;
  const std::size_t equals = argument.find('=');
  if (equals == std::string_view::npos || equals > kMaxName) return std::nullopt;
  const std::size_t blank = argument.find_first_of(" \n");
  if (blank < equals || (!argument.starts_with("-") && blank != std::string_view::npos))
    return std::nullopt;
  return std::pair{argument.substr(0, equals), argument.substr(equals + 1)};
}

std::string mask_secrets(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    Place hidden{0, 0};
    const bool name_starts = is_name_byte(text[at]) && (at == 0 || !is_name_byte(text[at - 1]));
    if (const std::size_t token = token_at(text, at))
      hidden = {at, at + token};
    else if (const std::size_t hex = hex_key_at(text, at))
      hidden = {at, at + hex};
    else if (text[at] == ':' && text.substr(at).starts_with("://"))
      hidden = url_secret(text, at);
    else if (name_starts)
      hidden = header_secret(text, at);
    if (name_starts && hidden.second <= hidden.first) hidden = named_value(text, at);
    if (hidden.second > hidden.first) {
      out.append(text.substr(at, hidden.first - at));
      out.append(kSecretMask);
      at = hidden.second;
    } else {
      out.push_back(text[at++]);
    }
  }
  return out;
}

}  // namespace rigwise
