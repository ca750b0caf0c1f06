// When a window is worth what it costs (docs/run-directory.md, "Windows", has the same table).
//
//   rule                what                                              why
//   steady              10 training entries seen or 20 s since the first  compile, caches and lazy
//                                                                         loading are over
//   cost                all windows together <= 0.5 % of the time so far  a GPU's first is exempt:
//                                                                         nothing else splits its
//                                                                         time
//   spread              the n-th when the run is 4^(n-1) times as old as  early and late, whatever
//                       at the first; at most 3                           the length of the run
//   not near the end    the log says that 25 s and more are to come       a process that writes its
//                                                                         trace ends later
//   length              CPU 0.5 s, GPU 1.5 s; a step where that is        so that phases of a step
//                       longer, at most 2 s and 4 s                       are met by their share
//   failed              again after 10 s with twice the lead; three times      a busy machine
//   size                a trace of at most 32 MB is aimed at              writing it costs CPU
//
// A log that shows no steps: 180 s after the start. Pure: no clock, no files.
#pragma once

#include <cstdint>
#include <optional>

#include "rigwise/run.h"

namespace rigwise {

/// The user's own wishes; empty: as the table says.
struct WindowLimits {
  int count = 3;
  double share = 0.005;  // of the run's time
  std::optional<double> length_s = {};
  std::optional<double> first_s = {};  // after the first step, whatever the first one costs
  std::optional<double> every_s = {};  // between windows, instead of the spread
};

/// What the log has shown of the pace.
class StepPace {
 public:
  void note(const StepRecord& record);
  [[nodiscard]] std::optional<double> first_s() const { return first_s_; }
  [[nodiscard]] std::int64_t entries() const { return entries_; }
  [[nodiscard]] std::optional<double> step_s() const;  // seconds a step, mean so far
  /// Seconds to the last step at that pace, as of `t_s`; empty where the log states no total.
  [[nodiscard]] std::optional<double> remaining_s(double t_s) const;

 private:
  std::optional<double> first_s_ = {};
  std::int64_t entries_ = 0;
  std::optional<std::int64_t> first_step_ = {}, last_step_ = {}, total_ = {};
  double first_step_s_ = 0, last_step_s_ = 0;
};

class WindowPlanner {
 public:
  explicit WindowPlanner(const WindowLimits& limits) : limits_(limits) {}

  /// The length of the window that should be asked for at `t_s`, if any. `gpu`: the command's
  /// processes use one. `lead_s`: from the request to the window's begin.
  [[nodiscard]] std::optional<double> due(double t_s, const StepPace& pace, bool gpu,
                                          double lead_s) const;
  /// A window was asked for at `t_s`.
  void note_asked(double t_s);
  /// It is over: `bytes` is the largest of its traces, 0 where none came.
  void note_done(double length_s, double bytes);
  /// It gave no trace: the next may come soon, with a longer lead (a busy machine); the third such
  /// is the last.
  void note_failed(double t_s);
  [[nodiscard]] double lead_s(double usual_s) const;
  [[nodiscard]] int asked() const { return asked_; }
  /// Seconds that the windows so far have cost the run, as estimated by their length and size.
  [[nodiscard]] double cost_s() const { return cost_s_; }

 private:
  [[nodiscard]] double length_for(const StepPace& pace, bool gpu) const;
  [[nodiscard]] double cost_of(double length_s, double bytes) const;

  WindowLimits limits_;
  int asked_ = 0;
  int failed_ = 0;
  double first_asked_s_ = 0, cost_s_ = 0, not_before_s_ = 0;
  std::optional<double> bytes_per_s_ = {};  // of the traces so far
};

}  // namespace rigwise
