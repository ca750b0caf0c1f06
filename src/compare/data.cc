#include "compare/data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "rigwise/stats.h"

namespace rigwise::compare_data {

namespace {

template <class T>
Rows<T> take(Result<Rows<T>> rows, RunData& data) {
  if (rows.ok()) return std::move(*rows);
  data.trouble.push_back(rows.error().message);
  return {};
}

// The columns that conditions, repeatability and side effects look at.
const ColumnNames kHostColumns = {
    "t_s",        "others_cpu_s",     "tree_rss_bytes", "swap_used_bytes",
    "temp_cpu_c", "package_energy_j", "top_other"};
const ColumnNames kGpuColumns = {"t_s",
                                 "gpu",
                                 "util_frac",
                                 "used_bytes",
                                 "temp_c",
                                 "power_w",
                                 "power_limit_w",
                                 "pcie_gen",
                                 "pcie_width",
                                 "pcie_width_max",
                                 "throttle_reasons",
                                 "held_sw_thermal_s",
                                 "held_hw_thermal_s",
                                 "held_brake_s",
                                 "tree_processes",
                                 "other_processes",
                                 "tree_used_bytes"};

/// NVML's reasons hw slowdown, sw thermal, hw thermal, power brake. A power cap alone is a card at
/// its limit, which is how it is meant to run.
constexpr std::uint64_t kHeatReasons = 0x8 | 0x20 | 0x40 | 0x80;

void see(GpuSummary& gpu, const GpuSample& row, std::int64_t line, bool in_steps) {
  gpu.ours = gpu.ours || row.tree_processes.value_or(0) > 0 || row.tree_used_bytes.value_or(0) > 0;
  gpu.most_util = std::max(gpu.most_util, row.util_frac.value_or(0));
  gpu.width = std::max(gpu.width, row.pcie_width.value_or(0));
  gpu.width_max = std::max(gpu.width_max, row.pcie_width_max.value_or(0));
  gpu.gen = std::max(gpu.gen, row.pcie_gen.value_or(0));
  if (!gpu.first_temp_c) gpu.first_temp_c = row.temp_c;
  if (!gpu.power_limit_w) gpu.power_limit_w = row.power_limit_w;
  gpu.temp_c.see(row.temp_c, line);
  gpu.used_bytes.see(row.used_bytes, line);
  if (!in_steps) return;
  if (gpu.first_line == 0) gpu.first_line = line;
  gpu.last_line = line;
  if (row.power_w) {
    gpu.power_sum_w += *row.power_w;
    ++gpu.power_count;
  }
  if (row.held_sw_thermal_s || row.held_hw_thermal_s || row.held_brake_s) {
    gpu.held_s.see(row.held_sw_thermal_s.value_or(0) + row.held_hw_thermal_s.value_or(0) +
                       row.held_brake_s.value_or(0),
                   row.t_s, line);
  }
  if (row.throttle_reasons && *row.throttle_reasons >= 0 && *row.throttle_reasons < 1e15) {
    ++gpu.with_reason;
    if ((static_cast<std::uint64_t>(*row.throttle_reasons) & kHeatReasons) != 0) {
      ++gpu.with_heat_reason;
    }
  }
  gpu.most_others = std::max(gpu.most_others, row.other_processes.value_or(0));
}

void see(HostSummary& host, const HostSample& row, std::int64_t line, bool in_steps) {
  host.package_energy_j.see(row.package_energy_j, row.t_s, line);
  host.rss_bytes.see(row.tree_rss_bytes, line);
  host.swap_bytes.see(row.swap_used_bytes, line);
  host.temp_cpu_c.see(row.temp_cpu_c, line);
  if (!in_steps) return;
  host.others_cpu_s.see(row.others_cpu_s, row.t_s, line);
  if (!row.top_other.empty()) host.top_other = row.top_other;
}

constexpr std::size_t kMostGpus = 256;  // a broken table must not grow the map without end

void walk_tables(RunData& data, HostData& one) {
  const auto [from, to] = step_window(data);
  const Status hosts = visit_host(*data.run, one.host, kHostColumns,
                                  [&, from = from, to = to](const HostSample& row, auto line) {
                                    see(one.summary, row, line, row.t_s >= from && row.t_s <= to);
                                    return true;
                                  });
  if (!hosts) data.trouble.push_back(hosts.error().message);
  const Status gpus = visit_gpu(
      *data.run, one.host, kGpuColumns, [&, from = from, to = to](const GpuSample& row, auto line) {
        if (one.gpus.size() >= kMostGpus && one.gpus.count(row.gpu) == 0) return true;
        see(one.gpus[row.gpu], row, line, row.t_s >= from && row.t_s <= to);
        return true;
      });
  if (!gpus) data.trouble.push_back(gpus.error().message);
}

void load_hosts(RunData& data) {
  for (const std::string& host : hosts_of(*data.run)) {
    HostData one;
    one.host = host;
    one.host_file = "watch/" + host + ".host.csv";
    one.gpu_file = "watch/" + host + ".gpu.csv";
    walk_tables(data, one);
    // Absent files are the usual case, and run.missing already names them.
    if (auto rig = read_rig(*data.run, host)) one.rig = std::move(*rig);
    if (auto environment = read_environment(*data.run, host)) {
      one.environment = std::move(*environment);
    }
    data.hosts.push_back(std::move(one));
  }
}

void find_batch(RunData& data) {
  if (const auto stated = fact_number(data, "global_batch"); stated && *stated > 0) {
    data.global_batch = stated;
    data.global_batch_source = "stated";
    return;
  }
  const auto micro = fact_number(data, "micro_batch");
  if (micro && data.ranks && *micro > 0) {
    data.global_batch = *micro * fact_number(data, "accumulation").value_or(1) * *data.ranks;
    data.global_batch_source = "micro batch × accumulation × ranks";
    return;
  }
  for (const StepRecord& record : data.steps.rows) {
    if (record.per_device || !record.samples_per_s || !record.steps_per_s) continue;
    if (!(*record.steps_per_s > 0)) continue;
    const double ratio = *record.samples_per_s / *record.steps_per_s;
    const double whole = std::round(ratio);
    if (whole < 1 || std::fabs(ratio - whole) > 0.02 * whole) continue;
    data.global_batch = whole;
    data.global_batch_source = "samples per second over steps per second";
  }
}

/// Where a stepless train entry stood by the bar: the bar beside it, else the one last shown. Both
/// are near, not exact: two streams reach the recorder in their own time.
struct Unplaced {
  std::size_t row = 0;
  double bar = 0;  // 0: no bar was seen
};

std::vector<Unplaced> unplaced_entries(const RunData& data) {
  std::vector<Unplaced> found;
  const auto planned = fact_number(data, "max_steps");
  double bar = 0;
  for (std::size_t i = 0; i < data.steps.rows.size(); ++i) {
    const StepRecord& record = data.steps.rows[i];
    if (record.kind == RecordKind::progress && record.step && record.steps_total) {
      // A bar with another total is an evaluation's.
      if (planned && static_cast<double>(*record.steps_total) != *planned) continue;
      bar = static_cast<double>(*record.step);
    }
    if (record.kind != RecordKind::train || !record.loss || record.step) continue;
    found.push_back({i, record.bar_step ? static_cast<double>(*record.bar_step) : bar});
  }
  return found;
}

struct Grid {
  double interval = 0, offset = 0;  // entry i (1-based) stands at offset + interval * i
};

/// Entries come at even intervals: stated, else as the bar showed, else (a buffered stdout comes
/// late, but whole) the planned steps shared out. Nothing where none of these fits.
std::optional<Grid> grid_of(const RunData& data, const std::vector<Unplaced>& entries) {
  const auto n = static_cast<double>(entries.size());
  Grid grid;
  if (const auto stated = interval_steps(data, "logging_interval")) {
    grid.interval = *stated;
    const bool any_bar = std::any_of(entries.begin(), entries.end(),
                                     [](const Unplaced& entry) { return entry.bar > 0; });
    if (!any_bar) return grid;
  } else {
    std::vector<double> gaps;
    for (std::size_t i = 1; i < entries.size(); ++i) {
      gaps.push_back(entries[i].bar - entries[i - 1].bar);
    }
    grid.interval = std::round(stats::median(gaps).value_or(0));
  }
  if (grid.interval >= 1) {
    std::vector<double> offsets;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      offsets.push_back(entries[i].bar - grid.interval * static_cast<double>(i + 1));
    }
    const double slack = std::max(2.0, grid.interval / 2);
    const double offset = *stats::median(offsets);
    grid.offset =
        std::fabs(offset) <= slack ? 0 : std::round(offset / grid.interval) * grid.interval;
    const auto near = std::count_if(offsets.begin(), offsets.end(), [&](double one) {
      return std::fabs(one - grid.offset) <= slack;
    });
    if (static_cast<double>(near) >= 0.9 * n) return grid;
  }
  const auto planned = fact_number(data, "max_steps");
  if (!planned || n < 2) return std::nullopt;
  grid = {std::round(*planned / n), 0};
  if (grid.interval >= 1 && std::fabs(grid.interval * n - *planned) < grid.interval) return grid;
  return std::nullopt;
}

/// An evaluation belongs to the step that its schedule, the end of training or the train entry
/// before it names, where the bar shows one within two steps of it.
void place_evaluation(const RunData& data, double last_train, StepRecord& record) {
  const double bar = record.bar_step ? static_cast<double>(*record.bar_step) : last_train;
  std::vector<double> candidates{last_train};
  if (const auto every = interval_steps(data, "evaluation_interval")) {
    candidates.insert(candidates.begin(), std::round(bar / *every) * *every);
  }
  if (const auto planned = fact_number(data, "max_steps")) candidates.push_back(*planned);
  for (const double candidate : candidates) {
    if (candidate < 1 || std::fabs(candidate - bar) > 2) continue;
    record.step = static_cast<std::int64_t>(candidate);
    return;
  }
}

/// Gives entries that state no step the one at which they must stand.
void place_entries(RunData& data) {
  const std::vector<Unplaced> entries = unplaced_entries(data);
  const auto grid = grid_of(data, entries);
  if (grid) {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const double step = grid->offset + grid->interval * static_cast<double>(i + 1);
      data.steps.rows[entries[i].row].step = static_cast<std::int64_t>(std::max(1.0, step));
    }
  }
  double last_train = 0;
  for (StepRecord& record : data.steps.rows) {
    if (record.kind == RecordKind::train && record.step) {
      last_train = static_cast<double>(*record.step);
    }
    if (record.kind == RecordKind::eval && !record.step) {
      place_evaluation(data, last_train, record);
    }
  }
}

