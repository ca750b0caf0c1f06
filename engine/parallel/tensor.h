// Tensor parallelism: each rank holds some heads and some columns of the MLP of every block
// (Shoeybi et al., arXiv 1909.08053).
#pragma once

#include <memory>

#include "engine/comm/comm.h"
#include "engine/model/model.h"
#include "engine/parallel/step_clock.h"

namespace rigwise::engine {

/// Cuts the described model (adapters included) for this rank of the group and hangs the two
/// seams into each block: the input's gradients are summed over the ranks, and so are the outputs.
/// Heads and columns must divide (check_layout). The clock may be null.
void part_by_tensor(Model& model, const std::shared_ptr<Comm>& group, StepClock* clock);

}  // namespace rigwise::engine
