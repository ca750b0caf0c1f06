// Gloo below Comm, by c10d's ProcessGroupGloo. All that is known of its shifting interface is here.
//
// ProcessGroupGloo.hpp includes Gloo's own headers, which no wheel carries: gloo_stub/ stands in.
#define USE_C10D_GLOO
#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/version.h>

#include <cstdlib>
#include <utility>

#include "engine/comm/engines.h"
#include "engine/comm/meeting.h"
#include "engine/comm/sockets.h"

namespace rigwise::engine {

namespace {

// Gloo sums bf16 itself from torch 2.13 on; before that it refuses the type.
constexpr bool kNativeBfloat16 = TORCH_VERSION_MAJOR > 2 ||
                                 (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 13);
constexpr int kMostTags = 1 << 20;
constexpr int kReduceScatterTag = 1 << 21, kAllGatherTag = 1 << 22;  // beyond those of callers
constexpr int kMostDirect =
    8;  // ranks among which each sends to each: more connections do not help

using WorkPtr = c10::intrusive_ptr<c10d::Work>;

// Names that change between torch 2.11 and 2.14. Templates, so that only the name that exists is
// looked at.
template <class Group>
WorkPtr gather_into(Group& group, at::Tensor& out, at::Tensor& in) {
  if constexpr (requires { group._allgather_base(out, in); }) {
    return group._allgather_base(out, in);
  } else {
    return group.all_gather_single(out, in);
  }
}

template <class Group>
auto device_of(const std::string& interface) {
  if constexpr (requires { Group::createDeviceForInterface(interface, false); }) {
    return Group::createDeviceForInterface(interface, false);
  } else {
    return Group::createDeviceForInterface(interface);
  }
}

c10d::ReduceOp c10d_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::max:
      return c10d::ReduceOp::MAX;
    case ReduceOp::min:
      return c10d::ReduceOp::MIN;
    case ReduceOp::sum:
      break;
  }
  return c10d::ReduceOp::SUM;
}

void accumulate(at::Tensor& into, const at::Tensor& x, ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      into.add_(x);
      return;
    case ReduceOp::max:
      at::maximum_out(into, into, x);
      return;
    case ReduceOp::min:
      at::minimum_out(into, into, x);
      return;
  }
}

/// What the world and its groups have in common.
struct Shared {
  std::shared_ptr<Meeting> meeting;
  std::shared_ptr<CommCounters> counters = std::make_shared<CommCounters>();
  c10::intrusive_ptr<c10d::ProcessGroupGloo::Options> options;
  std::vector<std::string> notes = {};
};
using SharedPtr = std::shared_ptr<Shared>;

/// Runs `call`; what the library throws becomes a CommFailure that says who was lost.
template <class Call>
auto guarded(const SharedPtr& shared, const char* name, Call call) {
  try {
    const Meeting::Waiting waiting(*shared->meeting);
    return call();
  } catch (const CommFailure&) {
    throw;
  } catch (const std::exception& error) {
    shared->meeting->fail(name, error.what());
  }
}

class GlooOp : public Pending::Op {
 public:
  GlooOp(SharedPtr shared, const char* name) : shared_(std::move(shared)), name_(name) {}
  void wait() final {
    guarded(shared_, name_, [this] { finish(); });
  }

 protected:
  virtual void finish() = 0;

 private:
  SharedPtr shared_;
  const char* name_;
};

/// One piece of work of the library. Where `result` is given, it is copied to `target` at the end.
class WorkOp final : public GlooOp {
 public:
  WorkOp(SharedPtr shared, const char* name, WorkPtr work, at::Tensor result, at::Tensor target)
      : GlooOp(std::move(shared), name),
        work_(std::move(work)),
        result_(std::move(result)),
        target_(std::move(target)) {}
  void abandon() noexcept override {
    (void)work_.release();
  }  // its tensors may still be written to

 private:
  void finish() override {
    work_->wait();
    if (result_.defined()) {
      const at::NoGradGuard no_grad;
      target_.copy_(result_);
    }
  }
  WorkPtr work_;
  at::Tensor result_, target_;
};

/// Room for what others send, kept between calls: fresh memory costs a page fault for every 4 KiB.
class Scratch {
 public:
  at::Tensor take(std::int64_t count, const at::TensorOptions& options) {
    const std::int64_t bytes = count * static_cast<std::int64_t>(options.dtype().itemsize());
    if (!kept_.defined() || kept_.numel() < bytes) kept_ = at::empty({bytes}, at::kByte);
    return std::exchange(kept_, at::Tensor());  // one that comes meanwhile makes its own
  }
  void give_back(at::Tensor scratch) { kept_ = std::move(scratch); }

