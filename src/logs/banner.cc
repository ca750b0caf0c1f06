// Banners that trainers print at their start: settings as facts.
#include "base/text.h"
#include "logs/readers.h"
#include "logs/scan.h"

namespace rigwise::logs {
namespace {

struct Phrase {
  std::string_view text;
  const char* key;
  bool training_only;  // evaluations print the same words with their own numbers
};

constexpr Phrase kPhrases[] = {
    {"Num examples", "data_rows", true},
    {"Num Epochs", "epochs", true},
    {"nstantaneous batch size per device", "micro_batch", true},
    {"Batch size per device", "micro_batch", true},
    {"Total train batch size", "global_batch", true},
    {"Total batch size", "global_batch", true},
    {"radient Accumulation steps", "accumulation", true},
    {"radient accumulation steps", "accumulation", true},
    {"Total optimization steps", "max_steps", true},
    {"Total steps", "max_steps", true},
    {"Number of trainable parameters", "trainable_parameters", true},
    {"trainable params", "trainable_parameters", false},
    {"all params", "parameters", false},
};

/// The whole number behind the phrase's '=' or ':'.
std::optional<std::string> number_behind(std::string_view rest) {
  const std::size_t sign = rest.find_first_of("=:");
  if (sign == std::string_view::npos || sign > 60) return std::nullopt;
  Number number;
  if (!scan_number(strip(rest.substr(sign + 1)), number)) return std::nullopt;
  const auto value = whole_number(number.value);
  return value ? std::optional(std::to_string(*value)) : std::nullopt;
}

/// rigwise-engine's "(4096 of 5242880 parameters trained)".
bool read_trained_of_all(Session& session, const Piece& piece, std::string_view text) {
  const std::size_t end = text.find(" parameters trained)");
  if (end == std::string_view::npos) return false;
  const std::size_t begin = text.rfind('(', end);
  if (begin == std::string_view::npos || end - begin > 60) return false;
  const std::string_view words = text.substr(begin + 1, end - begin - 1);
  const std::size_t of = words.find(" of ");
  if (of == std::string_view::npos) return false;
  const auto trained = to_integer(words.substr(0, of)), all = to_integer(words.substr(of + 4));
  if (!trained || !all || *trained < 0 || *trained > *all) return false;
  session.fact("trainable_parameters", std::to_string(*trained), piece);
  session.fact("parameters", std::to_string(*all), piece);
  return true;
}

}  // namespace

bool read_banner(Session& session, const Piece& piece, std::string_view text) {
  if (contains(text, "***** Running")) {
    session.evaluation_banner = !contains(text, "raining");
    return false;
  }
  if (text.size() > 1024) return false;
  constexpr std::string_view kResumed = "Continuing training from global step ";
  if (const std::size_t at = text.find(kResumed); at != std::string_view::npos) {
    const std::string_view rest = strip(text.substr(at + kResumed.size()));
    session.fact("resume", "step " + std::string(rest.substr(0, 20)), piece);
    return true;
  }
  if (!contains(text, "atch size") && !contains(text, "Num ") && !contains(text, "steps") &&
      !contains(text, "param"))
    return false;
  bool found = read_trained_of_all(session, piece, text);
  for (const Phrase& phrase : kPhrases) {
    const std::size_t at = text.find(phrase.text);
    if (at == std::string_view::npos || (phrase.training_only && session.evaluation_banner))
      continue;
    if (auto value = number_behind(text.substr(at + phrase.text.size()))) {
      session.fact(phrase.key, std::move(*value), piece);
      found = true;
    }
  }
  return found;
}

}  // namespace rigwise::logs
