#include "decide/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "rigwise/stats.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

using stats::kRunToRunFrac;
constexpr double kLeastSpread = 0.005;  // never reckoned with less
constexpr std::size_t kRepeated = 3;

Evidence steps_evidence(const Run& run, const Ledger& ledger) {
  const LedgerRow* row = row_of(ledger.rows, LedgerClass::compute);
  if (row != nullptr && !row->evidence.empty()) return evidence_of(run, row->evidence.front());
  return evidence_of(run, "steps.csv");
}

std::optional<double> tokens_a_step(const Run& run, const Rows<StepRecord>& rows,
                                    const Ledger& ledger, std::string* how) {
  const auto step = [](const StepRecord& r) { return r.step ? r.step : r.bar_step; };
  const StepRecord* first = nullptr;
  const StepRecord* last = nullptr;
  for (const auto& record : rows.rows) {
    if (!record.tokens_seen || !step(record)) continue;
    if (first == nullptr) first = &record;
    last = &record;
  }
  if (first != nullptr && *step(*last) > *step(*first)) {
    const double tokens = *last->tokens_seen - *first->tokens_seen;
    const auto steps = static_cast<double>(*step(*last) - *step(*first));
    *how = "tokens seen, as the log counts them";
    if (tokens > 0 && std::isfinite(tokens)) return tokens / steps;
  }
  const auto total = number_fact(run, "tokens_seen");
  if (total && ledger.steps && *ledger.steps > 0) {
    *how = "tokens seen at the end, as the trainer states them";
    return *total / static_cast<double>(*ledger.steps);
  }
  const auto length = number_fact(run, "sequence_length");
  const auto batch = number_fact(run, "global_batch");
  if (length && batch && fact_of(run, "packing") == "true") {
    *how = "packed rows: sequence length times global batch";
    return *length * *batch;
  }
  return std::nullopt;
}

/// Stated tokens per second of all devices together: the median over training entries.
std::optional<double> stated_tokens_per_s(const Run& run, const Rows<StepRecord>& rows) {
  std::vector<double> rates;
  for (const auto& record : rows.rows) {
    if (record.kind != RecordKind::train || !record.tokens_per_s) continue;
    if (!std::isfinite(*record.tokens_per_s) || *record.tokens_per_s <= 0) continue;
    const int devices = record.per_device ? run.info.ranks_trained.value_or(1) : 1;
    rates.push_back(*record.tokens_per_s * devices);
  }
  if (rates.size() < 3) return std::nullopt;
  return stats::median(rates);
}

/// One run's figure for a rate or a step time.
void add_pace(const Threshold& threshold, const Run& run, const Ledger& ledger, Figures& out) {
  if (!ledger.step_time_s || !(*ledger.step_time_s > 0)) {
    out.missing = "no step times in its log";
    return;
  }
  const double step_s = *ledger.step_time_s;
  out.how = "steady steps; saves and evaluations left out";
  double value = step_s;
  if (threshold.metric == Metric::steps_per_s) value = 1 / step_s;
  if (threshold.metric == Metric::samples_per_s) {
    const auto batch = number_fact(run, "global_batch");
    if (!batch) {
      out.missing = "how many samples a step holds is not known";
      return;
    }
    value = *batch / step_s;
  }
  if (threshold.metric == Metric::tokens_per_s) {
    const auto rows = read_steps(run);
    if (!rows.ok()) {
      out.missing = rows.error().message;
      return;
    }
    // Counted tokens over the steady pace first: a stated rate is often a running mean that holds
    // evaluations and saves.
    std::string how;
    std::optional<double> rate;
    if (const auto tokens = tokens_a_step(run, *rows, ledger, &how)) {
      rate = *tokens / step_s;
    } else if ((rate = stated_tokens_per_s(run, *rows))) {
      how = "median of the stated tokens per second";
    }
    if (!rate) {
      out.missing =
          "neither tokens per second nor tokens seen are in its log (Hugging Face trainers: "
          "include_num_input_tokens_seen)";
      return;
    }
    out.how += "; " + how;
    value = *rate;
  }
  out.values.push_back(value);
  out.evidence.push_back(steps_evidence(run, ledger));
}

