// Stats: pure numbers. No I/O, no state; resampling is seeded with a generator of our own, so the
// same input gives the same bytes on every machine.
//
// Threads: plain functions over values. Inputs must be finite (callers drop nan and inf first);
// a function that needs more values than it got answers with an empty optional, never with 0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace rigwise::stats {

using Values = std::span<const double>;

// ----------------------------------------------------------------------------------------------
// location and spread

std::optional<double> mean(Values values);

/// Middle value; mean of the two middle ones for an even count.
std::optional<double> median(Values values);

/// Quantile by linear interpolation of order statistics, type 7 of Hyndman and Fan 1996 (Am. Stat.
/// 50:4), as R and numpy do. `p` in 0..1.
std::optional<double> quantile(Values values, double p);

/// Median absolute deviation times 1.4826: estimates the standard deviation of normal data and
/// ignores up to half of the values being wild (Rousseeuw and Croux 1993, JASA 88:424).
std::optional<double> robust_sd(Values values);

/// Mean and variance in one pass without cancellation (Welford 1962, Technometrics 4:3).
class Moments {
 public:
  void add(double value);
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] double mean() const { return mean_; }    // 0 while empty
  [[nodiscard]] std::optional<double> variance() const;  // divides by n - 1; from n = 2
  [[nodiscard]] std::optional<double> standard_deviation() const;

 private:
  std::size_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};
Moments moments(Values values);

/// By how much the same training differs from one run to the next where nobody repeated it:
/// standard deviation of the step time over its mean, as docs/ledger.md uses it.
inline constexpr double kRunToRunFrac = 0.02;

// ----------------------------------------------------------------------------------------------
// distributions

double normal_cdf(double z);
double normal_quantile(double p);  // Wichura 1988, AS 241; 16 digits

/// Regularised incomplete beta function I_x(a, b), continued fraction (Lentz; Numerical
/// Recipes 6.4).
double incomplete_beta(double a, double b, double x);

/// Student's t with `df` > 0 (not only whole); above 1e7 the normal.
double student_t_cdf(double t, double df);
double student_t_quantile(double p, double df);

/// Noncentral t, P(T <= t) with noncentrality `ncp` (Lenth 1989, AS 243). For power.
double noncentral_t_cdf(double t, double df, double ncp);

/// Chi-square quantile by Wilson and Hilferty 1931: within 1 % for df >= 3 and p in 0.05..0.95.
double chi_square_quantile(double p, double df);

// ----------------------------------------------------------------------------------------------
// series whose neighbours depend on each other

/// Sample autocorrelation at `lag`, with the n divisor (Box and Jenkins). Empty for a constant
/// series.
std::optional<double> autocorrelation(Values values, std::size_t lag);

struct EffectiveSize {
  double ess = 0;        // at most n
  double lag1 = 0;       // first autocorrelation
  std::size_t lags = 0;  // how many lags were summed
};
/// n / (1 + 2 sum of autocorrelations), summed over pairs of lags until the first pair that is not
/// positive (initial positive sequence: Geyer 1992, Stat. Sci. 7:4). A constant series has ESS n.
EffectiveSize effective_sample_size(Values values);

/// xoshiro256** (Blackman and Vigna 2018) seeded by SplitMix64.
class Random {
 public:
  explicit Random(std::uint64_t seed);
  std::uint64_t next();
  double uniform();                      // [0, 1)
  std::size_t below(std::size_t bound);  // 0 .. bound - 1, without bias
  double normal();                       // by the quantile function: one draw, one value

 private:
  std::array<std::uint64_t, 4> state_{};
};

struct Resampled {
  double estimate = 0;  // of the series itself
  double standard_error = 0;
  double low = 0, high = 0;  // percentile interval, 95 %
};
/// Moving-block bootstrap (Künsch 1989, Ann. Stat. 17:3): blocks of `block` neighbours drawn with
/// replacement. Empty where the series is shorter than two blocks.
std::optional<Resampled> block_bootstrap(Values values, std::size_t block, int replicates,
                                         std::uint64_t seed,
                                         const std::function<double(Values)>& statistic);

