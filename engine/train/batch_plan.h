// Which windows a step takes, and which of them this rank computes. Every rank makes the same plan
// from the same data, so that nothing about it has to be exchanged.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/data/windows.h"
#include "engine/model/model.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct BatchPlanOptions {
  std::int64_t micro_batch = 1;              // windows of one forward pass
  std::int64_t accumulate = 1;               // forward passes a step, where no global batch is told
  std::optional<std::int64_t> global_batch;  // windows of a step, over all ranks
  std::vector<std::int64_t> shares = {};     // of data-parallel ranks, as weights; empty: even
  std::optional<std::uint64_t> shuffle = {};  // seed; none: windows in their order
  bool same_count = false;  // every rank runs as many micro-batches: fsdp's exchange in each
};

/// One step's work.
struct StepWork {
  std::vector<std::int64_t> windows = {};  // of all ranks, in order
  // This rank's, by micro-batch; one without windows is run for the others' sake (same_count).
  std::vector<std::vector<std::int64_t>> mine = {};
  std::int64_t tokens = 0, predicted = 0;  // of all ranks
  std::uint64_t token_hash = 0;
  double epoch = 0;  // at the end of the step
};

class BatchPlan {
 public:
  /// `rank` of `ranks` data-parallel ones. Errors: usage (a global batch that does not give each
  /// rank a window; shares that are not one positive number a rank).
  static Result<BatchPlan> make(std::shared_ptr<const Windows> windows,
                                const BatchPlanOptions& options, int rank, int ranks);

  [[nodiscard]] std::int64_t global_batch() const { return global_batch_; }
  /// Forward passes of this rank a step.
  [[nodiscard]] std::int64_t micro_batches() const { return micro_batches_; }
  [[nodiscard]] std::int64_t steps_per_epoch() const;
  /// `index` from 0. Windows go on from epoch to epoch without a gap.
  StepWork step(std::int64_t index);
  /// The windows of one micro-batch as tensors. No windows: one that predicts nothing.
  [[nodiscard]] MicroBatch batch(const std::vector<std::int64_t>& windows, std::uint64_t seed,
                                 std::int64_t step) const;

 private:
  std::int64_t window_at(std::int64_t position);
  std::shared_ptr<const Windows> windows_;
  BatchPlanOptions options_;
  std::int64_t global_batch_ = 0;
  std::int64_t first_ = 0, last_ = 0;  // this rank's windows of each step
  std::int64_t micro_batches_ = 0;
  std::int64_t epoch_ = -1;
  std::vector<std::int64_t> order_ = {};  // of that epoch
};

/// Rows of `windows` as tensors on the CPU.
MicroBatch micro_batch(const Windows& windows, const std::vector<std::int64_t>& indices);

}  // namespace rigwise::engine
