#include "engine/model/parameter.h"

#include <c10/util/accumulate.h>

namespace rigwise::engine {

std::int64_t Cut::length() const {
  std::int64_t sum = 0;
  for (const auto& [begin, end] : ranges) sum += end - begin;
  return sum;
}

std::vector<std::int64_t> Parameter::local_shape() const {
  std::vector<std::int64_t> local = shape;
  if (cut) local[static_cast<std::size_t>(cut->dim)] = cut->length();
  return local;
}

std::int64_t Parameter::elements() const {
  return c10::multiply_integers(shape);
}

at::Tensor part_of(const at::Tensor& whole, const std::optional<Cut>& cut) {
  if (!cut) return whole;
  std::vector<at::Tensor> pieces;
  for (const auto& [begin, end] : cut->ranges) {
    pieces.push_back(whole.narrow(cut->dim, begin, end - begin));
  }
  return pieces.size() == 1 ? pieces[0] : at::cat(pieces, cut->dim);
}

void put_part(at::Tensor& whole, const at::Tensor& part, const Cut& cut) {
  std::int64_t at = 0;
  for (const auto& [begin, end] : cut.ranges) {
    whole.narrow(cut.dim, begin, end - begin).copy_(part.narrow(cut.dim, at, end - begin));
    at += end - begin;
  }
}

}  // namespace rigwise::engine
