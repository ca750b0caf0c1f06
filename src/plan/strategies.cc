// Strategies: each one's step as a play of one clock for arithmetic and one for the link.
#include "plan/strategies.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "plan/memory.h"
#include "rigwise/stats.h"

namespace rigwise {

namespace plan {

GradientBytes gradient_bytes(const Workload& w) {
  if (w.grad_bytes) return {{*w.grad_bytes, *w.grad_bytes, *w.grad_bytes}, false};
  double bytes = 0;
  if (w.method == "full" && (w.params || w.shape)) {
    const double params = w.params.value_or(w.shape ? shape_params(*w.shape) : 0);
    bytes = 2 * params;
    if (!w.precision.empty()) {  // gradients are of the weights' type
      if (w.precision == "fp32" || w.precision.ends_with("_mixed")) bytes = 4 * params;
      return {{bytes, bytes, bytes}, false};
    }
  } else if (w.method != "full" && w.shape && w.lora_rank) {
    bytes = 2 * adapter_params(w);
  }
  if (bytes > 0) return {{1.4 * bytes, bytes, 2 * bytes}, true};  // in 16 or in 32 bits
  return {{80e6, 17e6, 160e6}, true};                             // adapters of 7B models
}

std::optional<MicroSteps> shared_micro_steps(const Workload& w, double ranks) {
  const double accum = w.grad_accum.value_or(1), micro = w.micro_batch.value_or(0);
  if (ranks <= 1) return MicroSteps{accum, {1, 1, 1}, ""};
  if (accum >= ranks) {
    // even shares; launching, bucketing and rows of unequal length take up to a tenth
    return MicroSteps{std::ceil(accum / ranks), {1.02, 1, 1.10}, ""};
  }
  if (micro >= 1 && micro * accum < ranks) return std::nullopt;
  // rows of one micro-batch are parted: a GPU is less busy with half of them
  return MicroSteps{
      accum, {1.08 / ranks, 1 / ranks, 1.5 / ranks}, "each GPU gets smaller micro-batches"};
}

namespace {

constexpr std::int64_t kMostRanks = 64;
constexpr double kMostLayers = 4096, kMostMicros = 4096;  // that are played one by one

/// How sure one is of the link; a play of the clocks is made for the usual, the best and the worst.
struct Guess {
  double seconds = 1;        // of a transfer's
  double Interval::*hidden;  // share of its hidden seconds that costs nothing
};

Interval hidden_frac(const LinkKnown& link, Transfer how) {
  // one collective is like another; where nobody measured any: two cards that copy through the host
  // hide nothing
  for (const Transfer like : {how, Transfer::all_reduce}) {
    const auto found = link.hidden_frac.find(like);
    if (found != link.hidden_frac.end()) return found->second;
  }
  return {0, 0, 1};
}

/// One clock for arithmetic, one for the link, which does one thing at a time.
class Timeline {
 public:
  void compute(double seconds) { busy_s_ += seconds, now_s_ += seconds; }
  struct Transit {
    double seconds = 0;
    double hidden = 0;  // share that costs nothing while arithmetic goes on
  };
  /// Starts a transfer now; when it will have ended.
  double send(Transit transit) {
    link_s_ = std::max(link_s_, now_s_) + transit.seconds;
    sent_s_ += transit.seconds;
    unhidden_s_ += (1 - transit.hidden) * transit.seconds;
    return link_s_;
  }
  void wait(double until_s) { now_s_ = std::max(now_s_, until_s); }
  [[nodiscard]] double link_free_s() const { return link_s_; }
  /// Waiting, and what hiding the rest cost.
  [[nodiscard]] double exposed_s() const {
    const double waited = now_s_ - busy_s_;
    if (!(sent_s_ > waited)) return waited;
    return waited + unhidden_s_ * (1 - waited / sent_s_);
  }

