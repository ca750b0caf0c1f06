// Constructed runs, ledgers, a comparison and a decision for the report tests. Every figure is made
// up; the shapes are those of a two-GPU trial on a home machine.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "rigwise/report.h"

namespace rigwise::sample {

inline constexpr double kStart = 1'795'197'602;  // 2026-11-20, UTC

/// Repeatable noise in [-1, 1].
class Noise {
 public:
  explicit Noise(std::uint64_t seed) : state_(seed * 2654435761U + 1) {}
  double next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<double>(state_ % 20001) / 10000.0 - 1;
  }

 private:
  std::uint64_t state_;
};

inline Evidence evidence(std::string run, std::string file, std::int64_t first, std::int64_t last,
                         std::string what = "") {
  return {std::move(run), std::move(file), first, last, std::move(what)};
}

inline Statement statement() {
  Statement s;
  s.experiment = "second-gpu";
  s.bottleneck = "one RTX 3090 needs 8 h for 3000 steps at 96 % utilisation";
  s.threshold = "wall_clock(3000 steps) <= 5h";
  s.option = "second RTX 3090, data parallel";
  s.reason = "utilisation is high, the model fits, checkpoints are short";
  s.stop = "step time a sample falls by less than a quarter";
  s.baseline = "single";
  s.candidate = "two-gpu";
  s.hash = "6b1d0c9a5c3bd2c4f0e7a8d9b6c5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7";
  s.sealed_unix_s = kStart - 3600;
  return s;
}

inline Run run(const std::string& name, int ranks, double wall_s, double offset_s) {
  Run r;
  r.info.name = name;
  r.info.id = "20261120-1800" + std::to_string(10 + static_cast<int>(offset_s / 700)) + "-" + name;
  r.dir = "runs/" + r.info.id;
  r.info.command = {"python", "train.py", "--max_steps", "200", "--output_dir", "out/" + name};
  if (ranks > 1)
    r.info.command = {"torchrun",     "--nproc_per_node", std::to_string(ranks),
                      "train.py",     "--max_steps",      "200",
                      "--output_dir", "out/" + name};
  r.info.cwd = "/home/user/lab";
  r.info.host = "rig";
  r.info.start_unix_s = kStart + offset_s;
  r.info.version = "0.1.0";
  r.info.ranks_asked = ranks;
  r.info.ranks_trained = ranks;
  r.info.ranks_why = ranks > 1 ? "torchrun --nproc_per_node 2" : "one process";
  r.info.facts = {{"global_batch", "8", "argv --per_device_train_batch_size"},
                  {"seed", "42", "argv --seed"}};
  r.info.statement = statement();
  r.info.log_reading = ReadStatistics{480, 240, 240, 0, 0, ""};
  r.info.ending = Ending{0, {}, "exited", wall_s};
  r.info.recorder = RecorderCost{0.61, 14.2e6, 0.012, 0.05, 0, 0};
  r.state = RunState::finished;
  r.wall_s = wall_s;
  return r;
}

inline LedgerRow row(LedgerClass cls, double seconds, double half, How how, std::string note,
                     std::vector<Evidence> shown = {}) {
  LedgerRow r;
  r.cls = cls;
  r.seconds = seconds;
  r.low_s = seconds - half;
  r.high_s = seconds + half;
  r.how = how;
  r.note = std::move(note);
  r.evidence = std::move(shown);
  r.saves_at_most_s = seconds;
  return r;
}

inline LedgerRow unknown(LedgerClass cls, std::string would_measure) {
  LedgerRow r;
  r.cls = cls;
  r.note = "its seconds are in compute";
  r.would_measure = std::move(would_measure);
  return r;
}

