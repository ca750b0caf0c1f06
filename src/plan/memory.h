// Memory: the terms of the peak, apart, so that a prediction, an anchor and an advice can each use
// them. Bytes on one GPU.
#pragma once

#include <string>
#include <vector>

#include "plan/trainers.h"
#include "rigwise/plan.h"

namespace rigwise::plan {

struct Facts {
  const Trainer* trainer = nullptr;
  bool mixed = false, quantised = false, adapters = false;
  bool upcast = false;        // of a quantised base all but the matrices is fp32
  double compute_bytes = 2;   // of one element in the matrices' products
  double residual_bytes = 2;  // of one element between layers
  double mlp_bytes = 2;       // of one element inside the MLP
  double tokens = 0;
};
Facts facts_of(const Workload& workload);

/// The base's matrices are kept in 8 bits or less.
bool is_quantised(const Workload& workload);
/// Each rank keeps a part of every weight and gathers the whole where it is used.
bool is_sharded(const Workload& workload);

struct Terms {
  double weights = 0, adapters = 0, gradients = 0, optimizer = 0, optimizer_work = 0;
  double casts = 0, buffers = 0, gathered = 0;
  double activations = 0, live_layer = 0, logits = 0, head_gradient = 0, unpacked = 0;
  bool accumulates = false;
};
/// The workload's sizes are there and positive.
Terms terms_of(const Workload& workload);

struct MemoryPhase {
  double bytes = 0;  // allocated
  std::string name = {};
  std::vector<MemoryPart> parts = {};
};
/// The largest of: the loss, one layer's backward, the optimizer step.
MemoryPhase peak_phase(const Terms& terms);

/// Allocated bytes as `metric` shows them; `passing`: of them large and short-lived.
double in_metric(double allocated_bytes, const std::string& metric, double passing_bytes = 0);

/// Of one element of the adapters.
double adapter_bytes(const Workload& workload, const Facts& facts);

/// As stated, else from rank and targets.
double adapter_params(const Workload& workload);

}  // namespace rigwise::plan
