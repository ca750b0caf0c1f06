#include "engine/comm/comm.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>

#include "engine/comm/engines.h"
#include "engine/comm/meeting.h"
#include "engine/comm/sockets.h"

namespace rigwise::engine {

namespace {

/// One rank: every operation is over before it starts.
class Solo final : public Comm {
 public:
  Solo(at::Device device, int world_rank, std::shared_ptr<CommCounters> counters)
      : Comm(0, {world_rank}), device_(device), counters_(std::move(counters)) {}

  [[nodiscard]] at::Device device() const override { return device_; }
  Pending all_reduce(at::Tensor x, ReduceOp /*op*/) override { return count(x, "all_reduce"); }
  Pending all_gather(at::Tensor in, at::Tensor out) override { return copy(in, out, "all_gather"); }
  Pending reduce_scatter(at::Tensor in, at::Tensor out, ReduceOp /*op*/) override {
    return copy(in, out, "reduce_scatter");
  }
  Pending broadcast(at::Tensor x, int /*root*/) override { return count(x, "broadcast"); }
  Pending send(at::Tensor /*x*/, int peer, int /*tag*/) override { no_peer(peer); }
  Pending recv(at::Tensor /*x*/, int peer, int /*tag*/) override { no_peer(peer); }
  void barrier() override {}
  std::shared_ptr<Comm> split(int colour, int /*key*/) override {
    return colour < 0 ? nullptr : make_solo(device_, members()[0], counters_);
  }
  [[nodiscard]] std::vector<std::string> hosts() const override { return {host_name()}; }
  [[nodiscard]] CommCounters counters() override { return *counters_; }
  [[nodiscard]] std::vector<std::string> notes() const override { return {}; }

 private:
  Pending count(const at::Tensor& x, const char* operation) {
    require_plain(x, device_, operation);
    ++counters_->operations;
    counters_->payload_bytes += static_cast<std::int64_t>(x.nbytes());
    return {};
  }
  Pending copy(const at::Tensor& in, at::Tensor& out, const char* operation) {
    require_plain(out, device_, operation);
    if (in.data_ptr() != out.data_ptr()) {
      const at::NoGradGuard no_grad;
      out.view(-1).copy_(in.view(-1));
    }
    return count(in, operation);
  }
  [[noreturn]] static void no_peer(int peer) {
    throw std::invalid_argument(fmt::format("no rank {} in a group of one", peer));
  }

  at::Device device_;
  std::shared_ptr<CommCounters> counters_;
};

}  // namespace

Pending& Pending::operator=(Pending&& other) noexcept {
  if (this != &other) {
    drop();
    op_ = std::move(other.op_);
    counters_ = std::move(other.counters_);
  }
  return *this;
}

Pending::~Pending() {
  drop();
}

void Pending::drop() noexcept {
  if (op_ == nullptr) return;
  if (std::uncaught_exceptions() > 0) {
    op_->abandon();
    op_.reset();
    return;
  }
  try {
    wait();
  } catch (const std::exception&) {  // whoever waits for the next operation hears of it
    op_.reset();
  }
}

void Pending::wait() {
  if (op_ == nullptr) return;
  const auto start = std::chrono::steady_clock::now();
  const auto op = std::move(op_);
  try {
    op->wait();
  } catch (const CommFailure&) {
    op->abandon();
    throw;
  }
  if (counters_ != nullptr) {
    counters_->waited_s +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
}

std::shared_ptr<Comm> make_solo(at::Device device, int world_rank,
                                std::shared_ptr<CommCounters> counters) {
  return std::make_shared<Solo>(device, world_rank, std::move(counters));
}

void require_plain(const at::Tensor& x, at::Device device, const char* operation) {
  if (!x.is_contiguous()) {
    throw std::invalid_argument(fmt::format("{} of a tensor that is not contiguous", operation));
  }
  if (x.device().type() != device.type()) {
    throw std::invalid_argument(fmt::format("{} of a tensor on {} by ranks on {}", operation,
                                            x.device().str(), device.str()));
  }
}

void synchronize(at::Device device) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(device.type());
  guard.synchronizeDevice(device.has_index() ? device.index() : guard.getDevice().index());
}

void require_sizes(std::int64_t whole, std::int64_t part, int ranks, const char* operation) {
  if (whole == part * ranks) return;
  throw std::invalid_argument(
      fmt::format("{} of {} and {} elements among {} ranks", operation, whole, part, ranks));
}

SplitGroup split_group(const Comm& group, const at::Tensor& wanted_W2, int colour) {
  const auto wanted = wanted_W2.accessor<std::int64_t, 2>();
  std::vector<int> members;
  for (int rank = 0; rank < group.size(); ++rank) {
    if (wanted[rank][0] == colour) members.push_back(rank);
  }
  std::stable_sort(members.begin(), members.end(),
                   [&](int a, int b) { return wanted[a][1] < wanted[b][1]; });
  SplitGroup split;
  for (const int member : members) {
    if (member == group.rank()) split.rank = static_cast<int>(split.world_ranks.size());
    split.world_ranks.push_back(group.members()[static_cast<std::size_t>(member)]);
  }
  return split;
}

Result<std::shared_ptr<Comm>> connect(const RankPlace& place, const CommOptions& options) {
  if (place.size == 1) {
    return make_solo(options.device, 0, std::make_shared<CommCounters>());
  }
  RW_TRY(auto meeting, Meeting::join(place, options.timeout_s, options.on_stuck));
  if (options.device.is_cuda()) return connect_nccl(std::move(meeting), options);
  return connect_gloo(std::move(meeting), options);
}

}  // namespace rigwise::engine
