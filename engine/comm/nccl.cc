// NCCL below Comm, by dlopen and our own declarations, so that neither a build nor a machine
// without CUDA needs it. Streams and events are c10's device-neutral ones: no CUDA header, no CUDA
// toolkit.
//
// NOT YET RUN ON A GPU: written against NCCL 2.x's public interface (nccl.h) and compiled, no more.
//
// A group has three communicators, each with its stream: collectives, transfers to higher ranks,
// transfers to lower ranks. A communicator works its operations off in order, so that two ranks
// that send to each other on one would wait for each other for ever.
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Logging.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <filesystem>
#include <mutex>
#include <thread>

#include "engine/comm/engines.h"
#include "engine/comm/meeting.h"

namespace rigwise::engine {

namespace {

using Clock = std::chrono::steady_clock;
using c10::impl::VirtualGuardImpl;

// From nccl.h; these values have been the same since NCCL 2.10 (bfloat16's).
struct UniqueId {
  std::array<char, 128> internal;
};
using Communicator = void*;
constexpr int kSuccess = 0, kInProgress = 7;
constexpr int kSum = 0, kMax = 2, kMin = 3;

struct Functions {
  int (*GetUniqueId)(UniqueId*);
  int (*CommInitRank)(Communicator*, int, UniqueId, int);
  int (*CommAbort)(Communicator);
  int (*CommDestroy)(Communicator);
  int (*CommGetAsyncError)(Communicator, int*);
  int (*AllReduce)(const void*, void*, std::size_t, int, int, Communicator, void*);
  int (*AllGather)(const void*, void*, std::size_t, int, Communicator, void*);
  int (*ReduceScatter)(const void*, void*, std::size_t, int, int, Communicator, void*);
  int (*Broadcast)(const void*, void*, std::size_t, int, int, Communicator, void*);
  int (*Send)(const void*, std::size_t, int, int, Communicator, void*);
  int (*Recv)(void*, std::size_t, int, int, Communicator, void*);
  int (*GetVersion)(int*);
  const char* (*GetErrorString)(int);
};

/// The one that libtorch has loaded already, else the system's, else the wheel's beside torch.
Result<Functions> load() {
  std::vector<std::string> names = {"libnccl.so.2"};
  Dl_info where = {};
  void (*const in_libtorch)() = &c10::initLogging;
  if (::dladdr(reinterpret_cast<void*>(in_libtorch), &where) != 0 && where.dli_fname != nullptr) {
    const auto torch_lib = std::filesystem::path(where.dli_fname).parent_path();
    names.push_back((torch_lib / "../../nvidia/nccl/lib/libnccl.so.2").string());
  }
  void* library = nullptr;
  for (const auto& name : names) {
    if (library == nullptr) library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) {
    return Error{Errc::unavailable, "CUDA ranks need NCCL, and there is no libnccl.so.2",
                 "pip install nvidia-nccl-cu13 (cu12 for CUDA 12), or the system's libnccl2"};
  }
  Functions out = {};
  std::string missing;
  const auto find = [&](auto& function, const char* name) {
    void* symbol = ::dlsym(library, name);
    if (symbol == nullptr) missing = name;
    std::memcpy(&function, &symbol, sizeof(symbol));
  };
  find(out.GetUniqueId, "ncclGetUniqueId");
  find(out.CommInitRank, "ncclCommInitRank");
  find(out.CommAbort, "ncclCommAbort");
  find(out.CommDestroy, "ncclCommDestroy");
  find(out.CommGetAsyncError, "ncclCommGetAsyncError");
  find(out.AllReduce, "ncclAllReduce");
  find(out.AllGather, "ncclAllGather");
  find(out.ReduceScatter, "ncclReduceScatter");
  find(out.Broadcast, "ncclBroadcast");
  find(out.Send, "ncclSend");
  find(out.Recv, "ncclRecv");
  find(out.GetVersion, "ncclGetVersion");
  find(out.GetErrorString, "ncclGetErrorString");
  if (!missing.empty()) {
    return Error{Errc::unavailable, fmt::format("libnccl.so.2 has no {}", missing),
                 "NCCL 2.10 or later is needed"};
  }
  return out;
}

int nccl_type(at::ScalarType type) {
  switch (type) {
    case at::kChar:
      return 0;
    case at::kByte:
    case at::kBool:
      return 1;
    case at::kInt:
      return 2;
    case at::kLong:
      return 4;
    case at::kHalf:
      return 6;
    case at::kFloat:
      return 7;
    case at::kDouble:
      return 8;
    case at::kBFloat16:
      return 9;
    default:
      throw std::invalid_argument(fmt::format("NCCL has no type for {}", c10::toString(type)));
  }
}

int nccl_op(ReduceOp op) {
  return op == ReduceOp::max ? kMax : op == ReduceOp::min ? kMin : kSum;
}

/// An operation whose end is not known yet.
struct InFlight {
  std::shared_ptr<c10::Event> done;
  Clock::time_point started;
  const char* name;
};

/// What the world and its groups have in common, and the thread that notices when NCCL hangs: its
/// kernels spin for ever when a rank is gone, and the host does not wait for them.
struct Shared {
  Functions nccl = {};
  at::Device device = at::kCUDA;
  std::shared_ptr<Meeting> meeting;
  CommCounters counters;
  std::vector<std::string> notes;

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Communicator> communicators;
  std::deque<InFlight> in_flight;
  std::string broken;  // why everything was aborted
  bool stop = false;
  std::thread watching;

