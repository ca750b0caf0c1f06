// Patterns of the user's own, for lines that nothing else reads.
//
// A pattern is the line as printed, with {figure} where a value stands and "*" for anything:
// "round {step} | cost {loss} | * {tokens_per_s} t/s". Blanks match any run of blanks; the pattern
// may begin anywhere in the line. Matching is greedy only as far as the next literal, so its time
// is linear in the line.
#pragma once

#include <string_view>
#include <vector>

#include "logs/entry.h"
#include "rigwise/logs.h"

namespace rigwise::logs {

class Patterns {
 public:
  explicit Patterns(std::vector<LogPattern> patterns);
  [[nodiscard]] bool empty() const { return patterns_.empty(); }
  /// True when one of them matches: `entry` holds its figures.
  bool match(std::string_view text, Entry& entry) const;

 private:
  struct Part {
    enum class Kind : char { literal, value, anything } kind = Kind::literal;
    std::string literal = {};
    Meaning meaning = {};
  };
  struct Pattern {
    std::vector<Part> parts = {};
    bool evaluation = false;
  };
  static bool match_at(const Pattern& pattern, std::string_view text, Entry& entry);
  std::vector<Pattern> patterns_;
};

}  // namespace rigwise::logs
