#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <set>

#include "base/files.h"
#include "base/terminal.h"
#include "base/text.h"
#include "cli/args.h"
#include "cli/verbs.h"
#include "rigwise/decide.h"

namespace rigwise::cli {

int fail(const Error& error) {
  std::fprintf(stderr, "rigwise: %s\n", error.message.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "  %s\n", error.hint.c_str());
  switch (error.code) {
    case Errc::usage:
      return kUsage;
    case Errc::conflict:
      return kLocked;
    case Errc::remote:
      return kUnreachable;
    default:
      return kFailed;
  }
}

int fail_run(const Error& error) {
  const int code = fail(error);
  return error.code == Errc::not_found ? kNoSuchRun : code;
}

int print(std::string_view text) {
  const bool whole = write_all(STDOUT_FILENO, text) == text.size();
  return whole || errno == EPIPE ? kOk : kFailed;
}

TextStyle style_of(int fd) {
  TextStyle style;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  style.colour = ::isatty(fd) == 1 && (no_color == nullptr || *no_color == '\0') &&
                 !(term != nullptr && std::string_view(term) == "dumb");
  style.width = std::clamp(terminal_columns(fd).value_or(style.width), 40, 100);
  return style;
}

Result<Run> latest_run(const Common& args, const std::string& name) {
  RW_TRY(auto runs, find_runs(runs_root(args.runs), name));
  return std::move(runs.back());
}

Result<std::vector<Run>> all_runs(const Common& args, const std::vector<std::string>& names) {
  std::vector<Run> all;
  std::set<std::string> seen;
  for (const auto& name : names) {
    RW_TRY(auto runs, find_runs(runs_root(args.runs), name));
    for (auto& run : runs) {
      if (seen.insert(run.info.id).second) all.push_back(std::move(run));
    }
  }
  return all;
}

std::filesystem::path lab_path(const Lab& lab) {
  return lab.value_or("lab.toml");
}

Result<std::optional<Statement>> statement_at(const Lab& lab) {
  auto statement = read_lab(lab_path(lab));
  if (statement) return std::optional<Statement>(std::move(*statement));
  if (statement.error().code == Errc::not_found && lab) {
    return Error{Errc::usage, statement.error().message, "rigwise init --lab " + *lab};
  }
  if (statement.error().code == Errc::not_found) return std::optional<Statement>();
  return std::move(statement).error();
}

namespace {

int dispatch(const Args& args) {
  struct Visitor {
    int operator()(const RunArgs& a) const { return cmd_run(a); }
    int operator()(const AttachArgs& a) const { return cmd_attach(a); }
    int operator()(const StacksArgs& a) const { return cmd_stacks(a); }
    int operator()(const RunsArgs& a) const { return cmd_runs(a); }
    int operator()(const ReadArgs& a) const { return cmd_read(a); }
    int operator()(const LedgerArgs& a) const { return cmd_ledger(a); }
    int operator()(const TriageArgs& a) const { return cmd_triage(a); }
    int operator()(const CompareArgs& a) const { return cmd_compare(a); }
    int operator()(const InitArgs& a) const { return cmd_init(a); }
    int operator()(const DecideArgs& a) const { return cmd_decide(a); }
    int operator()(const ProbeArgs& a) const { return cmd_probe(a); }
    int operator()(const PlanArgs& a) const { return cmd_plan(a); }
    int operator()(const DoctorArgs& a) const { return cmd_doctor(a); }
    int operator()(const DemoArgs& a) const { return cmd_demo(a); }
  };
  return std::visit(Visitor(), args);
}

}  // namespace
}  // namespace rigwise::cli

int main(int argc, char** argv) {
  try {
    const auto parsed = rigwise::cli::parse_args(argc, argv);
    if (const int* code = std::get_if<int>(&parsed)) return *code;
    return rigwise::cli::dispatch(std::get<rigwise::cli::Args>(parsed));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rigwise: a bug of ours: %s\n", error.what());
    return rigwise::cli::kFailed;
  }
}
