// Work: what each rank's main thread was doing (profile/HOST.stacks.csv), as one line of spans a
// rank, and the seconds of the run's classes that follow from it.
//
// The run's ledger follows the critical path. Ranks meet once a step; between two meetings the rank
// that waits least is the one that the others wait for, and its classes are the run's. What the
// others wait is theirs (sync); what all wait at once is the communication itself (sync of the
// run).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/rank_numbers.h"
#include "ledger/split.h"
#include "rigwise/ledger.h"
#include "rigwise/run.h"

namespace rigwise {

/// The works of the table of profile, and what the recorder adds to them.
enum class Work : std::uint8_t {
  none,
  python,
  input,
  prepare,
  checkpoint,
  evaluation,
  sync,
  rendezvous,
  forward,
  backward,
  optimizer,
  transfer,
  device,
  compile,
  import,
  load,
  launch,
  log,
  profiler,
  stopped,
};
inline constexpr std::array<std::string_view, 20> kWorkNames = {
    "none",       "python",  "input",    "prepare",   "checkpoint", "evaluation", "sync",
    "rendezvous", "forward", "backward", "optimizer", "transfer",   "device",     "compile",
    "import",     "load",    "launch",   "log",       "profiler",   "stopped"};
constexpr std::string_view to_string(Work work) {
  return kWorkNames[static_cast<std::size_t>(work)];
}
/// A name of a newer version is other Python code.
constexpr Work work_of(std::string_view name) {
  for (std::size_t i = 0; i < kWorkNames.size(); ++i) {
    if (kWorkNames[i] == name) return static_cast<Work>(i);
  }
  return Work::python;
}

/// The arithmetic of a step.
constexpr bool is_step_work(Work work) {
  return work == Work::forward || work == Work::backward || work == Work::optimizer ||
         work == Work::transfer || work == Work::device;
}

using CallPaths = std::map<std::int64_t, std::string>;  // by stack

/// A stretch of one kind of work of one rank's main thread; durations in seconds. Small: hours of
/// them are held at once.
struct WorkSpan {
  double from_s = 0, to_s = 0;
  float running_s = 0, queued_s = 0;  // on a CPU; waiting for one
  float asleep_s = 0;                 // neither
  float weight = 1;                   // seconds that a second of it stands for (settle_states)
  float variance = 0;                 // of its seconds
  std::int32_t stack = 0;
  std::uint16_t samples = 0, stretches = 0;  // 0: not recorded
  Work work = Work::none;
  bool scheduled = false;  // whether the scheduler's figures above are known
  [[nodiscard]] double length_s() const { return to_s - from_s; }
  [[nodiscard]] double seconds() const { return weight * length_s(); }
};

struct RankWork {
  int rank = 0;
  std::string host = {};
  std::vector<WorkSpan> spans = {};  // in order, not overlapping
  double gap_s = 0;                  // usual distance of samples
  // Of each span, as recorded (settle.h): the share that it slept by the states of its samples, -1
  // where they are not known; its seconds on a CPU and in a run queue, which may be of its
  // neighbours.
  std::vector<float> seen_asleep = {}, used_s = {};
  std::int64_t first_line = 0, last_line = 0;  // of the table
};

struct WorkSeen {
  std::vector<RankWork> ranks = {};
  /// By host and stack id: the innermost frame, "dataset.py:Rows.__getitem__".
  std::map<std::string, std::map<std::int64_t, std::string>> places = {};
  // by host and stack: the frames from which torch was called
  std::map<std::string, CallPaths> callers = {};
  bool loaders = false;  // data-loader workers were seen
  double loaders_running_s = 0, loaders_seen_s = 0;
};
WorkSeen see_work(const Run& run, const RankNumbers& numbers);

/// When training began and ended, by the stacks: from the fetch before the first backward pass to
/// the end of the last optimizer step. Empty where no rank ever went backward.
std::optional<Window> trained_by_stacks(const WorkSeen& seen);

/// What the log and the file system say of the run's time.
struct Timeline {
  double wall_s = 0;
  double begin_s = 0, end_s = 0;                           // first step's begin, last step's end
  std::vector<Window> evaluations = {}, checkpoints = {};  // united
  bool ended = true;  // false: running or torn, the tail is no teardown
};

struct WorkInput {
  const WorkSeen* seen = nullptr;
  Timeline time = {};
  bool devices = false;  // GPUs did the arithmetic: the main thread's seconds are not theirs
};

/// One rank's seconds, or the run's.
struct WorkSplit {
  std::array<Share, kLedgerClasses.size()> shares = {};
  std::map<LedgerClass, std::map<std::string, double>> parts = {};  // what a class is made of
  double asleep_in_compute_s = 0;      // main thread asleep where it should compute, one rank
  bool team = false;                   // other threads share its arithmetic (note_team)
  double covered_s = 0;                // of the steps' time
  double running_s = 0, queued_s = 0;  // of the main thread in the steps' arithmetic
  Share& of(LedgerClass cls) { return shares[static_cast<std::size_t>(cls)]; }
  [[nodiscard]] const Share& of(LedgerClass cls) const {
    return shares[static_cast<std::size_t>(cls)];
  }
};

struct WorkLedger {
  WorkSplit run = {};
  std::vector<WorkSplit> ranks = {};    // as in WorkSeen
  std::vector<double> critical_s = {};  // how long each rank was the one that the others waited for
};
WorkLedger split_by_work(const WorkInput& input);

/// What the arithmetic lost while the other threads of a team stood in a run queue.
struct TeamLoss {
  double seconds = 0, sd_s = 0;
};
TeamLoss lost_to_team(double others_queued_s);
/// CPU of the other threads, as a share of the main one's, from which on they are a team: they do a
/// good part of the work. Fewer are helpers, whose waits hold up nobody. `several`: ranks.
double team_share(bool several);

/// Arithmetic that a team of threads shares waits for the slowest of them: where the others stood
/// in a run queue, the main thread spun. `others_queued_s` and `others_cpu_s` are theirs, together,
/// while steps ran.
void note_team(WorkSplit& split, double others_queued_s, double others_cpu_s, bool several);

}  // namespace rigwise
