// Process: what front, recorder and keeper need from the operating system to stay invisible: the
// signal state that the command must inherit untouched, titles in `ps`, another process's pending
// signals and CPU time.
//
// Threads: call from single-threaded processes, right after fork.
#pragma once

#include <sys/types.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rigwise {

/// Signal dispositions and mask as this program was started with.
class SignalState {
 public:
  /// Remembers the present state, then blocks every signal that can be handled later (faults stay
  /// as they are) and lets the formerly ignored ones through, so that a signalfd sees them all.
  static SignalState take_over();
  /// Back to what it was: in the command's child before exec, and in the front at the end.
  void restore() const;

 private:
  std::array<struct sigaction, 32> actions_ = {};
  sigset_t mask_ = {};
};

/// Every signal that take_over blocks.
sigset_t handled_signals();

/// Takes all pending handled signals off this process.
void drop_pending_signals();

/// Is `signal` pending for that process as a whole? False when it cannot be told.
bool is_pending(pid_t pid, int signal);

/// CPU seconds of a process (all threads), nothing when it is gone.
std::optional<double> cpu_seconds_of(pid_t pid);

/// Nanoseconds that the main thread has run: moves while the process is alive and at work.
std::optional<std::uint64_t> main_thread_runtime_ns(pid_t pid);

/// Sends a signal to that process if it still is the program called `comm`. False: it is not, or it
/// may not be sent.
bool signal_process(pid_t pid, const std::string& comm, int signal);

/// Makes `ps` show `title`. Writes over the argument area (and the environment area behind it when
/// that is needed: the environment is moved away first), so only in a process that never runs the
/// original program again.
void set_process_title(const std::string& title);

/// Descriptors above 2 that a program started from here would inherit.
std::vector<int> inherited_descriptors();

/// Puts /dev/null on 0, 1 and 2.
void detach_standard_streams();

}  // namespace rigwise
