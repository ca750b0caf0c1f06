#include "compare/effect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "compare/rules.h"

namespace rigwise::compare_effect {

using compare_fields::Gate;
using compare_fields::Side;
using compare_series::Series;
using compare_series::Source;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double percent_of(double log_difference) {
  return 100 * std::expm1(log_difference);
}
double log_of_percent(double percent) {
  return std::log1p(percent / 100);
}

std::vector<double> values_of(const std::vector<Level>& levels) {
  std::vector<double> values;
  for (const Level& level : levels) values.push_back(level.value);
  return values;
}

double mean_within(const std::vector<Level>& levels) {
  double sum = 0;
  for (const Level& level : levels) sum += level.within_variance;
  return sum / static_cast<double>(levels.size());
}

double floor_of(const CompareOptions& options) {
  return log_of_percent(std::max(options.floor_percent.value_or(compare_rules::kFloorPercent),
                                 compare_rules::kFloorLeastPercent));
}

/// The variance of runs that a sample variance with `df` stands for: at least what the floor leaves
/// likely, at least the records' own noise, never below what was seen.
double widened(double sample, double df, double floor, double within) {
  const double weight = compare_rules::kFloorWeightRuns;
  const double shrunk = (weight * floor * floor + df * sample) / (weight + df);
  return std::max({sample, shrunk, within});
}

Difference from_floor(const std::vector<Level>& a, const std::vector<Level>& b,
                      const CompareOptions& options) {
  const auto na = static_cast<double>(a.size()), nb = static_cast<double>(b.size());
  const stats::Moments ma = stats::moments(values_of(a)), mb = stats::moments(values_of(b));
  Difference result;
  const double floor = floor_of(options);
  result.floor_percent = percent_of(floor);
  result.spread_df = na + nb - 2;
  double between = floor * floor;
  if (result.spread_df > 0) {
    const double sample =
        ((na - 1) * ma.variance().value_or(0) + (nb - 1) * mb.variance().value_or(0)) /
        result.spread_df;
    result.spread = std::sqrt(sample);
    between = std::max(between, sample);
  }
  double within = 0, spent = 0;
  for (const auto* side : {&a, &b}) {
    const auto n = static_cast<double>(side->size());
    for (const Level& level : *side) {
      const double share = level.within_variance / (n * n);
      within += share;
      if (level.within_df > 0) spent += share * share / level.within_df;
    }
  }
  const double variance = within + between * (1 / na + 1 / nb);
  result.estimate = {mb.mean() - ma.mean(), std::sqrt(variance),
                     spent > 0 ? variance * variance / spent : kInfinity};
  result.method =
      fmt::format("effective sample size of the steps, plus a run-to-run floor of {:.2g} %",
                  *result.floor_percent);
  return result;
}

/// Runs on both sides of a line that drifts with the order in which they were made.
std::optional<stats::Regression> without_drift(const std::vector<Level>& a,
                                               const std::vector<Level>& b) {
  struct Run {
    double start = 0, value = 0, side = 0;
  };
  std::vector<Run> runs;
  for (const Level& level : a) runs.push_back({level.start_unix_s, level.value, 0});
  for (const Level& level : b) runs.push_back({level.start_unix_s, level.value, 1});
  std::stable_sort(runs.begin(), runs.end(),
                   [](const Run& x, const Run& y) { return x.start < y.start; });
  std::vector<double> one(runs.size(), 1.0), side, order, value;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    side.push_back(runs[i].side);
    order.push_back(static_cast<double>(i) - static_cast<double>(runs.size() - 1) / 2);
    value.push_back(runs[i].value);
  }
  return stats::regress({one, side, order}, value);
}

