// From a recorded run to what a plan needs of it.
#include <algorithm>
#include <filesystem>
#include <map>

#include "base/text.h"
#include "rigwise/plan_options.h"
#include "rigwise/stats.h"

namespace rigwise {

namespace {

constexpr double kBusyFrac = 0.3;  // from here on a GPU reading is one under load

constexpr double kAdaptersFrac = 0.5;

using Facts = std::map<std::string, std::string>;

std::optional<double> number(const Facts& facts, const char* key) {
  const auto found = facts.find(key);
  if (found == facts.end()) return std::nullopt;
  const auto value = to_number(found->second);
  return value && *value > 0 ? value : std::nullopt;
}
std::string word(const Facts& facts, const char* key) {
  const auto found = facts.find(key);
  return found == facts.end() ? "" : lower(found->second);
}

/// "down_proj,gate_proj,q_proj" → down, gate, q.
std::vector<std::string> targets_of(const std::string& text) {
  std::vector<std::string> targets;
  for (const auto part : split(text, ',')) {
    std::string name = lower(trim(part));
    name.erase(0, name.rfind('.') + 1);  // model.layers.0.mlp.down_proj; npos + 1 is 0
    if (name.ends_with("_proj")) name.resize(name.size() - 5);
    if (name == "query_key_value" || name == "c_attn" || name == "qkv_proj") name = "qkv";
    if (name == "lm_head") name = "head";
    if (name == "all-linear") return {"q", "k", "v", "o", "gate", "up", "down"};
    if (std::find(targets.begin(), targets.end(), name) == targets.end()) targets.push_back(name);
  }
  return targets;
}

/// rigwise-engine computes in fp32 where --dtype says nothing else.
std::string engine_precision(const std::vector<std::string>& command) {
  for (std::size_t i = 0; i < command.size(); ++i) {
    if (command[i] == "--dtype" && i + 1 < command.size()) return command[i + 1];
    if (command[i].starts_with("--dtype=")) return command[i].substr(8);
  }
  return "fp32";
}

Workload workload_of(const Run& run) {
  Facts facts;
  for (const auto& fact : run.info.facts) facts[fact.key] = fact.value;
  Workload w;
  w.model = word(facts, "model");
  w.params = number(facts, "parameters");
  w.trainable_params = number(facts, "trainable_parameters");
  w.lora_rank = number(facts, "lora_rank");
  w.lora_targets = targets_of(word(facts, "lora_targets"));
  const std::string quantised = word(facts, "quantisation");
  // less than half of the weights trained: adapters, whatever their settings are called
  const bool adapters = w.lora_rank || (w.trainable_params && w.params &&
                                        *w.trainable_params < kAdaptersFrac * *w.params);
  w.method = !adapters ? "full" : quantised.empty() ? "lora" : "qlora";
  if (w.method == "qlora") w.quant = quantised == "8bit" ? "int8" : "nf4_dq";
  w.precision = word(facts, "precision");
  if (word(facts, "launcher") == "rigwise-engine") {
    w.framework = "rigwise";
    if (w.precision.empty()) w.precision = engine_precision(run.info.command);
  }
  w.seq_len = number(facts, "sequence_length");
  w.micro_batch = number(facts, "micro_batch");
  w.grad_accum = number(facts, "accumulation");
  w.global_batch = number(facts, "global_batch");
  w.checkpointing = word(facts, "gradient_checkpointing") == "true" ? "full" : "";
  w.n_gpus = std::max(1, run.info.ranks_trained.value_or(1));
  if (!w.grad_accum && w.global_batch && w.micro_batch) {
    w.grad_accum =
        std::max(1.0, *w.global_batch / (*w.micro_batch * static_cast<double>(w.n_gpus)));
  }
  if (w.model.empty()) return w;
  // dimensions from the folder where it is still there, else from the catalogue
  std::error_code error;
  const auto found_fact = std::find_if(run.info.facts.begin(), run.info.facts.end(),
                                       [](const Fact& fact) { return fact.key == "model"; });
  const std::filesystem::path folder = std::filesystem::path(run.info.cwd) / found_fact->value;
  auto model =
      std::filesystem::is_directory(folder, error) ? read_model(folder) : find_model(w.model);
  if (model) {
    w.shape = model->shape;
    if (!w.params) w.params = model->params;
  }
  return w;
}

/// Medians of the phases that the log states, of rank 0, behind the first tenth of the steps.
std::optional<MeasuredStep> step_of(const Run& run, const Workload& w) {
  const auto steps = read_steps(run);
  if (!steps) return std::nullopt;
  std::vector<double> forward, backward, optimizer, other, whole;
  const std::size_t skip = std::max<std::size_t>(3, steps->rows.size() / 10);
  std::size_t seen = 0;
  for (const auto& row : steps->rows) {
    if (row.kind != RecordKind::train || row.rank.value_or(0) != 0) continue;
    if (!row.forward_s || !row.backward_s || !row.step_time_s || ++seen <= skip) continue;
    forward.push_back(*row.forward_s);
    backward.push_back(*row.backward_s);
    optimizer.push_back(row.optimizer_s.value_or(0));
    whole.push_back(*row.step_time_s);
    other.push_back(*row.step_time_s - *row.forward_s - *row.backward_s - optimizer.back() -
                    row.sync_s.value_or(0));
  }
  if (forward.empty()) return std::nullopt;
  MeasuredStep step;
  step.forward_s = *stats::median(forward);
  step.backward_s = *stats::median(backward);
  step.optimizer_s = *stats::median(optimizer);
  step.other_s = std::max(0.0, *stats::median(other));
  step.micro_steps = std::max(1.0, w.grad_accum.value_or(1));
  step.phases_measured = true;
  step.run_to_run_frac = run_to_run_frac(whole);
  if (!(step.forward_s > 0) || !(step.backward_s > 0)) return std::nullopt;
  return step;
}

struct GpuSeen {
  double power_sum = 0, power_n = 0, limit_w = 0;
  std::vector<double> temp_c = {}, t_s = {};
};

void see_gpus(const Run& run, MeasuredRun& measured) {
  std::map<std::pair<std::string, int>, GpuSeen> seen;
  for (const auto& host : hosts_of(run)) {
    const auto done = visit_gpu(run, host, {"util_frac", "temp_c", "power_w", "power_limit_w"},
                                [&](const GpuSample& sample, std::int64_t) {
                                  if (sample.util_frac.value_or(0) < kBusyFrac) return true;
                                  auto& gpu = seen[{host, sample.gpu}];
                                  if (sample.power_w)
                                    gpu.power_sum += *sample.power_w, gpu.power_n += 1;
                                  if (sample.temp_c) {
                                    gpu.temp_c.push_back(*sample.temp_c);
                                    gpu.t_s.push_back(sample.t_s);
                                  }
                                  if (sample.power_limit_w)
                                    gpu.limit_w = std::max(gpu.limit_w, *sample.power_limit_w);
                                  return true;
                                });
    if (!done) continue;  // a run without GPU readings is planned without them
    const auto rig = read_rig(run, host);
    if (!rig) continue;
    for (const auto& device : rig->gpus) {
      if (device.slowdown_c) measured.slowdown_c = device.slowdown_c;
      if (device.power_limit_w && !measured.gpu_limit_w)
        measured.gpu_limit_w = device.power_limit_w;
    }
  }
  double power = 0, cards = 0;
  for (auto& [key, gpu] : seen) {
    if (gpu.power_n > 0) power += gpu.power_sum / gpu.power_n, cards += 1;
    if (gpu.limit_w > 0) measured.gpu_limit_w = gpu.limit_w;
    if (gpu.temp_c.size() >= 3) {
      // readings since the load began, thinned so that a long run costs what a short one does
      std::vector<double> thin;
      const std::size_t step = std::max<std::size_t>(1, gpu.temp_c.size() / 200);
      for (std::size_t i = 0; i < gpu.temp_c.size(); i += step) thin.push_back(gpu.temp_c[i]);
      if (const auto plateau = settled_temperature(thin)) {
        if (plateau->value <= measured.settled_c.value_or(0)) continue;
        measured.settled_c = plateau->value;
        measured.heat_c = std::move(thin);
        measured.heat_interval_s = (gpu.t_s.back() - gpu.t_s.front()) * static_cast<double>(step) /
                                   static_cast<double>(gpu.t_s.size() - 1);
      }
    }
  }
  if (cards > 0) measured.gpu_mean_w = power / cards;
}

}  // namespace

MeasuredRun measured_run(const Run& run, std::vector<MeasuredRow> rows,
                         std::optional<std::int64_t> steps) {
  MeasuredRun measured;
  measured.name = run.info.name;
  measured.wall_s = run.wall_s;
  measured.rows = std::move(rows);
  measured.steps = steps;
  measured.workload = workload_of(run);
  measured.gpus = measured.workload.n_gpus;
  if (measured.workload.trainable_params) {
    const bool small =
        measured.workload.precision == "bf16" || measured.workload.precision == "fp16";
    // torch all-reduces gradients in the parameters' type; adapters are mostly fp32
    measured.workload.grad_bytes =
        *measured.workload.trainable_params * (measured.workload.method == "full" && small ? 2 : 4);
  }
  measured.step = step_of(run, measured.workload);
  if (const auto events = read_events(run)) {
    double bytes = 0;
    for (const auto& event : events->rows) {
      if (event.kind == EventKind::checkpoint && event.size_bytes) {
        bytes += static_cast<double>(*event.size_bytes);
      }
    }
    if (bytes > 0) measured.checkpoint_bytes = bytes;
  }
  see_gpus(run, measured);
  return measured;
}

}  // namespace rigwise
