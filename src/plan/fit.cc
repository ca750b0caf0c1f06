#include <algorithm>
#include <cmath>

#include "plan/memory.h"
#include "rigwise/plan.h"

namespace rigwise {

namespace {

// A board's whole memory is never there for the taking: the driver and a display hold some.
constexpr double kUsableFrac = 0.975;

struct Change {
  const char* change;
  const char* flag;
  const char* speed_price;
  const char* quality_risk;
  bool (*applies)(const Workload&);
  void (*apply)(Workload&);
};

// In the order in which they are worth trying: free ones, those that cost time, those that can
// cost quality.
const Change kChanges[] = {
    {"attention that keeps no score matrix", "--attention flash", "none, mostly faster", "none",
     [](const Workload& w) { return w.attention == "eager"; },
     [](Workload& w) { w.attention = "flash"; }},
    {"loss in pieces (Liger, cut cross-entropy)", "--logits chunked", "none to a few percent",
     "none", [](const Workload& w) { return w.logits != "chunked"; },
     [](Workload& w) { w.logits = "chunked"; }},
    {"micro-batch 1, accumulated to the same batch", "--micro-batch 1",
     "small GPUs little, large ones up to half", "none",
     [](const Workload& w) { return w.micro_batch.value_or(1) > 1; },
     [](Workload& w) {
       w.grad_accum = w.grad_accum.value_or(1) * *w.micro_batch;
       w.micro_batch = 1;
     }},
    {"recompute blocks in the backward pass", "--checkpointing full", "a quarter to a third slower",
     "none", [](const Workload& w) { return w.checkpointing != "full"; },
     [](Workload& w) { w.checkpointing = "full"; }},
    {"8-bit optimizer states", "--optimizer adamw_8bit", "about none", "small",
     [](const Workload& w) {
       return w.method == "full" && w.optimizer.starts_with("adam") &&
              w.optimizer.find("8bit") == std::string::npos;
     },
     [](Workload& w) { w.optimizer = "adamw_8bit"; }},
    {"16-bit weights throughout", "--precision bf16", "none, mostly faster",
     "moderate: small updates round away",
     [](const Workload& w) { return w.precision.ends_with("_mixed") || w.precision == "fp32"; },
     [](Workload& w) { w.precision = "bf16"; }},
    {"4-bit frozen weights (QLoRA)", "--method qlora", "slower steps: measure it", "small",
     [](const Workload& w) { return w.method == "lora"; },
     [](Workload& w) {
       w.method = "qlora";
       w.quant = "nf4_dq";
     }},
    {"adapters instead of all weights (LoRA)", "--method lora", "none, mostly faster",
     "depends on the task", [](const Workload& w) { return w.method == "full"; },
     [](Workload& w) {
       w.method = "lora";
       w.lora_rank = 16;
       w.lora_targets = {"q", "k", "v", "o", "gate", "up", "down"};
       w.trainable_params.reset();
     }},
    {"half the row length", "--seq", "more rows for the same tokens", "long rows are cut",
     [](const Workload& w) { return w.seq_len.value_or(0) >= 512; },
     [](Workload& w) { w.seq_len = std::floor(*w.seq_len / 2); }},
};

Fit fit_of(const Interval& peak, std::optional<double> usable_bytes) {
  if (!usable_bytes) return Fit::unknown;
  if (peak.high <= *usable_bytes) return Fit::fits;
  return peak.low > *usable_bytes ? Fit::does_not_fit : Fit::may_not_fit;
}

}  // namespace

std::optional<Error> impossible_setup(const Workload& w) {
  const auto number = [](double value) { return std::to_string(static_cast<std::int64_t>(value)); };
  if (w.n_gpus < 1 || w.n_gpus > 4096) {
    return Error{Errc::usage, number(static_cast<double>(w.n_gpus)) + " GPUs", "1 to 4096"};
  }
  if (w.strategy == "single" && w.n_gpus > 1) {
    return Error{Errc::usage, "one GPU's strategy on " + std::to_string(w.n_gpus) + " GPUs",
                 "--strategy ddp, fsdp, tp or pp"};
  }
  if (w.method == "full" && !w.quant.empty()) {
    return Error{Errc::usage,
                 "all weights cannot be trained where they are quantised (" + w.quant + ")",
                 "--method qlora trains adapters on them"};
  }
  if (!w.offload.empty() && w.strategy != "zero2" && w.strategy != "zero3" &&
      w.strategy != "fsdp") {
    return Error{Errc::usage, "offloading (" + w.offload + ") under strategy " + w.strategy,
                 "--strategy zero2, zero3 or fsdp"};
  }
  if (w.offload == "all" && w.strategy == "zero2") {
    return Error{Errc::usage, "zero2 keeps all weights on every GPU: they cannot be offloaded",
                 "--offload optimizer, or --strategy zero3"};
  }
  if (!w.shape) return std::nullopt;
  const ModelShape& s = *w.shape;
  if (s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads != 0) {
    return Error{Errc::usage,
                 std::to_string(s.kv_heads) + " key-value heads do not divide " +
                     std::to_string(s.heads) + " heads",
                 ""};
  }
  if (w.strategy == "tp" && (s.heads % w.n_gpus != 0 || s.kv_heads % w.n_gpus != 0)) {
    const bool heads = s.heads % w.n_gpus != 0;
    return Error{Errc::usage,
                 "tensor parallel over " + std::to_string(w.n_gpus) + " GPUs does not divide the " +
                     std::to_string(heads ? s.heads : s.kv_heads) +
                     (heads ? " heads" : " key-value heads"),
                 "a number of GPUs that divides both, or --strategy fsdp"};
  }
  if (w.strategy == "pp" && s.layers < w.n_gpus) {
    return Error{Errc::usage,
                 "a pipeline of " + std::to_string(w.n_gpus) +
                     " stages needs as many layers, and "
                     "the model has " +
                     std::to_string(s.layers),
                 "fewer GPUs"};
  }
  return std::nullopt;
}

Result<FitPlan> plan_fit(const Workload& workload, const std::vector<MemoryAnchor>& anchors) {
  if (auto error = impossible_setup(workload)) return *std::move(error);
  FitPlan plan;
  RW_TRY(plan.estimate, predict_memory(workload, anchors));
  plan.moments = memory_moments(workload);
  if (workload.gpu_mem_bytes) plan.usable_bytes = kUsableFrac * *workload.gpu_mem_bytes;
  plan.fit = fit_of(plan.estimate.peak, plan.usable_bytes);
  Workload together = workload;
  for (const Change& change : kChanges) {
    if (change.applies(workload)) {
      Workload alone = workload;
      change.apply(alone);
      const auto changed = predict_memory(alone, anchors);
      if (changed && changed->peak.value < 0.99 * plan.estimate.peak.value) {
        plan.reductions.push_back({change.change, change.flag, changed->peak,
                                   plan.estimate.peak.value - changed->peak.value,
                                   change.speed_price, change.quality_risk});
      }
    }
    const bool fits =
        plan.together_peak && fit_of(*plan.together_peak, plan.usable_bytes) == Fit::fits;
    if (plan.fit == Fit::fits || !plan.usable_bytes || fits || !change.applies(together)) continue;
    Workload next = together;
    change.apply(next);
    const auto changed = predict_memory(next, anchors);
    const double before = plan.together_peak ? plan.together_peak->value : plan.estimate.peak.value;
    if (!changed || changed->peak.value > 0.99 * before) continue;
    together = std::move(next);
    plan.together_peak = changed->peak;
    plan.together.push_back({change.change, change.flag, changed->peak,
                             before - changed->peak.value, change.speed_price,
                             change.quality_risk});
  }
  return plan;
}

}  // namespace rigwise
