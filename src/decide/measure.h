// Measure: what the runs of one side showed for one metric, as a level with an interval, and the
// ratio of two sides. A single run has no run-to-run spread: a floor of 2 % a run stands in for it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rigwise/decide.h"

namespace rigwise {

struct Level {
  double value = 0, low = 0, high = 0;  // 95 %
  int runs = 0;
  bool repeated = false;  // three runs or more: the spread is measured
};

/// One figure a run; runs that do not show the metric are left out and named in `missing`.
struct Figures {
  std::vector<double> values = {};
  std::vector<Evidence> evidence = {};
  std::string how = {};      // "steady steps; saves and evaluations left out"
  std::string missing = {};  // why a run shows none
};

/// The runs of a side that ended well, each with its ledger.
struct SideView {
  std::string name = {};
  std::vector<const Run*> runs = {};
  std::vector<const Ledger*> ledgers = {};
  int failed = 0;            // ended badly, torn or still running
  std::string failure = {};  // of the last one that failed
  const Run* failed_run = nullptr;
  [[nodiscard]] bool any() const { return !runs.empty(); }
};
SideView view_of(const std::vector<Run>& runs, const std::vector<Ledger>& ledgers,
                 const std::string& name);

std::optional<std::string> fact_of(const Run& run, std::string_view key);
std::optional<double> number_fact(const Run& run, std::string_view key);
/// "run.json", "steps.csv:12-40" … of a run, under its folder's name.
Evidence evidence_of(const Run& run, std::string file, std::string what = {});
Evidence evidence_of(const Run& run, Evidence evidence);

Figures figures_of(const Threshold& threshold, const SideView& side);

/// Mean with t interval from three values on, else with the floor.
Level level_of(const std::vector<double>& values);
/// b / a, on logarithms (Welch from three a side on, else with the floor on each side).
Level ratio_of(const std::vector<double>& a, const std::vector<double>& b);

/// The threshold against both sides.
struct Measurement {
  std::optional<Level> level = {};     // in the threshold's own unit; a factor where it is relative
  std::optional<Level> baseline = {};  // absolute thresholds: the baseline's own level
  std::string state = "not shown";     // "met", "missed", "not shown"
  std::string why = {};
  std::vector<Evidence> evidence = {};
};
Measurement measure(const Threshold& threshold, const DecideInput& input);

/// Does a level meet the threshold? By its whole interval.
std::string state_of(const Threshold& threshold, const Level& level);
/// "5 h 31 min ± 12 min", "1.63x (1.57x to 1.69x)".
std::string level_text(const Threshold& threshold, const Level& level);

}  // namespace rigwise
