#include "decide/signals.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <map>

#include "base/text.h"
#include "rigwise/stats.h"
#include "rigwise/units.h"
#include "run/layout.h"

namespace rigwise {

namespace {

constexpr std::array<std::string_view, 6> kBuilds = {"torch", "cuda", "hip",
                                                     "rocm",  "nccl", "rccl"};
constexpr double kNarrowLanes = 8;  // below this a second card is called narrowly wired

std::string builds_of(const Environment& environment) {
  std::string text;
  for (const auto key : kBuilds) {
    const auto found = environment.versions.find(std::string(key));
    if (found == environment.versions.end()) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, clean_text(found->second, 40));
  }
  return text;
}

bool well_ended(const Run& run) {
  return ended_well(run.info);
}

struct HostBuild {
  std::string builds = {};
  Evidence evidence = {};
  double start_unix_s = 0;
};

/// Rows of the GPU table between first and last step.
template <class Visit>
void visit_steps(const Run& run, const Ledger& ledger, const ColumnNames& columns, Visit visit) {
  const LedgerRow* startup = row_of(ledger.rows, LedgerClass::startup);
  const LedgerRow* teardown = row_of(ledger.rows, LedgerClass::teardown);
  const double from_s = startup != nullptr ? startup->seconds.value_or(0) : 0;
  const double to_s = ledger.wall_s - (teardown != nullptr ? teardown->seconds.value_or(0) : 0);
  for (const auto& host : hosts_of(run)) {
    (void)visit_gpu(run, host, columns, [&](const GpuSample& sample, std::int64_t line) {
      if (sample.t_s >= from_s && sample.t_s <= to_s) visit(host, sample, line);
      return true;
    }).ok();
  }
}

std::string tail_of(const std::filesystem::path& path) {
  constexpr std::streamoff kTail = 64 << 10;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const std::streamoff size = file.tellg();
  const std::streamoff from = std::max<std::streamoff>(0, size - kTail);
  file.seekg(from);
  std::string text(static_cast<std::size_t>(size - from), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, file.gcount())));
  return text;
}

