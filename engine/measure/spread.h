// Spread: what repeats of one measurement say.
#pragma once

#include <vector>

namespace rigwise::engine {

struct Spread {
  int repeats = 0;
  double median_s = 0;
  double low_s = 0, high_s = 0;  // quartiles
};

/// Linear interpolation between order statistics (R's type 7). `times_s` must not be empty.
Spread spread_of(std::vector<double> times_s);

}  // namespace rigwise::engine
