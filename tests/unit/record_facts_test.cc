#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/text.h"
#include "record/facts.h"
#include "record/facts_config.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> values(const std::vector<Fact>& facts) {
  std::map<std::string, std::string> out;
  for (const Fact& fact : facts) {
    EXPECT_NE(std::find(kFactKeys.begin(), kFactKeys.end(), fact.key), kFactKeys.end()) << fact.key;
    EXPECT_FALSE(fact.source.empty()) << fact.key;
    out[fact.key] = fact.value;
  }
  return out;
}

std::vector<std::string> words(const std::string& line) {
  std::vector<std::string> out;
  for (const auto part : split(line, ' ')) out.emplace_back(part);
  return out;
}

using Map = std::map<std::string, std::string>;

TEST(FactsOfArgv, Transformers) {
  EXPECT_EQ(
      values(facts_of_argv(
          words("torchrun --nproc_per_node 2 train.py --model m --data d.jsonl --seq_len 128 "
                "--per_device_train_batch_size 4 --gradient_accumulation_steps=2 --learning_rate "
                "2e-4 --bf16 --save_steps 0 --eval_steps 12 --lora_rank 8 --max_steps 200 "
                "--warmup_ratio 0.03 --no_gradient_checkpointing --output_dir out/two"),
          "/")),
      (Map{{"launcher", "torchrun"},
           {"script", "train.py"},
           {"model", "m"},
           {"data", "d.jsonl"},
           {"sequence_length", "128"},
           {"micro_batch", "4"},
           {"accumulation", "2"},
           {"learning_rate", "2e-04"},
           {"precision", "bf16"},
           {"checkpoint_interval", "none"},
           {"evaluation_interval", "12 steps"},
           {"lora_rank", "8"},
           {"max_steps", "200"},
           {"warmup", "0.03 of all steps"},
           {"gradient_checkpointing", "false"},
           {"checkpoint_dir", "out/two"}}))
      << "numbers are written the shortest way";
}

TEST(FactsOfArgv, OwnEngine) {
  const auto facts = values(facts_of_argv(
      words("rigwise-engine train --model m --data d.txt --seq 64 --micro-batch 2 --global-batch 8 "
            "--steps 50 --strategy ddp --ranks 2 --out o"),
      "/"));
  EXPECT_EQ(facts.at("global_batch"), "8");
  EXPECT_EQ(facts.at("sequence_length"), "64");
  EXPECT_EQ(facts.at("parallelism"), "ddp");
  // a batch that was stated is not made again out of its parts
  const auto again = values(merge_facts({facts_of_argv(
      words("rigwise-engine train --micro-batch 2 --global-batch 8 --ranks 2 --out o"), "/")}));
  EXPECT_EQ(again.at("global_batch"), "8");
}

TEST(FactsOfArgv, OtherSpellings) {
  const auto facts = values(facts_of_argv(
      words(
          "python t.py -b 8 --lr=0.0002 trainer.max_steps=50 ++optimizer.weight_decay=0.1 --wd 0.2 "
          "--load_in_4bit --lora_target q_proj v_proj k_proj --flash_attn --fp16 false --dtype "
          "bfloat16 "
          "--data a.txt b.txt --save_strategy no --save_steps 5 --num-workers 4 --seed -1"),
      "/"));
  EXPECT_EQ(facts.at("micro_batch"), "8");
  EXPECT_EQ(facts.at("max_steps"), "50");
  EXPECT_EQ(facts.at("weight_decay"), "0.2");
  EXPECT_EQ(facts.at("quantisation"), "4bit");
  EXPECT_EQ(facts.at("lora_targets"), "k_proj,q_proj,v_proj");
  EXPECT_EQ(facts.at("attention"), "flash_attention");
  EXPECT_EQ(facts.at("precision"), "bf16");
  EXPECT_EQ(facts.at("data"), "a.txt,b.txt");
  EXPECT_EQ(facts.at("checkpoint_interval"), "none");
  EXPECT_EQ(facts.at("dataloader_workers"), "4");
  EXPECT_EQ(facts.at("seed"), "-1");
  EXPECT_EQ(facts.at("launcher"), "python");
}

class FactsTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("rigwise-facts-" + std::to_string(::getpid()));
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }
  void write(const fs::path& relative, const std::string& text) const {
    fs::create_directories((dir_ / relative).parent_path());
    std::ofstream(dir_ / relative, std::ios::binary) << text;
  }
  fs::path dir_;
};

TEST_F(FactsTest, ConfigurationFiles) {
  write("a.yml",
        "# axolotl\nbase_model: org/model  # the base\nload_in_8bit: true\ndatasets:\n  - path: "
        "x.jsonl\n"
        "    type: alpaca\nlora_target_modules:\n- q_proj\n- k_proj\nlearning_rate: 0.0002\n"
        "micro_batch_size: 2\ntext: |\n  seed: 3\noutput_dir: ./outputs/a\nempty:\n");
  write("b.toml",
        "[training]\nlocal_batch_size = 3\nseq_len = 2048\n[optimizer]\nname = \"AdamW\"\nlr = "
        "8e-4\n");
  write(
      "ds.json",
      R"({"train_micro_batch_size_per_gpu": 5, "gradient_clipping": 1.0, "optimizer": {"params": {"lr": 1}}})");
  const auto yaml = values(
      facts_of_argv({"axolotl", "train", "a.yml", "--micro_batch_size", "7"}, dir_.string()));
  EXPECT_EQ(yaml.at("model"), "org/model");
  EXPECT_EQ(yaml.at("quantisation"), "8bit");
  EXPECT_EQ(yaml.at("data"), "x.jsonl");
  EXPECT_EQ(yaml.at("lora_targets"), "k_proj,q_proj");
  EXPECT_EQ(yaml.at("micro_batch"), "7");  // argv is nearer to the run
  EXPECT_EQ(yaml.at("checkpoint_dir"), "./outputs/a");
  const auto toml =
      values(facts_of_argv({"torchrun", "t.py", "--job.config_file", "b.toml"}, dir_.string()));
  EXPECT_EQ(toml.at("micro_batch"), "3");
  EXPECT_EQ(toml.at("optimizer"), "AdamW");
  EXPECT_EQ(toml.at("sequence_length"), "2048");
  const auto json =
      values(facts_of_argv({"python", "t.py", "--deepspeed", "ds.json"}, dir_.string()));
  EXPECT_EQ(json.at("parallelism"), "deepspeed");
  EXPECT_EQ(json.at("micro_batch"), "5");
  EXPECT_EQ(json.at("clip"), "1");
}

TEST_F(FactsTest, HostileConfigurationFilesSayNothing) {
  write("a.json", std::string(100000, '['));
  write("b.toml", "[[[[ = \xff\n");
  write("c.yml", "\t- : :\n: x\n-\n" + std::string(5000, ' ') + "a: b\n");
  for (const char* name : {"a.json", "b.toml", "c.yml", "none.yml"}) settings_of_file(dir_ / name);
  EXPECT_TRUE(settings_of_file(dir_ / "b.toml").empty());
}

