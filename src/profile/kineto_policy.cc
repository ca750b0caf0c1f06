#include "profile/kineto_policy.h"

#include <algorithm>
#include <cmath>

namespace rigwise {

namespace {

constexpr std::int64_t kSteadyEntries = 10;
constexpr double kSteady_s = 20;
constexpr double kBlind_s = 180;  // where the log shows no steps
constexpr double kSpread = 4;
constexpr int kMostFailed = 3;
constexpr double kAgain_s = 10;
constexpr double kToEnd_s = 25;
constexpr double kAimedBytes = 32e6;
constexpr double kShortest_s = 0.2;

// What a window costs, measured by `./dev bench windows`: the process runs slower while it is
// traced, writes the trace with a thread of its own afterwards, and waits for that thread's clock
// (0 to 1 s) when it ends.
constexpr double kSlowdown = 0.5;  // seconds lost a second traced
constexpr double kWriteSecondsPerByte = 1e-7;
constexpr double kExit_s = 0.5;
constexpr double kUsualBytesPerS = 15e6;  // before any trace has shown its own rate

}  // namespace

void StepPace::note(const StepRecord& record) {
  if (record.kind != RecordKind::train) return;
  ++entries_;
  if (!first_s_) first_s_ = record.t_s;
  const auto step = record.step ? record.step : record.bar_step;
  if (!step) return;
  if (!first_step_ || *step < *last_step_) {  // another training in the same run
    first_step_ = step;
    first_step_s_ = record.t_s;
  }
  last_step_ = step;
  last_step_s_ = record.t_s;
  if (record.steps_total) total_ = record.steps_total;
}

std::optional<double> StepPace::step_s() const {
  if (!first_step_ || *last_step_ <= *first_step_ || last_step_s_ <= first_step_s_) {
    return std::nullopt;
  }
  return (last_step_s_ - first_step_s_) / static_cast<double>(*last_step_ - *first_step_);
}

std::optional<double> StepPace::remaining_s(double t_s) const {
  const auto pace_s = step_s();
  if (!pace_s || !total_) return std::nullopt;
  const double left_s = static_cast<double>(*total_ - *last_step_) * *pace_s;
  return std::max(0.0, left_s - (t_s - last_step_s_));
}

double WindowPlanner::length_for(const StepPace& pace, bool gpu) const {
  if (limits_.length_s) return *limits_.length_s;
  const double usual_s = gpu ? 1.5 : 0.5;
  const double longest_s = gpu ? 4 : 2;
  double length_s = std::clamp(pace.step_s().value_or(0) * 1.1, usual_s, longest_s);
  if (bytes_per_s_ && *bytes_per_s_ > 0) {
    length_s = std::min(length_s, std::max(kShortest_s, kAimedBytes / *bytes_per_s_));
  }
  return length_s;
}

double WindowPlanner::cost_of(double length_s, double bytes) const {
  return kSlowdown * length_s + kWriteSecondsPerByte * bytes + (asked_ <= 1 ? kExit_s : 0);
}

std::optional<double> WindowPlanner::due(double t_s, const StepPace& pace, bool gpu,
                                         double lead_s) const {
  if (asked_ >= limits_.count || failed_ >= kMostFailed || t_s < not_before_s_) return std::nullopt;
  if (limits_.first_s) {
    if (!pace.first_s() || t_s < *pace.first_s() + *limits_.first_s) return std::nullopt;
  } else if (!pace.first_s()) {
    if (t_s < kBlind_s) return std::nullopt;
  } else if (pace.entries() < kSteadyEntries && t_s < *pace.first_s() + kSteady_s) {
    return std::nullopt;
  }
  if (asked_ > 0) {
    const double next_s = limits_.every_s ? first_asked_s_ + *limits_.every_s * asked_
                                          : first_asked_s_ * std::pow(kSpread, asked_);
    if (t_s < next_s) return std::nullopt;
  }
  const double length_s = length_for(pace, gpu);
  const auto remaining_s = pace.remaining_s(t_s);
  if (remaining_s && *remaining_s < std::max(kToEnd_s, lead_s + 2 * length_s)) return std::nullopt;
  const bool exempt = asked_ == 0 && (gpu || limits_.first_s);
  const double bytes = bytes_per_s_.value_or(kUsualBytesPerS) * length_s;
  if (!exempt && cost_s_ + cost_of(length_s, bytes) > limits_.share * t_s) return std::nullopt;
  return length_s;
}

void WindowPlanner::note_asked(double t_s) {
  if (asked_++ == 0) first_asked_s_ = t_s;
}

void WindowPlanner::note_failed(double t_s) {
  --asked_;
  ++failed_;
  not_before_s_ = t_s + kAgain_s;
}

double WindowPlanner::lead_s(double usual_s) const {
  return usual_s * static_cast<double>(1 << std::min(failed_, 2));
}

void WindowPlanner::note_done(double length_s, double bytes) {
  cost_s_ += cost_of(length_s, bytes);
  if (bytes > 0 && length_s > 0) {
    bytes_per_s_ = std::max(bytes_per_s_.value_or(0), bytes / length_s);
  }
}

}  // namespace rigwise
