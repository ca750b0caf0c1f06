// The engines below Comm: what gloo.cc and nccl.cc give to connect(). Used by engine/comm only.
#pragma once

#include <memory>

#include "engine/comm/comm.h"

namespace rigwise::engine {

class Meeting;

/// Errors: unavailable (no such interface, the ranks' connections failed).
Result<std::shared_ptr<Comm>> connect_gloo(std::shared_ptr<Meeting> meeting,
                                           const CommOptions& options);

/// Errors: unavailable (no libnccl.so.2, no device, NCCL's own).
Result<std::shared_ptr<Comm>> connect_nccl(std::shared_ptr<Meeting> meeting,
                                           const CommOptions& options);

/// A group of one, `world_rank`.
std::shared_ptr<Comm> make_solo(at::Device device, int world_rank,
                                std::shared_ptr<CommCounters> counters);

/// Throws std::invalid_argument unless `x` may be given to an operation: contiguous, on `device`.
void require_plain(const at::Tensor& x, at::Device device, const char* operation);

/// Throws std::invalid_argument unless `whole` elements are one `part` for each of `ranks`.
void require_sizes(std::int64_t whole, std::int64_t part, int ranks, const char* operation);

/// What a split makes of this rank's group: this rank's place in its new one, and the world's rank
/// of each member.
struct SplitGroup {
  int rank = 0;
  std::vector<int> world_ranks = {};
};
/// `wanted_W2` holds the colour and key of each rank of `group`, in the order of ranks, on the CPU.
SplitGroup split_group(const Comm& group, const at::Tensor& wanted_W2, int colour);

}  // namespace rigwise::engine
