// Series: one run's step times, from the best source that its log offers, cleaned of warm-up and
// events.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "compare/data.h"
#include "rigwise/compare.h"

namespace rigwise::compare_series {

enum class PointState { warm_up, clean, event, unexplained };

/// One record of the series: the mean time of `steps` steps that ended at `t_s`.
struct Point {
  double step = 0;  // the last of them, counted as the log does
  double steps = 1;
  double seconds = 0;   // a step
  double t_s = 0;       // when the record was received
  std::size_t row = 0;  // position in steps.csv's rows
  PointState state = PointState::clean;
  std::string event = {};  // "checkpoint", "evaluation"
};

struct LevelShift {
  double step = 0;
  double before_s = 0, after_s = 0;
};

enum class Source {
  none,
  stated_step,
  stated_mean,
  receive_times,
  stated_clock,
  bar_elapsed,
  summary
};

struct Series {
  Source source = Source::none;
  std::vector<Point> points = {};
  std::vector<LevelShift> shifts = {};
  std::vector<std::string> notes = {};  // "receive times of log/out.log void: …"
  bool steady = true;                   // false: warm-up never ended
  bool last_part = true;  // false: the level shifted, and the last level holds less than half
  double steps_seen = 0;  // steps that the records cover
  std::optional<double> steps_expected = {};
  double mean_of = 1;      // steps a record, median
  double rank_spread = 0;  // slowest rank over fastest, mean, where ranks log apart; else 0

  // Natural logarithms of seconds a step, clean records only.
  std::vector<double> clean = {};       // of the whole run after warm-up
  std::vector<double> last_level = {};  // after the last level shift
};

/// Builds the series. Nothing is cleaned yet.
Series extract(const compare_data::RunData& data);

/// Joins neighbours until a record covers `steps` steps, so that two series are means of the same.
void coarsen(Series& series, double steps);

/// Marks warm-up, level shifts and events; fills clean and last_level.
void clean(Series& series, const compare_data::RunData& data);

SeriesSummary summary_of(const Series& series, const compare_data::RunData& data);

std::string_view to_string(Source source);

}  // namespace rigwise::compare_series
