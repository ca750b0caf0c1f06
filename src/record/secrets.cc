#include "record/secrets.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/text.h"

namespace rigwise {
namespace {

using Reach = Secrets::Reach;

constexpr std::size_t kMaxValues = 256, kMaxScanned = 64, kMaxScannedBytes = 4096;
constexpr std::size_t kFree = 8, kLeast = 4;

bool is_word_byte(char byte) {
  return is_letter(byte) || is_digit(byte) || byte == '_';
}

/// Words that settings of every training hold: a password that is one of them cannot be hidden by
/// its value.
bool is_everyday(std::string_view value) {
  static constexpr std::array<std::string_view, 27> kWords = {
      "true", "false",  "none",  "null",  "auto",   "main",    "master", "default", "local",
      "test", "train",  "eval",  "valid", "latest", "dev",     "prod",   "root",    "user",
      "data", "output", "model", "cuda",  "cpu",    "disable", "enable", "offline", "online"};
  const std::string low = lower(value);
  return std::find(kWords.begin(), kWords.end(), low) != kWords.end();
}

std::optional<Reach> reach_of(std::string_view value, Suspicion suspicion) {
  if (value.size() < kLeast || is_everyday(value)) return std::nullopt;
  const bool letters = std::all_of(value.begin(), value.end(), is_letter);
  const bool digits = std::all_of(value.begin(), value.end(), is_digit);
  constexpr std::size_t kLongWord = 16;
  if (value.size() >= kFree) {
    const bool a_word = suspicion == Suspicion::by_value && letters && value.size() < kLongWord;
    return a_word ? Reach::whole : Reach::anywhere;
  }
  if (digits) return std::nullopt;
  if (!letters) return Reach::word;
  if (suspicion == Suspicion::by_value) return std::nullopt;
  return Reach::whole;
}

/// The next place behind `from` where the needle stands as far as its reach asks.
std::size_t find(std::string_view text, const Secrets::Value& needle, std::size_t from) {
  for (;; ++from) {
    if (from >= text.size()) return std::string_view::npos;
    const void* hit =
        ::memmem(text.data() + from, text.size() - from, needle.value.data(), needle.value.size());
    if (hit == nullptr) return std::string_view::npos;
    from = static_cast<std::size_t>(static_cast<const char*>(hit) - text.data());
    if (needle.reach != Reach::word) return from;
    const std::size_t end = from + needle.value.size();
    const bool begins = from == 0 || !is_word_byte(text[from - 1]);
    if (begins && (end == text.size() || !is_word_byte(text[end]))) return from;
  }
}

void replace_all(std::string& text, const Secrets::Value& needle) {
  for (std::size_t at = find(text, needle, 0); at != std::string::npos; at = find(text, needle, at))
    text.replace(at, needle.value.size(), kSecretMask), at += kSecretMask.size();
}

}  // namespace

Secrets::Secrets(const std::vector<std::string>& argv, const std::vector<std::string>& env) {
  const auto keep = [this](std::string_view name, std::string_view value, Suspicion suspicion,
                           int rank) {
    const auto reach = reach_of(value, suspicion);
    if (!reach || is_harmless_value(value)) return;
    for (const Value& known : values_)
      if (known.value == value) return;
    values_.push_back({std::string(name), std::string(value), *reach, rank});
  };
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string& argument = argv[i];
    if (const auto named = split_named(argument)) {
      if (hides_secret(named->first, named->second))
        keep(named->first, named->second, Suspicion::yes, 0);
    } else if (argument.starts_with("-") && i + 1 < argv.size() && !argv[i + 1].starts_with("--") &&
               hides_secret(argument, argv[i + 1])) {
      keep(argument, argv[i + 1], Suspicion::yes, 0);
    }
  }
  for (const Suspicion wanted : {Suspicion::yes, Suspicion::by_value}) {
    for (const std::string& entry : env) {
      const std::size_t equals = entry.find('=');
      if (equals == std::string::npos) continue;
      const std::string_view name = std::string_view(entry).substr(0, equals);
      if (suspicion_of_variable(name) != wanted) continue;
      keep(name, std::string_view(entry).substr(equals + 1), wanted,
           wanted == Suspicion::yes ? 1 : 2);
    }
  }
  if (values_.size() > kMaxValues) values_.resize(kMaxValues);
  // Longest first, so that a value which contains another one is masked whole.
  std::stable_sort(values_.begin(), values_.end(),
                   [](const Value& a, const Value& b) { return a.value.size() > b.value.size(); });
}

