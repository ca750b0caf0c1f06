// Side effects: what the change did to heat, power, memory, checkpoints and disk.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "compare/outcome.h"
#include "rigwise/stats.h"
#include "rigwise/units.h"

namespace rigwise::compare_outcome {

using compare_data::HostData;
using compare_data::RunData;
using compare_fields::Side;

namespace {

/// A run's figure and the rows that it came from.
struct Figure {
  double value = 0;
  Evidence evidence = {};
};
using OfRun = std::function<std::optional<Figure>(const RunData&)>;
using Words = std::function<std::string(double)>;

struct SideFigure {
  double middle = 0;
  Evidence evidence = {};
};

/// The median over a side's runs; its evidence is the first run's.
std::optional<SideFigure> over(const Side& side, const OfRun& of_run) {
  std::vector<double> values;
  Evidence evidence;
  for (const RunData& run : side.runs) {
    if (const auto figure = of_run(run)) {
      if (values.empty()) evidence = figure->evidence;
      values.push_back(figure->value);
    }
  }
  if (values.empty()) return std::nullopt;
  return SideFigure{*stats::median(values), evidence};
}

void add(std::vector<SideEffect>& effects, std::string what, const Side& a, const Side& b,
         const OfRun& of_run, const Words& words, const Words& change_words, double least) {
  const auto figure_a = over(a, of_run), figure_b = over(b, of_run);
  if (!figure_a && !figure_b) return;
  SideEffect effect;
  effect.what = std::move(what);
  if (figure_a) {
    effect.a = words(figure_a->middle);
    effect.evidence.push_back(figure_a->evidence);
  }
  if (figure_b) {
    effect.b = words(figure_b->middle);
    effect.evidence.push_back(figure_b->evidence);
  }
  if (figure_a && figure_b) {
    const double change = figure_b->middle - figure_a->middle;
    if (std::fabs(change) >= least) {
      effect.change = (change < 0 ? "−" : "+") + change_words(std::fabs(change));
    }
  } else {
    effect.change = figure_a ? "only on the first side" : "only on the second side";
  }
  effects.push_back(std::move(effect));
}

std::string celsius(double value) {
  return fmt::format("{:.0f} °C", value);
}
std::string watts(double value) {
  return fmt::format("{:.0f} W", value);
}
std::string seconds(double value) {
  return format_duration(value);
}
std::string bytes(double value) {
  return format_bytes(value);
}
std::string binary(double value) {
  return format_bytes_binary(value);
}

/// The first host that has this table, which is all of them on one machine.
const HostData* first_host(const RunData& data) {
  return data.hosts.empty() ? nullptr : &data.hosts.front();
}

std::set<int> all_gpus(const Side& a, const Side& b) {
  std::set<int> gpus;
  for (const Side* side : {&a, &b}) {
    for (const RunData& run : side->runs) {
      if (const HostData* host = first_host(run)) {
        for (const int gpu : compare_fields::gpus_used(*host)) gpus.insert(gpu);
      }
    }
  }
  return gpus;
}

const compare_data::GpuSummary* summary_of(const RunData& run, int gpu) {
  const HostData* host = first_host(run);
  if (host == nullptr) return nullptr;
  const auto found = host->gpus.find(gpu);
  return found == host->gpus.end() ? nullptr : &found->second;
}

/// The highest value that a summary kept, of one GPU or of the host.
OfRun gpu_peak(int gpu, compare_data::Peak compare_data::GpuSummary::*member, std::string what) {
  return [=](const RunData& run) -> std::optional<Figure> {
    const auto* summary = summary_of(run, gpu);
    if (summary == nullptr || !(summary->*member).value) return std::nullopt;
    const auto& peak = summary->*member;
    return Figure{*peak.value, compare_data::lines_evidence(run, first_host(run)->gpu_file,
                                                            peak.line, peak.line, what)};
  };
}
OfRun host_peak(compare_data::Peak compare_data::HostSummary::*member, std::string what) {
  return [=](const RunData& run) -> std::optional<Figure> {
    const HostData* host = first_host(run);
    if (host == nullptr || !(host->summary.*member).value) return std::nullopt;
    const auto& peak = host->summary.*member;
    return Figure{*peak.value,
                  compare_data::lines_evidence(run, host->host_file, peak.line, peak.line, what)};
  };
}

void add_gpus(const Side& a, const Side& b, std::vector<SideEffect>& effects) {
  using compare_data::GpuSummary;
  for (const int gpu : all_gpus(a, b)) {
    const std::string name = fmt::format("GPU {}", gpu);
    add(effects, name + " temperature", a, b, gpu_peak(gpu, &GpuSummary::temp_c, "highest temp_c"),
        celsius, celsius, 1);
    add(
        effects, name + " power", a, b,
        [gpu](const RunData& run) -> std::optional<Figure> {
          const auto* summary = summary_of(run, gpu);
          if (summary == nullptr || summary->power_count == 0) return std::nullopt;
          return Figure{
              summary->power_sum_w / static_cast<double>(summary->power_count),
              compare_data::lines_evidence(run, first_host(run)->gpu_file, summary->first_line,
                                           summary->last_line, "mean power_w during the steps")};
        },
        watts, watts, 1);
    add(effects, name + " memory", a, b,
        gpu_peak(gpu, &GpuSummary::used_bytes, "highest used_bytes"), binary, binary,
        16.0 * 1024 * 1024);
  }
}

/// How near the warmest GPU of side B came to its slowdown temperature.
void warn_of_heat(const Side& b, std::vector<Finding>& findings) {
  for (const RunData& run : b.runs) {
    const HostData* host = first_host(run);
    if (host == nullptr || !host->rig) continue;
    for (const GpuDevice& device : host->rig->gpus) {
      if (!device.slowdown_c) continue;
      const auto most =
          gpu_peak(device.gpu, &compare_data::GpuSummary::temp_c, "highest temp_c")(run);
      if (!most || most->value < *device.slowdown_c - 6) continue;
      findings.push_back(
          {.id = "near-slowdown",
           .severity = Severity::warning,
           .claim = fmt::format("{}: GPU {} reached {:.0f} °C, {:.0f} °C below slowdown", b.name,
                                device.gpu, most->value, *device.slowdown_c - most->value),
           .evidence = {most->evidence},
           .threshold = "6 °C below the slowdown temperature",
           .next_step = "improve cooling or lower the power limit before longer runs"});
      return;
    }
  }
}

void add_host(const Side& a, const Side& b, std::vector<SideEffect>& effects) {
  using compare_data::HostSummary;
  add(effects, "CPU temperature", a, b, host_peak(&HostSummary::temp_cpu_c, "highest temp_cpu_c"),
      celsius, celsius, 1);
  add(effects, "memory of the processes", a, b,
      host_peak(&HostSummary::rss_bytes, "highest tree_rss_bytes"), binary, binary,
      16.0 * 1024 * 1024);
  add(effects, "swap", a, b, host_peak(&HostSummary::swap_bytes, "highest swap_used_bytes"), binary,
      binary, 16.0 * 1024 * 1024);
  const Words watt_hours = [](double value) { return fmt::format("{:.1f} Wh", value); };
  add(
      effects, "CPU energy", a, b,
      [](const RunData& run) -> std::optional<Figure> {
        const HostData* host = first_host(run);
        if (host == nullptr || !host->summary.package_energy_j.begin) return std::nullopt;
        const auto& energy = host->summary.package_energy_j;
        return Figure{(*energy.end - *energy.begin) / 3600,
                      compare_data::lines_evidence(run, host->host_file, energy.first_line,
                                                   energy.last_line, "package_energy_j")};
      },
      watt_hours, watt_hours, 0.1);
}

/// Mean over a run's complete checkpoints; `sum` for the disk they take.
OfRun of_checkpoints(const std::function<std::optional<double>(const Event&)>& get, bool sum,
                     const std::string& what) {
  return [=](const RunData& run) -> std::optional<Figure> {
    stats::Moments moments;
    std::size_t first = run.events.rows.size(), last = 0;
    for (std::size_t i = 0; i < run.events.rows.size(); ++i) {
      const Event& event = run.events.rows[i];
      if (event.kind != EventKind::checkpoint || event.state == "torn") continue;
      const auto value = get(event);
      if (!value) continue;
      moments.add(*value);
      first = std::min(first, i);
      last = i;
    }
    if (moments.count() == 0) return std::nullopt;
    const double value =
        sum ? moments.mean() * static_cast<double>(moments.count()) : moments.mean();
    return Figure{value, compare_data::rows_evidence(
                             run, run.events, first, last,
                             fmt::format("{} checkpoints: {}", moments.count(), what))};
  };
}

void add_checkpoints(const Side& a, const Side& b, std::vector<SideEffect>& effects) {
  const auto size = [](const Event& event) {
    return event.size_bytes ? std::optional<double>(static_cast<double>(*event.size_bytes))
                            : std::nullopt;
  };
  const auto time = [](const Event& event) {
    return event.t_end_s ? std::optional<double>(*event.t_end_s - event.t_s) : std::nullopt;
  };
  add(effects, "checkpoint time", a, b, of_checkpoints(time, false, "mean seconds"), seconds,
      seconds, 0.05);
  add(effects, "checkpoint size", a, b, of_checkpoints(size, false, "mean bytes"), bytes, bytes,
      1e5);
  add(effects, "disk for checkpoints", a, b, of_checkpoints(size, true, "bytes in all"), bytes,
      bytes, 1e6);
}

/// Share of the steps' time that events took: 1 - clean / total (compare.md 3.1).
void add_overhead(const Side& a, const Side& b, std::vector<SideEffect>& effects) {
  const auto share_of = [](const Side& side) -> std::optional<double> {
    std::vector<double> shares;
    for (const auto& series : side.series) {
      double clean = 0, total = 0, count = 0, others = 0;
      for (const auto& point : series.points) {
        if (point.state == compare_series::PointState::warm_up) continue;
        total += point.seconds * point.steps;
        if (point.state == compare_series::PointState::clean) {
          clean += point.seconds * point.steps;
          count += point.steps;
        } else {
          others += point.steps;
        }
      }
      // An event's record holds its step too: that much of it is no overhead.
      if (count > 0 && total > 0) {
        shares.push_back(std::max(0.0, 1 - clean / count * (count + others) / total));
      }
    }
    return stats::median(shares);
  };
  const auto share_a = share_of(a), share_b = share_of(b);
  if (!share_a || !share_b) return;
  SideEffect effect{.what = "time lost to saves and evaluations",
                    .a = format_share(*share_a),
                    .b = format_share(*share_b)};
  if (std::fabs(*share_b - *share_a) >= 0.005) {
    effect.change = fmt::format("{}{:.1f} points", *share_b < *share_a ? "−" : "+",
                                100 * std::fabs(*share_b - *share_a));
  }
  for (const Side* side : {&a, &b}) {
    effect.evidence.push_back({.run = side->runs.front().label,
                               .file = side->runs.front().steps.file,
                               .what = "step times that stand out"});
  }
  effects.push_back(std::move(effect));
}

}  // namespace

std::vector<SideEffect> side_effects(const Side& a, const Side& b, std::vector<Finding>& findings) {
  std::vector<SideEffect> effects;
  add_gpus(a, b, effects);
  add_host(a, b, effects);
  add_checkpoints(a, b, effects);
  add_overhead(a, b, effects);
  warn_of_heat(b, findings);
  return effects;
}

}  // namespace rigwise::compare_outcome
