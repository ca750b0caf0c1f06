// The file that the NCCL plug-in writes, one a process: a header of 256 bytes, then records of 128.
// Native byte order, little-endian only. Written by one thread by pwrite: records first, then the
// header that counts them; so a process that is killed leaves at most records that no header counts
// yet, and a torn last one. `check` tells a torn or foreign record. Shared by plug-in and reader.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rigwise::nccl_file {

inline constexpr char kMagic[8] = {'R', 'W', 'N', 'C', 'C', 'L', '\n', '\0'};
inline constexpr std::uint32_t kVersion = 1;

enum State : std::uint32_t {
  kRecording = 1,
  kFull = 2,    // the file reached its bound: nothing is recorded any more
  kBroken = 3,  // a write failed (write_errno)
  kClosed = 4,  // the process ended in order
};

enum Flag : std::uint32_t {
  kKernels = 1,        // kernels' times were asked for
  kSmallShm = 2,       // … but /dev/shm was too small for it in some window
  kKernelsUnsafe = 4,  // not asked for: this NCCL can fail a run over it
};

/// Times are of CLOCK_MONOTONIC in nanoseconds unless they say otherwise.
struct Header {
  char magic[8];
  std::uint32_t version, header_bytes, record_bytes, state;
  std::int32_t pid;
  std::uint32_t abi;          // of the plug-in interface that NCCL chose
  std::int32_t nccl_version;  // as ncclGetVersion says it (22809); 0 = it could not be asked
  std::uint32_t flags;
  std::int64_t opened_ns, opened_realtime_ns;  // the same instant by two clocks
  std::int64_t written_ns;                     // of this header
  std::int64_t window_ns, period_ns;           // the duty cycle
  std::uint64_t max_bytes;
  std::uint64_t records;
  std::uint64_t events;      // calls of startEvent, stopEvent and recordEventState
  std::uint64_t lost_slots;  // operations for which no memory was left
  std::uint64_t lost_comms;  // communicators beyond the table
  std::uint64_t stray;       // stops without a start, states of what is over, parents gone
  std::uint64_t unknown;     // events of a type that this plug-in does not know
  std::uint64_t foreign;     // events whose parent belongs to another process
  std::uint64_t unwritten;   // records that did not reach the file
  std::int32_t write_errno;
  std::uint32_t windows;
  char host[64];
  std::uint64_t reserved[3];
  std::uint32_t reserved_word, check;
};
static_assert(sizeof(Header) == 256);

enum Kind : std::uint8_t { kCommunicator = 1, kOperation = 2, kWindow = 3 };

enum Function : std::uint8_t {
  kUnknownFunction = 0,
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kBroadcast,
  kReduce,
  kSend,
  kReceive,
  kSendReceive,
  kAllToAll,
  kGather,
  kScatter,
  kAllGatherV,
};
inline constexpr int kFunctions = 13;
/// NCCL's own number of a data type plus one; 0 = unknown.
inline constexpr int kDatatypes = 13;

enum OperationFlag : std::uint8_t {
  kGpuTimes = 1,     // gpu_* hold the GPU's globaltimer
  kPolled = 2,       // poll_* hold when a CPU thread saw kernels start and end
  kUnfinished = 4,   // its end was not seen
  kPartial = 8,      // not all of its channels were seen
  kCopyEngine = 16,  // moved by copy engines: no kernel, no times
  kOdd = 32,         // events came twice or out of order
  kNotStopped = 64,  // NCCL did not say that it was enqueued
};

struct CommunicatorRecord {
  std::uint32_t check;
  std::uint8_t kind, abi;
  std::uint16_t comm;               // names the communicator in this file's other records
  std::int32_t rank, ranks, nodes;  // -1: NCCL did not say
  std::uint32_t reserved;
  std::uint64_t hash;
  std::int64_t made_ns;
  char name[88];
};

struct OperationRecord {
  std::uint32_t check;
  std::uint8_t kind, function, datatype, flags;
  std::uint16_t comm;
  std::uint8_t channels, channels_seen;  // expected (0 = not known), seen to end
  std::int32_t peer;                     // of point-to-point, or the root
  std::uint64_t sequence;                // of this function on this communicator
  std::uint64_t count;                   // elements
  std::int64_t enqueued_ns;              // startEvent
  std::int64_t returned_ns;              // stopEvent; 0 = not seen
  std::uint64_t gpu_start_ns;            // first channel's start, by the GPU's clock; 0 = none
  std::uint64_t gpu_last_start_ns;       // last channel's start
  std::uint64_t gpu_stop_ns;             // last channel's end
  std::int64_t poll_start_ns, poll_stop_ns;
  std::uint64_t reserved[5];
};

struct WindowRecord {
  std::uint32_t check;
  std::uint8_t kind, reserved_bytes[3];
  std::uint32_t mask, reserved;
  std::int64_t start_ns, end_ns;
  std::int64_t start_realtime_ns;
  std::uint64_t events, lost_slots;  // in it
  std::uint64_t reserved_words[9];
};

union Record {
  struct {
    std::uint32_t check;
    std::uint8_t kind;
  } any;
  CommunicatorRecord comm;
  OperationRecord operation;
  WindowRecord window;
};
static_assert(sizeof(CommunicatorRecord) == 128 && sizeof(OperationRecord) == 128 &&
              sizeof(WindowRecord) == 128 && sizeof(Record) == 128);

/// Over 32-bit words (FNV-1a's steps), never 0.
inline std::uint32_t checksum(const std::uint32_t* words, std::size_t count) {
  std::uint32_t hash = 2166136261u;
  for (std::size_t i = 0; i < count; ++i) hash = (hash ^ words[i]) * 16777619u;
  return hash == 0 ? 1 : hash;
}

}  // namespace rigwise::nccl_file
