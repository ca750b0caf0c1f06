// Sides of a decision made by hand: runs with steps, saves, GPUs and facts, through RunWriter, then
// the real ledger and comparison over them.
#pragma once

#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "rigwise/decide.h"
#include "unit/ledger_made_run.h"

namespace rigwise::made {

struct SideSpec {
  std::string name = "single";
  int ranks = 1;
  double step_s = 0.5;
  int runs = 3;
  int steps = 200;
  double startup_s = 5;
  double save_s = 0.2;      // each of 4 saves, which steps wait for
  double evaluation_s = 0;  // each of 4 evaluations
  double util_frac = 0.97;
  double temp_c = 65;
  double pcie_width = 16;    // of the last GPU
  double thermal_share = 0;  // of the time, for which clocks are held down by heat
  bool gpus = true;
  int exit_status = 0;
  int global_batch = 8;
  std::string data_rows = "12000";
  std::string checkpoint_interval = "50 steps";
  std::vector<std::string> hosts = {"rig"};
  std::map<std::string, std::string> torch = {};  // by host
  std::optional<Statement> statement = {};
  std::vector<Fact> facts = {};
  double first_start_unix_s = 1.8e9;  // runs follow each other every 1000 s
  std::string log_tail = {};          // into log/err.log
};

inline Statement good_statement() {
  Statement statement;
  statement.experiment = "second-gpu";
  statement.bottleneck = "3000 steps take too many hours on one GPU, nearly all of it compute";
  statement.threshold = "samples_per_s >= 1.4x";
  statement.option = "two ranks, data parallel, same global batch";
  statement.reason = "the steps' compute is split over two ranks";
  statement.stop = "two honest tries without success";
  statement.baseline = "single";
  statement.candidate = "two-gpu";
  statement.hash = statement_hash(statement);
  statement.sealed_unix_s = 1.79e9;
  return statement;
}

inline Run make_run(const fs::path& root, const SideSpec& spec, int index) {
  Maker maker(root, spec.name, spec.first_start_unix_s + 1000.0 * index, spec.hosts.front());
  maker.info.statement = spec.statement;
  if (spec.statement) maker.info.statement->hash = statement_hash(*spec.statement);
  maker.info.ranks_asked = maker.info.ranks_trained = spec.ranks;
  maker.info.facts = {Fact{"model", "llama-135m", "argv --model"},
                      Fact{"data", "train.jsonl", "argv --data"},
                      Fact{"data_rows", spec.data_rows, "argv"},
                      Fact{"global_batch", std::to_string(spec.global_batch), "log/out.log:3"},
                      Fact{"max_steps", std::to_string(spec.steps), "argv --max_steps"},
                      Fact{"checkpoint_interval", spec.checkpoint_interval, "argv --save_steps"},
                      Fact{"seed", "1", "argv --seed"}};
  for (const auto& fact : spec.facts) maker.info.facts.push_back(fact);
  // A run-to-run spread of 0.4 % and some noise from step to step, the same at every call.
  const double run_factor = 1 + 0.004 * ((index * 7) % 5 - 2) / 2.0;
  const auto wait = [&](int k) {
    const double noise = 0.01 * std::sin(k * 12.9898 + index) * spec.step_s;
    const bool event = k % 50 == 1 && k > 1;
    return noise + (run_factor - 1) * spec.step_s + (event ? spec.save_s + spec.evaluation_s : 0);
  };
  const double end_s = maker.bar(spec.startup_s, spec.steps, spec.step_s, wait);
  double t_s = spec.startup_s;
  for (int k = 1; k <= spec.steps; ++k) {
    if (k % 50 == 1 && k > 1) {
      if (spec.evaluation_s > 0) maker.evaluation(t_s, t_s + spec.evaluation_s);
      if (spec.save_s > 0) {
        maker.checkpoint(t_s + spec.evaluation_s, t_s + spec.evaluation_s + spec.save_s);
      }
    }
    t_s += spec.step_s + wait(k);
  }
  maker.train_end(end_s + 0.2);
  const double wall_s = end_s + 2;
  for (const auto& host : spec.hosts) {
    const auto torch = spec.torch.find(host);
    Environment environment;
    environment.host = host;
    environment.versions["python"] = "3.11.2";
    environment.versions["torch"] = torch == spec.torch.end() ? "2.13.0" : torch->second;
    environment.versions["cuda"] = "13.0";
    EXPECT_TRUE(maker.writer().write(environment).ok());
    Rig rig;
    rig.host = host;
    rig.cpus_allowed = 16;
    for (int gpu = 0; gpu < spec.ranks && spec.gpus; ++gpu) {
      GpuDevice device;
      device.gpu = gpu;
      device.name = "RTX 3090";
      device.slowdown_c = 93;
      device.pcie_width_max = 16;
      rig.gpus.push_back(device);
    }
    EXPECT_TRUE(maker.writer().write(rig).ok());
  }
  maker.host(wall_s);
  for (int t = 0; t < static_cast<int>(wall_s) && spec.gpus; t += 2) {
    for (int gpu = 0; gpu < spec.ranks; ++gpu) {
      GpuSample sample;
      sample.t_s = t;
      sample.gpu = gpu;
      sample.util_frac = spec.util_frac;
      sample.used_bytes = 18e9;
      sample.temp_c = spec.temp_c;
      sample.pcie_width = gpu == spec.ranks - 1 ? spec.pcie_width : 16;
      sample.pcie_width_max = 16;
      sample.sm_clock_mhz = 1700;
      sample.sm_clock_max_mhz = 2100;
      sample.held_sw_thermal_s = spec.thermal_share * t;
      sample.held_power_s = sample.held_hw_thermal_s = 0;
      maker.add(sample);
    }
  }
  for (int rank = 0; rank < spec.ranks; ++rank) maker.rank_process(rank, 1, wall_s - 1);
  if (!spec.log_tail.empty()) {
    fs::create_directories(maker.writer().dir() / "log");
    std::ofstream(maker.writer().dir() / "log/err.log") << spec.log_tail;
  }
  return maker.finish(wall_s, spec.exit_status);
}

inline std::vector<Run> make_side(const fs::path& root, const SideSpec& spec) {
  std::vector<Run> runs;
  for (int i = 0; i < spec.runs; ++i) runs.push_back(make_run(root, spec, i));
  return runs;
}

/// What `rigwise decide` hands to decide().
inline DecideInput input_of(const Statement& statement, std::vector<Run> a, std::vector<Run> b) {
  DecideInput input;
  input.statement = statement;
  input.baseline = std::move(a);
  input.candidate = std::move(b);
  for (const auto& run : input.baseline) input.baseline_ledgers.push_back(*make_ledger(run));
  for (const auto& run : input.candidate) input.candidate_ledgers.push_back(*make_ledger(run));
  if (!input.baseline.empty() && !input.candidate.empty()) {
    auto comparison = compare(input.baseline, input.candidate, CompareOptions{});
    EXPECT_TRUE(comparison.ok()) << (comparison.ok() ? "" : comparison.error().message);
    if (comparison.ok()) input.comparison = std::move(*comparison);
  }
  return input;
}

}  // namespace rigwise::made
