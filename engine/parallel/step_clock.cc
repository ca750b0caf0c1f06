#include "engine/parallel/step_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace rigwise::engine {
namespace {

c10::Event event_now(at::Device device) {
  c10::Event event(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  event.record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  return event;
}

}  // namespace

void StepClock::begin() {
  seconds_ = {};
  marks_.clear();
  phase_ = Phase::data;
  since_ = Clock::now();
  if (!device_.is_cpu()) marks_.push_back({event_now(device_), phase_});
}

Phase StepClock::enter(Phase phase) {
  const Phase before = std::exchange(phase_, phase);
  if (!device_.is_cpu()) {
    marks_.push_back({event_now(device_), phase});
    return before;
  }
  const Clock::time_point now = Clock::now();
  seconds_[static_cast<std::size_t>(before)] += std::chrono::duration<double>(now - since_).count();
  since_ = now;
  return before;
}

PhaseSeconds StepClock::end() {
  enter(phase_);
  if (marks_.empty()) return seconds_;
  marks_.back().event.synchronize();
  for (std::size_t i = 0; i + 1 < marks_.size(); ++i) {
    seconds_[static_cast<std::size_t>(marks_[i].phase)] +=
        marks_[i].event.elapsedTime(marks_[i + 1].event) / 1e3;
  }
  return seconds_;
}

}  // namespace rigwise::engine
