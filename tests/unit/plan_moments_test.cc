// Loading, saving, the host's side, and how long until a card slows down.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "rigwise/catalogue.h"
#include "rigwise/plan.h"

namespace rigwise {
namespace {

Workload llama(const std::string& method) {
  Workload w;
  const auto model = find_model("llama-3.1-8b");
  w.model = model->name;
  w.shape = model->shape;
  w.method = method;
  if (method != "full") {
    w.lora_rank = 16;
    w.lora_targets = {"q", "v"};
  }
  if (method == "qlora") w.quant = "nf4_dq";
  w.precision = "bf16";
  w.optimizer = "adamw";
  w.seq_len = 2048;
  w.micro_batch = 1;
  w.checkpointing = "full";
  w.attention = "flash";
  w.framework = "hf";
  w.strategy = "single";
  w.metric = "allocated";
  return w;
}

const MemoryMoment& moment(const std::vector<MemoryMoment>& all, const std::string& when,
                           bool on_host) {
  for (const auto& one : all) {
    if (one.when == when && one.on_host == on_host) return one;
  }
  ADD_FAILURE() << "no moment " << when;
  return all.front();
}

TEST(PlanMoments, EveryIntervalHoldsItsValue) {
  for (const char* method : {"full", "lora", "qlora"}) {
    for (const char* strategy : {"single", "ddp", "fsdp", "zero2", "zero3", "tp", "pp"}) {
      Workload w = llama(method);
      w.strategy = strategy;
      w.n_gpus = w.strategy == "single" ? 1 : 2;
      const auto moments = memory_moments(w);
      ASSERT_EQ(moments.size(), 5U);
      for (const auto& one : moments) {
        EXPECT_LE(one.bytes.low, one.bytes.value) << method << strategy << one.what;
        EXPECT_GE(one.bytes.high, one.bytes.value) << method << strategy << one.what;
        EXPECT_GE(one.bytes.low, 0);
      }
    }
  }
}

TEST(PlanMoments, TorchtuneLoadsSixteenBitsBeforeItQuantises) {
  Workload w = llama("qlora");
  const double others = moment(memory_moments(w), "load", false).bytes.value;
  w.framework = "torchtune";
  const double torchtune = moment(memory_moments(w), "load", false).bytes.value;
  EXPECT_GT(torchtune, 2 * shape_params(*w.shape));
  EXPECT_GT(torchtune, 2 * others);
}

TEST(PlanMoments, EachRankLoadsItsOwnCopyOnTheHost) {
  Workload w = llama("lora");
  const double one = moment(memory_moments(w), "load", true).bytes.value;
  w.strategy = "ddp";
  w.n_gpus = 4;
  EXPECT_NEAR(moment(memory_moments(w), "load", true).bytes.value, 4 * one, 1);
  w.n_nodes = 2;
  EXPECT_NEAR(moment(memory_moments(w), "load", true).bytes.value, 2 * one, 1);
}

TEST(PlanMoments, OffloadingMovesStatesFromGpuToHost) {
  Workload w = llama("full");
  w.strategy = "zero2";
  w.n_gpus = 2;
  const auto on_gpu = predict_memory(w);
  const double before = moment(memory_moments(w), "train", true).bytes.value;
  w.offload = "optimizer";
  const auto off = predict_memory(w);
  ASSERT_TRUE(on_gpu && off);
  EXPECT_LT(off->peak.value, on_gpu->peak.value);
  EXPECT_NEAR(moment(memory_moments(w), "train", true).bytes.value - before,
              16 * shape_params(*w.shape), 1);
  w.offload = "all";
  ASSERT_TRUE(impossible_setup(w));
  EXPECT_NE(impossible_setup(w)->message.find("zero2"), std::string::npos);
  w.strategy = "ddp";
  ASSERT_TRUE(impossible_setup(w));
}

/// From 40 °C towards `plateau` with the time constant `tau` readings.
std::vector<double> rise(double plateau, double tau, int n) {
  std::vector<double> samples;
  for (int i = 0; i < n; ++i) samples.push_back(plateau - (plateau - 40) * std::exp(-i / tau));
  return samples;
}

TEST(PlanThrottle, TellsWhenTheLimitIsReached) {
  // 75 °C alone; 12 more beside a neighbour: 87 − 47·e^(−t/15) is 80 at t = 15·ln(47/7) = 28.6
  const auto forecast = time_to_limit(rise(75, 15, 60), 2, 80, 12);
  ASSERT_TRUE(forecast);
  EXPECT_GT(forecast->chance_frac, 0.9);
  ASSERT_TRUE(forecast->after_s);
  EXPECT_NEAR(forecast->after_s->value, 2 * 28.6, 12);
  EXPECT_LE(forecast->after_s->low, forecast->after_s->value);
  EXPECT_GE(forecast->after_s->high, forecast->after_s->value);
}

TEST(PlanThrottle, ACoolCardTellsNoTime) {
  const auto forecast = time_to_limit(rise(62, 15, 60), 2, 90);
  ASSERT_TRUE(forecast);
  EXPECT_LT(forecast->chance_frac, 0.05);
  EXPECT_FALSE(forecast->after_s);
  EXPECT_FALSE(time_to_limit({40, 50}, 2, 90));
  EXPECT_FALSE(time_to_limit(rise(62, 15, 60), 0, 90));
}

}  // namespace
}  // namespace rigwise
