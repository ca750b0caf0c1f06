// Conditions of a comparison: how the runs ended, whether every rank trained, how complete the
// record is, and what else the machine was doing.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "compare/fields.h"
#include "rigwise/units.h"

namespace rigwise::compare_fields {

using compare_data::HostData;
using compare_data::RunData;
using compare_rules::FieldRule;
using compare_rules::rule_of;

namespace {

/// A field whose severity does not come from "the values differ" but from what one run shows.
struct Condition {
  ComparedField field = {};
  Impact speed = Impact::none, loss = Impact::none;
  void raise(Impact to_speed, Impact to_loss) {
    if (static_cast<int>(to_speed) > static_cast<int>(speed)) speed = to_speed;
    if (static_cast<int>(to_loss) > static_cast<int>(loss)) loss = to_loss;
  }
  ComparedField done() {
    field.speed = speed;
    field.loss = loss;
    return std::move(field);
  }
};

Condition start(std::string_view name) {
  Condition condition;
  condition.field.field = std::string(name);
  return condition;
}

std::string ended_in_words(const RunData& data) {
  if (data.run->state == RunState::running) return "still running";
  std::string text;
  if (!data.run->info.ending) {
    text = "end not known";
  } else if (const Ending& ending = *data.run->info.ending; ending.signal) {
    text = ending.reason.empty() ? fmt::format("signal {}", *ending.signal) : ending.reason;
  } else if (ending.exit_status) {
    text = *ending.exit_status == 0 ? "finished" : fmt::format("exit {}", *ending.exit_status);
  } else {
    text = ending.reason.empty() ? "end not known" : ending.reason;
  }
  if (data.diverged) text += ", diverged";
  return text;
}

bool ended_well(const RunData& data) {
  return rigwise::ended_well(data.run->info) && !data.diverged;
}

void look_at_endings(const Side& a, const Side& b, Gate& gate) {
  Condition condition = start("run_ended");
  const FieldRule& rule = rule_of("run_ended");
  Values words_a, words_b;
  for (const Side* side : {&a, &b}) {
    for (std::size_t i = 0; i < side->runs.size(); ++i) {
      const RunData& run = side->runs[i];
      (side == &a ? words_a : words_b).push_back(ended_in_words(run));
      if (ended_well(run)) continue;
      // Rates may still be laid side by side where enough steps ran; losses may not.
      const bool enough =
          static_cast<int>(side->series[i].clean.size()) >= compare_rules::kMinClean;
      const bool unknown = end_unknown(run.run->info) && !run.diverged;
      condition.raise(enough || unknown ? Impact::caps : rule.speed,
                      unknown ? Impact::caps : rule.loss);
      condition.field.note = unknown  ? "nobody saw how it ended: it was imported"
                             : enough ? "enough steps ran for rates; nothing else can be said"
                                      : std::string(rule.why);
      condition.field.evidence.push_back(
          run.diverged
              ? run.diverged_evidence
              : Evidence{.run = run.label, .file = "run.json", .what = ended_in_words(run)});
      if (run.diverged) {
        gate.findings.push_back(
            {.id = "diverged",
             .severity = Severity::critical,
             .claim = fmt::format("a run of {} diverged: {}", side->name, run.diverged_why),
             .evidence = {run.diverged_evidence},
             .threshold = "a loss of nan or inf, or of exactly 0 beside a gradient norm of nan",
             .next_step = "lower the learning rate or use bf16 instead of fp16, then repeat"});
      }
    }
  }
  condition.field.a = in_words(words_a);
  condition.field.b = in_words(words_b);
  gate.fields.push_back(condition.done());
}

// ---------------------------------------------------------------------------------------------
// ranks

bool is_accelerate_cpu(const Run& run) {
  bool accelerate = false, cpu = false;
  for (const std::string& word : run.info.command) {
    accelerate = accelerate || word == "accelerate" || word.ends_with("/accelerate");
    cpu = cpu || word == "--cpu";
  }
  return accelerate && cpu;
}

std::string ranks_trouble(const RunData& data) {
  const RunInfo& info = data.run->info;
  if (!info.ranks_asked || !info.ranks_trained || *info.ranks_asked == *info.ranks_trained) {
    return {};
  }
  std::string text = fmt::format("{} of {} asked for", *info.ranks_trained, *info.ranks_asked);
  return text;
}

void look_at_ranks(const Side& a, const Side& b, const std::string& factor, Gate& gate) {
  const FieldRule& rule = rule_of("ranks_trained");
  Condition condition = start("ranks_trained");
  Values trained_a, trained_b, ranks_a, ranks_b;
  for (const Side* side : {&a, &b}) {
    for (const RunData& run : side->runs) {
      const RunInfo& info = run.run->info;
      const std::string trouble = ranks_trouble(run);
      const bool is_known = info.ranks_asked && info.ranks_trained;
      (side == &a ? trained_a : trained_b)
          .push_back(!trouble.empty() ? trouble
                     : is_known       ? "as asked"
                                      : "");
      (side == &a ? ranks_a : ranks_b).push_back(run.ranks ? std::to_string(*run.ranks) : "");
      if (!is_known) condition.raise(Impact::noted, Impact::noted);
      if (trouble.empty()) continue;
      condition.raise(rule.speed, rule.loss);
      const bool trap = is_accelerate_cpu(*run.run);
      condition.field.note =
          trap ? "accelerate launch --cpu starts one process whatever --num_processes says; start "
                 "CPU ranks with torchrun --nproc_per_node"
               : clean_text(info.ranks_why, 200);
      condition.field.evidence.push_back(
          {.run = run.label, .file = "run.json", .what = trouble + "; " + info.ranks_why});
      gate.findings.push_back(
          {.id = "ranks-missing",
           .severity = Severity::critical,
           .claim = fmt::format("{}: {} rank{} trained, {} {} asked for", side->name,
                                *info.ranks_trained, *info.ranks_trained == 1 ? "" : "s",
                                *info.ranks_asked, *info.ranks_asked == 1 ? "was" : "were"),
           .evidence = {{.run = run.label, .file = "run.json", .what = info.ranks_why}},
           .next_step = trap ? "start CPU ranks with torchrun --nproc_per_node"
                             : "check the launcher's flags and repeat"});
    }
  }
  condition.field.a = in_words(trained_a);
  condition.field.b = in_words(trained_b);
  gate.fields.push_back(condition.done());

  ComparedField ranks = lay(rule_of("ranks"), ranks_a, ranks_b);
  if (factor == "ranks" && ranks.note.empty()) ranks.note = "under test";
  gate.fields.push_back(std::move(ranks));
}

// ---------------------------------------------------------------------------------------------
// the record

/// Runs that never settled carry no verdict alone; among several they are spread, and said.
void look_at_steadiness(const Side& a, const Side& b, Gate& gate) {
  Condition condition = start("steadiness");
  for (const Side* side : {&a, &b}) {
    Values words;
    for (const auto& series : side->series) {
      words.emplace_back(series.points.empty() ? "" : series.steady ? "settled" : "never settled");
      if (series.steady) continue;
      condition.raise(Impact::caps, Impact::none);
      condition.field.note = std::string(rule_of("steadiness").why);
    }
    (side == &a ? condition.field.a : condition.field.b) = in_words(words);
  }
  gate.fields.push_back(condition.done());
}

void look_at_capture(const Side& a, const Side& b, Gate& gate) {
  Condition condition = start("capture");
  Condition pauses = start("unexplained_pauses");
  for (const Side* side : {&a, &b}) {
    Values words, shares;
    for (std::size_t i = 0; i < side->runs.size(); ++i) {
      const RunData& run = side->runs[i];
      const auto& series = side->series[i];
      if (!series.steps_expected || !(*series.steps_expected > 0) || series.points.empty()) {
        words.emplace_back();
        condition.raise(Impact::noted, Impact::noted);
        continue;
      }
      const double share = std::min(1.0, series.steps_seen / *series.steps_expected);
      words.push_back(format_share(share) + " of the steps");
      const bool poor = share < compare_rules::kCaptureCaps;
      if (poor) {
        const Impact impact = share < compare_rules::kCaptureBlocks ? Impact::blocks : Impact::caps;
        condition.raise(impact, impact);
        condition.field.note = std::string(rule_of("capture").why);
        condition.field.evidence.push_back(
            {.run = run.label,
             .file = run.steps.file,
             .what =
                 fmt::format("{:.0f} of {:.0f} steps", series.steps_seen, *series.steps_expected)});
      }
      std::size_t after = 0, unexplained = 0;
      for (const auto& point : series.points) {
        if (point.state == compare_series::PointState::warm_up) continue;
        ++after;
        if (point.state == compare_series::PointState::unexplained) ++unexplained;
      }
      if (after == 0) continue;
      const double paused = static_cast<double>(unexplained) / static_cast<double>(after);
      shares.push_back(format_share(paused));
      if (paused > compare_rules::kUnexplainedShare) {
        pauses.raise(Impact::caps, Impact::none);
        pauses.field.note = std::string(rule_of("unexplained_pauses").why);
      }
    }
    (side == &a ? condition.field.a : condition.field.b) = in_words(words);
    (side == &a ? pauses.field.a : pauses.field.b) = in_words(shares);
  }
  gate.fields.push_back(condition.done());
  gate.fields.push_back(pauses.done());
}

/// A summary that states samples/s must fit batch over step time; some trainers' lines do not.
void look_at_meaning(const Side& a, const Side& b, Gate& gate) {
  Condition condition = start("metric_meaning");
  for (const Side* side : {&a, &b}) {
    for (const RunData& run : side->runs) {
      if (!run.global_batch) continue;
      for (std::size_t i = 0; i < run.steps.rows.size(); ++i) {
        const StepRecord& record = run.steps.rows[i];
        if (record.kind == RecordKind::eval || !record.samples_per_s) continue;
        std::optional<double> steps_per_s = record.steps_per_s;
        if (!steps_per_s && record.step_time_s && *record.step_time_s > 0) {
          steps_per_s = 1 / *record.step_time_s;
        }
        if (!steps_per_s || !(*steps_per_s > 0)) continue;
        const double scale = record.per_device ? run.ranks.value_or(1) : 1;
        const double implied = *record.samples_per_s * scale / *steps_per_s;
        // Trainers print three decimals: a slow run's rates are rounded by more than they differ.
        const double rounding =
            0.001 / *steps_per_s + 0.001 / std::max(*record.samples_per_s, 1e-9);
        if (std::fabs(implied / *run.global_batch - 1) <=
            compare_rules::kRateAgreement + rounding) {
          continue;
        }
        condition.raise(Impact::caps, Impact::none);
        condition.field.note =
            fmt::format("the log's rates imply {:.3g} samples a step, the batch is {:.0f}", implied,
                        *run.global_batch);
        condition.field.evidence.push_back(
            compare_data::rows_evidence(run, run.steps, i, i, "samples and steps per second"));
        break;
      }
    }
  }
  gate.fields.push_back(condition.done());
}

// ---------------------------------------------------------------------------------------------
// what else the machine did

void look_at_load(const Side& a, const Side& b, Gate& gate) {
  Condition cpu = start("foreign_load");
  Condition gpu = start("foreign_gpu");
  for (const Side* side : {&a, &b}) {
    Values shares, others;
    for (const RunData& run : side->runs) {
      Evidence evidence;
      const auto share = foreign_cpu_share(run, &evidence);
      shares.push_back(share ? format_share(*share) : "");
      if (!share) cpu.raise(Impact::noted, Impact::none);
      if (share && *share >= compare_rules::kForeignCpuShare) {
        cpu.raise(Impact::caps, Impact::noted);
        cpu.field.note = std::string(rule_of("foreign_load").why);
        cpu.field.evidence.push_back(evidence);
      }
      for (const HostData& host : run.hosts) {
        for (const int index : gpus_used(host)) {
          const auto& summary = host.gpus.at(index);
          others.push_back(fmt::format("{:.0f}", summary.most_others));
          if (!(summary.most_others > 0)) continue;
          gpu.raise(Impact::blocks, Impact::noted);
          gpu.field.note = std::string(rule_of("foreign_gpu").why);
          gpu.field.evidence.push_back(compare_data::lines_evidence(
              run, host.gpu_file, summary.first_line, summary.last_line,
              fmt::format("processes of others on GPU {}", index)));
        }
      }
    }
    (side == &a ? cpu.field.a : cpu.field.b) = in_words(shares);
    (side == &a ? gpu.field.a : gpu.field.b) = in_words(others);
  }
  gate.fields.push_back(cpu.done());
  if (!gpu.field.a.empty() || !gpu.field.b.empty()) gate.fields.push_back(gpu.done());
}

/// Share of the steps' time for which heat or a fault held the clocks down.
std::optional<double> throttle_share(const compare_data::GpuSummary& gpu) {
  const auto& held = gpu.held_s;
  if (held.begin && held.end_t_s > held.begin_t_s) {
    return std::max(0.0, *held.end - *held.begin) / (held.end_t_s - held.begin_t_s);
  }
  if (gpu.with_reason == 0) return std::nullopt;
  return static_cast<double>(gpu.with_heat_reason) / static_cast<double>(gpu.with_reason);
}

std::optional<double> start_temperature(const HostData& host) {
  std::optional<double> warmest;
  for (const int gpu : gpus_used(host)) {
    const auto& first = host.gpus.at(gpu).first_temp_c;
    if (first) warmest = std::max(warmest.value_or(-273), *first);
  }
  return warmest;
}

void look_at_heat(const Side& a, const Side& b, Gate& gate) {
  Condition throttle = start("throttle");
  Condition warm = start("start_temperature");
  std::vector<double> temperatures_a, temperatures_b;
  for (const Side* side : {&a, &b}) {
    Values shares, starts;
    for (const RunData& run : side->runs) {
      for (const HostData& host : run.hosts) {
        for (const int gpu : gpus_used(host)) {
          const auto& summary = host.gpus.at(gpu);
          const auto share = throttle_share(summary);
          if (!share) continue;
          shares.push_back(format_share(*share));
          if (*share < compare_rules::kThrottleShare) continue;
          throttle.raise(Impact::caps, Impact::noted);
          throttle.field.note = fmt::format("GPU {}'s clocks were held down {} of the steps' time",
                                            gpu, format_share(*share));
          throttle.field.evidence.push_back(
              compare_data::lines_evidence(run, host.gpu_file, summary.first_line,
                                           summary.last_line, fmt::format("GPU {}", gpu)));
        }
        if (const auto temperature = start_temperature(host)) {
          (side == &a ? temperatures_a : temperatures_b).push_back(*temperature);
          starts.push_back(fmt::format("{:.0f} °C", *temperature));
        }
      }
    }
    (side == &a ? throttle.field.a : throttle.field.b) = in_words(shares);
    (side == &a ? warm.field.a : warm.field.b) = in_words(starts);
  }
  if (!throttle.field.a.empty() || !throttle.field.b.empty()) {
    gate.fields.push_back(throttle.done());
  }
  if (temperatures_a.empty() || temperatures_b.empty()) return;
  const auto mean = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  };
  if (std::fabs(mean(temperatures_a) - mean(temperatures_b)) > compare_rules::kStartTempGap_c) {
    warm.raise(Impact::caps, Impact::noted);
    warm.field.note = std::string(rule_of("start_temperature").why);
  }
  gate.fields.push_back(warm.done());
}

void look_at_order(const Side& a, const Side& b, Gate& gate) {
  double first_a = INFINITY, last_a = -INFINITY, first_b = INFINITY, last_b = -INFINITY;
  bool known = true, cold_a = false, cold_b = false;
  for (const Side* side : {&a, &b}) {
    for (const RunData& run : side->runs) {
      const double begin = run.run->info.start_unix_s;
      if (!(begin > 0)) known = false;
      double& first = side == &a ? first_a : first_b;
      double& last = side == &a ? last_a : last_b;
      first = std::min(first, begin);
      last = std::max(last, begin + run.run->wall_s);
      const double since_boot = run.run->info.start_monotonic_s;
      if (since_boot > 0 && since_boot < compare_rules::kAfterBoot_s) {
        (side == &a ? cold_a : cold_b) = true;
      }
    }
  }
  Condition cache = start("cache_state");
  cache.field.a = cold_a ? "started soon after boot" : "warm as far as known";
  cache.field.b = cold_b ? "started soon after boot" : "warm as far as known";
  if (cold_a != cold_b) {
    // With several runs in turn the one cold start is a pause among many; alone it is the effect.
    const bool few = std::min(a.runs.size(), b.runs.size()) < compare_rules::kRunsForTest;
    cache.raise(few ? Impact::caps : Impact::noted, Impact::noted);
    cache.field.note = std::string(rule_of("cache_state").why);
  }
  gate.fields.push_back(cache.done());

  Condition order = start("order");
  if (!known) {
    order.raise(Impact::noted, Impact::none);
    order.field.note = "start times are not known";
  } else {
    const bool a_first = last_a <= first_b, b_first = last_b <= first_a;
    order.field.a = order.field.b = "in turn";
    if (a_first || b_first) {
      order.field.a = a_first ? "all before" : "all after";
      order.field.b = a_first ? "all after" : "all before";
      const double gap = a_first ? first_b - last_a : first_a - last_b;
      order.field.note = fmt::format("{} lie between the sides", format_duration(gap));
      order.raise(gap > compare_rules::kOrderGap_s ? Impact::caps : Impact::noted, Impact::noted);
      if (std::min(a.runs.size(), b.runs.size()) >= compare_rules::kRunsForTest) {
        gate.findings.push_back(
            {.id = "not-in-turn",
             .severity = Severity::notice,
             .claim = fmt::format("all runs of {} came before those of {}: a drift of the machine "
                                  "would look the same as a difference",
                                  a_first ? a.name : b.name, a_first ? b.name : a.name),
             .next_step = "run the sides in turn: A B B A"});
      }
      if (gap > compare_rules::kOrderGap_s) {
        order.field.note += ": heat, caches and other programs may have drifted";
      }
    }
  }
  gate.fields.push_back(order.done());
}

}  // namespace

