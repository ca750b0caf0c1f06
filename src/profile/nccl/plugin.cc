// The tables that NCCL looks up, one a version of its interface. NCCL takes the newest that it
// knows. Every call returns success: nothing that happens here may end a run.
#include <cstring>

#include "profile/nccl/abi.h"
#include "profile/nccl/events.h"
#include "profile/nccl/writer.h"

namespace rigwise::nccl_plugin {

namespace {

namespace abi = nccl_abi;
namespace file = nccl_file;

struct Name {
  const char* text;
  std::uint8_t code;
};
constexpr Name kFunctionNames[] = {
    {"AllReduce", file::kAllReduce},
    {"AllGather", file::kAllGather},
    {"ReduceScatter", file::kReduceScatter},
    {"Broadcast", file::kBroadcast},
    {"Send", file::kSend},
    {"Recv", file::kReceive},
    {"Reduce", file::kReduce},
    {"SendRecv", file::kSendReceive},
    {"AlltoAll", file::kAllToAll},
    {"Gather", file::kGather},
    {"Scatter", file::kScatter},
    {"AllGatherV", file::kAllGatherV},
};
constexpr Name kDatatypeNames[] = {
    {"ncclFloat32", 8}, {"ncclBfloat16", 10}, {"ncclFloat16", 7},     {"ncclInt8", 1},
    {"ncclUint8", 2},   {"ncclInt32", 3},     {"ncclUint32", 4},      {"ncclInt64", 5},
    {"ncclUint64", 6},  {"ncclFloat64", 9},   {"ncclFloat8e4m3", 11}, {"ncclFloat8e5m2", 12},
};

template <std::size_t N>
std::uint8_t code_of(const char* text, const Name (&names)[N]) {
  if (text == nullptr) return 0;
  for (const Name& name : names) {
    if (std::strcmp(text, name.text) == 0) return name.code;
  }
  return 0;
}

std::uint8_t function_code(const char* name) {
  return code_of(name, kFunctionNames);
}
std::uint8_t function_code(std::uint8_t number) {  // ncclFunc_t of NCCL 2.23
  constexpr std::uint8_t kCodes[] = {file::kBroadcast,     file::kReduce,    file::kAllGather,
                                     file::kReduceScatter, file::kAllReduce, file::kSendReceive,
                                     file::kSend,          file::kReceive};
  return number < sizeof kCodes ? kCodes[number] : std::uint8_t{file::kUnknownFunction};
}
std::uint8_t datatype_code(const char* name) {
  return code_of(name, kDatatypeNames);
}
std::uint8_t datatype_code(std::uint8_t number) {
  return number + 1 < file::kDatatypes ? static_cast<std::uint8_t>(number + 1) : std::uint8_t{0};
}

/// Interfaces 1 to 3 name the communicator in each event.
template <class Detail>
void name_comm(Comm& comm, const Detail& detail, int rank) {
  if constexpr (requires { detail.comm_name; })
    name_once(comm, detail.comm_name, detail.comm_hash, rank);
}

template <class Coll>
void* start_collective(Comm& comm, const Coll& coll, int rank, std::uint8_t flags) {
  name_comm(comm, coll, rank);
  Start start = {.function = function_code(coll.function),
                 .datatype = datatype_code(coll.datatype),
                 .flags = flags,
                 .peer = coll.root,
                 .sequence = coll.sequence,
                 .count = coll.count};
  if constexpr (requires { coll.channels; }) start.channels = coll.channels;
  return start_operation(comm, start);
}

template <class P2p>
void* start_point_to_point(Comm& comm, const P2p& p2p, int rank) {
  name_comm(comm, p2p, rank);
  Start start = {.function = function_code(p2p.function),
                 .datatype = datatype_code(p2p.datatype),
                 .peer = p2p.peer,
                 .count = p2p.count};
  if constexpr (requires { p2p.channels; }) start.channels = p2p.channels;
  return start_operation(comm, start);
}

bool is_on() {
  return g_events.on.load(std::memory_order_relaxed) != 0;
}

template <int kVersion, class D>
void* started(void* context, const D& descriptor) {
  const std::uint64_t type = descriptor.type;
  if (type == abi::kGroup) return group_handle();
  if (type == abi::kKernelCh && kVersion >= 3) {
    return start_channel(descriptor.parent, descriptor.kernel.channel,
                         kVersion >= 4 ? descriptor.kernel.gpu_timer_ns : 0);
  }
  if (type == abi::kProxyOp) {  // never asked for; with PXN its parent may be another process's
    if (descriptor.proxy_op.pid != g_events.pid.load(std::memory_order_relaxed))
      g_events.counters.foreign.fetch_add(1, std::memory_order_relaxed);
    return nullptr;
  }
  const bool coll = type == abi::kColl, p2p = type == abi::kP2p;
  const bool ce = type == abi::kCeColl && kVersion >= 6;
  if (coll || p2p || ce) {
    Comm* comm = comm_of(context);
    if (comm == nullptr) return nullptr;
    if (coll) return start_collective(*comm, descriptor.coll, descriptor.rank, 0);
    if (p2p) return start_point_to_point(*comm, descriptor.p2p, descriptor.rank);
    return start_collective(*comm, descriptor.ce, descriptor.rank, file::kCopyEngine);
  }
  constexpr std::uint64_t kLast = kVersion >= 6   ? abi::kCeBatch
                                  : kVersion == 5 ? abi::kKernelLaunch
                                  : kVersion >= 3 ? abi::kNetPlugin
                                                  : abi::kProxyCtrl;
  const bool one_bit = type != 0 && (type & (type - 1)) == 0;
  if (!one_bit || type > kLast) g_events.counters.unknown.fetch_add(1, std::memory_order_relaxed);
  return nullptr;
}

template <int kVersion, class D>
abi::Result start_event(void* context, void** handle, D* descriptor) {
  if (handle == nullptr) return abi::kSuccess;
  *handle = nullptr;
  if (!is_on() || descriptor == nullptr) return abi::kSuccess;
  count_event(context);
  *handle = started<kVersion>(context, *descriptor);
  return abi::kSuccess;
}

abi::Result stop_event(void* handle) {
  if (!is_on()) return abi::kSuccess;
  count_event(handle);
  stop(handle);
  return abi::kSuccess;
}

template <bool kGpuTimers>
abi::Result record_event_state(void* handle, int state, void* arguments) {
  if (!is_on()) return abi::kSuccess;
  count_event(handle);
  record_state(handle, state, arguments, kGpuTimers);
  return abi::kSuccess;
}

abi::Result finalize(void* context) {
  if (is_on()) close_comm(context);
  return abi::kSuccess;
}

abi::Result open(const Described& described, int* mask, void** context) {
  void* made = nullptr;
  const bool opened = open_comm(described, mask, &made);
  if (context != nullptr) *context = made;
  return opened ? abi::kSuccess : abi::kInternalError;
}

template <int kVersion>
abi::Result init_v1(void** context, int* mask) {
  return open({.abi = kVersion}, mask, context);
}

template <int kVersion>
abi::Result init_v5(void** context, std::uint64_t hash, int* mask, const char* name, int nodes,
                    int ranks, int rank, void*) {
  return open(
      {.abi = kVersion, .name = name, .hash = hash, .nodes = nodes, .ranks = ranks, .rank = rank},
      mask, context);
}

abi::Result init_v4(void** context, int* mask, const char* name, std::uint64_t hash, int nodes,
                    int ranks, int rank, void* log) {
  return init_v5<4>(context, hash, mask, name, nodes, ranks, rank, log);
}

constexpr const char* kName = "rigwise";

}  // namespace

}  // namespace rigwise::nccl_plugin

