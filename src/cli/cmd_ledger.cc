#include <unistd.h>

#include "cli/verbs.h"
#include "rigwise/ledger.h"

namespace rigwise::cli {

int cmd_ledger(const LedgerArgs& args) {
  const auto run = latest_run(args, args.name);
  if (!run) return fail_run(run.error());
  const auto ledger = make_ledger(*run);
  if (!ledger) return fail(ledger.error());
  const int printed =
      print(args.json ? ledger_json(*ledger) : ledger_text(*ledger, *run, style_of(STDOUT_FILENO)));
  if (printed != kOk) return printed;
  for (const auto& finding : ledger->findings) {
    if (args.fail_on && finding.severity >= *args.fail_on) return kFinding;
  }
  return kOk;
}

}  // namespace rigwise::cli
