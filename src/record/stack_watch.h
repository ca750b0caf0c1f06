// Stack watch: some twenty times a second, what every Python process of the command is doing.
//
// A thread of its own, so that neither a slow tick of the recorder nor a GPU driver that hangs
// leaves a hole; the recorder takes what it gathered at every tick and writes it. Instants between
// samples are drawn at random, so that they cannot lock to a step. Nothing is ever stopped, and a
// process that may not be read costs one try now and then.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rigwise/run.h"
#include "rigwise/stacks.h"

namespace rigwise {

struct StackWatchOptions {
  double interval_s = 0.05;      // of ranks, on average; loaders and launchers are seen less often
  double start_monotonic_s = 0;  // CLOCK_MONOTONIC at t_s = 0
  std::vector<StackPattern> patterns = {};
};

/// What was gathered since the last take().
struct StackBatch {
  std::vector<StackSpan> spans = {};     // in order of their end
  std::vector<StackFrames> frames = {};  // stacks seen for the first time
  std::vector<StackCount> counts = {};   // once a minute
};

/// For how long one process's main thread has been at one place, by all samples of it.
struct StackPlace {
  int pid = 0;
  double last_s = 0;   // the last sample
  double still_s = 0;  // since then every sample was the very same: frames and instructions
  double held_s = 0;   // since then it was in the same call, be it that the call looks around now
                       // and then: what lies outside of a wait for data or for other ranks, or all
                       // frames but the three innermost, did not move
  std::int64_t samples = 0;  // since held_s
  std::string work = {};
};

class StackWatch {
 public:
  /// Starts the thread; signals are blocked in it. Make it after the last fork.
  StackWatch(pid_t command, StackWatchOptions options);
  ~StackWatch();
  StackWatch(const StackWatch&) = delete;
  StackWatch& operator=(const StackWatch&) = delete;

  /// The command's processes as the last tick saw them: those of Python are looked into.
  void follow(const std::vector<ProcSample>& tree);
  void pause(bool paused);
  StackBatch take();
  /// Ends the thread; take() then gives the rest.
  void stop();

  /// Of every process that could be read.
  [[nodiscard]] std::vector<StackPlace> places() const;
  /// A rank's stack stood in PyTorch's own profiler: the user traces the run himself.
  [[nodiscard]] bool user_profiles() const;
  /// Why processes could not be looked into, in words; empty where all could.
  [[nodiscard]] std::vector<std::string> refusals() const;
  [[nodiscard]] std::int64_t samples() const;
  [[nodiscard]] std::int64_t torn() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rigwise
