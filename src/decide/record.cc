#include "decide/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "rigwise/stats.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

constexpr std::size_t kMostSideEffects = 12;

Evidence ledger_evidence(const Run& run, const Ledger& ledger) {
  const LedgerRow* row = row_of(ledger.rows, LedgerClass::compute);
  if (row != nullptr && !row->evidence.empty()) return evidence_of(run, row->evidence.front());
  return evidence_of(run, "steps.csv");
}

std::vector<Sentence> result_of(const SideView& side, const std::vector<Run>& all) {
  std::vector<Sentence> sentences;
  if (all.empty()) return sentences;
  if (!side.any()) {
    sentences.push_back(
        {fmt::format("{}: no run ended well; the last one {}.", side.name, side.failure),
         {evidence_of(all.back(), "run.json", "ending")}});
    return sentences;
  }
  std::vector<double> step_s, wall_s;
  std::optional<std::int64_t> steps;
  std::vector<Evidence> evidence;
  for (std::size_t i = 0; i < side.runs.size(); ++i) {
    const Ledger& ledger = *side.ledgers[i];
    if (ledger.step_time_s) step_s.push_back(*ledger.step_time_s);
    wall_s.push_back(ledger.wall_s);
    if (ledger.steps) steps = ledger.steps;
    evidence.push_back(ledger_evidence(*side.runs[i], ledger));
  }
  std::string text =
      fmt::format("{}: {} run{}", side.name, side.runs.size(), side.runs.size() == 1 ? "" : "s");
  if (!step_s.empty()) {
    const Level level = level_of(step_s);
    text += fmt::format(", {} a step", format_duration(level.value, (level.high - level.low) / 2));
  }
  text += fmt::format(", {}", format_duration(*stats::mean(wall_s)));
  if (steps) text += fmt::format(" for {} steps", *steps);
  if (side.failed > 0) text += fmt::format("; {} more did not end well", side.failed);
  sentences.push_back({text + ".", std::move(evidence)});

  const Ledger& last = *side.ledgers.back();
  const Run& run = *side.runs.back();
  std::string why = last.bottleneck.why;
  if (!why.empty()) {
    sentences.push_back({fmt::format("Its seconds: {}.", why), {ledger_evidence(run, last)}});
  }
  for (const auto& finding : last.findings) {
    if (finding.severity < Severity::warning) continue;
    Sentence sentence{finding.claim, {}};
    for (const auto& found : finding.evidence) {
      sentence.evidence.push_back(evidence_of(run, found));
    }
    if (sentence.evidence.empty()) sentence.evidence.push_back(evidence_of(run, "run.json"));
    sentences.push_back(std::move(sentence));
  }
  return sentences;
}

std::vector<Evidence> both(const SideView& a, const SideView& b, const std::string& file) {
  std::vector<Evidence> evidence;
  for (const auto* side : {&a, &b}) {
    for (const auto* run : side->runs) evidence.push_back(evidence_of(*run, file));
  }
  return evidence;
}

std::string percent_text(const Effect& effect) {
  const double half = (effect.high - effect.low) / 2;
  return fmt::format("{}{} ± {} %",
                     effect.percent > 0   ? "+"
                     : effect.percent < 0 ? "−"
                                          : "",
                     format_to_uncertainty(std::fabs(effect.percent), half),
                     format_to_uncertainty(half, half));
}

