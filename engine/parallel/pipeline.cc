#include "engine/parallel/pipeline.h"

#include <algorithm>

namespace rigwise::engine {
namespace {

constexpr int kForwardTag = 1, kBackwardTag = 2;

class Stage {
 public:
  Stage(const PipelineStep& step, const std::vector<MicroBatch>& micros, double scale)
      : step_(step), micros_(micros), scale_(scale), runs_(micros.size()) {}

  double run() {
    const int stage = step_.group->rank(), stages = step_.group->size();
    for (const Pass& pass : schedule_passes(step_.schedule, stage, stages, micros_.size())) {
      if (pass.backward) {
        backward(pass.micro);
      } else {
        forward(pass.micro);
      }
    }
    const Waiting waiting(step_.clock);
    for (Sent& sent : sent_) sent.pending.wait();
    return loss_;
  }

 private:
  struct Run {
    at::Tensor input, output;
  };
  /// Transfers are only started: two neighbours that each waited for the other to take what they
  /// send would wait for ever.
  struct Sent {
    at::Tensor tensor;
    Pending pending;
  };

  [[nodiscard]] bool first() const { return step_.group->rank() == 0; }
  [[nodiscard]] bool last() const { return step_.group->rank() + 1 == step_.group->size(); }

  void enter(Phase phase) const {
    if (step_.clock != nullptr) step_.clock->enter(phase);
  }

  at::Tensor receive(std::int64_t tokens, int peer, int tag) const {
    at::Tensor x = at::empty({tokens, step_.model->config().hidden_size},
                             at::TensorOptions(step_.group->device()).dtype(step_.dtype));
    const Waiting waiting(step_.clock);
    step_.group->recv(x, peer, tag).wait();
    return x;
  }

  void send(const at::Tensor& x, int peer, int tag) {
    at::Tensor dense = x.detach().contiguous();
    Pending pending = step_.group->send(dense, peer, tag);
    sent_.push_back({std::move(dense), std::move(pending)});
  }

  void forward(std::size_t micro) {
    const MicroBatch& batch = micros_[micro];
    Run& run = runs_[micro];
    enter(Phase::forward);
    if (!first()) {
      run.input = receive(batch.ids.numel(), step_.group->rank() - 1, kForwardTag);
      run.input.set_requires_grad(true);
    }
    run.output = step_.model->hidden(batch, run.input);
    if (last()) {
      run.output = step_.model->loss(run.output, batch, scale_);
      loss_ += run.output.item<double>();
    } else {
      send(run.output, step_.group->rank() + 1, kForwardTag);
    }
  }

  void backward(std::size_t micro) {
    Run& run = runs_[micro];
    enter(Phase::backward);
    at::Tensor gradient;
    if (!last()) {
      gradient = receive(micros_[micro].ids.numel(), step_.group->rank() + 1, kBackwardTag);
    }
    const bool last_micro = micro + 1 == micros_.size();
    step_.before_backward(last_micro);
    if (run.output.requires_grad()) torch::autograd::backward({run.output}, {gradient});
    step_.after_backward(last_micro);
    if (!first()) {
      const at::Tensor input_gradient =
          run.input.grad().defined() ? run.input.grad() : at::zeros_like(run.input);
      send(input_gradient, step_.group->rank() - 1, kBackwardTag);
    }
    run = Run{};
  }

  const PipelineStep& step_;
  const std::vector<MicroBatch>& micros_;
  double scale_;
  std::vector<Run> runs_;
  std::vector<Sent> sent_;
  double loss_ = 0;
};

}  // namespace

std::vector<Pass> schedule_passes(Schedule schedule, int stage, int stages, std::size_t micros) {
  const std::size_t ahead = schedule == Schedule::gpipe
                                ? micros
                                : std::min(micros, static_cast<std::size_t>(stages - 1 - stage));
  std::vector<Pass> passes;
  for (std::size_t i = 0; i < ahead; ++i) passes.push_back({i, false});
  for (std::size_t i = 0; i < micros; ++i) {
    if (ahead + i < micros) passes.push_back({ahead + i, false});
    passes.push_back({i, true});
  }
  return passes;
}

double run_pipeline(const PipelineStep& step, const std::vector<MicroBatch>& micro_batches,
                    double scale) {
  return Stage(step, micro_batches, scale).run();
}

}  // namespace rigwise::engine