 private:
  double busy_s_ = 0, now_s_ = 0, link_s_ = 0, sent_s_ = 0, unhidden_s_ = 0;
};

struct Layout {
  std::int64_t data = 1, tensor = 1, pipeline = 1, split = 1;
  bool sharded = false;  // weights too: FSDP, ZeRO-3
  int partitioned = 0;   // ZeRO's stage, 1 or 2
  [[nodiscard]] std::int64_t ranks() const { return data * tensor * pipeline; }
};

const std::vector<std::string> kStrategies = {"single", "ddp", "fsdp", "zero1", "zero2",
                                              "zero3",  "tp",  "pp",   "split"};

Result<Layout> layout_of(std::string_view text, std::int64_t ranks) {
  Layout layout;
  for (const auto part : rigwise::split(text, ',')) {
    const auto colon = part.find(':');
    const auto name = trim(part.substr(0, colon));
    std::int64_t size = ranks;
    if (colon != std::string_view::npos) size = to_integer(part.substr(colon + 1)).value_or(0);
    const bool sharded = name == "fsdp" || name == "zero3";
    const int stage = name == "zero1" ? 1 : name == "zero2" ? 2 : 0;
    std::int64_t* into = name == "ddp" || sharded || stage > 0 ? &layout.data
                         : name == "tp"                        ? &layout.tensor
                         : name == "pp"                        ? &layout.pipeline
                         : name == "split"                     ? &layout.split
                                                               : nullptr;
    layout.sharded = layout.sharded || sharded;
    layout.partitioned = std::max(layout.partitioned, stage);
    if (name == "single") continue;
    if (into == nullptr || size < 1 || size > kMostRanks || *into > 1) {
      const auto near = nearest_name(lower(name), kStrategies);
      return Error{Errc::usage, "'" + clean_text(text, 60) + "' is not a strategy",
                   near ? "did you mean '" + *near + "'?"
                        : join(kStrategies, ", ") + ", ddp:2,tp:2 or ddp:2,pp:2"};
    }
    *into = size;
  }
  return layout;
}

/// What the plays need of the workload.
struct Work {
  double layers = 16;      // blocks that are gathered, cut or sent one by one
  double block_share = 1;  // of the arithmetic; the rest is the head's
  double tokens = 0, hidden = 0, element_bytes = 2;
  double block_weights = 0, rest_weights = 0;  // bytes, as they are gathered
  double gradients = 0, block_gradients = 0, rest_gradients = 0;
  bool tied = false, shaped = false, recomputed = false, adapters = false;
  double bucket_bytes = 25e6;  // torch's; the engine's are smaller

  explicit Work(const Workload& w) {
    const std::string& p = w.precision;
    element_bytes = p == "fp32" ? 4 : 2;
    recomputed = w.checkpointing == "full";
    adapters = w.method != "full";
    if (w.framework == "rigwise") bucket_bytes = 4 * 1024 * 1024;
    tokens = w.mean_seq_len.value_or(w.seq_len.value_or(0)) * w.micro_batch.value_or(1);
    gradients = gradient_bytes(w).bytes.value;
    block_gradients = gradients;
    if (!w.shape) return;
    const ModelShape& s = *w.shape;
    shaped = true;
    layers = std::min(kMostLayers, static_cast<double>(s.layers));
    hidden = static_cast<double>(s.hidden);
    tied = s.tied_embeddings;
    const double edge = static_cast<double>(s.vocab) * hidden;  // embedding, or head
    const double edges = edge * (tied ? 1 : 2);
    const double blocks = shape_params(s) - edges;
    const double score = 2 * w.seq_len.value_or(0) *  // of a token against half of the row
                         static_cast<double>(s.heads * s.head_dim) * layers / 2;
    block_share = (blocks + score) / (blocks + score + edge);
    const double stored = w.method == "qlora" ? 0.55 : element_bytes;
    block_weights = stored * blocks;
    rest_weights = (w.method == "qlora" ? 2 : stored) * edges;
    if (!adapters) {
      block_gradients = gradients * blocks / (blocks + edges);
      rest_gradients = gradients - block_gradients;
    } else {
      block_weights += gradients;  // adapters are gathered too
    }
  }
};

struct Play {
  double compute_s = 0, exposed_s = 0, sent_bytes = 0;
  double last_backward_s = 0;  // of the last micro-step, on one rank
};

struct Stage {
  const Work& work;
  const MeasuredStep& step;
  const LinkKnown& link;
  Guess guess;
  double micros = 1;  // of one data-parallel rank
  double scale = 1;   // of a micro-step's seconds and tokens

