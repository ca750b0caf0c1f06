#include <unistd.h>

#include "cli/failed_run.h"
#include "cli/verbs.h"
#include "report/failure.h"
#include "rigwise/record.h"

namespace rigwise::cli {

namespace {

/// Of a run that ended badly: what it failed of.
std::string failed_of(const Run& run, const TextStyle& style) {
  if (run.state != RunState::finished || ended_well(run.info) || end_unknown(run.info)) return {};
  const auto failure = failure_of_run(run, Signatures::built_in(), kLogEnds_bytes);
  if (!failure || failure->layer == FailureLayer::none) return {};
  return "\n" + failure_text(*failure, style);
}

}  // namespace

int cmd_runs(const RunsArgs& args) {
  if (args.action == "list") {
    const auto runs = list_runs(runs_root(args.runs));
    return print(args.json ? runs_json(runs) : runs_text(runs, style_of(STDOUT_FILENO)));
  }
  if (args.action == "import") return cmd_import(args);
  const auto run = latest_run(args, args.name);
  if (!run) return fail_run(run.error());
  if (args.action == "show") {
    const TextStyle style = style_of(STDOUT_FILENO);
    return print(args.json ? run_json(*run) : run_text(*run, style) + failed_of(*run, style));
  }
  const auto done = pause_recorder(run->dir, args.action == "pause");
  return done ? kOk : fail(done.error());
}

}  // namespace rigwise::cli
