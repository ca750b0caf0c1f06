// Frozen matrices in the layout that the CPU's matrix product reads fastest (oneDNN, through
// libtorch's own operators). A packed matrix is good for products alone.
//
// Measured on an EPYC 9004 core pair in fp32: 1.1 to 1.4 times the rate of at::linear, which has to
// transpose or copy the matrix anew each time.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/torch.h"

namespace rigwise::engine {

/// Can matrices of that type on that device be packed? (CPU, fp32 or bf16, libtorch with oneDNN.)
bool can_pack(at::Device device, at::ScalarType dtype);

/// A matrix w [O, I] and its transpose, for the forward and the backward pass; either may be
/// absent.
struct Packed {
  at::Tensor matrix, transposed;
};

/// w [O, I] for products with about `rows` rows.
at::Tensor pack_matrix(const at::Tensor& w_OI, std::int64_t rows);

/// x w^T + bias; [N, I] -> [N, O].
at::Tensor times_packed(const at::Tensor& x_NI, const at::Tensor& packed_OI,
                        const std::optional<at::Tensor>& bias_O = {});

}  // namespace rigwise::engine