Difference from_runs(const std::vector<Level>& a, const std::vector<Level>& b,
                     const CompareOptions& options) {
  const std::vector<double> va = values_of(a), vb = values_of(b);
  const stats::Moments ma = stats::moments(va), mb = stats::moments(vb);
  const auto na = static_cast<double>(a.size()), nb = static_cast<double>(b.size());
  const double floor = floor_of(options);
  const double within_a = mean_within(a), within_b = mean_within(b);
  Difference result;
  result.spread_df = na + nb - 2;
  const double pooled = ((na - 1) * *ma.variance() + (nb - 1) * *mb.variance()) / result.spread_df;
  result.spread = std::sqrt(pooled);
  const double difference = mb.mean() - ma.mean();
  if (std::min(a.size(), b.size()) < static_cast<std::size_t>(compare_rules::kRunsForWelch)) {
    const double variance = widened(pooled, result.spread_df, floor, (within_a + within_b) / 2);
    result.estimate = {difference, std::sqrt(variance * (1 / na + 1 / nb)), result.spread_df};
    result.method = "t over per-run log medians, spread shared by both sides";
    return result;
  }
  if (in_turn(a, b)) {
    if (const auto fit = without_drift(a, b)) {
      const double variance =
          widened(fit->residual_sd * fit->residual_sd, fit->df, floor, (within_a + within_b) / 2);
      result.estimate = {fit->coefficients[1], std::sqrt(variance * fit->unscaled_variances[1]),
                         fit->df};
      result.spread = fit->residual_sd;
      result.spread_df = fit->df;
      result.method = "t over per-run log medians of runs made in turn, linear drift removed";
      return result;
    }
  }
  result.estimate =
      stats::welch(difference, widened(*ma.variance(), na - 1, floor, within_a) / na, na - 1,
                   widened(*mb.variance(), nb - 1, floor, within_b) / nb, nb - 1);
  result.method = "Welch t over per-run log medians";
  return result;
}

// ---------------------------------------------------------------------------------------------
// what may be said

Effect effect_of(const Difference& difference, const std::vector<Level>& a,
                 const std::vector<Level>& b, std::string metric) {
  Effect effect;
  effect.metric = std::move(metric);
  const double half = difference.estimate.half_width(0.95);
  effect.percent = percent_of(difference.estimate.value);
  effect.low = percent_of(difference.estimate.value - half);
  effect.high = percent_of(difference.estimate.value + half);
  effect.level_a_s = std::exp(*stats::mean(values_of(a)));
  effect.level_b_s = std::exp(*stats::mean(values_of(b)));
  effect.runs_a = static_cast<int>(a.size());
  effect.runs_b = static_cast<int>(b.size());
  effect.floor_percent = difference.floor_percent;
  effect.method = difference.method;
  return effect;
}

/// The sd that run counts are reckoned with: above the one seen, because a few runs show it badly.
double reckoned_spread(const Difference& difference, const CompareOptions& options) {
  if (!difference.spread || difference.spread_df < 4) {
    return std::max(floor_of(options), difference.spread.value_or(0));
  }
  const double low =
      stats::chi_square_quantile(compare_rules::kSpreadQuantile, difference.spread_df);
  return *difference.spread * std::sqrt(difference.spread_df / low);
}

Advice advice_of(const Difference& difference, const CompareOptions& options) {
  Advice advice;
  const double spread = reckoned_spread(difference, options);
  advice.measured = difference.spread.has_value() && difference.spread_df >= 4;
  advice.spread_percent = percent_of(advice.measured ? *difference.spread : floor_of(options));
  advice.reckoned_percent = percent_of(spread);
  const auto runs = [&](double percent) {
    return stats::runs_needed(spread, log_of_percent(percent), compare_rules::kPower);
  };
  advice.runs_for_3_percent = runs(3);
  advice.runs_for_5_percent = runs(5);
  advice.runs_for_10_percent = runs(10);
  return advice;
}

/// How many runs a side would settle it, whichever way the difference that was seen points.
std::optional<int> runs_to_settle(const Difference& difference, const CompareOptions& options,
                                  int have) {
  const double spread = reckoned_spread(difference, options);
  const double seen = std::fabs(difference.estimate.value);
  const double practical = log_of_percent(options.practical_percent);
  const double margin = log_of_percent(compare_rules::kEquivalencePercent);
  std::optional<int> runs;
  const auto consider = [&](const std::optional<int>& count) {
    if (count && (!runs || *count < *runs)) runs = count;
  };
  if (seen >= practical) consider(stats::runs_needed(spread, seen, compare_rules::kPower));
  consider(stats::runs_to_show_equal(spread, seen, margin, compare_rules::kPower));
  if (!runs) consider(stats::runs_needed(spread, practical, compare_rules::kPower));
  if (!runs) return std::nullopt;
  return std::max(*runs, have + 1);
}

