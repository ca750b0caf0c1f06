#include "engine/model/linear.h"

#include "engine/autograd.h"

#define XXH_INLINE_ALL
#include <ATen/CPUGeneratorImpl.h>
#include <xxhash.h>

namespace rigwise::engine {
namespace {

at::Tensor in_type(const at::Tensor& x, at::ScalarType dtype) {
  return x.defined() && x.scalar_type() != dtype ? x.to(dtype) : x;
}

}  // namespace

/// Inputs that are absent take no part: a frozen matrix is not one of them, it is read from the
/// layer when it is needed, so that the graph keeps neither it nor x for its sake.
struct LinearNode : Function<LinearNode> {
  using Maybe = std::optional<at::Tensor>;

  static Variable forward(AutogradContext* ctx, const Variable& x, const Maybe& trained,
                          const Maybe& bias, const Maybe& a_or_none, const Maybe& b_or_none,
                          const Linear* layer, const Maybe& mask_or_none) {
    const at::Tensor a = a_or_none.value_or(at::Tensor()), b = b_or_none.value_or(at::Tensor()),
                     mask = mask_or_none.value_or(at::Tensor());
    const at::ScalarType dtype = x.scalar_type();
    at::Tensor y = layer->forward_product(x, bias);
    at::Tensor h, dropped;
    if (a.defined()) {
      dropped = mask.defined() ? x * mask : x;
      h = at::mm(dropped, in_type(a, dtype).t());
      y.addmm_(h, in_type(b, dtype).t(), 1, layer->lora->scale);
    }
    ctx->save_for_backward({trained ? x : at::Tensor(), dropped, h, a, b, mask});
    ctx->saved_data["bias"] = bias && bias->requires_grad();
    ctx->saved_data["layer"] = reinterpret_cast<std::int64_t>(layer);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &dropped = saved[1], &h = saved[2], &a = saved[3],
                     &b = saved[4], &mask = saved[5];
    const auto* layer = reinterpret_cast<const Linear*>(ctx->saved_data["layer"].toInt());
    const at::Tensor gy = grads[0].contiguous();
    const at::ScalarType dtype = gy.scalar_type();
    at::Tensor gx, gw, gbias, ga, gb;
    if (ctx->needs_input_grad(0)) gx = layer->backward_product(gy);
    if (x.defined()) gw = layer->transposed ? at::mm(x.t(), gy) : at::mm(gy.t(), x);
    if (ctx->saved_data["bias"].toBool()) gbias = gy.sum(0);
    if (a.defined()) {
      const double scale = layer->lora->scale;
      const at::Tensor gh = at::mm(gy, in_type(b, dtype)).mul_(scale);
      gb = at::mm(gy.t(), h).mul_(scale).to(b.scalar_type());
      ga = at::mm(gh.t(), dropped).to(a.scalar_type());
      if (gx.defined()) {
        if (mask.defined()) {
          gx.addcmul_(at::mm(gh, in_type(a, dtype)), mask);
        } else {
          gx.addmm_(gh, in_type(a, dtype));
        }
      }
    }
    return {gx, gw, gbias, ga, gb, Variable(), Variable()};
  }
};

void Linear::pack(std::int64_t rows, bool backward) {
  if (nf4 || weight->trainable || packed.matrix.defined() ||
      !can_pack(weight->value.device(), weight->value.scalar_type())) {
    return;
  }
  const at::Tensor w_OI = matrix(weight->value.scalar_type());
  if (backward) packed.transposed = pack_matrix(w_OI.t(), rows);
  packed.matrix = pack_matrix(w_OI, rows);
  weight->value = at::Tensor();
}

at::Tensor Linear::forward_product(const at::Tensor& x_NI,
                                   const std::optional<at::Tensor>& bias_O) const {
  const at::ScalarType dtype = x_NI.scalar_type();
  std::optional<at::Tensor> typed = bias_O;
  if (typed) typed = in_type(*typed, dtype);
  if (packed.matrix.defined()) return times_packed(x_NI, packed.matrix, typed);
  const at::Tensor w_IO = matrix(dtype).t();
  return typed ? at::addmm(*typed, x_NI, w_IO) : at::mm(x_NI, w_IO);
}

at::Tensor Linear::backward_product(const at::Tensor& gy_NO) const {
  if (packed.transposed.defined()) return times_packed(gy_NO, packed.transposed);
  return at::mm(gy_NO, matrix(gy_NO.scalar_type()));
}

at::Tensor Linear::matrix(at::ScalarType dtype) const {
  if (nf4) return dequantise_nf4(weight->value, *nf4, dtype);
  const at::Tensor w = in_type(weight->value, dtype);
  return transposed ? w.t() : w;
}

at::Tensor Linear::operator()(const at::Tensor& x_NI, const DropoutKey* dropout) const {
  return apply(x_NI, bias != nullptr ? std::optional(bias->value) : std::nullopt, dropout);
}

at::Tensor Linear::without_bias(const at::Tensor& x_NI, const DropoutKey* dropout) const {
  return apply(x_NI, std::nullopt, dropout);
}

at::Tensor Linear::apply(const at::Tensor& x_NI, const std::optional<at::Tensor>& bias_O,
                         const DropoutKey* dropout) const {
  std::optional<at::Tensor> trained, a, b, mask;
  if (weight->trainable) trained = weight->value;
  if (lora) a = lora->a->value, b = lora->b->value;
  if (lora && lora->dropout > 0 && dropout != nullptr) {
    mask = dropout_mask(*dropout, module, lora->dropout, x_NI, lora->a->shape[1], lora->a->cut);
  }
  return LinearNode::apply(x_NI, trained, bias_O, a, b, this, mask);
}

at::Tensor dropout_mask(const DropoutKey& key, std::string_view module, double p,
                        const at::Tensor& x_NI, std::int64_t inputs,
                        const std::optional<Cut>& cut) {
  const at::NoGradGuard no_grad;
  const auto windows = static_cast<std::int64_t>(key.windows.size());
  const std::int64_t length = x_NI.size(0) / windows;
  const std::uint64_t of_layer = XXH3_64bits_withSeed(module.data(), module.size(), key.seed);
  std::vector<at::Tensor> rows;
  for (const std::int64_t window : key.windows) {
    const std::uint64_t words[] = {of_layer, key.step, static_cast<std::uint64_t>(window)};
    // Drawn on the CPU so that every device and every part of a cut layer sees the same numbers.
    at::Generator generator = at::detail::createCPUGenerator(XXH3_64bits(words, sizeof words));
    at::Tensor keep = at::empty({length, inputs}, at::kFloat);
    keep.bernoulli_(1 - p, generator);
    rows.push_back(part_of(keep, cut));
  }
  return at::cat(rows, 0).mul_(1 / (1 - p)).to(x_NI.options());
}

}  // namespace rigwise::engine