TEST_F(FactsTest, HashesFollowContent) {
  write("train.py", "print()");
  write("d.jsonl", "{}\n");
  write("m/config.json", "{}");
  write("m/model.safetensors", std::string(100, 'a'));
  write("m/.cache/lock", "1");
  const auto argv = words("python train.py --model m --data d.jsonl --eval_data none.jsonl");
  const auto first = values(facts_of_named_files(argv, dir_.string()));
  EXPECT_EQ(first.at("script_hash").substr(0, 7), "sha256:");
  EXPECT_EQ(first.at("model_config_hash"),
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
  EXPECT_EQ(first.at("model_hash").substr(0, 12), "sha256-list:");
  EXPECT_EQ(first.count("evaluation_data_hash"), 0u);
  write("m/.cache/lock", "2");
  EXPECT_EQ(values(facts_of_named_files(argv, dir_.string())), first);
  write("m/model.safetensors", std::string(100, 'b'));
  write("d.jsonl", "{ }\n");
  const auto second = values(facts_of_named_files(argv, dir_.string()));
  EXPECT_NE(second.at("model_hash"), first.at("model_hash"));
  EXPECT_NE(second.at("data_hash"), first.at("data_hash"));
  EXPECT_EQ(second.at("script_hash"), first.at("script_hash"));
}

TEST_F(FactsTest, HashLimits) {
  write("big.bin", std::string(300000, 'x'));
  HashLimits limits;
  limits.max_whole_file_bytes = 100000;
  const auto argv = words("python t.py --data big.bin");
  const auto sampled = values(facts_of_named_files(argv, dir_.string(), limits));
  EXPECT_EQ(sampled.at("data_hash").substr(0, 14), "sha256-sample:");
  write("big.bin", std::string(299999, 'x') + "y");
  EXPECT_NE(values(facts_of_named_files(argv, dir_.string(), limits)).at("data_hash"),
            sampled.at("data_hash"));
  limits.max_whole_file_bytes = 1 << 30;
  limits.max_bytes = 1000;
  EXPECT_TRUE(facts_of_named_files(argv, dir_.string(), limits).empty());
  const std::atomic<bool> stop = true;
  EXPECT_TRUE(facts_of_named_files(argv, dir_.string(), {}, &stop).empty());
}

TEST_F(FactsTest, TrainerOutputs) {
  write("out/checkpoint-9/trainer_state.json", R"({"max_steps": 1})");
  write(
      "out/checkpoint-12/trainer_state.json",
      R"({"max_steps": 24, "train_batch_size": 4, "save_steps": 12, "logging_steps": 1, "eval_steps": 12,
            "num_input_tokens_seen": 12288, "num_train_epochs": 1, "log_history": [{"loss": 1}]})");
  write(
      "out/checkpoint-12/adapter_config.json",
      R"({"r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"], "base_model_name_or_path": "m"})");
  const auto facts = values(facts_of_outputs({dir_ / "out", dir_ / "none"}));
  EXPECT_EQ(facts, (Map{{"max_steps", "24"},
                        {"micro_batch", "4"},
                        {"checkpoint_interval", "12 steps"},
                        {"logging_interval", "1"},
                        {"tokens_seen", "12288"},
                        {"epochs", "1"},
                        {"lora_rank", "8"},
                        {"lora_alpha", "16"},
                        {"lora_targets", "q_proj,v_proj"},
                        {"model", "m"}}));
  EXPECT_TRUE(facts_of_outputs({dir_ / "out"}, 4e9).empty());  // written before that run
}

TEST(MergeFacts, TheTrainersWordWins) {
  const std::vector<Fact> argv = {{"micro_batch", "4", "argv --bs"}, {"seed", "1", "argv --seed"}};
  const std::vector<Fact> config = {{"seed", "2", "config a.yml seed"},
                                    {"clip", "1", "config a.yml clip"}};
  const std::vector<Fact> log = {{"micro_batch", "2", "log/out.log:5"}};
  const auto merged = merge_facts({config, argv, log}, 2);
  const auto facts = values(merged);
  EXPECT_EQ(facts.at("micro_batch"), "2");
  EXPECT_EQ(facts.at("seed"), "1");
  EXPECT_EQ(facts.at("clip"), "1");
  EXPECT_EQ(facts.at("global_batch"), "4");
  for (const Fact& fact : merged)
    if (fact.key == "micro_batch") {
      EXPECT_EQ(fact.source, "log/out.log:5 (argv --bs says 4)");
    }
  EXPECT_EQ(values(merge_facts({argv})).count("global_batch"), 0u);
}

TEST(MergeFacts, GlobalBatchOfTheSummary) {
  StepRecord summary;
  summary.kind = RecordKind::summary;
  summary.samples_per_s = 511.6;
  summary.steps_per_s = 63.95;
  summary.log_file = "log/out.log";
  summary.log_line = 7;
  EXPECT_EQ(global_batch_of_summary(summary)->value, "8");
  summary.samples_per_s = 700;
  EXPECT_FALSE(global_batch_of_summary(summary).has_value());
}

}  // namespace
}  // namespace rigwise
