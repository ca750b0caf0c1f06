// Doctor: is this host fit for the run? A ladder of rungs (host, devices, framework, launcher,
// collective, storage, smoke, ready) that ends at the first that fails, so that the layer to look
// at is named and nothing above it is blamed.
//
// Facts are gathered by probes, each in a process of its own with a hard time limit: a wedged
// driver cannot hang the ladder. Rules over the facts are pure. Every rule has a stable code, and
// docs/doctor.md lists them all.
//
// Not for threads: probes are forked from the calling process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/finding.h"
#include "rigwise/host.h"
#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

enum class Rung { host, devices, framework, launcher, collective, storage, smoke, ready };
inline constexpr Rung kRungs[] = {Rung::host,       Rung::devices, Rung::framework, Rung::launcher,
                                  Rung::collective, Rung::storage, Rung::smoke,     Rung::ready};

enum class CheckState {
  pass,
  fail,        // the finding says how bad: critical ends the ladder, less does not
  not_judged,  // the evidence is missing: `why`
  skipped,     // not asked, or there is nothing to check: `why`
};

/// One rule applied to one thing. `finding.id` is the rule's code; the claim says what was seen,
/// also where the check passed.
struct Check {
  Rung rung = Rung::host;
  CheckState state = CheckState::pass;
  Finding finding = {};
  std::string by_hand = {};   // the exact command that shows it
  std::string confirms = {};  // what would show that the change helped
  std::string why = {};       // not judged, skipped
};

/// A rule: what a stable code stands for (docs/doctor.md). Texts may hold {gpu}, {bdf}, {python},
/// {path}, {name}, {run}, {runs}, {command}.
struct DoctorRule {
  std::string_view code;
  Rung rung;
  Severity severity;
  std::string_view condition;  // what makes it fail, with its number
  std::string_view change;     // the one thing to try
  std::string_view by_hand;    // the command that shows it
  std::string_view confirms;
  std::string_view source;
};
const std::vector<DoctorRule>& doctor_rules();

/// How a smoke test of the user's own command went (see keep_smoke).
struct SmokeResult {
  std::vector<std::string> command = {};
  std::string program = {};  // what the command runs: script or module, as runs are named
  std::string cwd = {};
  std::string run = {};  // the run's id: its evidence
  std::string dir = {};  // its folder; not kept
  double unix_s = 0;     // when it ended
  bool passed = false;
  int steps_asked = 0;
  std::optional<int> steps_seen = {};
  std::optional<double> wall_s = {};
  std::optional<double> last_loss = {};
  std::optional<int> ranks_asked = {}, ranks_trained = {};
  std::optional<int> exit_status = {};  // where the command ended by itself
  bool late = false;                    // ended by the time limit
  std::string trouble = {};             // first meaningful line of a failure, or why none started
};

struct RungReport {
  Rung rung = Rung::host;
  CheckState state = CheckState::skipped;  // fail: a critical finding
  std::string why = {};                    // skipped, not judged
  double seconds = 0;
  std::vector<Check> checks = {};
};

struct DoctorReport {
  std::string host = {};
  int level = 1;
  double unix_s = 0;
  double seconds = 0;
  std::string python = {};  // that was asked; empty: none
  std::vector<RungReport> rungs = {};
  std::string facts = {};  // JSON object: what was gathered

  /// The first rung with a critical finding.
  [[nodiscard]] const RungReport* first_failed() const;
  /// The worst failed check; nothing where none failed.
  [[nodiscard]] std::optional<Severity> worst() const;
};

struct DoctorOptions {
  HostRoot root = {};
  int level = 1;                          // 1: seconds, 2: a minute, 3: ten minutes
  std::vector<Rung> only = {};            // empty: those of the level
  bool keep_going = false;                // past the first rung that fails
  bool cpu = false;                       // the run is to use no GPU
  std::string python = {};                // empty: the one of `command`, else of the environment
  std::vector<std::string> command = {};  // the run's, where it is known
  std::string program = {};               // its script or module, as runs are named
  std::filesystem::path cwd = {};
  // storage: the folders named, else `outputs`, else where earlier runs' checkpoints lie or cwd,
  // and the runs' folder
  std::vector<std::filesystem::path> dirs = {};
  std::vector<std::filesystem::path> outputs = {};  // that the command says it writes to
  /// Is that run of the command's program, from its folder? Absent: no command is known.
  std::function<bool(const RunInfo&)> same_work = {};
  std::filesystem::path runs = {};        // the runs' folder
  std::optional<double> need_bytes = {};  // free space wanted; else from earlier runs
  /// Runs the smoke test; absent: the rung is skipped.
  std::function<SmokeResult()> smoke = {};
  /// Called before a rung starts, for a progress line.
  std::function<void(Rung)> starting = {};
};

DoctorReport examine(const DoctorOptions& options);

/// Steps that a run made, by the numbers that its log states, in any order; 0 where it states none.
/// A first number above `asked` is that of a resumed run: then the ones before it were made
/// earlier, but for the distance to the next, since a log that states every tenth step made ten
/// before its first.
std::int64_t steps_made(std::vector<std::int64_t> stated, int asked);

/// No rule of the rung smoke finds anything critical in it.
bool smoke_holds(const SmokeResult& result);
/// Keeps a smoke test's result in RUNS/doctor/smoke.json (the newest 50). Errors: io.
Status keep_smoke(const std::filesystem::path& runs, const SmokeResult& result);
/// The newest kept result of that program from that folder; nothing where there is none. The
/// command's flags may differ: a smoke test runs fewer steps. Errors: unavailable (the file system
/// does not answer).
Result<std::optional<SmokeResult>> recent_smoke(const std::filesystem::path& runs,
                                                const std::string& program, const std::string& cwd);
/// A smoke test older than this says little about today's machine.
inline constexpr double kSmokeFresh_s = 7 * 86400.0;

constexpr std::string_view to_string(Rung value) {
  switch (value) {
    case Rung::host:
      return "host";
    case Rung::devices:
      return "devices";
    case Rung::framework:
      return "framework";
    case Rung::launcher:
      return "launcher";
    case Rung::collective:
      return "collective";
    case Rung::storage:
      return "storage";
    case Rung::smoke:
      return "smoke";
    case Rung::ready:
      return "ready";
  }
  return "?";
}
constexpr std::string_view to_string(CheckState value) {
  switch (value) {
    case CheckState::pass:
      return "pass";
    case CheckState::fail:
      return "fail";
    case CheckState::not_judged:
      return "not_judged";
    case CheckState::skipped:
      return "skipped";
  }
  return "?";
}

}  // namespace rigwise