/// Seconds for the threshold's amount of work: fixed parts once, the rest by the step.
void add_wall(const Threshold& threshold, const Run& run, const Ledger& ledger, Figures& out) {
  const auto seconds = [&](LedgerClass cls) {
    const LedgerRow* row = row_of(ledger.rows, cls);
    return row != nullptr ? row->seconds.value_or(0) : 0.0;
  };
  double wall_s = ledger.wall_s;
  out.how = "wall time of the whole run";
  if (threshold.work) {
    if (!ledger.steps || *ledger.steps <= 0) {
      out.missing = "how many steps it did is not in its log";
      return;
    }
    double steps = *threshold.work;
    std::string tokens_how;
    if (threshold.work_unit == "samples") {
      const auto batch = number_fact(run, "global_batch");
      if (!batch) {
        out.missing = "how many samples a step holds is not known";
        return;
      }
      steps /= *batch;
    } else if (threshold.work_unit == "tokens") {
      const auto rows = read_steps(run);
      std::optional<double> tokens;
      if (rows.ok()) tokens = tokens_a_step(run, *rows, ledger, &tokens_how);
      if (!tokens) {
        out.missing = "how many tokens a step holds is not known";
        return;
      }
      steps /= *tokens;
    }
    const auto done = static_cast<double>(*ledger.steps);
    const double fixed_s = seconds(LedgerClass::startup) + seconds(LedgerClass::teardown);
    wall_s = fixed_s + (wall_s - fixed_s) * steps / done;
    out.how =
        steps == done
            ? "wall time"
            : fmt::format("reckoned from {} steps: startup and end once, the rest by the step",
                          *ledger.steps);
  }
  out.values.push_back(wall_s);
  out.evidence.push_back(evidence_of(run, "run.json", "wall time"));
  out.evidence.push_back(steps_evidence(run, ledger));
}

void add_memory(const Run& run, Figures& out) {
  std::optional<double> peak;
  std::int64_t at_line = 0;
  std::string file;
  for (const auto& host : hosts_of(run)) {
    (void)visit_gpu(run, host, {"t_s", "used_bytes", "tree_used_bytes"},
                    [&](const GpuSample& sample, std::int64_t line) {
                      const auto used =
                          sample.tree_used_bytes ? sample.tree_used_bytes : sample.used_bytes;
                      if (used && *used > peak.value_or(0)) {
                        peak = used;
                        at_line = line;
                        file = "watch/" + host + ".gpu.csv";
                      }
                      return true;
                    })
        .ok();
  }
  out.how = "highest sample of one GPU";
  if (!peak) {
    for (const auto& host : hosts_of(run)) {
      (void)visit_host(run, host, {"t_s", "tree_rss_bytes"},
                       [&](const HostSample& sample, std::int64_t line) {
                         if (sample.tree_rss_bytes.value_or(0) > peak.value_or(0)) {
                           peak = sample.tree_rss_bytes;
                           at_line = line;
                           file = "watch/" + host + ".host.csv";
                         }
                         return true;
                       })
          .ok();
    }
    out.how = "no GPU was seen: highest sample of the command's memory on the host";
  }
  if (!peak) {
    out.missing = "neither a GPU's nor the host's memory was sampled";
    return;
  }
  out.values.push_back(*peak);
  out.evidence.push_back(evidence_of(run, Evidence{"", file, at_line, at_line, ""}));
}

/// The longest checkpoint or evaluation of a run.
void add_longest(EventKind kind, const Run& run, Figures& out) {
  const auto events = read_events(run);
  std::optional<double> longest_s;
  std::int64_t line = 0;
  if (events.ok()) {
    for (std::size_t i = 0; i < events->rows.size(); ++i) {
      const Event& event = events->rows[i];
      if (event.kind != kind || !event.t_end_s || event.state == "open") continue;
      const double lasted_s = *event.t_end_s - event.t_s;
      if (!std::isfinite(lasted_s) || lasted_s < 0 || lasted_s <= longest_s.value_or(-1)) continue;
      longest_s = lasted_s;
      line = events->bad_rows == 0 ? static_cast<std::int64_t>(i) + 2 : 0;
    }
  }
  const bool checkpoint = kind == EventKind::checkpoint;
  out.how = checkpoint ? "longest checkpoint, first write to last close"
                       : "longest evaluation that training waited for";
  if (!longest_s) {
    out.missing = checkpoint ? "no checkpoint was written" : "no evaluation was seen";
    return;
  }
  Evidence evidence = evidence_of(run, "events.csv");
  if (line > 0) evidence.first_row = evidence.last_row = line;
  out.values.push_back(*longest_s);
  out.evidence.push_back(std::move(evidence));
}

