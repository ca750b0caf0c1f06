#include "cli/preflight.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "cli/smoke.h"
#include "cli/verbs.h"
#include "record/facts.h"
#include "record/secrets.h"
#include "report/doctor.h"
#include "rigwise/units.h"
#include "run/layout.h"

extern char** environ;

namespace rigwise::cli {

namespace fs = std::filesystem;

namespace {

constexpr double kLongRun_s = 3600;
constexpr std::size_t kMostLooked = 3;

std::string here() {
  std::error_code error;
  return fs::current_path(error).string();
}

/// The longest of the newest runs of that name, by its folder's name alone: every run starts here,
/// so years of others are not opened.
std::optional<double> history_s(const fs::path& runs, const std::string& name) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(runs, error)) {
    if (entry.path().filename().string().ends_with("-" + name)) folders.push_back(entry.path());
  }
  std::sort(folders.rbegin(), folders.rend());
  std::optional<double> longest;
  for (std::size_t i = 0; i < std::min(kMostLooked, folders.size()); ++i) {
    const auto run = open_run(folders[i]);
    if (run && run->info.name == name && run->wall_s > longest.value_or(0)) longest = run->wall_s;
  }
  return longest;
}

/// The command as a person may type it again, its secrets left out.
std::string shown_command(const std::vector<std::string>& command) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  return shell_line(Secrets(command, environment).mask_argv(command));
}

/// One line where a long run has no fresh smoke test behind it.
void say_untested(const RunArgs& args, const std::string& program) {
  if (args.quiet || args.json || args.name == "smoke") return;
  const fs::path runs = runs_root(args.runs);
  // in a child: a mount that does not answer must not keep the run from starting
  const auto told = run_in_child(
      [&] {
        const auto longest = history_s(runs, args.name.empty() ? program : args.name);
        return longest ? number_text(*longest) : std::string();
      },
      std::chrono::seconds(2));
  if (!told) return;
  const auto before = to_number(*told);
  if (!args.long_run && before.value_or(0) < kLongRun_s) return;
  const auto found = recent_smoke(runs, program, here());
  if (!found) return;
  const auto& kept = *found;
  if (kept && kept->passed && unix_s() - kept->unix_s <= kSmokeFresh_s) return;
  const std::string which = !kept           ? "no smoke test of " + program + " is on record"
                            : !kept->passed ? "the last smoke test of " + program + " failed"
                                            : "the last smoke test of " + program + " is " +
                                                  format_duration(unix_s() - kept->unix_s) + " old";
  std::fprintf(stderr, "rigwise: %s%s\n  rigwise doctor --level 3 --smoke %s --steps 20\n",
               which.c_str(),
               before ? (", and it ran " + format_duration(*before) + " before").c_str() : "",
               shell_word(clean_text(shown_command(args.command), 2000)).c_str());
}

}  // namespace

void know_command(const std::vector<std::string>& command, DoctorOptions& options) {
  options.command = command;
  if (command.empty()) return;
  const std::string program = program_of(command), cwd = options.cwd.string();
  options.same_work = [program, cwd](const RunInfo& info) {
    return info.cwd == cwd && program_of(info.command) == program;
  };
  // in a child: the command may name files on a mount that does not answer
  const auto text = run_in_child(
      [&] {
        std::string folders;
        for (const Fact& fact : facts_of_argv(command, cwd)) {
          if (fact.key == "checkpoint_dir") folders += (options.cwd / fact.value).string() + "\n";
        }
        return folders;
      },
      std::chrono::seconds(4));
  if (!text) return;
  for (const auto folder : split(*text, '\n')) {
    if (!folder.empty()) options.outputs.emplace_back(folder);
  }
}

std::optional<int> preflight(const RunArgs& args) {
  const std::string program = program_of(args.command);
  say_untested(args, program);
  if (args.preflight == 0) return std::nullopt;
  DoctorOptions options;
  options.level = args.preflight;
  options.runs = runs_root(args.runs);
  options.cwd = here();
  know_command(args.command, options);
  if (args.preflight == 1) options.only = {Rung::host, Rung::devices, Rung::storage};
  const DoctorReport report = examine(options);
  const TextStyle style = style_of(STDERR_FILENO);
  if (report.first_failed() == nullptr) {
    if (!args.quiet && !args.json)
      std::fprintf(stderr, "rigwise: pre-flight: %s\n", doctor_answer(report).c_str());
    return std::nullopt;
  }
  std::fprintf(stderr, "rigwise: %s\n", doctor_answer(report).c_str());
  for (const auto& rung : report.rungs) {
    for (const auto& check : rung.checks) {
      if (check.state == CheckState::fail && check.finding.severity == Severity::critical)
        std::fputs(check_text(check, style).c_str(), stderr);
    }
  }
  std::fputs("the run was not started; without --preflight it would be\n", stderr);
  return kFinding;
}

}  // namespace rigwise::cli
