#include "plan/trainers.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/text.h"

namespace rigwise::plan {

namespace {

// What a row says was seen by following every tensor of one training step of that program (or of
// the library below it) from its creation to its release. logit_bytes: 16-bit logits, fp32 copy,
// log-softmax and its gradient that live at one time.
constexpr std::array kTrainers = {
    Trainer{.name = "litgpt",
            .logit_bytes = 6,
            .lora_dropout = 0.05,
            .keeps_qkv = true,
            .expands_kv = true,
            .quant_keeps_input = true,
            .fsdp_keeps_frozen = true,
            .unties = true,
            .sigma_frac = 0.07},
    Trainer{.name = "unsloth",
            .logit_bytes = 8,
            .fused_norms = true,
            .fused_mlp = true,
            .fp32_adapters = true,
            .foreach_optimizer = false},
    Trainer{.name = "torchtune", .logit_bytes = 10, .foreach_optimizer = false, .sigma_frac = 0.14},
    Trainer{.name = "torchtitan", .logit_bytes = 10, .foreach_optimizer = false},
    Trainer{
        .name = "axolotl", .lora_dropout = 0.05, .upcasts_quantised = true, .fp32_adapters = true},
    Trainer{.name = "llama-factory", .upcasts_quantised = true, .fp32_adapters = true},
    Trainer{.name = "llamafactory", .upcasts_quantised = true, .fp32_adapters = true},
    Trainer{.name = "rigwise", .logit_bytes = 12, .foreach_optimizer = false},
    // Hugging Face's own stack, and what is built on it.
    Trainer{.name = "", .upcasts_quantised = true, .fp32_adapters = true},
};

constexpr std::array<std::string_view, 7> kParallel = {
    "phi-1", "phi-2", "falcon", "pythia", "neox", "gpt-j", "stablelm-base-alpha"};

}  // namespace

const Trainer& trainer_of(std::string_view framework) {
  const std::string name = lower(framework);
  for (const auto& trainer : kTrainers) {
    if (name.find(trainer.name) != std::string::npos) return trainer;  // the last one fits all
  }
  return kTrainers.back();
}

bool has_parallel_residual(std::string_view model) {
  const std::string name = lower(model);
  return std::any_of(kParallel.begin(), kParallel.end(),
                     [&](auto part) { return name.find(part) != std::string::npos; });
}

}  // namespace rigwise::plan
