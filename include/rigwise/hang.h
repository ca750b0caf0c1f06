// Hangs: a run that makes no progress, where each of its processes was then, and whose doing it is.
//
// The recorder notices the silence, looks at every process and appends to hangs.jsonl (format:
// docs/run-directory.md); everybody else reads it there. A `RunLook` is taken of a live run at any
// other time too (`rigwise stacks`).
//
// Threads: plain values. Names, paths and words in them come from the command: made safe to print
// when they were read, not free of lies.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

/// One Python frame.
struct LookFrame {
  std::string file = {}, function = {};
  int line = 0;  // 0: not known
};

/// Threads of one process that are alike.
struct ThreadGroup {
  std::string comm = {}, state = {};
  std::string wchan = {};  // the kernel function that they wait in; empty: none, or hidden
  int count = 0;
};

/// Where one process is.
struct ProcessLook {
  int pid = 0, ppid = 0;
  std::string role = {};  // as in ProcSample
  std::optional<int> rank = {};
  std::string comm = {};
  std::string state = {};                // R, S, D, T, Z of the main thread; empty: it has ended
  std::string python = {};               // "3.11"; empty: no CPython was read in it
  std::string read = {};                 // "whole", "no_frame", "torn", "gone", "unavailable"
  std::string why = {}, hint = {};       // of "unavailable"
  std::vector<LookFrame> frames = {};    // of the main thread, innermost first
  std::string work = {};                 // what they stand for, as in StackSpan
  std::string wchan = {}, syscall = {};  // of the main thread: "futex_wait_queue", "read"
  std::optional<int> waits_fd = {};      // the descriptor of that call
  std::string waits_on = {};             // its file: "/data/part-3", "TCP 10.0.0.1:29500", "a pipe"
  bool holds_gpu = false;                // it has a GPU's device open
  bool spins_on_gpu = false;             // it does, runs, and no GPU of the run moves any data
  std::optional<double> still_s = {};    // for so long it has been at this place, as far as seen
  std::optional<double> cpu_frac =
      {};  // of one CPU, all threads, over the silence that was watched
  std::optional<double> queued_frac = {};  // of that time its threads stood in a run queue
  std::vector<ThreadGroup> threads = {};   // most first
  // Its TCP connections: all, those that the other end has closed, and what lies in their queues.
  std::optional<int> connections = {}, closed_by_peer = {};
  std::optional<double> unsent_bytes = {}, unread_bytes = {};
};

enum class HangCause {
  unknown,     // not shown
  input,       // a rank waits for data
  terminal,    // somebody is asked something
  stopped,     // SIGSTOP, a debugger
  ended,       // a rank is gone
  disk,        // in the kernel, uninterruptible
  checkpoint,  // a rank saves
  lock,        // a lock or another thread of its own
  elsewhere,   // code of its own, while the others wait
  mismatch,    // ranks wait in different collectives
  collective,  // all wait in the same one: a rank of another host, the link, or the one before it
};

/// Who is where, and whose doing it is if it stays so.
struct HangVerdict {
  std::string where = {};  // "rank 1 sits in DataLoader.__next__ on /data, ranks 0 and 2 wait in …"
  HangCause cause = HangCause::unknown;
  std::vector<int> ranks = {};  // whose: empty where it is not shown, or of no numbered rank
  std::string because = {};     // "the cause is rank 1's input"
  std::string advice = {};      // one thing to try
  /// Some have waited as long as a collective may, for others that are at work: long work, or a
  /// loop without end, which cannot be told apart.
  bool at_work = false;
  /// `where: because`.
  [[nodiscard]] std::string claim() const {
    return because.empty() ? where : where + ": " + because;
  }
};

struct RunLook {
  double t_s = 0;
  std::vector<ProcessLook> processes = {};  // ranks first
  std::vector<GpuSample> gpus = {};         // those that the run uses, as last sampled
  HangVerdict verdict = {};
};

enum class HangState {
  open,     // it stands still (or the record ends so)
  over,     // it went on by itself
  ended,    // the run came to its end in it
  stopped,  // rigwise ended the command for it (--on-hang stop)
};

struct Hang {
  int number = 0;         // of the run, from 1
  std::int64_t line = 0;  // 1-based, of hangs.jsonl, where it was read from there
  std::string host = {};
  double t_s = 0;          // the last sign of progress
  double found_s = 0;      // when it was called a hang
  double threshold_s = 0;  // silence that is too long, then
  std::optional<double> t_end_s = {};
  HangState state = HangState::open;
  std::string last_progress = {};  // "a step", "the log", "bytes read or written", "a checkpoint"
  std::optional<std::int64_t> last_step = {};
  RunLook look = {};
};

constexpr std::string_view to_string(HangState value) {
  switch (value) {
    case HangState::open:
      return "open";
    case HangState::over:
      return "over";
    case HangState::ended:
      return "ended";
    case HangState::stopped:
      return "stopped";
  }
  return "?";
}
constexpr std::string_view to_string(HangCause value) {
  switch (value) {
    case HangCause::unknown:
      return "unknown";
    case HangCause::input:
      return "input";
    case HangCause::terminal:
      return "terminal";
    case HangCause::stopped:
      return "stopped";
    case HangCause::ended:
      return "ended";
    case HangCause::disk:
      return "disk";
    case HangCause::checkpoint:
      return "checkpoint";
    case HangCause::lock:
      return "lock";
    case HangCause::elsewhere:
      return "elsewhere";
    case HangCause::mismatch:
      return "mismatch";
    case HangCause::collective:
      return "collective";
  }
  return "?";
}

/// The hangs of a run, each as it was found with its ending, in their order. A line that does not
/// parse is counted in `bad_rows`; a half last line is not. An absent file is an empty one.
/// Errors: io, unavailable (larger than 64 MiB).
Result<Rows<Hang>> read_hangs(const Run& run);

/// The reason of an ending that rigwise brought about (`--on-hang stop`).
inline constexpr std::string_view kStoppedForHang = "stopped for a hang";

/// The recorder's side: appends a line of a hang, without `t_end_s` what was found, else how it
/// ended.
class HangLog {
 public:
  explicit HangLog(const std::filesystem::path& run_dir);
  void append(const Hang& hang);
  [[nodiscard]] std::int64_t lost_rows() const { return file_.lost_rows(); }

 private:
  AppendFile file_;
};

/// Seconds from the last progress to the end of the hang, or of the record.
double seconds_of(const Hang& hang, const Run& run);

}  // namespace rigwise
