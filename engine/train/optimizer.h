// AdamW over the pieces that a rank updates, with clipping by the global norm, and the learning
// rate over the steps.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/parallel/replicas.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// As torch.optim.AdamW's defaults, except that nothing decays unless asked.
struct AdamwOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0;  // of matrices; norms and biases never decay
};

class Adamw {
 public:
  explicit Adamw(const AdamwOptions& options) : options_(options) {}

  /// One update of every piece. `gradient_scale` multiplies gradients first (clipping); `step`
  /// counts from 1.
  void update(std::vector<Piece>& pieces, double lr, double gradient_scale, std::int64_t step);

 private:
  AdamwOptions options_;
};

enum class LrSchedule { constant, linear, cosine };
std::optional<LrSchedule> lr_schedule_of(std::string_view name);
std::string_view lr_schedule_name(LrSchedule schedule);

/// Factor on the learning rate at the update with that index (from 0), as transformers'
/// get_scheduler has it: rising from 0 over `warmup` updates, then constant, or down to 0 at
/// `steps`.
double lr_factor(LrSchedule schedule, std::int64_t index, std::int64_t warmup, std::int64_t steps);

}  // namespace rigwise::engine
