#include "fakes/nccl_core.h"

#include <dlfcn.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cstring>
#include <type_traits>

namespace rigwise::fake_nccl {

namespace {

// Versions 1 to 3 name the communicator in each event; in version 1 names are numbers.
struct Coll1 {
  const char* name;
  uint64_t commHash;
  uint64_t seqNumber;
  uint8_t func;
  const void* sendBuff;
  void* recvBuff;
  size_t count;
  int root;
  uint8_t datatype;
  uint32_t op;
  size_t trafficBytes;
  uint8_t nMaxChannels;
  uint8_t nWarps;
  uint8_t algo;
  uint8_t proto;
  int isCollnet;
  int isNvls;
};
struct P2p1 {
  const char* name;
  uint64_t commHash;
  uint8_t func;
  void* buff;
  uint8_t datatype;
  size_t count;
  int peer;
};
struct Coll2 {
  const char* name;
  uint64_t commHash;
  uint64_t seqNumber;
  const char* func;
  const void* sendBuff;
  void* recvBuff;
  size_t count;
  int root;
  const char* datatype;
  size_t trafficBytes;
  uint8_t nMaxChannels;
  uint8_t nWarps;
  const char* algo;
  const char* proto;
};
struct P2p2 {
  const char* name;
  uint64_t commHash;
  const char* func;
  void* buff;
  const char* datatype;
  size_t count;
  int peer;
};
struct Coll3 {
  const char* name;
  uint64_t commHash;
  uint64_t seqNumber;
  const char* func;
  const void* sendBuff;
  void* recvBuff;
  size_t count;
  int root;
  const char* datatype;
  uint8_t nMaxChannels;
  uint8_t nWarps;
  const char* algo;
  const char* proto;
};
struct Coll4 {
  uint64_t seqNumber;
  const char* func;
  const void* sendBuff;
  void* recvBuff;
  size_t count;
  int root;
  const char* datatype;
  uint8_t nChannels;
  uint8_t nWarps;
  const char* algo;
  const char* proto;
};
struct P2p4 {
  const char* func;
  void* buff;
  const char* datatype;
  size_t count;
  int peer;
  uint8_t nChannels;
};
struct Coll5 {
  uint64_t seqNumber;
  const char* func;
  const void* sendBuff;
  void* recvBuff;
  size_t count;
  int root;
  const char* datatype;
  uint8_t nChannels;
  uint8_t nWarps;
  const char* algo;
  const char* proto;
  void* parentGroup;
};
struct P2p5 {
  const char* func;
  void* buff;
  const char* datatype;
  size_t count;
  int peer;
  uint8_t nChannels;
  void* parentGroup;
};
struct CeColl6 {
  uint64_t seqNumber;
  const char* func;
  const void* sendBuff;
  void* recvBuff;
  size_t count;
  int root;
  const char* datatype;
  const char* syncStrategy;
  bool intraBatchSync;
  uint32_t batchSize, numBatches, ceSeqNum;
  void* stream;
};
struct ProxyOpAny {
  pid_t pid;
  uint8_t channelId;
  int peer, nSteps, chunkSize, isSend;
};
struct KernelCh3 {
  uint8_t channelId;
};
struct KernelCh4 {
  uint8_t channelId;
  uint64_t pTimer;
};

template <class Type, class Coll, class P2p, class Kernel>
struct Descr {
  using C = Coll;
  using P = P2p;
  using K = Kernel;
  Type type;
  void* parentObj;
  int rank;
  union {
    Coll coll;
    P2p p2p;
    ProxyOpAny proxyOp;
    Kernel kernelCh;
    CeColl6 ceColl;  // only where the version has it, see below
  };
};
// Unions of versions before 6 have no copy engines' events: their size must not grow by ours.
template <class Type, class Coll, class P2p, class Kernel>
struct DescrOld {
  using C = Coll;
  using P = P2p;
  using K = Kernel;
  Type type;
  void* parentObj;
  int rank;
  union {
    Coll coll;
    P2p p2p;
    ProxyOpAny proxyOp;
    Kernel kernelCh;
  };
};
using D1 = DescrOld<uint8_t, Coll1, P2p1, KernelCh3>;
using D2 = DescrOld<uint8_t, Coll2, P2p2, KernelCh3>;
using D3 = DescrOld<uint8_t, Coll3, P2p2, KernelCh3>;
using D4 = DescrOld<uint8_t, Coll4, P2p4, KernelCh4>;
using D5 = DescrOld<uint64_t, Coll5, P2p5, KernelCh4>;
using D6 = Descr<uint64_t, Coll5, P2p5, KernelCh4>;
static_assert(sizeof(D1) == 120 && sizeof(D2) == 128 && sizeof(D3) == 120 && sizeof(D4) == 104 &&
              sizeof(D5) == 112 && sizeof(D6) == 112);

union Args {
  struct {
    uint64_t pTimer;
  } kernelCh;
  struct {
    size_t transSize;
    int steps;
  } old;
};

template <class Init, class D>
struct Table {
  const char* name;
  Init init;
  int (*startEvent)(void* context, void** eHandle, D* eDescr);
  int (*stopEvent)(void* eHandle);
  int (*recordEventState)(void* eHandle, int eState, Args* eStateArgs);
  int (*finalize)(void* context);
};
using Init1 = int (*)(void**, int*);
using Log = void (*)(int, unsigned long, const char*, int, const char*, ...);
using Init4 = int (*)(void**, int*, const char*, uint64_t, int, int, int, Log);
using Init5 = int (*)(void**, uint64_t, int*, const char*, int, int, int, Log);

// The numbers that NCCL 2.23 passes; anything else as Send and float64, as its own shim does.
uint8_t function_number(const char* name) {
  static const char* const kNames[] = {"Broadcast", "Reduce",   "AllGather", "ReduceScatter",
                                       "AllReduce", "SendRecv", "Send",      "Recv"};
  for (uint8_t i = 0; name != nullptr && i < 8; ++i) {
    if (std::strcmp(name, kNames[i]) == 0) return i;
  }
  return 99;
}
uint8_t datatype_number(const char* name) {
  static const char* const kNames[] = {"ncclInt8",    "ncclUint8",   "ncclInt32",   "ncclUint32",
                                       "ncclInt64",   "ncclUint64",  "ncclFloat16", "ncclFloat32",
                                       "ncclFloat64", "ncclBfloat16"};
  for (uint8_t i = 0; name != nullptr && i < 10; ++i) {
    if (std::strcmp(name, kNames[i]) == 0) return i;
  }
  return 200;
}

/// NCCL's mask is a global of its library: it stays when the last communicator has gone.
int& fresh_mask() {
  static std::array<int, 4096> masks;
  static std::atomic<std::size_t> used = 0;
  return masks.at(used++) = 0x7fffffff;
}

template <int kVersion, class Init, class D>
class CoreOf : public Core {
 public:
  explicit CoreOf(Table<Init, D>* table) : table_(table) {}

