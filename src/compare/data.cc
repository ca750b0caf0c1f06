#include "compare/data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"

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

template <class T, class Visit>
Table<T> walk(Visit visit, const RunData& data, const std::string& host, const ColumnNames& columns,
              const std::string& file, std::vector<std::string>& trouble) {
  Table<T> table;
  table.file = file;
  const Status status = visit(*data.run, host, columns, [&](const T& row, std::int64_t line) {
    table.rows.push_back(row);
    table.lines.push_back(line);
    return true;
  });
  if (!status) trouble.push_back(status.error().message);
  return table;
}

void load_hosts(RunData& data) {
  for (const std::string& host : hosts_of(*data.run)) {
    HostData one;
    one.host = host;
    const std::string stem = "watch/" + host;
    one.samples =
        walk<HostSample>(visit_host, data, host, kHostColumns, stem + ".host.csv", data.trouble);
    one.gpu = walk<GpuSample>(visit_gpu, data, host, kGpuColumns, stem + ".gpu.csv", data.trouble);
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
  load_hosts(data);
  for (const Fact& one : run.info.facts) data.facts[one.key] = one;
  data.ranks = run.info.ranks_trained ? run.info.ranks_trained : run.info.ranks_asked;
  for (const StepRecord& record : data.steps.rows) {
    const bool bar = record.kind == RecordKind::progress && record.steps_total;
    if (record.kind != RecordKind::train && !bar) continue;
    if (!data.first_step_t_s) data.first_step_t_s = record.t_s;
    data.last_step_t_s = std::max(data.last_step_t_s.value_or(0), record.t_s);
  }
  find_batch(data);
  find_divergence(data);
  return data;
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
