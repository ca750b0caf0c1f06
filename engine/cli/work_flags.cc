#include "engine/cli/work_flags.h"

#include <algorithm>

#include "engine/model/lora.h"

namespace rigwise::engine {

void add_model_flags(CLI::App& verb, WorkFlags& flags) {
  verb.add_option("--model", flags.model, "A Hugging Face folder (config.json, *.safetensors, …)")
      ->type_name("DIR")
      ->required();
  verb.add_option("--adapter", flags.adapter, "A PEFT LoRA folder on top of it")->type_name("DIR");
  verb.add_option("--dtype", flags.dtype, "Type to compute in and to keep weights in")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
}

void add_data_flags(CLI::App& verb, WorkFlags& flags) {
  verb.add_option("--data", flags.data, "A .txt or .jsonl file (docs/engine-training.md)")
      ->type_name("FILE")
      ->required();
  verb.add_option("--pack", flags.pack,
                  "concat: one stream cut into windows; documents: whole ones, apart from each "
                  "other; none: one a window")
      ->check(CLI::IsMember({"concat", "documents", "none"}))
      ->capture_default_str();
  verb.add_option("--seq", flags.seq, "Tokens of a window (default: 512, or what the model allows)")
      ->type_name("N")
      ->check(CLI::Range(2, 1 << 20));
  verb.add_flag("--train-on-prompts", flags.train_on_prompts,
                "Learn prompts and users' messages too");
}

void add_method_flags(CLI::App& verb, WorkFlags& flags) {
  verb.add_option("--method", flags.method, "lora, qlora (4-bit frozen weights) or full")
      ->check(CLI::IsMember({"lora", "qlora", "full"}))
      ->capture_default_str();
  verb.add_option("--lora-rank", flags.lora_rank, "Rank of the adapters")
      ->type_name("N")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  verb.add_option("--lora-alpha", flags.lora_alpha,
                  "Their scale times the rank (default: 2 × rank)")
      ->type_name("X");
  verb.add_option("--lora-dropout", flags.lora_dropout, "Share of their inputs that is dropped")
      ->type_name("P")
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str();
  verb.add_option("--lora-targets", flags.lora_targets,
                  "Layers to adapt, by the end of their names, or all-linear (default: PEFT's)")
      ->type_name("NAME[,NAME…]")
      ->delimiter(',');
  verb.add_flag("--rslora", flags.rslora, "Scale alpha / sqrt(rank) instead of alpha / rank");
  verb.add_flag("--no-double-quantisation", flags.single_quantisation,
                "qlora: keep the scales in full");
  verb.add_option("--seed", flags.seed, "Of new adapters and of dropout")
      ->type_name("N")
      ->capture_default_str();
}

namespace {

/// The last parts of the names of all linear layers of the blocks.
std::vector<std::string> all_linear(const ModelConfig& config) {
  std::vector<std::string> names;
  const std::unique_ptr<Model> model = Model::describe(config);
  for (const Linear* layer : model->blocks()[0]->linears()) {
    const std::string name = layer->module.substr(layer->module.rfind('.') + 1);
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  return names;
}

}  // namespace

Result<ModelOptions> model_options(const WorkFlags& flags, at::Device device) {
  ModelOptions options{.model = flags.model, .seed = flags.seed, .devices = {device}};
  options.method = flags.method == "full"    ? Method::full
                   : flags.method == "qlora" ? Method::qlora
                                             : Method::lora;
  if (flags.dtype == "bf16") options.dtype = at::kBFloat16;
  if (flags.single_quantisation) options.quantised = Storage::nf4;
  if (!flags.adapter.empty()) {
    if (options.method == Method::full) {
      return Error{Errc::usage, "--adapter with --method full",
                   "leave out one of them: an adapter is trained with lora or qlora"};
    }
    options.adapter_from = flags.adapter;
    RW_TRY(options.adapter, read_adapter_config(flags.adapter));
    options.adapter.dropout = flags.lora_dropout;
    return options;
  }
  RW_TRY(const ModelConfig config, read_model_config(flags.model));
  options.adapter = {.rank = flags.lora_rank,
                     .alpha = flags.lora_alpha.value_or(2 * static_cast<double>(flags.lora_rank)),
                     .dropout = flags.lora_dropout,
                     .rank_stabilised = flags.rslora,
                     .fan_in_fan_out = config.architecture == Architecture::gpt2,
                     .target_modules = flags.lora_targets,
                     .base_model = flags.model};
  if (flags.lora_targets.empty()) {
    options.adapter.target_modules = default_lora_targets(config.architecture);
  } else if (flags.lora_targets == std::vector<std::string>{"all-linear"}) {
    options.adapter.target_modules = all_linear(config);
  }
  return options;
}

Result<DataFlags> data_flags(const WorkFlags& flags) {
  DataFlags data{.file = flags.data, .pack = *pack_of(flags.pack), .seq = flags.seq};
  data.reading.train_on_prompts = flags.train_on_prompts;
  if (flags.seq == 0) {
    RW_TRY(const ModelConfig config, read_model_config(flags.model));
    data.seq = std::min<std::int64_t>(512, config.max_positions);
  }
  return data;
}

}  // namespace rigwise::engine
