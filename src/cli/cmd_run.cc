#include <unistd.h>

#include <cstdio>

#include "cli/verbs.h"
#include "rigwise/ledger.h"
#include "rigwise/record.h"

namespace rigwise::cli {

namespace {

/// What the run says of itself, on stderr, once it is over. Whatever goes wrong here, the command's
/// status stands.
void print_closing(const RecordOutcome& outcome) {
  const auto run = open_run(*outcome.dir);
  if (!run) {
    std::fprintf(stderr, "rigwise: %s\n", run.error().message.c_str());
    return;
  }
  const auto ledger = make_ledger(*run);
  const std::string text =
      run_closing_text(*run, ledger ? &*ledger : nullptr, style_of(STDERR_FILENO));
  std::fprintf(stderr, "rigwise: %s", text.c_str());
}

}  // namespace

int cmd_run(const RunArgs& args) {
  RecordOptions options;
  options.root = runs_root(args.runs);
  options.name = args.name;
  options.command = args.command;
  options.interval_s = args.interval_s;
  options.detach = args.detach;
  auto statement = statement_at(args.lab);
  if (statement) {
    options.statement = std::move(*statement);
  } else {  // a slip in lab.toml must not keep anybody from training
    std::fprintf(stderr, "rigwise: %s\n  the run goes on without a sealed statement\n",
                 statement.error().message.c_str());
  }
  const RecordOutcome outcome = record_run(options);
  if (outcome.detached) {
    std::fprintf(stderr, "rigwise: %s runs detached\n         back to it: rigwise attach %s\n",
                 args.name.c_str(), args.name.c_str());
    return outcome.exit_code;
  }
  if (outcome.dir && !args.quiet) print_closing(outcome);
  return outcome.exit_code;
}

}  // namespace rigwise::cli
