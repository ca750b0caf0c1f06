// The ladder: rungs in order, each gathers what it needs and judges it; the first that fails ends
// it.
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/secrets.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "doctor/probes.h"
#include "doctor/rules.h"

namespace rigwise {

using namespace doctor;

namespace {

int level_of(Rung rung) {
  switch (rung) {
    case Rung::host:
    case Rung::devices:
    case Rung::ready:
      return 1;
    case Rung::framework:
    case Rung::launcher:
    case Rung::collective:
    case Rung::storage:
      return 2;
    case Rung::smoke:
      return 3;
  }
  return 3;
}

/// A driver without persistence wakes its cards one by one, some seconds each.
constexpr std::chrono::seconds kFilesLimit{4}, kDriverLimit{15};
// Every level begins with them (host, bus, drivers), and level 1 ends with one more look at files:
// none of them can ever get less than its own limit, so that what hangs is named.
static_assert(3 * kFilesLimit + kDriverLimit <= std::chrono::seconds(int(level_limit_s(1))));

/// A run that is to use no GPU says so: by doctor's own flag, by a variable that hides every one,
/// or by a flag that launchers and trainers have for it.
std::string why_no_gpu(const DoctorOptions& options, const HostFacts& host) {
  if (options.cpu) return "--cpu";
  const auto visible = host.variables.find("CUDA_VISIBLE_DEVICES");
  if (visible != host.variables.end() && (visible->second.empty() || visible->second == "-1"))
    return "CUDA_VISIBLE_DEVICES=" + (visible->second.empty() ? "\"\"" : visible->second);
  for (std::size_t i = 0; i < options.command.size(); ++i) {
    const std::string word = lower(options.command[i]);
    if (word != "--cpu" && word != "--use_cpu" && word != "--no_cuda") continue;
    const std::string next = i + 1 < options.command.size() ? lower(options.command[i + 1]) : "";
    // "--cpu 8" counts cores
    if (next != "false" && next != "no" && !to_number(next)) return "the command's " + word;
  }
  return {};
}

/// A rung that is asked for by name has the time of its own level.
int level_asked(const DoctorOptions& options) {
  int level = options.level;
  for (const Rung rung : options.only) level = std::max(level, level_of(rung));
  return level;
}

class Ladder {
 public:
  explicit Ladder(const DoctorOptions& options)
      : options_(options), budget_(level_limit_s(level_asked(options))) {}

  DoctorReport climb() {
    DoctorReport report;
    report.level = options_.level;
    report.unix_s = unix_s();
    const double start = monotonic_s();
    for (const Rung rung : kRungs) report.rungs.push_back(step(rung));
    report.seconds = monotonic_s() - start;
    report.host = facts_.host.host;
    report.python = facts_.framework.python;
    report.facts = to_json(facts_);
    return report;
  }

 private:
  RungReport step(Rung rung) {
    RungReport report;
    report.rung = rung;
    report.why = why_not(rung);
    if (!report.why.empty()) return report;
    if (options_.starting) options_.starting(rung);
    const double start = monotonic_s();
    Judge judge(report.checks);
    run(rung, judge);
    report.seconds = monotonic_s() - start;
    settle(report);
    if (report.state == CheckState::fail && !failed_) failed_ = rung;
    return report;
  }

  [[nodiscard]] std::string why_not(Rung rung) const {
    const auto& only = options_.only;
    if (!only.empty() && std::find(only.begin(), only.end(), rung) == only.end())
      return "not asked for";
    if (only.empty() && level_of(rung) > options_.level)
      return "level " + std::to_string(level_of(rung)) + " asks it";
    if (failed_ && (!options_.keep_going || rung == Rung::ready))
      return std::string(to_string(*failed_)) + " failed";
    const bool runs_programs = rung == Rung::framework || rung == Rung::collective ||
                               rung == Rung::storage || rung == Rung::smoke;
    if (runs_programs && !options_.root.live()) return "nothing runs on a recorded machine";
    if (rung == Rung::smoke && !options_.smoke) return "no command: --smoke \"CMD\"";
    if (rung == Rung::ready && options_.program.empty()) return "no command: --smoke \"CMD\"";
    return {};
  }

