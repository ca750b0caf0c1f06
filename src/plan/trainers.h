// Trainers: what a training program does to memory beside what it was asked to do.
#pragma once

#include <string_view>

namespace rigwise::plan {

/// Read in each trainer's published code, two of them followed in a step; see trainers.cc.
struct Trainer {
  std::string_view name = {};      // part of the framework's name, lower case
  double logit_bytes = 12;         // at the peak, for each token and vocabulary entry
  double lora_dropout = 0;         // default; above 0 each target keeps a copy of its input
  bool fused_norms = false;        // RMS norm keeps its 16-bit input only, not an fp32 copy
  bool fused_mlp = false;          // gate and up are kept, their product is made again
  bool keeps_qkv = false;          // q, k and v are views of one buffer that lives on
  bool expands_kv = false;         // grouped keys and values are copied out to all heads
  bool upcasts_quantised = false;  // QLoRA: norms, embeddings and head become fp32
  bool fp32_adapters = false;      // whatever type the base has
  bool quant_keeps_input = false;  // the quantised product keeps its input
  bool fsdp_keeps_frozen = false;  // gathered frozen weights are not freed
  bool unties = false;             // stores tied embeddings twice
  double optimizer_copies =
      0;                     // of the weights' type, live at once inside AdamW's step: 1 over lists
  double sigma_frac = 0.16;  // spread of measured peaks about this estimate, cold
};

const Trainer& trainer_of(std::string_view framework);

/// Models whose attention and MLP share one norm's input (and often its output).
bool has_parallel_residual(std::string_view model);

}  // namespace rigwise::plan
