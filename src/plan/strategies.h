// What predictions of speed share: bytes of gradients, and micro-steps parted among ranks.
#pragma once

#include <optional>
#include <string>

#include "rigwise/plan_strategies.h"

namespace rigwise::plan {

/// All-reduced by data parallelism in an optimizer step. As an interval: the type of adapters'
/// gradients, and unknown adapters, which are taken as what 7B models have.
struct GradientBytes {
  Interval bytes = {};
  bool assumed = false;
};
GradientBytes gradient_bytes(const Workload& workload);

/// Micro-steps of one of `ranks` at the same global batch, and what one takes over one of the
/// measured run.
struct MicroSteps {
  double count = 1;
  Interval scale = {1, 1, 1};
  std::string note = {};
};
/// Empty: there are fewer rows than ranks.
std::optional<MicroSteps> shared_micro_steps(const Workload& workload, double ranks);

}  // namespace rigwise::plan
