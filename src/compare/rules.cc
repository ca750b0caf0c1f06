#include "compare/rules.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/text.h"

namespace rigwise::compare_rules {

namespace {

using enum Impact;

constexpr std::array kFactRules = {
    FieldRule{"model", blocks, blocks, true, "another model is another amount of work"},
    FieldRule{"model_config_hash", blocks, blocks, true, "the model folders differ in config.json"},
    FieldRule{"model_hash", noted, blocks, false, "the start weights differ"},
    FieldRule{"parameters", blocks, blocks, true, "another size of model"},
    FieldRule{"trainable_parameters", blocks, blocks, true, "another number of trained weights"},
    FieldRule{"data", blocks, blocks, true, "other data is other work"},
    FieldRule{"data_hash", blocks, blocks, true, "the data files differ in content"},
    FieldRule{"data_rows", blocks, blocks, true, "another slice of the data"},
    FieldRule{"tokenizer", blocks, blocks, true, "tokens are counted differently"},
    FieldRule{"sequence_length", blocks, blocks, true, "a sample holds another number of tokens"},
    FieldRule{"packing", blocks, blocks, true, "a sample holds another number of real tokens"},
    FieldRule{"global_batch", normalise, blocks, false,
              "time is counted a sample; steps are of different size"},
    FieldRule{"micro_batch", noted, noted, false, "legitimate tuning"},
    FieldRule{"accumulation", noted, noted, false, "legitimate tuning"},
    FieldRule{"max_steps", noted, blocks, true,
              "the stop point differs, and with it the learning-rate curve"},
    FieldRule{"epochs", noted, blocks, true,
              "the stop point differs, and with it the learning-rate curve"},
    FieldRule{"resume", caps, blocks, true,
              "a resumed run starts with a cold cache, elsewhere on the curve"},
    FieldRule{"optimizer", noted, blocks, false, "other updates"},
    FieldRule{"learning_rate", noted, blocks, false, "other updates"},
    FieldRule{"schedule", noted, blocks, false, "other updates"},
    FieldRule{"warmup", noted, blocks, false, "other updates"},
    FieldRule{"weight_decay", noted, blocks, false, "other updates"},
    FieldRule{"clip", noted, blocks, false, "other updates"},
    FieldRule{"precision", caps, caps, false, "other arithmetic"},
    FieldRule{"quantisation", caps, caps, false, "other arithmetic"},
    FieldRule{"lora_rank", caps, caps, false, "another number of trained weights"},
    FieldRule{"lora_alpha", noted, caps, false, "other updates"},
    FieldRule{"lora_dropout", noted, caps, false, "other updates"},
    FieldRule{"lora_targets", caps, caps, false, "another number of trained weights"},
    FieldRule{"gradient_checkpointing", caps, caps, false, "activations are computed twice"},
    FieldRule{"attention", caps, caps, false, "another kernel"},
    FieldRule{"compile", caps, caps, false, "other kernels"},
    FieldRule{"seed", noted, caps, false, "another order of the data: losses cannot be paired"},
    FieldRule{"evaluation_interval", noted, caps, true, "total time holds other evaluations"},
    FieldRule{"evaluation_data", noted, caps, true, "total time holds other evaluations"},
    FieldRule{"evaluation_data_hash", noted, caps, true, "total time holds other evaluations"},
    FieldRule{"evaluation_rows", noted, caps, true, "total time holds other evaluations"},
    FieldRule{"checkpoint_interval", noted, noted, true, "total time holds other saves"},
    FieldRule{"logging_interval", noted, noted, false,
              "records are means over different numbers of steps: brought to the same first"},
    FieldRule{"dataloader_workers", caps, noted, false, "data arrives at another rate"},
    FieldRule{"cpu_threads", caps, noted, false, "another share of the processor"},
    FieldRule{"parallelism", caps, noted, false, "another strategy"},
    FieldRule{"launcher", noted, noted, false, "started another way"},
    FieldRule{"script", noted, noted, false, "another name for the program"},
    FieldRule{"script_hash", caps, caps, false, "the program's text differs"},
};

constexpr std::array kStateRules = {
    FieldRule{"run_ended", blocks, blocks, true, "a run that did not end well shows other work"},
    FieldRule{"ranks_trained", blocks, blocks, true,
              "the work was not shared as it was asked to be"},
    FieldRule{"ranks", blocks, noted, false,
              "another number of devices, and they are not what is under test",
              "name them: --factor ranks"},
    FieldRule{"argument", caps, caps, false,
              "an argument that no field here reads: what it changes is not known"},
    FieldRule{"metric_meaning", caps, none, false,
              "samples per second, batch and step time do not fit together"},
    FieldRule{"software", caps, caps, false, "other software"},
    FieldRule{"environment_variable", caps, noted, false, "other settings from the environment"},
    FieldRule{"code_revision", caps, caps, false, "other code"},
    FieldRule{"code_changes", caps, caps, false, "other code that was not committed"},
    FieldRule{"gpu_model", blocks, noted, true, "another device", "use the same GPU on both sides"},
    FieldRule{"gpu_link", blocks, noted, true, "the GPU is attached more slowly",
              "use the same slot on both sides"},
    FieldRule{"gpu_power_limit", blocks, noted, true, "another power limit",
              "set the same power limit on both sides"},
    FieldRule{"cpu", caps, noted, true, "another host"},
    FieldRule{"cpus_allowed", caps, noted, true, "another share of the processor"},
    FieldRule{"host_memory", caps, noted, false, "another host"},
    FieldRule{"storage", caps, noted, false, "other storage"},
    FieldRule{"host", noted, noted, false, "another machine"},
    FieldRule{"foreign_load", caps, noted, false, "other programs took CPU time during the steps",
              "stop the other programs and repeat"},
    FieldRule{"foreign_gpu", blocks, noted, true, "other programs used the same GPU",
              "stop the other programs on the GPU and repeat"},
    FieldRule{"throttle", caps, noted, false, "clocks were held down during the steps"},
    FieldRule{"start_temperature", caps, noted, false, "one side started on a warmer device"},
    FieldRule{"cache_state", caps, noted, false, "the first run after boot reads from a cold disk"},
    FieldRule{"order", caps, noted, false, "all of one side ran long before the other: drift",
              "run the sides in turn: A B B A"},
    FieldRule{"capture", blocks, blocks, false, "too many steps are missing from the record",
              "repeat it with unbuffered output (PYTHONUNBUFFERED=1)"},
    FieldRule{"steadiness", caps, noted, false,
              "the step time of a run did not settle within a third of it"},
    FieldRule{"unexplained_pauses", caps, noted, false,
              "more than 5 % of the steps stood still for no known reason"},
};

constexpr std::array<std::string_view, 24> kDecidingSoftware = {
    "torch", "cuda",    "hip",          "rocm",       "cudnn",        "nccl",
    "rccl",  "driver",  "triton",       "jax",        "transformers", "accelerate",
    "peft",  "trl",     "deepspeed",    "flash_attn", "flash-attn",   "xformers",
    "apex",  "unsloth", "bitsandbytes", "megatron",   "tensorflow",   "lightning"};

struct Follower {
  std::string_view factor, field;
};
constexpr std::array kFollowers = {
    Follower{"ranks", "micro_batch"},
    Follower{"ranks", "accumulation"},
    Follower{"ranks", "launcher"},
    Follower{"ranks", "parallelism"},
    Follower{"micro_batch", "accumulation"},
    Follower{"accumulation", "micro_batch"},
    Follower{"lora_rank", "trainable_parameters"},
    Follower{"lora_rank", "lora_alpha"},
    Follower{"lora_targets", "trainable_parameters"},
    Follower{"quantisation", "parameters"},
    Follower{"quantisation", "precision"},
    Follower{"model", "model_config_hash"},
    Follower{"model", "model_hash"},
    Follower{"model", "parameters"},
    Follower{"model", "trainable_parameters"},
    Follower{"model", "tokenizer"},
    Follower{"data", "data_hash"},
    Follower{"data", "data_rows"},
    Follower{"evaluation_interval", "evaluation_data"},
    Follower{"evaluation_interval", "evaluation_data_hash"},
    Follower{"evaluation_interval", "evaluation_rows"},
    Follower{"script_hash", "script"},
    Follower{"script_hash", "code_changes"},
    Follower{"script_hash", "code_revision"},
    Follower{"host", "cpu"},
    Follower{"host", "cpus_allowed"},
    Follower{"host", "host_memory"},
    Follower{"host", "storage"},
    Follower{"host", "gpu_model"},
    Follower{"host", "gpu_link"},
    Follower{"host", "gpu_power_limit"},
    Follower{"gpu_model", "gpu_link"},
    Follower{"gpu_model", "gpu_power_limit"},
};

struct Alias {
  std::string_view word, field;
};
constexpr std::array kAliases = {
    Alias{"gpus", "ranks"},
    Alias{"gpu_count", "ranks"},
    Alias{"devices", "ranks"},
    Alias{"ranks_asked", "ranks"},
    Alias{"world_size", "ranks"},
    Alias{"nproc_per_node", "ranks"},
    Alias{"gpu", "gpu_model"},
    Alias{"batch", "micro_batch"},
    Alias{"batch_size", "micro_batch"},
    Alias{"workers", "dataloader_workers"},
    Alias{"num_workers", "dataloader_workers"},
    Alias{"threads", "cpu_threads"},
    Alias{"dtype", "precision"},
    Alias{"lr", "learning_rate"},
    Alias{"code", "script_hash"},
    Alias{"eval_steps", "evaluation_interval"},
    Alias{"save_steps", "checkpoint_interval"},
    Alias{"link", "gpu_link"},
    Alias{"power_limit", "gpu_power_limit"},
    Alias{"seq_len", "sequence_length"},
    Alias{"strategy", "parallelism"},
};

/// Words of a free text, most telling first: "second GPU" must not be taken for a GPU model.
constexpr std::array kWords = {
    Alias{"second gpu", "ranks"},
    Alias{"two gpu", "ranks"},
    Alias{"2 gpu", "ranks"},
    Alias{"gpus", "ranks"},
    Alias{"data parallel", "ranks"},
    Alias{"two rank", "ranks"},
    Alias{"2 rank", "ranks"},
    Alias{"ranks", "ranks"},
    Alias{"second card", "ranks"},
    Alias{"two process", "ranks"},
    Alias{"second process", "ranks"},
    Alias{"multi-gpu", "ranks"},
    Alias{"another gpu", "ranks"},
    Alias{"more gpu", "ranks"},
    Alias{"bf16", "precision"},
    Alias{"fp16", "precision"},
    Alias{"precision", "precision"},
    Alias{"4bit", "quantisation"},
    Alias{"4-bit", "quantisation"},
    Alias{"8-bit", "quantisation"},
    Alias{"quanti", "quantisation"},
    Alias{"gradient checkpointing", "gradient_checkpointing"},
    Alias{"flash", "attention"},
    Alias{"attention", "attention"},
    Alias{"compile", "compile"},
    Alias{"worker", "dataloader_workers"},
    Alias{"loader", "dataloader_workers"},
    Alias{"nvme", "storage"},
    Alias{"ssd", "storage"},
    Alias{"disk", "storage"},
    Alias{"power limit", "gpu_power_limit"},
    Alias{"batch", "micro_batch"},
    Alias{"lora rank", "lora_rank"},
    Alias{"thread", "cpu_threads"},
    Alias{"fsdp", "parallelism"},
    Alias{"deepspeed", "parallelism"},
    Alias{"sharding", "evaluation_interval"},
    Alias{"evaluation", "evaluation_interval"},
    Alias{"packing", "packing"},
    Alias{"driver", "software"},
    Alias{"upgrade", "software"},
};

const FieldRule* find_rule(std::string_view field) {
  for (const FieldRule& rule : kFactRules) {
    if (rule.field == field) return &rule;
  }
  for (const FieldRule& rule : kStateRules) {
    if (rule.field == field) return &rule;
  }
  return nullptr;
}

}  // namespace

std::span<const FieldRule> fact_rules() {
  return kFactRules;
}
std::span<const FieldRule> state_rules() {
  return kStateRules;
}

const FieldRule& rule_of(std::string_view field) {
  const FieldRule* rule = find_rule(field);
  if (rule == nullptr) {
    std::fprintf(stderr, "rigwise: no comparison rule for a field\n");
    std::abort();
  }
  return *rule;
}

bool decides_speed(std::string_view package) {
  for (const std::string_view name : kDecidingSoftware) {
    if (name == package) return true;
  }
  return false;
}

bool follows(std::string_view factor, std::string_view field) {
  for (const Follower& pair : kFollowers) {
    if (pair.factor == factor && pair.field == field) return true;
  }
  return false;
}

std::string_view factor_field(std::string_view word) {
  if (const FieldRule* rule = find_rule(word); rule != nullptr) return rule->field;
  for (const Alias& alias : kAliases) {
    if (alias.word == word) return alias.field;
  }
  return {};
}

std::string_view factor_in_words(std::string_view text) {
  const std::string low = lower(text);
  if (const std::string_view exact = factor_field(trim(low)); !exact.empty()) return exact;
  for (const Alias& alias : kWords) {
    if (low.find(alias.word) != std::string::npos) return alias.field;
  }
  return {};
}

}  // namespace rigwise::compare_rules
