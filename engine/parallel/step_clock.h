// Where the seconds of a step go. Phases follow one another without a gap, so that they sum to the
// step's time. On a CPU they are read from the clock; on CUDA from events on the current stream.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <vector>

#include "engine/torch.h"

namespace rigwise::engine {

enum class Phase { data, forward, backward, sync, optimizer };
inline constexpr std::size_t kPhases = 5;

/// Seconds a phase, of one step.
using PhaseSeconds = std::array<double, kPhases>;

class StepClock {
 public:
  explicit StepClock(at::Device device) : device_(device) {}

  /// Begins a step, in the data phase.
  void begin();
  /// From now on; returns the phase until now.
  Phase enter(Phase phase);
  /// Ends the step. On CUDA waits for the device.
  PhaseSeconds end();

 private:
  using Clock = std::chrono::steady_clock;
  at::Device device_;
  Phase phase_ = Phase::data;
  Clock::time_point since_;
  PhaseSeconds seconds_ = {};
  struct Mark {
    c10::Event event;
    Phase phase;
  };
  std::vector<Mark> marks_;
};

/// Time in which a rank waits for others counts as sync, whatever phase it falls into.
class Waiting {
 public:
  explicit Waiting(StepClock* clock) : clock_(clock) {
    if (clock_ != nullptr) before_ = clock_->enter(Phase::sync);
  }
  ~Waiting() {
    if (clock_ != nullptr) clock_->enter(before_);
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  StepClock* clock_;
  Phase before_ = Phase::data;
};

}  // namespace rigwise::engine