  // Stalls of the computing stream, as pairs of events around each wait.
  std::deque<std::pair<c10::Event, c10::Event>> stalls;

  ~Shared() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    changed.notify_all();
    if (watching.joinable()) watching.join();
  }

  void watch() {
    std::unique_lock lock(mutex);
    while (!stop && broken.empty()) {
      changed.wait_for(lock, std::chrono::milliseconds(200));
      while (!in_flight.empty() && in_flight.front().done->query()) in_flight.pop_front();
      for (const Communicator communicator : communicators) {
        int error = kSuccess;
        if (nccl.CommGetAsyncError(communicator, &error) != kSuccess) continue;
        if (error != kSuccess && error != kInProgress) broken = nccl.GetErrorString(error);
      }
      const auto limit = std::chrono::duration<double>(meeting->timeout_s());
      if (!in_flight.empty() && Clock::now() - in_flight.front().started > limit) {
        broken = fmt::format("{} was not finished within {:g} s", in_flight.front().name,
                             meeting->timeout_s());
      }
      if (broken.empty()) continue;
      for (const Communicator communicator : communicators) nccl.CommAbort(communicator);
      communicators.clear();
    }
  }

  void check(const char* name) {
    std::string why;
    {
      const std::lock_guard lock(mutex);
      why = broken;
    }
    if (!why.empty()) meeting->fail(name, why);
  }

  /// Adds the stalls that are over; all of them where `wait`.
  void settle(bool wait) {
    while (!stalls.empty()) {
      auto& [before, after] = stalls.front();
      if (!after.query()) {
        if (!wait) return;
        after.synchronize();
      }
      counters.waited_s += before.elapsedTime(after) / 1000;
      stalls.pop_front();
    }
  }
};
using SharedPtr = std::shared_ptr<Shared>;

/// Holds the tensors until the computing stream has been told to wait: the allocator gives their
/// memory out again in that stream's order.
class NcclOp final : public Pending::Op {
 public:
  NcclOp(SharedPtr shared, const char* name, std::shared_ptr<c10::Event> done,
         std::vector<at::Tensor> tensors)
      : shared_(std::move(shared)),
        name_(name),
        done_(std::move(done)),
        tensors_(std::move(tensors)) {}

  void wait() override {
    shared_->check(name_);
    const VirtualGuardImpl guard(shared_->device.type());
    const c10::Stream stream = guard.getStream(shared_->device);
    c10::Event before(shared_->device.type(), c10::EventFlag::BACKEND_DEFAULT);
    c10::Event after(shared_->device.type(), c10::EventFlag::BACKEND_DEFAULT);
    before.record(stream);
    done_->block(stream);
    after.record(stream);
    shared_->stalls.emplace_back(std::move(before), std::move(after));
    if (shared_->stalls.size() > 1000) shared_->settle(false);
    tensors_.clear();
  }
  void abandon() noexcept override {
    for (auto& tensor : tensors_) (void)tensor.unsafeReleaseTensorImpl();
  }

