#include "engine/measure/spread.h"

#include <algorithm>
#include <cmath>

namespace rigwise::engine {

Spread spread_of(std::vector<double> times_s) {
  std::sort(times_s.begin(), times_s.end());
  const auto quantile = [&](double share) {
    const double place = share * static_cast<double>(times_s.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, times_s.size() - 1);
    return times_s[below] + (place - std::floor(place)) * (times_s[above] - times_s[below]);
  };
  return {static_cast<int>(times_s.size()), quantile(0.5), quantile(0.25), quantile(0.75)};
}

}  // namespace rigwise::engine
