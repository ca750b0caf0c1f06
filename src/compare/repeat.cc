// Repeatability of one side (compare.md 3.4), and scaling between two.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/text.h"
#include "compare/outcome.h"
#include "rigwise/stats.h"
#include "rigwise/units.h"

namespace rigwise::compare_outcome {

using compare_data::RunData;
using compare_fields::Side;

namespace {

/// Every loss and gradient norm that a run printed, by step.
std::map<std::int64_t, std::pair<std::string, std::string>> printed(const RunData& data) {
  std::map<std::int64_t, std::pair<std::string, std::string>> by_step;
  std::int64_t count = 0;
  for (const StepRecord& record : data.steps.rows) {
    if (record.kind != RecordKind::train || !record.loss) continue;
    ++count;
    const std::int64_t step = record.step.value_or(record.bar_step.value_or(count));
    by_step[step] = {number_text(*record.loss),
                     record.grad_norm ? number_text(*record.grad_norm) : std::string()};
  }
  return by_step;
}

/// All printed figures equal at all common steps; at least 5 of them, or it says nothing.
bool is_bitwise(const Side& side) {
  const auto first = printed(side.runs.front());
  for (std::size_t i = 1; i < side.runs.size(); ++i) {
    std::size_t common = 0;
    for (const auto& [step, figures] : printed(side.runs[i])) {
      const auto found = first.find(step);
      if (found == first.end()) continue;
      ++common;
      if (found->second != figures) return false;
    }
    if (common < 5) return false;
  }
  return true;
}

std::vector<double> log_medians(const Side& side) {
  std::vector<double> medians;
  for (const auto& series : side.series) {
    if (const auto middle = stats::median(series.clean)) medians.push_back(*middle);
  }
  return medians;
}

std::optional<double> warmest(const RunData& data) {
  std::optional<double> most;
  for (const auto& host : data.hosts) {
    for (const auto& [gpu, summary] : host.gpus) {
      if (summary.temp_c.value) most = std::max(most.value_or(-273), *summary.temp_c.value);
    }
  }
  return most;
}

/// What sets the run that lies farthest from the others apart, as far as the record tells.
std::string odd_one(const Side& side, const std::vector<double>& medians) {
  const double middle = *stats::median(medians);
  std::size_t odd = 0;
  for (std::size_t i = 1; i < medians.size(); ++i) {
    if (std::fabs(medians[i] - middle) > std::fabs(medians[odd] - middle)) odd = i;
  }
  std::vector<std::string> reasons;
  const auto sets_apart = [&](const std::vector<std::optional<double>>& values, double by,
                              const std::string& what) {
    std::vector<double> others;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i != odd && values[i]) others.push_back(*values[i]);
    }
    if (!values[odd] || others.empty()) return;
    if (std::fabs(*values[odd] - *stats::median(others)) > by) reasons.push_back(what);
  };
  std::vector<std::optional<double>> load, heat, shifts;
  for (std::size_t i = 0; i < side.runs.size(); ++i) {
    load.push_back(compare_fields::foreign_cpu_share(side.runs[i], nullptr));
    heat.push_back(warmest(side.runs[i]));
    shifts.emplace_back(static_cast<double>(side.series[i].shifts.size()));
  }
  sets_apart(load, 0.03, "CPU taken by other programs");
  sets_apart(heat, 5, "GPU temperature");
  sets_apart(shifts, 0.5, "a change of speed in mid-run");
  return fmt::format("{} lies {:.1f} % from the others: {}", side.runs[odd].label,
                     100 * std::fabs(std::expm1(medians[odd] - middle)),
                     reasons.empty() ? "unexplained" : join(reasons, ", "));
}

std::string failed_run(const Side& side) {
  for (const RunData& run : side.runs) {
    if (run.diverged) return run.label + " diverged";
    const auto& ending = run.run->info.ending;
    if (!ending) return run.label + " did not end, as far as the record tells";
    if (!ended_well(run.run->info) && !end_unknown(run.run->info))
      return run.label + " failed: " + ending->reason;
  }
  return {};
}