 private:
  at::Tensor kept_;
};

/// Each rank sends every other one its part at once and sums what it gets, in the order of ranks.
/// Gloo's own reduce-scatter is an all-reduce of the whole, twice the bytes.
class ReduceScatterOp final : public GlooOp {
 public:
  ReduceScatterOp(SharedPtr shared, std::shared_ptr<Scratch> scratch, at::Tensor out, ReduceOp op)
      : GlooOp(std::move(shared), "reduce_scatter"),
        scratch_(std::move(scratch)),
        out_(std::move(out)),
        op_(op) {}

  void start(c10d::ProcessGroupGloo& group, const at::Tensor& in, int rank, int size, int tag) {
    const at::NoGradGuard no_grad;
    const std::int64_t part = out_.numel();
    const at::Tensor flat = in.view(-1);
    room_ = scratch_->take((size - 1) * part, flat.options());
    parts_.resize(static_cast<std::size_t>(size));
    parts_[static_cast<std::size_t>(rank)] = flat.narrow(0, rank * part, part);
    const std::int64_t part_bytes = part * static_cast<std::int64_t>(flat.element_size());
    for (int step = 1; step < size; ++step) {  // everyone starts with its neighbour
      const int from = (rank - step + size) % size;
      auto& buffer = parts_[static_cast<std::size_t>(from)];
      buffer = room_.narrow(0, (step - 1) * part_bytes, part_bytes).view(flat.scalar_type());
      std::vector<at::Tensor> received = {buffer};
      works_.push_back(group.recv(received, from, tag));
    }
    for (int step = 1; step < size; ++step) {
      const int to = (rank + step) % size;
      std::vector<at::Tensor> sent = {flat.narrow(0, to * part, part)};
      works_.push_back(group.send(sent, to, tag));
    }
    const auto* begin = static_cast<const std::byte*>(flat.const_data_ptr());
    const auto* out = static_cast<const std::byte*>(out_.const_data_ptr());
    apart_ = out + out_.nbytes() <= begin || out >= begin + flat.nbytes();
  }
  void abandon() noexcept override {
    for (auto& work : works_) (void)work.release();
    (void)room_.unsafeReleaseIntrusivePtr().release();  // it may still be written to
  }

 private:
  void finish() override {
    for (const auto& work : works_) work->wait();
    const at::NoGradGuard no_grad;
    at::Tensor flat_out = out_.view(-1);
    const bool widen = at::isReducedFloatingType(out_.scalar_type()) && op_ == ReduceOp::sum;
    at::Tensor sum = widen ? parts_[0].to(at::kFloat) : apart_ ? flat_out : parts_[0].clone();
    if (sum.is_same(flat_out)) sum.copy_(parts_[0]);
    for (std::size_t rank = 1; rank < parts_.size(); ++rank) accumulate(sum, parts_[rank], op_);
    if (!sum.is_same(flat_out)) flat_out.copy_(sum);
    scratch_->give_back(std::move(room_));
  }
  std::shared_ptr<Scratch> scratch_;
  at::Tensor out_;
  ReduceOp op_;
  at::Tensor room_;
  std::vector<at::Tensor> parts_;  // by rank
  std::vector<WorkPtr> works_;
  bool apart_ = false;  // the result overlaps nothing that is summed
};

/// Each rank sends its part to every other one at once. Gloo's ring passes each part on from rank
/// to rank and takes 2 to 5 times as long for parts of 8 to 32 MiB among two ranks of one host
/// (bench/engine_link.py).
class AllGatherOp final : public GlooOp {
 public:
  explicit AllGatherOp(SharedPtr shared) : GlooOp(std::move(shared), "all_gather") {}

  void start(c10d::ProcessGroupGloo& group, const at::Tensor& in, const at::Tensor& out, int rank,
             int size, int tag) {
    const at::NoGradGuard no_grad;
    const std::int64_t part = in.numel();
    const at::Tensor flat = out.view(-1);
    for (int step = 1; step < size; ++step) {  // everyone starts with its neighbour
      const int from = (rank - step + size) % size;
      std::vector<at::Tensor> received = {flat.narrow(0, from * part, part)};
      works_.push_back(group.recv(received, from, tag));
    }
    for (int step = 1; step < size; ++step) {
      std::vector<at::Tensor> sent = {in.view(-1)};
      works_.push_back(group.send(sent, (rank + step) % size, tag));
    }
    at::Tensor own = flat.narrow(0, rank * part, part);
    if (own.const_data_ptr() != in.const_data_ptr()) own.copy_(in.view(-1));
  }
  void abandon() noexcept override {
    for (auto& work : works_) (void)work.release();
  }