std::string Secrets::mask(std::string_view text) const {
  std::string out(text);
  for (const Value& secret : values_) {
    if (secret.reach != Reach::whole) {
      replace_all(out, secret);
    } else if (text == secret.value) {
      return std::string(kSecretMask);
    }
  }
  return mask_secrets(out);
}

std::vector<std::string> Secrets::mask_argv(const std::vector<std::string>& argv) const {
  std::vector<std::string> masked;
  masked.reserve(argv.size());
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string& argument = argv[i];
    const bool after_flag = i > 0 && argv[i - 1].starts_with("-") &&
                            argv[i - 1].find('=') == std::string::npos &&
                            !argument.starts_with("--") && hides_secret(argv[i - 1], argument);
    if (after_flag) {
      masked.emplace_back(kSecretMask);
      continue;
    }
    const auto named = split_named(argument);
    if (named && (hides_secret(named->first, named->second) ||
                  (!named->second.empty() && mask(named->second) == kSecretMask))) {
      masked.push_back(mask(named->first) + '=' + std::string(kSecretMask));
      continue;
    }
    masked.push_back(mask(argument));
  }
  return masked;
}

Statement Secrets::mask(Statement statement) const {
  for (std::string* text :
       {&statement.bottleneck, &statement.threshold, &statement.option, &statement.reason,
        &statement.stop, &statement.baseline, &statement.candidate, &statement.experiment}) {
    *text = mask(*text);
  }
  return statement;
}

void Secrets::mask(Environment& environment) const {
  for (auto* table : {&environment.versions, &environment.variables, &environment.facts}) {
    for (auto& [name, value] : *table) value = mask(value);
  }
  for (auto& what : environment.missing) what = mask(what);
}

void Secrets::mask(Rig& rig) const {
  for (Mount& mount : rig.mounts) {
    mount.path = mask(mount.path);
    mount.device = mask(mount.device);
  }
  for (auto& what : rig.missing) what = mask(what);
}

SecretScanner::SecretScanner(const Secrets& secrets) {
  for (const auto& value : secrets.values()) {
    if (value.reach != Reach::whole && value.value.size() <= kMaxScannedBytes)
      needles_.push_back(value);
  }
  std::stable_sort(
      needles_.begin(), needles_.end(),
      [](const Secrets::Value& a, const Secrets::Value& b) { return a.rank < b.rank; });
  if (needles_.size() > kMaxScanned) needles_.resize(kMaxScanned);
  for (const auto& needle : needles_) longest_ = std::max(longest_, needle.value.size() + 2);
}

std::vector<std::string> SecretScanner::push(std::string_view bytes) {
  std::vector<std::string> found;
  if (needles_.empty() || bytes.empty()) return found;
  // The border: the tail of the last chunk and as much of this one as a value cut in two may need.
  const std::string border = tail_ + std::string(bytes.substr(0, longest_));
  const auto holds = [](std::string_view text, const Secrets::Value& needle, bool from_start) {
    for (std::size_t at = find(text, needle, 0); at != std::string_view::npos;
         at = find(text, needle, at + 1)) {
      // What lies before or behind is not known here: the border, or the next one, shows it.
      const bool known = (at > 0 || from_start) && at + needle.value.size() < text.size();
      if (needle.reach != Reach::word || known) return true;
    }
    return false;
  };
  std::erase_if(needles_, [&](const Secrets::Value& needle) {
    if (!holds(border, needle, tail_is_all_) && !holds(bytes, needle, false)) return false;
    found.push_back(needle.name);
    return true;
  });
  tail_is_all_ = tail_is_all_ && tail_.size() + bytes.size() <= longest_;
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
