// Compare: may two sets of runs be put side by side, and is B really faster than A?
//
// A is the baseline, B the candidate. Effects are percent of the time per unit of work (sample,
// token or step): negative means that B needs less time. Intervals are 95 % unless named. Same runs
// in, same bytes out (seeded resampling).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/finding.h"
#include "rigwise/ledger.h"
#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

/// How much a difference in one field matters, for speed or for loss.
enum class Impact { none, noted, caps, normalise, blocks };

struct ComparedField {
  std::string field = {};      // "global_batch"
  std::string a = {}, b = {};  // values in words; empty = not known
  Impact speed = Impact::none, loss = Impact::none;
  bool is_factor = false;  // what is under test
  std::string note = {};   // why it matters, and the smallest change that would remove it
  std::vector<Evidence> evidence = {};
};

enum class Comparable { yes, caveats, per_sample, no };
enum class Verdict { faster, slower, equivalent, inconclusive, not_comparable };

struct Effect {
  std::string metric =
      {};  // "step_time_per_sample", "step_time", "step_time_per_token", "wall_time"
  double percent = 0, low = 0, high = 0;
  double level_a_s = 0, level_b_s = 0;  // seconds a unit of work
  int runs_a = 0, runs_b = 0;
  int clean_a = 0, total_a = 0, clean_b = 0, total_b = 0;  // records used and seen
  double ess_a = 0, ess_b = 0;               // effective sample sizes, summed over runs
  std::optional<double> floor_percent = {};  // run-to-run floor added, where runs a side < 3
  std::string method = {};                   // "Welch t over per-run log medians"
};

struct LossTrend {
  std::string verdict =
      {};  // "equivalent", "different", "b_better", "inconclusive", "diverged", "blocked"
  std::string basis = {};  // "evaluation loss", "training loss"
  std::optional<double> difference, low, high,
      margin;  // loss units, B - A over the last 20 % of the common range
  std::optional<double> from_samples, to_samples;
  std::vector<std::string> notes = {};
};

struct Repeatability {
  std::string level =
      {};  // "bitwise", "loss", "speed", "two runs agree", "not repeatable", "one run"
  std::optional<double> spread_percent = {};  // sd of per-run log medians
  std::string note = {};
};

struct Scaling {
  int ranks_a = 1, ranks_b = 1;
  std::string kind = {};  // "strong" (global batch fixed) or "weak"
  double speedup = 0, speedup_low = 0, speedup_high = 0;
  double efficiency = 0;  // speedup / (ranks_b / ranks_a); above 1 is reported, not clamped
};

struct SideEffect {
  std::string what = {};  // "GPU 1 temperature", "checkpoint time", "disk"
  std::string a = {}, b = {}, change = {};
  std::vector<Evidence> evidence = {};
};

/// One run's cleaned step series, kept for reports.
struct SeriesSummary {
  std::string run = {};
  int clean = 0, total = 0, warm_up = 0, events = 0, unexplained_events = 0;
  double ess = 0, median_s = 0;
  std::vector<double> change_points = {};  // step numbers
  std::string source = {};                 // "stated by the log", "receive times", "bar", "summary"
  std::string trouble = {};  // "never steady", "receive times void: output was buffered"
};

/// The sealed threshold against this comparison's figures.
struct ThresholdOutcome {
  std::string text = {};
  std::string state = {};  // "met", "missed", "not shown"
  std::string why = {};
};

/// How many runs a side a difference of a given size needs on this rig (power 0.9, two-sided 5 %).
/// The spread that is reckoned with lies above the one that was seen, since a few runs show it
/// badly.
struct Advice {
  double spread_percent = 0;    // run-to-run sd of the step time
  double reckoned_percent = 0;  // the sd that the counts below rest on
  bool measured = false;        // false: the default floor, no spread was seen
  std::optional<int> runs_for_3_percent = {}, runs_for_5_percent = {}, runs_for_10_percent = {};
};

struct Comparison {
  std::vector<std::string> runs_a = {}, runs_b = {};  // ids
  std::string name_a = {}, name_b = {};
  std::string factor = {};
  // False: what is under test was not seen to differ, or nothing was named and no setting differs.
  bool factor_shown = true;
  Comparable comparable = Comparable::yes;
  std::vector<ComparedField> fields =
      {};  // all that were looked at; differences and unknowns first
  std::vector<std::string> blockers = {};  // one sentence each: what blocks the verdict
  std::vector<std::string> wall_blockers =
      {};                            // why total wall times say nothing here; `wall` is empty then
  std::string smallest_change = {};  // where not comparable
  Verdict verdict = Verdict::inconclusive;
  std::string verdict_why = {};
  bool likely = false;                // a caveat caps the verdict: say "likely faster", never more
  std::optional<Effect> effect = {};  // primary
  std::optional<Effect> wall = {};    // total wall time including events
  std::optional<int> runs_needed = {};  // a side, where inconclusive
  std::optional<Advice> advice = {};
  std::optional<LossTrend> loss = {};
  std::optional<Repeatability> repeat_a = {}, repeat_b = {};
  std::optional<Scaling> scaling = {};
  std::vector<SideEffect> side_effects = {};
  std::vector<SeriesSummary> series_a = {}, series_b = {};
  std::optional<ThresholdOutcome> threshold = {};
  std::vector<Finding> findings = {};
  int rules_version = 0;
};

struct CompareOptions {
  std::optional<std::string> factor =
      {};  // "ranks", "ranks=1,2", "precision"; empty: the statement's option or the rank count
  double practical_percent = 2.0;  // smallest effect worth a verdict
  std::optional<double> floor_percent =
      {};  // run-to-run sd measured on this rig; default 2 %, never below 0.5 %
};

/// Reads the runs' tables; writes nothing. Order: comparability, series, effect, loss,
/// repeatability, scaling, side effects. `threshold` is left empty: the caller fills it. Errors:
/// usage (an empty side, a run on both sides, an unknown factor: nearest name as hint). Runs that
/// may not be compared are a value, not an error.
Result<Comparison> compare(const std::vector<Run>& a, const std::vector<Run>& b,
                           const CompareOptions& options);

constexpr std::string_view to_string(Comparable value) {
  switch (value) {
    case Comparable::yes:
      return "yes";
    case Comparable::caveats:
      return "caveats";
    case Comparable::per_sample:
      return "per_sample";
    case Comparable::no:
      return "no";
  }
  return "?";
}
constexpr std::string_view to_string(Verdict value) {
  switch (value) {
    case Verdict::faster:
      return "faster";
    case Verdict::slower:
      return "slower";
    case Verdict::equivalent:
      return "equivalent";
    case Verdict::inconclusive:
      return "inconclusive";
    case Verdict::not_comparable:
      return "not_comparable";
  }
  return "?";
}
constexpr std::string_view to_string(Impact value) {
  switch (value) {
    case Impact::none:
      return "none";
    case Impact::noted:
      return "noted";
    case Impact::caps:
      return "caps";
    case Impact::normalise:
      return "normalise";
    case Impact::blocks:
      return "blocks";
  }
  return "?";
}

}  // namespace rigwise