  static void settle(RungReport& report) {
    bool any = false, judged = false;
    std::string why;
    report.state = CheckState::pass;
    for (const Check& check : report.checks) {
      if (check.state == CheckState::fail && check.finding.severity == Severity::critical)
        report.state = CheckState::fail;
      if (check.state == CheckState::not_judged || check.state == CheckState::skipped) {
        if (why.empty()) why = check.why;
        judged = judged || check.state == CheckState::not_judged;
      } else {
        any = true;
      }
    }
    if (any) return;
    report.state = judged ? CheckState::not_judged : CheckState::skipped;
    report.why = why;
  }

  void run(Rung rung, Judge& judge) {
    switch (rung) {
      case Rung::host:
        know_host();
        return judge_host(facts_, judge);
      case Rung::devices:
        know_devices();
        if (judge_left_out(facts_, judge)) return;
        judge_devices(facts_, judge);
        return judge_links(facts_, judge, false);
      case Rung::framework:
        know_devices();
        know_framework();
        return judge_framework(facts_, judge);
      case Rung::launcher:
        know_framework();
        facts_.launcher = probe_launchers(facts_, options_.root, budget_);
        return judge_launcher(facts_, judge);
      case Rung::collective:
        know_framework();
        facts_.collective = probe_collectives(facts_, options_.level, budget_);
        return judge_collective(facts_, judge);
      case Rung::storage:
        facts_.storage = probe_storage(options_, budget_);
        return judge_storage(facts_, judge);
      case Rung::smoke:
        return judge_smoke(options_.smoke(), judge);
      case Rung::ready:
        return judge_ready(recent_smoke(options_.runs, options_.program, options_.cwd.string()),
                           unix_s(),
                           {{"runs", options_.runs.string()},
                            {"command", shell_word(mask_secrets(shell_line(options_.command)))}},
                           judge);
    }
  }

  void know_host() {
    if (std::exchange(host_known_, true)) return;
    const auto text = run_in_child([&] { return to_json(read_host(options_.root)); }, kFilesLimit);
    if (!text || !from_json(*text, facts_.host)) facts_.host.host = "this host";
    facts_.cpu_meant = why_no_gpu(options_, facts_.host);
  }

  void know_devices() {
    know_host();
    if (std::exchange(devices_known_, true)) return;
    DeviceFacts& devices = facts_.devices;
    if (!take(run_in_child([&] { return to_json(read_devices(options_.root)); }, kFilesLimit),
              "reading the PCI bus"))
      return;
    take(run_in_child(
             [&] {
               DeviceFacts asked = devices;
               ask_drivers(options_.root, asked);
               return to_json(asked);
             },
             kDriverLimit),
         "asking the drivers");
  }

  /// Only a time limit means that a driver hangs; a crash or an answer without sense is told as
  /// what it is.
  bool take(const Result<std::string>& answer, const std::string& doing) {
    DeviceFacts& devices = facts_.devices;
    if (answer && from_json(*answer, devices)) return true;
    devices.driver_hung = !answer && answer.error().code == Errc::unavailable;
    devices.driver_trouble =
        doing + ": " + (answer ? std::string("no sense in the answer") : answer.error().message);
    return false;
  }

  void know_framework() {
    know_host();
    if (std::exchange(framework_known_, true) || !options_.root.live()) return;
    choose_python(options_, facts_.framework);
    if (facts_.framework.python.empty()) return;
    probe_framework(facts_.framework, budget_);
    place_on_bus(facts_.devices, facts_.framework);
    if (facts_.cpu_meant.empty()) facts_.work = probe_gpus(facts_.framework, budget_);
  }

  const DoctorOptions& options_;
  Budget budget_;
  DoctorFacts facts_;
  std::optional<Rung> failed_;
  bool host_known_ = false, devices_known_ = false, framework_known_ = false;
};

}  // namespace

const RungReport* DoctorReport::first_failed() const {
  for (const auto& rung : rungs) {
    if (rung.state == CheckState::fail) return &rung;
  }
  return nullptr;
}

std::optional<Severity> DoctorReport::worst() const {
  std::optional<Severity> worst;
  for (const auto& rung : rungs) {
    for (const auto& check : rung.checks) {
      if (check.state == CheckState::fail && (!worst || check.finding.severity > *worst))
        worst = check.finding.severity;
    }
  }
  return worst;
}

bool smoke_holds(const SmokeResult& result) {
  std::vector<Check> checks;
  Judge judge(checks);
  judge_smoke(result, judge);
  return std::none_of(checks.begin(), checks.end(), [](const Check& check) {
    return check.state == CheckState::fail && check.finding.severity == Severity::critical;
  });
}

DoctorReport examine(const DoctorOptions& options) {
  return Ladder(options).climb();
}

}  // namespace rigwise
