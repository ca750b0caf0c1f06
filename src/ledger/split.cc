#include "ledger/split.h"

#include <algorithm>
#include <cmath>

namespace rigwise {

namespace {
constexpr double kStallSds = 6;
constexpr double kLeastStall_s = 0.05;
constexpr double kRounding_s = 1e-6;
constexpr std::size_t kMostWarmUp = 3;
constexpr double kClock_s = 0.05;  // sd of an instant: bars are drawn ten times a second
}  // namespace

std::vector<Window> united(std::vector<Window> windows, double wall_s) {
  std::vector<Window> clipped;
  for (const auto& window : windows) {
    if (!std::isfinite(window.from_s) || !std::isfinite(window.to_s)) continue;
    const Window in{std::clamp(window.from_s, 0.0, wall_s), std::clamp(window.to_s, 0.0, wall_s)};
    if (in.to_s > in.from_s) clipped.push_back(in);
  }
  std::sort(clipped.begin(), clipped.end(),
            [](const Window& a, const Window& b) { return a.from_s < b.from_s; });
  std::vector<Window> out;
  for (const auto& window : clipped) {
    if (!out.empty() && window.from_s <= out.back().to_s) {
      out.back().to_s = std::max(out.back().to_s, window.to_s);
    } else {
      out.push_back(window);
    }
  }
  return out;
}

std::vector<Window> without(const std::vector<Window>& a, const std::vector<Window>& b) {
  std::vector<Window> out;
  std::size_t j = 0;
  for (const auto& window : a) {
    double from_s = window.from_s;
    while (j > 0 && b[j - 1].to_s > window.from_s) --j;
    for (; j < b.size() && b[j].from_s < window.to_s; ++j) {
      if (b[j].to_s <= from_s) continue;
      if (b[j].from_s > from_s) out.push_back({from_s, b[j].from_s});
      from_s = std::max(from_s, b[j].to_s);
    }
    if (from_s < window.to_s) out.push_back({from_s, window.to_s});
  }
  return out;
}

double overlap_s(const std::vector<Window>& windows, double from_s, double to_s) {
  auto it = std::lower_bound(windows.begin(), windows.end(), from_s,
                             [](const Window& w, double t) { return w.to_s < t; });
  double sum_s = 0;
  for (; it != windows.end() && it->from_s < to_s; ++it) {
    sum_s += std::max(0.0, std::min(to_s, it->to_s) - std::max(from_s, it->from_s));
  }
  return sum_s;
}

namespace {

void split_steps(const SplitInput& input, const std::vector<Window>& saves, Split& split) {
  const auto& intervals = input.steps->intervals;
  std::vector<double> evaluation_s, save_s, lost_s;
  for (const auto& interval : intervals) {
    evaluation_s.push_back(overlap_s(input.evaluations, interval.from_s, interval.to_s));
    save_s.push_back(overlap_s(saves, interval.from_s, interval.to_s));
    lost_s.push_back(evaluation_s.back() + save_s.back());
  }
  split.pace = pace_of(intervals, lost_s);
  const Pace pace = split.pace.value_or(Pace{});
  bool warming = true;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    const auto& interval = intervals[i];
    const double length_s = interval.length_s();
    double excess_s =
        split.pace ? std::max(0.0, length_s - interval.steps * pace.step_s) : lost_s[i];
    if (excess_s < kRounding_s) excess_s = 0;
    const double noise_s = pace.spread_s * std::sqrt(std::max(1.0, interval.steps));
    const double evaluated_s = std::min(evaluation_s[i], excess_s);
    const double saved_s = std::min(save_s[i], excess_s - evaluated_s);
    split.evaluation.add(evaluated_s, evaluation_s[i] > 0 ? noise_s : 0);
    split.checkpoint.add(saved_s, save_s[i] > 0 ? noise_s : 0);
    excess_s -= evaluated_s + saved_s;
    double rest_s = length_s - evaluated_s - saved_s;
    const bool stalled =
        split.pace && excess_s > std::max({kStallSds * noise_s, pace.step_s, kLeastStall_s});
    if (stalled) {
      rest_s -= excess_s;
      if (warming && i < kMostWarmUp) {
        split.warm_up_s += excess_s;
        split.startup.add(excess_s);
      } else if (lost_s[i] > 0) {
        split.around_events_s += excess_s;
        split.unexplained.add(excess_s);
      } else {
        split.stalls.push_back({interval.from_s, excess_s, interval.row});
        split.unexplained.add(excess_s);
      }
    } else {
      warming = false;
    }
    split.compute.add(rest_s);
  }
}

void split_tail(const SplitInput& input, const std::vector<Window>& saves, Split& split) {
  const double end_s = input.steps->end_s;
  const double evaluated_s = overlap_s(input.evaluations, end_s, input.wall_s);
  const double saved_s = overlap_s(saves, end_s, input.wall_s);
  split.evaluation.add(evaluated_s);
  split.checkpoint.add(saved_s);
  const double rest_s = std::max(0.0, input.wall_s - end_s - evaluated_s - saved_s);
  if (!input.ended) {
    split.after_last_s = rest_s;
    split.unexplained.add(rest_s);
    return;
  }
  double before_s = 0;
  if (input.train_end_s && *input.train_end_s > end_s) {
    const double said_s = std::min(*input.train_end_s, input.wall_s);
    before_s = std::max(0.0, said_s - end_s - overlap_s(input.evaluations, end_s, said_s) -
                                 overlap_s(saves, end_s, said_s));
    before_s = std::min(before_s, rest_s);
  }
  split.before_end_s = before_s;
  split.unexplained.add(before_s, before_s > 0 ? kClock_s : 0);
  split.teardown.add(rest_s - before_s, kClock_s);
}

}  // namespace

Split split_timeline(const SplitInput& input) {
  Split split;
  const auto saves = without(input.checkpoints, input.evaluations);
  const double begin_s = input.steps->begin_s;
  const double evaluated_s = overlap_s(input.evaluations, 0, begin_s);
  split.evaluation.add(evaluated_s);
  // A begin that was reckoned from the pace may be off by as much as was reckoned.
  const double begin_sd = input.steps->begin_seen
                              ? kClock_s
                              : std::max(kClock_s, (begin_s - input.steps->begin_low_s) / 1.96);
  split.startup.add(begin_s - evaluated_s, begin_sd);
  split_steps(input, saves, split);
  split_tail(input, saves, split);
  return split;
}

}  // namespace rigwise
