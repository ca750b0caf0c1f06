// 4-bit normal float with bitsandbytes' layout (Dettmers et al., arXiv 2305.14314).
//
// A matrix is flattened row by row and cut into blocks of 64; a block keeps its largest magnitude
// (absmax) and 4 bits an element, the index into 16 levels, the earlier element in the high half
// of a byte. Double quantisation keeps the absmax values as bytes too: minus their mean, in blocks
// of 256, indices into 256 levels.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/files/safetensors.h"
#include "engine/model/parameter.h"
#include "rigwise/result.h"

namespace rigwise::engine {

inline constexpr std::int64_t kNf4Block = 64, kNf4NestedBlock = 256;

/// What is beside the packed bytes of one matrix. Parameters, so that they can be sharded as bytes.
struct Nf4Weight {
  std::vector<std::int64_t> shape = {};  // of the matrix, [O, I]
  at::ScalarType dtype = at::kFloat;     // that the matrix had
  Parameter* absmax = nullptr;           // fp32 [blocks], or u8 [blocks] if nested
  Parameter* nested_absmax = nullptr;    // fp32 [blocks / 256]; null: not doubly quantised
  double nested_offset = 0;
  at::Tensor levels = {};         // fp32 [16]
  at::Tensor nested_levels = {};  // fp32 [256]
};

/// The tensors of a quantised matrix, as bitsandbytes writes them beside one another.
struct Nf4Tensors {
  at::Tensor packed;         // u8 [elements / 2, 1]
  at::Tensor absmax;         // fp32, or u8 if nested
  at::Tensor nested_absmax;  // undefined: not doubly quantised
  double nested_offset = 0;
  std::vector<std::int64_t> shape = {};
  at::ScalarType dtype = at::kFloat;
};

/// Bit for bit what bitsandbytes.functional.quantize_4bit(quant_type="nf4", blocksize=64) gives.
/// The matrix must be on the CPU. Errors: usage (an odd number of elements).
Result<Nf4Tensors> quantise_nf4(const at::Tensor& matrix, bool double_quantised);

/// The matrix in `dtype`. `packed` as above.
at::Tensor dequantise_nf4(const at::Tensor& packed, const Nf4Weight& weight, at::ScalarType dtype);

/// This rank's part of quantised tensors, the scales as fp32 whatever they were kept as: the values
/// do not change. Errors: usage (the cut would tear a block of 64).
Result<Nf4Tensors> cut_nf4(const Nf4Tensors& tensors, const Cut& cut, std::string_view name);

/// The 16 levels, and the 256 of the nested ones, as bitsandbytes makes them.
at::Tensor nf4_levels();
at::Tensor nf4_nested_levels();

/// Content of the tensor NAME.quant_state.bitsandbytes__nf4, a JSON text as bytes.
std::string nf4_state_json(const Nf4Tensors& tensors);
/// Errors: malformed (naming the field), unavailable (another block size or kind).
Result<Nf4Tensors> parse_nf4_state(std::string_view json, std::string_view place);

}  // namespace rigwise::engine