 private:
  void finish() override {
    for (const auto& work : works_) work->wait();
  }
  std::vector<WorkPtr> works_;
};

class GlooComm final : public Comm {
 public:
  GlooComm(SharedPtr shared, int rank, std::vector<int> members, std::string name)
      : Comm(rank, std::move(members)), shared_(std::move(shared)), name_(std::move(name)) {}
  GlooComm(const GlooComm&) = delete;
  GlooComm& operator=(const GlooComm&) = delete;
  ~GlooComm() override {
    // behind a failure its threads hang in operations that will not end
    if (shared_->meeting->failed()) (void)group_.release();
  }

  /// Connects the members. Collective.
  Status open() {
    try {
      const Meeting::Waiting waiting(*shared_->meeting);
      auto store =
          c10::make_intrusive<c10d::PrefixStore>("gloo/" + name_ + "/", shared_->meeting->store());
      group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank(), size(), shared_->options);
    } catch (const std::exception& error) {
      try {
        shared_->meeting->fail("connect", error.what());
      } catch (const CommFailure& failure) {
        return failure.error;
      }
    }
    return Ok{};
  }

  [[nodiscard]] at::Device device() const override { return at::kCPU; }
  [[nodiscard]] std::vector<std::string> hosts() const override {
    std::vector<std::string> out;
    for (const int member : members()) {
      out.push_back(shared_->meeting->members()[static_cast<std::size_t>(member)].host);
    }
    return out;
  }
  [[nodiscard]] CommCounters counters() override { return *shared_->counters; }
  [[nodiscard]] std::vector<std::string> notes() const override { return shared_->notes; }

  Pending all_reduce(at::Tensor x, ReduceOp op) override {
    begin(x, "all_reduce");
    const bool widen = !kNativeBfloat16 && x.scalar_type() == at::kBFloat16;
    std::vector<at::Tensor> given = {widen ? x.to(at::kFloat) : x};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d_op(op);
    return started(
        "all_reduce", [&] { return group_->allreduce(given, options); },
        widen ? given[0] : at::Tensor(), x);
  }

  Pending all_gather(at::Tensor in, at::Tensor out) override {
    begin(in, "all_gather");
    require_plain(out, device(), "all_gather");
    require_sizes(out.numel(), in.numel(), size(), "all_gather");
    if (size() <= kMostDirect) {
      auto work = std::make_unique<AllGatherOp>(shared_);
      const int tag = kAllGatherTag + all_gathers_++ % kMostTags;
      guarded(shared_, "all_gather", [&] { work->start(*group_, in, out, rank(), size(), tag); });
      return {std::move(work), shared_->counters};
    }
    at::Tensor flat_out = out.view(-1);
    at::Tensor flat_in = in.view(-1);
    return started("all_gather", [&] { return gather_into(*group_, flat_out, flat_in); });
  }

  Pending reduce_scatter(at::Tensor in, at::Tensor out, ReduceOp op) override {
    begin(in, "reduce_scatter");
    require_plain(out, device(), "reduce_scatter");
    require_sizes(in.numel(), out.numel(), size(), "reduce_scatter");
    auto work = std::make_unique<ReduceScatterOp>(shared_, scratch_, out, op);
    const int tag = kReduceScatterTag + reduce_scatters_++ % kMostTags;
    guarded(shared_, "reduce_scatter", [&] { work->start(*group_, in, rank(), size(), tag); });
    return {std::move(work), shared_->counters};
  }

  Pending broadcast(at::Tensor x, int root) override {
    begin(x, "broadcast");
    require_peer(root);
    std::vector<at::Tensor> given = {x};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return started("broadcast", [&] { return group_->broadcast(given, options); });
  }

  Pending send(at::Tensor x, int peer, int tag) override {
    begin(x, "send");
    require_peer(peer, tag);
    std::vector<at::Tensor> given = {x};
    return started("send", [&] { return group_->send(given, peer, tag); });
  }

  Pending recv(at::Tensor x, int peer, int tag) override {
    begin(x, "recv");
    require_peer(peer, tag);
    std::vector<at::Tensor> given = {x};
    return started("recv", [&] { return group_->recv(given, peer, tag); });
  }

  void barrier() override {
    begin({}, "barrier");
    started("barrier", [&] { return group_->barrier(); }).wait();
  }

  std::shared_ptr<Comm> split(int colour, int key) override {
    at::Tensor mine =
        at::tensor({static_cast<std::int64_t>(colour), static_cast<std::int64_t>(key)});
    at::Tensor all_W2 = at::empty({size(), 2}, at::kLong);
    all_gather(mine, all_W2).wait();
    const int number = splits_++;
    if (colour < 0) return nullptr;
    auto [own, world_ranks] = split_group(*this, all_W2, colour);
    if (world_ranks.size() == 1) return make_solo(device(), world_ranks[0], shared_->counters);
    auto group = std::make_shared<GlooComm>(shared_, own, std::move(world_ranks),
                                            fmt::format("{}/{}.{}", name_, number, colour));
    if (auto opened = group->open(); !opened) throw CommFailure(std::move(opened).error());
    return group;
  }

 private:
  void begin(const at::Tensor& x, const char* name) {
    if (x.defined()) {
      require_plain(x, device(), name);
      shared_->counters->payload_bytes += static_cast<std::int64_t>(x.nbytes());
    }
    ++shared_->counters->operations;
    shared_->meeting->begin(name);
  }

  template <class Start>
  Pending started(const char* name, Start start, at::Tensor result = {}, at::Tensor target = {}) {
    auto work = guarded(shared_, name, start);
    return {std::make_unique<WorkOp>(shared_, name, std::move(work), std::move(result),
                                     std::move(target)),
            shared_->counters};
  }

  void require_peer(int peer, int tag = 0) const {
    if (peer < 0 || peer >= size()) {
      throw std::invalid_argument(fmt::format("no rank {} in a group of {}", peer, size()));
    }
    if (tag < 0 || tag > kMostTags) throw std::invalid_argument(fmt::format("tag {}", tag));
  }

  SharedPtr shared_;
  std::string name_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::shared_ptr<Scratch> scratch_ = std::make_shared<Scratch>();
  int reduce_scatters_ = 0, all_gathers_ = 0, splits_ = 0;
};

