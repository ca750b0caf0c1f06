#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/text.h"
#include "cli/verbs.h"
#include "rigwise/catalogue.h"
#include "rigwise/plan.h"
#include "rigwise/report_plan.h"

namespace rigwise::cli {

namespace {

/// A folder where there is one of that name, else a name of the catalogue.
Result<ModelSource> model_of(const std::string& text) {
  std::error_code error;
  if (std::filesystem::is_directory(text, error)) return read_model(text);
  if (text.starts_with("/") || text.starts_with(".") || text.starts_with("~")) {
    return Error{Errc::usage, "no folder '" + clean_text(text, 200) + "'",
                 "a folder with config.json, or a name such as llama-3.1-8b"};
  }
  return find_model(text);
}

/// What predict_memory tells apart. Errors: usage, with the nearest name.
Status known_optimizer(const std::string& name) {
  static const std::vector<std::string> kNames = {
      "adamw",          "adam",        "adamw_torch",      "adamw_torch_fused", "adamw_8bit",
      "adamw_bnb_8bit", "paged_adamw", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor",
      "lion",           "sgd"};
  if (std::find(kNames.begin(), kNames.end(), name) != kNames.end()) return Ok{};
  const auto near = nearest_name(lower(name), kNames);
  return Error{Errc::usage, "unknown optimizer '" + clean_text(name, 60) + "'",
               near ? "did you mean '" + *near + "'? known: " + join(kNames, ", ")
                    : "known: " + join(kNames, ", ")};
}

}  // namespace

int cmd_plan_memory(const PlanArgs& args) {
  const auto model = model_of(*args.model);
  if (!model) return fail(model.error());
  Workload w;
  w.model = model->name;
  w.shape = model->shape;
  w.params = model->params;
  std::vector<std::string> assumed = model->assumed;
  const auto given = [&](const std::optional<std::string>& value, const char* otherwise,
                         const char* what) {
    if (!value) assumed.push_back(std::string(what) + " " + otherwise);
    return value.value_or(otherwise);
  };
  w.method = given(args.method, "lora", "method");
  w.seq_len = args.seq;
  w.micro_batch = args.micro_batch.value_or(1);
  w.grad_accum = args.accumulate.value_or(1);
  if (w.method != "full") {
    w.lora_rank = args.lora_rank.value_or(16);
    w.lora_targets = args.lora_targets.empty()
                         ? std::vector<std::string>{"q", "k", "v", "o", "gate", "up", "down"}
                         : args.lora_targets;
    if (!args.lora_rank) assumed.push_back("LoRA rank 16");
    if (args.lora_targets.empty()) assumed.push_back("LoRA on all matrices of a layer");
  }
  if (w.method == "qlora") w.quant = args.quant.value_or("nf4_dq");
  w.precision = given(args.precision, w.method == "full" ? "bf16_mixed" : "bf16", "precision");
  w.optimizer = given(args.optimizer, "adamw", "optimizer");
  if (const auto known = known_optimizer(w.optimizer); !known) return fail(known.error());
  w.checkpointing = given(args.checkpointing, "none", "recomputation");
  w.attention = args.attention.value_or("flash");
  w.logits = args.logits.value_or("full");
  w.framework = given(args.framework, "hf", "trainer");
  w.n_gpus = static_cast<std::int64_t>(args.gpus.value_or(1));
  w.strategy = args.strategy.value_or(w.n_gpus > 1 ? "ddp" : "single");
  if (w.strategy.ends_with("_offload")) {  // DeepSpeed: stage 3 can put the weights away too
    w.strategy.resize(w.strategy.size() - std::string_view("_offload").size());
    w.offload = w.strategy == "zero3" ? "all" : "optimizer";
  }
  w.metric = args.metric.value_or("device");
  if (args.gpu) {
    const auto gpu = find_gpu(*args.gpu);
    if (!gpu) return fail(gpu.error());
    w.gpu = gpu->name;
    w.gpu_mem_bytes = gpu->mem_bytes;
  }
  auto plan = plan_fit(w);
  if (!plan) return fail(plan.error());
  plan->estimate.assumed = std::move(assumed);
  const int printed =
      print(args.json ? fit_json(*plan, w) : fit_text(*plan, w, style_of(STDOUT_FILENO)));
  if (printed != kOk) return printed;
  return plan->fit == Fit::does_not_fit ? kPartial : kOk;
}

}  // namespace rigwise::cli
