#include "engine/model/ops.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd.h"
#include "engine/model/kernels.h"

namespace rigwise::engine {
namespace {

constexpr std::int64_t kIgnored = -100;  // torch's ignore_index
/// Logits that exist at one time: 8 Mi, 32 MiB in fp32. Rows enough for a matrix product to run at
/// its full rate, few enough that the block stays near the caches.
constexpr std::int64_t kLogitsAtOnce = std::int64_t{8} << 20;

/// May the loops of kernels.h run on it?
bool plain(const at::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous();
}

/// Rows a thread, so that a task is worth its start.
std::int64_t grain(std::int64_t cols) {
  return std::max<std::int64_t>(1, 32768 / (cols + 1));
}

/// Row blocks whose number does not depend on the threads, so that sums over them do not either.
constexpr std::int64_t kRowBlocks = 16;

at::Tensor rms_norm_gradients(const at::Tensor& x, const at::Tensor& w, const at::Tensor& inverse,
                              const at::Tensor& gy, at::Tensor* gw) {
  const std::int64_t rows = x.size(0), cols = x.size(1);
  if (plain(x) && plain(w)) {
    const at::Tensor dense = gy.contiguous();
    at::Tensor gx = at::empty_like(x);
    at::Tensor parts = gw != nullptr ? at::zeros({kRowBlocks, cols}, x.options()) : at::Tensor();
    const float *px = x.const_data_ptr<float>(), *pw = w.const_data_ptr<float>(),
                *pi = inverse.const_data_ptr<float>(), *pg = dense.const_data_ptr<float>();
    float* out = gx.mutable_data_ptr<float>();
    float* sums = gw != nullptr ? parts.mutable_data_ptr<float>() : nullptr;
    at::parallel_for(0, kRowBlocks, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t b = first; b < last; ++b) {
        const std::int64_t from = rows * b / kRowBlocks, to = rows * (b + 1) / kRowBlocks;
        kernels::rms_norm_backward(px + from * cols, pw, pi + from, pg + from * cols,
                                   out + from * cols, sums != nullptr ? sums + b * cols : nullptr,
                                   to - from, cols);
      }
    });
    if (gw != nullptr) *gw = parts.sum(0);
    return gx;
  }
  const at::Tensor normed = x.to(at::kFloat) * inverse.unsqueeze(1);
  const at::Tensor g = gy.to(at::kFloat) * w.to(at::kFloat);
  if (gw != nullptr) *gw = (gy.to(at::kFloat) * normed).sum(0).to(w.scalar_type());
  const at::Tensor along = (g * normed).mean(1, /*keepdim=*/true);
  return ((g - normed * along) * inverse.unsqueeze(1)).to(x.scalar_type());
}

struct RmsNorm : Function<RmsNorm> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in, const Variable& w,
                          double eps) {
    const at::Tensor x = x_in.contiguous();
    const std::int64_t rows = x.size(0), cols = x.size(1);
    at::Tensor y, inverse;
    if (plain(x) && plain(w)) {
      y = at::empty_like(x);
      inverse = at::empty({rows}, x.options());
      const float *px = x.const_data_ptr<float>(), *pw = w.const_data_ptr<float>();
      float *py = y.mutable_data_ptr<float>(), *pi = inverse.mutable_data_ptr<float>();
      at::parallel_for(0, rows, grain(cols), [&](std::int64_t from, std::int64_t to) {
        kernels::rms_norm(px + from * cols, pw, py + from * cols, pi + from, to - from, cols,
                          static_cast<float>(eps));
      });
    } else {
      const at::Tensor wide = x.to(at::kFloat);
      inverse = at::rsqrt(wide.square().mean(1) + eps);
      y = w * (wide * inverse.unsqueeze(1)).to(x.scalar_type());
    }
    ctx->save_for_backward({x, w, inverse});
    return y;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    at::Tensor gw;
    at::Tensor gx = rms_norm_gradients(saved[0], saved[1], saved[2], grads[0],
                                       ctx->needs_input_grad(1) ? &gw : nullptr);
    return {gx, gw, Variable()};
  }
};

