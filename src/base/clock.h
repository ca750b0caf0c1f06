// Clocks: the only place that asks the operating system for the time.
#pragma once

namespace rigwise {

double monotonic_s();  // CLOCK_MONOTONIC
double unix_s();       // CLOCK_REALTIME

}  // namespace rigwise