inline Ledger two_gpu_ledger(const std::string& id, double wall_s = 372.0) {
  using enum LedgerClass;
  Ledger l;
  l.run = id;
  l.wall_s = wall_s;
  l.rows = {
      row(startup, 24.1, 0.2, How::measured, "imports 9 s, model load 12 s, tokenising 3 s",
          {evidence(id, "events.csv", 2, 5)}),
      row(input, 71.4, 2.9, How::measured,
          "rank 1 in DataLoader.__next__ (3 of 4 samples read-bound on /data)",
          {evidence(id, "watch/rig.proc.csv", 120, 390)}),
      row(compute, wall_s - 158.0, 6, How::derived, "steps less the rows below",
          {evidence(id, "steps.csv", 2, 201)}),
      row(throttle, 0, 0, How::measured, "no violation counter moved",
          {evidence(id, "watch/rig.gpu.csv", 2, 745)}),
      row(sync, 31.2, 4, How::measured,
          "gloo all_reduce, 2 windows of 1.5 s; rank 0 waits for rank 1"),
      row(host, 6.0, 1, How::measured, "another program (chrome, pid 4127) took 11 s of CPU",
          {evidence(id, "watch/rig.host.csv", 2, 373)}),
      unknown(memory, "rigwise run --profile, which reads the allocator's counters"),
      row(checkpoint, 18.9, 0.4, How::measured, "4 saves, 312 MB each, steps stood still",
          {evidence(id, "events.csv", 6, 9)}),
      row(evaluation, 0, 0, How::measured, ""),
      row(teardown, 3.2, 0, How::measured, ""),
      row(unexplained, 3.2, 0, How::measured, "between the last step and the summary line"),
  };
  l.rows[0].saves_at_most_s = 20.0;
  RankLedger rank0, rank1;
  rank0.rank = 0;
  rank0.rows = {row(compute, 201, 5, How::derived, "")};
  rank1.rank = 1;
  rank1.rows = {row(compute, 214, 6, How::derived, "")};
  l.ranks = {rank0, rank1};
  l.bottleneck = {input, "rank 1 waited for data in 3 of 4 looks"};
  l.rules_version = 1;
  l.step_time_s = 1.71;
  l.step_time_half_width_s = 0.03;
  l.steps = 200;
  Finding f;
  f.id = "loader-in-process";
  f.severity = Severity::warning;
  f.claim = "Rank 1's loader runs in the training process";
  f.next_step =
      "dataloader_num_workers 0 → 2 (rank 1's loader runs in the training process). Expected: 40 "
      "to 71 s less";
  f.evidence = {evidence(id, "watch/rig.proc.csv", 120, 390)};
  l.findings = {f};
  return l;
}

inline Ledger single_ledger(const std::string& id, double wall_s = 590.0) {
  using enum LedgerClass;
  Ledger l;
  l.run = id;
  l.wall_s = wall_s;
  l.rows = {row(startup, 22.4, 0.2, How::measured, "imports 8 s, model load 11 s, tokenising 3 s",
                {evidence(id, "events.csv", 2, 5)}),
            row(input, 12.0, 1.1, How::measured, "loader waits below 0.1 s a step"),
            row(compute, wall_s - 66.4, 5, How::derived, "steps less the rows below",
                {evidence(id, "steps.csv", 2, 201)}),
            row(throttle, 0, 0, How::measured, "no violation counter moved"),
            row(sync, 0, 0, How::measured, "one rank"),
            row(host, 5.1, 1, How::measured, "other programs took 9 s of CPU"),
            unknown(memory, "rigwise run --profile, which reads the allocator's counters"),
            row(checkpoint, 18.0, 0.4, How::measured, "4 saves, 312 MB each",
                {evidence(id, "events.csv", 6, 9)}),
            row(evaluation, 0, 0, How::measured, ""),
            row(teardown, 3.0, 0, How::measured, ""),
            row(unexplained, 5.9, 0, How::measured, "between the last step and the summary line")};
  l.bottleneck = {compute, "steps fill the wall time and no other row could meet the threshold"};
  l.rules_version = 1;
  l.step_time_s = 2.74;
  l.step_time_half_width_s = 0.02;
  l.steps = 200;
  return l;
}

