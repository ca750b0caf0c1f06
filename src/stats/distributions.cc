// Normal, Student t, noncentral t and chi-square.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "rigwise/stats.h"

namespace rigwise::stats {

namespace {

constexpr double kNormalAbove = 1e7;  // degrees of freedom beyond which t is the normal

double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);  // std::lgamma writes a global
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  constexpr double kEnough = 1e-15;
  const auto away = [](double value) { return std::fabs(value) < kTiny ? kTiny : value; };
  double c = 1;
  double d = 1 / away(1 - (a + b) * x / (a + 1));
  double h = d;
  for (int m = 1; m <= 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away(1 + even * d);
    c = away(1 + even / c);
    h *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away(1 + odd * d);
    c = away(1 + odd / c);
    const double step = d * c;
    h *= step;
    if (std::fabs(step - 1) < kEnough) break;
  }
  return h;
}

double polynomial(double x, std::initializer_list<double> highest_first) {
  double value = 0;
  for (const double coefficient : highest_first) value = value * x + coefficient;
  return value;
}

}  // namespace

double normal_cdf(double z) {
  return 0.5 * std::erfc(-z / std::numbers::sqrt2);
}

double normal_quantile(double p) {
  if (!(p > 0)) return -std::numeric_limits<double>::infinity();
  if (!(p < 1)) return std::numeric_limits<double>::infinity();
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q *
           polynomial(r, {2509.0809287301226727, 33430.575583588128105, 67265.770927008700853,
                          45921.953931549871457, 13731.693765509461125, 1971.5909503065514427,
                          133.14166789178437745, 3.387132872796366608}) /
           polynomial(r, {5226.495278852545925, 28729.085735721942674, 39307.89580009271061,
                          21213.794301586595867, 5394.1960214247511077, 687.1870074920579083,
                          42.313330701600911252, 1.0});
  }
  double r = std::sqrt(-std::log(q < 0 ? p : 1 - p));
  double value = 0;
  if (r <= 5) {
    r -= 1.6;
    value = polynomial(r, {7.7454501427834140764e-4, 0.0227238449892691845833,
                           0.24178072517745061177, 1.27045825245236838258, 3.64784832476320460504,
                           5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734}) /
            polynomial(r, {1.05075007164441684324e-9, 5.475938084995344946e-4,
                           0.0151986665636164571966, 0.14810397642748007459, 0.68976733498510000455,
                           1.6763848301838038494, 2.05319162663775882187, 1.0});
  } else {
    r -= 5;
    value =
        polynomial(r, {2.01033439929228813265e-7, 2.71155556874348757815e-5,
                       0.0012426609473880784386, 0.026532189526576123093, 0.29656057182850489123,
                       1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772}) /
        polynomial(r, {2.04426310338993978564e-15, 1.4215117583164458887e-7,
                       1.8463183175100546818e-5, 7.868691311456132591e-4, 0.0148753612908506148525,
                       0.13692988092273580531, 0.59983220655588793769, 1.0});
  }
  return q < 0 ? -value : value;
}

double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front = std::exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * std::log(x) +
                                b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double student_t_cdf(double t, double df) {
  if (std::isnan(t)) return t;
  if (std::isinf(t)) return t > 0 ? 1 : 0;
  if (df > kNormalAbove) return normal_cdf(t);
  const double tail = 0.5 * incomplete_beta(df / 2, 0.5, df / (df + t * t));
  return t > 0 ? 1 - tail : tail;
}

double student_t_quantile(double p, double df) {
  if (df > kNormalAbove) return normal_quantile(p);
  if (p < 0.5) return -student_t_quantile(1 - p, df);
  if (!(p < 1)) return std::numeric_limits<double>::infinity();
  double low = 0, high = 2;
  while (student_t_cdf(high, df) < p && high < 1e300) high *= 2;
  // The cdf is smooth and monotonic: bisection to the last digits costs microseconds.
  for (int i = 0; i < 200 && high - low > 1e-14 * high; ++i) {
    const double middle = (low + high) / 2;
    (student_t_cdf(middle, df) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

double noncentral_t_cdf(double t, double df, double ncp) {
  if (t < 0) return 1 - noncentral_t_cdf(-t, df, -ncp);
  if (df > kNormalAbove || std::fabs(ncp) > 35) {
    // The series underflows for a large ncp; Abramowitz and Stegun 26.7.10 is exact enough there.
    const double s = 1 / (4 * df);
    return normal_cdf((t * (1 - s) - ncp) / std::sqrt(1 + t * t * 2 * s));
  }
  const double x = t * t / (t * t + df);
  const double half = ncp * ncp / 2;
  double p = std::exp(-half) / 2;
  double q = std::sqrt(2 / std::numbers::pi) * std::exp(-half) * ncp / 2;
  double sum = 0, weight = 0;
  for (int j = 0; j < 20000; ++j) {
    const double odd = incomplete_beta(j + 0.5, df / 2, x);
    const double even = incomplete_beta(j + 1.0, df / 2, x);
    sum += p * odd + q * even;
    weight += 2 * p;
    if (j > half && (1 - weight) * odd < 1e-12) break;
    p *= half / (j + 1);
    q *= half / (j + 1.5);
  }
  return std::clamp(sum + normal_cdf(-ncp), 0.0, 1.0);
}

double chi_square_quantile(double p, double df) {
  const double c = 2 / (9 * df);
  const double root = 1 - c + normal_quantile(p) * std::sqrt(c);
  return df * std::max(0.0, root * root * root);
}

}  // namespace rigwise::stats
