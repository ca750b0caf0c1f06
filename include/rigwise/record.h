// Record: `rigwise run`. Front → recorder → keeper → command; nothing here may ever harm the
// command.
//
//   front     the process the user started: passes signals, stdin and window size through, returns
//   the status recorder  samples, reads the log, watches checkpoints; may be killed at any instant
//   keeper    moves the command's bytes to the log and the terminal, waits for its exit, hands the
//   status over
//
// The recorder is an ancestor of the command, so that default kernels let it read the command's
// state.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/logs.h"
#include "rigwise/result.h"
#include "rigwise/run.h"
#include "rigwise/stacks.h"

namespace rigwise {

/// Looking into the process while it trains (`--profile`).
struct ProfileOptions {
  bool inside = true;  // NCCL's own events; short traces of PyTorch processes where asked for
  // The user's own wishes instead of the rules of docs/run-directory.md. No traces unless asked
  // for: a process has been seen to end by SIGSEGV behind one.
  std::optional<int> most_windows = 0;
  std::optional<double> length_s = {};
  std::optional<double> first_s = {};  // after the first step
  std::optional<double> every_s = {};  // from one window to the next
  std::optional<double> share = {};    // of the run's time that all windows may cost
};

/// Hangs: silences of a run in which nobody of it is at work (docs/hangs.md).
struct HangOptions {
  bool watch = true;
  std::optional<double> after_s = {};  // silence that is too long; empty: from the run's history
  bool stop = false;                   // end the command then
};

struct RecordOptions {
  std::filesystem::path root = {};  // where run directories lie
  std::string name = {};
  std::vector<std::string> command = {};  // argv
  double interval_s = 1;
  bool detach = false;
  ProfileOptions profile = {};
  HangOptions hang = {};
  std::optional<Statement> statement = {};
  std::vector<LogPattern> patterns = {};          // the user's own, for lines of their trainer
  std::vector<StackPattern> stack_patterns = {};  // of functions, for what no table can know
  std::filesystem::path host_root = "/";          // a recorded machine, in tests
  /// Of a detached run: called with its directory once it is over, in the process that saw it end.
  std::function<void(const std::filesystem::path&)> when_over = {};
};

struct RecordOutcome {
  std::string name = {};  // of the run: the one asked for, or made from the command
  int exit_code = 0;      // the command's own; 128+N by signal; 127 not found; 126 not executable
  std::optional<std::filesystem::path> dir =
      {};                 // empty: trained unrecorded, a warning was printed
  bool detached = false;  // it runs on; false too where it could not be executed
};

/// Runs the command and records it. Prints nothing but warnings on stderr. Does not return in the
/// child processes.
RecordOutcome record_run(const RecordOptions& options);

/// Joins a detached run's terminal; returns when it ends or the user leaves (Ctrl-\ d).
/// Errors: not_found (no keeper listens), conflict (somebody else is attached).
Result<int> attach_run(const std::filesystem::path& run_dir);

/// Pauses or resumes sampling of a live run (bench: the recorder's own cost is measured inside a
/// run).
Status pause_recorder(const std::filesystem::path& run_dir, bool pause);

}  // namespace rigwise
