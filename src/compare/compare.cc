// compare(): loads both sides, then gate, series, effect, loss, repeatability, scaling, side
// effects.
#include "rigwise/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <set>

#include "base/text.h"
#include "compare/effect.h"
#include "compare/fields.h"
#include "compare/outcome.h"

namespace rigwise {

using compare_fields::Gate;
using compare_fields::Side;

namespace {

std::string key_of(const Run& run) {
  return run.dir.empty() ? run.info.id : run.dir.lexically_normal().string();
}

Status check_sides(const std::vector<Run>& a, const std::vector<Run>& b) {
  if (a.empty() || b.empty()) {
    return Error{Errc::usage, fmt::format("no run on the {} side", a.empty() ? "first" : "second"),
                 "rigwise compare A… -- B…"};
  }
  std::set<std::string> seen;
  for (const Run& run : a) seen.insert(key_of(run));
  for (const Run& run : b) {
    if (seen.count(key_of(run)) > 0) {
      return Error{Errc::usage, fmt::format("{} stands on both sides", run.info.id),
                   "name single runs by their folders: rigwise runs"};
    }
  }
  return Ok{};
}

/// The one name of a side's runs, else the names joined.
std::string name_of(const std::vector<Run>& runs) {
  std::vector<std::string> names;
  for (const Run& run : runs) {
    if (std::find(names.begin(), names.end(), run.info.name) == names.end()) {
      names.push_back(run.info.name);
    }
  }
  return join(names, "+");
}

Side load_side(const std::vector<Run>& runs) {
  Side side;
  side.name = name_of(runs);
  for (const Run& run : runs) {
    side.runs.push_back(compare_data::load(run));
    side.series.push_back(compare_series::extract(side.runs.back()));
  }
  return side;
}

/// Series are brought to the same number of steps a record: a median of single steps and a median
/// of ten-step means are different figures of the same run.
void clean_sides(Side& a, Side& b) {
  double coarsest = 1;
  for (const Side* side : {&a, &b}) {
    for (const auto& series : side->series) {
      if (series.source == compare_series::Source::summary) continue;
      coarsest = std::max(coarsest, series.mean_of);
    }
  }
  for (Side* side : {&a, &b}) {
    for (std::size_t i = 0; i < side->runs.size(); ++i) {
      if (side->series[i].mean_of < coarsest / 1.5)
        compare_series::coarsen(side->series[i], coarsest);
      compare_series::clean(side->series[i], side->runs[i]);
    }
  }
}

void report_series(const Side& side, std::vector<SeriesSummary>& summaries,
                   std::vector<Finding>& findings) {
  for (std::size_t i = 0; i < side.runs.size(); ++i) {
    summaries.push_back(compare_series::summary_of(side.series[i], side.runs[i]));
    const SeriesSummary& summary = summaries.back();
    const auto& data = side.runs[i];
    if (!side.series[i].shifts.empty()) {
      findings.push_back({.id = "speed-changed",
                          .severity = Severity::warning,
                          .claim = fmt::format("{}: {}", data.label, summary.trouble),
                          .evidence = {{.run = data.label, .file = data.steps.file}},
                          .threshold = "a lasting shift of 3 % or more",
                          .next_step = "look at temperature, clocks and other programs there"});
    } else if (!summary.trouble.empty()) {
      findings.push_back({.id = "series-trouble",
                          .severity = Severity::notice,
                          .claim = fmt::format("{}: {}", data.label, summary.trouble),
                          .evidence = {{.run = data.label, .file = data.steps.file}}});
    }
    if (side.series[i].rank_spread > 1.05) {
      findings.push_back(
          {.id = "uneven-ranks",
           .severity = Severity::notice,
           .claim = fmt::format("{}: the slowest rank takes {:.0f} % longer than the fastest",
                                data.label, 100 * (side.series[i].rank_spread - 1)),
           .evidence = {{.run = data.label, .file = data.steps.file}},
           .threshold = "5 %"});
    }
    for (const std::string& trouble : data.trouble) {
      findings.push_back({.id = "unreadable-table",
                          .severity = Severity::warning,
                          .claim = fmt::format("{}: {}", data.label, clean_text(trouble, 200))});
    }
  }
}

/// Alike or not, a diverged run's speed must not stand there without that word.
void remark_divergence(const Side& a, const Side& b, Comparison& comparison) {
  for (const Side* side : {&a, &b}) {
    for (const auto& run : side->runs) {
      if (!run.diverged) continue;
      comparison.verdict_why += fmt::format("; {} diverged ({})", run.label, run.diverged_why);
      return;
    }
  }
}

Result<Comparison> compare_sides(const std::vector<Run>& a, const std::vector<Run>& b,
                                 const CompareOptions& options) {
  RW_CHECK(check_sides(a, b));
  Side side_a = load_side(a), side_b = load_side(b);
  if (side_a.name == side_b.name) {  // the same command twice: keep them apart in sentences
    side_a.name += " (A)";
    side_b.name += " (B)";
  }
  clean_sides(side_a, side_b);
  RW_TRY(Gate gate, compare_fields::judge(side_a, side_b, options));

  Comparison comparison;
  comparison.rules_version = compare_rules::kRulesVersion;
  for (const auto& run : side_a.runs) comparison.runs_a.push_back(run.label);
  for (const auto& run : side_b.runs) comparison.runs_b.push_back(run.label);
  comparison.name_a = side_a.name;
  comparison.name_b = side_b.name;
  comparison.factor = gate.factor;
  comparison.factor_shown = gate.factor_shown;
  comparison.comparable = gate.comparable;
  comparison.fields = gate.fields;
  comparison.blockers = gate.blockers;
  comparison.smallest_change = gate.smallest_change;
  comparison.findings = gate.findings;
  report_series(side_a, comparison.series_a, comparison.findings);
  report_series(side_b, comparison.series_b, comparison.findings);
  compare_effect::conclude(side_a, side_b, gate, options, comparison);
  remark_divergence(side_a, side_b, comparison);
  comparison.loss = compare_outcome::loss_trend(side_a, side_b, gate, comparison.findings);
  comparison.repeat_a = compare_outcome::repeatability(side_a);
  comparison.repeat_b = compare_outcome::repeatability(side_b);
  comparison.scaling = compare_outcome::scaling(side_a, side_b, gate, comparison.effect);
  comparison.side_effects = compare_outcome::side_effects(side_a, side_b, comparison.findings);
  std::stable_sort(comparison.findings.begin(), comparison.findings.end(),
                   [](const Finding& x, const Finding& y) { return x.severity > y.severity; });
  return comparison;
}

}  // namespace

Result<Comparison> compare(const std::vector<Run>& a, const std::vector<Run>& b,
                           const CompareOptions& options) {
  try {
    return compare_sides(a, b, options);
  } catch (const std::exception& problem) {
    return Error{Errc::internal, std::string("compare: ") + problem.what()};
  }
}

}  // namespace rigwise
