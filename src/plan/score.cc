#include <algorithm>
#include <cmath>
#include <map>

#include "rigwise/plan.h"
#include "rigwise/stats.h"

namespace rigwise {

namespace {

CasePrediction refusal(const PlanCase& c, const Error& error) {
  return {c.id, 0, 0, 0, true, error.message, {}};
}
CasePrediction filled(const PlanCase& c, const Interval& interval) {
  if (!std::isfinite(interval.value) || !std::isfinite(interval.low) ||
      !std::isfinite(interval.high)) {
    return refusal(c, {Errc::usage, "figures of the case are beyond reason", ""});
  }
  return {c.id, interval.value, interval.low, interval.high, false, "", {}};
}

CasePrediction predict_collective(const PlanCase& c) {
  if (c.collective_points.size() < 2) {
    return refusal(c, {Errc::unavailable, "fewer than two messages were measured", ""});
  }
  const auto time = allreduce_time(c.collective_bytes, c.workload.n_gpus,
                                   c.collective_points.front(), c.collective_points.back());
  if (!time) return refusal(c, time.error());
  const double n = static_cast<double>(c.workload.n_gpus);
  const double sent = c.collective_bytes * 2 * (n - 1) / n;
  return filled(c, {sent / time->value, sent / time->high, sent / time->low});
}

/// Percent of the truth; degrees for heat.
double error_of(const PlanCase& c, double predicted, double truth) {
  return c.kind == "heat" ? predicted - truth : 100 * (predicted / truth - 1);
}

std::string group_name(const PlanCase& c, const PlanTruth& truth) {
  if (c.kind == "memory") return c.anchored ? "memory, anchored" : "memory, cold";
  if (c.kind == "scaling") {
    const std::string where = truth.scale_class == "home" ? "home" : "datacenter";
    return "scaling, " + std::string(c.anchored ? "anchored, " : "cold, ") + where;
  }
  if (c.kind == "heat") return "heat, " + std::to_string(c.samples_c.size()) + " readings";
  if (c.kind == "power_cap") return "speed at a power limit";
  if (c.kind == "allreduce") return "all-reduce";
  return c.kind;
}

struct Tally {
  ScoreGroup group = {};
  std::vector<double> errors = {}, signed_errors = {}, interval_scores = {};
  std::map<std::string, std::vector<double>> by_source = {};
  std::vector<std::string> baseline_names = {};
  std::map<std::string, std::vector<double>> baselines = {};
  std::int64_t inside = 0, above = 0;
};

void tally_case(Tally& tally, const PlanCase& c, const PlanTruth& truth,
                const CasePrediction& prediction) {
  ++tally.group.cases;
  if (!truth.value || (c.kind != "heat" && *truth.value <= 0)) {
    ++tally.group.unscored;
    return;
  }
  if (prediction.refused) {
    ++tally.group.refused;
    return;
  }
  const double value = *truth.value;
  const double error = error_of(c, prediction.predicted, value);
  tally.signed_errors.push_back(error);
  tally.errors.push_back(std::abs(error));
  tally.by_source[truth.source].push_back(std::abs(error));
  if (std::abs(error) >= tally.group.worst_error) {
    tally.group.worst_error = std::abs(error);
    tally.group.worst_id = c.id;
  }
  const bool below = value<prediction.low, above = value> prediction.high;
  tally.inside += !below && !above;
  tally.above += above;
  // Gneiting and Raftery 2007, α = 0.2: the width, and ten times what lies outside
  const double outside = below ? prediction.low - value : above ? value - prediction.high : 0;
  const double score = prediction.high - prediction.low + 10 * outside;
  tally.interval_scores.push_back(c.kind == "heat" ? score : 100 * score / value);
  if (c.kind == "scaling" && truth.speedup) {
    const double speedup =
        c.predict == "speedup" ? prediction.predicted : prediction.speedup.value_or(0);
    if (speedup > 0) {
      ++tally.group.sign_cases;
      tally.group.sign_right += (speedup > 1) == (*truth.speedup > 1);
    }
  }
  for (const auto& [name, guess] : baseline_predictions(c)) {
    if (!tally.baselines.contains(name)) tally.baseline_names.push_back(name);
    tally.baselines[name].push_back(std::abs(error_of(c, guess, value)));
  }
}

ScoreGroup closed(Tally tally) {
  ScoreGroup group = std::move(tally.group);
  const double n = static_cast<double>(std::max<std::size_t>(1, tally.errors.size()));
  group.mean_error = stats::mean(tally.errors).value_or(0);
  group.median_error = stats::median(tally.errors).value_or(0);
  group.bias = stats::mean(tally.signed_errors).value_or(0);
  group.covered_frac = static_cast<double>(tally.inside) / n;
  group.above_frac = static_cast<double>(tally.above) / n;
  group.interval_score = stats::mean(tally.interval_scores).value_or(0);
  std::vector<double> sources;
  for (const auto& [source, errors] : tally.by_source) {
    sources.push_back(stats::mean(errors).value_or(0));
    group.by_source.emplace_back(source, sources.back());
  }
  group.mean_by_source = stats::mean(sources).value_or(0);
  for (const auto& name : tally.baseline_names) {
    const auto& errors = tally.baselines[name];
    group.baselines.push_back(
        {name, stats::mean(errors).value_or(0), stats::median(errors).value_or(0)});
  }
  return group;
}

}  // namespace

CasePrediction predict_case(const PlanCase& c) {
  if (c.kind == "memory") {
    const auto estimate = predict_memory(c.workload, c.memory_anchors);
    return estimate ? filled(c, estimate->peak) : refusal(c, estimate.error());
  }
  if (c.kind == "scaling") {
    const auto estimate = predict_scaling(c.workload, c.base, c.rate_anchors);
    if (!estimate) return refusal(c, estimate.error());
    const bool ratio = c.predict == "speedup";
    if (!ratio && estimate->samples_per_s.value <= 0) {
      return refusal(c, {Errc::unavailable, "no rate was measured on this box", ""});
    }
    auto prediction = filled(c, ratio ? estimate->speedup : estimate->samples_per_s);
    prediction.speedup = estimate->speedup.value;
    prediction.why = estimate->why;
    return prediction;
  }
  if (c.kind == "heat") {
    const auto plateau = settled_temperature(c.samples_c);
    return plateau ? filled(c, *plateau) : refusal(c, plateau.error());
  }
  if (c.kind == "power_cap") {
    const auto rate = rate_at_cap(c.cap_w, c.cap_points);
    return rate ? filled(c, *rate) : refusal(c, rate.error());
  }
  if (c.kind == "allreduce") return predict_collective(c);
  return refusal(c, {Errc::usage, "unknown kind '" + c.kind + "'", ""});
}

std::vector<std::pair<std::string, double>> baseline_predictions(const PlanCase& c) {
  std::vector<std::pair<std::string, double>> out;
  if (c.kind == "memory") {
    if (const auto bytes = textbook_memory(c.workload)) out.emplace_back("textbook sum", *bytes);
    if (!c.memory_anchors.empty()) out.emplace_back("as the anchor", c.memory_anchors[0].bytes);
  } else if (c.kind == "scaling" && c.base) {
    const double ideal =
        static_cast<double>(c.workload.n_gpus) / static_cast<double>(c.base->n_gpus);
    if (c.predict == "speedup") {
      out.emplace_back("linear", ideal);
    } else if (c.base->samples_per_s) {
      out.emplace_back("linear", ideal * *c.base->samples_per_s);
      if (!c.rate_anchors.empty() && c.rate_anchors[0].speedup) {
        out.emplace_back("anchor's speed-up", *c.base->samples_per_s * *c.rate_anchors[0].speedup);
      }
    }
  } else if (c.kind == "heat" && !c.samples_c.empty()) {
    out.emplace_back("last reading", c.samples_c.back());
  } else if (c.kind == "power_cap" && c.cap_points.size() >= 2) {
    const CapPoint* under = nullptr;
    const CapPoint* over = nullptr;
    for (const auto& point : c.cap_points) {
      if (point.cap_w <= c.cap_w && (!under || point.cap_w > under->cap_w)) under = &point;
      if (point.cap_w >= c.cap_w && (!over || point.cap_w < over->cap_w)) over = &point;
    }
    if (under && over && over->cap_w > under->cap_w) {
      out.emplace_back("straight line", under->rate + (over->rate - under->rate) *
                                                          (c.cap_w - under->cap_w) /
                                                          (over->cap_w - under->cap_w));
    }
    const auto& top = c.cap_points.back();
    out.emplace_back("by the watts", top.rate * c.cap_w / top.cap_w);
  } else if (c.kind == "allreduce" && c.collective_points.size() >= 2) {
    const auto& a = c.collective_points.front();
    const auto& b = c.collective_points.back();
    const double n = static_cast<double>(c.workload.n_gpus);
    const double time = a.time_s + (b.time_s - a.time_s) * (c.collective_bytes - a.bytes) /
                                       std::max(1.0, b.bytes - a.bytes);
    out.emplace_back("α + β·bytes", c.collective_bytes * 2 * (n - 1) / n / time);
  }
  return out;
}

Scorecard score_cases(const std::vector<PlanCase>& cases, const std::vector<PlanTruth>& truths,
                      const std::vector<CasePrediction>& predictions) {
  std::vector<std::string> order;
  std::map<std::string, Tally> tallies;
  const std::size_t n = std::min({cases.size(), truths.size(), predictions.size()});
  for (std::size_t i = 0; i < n; ++i) {
    const std::string name = group_name(cases[i], truths[i]);
    if (!tallies.contains(name)) order.push_back(name);
    tallies[name].group.name = name;
    tally_case(tallies[name], cases[i], truths[i], predictions[i]);
  }
  Scorecard card;
  for (const auto& name : order) card.groups.push_back(closed(std::move(tallies[name])));
  return card;
}

}  // namespace rigwise
