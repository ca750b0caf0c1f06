// Events: what NCCL's calls leave in memory until the writer thread takes it.
//
// A communicator owns a table of slots, one an operation in flight; the slot itself becomes the
// record. NCCL is never given a pointer: a handle is a number that names kind, channel,
// communicator, slot and the slot's generation, so that a handle of something that is over (or of
// nothing) is recognised and counted instead of being followed.
//
// Life of a slot, in one atomic word: free → claimed (being filled) → live → done → free with the
// next generation. A live slot counts who is writing to it (busy) and which channels are open; the
// last to leave a complete operation makes it done, and only the writer thread frees it.
//
// Threads: start_*, stop and record may be called from any thread at any time: they take no lock,
// allocate nothing and make no system call (the clock is the vDSO's). The rest is said below.
#pragma once

#include <atomic>
#include <cstdint>

#include "profile/nccl/format.h"

namespace rigwise::nccl_plugin {

inline constexpr std::uint32_t kMaxComms = 128;
inline constexpr std::uint32_t kMaxSlots = 8192;   // a communicator
inline constexpr std::uint32_t kFirstSlots = 256;  // used before the table grows
inline constexpr std::uint32_t kMaxChannels = 64;

/// What an operation's start says, in any version of the interface.
struct Start {
  std::uint8_t function = 0, datatype = 0, flags = 0, channels = 0;
  std::int32_t peer = -1;
  std::uint64_t sequence = 0, count = 0;
};

struct alignas(64) Slot {
  std::atomic<std::uint64_t> word;
  std::atomic<std::uint64_t> open_channels;
  std::atomic<std::uint64_t> gpu_start_ns, gpu_last_start_ns, gpu_stop_ns;
  std::atomic<std::int64_t> poll_start_ns, poll_stop_ns;
  std::atomic<std::int64_t> returned_ns;
  std::atomic<std::uint32_t> odd;
  // Written while the slot is claimed, read when it is done.
  Start start;
  std::int64_t enqueued_ns;
};

enum CommState : std::uint32_t { kCommFree, kCommClaimed, kCommLive, kCommEnded };

struct Comm {
  std::atomic<std::uint32_t> state;
  std::atomic<std::uint32_t> generation;
  std::atomic<std::uint32_t> naming;  // interfaces 1 to 3: 0 nameless, 1 being named, 2 named
  Slot* slots;                        // mapped once, kept for the next communicator in this place
  int* mask;                          // NCCL's own
  std::uint8_t abi;
  std::int32_t rank, ranks, nodes;
  std::uint64_t hash;
  std::int64_t made_ns;
  char name[sizeof(nccl_file::CommunicatorRecord::name)];
  std::uint16_t id;  // in the file; the writer thread's
  bool announced;    // the writer thread's
  alignas(64) std::atomic<std::uint32_t> next;
  std::atomic<std::uint32_t> limit;
  alignas(64) std::atomic<std::uint64_t> live;  // slots claimed and not freed
  std::atomic<std::uint64_t> events;
};

struct alignas(64) Counters {
  std::atomic<std::uint64_t> lost_slots, lost_comms, stray, unknown, foreign;
};

struct Events {
  std::atomic<std::uint32_t> on;       // 0: every call returns at once
  std::atomic<std::uint32_t> kernels;  // kernels' events are asked for now
  std::atomic<std::int32_t> pid;
  Counters counters;
  Comm comms[kMaxComms];
};
/// Zero before anything runs; never destroyed.
extern Events g_events;

std::int64_t now_ns();

/// Counts a call of NCCL's with the communicator that its handle or context names.
void count_event(const void* handle);

void* context_of(const Comm& comm);
/// The live communicator of a context, or null (counted as stray).
Comm* comm_of(void* context);

/// Names the communicator where the interface did not, and starts an operation. The handle, or null
/// where it is lost.
void* start_operation(Comm& comm, const Start& start);
void name_once(Comm& comm, const char* name, std::uint64_t hash, int rank);
/// What stands for a group: NCCL up to 2.27 reports collectives only below one.
void* group_handle();
void* start_channel(void* parent, std::uint8_t channel, std::uint64_t gpu_timer_ns);
void record_state(void* handle, int state, const void* arguments, bool gpu_timers);
void stop(void* handle);

/// For the writer thread alone: makes records of what is done and frees its slots.
/// `all`: what is still in flight too, marked as unfinished.
using Sink = void (*)(nccl_file::OperationRecord& record);
void collect(Comm& comm, Sink sink, bool all);

}  // namespace rigwise::nccl_plugin