/// nan or inf anywhere, or a loss of exactly 0 beside a gradient norm of nan (a trainer that zeroes
/// what it cannot add up). A loss of 0 alone is legitimate for reward training.
void find_divergence(RunData& data) {
  for (std::size_t i = 0; i < data.steps.rows.size(); ++i) {
    const StepRecord& record = data.steps.rows[i];
    std::string why;
    if (record.loss && !std::isfinite(*record.loss)) {
      why = fmt::format("loss is {}", number_text(*record.loss));
    } else if (record.eval_loss && !std::isfinite(*record.eval_loss)) {
      why = fmt::format("evaluation loss is {}", number_text(*record.eval_loss));
    } else if (record.loss && *record.loss == 0 && record.grad_norm &&
               !std::isfinite(*record.grad_norm)) {
      why = "loss is exactly 0 beside a gradient norm of nan";
    } else {
      continue;
    }
    if (record.step) why += fmt::format(" at step {}", *record.step);
    data.diverged = true;
    data.diverged_why = why;
    data.diverged_evidence = rows_evidence(data, data.steps, i, i, why);
    return;
  }
}

}  // namespace

RunData load(const Run& run) {
  RunData data;
  data.run = &run;
  data.label = run.info.id.empty() ? run.info.name : run.info.id;
  data.steps = take(read_steps(run), data);
  data.events = take(read_events(run), data);
  for (const Fact& one : run.info.facts) data.facts[one.key] = one;
  data.ranks = run.info.ranks_trained ? run.info.ranks_trained : run.info.ranks_asked;
  for (const StepRecord& record : data.steps.rows) {
    const bool bar = record.kind == RecordKind::progress && record.steps_total;
    if (record.kind != RecordKind::train && !bar) continue;
    if (is_untimed(run, record)) continue;
    if (!data.first_step_t_s) data.first_step_t_s = record.t_s;
    data.last_step_t_s = std::max(data.last_step_t_s.value_or(0), record.t_s);
  }
  load_hosts(data);
  find_batch(data);
  place_entries(data);
  find_divergence(data);
  return data;
}