std::string interval_text(const Effect& effect) {
  return fmt::format("{:+.1f} % ({:+.1f} to {:+.1f})", effect.percent, effect.low, effect.high);
}

void give_verdict(const Difference& difference, const Gate& gate, const CompareOptions& options,
                  Comparison& comparison) {
  const Effect& effect = *comparison.effect;
  const bool excludes_zero = effect.low > 0 || effect.high < 0;
  const bool matters = std::fabs(effect.percent) >= options.practical_percent;
  const std::string shown = interval_text(effect);
  comparison.likely = gate.capped;
  std::string caveat = gate.capped ? ", likely only: the caveats cap it" : "";
  if (!gate.factor.empty() && !gate.factor_shown) {
    caveat =
        fmt::format(", likely only: {}, which is under test, was not seen to differ", gate.factor);
  }
  if (excludes_zero && matters) {
    comparison.verdict = effect.percent < 0 ? Verdict::faster : Verdict::slower;
    comparison.verdict_why =
        fmt::format("the 95 % interval of the difference, {}, leaves out 0{}", shown, caveat);
    return;
  }
  if (stats::equivalent(difference.estimate, log_of_percent(compare_rules::kEquivalencePercent))) {
    comparison.verdict = Verdict::equivalent;
    comparison.verdict_why =
        fmt::format("the difference, {}, lies within ±{:.0f} % (90 % interval){}", shown,
                    compare_rules::kEquivalencePercent, caveat);
    return;
  }
  comparison.verdict = Verdict::inconclusive;
  comparison.likely = false;
  const int have = std::min(effect.runs_a, effect.runs_b);
  comparison.runs_needed = runs_to_settle(difference, options, have);
  comparison.verdict_why =
      excludes_zero
          ? fmt::format(
                "the difference, {}, is below {:.2g} %, the smallest worth a verdict, but "
                "may reach beyond it",
                shown, options.practical_percent)
          : fmt::format("the 95 % interval of the difference, {}, holds 0", shown);
  if (difference.floor_percent) {
    comparison.verdict_why +=
        fmt::format("; {} cannot show the run-to-run spread, taken as {:.2g} %",
                    have == 1 ? "one run a side" : "two runs a side", *difference.floor_percent);
  }
  if (comparison.runs_needed) {
    comparison.verdict_why +=
        fmt::format("; about {} runs a side would settle it", *comparison.runs_needed);
  } else {
    comparison.verdict_why += "; more than 200 runs a side would be needed to settle it";
  }
}

// ---------------------------------------------------------------------------------------------
// which unit, which runs

struct Unit {
  std::string metric = "step_time";
  bool per_sample = false, per_token = false;
};

std::optional<double> tokens_a_step(const compare_data::RunData& data) {
  const StepRecord* first = nullptr;
  const StepRecord* last = nullptr;
  for (const StepRecord& record : data.steps.rows) {
    if (!record.tokens_seen || !(record.step || record.bar_step)) continue;
    if (first == nullptr) first = &record;
    last = &record;
  }
  if (first == nullptr || last == first) return std::nullopt;
  const auto step = [](const StepRecord& record) {
    return static_cast<double>(record.step ? *record.step : *record.bar_step);
  };
  const double steps = step(*last) - step(*first);
  const double tokens = *last->tokens_seen - *first->tokens_seen;
  if (!(steps > 0) || !(tokens > 0)) return std::nullopt;
  return tokens / steps;
}

Unit unit_of(const Side& a, const Side& b) {
  bool batches = true, tokens = true;
  for (const Side* side : {&a, &b}) {
    for (const auto& run : side->runs) {
      batches = batches && run.global_batch && *run.global_batch > 0;
      tokens = tokens && tokens_a_step(run).has_value();
    }
  }
  if (batches) return {"step_time_per_sample", true, false};
  if (tokens) return {"step_time_per_token", false, true};
  return {};
}

double log_units(const compare_data::RunData& data, const Unit& unit) {
  if (unit.per_sample) return std::log(*data.global_batch);
  if (unit.per_token) return std::log(*tokens_a_step(data));
  return 0;
}