bool is_rate_or_pace(Metric metric) {
  return metric == Metric::tokens_per_s || metric == Metric::samples_per_s ||
         metric == Metric::steps_per_s || metric == Metric::step_time;
}

/// Does the figure mean the same only where steps are of equal size?
bool counts_steps(const Threshold& threshold) {
  if (threshold.metric == Metric::wall_clock) {
    return !threshold.work || threshold.work_unit == "steps" || threshold.work_unit.empty();
  }
  return threshold.metric == Metric::steps_per_s || threshold.metric == Metric::step_time;
}

/// A ratio of rates or of step times from the comparison's effect: time per unit of work.
std::optional<Measurement> from_effect(const Threshold& threshold, const DecideInput& input) {
  if (!input.comparison || !input.comparison->effect) return std::nullopt;
  const Comparison& comparison = *input.comparison;
  if (comparison.comparable == Comparable::no) return std::nullopt;
  const Effect& effect = *comparison.effect;
  const bool rate =
      threshold.metric == Metric::tokens_per_s || threshold.metric == Metric::samples_per_s;
  if (!rate || effect.low <= -100) return std::nullopt;
  // Time per sample speaks for tokens where a sample holds the same tokens on both sides, which is
  // what a comparison without a blocker has checked; time per step where steps are of equal size.
  const bool fits =
      effect.metric == "step_time_per_sample" ||
      (effect.metric == "step_time_per_token" && threshold.metric == Metric::tokens_per_s) ||
      (effect.metric == "step_time" && comparison.comparable != Comparable::per_sample);
  if (!fits) return std::nullopt;
  Measurement measured;
  if (!(effect.high > effect.low)) {
    measured.why = fmt::format("{} time per unit of work, but no interval: {}",
                               format_share(effect.percent / 100), comparison.verdict_why);
    return measured;
  }
  Level level;
  level.value = 1 / (1 + effect.percent / 100);
  level.low = 1 / (1 + effect.high / 100);
  level.high = 1 / (1 + effect.low / 100);
  level.runs = std::min(effect.runs_a, effect.runs_b);
  level.repeated = level.runs >= static_cast<int>(kRepeated);
  measured.level = level;
  const std::string basis = effect.metric == "step_time_per_sample" ? "time per sample"
                            : effect.metric == "step_time"          ? "time per step"
                                                                    : "time per token";
  measured.why = fmt::format("from {}, {} and {} runs", basis, effect.runs_a, effect.runs_b);
  if (threshold.metric == Metric::tokens_per_s && effect.metric != "step_time_per_token") {
    measured.why += ", same data and sequence settings on both sides";
  }
  return measured;
}

std::optional<Measurement> wall_from_effect(const Threshold& threshold, const DecideInput& input) {
  if (threshold.metric != Metric::wall_clock || threshold.work) return std::nullopt;
  if (!input.comparison || !input.comparison->wall) return std::nullopt;
  const Effect& wall = *input.comparison->wall;
  Measurement measured;
  Level level;
  level.value = 1 + wall.percent / 100;
  level.low = 1 + wall.low / 100;
  level.high = 1 + wall.high / 100;
  level.runs = std::min(wall.runs_a, wall.runs_b);
  level.repeated = level.runs >= static_cast<int>(kRepeated);
  measured.level = level;
  measured.why = fmt::format("total wall time, {} and {} runs", wall.runs_a, wall.runs_b);
  return measured;
}

}  // namespace

SideView view_of(const std::vector<Run>& runs, const std::vector<Ledger>& ledgers,
                 const std::string& name) {
  SideView side;
  std::vector<std::string> names;  // of the runs that are there, whatever the statement calls them
  for (const auto& run : runs) {
    if (std::find(names.begin(), names.end(), run.info.name) == names.end()) {
      names.push_back(run.info.name);
    }
  }
  side.name = names.empty() ? name : join(names, "+");
  for (std::size_t i = 0; i < runs.size() && i < ledgers.size(); ++i) {
    const auto& ending = runs[i].info.ending;
    // of an imported run whose end nobody saw, the comparison says what that is worth
    if (ended_well(runs[i].info) || end_unknown(runs[i].info)) {
      side.runs.push_back(&runs[i]);
      side.ledgers.push_back(&ledgers[i]);
      continue;
    }
    ++side.failed;
    side.failed_run = &runs[i];
    side.failure =
        !ending ? (runs[i].state == RunState::running ? "is still running" : "has no recorded end")
        : ending->signal ? fmt::format("was ended by signal {}", *ending->signal)
        : !ending->exit_status
            ? clean_text(ending->reason, 120)
            : fmt::format("ended with exit {}", ending->exit_status.value_or(-1));
  }
  return side;
}