 private:
  SharedPtr shared_;
  const char* name_;
  std::shared_ptr<c10::Event> done_;
  std::vector<at::Tensor> tensors_;
};

/// A communicator and the stream that it works on.
struct Channel {
  Communicator communicator = nullptr;
  std::optional<c10::Stream> stream = {};
};

class NcclComm final : public Comm {
 public:
  NcclComm(SharedPtr shared, int rank, std::vector<int> members, std::string name)
      : Comm(rank, std::move(members)), shared_(std::move(shared)), name_(std::move(name)) {}
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;
  ~NcclComm() override {
    const std::lock_guard lock(shared_->mutex);
    if (!shared_->broken.empty() || shared_->meeting->failed()) return;  // aborted, or left to exit
    for (const Channel* channel : {&collectives_, &up_, &down_}) {
      if (channel->communicator == nullptr) continue;
      std::erase(shared_->communicators, channel->communicator);
      shared_->nccl.CommDestroy(channel->communicator);
    }
  }

  /// Collective. Throws CommFailure.
  void open() {
    const VirtualGuardImpl guard(shared_->device.type());
    guard.setDevice(shared_->device);
    for (auto [channel, what] :
         {std::pair(&collectives_, "all"), std::pair(&up_, "up"), std::pair(&down_, "down")}) {
      const std::string key = fmt::format("nccl/{}/{}", name_, what);
      UniqueId id = {};
      if (rank() == 0) {
        must(shared_->nccl.GetUniqueId(&id), "connect");
        shared_->meeting->store()->set(key, std::string(id.internal.data(), id.internal.size()));
      } else {
        const std::string text = shared_->meeting->store()->get_to_str(key);
        if (text.size() != id.internal.size()) shared_->meeting->fail("connect", "no NCCL id");
        std::memcpy(id.internal.data(), text.data(), text.size());
      }
      must(shared_->nccl.CommInitRank(&channel->communicator, size(), id, rank()), "connect");
      channel->stream = guard.getStreamFromGlobalPool(shared_->device, /*isHighPriority=*/true);
      const std::lock_guard lock(shared_->mutex);
      shared_->communicators.push_back(channel->communicator);
    }
  }

  [[nodiscard]] at::Device device() const override { return shared_->device; }
  [[nodiscard]] std::vector<std::string> notes() const override { return shared_->notes; }
  [[nodiscard]] std::vector<std::string> hosts() const override {
    std::vector<std::string> out;
    for (const int member : members()) {
      out.push_back(shared_->meeting->members()[static_cast<std::size_t>(member)].host);
    }
    return out;
  }
  [[nodiscard]] CommCounters counters() override {
    shared_->settle(true);
    return shared_->counters;
  }

  Pending all_reduce(at::Tensor x, ReduceOp op) override {
    return started("all_reduce", collectives_, {x}, [&](void* stream) {
      return shared_->nccl.AllReduce(x.data_ptr(), x.data_ptr(), count(x), type(x), nccl_op(op),
                                     collectives_.communicator, stream);
    });
  }
  Pending all_gather(at::Tensor in, at::Tensor out) override {
    require_sizes(out.numel(), in.numel(), size(), "all_gather");
    return started("all_gather", collectives_, {in, out}, [&](void* stream) {
      return shared_->nccl.AllGather(in.data_ptr(), out.data_ptr(), count(in), type(in),
                                     collectives_.communicator, stream);
    });
  }
  Pending reduce_scatter(at::Tensor in, at::Tensor out, ReduceOp op) override {
    require_sizes(in.numel(), out.numel(), size(), "reduce_scatter");
    return started("reduce_scatter", collectives_, {in, out}, [&](void* stream) {
      return shared_->nccl.ReduceScatter(in.data_ptr(), out.data_ptr(), count(out), type(in),
                                         nccl_op(op), collectives_.communicator, stream);
    });
  }
  Pending broadcast(at::Tensor x, int root) override {
    require_peer(root, false);
    return started("broadcast", collectives_, {x}, [&](void* stream) {
      return shared_->nccl.Broadcast(x.data_ptr(), x.data_ptr(), count(x), type(x), root,
                                     collectives_.communicator, stream);
    });
  }
  Pending send(at::Tensor x, int peer, int /*tag*/) override {
    require_peer(peer, true);
    Channel& channel = peer > rank() ? up_ : down_;
    return started("send", channel, {x}, [&](void* stream) {
      return shared_->nccl.Send(x.data_ptr(), count(x), type(x), peer, channel.communicator,
                                stream);
    });
  }
  Pending recv(at::Tensor x, int peer, int /*tag*/) override {
    require_peer(peer, true);
    Channel& channel = peer < rank() ? up_ : down_;
    return started("recv", channel, {x}, [&](void* stream) {
      return shared_->nccl.Recv(x.data_ptr(), count(x), type(x), peer, channel.communicator,
                                stream);
    });
  }
  void barrier() override {
    at::Tensor one = at::ones({1}, at::TensorOptions().dtype(at::kFloat).device(shared_->device));
    all_reduce(one, ReduceOp::sum).wait();
    synchronize(shared_->device);
    shared_->check("barrier");
  }