  int version() const override { return kVersion; }
  const char* name() const override { return table_->name; }
  int mask() const override { return __atomic_load_n(&mask_, __ATOMIC_RELAXED); }

  void* init(const char* comm_name, std::uint64_t hash, int nodes, int ranks, int rank,
             int* result) override {
    void* context = nullptr;
    int error = 0;
    if constexpr (std::is_same_v<Init, Init1>) {
      error = table_->init(&context, &mask_);
    } else if constexpr (std::is_same_v<Init, Init4>) {
      error = table_->init(&context, &mask_, comm_name, hash, nodes, ranks, rank, nullptr);
    } else {
      error = table_->init(&context, hash, &mask_, comm_name, nodes, ranks, rank, nullptr);
    }
    if (result != nullptr) *result = error;
    return context;
  }
  void finalize(void* context) override { table_->finalize(context); }

  void* start_group(void* context) override { return start_any(context, 1, nullptr, 0); }

  void* start_call(void* context, void* group, const Call& call, const char* comm_name,
                   std::uint64_t hash, int rank) override {
    D descr;
    std::memset(static_cast<void*>(&descr), 0, sizeof descr);
    descr.parentObj = group;
    descr.rank = rank;
    const auto fill = [&](auto& detail) {
      if constexpr (requires { detail.name; }) {
        detail.name = comm_name;
        detail.commHash = hash;
      }
      if constexpr (kVersion == 1) {
        detail.func = function_number(call.function);
        detail.datatype = datatype_number(call.datatype);
      } else {
        detail.func = call.function;
        detail.datatype = call.datatype;
      }
      detail.count = call.count;
      if constexpr (requires { detail.nMaxChannels; })
        detail.nMaxChannels = static_cast<uint8_t>(call.channels);
      if constexpr (requires { detail.nChannels; })
        detail.nChannels = static_cast<uint8_t>(call.channels);
    };
    if (call.point_to_point) {
      descr.type = 4;
      fill(descr.p2p);
      descr.p2p.peer = call.peer;
    } else {
      descr.type = 2;
      fill(descr.coll);
      descr.coll.seqNumber = call.sequence;
      descr.coll.root = call.peer;
    }
    return start(context, descr);
  }

