// Tick grid: when the recorder samples. Ticks keep to their grid, so that a late one shifts none of
// those behind it; instants that went by while a tick was at work are left out and counted, since
// readings made up for at once would show one instant several times.
#pragma once

#include <cmath>
#include <cstdint>

namespace rigwise {

class TickGrid {
 public:
  explicit TickGrid(double interval_s) : interval_s_(interval_s > 0.01 ? interval_s : 0.01) {}

  /// The next tick is due now, and the grid begins here.
  void begin(double now_s) { next_s_ = now_s; }
  [[nodiscard]] bool due(double now_s) const { return now_s >= next_s_; }
  [[nodiscard]] double wait_s(double now_s) const { return now_s < next_s_ ? next_s_ - now_s : 0; }

  /// A tick is over.
  void done(double now_s) {
    ++ticks_;
    next_s_ += interval_s_;
    if (next_s_ >= now_s) return;
    const double left_out = std::ceil((now_s - next_s_) / interval_s_);
    next_s_ += left_out * interval_s_;
    missed_ += static_cast<std::int64_t>(left_out);
  }

  [[nodiscard]] std::int64_t ticks() const { return ticks_; }
  [[nodiscard]] std::int64_t missed() const { return missed_; }

 private:
  double interval_s_, next_s_ = 0;
  std::int64_t ticks_ = 0, missed_ = 0;
};

}  // namespace rigwise
