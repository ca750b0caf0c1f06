// Split: the run's clock cut into startup, steps, checkpoints, evaluations, stalls and the tail.
// Pure arithmetic on intervals; each second of [0, wall] lands in exactly one place.
//
// Where evidence overlaps, evaluation goes before checkpoint: a save in the background of an
// evaluation holds nobody up. Inside the steps only the excess of an interval over the steady pace
// counts, so that a checkpoint written while steps go on costs nothing.
#pragma once

#include <optional>
#include <vector>

#include "ledger/steps.h"
#include "rigwise/run.h"

namespace rigwise {

struct Window {
  double from_s = 0, to_s = 0;
};

/// Sorted, disjoint; clipped to [0, wall]; windows that are not finite are dropped.
std::vector<Window> united(std::vector<Window> windows, double wall_s);
/// `a` without `b`; both sorted and disjoint.
std::vector<Window> without(const std::vector<Window>& a, const std::vector<Window>& b);
/// Seconds of [from, to] that lie in `windows`.
double overlap_s(const std::vector<Window>& windows, double from_s, double to_s);

/// Seconds with the half width of their 95 % interval.
struct Share {
  double seconds = 0;
  double variance = 0;  // of its error, (half width / 1.96)^2
  void add(double s, double sd = 0) { seconds += s, variance += sd * sd; }
};

struct Stall {
  double at_s = 0, seconds = 0;
  std::int64_t row = 0;
};

struct SplitInput {
  const StepSeries* steps = nullptr;
  std::vector<Window> evaluations = {}, checkpoints = {};  // united
  double wall_s = 0;
  std::optional<double> train_end_s = {};  // the trainer said it was done
  bool ended = true;                       // false: running or torn, the tail is no teardown
};

struct Split {
  Share startup, compute, checkpoint, evaluation, teardown, unexplained;
  double warm_up_s = 0;        // of startup: first steps above the steady pace
  double around_events_s = 0;  // of unexplained: beside a save or an evaluation, outside its window
  double before_end_s = 0;     // of unexplained: last step to the summary line
  double after_last_s = 0;     // of unexplained: since the last step, of a run that has no end
  std::vector<Stall> stalls = {};  // of unexplained: steps that stood still beside no event
  std::optional<Pace> pace = {};
};

Split split_timeline(const SplitInput& input);

}  // namespace rigwise