bool speaks_of_memory(std::string_view text) {
  const std::string small = lower(text);
  for (const char* phrase : {"out of memory", "outofmemoryerror", "cuda_error_out_of_memory"}) {
    if (small.find(phrase) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

std::optional<EnvironmentSplit> environment_split(const DecideInput& input) {
  std::map<std::string, HostBuild> latest;  // by host
  for (const auto* side : {&input.baseline, &input.candidate}) {
    for (const auto& run : *side) {
      for (const auto& host : hosts_of(run)) {
        const auto environment = read_environment(run, host);
        if (!environment.ok()) continue;
        const std::string builds = builds_of(*environment);
        if (builds.empty()) continue;
        HostBuild& known = latest[host];
        if (!known.builds.empty() && known.start_unix_s > run.info.start_unix_s) continue;
        known = HostBuild{builds, evidence_of(run, layout::environment_file(host)),
                          run.info.start_unix_s};
      }
    }
  }
  if (latest.size() < 2) return std::nullopt;
  const bool differ = std::any_of(latest.begin(), latest.end(), [&](const auto& host) {
    return host.second.builds != latest.begin()->second.builds;
  });
  if (!differ) return std::nullopt;
  EnvironmentSplit split;
  split.proven = true;
  for (const auto& [host, build] : latest) {
    split.text += fmt::format("{}{} on {}", split.text.empty() ? "" : "; ", build.builds,
                              clean_text(host, 80));
    split.evidence.push_back(build.evidence);
    // An earlier snapshot: a finished run of that host alone, with the very same build.
    bool snapshot = false;
    for (const auto& run : input.baseline) {
      const auto environment = read_environment(run, host);
      snapshot = snapshot || (well_ended(run) && hosts_of(run).size() == 1 && environment.ok() &&
                              builds_of(*environment) == build.builds);
    }
    split.proven = split.proven && snapshot;
  }
  return split;
}

std::optional<NarrowLink> narrow_link(const SideView& side) {
  struct Seen {
    double width = 0;  // widest seen while steps ran: links narrow themselves when idle
    std::optional<double> possible = {};
    Evidence evidence = {};
  };
  std::map<std::pair<std::string, int>, Seen> gpus;
  for (std::size_t i = 0; i < side.runs.size(); ++i) {
    visit_steps(*side.runs[i], *side.ledgers[i], {"t_s", "gpu", "pcie_width", "pcie_width_max"},
                [&](const std::string& host, const GpuSample& sample, std::int64_t line) {
                  if (!sample.pcie_width) return;
                  Seen& seen = gpus[{host, sample.gpu}];
                  if (*sample.pcie_width <= seen.width) return;
                  seen.width = *sample.pcie_width;
                  seen.possible = sample.pcie_width_max;
                  seen.evidence = evidence_of(
                      *side.runs[i], Evidence{"", layout::watch_file(host, "gpu"), line, line, ""});
                });
  }
  std::optional<NarrowLink> narrow;
  for (const auto& [key, seen] : gpus) {
    if (seen.width <= 0 || seen.width >= kNarrowLanes) continue;
    if (narrow && narrow->width <= seen.width) continue;
    narrow = NarrowLink{key.second, seen.width, seen.possible, {seen.evidence}, ""};
    narrow->text = fmt::format("GPU {} is wired x{:.0f}", key.second, seen.width);
    if (seen.possible && *seen.possible > seen.width) {
      narrow->text += fmt::format(" (x{:.0f} is possible)", *seen.possible);
    }
  }
  return narrow;
}

Heat heat_of(const SideView& side) {
  Heat heat;
  for (std::size_t i = 0; i < side.runs.size(); ++i) {
    const Run& run = *side.runs[i];
    struct Counter {
      std::optional<double> first = {}, last = {};
      void add(const std::optional<double>& value) {
        if (!value) return;
        if (!first) first = value;
        last = value;
      }
      [[nodiscard]] double rise() const { return first ? *last - *first : 0; }
    };
    std::map<std::pair<std::string, int>, std::array<Counter, 3>> counters;
    Evidence hottest;
    visit_steps(run, *side.ledgers[i],
                {"t_s", "gpu", "temp_c", "held_power_s", "held_sw_thermal_s", "held_hw_thermal_s"},
                [&](const std::string& host, const GpuSample& sample, std::int64_t line) {
                  if (sample.temp_c.value_or(-1e9) > heat.peak_c.value_or(-1e8)) {
                    heat.peak_c = sample.temp_c;
                    heat.gpu = sample.gpu;
                    hottest = evidence_of(
                        run, Evidence{"", layout::watch_file(host, "gpu"), line, line, ""});
                  }
                  auto& counter = counters[{host, sample.gpu}];
                  counter[0].add(sample.held_power_s);
                  counter[1].add(sample.held_sw_thermal_s);
                  counter[2].add(sample.held_hw_thermal_s);
                });
    if (!hottest.file.empty()) heat.evidence = {hottest};
    for (const auto& [gpu, counter] : counters) {
      heat.power_held_s = std::max(heat.power_held_s, counter[0].rise());
      heat.thermal_held_s =
          std::max(heat.thermal_held_s, std::max(counter[1].rise(), counter[2].rise()));
    }
    const LedgerRow* compute = row_of(side.ledgers[i]->rows, LedgerClass::compute);
    if (compute != nullptr) heat.steps_s = std::max(heat.steps_s, compute->seconds.value_or(0));
    for (const auto& host : hosts_of(run)) {
      const auto rig = read_rig(run, host);
      if (!rig.ok()) continue;
      for (const auto& gpu : rig->gpus) {
        if (gpu.gpu == heat.gpu && gpu.slowdown_c) heat.slowdown_c = gpu.slowdown_c;
      }
    }
  }
  return heat;
}

std::optional<Utilisation> utilisation_of(const SideView& side) {
  Utilisation seen;
  double sum = 0;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < side.runs.size(); ++i) {
    visit_steps(*side.runs[i], *side.ledgers[i], {"t_s", "gpu", "util_frac"},
                [&](const std::string& host, const GpuSample& sample, std::int64_t line) {
                  if (!sample.util_frac) return;
                  sum += *sample.util_frac;
                  ++count;
                  seen.evidence = evidence_of(
                      *side.runs[i], Evidence{"", layout::watch_file(host, "gpu"), 2, line, ""});
                });
  }
  if (count == 0) return std::nullopt;
  seen.mean_frac = sum / static_cast<double>(count);
  return seen;
}

std::optional<double> checkpoint_time_s(const SideView& side) {
  Threshold threshold;
  threshold.metric = Metric::checkpoint_time;
  return stats::mean(figures_of(threshold, side).values);
}

std::optional<ScalingView> scaling_of(const DecideInput& input, const SideView& a,
                                      const SideView& b) {
  if (input.comparison && input.comparison->scaling) {
    const Scaling& scaling = *input.comparison->scaling;
    ScalingView view{scaling.speedup, scaling.efficiency, scaling.ranks_a, scaling.ranks_b, {}};
    const double times = static_cast<double>(scaling.ranks_b) / std::max(1, scaling.ranks_a);
    if (scaling.speedup_high > 0) view.efficiency_high = scaling.speedup_high / times;
    return view;
  }
  const auto seconds_a_sample = [](const SideView& side) {
    std::vector<double> values;
    for (std::size_t i = 0; i < side.runs.size(); ++i) {
      const auto batch = number_fact(*side.runs[i], "global_batch");
      if (batch && side.ledgers[i]->step_time_s) {
        values.push_back(*side.ledgers[i]->step_time_s / *batch);
      }
    }
    return stats::median(values);
  };
  const auto time_a = seconds_a_sample(a), time_b = seconds_a_sample(b);
  if (!a.any() || !b.any() || !time_a || !time_b || !(*time_b > 0)) return std::nullopt;
  const auto ranks_a = a.runs.back()->info.ranks_trained;
  const auto ranks_b = b.runs.back()->info.ranks_trained;
  if (!ranks_a || !ranks_b || *ranks_b <= *ranks_a || *ranks_a < 1) return std::nullopt;
  ScalingView view;
  view.ranks_a = *ranks_a;
  view.ranks_b = *ranks_b;
  view.speedup = *time_a / *time_b;
  view.efficiency = view.speedup * *ranks_a / *ranks_b;
  return view;
}

std::optional<Evidence> out_of_memory(const std::vector<Run>& runs) {
  for (const auto& run : runs) {
    if (!run.info.ending || well_ended(run)) continue;
    const auto events = read_events(run);
    if (events.ok()) {
      for (std::size_t i = 0; i < events->rows.size(); ++i) {
        const Event& event = events->rows[i];
        if (event.kind != EventKind::error) continue;
        if (!speaks_of_memory(event.name) && !speaks_of_memory(event.detail)) continue;
        Evidence evidence = evidence_of(run, "events.csv", "out of memory");
        if (events->bad_rows == 0) {
          evidence.first_row = evidence.last_row = static_cast<std::int64_t>(i) + 2;
        }
        return evidence;
      }
    }
    for (const auto stream : {"err", "out"}) {
      const std::string file = layout::log_file(stream);
      if (speaks_of_memory(tail_of(run.dir / file))) return evidence_of(run, file, "out of memory");
    }
  }
  return std::nullopt;
}

std::vector<std::string> tried_by_runs(const std::vector<Run>& runs) {
  std::vector<std::string> tried;
  const auto add = [&](const char* name, bool really) {
    if (really && std::find(tried.begin(), tried.end(), name) == tried.end()) {
      tried.emplace_back(name);
    }
  };
  for (const auto& run : runs) {
    const std::string quantised = lower(fact_of(run, "quantisation").value_or("none"));
    add("quantisation", quantised != "none" && quantised != "false" && quantised != "no");
    add("lora", fact_of(run, "lora_rank").has_value());
    add("sequence", fact_of(run, "sequence_length").has_value());
    add("checkpointing", lower(fact_of(run, "gradient_checkpointing").value_or("")) == "true");
  }
  return tried;
}

std::optional<NamedBottleneck> named_bottleneck(const SideView& side) {
  std::map<LedgerClass, int> votes;
  for (const auto* ledger : side.ledgers) {
    const auto cls = ledger->bottleneck.cls;
    if (cls && *cls != LedgerClass::compute && *cls != LedgerClass::unexplained) ++votes[*cls];
  }
  if (votes.empty()) return std::nullopt;
  const auto most = std::max_element(
      votes.begin(), votes.end(), [](const auto& x, const auto& y) { return x.second < y.second; });
  if (static_cast<std::size_t>(most->second) * 2 < side.ledgers.size()) return std::nullopt;
  NamedBottleneck named;
  named.cls = most->first;
  for (std::size_t i = 0; i < side.ledgers.size(); ++i) {
    const Ledger& ledger = *side.ledgers[i];
    if (ledger.bottleneck.cls != named.cls) continue;
    named.why = ledger.bottleneck.why;
    named.next_step = ledger.bottleneck.next_step;
    named.evidence.clear();
    if (const LedgerRow* row = row_of(ledger.rows, named.cls); row != nullptr) {
      for (const auto& evidence : row->evidence) {
        named.evidence.push_back(evidence_of(*side.runs[i], evidence));
      }
    }
    if (named.evidence.empty()) named.evidence.push_back(evidence_of(*side.runs[i], "run.json"));
  }
  return named;
}

}  // namespace rigwise
