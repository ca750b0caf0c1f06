// Series whose neighbours depend on each other: effective size, resampling, level shifts.
#include <algorithm>
#include <cmath>

#include "rigwise/stats.h"

namespace rigwise::stats {

namespace {

constexpr std::size_t kMostLags = 2000;  // bounds the work on a trending 8-hour series

double lag_product(Values values, double centre, std::size_t lag) {
  double sum = 0;
  for (std::size_t i = 0; i + lag < values.size(); ++i) {
    sum += (values[i] - centre) * (values[i + lag] - centre);
  }
  return sum;
}

std::uint64_t rotate_left(std::uint64_t value, int by) {
  return (value << by) | (value >> (64 - by));
}

/// Robust sd of the differences at `lag`; their plain sd where more than half of them are equal.
double difference_sd(Values values, std::size_t lag) {
  std::vector<double> differences;
  differences.reserve(values.size());
  for (std::size_t i = lag; i < values.size(); ++i) {
    differences.push_back(values[i] - values[i - lag]);
  }
  const double robust = robust_sd(differences).value_or(0);
  if (robust > 0) return robust;
  return moments(differences).standard_deviation().value_or(0);
}

struct Noise {
  double variance = 0;   // of one record around its level
  double inflation = 1;  // of the variance of a mean, by autocorrelation
};

/// Variance and AR(1) coefficient from differences, which a few level shifts hardly touch:
/// var(x_t - x_t-1) = 2 v (1 - phi), var(x_t - x_t-2) = 2 v (1 - phi^2).
Noise noise_of(Values values) {
  const double one = difference_sd(values, 1);
  const double two = difference_sd(values, 2);
  if (!(one > 0)) return {1e-12, 1};
  const double phi = std::clamp(two * two / (one * one) - 1, 0.0, 0.95);
  return {one * one / (2 * (1 - phi)), (1 + phi) / (1 - phi)};
}

/// Best split of [from, to): its gain in squared error, and where.
struct Split {
  double gain = 0;
  std::size_t index = 0;
};
Split best_split(const std::vector<double>& sums, std::size_t from, std::size_t to,
                 std::size_t min_segment) {
  Split best;
  const auto n = static_cast<double>(to - from);
  const double total = sums[to] - sums[from];
  for (std::size_t i = from + min_segment; i + min_segment <= to; ++i) {
    const auto left = static_cast<double>(i - from);
    const double sum_left = sums[i] - sums[from];
    const double shift = sum_left / left - (total - sum_left) / (n - left);
    const double gain = left * (n - left) / n * shift * shift;
    if (gain > best.gain) best = {gain, i};
  }
  return best;
}

std::vector<double> prefix_sums(const std::vector<double>& values) {
  std::vector<double> sums(values.size() + 1, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) sums[i + 1] = sums[i] + values[i];
  return sums;
}

std::vector<double> winsorised(Values values, double half_width) {
  std::vector<double> level = running_median(values, 21);
  for (std::size_t i = 0; i < values.size(); ++i) {
    level[i] += std::clamp(values[i] - level[i], -half_width, half_width);
  }
  return level;
}

double segment_median(Values values, const std::vector<std::size_t>& edges, std::size_t segment) {
  return *median(values.subspan(edges[segment], edges[segment + 1] - edges[segment]));
}

}  // namespace

std::optional<double> autocorrelation(Values values, std::size_t lag) {
  if (values.size() < 2 || lag >= values.size()) return std::nullopt;
  const double centre = *mean(values);
  const double own = lag_product(values, centre, 0);
  if (!(own > 0)) return std::nullopt;
  return lag_product(values, centre, lag) / own;
}

EffectiveSize effective_sample_size(Values values) {
  const auto n = static_cast<double>(values.size());
  EffectiveSize result{n, 0, 0};
  if (values.size() < 4) return result;
  const double centre = *mean(values);
  const double own = lag_product(values, centre, 0);
  // Rounding alone is no variance.
  if (!(own > 1e-24 * n * (1 + centre * centre))) return result;
  result.lag1 = lag_product(values, centre, 1) / own;
  double sum = 0;
  const std::size_t most = std::min(values.size() / 2, kMostLags);
  for (std::size_t lag = 0; lag + 1 < most; lag += 2) {
    const double pair =
        (lag_product(values, centre, lag) + lag_product(values, centre, lag + 1)) / own;
    if (pair <= 0) break;
    sum += pair;
    result.lags = lag + 1;
  }
  result.ess = std::clamp(n / std::max(2 * sum - 1, 1.0), 1.0, n);
  return result;
}

Random::Random(std::uint64_t seed) {
  for (std::uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15;
    std::uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    word = z ^ (z >> 31);
  }
}

std::uint64_t Random::next() {
  const std::uint64_t result = rotate_left(state_[1] * 5, 7) * 9;
  const std::uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = rotate_left(state_[3], 45);
  return result;
}

double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}

