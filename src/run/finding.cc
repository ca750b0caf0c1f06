#include "rigwise/finding.h"

#include <fmt/format.h>

namespace rigwise {

std::string to_string(const Evidence& evidence) {
  std::string text = evidence.file;
  if (evidence.first_row && !text.empty()) {
    text += fmt::format(":{}", *evidence.first_row);
    if (evidence.last_row && *evidence.last_row != *evidence.first_row) {
      text += fmt::format("-{}", *evidence.last_row);
    }
  }
  if (!evidence.run.empty()) {
    text = text.empty() ? "run " + evidence.run : "run " + evidence.run + " · " + text;
  }
  if (evidence.what.empty()) return text;
  return text.empty() ? evidence.what : text + " (" + evidence.what + ")";
}

}  // namespace rigwise