  [[nodiscard]] double forward_s() const { return scale * step.forward_s / step.micro_steps; }
  [[nodiscard]] double backward_s() const { return scale * step.backward_s / step.micro_steps; }
  [[nodiscard]] double activation_bytes() const {
    return std::min(1.0, scale) * work.tokens * work.hidden * work.element_bytes;
  }
  [[nodiscard]] double time_s(Transfer operation, double bytes, double ranks) const {
    return bytes > 0 ? guess.seconds * transfer_s(link, operation, bytes, ranks).value : 0;
  }
  [[nodiscard]] Timeline::Transit transit(Transfer operation, double bytes, double ranks) const {
    return {time_s(operation, bytes, ranks), hidden_frac(link, operation).*guess.hidden};
  }
};

/// Gradients leave in buckets as the last backward pass makes them: the head's first, the
/// embedding's last, and where the two are one matrix it is ready last of all.
double reduce_exposed_s(const Stage& s, double backward_s, double ranks, double share,
                        Transfer how = Transfer::all_reduce) {
  const double layers = std::max(1.0, s.work.layers);
  const double head_s = backward_s * (1 - s.work.block_share);
  Timeline line;
  double bucket = 0;
  const auto ready = [&](double bytes, bool last) {
    bucket += bytes * share;
    if (bucket < s.work.bucket_bytes && !last) return;
    line.send(s.transit(how, bucket, ranks));
    bucket = 0;
  };
  line.compute(head_s);
  if (!s.work.tied) ready(s.work.rest_gradients / 2, false);
  for (int i = 0; i < static_cast<int>(layers); ++i) {
    line.compute((backward_s - head_s) / layers);
    ready(s.work.block_gradients / layers, false);
  }
  ready(s.work.rest_gradients / (s.work.tied ? 1 : 2), true);
  line.wait(line.link_free_s());
  return line.exposed_s();
}

Play play_replica(const Stage& s) {
  return {s.micros * (s.forward_s() + s.backward_s()) + s.step.optimizer_s, 0, 0, s.backward_s()};
}

/// ZeRO-1 and 2: every rank sums and updates its part of the trained weights, then all gather them.
/// Stage 2 keeps no more than its part of the gradients, so it sums them every micro-step.
Play play_partitioned(const Stage& s, double ranks, int stage) {
  const double times = stage == 2 ? s.micros : 1;
  Play play = play_replica(s);
  play.compute_s -= s.step.optimizer_s * (1 - 1 / ranks);
  play.exposed_s =
      times * reduce_exposed_s(s, play.last_backward_s, ranks, 1, Transfer::reduce_scatter) +
      s.time_s(Transfer::all_gather, s.work.gradients, ranks);
  play.sent_bytes = (times + 1) * (ranks - 1) / ranks * s.work.gradients;
  return play;
}

/// Every block's weights come twice a micro-step while the block before is computed, its gradients
/// leave behind it; blocks are computed again in the backward pass.
Play play_sharded(const Stage& s, double ranks) {
  const double layers = std::max(1.0, s.work.layers);
  const double f = s.forward_s() * s.work.block_share / layers;
  const double b = s.backward_s() * s.work.block_share / layers + (s.work.recomputed ? 0 : f);
  const double head = (s.forward_s() + s.backward_s()) * (1 - s.work.block_share);
  const auto gather = s.transit(Transfer::all_gather, s.work.block_weights / layers, ranks);
  const auto rest = s.transit(Transfer::all_gather, s.work.rest_weights, ranks);
  const auto give = s.transit(Transfer::reduce_scatter, s.work.block_gradients / layers, ranks);
  const auto give_rest = s.transit(Transfer::reduce_scatter, s.work.rest_gradients, ranks);
  const int n = static_cast<int>(layers);
  Timeline line;
  line.wait(line.send(rest));
  double next = line.send(gather);
  for (int i = 0; i < n; ++i) {
    line.wait(next);
    if (i + 1 < n) next = line.send(gather);
    line.compute(f);
  }
  line.compute(head);
  for (int i = n; i-- > 0;) {
    if (i + 1 < n) line.wait(next);  // the forward pass ended with the last block's weights here
    if (i > 0) next = line.send(gather);
    line.compute(b);
    line.send(give);
  }
  line.send(give_rest);
  line.wait(line.link_free_s());
  const double wire = (ranks - 1) / ranks;
  const double bytes = s.work.rest_weights + 2 * s.work.block_weights + s.work.gradients;
  return {s.micros * (layers * (f + b) + head) + s.step.optimizer_s / ranks,
          s.micros * line.exposed_s(), s.micros * wire * bytes, 0};
}

/// Each block's arithmetic is cut; two sums of the activations forward and two backward stop it.
/// The head is not cut.
Play play_tensor(const Stage& s, double ranks) {
  const double kept = s.work.block_share / ranks + (1 - s.work.block_share);
  const double sums = s.work.layers * (s.work.recomputed ? 6 : 4);
  const double one = s.time_s(Transfer::all_reduce, s.activation_bytes(), ranks);
  Play play;
  play.compute_s = s.micros * kept * (s.forward_s() + s.backward_s()) + s.step.optimizer_s / ranks;
  play.exposed_s = s.micros * sums * one;
  play.sent_bytes = s.micros * sums * 2 * (ranks - 1) / ranks * s.activation_bytes();
  play.last_backward_s = kept * s.backward_s();
  if (s.work.adapters) {  // half of each adapter is whole on every rank
    play.exposed_s += s.time_s(Transfer::all_reduce, s.work.gradients / 2, ranks);
    play.sent_bytes += (ranks - 1) / ranks * s.work.gradients;
  }
  return play;
}

/// One pass of one stage: micro-step, and whether backward.
using Pass = std::pair<std::size_t, bool>;
std::vector<Pass> one_forward_one_backward(std::size_t stage, std::size_t stages,
                                           std::size_t micros) {
  const std::size_t ahead = std::min(micros, stages - 1 - stage);
  std::vector<Pass> passes;
  for (std::size_t i = 0; i < ahead; ++i) passes.emplace_back(i, false);
  for (std::size_t i = 0; i < micros; ++i) {
    if (ahead + i < micros) passes.emplace_back(ahead + i, false);
    passes.emplace_back(i, true);
  }
  return passes;
}

/// Stages of equal numbers of blocks, the head on the last; activations go from stage to stage. A
/// transfer begins once its receiver asks for it, which it does when it has nothing else to do: so
/// NCCL's and Gloo's point-to-point calls work, and nothing of it is hidden from the receiver.
Play play_pipeline(const Stage& s, std::size_t stages) {
  const auto micros = static_cast<std::size_t>(std::clamp(s.micros, 1.0, kMostMicros));
  const double ranks = static_cast<double>(stages);
  const double sent_s = s.time_s(Transfer::one_way, s.activation_bytes(), 2);
  std::vector<double> forward(stages), backward(stages), now(stages, 0), busy(stages, 0);
  for (std::size_t i = 0; i < stages; ++i) {
    const double share =
        s.work.block_share / ranks + (i + 1 == stages ? 1 - s.work.block_share : 0);
    forward[i] = share * s.forward_s(), backward[i] = share * s.backward_s();
  }
  // when what a pass waits for was handed over; of the first stage's forward passes and the last
  // one's backward passes nothing has to be
  constexpr double kNever = 1e300, kOwn = -1;
  std::vector<std::vector<double>> down(stages, std::vector<double>(micros, kNever)), up = down;
  down.front().assign(micros, kOwn), up.back().assign(micros, kOwn);
  std::vector<std::vector<Pass>> passes;
  for (std::size_t i = 0; i < stages; ++i) {
    passes.push_back(one_forward_one_backward(i, stages, micros));
  }
  std::vector<std::size_t> done(stages, 0);
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t i = 0; i < stages; ++i) {
      while (done[i] < passes[i].size()) {
        const auto [micro, back] = passes[i][done[i]];
        const double due = back ? up[i][micro] : down[i][micro];
        if (due == kNever) break;
        const double work = back ? backward[i] : forward[i];
        if (due != kOwn) now[i] = std::max(now[i], due) + sent_s;
        now[i] += work;
        busy[i] += work;
        if (!back && i + 1 < stages) down[i + 1][micro] = now[i];
        if (back && i > 0) up[i - 1][micro] = now[i];
        ++done[i];
        moved = true;
      }
    }
  }
  const double end = *std::max_element(now.begin(), now.end());
  const double most = *std::max_element(busy.begin(), busy.end());
  const double inner = stages > 2 ? 2 : 1;  // boundaries of a stage in the middle
  return {most + s.step.optimizer_s / ranks, end - most, s.micros * inner * s.activation_bytes(),
          backward.back()};
}

Play play(const Layout& layout, const Stage& s) {
  const double data = static_cast<double>(layout.data);
  const double tensor = static_cast<double>(layout.tensor);
  if (layout.sharded) return play_sharded(s, data);
  if (layout.partitioned > 0 && layout.data > 1)
    return play_partitioned(s, data, layout.partitioned);
  const double inner = tensor * static_cast<double>(layout.pipeline);
  Play made = layout.tensor > 1     ? play_tensor(s, tensor)
              : layout.pipeline > 1 ? play_pipeline(s, static_cast<std::size_t>(layout.pipeline))
                                    : play_replica(s);
  if (layout.data > 1) {
    made.exposed_s += reduce_exposed_s(s, made.last_backward_s, data, 1 / inner);
    made.sent_bytes += 2 * (data - 1) / data * s.work.gradients / inner;
  }
  return made;
}

std::optional<Error> impossible_layout(const Layout& layout, const Workload& w) {
  Workload parts = w;
  parts.strategy = layout.tensor > 1 ? "tp" : layout.pipeline > 1 ? "pp" : "";
  parts.n_gpus = layout.tensor > 1 ? layout.tensor : layout.pipeline;
  if (auto error = impossible_setup(parts)) return error;
  if ((layout.tensor > 1 || layout.pipeline > 1 || layout.sharded) &&
      (!w.shape || !w.seq_len || *w.seq_len <= 0)) {
    return Error{
        Errc::unavailable,
        std::string(w.shape ? "the length of a row" : "the model's shape") + " is not known",
        "a run whose model is a folder that is still there"};
  }
  return std::nullopt;
}

/// Half of the interval of another run's step, as a share: the run it is made from and the one to
/// come each differ from their like.
double repeat_frac(const MeasuredStep& step) {
  constexpr double kEightInTen = 1.28;  // standard deviations to either side
  return kEightInTen * std::sqrt(2.0) * step.run_to_run_frac;
}

/// Beyond what was measured: how much more or less a step's arithmetic takes when it is cut.
Interval cut_factor(const Layout& layout) {
  if (layout.tensor > 1) return {1.05, 1.0, 1.3};  // narrower matrices
  if (layout.sharded) return {1.03, 1.0, 1.15};    // copies in and out of what is gathered
  if (layout.pipeline > 1) return {1.0, 0.97, 1.1};
  return {1, 1, 1};
}

}  // namespace
}  // namespace plan

