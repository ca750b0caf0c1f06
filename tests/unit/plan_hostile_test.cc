// Files that are wrong in ways nobody thought of: good ones with bytes changed, cut out and doubled
// by a seeded generator. Nothing crashes, and what is still predicted is finite and ordered.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "rigwise/catalogue.h"
#include "rigwise/plan_options.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

/// Numbers and words that a parser may stumble over, put in where a value stands.
const std::vector<std::string> kNasty = {"-1",   "0",    "1e308", "-0.0",  "9223372036854775808",
                                         "null", "true", "\"\"",  "[]",    "{}",
                                         "1e-9", "2.5",  "\"8\"", "[[[[[", "99999999"};

std::string mutated(std::string text, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  for (std::size_t i = 0, n = 1 + below(3); i < n && !text.empty(); ++i) {
    const std::size_t at = below(text.size());
    switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, 1 + below(20));
        break;
      case 2:
        text.insert(at, text.substr(below(text.size()), 1 + below(30)));
        break;
      default: {  // another value behind a colon
        const auto colon = text.find(':', at);
        if (colon == std::string::npos) break;
        const auto end = text.find_first_of(",}]", colon);
        if (end == std::string::npos) break;
        text.replace(colon + 1, end - colon - 1, kNasty[below(kNasty.size())]);
      }
    }
  }
  return text;
}

void expect_ordered(const Interval& x, const std::string& of) {
  EXPECT_TRUE(std::isfinite(x.value) && std::isfinite(x.low) && std::isfinite(x.high)) << of;
  EXPECT_LE(x.low, x.value * (1 + 1e-9)) << of;
  EXPECT_GE(x.high, x.value * (1 - 1e-9)) << of;
}

const std::string kLink = R"({"schema":1,"hosts":["a","b"],"pairs":[{"from_rank":0,"to_rank":1,
  "sizes":[{"message_bytes":1000000,"time_s":0.01},{"message_bytes":8,"time_s":1e-4}]}],
  "collectives":[{"operation":"all_reduce","ranks":2,"sizes":[{"message_bytes":8,"time_s":1e-4,
  "time_low_s":1e-4,"time_high_s":2e-4},{"message_bytes":4194304,"time_s":0.4,"time_low_s":0.39,
  "time_high_s":0.41}],"overlap":{"message_bytes":4194304,"repeats":3,"compute_together_s":0.5,
  "alone_s":0.4,"both_s":0.6,"hidden":0.5,"hidden_least":0.2,"hidden_most":0.7}},
  {"operation":"all_gather","ranks":2,"sizes":[{"message_bytes":4194304,"time_s":0.2}],
  "overlap":{"hidden":0.9,"hidden_least":0.8,"hidden_most":0.95}}],
  "together":{"factor":1.2,"factor_least":1.0,"factor_most":1.4}})";

TEST(PlanHostile, Links) {
  std::mt19937_64 random(1);
  Workload w;
  w.shape = ModelShape{4, 256, 4, 4, 64, 682, 1000, true, true};
  w.seq_len = 128;
  w.micro_batch = 2;
  w.grad_accum = 4;
  MeasuredStep step;
  step.forward_s = 0.3;
  step.backward_s = 0.6;
  step.micro_steps = 4;
  int read = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string text = mutated(kLink, random);
    const auto link = read_link(text, "link.json");
    if (!link) continue;
    ++read;
    for (const auto& one :
         order_strategies({"single", "ddp", "fsdp", "tp", "pp"}, 2, w, step, *link)) {
      if (one.refused.empty()) expect_ordered(one.step_s, one.strategy + " over " + text);
    }
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(read, 1000);
}

TEST(PlanHostile, Configs) {
  const fs::path folder =
      fs::temp_directory_path() / ("rigwise-plan-hostile-" + std::to_string(::getpid()));
  fs::create_directories(folder);
  const std::string good =
      R"({"model_type":"llama","num_hidden_layers":2,"hidden_size":64,"num_attention_heads":4,)"
      R"("num_key_value_heads":2,"head_dim":16,"intermediate_size":128,"vocab_size":1000,)"
      R"("tie_word_embeddings":true,"text_config":{"hidden_size":8},"num_local_experts":1})";
  std::mt19937_64 random(2);
  int read = 0;
  for (int i = 0; i < 5000; ++i) {
    const std::string text = mutated(good, random);
    std::ofstream(folder / "config.json", std::ios::binary) << text;
    const auto model = read_model(folder);
    if (!model) {
      EXPECT_FALSE(model.error().message.empty());
      continue;
    }
    ++read;
    for (const char* method : {"full", "lora", "qlora"}) {
      Workload w;
      w.shape = model->shape;
      w.method = method;
      if (w.method != "full") w.lora_targets = {"q", "v", "down"};
      w.seq_len = 2048;
      w.micro_batch = 1;
      const auto fit = plan_fit(w);
      if (!fit) continue;
      expect_ordered(fit->estimate.peak, text);
      for (const auto& moment : fit->moments) expect_ordered(moment.bytes, moment.what + text);
    }
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(read, 100);
  fs::remove_all(folder);
}

TEST(PlanHostile, Cases) {
  std::ifstream file(std::string(RIGWISE_FIXTURES) + "/plan/cases.jsonl", std::ios::binary);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  ASSERT_FALSE(lines.empty());
  std::mt19937_64 random(3);
  for (int i = 0; i < 5000; ++i) {
    const auto cases = read_plan_cases(mutated(lines[random() % lines.size()], random));
    if (!cases) continue;
    for (const auto& one : *cases) {
      const auto predicted = predict_case(one);
      if (predicted.refused) continue;
      EXPECT_TRUE(std::isfinite(predicted.predicted)) << one.id;
    }
  }
}

}  // namespace
}  // namespace rigwise
