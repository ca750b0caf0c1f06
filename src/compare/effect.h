// Effect: how far the sides lie apart, with an interval, and what may be said of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "compare/fields.h"
#include "rigwise/compare.h"
#include "rigwise/stats.h"

namespace rigwise::compare_effect {

/// One run's level on the logarithmic scale.
struct Level {
  double value = 0;            // log of seconds a unit of work
  double within_variance = 0;  // of `value`, from the run's own records; 0 where unknown
  double within_df = 0;
  double start_unix_s = 0;
};

struct Difference {
  stats::Estimate estimate = {};  // log b - log a
  std::optional<double> floor_percent = {};
  std::optional<double> spread = {};  // pooled sd of runs on a side (log units)
  double spread_df = 0;
  std::string method = {};
};

/// Three runs a side: a t test over runs, whose spread is never taken to be smaller than the floor
/// leaves likely (its square counts as one run's worth of evidence: Smyth 2004, SAGMB 3:3, used
/// only to widen) nor smaller than the records' own noise. With 3 the sides share one variance,
/// from 4 on each has its own (Welch), and runs that were made in turn are also cleared of a linear
/// drift. Fewer: the floor stands for the spread that nobody saw.
Difference difference_of(const std::vector<Level>& a, const std::vector<Level>& b,
                         const CompareOptions& options);

/// Were the runs of the sides made alternately? At least as many changes of side as the smaller
/// side has runs.
bool in_turn(const std::vector<Level>& a, const std::vector<Level>& b);

/// Fills effect, wall, verdict, verdict_why, runs_needed and advice.
void conclude(const compare_fields::Side& a, const compare_fields::Side& b,
              const compare_fields::Gate& gate, const CompareOptions& options,
              Comparison& comparison);

/// The level of one run on its own (mean of clean logs of the last level, ESS) or as one of several
/// (median of clean logs of the whole run).
Level level_of(const compare_series::Series& series, bool one_of_several);

}  // namespace rigwise::compare_effect
