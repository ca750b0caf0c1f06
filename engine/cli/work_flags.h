// The flags that say what is trained or evaluated: the same for every verb that has a model.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/cli/verbs.h"
#include "engine/train/trainer.h"

namespace rigwise::engine {

struct WorkFlags {
  std::string model, data, adapter;
  std::string method = "lora", dtype = "fp32", pack = "concat";
  std::int64_t seq = 0;  // 0: 512, or what the model allows
  bool train_on_prompts = false;
  std::int64_t lora_rank = 8;
  std::optional<double> lora_alpha;
  double lora_dropout = 0;
  std::vector<std::string> lora_targets;
  bool rslora = false, single_quantisation = false;
  std::uint64_t seed = 0;
};

/// --model, --adapter, --dtype.
void add_model_flags(CLI::App& verb, WorkFlags& flags);
/// --data, --pack, --seq, --train-on-prompts.
void add_data_flags(CLI::App& verb, WorkFlags& flags);
/// --method, --lora-…, --seed.
void add_method_flags(CLI::App& verb, WorkFlags& flags);

/// Errors: usage, not_found (of --adapter), with what is.
Result<ModelOptions> model_options(const WorkFlags& flags, at::Device device);
/// The model's own limit is the default of --seq where 512 is above it. Errors: of config.json.
Result<DataFlags> data_flags(const WorkFlags& flags);

}  // namespace rigwise::engine
