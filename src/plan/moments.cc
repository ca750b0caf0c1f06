// Memory beside the training step: loading and saving, on the GPU and on the host. What programs
// are known to do, each with where that is known from; nothing here was fitted.
#include <algorithm>
#include <cmath>

#include "plan/memory.h"
#include "rigwise/plan.h"

namespace rigwise {

namespace {

// A Python process with torch, CUDA's libraries and a data loader, resident: assumed.
constexpr Interval kProcessBytes = {3e9, 1.5e9, 5e9};
constexpr double kShardBytes = 5e9;        // of a checkpoint as most are published
constexpr double kWideShardBytes = 50e9;   // as transformers 5 writes them
constexpr double kBroadcastBytes = 250e6;  // DDP sends its first weights in pieces of that size

struct Sizes {
  double file = 0;    // all weights as they are published: 16 bits
  double loaded = 0;  // in the type in which they are trained
  double matrix = 0;  // the largest one, 16 bits
  double unit = 0;    // what sharded training gathers at once
  double ranks = 1;   // of one host
  plan::Terms terms = {};
};

Sizes sizes_of(const Workload& w) {
  Sizes s;
  s.terms = plan::terms_of(w);
  const ModelShape& shape = *w.shape;
  const double params = w.params.value_or(shape_params(shape));
  s.file = 2 * params;
  s.loaded = (w.precision.ends_with("_mixed") || w.precision == "fp32" ? 4 : 2) * params;
  s.matrix = 2.0 * static_cast<double>(shape.hidden) *
             static_cast<double>(std::max(shape.ffn, shape.vocab));
  s.unit = std::max(s.loaded / static_cast<double>(shape.layers + 2), 2 * s.matrix);
  s.ranks = std::ceil(static_cast<double>(w.n_gpus) / static_cast<double>(w.n_nodes));
  return s;
}

Interval in_metric(const Interval& x, const Workload& w) {
  return {plan::in_metric(x.value, w.metric), plan::in_metric(x.low, w.metric),
          plan::in_metric(x.high, w.metric)};
}

MemoryMoment gpu_load(const Workload& w, const Sizes& s) {
  const double weights = s.terms.weights + s.terms.adapters;
  if (plan::is_quantised(w) && w.framework.find("torchtune") != std::string::npos) {
    const double both = s.file + weights;  // pytorch/torchtune#1398: 15 GB where training took 6
    return {"load", false, in_metric({both, weights + s.matrix, 1.05 * both}, w),
            "all weights in 16 bits, quantised there"};
  }
  if (plan::is_quantised(w)) {
    return {"load", false, in_metric({weights + s.matrix, weights, weights + 2 * s.matrix}, w),
            "quantised matrix by matrix as they come"};
  }
  if (plan::is_sharded(w)) {
    return {"load", false, in_metric({weights + s.unit, weights, weights + s.loaded}, w),
            "its share, and one unit whole; all of it where a program moves the model first"};
  }
  const double more = w.strategy == "ddp" ? kBroadcastBytes : 0;
  return {"load", false, in_metric({weights + more, weights, weights + more + 2 * s.matrix}, w),
          "the weights"};
}

MemoryMoment gpu_save(const Workload& w, const Sizes& s) {
  const plan::Terms& t = s.terms;
  const double standing = t.weights + t.adapters + t.optimizer + t.buffers;
  if (plan::is_sharded(w) &&
      w.method == "full") {  // tatsu-lab/stanford_alpaca#32: out of memory at a save
    return {"save", false, in_metric({standing + s.unit, standing, standing + s.loaded}, w),
            "one unit gathered at a time; all weights where the gathered ones are not moved off"};
  }
  return {"save", false, in_metric({standing, standing, standing + 2 * s.matrix}, w),
          "tensors leave one by one"};
}

MemoryMoment host_load(const Workload& w, const Sizes& s) {
  const double n = s.ranks, shard = std::min(s.file, kShardBytes);
  if (plan::is_quantised(w)) {
    return {"load",
            true,
            {n * s.matrix, n * s.matrix, n * shard},
            "each rank's file is mapped and read tensor by tensor; a shard where it is not"};
  }
  if (w.strategy == "fsdp") {  // accelerate's cpu_ram_efficient_loading
    return {"load",
            true,
            {s.loaded, s.loaded, n * s.loaded},
            "rank 0 alone holds the weights, if the launcher is told so; else every rank"};
  }
  if (w.strategy == "zero3") {
    return {
        "load", true, {n * shard, shard, n * s.loaded}, "a shard of the checkpoint on each rank"};
  }
  return {"load",
          true,
          {n * s.loaded, n * s.matrix, n * s.loaded + n * s.matrix},
          "each rank reads all weights before they move; little where they go straight to the GPU"};
}

MemoryMoment host_train(const Workload& w, const Sizes& s) {
  const double params = w.params.value_or(shape_params(*w.shape));
  const double nodes = static_cast<double>(w.n_nodes), gpus = static_cast<double>(w.n_gpus);
  const double trained = w.method == "full" ? params : plan::adapter_params(w);
  if (w.offload == "optimizer") {
    // states and gradients in fp32; DeepSpeed's own estimate has half more for buffers
    const double bytes = 16 * trained / nodes;
    return {"train",
            true,
            {bytes, 12 * trained / nodes, 1.5 * trained * std::max(4 * gpus, 16.0) / nodes},
            "offloaded optimizer states and gradients, pinned"};
  }
  if (w.offload == "all") {
    const double frozen = w.method == "full" ? 0 : s.file;
    const double bytes = (18 * trained + frozen) / nodes;
    return {"train",
            true,
            {bytes, 14 * trained / nodes + frozen / nodes, 1.5 * bytes},
            "offloaded weights, optimizer states and gradients, pinned"};
  }
  if (w.optimizer.find("paged") != std::string::npos) {
    const double states = trained * (w.optimizer.find("8bit") != std::string::npos ? 2.03 : 8);
    return {"train",
            true,
            {0.5 * states * s.ranks, 0, states * s.ranks},
            "paged optimizer states: on the host while the GPU is short"};
  }
  return {"train", true, {0, 0, 0}, "nothing is offloaded"};
}

MemoryMoment host_save(const Workload& w, const Sizes& s) {
  if (w.method != "full") {
    const double adapters = 4 * plan::adapter_params(w);
    return {"save", true, {adapters, adapters, 3 * adapters}, "adapters, and their states"};
  }
  const double states = 2 * s.loaded;
  if (w.strategy == "fsdp") {
    return {"save",
            true,
            {s.loaded, s.loaded / s.ranks, s.loaded + states},
            "rank 0 gathers all weights; the optimizer's states too where one file is asked for"};
  }
  if (w.strategy == "zero3") {
    return {"save",
            true,
            {s.file, s.matrix, s.file + s.loaded},
            "the 16-bit weights gathered on rank 0; states leave as parts"};
  }
  return {"save",
          true,
          {std::min(s.loaded, kShardBytes), s.matrix, std::min(s.loaded, kWideShardBytes)},
          "a shard of the checkpoint is put together before it is written"};
}

}  // namespace

std::vector<MemoryMoment> memory_moments(const Workload& w) {
  const Sizes s = sizes_of(w);
  std::vector<MemoryMoment> moments = {gpu_load(w, s), gpu_save(w, s), host_load(w, s),
                                       host_train(w, s), host_save(w, s)};
  for (auto& moment : moments) {
    if (!moment.on_host) continue;  // the ranks' own processes stand beside all of it
    moment.bytes.value += s.ranks * kProcessBytes.value;
    moment.bytes.low += s.ranks * kProcessBytes.low;
    moment.bytes.high += s.ranks * kProcessBytes.high;
  }
  return moments;
}

}  // namespace rigwise
