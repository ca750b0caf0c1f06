// Low-rank adapters on a model: put on, filled, written and read as PEFT keeps them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "engine/files/adapter_config.h"
#include "engine/model/model.h"
#include "engine/model/weights.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// What PEFT adapts when no targets are named.
std::vector<std::string> default_lora_targets(Architecture architecture);

/// Freezes the model and puts adapters (described, not filled) on the layers that `config` names.
/// Whoever cuts the model does it afterwards: adapters follow the cuts of their matrices.
/// Errors: as adapted_modules(); usage (a target that is not a linear layer of a block).
Status add_lora(Model& model, const AdapterConfig& config);

/// PEFT's start: A uniform in ±1 / sqrt(inputs) (Kaiming with a = sqrt 5), B zero; fp32. The same
/// for a name and seed whatever part of it a rank holds.
void init_lora(Model& model, std::uint64_t seed);

/// Fills the adapters from adapter_model.safetensors of a PEFT folder, each with this rank's part.
/// Errors: not_found, malformed (a shape: both are told; a tensor that no layer asks for).
Status load_lora(Model& model, const std::filesystem::path& folder);

/// The adapter's whole tensors under PEFT's names, from whole values of `value_of`.
std::vector<NamedTensor> lora_tensors(Model& model,
                                      const std::function<at::Tensor(const Parameter&)>& value_of);

/// "model.layers.0.self_attn.q_proj.lora_A.weight" -> the name in PEFT's file.
std::string peft_name(std::string_view name);

}  // namespace rigwise::engine