double run_to_run_frac(std::span<const double> step_times_s) {
  constexpr std::size_t kParts = 4, kLeast = 5;  // steps of a part
  if (step_times_s.size() < kParts * kLeast) return stats::kRunToRunFrac;
  std::vector<double> medians;
  for (std::size_t i = 0; i < kParts; ++i) {
    const std::size_t from = i * step_times_s.size() / kParts;
    const std::size_t to = (i + 1) * step_times_s.size() / kParts;
    medians.push_back(*stats::median(step_times_s.subspan(from, to - from)));
  }
  const stats::Moments parts = stats::moments(medians);
  if (!(parts.mean() > 0)) return stats::kRunToRunFrac;
  return std::max(stats::kRunToRunFrac, *parts.standard_deviation() / parts.mean());
}

MeasuredStep assumed_phases(const Workload& w, double compute_s, double other_s) {
  MeasuredStep step;
  const double backward = (w.method == "full" ? 2 : 1) + (w.checkpointing == "full" ? 1 : 0);
  step.optimizer_s = 0.05 * compute_s;
  step.forward_s = 0.95 * compute_s / (1 + backward);
  step.backward_s = step.forward_s * backward;
  step.other_s = other_s;
  step.micro_steps = std::max(1.0, w.grad_accum.value_or(1));
  return step;
}