  void* start_channel(void* context, void* parent, int channel,
                      std::uint64_t gpu_timer_ns) override {
    D descr;
    std::memset(static_cast<void*>(&descr), 0xa5, sizeof descr);  // what is not set is garbage
    descr.type = 64;
    descr.parentObj = parent;
    descr.kernelCh.channelId = static_cast<uint8_t>(channel);
    if constexpr (kVersion >= 4) descr.kernelCh.pTimer = gpu_timer_ns;
    return start(context, descr);
  }
  void record_stop(void* handle, std::uint64_t gpu_timer_ns, bool null_arguments) override {
    Args args = {};
    args.kernelCh.pTimer = gpu_timer_ns;
    table_->recordEventState(handle, 22, null_arguments ? nullptr : &args);
  }
  void stop_channel(void* handle, std::uint64_t gpu_timer_ns) override {
    if (kVersion >= 4) record_stop(handle, gpu_timer_ns, false);
    stop(handle);
  }
  void stop(void* handle) override { table_->stopEvent(handle); }

  void* start_any(void* context, std::uint64_t type, void* parent, int pid) override {
    D descr;
    std::memset(static_cast<void*>(&descr), 0, sizeof descr);
    descr.type = static_cast<decltype(descr.type)>(type);
    descr.parentObj = parent;
    descr.proxyOp.pid = pid;
    return start(context, descr);
  }
  void start_null(void* context) override {
    void* handle = &handle;
    table_->startEvent(context, &handle, nullptr);
    table_->startEvent(context, nullptr, nullptr);
  }

 private:
  void* start(void* context, D& descr) {
    void* handle = nullptr;
    table_->startEvent(context, &handle, &descr);
    return handle;
  }

  Table<Init, D>* table_;
  int& mask_ = fresh_mask();
};

template <int kVersion, class Init, class D>
std::unique_ptr<Core> core_of(void* library) {
  const std::string symbol = "ncclProfiler_v" + std::to_string(kVersion);
  auto* table = static_cast<Table<Init, D>*>(::dlsym(library, symbol.c_str()));
  if (table == nullptr) return nullptr;
  return std::make_unique<CoreOf<kVersion, Init, D>>(table);
}

}  // namespace

std::unique_ptr<Core> Core::load(const std::string& plugin, int version) {
  void* library = ::dlopen(plugin.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  using Maker = std::unique_ptr<Core> (*)(void*);
  constexpr Maker kMakers[] = {core_of<1, Init1, D1>, core_of<2, Init1, D2>, core_of<3, Init1, D3>,
                               core_of<4, Init4, D4>, core_of<5, Init5, D5>, core_of<6, Init5, D6>};
  if (version > 0) return version <= 6 ? kMakers[version - 1](library) : nullptr;
  for (int newest = 6; newest > 0; --newest) {
    if (auto core = kMakers[newest - 1](library)) return core;
  }
  return nullptr;
}

int whole_call(Core& core, void* context, const Call& call, const char* comm_name,
               std::uint64_t hash, int rank, std::uint64_t start_ns, std::uint64_t stop_ns) {
  const int mask = core.mask();
  int calls = 0;
  if ((mask & 127) == 0) return calls;
  void* group = core.start_group(context);
  ++calls;
  // Up to 2.27 NCCL reports calls only below a group that has a handle.
  if (core.version() <= 4 && group == nullptr) return calls;
  void* handle = core.start_call(context, group, call, comm_name, hash, rank);
  ++calls;
  if (handle != nullptr) {
    core.stop(handle);
    ++calls;
  }
  if (group != nullptr) {
    core.stop(group);
    ++calls;
  }
  if ((mask & 64) == 0 || core.version() < 3) return calls;
  void* channels[64] = {};
  for (int c = 0; c < call.channels && c < 64; ++c) {
    channels[c] = core.start_channel(context, handle, c, start_ns + static_cast<unsigned>(c));
    ++calls;
  }
  for (int c = 0; c < call.channels && c < 64; ++c) {
    if (channels[c] == nullptr) continue;
    core.stop_channel(channels[c], stop_ns - static_cast<unsigned>(c));
    calls += core.version() >= 4 ? 2 : 1;
  }
  return calls;
}

}  // namespace rigwise::fake_nccl
