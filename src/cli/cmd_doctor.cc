#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/text.h"
#include "cli/preflight.h"
#include "cli/smoke.h"
#include "cli/verbs.h"
#include "report/doctor.h"

namespace rigwise::cli {

namespace fs = std::filesystem;

namespace {

DoctorOptions options_of(const DoctorArgs& args) {
  DoctorOptions options;
  std::error_code error;
  if (!args.root.empty()) options.root.root = fs::absolute(args.root, error);
  options.level = args.level;
  options.only = args.only;
  options.keep_going = args.keep_going;
  options.cpu = args.cpu;
  options.python = args.python;
  options.program = program_of(args.smoke);
  options.cwd = fs::current_path(error);
  know_command(args.smoke, options);
  for (const auto& dir : args.dirs) options.dirs.emplace_back(dir);
  options.runs = runs_root(args.runs);
  options.need_bytes = args.need_bytes;
  return options;
}

bool stops(const DoctorArgs& args, const DoctorReport& report) {
  const auto worst = report.worst();
  if (!worst || args.fail_on == "never") return false;
  return *worst >= (args.fail_on == "warn" ? Severity::warning : Severity::critical);
}

}  // namespace

int cmd_doctor(const DoctorArgs& args) {
  DoctorOptions options = options_of(args);
  std::error_code error;
  if (!args.root.empty() && !fs::is_directory(args.root, error))
    return fail({Errc::not_found, "no such folder: " + clean_text(args.root, 200),
                 "a recorded machine is a folder with proc/ and sys/ in it"});
  const bool on_terminal = ::isatty(STDERR_FILENO) == 1;
  if (on_terminal) {
    options.starting = [](Rung rung) {
      std::fprintf(stderr, "\r\033[K%s …", std::string(to_string(rung)).c_str());
    };
  }
  std::optional<SmokeResult> smoked;
  if (!args.smoke.empty()) {
    options.smoke = [&] {
      smoked = smoke_test(options.runs, args.smoke, args.steps, args.smoke_limit_s);
      smoked->passed = smoke_holds(*smoked);
      if (const auto kept = keep_smoke(options.runs, *smoked); !kept)
        std::fprintf(stderr, "rigwise: the smoke test's result is not kept: %s\n",
                     kept.error().message.c_str());
      return *smoked;
    };
  }
  const DoctorReport report = examine(options);
  if (on_terminal) std::fputs("\r\033[K", stderr);
  const int printed =
      print(args.json ? doctor_json(report) : doctor_text(report, style_of(STDOUT_FILENO)));
  if (printed != kOk) return printed;
  return stops(args, report) ? kFinding : kOk;
}

}  // namespace rigwise::cli
