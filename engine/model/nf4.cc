#include "engine/model/nf4.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"
#include "engine/model/kernels.h"

namespace rigwise::engine {
namespace {

constexpr std::array<float, 16> kLevels = {
    -1.0F,
    -0.6961928009986877F,
    -0.5250730514526367F,
    -0.39491748809814453F,
    -0.28444138169288635F,
    -0.18477343022823334F,
    -0.09105003625154495F,
    0.0F,
    0.07958029955625534F,
    0.16093020141124725F,
    0.24611230194568634F,
    0.33791524171829224F,
    0.44070982933044434F,
    0.5626170039176941F,
    0.7229568362236023F,
    1.0F,
};

/// Index of the level next to each scaled value, the lower one where it is half-way.
std::uint8_t level_of(float scaled) {
  std::uint8_t index = 0;
  for (std::size_t i = 0; i + 1 < kLevels.size(); ++i) {
    index = static_cast<std::uint8_t>(index + (scaled > (kLevels[i] + kLevels[i + 1]) / 2 ? 1 : 0));
  }
  return index;
}

/// Index of the nested level next to each of 65536 values from -1 to 1. bitsandbytes (0.50, CPU)
/// looks levels up there, so that a value half-way between two goes where its nearest of these
/// goes.
std::vector<std::uint8_t> nested_table(const at::Tensor& levels_tensor) {
  const float* levels = levels_tensor.const_data_ptr<float>();
  std::vector<std::uint8_t> table(65536);
  for (std::size_t i = 0; i < table.size(); ++i) {
    const float value = -1.0F + 2.0F * static_cast<float>(i) / 65535.0F;
    const float* right = std::lower_bound(levels, levels + 256, value);
    auto index = std::min<std::int64_t>(255, right - levels);
    if (index > 0 && std::abs(levels[index] - value) >= std::abs(value - levels[index - 1])) {
      --index;
    }
    table[i] = static_cast<std::uint8_t>(index);
  }
  return table;
}

/// Index of the nested level of each value of a block of absmax values.
void quantise_nested(const float* values, std::int64_t count, std::uint8_t* indices,
                     float* absmax) {
  static const std::vector<std::uint8_t> table = nested_table(nf4_nested_levels());
  float top = 0;
  for (std::int64_t i = 0; i < count; ++i) top = std::max(top, std::abs(values[i]));
  *absmax = top;
  const float inverse = top == 0 ? 0 : 1 / top;
  for (std::int64_t i = 0; i < count; ++i) {
    const float scaled = std::clamp(values[i] * inverse, -1.0F, 1.0F);
    indices[i] = table[static_cast<std::size_t>((scaled + 1) * 32767.5F + 0.5F)];
  }
}

/// fp32 scales of the blocks from what double quantisation keeps of them.
at::Tensor unnested_scales(const at::Tensor& absmax, const at::Tensor& nested_absmax,
                           const at::Tensor& levels, double offset) {
  const at::Tensor indices = absmax.flatten().to(at::kLong);
  at::Tensor scales = levels.to(indices.device()).index_select(0, indices);
  const at::Tensor outer = nested_absmax.repeat_interleave(kNf4NestedBlock);
  return scales.mul_(outer.narrow(0, 0, scales.numel())).add_(offset);
}

at::Tensor block_scales(const Nf4Weight& weight) {
  if (weight.nested_absmax == nullptr) return weight.absmax->value;
  return unnested_scales(weight.absmax->value, weight.nested_absmax->value, weight.nested_levels,
                         weight.nested_offset);
}

const at::Tensor& level_pairs() {
  static const at::Tensor pairs = [] {
    at::Tensor table = at::empty({256, 2});
    float* out = table.mutable_data_ptr<float>();
    for (std::size_t byte = 0; byte < 256; ++byte) {
      *out++ = kLevels[byte >> 4U];
      *out++ = kLevels[byte & 15U];
    }
    return table;
  }();
  return pairs;
}

}  // namespace

at::Tensor nf4_levels() {
  return at::from_blob(const_cast<float*>(kLevels.data()), {16}, at::kFloat).clone();
}

// The signed dynamic map (Dettmers, arXiv 1511.04561): decades from 1e-6 to 1, each with twice the
// fractions of the one below, both signs, and 0 and 1.
at::Tensor nf4_nested_levels() {
  std::vector<at::Tensor> parts;
  for (int decade = 0; decade < 7; ++decade) {
    const std::int64_t steps = std::int64_t{1} << decade;
    const at::Tensor edges = at::linspace(0.1, 1, steps + 1, at::kFloat);
    const at::Tensor middles = (edges.narrow(0, 0, steps) + edges.narrow(0, 1, steps)) / 2.0;
    const double power = std::pow(10.0, decade - 6);
    parts.push_back(middles * power);
    parts.push_back(middles * -power);
  }
  parts.push_back(at::tensor({0.0F, 1.0F}));
  return std::get<0>(at::cat(parts).sort());
}

Result<Nf4Tensors> quantise_nf4(const at::Tensor& matrix, bool double_quantised) {
  const at::Tensor flat = matrix.detach().flatten().to(at::kFloat).contiguous();
  const std::int64_t count = flat.numel();
  if (count % 2 != 0) {
    return Error{Errc::usage,
                 fmt::format("4-bit storage needs an even number of elements, not {}", count)};
  }
  const std::int64_t blocks = (count + kNf4Block - 1) / kNf4Block;
  Nf4Tensors out;
  out.shape = matrix.sizes().vec();
  out.dtype = matrix.scalar_type();
  out.packed = at::empty({count / 2, 1}, at::kByte);
  out.absmax = at::empty({blocks}, at::kFloat);
  const float* x = flat.const_data_ptr<float>();
  auto* packed = out.packed.mutable_data_ptr<std::uint8_t>();
  float* absmax = out.absmax.mutable_data_ptr<float>();
  at::parallel_for(0, blocks, 512, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kNf4Block, end = std::min(count, begin + kNf4Block);
      float top = 0;
      for (std::int64_t i = begin; i < end; ++i) top = std::max(top, std::abs(x[i]));
      const bool whole = end - begin == kNf4Block;
      absmax[block] = whole ? top : std::max(top, 1e-38F);
      const float bounded = std::max(top, 1e-38F), inverse = 1.0F / bounded;
      for (std::int64_t i = begin; i < end; i += 2) {
        // The last, shorter block is divided rather than multiplied, as bitsandbytes does it.
        const float high = whole ? x[i] * inverse : x[i] / bounded;
        const float low = whole ? x[i + 1] * inverse : x[i + 1] / bounded;
        packed[i / 2] = static_cast<std::uint8_t>(level_of(high) << 4U | level_of(low));
      }
    }
  });
  if (!double_quantised) return out;

  const at::Tensor offset = out.absmax.mean();
  const at::Tensor centred = out.absmax - offset;
  out.nested_offset = static_cast<double>(offset.item<float>());
  const std::int64_t nested = (blocks + kNf4NestedBlock - 1) / kNf4NestedBlock;
  out.absmax = at::empty({blocks}, at::kByte);
  out.nested_absmax = at::empty({nested}, at::kFloat);
  for (std::int64_t i = 0; i < nested; ++i) {
    const std::int64_t begin = i * kNf4NestedBlock;
    quantise_nested(centred.const_data_ptr<float>() + begin,
                    std::min(kNf4NestedBlock, blocks - begin),
                    out.absmax.mutable_data_ptr<std::uint8_t>() + begin,
                    out.nested_absmax.mutable_data_ptr<float>() + i);
  }
  return out;
}

