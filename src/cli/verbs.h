// Verbs: one function a verb, each in its own cmd_X.cc, and the few things they share. Only src/cli
// prints.
#pragma once

#include <filesystem>
#include <string_view>

#include "cli/args.h"
#include "rigwise/report.h"
#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise::cli {

int cmd_run(const RunArgs& args);
int cmd_attach(const AttachArgs& args);
int cmd_stacks(const StacksArgs& args);
int cmd_runs(const RunsArgs& args);
int cmd_import(const RunsArgs& args);  // runs import
int cmd_read(const ReadArgs& args);
int cmd_ledger(const LedgerArgs& args);
int cmd_trace(const LedgerArgs& args);  // ledger --trace
int cmd_triage(const TriageArgs& args);
int cmd_compare(const CompareArgs& args);
int cmd_init(const InitArgs& args);
int cmd_decide(const DecideArgs& args);
int cmd_probe(const ProbeArgs& args);
int cmd_plan(const PlanArgs& args);
int cmd_plan_memory(const PlanArgs& args);   // plan memory
int cmd_plan_options(const PlanArgs& args);  // plan --from
int cmd_doctor(const DoctorArgs& args);
int cmd_demo(const DemoArgs& args);

/// Prints "rigwise: MESSAGE" and the hint on stderr; returns the exit code that the error's kind
/// stands for.
int fail(const Error& error);
/// As fail(), for an error about a run's name: exit 10 where there is no such run.
int fail_run(const Error& error);

/// Whole text to stdout; exit code kFailed when it cannot be written (a closed pipe is no failure).
int print(std::string_view text);

/// Colour and width as the stream `fd` deserves: NO_COLOR, TERM=dumb, COLUMNS and the terminal's
/// own size.
TextStyle style_of(int fd);

/// The latest run of that name.
Result<Run> latest_run(const Common& args, const std::string& name);

/// Runs of all those names, oldest first, each once.
Result<std::vector<Run>> all_runs(const Common& args, const std::vector<std::string>& names);

/// The file that --lab names, else lab.toml.
std::filesystem::path lab_path(const Lab& lab);

/// lab.toml's statement; nothing where the file is not there. Errors: usage where --lab named it.
Result<std::optional<Statement>> statement_at(const Lab& lab);

}  // namespace rigwise::cli