/// Why this run's series cannot enter; empty where it can.
std::string why_unusable(const Series& series, bool one_of_several) {
  if (series.source == Source::none || series.clean.empty()) return "no step times in its log";
  if (series.source == Source::summary) {
    return one_of_several ? "" : "only its closing summary states a time";
  }
  const auto& used = one_of_several ? series.clean : series.last_level;
  const bool means = series.mean_of >= compare_rules::kMeanOfSteps;
  const auto count = static_cast<int>(used.size());
  int least = means ? compare_rules::kMinMeans : compare_rules::kMinClean;
  if (one_of_several) least = means ? compare_rules::kMinRepeated : compare_rules::kMinInterval;
  if (count < least) return fmt::format("{} clean records, {} are needed", count, least);
  if (one_of_several) return {};
  if (!series.steady) return "its step time never settled";
  if (!series.last_part) return "its speed changed in the second half of the run";
  const double ess = stats::effective_sample_size(used).ess;
  if (ess < (means ? compare_rules::kMinEss / 2 : compare_rules::kMinEss)) {
    return fmt::format("its steps hang together too much: effective size {:.0f} of {} records", ess,
                       count);
  }
  return {};
}

struct Usable {
  std::vector<Level> levels = {};
  std::string trouble = {};  // why the side cannot be used
};

Usable usable(const Side& side, const Unit& unit, bool one_of_several) {
  Usable result;
  std::size_t unsteady = 0;
  for (std::size_t i = 0; i < side.runs.size(); ++i) {
    const std::string why = why_unusable(side.series[i], one_of_several);
    if (!why.empty() && result.trouble.empty()) {
      result.trouble = fmt::format("{}: {}", side.runs[i].label, why);
    }
    if (!side.series[i].steady) ++unsteady;
    if (side.series[i].clean.empty()) continue;
    Level level = level_of(side.series[i], one_of_several);
    level.value -= log_units(side.runs[i], unit);
    level.start_unix_s = side.runs[i].run->info.start_unix_s;
    result.levels.push_back(level);
  }
  if (one_of_several && result.trouble.empty() &&
      static_cast<double>(unsteady) >
          compare_rules::kUnsteadyShare * static_cast<double>(side.runs.size())) {
    result.trouble =
        fmt::format("{} of {} runs of {} never settled", unsteady, side.runs.size(), side.name);
  }
  return result;
}

void count_records(const Side& side, bool one_of_several, int& clean, int& total, double& ess) {
  for (const Series& series : side.series) {
    const auto& used = one_of_several ? series.clean : series.last_level;
    clean += static_cast<int>(used.size());
    total += static_cast<int>(series.points.size());
    ess += stats::effective_sample_size(used).ess;
  }
}

/// Enough for an interval that is shown without a verdict: 20 clean records in every run.
bool enough_for_numbers(const Side& side) {
  return std::all_of(side.series.begin(), side.series.end(), [](const Series& series) {
    return static_cast<int>(series.clean.size()) >= compare_rules::kMinInterval;
  });
}

void add_wall(const Side& a, const Side& b, const Gate& gate, const CompareOptions& options,
              Comparison& comparison) {
  comparison.wall_blockers = gate.wall_blockers;
  std::vector<Level> levels_a, levels_b;
  for (const Side* side : {&a, &b}) {
    for (const auto& run : side->runs) {
      const auto& ending = run.run->info.ending;
      if (!ending || !ended_well(run.run->info)) {
        comparison.wall_blockers.push_back(
            end_unknown(run.run->info)
                ? fmt::format("how {} ended is not known: its wall time may not be that of the "
                              "whole work",
                              run.label)
                : fmt::format("{} did not finish: its wall time is not that of the whole work",
                              run.label));
        continue;
      }
      if (!(run.run->wall_s > 0)) continue;
      (side == &a ? levels_a : levels_b)
          .push_back({std::log(run.run->wall_s), 0, 0, run.run->info.start_unix_s});
    }
  }
  if (!comparison.wall_blockers.empty() || levels_a.empty() || levels_b.empty()) return;
  comparison.wall =
      effect_of(difference_of(levels_a, levels_b, options), levels_a, levels_b, "wall_time");
}

void add_permutation(const std::vector<Level>& a, const std::vector<Level>& b, Effect& effect) {
  if (std::min(a.size(), b.size()) < static_cast<std::size_t>(compare_rules::kRunsForWelch)) return;
  if (const auto p = stats::permutation_p(values_of(a), values_of(b))) {
    effect.method += fmt::format("; permutation p {:.2g}", *p);
  }
}

}  // namespace