at::Tensor dequantise_nf4(const at::Tensor& packed, const Nf4Weight& weight, at::ScalarType dtype) {
  const at::Tensor scales = block_scales(weight);
  const std::int64_t count = packed.numel() * 2, blocks = count / kNf4Block;
  if (packed.device().is_cpu() && count % kNf4Block == 0) {
    at::Tensor out = at::empty(weight.shape, at::kFloat);
    const auto* bytes = packed.const_data_ptr<std::uint8_t>();
    const float *scale = scales.const_data_ptr<float>(),
                *pairs = level_pairs().const_data_ptr<float>();
    float* to = out.mutable_data_ptr<float>();
    at::parallel_for(0, blocks, 512, [&](std::int64_t first, std::int64_t last) {
      kernels::dequantise(bytes + first * kNf4Block / 2, scale + first, pairs,
                          to + first * kNf4Block, last - first, kNf4Block);
    });
    return out.to(dtype);
  }
  const at::Tensor levels = weight.levels.to(packed.device());
  const at::Tensor flat = packed.flatten();
  const at::Tensor indices =
      at::stack({flat.bitwise_right_shift(4), flat.bitwise_and(15)}, 1).flatten().to(at::kLong);
  const at::Tensor values = levels.index_select(0, indices);
  const at::Tensor each = scales.repeat_interleave(kNf4Block).narrow(0, 0, count);
  return (values * each).reshape(weight.shape).to(dtype);
}

Result<Nf4Tensors> cut_nf4(const Nf4Tensors& tensors, const Cut& cut, std::string_view name) {
  const std::int64_t rows = tensors.shape[0], cols = tensors.shape[1];
  const bool by_rows = cut.dim == 0;
  for (const auto& [begin, end] : cut.ranges) {
    const std::int64_t unit = by_rows ? cols : 1;
    if (begin * unit % kNf4Block != 0 || end * unit % kNf4Block != 0 ||
        (!by_rows && cols % kNf4Block != 0)) {
      return Error{Errc::usage,
                   fmt::format("{} {}: [{}, {}) of dim {} would tear a block of {} elements", name,
                               shape_text(tensors.shape), begin, end, cut.dim, kNf4Block),
                   "choose another number of ranks, or another strategy"};
    }
  }
  Nf4Tensors out;
  out.dtype = tensors.dtype;
  out.shape = tensors.shape;
  out.shape[static_cast<std::size_t>(cut.dim)] = cut.length();
  const at::Tensor scales = tensors.nested_absmax.defined()
                                ? unnested_scales(tensors.absmax, tensors.nested_absmax,
                                                  nf4_nested_levels(), tensors.nested_offset)
                                : tensors.absmax;
  // Blocks as a matrix of their own: [rows, cols / 64], or one long row where they cross rows.
  const std::int64_t lead = cols % kNf4Block == 0 ? rows : 1;
  const at::Tensor blocks = tensors.packed.reshape({lead, -1, kNf4Block / 2});
  const at::Tensor block_scale = scales.reshape({lead, -1});
  const std::int64_t unit = by_rows && lead == rows ? 1 : kNf4Block;
  Cut of_blocks{.dim = by_rows && lead == rows ? 0 : 1};
  for (const auto& [begin, end] : cut.ranges) {
    const std::int64_t scale = by_rows && lead == 1 ? cols : 1;
    of_blocks.ranges.emplace_back(begin * scale / unit, end * scale / unit);
  }
  out.packed = part_of(blocks, of_blocks).reshape({-1, 1}).contiguous().clone();
  out.absmax = part_of(block_scale, of_blocks).flatten().contiguous().clone();
  return out;
}

}  // namespace rigwise::engine
