#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "base/text.h"
#include "compare/outcome.h"
#include "rigwise/stats.h"

namespace rigwise::compare_outcome {

using compare_data::RunData;
using compare_fields::Gate;
using compare_fields::Side;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Decimals that the printed figure had: the shortest text that reads back the same.
double resolution_of(double value) {
  const std::string text = number_text(value);
  if (text.find('e') != std::string::npos) return 0;
  const auto dot = text.find('.');
  if (dot == std::string::npos) return 1;
  return std::pow(10.0, -static_cast<double>(text.size() - dot - 1));
}

std::optional<double> step_in(const StepRecord& record) {
  if (record.step) return static_cast<double>(*record.step);
  if (record.bar_step) return static_cast<double>(*record.bar_step);
  return std::nullopt;
}

/// A placeholder, not a measurement: nothing was learnt at a rate of 0 with a gradient of 0.
bool is_sentinel(const StepRecord& record) {
  return record.lr && *record.lr == 0 && record.grad_norm && *record.grad_norm == 0;
}

/// One point a place: ranks that log apart are averaged.
std::vector<LossPoint> averaged(std::vector<LossPoint> points) {
  std::stable_sort(points.begin(), points.end(),
                   [](const LossPoint& a, const LossPoint& b) { return a.at < b.at; });
  std::vector<LossPoint> result;
  double count = 0;
  for (const LossPoint& point : points) {
    if (!result.empty() && result.back().at == point.at) {
      count += 1;
      result.back().loss += (point.loss - result.back().loss) / count;
      continue;
    }
    result.push_back(point);
    count = 1;
  }
  return result;
}

struct Range {
  double from = 0, to = 0;
  [[nodiscard]] double tail() const { return to - compare_rules::kLossTailShare * (to - from); }
};

std::vector<LossPoint> inside(const std::vector<LossPoint>& points, double from, double to) {
  std::vector<LossPoint> kept;
  for (const LossPoint& point : points) {
    if (point.at >= from && point.at <= to) kept.push_back(point);
  }
  return kept;
}

struct Curves {
  std::vector<LossCurve> a = {}, b = {};
  std::vector<LossCurve> all() const {
    std::vector<LossCurve> both = a;
    both.insert(both.end(), b.begin(), b.end());
    return both;
  }
};

std::optional<Range> common_range(const Curves& curves, bool eval) {
  Range range{-kInfinity, kInfinity};
  for (const LossCurve& curve : curves.all()) {
    const auto& points = eval ? curve.eval : curve.train;
    if (points.empty()) return std::nullopt;
    range.from = std::max(range.from, points.front().at);
    range.to = std::min(range.to, points.back().at);
  }
  if (!(range.to >= range.from)) return std::nullopt;
  return range;
}

std::vector<double> losses_of(const std::vector<LossPoint>& points) {
  std::vector<double> values;
  for (const LossPoint& point : points) values.push_back(point.loss);
  return values;
}

/// Mean and its variance over the last fifth, the trend within it taken out first.
struct Tail {
  double mean = 0, variance = 0;
  std::size_t count = 0;
};
Tail tail_of(const std::vector<LossPoint>& points) {
  const std::vector<double> values = losses_of(points);
  Tail tail{*stats::mean(values), 0, values.size()};
  std::vector<double> rest = values, at;
  for (const LossPoint& point : points) at.push_back(point.at);
  if (const auto line = stats::least_squares(at, values)) {
    for (std::size_t i = 0; i < rest.size(); ++i) rest[i] -= line->intercept + line->slope * at[i];
  }
  const auto variance = stats::moments(rest).variance();
  if (variance) tail.variance = *variance / stats::effective_sample_size(rest).ess;
  return tail;
}

/// Records of two runs at the same place, b - a.
std::vector<LossPoint> paired(const std::vector<LossPoint>& a, const std::vector<LossPoint>& b) {
  std::vector<LossPoint> result;
  std::size_t j = 0;
  for (const LossPoint& point : a) {
    while (j < b.size() && b[j].at < point.at) ++j;
    if (j < b.size() && b[j].at == point.at) result.push_back({point.at, b[j].loss - point.loss});
  }
  return result;
}

/// Equal losses at the first 5 common records, to the digits that were printed: the same data in
/// the same order.
bool same_order(const LossCurve& a, const LossCurve& b) {
  const auto both = paired(a.train, b.train);
  if (both.size() < 5) return false;
  const double digit = std::max({a.resolution, b.resolution, 1e-9});
  for (std::size_t i = 0; i < 5; ++i) {
    if (std::fabs(both[i].loss) > digit * 1.01) return false;
  }
  return true;
}

std::optional<stats::Estimate> between_runs(const std::vector<Tail>& a,
                                            const std::vector<Tail>& b) {
  std::vector<double> va, vb;
  for (const Tail& tail : a) va.push_back(tail.mean);
  for (const Tail& tail : b) vb.push_back(tail.mean);
  return stats::welch(va, vb);
}

/// The difference over the last fifth, by the strongest method that the record allows.
std::optional<stats::Estimate> tail_difference(const Curves& curves, const Range& range, bool eval,
                                               LossTrend& trend) {
  const auto points = [&](const LossCurve& curve) {
    auto part = inside(eval ? curve.eval : curve.train, range.tail(), range.to);
    if (part.empty()) part = inside(eval ? curve.eval : curve.train, range.from, range.to);
    return part;
  };
  std::vector<Tail> a, b;
  for (const LossCurve& curve : curves.a) a.push_back(tail_of(points(curve)));
  for (const LossCurve& curve : curves.b) b.push_back(tail_of(points(curve)));
  if (a.size() >= 3 && b.size() >= 3) {
    trend.notes.push_back(fmt::format("over {} and {} runs", a.size(), b.size()));
    return between_runs(a, b);
  }
  if (!eval && same_order(curves.a.front(), curves.b.front())) {
    const auto both = paired(points(curves.a.front()), points(curves.b.front()));
    if (both.size() >= compare_rules::kLossLeastTail) {
      trend.notes.emplace_back("paired: the first losses are equal, so the data order is the same");
      const Tail tail = tail_of(both);
      return stats::Estimate{tail.mean, std::sqrt(tail.variance),
                             static_cast<double>(tail.count) - 2};
    }
  }
  double mean_a = 0, mean_b = 0, variance = 0, df = 0;
  for (const Tail& tail : a) {
    if (tail.count < compare_rules::kLossLeastTail) return std::nullopt;
    mean_a += tail.mean / static_cast<double>(a.size());
    df += static_cast<double>(tail.count) - 2;
    variance += tail.variance / static_cast<double>(a.size() * a.size());
  }
  for (const Tail& tail : b) {
    if (tail.count < compare_rules::kLossLeastTail) return std::nullopt;
    mean_b += tail.mean / static_cast<double>(b.size());
    df += static_cast<double>(tail.count) - 2;
    variance += tail.variance / static_cast<double>(b.size() * b.size());
  }
  return stats::Estimate{mean_b - mean_a, std::sqrt(variance), df};
}

struct Bins {
  std::vector<double> at = {}, a = {}, b = {};
};

Bins binned(const Curves& curves, const Range& range, bool eval) {
  std::size_t fewest = SIZE_MAX;
  for (const LossCurve& curve : curves.all()) {
    fewest = std::min(fewest, inside(eval ? curve.eval : curve.train, range.from, range.to).size());
  }
  const auto count = std::clamp<std::size_t>(fewest, 1, compare_rules::kLossBins);
  const double width = (range.to - range.from) / static_cast<double>(count);
  const auto means = [&](const std::vector<LossCurve>& side) {
    std::vector<stats::Moments> bins(count);
    for (const LossCurve& curve : side) {
      for (const LossPoint& point : inside(eval ? curve.eval : curve.train, range.from, range.to)) {
        const double place = width > 0 ? (point.at - range.from) / width : 0;
        bins[std::min(count - 1, static_cast<std::size_t>(std::max(place, 0.0)))].add(point.loss);
      }
    }
    return bins;
  };
  const auto bins_a = means(curves.a), bins_b = means(curves.b);
  Bins result;
  for (std::size_t i = 0; i < count; ++i) {
    if (bins_a[i].count() == 0 || bins_b[i].count() == 0) continue;
    result.at.push_back(range.from + (static_cast<double>(i) + 1) * width);
    result.a.push_back(bins_a[i].mean());
    result.b.push_back(bins_b[i].mean());
  }
  return result;
}

/// Sum against mean, or division by the accumulation left out: the sides' losses are not the same
/// quantity.
std::optional<double> scale_ratio(const Curves& curves, const Side& a, const Side& b) {
  const auto first = [](const std::vector<LossCurve>& side) {
    const auto& points = side.front().train;
    stats::Moments moments;
    for (std::size_t i = 0; i < std::min<std::size_t>(3, points.size()); ++i) {
      moments.add(points[i].loss);
    }
    return moments;
  };
  const auto ma = first(curves.a), mb = first(curves.b);
  if (ma.count() == 0 || mb.count() == 0 || !(ma.mean() > 0) || !(mb.mean() > 0)) {
    return std::nullopt;
  }
  const double ratio = std::max(ma.mean(), mb.mean()) / std::min(ma.mean(), mb.mean());
  std::set<double> suspects{2, 4, 8};
  for (const Side* side : {&a, &b}) {
    const auto accumulation = compare_data::fact_number(side->runs.front(), "accumulation");
    if (accumulation && *accumulation >= 2) suspects.insert(*accumulation);
  }
  for (const double suspect : suspects) {
    if (std::fabs(ratio / suspect - 1) < 0.10) return ratio;
  }
  return std::nullopt;
}

std::size_t seeds_of(const Side& side) {
  std::set<std::string> seeds;
  for (const RunData& run : side.runs) {
    if (const auto seed = compare_data::fact(run, "seed")) seeds.insert(*seed);
  }
  return seeds.size();
}

double margin_of(const Curves& curves, const Side& a, const Bins& bins) {
  double resolution = 0;
  for (const LossCurve& curve : curves.all()) resolution = std::max(resolution, curve.resolution);
  double margin = std::max(compare_rules::kLossMarginShare * std::fabs(bins.a.back()),
                           compare_rules::kLossResolutions * resolution);
  if (seeds_of(a) >= 3) {
    std::vector<double> finals;
    for (const LossCurve& curve : curves.a) {
      if (const auto value = final_loss(curve)) finals.push_back(*value);
    }
    margin = std::max(margin, compare_rules::kLossSeedSds *
                                  stats::moments(finals).standard_deviation().value_or(0));
  }
  return margin;
}

std::size_t longest_outside(const Bins& bins, double margin) {
  std::size_t longest = 0, now = 0;
  for (std::size_t i = 0; i < bins.a.size(); ++i) {
    now = std::fabs(bins.b[i] - bins.a[i]) > margin ? now + 1 : 0;
    longest = std::max(longest, now);
  }
  return longest;
}

/// How soon each side reaches the level that both reach.
void add_time_to_target(const Bins& bins, const Gate& gate, const Side& a, const Side& b,
                        const std::string& unit, double margin, LossTrend& trend,
                        std::vector<Finding>& findings) {
  if (bins.a.size() < 4) return;
  const double target = std::max(bins.a.back(), bins.b.back());
  const auto reach = [&](const std::vector<double>& side) {
    for (std::size_t i = 0; i < side.size(); ++i) {
      if (side[i] <= target) return bins.at[i];
    }
    return bins.at.back();
  };
  const double at_a = reach(bins.a), at_b = reach(bins.b);
  trend.notes.push_back(fmt::format("both reach {:.4g}: {} after {:.0f} {}, {} after {:.0f}",
                                    target, a.name, at_a, unit, b.name, at_b));
  const bool equal_settings =
      std::none_of(gate.fields.begin(), gate.fields.end(), [](const ComparedField& field) {
        return field.a != field.b && !field.is_factor &&
               (field.loss == Impact::blocks || field.loss == Impact::caps);
      });
  if (equal_settings && at_b < 0.8 * at_a && bins.b.back() < bins.a.back() - margin) {
    findings.push_back(
        {.id = "converges-faster",
         .severity = Severity::warning,
         .claim = fmt::format("{} reaches {}'s loss in {:.0f} % of the {} at equal settings: look "
                              "for other data, a leak or another normalisation of the loss",
                              b.name, a.name, 100 * at_b / at_a, unit),
         .threshold = "80 % of the samples",
         .next_step = "check that both sides read the same rows",
         .source = "MLPerf reference convergence points"});
  }
}

void judge(const Curves& curves, const Range& range, bool eval, const Side& a, const Side& b,
           const Gate& gate, LossTrend& trend, std::vector<Finding>& findings) {
  const std::string unit = curves.a.front().unit;
  trend.from_samples = range.from;
  trend.to_samples = range.to;
  if (unit != "samples") trend.notes.push_back("counted in " + unit + ": samples are not known");
  if (gate.batches_differ) {
    trend.notes.emplace_back("compared at equal samples; the numbers of updates differ");
  }
  const Bins bins = binned(curves, range, eval);
  if (bins.a.empty()) {
    trend.verdict = "inconclusive";
    trend.notes.emplace_back("no stretch in which both sides logged a loss");
    return;
  }
  const double margin = margin_of(curves, a, bins);
  trend.margin = margin;
  const auto estimate = tail_difference(curves, range, eval, trend);
  if (!estimate) {
    trend.verdict = "inconclusive";
    trend.difference = bins.b.back() - bins.a.back();
    trend.notes.emplace_back("too few losses for an interval: 4 in the last fifth are needed");
    return;
  }
  const double half = estimate->half_width(0.95);
  trend.difference = estimate->value;
  trend.low = estimate->value - half;
  trend.high = estimate->value + half;
  const auto outside = longest_outside(bins, margin);
  if (stats::equivalent(*estimate, margin) &&
      outside < static_cast<std::size_t>(compare_rules::kLossBinsOutside)) {
    trend.verdict = "equivalent";
  } else if ((*trend.low > 0 || *trend.high < 0) && std::fabs(estimate->value) > margin) {
    const bool may_win = eval || (seeds_of(a) >= 3 && seeds_of(b) >= 3);
    trend.verdict = estimate->value < 0 && may_win ? "b_better" : "different";
  } else {
    trend.verdict = "inconclusive";
    if (outside >= static_cast<std::size_t>(compare_rules::kLossBinsOutside)) {
      trend.notes.push_back(fmt::format("{} successive stretches lie outside the margin", outside));
    }
  }
  add_time_to_target(bins, gate, a, b, unit, margin, trend, findings);
}

}  // namespace

