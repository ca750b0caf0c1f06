#include "plan/memory.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "rigwise/plan.h"

namespace rigwise {

namespace plan {

namespace {

constexpr double kWorkspaceBytes = 32e6;  // cuBLAS keeps one for each stream
constexpr double kContextBytes = 0.5e9;   // CUDA context, seen by nvidia-smi only

bool is_mixed(const std::string& precision) {
  return precision.ends_with("_mixed");
}

double element_bytes(const std::string& precision) {
  return precision == "fp32" ? 4 : 2;
}

/// Bytes that one quantised parameter takes with its scales: NF4 has one fp32 scale for 64 values,
/// quantised again one byte and an fp32 for 256 of those (QLoRA, bitsandbytes).
double quantised_bytes(const std::string& quant) {
  if (quant == "nf4") return 0.5 + 4.0 / 64;
  if (quant == "int8") return 1 + 4.0 / 4096;
  if (quant == "gptq4") return 0.5 + 2.5 / 128;
  return 0.5 + 1.0 / 64 + 4.0 / (64 * 256);
}

struct Widths {  // of one layer
  double h, q, kv, f;
  double linear() const { return h * (q + 2 * kv) + q * h; }
};
Widths widths(const ModelShape& s) {
  return {static_cast<double>(s.hidden), static_cast<double>(s.heads * s.head_dim),
          static_cast<double>(s.kv_heads * s.head_dim), static_cast<double>(s.ffn)};
}
double layer_matrices(const ModelShape& s) {
  const Widths w = widths(s);
  return w.linear() + (s.gated_mlp ? 3 : 2) * w.h * w.f;
}
double embedding_params(const ModelShape& s) {
  return static_cast<double>(s.vocab) * static_cast<double>(s.hidden);
}

bool targets(const Workload& w, std::string_view name) {
  return std::find(w.lora_targets.begin(), w.lora_targets.end(), name) != w.lora_targets.end();
}
bool targets_qkv(const Workload& w) {
  return targets(w, "q") || targets(w, "k") || targets(w, "v") || targets(w, "qkv");
}

}  // namespace

double adapter_params(const Workload& w) {
  if (w.trainable_params) return *w.trainable_params;
  const ModelShape& s = *w.shape;
  const Widths d = widths(s);
  const auto on = [&](std::string_view name) { return targets(w, name) ? 1.0 : 0.0; };
  const double a_layer = on("q") * (d.h + d.q) + (on("k") + on("v")) * (d.h + d.kv) +
                         on("qkv") * (d.h + d.q + 2 * d.kv) + on("o") * (d.q + d.h) +
                         (s.gated_mlp ? on("gate") : 0.0) * (d.h + d.f) +
                         (on("up") + on("down")) * (d.h + d.f);
  const double rank = w.lora_rank.value_or(16);
  return rank * (a_layer * static_cast<double>(s.layers) +
                 on("head") * (d.h + static_cast<double>(s.vocab)));
}

double adapter_bytes(const Workload& w, const Facts& facts) {
  if (w.lora_dtype == "fp32" || facts.mixed) return 4;
  if (w.lora_dtype.empty() && facts.trainer->fp32_adapters) return 4;
  return facts.compute_bytes;
}

namespace {

/// peft's prepare_model_for_kbit_training makes norms, embeddings and head fp32, but not of GPTQ's
/// kind of base; and sharding wants one type for all, so that nobody calls it there.
bool upcasts(const Workload& w, const Facts& facts) {
  return facts.quantised && facts.trainer->upcasts_quantised && !is_sharded(w) &&
         !w.quant.starts_with("gptq");
}

/// What programs ask the allocator for, without what it holds beside.
bool is_allocated(const std::string& metric) {
  return metric == "allocated" || metric == "active";
}

}  // namespace

bool is_quantised(const Workload& w) {
  return w.method == "qlora" || !w.quant.empty();
}

bool is_sharded(const Workload& w) {
  return w.strategy == "fsdp" || w.strategy == "zero3";
}

Facts facts_of(const Workload& w) {
  Facts facts;
  facts.trainer = &trainer_of(w.framework);
  facts.mixed = is_mixed(w.precision);
  facts.compute_bytes = element_bytes(w.precision);
  facts.quantised = is_quantised(w);
  facts.adapters = w.method != "full";
  facts.upcast = upcasts(w, facts);
  facts.residual_bytes = facts.mixed || facts.upcast ? 4 : facts.compute_bytes;
  // a quantised product answers in the type it was asked in
  facts.mlp_bytes = facts.upcast ? 4 : facts.compute_bytes;
  facts.tokens = *w.seq_len * *w.micro_batch;
  return facts;
}

namespace {

/// What one layer keeps for its backward pass, bytes a token. Followed tensor by tensor through one
/// step of each trainer; docs/plan.md has the list.
/// Fused kernels, or a compiler that makes cheap values again, keep less.
bool fuses_norms(const Workload& w, const Trainer& trainer) {
  return trainer.fused_norms || w.compiled.value_or(false);
}
bool fuses_mlp(const Workload& w, const Trainer& trainer) {
  return trainer.fused_mlp || w.compiled.value_or(false);
}

double attention_bytes(const Workload& w, const Facts& facts, const Widths& d) {
  const Trainer& trainer = *facts.trainer;
  const double c = facts.compute_bytes;
  const bool copies = trainer.expands_kv && w.shape->kv_heads > 1;
  const double kv = copies ? d.q : d.kv;
  // the flash kernel keeps queries, keys, values and its output; values may be a view of a buffer
  double bytes = c * (d.q + kv) + (copies ? c * d.q : 0) + c * d.q;
  bytes += trainer.keeps_qkv ? c * (d.q + 2 * d.kv) : c * d.kv;
  if (w.attention == "eager") {  // scores' softmax in fp32 and in 16 bits
    bytes += static_cast<double>(w.shape->heads) * *w.seq_len * (c + 4);
  }
  return bytes;
}

/// Inputs of the adapters' first matrices. One of the base's type without dropout is shared by the
/// matrices that read it; dropout and a cast to fp32 make one for each.
double adapter_inputs(const Workload& w, const Facts& facts, const Widths& d) {
  const Trainer& trainer = *facts.trainer;
  const double c = facts.compute_bytes;
  const bool dropout = trainer.lora_dropout > 0;
  const bool cast = adapter_bytes(w, facts) > c;
  const bool apart = dropout || cast;
  const double copy = c + (dropout ? 1 : 0);
  const auto count = [&](std::initializer_list<std::string_view> names) {
    double n = 0;
    for (const auto name : names) n += targets(w, name) ? 1 : 0;
    return n;
  };
  const bool one_matrix = trainer.keeps_qkv;  // q, k and v are one matrix with one dropout
  const double attention = apart && !one_matrix ? count({"q", "k", "v", "qkv"})
                           : targets_qkv(w)     ? 1
                                                : 0;
  const double up = count({"gate", "up"});
  double bytes = copy * d.h * (attention + (apart ? up : std::min(1.0, up)));
  if (targets(w, "o") && apart) bytes += copy * d.q;  // else the attention's output itself
  if (targets(w, "down")) bytes += copy * d.f;
  if (one_matrix) bytes += c * (d.q * count({"q"}) + d.kv * count({"k", "v"}));
  return bytes;
}

/// What one layer keeps for its backward pass, bytes a token. Followed tensor by tensor through one
/// step of each trainer; docs/plan.md has the list.
double layer_bytes_a_token(const Workload& w, const Facts& facts) {
  const ModelShape& s = *w.shape;
  const Trainer& trainer = *facts.trainer;
  const Widths d = widths(s);
  const double c = facts.compute_bytes;
  const bool full = !facts.adapters;
  const double inputs = has_parallel_residual(w.model) ? 1 : 2;
  const double norm_input =
      s.gated_mlp && !fuses_norms(w, trainer) ? 4 : facts.residual_bytes;  // RMS norms work in fp32
  double bytes = norm_input * d.h * inputs;
  if (full) bytes += c * d.h * 2;  // a norm's gradient needs what it scaled
  bytes += attention_bytes(w, facts, d);
  bytes += facts.mlp_bytes * d.f * (s.gated_mlp ? (fuses_mlp(w, trainer) ? 2 : 3) : 1);
  // inputs of the matrices that have a gradient, or that keep them without need
  if (full || (facts.quantised && trainer.quant_keeps_input)) bytes += c * (d.h * inputs + d.f);
  if (facts.adapters) bytes += adapter_inputs(w, facts, d);
  return bytes;
}

struct Weights {
  double bytes = 0, layers = 0, edges = 0;  // all, those of the layers, embeddings and head
};

Weights weights_of(const Workload& w, const Facts& facts) {
  const ModelShape& s = *w.shape;
  const double layers = layer_matrices(s) * static_cast<double>(s.layers);
  const double embedding = embedding_params(s);
  const double edges_unique = embedding * (s.tied_embeddings ? 1 : 2);
  const double rest = w.params ? std::max(0.0, *w.params - layers - edges_unique) : 0;
  const double edges = s.tied_embeddings && facts.trainer->unties ? 2 * embedding : edges_unique;
  const double element = facts.mixed ? 4 : facts.compute_bytes;
  Weights weights;
  const double edge_element = facts.upcast ? 4 : element;
  weights.edges = edges * edge_element;
  const double unquantised = (facts.quantised ? edge_element : element) * std::min(rest, layers);
  weights.layers = layers * (facts.quantised ? quantised_bytes(w.quant) : element) + unquantised;
  weights.bytes = weights.layers + weights.edges;
  return weights;
}

double state_bytes_a_param(const Workload& w, double element) {
  const std::string& o = w.optimizer;
  if (o.find("paged") != std::string::npos || o == "sgd") return 0;
  if (o.find("8bit") != std::string::npos) return 2.03;
  if (o == "adafactor") return 0.05;
  if (o == "lion") return element;
  return 2 * element;
}

}  // namespace

Terms terms_of(const Workload& w) {
  const Facts facts = facts_of(w);
  const ModelShape& s = *w.shape;
  const Trainer& trainer = *facts.trainer;
  const double n = static_cast<double>(std::max<std::int64_t>(1, w.n_gpus));
  const bool sharded = is_sharded(w);
  const bool split = w.strategy == "tp" || w.strategy == "pp";
  const double weight_share = sharded || split ? 1 / n : 1;
  const double grad_share = sharded || split || w.strategy == "zero2" ? 1 / n : 1;
  const double state_share =
      sharded || split || w.strategy == "zero2" || w.strategy == "zero1" ? 1 / n : 1;
  const double activation_share = split ? (w.strategy == "tp" ? 0.5 + 0.5 / n : 1 / n) : 1;

  Terms t;
  const Weights weights = weights_of(w, facts);
  const double total = w.params.value_or(shape_params(s));
  t.weights = weights.bytes * weight_share;
  const double trainable = facts.adapters ? adapter_params(w) : total;
  const double element =
      facts.adapters ? adapter_bytes(w, facts) : (facts.mixed ? 4 : facts.compute_bytes);
  if (facts.adapters) t.adapters = trainable * element * weight_share;
  t.gradients = trainable * element * grad_share;
  t.optimizer = trainable * state_bytes_a_param(w, element) * state_share;
  if (w.optimizer.starts_with("adam") && w.optimizer.find("8bit") == std::string::npos) {
    t.optimizer_work = trainer.optimizer_copies * trainable * element * state_share;
  }
  if (!w.offload.empty()) t.optimizer = t.optimizer_work = 0;  // the update runs on the host
  if (w.offload == "all") t.weights = 0;                       // what is gathered is counted below
  const bool checkpointed = w.checkpointing == "full";
  if (facts.mixed) {  // autocast keeps its 16-bit copies until the step is over
    const double copies = layer_matrices(s) * 2 * static_cast<double>(s.layers);
    t.casts = (checkpointed ? copies / static_cast<double>(s.layers) : copies) * weight_share;
  }
  if (w.strategy == "ddp") t.buffers += trainable * element;
  if (w.strategy == "zero2" || w.strategy == "zero3") t.buffers += 2 * std::min(5e8, trainable) * 2;

  const double one_layer = layer_bytes_a_token(w, facts) * facts.tokens * activation_share;
  const double layers = static_cast<double>(s.layers);
  const double checkpoint = facts.residual_bytes * widths(s).h * facts.tokens;
  // gradients of the widest tensors of the layer that is under way
  const double backward_work =
      facts.mlp_bytes * facts.tokens * (s.gated_mlp ? 3 : 2) * widths(s).f * activation_share;
  if (checkpointed) {
    t.activations = checkpoint * layers;
    t.live_layer = one_layer + backward_work;
  } else if (w.checkpointing == "selective") {
    t.activations = checkpoint * layers + 0.6 * one_layer * layers;
    t.live_layer = backward_work;
  } else {
    t.activations = one_layer * layers;
    t.live_layer = backward_work;
  }
  const double logit_tokens = w.logits == "chunked" ? std::min(facts.tokens, 1024.0) : facts.tokens;
  t.logits = logit_tokens * static_cast<double>(s.vocab) *
             (facts.compute_bytes == 4 ? 12 : trainer.logit_bytes);
  if (facts.quantised) {  // the largest matrix unpacked
    const Widths d = widths(s);
    t.unpacked = facts.compute_bytes * d.h * std::max(d.f, d.q);
  }
  if (sharded) {
    const double layer_full = weights.layers / layers;
    t.gathered = 2 * layer_full + weights.edges;
    if (trainer.fsdp_keeps_frozen && facts.adapters) t.gathered += weights.bytes;
  }
  if (!facts.adapters) {  // the head's gradient is made while the logits' is still there
    t.head_gradient = embedding_params(s) * element * grad_share;
  }
  t.accumulates = w.grad_accum.value_or(1) > 1;
  return t;
}

MemoryPhase peak_phase(const Terms& t) {
  const double standing =
      t.weights + t.adapters + t.optimizer + t.buffers + t.gathered + t.casts + kWorkspaceBytes;
  const double held = t.accumulates ? t.gradients : 0;
  const double loss =
      standing + held + t.activations + t.logits + (t.accumulates ? 0 : t.head_gradient);
  // In the last layers' backward the logits are gone, a layer is under way, few gradients are
  // there.
  const double recompute = standing + held + t.activations + t.live_layer + t.unpacked;
  const double update = standing - t.casts + t.gradients + t.optimizer_work;
  MemoryPhase phase;
  phase.bytes = std::max({loss, recompute, update});
  const auto add = [&](const char* name, double bytes) {
    if (bytes > 0) phase.parts.push_back({name, bytes});
  };
  add("weights", t.weights);
  add("adapters", t.adapters);
  add("optimizer states", t.optimizer);
  add("gathered weights", t.gathered);
  add("16-bit copies of weights", phase.bytes == update ? 0 : t.casts);
  add("communication buffers", t.buffers);
  if (phase.bytes == update) {
    phase.name = "optimizer step";
    add("gradients", t.gradients);
    add("optimizer's working copies", t.optimizer_work);
  } else {
    add("gradients", held);
    add("activations", t.activations);
    if (phase.bytes == loss) {
      phase.name = "loss";
      add("logits and loss", t.logits);
      if (!t.accumulates) add("head's gradient", t.head_gradient);
    } else {
      phase.name = "backward";
      add("layer under way", t.live_layer);
      add("unpacked weights", t.unpacked);
    }
  }
  add("workspace", kWorkspaceBytes);
  return phase;
}

/// allocated ≤ reserved ≤ device: the allocator holds blocks that fit nothing, most of them left by
/// the logits' large copies, which have another size with every batch; and the context is seen from
/// outside only.
double in_metric(double allocated, const std::string& metric, double passing) {
  constexpr double kLeftBehind = 0.3;  // of the passing bytes
  if (is_allocated(metric)) return allocated;
  const double reserved = allocated * 1.06 + 0.1e9 + kLeftBehind * passing;
  if (metric == "reserved") return reserved;
  if (metric == "device") return reserved + kContextBytes;
  return (allocated + reserved + 0.1e9) / 2;
}

namespace {

double variable_bytes(const Workload& w) {
  const Terms t = terms_of(w);
  return t.activations + t.logits + t.live_layer;
}

double point(const Workload& w) {
  const Terms terms = terms_of(w);
  return in_metric(peak_phase(terms).bytes, w.metric, terms.logits);
}

double cold_sigma(const Workload& w) {
  double var = std::pow(trainer_of(w.framework).sigma_frac, 2);
  const auto unknown = [&](bool stated, double sigma) {
    if (!stated) var += sigma * sigma;
  };
  unknown(!w.checkpointing.empty(), 0.10);
  unknown(!w.attention.empty(), 0.05);
  unknown(!w.metric.empty(), 0.04);
  unknown(!w.framework.empty(), 0.05);
  unknown(!w.seq_is_upper_bound, 0.10);
  unknown(w.n_gpus <= 1, 0.06);
  unknown(w.method != "qlora" && w.quant.empty(),
          0.12);  // versions of the kernels keep more or less
  unknown(!w.precision.ends_with("_mixed"), 0.08);
  return std::sqrt(var);
}

/// The measured points say how far off the formula's standing and token-dependent sides are: a
/// least-squares pull of both from their priors (standing ±3 %, activations ±15 %).
std::pair<double, double> corrections(const std::vector<MemoryAnchor>& anchors) {
  double scale = 0, shift = 0;  // of the token-dependent side (a share), of the rest (bytes)
  double a11 = 0, a12 = 0, a22 = 0, b1 = 0, b2 = 0;
  double standing_sigma = 0;
  for (const auto& anchor : anchors) {
    const double noise = 0.01 * anchor.bytes;
    const double v = variable_bytes(anchor.workload);
    const double residual = anchor.bytes - point(anchor.workload);
    a11 += v * v / (noise * noise);
    a12 += v / (noise * noise);
    a22 += 1 / (noise * noise);
    b1 += v * residual / (noise * noise);
    b2 += residual / (noise * noise);
    standing_sigma = std::max(standing_sigma, 0.03 * (anchor.bytes - v));
  }
  standing_sigma = std::max(standing_sigma, 0.2e9);
  a11 += 1 / (0.15 * 0.15);
  a22 += 1 / (standing_sigma * standing_sigma);
  const double det = a11 * a22 - a12 * a12;
  scale = (b1 * a22 - b2 * a12) / det;
  shift = (a11 * b2 - a12 * b1) / det;
  return {std::clamp(scale, -0.6, 1.5), shift};
}

}  // namespace
}  // namespace plan

double shape_params(const ModelShape& s) {
  return plan::layer_matrices(s) * static_cast<double>(s.layers) +
         plan::embedding_params(s) * (s.tied_embeddings ? 1 : 2);
}

namespace {

std::optional<Error> missing_size(const Workload& w) {
  const auto lacks = [](const std::string& what) {
    return Error{Errc::unavailable, "memory: " + what + " is not stated", "state it"};
  };
  if (!w.shape) return lacks("the model's shape");
  const ModelShape& s = *w.shape;
  for (const auto& [value, name] :
       {std::pair(s.layers, "layers"), std::pair(s.hidden, "hidden"), std::pair(s.heads, "heads"),
        std::pair(s.kv_heads, "kv_heads"), std::pair(s.head_dim, "head_dim"),
        std::pair(s.ffn, "ffn"), std::pair(s.vocab, "vocab")}) {
    if (value <= 0 || value > 10'000'000) {
      return Error{Errc::usage, "memory: " + std::string(name) + " is " + std::to_string(value),
                   "a positive number of at most 10,000,000"};
    }
  }
  if (!w.seq_len || *w.seq_len <= 0) return lacks("the sequence length");
  if (!w.micro_batch || *w.micro_batch <= 0) return lacks("the micro-batch");
  return std::nullopt;
}

}  // namespace

Result<MemoryEstimate> predict_memory(const Workload& workload,
                                      const std::vector<MemoryAnchor>& anchors) {
  if (auto error = missing_size(workload)) return *std::move(error);
  std::vector<MemoryAnchor> usable;
  for (const auto& anchor : anchors) {
    if (!missing_size(anchor.workload) && anchor.bytes > 0) usable.push_back(anchor);
  }
  const plan::Terms terms = plan::terms_of(workload);
  plan::MemoryPhase phase = plan::peak_phase(terms);
  MemoryEstimate estimate;
  estimate.metric = workload.metric.empty() ? "between allocated and reserved" : workload.metric;
  estimate.phase = phase.name;
  estimate.parts = std::move(phase.parts);
  double value = plan::in_metric(phase.bytes, workload.metric, terms.logits);
  if (value > phase.bytes) estimate.parts.push_back({"allocator and context", value - phase.bytes});
  double sigma = plan::cold_sigma(workload);
  if (!usable.empty()) {
    const auto [scale, shift] = plan::corrections(usable);
    const double moved = scale * plan::variable_bytes(workload) + shift;
    const auto& near = *std::min_element(
        usable.begin(), usable.end(), [&](const MemoryAnchor& a, const MemoryAnchor& b) {
          return std::abs(a.bytes - value) < std::abs(b.bytes - value);
        });
    estimate.parts.push_back({"as measured before", moved});
    value += moved;
    const double step = std::abs(std::log(std::max(value, 1e6) / near.bytes));
    // what the allocator holds beside what it gave varies with every batch's length
    sigma = plan::is_allocated(workload.metric) ? 0.02 + 0.12 * step : 0.05 + 0.3 * step;
  }
  value = std::max(value, 1e6);
  // what a formula leaves out only ever adds: cold, the upper side is the wider one
  const double up = std::exp((usable.empty() ? 1.5 : 1.28) * sigma), down = std::exp(-1.28 * sigma);
  estimate.peak = {value, value * down, value * up};
  return estimate;
}

std::optional<double> textbook_memory(const Workload& w) {
  if (missing_size(w)) return std::nullopt;
  const ModelShape& s = *w.shape;
  const double params = w.params.value_or(shape_params(s));
  const double n = static_cast<double>(std::max<std::int64_t>(1, w.n_gpus));
  const bool sharded = plan::is_sharded(w);
  const double edges = 2.0 * static_cast<double>(s.vocab * s.hidden);
  double state = 0;
  if (w.method == "full") {
    state = params * (w.precision.ends_with("_mixed")                 ? 16
                      : w.optimizer.find("8bit") != std::string::npos ? 6
                      : w.precision == "fp32"                         ? 16
                                                                      : 8);
  } else {
    state = w.method == "qlora" ? std::max(0.0, params - edges) * 0.516 + 2 * edges : 2 * params;
  }
  double bytes = sharded ? state / n : state;
  if (w.method != "full") bytes += 16 * plan::adapter_params(w);
  const double h = static_cast<double>(s.hidden), f = static_cast<double>(s.ffn);
  const double kv = static_cast<double>(s.kv_heads) / static_cast<double>(s.heads);
  const double layer = 2 * (2 * h + h * (2 + 2 * kv) + h + (s.gated_mlp ? 4 * f : 2 * f) + 2 * h);
  const double tokens = *w.seq_len * *w.micro_batch;
  const double layers = static_cast<double>(s.layers);
  bytes += tokens * (w.checkpointing == "full" ? 2 * h * layers + layer : layer * layers);
  return bytes + tokens * static_cast<double>(s.vocab) * 10;
}

}  // namespace rigwise