std::optional<std::string> fact_of(const Run& run, std::string_view key) {
  for (const auto& fact : run.info.facts) {
    if (fact.key == key && !fact.value.empty()) return fact.value;
  }
  return std::nullopt;
}

std::optional<double> number_fact(const Run& run, std::string_view key) {
  const auto text = fact_of(run, key);
  const auto number = text ? to_number(*text) : std::nullopt;
  if (!number || !std::isfinite(*number) || *number <= 0) return std::nullopt;
  return number;
}

Evidence evidence_of(const Run& run, std::string file, std::string what) {
  Evidence evidence;
  evidence.run = run.info.id.empty() ? run.info.name : run.info.id;
  evidence.file = std::move(file);
  evidence.what = std::move(what);
  return evidence;
}

Evidence evidence_of(const Run& run, Evidence evidence) {
  evidence.run = run.info.id.empty() ? run.info.name : run.info.id;
  return evidence;
}

Figures figures_of(const Threshold& threshold, const SideView& side) {
  Figures figures;
  for (std::size_t i = 0; i < side.runs.size(); ++i) {
    const Run& run = *side.runs[i];
    const Ledger& ledger = *side.ledgers[i];
    switch (threshold.metric) {
      case Metric::wall_clock:
        add_wall(threshold, run, ledger, figures);
        break;
      case Metric::peak_memory:
        add_memory(run, figures);
        break;
      case Metric::checkpoint_time:
        add_longest(EventKind::checkpoint, run, figures);
        break;
      case Metric::evaluation_delay:
        add_longest(EventKind::evaluation, run, figures);
        break;
      case Metric::tokens_per_s:
      case Metric::samples_per_s:
      case Metric::steps_per_s:
      case Metric::step_time:
        add_pace(threshold, run, ledger, figures);
        break;
    }
  }
  return figures;
}

Level level_of(const std::vector<double>& values) {
  const stats::Moments moments = stats::moments(values);
  Level level;
  level.value = moments.mean();
  level.runs = static_cast<int>(values.size());
  level.repeated = values.size() >= kRepeated;
  const auto k = static_cast<double>(std::max<std::size_t>(1, values.size()));
  double half = 1.96 * kRunToRunFrac * std::fabs(level.value);
  if (level.repeated) {
    const double sd =
        std::max(moments.standard_deviation().value_or(0), kLeastSpread * std::fabs(level.value));
    half = stats::student_t_quantile(0.975, k - 1) * sd / std::sqrt(k);
  }
  level.low = std::max(0.0, level.value - half);
  level.high = level.value + half;
  return level;
}

Level ratio_of(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> logs_a, logs_b;
  for (const double value : a) logs_a.push_back(std::log(std::max(value, 1e-12)));
  for (const double value : b) logs_b.push_back(std::log(std::max(value, 1e-12)));
  Level level;
  level.runs = static_cast<int>(std::min(a.size(), b.size()));
  level.repeated = level.runs >= static_cast<int>(kRepeated);
  const double difference = stats::mean(logs_b).value_or(0) - stats::mean(logs_a).value_or(0);
  double half = 1.96 * std::sqrt(2.0) * kRunToRunFrac;
  if (level.repeated) {
    const auto variance = [](const std::vector<double>& logs) {
      const double sd =
          std::max(kLeastSpread, stats::moments(logs).standard_deviation().value_or(0));
      return sd * sd / static_cast<double>(logs.size());
    };
    half = stats::welch(difference, variance(logs_a), static_cast<double>(logs_a.size()) - 1,
                        variance(logs_b), static_cast<double>(logs_b.size()) - 1)
               .half_width(0.95);
  }
  level.value = std::exp(difference);
  level.low = std::exp(difference - half);
  level.high = std::exp(difference + half);
  return level;
}

