// Rotary position frequencies of a model, computed as transformers' modeling_rope_utils does.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/files/model_config.h"

namespace rigwise::engine {

struct RopeFrequencies {
  std::vector<float> inverse;  // head_dim / 2 of them, radians a position
  float scale = 1;             // cos and sin are multiplied by it (yarn)
};

/// `positions` is the longest sequence of the run, which only `dynamic` scaling looks at: longer
/// than max_positions, the base grows (NTK-aware scaling). Steps in float, as transformers has
/// them. The config must have rotary positions.
/// Sources: linear: position interpolation (arXiv 2306.15595); yarn: arXiv 2309.00071; llama3: the
/// rule published with Llama 3.1.
RopeFrequencies rope_frequencies(const ModelConfig& config, std::int64_t positions);

}  // namespace rigwise::engine
