#include <gtest/gtest.h>

#include <limits>

#include "ledger/split.h"

namespace rigwise {
namespace {

TEST(Windows, UniteClipAndSubtract) {
  const double inf = std::numeric_limits<double>::infinity();
  const auto windows = united({{5, 7}, {1, 3}, {2, 4}, {9, 30}, {8, 8}, {-5, 0.5}, {inf, 3}}, 20);
  ASSERT_EQ(windows.size(), 4u);
  EXPECT_EQ(windows[0].to_s, 0.5);
  EXPECT_EQ(windows[1].from_s, 1);
  EXPECT_EQ(windows[1].to_s, 4);
  EXPECT_EQ(windows[3].to_s, 20);
  EXPECT_DOUBLE_EQ(overlap_s(windows, 3, 10), 1 + 2 + 1);

  const auto rest = without({{0, 10}, {12, 20}}, {{1, 2}, {8, 13}, {15, 16}, {19, 40}});
  ASSERT_EQ(rest.size(), 4u);
  double sum = 0;
  for (const auto& window : rest) sum += window.to_s - window.from_s;
  EXPECT_DOUBLE_EQ(sum, 1 + 6 + 2 + 3);
  EXPECT_EQ(without({{0, 1}, {2, 3}}, {}).size(), 2u);
}

StepSeries steady(double begin_s, int count, double step_s) {
  StepSeries series;
  series.begin_s = series.begin_low_s = begin_s;
  series.begin_seen = true;
  for (int k = 0; k < count; ++k) {
    series.intervals.push_back({begin_s + k * step_s, begin_s + (k + 1) * step_s, 1, k + 2});
  }
  series.end_s = begin_s + count * step_s;
  return series;
}

TEST(Split, BackgroundSaveCostsNothing) {
  const StepSeries series = steady(10, 50, 1);
  SplitInput input;
  input.steps = &series;
  input.checkpoints = {{20, 25}};  // five steps went on meanwhile
  input.wall_s = 62;
  const Split split = split_timeline(input);
  EXPECT_NEAR(split.checkpoint.seconds, 0, 1e-9);
  EXPECT_NEAR(split.compute.seconds, 50, 1e-9);
  EXPECT_NEAR(split.startup.seconds, 10, 1e-9);
  EXPECT_NEAR(split.teardown.seconds, 2, 1e-9);
}

TEST(Split, EvaluationGoesBeforeACheckpointBesideIt) {
  StepSeries series = steady(0, 20, 1);
  for (auto& interval : series.intervals) {
    if (interval.from_s >= 10) interval.from_s += 8;
    if (interval.to_s > 10) interval.to_s += 8;
  }
  series.intervals[10].from_s = 10;  // this step waited 8 s
  series.end_s = 28;
  SplitInput input;
  input.steps = &series;
  input.evaluations = {{10, 15}};
  input.checkpoints = {{13, 16}};
  input.wall_s = 28;
  const Split split = split_timeline(input);
  EXPECT_NEAR(split.evaluation.seconds, 5, 1e-9);
  EXPECT_NEAR(split.checkpoint.seconds, 1, 1e-9);
  EXPECT_NEAR(split.around_events_s, 2, 1e-9);
  EXPECT_TRUE(split.stalls.empty());
  EXPECT_NEAR(split.compute.seconds, 20, 1e-9);
}

TEST(Pace, SaveAtEveryLoggedStepDoesNotPassForThePace) {
  std::vector<StepInterval> intervals;
  std::vector<double> lost;
  for (int k = 0; k < 20; ++k) {
    intervals.push_back({k * 12.0, k * 12.0 + 12, 10, k + 2});  // ten steps of 1 s and a 2 s save
    lost.push_back(2);
  }
  EXPECT_NEAR(pace_of(intervals, lost)->step_s, 1, 1e-9);
}

}  // namespace
}  // namespace rigwise
