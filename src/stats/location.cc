// Location, spread and what is out of line.
#include <algorithm>
#include <cmath>

#include "rigwise/stats.h"

namespace rigwise::stats {

namespace {

constexpr double kMadToSd = 1.4826;  // 1 / normal_quantile(0.75)

double median_in_place(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace

std::optional<double> mean(Values values) {
  if (values.empty()) return std::nullopt;
  return moments(values).mean();
}

std::optional<double> median(Values values) {
  if (values.empty()) return std::nullopt;
  std::vector<double> copy(values.begin(), values.end());
  return median_in_place(copy);
}

std::optional<double> quantile(Values values, double p) {
  if (values.empty()) return std::nullopt;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double place = std::clamp(p, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::optional<double> robust_sd(Values values) {
  if (values.size() < 2) return std::nullopt;
  std::vector<double> copy(values.begin(), values.end());
  const double middle = median_in_place(copy);
  for (double& value : copy) value = std::fabs(value - middle);
  return kMadToSd * median_in_place(copy);
}

void Moments::add(double value) {
  ++count_;
  const double delta = value - mean_;
  mean_ += delta / static_cast<double>(count_);
  squares_ += delta * (value - mean_);
}

std::optional<double> Moments::variance() const {
  if (count_ < 2) return std::nullopt;
  return squares_ / static_cast<double>(count_ - 1);
}

std::optional<double> Moments::standard_deviation() const {
  if (count_ < 2) return std::nullopt;
  return std::sqrt(squares_ / static_cast<double>(count_ - 1));
}

Moments moments(Values values) {
  Moments result;
  for (const double value : values) result.add(value);
  return result;
}

Warmup detect_warm_up(Values values, std::size_t least, std::size_t most_share) {
  const std::size_t n = values.size();
  const std::size_t most = n / most_share;
  if (n < 2 * least || most < least) return {std::min(least, n), n >= 2 * least};
  const Values half = values.subspan(n / 2);
  const double m = *median(half);
  const double s = robust_sd(half).value_or(0);
  const std::size_t window = std::max<std::size_t>(5, n / 20);
  // Printed values repeat: with s = 0 only rounding of the last digit is left to forgive.
  const double least_sd = std::max(s, 1e-9 + 1e-6 * std::fabs(m));
  const double near = 2.5 * least_sd / std::sqrt(static_cast<double>(window));
  for (std::size_t d = least; d <= most; ++d) {
    if (std::fabs(values[d] - m) > 4 * least_sd) continue;
    const auto next = median(values.subspan(d, std::min(window, n - d)));
    if (next && std::fabs(*next - m) <= near) return {d, true};
  }
  return {most, false};
}

std::vector<std::size_t> outliers(Values values, double limit, double least_sd) {
  std::vector<std::size_t> found;
  const auto m = median(values);
  if (!m) return found;
  const double s = std::max(robust_sd(values).value_or(0), least_sd);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::fabs(values[i] - *m) > limit * s) found.push_back(i);
  }
  return found;
}

}  // namespace rigwise::stats
