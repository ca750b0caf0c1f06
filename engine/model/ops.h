// The model's arithmetic: each operation one node of the autograd graph, so that no more is saved
// or passed over than its formula needs. On the CPU in fp32 they run the loops of kernels.h;
// elsewhere (bf16, CUDA) the same formulas in ATen operations, statistics in fp32.
//
// Legend: N tokens of the batch (windows times their length), D hidden, H heads, C dims a head,
// V vocabulary.
#pragma once

#include <cstdint>

#include "engine/model/packed.h"
#include "engine/torch.h"

namespace rigwise::engine {

/// RMSNorm (Zhang and Sennrich, arXiv 1910.07467) over the last dim, as transformers' LlamaRMSNorm.
at::Tensor rms_norm(const at::Tensor& x_ND, const at::Tensor& weight_D, double eps);

/// cos and sin of the tokens' positions, one row a token, fp32 [N, C / 2].
struct RotaryTable {
  at::Tensor cos, sin;
};
/// Rotary positions in the "half" layout of Hugging Face checkpoints. x may be a slice of columns
/// of a wider matrix; the result is dense [N, H, C].
at::Tensor rotate(const at::Tensor& x_NHC, const RotaryTable& table);

/// silu(gate) * up.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

/// scale * sum of the next-token negative log-likelihoods (nats) of logits x W^T, a scalar in
/// fp32. targets [N] int64, -100 where nothing is predicted. The logits are made and turned into
/// their gradient a few rows at a time, in the forward pass, so that no [N, V] ever exists.
/// `packed_VD`: the same matrix packed (packed.h), where there is one.
at::Tensor linear_nll(const at::Tensor& x_ND, const at::Tensor& weight_VD,
                      const at::Tensor& targets_N, double scale, const Packed& packed_VD = {});

}  // namespace rigwise::engine
