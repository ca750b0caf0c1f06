// Predictions: laws that any set-up must obey, published arithmetic, and files cut anywhere.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/plan.h"

namespace rigwise {
namespace {

// Llama-2-7B's published dimensions.
Workload llama_lora() {
  Workload w;
  w.model = "Llama-2-7B";
  w.shape = ModelShape{32, 4096, 32, 32, 128, 11008, 32000, true, false};
  w.params = 6738415616.0;
  w.method = "lora";
  w.lora_rank = 8;
  w.lora_targets = {"q", "v"};
  w.lora_dtype = "bf16";
  w.precision = "bf16";
  w.optimizer = "adamw";
  w.seq_len = 1024;
  w.micro_batch = 1;
  w.checkpointing = "none";
  w.attention = "flash";
  w.logits = "full";
  w.framework = "hf";
  w.strategy = "single";
  w.metric = "allocated";
  return w;
}

double peak(const Workload& w) {
  const auto estimate = predict_memory(w);
  EXPECT_TRUE(estimate.ok());
  return estimate ? estimate->peak.value : 0;
}

std::string fixture() {
  std::ifstream in(RIGWISE_FIXTURES "/plan/cases.jsonl");
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(PlanMemory, CountsLlamasParameters) {
  // 6,738,415,616 in the model's index less 266,240 of norms (65 × 4096).
  EXPECT_DOUBLE_EQ(shape_params(*llama_lora().shape), 6738415616.0 - 65 * 4096);
}

TEST(PlanMemory, PartsSumToThePeak) {
  for (const char* method : {"lora", "qlora", "full"}) {
    Workload w = llama_lora();
    w.method = method;
    if (w.method == "qlora") w.quant = "nf4";
    const auto estimate = predict_memory(w);
    ASSERT_TRUE(estimate.ok());
    double sum = 0;
    for (const auto& part : estimate->parts) sum += part.bytes;
    EXPECT_NEAR(sum, estimate->peak.value, 1) << method;
    EXPECT_LT(estimate->peak.low, estimate->peak.value);
    EXPECT_GT(estimate->peak.high, estimate->peak.value);
  }
}

TEST(PlanMemory, LoraHoldsTheWeightsAndWhatEachLayerKeeps) {
  // Followed tensor by tensor through one step of transformers 5 on a device without storage:
  // 15 h + 6 f bytes a token and layer with h = 4096, f = 11008, and 12 bytes a logit.
  const double tokens = 1024, h = 4096, f = 11008;
  const double layers = 32 * tokens * (8 * h + 2 * (2 * h + 2 * h) + 6 * f + 2 * h);
  const double logits = tokens * 32000 * 12;
  const double adapters = 8 * 32 * 2 * (h + h);
  const double expected = 2 * 6738415616.0 + adapters * (2 + 4) + layers + logits;
  Workload w = llama_lora();
  w.framework = "torchtitan";
  EXPECT_NEAR(peak(w), expected, 0.03 * expected);
}

TEST(PlanMemory, GrowsWithWhatMustGrowIt) {
  const Workload w = llama_lora();
  Workload more = w;
  more.micro_batch = 2;
  EXPECT_GT(peak(more), peak(w));
  more = w;
  more.checkpointing = "full";
  EXPECT_LT(peak(more), peak(w));
  more = w;
  more.method = "qlora";
  more.quant = "nf4_dq";
  EXPECT_LT(peak(more), peak(w));
  more = w;
  more.method = "full";
  EXPECT_GT(peak(more), 3 * peak(w) / 2);
  more.strategy = "fsdp";
  Workload single = more;
  single.strategy = "single";
  more.n_gpus = 4;
  EXPECT_LT(peak(more), peak(single));
  more = w;
  more.logits = "chunked";
  EXPECT_LE(peak(more), peak(w));
}

TEST(PlanMemory, AQuantisedBaseIsUpcastOnlyWherePeftDoes) {
  Workload w = llama_lora();
  w.method = "qlora";
  w.quant = "nf4_dq";
  w.seq_len = 4096;
  const double upcast = peak(w);
  w.framework = "llama-factory";
  EXPECT_LT(peak(w), 0.9 * upcast);
  w.framework = "hf";
  w.quant = "gptq4";
  EXPECT_LT(peak(w), 0.9 * upcast);
}

TEST(PlanMemory, TheLogitsCopiesAreLeftBehindInReservedMemory) {
  Workload w = llama_lora();
  w.micro_batch = 8;
  const double allocated = peak(w);
  w.metric = "reserved";
  const double reserved = peak(w);
  w.metric = "device";
  EXPECT_GT(peak(w), reserved);
  EXPECT_GT(reserved, 1.06 * allocated + 0.2 * 8 * 1024 * 32000 * 12);
  w.metric = "";  // between the two
  EXPECT_GT(peak(w), allocated);
  EXPECT_LT(peak(w), reserved);
}

TEST(PlanMemory, MovesAMeasuredPoint) {
  Workload w = llama_lora();
  MemoryAnchor anchor{w, 1.1 * peak(w)};
  const auto same = predict_memory(w, {anchor});
  ASSERT_TRUE(same.ok());
  EXPECT_NEAR(same->peak.value, anchor.bytes, 0.01 * anchor.bytes);
  w.micro_batch = 2;
  const auto moved = predict_memory(w, {anchor});
  ASSERT_TRUE(moved.ok());
  EXPECT_GT(moved->peak.value, peak(w));
  EXPECT_LT((moved->peak.high - moved->peak.low) / moved->peak.value, 0.25);
}

TEST(PlanMemory, SaysWhichSizeIsMissingOrImpossible) {
  Workload w = llama_lora();
  w.seq_len.reset();
  const auto missing = predict_memory(w);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("sequence length"), std::string::npos);
  w = llama_lora();
  w.shape->kv_heads = 0;
  const auto impossible = predict_memory(w);
  ASSERT_FALSE(impossible.ok());
  EXPECT_NE(impossible.error().message.find("kv_heads is 0"), std::string::npos);
}

TEST(PlanCollectives, PassesThroughBothPoints) {
  const CollectivePoint small{1 << 20, 1e-4}, large{1 << 30, 0.02};
  for (const int ranks : {2, 4, 8}) {
    EXPECT_NEAR(allreduce_time(small.bytes, ranks, small, large)->value, small.time_s, 1e-8);
    EXPECT_NEAR(allreduce_time(large.bytes, ranks, small, large)->value, large.time_s, 1e-6);
    double last = 0;
    for (double bytes = small.bytes; bytes <= large.bytes; bytes *= 2) {
      const auto time = allreduce_time(bytes, ranks, small, large);
      ASSERT_TRUE(time.ok());
      EXPECT_GT(time->value, last);
      last = time->value;
    }
  }
  EXPECT_FALSE(allreduce_time(1e6, 1, small, large).ok());
  EXPECT_FALSE(allreduce_time(1e6, 2, large, small).ok());
}

TEST(PlanCollectives, AMessageOfAFewBytesSaysLittleOfTheMiddle) {
  // 2 × RTX 4090, printed by nccl-tests: 8 B 9.0 µs, 2 GiB 0.958 s; 1 MiB took 537.7 µs
  const auto time = allreduce_time(1 << 20, 2, {8, 9.0e-6}, {2147483648.0, 0.957746});
  ASSERT_TRUE(time.ok());
  EXPECT_LT(time->low, 537.7e-6);
  EXPECT_GT(time->high, 537.7e-6);
  EXPECT_NEAR(time->value, 537.7e-6, 0.1 * 537.7e-6);
}

TEST(PlanPower, BendsBetweenPointsAndPromisesNothingAbove) {
  const std::vector<CapPoint> points = {{200, 600, {}}, {280, 900, {}}, {350, 1000, {}}};
  for (const auto& point : points) {
    EXPECT_NEAR(rate_at_cap(point.cap_w, points)->value, point.rate, 1e-6 * point.rate);
  }
  EXPECT_GT(rate_at_cap(240, points)->value, 750);  // above the chord
  EXPECT_NEAR(rate_at_cap(500, points)->value, 1000, 1e-3);
  EXPECT_LT(rate_at_cap(100, points)->value, 301);
  EXPECT_FALSE(rate_at_cap(240, {{200, 600, {}}}).ok());
}

TEST(PlanHeat, FindsThePlateauOfAFirstOrderRise) {
  std::vector<double> rise;
  for (int i = 0; i < 80; ++i) rise.push_back(std::round(79 - 34 * std::exp(-i / 15.0)));
  const auto long_trace = settled_temperature(rise);
  ASSERT_TRUE(long_trace.ok());
  EXPECT_NEAR(long_trace->value, 79, 1.5);
  rise.resize(10);
  const auto short_trace = settled_temperature(rise);
  ASSERT_TRUE(short_trace.ok());
  EXPECT_GT(short_trace->high - short_trace->low, long_trace->high - long_trace->low);
  EXPECT_LE(short_trace->low, 79);
  EXPECT_GE(short_trace->high, 79);
  EXPECT_FALSE(settled_temperature({50, 51}).ok());
}

TEST(PlanScaling, AnAnchorGivesTheLinkBack) {
  Workload w = llama_lora();
  w.method = "full";
  w.strategy = "ddp";
  w.n_gpus = 2;
  w.grad_bytes = 1e9;
  RateBase base{1, 10.0, w};
  base.workload.n_gpus = 1;
  // 0.1 s a row on one GPU; two GPUs at 2 GB/s: 0.1 + 0.5 s a step
  RateAnchor anchor{w, 2, base, 2 / 0.6, {}};
  Workload smaller = w;
  smaller.grad_bytes = 0.5e9;
  const auto estimate = predict_scaling(smaller, base, {anchor});
  ASSERT_TRUE(estimate.ok());
  EXPECT_TRUE(estimate->link_measured);
  EXPECT_NEAR(estimate->samples_per_s.value, 2 / 0.35, 0.1);
  const auto cold = predict_scaling(smaller, base, {});
  ASSERT_TRUE(cold.ok());
  EXPECT_FALSE(cold->link_measured);
  EXPECT_GT(cold->samples_per_s.high / cold->samples_per_s.low,
            estimate->samples_per_s.high / estimate->samples_per_s.low);
  EXPECT_FALSE(predict_scaling(w, {}, {}).ok());
}

TEST(PlanScaling, ARateOfSeveralGpusHoldsItsOwnCommunication) {
  Workload w = llama_lora();
  w.method = "full";
  w.strategy = "fsdp";
  w.gpu = "h100";
  w.n_gpus = 64;
  w.n_nodes = 8;
  w.link = Interconnect{"nvlink", true, {}, {}, false};
  w.global_batch = 64;
  RateBase base{8, 20.0, w};
  base.workload.n_gpus = 8;
  base.workload.global_batch = 8;
  const auto estimate = predict_scaling(w, base, {});
  ASSERT_TRUE(estimate.ok());
  EXPECT_GT(estimate->samples_per_s.value, 0.75 * 8 * 20);  // hosts that keep up with NVLink
  EXPECT_LT(estimate->samples_per_s.value, 8 * 20);
}

TEST(PlanScaling, TheCatalogueKnowsWhichBoardsReachEachOther) {
  Workload w = llama_lora();
  w.method = "full";
  w.strategy = "ddp";
  w.n_gpus = 8;
  w.grad_bytes = 1e9;
  w.gpu = "rtxa6000";
  RateBase base{1, 10.0, w};
  base.workload.n_gpus = 1;
  const double direct = predict_scaling(w, base, {})->samples_per_s.value;
  w.gpu = "rtx4090";
  EXPECT_LT(predict_scaling(w, base, {})->samples_per_s.value, 0.5 * direct);
}

std::vector<std::string> lines() {
  std::vector<std::string> all;
  std::istringstream text(fixture());
  for (std::string line; std::getline(text, line);) all.push_back(line);
  return all;
}

TEST(PlanCases, PredictsScoresAndRefuses) {
  const std::string text = fixture();
  const auto cases = read_plan_cases(text);
  ASSERT_TRUE(cases.ok());
  ASSERT_EQ(cases->size(), 7U);
  const auto truths = read_plan_truths(text);
  ASSERT_TRUE(truths.ok());
  EXPECT_EQ(truths->at(0).source, "made/a");
  std::vector<CasePrediction> predictions;
  for (const auto& c : *cases) predictions.push_back(predict_case(c));
  for (std::size_t i = 0; i + 1 < cases->size(); ++i) {
    EXPECT_FALSE(predictions[i].refused) << predictions[i].why;
    EXPECT_LE(predictions[i].low, predictions[i].predicted);
    EXPECT_GE(predictions[i].high, predictions[i].predicted);
  }
  EXPECT_TRUE(predictions.back().refused);
  const auto card = score_cases(*cases, *truths, predictions);
  EXPECT_EQ(card.groups.size(), 6U);
}

void expect_sane(const std::string& text, const std::string& what) {
  const auto cases = read_plan_cases(text);
  if (!cases) return;
  for (const auto& c : *cases) {
    const auto p = predict_case(c);
    EXPECT_TRUE(p.refused || (std::isfinite(p.predicted) && p.low <= p.high)) << c.id << what;
  }
}

TEST(PlanCases, EveryCutIsReadOrRefused) {
  for (const auto& line : lines()) {
    for (std::size_t n = 0; n < line.size(); ++n) expect_sane(line.substr(0, n), "");
  }
}

TEST(PlanCases, HostileValuesDoNotHurt) {
  constexpr std::string_view kDigits = "0123456789.e+";
  for (const auto& line : lines()) {
    for (const char* value : {"-1", "0", "1e308", "1e-308", "null", "\"x\"", "[]", "{}", "true"}) {
      for (std::size_t i = 2; i < line.size(); ++i) {  // every number that follows a colon
        if (line[i - 2] != ':' || line[i] < '0' || line[i] > '9') continue;
        const std::size_t end = line.find_first_not_of(kDigits, i);
        expect_sane(line.substr(0, i) + value + line.substr(std::min(end, line.size())), value);
      }
    }
  }
}

}  // namespace
}  // namespace rigwise
