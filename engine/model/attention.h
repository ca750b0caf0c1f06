// Attention among the tokens of a batch: each stretch of them for itself.
//
// Legend: N tokens of the batch, H heads of queries, K heads of keys and values, C dims a head.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/torch.h"

namespace rigwise::engine {

/// Stretches of tokens that may see one another: begin and length, in order, dense over all N.
struct Stretch {
  std::int64_t begin = 0, length = 0;
};

/// Causal softmax attention within each stretch, scale 1 / sqrt(C). q has H heads, k and v may
/// have fewer (a divisor of H). `window`: a token sees that many back, itself counted. On the CPU
/// in fp32 by the loops of attention_kernels.h, elsewhere by torch's scaled_dot_product_attention.
at::Tensor attention(const at::Tensor& q_NHC, const at::Tensor& k_NKC, const at::Tensor& v_NKC,
                     const std::vector<Stretch>& stretches, std::optional<std::int64_t> window);

/// Keys and values of the tokens so far, for every block: what a model that generates need not
/// compute again. For one sequence, without gradients.
class KeyValueCache {
 public:
  /// Attention of the next M tokens, of which k and v are added, to all N so far and each other.
  at::Tensor attend(std::int64_t block, const at::Tensor& q_MHC, const at::Tensor& k_MKC,
                    const at::Tensor& v_MKC, std::optional<std::int64_t> window);

 private:
  std::unordered_map<std::int64_t, std::pair<at::Tensor, at::Tensor>> of_block_;  // [N, K, C]
};

}  // namespace rigwise::engine
