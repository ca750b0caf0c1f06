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
  bool found = false;
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
