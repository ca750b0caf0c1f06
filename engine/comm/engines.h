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

/// Members of this rank's group after a split, by colour, ordered by key, then rank. `all` holds
/// colour and key of each rank, in the order of ranks.
std::vector<int> split_members(const std::vector<std::pair<int, int>>& all, int colour);

}  // namespace rigwise::engine