Result<StrategyStep> predict_strategy(std::string_view strategy, std::int64_t ranks,
                                      const Workload& w, const MeasuredStep& step,
                                      const LinkKnown& link) {
  using namespace plan;
  RW_TRY(const Layout layout, layout_of(strategy, ranks));
  StrategyStep out;
  out.strategy = std::string(strategy);
  out.ranks = layout.ranks();
  if (layout.ranks() == 1) {  // single, and parts of one process that take turns
    const double repeat = repeat_frac(step);
    out.compute_s = {step.compute_s(), (1 - repeat) * step.compute_s(),
                     (1 + repeat) * step.compute_s()};
    if (layout.split > 1) out.compute_s.value *= 1.01, out.compute_s.high *= 1.08;
    const double rest = step.other_s;
    out.step_s = {out.compute_s.value + rest, out.compute_s.low + rest, out.compute_s.high + rest};
    return out;
  }
  if (auto error = impossible_layout(layout, w)) return *std::move(error);
  const auto shared = shared_micro_steps(w, static_cast<double>(layout.data));
  if (!shared) {
    const double rows = w.micro_batch.value_or(1) * w.grad_accum.value_or(1);
    return Error{Errc::unavailable,
                 "a batch of " + number_text(rows) + (rows > 1 ? " rows" : " row") +
                     " cannot be shared by " + std::to_string(layout.data) + " GPUs",
                 "a larger global batch, if the task allows it"};
  }
  const Work work(w);
  const Interval rate = transfer_s(link, Transfer::all_reduce, std::max(1.0, work.gradients),
                                   static_cast<double>(layout.ranks()));
  const Interval bytes = gradient_bytes(w).bytes;
  const bool by_gradients = !layout.sharded && layout.tensor * layout.pipeline == 1;
  const auto played = [&](const Guess& guess, double scale) {
    return play(layout, {work, step, link, guess, shared->count, scale});
  };
  const double widen = link.measured ? 1.0 : 1.15;  // nobody measured it on this rig
  const double less = by_gradients ? bytes.low / bytes.value : 1;
  const double more = by_gradients ? bytes.high / bytes.value : 1;
  const Play usual = played({1, &Interval::value}, shared->scale.value);
  const Play best =
      played({less * rate.low / rate.value / widen, &Interval::high}, shared->scale.value);
  const Play worst =
      played({more * rate.high / rate.value * widen, &Interval::low}, shared->scale.value);
  const Interval together = link.together_factor.value_or(Interval{1, 1, 1});
  const Interval cut = cut_factor(layout);
  const auto compute = [&](double share, double cut_by, double together_by) {
    return played({1, &Interval::value}, share).compute_s * cut_by * together_by;
  };
  out.compute_s = {compute(shared->scale.value, cut.value, together.value),
                   compute(shared->scale.low, cut.low, together.low),
                   compute(shared->scale.high, cut.high, together.high)};
  // the slower rank of each step is waited for
  const double busy = out.compute_s.value;
  const double tail = transfer_s(link, Transfer::all_reduce, 16, 2).value;  // loss and norm
  out.exposed_s = {usual.exposed_s + 0.03 * busy + tail, best.exposed_s + 0.005 * busy,
                   worst.exposed_s + 0.10 * busy + 2 * tail};
  out.exposed_s.low = std::min(out.exposed_s.low, out.exposed_s.value);
  out.sent_bytes = usual.sent_bytes;
  out.assumed =
      !link.measured || !step.phases_measured || (by_gradients && gradient_bytes(w).assumed);
  const double value = out.compute_s.value + out.exposed_s.value + step.other_s;
  const double repeat = repeat_frac(step) * value;
  out.step_s = {value,
                value - std::hypot(out.compute_s.value - out.compute_s.low,
                                   out.exposed_s.value - out.exposed_s.low, repeat),
                value + std::hypot(out.compute_s.high - out.compute_s.value,
                                   out.exposed_s.high - out.exposed_s.value, repeat)};
  return out;
}

