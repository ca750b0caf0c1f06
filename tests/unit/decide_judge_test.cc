// The threshold against runs: met, missed or not shown, from intervals.
#include <gtest/gtest.h>

#include "decide/measure.h"
#include "unit/decide_made_runs.h"

namespace rigwise {
namespace {

using made::Folder;
using made::good_statement;
using made::input_of;
using made::make_side;
using made::SideSpec;

class Judge : public ::testing::Test {
 protected:
  Judge() {
    SideSpec a, b;
    b.name = "two-gpu";
    b.ranks = 2;
    b.step_s = 0.3;
    b.save_s = 0.9;
    a.evaluation_s = b.evaluation_s = 4;
    a.facts = b.facts = {Fact{"sequence_length", "512", "argv"}, Fact{"packing", "true", "argv"}};
    input_ = input_of(good_statement(), make_side(folder_.path() / "a", a),
                      make_side(folder_.path() / "b", b));
  }
  ThresholdOutcome judged(const std::string& text) { return judge(*parse_threshold(text), input_); }
  std::string state(const std::string& text) { return judged(text).state; }

  Folder folder_;
  DecideInput input_;
};

TEST_F(Judge, EveryMetricAbsolute) {
  // 0.3 s a step, 8 samples and 4096 tokens a step.
  EXPECT_EQ(state("step_time <= 0.31s"), "met");
  EXPECT_EQ(state("step_time <= 0.29s"), "missed");
  EXPECT_EQ(state("step_time <= 300 ms"), "not shown");
  EXPECT_EQ(state("steps_per_s >= 3.2"), "met");
  EXPECT_EQ(state("samples_per_s >= 26"), "met");
  EXPECT_EQ(state("samples_per_s >= 28"), "missed");
  EXPECT_EQ(state("tokens_per_s >= 13k"), "met");
  EXPECT_EQ(state("tokens_per_s >= 14k"), "missed");
  EXPECT_NE(judged("tokens_per_s >= 13k").why.find("packed rows"), std::string::npos);
  EXPECT_EQ(state("peak_memory <= 18GB"), "not shown");  // 18 GB, and a spread of 0.5 %
  EXPECT_EQ(state("peak_memory <= 19GB"), "met");
  EXPECT_EQ(state("checkpoint_time <= 1s"), "met");
  EXPECT_EQ(state("checkpoint_time <= 0.8s"), "missed");
  EXPECT_EQ(state("evaluation_delay <= 5s"), "met");
  EXPECT_EQ(state("evaluation_delay <= 3s"), "missed");
}

TEST_F(Judge, WallClockIsReckonedByTheStep) {
  // 5 s startup, 60 s of steps, 3 × 4.9 s of events, 2 s end.
  EXPECT_EQ(state("wall_clock <= 85s"), "met");
  const auto outcome = judged("wall_clock(2000 steps) <= 13min");
  EXPECT_EQ(outcome.state, "met");
  EXPECT_NE(outcome.why.find("reckoned from 200 steps"), std::string::npos) << outcome.why;
  EXPECT_EQ(state("wall_clock(2000 steps) <= 12min"), "missed");
  EXPECT_EQ(state("wall_clock(16000 samples) <= 13min"), "met");
  EXPECT_EQ(state("wall_clock(8.2M tokens) <= 13min"), "met");
}

TEST_F(Judge, FactorsOfTheBaseline) {
  EXPECT_EQ(state("samples_per_s >= 1.6x"), "met");
  EXPECT_EQ(state("tokens_per_s >= 1.6x"), "met");
  EXPECT_NE(judged("tokens_per_s >= 1.6x").why.find("from time per sample"), std::string::npos);
  EXPECT_EQ(state("tokens_per_s >= 1.8x"), "missed");
  EXPECT_EQ(state("step_time <= 0.65x"), "met");
  EXPECT_EQ(state("checkpoint_time <= 2x"), "missed");
  EXPECT_EQ(state("evaluation_delay <= 1.1x"), "met");
  EXPECT_EQ(state("wall_clock(3000 steps) <= 0.75x"), "met");
}

TEST_F(Judge, AnIntervalOfOneRunIsWideEnough) {
  input_.candidate.resize(1);
  input_.candidate_ledgers.resize(1);
  EXPECT_EQ(state("step_time <= 0.31s"), "not shown");  // 3 % below, a run may differ by 4 %
  EXPECT_EQ(state("step_time <= 0.33s"), "met");
  EXPECT_NE(judged("step_time <= 0.33s").why.find("1 run a side"), std::string::npos);
}

TEST_F(Judge, WhatRunsDoNotShowIsSaid) {
  for (auto& run : input_.candidate) run.info.facts.clear();
  const auto samples = judged("samples_per_s >= 10");
  EXPECT_EQ(samples.state, "not shown");
  EXPECT_EQ(samples.why, "two-gpu: how many samples a step holds is not known");
  EXPECT_EQ(judged("tokens_per_s >= 10").state, "not shown");
  input_.candidate.clear();
  input_.candidate_ledgers.clear();
  EXPECT_EQ(judged("step_time <= 1s").why, "no finished run of the option");
}

TEST(Levels, ThreeRunsShowTheirSpreadAndFewerUseTheFloor) {
  // t(0.975, 2) = 4.303; sd of 9.9, 10, 10.1 is 0.1.
  const Level three = level_of({9.9, 10, 10.1});
  EXPECT_NEAR(three.high - three.value, 4.3027 * 0.1 / std::sqrt(3.0), 1e-3);
  EXPECT_TRUE(three.repeated);
  const Level equal = level_of({10, 10, 10});
  EXPECT_NEAR(equal.high - equal.value, 4.3027 * 0.05 / std::sqrt(3.0), 1e-3);  // least spread
  const Level one = level_of({10});
  EXPECT_NEAR(one.high, 10.392, 1e-6);
  EXPECT_FALSE(one.repeated);
  const Level ratio = ratio_of({10}, {5});
  EXPECT_NEAR(ratio.value, 0.5, 1e-12);
  EXPECT_NEAR(std::log(ratio.high / ratio.value), 1.96 * std::sqrt(2.0) * 0.02, 1e-9);
}

}  // namespace
}  // namespace rigwise
