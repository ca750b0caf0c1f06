// Finding and Evidence: the one shape in which ledger, compare, plan and decide hand a claim, and
// what it rests on, to text, JSON and HTML.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rigwise {

/// How a figure was known.
enum class How {
  measured,  // read off a clock or counter
  derived,   // computed from measured figures
  assumed,   // taken from a catalogue, a default or the user's word
};

/// A place that a person can open: `run two-gpu · watch/host.gpu.csv:812-1310`.
struct Evidence {
  std::string run = {};   // name of the run; empty where the finding speaks of one run only
  std::string file = {};  // relative to the run directory; empty where no single file holds it
  std::optional<std::int64_t> first_row = {};  // 1-based line numbers of `file`, header included
  std::optional<std::int64_t> last_row = {};
  std::string what = {};  // in words: "4 saves, 312 MB each"
};

/// `log/out.log:12-40 (what)`, with the parts that are there.
std::string to_string(const Evidence& evidence);

enum class Severity { info, notice, warning, critical };

struct Finding {
  std::string id = {};  // stable, kebab-case: "ranks-missing"
  Severity severity = Severity::info;
  std::string claim = {};  // one sentence
  std::vector<Evidence> evidence = {};
  std::string threshold = {};  // the rule that was crossed, in words with its number
  std::string next_step = {};
  std::string source = {};  // where the rule comes from
};

constexpr std::string_view to_string(How value) {
  switch (value) {
    case How::measured:
      return "measured";
    case How::derived:
      return "derived";
    case How::assumed:
      return "assumed";
  }
  return "?";
}
constexpr std::string_view to_string(Severity value) {
  switch (value) {
    case Severity::info:
      return "info";
    case Severity::notice:
      return "notice";
    case Severity::warning:
      return "warning";
    case Severity::critical:
      return "critical";
  }
  return "?";
}

}  // namespace rigwise
