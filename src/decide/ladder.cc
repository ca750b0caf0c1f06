// The ladder: rungs from first to last; the first one that holds decides. docs/ledger.md lists
// them.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "decide/record.h"
#include "decide/rivals.h"
#include "decide/rungs.h"
#include "decide/words.h"

namespace rigwise {

namespace {

constexpr int kDecideRulesVersion = 1;

struct Rung {
  std::string_view id;
  rungs::Holds (*holds)(const rungs::Situation&);
};
// In this order. The rungs above "not-comparable" need no run of the option; from there on both
// sides have runs that ended well.
constexpr std::array kLadder = {
    Rung{"statement", rungs::statement},
    Rung{"agenda", rungs::agenda},
    Rung{"memory-fit", rungs::memory_fit},
    Rung{"environment", rungs::environment},
    Rung{"single-run", rungs::single_run},
    Rung{"waits", rungs::waits},
    Rung{"baseline-bottleneck", rungs::baseline_bottleneck},
    Rung{"already-met", rungs::already_met},
    Rung{"idle-device", rungs::idle_device},
    Rung{"test-option", rungs::test_option},
    Rung{"not-comparable", rungs::not_comparable},
    Rung{"loss-differs", rungs::loss_differs},
    Rung{"stop-condition", rungs::stop_condition},
    Rung{"keep", rungs::keep},
    Rung{"met-but", rungs::met_but},
    Rung{"layout", rungs::poor_layout},
    Rung{"other-bottleneck", rungs::other_bottleneck},
    Rung{"scaling-unexplained", rungs::missed_for_unknown_reason},
    Rung{"measured-short", rungs::measured_short},
    Rung{"not-shown", rungs::not_shown},
};

/// The experiment's name as a folder's: no path, no hidden file.
std::string folder_name(const std::string& name) {
  std::string safe;
  for (const char c : name.substr(0, 80)) {
    const bool plain = is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '-';
    safe += plain ? c : '-';
  }
  safe.erase(0, std::min(safe.find_first_not_of('.'), safe.size()));
  return safe.empty() ? "experiment" : safe;
}

}  // namespace

Decision decide(const DecideInput& input) {
  rungs::Situation s{input};
  s.context = with_words(input.context, input.statement);
  s.a = view_of(input.baseline, input.baseline_ledgers, input.statement.baseline);
  s.b = view_of(input.candidate, input.candidate_ledgers, input.statement.candidate);
  if (const auto threshold = parse_threshold(input.statement.threshold); threshold.ok()) {
    s.threshold = *threshold;
    s.measured = measure(*s.threshold, input);
  }
  s.seal = seal_of(input);

  Decision decision;
  decision.experiment = folder_name(input.statement.experiment);
  decision.statement = input.statement;
  if (decision.statement.hash.empty()) decision.statement.hash = statement_hash(input.statement);
  decision.rules_version = kDecideRulesVersion;
  for (const auto& rung : kLadder) {
    auto outcome = rung.holds(s);
    if (!outcome) continue;
    decision.rung = std::string(rung.id);
    decision.verdict = outcome->verdict;
    decision.fix = std::move(outcome->fix);
    decision.reasons = std::move(outcome->reasons);
    decision.next_action = std::move(outcome->next_action);
    break;
  }
  write_record(input, s.a, s.b, s.threshold, s.measured, decision);
  weigh_rivals(input, s.b, decision);
  for (const auto& note : s.seal.notes) {
    decision.amendments.push_back(note.text);
    decision.summary.push_back(note);
  }
  return decision;
}

}  // namespace rigwise
