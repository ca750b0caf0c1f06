#include "engine/parallel/tensor.h"

#include "engine/autograd.h"

namespace rigwise::engine {
namespace {

struct Group {
  std::shared_ptr<Comm> comm;
  StepClock* clock;

  [[nodiscard]] at::Tensor sum(const at::Tensor& x) const {
    at::Tensor out = x.contiguous().clone();
    const Waiting waiting(clock);
    comm->all_reduce(out).wait();
    return out;
  }
};

/// Every rank goes on with the same x; what their parts say of its gradient is summed.
struct Enter : Function<Enter> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Group* group) {
    ctx->saved_data["group"] = reinterpret_cast<std::int64_t>(group);
    return x.view_as(x);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto* group = reinterpret_cast<const Group*>(ctx->saved_data["group"].toInt());
    return {group->sum(grads[0]), Variable()};
  }
};

/// Sums the ranks' parts; all of them get the same gradient.
struct Leave : Function<Leave> {
  static Variable forward(AutogradContext* /*ctx*/, const Variable& x, const Group* group) {
    return group->sum(x);
  }
  static variable_list backward(AutogradContext* /*ctx*/, const variable_list& grads) {
    return {grads[0], Variable()};
  }
};

class Cutter {
 public:
  Cutter(int rank, int size) : rank_(rank), size_(size) {}

  /// This rank's 1/size of each of `parts` (sizes that sum to the dim).
  [[nodiscard]] Cut share(std::int64_t dim, const std::vector<std::int64_t>& parts) const {
    Cut cut{.dim = dim};
    std::int64_t at = 0;
    for (const std::int64_t part : parts) {
      cut.ranges.emplace_back(at + part * rank_ / size_, at + part * (rank_ + 1) / size_);
      at += part;
    }
    return cut;
  }

  /// By outputs: the next layer continues with this rank's columns.
  void by_outputs(Linear& layer, const std::vector<std::int64_t>& parts) const {
    layer.weight->cut = share(layer.transposed ? 1 : 0, parts);
    if (layer.bias != nullptr) layer.bias->cut = share(0, parts);
    if (layer.lora) {
      layer.lora->b->cut = share(0, parts);
      layer.lora->a->partial_gradient = true;  // each rank's outputs speak of it
    }
  }

  /// By inputs: the results of the ranks are summands. The bias is added to their sum.
  void by_inputs(Linear& layer) const {
    const std::int64_t dim = layer.transposed ? 0 : 1;
    const std::vector<std::int64_t> inputs = {layer.weight->shape[static_cast<std::size_t>(dim)]};
    layer.weight->cut = share(dim, inputs);
    if (layer.lora) {
      layer.lora->a->cut = share(1, inputs);
      layer.lora->b->partial_gradient = true;
    }
  }

 private:
  int rank_, size_;
};

}  // namespace

void part_by_tensor(Model& model, const std::shared_ptr<Comm>& comm, StepClock* clock) {
  if (comm->size() == 1) return;
  const auto group = std::make_shared<Group>(Group{comm, clock});
  const Cutter cutter(comm->rank(), comm->size());
  for (const std::unique_ptr<Block>& block : model.blocks()) {
    const std::int64_t q = block->heads * block->head_dim, kv = block->kv_heads * block->head_dim;
    if (block->qkv.size() == 1) {
      cutter.by_outputs(block->qkv[0], {q, kv, kv});
    } else {
      cutter.by_outputs(block->qkv[0], {q});
      cutter.by_outputs(block->qkv[1], {kv});
      cutter.by_outputs(block->qkv[2], {kv});
    }
    cutter.by_inputs(block->out);
    for (Linear& layer : block->mlp_in) {
      cutter.by_outputs(layer, {layer.weight->shape[layer.transposed ? 1 : 0]});
    }
    cutter.by_inputs(block->mlp_out);
    if (block->q_norm) {
      block->q_norm->weight->partial_gradient = block->k_norm->weight->partial_gradient = true;
    }
    block->heads /= comm->size();
    block->kv_heads /= comm->size();
    block->enter = [group](const at::Tensor& x) { return Enter::apply(x, group.get()); };
    block->leave = [group](const at::Tensor& x) { return Leave::apply(x, group.get()); };
  }
}

}  // namespace rigwise::engine
