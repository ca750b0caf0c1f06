#include "engine/model/kernels.h"
#include "engine/parallel/replicas.h"

namespace rigwise::engine {

void prepare_moments(std::vector<Piece>& pieces) {
  for (Piece& piece : pieces) {
    if (piece.moment1.defined()) continue;
    piece.moment1 = at::zeros_like(piece.value, at::kFloat);
    piece.moment2 = at::zeros_like(piece.value, at::kFloat);
    if (piece.value.scalar_type() != at::kFloat) piece.master = piece.value.to(at::kFloat);
  }
}

double squared_norm(const std::vector<Piece>& pieces,
                    const std::function<bool(const Piece&)>& counts) {
  double sum = 0;
  for (const Piece& piece : pieces) {
    if (!counts(piece)) continue;
    if (piece.gradient.is_cpu() && piece.gradient.scalar_type() == at::kFloat) {
      sum +=
          kernels::sum_of_squares(piece.gradient.const_data_ptr<float>(), piece.gradient.numel());
    } else {
      sum += piece.gradient.to(at::kFloat).square().sum(at::kDouble).item<double>();
    }
  }
  return sum;
}

}  // namespace rigwise::engine
