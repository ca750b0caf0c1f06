#include <unistd.h>

#include "cli/verbs.h"
#include "rigwise/record.h"

namespace rigwise::cli {

int cmd_runs(const RunsArgs& args) {
  if (args.action == "list") {
    const auto runs = list_runs(runs_root(args.runs));
    return print(args.json ? runs_json(runs) : runs_text(runs, style_of(STDOUT_FILENO)));
  }
  if (args.action == "import") return cmd_import(args);
  const auto run = latest_run(args, args.name);
  if (!run) return fail_run(run.error());
  if (args.action == "show") {
    return print(args.json ? run_json(*run) : run_text(*run, style_of(STDOUT_FILENO)));
  }
  const auto done = pause_recorder(run->dir, args.action == "pause");
  return done ? kOk : fail(done.error());
}

}  // namespace rigwise::cli
