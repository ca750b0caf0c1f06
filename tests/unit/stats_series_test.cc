// Dependent series: effective size, resampling, warm-up, level shifts.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "rigwise/stats.h"

namespace {

using namespace rigwise::stats;

std::vector<double> ar1(std::size_t n, double phi, double sd, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> values;
  double level = random.normal();
  for (std::size_t i = 0; i < n; ++i) {
    values.push_back(sd * level);
    level = phi * level + std::sqrt(1 - phi * phi) * random.normal();
  }
  return values;
}

TEST(StatsSeries, RandomIsXoshiroAndAlwaysTheSame) {
  Random a(1), b(1), c(2);
  EXPECT_EQ(a.next(), b.next());
  EXPECT_NE(a.next(), c.next());
  Moments uniform, normal;
  for (int i = 0; i < 20000; ++i) {
    uniform.add(a.uniform());
    normal.add(b.normal());
  }
  EXPECT_NEAR(uniform.mean(), 0.5, 0.01);
  EXPECT_NEAR(normal.mean(), 0, 0.03);
  EXPECT_NEAR(*normal.standard_deviation(), 1, 0.02);
  for (int i = 0; i < 100; ++i) EXPECT_LT(c.below(7), 7u);
}

TEST(StatsSeries, SplitMixReferenceValue) {
  // SplitMix64 seeded with 0 gives e220a8397b1dcdaf first (Vigna's reference code); xoshiro256**
  // on that state returns rotl(state[1] * 5, 7) * 9 with state[1] = 6e789e6aa1b965f4.
  const std::uint64_t one = 0x6e789e6aa1b965f4ULL * 5;
  EXPECT_EQ(Random(0).next(), ((one << 7) | (one >> 57)) * 9);
}

TEST(StatsSeries, EffectiveSizeOfAr1) {
  // An AR(1) series has ESS n (1 - phi) / (1 + phi).
  double white = 0, half = 0, strong = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    white += effective_sample_size(ar1(2000, 0, 1, seed)).ess / 2000;
    half += effective_sample_size(ar1(2000, 0.5, 1, seed)).ess / 2000;
    strong += effective_sample_size(ar1(2000, 0.9, 1, seed)).ess / 2000;
  }
  EXPECT_NEAR(white / 20, 0.95, 0.07);
  EXPECT_NEAR(half / 20, 1.0 / 3, 0.05);
  EXPECT_NEAR(strong / 20, 1.0 / 19, 0.02);
  EXPECT_DOUBLE_EQ(effective_sample_size(std::vector<double>(50, 3.0)).ess, 50);
  EXPECT_LE(effective_sample_size(ar1(100, -0.8, 1, 1)).ess, 100);
}

TEST(StatsSeries, BlockBootstrapSeesDependence) {
  const std::vector<double> values = ar1(1000, 0.8, 1, 5);
  const auto average = [](Values v) { return *mean(v); };
  const auto single = block_bootstrap(values, 1, 300, 7, average);
  const auto blocks = block_bootstrap(values, 40, 300, 7, average);
  ASSERT_TRUE(single && blocks);
  // True standard error: sqrt((1 + phi) / (1 - phi) / n) = 0.095; independent draws give 0.032.
  EXPECT_NEAR(single->standard_error, 0.032, 0.01);
  EXPECT_NEAR(blocks->standard_error, 0.095, 0.03);
  EXPECT_EQ(blocks->low, block_bootstrap(values, 40, 300, 7, average)->low);
  EXPECT_FALSE(block_bootstrap(values, 600, 300, 7, average).has_value());
}

TEST(StatsSeries, RunningMedian) {
  const std::vector<double> values{1, 9, 2, 3, 100, 4};
  EXPECT_EQ(running_median(values, 3), (std::vector<double>{5, 2, 3, 3, 4, 52}));
}

TEST(StatsSeries, WarmUpOfACompiledModel) {
  // The shape of a public MaxText log: a fast first step, then the slowest of all.
  std::vector<double> values = ar1(200, 0.3, 0.02, 3);
  values[0] = std::log(0.3);
  values[1] = std::log(107.0);
  values[2] = std::log(2.0);
  values[3] = 0.5;
  values[4] = 0.3;
  const Warmup warm = detect_warm_up(values);
  EXPECT_TRUE(warm.steady);
  EXPECT_GE(warm.drop, 5u);
  EXPECT_LE(warm.drop, 15u);
}

TEST(StatsSeries, NeverSteady) {
  std::vector<double> values;
  for (int i = 0; i < 100; ++i) values.push_back(i * 0.1);
  const Warmup warm = detect_warm_up(values);
  EXPECT_FALSE(warm.steady);
  EXPECT_EQ(warm.drop, 33u);
  EXPECT_TRUE(detect_warm_up(std::vector<double>(60, 1.0)).steady);
  EXPECT_FALSE(detect_warm_up(std::vector<double>{1, 2}).steady);
}

TEST(StatsSeries, ChangePointOfTheNile) {
  // Annual flow of the Nile 1871-1970; Cobb 1978 (Biometrika 65:2) puts the change after 1898,
  // which is the 28th value.
  const std::vector<double> flow{
      1120, 1160, 963, 1210, 1160, 1160, 813,  1230, 1370, 1140, 995,  935,  1110, 994,  1020,
      960,  1180, 799, 958,  1140, 1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774,  840,
      874,  694,  940, 833,  701,  916,  692,  1020, 1050, 969,  831,  726,  456,  824,  702,
      1120, 1100, 832, 764,  821,  768,  845,  864,  862,  698,  845,  744,  796,  1040, 759,
      781,  865,  845, 944,  984,  897,  822,  1010, 771,  676,  649,  846,  812,  742,  801,
      1040, 860,  874, 848,  890,  744,  749,  838,  1050, 918,  986,  797,  923,  975,  815,
      1020, 906,  901, 1170, 912,  746,  919,  718,  714,  740};
  ASSERT_EQ(flow.size(), 100u);
  const auto found = change_points(flow, {.min_shift = 30});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].index, 28u);
  EXPECT_GT(found[0].before, found[0].after);
}

TEST(StatsSeries, ThrottleIsFoundWhereItStarts) {
  std::vector<double> values = ar1(1000, 0.5, 0.03, 11);
  for (std::size_t i = 0; i < values.size(); i += 100) values[i] += std::log(5);  // saves
  for (std::size_t i = 600; i < values.size(); ++i) values[i] += std::log(1.2);
  const auto found = change_points(values);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NEAR(static_cast<double>(found[0].index), 600, 10);
  EXPECT_NEAR(found[0].after - found[0].before, std::log(1.2), 0.02);
}

TEST(StatsSeries, NoChangeInAutocorrelatedNoise) {
  int wrong = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    for (const double phi : {0.0, 0.5, 0.8}) {
      wrong += change_points(ar1(500, phi, 0.03, seed)).empty() ? 0 : 1;
    }
  }
  EXPECT_LE(wrong, 15);  // of 300
  EXPECT_TRUE(change_points(std::vector<double>(500, 1.0)).empty());
  EXPECT_TRUE(change_points(std::vector<double>(10, 1.0)).empty());
}

}  // namespace