#define RW_EXPORT extern "C" __attribute__((visibility("default")))
// Not const: NCCL's own declarations of them are not.
namespace rigwise::nccl_plugin {
RW_EXPORT abi::Table<abi::InitV1, abi::DescriptorV1> ncclProfiler_v1;
RW_EXPORT abi::Table<abi::InitV1, abi::DescriptorV2> ncclProfiler_v2;
RW_EXPORT abi::Table<abi::InitV1, abi::DescriptorV3> ncclProfiler_v3;
RW_EXPORT abi::Table<abi::InitV4, abi::DescriptorV4> ncclProfiler_v4;
RW_EXPORT abi::Table<abi::InitV5, abi::DescriptorV5> ncclProfiler_v5;
RW_EXPORT abi::Table<abi::InitV5, abi::DescriptorV5> ncclProfiler_v6;

abi::Table<abi::InitV1, abi::DescriptorV1> ncclProfiler_v1 = {
    kName,   init_v1<1>, start_event<1, abi::DescriptorV1>, stop_event, record_event_state<false>,
    finalize};
abi::Table<abi::InitV1, abi::DescriptorV2> ncclProfiler_v2 = {
    kName,   init_v1<2>, start_event<2, abi::DescriptorV2>, stop_event, record_event_state<false>,
    finalize};
abi::Table<abi::InitV1, abi::DescriptorV3> ncclProfiler_v3 = {
    kName,   init_v1<3>, start_event<3, abi::DescriptorV3>, stop_event, record_event_state<false>,
    finalize};
abi::Table<abi::InitV4, abi::DescriptorV4> ncclProfiler_v4 = {
    kName,   init_v4, start_event<4, abi::DescriptorV4>, stop_event, record_event_state<true>,
    finalize};
abi::Table<abi::InitV5, abi::DescriptorV5> ncclProfiler_v5 = {
    kName,   init_v5<5>, start_event<5, abi::DescriptorV5>, stop_event, record_event_state<true>,
    finalize};
abi::Table<abi::InitV5, abi::DescriptorV5> ncclProfiler_v6 = {
    kName,   init_v5<6>, start_event<6, abi::DescriptorV5>, stop_event, record_event_state<true>,
    finalize};
}  // namespace rigwise::nccl_plugin