/// The interface that Gloo binds to, and why. Its own choice, the address of the host's name, is
/// 127.0.1.1 on Debian, which another host cannot reach.
struct Interface {
  std::string name, why;
};

Result<Interface> choose_interface(const Meeting& meeting, const CommOptions& options) {
  if (options.interface) return Interface{*options.interface, "as asked for"};
  if (const char* wanted = std::getenv("GLOO_SOCKET_IFNAME");
      wanted != nullptr && *wanted != '\0') {
    return Interface{wanted, "GLOO_SOCKET_IFNAME"};
  }
  if (meeting.one_machine()) return Interface{"lo", "all ranks are on one host"};
  const auto& members = meeting.members();
  std::string own = members[static_cast<std::size_t>(meeting.rank())].address;
  if (meeting.rank() == 0) {
    for (const Member& member : members) {
      if (member.machine == members[0].machine || member.address.empty()) continue;
      RW_TRY(own, address_towards(member.address));
      break;
    }
  }
  RW_TRY(std::string name, interface_of(own));
  if (name == "lo") {
    return Error{
        Errc::unavailable,
        fmt::format("rank {} reaches rank 0 over lo ({}), but the ranks are on several hosts",
                    meeting.rank(), own),
        "set MASTER_ADDR to an address that every host can reach, or --interface NAME: " +
            interface_names()};
  }
  return Interface{name, fmt::format("towards the other hosts, from {}", own)};
}

}  // namespace

Result<std::shared_ptr<Comm>> connect_gloo(std::shared_ptr<Meeting> meeting,
                                           const CommOptions& options) {
  RW_TRY(const Interface interface, choose_interface(*meeting, options));
  auto shared = std::make_shared<Shared>();
  shared->options = c10d::ProcessGroupGloo::Options::create(
      std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout_s * 1000)));
  try {
    shared->options->devices.push_back(device_of<c10d::ProcessGroupGloo>(interface.name));
  } catch (const std::exception&) {
    return Error{
        Errc::unavailable,
        fmt::format("Gloo cannot use the interface '{}' ({})", interface.name, interface.why),
        "--interface NAME: " + interface_names()};
  }
  shared->notes = {fmt::format("gloo over {} ({})", interface.name, interface.why),
                   "reduce-scatter and all-gather are point to point, with local sums"};
  std::vector<int> everyone;
  for (std::size_t rank = 0; rank < meeting->members().size(); ++rank) {
    everyone.push_back(static_cast<int>(rank));
  }
  const int rank = meeting->rank();
  shared->meeting = std::move(meeting);
  auto world = std::make_shared<GlooComm>(shared, rank, std::move(everyone), "world");
  RW_CHECK(world->open());
  return std::shared_ptr<Comm>(std::move(world));
}

}  // namespace rigwise::engine
