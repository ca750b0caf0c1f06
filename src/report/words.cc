#include "report/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "report/figures.h"
#include "report/layout.h"
#include "rigwise/units.h"

namespace rigwise::report {

namespace {
std::string effect_in_words(const Effect& effect) {
  const double half = (effect.high - effect.low) / 2;
  std::string text = level_change(effect);
  if (!text.empty()) text += ", ";
  text += percent_change(effect.percent, half);
  // ± would misstate an interval that reaches much further to one side.
  const double below = effect.percent - effect.low, above = effect.high - effect.percent;
  if (half > 0 && std::fabs(above - below) > 0.5 * half) {
    text += fmt::format(" ({} to {})", percent_change(effect.low, half),
                        percent_change(effect.high, half));
  } else if (half > 0) {
    text += fmt::format(" ±{}", percent_plain(half, half));
  }
  return text;
}

std::string comparable_in_words(const Comparison& comparison) {
  std::vector<std::string> caveats;
  for (const ComparedField& field : comparison.fields) {
    if (field.is_factor || !differs(field)) continue;
    if (field.speed == Impact::caps || field.loss == Impact::caps)
      caveats.push_back(field_name(field) + ": " + field_change(field));
  }
  switch (comparison.comparable) {
    case Comparable::yes:
      return "yes";
    case Comparable::caveats: {
      if (caveats.empty()) return "yes, with caveats";
      std::string text = fmt::format(
          "yes, {}: {}", count(static_cast<std::int64_t>(caveats.size()), "caveat"), caveats[0]);
      if (caveats.size() > 1) text += fmt::format(" and {} more", caveats.size() - 1);
      return text;
    }
    case Comparable::per_sample:
      return "per sample: the batches differ, so time is counted a sample";
    case Comparable::no:
      return "no";
  }
  return "?";
}

std::string loss_in_words(const LossTrend& loss) {
  std::string text = safe(loss.verdict, 80);
  std::replace(text.begin(), text.end(), '_', ' ');
  if (loss.difference) {
    const double half = loss.low && loss.high ? (*loss.high - *loss.low) / 2 : 0;
    // A half-width that begins with 1 keeps two digits: ±0.015 says more than ±0.02.
    const double shown = half > 0 ? half / 2 : 0.001;
    text += fmt::format(": {}{}", *loss.difference < 0 ? "−" : "+",
                        format_to_uncertainty(std::fabs(*loss.difference), shown));
    if (half > 0) text += " ±" + format_to_uncertainty(half, shown);
    if (loss.margin) text += fmt::format(" against a margin of {:.3g}", *loss.margin);
  }
  if (!loss.basis.empty()) text += " (" + safe(loss.basis, 80) + ")";
  if (!loss.difference && !loss.notes.empty()) text += ": " + safe(loss.notes.front(), 200);
  return text;
}

std::string repeat_in_words(const Repeatability& repeat) {
  std::string text = safe(repeat.level, 80);
  if (repeat.spread_percent)
    text += fmt::format(", run-to-run spread {}", percent_plain(*repeat.spread_percent));
  if (!repeat.note.empty()) text += " (" + safe(repeat.note, 160) + ")";
  return text;
}

std::string scaling_in_words(const Scaling& scaling) {
  if (scaling.ranks_b <= 0 || scaling.ranks_a <= 0) return {};
  const double ideal = static_cast<double>(scaling.ranks_b) / scaling.ranks_a;
  std::string text =
      fmt::format("{:.2f} of {:.3g} ({:.0f} %)", scaling.speedup, ideal, scaling.efficiency * 100);
  if (scaling.speedup_high > scaling.speedup_low)
    text += fmt::format(", {:.2f} to {:.2f}", scaling.speedup_low, scaling.speedup_high);
  if (!scaling.kind.empty()) text += " · " + safe(scaling.kind, 20) + " scaling";
  return text;
}
}  // namespace

std::string field_name(const ComparedField& field) {
  std::string words = safe(field.field, 60);
  std::replace(words.begin(), words.end(), '_', ' ');
  return words;
}

bool differs(const ComparedField& field) {
  return field.a != field.b;
}

bool matters(const ComparedField& field) {
  const Impact worst = std::max(field.speed, field.loss);
  return field.is_factor || (differs(field) && worst >= Impact::caps);
}

std::string field_change(const ComparedField& field) {
  const auto side = [](const std::string& value) {
    return value.empty() ? std::string("not known") : safe(value, 120);
  };
  return side(field.a) + " → " + side(field.b);
}

std::string impact_in_words(Impact impact) {
  switch (impact) {
    case Impact::none:
      return "no effect";
    case Impact::noted:
      return "noted";
    case Impact::caps:
      return "limits the verdict";
    case Impact::normalise:
      return "corrected for";
    case Impact::blocks:
      return "stops the verdict";
  }
  return "?";
}

NamedRows comparison_rows(const Comparison& comparison) {
  NamedRows rows;
  rows.emplace_back("comparable", comparable_in_words(comparison));
  if (comparison.effect) {
    rows.emplace_back(metric_in_words(comparison.effect->metric),
                      effect_in_words(*comparison.effect));
  } else {
    rows.emplace_back("step time", std::string(kNotMeasured));
  }
  if (comparison.wall) {
    rows.emplace_back("wall time", effect_in_words(*comparison.wall));
  } else if (!comparison.wall_blockers.empty()) {
    rows.emplace_back("wall time", "not comparable: " + safe(comparison.wall_blockers.front()));
  }
  if (comparison.scaling) rows.emplace_back("scaling", scaling_in_words(*comparison.scaling));
  rows.emplace_back("loss",
                    comparison.loss ? loss_in_words(*comparison.loss) : std::string(kNotMeasured));
  const auto repeat = [&](const std::optional<Repeatability>& side, const std::string& name) {
    if (side) rows.emplace_back("repeatable: " + safe(name, 40), repeat_in_words(*side));
  };
  repeat(comparison.repeat_a, comparison.name_a);
  repeat(comparison.repeat_b, comparison.name_b);
  if (comparison.threshold) {
    std::string text =
        safe(comparison.threshold->text) + ": " + safe(comparison.threshold->state, 40);
    if (!comparison.threshold->why.empty()) text += ", " + safe(comparison.threshold->why);
    rows.emplace_back("threshold", text);
  }
  std::string effects;
  for (const SideEffect& effect : comparison.side_effects) {
    if (effect.change.empty()) continue;
    if (!effects.empty()) effects += " · ";
    effects += safe(effect.what, 60) + " " + safe(effect.change, 80);
  }
  if (!effects.empty()) rows.emplace_back("side effects", effects);
  return rows;
}

std::string next_step_of(const Comparison& comparison) {
  const std::string a = safe(comparison.name_a, 80), b = safe(comparison.name_b, 80);
  switch (comparison.verdict) {
    case Verdict::not_comparable:
      return comparison.smallest_change.empty()
                 ? fmt::format("run {} and {} again with the same data, batch and checkpoints", a,
                               b)
                 : full_stop(safe(comparison.smallest_change));
    case Verdict::inconclusive: {
      const int have =
          comparison.effect
              ? std::min(comparison.effect->runs_a, comparison.effect->runs_b)
              : static_cast<int>(std::min(comparison.runs_a.size(), comparison.runs_b.size()));
      if (comparison.runs_needed && *comparison.runs_needed > have)
        return fmt::format("record {} more of {} and of {}, in turn, then compare again",
                           count(*comparison.runs_needed - have, "run"), a, b);
      return fmt::format("record more runs of {} and {}, in turn, then compare again", a, b);
    }
    default:
      return "rigwise decide";
  }
}

std::string sealed_in_words(const Statement& statement, const std::vector<const Run*>& runs) {
  if (!statement.sealed_unix_s) return "not sealed";
  std::string text = "sealed " + format_wall_clock(*statement.sealed_unix_s);
  std::size_t before = 0, known = 0;
  for (const Run* run : runs) {
    if (run == nullptr || run->info.start_unix_s <= 0) continue;
    ++known;
    if (run->info.start_unix_s >= *statement.sealed_unix_s) ++before;
  }
  if (known == 0) return text;
  if (before == known)
    return text + (known == 2   ? ", before both runs"
                   : known == 1 ? ", before the run"
                                : ", before every run");
  return text + fmt::format(", after {} of {} runs had started", known - before, known);
}

}  // namespace rigwise::report
