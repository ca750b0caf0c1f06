#include "base/clock.h"

#include <ctime>

namespace rigwise {

namespace {
double read_clock(clockid_t id) {
  timespec now = {};
  ::clock_gettime(id, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}
}  // namespace

double monotonic_s() {
  return read_clock(CLOCK_MONOTONIC);
}
double unix_s() {
  return read_clock(CLOCK_REALTIME);
}

}  // namespace rigwise
