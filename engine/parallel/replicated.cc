#include <algorithm>

#include "engine/parallel/replicas.h"

namespace rigwise::engine {
namespace {

/// Large enough that a transfer is not mostly its start, small enough that the first can leave
/// while most of the backward pass is still to come.
constexpr std::int64_t kBucketBytes = std::int64_t{4} << 20;
constexpr std::int64_t kAlign = 16;  // elements

class Replicated final : public Replicas {
 public:
  Replicated(Model& model, std::shared_ptr<Comm> group, StepClock* clock)
      : group_(std::move(group)), clock_(clock) {
    // Gradients come in the reverse order of the computation.
    std::vector<Parameter*> trained;
    for (Parameter* parameter : model.parameters()) {
      if (parameter->trainable) trained.push_back(parameter);
    }
    std::ranges::reverse(trained);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) lay_out(trained, type);
    if (group_->size() > 1) watch();
  }

  void begin_step() override {
    for (Flat& flat : flats_) flat.gradients.zero_();
  }

  void begin_micro(bool last) override {
    armed_ = last && group_->size() > 1;
    if (armed_) {
      for (Bucket& bucket : buckets_) bucket.missing = bucket.parameters;
    }
  }

  void end_micro(bool /*last*/) override {}

  void finish() override {
    // A parameter that no token of this rank touched has sent nothing: its bucket leaves now.
    for (Bucket& bucket : buckets_) {
      if (bucket.missing > 0) send(bucket);
    }
    const Waiting waiting(clock_);
    for (Bucket& bucket : buckets_) bucket.sum.wait();
    armed_ = false;
  }

  std::vector<Piece>& pieces() override { return pieces_; }

 private:
  /// All trained values of one type side by side, and their gradients likewise: autograd adds into
  /// the views, transfers and updates run over the whole.
  struct Flat {
    at::Tensor values, gradients;
  };
  struct Bucket {
    at::Tensor gradients;
    int parameters = 0, missing = 0;
    Pending sum = {};
  };
  struct Arrived : torch::autograd::FunctionPostHook {
    Arrived(Replicated* owner, std::size_t index) : replicas(owner), bucket(index) {}
    torch::autograd::variable_list operator()(
        const torch::autograd::variable_list& outputs,
        const torch::autograd::variable_list& /*inputs*/) override {
      replicas->arrived(bucket);
      return outputs;
    }
    Replicated* replicas;
    std::size_t bucket;
  };

  void lay_out(const std::vector<Parameter*>& trained, at::ScalarType type) {
    const at::NoGradGuard no_grad;
    std::vector<Parameter*> mine;
    std::vector<std::int64_t> offsets;
    std::int64_t total = 0;
    for (Parameter* parameter : trained) {
      if (parameter->value.scalar_type() != type) continue;
      mine.push_back(parameter);
      offsets.push_back(total);
      total += (parameter->value.numel() + kAlign - 1) / kAlign * kAlign;
    }
    if (mine.empty()) return;
    const at::TensorOptions options = mine[0]->value.options().requires_grad(false);
    Flat flat{.values = at::zeros({total}, options), .gradients = at::zeros({total}, options)};
    std::int64_t bucket_begin = 0;
    for (std::size_t i = 0; i < mine.size(); ++i) {
      Parameter& parameter = *mine[i];
      const std::int64_t size = parameter.value.numel();
      const std::vector<std::int64_t> shape = parameter.value.sizes().vec();
      Piece piece{.parameter = &parameter, .end = size};
      piece.value = flat.values.narrow(0, offsets[i], size);
      piece.gradient = flat.gradients.narrow(0, offsets[i], size);
      piece.value.copy_(parameter.value.flatten());
      parameter.value = piece.value.view(shape).detach().set_requires_grad(true);
      parameter.value.mutable_grad() = piece.gradient.view(shape);
      pieces_.push_back(std::move(piece));
      const std::int64_t end = i + 1 < mine.size() ? offsets[i + 1] : total;
      const std::int64_t elements = end - bucket_begin;
      ++filling_.parameters;
      bucket_of_.push_back(buckets_.size());
      if (elements * flat.values.element_size() >= kBucketBytes || i + 1 == mine.size()) {
        filling_.gradients = flat.gradients.narrow(0, bucket_begin, elements);
        buckets_.push_back(std::move(filling_));
        filling_ = Bucket{};
        bucket_begin = end;
      }
    }
    flats_.push_back(std::move(flat));
  }

  void watch() {
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      auto node = torch::autograd::impl::grad_accumulator(pieces_[i].parameter->value);
      node->add_post_hook(std::make_unique<Arrived>(this, bucket_of_[i]));
      accumulators_.push_back(std::move(node));
    }
  }

  void arrived(std::size_t index) {
    if (!armed_) return;
    Bucket& bucket = buckets_[index];
    if (--bucket.missing == 0) send(bucket);
  }

  void send(Bucket& bucket) {
    bucket.missing = 0;
    bucket.sum = group_->all_reduce(bucket.gradients);
  }

  std::shared_ptr<Comm> group_;
  StepClock* clock_;
  std::vector<Flat> flats_;
  std::vector<Piece> pieces_;
  std::vector<Bucket> buckets_;
  std::vector<std::size_t> bucket_of_;  // of each piece
  Bucket filling_;
  std::vector<decltype(torch::autograd::impl::grad_accumulator(at::Tensor()))> accumulators_;
  bool armed_ = false;
};

}  // namespace

std::unique_ptr<Replicas> make_replicated(Model& model, const std::shared_ptr<Comm>& group,
                                          StepClock* clock) {
  return std::make_unique<Replicated>(model, group, clock);
}

}  // namespace rigwise::engine
