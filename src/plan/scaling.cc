#include <algorithm>
#include <array>
#include <cmath>

#include "plan/memory.h"
#include "rigwise/catalogue.h"
#include "rigwise/plan.h"

namespace rigwise {

namespace {

constexpr double kPriorSigma =
    0.75;  // of a link's delivered rate known by its kind alone, natural log

/// How two such boards reach each other, as the catalogue has it; empty: it does not know them.
std::string talks(const std::string& gpu) {
  if (gpu.empty()) return {};
  const auto board = find_gpu(gpu);
  return board ? board->p2p : std::string();
}

/// Delivered all-reduce bandwidth by kind, bytes/s, before anything of the box is known. Medians of
/// published training pairs (docs/plan.md).
double prior_bandwidth(const Workload& w) {
  const auto link = w.link.value_or(Interconnect{});
  const double n = static_cast<double>(std::max<std::int64_t>(2, w.n_gpus));
  constexpr double kNvlink = 100e9;
  if (w.n_nodes > 1) {
    // A ring crosses between two hosts once for each adapter: they add up. Hosts whose cards have
    // NVLink, and not as a bridge alone, stand in data centres, whose adapters keep up with it.
    const double adapters = link.inter_node_per_gpu ? n / static_cast<double>(w.n_nodes) : 1;
    const bool fabric = link.type == "nvlink" && talks(w.gpu) != "nvlink";
    if (!link.inter_node_bits_per_s) return fabric ? kNvlink : 0.7 * 1e9 / 8;
    return std::min(kNvlink, 0.7 * *link.inter_node_bits_per_s * adapters / 8);
  }
  if (link.type == "nvlink") return kNvlink;
  if (link.p2p.value_or(talks(w.gpu) == "yes")) return 25e9;
  if (!link.p2p.value_or(talks(w.gpu) != "no")) return 7e9 * std::min(1.0, 2 / n);  // by the host
  return 10e9 * std::min(1.0, 3 / n);
}

/// Gradient bytes one GPU sends in an optimizer step, by strategy (ring algorithms); and whether
/// they go once a micro-step.
std::optional<double> sent_bytes(const Workload& w, std::int64_t n_gpus) {
  const double n = static_cast<double>(n_gpus);
  if (n_gpus <= 1 || w.strategy == "single") return 0;
  const double params = w.params.value_or(w.shape ? shape_params(*w.shape) : 0);
  const double element = w.precision == "fp32" ? 4 : 2;
  const double accum = w.grad_accum.value_or(1);
  if (w.strategy == "ddp" || w.strategy == "dp") {
    if (w.grad_bytes) return 2 * (n - 1) / n * *w.grad_bytes;
    if (w.method == "full" && params > 0) {
      const double grad = w.precision.ends_with("_mixed") ? 4 : element;
      return 2 * (n - 1) / n * grad * params;
    }
    if (w.shape || w.trainable_params) return 2 * (n - 1) / n * 4 * plan::adapter_params(w);
    return std::nullopt;
  }
  if (params <= 0) return std::nullopt;
  const double weights = params * (w.method == "qlora" ? 0.55 : 2);
  const double gradients = w.method == "full" ? params * element : 0;
  if (plan::is_sharded(w)) {
    return (n - 1) / n * (2 * weights + gradients) * accum;
  }
  if (w.strategy == "zero1" || w.strategy == "zero2") return 2 * (n - 1) / n * gradients;
  if (w.strategy == "tp" && w.shape && w.seq_len && w.micro_batch) {
    return static_cast<double>(w.shape->layers) * 4 * 2 * (n - 1) / n * 2 * *w.seq_len *
           *w.micro_batch * static_cast<double>(w.shape->hidden) * accum;
  }
  return std::nullopt;
}

/// Floating-point operations of one row: 6 P tokens trained whole, 4 P with frozen weights, 2 P
/// more where the forward pass is made again.
double row_work(const Workload& w) {
  const double params = w.params.value_or(w.shape ? shape_params(*w.shape) : 1e9);
  const double tokens = w.mean_seq_len.value_or(w.seq_len.value_or(512));
  return params * tokens * ((w.method == "full" ? 6 : 4) + (w.checkpointing == "full" ? 2 : 0));
}

/// Time of one GPU's share of a step at another micro-batch: half of a GPU's time at batch 1 does
/// not shrink with the rows (kernel launches, weights read, the optimizer).
double micro_step_s(double measured_s, double measured_rows, double rows, double seq_len) {
  if (measured_rows <= 0 || rows <= 0) return measured_s;
  const double fixed_rows =
      192.0 / std::max(16.0, seq_len);  // rows whose time the fixed part equals
  return measured_s * (rows + fixed_rows) / (measured_rows + fixed_rows);
}

struct StepTimes {
  double compute_s = 0;
  double rows = 0;  // a step, all GPUs
};

/// One optimizer step of `w` if communication were free, from the base's measured rate.
std::optional<StepTimes> free_step(const Workload& w, std::int64_t n_gpus, const RateBase& base) {
  if (!base.samples_per_s || *base.samples_per_s <= 0) return std::nullopt;
  const double accum = w.grad_accum.value_or(1);
  const double micro = w.micro_batch.value_or(1);
  const double base_micro = base.workload.micro_batch.value_or(micro);
  const double base_n = static_cast<double>(std::max<std::int64_t>(1, base.n_gpus));
  double base_s = base_micro * base_n / *base.samples_per_s;  // a micro-step of the base
  if (const auto bytes = base.n_gpus > 1 ? sent_bytes(base.workload, base.n_gpus) : std::nullopt) {
    Workload on_base = base.workload;  // what it waited for its own link is no work
    on_base.n_gpus = base.n_gpus;
    on_base.n_nodes =
        std::max<std::int64_t>(1, w.n_nodes * base.n_gpus / std::max<std::int64_t>(1, n_gpus));
    base_s -= std::min(0.8 * base_s, *bytes / accum / prior_bandwidth(on_base));
  }
  const double seq = w.mean_seq_len.value_or(w.seq_len.value_or(512));
  double micro_s = micro_step_s(base_s, base_micro, micro, seq);
  if (base.workload.checkpointing == "none" && w.checkpointing == "full") {
    const double more = row_work(w) / row_work(base.workload);
    micro_s *= 1 + (more - 1) * 0.6;  // short rows wait for launches, not for arithmetic
  }
  StepTimes step;
  step.compute_s = micro_s * accum;
  step.rows = w.global_batch.value_or(micro * static_cast<double>(n_gpus) * accum);
  return step;
}

bool was_short_of_memory(const RateAnchor& anchor) {
  if (!anchor.base || !anchor.workload.micro_batch || !anchor.base->workload.micro_batch) {
    return false;
  }
  return *anchor.workload.micro_batch < *anchor.base->workload.micro_batch;
}

struct Link {
  double bytes_per_s = 0, sigma = kPriorSigma;
  bool measured = false;
  std::optional<double> exposed_s = {};  // of an anchor that moves the same bytes
};

/// What the anchors say of the link, pulled towards its kind's usual rate as far as they are vague.
Link link_of(const Workload& w, const std::vector<RateAnchor>& anchors) {
  Link link;
  link.bytes_per_s = prior_bandwidth(w);
  double precision = 1 / (kPriorSigma * kPriorSigma);
  double mean = std::log(link.bytes_per_s) * precision;
  double carried = 0;
  for (const auto& anchor : anchors) {
    if (!anchor.base || !anchor.samples_per_s || anchor.n_gpus < 2) continue;
    const auto step = free_step(anchor.workload, anchor.n_gpus, *anchor.base);
    const auto bytes = sent_bytes(anchor.workload, anchor.n_gpus);
    if (!step || !bytes || *bytes <= 0) continue;
    const double total_s = step->rows / *anchor.samples_per_s;
    const double exposed_s = total_s - step->compute_s;
    const double noise_s = 0.01 * total_s;
    if (exposed_s <= noise_s / 2) continue;  // hidden: only a lower bound of the link
    double sigma = 0.05 + noise_s / exposed_s;
    // A card that had to halve its batch is short of memory, and its exposed seconds are the
    // allocator's too (freeing and asking again, every step).
    if (was_short_of_memory(anchor)) sigma = std::hypot(sigma, 0.9);
    if (anchor.n_gpus != w.n_gpus) sigma = std::hypot(sigma, 0.4);
    mean += std::log(*bytes / exposed_s) / (sigma * sigma);
    precision += 1 / (sigma * sigma);
    link.measured = true;
    if (anchor.workload.strategy != "ddp" && anchor.workload.strategy == w.strategy &&
        anchor.n_gpus == w.n_gpus && anchor.workload.params == w.params) {
      link.exposed_s = exposed_s;
      carried = 0.25;  // recomputation and launches do not grow as the bytes do
    }
  }
  link.bytes_per_s = std::exp(mean / precision);
  link.sigma = std::hypot(std::sqrt(1 / precision), carried);
  return link;
}

/// Only ratios are known: what such strategies keep of linear speed.
ScalingEstimate by_strategy(const Workload& w, double base_n) {
  const double ideal = static_cast<double>(w.n_gpus) / base_n;
  double kept = 0.85, low = 0.6, high = 0.97;
  if (plan::is_sharded(w)) kept = 0.7, low = 0.4, high = 0.9;
  if (w.strategy == "tp" || w.strategy == "pp") kept = 0.55, low = 0.25, high = 0.85;
  if (w.strategy == "dp") kept = 0.5, low = 0.25, high = 0.8;
  ScalingEstimate estimate;
  estimate.speedup = {ideal * kept, ideal * low, ideal * high};
  estimate.why = "no rate, batch or link is known: the usual share of linear speed";
  return estimate;
}

}  // namespace

Result<ScalingEstimate> predict_scaling(const Workload& w, const std::optional<RateBase>& base,
                                        const std::vector<RateAnchor>& anchors) {
  if (!base && anchors.empty()) {
    return Error{Errc::unavailable, "speed: nothing was measured on this box",
                 "run a few hundred steps on one GPU: rigwise run --name single -- CMD"};
  }
  const RateBase from = base.value_or(RateBase{anchors.empty() ? 1 : anchors[0].n_gpus, {}, w});
  if (!from.samples_per_s) {
    // the level comes from an anchor of the same box, scaled by its work a row
    for (const auto& anchor : anchors) {
      if (!anchor.samples_per_s || *anchor.samples_per_s <= 0) continue;
      const double ratio = row_work(anchor.workload) / row_work(w) * static_cast<double>(w.n_gpus) /
                           static_cast<double>(anchor.n_gpus);
      ScalingEstimate estimate;
      const double rate = *anchor.samples_per_s * ratio;
      estimate.samples_per_s = {rate, rate / 1.35, rate * 1.35};
      estimate.speedup = {ratio, ratio / 1.35, ratio * 1.35};
      estimate.why = "from another workload on the same box, by the work of a row";
      return estimate;
    }
    return by_strategy(w, static_cast<double>(std::max<std::int64_t>(1, from.n_gpus)));
  }
  const auto step = free_step(w, w.n_gpus, from);
  const auto bytes = sent_bytes(w, w.n_gpus);
  if (!step || !bytes) {
    auto estimate = by_strategy(w, static_cast<double>(std::max<std::int64_t>(1, from.n_gpus)));
    const auto& s = estimate.speedup;
    const double rate = *from.samples_per_s;
    estimate.samples_per_s = {s.value * rate, s.low * rate, s.high * rate};
    return estimate;
  }
  const Link link = link_of(w, anchors);
  ScalingEstimate estimate;
  estimate.link_bytes_per_s = link.bytes_per_s;
  estimate.link_measured = link.measured;
  const auto rate_at = [&](double bandwidth_factor, double compute_factor) {
    const double exposed = link.exposed_s ? *link.exposed_s / bandwidth_factor
                                          : *bytes / (link.bytes_per_s * bandwidth_factor);
    return step->rows / (step->compute_s * compute_factor + exposed);
  };
  const double spread = std::exp(1.28 * link.sigma);
  estimate.samples_per_s = {rate_at(1, 1), rate_at(1 / spread, 1.03), rate_at(spread, 0.98)};
  const double level = *from.samples_per_s;
  estimate.speedup = {estimate.samples_per_s.value / level, estimate.samples_per_s.low / level,
                      estimate.samples_per_s.high / level};
  estimate.step_s = step->rows / estimate.samples_per_s.value;
  estimate.exposed_s = *estimate.step_s - step->compute_s;
  estimate.why = link.measured ? "the link as another workload on this box found it"
                               : "the link is assumed from its kind: measure it";
  return estimate;
}

}  // namespace rigwise