std::vector<StrategyStep> order_strategies(const std::vector<std::string>& strategies,
                                           std::int64_t ranks, const Workload& workload,
                                           const MeasuredStep& step, const LinkKnown& link) {
  std::vector<StrategyStep> order;
  for (const auto& name : strategies) {
    auto predicted = predict_strategy(name, ranks, workload, step, link);
    if (predicted) {
      order.push_back(std::move(*predicted));
    } else {
      order.push_back({.strategy = name, .ranks = ranks, .refused = predicted.error().message});
    }
  }
  std::stable_sort(order.begin(), order.end(), [](const StrategyStep& a, const StrategyStep& b) {
    if (a.refused.empty() != b.refused.empty()) return a.refused.empty();
    return a.refused.empty() && a.step_s.value < b.step_s.value;
  });
  return order;
}

std::optional<OrderJudged> judge_order(
    const std::vector<StrategyStep>& predicted,
    const std::vector<std::pair<std::string, double>>& measured) {
  struct Both {
    std::string name;
    double predicted_s, measured_s;
  };
  std::vector<Both> both;
  for (const auto& one : predicted) {
    if (!one.refused.empty()) continue;
    for (const auto& [name, step_s] : measured) {
      if (name == one.strategy && step_s > 0) both.push_back({name, one.step_s.value, step_s});
    }
  }
  if (both.empty()) return std::nullopt;
  const auto by = [&](double Both::*field) {
    return *std::min_element(both.begin(), both.end(),
                             [field](const Both& a, const Both& b) { return a.*field < b.*field; });
  };
  const Both first = by(&Both::predicted_s), best = by(&Both::measured_s);
  OrderJudged judged{first.name, best.name, first.measured_s / best.measured_s - 1, {}};
  double concordant = 0, pairs = 0;
  for (std::size_t i = 0; i < both.size(); ++i) {
    for (std::size_t j = i + 1; j < both.size(); ++j) {
      const double p = both[i].predicted_s - both[j].predicted_s;
      const double m = both[i].measured_s - both[j].measured_s;
      concordant += p * m > 0 ? 1 : p * m < 0 ? -1 : 0;
      ++pairs;
    }
  }
  if (pairs > 0) judged.kendall_tau = concordant / pairs;
  return judged;
}

}  // namespace rigwise
