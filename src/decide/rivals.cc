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
  std::vector<std::string> slower, open;
  std::vector<Evidence> evidence;
  for (const Rival& rival : input.rivals) {
    if (!is_measured(rival)) continue;
    for (auto& each : steps_of(rival)) evidence.push_back(std::move(each));
    const Comparison& against = rival.against;
    if (against.verdict == Verdict::faster &&
        (best == nullptr || against.effect->percent < best->against.effect->percent)) {
      best = &rival;
    }
    // what takes longer by more than chance gives is no rival; else it may be the better one
    const bool interval = against.effect->high > against.effect->low;
    const bool behind = against.verdict == Verdict::slower ||
                        against.verdict == Verdict::equivalent ||
                        (interval && against.effect->low > 0);
    (behind ? slower : open)
        .push_back(fmt::format("{} ({:+.0f} %)", rival.name, against.effect->percent));
  }
  if (evidence.empty()) return;
  Regret regret;
  if (best != nullptr) {
    const Effect& effect = *best->against.effect;
    const std::string likely = best->against.likely ? "likely " : "";
    regret = {best->name, effect.level_a_s / effect.level_b_s - 1, {}};
    regret.said.text =
        fmt::format("{}, recorded under this statement too, {}takes {} than {} for the same work.",
                    best->name, likely, less_time(effect), candidate.name);
    regret.said.evidence = steps_of(*best);
    decision.next_action =
        fmt::format("rigwise decide --option {}, which was {}faster than {}; then {}", best->name,
                    likely, candidate.name, decision.next_action);
  } else if (open.empty()) {
    regret = {candidate.name, 0, {}};
    regret.said = {fmt::format("Of the options recorded under this statement {} is the fastest: {} "
                               "take as long or longer.",
                               candidate.name, join(slower, ", ")),
                   std::move(evidence)};
  } else {
    regret.said = {fmt::format("Whether {} is the fastest of the options recorded under this "
                               "statement is not shown: {} against it in step time.",
                               candidate.name, join(open, ", ")),
                   std::move(evidence)};
  }
  decision.summary.push_back(regret.said);
  decision.regret = std::move(regret);
}

}  // namespace rigwise
