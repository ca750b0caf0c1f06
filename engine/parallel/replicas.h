// What a run trains, on this rank, and how data-parallel ranks agree on its gradients: each holding
// all of it (Replicated), or each a share (Sharded).
//
// A step is begin_step(); for each micro-batch begin_micro(), forward and backward, end_micro();
// finish(). Then every piece has the gradient of the whole global batch, summed over data-parallel
// ranks (the loss carries the global denominator, so nothing is divided).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/comm/comm.h"
#include "engine/model/model.h"
#include "engine/parallel/step_clock.h"

namespace rigwise::engine {

/// Elements [begin, end) of this rank's part of a trained parameter, flattened, which this rank
/// updates. All tensors are one-dimensional and of that length.
struct Piece {
  Parameter* parameter = nullptr;
  std::int64_t begin = 0, end = 0;
  at::Tensor value, gradient;   // in the parameter's type
  at::Tensor master = {};       // fp32 copy where the value is not fp32
  at::Tensor moment1, moment2;  // fp32, of AdamW
};

/// Moments (zero) and master copies of pieces that have none yet.
void prepare_moments(std::vector<Piece>& pieces);

/// Sum of squares of the gradients of those pieces for which `counts` holds.
double squared_norm(const std::vector<Piece>& pieces,
                    const std::function<bool(const Piece&)>& counts);

class Replicas {
 public:
  virtual ~Replicas() = default;
  Replicas() = default;
  Replicas(const Replicas&) = delete;
  Replicas& operator=(const Replicas&) = delete;

  virtual void begin_step() = 0;
  virtual void begin_micro(bool last) = 0;
  virtual void end_micro(bool last) = 0;
  virtual void finish() = 0;
  [[nodiscard]] virtual std::vector<Piece>& pieces() = 0;
};

/// Every rank holds all trained values; gradients are summed in buckets while the backward pass
/// still runs (Li et al., arXiv 2006.15704). The model must be filled. One rank: no exchange.
std::unique_ptr<Replicas> make_replicated(Model& model, const std::shared_ptr<Comm>& group,
                                          StepClock* clock);

/// Fully sharded (Rajbhandari et al., arXiv 1910.02054, stage 3; Zhao et al., arXiv 2304.11277):
/// weights, gradients and optimizer state of each block are shared out evenly. A block's weights
/// are gathered before it runs, forward and backward, where it is computed again; frozen and
/// quantised ones travel as the bytes they are stored as.
class Sharded : public Replicas {
 public:
  /// Sets the model's runner. Adapters must be filled, the rest need not be.
  static std::unique_ptr<Sharded> make(Model& model, const std::shared_ptr<Comm>& group,
                                       StepClock* clock);
  /// Gives away all but this rank's share of a block that has its values (LoadOptions::on_block).
  virtual void shard(Block& block) = 0;
  /// The same for what is outside the blocks; the last call before training.
  virtual void shard_rest() = 0;
};

}  // namespace rigwise::engine