std::string state_of(const Threshold& threshold, const Level& level) {
  const bool at_most =
      threshold.relation == Relation::less_equal || threshold.relation == Relation::less;
  const bool all = at_most ? level.high <= threshold.value : level.low >= threshold.value;
  const bool none = at_most ? level.low > threshold.value : level.high < threshold.value;
  return all ? "met" : none ? "missed" : "not shown";
}

std::string level_text(const Threshold& threshold, const Level& level) {
  const double half = (level.high - level.low) / 2;
  if (threshold.relative) {
    return fmt::format("{:.2f}x ({:.2f}x to {:.2f}x)", level.value, level.low, level.high);
  }
  switch (threshold.metric) {
    case Metric::wall_clock:
    case Metric::step_time:
    case Metric::checkpoint_time:
    case Metric::evaluation_delay:
      return format_duration(level.value, half);
    case Metric::peak_memory:
      return format_bytes_binary(level.value);
    case Metric::tokens_per_s:
    case Metric::samples_per_s:
    case Metric::steps_per_s:
      break;
  }
  const std::string_view unit = threshold.metric == Metric::tokens_per_s    ? "tokens/s"
                                : threshold.metric == Metric::samples_per_s ? "samples/s"
                                                                            : "steps/s";
  return fmt::format("{} ± {} {}", format_to_uncertainty(level.value, half),
                     format_to_uncertainty(half, half), unit);
}

Measurement measure(const Threshold& threshold, const DecideInput& input) {
  const SideView a = view_of(input.baseline, input.baseline_ledgers, input.statement.baseline);
  const SideView b = view_of(input.candidate, input.candidate_ledgers, input.statement.candidate);
  Measurement measured;
  if (!b.any()) {
    measured.why = "no finished run of the option";
    return measured;
  }
  if (threshold.metric == Metric::wall_clock && !threshold.work && input.comparison &&
      !input.comparison->wall_blockers.empty()) {
    measured.why = "wall times are not comparable: " + input.comparison->wall_blockers.front();
    return measured;
  }
  if (counts_steps(threshold) && input.comparison &&
      input.comparison->comparable == Comparable::per_sample) {
    measured.why =
        "the steps of the two hold different numbers of samples, so a step, or a number "
        "of them, is not the same work";
    return measured;
  }
  if (threshold.relative) {
    auto found = is_rate_or_pace(threshold.metric) ? from_effect(threshold, input)
                                                   : wall_from_effect(threshold, input);
    const Figures of_a = figures_of(threshold, a), of_b = figures_of(threshold, b);
    if (!found && !of_a.values.empty() && !of_b.values.empty()) {
      found = Measurement{};
      found->level = ratio_of(of_a.values, of_b.values);
      found->why = of_b.how;
    }
    if (!found) {
      const bool lacks_a = of_a.values.empty();
      const std::string& missing = lacks_a ? of_a.missing : of_b.missing;
      measured.why = fmt::format("{}: {}", lacks_a ? a.name : b.name,
                                 missing.empty() ? "no finished run" : missing);
      return measured;
    }
    measured = std::move(*found);
    measured.evidence = of_a.evidence;
    measured.evidence.insert(measured.evidence.end(), of_b.evidence.begin(), of_b.evidence.end());
  } else {
    const Figures of_a = figures_of(threshold, a), of_b = figures_of(threshold, b);
    if (of_b.values.empty()) {
      measured.why = fmt::format("{}: {}", b.name, of_b.missing);
      return measured;
    }
    measured.level = level_of(of_b.values);
    if (!of_a.values.empty()) measured.baseline = level_of(of_a.values);
    measured.why = of_b.how;
    measured.evidence = of_b.evidence;
  }
  if (!measured.level) return measured;
  measured.state = state_of(threshold, *measured.level);
  if (!measured.level->repeated) {
    measured.why += fmt::format("; {} run{} a side, so a run-to-run spread of {} is reckoned with",
                                measured.level->runs, measured.level->runs == 1 ? "" : "s",
                                format_share(kRunToRunFrac));
  }
  return measured;
}

ThresholdOutcome judge(const Threshold& threshold, const DecideInput& input) {
  const Measurement measured = measure(threshold, input);
  ThresholdOutcome outcome;
  outcome.text = threshold.text;
  outcome.state = measured.state;
  outcome.why = measured.level
                    ? fmt::format("{}, {}", level_text(threshold, *measured.level), measured.why)
                    : measured.why;
  return outcome;
}

}  // namespace rigwise
