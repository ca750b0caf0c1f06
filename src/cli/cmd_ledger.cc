#include <unistd.h>

#include "cli/verbs.h"
#include "rigwise/ledger.h"

namespace rigwise::cli {

namespace {

/// Against the threshold that was sealed before the run, where its words can be held to one ledger.
std::optional<SealedThreshold> sealed_threshold(const Run& run, const Ledger& ledger) {
  if (!run.info.statement || run.info.statement->threshold.empty()) return std::nullopt;
  const auto threshold = parse_threshold(run.info.statement->threshold);
  if (!threshold) return std::nullopt;
  auto gap = threshold_gap(*threshold, ledger);
  if (!gap) return std::nullopt;
  return SealedThreshold{run.info.statement->threshold, *std::move(gap)};
}

}  // namespace

int cmd_ledger(const LedgerArgs& args) {
  if (!args.traces.empty()) return cmd_trace(args);
  const auto run = latest_run(args, args.name);
  if (!run) return fail_run(run.error());
  const auto ledger = make_ledger(*run);
  if (!ledger) return fail(ledger.error());
  const auto sealed = sealed_threshold(*run, *ledger);
  const int printed =
      print(args.json ? ledger_json(*ledger, sealed)
                      : ledger_text(*ledger, *run, style_of(STDOUT_FILENO), sealed));
  if (printed != kOk) return printed;
  for (const auto& finding : ledger->findings) {
    if (args.fail_on && finding.severity >= *args.fail_on) return kFinding;
  }
  return kOk;
}

}  // namespace rigwise::cli
