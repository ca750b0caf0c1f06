#include "record/secrets.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "base/text.h"

namespace rigwise {
namespace {

constexpr std::string_view kMask = "***";
constexpr std::size_t kMinValue = 8;
constexpr std::size_t kMaxNeedles = 64;

bool is_alnum(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9');
}
bool is_token_byte(char byte) {
  return is_alnum(byte) || byte == '_' || byte == '-';
}
bool is_hex(char byte) {
  return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') ||
         (byte >= 'A' && byte <= 'F');
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
      digit = digit || (rest[size] >= '0' && rest[size] <= '9');
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

/// The password part of "://user:password@", as [begin, end); empty when there is none.
std::pair<std::size_t, std::size_t> url_password(std::string_view text, std::size_t at) {
  const std::size_t start = at + 3;
  std::size_t end = start;
  while (end < text.size() && end - start < 512 && text[end] != '/' && text[end] != ' ' &&
         text[end] != '\n' && text[end] != '"' && text[end] != '\'')
    ++end;
  const std::string_view authority = text.substr(start, end - start);
  const std::size_t sign = authority.rfind('@');
  if (sign == std::string_view::npos || sign == 0) return {0, 0};
  const std::size_t colon = authority.substr(0, sign).find(':');
  if (colon != std::string_view::npos) {
    if (colon + 1 == sign) return {0, 0};
    return {start + colon + 1, start + sign};
  }
  constexpr std::size_t kLongUser = 16;  // a token in the place of the user
  return sign >= kLongUser ? std::pair{start, start + sign}
                           : std::pair{std::size_t{0}, std::size_t{0}};
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

enum class Suspicion { none, by_value, yes };

/// What a flag's or key's name says: "--hf_token" yes; "--pad_token", "--max_tokens", "--tokenizer"
/// no; "--text_key" only when the value looks like a key.
Suspicion suspicion_of(std::string_view name) {
  const auto words = words_of(name);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const std::string_view before = i > 0 ? std::string_view(words[i - 1]) : std::string_view();
    if (any_of_words(word, {"secret", "password", "passwd", "passphrase", "credential",
                            "credentials", "apikey", "auth", "pwd"}))
      return Suspicion::yes;
    if (word == "token") {
      if (any_of_words(before, {"pad",     "eos",   "bos",   "unk", "sep", "cls",  "mask",
                                "special", "image", "new",   "per", "max", "min",  "num",
                                "stop",    "end",   "start", "add", "use", "split"}))
        continue;
      return Suspicion::yes;
    }
    if (word == "key")
      return any_of_words(before,
                          {"api", "access", "private", "wandb", "license", "encryption", "comet",
                           "openai", "anthropic", "subscription", "hf", "ssh", "account"})
                 ? Suspicion::yes
                 : Suspicion::by_value;
  }
  return Suspicion::none;
}

bool looks_random(std::string_view value) {
  constexpr std::size_t kLong = 16;
  bool digit = false, letter = false;
  for (const char byte : value) {
    if (byte >= '0' && byte <= '9')
      digit = true;
    else if (is_alnum(byte))
      letter = true;
    else if (byte != '_' && byte != '-' && byte != '+' && byte != '=')
      return false;
  }
  return value.size() >= kLong && digit && letter;
}

/// Booleans, numbers and words that a setting of that name may have without being a secret.
bool is_harmless(std::string_view value) {
  const std::string low = lower(value.substr(0, 8));
  return value.empty() || low == "true" || low == "false" || low == "none" || low == "null" ||
         low == "0" || low == "1" || low == "auto" || value == kMask;
}

bool hides(std::string_view name, std::string_view value) {
  if (is_harmless(value)) return false;
  const Suspicion suspicion = suspicion_of(name);
  return suspicion == Suspicion::yes || (suspicion == Suspicion::by_value && looks_random(value));
}

/// "NAME=value", "NAME": "value", "--name value" at text[at], where a name starts: the value's
/// place.
std::pair<std::size_t, std::size_t> named_value(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && end - at < 64 && is_name_byte(text[end])) ++end;
  const std::string_view name = text.substr(at, end - at);
  const bool flag = name.starts_with("--");
  std::size_t from = end;
  if (from < text.size() && (text[from] == '"' || text[from] == '\'')) ++from;
  const bool separated = from < text.size() && (text[from] == '=' || text[from] == ':');
  if (separated) {
    if (text.substr(from).starts_with("://")) return {0, 0};
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
  if (!hides(name, value)) return {0, 0};
  return {from, stop};
}

/// Environment variables whose value names a place, not a secret.
bool names_a_place(std::string_view name) {
  for (const std::string_view end : {"_FILE", "_PATH", "_DIR", "_SOCK", "_HOME", "_URL"})
    if (name.ends_with(end)) return true;
  return name == "XAUTHORITY" || name == "GOOGLE_APPLICATION_CREDENTIALS";
}

/// "--token=a, b" → name and all that follows; "NAME=a" only without blanks, for else it is a line
/// for a shell.
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

void replace_all(std::string& text, std::string_view needle) {
  for (std::size_t at = text.find(needle); at != std::string::npos; at = text.find(needle, at))
    text.replace(at, needle.size(), kMask), at += kMask.size();
}

}  // namespace

bool is_secret_name(std::string_view name) {
  std::string upper(name);
  for (char& byte : upper)
    if (byte >= 'a' && byte <= 'z') byte = static_cast<char>(byte - 'a' + 'A');
  for (const std::string_view word :
       {"TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH"})
    if (upper.find(word) != std::string::npos) return !names_a_place(upper);
  return false;
}

std::string mask_secrets(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    std::pair<std::size_t, std::size_t> hidden{0, 0};
    const bool name_starts = is_name_byte(text[at]) && (at == 0 || !is_name_byte(text[at - 1]));
    if (const std::size_t token = token_at(text, at))
      hidden = {at, at + token};
    else if (const std::size_t hex = hex_key_at(text, at))
      hidden = {at, at + hex};
    else if (text[at] == ':' && text.substr(at).starts_with("://"))
      hidden = url_password(text, at);
    else if (name_starts)
      hidden = named_value(text, at);
    if (hidden.second > hidden.first) {
      out.append(text.substr(at, hidden.first - at));
      out.append(kMask);
      at = hidden.second;
    } else {
      out.push_back(text[at++]);
    }
  }
  return out;
}

Secrets::Secrets(const std::vector<std::string>& argv, const std::vector<std::string>& env) {
  const auto keep = [this](std::string_view name, std::string_view value) {
    if (value.size() < kMinValue || values_.size() >= kMaxNeedles) return;
    for (const Value& known : values_)
      if (known.value == value) return;
    values_.push_back({std::string(name), std::string(value)});
  };
  for (const std::string& entry : env) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos) continue;
    const std::string_view name = std::string_view(entry).substr(0, equals);
    const std::string_view value = std::string_view(entry).substr(equals + 1);
    if (is_secret_name(name) && !is_harmless(value)) keep(name, value);
  }
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string& argument = argv[i];
    if (const auto named = split_named(argument)) {
      if (hides(named->first, named->second)) keep(named->first, named->second);
    } else if (argument.starts_with("-") && i + 1 < argv.size() && !argv[i + 1].starts_with("--") &&
               hides(argument, argv[i + 1])) {
      keep(argument, argv[i + 1]);
    }
  }
  // Longest first, so that a value which contains another one is masked whole.
  std::stable_sort(values_.begin(), values_.end(),
                   [](const Value& a, const Value& b) { return a.value.size() > b.value.size(); });
}