std::string common_unit(const std::vector<const RunData*>& runs) {
  if (std::all_of(runs.begin(), runs.end(),
                  [](const RunData* run) { return run->global_batch.has_value(); })) {
    return "samples";
  }
  const auto states_tokens = [](const RunData* run) {
    return std::any_of(run->steps.rows.begin(), run->steps.rows.end(),
                       [](const StepRecord& record) { return record.loss && record.tokens_seen; });
  };
  if (std::all_of(runs.begin(), runs.end(), states_tokens)) return "tokens";
  return "steps";
}

LossCurve loss_curve(const RunData& data, const std::string& unit) {
  LossCurve curve;
  curve.unit = unit;
  double count = 0, last = 0;
  for (const StepRecord& record : data.steps.rows) {
    const bool train = record.kind == RecordKind::train && record.loss;
    const bool eval = record.kind == RecordKind::eval && record.eval_loss;
    if (!train && !eval) continue;
    if (train) count += 1;
    if (train && is_sentinel(record)) continue;
    const double loss = train ? *record.loss : *record.eval_loss;
    if (!std::isfinite(loss)) break;  // whatever comes after a nan is not learning
    auto step =
        eval && !record.step && !record.bar_step ? std::optional<double>(last) : step_in(record);
    if (!step) step = count;
    if (train) last = *step;
    double at = *step;
    if (unit == "samples") at *= *data.global_batch;
    if (unit == "tokens") {
      if (!record.tokens_seen) continue;
      at = *record.tokens_seen;
    }
    curve.resolution = std::max(curve.resolution, 0.0);
    const double digit = resolution_of(loss);
    if (digit > 0 && (curve.resolution == 0 || digit < curve.resolution)) curve.resolution = digit;
    (train ? curve.train : curve.eval).push_back({at, loss});
  }
  curve.train = averaged(std::move(curve.train));
  curve.eval = averaged(std::move(curve.eval));
  return curve;
}