inline Comparison comparison(const std::vector<Run>& a, const std::vector<Run>& b) {
  Comparison c;
  for (const Run& r : a) c.runs_a.push_back(r.info.id);
  for (const Run& r : b) c.runs_b.push_back(r.info.id);
  c.name_a = "single";
  c.name_b = "two-gpu";
  c.factor = "ranks=1,2";
  c.comparable = Comparable::caveats;
  c.fields = {
      {"ranks", "1", "2", Impact::noted, Impact::noted, true, "", {}},
      {"start_time",
       "18:00",
       "20:04",
       Impact::caps,
       Impact::none,
       false,
       "the room may have been warmer; alternate the runs",
       {}},
      {"nccl", "", "2.27.3", Impact::noted, Impact::none, false, "", {}},
      {"global_batch", "8", "8", Impact::normalise, Impact::blocks, false, "", {}},
      {"data",
       "slice.jsonl (12,000 rows)",
       "slice.jsonl (12,000 rows)",
       Impact::blocks,
       Impact::blocks,
       false,
       "",
       {}},
      {"precision", "bf16", "bf16", Impact::blocks, Impact::blocks, false, "", {}},
  };
  c.verdict = Verdict::faster;
  c.verdict_why = "the whole interval is below −2 %";
  Effect e;
  e.metric = "step_time_per_sample";
  e.percent = -38.8;
  e.low = -43;
  e.high = -34;
  e.level_a_s = 0.428;
  e.level_b_s = 0.262;
  e.runs_a = e.runs_b = 3;
  e.clean_a = 570;
  e.total_a = 600;
  e.clean_b = 561;
  e.total_b = 600;
  e.ess_a = 310;
  e.ess_b = 290;
  e.method = "Welch t over per-run log medians";
  c.effect = e;
  Effect w = e;
  w.metric = "wall_time";
  w.percent = -36.9;
  w.low = -39;
  w.high = -35;
  w.level_a_s = 590;
  w.level_b_s = 372;
  c.wall = w;
  LossTrend t;
  t.verdict = "equivalent";
  t.basis = "training loss at equal samples";
  t.difference = -0.004;
  t.low = -0.019;
  t.high = 0.011;
  t.margin = 0.024;
  c.loss = t;
  c.repeat_a = Repeatability{"speed", 1.1, ""};
  c.repeat_b = Repeatability{"speed", 1.4, ""};
  Scaling s;
  s.ranks_b = 2;
  s.kind = "strong";
  s.speedup = 1.63;
  s.speedup_low = 1.52;
  s.speedup_high = 1.75;
  s.efficiency = 0.815;
  c.scaling = s;
  const std::string last = b.empty() ? "" : b.front().info.id;
  c.side_effects = {
      {"GPU 1 temperature",
       "–",
       "83 °C",
       "6 °C below slowdown",
       {evidence(last, "watch/rig.gpu.csv", 2, 745)}},
      {"checkpoint time", "4.5 s", "5.4 s", "+0.9 s", {evidence(last, "events.csv", 6, 9)}},
      {"disk", "1.2 GB", "3.6 GB", "2.4 GB more", {evidence(last, "watch/rig.disk.csv", 2, 373)}},
  };
  c.threshold = ThresholdOutcome{"wall_clock(3000 steps) <= 5h", "missed",
                                 "3000 steps would take 5 h 31 min ± 12 min"};
  c.rules_version = 1;
  return c;
}

inline Decision decision(const std::string& a, const std::string& b) {
  Decision d;
  d.experiment = "second-gpu";
  d.verdict = DecisionVerdict::fix_first;
  d.fix = "input";
  d.statement = statement();
  d.reasons = {{"Two GPUs need 5 h 31 min ± 12 min for 3000 steps, which misses 5 h",
                {evidence(b, "steps.csv", 2, 201)}},
               {"Waiting for data takes 71 s of 372 s, and removing it would meet the threshold",
                {evidence(b, "watch/rig.proc.csv", 120, 390)}}};
  d.next_action =
      "set dataloader_num_workers to 2, repeat the pair, then decide again: no reason to buy yet";
  d.summary = {{"Three runs a side, comparable with one caveat",
                {evidence(a, "run.json", 1, 80), evidence(b, "run.json", 1, 80)}}};
  d.baseline_result = {
      {"One GPU needs 8 h 02 min for 3000 steps", {evidence(a, "steps.csv", 2, 201)}}};
  d.candidate_result = {
      {"Two GPUs need 5 h 31 min ± 12 min for 3000 steps", {evidence(b, "steps.csv", 2, 201)}}};
  d.side_effects = {
      {"GPU 1 reached 83 °C, 6 °C below its slowdown", {evidence(b, "watch/rig.gpu.csv", 2, 745)}}};
  d.rung = "threshold-missed-fixable";
  d.rules_version = 1;
  return d;
}

