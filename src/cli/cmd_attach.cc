#include "cli/verbs.h"
#include "rigwise/record.h"

namespace rigwise::cli {

int cmd_attach(const AttachArgs& args) {
  const auto run = latest_run(args, args.name);
  if (!run) return fail_run(run.error());
  const auto status = attach_run(run->dir);
  if (!status) return fail(status.error());
  return *status;
}

}  // namespace rigwise::cli