std::string Secrets::mask(std::string_view text) const {
  std::string out(text);
  for (const Value& secret : values_) replace_all(out, secret.value);
  return mask_secrets(out);
}

std::vector<std::string> Secrets::mask_argv(const std::vector<std::string>& argv) const {
  std::vector<std::string> masked;
  masked.reserve(argv.size());
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string& argument = argv[i];
    const bool after_flag = i > 0 && argv[i - 1].starts_with("-") &&
                            argv[i - 1].find('=') == std::string::npos &&
                            !argument.starts_with("--") && hides(argv[i - 1], argument);
    if (after_flag) {
      masked.emplace_back(kMask);
      continue;
    }
    const auto named = split_named(argument);
    if (named && hides(named->first, named->second)) {
      masked.push_back(std::string(named->first) + '=' + std::string(kMask));
      continue;
    }
    masked.push_back(mask(argument));
  }
  return masked;
}

SecretScanner::SecretScanner(const Secrets& secrets) : needles_(secrets.values()) {
  for (const auto& needle : needles_) longest_ = std::max(longest_, needle.value.size());
}

std::vector<std::string> SecretScanner::push(std::string_view bytes) {
  std::vector<std::string> found;
  if (needles_.empty()) return found;
  // The border: the tail of the last chunk and as much of this one as a value cut in two may need.
  const std::string border = tail_ + std::string(bytes.substr(0, longest_));
  const auto holds = [](std::string_view text, std::string_view needle) {
    return text.size() >= needle.size() &&
           memmem(text.data(), text.size(), needle.data(), needle.size()) != nullptr;
  };
  std::erase_if(needles_, [&](const Secrets::Value& needle) {
    if (!holds(border, needle.value) && !holds(bytes, needle.value)) return false;
    found.push_back(needle.name);
    return true;
  });
  if (bytes.size() >= longest_) {
    tail_ = std::string(bytes.substr(bytes.size() - longest_));
  } else {
    tail_.append(bytes);
    if (tail_.size() > longest_) tail_.erase(0, tail_.size() - longest_);
  }
  return found;
}

std::string secret_warning(std::string_view name) {
  return "the command printed the value of " + std::string(name);
}

}  // namespace rigwise