std::optional<double> foreign_cpu_share(const RunData& data, Evidence* evidence) {
  std::optional<double> worst;
  for (const HostData& host : data.hosts) {
    const auto& others = host.summary.others_cpu_s;
    if (!others.begin || !host.rig) continue;
    const auto cpus = host.rig->cpus_allowed ? host.rig->cpus_allowed : host.rig->threads;
    const double span = others.end_t_s - others.begin_t_s;
    if (!cpus || *cpus < 1 || !(span > 0)) continue;
    const double taken = std::max(0.0, *others.end - *others.begin);
    const double share = taken / (span * *cpus);
    if (worst && share <= *worst) continue;
    worst = share;
    if (evidence == nullptr) continue;
    const std::string& top = host.summary.top_other;
    *evidence = compare_data::lines_evidence(
        data, host.host_file, others.first_line, others.last_line,
        fmt::format("others took {} of CPU{}", format_duration(taken),
                    top.empty() ? "" : ", most by " + clean_text(top, 60)));
  }
  return worst;
}

std::vector<int> gpus_used(const HostData& host) {
  std::vector<int> ours, busy;
  for (const auto& [gpu, summary] : host.gpus) {
    if (summary.ours) ours.push_back(gpu);
    if (summary.most_util > 0.10) busy.push_back(gpu);
  }
  // No process list (a container, an old driver): a GPU that worked counts as used.
  return ours.empty() ? busy : ours;
}

void look_at_conditions(const Side& a, const Side& b, const std::string& factor, Gate& gate) {
  look_at_endings(a, b, gate);
  look_at_ranks(a, b, factor, gate);
  look_at_capture(a, b, gate);
  look_at_steadiness(a, b, gate);
  look_at_meaning(a, b, gate);
  look_at_load(a, b, gate);
  look_at_heat(a, b, gate);
  look_at_order(a, b, gate);
}

}  // namespace rigwise::compare_fields
