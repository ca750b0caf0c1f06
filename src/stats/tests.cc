// Estimates of a difference, tests, and how many runs a difference needs.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "rigwise/stats.h"

namespace rigwise::stats {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::uint64_t kMostSplits = 20000;

/// C(n, k), or something above kMostSplits.
std::uint64_t splits_of(std::size_t n, std::size_t k) {
  std::uint64_t count = 1;
  for (std::size_t i = 1; i <= std::min(k, n - k); ++i) {
    count = count * (n - i + 1) / i;
    if (count > kMostSplits) return count;
  }
  return count;
}

struct Splits {
  double observed = 0;  // |mean a - mean b|
  std::uint64_t as_extreme = 0, total = 0;
  void count(double sum_a, double sum, std::size_t na, std::size_t nb) {
    const double difference =
        std::fabs(sum_a / static_cast<double>(na) - (sum - sum_a) / static_cast<double>(nb));
    ++total;
    if (difference >= observed * (1 - 1e-12)) ++as_extreme;
  }
};

void every_split(const std::vector<double>& all, std::size_t na, double sum, Splits& splits) {
  std::vector<std::size_t> chosen(na);
  std::iota(chosen.begin(), chosen.end(), std::size_t{0});
  const std::size_t n = all.size();
  while (true) {
    double sum_a = 0;
    for (const std::size_t i : chosen) sum_a += all[i];
    splits.count(sum_a, sum, na, n - na);
    std::size_t place = na;
    while (place > 0 && chosen[place - 1] == n - na + place - 1) --place;
    if (place == 0) return;
    ++chosen[place - 1];
    for (std::size_t i = place; i < na; ++i) chosen[i] = chosen[i - 1] + 1;
  }
}

}  // namespace

double Estimate::half_width(double level) const {
  return student_t_quantile(0.5 + level / 2, df) * standard_error;
}

double Estimate::p_two_sided() const {
  if (!(standard_error > 0)) return value == 0 ? 1 : 0;
  return 2 * student_t_cdf(-std::fabs(value) / standard_error, df);
}

Estimate welch(double difference, double var_mean_a, double df_a, double var_mean_b, double df_b) {
  const double variance = var_mean_a + var_mean_b;
  if (!(variance > 0)) return {difference, 0, std::min(df_a, df_b)};
  const double spent = var_mean_a * var_mean_a / df_a + var_mean_b * var_mean_b / df_b;
  return {difference, std::sqrt(variance), spent > 0 ? variance * variance / spent : kInfinity};
}

std::optional<Estimate> welch(Values a, Values b) {
  if (a.size() < 2 || b.size() < 2) return std::nullopt;
  const Moments ma = moments(a), mb = moments(b);
  const auto na = static_cast<double>(a.size()), nb = static_cast<double>(b.size());
  return welch(mb.mean() - ma.mean(), *ma.variance() / na, na - 1, *mb.variance() / nb, nb - 1);
}

std::optional<Estimate> pooled(Values a, Values b) {
  if (a.size() < 2 || b.size() < 2) return std::nullopt;
  const Moments ma = moments(a), mb = moments(b);
  const auto na = static_cast<double>(a.size()), nb = static_cast<double>(b.size());
  const double df = na + nb - 2;
  const double variance = ((na - 1) * *ma.variance() + (nb - 1) * *mb.variance()) / df;
  return Estimate{mb.mean() - ma.mean(), std::sqrt(variance * (1 / na + 1 / nb)), df};
}

bool equivalent(const Estimate& estimate, double margin) {
  return std::fabs(estimate.value) + estimate.half_width(0.90) < margin;
}

std::optional<double> permutation_p(Values a, Values b, std::uint64_t seed) {
  if (a.size() < 2 || b.size() < 2) return std::nullopt;
  std::vector<double> all(a.begin(), a.end());
  all.insert(all.end(), b.begin(), b.end());
  const double sum = std::accumulate(all.begin(), all.end(), 0.0);
  const std::size_t na = a.size();
  Splits splits{std::fabs(*mean(a) - *mean(b)), 0, 0};
  if (splits_of(all.size(), na) <= kMostSplits) {
    every_split(all, na, sum, splits);
    return static_cast<double>(splits.as_extreme) / static_cast<double>(splits.total);
  }
  Random random(seed);
  for (std::uint64_t r = 0; r < kMostSplits; ++r) {
    double sum_a = 0;
    for (std::size_t i = 0; i < na; ++i) {
      std::swap(all[i], all[i + random.below(all.size() - i)]);
      sum_a += all[i];
    }
    splits.count(sum_a, sum, na, all.size() - na);
  }
  // The split that was seen counts too (Phipson and Smyth 2010), so p is never 0.
  return static_cast<double>(splits.as_extreme + 1) / static_cast<double>(splits.total + 1);
}