std::optional<double> final_loss(const LossCurve& curve) {
  if (!curve.eval.empty()) return curve.eval.back().loss;
  if (curve.train.empty()) return std::nullopt;
  const Range range{curve.train.front().at, curve.train.back().at};
  return stats::mean(losses_of(inside(curve.train, range.tail(), range.to)));
}

std::optional<LossTrend> loss_trend(const Side& a, const Side& b, const Gate& gate,
                                    std::vector<Finding>& findings) {
  std::vector<const RunData*> runs;
  for (const RunData& run : a.runs) runs.push_back(&run);
  for (const RunData& run : b.runs) runs.push_back(&run);
  const std::string unit = common_unit(runs);
  Curves curves;
  for (const RunData& run : a.runs) curves.a.push_back(loss_curve(run, unit));
  for (const RunData& run : b.runs) curves.b.push_back(loss_curve(run, unit));

  LossTrend trend;
  for (const RunData* run : runs) {
    if (!run->diverged) continue;
    trend.verdict = "diverged";
    trend.notes.push_back(fmt::format("{}: {}", run->label, run->diverged_why));
  }
  if (trend.verdict == "diverged") {
    trend.notes.emplace_back(
        "a diverged run is never better, and the other side wins nothing by it");
    return trend;
  }
  const auto train = common_range(curves, false), eval = common_range(curves, true);
  if (!train && !eval) return std::nullopt;
  if (!gate.loss_blockers.empty()) {
    trend.verdict = "blocked";
    trend.notes = gate.loss_blockers;
    return trend;
  }
  if (const auto ratio = scale_ratio(curves, a, b)) {
    trend.verdict = "blocked";
    trend.notes.push_back(
        fmt::format("the first losses differ by a factor of {:.2g}: sums against means, or an "
                    "accumulation that "
                    "was not divided by",
                    *ratio));
    return trend;
  }
  // Evaluation is the better witness, but one or two points of one run carry no interval.
  bool by_eval = eval.has_value();
  for (const LossCurve& curve : curves.all()) {
    const bool several = curves.a.size() >= 3 && curves.b.size() >= 3;
    if (curve.eval.size() < (several ? 1u : 5u)) by_eval = false;
  }
  if (!by_eval && !train) {
    trend.verdict = "inconclusive";
    trend.basis = "evaluation loss";
    trend.notes.emplace_back("too few evaluations for an interval");
    return trend;
  }
  trend.basis = by_eval ? "evaluation loss" : "training loss";
  judge(curves, by_eval ? *eval : *train, by_eval, a, b, gate, trend, findings);
  return trend;
}

}  // namespace rigwise::compare_outcome
