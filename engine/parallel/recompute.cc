#include "engine/parallel/recompute.h"

#include <ATen/core/ivalue.h>

#include "engine/autograd.h"

namespace rigwise::engine {
namespace {

/// What the second computation needs beside x.
struct Again : torch::CustomClassHolder {
  Again(const Block& b, const BlockInput& i, std::shared_ptr<const BlockHooks> h)
      : block(&b), input(i), hooks(std::move(h)) {}
  const Block* block;
  BlockInput input;
  std::shared_ptr<const BlockHooks> hooks;

  at::Tensor run(const at::Tensor& x, bool again) const {
    if (hooks->before) hooks->before(*block, again);
    at::Tensor y = (*block)(x, input);
    if (!again && hooks->after) hooks->after(*block, again);
    return y;
  }
};

struct Recomputed : Function<Recomputed> {
  /// `anchor` takes part only so that the node has a backward pass when x is of a frozen embedding.
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& /*anchor*/,
                          const c10::intrusive_ptr<Again>& again) {
    ctx->save_for_backward({x});
    ctx->saved_data["wanted"] = x.requires_grad();
    ctx->saved_data["again"] = c10::IValue::make_capsule(again);
    return again->run(x, false);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto again =
        c10::static_intrusive_pointer_cast<Again>(ctx->saved_data["again"].toCapsule());
    const at::AutoGradMode grad_mode(true);
    at::Tensor x = ctx->get_saved_variables()[0].detach();
    x.set_requires_grad(ctx->saved_data["wanted"].toBool());
    const at::Tensor y = again->run(x, true);
    // The gradients of the block's own parameters arrive at them from within.
    if (y.requires_grad()) torch::autograd::backward({y}, {grads[0]});
    if (again->hooks->after) again->hooks->after(*again->block, true);
    return {x.grad(), Variable(), Variable()};
  }
};

}  // namespace

BlockRunner recompute_blocks(BlockHooks hooks) {
  const auto shared = std::make_shared<const BlockHooks>(std::move(hooks));
  return [shared](const Block& block, const at::Tensor& x, const BlockInput& input) {
    const auto again = c10::make_intrusive<Again>(block, input, shared);
    if (!at::GradMode::is_enabled()) return again->run(x, false);
    const at::Tensor anchor = at::zeros({}, at::kFloat).set_requires_grad(true);
    return Recomputed::apply(x, anchor, again);
  };
}

}  // namespace rigwise::engine
