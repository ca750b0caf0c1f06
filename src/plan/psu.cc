// Power: what the cards, the supply and the circuit have to bear.
#include <fmt/format.h>

#include <cmath>

#include "plan/supply.h"
#include "rigwise/plan_options.h"

namespace rigwise {

namespace {

// A card's draw over its limit by the length of the spike. Measured on one RTX 5090 FE of 575 W:
// 1.09 between 10 and 20 ms, more in shorter windows; PCIe CEM 5 allows 3 for 100 µs. Between
// those two the logarithm is followed.
double spike_factor(double window_s) {
  if (window_s >= 0.1) return 1.0;
  if (window_s >= 0.01) return 1.09;
  const double share =
      std::log(window_s / 0.01) / std::log(1e-4 / 0.01);  // 0 at 10 ms, 1 at 0.1 ms
  return 1.09 * std::pow(3.0 / 1.09, std::min(1.0, share));
}

constexpr double kComfortFrac = 0.9;  // of the rating, day in, day out

}  // namespace

PowerPlan plan_power(std::int64_t gpus, double gpu_limit_w, const OptionContext& context) {
  PowerPlan plan;
  plan.gpus = gpus;
  const double rest = context.rest_w.value_or(plan::kHostW);
  if (!context.rest_w) plan.assumed.push_back("host without GPUs 200 W");
  const double n = static_cast<double>(gpus);
  plan.continuous_w = n * gpu_limit_w + rest;
  plan.wall_w = plan.continuous_w / plan::kSupplyEfficiency;
  if (context.circuit) {
    plan.circuit_limit_w = 0.8 * context.circuit->volts * context.circuit->amperes;
    plan.circuit_holds = plan.wall_w + context.circuit_other_w <= *plan.circuit_limit_w;
  }
  if (!context.psu_w) {
    plan.verdict = fmt::format(
        "{:.0f} W at most for {} GPU{}, {:.0f} W at the wall; no supply is "
        "stated (--psu WATTS)",
        plan.continuous_w, gpus, gpus == 1 ? "" : "s", plan.wall_w);
    return plan;
  }
  const double rating = *context.psu_w;
  bool holds = plan.continuous_w <= rating, worst = holds;
  plan.windows.push_back({0, plan.continuous_w, plan.continuous_w, rating, holds, holds});
  for (const auto& window : psu_windows()) {
    const double k = spike_factor(window.window_s);
    PowerWindow w;
    w.window_s = window.window_s;
    w.draw_w = gpu_limit_w * (n - 1 + k) + rest;
    w.worst_w = gpu_limit_w * n * k + rest;
    w.limit_w = rating * (rating > 450 && gpu_limit_w > 300 ? window.with_12vhpwr_frac
                                                            : window.without_frac);
    w.holds = w.draw_w <= w.limit_w;
    w.holds_worst = w.worst_w <= w.limit_w;
    holds = holds && w.holds;
    worst = worst && w.holds_worst;
    plan.windows.push_back(w);
  }
  const bool comfortable = plan.continuous_w <= kComfortFrac * rating;
  plan.verdict = fmt::format("{:.0f} W of {:.0f} W: {}", plan.continuous_w, rating,
                             !holds         ? "beyond the supply"
                             : !comfortable ? "runs, without comfort (above 90 % of the rating)"
                             : !worst       ? "runs; spikes of all cards at once would be beyond it"
                                            : "within the supply, spikes of all cards at once too");
  if (plan.circuit_holds && !*plan.circuit_holds) {
    plan.verdict += fmt::format("; beyond the circuit ({:.0f} W at the wall, {:.0f} W allowed)",
                                plan.wall_w, *plan.circuit_limit_w);
  }
  return plan;
}

}  // namespace rigwise