/// Losses of at least three runs that lie within the margin of compare.md 3.3.
std::optional<bool> losses_repeat(const Side& side, std::string& words) {
  std::vector<const RunData*> runs;
  for (const RunData& run : side.runs) runs.push_back(&run);
  const std::string unit = common_unit(runs);
  std::vector<double> finals;
  double resolution = 0;
  for (const RunData* run : runs) {
    const LossCurve curve = loss_curve(*run, unit);
    const auto value = final_loss(curve);
    if (!value) return std::nullopt;
    finals.push_back(*value);
    resolution = std::max(resolution, curve.resolution);
  }
  const auto [low, high] = std::minmax_element(finals.begin(), finals.end());
  const double margin = std::max(compare_rules::kLossMarginShare * std::fabs(*low),
                                 compare_rules::kLossResolutions * resolution);
  words = fmt::format("final losses {:.4g} to {:.4g}", *low, *high);
  return *high - *low <= margin;
}

bool shifts_agree(const Side& side) {
  return std::all_of(side.series.begin(), side.series.end(), [&](const auto& series) {
    return series.shifts.empty() == side.series.front().shifts.empty();
  });
}

}  // namespace

Repeatability repeatability(const Side& side) {
  Repeatability result;
  const std::vector<double> medians = log_medians(side);
  if (medians.size() >= 2) {
    result.spread_percent = 100 * *stats::moments(medians).standard_deviation();
  }
  const std::string failed = failed_run(side);
  if (side.runs.size() == 1) {
    result.level = "one run";
    result.note = failed;
    return result;
  }
  if (!failed.empty()) {
    result.level = "not repeatable";
    result.note = failed;
    return result;
  }
  const bool bitwise = is_bitwise(side);
  if (side.runs.size() == 2) {
    result.level = bitwise ? "bitwise" : "two runs agree";
    if (medians.size() == 2) {
      const double apart = 100 * std::fabs(std::expm1(medians[1] - medians[0]));
      if (!bitwise && apart > 2 * compare_rules::kSpeedSpreadPercent)
        result.level = "two runs differ";
      result.note = fmt::format("their step times differ by {:.1f} %", apart);
    }
    return result;
  }
  std::string losses = "no losses were logged";
  const auto loss = losses_repeat(side, losses);
  const bool all_timed = medians.size() == side.runs.size();
  const bool speed = all_timed && *result.spread_percent <= compare_rules::kSpeedSpreadPercent &&
                     shifts_agree(side);
  result.level = bitwise ? "bitwise" : loss == true ? "loss" : speed ? "speed" : "not repeatable";
  result.note = bitwise ? "all printed losses are equal" : losses;
  if (!speed && all_timed) {
    result.note += *result.spread_percent > compare_rules::kSpeedSpreadPercent
                       ? "; speed: " + odd_one(side, medians)
                       : "; speed: only some of the runs changed speed on the way";
  }
  if (!all_timed) result.note += "; not every run shows step times";
  return result;
}

std::optional<Scaling> scaling(const Side& a, const Side& b, const compare_fields::Gate& gate,
                               const std::optional<Effect>& effect) {
  const auto ranks = [](const Side& side) {
    std::optional<int> found;
    for (const RunData& run : side.runs) {
      if (!run.ranks || (found && *found != *run.ranks)) return std::optional<int>();
      found = run.ranks;
    }
    return found;
  };
  const auto ranks_a = ranks(a), ranks_b = ranks(b);
  if (!ranks_a || !ranks_b || *ranks_a == *ranks_b || *ranks_a < 1 || *ranks_b < 1 || !effect) {
    return std::nullopt;
  }
  if (effect->metric == "step_time") return std::nullopt;  // steps of unknown size
  Scaling result;
  result.ranks_a = *ranks_a;
  result.ranks_b = *ranks_b;
  result.kind = gate.scaling;
  result.speedup = 1 / (1 + effect->percent / 100);
  result.speedup_low = 1 / (1 + effect->high / 100);
  result.speedup_high = 1 / (1 + effect->low / 100);
  result.efficiency = result.speedup / (static_cast<double>(*ranks_b) / *ranks_a);
  return result;
}

}  // namespace rigwise::compare_outcome