std::size_t Random::below(std::size_t bound) {
  const std::uint64_t limit = bound == 0 ? 1 : bound;
  const std::uint64_t unfair = (0 - limit) % limit;  // values below it would favour small answers
  std::uint64_t drawn = next();
  while (drawn < unfair) drawn = next();
  return static_cast<std::size_t>(drawn % limit);
}

double Random::normal() {
  return normal_quantile((static_cast<double>(next() >> 12) + 0.5) * 0x1.0p-52);
}

std::optional<Resampled> block_bootstrap(Values values, std::size_t block, int replicates,
                                         std::uint64_t seed,
                                         const std::function<double(Values)>& statistic) {
  const std::size_t n = values.size();
  if (block == 0 || n < 2 * block || replicates < 2) return std::nullopt;
  Random random(seed);
  std::vector<double> sample(n);
  std::vector<double> found;
  found.reserve(static_cast<std::size_t>(replicates));
  for (int r = 0; r < replicates; ++r) {
    for (std::size_t filled = 0; filled < n; filled += block) {
      const std::size_t start = random.below(n - block + 1);
      const std::size_t length = std::min(block, n - filled);
      std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(start), length,
                  sample.begin() + static_cast<std::ptrdiff_t>(filled));
    }
    found.push_back(statistic(sample));
  }
  return Resampled{statistic(values), moments(found).standard_deviation().value_or(0),
                   *quantile(found, 0.025), *quantile(found, 0.975)};
}

std::vector<double> running_median(Values values, std::size_t width) {
  const std::size_t half = width / 2;
  std::vector<double> result(values.size());
  std::vector<double> window;  // sorted
  const auto insert = [&](double value) {
    window.insert(std::upper_bound(window.begin(), window.end(), value), value);
  };
  for (std::size_t i = 0; i < std::min(half, values.size()); ++i) insert(values[i]);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i + half < values.size()) insert(values[i + half]);
    if (i > half) {
      window.erase(std::lower_bound(window.begin(), window.end(), values[i - half - 1]));
    }
    const std::size_t m = window.size() / 2;
    result[i] = window.size() % 2 == 1 ? window[m] : (window[m - 1] + window[m]) / 2;
  }
  return result;
}

std::vector<ChangePoint> change_points(Values values, const ChangePointOptions& options) {
  const std::size_t n = values.size();
  const std::size_t least = std::max<std::size_t>(options.min_segment, 1);
  if (n < 2 * least) return {};
  const double rough = difference_sd(values, 1) / std::sqrt(2.0);
  const std::vector<double> clipped = winsorised(values, 4 * rough + 1e-9);
  const Noise noise = noise_of(clipped);
  const double needed =
      options.penalty_factor * std::log(static_cast<double>(n)) * noise.variance * noise.inflation;
  const std::vector<double> sums = prefix_sums(clipped);

  std::vector<std::size_t> edges{0, n};
  std::vector<std::pair<std::size_t, std::size_t>> open{{0, n}};
  while (!open.empty()) {
    const auto [from, to] = open.back();
    open.pop_back();
    if (to - from < 2 * least) continue;
    const Split split = best_split(sums, from, to, least);
    if (split.gain <= needed) continue;
    edges.push_back(split.index);
    open.emplace_back(from, split.index);
    open.emplace_back(split.index, to);
  }
  std::sort(edges.begin(), edges.end());

  // Each edge again between its final neighbours, then the smallest shift out until all are large
  // enough to matter.
  for (std::size_t e = 1; e + 1 < edges.size(); ++e) {
    const Split split = best_split(sums, edges[e - 1], edges[e + 1], least);
    if (split.index != 0) edges[e] = split.index;
  }
  while (edges.size() > 2) {
    std::size_t smallest = 0;
    double shift = options.min_shift;
    for (std::size_t e = 1; e + 1 < edges.size(); ++e) {
      const double here =
          std::fabs(segment_median(values, edges, e) - segment_median(values, edges, e - 1));
      if (here < shift) {
        shift = here;
        smallest = e;
      }
    }
    if (smallest == 0) break;
    edges.erase(edges.begin() + static_cast<std::ptrdiff_t>(smallest));
  }

  std::vector<ChangePoint> found;
  for (std::size_t e = 1; e + 1 < edges.size(); ++e) {
    found.push_back(
        {edges[e], segment_median(values, edges, e - 1), segment_median(values, edges, e)});
  }
  return found;
}

}  // namespace rigwise::stats
