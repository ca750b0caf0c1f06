// Plan: what a training set-up would need and how fast it would be, before it is run.
//
// Pure functions over values; nothing is read from disk or the network. Bytes, seconds, watts,
// degrees Celsius. Every prediction is an interval that is meant to hold the truth 8 times in 10;
// docs/plan.md has each formula with its source and measured error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"

namespace rigwise {

constexpr double kGibBytes = 1073741824;

/// A decoder's or encoder's dimensions. All positive.
struct ModelShape {
  std::int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0;
  bool gated_mlp = true;  // three MLP matrices, not two
  bool tied_embeddings = false;
  bool operator==(const ModelShape&) const = default;
};

/// Parameters that the shape alone gives: matrices, embeddings and head; norms and biases not.
double shape_params(const ModelShape& shape);

/// A link or the lack of knowledge about one.
struct Interconnect {
  std::string type = {};  // nvlink, pcie, …; empty: not stated
  std::optional<bool> p2p = {};
  std::optional<double> copy_bytes_per_s = {};       // one measured copy
  std::optional<double> inter_node_bits_per_s = {};  // nominal, of a host's, between hosts
  bool inter_node_per_gpu = false;                   // that is of each GPU's own
};

/// What is trained, how, and on what. Empty strings and optionals: not stated.
struct Workload {
  std::string model = {};
  std::optional<ModelShape> shape = {};
  std::optional<double> params = {}, trainable_params = {};
  std::string method = {};  // full, lora, qlora
  std::optional<double> lora_rank = {};
  std::vector<std::string> lora_targets = {};  // q k v o gate up down head, qkv (fused)
  std::string lora_dtype = {};
  std::string quant = {};      // nf4, nf4_dq, gptq4, int8
  std::string precision = {};  // fp32, bf16, fp16, bf16_mixed, fp16_mixed
  std::string optimizer = {};
  std::optional<double> seq_len = {}, mean_seq_len = {};
  bool seq_is_upper_bound = false;  // batches are padded to their longest row
  std::optional<double> micro_batch = {}, grad_accum = {}, global_batch = {};
  std::string checkpointing = {};     // none, full, selective
  std::string attention = {};         // flash, eager
  std::optional<bool> compiled = {};  // torch.compile
  std::string logits = {};            // full, chunked
  std::string framework = {};         // the trainer
  std::string strategy = {};          // single, ddp, fsdp, zero1, zero2, zero3, tp, pp, dp, mixed
  std::int64_t n_gpus = 1, n_nodes = 1;
  std::string gpu = {};
  std::optional<double> gpu_mem_bytes = {};
  std::string offload = {};               // optimizer, all (weights too): to the host
  std::string metric = {};                // allocated, active, reserved, device
  std::optional<double> grad_bytes = {};  // all-reduced per optimizer step, where certain
  std::optional<Interconnect> link = {};
};

/// low..high holds the truth 8 times in 10.
struct Interval {
  double value = 0, low = 0, high = 0;
};

// ----------------------------------------------------------------------------------------------
// memory

/// One term of the peak; `bytes` on one GPU.
struct MemoryPart {
  std::string name = {};
  double bytes = 0;
};
struct MemoryEstimate {
  Interval peak = {};
  std::string metric = {};                // what `peak` is a figure of
  std::string phase = {};                 // forward-backward, checkpoint recomputation, optimizer
  std::vector<MemoryPart> parts = {};     // of that phase; they sum to peak.value
  std::vector<std::string> assumed = {};  // what was not stated and what was taken instead
};
struct MemoryAnchor {
  Workload workload = {};
  double bytes = 0;  // measured peak
};

/// Peak bytes on one GPU. With anchors, their measured peaks plus the difference that the formula
/// gives. Errors: unavailable (a size is missing, named), usage (sizes that cannot be).
Result<MemoryEstimate> predict_memory(const Workload& workload,
                                      const std::vector<MemoryAnchor>& anchors = {});

/// The sum that textbooks give, without a fitted constant (a baseline). Empty: sizes missing.
std::optional<double> textbook_memory(const Workload& workload);

// ----------------------------------------------------------------------------------------------
// will it fit

/// One change that needs no hardware, and what it asks for it.
struct Reduction {
  std::string change = {};  // "recompute blocks in the backward pass"
  std::string flag = {};    // how this command asks for it: "--checkpointing full"
  Interval peak = {};       // with this change alone
  double saves_bytes = 0;
  std::string speed_price = {}, quality_risk = {};
};
/// A moment beside the training step. On the host: of all ranks of one host, their processes
/// included. Assumed from what programs are known to do; its interval is not calibrated.
struct MemoryMoment {
  std::string when = {};  // load, train (host only), save
  bool on_host = false;
  Interval bytes = {};  // GPU: in the workload's metric
  std::string what = {};
};
enum class Fit { fits, may_not_fit, does_not_fit, unknown };
struct FitPlan {
  MemoryEstimate estimate = {};
  Fit fit = Fit::unknown;
  std::optional<double> usable_bytes = {};
  std::vector<Reduction> reductions = {};  // those that save something, cheapest first
  std::vector<Reduction> together = {};    // the shortest run of them, in that order, that fits
  std::optional<Interval> together_peak = {};
  std::vector<MemoryMoment> moments = {};
};

/// The workload's sizes are there and positive, as predict_memory asks for.
std::vector<MemoryMoment> memory_moments(const Workload& workload);

/// Set-ups that cannot be: which number, and what would do. Empty: none found.
std::optional<Error> impossible_setup(const Workload& workload);

/// Memory against the GPU's, and what to change before buying more. Errors: those of
/// predict_memory, and impossible_setup.
Result<FitPlan> plan_fit(const Workload& workload, const std::vector<MemoryAnchor>& anchors = {});

constexpr std::string_view to_string(Fit value) {
  switch (value) {
    case Fit::fits:
      return "fits";
    case Fit::may_not_fit:
      return "may_not_fit";
    case Fit::does_not_fit:
      return "does_not_fit";
    case Fit::unknown:
      return "unknown";
  }
  return "?";
}

// ----------------------------------------------------------------------------------------------
// speed with more GPUs

/// A measured rate, rows a second over all GPUs, of the smaller side.
struct RateBase {
  std::int64_t n_gpus = 1;
  std::optional<double> samples_per_s = {};
  Workload workload = {};  // what of the workload was different there is already put in
};
struct RateAnchor {
  Workload workload = {};
  std::int64_t n_gpus = 1;
  std::optional<RateBase> base = {};
  std::optional<double> samples_per_s = {}, speedup = {};
};
struct ScalingEstimate {
  Interval samples_per_s = {};  // only where the base's rate is known
  Interval speedup = {};
  std::optional<double> step_s = {}, exposed_s = {};  // of an optimizer step
  std::optional<double> link_bytes_per_s = {};
  bool link_measured = false;
  std::string why = {};
};

/// Rate on workload.n_gpus from a measured rate on fewer, and from other workloads measured on the
/// same box, which tell what its link delivers. Errors: unavailable, with the measurement that
/// would settle it.
Result<ScalingEstimate> predict_scaling(const Workload& workload,
                                        const std::optional<RateBase>& base,
                                        const std::vector<RateAnchor>& anchors);

// ----------------------------------------------------------------------------------------------
// collectives, power, heat

struct CollectivePoint {
  double bytes = 0, time_s = 0;
};
/// Time of an all-reduce of `bytes` among `ranks` from two measured messages (the smaller first).
/// Errors: usage (fewer than two ranks, sizes or times that are not positive or do not grow).
Result<Interval> allreduce_time(double bytes, std::int64_t ranks, const CollectivePoint& small,
                                const CollectivePoint& large);

struct CapPoint {
  double cap_w = 0, rate = 0;
  std::optional<double> draw_w = {};
};
/// Speed at a power limit from a few measured limits. Errors: unavailable (fewer than two points).
Result<Interval> rate_at_cap(double cap_w, std::vector<CapPoint> points);

/// The temperature at which a GPU settles, from readings since the load began, evenly spaced.
/// Errors: unavailable (fewer than three readings).
Result<Interval> settled_temperature(const std::vector<double>& samples_c);

struct ThrottleForecast {
  double chance_frac = 0;                // of reaching the limit at all under this load
  std::optional<Interval> after_s = {};  // since the load began, if it does; empty: hardly
};
/// When a GPU gets as hot as `limit_c` (where it slows down), from readings since the load began,
/// `interval_s` apart; `more_c`: what a neighbour would add to where it settles. The same curves as
/// settled_temperature. Errors: unavailable (fewer than three readings), usage (no spacing).
Result<ThrottleForecast> time_to_limit(const std::vector<double>& samples_c, double interval_s,
                                       double limit_c, double more_c = 0);

// ----------------------------------------------------------------------------------------------
// published cases ("plan case v1") and the score

struct PlanCase {
  std::string id = {}, kind = {}, predict = {};
  Workload workload = {};
  std::optional<RateBase> base = {};
  std::vector<RateAnchor> rate_anchors = {};
  std::vector<MemoryAnchor> memory_anchors = {};
  std::vector<double> samples_c = {};
  std::vector<CapPoint> cap_points = {};
  double cap_w = 0;
  std::vector<CollectivePoint> collective_points = {};
  double collective_bytes = 0;
  bool anchored = false;
};

/// What the case's author measured; never seen by a prediction.
struct PlanTruth {
  std::optional<double> value = {}, speedup = {};
  std::string source = {}, family = {}, quality = {}, scale_class = {};
};

struct CasePrediction {
  std::string id = {};
  double predicted = 0, low = 0, high = 0;
  bool refused = false;
  std::string why = {};
  std::optional<double> speedup = {};  // of scaling cases
};

/// The cases of a file, one JSON object a line. Errors: malformed, with the line.
Result<std::vector<PlanCase>> read_plan_cases(std::string_view text);
/// The measured sides, in the same order. Errors: malformed.
Result<std::vector<PlanTruth>> read_plan_truths(std::string_view text);

CasePrediction predict_case(const PlanCase& plan_case);
/// The trivial predictors of that kind by name: {"textbook", x}, {"linear", x}, …
std::vector<std::pair<std::string, double>> baseline_predictions(const PlanCase& plan_case);

struct BaselineScore {
  std::string name = {};
  double mean_error = 0, median_error = 0;
};
struct ScoreGroup {
  std::string name = {};  // "memory, cold", "heat, 10 samples"
  std::int64_t cases = 0, refused = 0, unscored = 0;
  double mean_error = 0;      // percent; °C for heat
  double mean_by_source = 0;  // each source counted once
  double median_error = 0, worst_error = 0;
  std::string worst_id = {};
  double bias = 0;            // mean signed error, same unit
  double covered_frac = 0;    // truth inside low..high
  double above_frac = 0;      // truth above high: the dangerous side for memory
  double interval_score = 0;  // 80 %, percent of the truth (°C for heat); smaller is better
  std::int64_t sign_right = 0, sign_cases = 0;  // scaling: speed-up rightly above or below 1
  std::vector<std::pair<std::string, double>> by_source = {};
  std::vector<BaselineScore> baselines = {};
};
struct Scorecard {
  std::vector<ScoreGroup> groups = {};
};
/// Predictions against truths; the three stand in the same order.
Scorecard score_cases(const std::vector<PlanCase>& cases, const std::vector<PlanTruth>& truths,
                      const std::vector<CasePrediction>& predictions);

}  // namespace rigwise
