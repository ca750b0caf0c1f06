#include "plan/trainers.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/text.h"

namespace rigwise::plan {

namespace {

// LitGPT's and Hugging Face's rows were seen by following every tensor of one training step from
// its creation to its release. The other rows were read out of those programs' code and documents;
// no step of them was followed or run. logit_bytes: 16-bit logits, fp32 copy, log-softmax and its
// gradient that live at one time.
constexpr std::array kTrainers = {
    Trainer{.name = "litgpt",
            .logit_bytes = 6,
            .lora_dropout = 0.05,
            .keeps_qkv = true,
            .expands_kv = true,
            .quant_keeps_input = true,
            .fsdp_keeps_frozen = true,
            .unties = true,
            .optimizer_copies = 1,
            .sigma_frac = 0.05},
    Trainer{.name = "unsloth",
            .logit_bytes = 8,
            .fused_norms = true,
            .fused_mlp = true,
            .fp32_adapters = true},
    Trainer{.name = "torchtune"},
    Trainer{.name = "torchtitan"},
    Trainer{.name = "axolotl",
            .lora_dropout = 0.05,
            .upcasts_quantised = true,
            .fp32_adapters = true,
            .optimizer_copies = 0.5},
    Trainer{.name = "llama-factory", .fp32_adapters = true, .optimizer_copies = 0.5},
    Trainer{.name = "llamafactory", .fp32_adapters = true, .optimizer_copies = 0.5},
    Trainer{.name = "rigwise"},
    // Hugging Face's own stack, and what is built on it. AdamW goes over lists of tensors in some
    // versions and is one kernel in others.
    Trainer{.name = "",
            .lora_dropout = 0.05,
            .upcasts_quantised = true,
            .fp32_adapters = true,
            .optimizer_copies = 0.5},
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
