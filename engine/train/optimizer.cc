#include "engine/train/optimizer.h"

#include <cmath>
#include <numbers>

#include "engine/model/kernels.h"

namespace rigwise::engine {
namespace {

/// The same formula in ATen, for devices that the loops do not run on.
void adamw_anywhere(at::Tensor& p, const at::Tensor& g, at::Tensor& m, at::Tensor& v,
                    const kernels::AdamwStep& step) {
  const at::Tensor gradient = g.to(at::kFloat) * step.gradient_scale;
  m.lerp_(gradient, 1.0 - static_cast<double>(step.beta1));
  v.mul_(step.beta2).addcmul_(gradient, gradient, 1.0 - static_cast<double>(step.beta2));
  p.mul_(1.0 - static_cast<double>(step.lr) * static_cast<double>(step.weight_decay));
  p.addcdiv_(m, v.sqrt().div_(step.correction2_sqrt).add_(step.eps),
             -static_cast<double>(step.lr / step.correction1));
}

bool decays(const Parameter& parameter) {
  return parameter.shape.size() > 1;
}

}  // namespace

void Adamw::update(std::vector<Piece>& pieces, double lr, double gradient_scale,
                   std::int64_t step) {
  const at::NoGradGuard no_grad;
  const auto count = static_cast<double>(step);
  kernels::AdamwStep now{
      .lr = static_cast<float>(lr),
      .beta1 = static_cast<float>(options_.beta1),
      .beta2 = static_cast<float>(options_.beta2),
      .eps = static_cast<float>(options_.eps),
      .correction1 = static_cast<float>(1 - std::pow(options_.beta1, count)),
      .correction2_sqrt = static_cast<float>(std::sqrt(1 - std::pow(options_.beta2, count))),
      .gradient_scale = static_cast<float>(gradient_scale)};
  for (Piece& piece : pieces) {
    now.weight_decay = decays(*piece.parameter) ? static_cast<float>(options_.weight_decay) : 0.0F;
    at::Tensor& target = piece.master.defined() ? piece.master : piece.value;
    if (target.is_cpu() && piece.gradient.scalar_type() == at::kFloat) {
      float *p = target.mutable_data_ptr<float>(), *m = piece.moment1.mutable_data_ptr<float>(),
            *v = piece.moment2.mutable_data_ptr<float>();
      const float* g = piece.gradient.const_data_ptr<float>();
      at::parallel_for(0, target.numel(), 32768, [&](std::int64_t from, std::int64_t to) {
        kernels::adamw(p + from, g + from, m + from, v + from, to - from, now);
      });
    } else {
      adamw_anywhere(target, piece.gradient, piece.moment1, piece.moment2, now);
    }
    if (piece.master.defined()) piece.value.copy_(piece.master);
  }
}

std::string_view lr_schedule_name(LrSchedule schedule) {
  switch (schedule) {
    case LrSchedule::constant:
      return "constant";
    case LrSchedule::linear:
      return "linear";
    case LrSchedule::cosine:
      return "cosine";
  }
  return "";
}

std::optional<LrSchedule> lr_schedule_of(std::string_view name) {
  for (const LrSchedule schedule : {LrSchedule::constant, LrSchedule::linear, LrSchedule::cosine}) {
    if (lr_schedule_name(schedule) == name) return schedule;
  }
  return std::nullopt;
}

double lr_factor(LrSchedule schedule, std::int64_t index, std::int64_t warmup, std::int64_t steps) {
  const auto at = static_cast<double>(index), first = static_cast<double>(warmup);
  if (index < warmup) return at / std::max(1.0, first);
  const double rest = std::max(1.0, static_cast<double>(steps) - first);
  const double gone = (at - first) / rest;
  switch (schedule) {
    case LrSchedule::constant:
      return 1;
    case LrSchedule::linear:
      return std::max(0.0, 1 - gone);
    case LrSchedule::cosine:
      return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * gone)));
  }
  return 1;
}

}  // namespace rigwise::engine
