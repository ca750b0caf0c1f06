#include "engine/parallel/distributed_model.h"

#include <c10/util/accumulate.h>
#include <fmt/format.h>

#include <cmath>

#include "engine/model/lora.h"
#include "engine/parallel/recompute.h"
#include "engine/parallel/tensor.h"

namespace rigwise::engine {
namespace {

/// Returns the fingerprint of what was read.
Result<std::string> load(Model& model, const ModelOptions& options,
                         const std::function<void(Block&)>& on_block) {
  RW_TRY(const ModelFolder folder, ModelFolder::open(options.model));
  const LoadOptions load{
      .dtype = options.dtype,
      .storage = options.method == Method::qlora ? options.quantised : Storage::full,
      .on_block = on_block};
  RW_CHECK(load_weights(model, folder, load));
  return folder.fingerprint();
}

void train_everything(Model& model) {
  for (Parameter* parameter : model.parameters()) {
    parameter->trainable = true;
    if (parameter->value.defined()) parameter->value.set_requires_grad(true);
  }
}

}  // namespace

Result<std::unique_ptr<DistributedModel>> DistributedModel::make(
    const ModelOptions& options, const std::shared_ptr<Comm>& world) {
  std::unique_ptr<DistributedModel> made(
      new DistributedModel(options, make_mesh(options.layout, world), options.devices[0]));
  RW_CHECK(made->describe());
  RW_CHECK(made->part());
  RW_CHECK(made->fill());
  prepare_moments(made->pieces());
  return made;
}

Status DistributedModel::describe() {
  RW_TRY(const ModelConfig config, read_model_config(options_.model));
  if (options_.longest > config.max_positions) {
    return Error{Errc::usage,
                 fmt::format("windows of {} tokens, but the model knows {} positions "
                             "(max_position_embeddings)",
                             options_.longest, config.max_positions),
                 fmt::format("--seq {} or less", config.max_positions)};
  }
  if (config.quantization && options_.method == Method::full) {
    return Error{Errc::usage,
                 fmt::format("{}: its matrices are 4-bit, which cannot be trained themselves",
                             options_.model.string()),
                 "--method qlora trains adapters on them"};
  }
  RW_CHECK(check_layout(options_.layout, config));
  model_ = Model::describe(config);
  model_->set_longest(options_.longest);
  if (options_.method == Method::full) {
    train_everything(*model_);
  } else {
    RW_CHECK(add_lora(*model_, options_.adapter));
  }
  for (const Parameter* parameter : model_->parameters()) {
    all_elements_ += parameter->elements();
    if (!parameter->trainable) continue;
    trained_elements_ += parameter->elements();
    trained_.push_back({.name = parameter->name, .shape = parameter->shape});
  }
  return Ok{};
}

Status DistributedModel::part() {
  const Layout& layout = options_.layout;
  const ModelConfig& config = model_->config();
  const int stages = std::max(layout.pipeline, layout.split);
  RW_TRY(const auto bounds, stage_bounds(config.layers, stages, options_.stage_layers));
  if (layout.pipeline > 1) {
    const int stage = mesh_.pipeline->rank();
    const auto [first, last] = bounds[static_cast<std::size_t>(stage)];
    model_->keep_only(first, last, mesh_.first_stage(), mesh_.last_stage());
    const bool end = mesh_.first_stage() || mesh_.last_stage();
    if (config.tie_embeddings && options_.method == Method::full) {
      tied_ends_ = mesh_.pipeline->split(end ? 0 : -1);
      tied_ = trained_.front().name;  // the embedding is described first
    }
  }
  part_by_tensor(*model_, mesh_.tensor, &clock_);
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    const at::Device device = options_.devices[i % options_.devices.size()];
    for (const std::unique_ptr<Block>& block : model_->blocks()) {
      if (block->index >= bounds[i].first && block->index < bounds[i].second) {
        model_->place(*block, layout.split > 1 ? device : options_.devices[0]);
      }
    }
  }
  model_->place_rest(options_.devices[0]);
  return Ok{};
}

Status DistributedModel::fill() {
  if (options_.method != Method::full) {
    if (options_.adapter_from) {
      RW_CHECK(load_lora(*model_, *options_.adapter_from));
    } else {
      init_lora(*model_, options_.seed);
    }
  }
  if (options_.layout.sharded) {
    std::unique_ptr<Sharded> sharded = Sharded::make(*model_, mesh_.data, &clock_);
    RW_TRY(base_fingerprint_, load(*model_, options_, [&](Block& b) { sharded->shard(b); }));
    sharded->shard_rest();
    replicas_ = std::move(sharded);
    return Ok{};
  }
  RW_TRY(base_fingerprint_, load(*model_, options_, {}));
  if (options_.method == Method::full) train_everything(*model_);
  if (options_.recompute) model_->set_runner(recompute_blocks());
  model_->pack(options_.rows, /*backward=*/true);
  replicas_ = make_replicated(*model_, mesh_.data, &clock_);
  return Ok{};
}

DistributedModel::Outcome DistributedModel::gradients(const std::vector<MicroBatch>& micro_batches,
                                                      double scale) {
  replicas_->begin_step();
  const double loss = mesh_.pipeline->size() > 1 ? run_staged(micro_batches, scale)
                                                 : run_plain(micro_batches, scale);
  replicas_->finish();
  sum_partial_gradients();
  sum_tied_gradients();
  return sum_outcome(loss);
}