at::Tensor rotate_rows(const at::Tensor& x_NHC, const at::Tensor& cos, const at::Tensor& sin,
                       float direction) {
  const std::int64_t rows = x_NHC.size(0), heads = x_NHC.size(1), dim = x_NHC.size(2);
  const bool row_dense = x_NHC.stride(2) == 1 && x_NHC.stride(1) == dim;
  if (x_NHC.device().is_cpu() && x_NHC.scalar_type() == at::kFloat && row_dense) {
    at::Tensor y = at::empty({rows, heads, dim}, x_NHC.options());
    const float *px = x_NHC.const_data_ptr<float>(), *pc = cos.const_data_ptr<float>(),
                *ps = sin.const_data_ptr<float>();
    const std::int64_t stride = x_NHC.stride(0);
    float* py = y.mutable_data_ptr<float>();
    at::parallel_for(0, rows, grain(heads * dim), [&](std::int64_t from, std::int64_t to) {
      kernels::rotate(px + from * stride, stride, py + from * heads * dim, pc + from * dim / 2,
                      ps + from * dim / 2, to - from, heads, dim, direction);
    });
    return y;
  }
  const at::Tensor c = cos.unsqueeze(1).to(x_NHC.scalar_type());
  const at::Tensor s = (sin.unsqueeze(1) * direction).to(x_NHC.scalar_type());
  const at::Tensor a = x_NHC.narrow(2, 0, dim / 2), b = x_NHC.narrow(2, dim / 2, dim / 2);
  return at::cat({a * c - b * s, b * c + a * s}, 2);
}

struct Rotate : Function<Rotate> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& cos,
                          const Variable& sin) {
    ctx->save_for_backward({cos, sin});
    return rotate_rows(x, cos, sin, 1);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    return {rotate_rows(grads[0].contiguous(), saved[0], saved[1], -1), Variable(), Variable()};
  }
};

struct Swiglu : Function<Swiglu> {
  static Variable forward(AutogradContext* ctx, const Variable& gate_in, const Variable& up_in) {
    const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
    ctx->save_for_backward({gate, up});
    if (!plain(gate) || !plain(up)) return at::silu(gate) * up;
    at::Tensor y = at::empty_like(gate);
    const float *pg = gate.const_data_ptr<float>(), *pu = up.const_data_ptr<float>();
    float* py = y.mutable_data_ptr<float>();
    at::parallel_for(0, gate.numel(), 8192, [&](std::int64_t from, std::int64_t to) {
      kernels::swiglu(pg + from, pu + from, py + from, to - from);
    });
    return y;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1];
    const at::Tensor gy = grads[0].contiguous();
    if (!plain(gate) || !plain(gy)) {
      return {at::silu_backward(gy * up, gate), gy * at::silu(gate)};
    }
    at::Tensor ggate = at::empty_like(gate), gup = at::empty_like(up);
    const float *pg = gate.const_data_ptr<float>(), *pu = up.const_data_ptr<float>(),
                *py = gy.const_data_ptr<float>();
    float *og = ggate.mutable_data_ptr<float>(), *ou = gup.mutable_data_ptr<float>();
    at::parallel_for(0, gate.numel(), 8192, [&](std::int64_t from, std::int64_t to) {
      kernels::swiglu_backward(pg + from, pu + from, py + from, og + from, ou + from, to - from);
    });
    return {ggate, gup};
  }
};

/// A few rows of logits: their nll, and in place of the logits their gradient if it is wanted.
at::Tensor nll_of_rows(at::Tensor& logits_RV, const at::Tensor& targets_R, double scale,
                       bool gradient) {
  const std::int64_t rows = logits_RV.size(0), cols = logits_RV.size(1);
  if (plain(logits_RV)) {
    at::Tensor out = at::empty({rows}, logits_RV.options());
    float *pl = logits_RV.mutable_data_ptr<float>(), *po = out.mutable_data_ptr<float>();
    const std::int64_t* pt = targets_R.const_data_ptr<std::int64_t>();
    at::parallel_for(0, rows, grain(cols), [&](std::int64_t from, std::int64_t to) {
      if (gradient) {
        kernels::nll_gradient(pl + from * cols, pt + from, po + from, to - from, cols,
                              static_cast<float>(scale));
      } else {
        kernels::nll(pl + from * cols, pt + from, po + from, to - from, cols);
      }
    });
    return out;
  }
  const at::Tensor log_probs = at::log_softmax(logits_RV, 1, at::kFloat);
  const at::Tensor index = targets_R.unsqueeze(1);
  at::Tensor out = -log_probs.gather(1, index).squeeze(1);
  if (gradient) {
    at::Tensor share = log_probs.exp();
    share.scatter_add_(1, index, at::full_like(index, -1, share.options()));
    logits_RV.copy_(share.mul_(scale));
  }
  return out;
}

