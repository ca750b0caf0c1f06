#include "engine/train/together.h"

#include <cstring>

namespace rigwise::engine {

Status together(Comm& world, Status mine) {
  if (world.size() == 1) return mine;
  const int weight = mine ? 0 : 2 * (world.size() - world.rank());  // lower ranks weigh more
  const bool usage = !mine && mine.error().code == Errc::usage;
  at::Tensor worst =
      at::full({1}, weight + (usage ? 1 : 0), at::TensorOptions(world.device()).dtype(at::kInt));
  world.all_reduce(worst, ReduceOp::max).wait();
  const int found = worst.item<int>();
  if (found == 0 || (!mine && found / 2 * 2 == weight)) return mine;
  return Error{found % 2 == 1 ? Errc::usage : Errc::io, ""};
}

std::string text_of_first(Comm& world, const std::string& text) {
  if (world.size() == 1) return text;
  const at::TensorOptions options(world.device());
  at::Tensor length =
      at::full({1}, static_cast<std::int64_t>(text.size()), options.dtype(at::kLong));
  world.broadcast(length, 0).wait();
  at::Tensor bytes = at::zeros({length.item<std::int64_t>()}, at::kByte);
  if (world.rank() == 0) std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  bytes = bytes.to(world.device());
  world.broadcast(bytes, 0).wait();
  bytes = bytes.cpu();
  return {static_cast<const char*>(bytes.const_data_ptr()),
          static_cast<std::size_t>(bytes.numel())};
}

}  // namespace rigwise::engine