double DistributedModel::run_plain(const std::vector<MicroBatch>& micro_batches, double scale) {
  at::Tensor total = at::zeros({}, at::TensorOptions(options_.devices[0]).dtype(at::kDouble));
  for (std::size_t i = 0; i < micro_batches.size(); ++i) {
    const bool last = i + 1 == micro_batches.size();
    replicas_->begin_micro(last);
    clock_.enter(Phase::forward);
    const MicroBatch& batch = micro_batches[i];
    const at::Tensor loss = model_->loss(model_->hidden(batch), batch, scale);
    total += loss.detach().to(total.options());
    clock_.enter(Phase::backward);
    loss.backward();
    replicas_->end_micro(last);
  }
  return total.item<double>();
}

double DistributedModel::run_staged(const std::vector<MicroBatch>& micro_batches, double scale) {
  const PipelineStep step{.model = model_.get(),
                          .group = mesh_.pipeline,
                          .schedule = options_.schedule,
                          .dtype = options_.dtype,
                          .clock = &clock_,
                          .before_backward = [this](bool last) { replicas_->begin_micro(last); },
                          .after_backward = [this](bool last) { replicas_->end_micro(last); }};
  return run_pipeline(step, micro_batches, scale);
}

/// Parameters that every rank of a tensor group holds whole, inside the part that is shared out.
void DistributedModel::sum_partial_gradients() {
  if (mesh_.tensor->size() == 1) return;
  std::vector<at::Tensor> partial;
  for (const Piece& piece : pieces()) {
    if (piece.parameter->partial_gradient) partial.push_back(piece.gradient);
  }
  if (partial.empty()) return;
  const Waiting waiting(&clock_);
  at::Tensor flat = at::cat(partial);
  mesh_.tensor->all_reduce(flat).wait();
  std::int64_t at = 0;
  for (at::Tensor& gradient : partial) {
    gradient.copy_(flat.narrow(0, at, gradient.numel()));
    at += gradient.numel();
  }
}

/// An embedding that is also the head, when the two are on different stages.
void DistributedModel::sum_tied_gradients() {
  if (!tied_ends_) return;
  for (Piece& piece : pieces()) {
    if (piece.parameter->name != tied_) continue;
    const Waiting waiting(&clock_);
    tied_ends_->all_reduce(piece.gradient).wait();
  }
}

DistributedModel::Outcome DistributedModel::sum_outcome(double loss) {
  double squares = squared_norm(pieces(), [this](const Piece& piece) { return owns(piece); });
  if (mesh_.world->size() > 1) {
    const Waiting waiting(&clock_);
    at::Tensor sums = at::tensor({mesh_.tensor->rank() == 0 ? loss : 0.0, squares}, at::kDouble)
                          .to(mesh_.world->device());
    mesh_.world->all_reduce(sums).wait();
    loss = sums[0].item<double>();
    squares = sums[1].item<double>();
  }
  return {.loss = loss, .gradient_norm = std::sqrt(squares)};
}

bool DistributedModel::owns(const Piece& piece) const {
  if (!options_.layout.sharded && mesh_.data->rank() != 0) return false;
  if (!piece.parameter->cut && mesh_.tensor->rank() != 0) return false;
  return piece.parameter->name != tied_ || mesh_.first_stage();
}

std::vector<NamedTensor> DistributedModel::gather(Part part) {
  const at::NoGradGuard no_grad;
  std::vector<NamedTensor> whole;
  const auto tensor_of = [&](const Piece& piece) -> at::Tensor {
    switch (part) {
      case Part::value:
        return piece.master.defined() ? piece.master : piece.value;
      case Part::gradient:
        return piece.gradient.to(at::kFloat);
      case Part::moment1:
        return piece.moment1;
      case Part::moment2:
        return piece.moment2;
    }
    return {};
  };
  for (const Trained& trained : trained_) {
    at::Tensor sum = at::zeros(trained.shape, at::kFloat);
    for (const Piece& piece : pieces()) {
      if (piece.parameter->name != trained.name || !owns(piece)) continue;
      const Parameter& parameter = *piece.parameter;
      at::Tensor local = at::zeros({c10::multiply_integers(parameter.local_shape())});
      local.narrow(0, piece.begin, piece.end - piece.begin).copy_(tensor_of(piece));
      local = local.view(parameter.local_shape());
      if (parameter.cut) {
        put_part(sum, local, *parameter.cut);
      } else {
        sum.copy_(local);
      }
    }
    // Every element is set on one rank and zero on the others: as integers their sum is exact.
    if (mesh_.world->size() > 1) {
      at::Tensor bits = sum.view(at::kInt).to(mesh_.world->device());
      mesh_.world->all_reduce(bits).wait();
      sum = bits.cpu().view(at::kFloat);
    }
    whole.push_back({.name = trained.name, .value = mesh_.world->rank() == 0 ? sum : at::Tensor()});
  }
  return whole;
}

Status DistributedModel::restore(
    Part part, const std::function<Result<at::Tensor>(const Parameter&)>& whole_of) {
  const at::NoGradGuard no_grad;
  for (Piece& piece : pieces()) {
    const Parameter& parameter = *piece.parameter;
    RW_TRY(const at::Tensor whole, whole_of(parameter));
    if (whole.sizes().vec() != parameter.shape) {
      return Error{Errc::malformed,
                   fmt::format("{} is {}, but the model asks for {}", parameter.name,
                               shape_text(whole.sizes().vec()), shape_text(parameter.shape)),
                   "the checkpoint is of another model or another --lora-rank"};
    }
    const at::Tensor mine = part_of(whole, parameter.cut)
                                .to(at::kFloat)
                                .contiguous()
                                .flatten()
                                .narrow(0, piece.begin, piece.end - piece.begin);
    if (part == Part::moment1) piece.moment1.copy_(mine);
    if (part == Part::moment2) piece.moment2.copy_(mine);
    if (part == Part::value) {
      piece.value.copy_(mine);
      if (piece.master.defined()) piece.master.copy_(mine);
    }
  }
  return Ok{};
}

}  // namespace rigwise::engine
