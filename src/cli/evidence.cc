#include "cli/evidence.h"

#include <algorithm>

#include "cli/verbs.h"

namespace rigwise::cli {

namespace {

Result<std::vector<Run>> side(const Common& args, const std::vector<std::string>& names,
                              bool may_lack_runs) {
  auto runs = all_runs(args, names);
  if (!runs && may_lack_runs && runs.error().code == Errc::not_found) return std::vector<Run>();
  return runs;
}

std::vector<Ledger> ledgers_of(const std::vector<Run>& runs) {
  std::vector<Ledger> ledgers;
  for (const auto& run : runs) {
    // decide() pairs ledgers with runs by index, so a run without wall time keeps an empty one
    auto ledger = make_ledger(run);
    ledgers.push_back(ledger ? std::move(*ledger) : Ledger{.run = run.info.id});
  }
  return ledgers;
}

}  // namespace

Result<DecideInput> gather(const Common& args, const Sides& sides, const Lab& lab,
                           const CompareOptions& options, bool may_lack_runs) {
  DecideInput input;
  RW_TRY(auto statement, statement_at(lab));
  if (statement) {
    input.statement = std::move(*statement);
    RW_TRY(input.context, read_context(lab_path(lab)));
  }
  RW_TRY(input.baseline, side(args, sides.a, may_lack_runs));
  RW_TRY(input.candidate, side(args, sides.b, may_lack_runs));
  input.baseline_ledgers = ledgers_of(input.baseline);
  input.candidate_ledgers = ledgers_of(input.candidate);
  if (input.baseline.empty() || input.candidate.empty()) return input;

  RW_TRY(Comparison comparison, compare(input.baseline, input.candidate, options));
  input.comparison = std::move(comparison);
  if (const auto threshold = parse_threshold(input.statement.threshold)) {
    input.comparison->threshold = judge(*threshold, input);
  }
  return input;
}

std::vector<Rival> rivals_of(const Common& args, const DecideInput& input) {
  constexpr std::size_t kMost = 12;
  std::vector<Rival> rivals;
  if (input.candidate.empty() || input.statement.hash.empty()) return rivals;
  const auto is_of = [](const std::vector<Run>& side, const Run& run) {
    return !side.empty() && side.front().info.name == run.info.name;
  };
  for (Run& run : list_runs(runs_root(args.runs))) {
    const auto& sealed = run.info.statement;
    if (!sealed || sealed->hash != input.statement.hash || !ended_well(run.info)) continue;
    if (is_of(input.baseline, run) || is_of(input.candidate, run)) continue;
    const auto known = std::find_if(rivals.begin(), rivals.end(), [&](const Rival& rival) {
      return rival.name == run.info.name;
    });
    if (known != rivals.end()) {
      known->runs.push_back(std::move(run));
    } else if (rivals.size() < kMost) {
      rivals.push_back({.name = run.info.name, .runs = {}});
      rivals.back().runs.push_back(std::move(run));
    }
  }
  for (Rival& rival : rivals) {
    if (auto against = compare(input.candidate, rival.runs, {})) {
      rival.against = std::move(*against);
    } else {
      rival.against.comparable = Comparable::no;
    }
  }
  return rivals;
}

}  // namespace rigwise::cli
