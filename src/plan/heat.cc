#include <algorithm>
#include <cmath>

#include "rigwise/plan.h"

namespace rigwise {

namespace {

// Fans are steered to hold a card between about 65 °C and its limit of 83 to 87 °C, so a plateau is
// known before the first reading, if loosely; the readings move that. First-order rise:
// T(t) = S − (S − T0)·e^(−t/τ). Readings miss that curve by more than their rounding, and together
// (fans step, the heat sink warms behind the chip): kMisfitC stands for both.
constexpr double kPlateauC = 76, kPlateauSdC = 5;
constexpr double kTauSamples = 13, kTauSdLog = 0.35;
constexpr double kMisfitC = 2.3;
constexpr double kHottestC = 92;
constexpr double kLeastChance = 0.05;  // below it no time is told

/// One curve that the readings allow: T(k) = plateau + start·e^(−k/τ), k in readings.
struct Curve {
  double plateau_c, start_c, tau, weight;
};

/// Curves with their weights, which sum to 1, the lowest plateau first.
Result<std::vector<Curve>> curves_through(const std::vector<double>& samples_c, double& last) {
  std::vector<double> samples;
  for (const double s : samples_c) {
    if (std::isfinite(s) && s > -40 && s < 130) samples.push_back(s);
  }
  if (samples.size() > 600) samples.erase(samples.begin(), samples.end() - 600);
  if (samples.size() < 3) {
    return Error{Errc::unavailable, "settled temperature: fewer than three readings under load",
                 "record a few minutes of the load: rigwise run -- CMD"};
  }
  const std::size_t n = samples.size();
  last = (samples[n - 1] + samples[n - 2] + samples[n - 3]) / 3;
  std::vector<Curve> grid;
  double best = -1e300;
  for (double tau = 3; tau < 400; tau *= 1.15) {
    std::vector<double> decay(n);
    double decay_sq = 0;
    for (std::size_t i = 0; i < n; ++i) {
      decay[i] = std::exp(-static_cast<double>(i) / tau);
      decay_sq += decay[i] * decay[i];
    }
    for (double s = std::floor(2 * last) / 2 - 1; s <= std::max(kHottestC, last + 1); s += 0.5) {
      double dot = 0;
      for (std::size_t i = 0; i < n; ++i) dot += (samples[i] - s) * decay[i];
      const double start = dot / decay_sq;
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double r = samples[i] - s - start * decay[i];
        sum += r * r;
      }
      const double zs = (s - kPlateauC) / kPlateauSdC;
      const double zt = std::log(tau / kTauSamples) / kTauSdLog;
      const double log_weight = -0.5 * (sum / (kMisfitC * kMisfitC) + zs * zs + zt * zt);
      best = std::max(best, log_weight);
      grid.push_back({s, start, tau, log_weight});
    }
  }
  for (auto& curve : grid) curve.weight = std::exp(curve.weight - best);
  std::sort(grid.begin(), grid.end(),
            [](const Curve& a, const Curve& b) { return a.plateau_c < b.plateau_c; });
  return grid;
}

}  // namespace

Result<Interval> settled_temperature(const std::vector<double>& samples_c) {
  double last = 0;
  RW_TRY(const std::vector<Curve> grid, curves_through(samples_c, last));
  double total = 0, mean = 0;
  for (const auto& curve : grid) {
    total += curve.weight;
    mean += curve.weight * curve.plateau_c;
  }
  mean /= total;
  const auto quantile = [&](double share) {
    double sum = 0;
    for (const auto& curve : grid) {
      sum += curve.weight;
      if (sum >= share * total) return curve.plateau_c;
    }
    return grid.back().plateau_c;
  };
  return Interval{mean, std::min(quantile(0.1), mean - 0.5), std::max(quantile(0.9), mean + 0.5)};
}

Result<ThrottleForecast> time_to_limit(const std::vector<double>& samples_c, double interval_s,
                                       double limit_c, double more_c) {
  if (!(interval_s > 0) || !std::isfinite(interval_s)) {
    return Error{Errc::usage, "time to a temperature: readings without their spacing", ""};
  }
  double last = 0;
  RW_TRY(const std::vector<Curve> grid, curves_through(samples_c, last));
  std::vector<std::pair<double, double>> times;  // seconds, weight
  double total = 0, reached = 0;
  for (const auto& curve : grid) {
    total += curve.weight;
    const double plateau = curve.plateau_c + more_c;
    if (plateau <= limit_c) continue;
    const double begin = curve.plateau_c + curve.start_c;
    const double after =
        begin >= limit_c ? 0 : curve.tau * std::log((plateau - begin) / (plateau - limit_c));
    times.emplace_back(after * interval_s, curve.weight);
    reached += curve.weight;
  }
  ThrottleForecast forecast;
  forecast.chance_frac = reached / total;
  if (forecast.chance_frac < kLeastChance) return forecast;
  std::sort(times.begin(), times.end());
  const auto quantile = [&](double share) {
    double sum = 0;
    for (const auto& [seconds, weight] : times) {
      sum += weight;
      if (sum >= share * reached) return seconds;
    }
    return times.back().first;
  };
  forecast.after_s = Interval{quantile(0.5), quantile(0.1), quantile(0.9)};
  return forecast;
}

}  // namespace rigwise