bool in_turn(const std::vector<Level>& a, const std::vector<Level>& b) {
  std::vector<std::pair<double, int>> starts;
  for (const Level& level : a) starts.emplace_back(level.start_unix_s, 0);
  for (const Level& level : b) starts.emplace_back(level.start_unix_s, 1);
  std::sort(starts.begin(), starts.end());
  if (starts.empty() || !(starts.front().first > 0)) return false;
  std::size_t changes = 0;
  for (std::size_t i = 1; i < starts.size(); ++i) {
    if (starts[i].second != starts[i - 1].second) ++changes;
  }
  return changes >= std::min(a.size(), b.size());
}

Difference difference_of(const std::vector<Level>& a, const std::vector<Level>& b,
                         const CompareOptions& options) {
  const auto fewest = std::min(a.size(), b.size());
  if (fewest < static_cast<std::size_t>(compare_rules::kRunsForTest)) {
    return from_floor(a, b, options);
  }
  return from_runs(a, b, options);
}

Level level_of(const Series& series, bool one_of_several) {
  const std::vector<double>& logs = one_of_several ? series.clean : series.last_level;
  Level level;
  const stats::Moments moments = stats::moments(logs);
  const stats::EffectiveSize size = stats::effective_sample_size(logs);
  level.value = one_of_several ? *stats::median(logs) : moments.mean();
  const double variance = moments.variance().value_or(0);
  // A median's variance is pi / 2 times a mean's (normal records).
  level.within_variance =
      variance / std::max(size.ess, 1.0) * (one_of_several ? std::numbers::pi / 2 : 1);
  level.within_df = std::max(size.ess - 1, 1.0);
  if (!one_of_several && size.lag1 > compare_rules::kStrongLag1) {
    const auto block = static_cast<std::size_t>(
        std::clamp(2 * static_cast<double>(logs.size()) / std::max(size.ess, 1.0), 2.0,
                   static_cast<double>(logs.size()) / 4));
    const auto again = stats::block_bootstrap(
        logs, block, 400, 20, [](stats::Values values) { return *stats::mean(values); });
    if (again) {
      level.within_variance =
          std::max(level.within_variance, again->standard_error * again->standard_error);
    }
  }
  return level;
}

void conclude(const Side& a, const Side& b, const Gate& gate, const CompareOptions& options,
              Comparison& comparison) {
  if (!gate.blockers.empty()) {
    comparison.verdict = Verdict::not_comparable;
    comparison.verdict_why = gate.blockers.front();
    comparison.wall_blockers = gate.wall_blockers;
    return;
  }
  add_wall(a, b, gate, options, comparison);
  const Unit unit = unit_of(a, b);
  const bool several = std::min(a.runs.size(), b.runs.size()) >=
                       static_cast<std::size_t>(compare_rules::kRunsForTest);
  const Usable side_a = usable(a, unit, several), side_b = usable(b, unit, several);
  const std::string trouble = !side_a.trouble.empty() ? side_a.trouble : side_b.trouble;
  if (side_a.levels.empty() || side_b.levels.empty()) {
    comparison.verdict = Verdict::inconclusive;
    comparison.verdict_why = trouble;
    return;
  }
  const Difference difference = difference_of(side_a.levels, side_b.levels, options);
  Effect effect = effect_of(difference, side_a.levels, side_b.levels, unit.metric);
  count_records(a, several, effect.clean_a, effect.total_a, effect.ess_a);
  count_records(b, several, effect.clean_b, effect.total_b, effect.ess_b);
  add_permutation(side_a.levels, side_b.levels, effect);
  comparison.effect = std::move(effect);
  comparison.advice = advice_of(difference, options);
  if (trouble.empty()) {
    give_verdict(difference, gate, options, comparison);
    return;
  }
  comparison.verdict = Verdict::inconclusive;
  comparison.verdict_why = "no test: " + trouble;
  if (!enough_for_numbers(a) || !enough_for_numbers(b)) {
    comparison.effect->low = comparison.effect->high = comparison.effect->percent;
    comparison.effect->method = "numbers only: too few records for an interval";
  }
}

}  // namespace rigwise::compare_effect