/// Everything the page draws of one made run.
inline ReportRun tables(const Run& run, const Ledger& ledger, int gpus, double step_s,
                        std::uint64_t seed) {
  Noise noise(seed);
  ReportRun out;
  out.run = &run;
  out.ledger = &ledger;
  double t = ledger.rows[0].seconds.value_or(20);
  const double begin = t;
  out.events.rows.push_back({0.2, 9.1, EventKind::phase, "imports", "", {}, {}, {}, {}, "log", ""});
  out.events.rows.push_back(
      {9.1, begin, EventKind::phase, "model load", "", {}, {}, {}, {}, "log", ""});
  for (int step = 1; step <= 200; ++step) {
    double took = step_s * (1 + 0.04 * noise.next()) * (step == 1 ? 2.2 : 1);
    if (step % 50 == 0) {
      Event save;
      save.t_s = t + took;
      save.t_end_s = t + took + 4.5;
      save.kind = EventKind::checkpoint;
      save.name = "out/" + run.info.name + "/checkpoint-" + std::to_string(step);
      save.state = "complete";
      save.size_bytes = 312'000'000;
      save.files = 9;
      save.how = "filesystem";
      out.events.rows.push_back(save);
      took += 4.5;
    }
    t += took;
    StepRecord r;
    r.t_s = t;
    r.step = step;
    r.loss = 3.4 * std::exp(-step / 90.0) + 1.9 + 0.05 * noise.next();
    r.log_file = "log/out.log";
    r.log_line = step + 30;
    r.log_format = "hf_dict";
    out.steps.rows.push_back(r);
  }
  std::vector<double> temp(static_cast<std::size_t>(gpus), 38.0);
  double cpu = 0, others = 0;
  for (int s = 0; s < static_cast<int>(run.wall_s); ++s) {
    const bool busy = s > begin && s < t;
    for (int g = 0; g < gpus; ++g) {
      auto& heat = temp[static_cast<std::size_t>(g)];
      heat += ((busy ? (g == 1 ? 83 : 71) : 40) - heat) * 0.02;
      GpuSample sample;
      sample.t_s = s;
      sample.gpu = g;
      sample.util_frac = busy ? std::min(1.0, 0.93 + 0.05 * noise.next() - 0.1 * g) : 0.0;
      sample.temp_c = std::round(heat);
      sample.power_w = busy ? 320 + 18 * noise.next() - 25 * g : 24;
      sample.used_bytes = busy ? 19.4e9 : 0.4e9;
      if (!(s >= 200 && s < 230 && g == 0)) out.gpu.rows.push_back(sample);
    }
    cpu += busy ? 1.3 + 0.3 * noise.next() : 0.8;
    others += 0.2 + 0.15 * noise.next();
    HostSample host;
    host.t_s = s;
    host.tree_cpu_s = cpu;
    host.others_cpu_s = others;
    host.tree_rss_bytes = busy ? 7.2e9 : 2e9;
    host.mem_total_bytes = 64e9;
    host.mem_available_bytes = 49e9 - (busy ? 5e9 : 0);
    out.host.rows.push_back(host);
    if (s % 10 == 0) {
      DiskSample disk;
      disk.t_s = s;
      disk.device = "/home";
      double written = 0;
      for (const Event& e : out.events.rows)
        if (e.kind == EventKind::checkpoint && e.t_s < s) written += 0.312e9;
      disk.fs_free_bytes = 400e9 - written;
      out.disk.rows.push_back(disk);
    }
  }
  out.environment.host = "rig";
  out.environment.versions = {{"python", "3.12.3"},       {"torch", "2.13.0"},  {"cuda", "13.0"},
                              {"transformers", "5.24.0"}, {"driver", "580.82"}, {"kernel", "6.1"}};
  out.environment.facts = {{"git_commit", "3f9c2d71aa04"}, {"container", "none"}};
  if (gpus > 1) out.environment.versions["nccl"] = "2.27.3";
  Rig rig;
  rig.cpu_model = "AMD Ryzen 9 5900X";
  for (int g = 0; g < gpus; ++g) {
    GpuDevice device;
    device.gpu = g;
    device.name = "NVIDIA GeForce RTX 3090";
    device.slowdown_c = 89;
    rig.gpus.push_back(device);
  }
  out.rig = rig;
  return out;
}

/// A whole experiment: three runs a side, kept alive together. Not to be copied: the page points
/// into it.
struct Experiment {
  std::vector<Run> a, b;
  std::vector<Ledger> ledgers_a, ledgers_b;
  Comparison compared;
  Decision decided;
  ReportInput page;

  explicit Experiment(int runs_a_side = 3) {
    for (int i = 0; i < runs_a_side; ++i) {
      a.push_back(run("single", 1, 590.0 + 4 * i, 1400.0 * i));
      b.push_back(run("two-gpu", 2, 372.0 + 3 * i, 1400.0 * i + 700));
    }
    for (int i = 0; i < runs_a_side; ++i) {
      const auto n = static_cast<std::size_t>(i);
      ledgers_a.push_back(single_ledger(a[n].info.id, a[n].wall_s));
      ledgers_b.push_back(two_gpu_ledger(b[n].info.id, b[n].wall_s));
    }
    compared = comparison(a, b);
    decided = decision(a.front().info.id, b.front().info.id);
    for (int i = 0; i < runs_a_side; ++i) {
      const auto n = static_cast<std::size_t>(i);
      page.runs.push_back(tables(a[n], ledgers_a[n], 1, 2.74, 1 + n));
    }
    for (int i = 0; i < runs_a_side; ++i) {
      const auto n = static_cast<std::size_t>(i);
      page.runs.push_back(tables(b[n], ledgers_b[n], 2, 1.66, 11 + n));
    }
    page.comparison = &compared;
    page.decision = &decided;
    page.folder = "runs/decisions/second-gpu";
  }
  Experiment(const Experiment&) = delete;
  Experiment& operator=(const Experiment&) = delete;
};

}  // namespace rigwise::sample