bool is_untimed(const Run& run, const StepRecord& record) {
  const auto& files = run.info.untimed;
  return !files.empty() && std::find(files.begin(), files.end(), record.log_file) != files.end();
}

std::optional<std::string> fact(const RunData& data, const std::string& key) {
  const auto found = data.facts.find(key);
  if (found == data.facts.end() || found->second.value.empty()) return std::nullopt;
  return found->second.value;
}

std::optional<double> fact_number(const RunData& data, const std::string& key) {
  const auto text = fact(data, key);
  if (!text) return std::nullopt;
  const auto number = to_number(trim(*text));
  if (!number || !std::isfinite(*number)) return std::nullopt;
  return number;
}

std::optional<double> interval_steps(const RunData& data, const std::string& key) {
  const auto text = fact(data, key);
  if (!text) return std::nullopt;
  const auto parts = split(trim(*text), ' ');
  if (parts.size() > 1 && !parts[1].starts_with("step")) return std::nullopt;
  const auto number = to_number(parts[0]);
  if (!number || !(*number > 0) || !std::isfinite(*number)) return std::nullopt;
  return number;
}

std::pair<double, double> step_window(const RunData& data) {
  if (!data.first_step_t_s) return {0, data.run->wall_s};
  return {*data.first_step_t_s, *data.last_step_t_s};
}

}  // namespace rigwise::compare_data
