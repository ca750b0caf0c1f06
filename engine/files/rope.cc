#include "engine/files/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace rigwise::engine {

namespace {

std::vector<float> plain(double theta, std::int64_t dims) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < dims; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(dims);
    out.push_back(1.0F / std::pow(static_cast<float>(theta), exponent));
  }
  return out;
}

/// Long waves are stretched by `factor`, short ones are left, those between go over smoothly.
void stretch_llama3(std::vector<float>& inverse, const Rope& rope) {
  const double context = static_cast<double>(rope.original_positions);
  for (float& frequency : inverse) {
    const double wave = 2 * std::numbers::pi / frequency;
    if (wave > context / rope.low_freq_factor) {
      frequency = static_cast<float>(frequency / rope.factor);
    } else if (wave >= context / rope.high_freq_factor) {
      const double smooth =
          (context / wave - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      frequency = static_cast<float>((1 - smooth) * frequency / rope.factor + smooth * frequency);
    }
  }
}

float stretch_yarn(std::vector<float>& inverse, const Rope& rope, std::int64_t dims) {
  const double context = static_cast<double>(rope.original_positions);
  const auto dim_of = [&](double rotations) {
    return static_cast<double>(dims) * std::log(context / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = dim_of(rope.beta_fast), high = dim_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dims - 1));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    const auto ramp =
        static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
    inverse[i] = inverse[i] / static_cast<float>(rope.factor) * ramp + inverse[i] * (1 - ramp);
  }
  if (rope.attention_factor) return static_cast<float>(*rope.attention_factor);
  const auto scale_of = [&](double mscale) {
    return rope.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0;
  };
  if (rope.mscale.value_or(0) != 0 && rope.mscale_all_dim.value_or(0) != 0)
    return static_cast<float>(scale_of(*rope.mscale) / scale_of(*rope.mscale_all_dim));
  return static_cast<float>(scale_of(1));
}

}  // namespace

RopeFrequencies rope_frequencies(const ModelConfig& config, std::int64_t positions) {
  const Rope rope = config.rope.value_or(Rope{});
  const std::int64_t dims = config.head_dim;
  double theta = rope.theta;
  if (rope.kind == Rope::Kind::dynamic && dims > 2) {
    const double reach = static_cast<double>(std::max(positions, config.max_positions)) /
                         static_cast<double>(config.max_positions);
    theta *= std::pow(rope.factor * reach - (rope.factor - 1),
                      static_cast<double>(dims) / static_cast<double>(dims - 2));
  }
  RopeFrequencies out{plain(theta, dims)};
  switch (rope.kind) {
    case Rope::Kind::plain:
    case Rope::Kind::dynamic:
      break;
    case Rope::Kind::linear:
      for (float& frequency : out.inverse) frequency /= static_cast<float>(rope.factor);
      break;
    case Rope::Kind::llama3:
      stretch_llama3(out.inverse, rope);
      break;
    case Rope::Kind::yarn:
      out.scale = stretch_yarn(out.inverse, rope, dims);
      break;
  }
  return out;
}

}  // namespace rigwise::engine
