// Steps: training entries of the log → the intervals between finished steps, on the run's clock.
//
// Of several streams (a bar on stderr, dict lines on stdout, one stream a rank) the one with the
// finest trustworthy instants is taken; a stream whose lines arrived in bursts is void.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

/// From one finished step (or the drawing of an empty bar) to the next that was seen.
struct StepInterval {
  double from_s = 0, to_s = 0;
  double steps = 1;      // how many ended in it; 0 where a bar began anew
  std::int64_t row = 0;  // line of steps.csv that closed it
  [[nodiscard]] double length_s() const { return to_s - from_s; }
};

struct StepSeries {
  std::vector<StepInterval> intervals = {};  // in order of time, without holes
  double begin_s = 0;                        // when the first step began
  bool begin_seen = false;  // an empty bar was drawn then; else begin_s is reckoned from the pace
  double begin_low_s = 0;   // earliest plausible begin, where it was reckoned
  double end_s = 0;         // last step seen
  std::int64_t first_row = 0, last_row = 0;  // lines of steps.csv
  std::optional<std::int64_t> steps = {};    // optimizer steps, where the log counts them
  bool counts_steps = true;  // false: the unit is a log entry, of unknown many steps
  std::string source = {};   // "bar in log/err.log"
  std::optional<int> rank = {};
};

struct StepsSeen {
  std::optional<StepSeries> main = {};     // absent: no stream with usable instants
  std::vector<StepSeries> ranks = {};      // where two or more ranks print steps of their own
  std::vector<std::string> buffered = {};  // streams whose instants say nothing
  bool bursts = false;                     // of one at least because its lines arrived in bursts
  std::optional<double> stated_s = {};     // void instants: sum of stated step times
  std::optional<std::int64_t> stated_steps = {};
  std::int64_t entries = 0;    // training entries of any kind
  double share_below_1ms = 0;  // of the worst stream, for the finding
};

/// `untimed`: log files that state no instants (RunInfo::untimed).
StepsSeen see_steps(const Rows<StepRecord>& rows, double wall_s,
                    const std::vector<std::string>& untimed = {});

/// Steady time of one step and its spread, from intervals of which `lost_s` is known to be
/// something else (checkpoint, evaluation). Median of clean intervals where there are enough, so
/// that a save at every logged step does not pass for the pace.
struct Pace {
  double step_s = 0;                        // median
  double spread_s = 0;                      // robust standard deviation of one step
  std::optional<double> half_width_s = {};  // 95 %, of the median
};
std::optional<Pace> pace_of(const std::vector<StepInterval>& intervals,
                            const std::vector<double>& lost_s);

/// The line of a CSV file on which row `index` stands; 0 where bad rows make that unknown.
template <class T>
std::int64_t line_of(const Rows<T>& rows, std::size_t index) {
  return rows.bad_rows == 0 ? static_cast<std::int64_t>(index) + 2 : 0;
}

}  // namespace rigwise