struct LinearNll : Function<LinearNll> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in, const Variable& w,
                          const Variable& targets_in, double scale, bool gradient,
                          const Packed& packed) {
    // Rows that predict nothing cost nothing: padding, prompts.
    const at::Tensor rows = targets_in.ne(kIgnored).nonzero().squeeze(1);
    const bool all = rows.numel() == targets_in.numel();
    const at::Tensor x = all ? x_in : x_in.index_select(0, rows);
    const at::Tensor targets = all ? targets_in : targets_in.index_select(0, rows);
    const std::int64_t count = x.size(0), vocab = w.size(0);
    const bool gx_wanted = gradient && x_in.requires_grad();
    const bool gw_wanted = gradient && w.requires_grad();
    at::Tensor gx = gx_wanted ? at::empty_like(x) : at::Tensor();
    at::Tensor gw = gw_wanted ? at::zeros_like(w) : at::Tensor();
    at::Tensor total = at::zeros({}, x.options().dtype(at::kDouble));
    const std::int64_t step = std::max<std::int64_t>(1, kLogitsAtOnce / vocab);
    const at::Tensor w_DV = w.t();
    at::Tensor block;
    if (!packed.matrix.defined()) block = at::empty({std::min(step, count), vocab}, x.options());
    for (std::int64_t at = 0; at < count; at += step) {
      const std::int64_t size = std::min(step, count - at);
      const at::Tensor part = x.narrow(0, at, size);
      at::Tensor logits;
      if (packed.matrix.defined()) {
        logits = times_packed(part, packed.matrix);
      } else {
        logits = block.narrow(0, 0, size);
        at::mm_out(logits, part, w_DV);
      }
      total += nll_of_rows(logits, targets.narrow(0, at, size), scale, gradient).sum(at::kDouble);
      if (gx_wanted) {
        at::Tensor out = gx.narrow(0, at, size);
        if (packed.transposed.defined()) {
          out.copy_(times_packed(logits, packed.transposed));
        } else {
          at::mm_out(out, logits, w);
        }
      }
      if (gw_wanted) gw.addmm_(logits.t(), part);
    }
    if (gx_wanted && !all) {
      gx = at::zeros_like(x_in).index_copy_(0, rows, gx);
    }
    ctx->saved_data["gx"] = gx;
    ctx->saved_data["gw"] = gw;
    return (total * scale).to(at::kFloat);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    at::Tensor gx = ctx->saved_data["gx"].toTensor(), gw = ctx->saved_data["gw"].toTensor();
    ctx->saved_data.clear();
    if (gx.defined()) gx.mul_(grads[0].to(gx.scalar_type()));
    if (gw.defined()) gw.mul_(grads[0].to(gw.scalar_type()));
    return {gx, gw, Variable(), Variable(), Variable(), Variable()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x_ND, const at::Tensor& weight_D, double eps) {
  return RmsNorm::apply(x_ND, weight_D, eps);
}

at::Tensor rotate(const at::Tensor& x_NHC, const RotaryTable& table) {
  return Rotate::apply(x_NHC, table.cos, table.sin);
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return Swiglu::apply(gate, up);
}

at::Tensor linear_nll(const at::Tensor& x_ND, const at::Tensor& weight_VD,
                      const at::Tensor& targets_N, double scale, const Packed& packed_VD) {
  const bool gradient = at::GradMode::is_enabled();
  return LinearNll::apply(x_ND, weight_VD, targets_N, scale, gradient, packed_VD);
}

}  // namespace rigwise::engine