  std::shared_ptr<Comm> split(int colour, int key) override {
    const at::Tensor mine =
        at::tensor({static_cast<std::int64_t>(colour), static_cast<std::int64_t>(key)})
            .to(shared_->device);
    at::Tensor all_W2 = at::empty({size(), 2}, mine.options());
    all_gather(mine, all_W2).wait();
    all_W2 = all_W2.cpu();
    shared_->check("all_gather");
    const int number = splits_++;
    if (colour < 0) return nullptr;
    auto [own, world_ranks] = split_group(*this, all_W2, colour);
    if (world_ranks.size() == 1) {
      return make_solo(device(), world_ranks[0], std::make_shared<CommCounters>());
    }
    auto group = std::make_shared<NcclComm>(shared_, own, std::move(world_ranks),
                                            fmt::format("{}/{}.{}", name_, number, colour));
    group->open();
    return group;
  }

 private:
  static std::size_t count(const at::Tensor& x) { return static_cast<std::size_t>(x.numel()); }
  static int type(const at::Tensor& x) { return nccl_type(x.scalar_type()); }

  void must(int result, const char* name) {
    if (result != kSuccess && result != kInProgress) {
      shared_->meeting->fail(name, shared_->nccl.GetErrorString(result));
    }
  }

  template <class Start>
  Pending started(const char* name, Channel& channel, std::vector<at::Tensor> tensors,
                  Start start) {
    for (const auto& tensor : tensors) require_plain(tensor, device(), name);
    shared_->check(name);
    ++shared_->counters.operations;
    shared_->counters.payload_bytes += static_cast<std::int64_t>(tensors[0].nbytes());
    shared_->meeting->begin(name);
    const VirtualGuardImpl guard(shared_->device.type());
    guard.setDevice(shared_->device);
    c10::Event ready(shared_->device.type());
    ready.record(guard.getStream(shared_->device));
    ready.block(*channel.stream);
    must(start(channel.stream->native_handle()), name);
    auto done = std::make_shared<c10::Event>(shared_->device.type());
    done->record(*channel.stream);
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->in_flight.push_back({done, Clock::now(), name});
    }
    // the exposed time is told by events, not by the host's clock: no counters for the Pending
    return {std::make_unique<NcclOp>(shared_, name, std::move(done), std::move(tensors)), nullptr};
  }

  void require_peer(int peer, bool other) const {
    if (peer < 0 || peer >= size() || (other && peer == rank())) {
      throw std::invalid_argument(fmt::format("no such peer in a group of {}: {}", size(), peer));
    }
  }

  SharedPtr shared_;
  std::string name_;
  Channel collectives_, up_, down_;
  int splits_ = 0;
};

}  // namespace

Result<std::shared_ptr<Comm>> connect_nccl(std::shared_ptr<Meeting> meeting,
                                           const CommOptions& options) {
  auto shared = std::make_shared<Shared>();
  RW_TRY(shared->nccl, load());
  shared->device = options.device;
  int version = 0;
  shared->nccl.GetVersion(&version);  // 22903 is 2.29.3
  shared->notes = {
      fmt::format("nccl {}.{}.{}", version / 10000, version / 100 % 100, version % 100)};
  std::vector<int> everyone;
  for (std::size_t rank = 0; rank < meeting->members().size(); ++rank) {
    everyone.push_back(static_cast<int>(rank));
  }
  const int rank = meeting->rank();
  shared->meeting = std::move(meeting);
  auto world = std::make_shared<NcclComm>(shared, rank, std::move(everyone), "world");
  try {
    world->open();
  } catch (const CommFailure& failure) {
    return failure.error;
  } catch (const std::exception& error) {
    return Error{Errc::unavailable,
                 fmt::format("NCCL on {}: {}", options.device.str(), error.what()),
                 "NCCL_DEBUG=INFO tells more; two ranks cannot share one device"};
  }
  shared->watching = std::thread([raw = shared.get()] { raw->watch(); });
  return std::shared_ptr<Comm>(std::move(world));
}

}  // namespace rigwise::engine