struct Warmup {
  std::size_t drop = 0;  // records to leave out at the start
  bool steady = true;    // false: the limit was reached without a steady stretch
};
/// Smallest start at which the series has reached the level of its second half: |x_d - m| <= 4 s
/// and the median of the next w = max(5, n / 20) within 2.5 s / sqrt(w) of m, where m and s are
/// median and robust sd of the second half; between `least` and n / `most_share` records.
Warmup detect_warm_up(Values values, std::size_t least = 3, std::size_t most_share = 3);

/// Positions of values more than `limit` robust sds from the median. `least_sd` keeps a series of
/// equal printed values from calling its own rounding an event.
std::vector<std::size_t> outliers(Values values, double limit = 6, double least_sd = 0);

struct ChangePointOptions {
  double penalty_factor = 3;  // times log n
  std::size_t min_segment = 20;
  double min_shift = 0.03;  // absolute; of log values, 0.03 is 3 %
};
struct ChangePoint {
  std::size_t index = 0;         // first record of the new level
  double before = 0, after = 0;  // medians of the neighbouring segments
};
/// Shifts of level by binary segmentation (Scott and Knott 1974) on a series winsorised around its
/// running median, with the noise scale and an AR(1) correction estimated from differences (Chakar
/// et al. 2017, Bernoulli 23:2), so that a level shift does not pass for noise nor autocorrelation
/// for a level shift.
std::vector<ChangePoint> change_points(Values values, const ChangePointOptions& options = {});

/// Median of a sliding window of `width` (made odd), shortened at the ends.
std::vector<double> running_median(Values values, std::size_t width);

// ----------------------------------------------------------------------------------------------
// estimates and tests

struct Estimate {
  double value = 0;
  double standard_error = 0;
  double df = 0;                                        // infinity: normal
  [[nodiscard]] double half_width(double level) const;  // level 0.95, 0.90 …
  [[nodiscard]] double p_two_sided() const;             // of "value is 0"
};

/// mean(b) - mean(a) with unequal variances (Welch 1947, Biometrika 34). Empty below 2 a side.
std::optional<Estimate> welch(Values a, Values b);
/// The same from variances of the two means and their degrees of freedom (Satterthwaite 1946).
Estimate welch(double difference, double var_mean_a, double df_a, double var_mean_b, double df_b);
/// mean(b) - mean(a), one variance for both sides (Student).
std::optional<Estimate> pooled(Values a, Values b);

/// Two one-sided tests (Schuirmann 1987): is the value within ± margin at 5 %? The same as the 90 %
/// interval lying inside.
bool equivalent(const Estimate& estimate, double margin);

/// Two-sided permutation p of the difference of means: all splits while there are at most 20,000,
/// else 20,000 random ones. Empty below 2 a side.
std::optional<double> permutation_p(Values a, Values b, std::uint64_t seed = 1);

/// Holm 1979 adjusted p-values, in the order given.
std::vector<double> holm(Values p_values);

/// Power of a two-sided pooled t-test at 5 % with `runs` a side for a true difference, same units.
double power_of(int runs, double sd, double difference);
/// Smallest count a side (at least 3) with that power; empty above `most`.
std::optional<int> runs_needed(double sd, double difference, double power = 0.9, int most = 200);
/// The same for showing |difference| < margin by TOST when the true difference is `difference`.
std::optional<int> runs_to_show_equal(double sd, double difference, double margin,
                                      double power = 0.9, int most = 200);

struct Line {
  double intercept = 0, slope = 0;
  double slope_se = 0;     // 0 where n = 2
  double residual_sd = 0;  // 0 where n = 2
};
/// Ordinary least squares. Empty below 2 points or where all x are equal.
std::optional<Line> least_squares(Values x, Values y);

struct Regression {
  std::vector<double> coefficients = {};
  std::vector<double> standard_errors = {};
  double residual_sd = 0, df = 0;
  std::vector<double> unscaled_variances = {};  // diagonal of (X'X)^-1
};
/// Least squares on several columns (no intercept added), by the normal equations on at most 8
/// columns. Empty where a column depends on others or no degree of freedom is left.
std::optional<Regression> regress(const std::vector<std::vector<double>>& columns, Values y);

}  // namespace rigwise::stats
