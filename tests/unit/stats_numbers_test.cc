// Statistics against published figures; each test names its source.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "rigwise/stats.h"

namespace {

using namespace rigwise::stats;

TEST(StatsLocation, QuantilesAreType7OfHyndmanAndFan) {
  const std::vector<double> values{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  EXPECT_DOUBLE_EQ(*quantile(values, 0.25), 3.25);  // R: quantile(1:10, .25)
  EXPECT_DOUBLE_EQ(*quantile(values, 0.9), 9.1);
  EXPECT_DOUBLE_EQ(*median(values), 5.5);
  EXPECT_FALSE(quantile({}, 0.5).has_value());
  EXPECT_FALSE(median({}).has_value());
}

TEST(StatsLocation, RobustSdIgnoresWildValues) {
  // R: mad(c(1:9, 1e6)) = 3.7065
  const std::vector<double> values{1, 2, 3, 4, 5, 6, 7, 8, 9, 1e6};
  EXPECT_NEAR(*robust_sd(values), 3.7065, 1e-9);
}

TEST(StatsLocation, MomentsKeepDigits) {
  // NIST StRD NumAcc3: 1001 values, mean 1000000.2, sd 0.1, lag-1 autocorrelation -0.999, all
  // exact.
  std::vector<double> values{1000000.2};
  for (int i = 0; i < 500; ++i) {
    values.push_back(1000000.1);
    values.push_back(1000000.3);
  }
  EXPECT_NEAR(moments(values).mean(), 1000000.2, 1e-9);
  EXPECT_NEAR(*moments(values).standard_deviation(), 0.1, 1e-9);
  EXPECT_NEAR(*autocorrelation(values, 1), -0.999, 1e-6);
}

TEST(StatsLocation, OutliersAndConstantSeries) {
  std::vector<double> values(40, 1.0);
  EXPECT_TRUE(outliers(values).empty());
  values[7] = 5;
  EXPECT_EQ(outliers(values, 6, 0.01), std::vector<std::size_t>{7});
}

TEST(StatsDistributions, NormalAgainstTables) {
  EXPECT_NEAR(normal_cdf(1.959963984540054), 0.975, 1e-12);
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-12);
  // Wichura 1988, AS 241: the test values of the paper.
  EXPECT_NEAR(normal_quantile(0.25), -0.6744897501960817, 1e-12);
  EXPECT_NEAR(normal_quantile(0.001), -3.090232306167814, 1e-12);
  EXPECT_NEAR(normal_quantile(1e-20), -9.262340089798408, 1e-11);
}

TEST(StatsDistributions, StudentTAgainstTables) {
  // Fisher and Yates 1963, table III.
  EXPECT_NEAR(student_t_quantile(0.975, 1), 12.706, 5e-4);
  EXPECT_NEAR(student_t_quantile(0.975, 4), 2.776, 5e-4);
  EXPECT_NEAR(student_t_quantile(0.95, 5), 2.015, 5e-4);
  EXPECT_NEAR(student_t_quantile(0.995, 10), 3.169, 5e-4);
  EXPECT_NEAR(student_t_quantile(0.975, 120), 1.980, 5e-4);
  EXPECT_NEAR(student_t_cdf(2.228138852, 10), 0.975, 1e-9);
  EXPECT_NEAR(student_t_quantile(0.025, 7), -student_t_quantile(0.975, 7), 1e-12);
  EXPECT_NEAR(student_t_quantile(0.975, 1e9), 1.959963984540054, 1e-9);
}

TEST(StatsDistributions, IncompleteBetaClosedForms) {
  EXPECT_NEAR(incomplete_beta(1, 1, 0.3), 0.3, 1e-14);
  EXPECT_NEAR(incomplete_beta(2, 3, 0.5), 11.0 / 16, 1e-14);  // sum of binomial terms
  EXPECT_NEAR(incomplete_beta(0.5, 0.5, 0.5), 0.5, 1e-14);
}

TEST(StatsDistributions, ChiSquareAgainstTables) {
  EXPECT_NEAR(chi_square_quantile(0.95, 10), 18.307, 0.03);
  EXPECT_NEAR(chi_square_quantile(0.20, 4), 1.649, 0.02);
}

TEST(StatsPower, AgainstRAndCohen) {
  // R documentation of power.t.test: n = 20, delta = 1, sd = 1 gives 0.8689528.
  EXPECT_NEAR(power_of(20, 1, 1), 0.8689528, 1e-6);
  // Cohen 1988, table 2.4.1: 26 a group for d = 0.80 and 64 for d = 0.50 at power 0.80.
  EXPECT_EQ(runs_needed(1, 0.8, 0.8), 26);
  EXPECT_EQ(runs_needed(1, 0.5, 0.8), 64);
  EXPECT_FALSE(runs_needed(1, 0.01).has_value());
  EXPECT_FALSE(runs_needed(1, 0).has_value());
}

TEST(StatsTests, WelchOnStudentsSleepData) {
  // Student 1908; R: t.test(extra ~ group, sleep): t = -1.8608, df = 17.776, p = 0.07939,
  // 95 % interval -3.3654832 to 0.2054832 (of group 1 - group 2).
  const std::vector<double> one{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
  const std::vector<double> two{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};
  const Estimate estimate = *welch(one, two);
  EXPECT_NEAR(estimate.value, 1.58, 1e-12);
  EXPECT_NEAR(estimate.df, 17.776, 5e-4);
  EXPECT_NEAR(estimate.value / estimate.standard_error, 1.8608, 5e-5);
  EXPECT_NEAR(estimate.p_two_sided(), 0.07939, 5e-6);
  EXPECT_NEAR(estimate.value - estimate.half_width(0.95), -0.2054832, 1e-7);
  EXPECT_NEAR(estimate.value + estimate.half_width(0.95), 3.3654832, 1e-7);
  const Estimate same_variance = *pooled(one, two);  // R: var.equal = TRUE, p = 0.07919
  EXPECT_NEAR(same_variance.p_two_sided(), 0.07919, 5e-6);
  EXPECT_DOUBLE_EQ(same_variance.df, 18);
}

TEST(StatsTests, EquivalenceIsTheNinetyPercentInterval) {
  const Estimate estimate{0.01, 0.005, 10};  // t(0.95, 10) = 1.812
  EXPECT_TRUE(equivalent(estimate, 0.02));
  EXPECT_FALSE(equivalent(estimate, 0.019));
  EXPECT_FALSE(equivalent({-0.03, 0.001, 50}, 0.03));
}

TEST(StatsTests, PermutationSmallestPossible) {
  // reference: 3 and 3 cannot get below 0.10, 4 and 4 reach 0.029.
  EXPECT_DOUBLE_EQ(*permutation_p(std::vector<double>{1, 2, 3}, std::vector<double>{7, 8, 9}), 0.1);
  EXPECT_NEAR(*permutation_p(std::vector<double>{1, 2, 3, 4}, std::vector<double>{6, 7, 8, 9}),
              0.0286, 5e-5);
}

TEST(StatsTests, PermutationOnTheMouseData) {
  // Efron and Tibshirani 1993, table 2.1 and section 15.2: one-sided 0.132 from 1000 permutations,
  // so about twice that for two sides.
  const std::vector<double> treated{94, 197, 16, 38, 99, 141, 23};
  const std::vector<double> control{52, 104, 146, 10, 51, 30, 40, 27, 46};
  EXPECT_NEAR(*permutation_p(treated, control), 0.28, 0.03);
  std::vector<double> many_a, many_b;  // too many splits to list: random ones, seeded
  for (int i = 0; i < 20; ++i) {
    many_a.push_back(i);
    many_b.push_back(i + 0.5);
  }
  EXPECT_EQ(permutation_p(many_a, many_b, 3), permutation_p(many_a, many_b, 3));
  EXPECT_GT(*permutation_p(many_a, many_b, 3), 0.5);
}

TEST(StatsTests, Holm) {
  // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") = 0.03 0.06 0.06 0.02
  const std::vector<double> adjusted = holm(std::vector<double>{0.01, 0.04, 0.03, 0.005});
  ASSERT_EQ(adjusted.size(), 4u);
  EXPECT_NEAR(adjusted[0], 0.03, 1e-12);
  EXPECT_NEAR(adjusted[1], 0.06, 1e-12);
  EXPECT_NEAR(adjusted[2], 0.06, 1e-12);
  EXPECT_NEAR(adjusted[3], 0.02, 1e-12);
}

TEST(StatsTests, LeastSquaresOnNorris) {
  // NIST StRD, linear regression, Norris: certified values.
  const std::vector<double> y{0.1,   338.8, 118.1, 888.0, 9.2,   228.1, 668.5, 998.5, 449.1,
                              778.9, 559.2, 0.3,   0.1,   778.1, 668.8, 339.3, 448.9, 10.8,
                              557.7, 228.3, 998.0, 888.8, 119.6, 0.3,   0.6,   557.6, 339.3,
                              888.0, 998.5, 778.9, 10.2,  117.6, 228.9, 668.4, 449.2, 0.2};
  const std::vector<double> x{0.2,   337.4, 118.2, 884.6, 10.1,  226.5, 666.3, 996.3, 448.6,
                              777.0, 558.2, 0.4,   0.6,   775.5, 666.9, 338.0, 447.5, 11.6,
                              556.0, 228.1, 995.8, 887.6, 120.2, 0.3,   0.3,   556.8, 339.1,
                              887.2, 999.0, 779.0, 11.1,  118.3, 229.2, 669.1, 448.9, 0.5};
  const Line line = *least_squares(x, y);
  EXPECT_NEAR(line.intercept, -0.262323073774029, 1e-10);
  EXPECT_NEAR(line.slope, 1.00211681802045, 1e-12);
  EXPECT_NEAR(line.slope_se, 0.429796848199937e-3, 1e-12);
  EXPECT_NEAR(line.residual_sd, 0.884796396144373, 1e-10);
  const Regression same = *regress({std::vector<double>(x.size(), 1.0), x}, y);
  EXPECT_NEAR(same.coefficients[1], 1.00211681802045, 1e-10);
  EXPECT_NEAR(same.standard_errors[1], 0.429796848199937e-3, 1e-11);
  EXPECT_NEAR(same.residual_sd, 0.884796396144373, 1e-9);
  EXPECT_FALSE(regress({x, x}, y).has_value());
  EXPECT_FALSE(least_squares(std::vector<double>{1, 1}, std::vector<double>{1, 2}).has_value());
}

}  // namespace
