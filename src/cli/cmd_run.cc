#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <optional>

#include "base/files.h"
#include "base/json.h"
#include "cli/failed_run.h"
#include "cli/lab_patterns.h"
#include "cli/preflight.h"
#include "cli/run_words.h"
#include "cli/verbs.h"
#include "report/failure.h"
#include "rigwise/ledger.h"
#include "rigwise/record.h"
#include "run/layout.h"

namespace rigwise::cli {

namespace {

/// What a failed run failed of, kept beside the evidence for those who look later; nothing of one
/// that did not fail, or whose log shows no cause.
std::optional<Failure> keep_failure(const Run& run) {
  if (ended_well(run.info)) return std::nullopt;
  auto failure = failure_of_run(run, Signatures::built_in(), kLogEnds_bytes);
  if (!failure) return std::nullopt;
  // a full disk is no reason to say more
  (void)write_file_atomic(run.dir / layout::kTriageJson, failure_json(*failure));
  return std::move(*failure);
}

/// What the run says of itself, on stderr, once it is over.
void print_closing(const Run& run, const std::optional<Failure>& failure) {
  const TextStyle style = style_of(STDERR_FILENO);
  std::string text = failure ? failed_closing_text(run, *failure, style) : std::string();
  if (text.empty()) {
    const auto ledger = make_ledger(run);
    text = run_closing_text(run, ledger ? &*ledger : nullptr, style);
  }
  std::fprintf(stderr, "rigwise: %s", text.c_str());
}

/// A run that is over. Whatever goes wrong here, the command's status stands.
void close_run(const std::filesystem::path& dir, bool quiet) {
  const auto run = open_run(dir);
  if (!run) {
    if (!quiet) std::fprintf(stderr, "rigwise: %s\n", run.error().message.c_str());
    return;
  }
  const auto failure = keep_failure(*run);
  if (!quiet) print_closing(*run, failure);
}

/// docs/json.md's run document on one line; of an unrecorded run what is known of it.
std::string run_line(const RecordOutcome& outcome) {
  if (outcome.dir) {
    const auto run = open_run(*outcome.dir);
    const auto document = run ? parse_json(run_json(*run)) : Result<Json>(run.error());
    if (document) return document->dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  const Json document = {{"schema", 1},
                         {"name", outcome.name},
                         {"dir", nullptr},
                         {"state", "unrecorded"},
                         {"exit_status", outcome.exit_code}};
  return document.dump() + "\n";
}

/// The command's stdout is the user's, so the document of an attached run goes to stderr, behind
/// all that the command wrote there; a detached one's is all that we print.
void print_json(const RecordOutcome& outcome) {
  const std::string line = run_line(outcome);
  std::fputs(line.c_str(), outcome.detached ? stdout : stderr);
}

}  // namespace

int cmd_run(const RunArgs& args) {
  RecordOptions options;
  options.root = runs_root(args.runs);
  options.name = args.name;
  options.command = args.command;
  options.interval_s = args.interval_s;
  options.detach = args.detach;
  if (auto hang = hang_options(args.hang_after, args.on_hang)) options.hang = *hang;
  if (auto profile = profile_options(args.profile)) options.profile = *profile;
  if (!args.name.empty() && open_run(options.root / args.name)) {
    return fail({Errc::usage, "'" + args.name + "' is the id of a run already",
                 "another name: that run could not be told from this one"});
  }
  if (const auto refused = preflight(args)) return *refused;
  auto statement = statement_at(args.lab);
  if (statement) {
    options.statement = std::move(*statement);
  } else {  // a slip in lab.toml must not keep anybody from training
    std::fprintf(stderr, "rigwise: %s\n  the run goes on without a sealed statement\n",
                 statement.error().message.c_str());
  }
  if (auto patterns = lab_patterns(args.lab)) {
    options.patterns = std::move(*patterns);
  } else if (statement) {  // else the file's trouble was told above
    std::fprintf(stderr, "rigwise: %s\n  the run goes on without these patterns\n",
                 patterns.error().message.c_str());
  }
  if (auto stacks = lab_stack_patterns(args.lab)) {
    options.stack_patterns = std::move(*stacks);
  } else if (statement && options.patterns.empty()) {
    std::fprintf(stderr, "rigwise: %s\n  the run goes on without these patterns\n",
                 stacks.error().message.c_str());
  }
  options.when_over = [](const std::filesystem::path& dir) { close_run(dir, true); };
  const RecordOutcome outcome = record_run(options);
  if (outcome.dir && !outcome.detached) close_run(*outcome.dir, args.quiet || args.json);
  if (args.json) {
    print_json(outcome);
  } else if (outcome.detached) {
    std::fprintf(stderr, "rigwise: %s runs detached\n         back to it: rigwise attach %s\n",
                 outcome.name.c_str(), outcome.name.c_str());
  }
  return outcome.exit_code;
}

}  // namespace rigwise::cli
