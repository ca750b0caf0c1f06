// Pipeline parallelism: each rank of a group runs some blocks of the model; activations go to the
// next rank, gradients to the one before.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/comm/comm.h"
#include "engine/model/model.h"
#include "engine/parallel/step_clock.h"

namespace rigwise::engine {

/// gpipe: all forward passes, then all backward passes (Huang et al., arXiv 1811.06965).
/// one_f_one_b: backward passes begin as soon as they can, so that a stage keeps the activations of
/// no more micro-batches than there are stages (Narayanan et al., arXiv 1806.03377). Both add
/// gradients in the same order.
enum class Schedule { gpipe, one_f_one_b };

struct PipelineStep {
  Model* model = nullptr;  // the blocks of this stage
  std::shared_ptr<Comm> group;
  Schedule schedule = Schedule::one_f_one_b;
  at::ScalarType dtype = at::kFloat;  // of activations
  StepClock* clock = nullptr;
  /// Around the backward pass of each micro-batch, for whoever exchanges gradients.
  std::function<void(bool last)> before_backward = [](bool) {}, after_backward = [](bool) {};
};

/// Runs all micro-batches forward and backward. Returns this stage's loss: scale * sum of the nll
/// on the last stage, 0 elsewhere. Throws CommFailure.
double run_pipeline(const PipelineStep& step, const std::vector<MicroBatch>& micro_batches,
                    double scale);

/// The order of the passes of one stage: micro-batch and whether it is the backward pass.
struct Pass {
  std::size_t micro = 0;
  bool backward = false;
  bool operator==(const Pass&) const = default;
};
std::vector<Pass> schedule_passes(Schedule schedule, int stage, int stages, std::size_t micros);

}  // namespace rigwise::engine
