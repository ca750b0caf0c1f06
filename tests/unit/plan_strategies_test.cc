// Strategies: each one's step against sums that can be made by hand.
#include "rigwise/plan_strategies.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace rigwise {
namespace {

constexpr double kMb = 1e6;

/// Four blocks of 12 h² weights, no head to speak of, 32 bits: 4 × 3.1 MB.
Workload small_work() {
  Workload w;
  w.shape = ModelShape{4, 256, 4, 4, 64, 682, 2, true, true};
  w.method = "full";
  w.precision = "fp32";
  w.framework = "rigwise";
  w.seq_len = 128;
  w.micro_batch = 2;
  w.grad_accum = 4;
  w.grad_bytes = 20 * kMb;
  return w;
}

MeasuredStep one_second() {
  MeasuredStep step;
  step.forward_s = 0.3;
  step.backward_s = 0.6;
  step.optimizer_s = 0.1;
  step.micro_steps = 4;
  step.phases_measured = true;
  return step;
}

/// A wire of that rate without latency, on which nothing hides.
LinkKnown wire(double bytes_per_s, double hidden = 0) {
  LinkKnown link;
  link.name = "wire";
  link.bytes_per_s = {bytes_per_s, 0.95 * bytes_per_s, 1.05 * bytes_per_s};
  link.measured = true;
  link.hidden_frac[Transfer::all_reduce] = {hidden, hidden, hidden};
  return link;
}

StrategyStep predicted(const std::string& strategy, const LinkKnown& link,
                       const Workload& w = small_work()) {
  const auto step = predict_strategy(strategy, 2, w, one_second(), link);
  EXPECT_TRUE(step.ok()) << strategy << ": " << step.error().message;
  return step ? *step : StrategyStep{};
}

TEST(PlanStrategies, SingleIsWhatWasMeasured) {
  EXPECT_DOUBLE_EQ(predicted("single", wire(1e8)).step_s.value, 1);
}

TEST(PlanStrategies, DataParallelSendsItsGradientsOnce) {
  const auto ddp = predicted("ddp", wire(20 * kMb));
  // half of the micro-steps, and 20 MB at 20 MB/s
  EXPECT_NEAR(ddp.compute_s.value, 1.02 * 0.45 + 0.1, 1e-9);
  EXPECT_NEAR(ddp.exposed_s.value, 1 + 0.03 * ddp.compute_s.value, 0.01);
  EXPECT_DOUBLE_EQ(ddp.sent_bytes, 20 * kMb);
  EXPECT_LT(ddp.step_s.low, ddp.step_s.value);
  EXPECT_GT(ddp.step_s.high, ddp.step_s.value);
}

TEST(PlanStrategies, EveryCollectiveHidesInItsOwnWay) {
  LinkKnown link = wire(400 * kMb, 0);
  const double open = predicted("fsdp", link).exposed_s.value;
  link.hidden_frac[Transfer::reduce_scatter] = {0.9, 0.9, 0.9};
  const double gives = predicted("fsdp", link).exposed_s.value;
  link.hidden_frac[Transfer::all_gather] = {0.9, 0.9, 0.9};
  const double all = predicted("fsdp", link).exposed_s.value;
  EXPECT_LT(gives, open);
  EXPECT_LT(all, gives);
  EXPECT_EQ(predicted("ddp", link).exposed_s.value,
            predicted("ddp", wire(400 * kMb, 0)).exposed_s.value);
}

TEST(PlanStrategies, WhatHidesIsAtMostTheLastBackwardPass) {
  // 0.1 s of transfers beside 0.15 s of backward pass: all but the last bucket hides
  const auto hidden = predicted("ddp", wire(200 * kMb, 1));
  const auto open = predicted("ddp", wire(200 * kMb, 0));
  EXPECT_LT(hidden.exposed_s.value, 0.5 * open.exposed_s.value);
  EXPECT_GT(hidden.exposed_s.value, 0.1 / 5);
  // 10 s of transfers: no more hides than there is arithmetic
  const auto slow = predicted("ddp", wire(2 * kMb, 1));
  EXPECT_GT(slow.exposed_s.value, 10 - 0.15 * 1.1);
  EXPECT_LT(slow.exposed_s.value, 10.1);
}

TEST(PlanStrategies, ATiedEmbeddingIsReadyLast) {
  Workload w = small_work();
  w.shape->vocab = 32000;
  const auto tied = predicted("ddp", wire(200 * kMb, 1), w);
  w.shape->tied_embeddings = false;
  EXPECT_GT(tied.exposed_s.value, predicted("ddp", wire(200 * kMb, 1), w).exposed_s.value);
}

TEST(PlanStrategies, ShardedMovesWeightsEveryMicroStep) {
  const auto fsdp = predicted("fsdp", wire(20 * kMb));
  const double weights = 4.0 * 4 * (4 * 256 * 256 + 3 * 256 * 682);
  // two micro-steps, each half of twice the blocks' weights, of the edges' and of the gradients
  EXPECT_NEAR(fsdp.sent_bytes, 2 * 0.5 * (2 * weights + 20 * kMb), 0.02 * fsdp.sent_bytes);
  EXPECT_GT(fsdp.step_s.value, predicted("ddp", wire(20 * kMb)).step_s.value);
}

TEST(PlanStrategies, TensorParallelStopsFourTimesABlock) {
  LinkKnown link = wire(1e12);
  link.latency_s = 0.5e-3;  // two steps of a ring of two: 1 ms a sum
  const auto tp = predicted("tp", link);
  EXPECT_NEAR(tp.exposed_s.value - 0.03 * tp.compute_s.value, 4 * 4 * 4 * 1e-3 + 1e-3, 2e-3);
}

TEST(PlanStrategies, ZeroPartsTheUpdateAndSumsEveryMicroStep) {
  const auto ddp = predicted("ddp", wire(20 * kMb)), one = predicted("zero1", wire(20 * kMb)),
             two = predicted("zero2", wire(20 * kMb));
  EXPECT_NEAR(ddp.compute_s.value - one.compute_s.value, 0.05, 1e-9);  // half of the update
  // half of 20 MB to the other rank and half of the weights back, at 20 MB/s
  EXPECT_NEAR(one.exposed_s.value - 0.03 * one.compute_s.value, 1, 0.02);
  EXPECT_DOUBLE_EQ(one.sent_bytes, 20 * kMb);
  // two micro-steps a rank: their sums twice
  EXPECT_NEAR(two.exposed_s.value - one.exposed_s.value, 0.5, 0.01);
  EXPECT_DOUBLE_EQ(predicted("zero3", wire(20 * kMb)).step_s.value,
                   predicted("fsdp", wire(20 * kMb)).step_s.value);
}

TEST(PlanStrategies, APipelineOfTwoHasItsBubble) {
  const auto pp = predicted("pp", wire(1e12));
  // 4 micro-steps on stages of half the work: (4 + 1) / 4 of half, and half of the update
  EXPECT_NEAR(pp.compute_s.value + pp.exposed_s.value - 0.03 * pp.compute_s.value,
              0.9 / 2 * 5 / 4 + 0.05, 0.01);
}

// Two stages and four micro-steps: played by hand, five of the eight transfers are waited for by
// both stages, the other three by one while the other waits too.
TEST(PlanStrategies, APipelinesReceiverWaitsForEveryTransfer) {
  const double bytes = 2 * 128 * 256 * 4;  // of one transfer
  const auto far = predicted("pp", wire(bytes / 0.1)), near = predicted("pp", wire(1e12));
  EXPECT_NEAR(far.exposed_s.value - near.exposed_s.value, 0.5, 0.02);
}

TEST(PlanStrategies, RanksThatComputeTogetherAreSlower) {
  LinkKnown link = wire(1e12);
  const double alone = predicted("ddp", link).compute_s.value;
  link.together_factor = Interval{1.2, 1.1, 1.3};
  EXPECT_NEAR(predicted("ddp", link).compute_s.value, 1.2 * alone, 1e-9);
}

TEST(PlanStrategies, TheNextRunDiffersAsTheQuartersOfThisOneDo) {
  const auto width = [](const MeasuredStep& step) {
    const auto made = predict_strategy("single", 1, small_work(), step, wire(1e9));
    return (made->step_s.high - made->step_s.low) / made->step_s.value;
  };
  std::vector<double> steady(40, 1.0), drifting(40, 1.0);
  for (std::size_t i = 20; i < 40; ++i) drifting[i] = 1.3;
  EXPECT_EQ(run_to_run_frac(steady), 0.02);
  EXPECT_EQ(run_to_run_frac(std::vector<double>(10, 1.0)), 0.02);  // too short to tell
  EXPECT_NEAR(run_to_run_frac(drifting), 0.15 * std::sqrt(4.0 / 3) / 1.15, 1e-9);
  MeasuredStep step = one_second();
  const double narrow = width(step);
  step.run_to_run_frac = run_to_run_frac(drifting);
  EXPECT_NEAR(width(step) / narrow, step.run_to_run_frac / 0.02, 1e-9);
}

TEST(PlanStrategies, WhatCannotBeSaysWhichNumber) {
  const auto refused = [](const std::string& strategy, std::int64_t ranks, const Workload& w) {
    const auto step = predict_strategy(strategy, ranks, w, one_second(), wire(1e9));
    EXPECT_FALSE(step.ok()) << strategy;
    return step.ok() ? "" : step.error().message + " " + step.error().hint;
  };
  EXPECT_NE(refused("tp", 3, small_work()).find("4 heads"), std::string::npos);
  EXPECT_NE(refused("pp", 8, small_work()).find("the model has 4"), std::string::npos);
  EXPECT_NE(refused("fdsp", 2, small_work()).find("did you mean 'fsdp'"), std::string::npos);
  for (const char* text : {"", "ddp:0", "ddp:2,ddp:2", "tp:x", "pp:99999", ","}) {
    refused(text, 2, small_work());
  }
  Workload blind = small_work();
  blind.shape.reset();
  EXPECT_NE(refused("fsdp", 2, blind).find("shape is not known"), std::string::npos);
  Workload row = small_work();
  row.micro_batch = 1;
  row.grad_accum = 1;
  EXPECT_NE(refused("ddp", 2, row).find("a batch of 1 row"), std::string::npos);
}

TEST(PlanStrategies, TheOrderTurnsWithTheLink) {
  const std::vector<std::string> all = {"single", "ddp", "fsdp", "tp", "pp"};
  const auto fast = order_strategies(all, 2, small_work(), one_second(), wire(10e9, 1));
  EXPECT_EQ(fast.back().strategy, "single");
  const auto slow = order_strategies(all, 2, small_work(), one_second(), wire(1 * kMb));
  EXPECT_NE(slow.front().strategy, "ddp");
  EXPECT_EQ(slow.size(), all.size());
  Workload odd = small_work();
  odd.shape->kv_heads = 1;
  const auto refused = order_strategies(all, 2, odd, one_second(), wire(10e9, 1));
  EXPECT_EQ(refused.back().strategy, "tp");
  EXPECT_FALSE(refused.back().refused.empty());
}

TEST(PlanStrategies, TwoByTwo) {
  const auto mixed = predict_strategy("ddp:2,tp:2", 4, small_work(), one_second(), wire(1e9));
  ASSERT_TRUE(mixed.ok()) << mixed.error().message;
  EXPECT_EQ(mixed->ranks, 4);
  EXPECT_LT(mixed->compute_s.value, predicted("ddp", wire(1e9)).compute_s.value);
}

TEST(PlanStrategies, RegretIsWhatThePredictedFirstCosts) {
  const auto step = [](const char* name, double seconds) {
    StrategyStep one;
    one.strategy = name;
    one.step_s = {seconds, seconds, seconds};
    return one;
  };
  const std::vector<StrategyStep> order = {step("ddp", 1), step("pp", 1.5), step("tp", 2)};
  const auto right = judge_order(order, {{"ddp", 1.1}, {"pp", 1.4}, {"tp", 3}});
  ASSERT_TRUE(right);
  EXPECT_EQ(right->first, "ddp");
  EXPECT_DOUBLE_EQ(right->regret_frac, 0);
  EXPECT_DOUBLE_EQ(*right->kendall_tau, 1);
  const auto wrong = judge_order(order, {{"ddp", 2.2}, {"pp", 2.0}, {"tp", 3}});
  EXPECT_EQ(wrong->best, "pp");
  EXPECT_NEAR(wrong->regret_frac, 0.1, 1e-12);
  EXPECT_NEAR(*wrong->kendall_tau, 1.0 / 3, 1e-12);
  EXPECT_FALSE(judge_order(order, {{"fsdp", 1}}));
  EXPECT_FALSE(judge_order(order, {{"tp", 1}})->kendall_tau);
}

TEST(PlanTransfer, FollowsMeasuredMessages) {
  LinkKnown link = wire(1e8);
  link.all_reduce = {{8, 1e-4}, {1e6, 1.01e-2}, {4e6, 4e-2}};
  EXPECT_DOUBLE_EQ(transfer_s(link, Transfer::all_reduce, 4, 2).value, 1e-4);
  EXPECT_DOUBLE_EQ(transfer_s(link, Transfer::all_reduce, 4e6, 2).value, 4e-2);
  EXPECT_DOUBLE_EQ(transfer_s(link, Transfer::all_reduce, 8e6, 2).value, 8e-2);
  EXPECT_NEAR(transfer_s(link, Transfer::all_reduce, 0.5e6, 2).value, 5.1e-3, 1e-5);
  // three ranks: 4/3 of the bytes on the wire where there was 1
  EXPECT_NEAR(transfer_s(link, Transfer::all_reduce, 4e6, 3).value, 4e-2 * 4 / 3, 1e-12);
  EXPECT_DOUBLE_EQ(transfer_s(link, Transfer::all_gather, 1e8, 2).value, 0.5);
}

TEST(PlanTransfer, OverlapComesFromTheLinksFile) {
  const std::string text = R"({"schema":1,"hosts":["a","b"],"pairs":[{"from_rank":0,"to_rank":1,
    "sizes":[{"message_bytes":1000000,"time_s":0.01}]}],"collectives":[{"operation":"all_reduce",
    "ranks":2,"sizes":[{"message_bytes":4194304,"time_s":0.4}],"overlap":{"hidden":0.75,
    "hidden_least":0.5,"hidden_most":0.8}},{"operation":"all_gather","ranks":2,
    "sizes":[{"message_bytes":4194304,"time_s":0.2}],"overlap":{"hidden":0.9,"hidden_least":0.85,
    "hidden_most":2}},{"operation":"reduce_scatter","ranks":2,"overlap":{"hidden":0.95,
    "hidden_least":0.9,"hidden_most":1}},{"operation":"broadcast","ranks":2,"overlap":{"hidden":0.5,
    "hidden_least":0.5,"hidden_most":0.5}}],"together":{"repeats":8,
    "work_s":0.2,"factor":1.25,"factor_least":1.0,"factor_most":1.5}})";
  const auto link = read_link(text, "link.json");
  ASSERT_TRUE(link.ok()) << link.error().message;
  ASSERT_EQ(link->hidden_frac.size(), 2U);  // all_gather's cannot be
  EXPECT_EQ(link->hidden_frac.at(Transfer::all_reduce).value, 0.75);
  EXPECT_EQ(link->hidden_frac.at(Transfer::all_reduce).low, 0.5);
  EXPECT_EQ(link->hidden_frac.at(Transfer::reduce_scatter).high, 1);
  ASSERT_TRUE(link->together_factor);
  EXPECT_EQ(link->together_factor->value, 1.25);
  EXPECT_EQ(link->together_factor->high, 1.5);
  EXPECT_EQ(link->one_way.size(), 1U);
  EXPECT_EQ(link->all_gather.size(), 1U);
  for (std::size_t n = 0; n < text.size(); ++n) (void)read_link(text.substr(0, n), "cut").ok();
}

}  // namespace
}  // namespace rigwise
