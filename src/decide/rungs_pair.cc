// Rungs with runs on both sides.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "decide/rungs.h"
#include "rigwise/units.h"

namespace rigwise::rungs {

namespace {

constexpr double kGoodScaling = 0.70;  // of the ideal speedup
constexpr double kSlowerSaves = 1.25;  // checkpoint time, candidate over baseline
constexpr double kHeldShare = 0.05;    // of the steps' time
constexpr double kNearSlowdown_c = 3;

}  // namespace

/// Scaling so poor, beside a link so narrow, that the layout is named even where the differing
/// link itself is what blocks the comparison.
static bool only_hardware_blocks(const Comparison& comparison) {
  bool any = false;
  for (const auto& field : comparison.fields) {
    if (field.speed != Impact::blocks || field.is_factor) continue;
    any = true;
    if (field.field != "gpu_link" && field.field != "gpu_power_limit") return false;
  }
  return any;
}

Holds not_comparable(const Situation& s) {
  const Comparison* comparison = s.comparison();
  if (comparison == nullptr) {
    Outcome out;
    out.reasons.push_back(
        {fmt::format("{} and {} were not compared.", s.baseline_name(), s.candidate_name()),
         both_sides(s, "run.json")});
    out.next_action =
        fmt::format("rigwise compare {} -- {}", s.baseline_name(), s.candidate_name());
    return out;
  }
  if (comparison->comparable != Comparable::no && comparison->verdict != Verdict::not_comparable) {
    return std::nullopt;
  }
  if (only_hardware_blocks(*comparison)) {
    if (auto layout = poor_layout(s)) return layout;
  }
  Outcome out;
  for (const auto& blocker : comparison->blockers) {
    out.reasons.push_back({fmt::format("Not comparable: {}.", blocker), both_sides(s, "run.json")});
  }
  if (out.reasons.empty()) {
    out.reasons.push_back({"The runs are not comparable.", both_sides(s, "run.json")});
  }
  if (comparison->effect && comparison->effect->percent < 0) {
    out.reasons.push_back(
        {"The option looks faster, but it did other work.", both_sides(s, "steps.csv")});
  }
  out.next_action = !comparison->smallest_change.empty()
                        ? comparison->smallest_change
                        : "remove the differences, then " + pair_again(s, 3);
  return out;
}

/// The part of the stop condition that is a threshold, where it has one: "stop if tokens_per_s <
/// 1.1x after two tries". It must speak of something bad.
static std::optional<Threshold> stop_threshold(const std::string& text) {
  const std::string small = lower(text);
  std::size_t at = std::string::npos;
  for (const auto metric : {Metric::wall_clock, Metric::tokens_per_s, Metric::samples_per_s,
                            Metric::steps_per_s, Metric::step_time, Metric::peak_memory,
                            Metric::checkpoint_time, Metric::evaluation_delay}) {
    at = std::min(at, small.find(to_string(metric)));
  }
  if (at == std::string::npos) return std::nullopt;
  std::string part = text.substr(at, 200);
  while (!part.empty()) {
    if (const auto threshold = parse_threshold(part); threshold.ok()) {
      const bool more = threshold->relation == Relation::greater ||
                        threshold->relation == Relation::greater_equal;
      const bool more_is_good = threshold->metric == Metric::tokens_per_s ||
                                threshold->metric == Metric::samples_per_s ||
                                threshold->metric == Metric::steps_per_s;
      if (more == more_is_good) return std::nullopt;
      return *threshold;
    }
    const auto cut = part.find_last_of(" ,;.");
    part = cut == std::string::npos ? "" : part.substr(0, cut);
  }
  return std::nullopt;
}

static bool is_speed(Metric metric) {
  return metric == Metric::wall_clock || metric == Metric::tokens_per_s ||
         metric == Metric::samples_per_s || metric == Metric::steps_per_s ||
         metric == Metric::step_time;
}

/// Speeds vary from run to run: a level holds where the spread was measured or is reckoned with.
static bool is_sure(const Situation& s, Metric metric, const Measurement& measured) {
  if (!is_speed(metric) || measured.level->repeated) return true;
  const Comparison& comparison = *s.comparison();
  return comparison.effect && comparison.effect->floor_percent.has_value();
}

/// Why the two sides say nothing about the option, whatever their figures; empty where they do.
static std::string option_not_seen(const Situation& s) {
  const Comparison& comparison = *s.comparison();
  if (comparison.factor_shown) return "";
  if (comparison.factor.empty()) {
    return fmt::format(
        "nothing that the records hold differs between {} and {}: they do not show "
        "that the option was used",
        s.baseline_name(), s.candidate_name());
  }
  return fmt::format("{}, which is under test, was not seen to differ between {} and {}",
                     comparison.factor, s.baseline_name(), s.candidate_name());
}

Holds stop_condition(const Situation& s) {
  const auto stop = stop_threshold(s.input.statement.stop);
  if (!stop) return std::nullopt;
  const Measurement measured = measure(*stop, s.input);
  if (measured.state != "met" || !measured.level) return std::nullopt;
  if (!is_sure(s, stop->metric, measured) || !option_not_seen(s).empty()) return std::nullopt;
  Outcome out;
  out.verdict = DecisionVerdict::stop;
  std::vector<Evidence> evidence = measured.evidence;
  evidence.push_back(lab("stop"));
  out.reasons.push_back({fmt::format("The stop condition holds: {}, shown {} ({}).", stop->text,
                                     level_text(*stop, *measured.level), measured.why),
                         std::move(evidence)});
  out.next_action = "leave this option; state another one with rigwise init";
  return out;
}

Holds loss_differs(const Situation& s) {
  const auto& loss = s.comparison()->loss;
  if (!loss || (loss->verdict != "different" && loss->verdict != "diverged")) return std::nullopt;
  Outcome out;
  out.reasons.push_back(
      {loss->verdict == "diverged"
           ? std::string("A run diverged: its speed says nothing.")
           : std::string("The losses differ at equal samples: a faster run that learns otherwise "
                         "is another training."),
       both_sides(s, "steps.csv")});
  out.next_action =
      "find out why (learning rate against global batch, data order, precision), then " +
      pair_again(s, 3);
  return out;
}

static std::string same_batch_again(const Situation& s) {
  return "use the same global batch on both sides (per-device batch times accumulation times "
         "ranks), and " +
         pair_again(s, 3);
}

/// Why a met threshold is not enough for "keep"; empty where it is.
static std::string short_of_keep(const Situation& s) {
  const Comparison& comparison = *s.comparison();
  if (comparison.comparable == Comparable::per_sample) {
    return "the global batches differ, so the two did not do the same training";
  }
  if (!s.seal.broken.empty()) return s.seal.broken;
  if (auto unseen = option_not_seen(s); !unseen.empty()) return unseen;
  const bool speed = is_speed(s.threshold->metric);
  if (speed && comparison.verdict != Verdict::faster) {
    return "the difference between the two is not shown: " + comparison.verdict_why;
  }
  // An interval without measured spread already holds the floor; "met" then means above it.
  if (!is_sure(s, s.threshold->metric, s.measured)) {
    return "it was not repeated: three runs a side show the spread";
  }
  return "";
}

Holds keep(const Situation& s) {
  if (!s.met() || !short_of_keep(s).empty()) return std::nullopt;
  Outcome out;
  out.verdict = DecisionVerdict::keep;
  out.reasons.push_back({fmt::format("{} meets {}: {} ({}).", s.candidate_name(), threshold_text(s),
                                     level_text(*s.threshold, *s.measured.level), s.measured.why),
                         s.measured.evidence});
  const Comparison& comparison = *s.comparison();
  if (comparison.comparable == Comparable::caveats) {
    out.reasons.push_back({fmt::format("The comparison has caveats{}.",
                                       comparison.likely ? ": likely, not certain" : ""),
                           both_sides(s, "run.json")});
  }
  if (const auto level = baseline_level(s); level && state_of(*s.threshold, *level) == "met") {
    out.reasons.push_back({fmt::format("{} meets it too: the option is not needed for this "
                                       "threshold.",
                                       s.baseline_name()),
                           run_evidence(s.a.runs, "steps.csv")});
  }
  if (comparison.verdict == Verdict::slower) {
    out.reasons.push_back(
        {"It is slower than the baseline: that is the price.", both_sides(s, "steps.csv")});
  }
  out.next_action = fmt::format(
      "go on with {}; record the long run with rigwise run and watch its "
      "side effects",
      s.candidate_name());
  return out;
}

Holds met_but(const Situation& s) {
  if (!s.met()) return std::nullopt;
  const std::string why = short_of_keep(s);
  Outcome out;
  std::vector<Evidence> evidence = s.measured.evidence;
  if (why == s.seal.broken) evidence.insert(evidence.begin(), s.seal.broken_evidence);
  out.reasons.push_back(
      {fmt::format("{} looks as if it met {}, {}, but {}.", s.candidate_name(), threshold_text(s),
                   level_text(*s.threshold, *s.measured.level), why),
       std::move(evidence)});
  const Comparison& comparison = *s.comparison();
  if (why == s.seal.broken) {
    out.next_action = "leave the statement as it is now and " + pair_again(s, 3);
  } else if (why == option_not_seen(s)) {
    out.next_action = fmt::format("look at how {} was started (rigwise runs show {}), then {}",
                                  s.candidate_name(), s.candidate_name(), pair_again(s, 3));
  } else if (comparison.comparable == Comparable::per_sample) {
    out.next_action = same_batch_again(s);
  } else {
    out.next_action = pair_again(s, std::max(3, comparison.runs_needed.value_or(3)));
  }
  return out;
}

struct Cause {
  std::string fix = {};
  Sentence sentence = {};
  std::string next = {};
};

/// What the layout itself limits, strongest evidence first.
static std::vector<Cause> layout_causes(const Situation& s) {
  std::vector<Cause> causes;
  if (auto link = narrow_link(s.b)) {
    causes.push_back({"link",
                      {link->text, link->evidence},
                      "put the card into a slot with more lanes (or accumulate gradients so that "
                      "the link is used less often)"});
  }
  const Heat heat = heat_of(s.b);
  const bool near_slowdown =
      heat.peak_c && heat.slowdown_c && *heat.peak_c >= *heat.slowdown_c - kNearSlowdown_c;
  if (!heat.evidence.empty() &&
      (near_slowdown || (heat.steps_s > 0 && heat.thermal_held_s >= kHeldShare * heat.steps_s))) {
    causes.push_back(
        {"heat",
         {fmt::format("GPU {} reached {:.0f} °C{}", heat.gpu, heat.peak_c.value_or(0),
                      heat.thermal_held_s > 0
                          ? ", its clocks were held down " + format_duration(heat.thermal_held_s)
                          : std::string(", next to its slowdown temperature")),
          heat.evidence},
         "move the cards apart or cool them, then run ten minutes and look at the temperatures"});
  }
  if (const auto named = named_bottleneck(s.b)) {
    causes.push_back(
        {std::string(to_string(named->cls)), {named->why, named->evidence}, named->next_step});
  }
  const Heat before = heat_of(s.a);
  if (!heat.evidence.empty() && heat.steps_s > 0 &&
      heat.power_held_s >= kHeldShare * heat.steps_s &&
      heat.power_held_s / heat.steps_s >=
          2 * before.power_held_s / std::max(1e-9, before.steps_s)) {
    causes.push_back({"power",
                      {fmt::format("clocks were held down {} by the power limit",
                                   format_duration(heat.power_held_s)),
                       heat.evidence},
                      "look at power limits and the supply, then repeat"});
  }
  return causes;
}

/// Side signs of a layout at its limit.
static void add_signs(const Situation& s, std::vector<Sentence>& reasons) {
  const Heat before = heat_of(s.a), after = heat_of(s.b);
  if (before.peak_c && after.peak_c && *after.peak_c >= *before.peak_c + 5) {
    std::vector<Evidence> evidence = before.evidence;
    evidence.insert(evidence.end(), after.evidence.begin(), after.evidence.end());
    reasons.push_back({fmt::format("The hottest GPU went from {:.0f} to {:.0f} °C.", *before.peak_c,
                                   *after.peak_c),
                       std::move(evidence)});
  }
  const auto saves_a = checkpoint_time_s(s.a), saves_b = checkpoint_time_s(s.b);
  if (saves_a && saves_b && *saves_b >= kSlowerSaves * *saves_a) {
    reasons.push_back({fmt::format("Checkpoints took {} instead of {}.", format_duration(*saves_b),
                                   format_duration(*saves_a)),
                       both_sides(s, "events.csv")});
  }
}

Holds poor_layout(const Situation& s) {
  if (s.met()) return std::nullopt;
  const auto scaling = scaling_of(s.input, s.a, s.b);
  if (!scaling || scaling->ranks_b <= scaling->ranks_a || scaling->efficiency >= kGoodScaling) {
    return std::nullopt;
  }
  const auto causes = layout_causes(s);
  if (causes.empty()) return std::nullopt;
  Outcome out;
  out.verdict = DecisionVerdict::fix_first;
  out.fix = causes.front().fix;
  const double times = static_cast<double>(scaling->ranks_b) / std::max(1, scaling->ranks_a);
  std::vector<Evidence> evidence = causes.front().sentence.evidence;
  const auto steps = both_sides(s, "steps.csv");
  evidence.insert(evidence.end(), steps.begin(), steps.end());
  out.reasons.push_back(
      {fmt::format("{} ranks reach {:.2f} of {:.0f} ({}), and {}: this layout is the limit, not "
                   "the number of GPUs.",
                   scaling->ranks_b, scaling->speedup, times, format_share(scaling->efficiency),
                   causes.front().sentence.text),
       std::move(evidence)});
  for (std::size_t i = 1; i < causes.size(); ++i) {
    out.reasons.push_back(
        {upper_first(causes[i].sentence.text) + ".", causes[i].sentence.evidence});
  }
  add_signs(s, out.reasons);
  out.next_action = causes.front().next + "; then " + pair_again(s, 3);
  return out;
}

static Sentence missed_sentence(const Situation& s) {
  return {fmt::format("{} misses {}: {} ({}).", s.candidate_name(), threshold_text(s),
                      level_text(*s.threshold, *s.measured.level), s.measured.why),
          s.measured.evidence};
}

Holds other_bottleneck(const Situation& s) {
  if (!s.missed()) return std::nullopt;
  auto named = named_bottleneck(s.b);
  const bool of_b = named.has_value();
  if (!named) named = named_bottleneck(s.a);
  if (!named) return std::nullopt;
  Outcome out = fix_named(*named, "In " + (of_b ? s.candidate_name() : s.baseline_name()));
  out.reasons.push_back(missed_sentence(s));
  return out;
}

Holds missed_for_unknown_reason(const Situation& s) {
  if (!s.missed()) return std::nullopt;
  const auto scaling = scaling_of(s.input, s.a, s.b);
  if (!scaling || scaling->ranks_b <= scaling->ranks_a || scaling->efficiency >= kGoodScaling) {
    return std::nullopt;
  }
  Outcome out;
  out.reasons.push_back(missed_sentence(s));
  const double times = static_cast<double>(scaling->ranks_b) / std::max(1, scaling->ranks_a);
  out.reasons.push_back(
      {fmt::format("{} ranks reach {:.2f} of {:.0f} ({}), and nothing that was measured says why: "
                   "that is no verdict on more GPUs.",
                   scaling->ranks_b, scaling->speedup, times, format_share(scaling->efficiency)),
       both_sides(s, "steps.csv")});
  out.next_action = fmt::format(
      "measure what the ranks wait for: rigwise ledger {} names the rows that are not split yet, "
      "and how",
      s.candidate_name());
  return out;
}

Holds measured_short(const Situation& s) {
  if (!s.missed()) return std::nullopt;
  if (!is_sure(s, s.threshold->metric, s.measured) || !option_not_seen(s).empty()) {
    return std::nullopt;
  }
  Outcome out;
  out.verdict = DecisionVerdict::stop;
  out.reasons.push_back(missed_sentence(s));
  if (const auto scaling = scaling_of(s.input, s.a, s.b)) {
    out.reasons.push_back({fmt::format("The ranks do their part ({:.2f} of {}): this option has no "
                                       "more to give.",
                                       scaling->speedup, scaling->ranks_b / scaling->ranks_a),
                           both_sides(s, "steps.csv")});
  }
  out.next_action =
      "do not buy for this threshold; rent a faster GPU for the long run, or shorten the work";
  return out;
}

Holds not_shown(const Situation& s) {
  Outcome out;
  std::vector<Evidence> evidence = s.measured.evidence;
  if (evidence.empty()) evidence = both_sides(s, "steps.csv");
  if (s.measured.level) {
    out.reasons.push_back({fmt::format("{} is not decided: {} ({}).", threshold_text(s),
                                       level_text(*s.threshold, *s.measured.level), s.measured.why),
                           std::move(evidence)});
    const std::string unseen = option_not_seen(s);
    if (!unseen.empty()) {
      out.reasons.push_back({upper_first(unseen) + ".", both_sides(s, "run.json")});
    }
    const int runs = std::max(3, s.comparison()->runs_needed.value_or(3));
    out.next_action = unseen.empty() ? pair_again(s, runs)
                                     : fmt::format("look at how {} was started, then {}",
                                                   s.candidate_name(), pair_again(s, runs));
  } else {
    out.reasons.push_back({fmt::format("{} cannot be measured from these runs: {}.",
                                       threshold_text(s), s.measured.why),
                           std::move(evidence)});
    out.next_action = s.comparison()->comparable == Comparable::per_sample
                          ? same_batch_again(s)
                          : "make the runs show it, then " + pair_again(s, 3);
  }
  return out;
}

}  // namespace rigwise::rungs
