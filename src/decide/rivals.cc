#include "decide/rivals.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "decide/words.h"

namespace rigwise {

namespace {

/// Of the same work, so that the shorter step is the better one.
bool is_measured(const Rival& rival) {
  return rival.against.comparable != Comparable::no && rival.against.effect.has_value();
}

std::string less_time(const Effect& effect) {
  return fmt::format("{:.0f} % less time ({:.0f} to {:.0f} %)", -effect.percent, -effect.high,
                     -effect.low);
}

std::vector<Evidence> steps_of(const Rival& rival) {
  std::vector<Evidence> evidence;
  for (const auto& run : rival.runs) evidence.push_back(evidence_of(run, "steps.csv"));
  return evidence;
}

}  // namespace

void weigh_rivals(const DecideInput& input, const SideView& candidate, Decision& decision) {
  const Rival* best = nullptr;
  std::vector<std::string> names;
  for (const Rival& rival : input.rivals) {
    if (!is_measured(rival)) continue;
    names.push_back(rival.name);
    if (rival.against.verdict != Verdict::faster) continue;
    if (best == nullptr || rival.against.effect->percent < best->against.effect->percent) {
      best = &rival;
    }
  }
  if (names.empty()) return;
  if (best == nullptr) {
    decision.regret = Regret{candidate.name, 0};
    std::vector<Evidence> evidence;
    for (const Rival& rival : input.rivals) {
      if (is_measured(rival)) {
        for (auto& each : steps_of(rival)) evidence.push_back(std::move(each));
      }
    }
    decision.summary.push_back({fmt::format("Of the other options recorded under this statement "
                                            "({}), none is shown to be faster than {}.",
                                            join(names, ", "), candidate.name),
                                std::move(evidence)});
    return;
  }
  const Effect& effect = *best->against.effect;
  decision.regret = Regret{best->name, effect.level_a_s / effect.level_b_s - 1};
  decision.summary.push_back(
      {fmt::format("{}, recorded under this statement too, {}takes {} than {} for the same work.",
                   best->name, best->against.likely ? "likely " : "", less_time(effect),
                   candidate.name),
       steps_of(*best)});
  decision.next_action =
      fmt::format("rigwise decide --option {}, which was {}faster than {}; then {}", best->name,
                  best->against.likely ? "likely " : "", candidate.name, decision.next_action);
}

}  // namespace rigwise
