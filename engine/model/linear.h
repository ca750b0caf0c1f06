// A linear layer as fine-tuning needs it: a frozen, quantised or trained matrix, perhaps a bias,
// perhaps a LoRA adapter beside it, all of it one node of the graph.
//
// Legend: N tokens, I inputs, O outputs, R rank of the adapter.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/nf4.h"
#include "engine/model/packed.h"
#include "engine/model/parameter.h"

namespace rigwise::engine {

/// Says which random numbers a dropout mask is made of: the same for a token of the data wherever
/// and however often its layer is computed, so that no strategy and no recomputation changes it.
struct DropoutKey {
  std::uint64_t seed = 0, step = 0;
  std::vector<std::int64_t> windows = {};  // index of each window in the data, in batch order
};

/// Low-rank adapter (Hu et al., arXiv 2106.09685): adds scale * B A dropout(x).
struct Lora {
  Parameter* a = nullptr;  // [R, I]
  Parameter* b = nullptr;  // [O, R]
  double scale = 1;
  double dropout = 0;
};

class Linear {
 public:
  std::string module;           // "model.layers.0.self_attn.q_proj"
  Parameter* weight = nullptr;  // [O, I], or [I, O] if transposed; the packed bytes if quantised
  Parameter* bias = nullptr;    // [O]
  bool transposed = false;      // GPT-2 keeps its matrices the other way round
  std::optional<Nf4Weight> nf4 = {};
  std::optional<Lora> lora = {};
  /// A frozen matrix may be kept packed; then weight->value is gone.
  Packed packed = {};

  /// Packs the matrix if it is frozen, full and on a device where that helps. `rows`: about how
  /// many the products will have.
  void pack(std::int64_t rows, bool backward);

  /// x [N, I] -> [N, O] in x's type. `dropout` is null outside training.
  /// The layer must outlive the graph: frozen weights are read again in the backward pass.
  at::Tensor operator()(const at::Tensor& x_NI, const DropoutKey* dropout) const;
  at::Tensor without_bias(const at::Tensor& x_NI, const DropoutKey* dropout) const;

  /// The matrix as [O, I] in `dtype`: a view where it is kept so.
  [[nodiscard]] at::Tensor matrix(at::ScalarType dtype) const;

 private:
  [[nodiscard]] at::Tensor forward_product(const at::Tensor& x_NI,
                                           const std::optional<at::Tensor>& bias_O) const;
  [[nodiscard]] at::Tensor backward_product(const at::Tensor& gy_NO) const;
  friend struct LinearNode;
  at::Tensor apply(const at::Tensor& x_NI, const std::optional<at::Tensor>& bias_O,
                   const DropoutKey* dropout) const;
};

/// Keep-or-drop factors (0 or 1 / (1 - p)) of x [N, I], whose columns are those of `cut` in a whole
/// of `inputs`.
at::Tensor dropout_mask(const DropoutKey& key, std::string_view module, double p,
                        const at::Tensor& x_NI, std::int64_t inputs, const std::optional<Cut>& cut);

}  // namespace rigwise::engine
