// A tensor of the model under the name it has in a Hugging Face checkpoint.
//
// The model is described first (names and whole shapes), then parted among ranks (cuts), and only
// then filled, so that a rank never holds more than its part.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/torch.h"

namespace rigwise::engine {

/// The part of a whole tensor that a rank holds: ranges [begin, end) along one dim, laid one after
/// the other. Several ranges: a fused q, k, v matrix, of which a rank holds some heads of each.
struct Cut {
  std::int64_t dim = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges = {};

  [[nodiscard]] std::int64_t length() const;
  bool operator==(const Cut&) const = default;
};

struct Parameter {
  std::string name;                      // "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape = {};  // of the whole
  std::optional<Cut> cut = {};           // none: this rank holds the whole
  at::Tensor value = {};                 // this rank's part, a leaf of the graph if trainable
  at::Device device = at::kCPU;          // where the value is put
  bool trainable = false;
  /// Ranks of the tensor-parallel group each find a summand of its gradient.
  bool partial_gradient = false;

  [[nodiscard]] std::vector<std::int64_t> local_shape() const;
  [[nodiscard]] std::int64_t elements() const;  // of the whole
};

/// This rank's part of a whole tensor: a view where the cut is one range, else a copy.
at::Tensor part_of(const at::Tensor& whole, const std::optional<Cut>& cut);

/// Writes a part to where it belongs in the whole.
void put_part(at::Tensor& whole, const at::Tensor& part, const Cut& cut);

}  // namespace rigwise::engine
