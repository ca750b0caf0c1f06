// Link: how fast the ranks can talk, and whether what arrives is what was sent. Every directed pair
// and every collective, from small messages to large.
//
// Names and factors are those of nccl-tests (doc/PERFORMANCE.md): algbw = bytes / time, where bytes
// is the whole buffer (all ranks' together for all_gather and reduce_scatter); busbw = algbw times
// 2 (n-1)/n for all_reduce, (n-1)/n for all_gather and reduce_scatter, 1 for broadcast and for a
// pair, which can be held against what the slowest link in the way could carry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/comm/comm.h"
#include "engine/measure/spread.h"

namespace rigwise::engine {

struct LinkOptions {
  std::vector<std::int64_t> sizes_bytes = {8, 1 << 10, 32 << 10, 1 << 20, 16 << 20, 64 << 20};
  int repeats = 10;
  bool pairs = true, collectives = true;
};

struct LinkSize {
  std::int64_t bytes = 0;
  Spread time;
  double algbw_bytes_per_s = 0, busbw_bytes_per_s = 0;
};

/// What was compared behind the timed repeats. Machines exist on which copies between devices
/// silently arrive as zeros (NVIDIA/nccl-tests#117).
struct ByteCheck {
  std::int64_t checked_bytes = 0, wrong_bytes = 0;
  std::optional<std::int64_t> message_bytes = {},
                              first_offset_bytes = {};  // of the first wrong one
};

/// One direction of two ranks. The time of a message is that of the message and an answer of 8
/// bytes, less latency_s for the answer.
struct LinkPair {
  int from = 0, to = 0;
  double latency_s = 0;  // half the time of 8 bytes there and 8 bytes back
  std::vector<LinkSize> sizes;
  ByteCheck check;
};

/// How far a collective hides behind arithmetic, which is made about as long as it. Times are
/// medians, each of the slowest rank. Each repeat has all three, one after the other, and its share
/// hidden, (alone_s + compute_together_s - both_s) / the shorter of the two, within 0 and 1.
struct LinkOverlap {
  std::int64_t bytes = 0;  // of the collective
  int repeats = 0;
  double compute_together_s = 0;  // on all ranks at once
  double alone_s = 0;             // the collective, while nobody computes
  double both_s = 0;              // started, then the arithmetic, then waited for
  double hidden = 0, hidden_least = 0, hidden_most = 0;
};

/// The time is that of the slowest rank, from a common start to its own end.
struct LinkCollective {
  std::string operation;
  std::vector<LinkSize> sizes;
  ByteCheck check;
  /// Of those that training hides, where a size of 64 KiB or more was asked for: the largest's.
  std::optional<LinkOverlap> overlap = {};
};

/// What the slowest rank's arithmetic takes on all ranks at once over one rank after the other
/// (shared memory, cores, power). Each repeat has both within a second, and its ratio; machines
/// that others share differ from one second to the next, so the extremes belong to it.
struct LinkTogether {
  int repeats = 0;
  double work_s = 0;  // of one rank alone in a repeat, median
  double factor = 1, factor_least = 1, factor_most = 1;
};

struct LinkReport {
  std::vector<std::string> hosts;  // by rank
  std::string device;
  std::vector<std::string> notes;
  std::vector<LinkPair> pairs;
  std::vector<LinkCollective> collectives;
  std::optional<LinkTogether> together = {};  // where a size of 64 KiB or more was asked for
};

/// Collective: every rank of `comm` (at least 2) calls it with the same options, and all get the
/// same report. Throws CommFailure.
LinkReport measure_link(Comm& comm, const LinkOptions& options);

}  // namespace rigwise::engine
