// Comm: the words that ranks exchange while they train. One small interface; below it Gloo (CPU,
// gloo.cc), NCCL (CUDA, nccl.cc) or nothing (one rank).
//
// Every operation starts at once and returns a Pending: `comm.all_reduce(x).wait()` blocks,
// `auto sum = comm.all_reduce(x); …; sum.wait();` overlaps. All ranks of a group must start the
// same collectives in the same order with tensors of the same shape. Tensors are contiguous and lie
// on comm.device(); they are held until the operation is over and must not be touched before
// wait().
//
// Threads: one thread at a time uses a Comm and its groups (the autograd engine's, where hooks call
// it). A failure is thrown as CommFailure, not returned, because it must come through autograd's
// frames; the verb at the top catches it. After one, the Comm is of no further use.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/comm/ranks.h"
#include "engine/torch.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// Why ranks could not go on together. The message names the rank and host that were lost, where
/// one was.
struct CommFailure : std::runtime_error {
  explicit CommFailure(Error why) : std::runtime_error(why.message), error(std::move(why)) {}
  Error error;
};

enum class ReduceOp { sum, max, min };

/// What the operations of a Comm and of all its groups have cost this rank so far.
struct CommCounters {
  std::int64_t operations = 0;
  std::int64_t payload_bytes = 0;  // of the tensors given, not of what went over the wire
  double waited_s = 0;             // inside wait(): the exposed time; overlapped time is not in it
};

/// An operation under way. Dropping one that was not waited for waits for it, so that no transfer
/// outlives its tensors.
class [[nodiscard]] Pending {
 public:
  struct Op {
    virtual ~Op() = default;
    virtual void wait() = 0;            // throws CommFailure
    virtual void abandon() noexcept {}  // the process is going down
  };
  Pending() = default;  // nothing to wait for
  Pending(std::unique_ptr<Op> op, std::shared_ptr<CommCounters> counters)
      : op_(std::move(op)), counters_(std::move(counters)) {}
  Pending(Pending&&) noexcept = default;
  Pending& operator=(Pending&& other) noexcept;
  ~Pending();

  /// Until the result may be used: by this thread (CPU), or by what is put on the current stream
  /// from now on (CUDA, where the host does not block). A second call does nothing.
  void wait();

 private:
  void drop() noexcept;
  std::unique_ptr<Op> op_;
  std::shared_ptr<CommCounters> counters_;
};

class Comm {
 public:
  virtual ~Comm() = default;

  /// This rank's place in the group, the group's size, and the world's rank of each member.
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return static_cast<int>(members_.size()); }
  [[nodiscard]] const std::vector<int>& members() const { return members_; }
  [[nodiscard]] virtual at::Device device() const = 0;

  /// In place, on every rank. bf16 is summed in bf16 where the library can (Gloo of torch 2.13 and
  /// later, NCCL), else through fp32.
  virtual Pending all_reduce(at::Tensor x, ReduceOp op = ReduceOp::sum) = 0;
  /// out [size() × in.numel()] = every rank's `in`, in the order of ranks. `out` may have any shape
  /// of that many elements.
  virtual Pending all_gather(at::Tensor in, at::Tensor out) = 0;
  /// out = this rank's part of the reduction of every rank's in [size() × out.numel()]. On the CPU
  /// summed in the order of ranks, bf16 in fp32.
  virtual Pending reduce_scatter(at::Tensor in, at::Tensor out, ReduceOp op = ReduceOp::sum) = 0;
  virtual Pending broadcast(at::Tensor x, int root) = 0;
  /// Point to point, to and from a rank of this group. Those with the same peer and tag match in
  /// order. Tags 0 to 2^20; NCCL ignores them: there each direction of a pair goes in one order.
  /// Two ranks that send to each other must start both before they wait for either.
  virtual Pending send(at::Tensor x, int peer, int tag = 0) = 0;
  virtual Pending recv(at::Tensor x, int peer, int tag = 0) = 0;
  /// Returns when every rank is here (CUDA: and has finished what was put on its current stream).
  virtual void barrier() = 0;

  /// Ranks of this group with the same colour form a group, ordered by key, then rank. Collective:
  /// every rank calls it, those with a negative colour get nullptr. Colours of a mesh of ddp × tp:
  /// tp groups have colour rank / tp, ddp groups colour rank % tp.
  virtual std::shared_ptr<Comm> split(int colour, int key = 0) = 0;

  /// The host of each member.
  [[nodiscard]] virtual std::vector<std::string> hosts() const = 0;
  /// This rank's cost so far, of the world and all its groups together.
  [[nodiscard]] virtual CommCounters counters() = 0;
  /// What a person should know about how it works here: the interface, emulated operations.
  [[nodiscard]] virtual std::vector<std::string> notes() const = 0;

 protected:
  Comm(int rank, std::vector<int> members) : rank_(rank), members_(std::move(members)) {}

 private:
  int rank_;
  std::vector<int> members_;
};

/// Until everything given to `device` is finished; nothing to do for the CPU.
void synchronize(at::Device device);

struct CommOptions {
  at::Device device = at::kCPU;
  double timeout_s = 60;                      // of one operation, and of coming together
  std::optional<std::string> interface = {};  // else lo on one host, else the one towards rank 0
  /// Called from another thread where a rank is lost and an operation of this one, whose
  /// connections were ended for that, does not hear of it. Says the error and ends the process.
  std::function<void(const Error&)> on_stuck = {};
};

/// Brings the ranks together and returns the world. With one rank it opens no socket. Once per
/// process.
/// Errors: unavailable (port busy, ranks that did not come, no such interface, no NCCL), conflict
/// (the rank is taken: another run uses the port).
Result<std::shared_ptr<Comm>> connect(const RankPlace& place, const CommOptions& options = {});

}  // namespace rigwise::engine