std::vector<double> holm(Values p_values) {
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t i, std::size_t j) { return p_values[i] < p_values[j]; });
  std::vector<double> adjusted(p_values.size());
  double so_far = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const double scaled = p_values[order[rank]] * static_cast<double>(order.size() - rank);
    so_far = std::max(so_far, std::min(1.0, scaled));
    adjusted[order[rank]] = so_far;
  }
  return adjusted;
}

double power_of(int runs, double sd, double difference) {
  if (runs < 2) return 0;
  if (!(sd > 0)) return difference == 0 ? 0 : 1;
  const double df = 2.0 * runs - 2;
  const double ncp = std::fabs(difference) / (sd * std::sqrt(2.0 / runs));
  const double critical = student_t_quantile(0.975, df);
  return 1 - noncentral_t_cdf(critical, df, ncp) + noncentral_t_cdf(-critical, df, ncp);
}

std::optional<int> runs_needed(double sd, double difference, double power, int most) {
  if (difference == 0) return std::nullopt;
  for (int runs = 3; runs <= most; ++runs) {
    if (power_of(runs, sd, difference) >= power) return runs;
  }
  return std::nullopt;
}

std::optional<int> runs_to_show_equal(double sd, double difference, double margin, double power,
                                      int most) {
  const double room = margin - std::fabs(difference);
  if (room <= 0) return std::nullopt;
  for (int runs = 3; runs <= most; ++runs) {
    const double df = 2.0 * runs - 2;
    const double se = sd * std::sqrt(2.0 / runs);
    const double critical = student_t_quantile(0.95, df);
    if (!(se > 0)) return runs;
    // Both one-sided tests must reject; with the difference off centre the near side decides.
    const double near = room / se, far = (margin + std::fabs(difference)) / se;
    const double chance =
        1 - noncentral_t_cdf(critical, df, near) - noncentral_t_cdf(critical, df, far);
    if (chance >= power) return runs;
  }
  return std::nullopt;
}

std::optional<Line> least_squares(Values x, Values y) {
  if (x.size() < 2 || x.size() != y.size()) return std::nullopt;
  const auto n = static_cast<double>(x.size());
  const double mean_x = *mean(x), mean_y = *mean(y);
  double xx = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
  }
  if (!(xx > 0)) return std::nullopt;
  Line line;
  line.slope = xy / xx;
  line.intercept = mean_y - line.slope * mean_x;
  if (x.size() > 2) {
    double residual = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double miss = y[i] - line.intercept - line.slope * x[i];
      residual += miss * miss;
    }
    line.residual_sd = std::sqrt(residual / (n - 2));
    line.slope_se = line.residual_sd / std::sqrt(xx);
  }
  return line;
}

std::optional<Regression> regress(const std::vector<std::vector<double>>& columns, Values y) {
  const std::size_t k = columns.size(), n = y.size();
  if (k == 0 || k > 8 || n <= k) return std::nullopt;
  for (const auto& column : columns) {
    if (column.size() != n) return std::nullopt;
  }
  // [X'X | X'y | I], reduced with the largest pivot: k is at most 8 and callers centre columns.
  std::vector<std::vector<double>> m(k, std::vector<double>(2 * k + 1, 0.0));
  double scale = 0;
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t j = 0; j < k; ++j) {
      m[i][j] = std::inner_product(columns[i].begin(), columns[i].end(), columns[j].begin(), 0.0);
    }
    m[i][k] = std::inner_product(columns[i].begin(), columns[i].end(), y.begin(), 0.0);
    m[i][k + 1 + i] = 1;
    scale = std::max(scale, m[i][i]);
  }
  for (std::size_t i = 0; i < k; ++i) {
    std::size_t pivot = i;
    for (std::size_t r = i + 1; r < k; ++r) {
      if (std::fabs(m[r][i]) > std::fabs(m[pivot][i])) pivot = r;
    }
    if (!(std::fabs(m[pivot][i]) > 1e-12 * scale)) return std::nullopt;
    std::swap(m[i], m[pivot]);
    const double head = m[i][i];
    for (double& cell : m[i]) cell /= head;
    for (std::size_t r = 0; r < k; ++r) {
      if (r == i) continue;
      const double factor = m[r][i];
      for (std::size_t c = 0; c < m[r].size(); ++c) m[r][c] -= factor * m[i][c];
    }
  }
  Regression result;
  result.df = static_cast<double>(n - k);
  for (std::size_t i = 0; i < k; ++i) {
    result.coefficients.push_back(m[i][k]);
    result.unscaled_variances.push_back(m[i][k + 1 + i]);
  }
  double residual = 0;
  for (std::size_t r = 0; r < n; ++r) {
    double miss = y[r];
    for (std::size_t i = 0; i < k; ++i) miss -= result.coefficients[i] * columns[i][r];
    residual += miss * miss;
  }
  result.residual_sd = std::sqrt(residual / result.df);
  for (const double variance : result.unscaled_variances) {
    result.standard_errors.push_back(result.residual_sd * std::sqrt(std::max(variance, 0.0)));
  }
  return result;
}

}  // namespace rigwise::stats