void add_comparison(const Comparison& comparison, const SideView& a, const SideView& b,
                    std::vector<Sentence>& out) {
  const auto steps = both(a, b, "steps.csv");
  switch (comparison.comparable) {
    case Comparable::yes:
      out.push_back({"The runs are comparable.", both(a, b, "run.json")});
      break;
    case Comparable::caveats: {
      std::vector<std::string> names;
      std::vector<Evidence> evidence;
      for (const auto& field : comparison.fields) {
        if (field.speed != Impact::caps || field.is_factor) continue;
        names.push_back(field.field);
        evidence.insert(evidence.end(), field.evidence.begin(), field.evidence.end());
      }
      if (evidence.empty()) evidence = both(a, b, "run.json");
      out.push_back({names.empty() ? std::string("The runs are comparable, with caveats.")
                                   : fmt::format("The runs are comparable, with caveats: {}.",
                                                 join(names, ", ")),
                     std::move(evidence)});
      break;
    }
    case Comparable::per_sample:
      out.push_back({"The runs are comparable per sample only: their global batches differ.",
                     both(a, b, "run.json")});
      break;
    case Comparable::no:
      for (const auto& blocker : comparison.blockers) {
        out.push_back({fmt::format("Not comparable: {}.", blocker), both(a, b, "run.json")});
      }
      break;
  }
  if (comparison.effect && comparison.comparable != Comparable::no) {
    const Effect& effect = *comparison.effect;
    std::string unit = effect.metric;
    std::replace(unit.begin(), unit.end(), '_', ' ');
    out.push_back({fmt::format("{}: {} → {} ({}), {} against {} runs.", unit,
                               format_duration(effect.level_a_s), format_duration(effect.level_b_s),
                               percent_text(effect), effect.runs_a, effect.runs_b),
                   steps});
  }
  if (comparison.scaling && comparison.comparable != Comparable::no) {
    const Scaling& scaling = *comparison.scaling;
    const double times = static_cast<double>(scaling.ranks_b) / std::max(1, scaling.ranks_a);
    out.push_back({fmt::format("Scaling ({}): {:.2f} of {:.0f} ({}).", scaling.kind,
                               scaling.speedup, times, format_share(scaling.efficiency)),
                   steps});
  }
  if (comparison.loss && !comparison.loss->verdict.empty()) {
    std::string verdict = comparison.loss->verdict;
    std::replace(verdict.begin(), verdict.end(), '_', ' ');
    out.push_back({comparison.loss->basis.empty()
                       ? fmt::format("Loss: {}.", verdict)
                       : fmt::format("Loss: {} ({}).", verdict, comparison.loss->basis),
                   steps});
  }
  for (const auto* repeat : {&comparison.repeat_a, &comparison.repeat_b}) {
    if (!*repeat || (*repeat)->level.empty()) continue;
    const bool of_a = repeat == &comparison.repeat_a;
    if (!(of_a ? a : b).any()) continue;
    std::string text =
        fmt::format("Repeatability of {}: {}", of_a ? a.name : b.name, (*repeat)->level);
    if ((*repeat)->spread_percent) {
      text += fmt::format(", run-to-run spread {:.1f} %", *(*repeat)->spread_percent);
    }
    out.push_back({text + ".", both(of_a ? a : SideView{}, of_a ? SideView{} : b, "steps.csv")});
  }
}

}  // namespace

void write_record(const DecideInput& input, const SideView& baseline, const SideView& candidate,
                  const std::optional<Threshold>& threshold, const Measurement& measured,
                  Decision& decision) {
  decision.baseline_result = result_of(baseline, input.baseline);
  decision.candidate_result = result_of(candidate, input.candidate);
  const Evidence lab{"", "lab.toml", std::nullopt, std::nullopt, "threshold"};
  if (threshold) {
    std::string text = fmt::format("Threshold {}: {}", threshold->text, measured.state);
    if (measured.level) text += fmt::format(", {}", level_text(*threshold, *measured.level));
    if (!measured.why.empty()) text += fmt::format(" ({})", measured.why);
    std::vector<Evidence> evidence = measured.evidence;
    if (evidence.empty()) evidence.push_back(lab);
    decision.summary.push_back({text + ".", std::move(evidence)});
    if (measured.baseline) {
      decision.summary.push_back(
          {fmt::format("The baseline shows {}.", level_text(*threshold, *measured.baseline)),
           both(baseline, SideView{}, "steps.csv")});
    }
  }
  if (input.comparison) {
    add_comparison(*input.comparison, baseline, candidate, decision.summary);
    for (const auto& effect : input.comparison->side_effects) {
      if (decision.side_effects.size() >= kMostSideEffects) break;
      if (effect.a == effect.b) continue;
      std::string text =
          fmt::format("{}: {} → {}", effect.what, effect.a.empty() ? "not measured" : effect.a,
                      effect.b.empty() ? "not measured" : effect.b);
      if (!effect.change.empty()) text += fmt::format(" ({})", effect.change);
      std::vector<Evidence> evidence = effect.evidence;
      if (evidence.empty()) evidence = both(baseline, candidate, "events.csv");
      decision.side_effects.push_back({text + ".", std::move(evidence)});
    }
  }
}

}  // namespace rigwise
