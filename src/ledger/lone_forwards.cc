#include "ledger/lone_forwards.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "rigwise/stats.h"

namespace rigwise {

namespace {

const std::string& path_of(const CallPaths& paths, std::int64_t stack) {
  static const std::string kNone;
  const auto found = paths.find(stack);
  return found == paths.end() ? kNone : found->second;
}

/// Forward passes without a backward one for much longer than a step has any. A machine that stands
/// still for a moment makes one step look like that: passes that are called from where training
/// calls them must come again, or last much longer still.
void find_long_stretches(const RankWork& rank, const CallPaths& paths, std::vector<bool>& found) {
  constexpr double kLeast_s = 1.0, kTimes = 4, kSurely_s = 3.0, kSurelyTimes = 20;
  constexpr std::size_t kEnough = 5;
  struct Stretch {
    std::size_t from = 0, to = 0;
    double forward_s = 0, all_s = 0;
    double known_path_s = 0;  // of the forward seconds, called as in a step
  };
  const auto passes = [](Work work) {
    return work == Work::forward || work == Work::input || work == Work::python ||
           work == Work::transfer || work == Work::log;
  };
  std::vector<Stretch> stretches;
  std::vector<double> usual_s;  // of those that lead to a backward pass
  bool open = false;
  for (std::size_t i = 0; i < rank.spans.size(); ++i) {
    const WorkSpan& span = rank.spans[i];
    if (passes(span.work)) {
      if (!open) stretches.push_back({i, i, 0, 0});
      open = true;
      Stretch& stretch = stretches.back();
      stretch.to = i;
      stretch.all_s += span.length_s();
      if (span.work == Work::forward) stretch.forward_s += span.length_s();
      continue;
    }
    if (open && span.work == Work::backward) usual_s.push_back(stretches.back().forward_s);
    open = false;
  }
  const auto middle_s = stats::median(usual_s);
  if (!middle_s || usual_s.size() < kEnough) return;
  const auto is_long = [&](const Stretch& stretch) {
    return stretch.from > 0 && stretch.to + 1 < rank.spans.size() && stretch.all_s >= kLeast_s &&
           stretch.forward_s >= 0.5 * stretch.all_s && stretch.forward_s > kTimes * *middle_s;
  };
  std::set<std::string> step_paths;
  const auto each_forward = [&](const Stretch& stretch, auto visit) {
    for (std::size_t i = stretch.from; i <= stretch.to; ++i) {
      const WorkSpan& span = rank.spans[i];
      if (span.work == Work::forward) visit(span, path_of(paths, span.stack));
    }
  };
  std::vector<Stretch*> longs;
  for (auto& stretch : stretches) {
    if (is_long(stretch)) {
      longs.push_back(&stretch);
    } else {
      each_forward(stretch,
                   [&](const WorkSpan&, const std::string& path) { step_paths.insert(path); });
    }
  }
  for (Stretch* stretch : longs) {
    each_forward(*stretch, [&](const WorkSpan& span, const std::string& path) {
      if (step_paths.contains(path)) stretch->known_path_s += span.length_s();
    });
  }
  for (const Stretch* stretch : longs) {
    const bool as_in_steps = stretch->known_path_s > 0.5 * stretch->forward_s;
    const bool comes_again = std::any_of(longs.begin(), longs.end(), [&](const Stretch* other) {
      return other != stretch && other->forward_s < 2 * stretch->forward_s &&
             stretch->forward_s < 2 * other->forward_s;
    });
    const bool surely =
        stretch->all_s >= kSurely_s && stretch->forward_s > kSurelyTimes * *middle_s;
    if (as_in_steps && !comes_again && !surely) continue;
    // A second that holds both keeps them apart by their callers.
    for (std::size_t i = stretch->from; i <= stretch->to; ++i) {
      const WorkSpan& span = rank.spans[i];
      const bool of_step = !as_in_steps && span.work == Work::forward &&
                           step_paths.contains(path_of(paths, span.stack));
      if (!of_step) found[i] = true;
    }
  }
}

constexpr double kSecond_s = 0.99;  // as the recorder hands spans over, whose ends are rounded

/// What was done in one second of the run; the recorder keeps short steps as one span a second, a
/// work and a path, so that the order inside it is lost.
struct Second {
  double backward_s = 0;
  std::map<const std::string*, double> forward_s = {};  // by path
};

/// Passes that are called from elsewhere than in steps, in seconds in which there is no more of the
/// backward pass than the steps' own forward passes explain.
void find_other_paths(const RankWork& rank, const CallPaths& paths, std::vector<bool>& found) {
  constexpr double kLeast_s = 0.2, kLeastEach_s = 0.1, kLeastShare = 0.4;
  constexpr std::size_t kEnough = 5;
  std::set<std::string> names;  // each path once: many stacks share one
  const auto name_of = [&](const WorkSpan& span) {
    return &*names.insert(path_of(paths, span.stack)).first;
  };
  std::vector<Second> seconds;
  double lasts_s = kSecond_s;  // of the last one
  for (const WorkSpan& span : rank.spans) {
    if (lasts_s >= kSecond_s) {
      seconds.emplace_back();
      lasts_s = 0;
    }
    Second& second = seconds.back();
    lasts_s += span.length_s();
    if (span.work == Work::backward) second.backward_s += span.length_s();
    if (span.work == Work::forward) second.forward_s[name_of(span)] += span.length_s();
  }
  std::map<const std::string*, double> beside_backward_s;
  for (const Second& second : seconds) {
    if (second.backward_s <= 0) continue;
    for (const auto& [path, forward_s] : second.forward_s) beside_backward_s[path] += forward_s;
  }
  if (names.size() < 2 || beside_backward_s.empty()) return;
  const std::string* const steps =
      std::max_element(beside_backward_s.begin(), beside_backward_s.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; })
          ->first;
  double backward_s = 0, forward_s = 0;
  std::size_t pure = 0;
  for (const Second& second : seconds) {
    if (second.forward_s.size() != 1 || !second.forward_s.contains(steps)) continue;
    if (second.backward_s <= 0) continue;
    ++pure;
    backward_s += second.backward_s;
    forward_s += second.forward_s.at(steps);
  }
  if (pure < kEnough || forward_s <= 0) return;
  const double ratio = backward_s / forward_s;
  std::set<const std::string*> evaluations;
  for (const std::string& text : names) {
    const std::string* const path = &text;
    if (path == steps) continue;
    double own_s = 0, steps_s = 0, behind_s = 0;
    std::size_t in = 0;
    for (const Second& second : seconds) {
      const auto here = second.forward_s.find(path);
      if (here == second.forward_s.end()) continue;
      ++in;
      own_s += here->second;
      behind_s += second.backward_s;
      const auto theirs = second.forward_s.find(steps);
      if (theirs != second.forward_s.end()) steps_s += theirs->second;
    }
    const bool much = own_s >= kLeast_s && own_s >= kLeastEach_s * static_cast<double>(in) &&
                      own_s >= kLeastShare * (own_s + steps_s);
    if (much && behind_s < ratio * (steps_s + own_s / 2)) evaluations.insert(path);
  }
  for (std::size_t i = 0; i < rank.spans.size(); ++i) {
    const WorkSpan& span = rank.spans[i];
    if (span.work == Work::forward && evaluations.contains(name_of(span))) found[i] = true;
  }
}

}  // namespace

std::vector<bool> lone_forwards(const RankWork& rank, const CallPaths& paths) {
  std::vector<bool> found(rank.spans.size());
  find_long_stretches(rank, paths, found);
  find_other_paths(rank, paths, found);
  return found;
}

}  // namespace rigwise
