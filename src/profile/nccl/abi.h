// Our own minimal declarations of the interface between NCCL and a profiler plug-in, versions 1 to
// 6 (NCCL 2.23 to 2.32). Only what the plug-in reads has a name; layouts are held by
// static_asserts.
//
//   version  first NCCL  what changed
//   1        2.23        functions and data types are numbers
//   2        2.24        … are strings
//   3        2.26        KernelCh events: a channel of a kernel, seen by the proxy thread's polling
//   4        2.27        communicators are described by init; KernelCh carries the GPU's own timer
//   5        2.28        event types are 64 bits wide; events of the API calls
//   6        2.29        collectives of the copy engines
//
// Version 7 (NCCL 2.31) is left out on purpose: programs that look for it find version 6 too, and
// other projects ship layouts of their own under that name.
//
// Threads: NCCL calls from the threads that launch collectives and from its proxy threads, at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rigwise::nccl_abi {

// Event types, as bits of the activation mask.
inline constexpr std::uint64_t kGroup = 1, kColl = 2, kP2p = 4, kProxyOp = 8, kProxyStep = 16,
                               kProxyCtrl = 32, kKernelCh = 64, kNetPlugin = 128, kGroupApi = 256,
                               kCollApi = 512, kP2pApi = 1024, kKernelLaunch = 2048, kCeColl = 4096,
                               kCeSync = 8192, kCeBatch = 16384;
// The one state change that is of interest.
inline constexpr int kKernelChStop = 22;

inline constexpr int kSuccess = 0, kInternalError = 3;

struct CollV1 {
  const char* comm_name;
  std::uint64_t comm_hash, sequence;
  std::uint8_t function;
  const void* send;
  void* receive;
  std::size_t count;
  int root;
  std::uint8_t datatype;
  std::uint32_t operation;
  std::size_t traffic_bytes;
  std::uint8_t channels, warps, algorithm, protocol;
  int is_collnet, is_nvls;
};
struct P2pV1 {
  const char* comm_name;
  std::uint64_t comm_hash;
  std::uint8_t function;
  void* buffer;
  std::uint8_t datatype;
  std::size_t count;
  int peer;
};
struct CollV2 {
  const char* comm_name;
  std::uint64_t comm_hash, sequence;
  const char* function;
  const void* send;
  void* receive;
  std::size_t count;
  int root;
  const char* datatype;
  std::size_t traffic_bytes;
  std::uint8_t channels, warps;
  const char *algorithm, *protocol;
};
struct CollV3 {
  const char* comm_name;
  std::uint64_t comm_hash, sequence;
  const char* function;
  const void* send;
  void* receive;
  std::size_t count;
  int root;
  const char* datatype;
  std::uint8_t channels, warps;
  const char *algorithm, *protocol;
};
struct P2pV2 {
  const char* comm_name;
  std::uint64_t comm_hash;
  const char* function;
  void* buffer;
  const char* datatype;
  std::size_t count;
  int peer;
};
struct CollV4 {
  std::uint64_t sequence;
  const char* function;
  const void* send;
  void* receive;
  std::size_t count;
  int root;
  const char* datatype;
  std::uint8_t channels, warps;
  const char *algorithm, *protocol;
};
struct CollV5 {
  std::uint64_t sequence;
  const char* function;
  const void* send;
  void* receive;
  std::size_t count;
  int root;
  const char* datatype;
  std::uint8_t channels, warps;
  const char *algorithm, *protocol;
  void* parent_group;
};
struct P2pV4 {
  const char* function;
  void* buffer;
  const char* datatype;
  std::size_t count;
  int peer;
  std::uint8_t channels;
};
struct ProxyOp {
  int pid;  // of the process whose event the parent is
};
struct KernelCh {
  std::uint8_t channel;
  std::uint64_t gpu_timer_ns;  // from version 4 on: the start, by the GPU's globaltimer
};
struct CeColl {
  std::uint64_t sequence;
  const char* function;
  const void* send;
  void* receive;
  std::size_t count;
  int root;
  const char* datatype;
};

template <class Type, class Coll, class P2p>
struct Descriptor {
  Type type;
  void* parent;
  int rank;
  union {
    Coll coll;
    P2p p2p;
    ProxyOp proxy_op;
    KernelCh kernel;
    CeColl ce;
  };
};
using DescriptorV1 = Descriptor<std::uint8_t, CollV1, P2pV1>;
using DescriptorV2 = Descriptor<std::uint8_t, CollV2, P2pV2>;
using DescriptorV3 = Descriptor<std::uint8_t, CollV3, P2pV2>;
using DescriptorV4 = Descriptor<std::uint8_t, CollV4, P2pV4>;
using DescriptorV5 = Descriptor<std::uint64_t, CollV5, P2pV4>;  // and of version 6

static_assert(sizeof(void*) == 8, "NCCL is there on 64-bit machines only");
static_assert(offsetof(DescriptorV1, parent) == 8 && offsetof(DescriptorV1, rank) == 16 &&
              offsetof(DescriptorV1, coll) == 24 && sizeof(DescriptorV1) == 120);
static_assert(sizeof(DescriptorV2) == 128 && sizeof(DescriptorV3) == 120 &&
              sizeof(DescriptorV4) == 104 && sizeof(DescriptorV5) == 112);
static_assert(offsetof(DescriptorV5, parent) == 8 && offsetof(DescriptorV5, kernel) == 24);

/// What a state change brings; from version 4 on, KernelChStop brings the GPU's timer in front.
union StateArguments {
  std::uint64_t gpu_timer_ns;
  void* pointer;
};

using Result = int;
using StopEvent = Result (*)(void* handle);
using RecordState = Result (*)(void* handle, int state, void* arguments);
using Finalize = Result (*)(void* context);
template <class D>
using StartEvent = Result (*)(void* context, void** handle, D* descriptor);

using InitV1 = Result (*)(void** context, int* mask);
using InitV4 = Result (*)(void** context, int* mask, const char* comm_name, std::uint64_t comm_hash,
                          int nodes, int ranks, int rank, void* log);
using InitV5 = Result (*)(void** context, std::uint64_t comm_hash, int* mask, const char* comm_name,
                          int nodes, int ranks, int rank, void* log);

template <class Init, class D>
struct Table {
  const char* name;
  Init init;
  StartEvent<D> start;
  StopEvent stop;
  RecordState record;
  Finalize finalize;
};
static_assert(sizeof(Table<InitV1, DescriptorV1>) == 48);

}  // namespace rigwise::nccl_abi
