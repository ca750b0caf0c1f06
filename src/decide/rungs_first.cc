// Rungs that need no run of the option.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "decide/rungs.h"
#include "rigwise/units.h"

namespace rigwise::rungs {

namespace {

constexpr double kBusy = 0.50;           // GPU utilisation below it is low (kineto tb_plugin)
constexpr std::size_t kAgendaStops = 3;  // of users, backups, failures, heat
constexpr std::int64_t kLeastSteps = 20;
constexpr double kStableHalfWidth = 0.10;  // of the step time

constexpr int kRunsASide = 3, kMostRuns = 10;

}  // namespace

Evidence lab(std::string what) {
  return Evidence{"", "lab.toml", std::nullopt, std::nullopt, std::move(what)};
}
std::vector<Evidence> run_evidence(const std::vector<const Run*>& runs, const std::string& file) {
  std::vector<Evidence> evidence;
  for (const auto* run : runs) evidence.push_back(evidence_of(*run, file));
  return evidence;
}
std::vector<Evidence> both_sides(const Situation& s, const std::string& file) {
  auto evidence = run_evidence(s.a.runs, file);
  const auto more = run_evidence(s.b.runs, file);
  evidence.insert(evidence.end(), more.begin(), more.end());
  if (evidence.empty()) evidence.push_back(lab("baseline, candidate"));
  return evidence;
}

/// "a", "a and b", "a, b and c".
std::string listed(const std::vector<std::string>& names) {
  if (names.size() < 2) return join(names, "");
  const std::vector<std::string> head(names.begin(), names.end() - 1);
  return join(head, ", ") + " and " + names.back();
}

std::string upper_first(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 32);
  return text;
}

std::string pair_again(const Situation& s, int runs) {
  // More runs than anybody records mean that something disturbs them: that comes first.
  std::string first;
  for (const auto* side : {&s.a, &s.b}) {
    for (const auto* ledger : side->ledgers) {
      for (const auto& finding : ledger->findings) {
        if (finding.id == "other-programs-took-cpu") first = "close the other programs, then ";
      }
    }
  }
  if (runs > kMostRuns) {
    if (first.empty()) {
      first = fmt::format(
          "find out why runs of the same command differ so much (about {} a side "
          "would be needed now), then ",
          runs);
    }
    runs = kRunsASide;
  }
  return fmt::format("{}record {} runs of {} and of {} in turn, then rigwise decide", first, runs,
                     s.baseline_name(), s.candidate_name());
}

std::string threshold_text(const Situation& s) {
  return s.threshold ? s.threshold->text : std::string("the threshold");
}

Holds statement(const Situation& s) {
  const auto gaps = statement_gaps(s.input.statement);
  if (gaps.empty()) return std::nullopt;
  Outcome out;
  for (const auto& gap : gaps) {
    out.reasons.push_back({"The claim cannot be tested yet. " + upper_first(gap), {lab("")}});
  }
  out.next_action = "rigwise init: state what is missing, then record the runs";
  return out;
}

Holds agenda(const Situation& s) {
  if (s.context.agenda.size() < kAgendaStops) return std::nullopt;
  std::vector<std::string> names;
  for (const auto& topic : s.context.agenda) {
    names.push_back(topic == "users"      ? "many users"
                    : topic == "failures" ? "costly failures"
                                          : topic);
  }
  Outcome out;
  out.verdict = DecisionVerdict::stop;
  out.reasons.push_back({upper_first(listed(names)) +
                             " are on the agenda: that is a service, not an experiment, "
                             "and more GPUs at home make each of them harder.",
                         {lab("[context] agenda, bottleneck, reason")}});
  out.next_action =
      "price the same runs on rented GPUs (rigwise ledger gives the hours), and keep this rig for "
      "small ones";
  return out;
}

static std::string to_try(const std::string& what) {
  if (what == "quantisation") return "load the base model in 4 bit";
  if (what == "lora") return "train LoRA adapters of a small rank";
  if (what == "sequence") return "shorten or pack the sequences";
  return "switch gradient checkpointing on";
}

Holds memory_fit(const Situation& s) {
  const bool stated = s.context.fits_known == false;
  const bool denied = s.context.fits_known == true;
  const auto shown = out_of_memory(s.input.baseline);
  if (!stated && (denied || s.a.any() || !shown)) return std::nullopt;
  std::vector<std::string> tried = s.context.tried;
  for (const auto& name : tried_by_runs(s.input.baseline)) tried.push_back(name);
  std::vector<std::string> untried, words;
  for (const auto* name : {"quantisation", "lora", "sequence", "checkpointing"}) {
    if (std::find(tried.begin(), tried.end(), name) != tried.end()) continue;
    untried.emplace_back(name);
    words.emplace_back(std::string(name) == "lora"            ? "LoRA choices"
                       : std::string(name) == "sequence"      ? "sequence policy"
                       : std::string(name) == "checkpointing" ? "gradient checkpointing"
                                                              : "quantisation");
  }
  if (untried.empty()) return std::nullopt;
  Outcome out;
  out.verdict = DecisionVerdict::fix_first;
  out.fix = "memory_fit";
  out.reasons.push_back({fmt::format("The training does not fit on one GPU, and {} {} not tried.",
                                     listed(words), words.size() == 1 ? "was" : "were"),
                         {shown ? *shown : lab("[context] fits_on_one, bottleneck")}});
  std::vector<std::string> steps;
  for (const auto& name : untried) steps.push_back(to_try(name));
  out.next_action =
      fmt::format("{}; then rigwise run --name {} -- … again", listed(steps), s.baseline_name());
  return out;
}

Holds environment(const Situation& s) {
  const auto split = environment_split(s.input);
  if (!split || split->proven) return std::nullopt;
  Outcome out;
  out.verdict = DecisionVerdict::fix_first;
  out.fix = "environment";
  out.reasons.push_back(
      {fmt::format("The hosts run different builds ({}), and no earlier run shows that each of "
                   "them works.",
                   split->text),
       split->evidence});
  out.next_action =
      "install the same torch and CUDA build on every host, record a short run on each as a "
      "snapshot, then repeat the run over both";
  return out;
}

static Outcome single_first(std::string reason, std::vector<Evidence> evidence, std::string next) {
  Outcome out;
  out.verdict = DecisionVerdict::fix_first;
  out.fix = "single_run";
  out.reasons.push_back({std::move(reason), std::move(evidence)});
  out.next_action = std::move(next);
  return out;
}

Holds single_run(const Situation& s) {
  const std::string name = s.baseline_name();
  const std::string record =
      fmt::format("rigwise run --name {} -- … until it ends with exit 0 and steady steps", name);
  if (s.input.baseline.empty()) {
    return single_first("No single run has been recorded yet.", {lab("baseline")}, record);
  }
  if (!s.a.any()) {
    const Run& last = *s.a.failed_run;
    return single_first(fmt::format("No single run has ended well: {} {}.", name, s.a.failure),
                        {evidence_of(last, "run.json", "ending")},
                        "find out why (the end of log/err.log), then " + record);
  }
  if (static_cast<std::size_t>(s.a.failed) > s.a.runs.size()) {
    return single_first(fmt::format("{} of {} single runs did not end well; the last one {}.",
                                    s.a.failed, s.input.baseline.size(), s.a.failure),
                        {evidence_of(*s.a.failed_run, "run.json", "ending")}, record);
  }
  std::int64_t steps = 0;
  bool stable = false;
  for (const auto* ledger : s.a.ledgers) {
    steps = std::max(steps, ledger->steps.value_or(0));
    const auto& half_s = ledger->step_time_half_width_s;  // absent: too few steps to tell
    stable = stable ||
             (ledger->step_time_s && half_s && *half_s <= kStableHalfWidth * *ledger->step_time_s);
  }
  if (steps < kLeastSteps) {
    return single_first(
        fmt::format("The single run shows {} steps; {} are the least to speak of a pace.", steps,
                    kLeastSteps),
        run_evidence(s.a.runs, "steps.csv"), "record a longer single run: " + record);
  }
  const Comparison* comparison = s.comparison();
  const bool never_steady =
      comparison != nullptr && !comparison->series_a.empty() &&
      std::all_of(comparison->series_a.begin(), comparison->series_a.end(),
                  [](const SeriesSummary& series) {
                    return series.trouble.find("never steady") != std::string::npos ||
                           series.trouble.find("never settled") != std::string::npos;
                  });
  if (stable && !never_steady) return std::nullopt;
  return single_first("The single run never reaches a steady step time.",
                      run_evidence(s.a.runs, "steps.csv"),
                      "look for what disturbs it (rigwise ledger " + name + "), then " + record);
}

Holds waits(const Situation& s) {
  if (s.context.waits_for_training.empty()) return std::nullopt;
  Outcome out;
  out.verdict = DecisionVerdict::simplify;
  const std::string who = listed(s.context.waits_for_training);
  out.reasons.push_back({fmt::format("The training fits on one GPU, and {} {} for it: work of its "
                                     "own kind needs a device of its own, not a faster training.",
                                     who,
                                     s.context.waits_for_training.size() > 1 ||
                                             s.context.waits_for_training[0] == "demos"
                                         ? "wait"
                                         : "waits"),
                         {lab("[context] waits_for_training, bottleneck, reason")}});
  for (std::size_t i = 0; i < s.a.ledgers.size(); ++i) {
    const LedgerRow* row = row_of(s.a.ledgers[i]->rows, LedgerClass::evaluation);
    if (row == nullptr || row->seconds.value_or(0) <= 0) continue;
    std::vector<Evidence> evidence;
    for (const auto& found : row->evidence) evidence.push_back(evidence_of(*s.a.runs[i], found));
    if (evidence.empty()) evidence.push_back(evidence_of(*s.a.runs[i], "events.csv"));
    out.reasons.push_back({fmt::format("In {} training itself stood still {} for evaluations ({}).",
                                       s.a.runs[i]->info.name, format_duration(*row->seconds),
                                       format_share(*row->seconds / s.a.ledgers[i]->wall_s)),
                           std::move(evidence)});
    break;
  }
  out.next_action = fmt::format(
      "train on one device; give {} the other one, reading the newest complete checkpoint", who);
  return out;
}

// ---- rungs without a run of the option --------------------------------------------------------

Outcome fix_named(const NamedBottleneck& named, const std::string& whose) {
  Outcome out;
  const bool evaluation = named.cls == LedgerClass::evaluation;
  out.verdict = evaluation ? DecisionVerdict::simplify : DecisionVerdict::fix_first;
  if (!evaluation) out.fix = std::string(to_string(named.cls));
  out.reasons.push_back({fmt::format("{}: {}.", whose, named.why), named.evidence});
  out.next_action = named.next_step + "; repeat the runs, then rigwise decide";
  return out;
}

Holds baseline_bottleneck(const Situation& s) {
  if (s.b.any()) return std::nullopt;
  const auto named = named_bottleneck(s.a);
  if (!named) return std::nullopt;
  return fix_named(*named, "In " + s.baseline_name());
}

std::optional<Level> baseline_level(const Situation& s) {
  if (!s.threshold || s.threshold->relative || !s.a.any()) return std::nullopt;
  const Figures figures = figures_of(*s.threshold, s.a);
  if (figures.values.empty()) return std::nullopt;
  return level_of(figures.values);
}

Holds already_met(const Situation& s) {
  const auto level = baseline_level(s);
  if (!level || state_of(*s.threshold, *level) != "met") return std::nullopt;
  const Comparison* comparison = s.comparison();
  const bool faster = comparison != nullptr && comparison->verdict == Verdict::faster;
  if (s.b.any() && (faster || !s.met())) return std::nullopt;
  Outcome out;
  out.verdict = DecisionVerdict::stop;
  out.reasons.push_back({fmt::format("{} already meets {}: {}.", s.baseline_name(),
                                     threshold_text(s), level_text(*s.threshold, *level)),
                         run_evidence(s.a.runs, "steps.csv")});
  out.next_action = "nothing to buy for this threshold; state a harder one if it is not enough";
  return out;
}

Holds idle_device(const Situation& s) {
  if (s.b.any()) return std::nullopt;
  const auto busy = utilisation_of(s.a);
  if (!busy || busy->mean_frac >= kBusy) return std::nullopt;
  Outcome out;
  out.reasons.push_back({fmt::format("The GPU of {} is busy {} of the steps' time: a second one "
                                     "would wait as well.",
                                     s.baseline_name(), format_share(busy->mean_frac)),
                         {busy->evidence}});
  out.next_action =
      "find out what the GPU waits for (data, CPU, small batches): more loader workers or a bigger "
      "batch first, then measure again";
  return out;
}

Holds test_option(const Situation& s) {
  if (s.b.any()) return std::nullopt;
  Outcome out;
  const Ledger& ledger = *s.a.ledgers.back();
  const Run& run = *s.a.runs.back();
  std::string text = fmt::format(
      "{} fits and its steps are {} of the wall time", s.baseline_name(),
      format_share(row_of(ledger.rows, LedgerClass::compute) != nullptr
                       ? row_of(ledger.rows, LedgerClass::compute)->seconds.value_or(0) /
                             ledger.wall_s
                       : 0));
  std::vector<Evidence> evidence = {evidence_of(run, "steps.csv")};
  if (const auto busy = utilisation_of(s.a)) {
    text += fmt::format(", its GPUs are {} busy", format_share(busy->mean_frac));
    evidence.push_back(busy->evidence);
  }
  const LedgerRow* saves = row_of(ledger.rows, LedgerClass::checkpoint);
  if (saves != nullptr && saves->seconds) {
    text += fmt::format(", checkpoints take {}", format_share(*saves->seconds / ledger.wall_s));
    evidence.push_back(evidence_of(run, "events.csv"));
  }
  if (s.input.candidate.empty()) {
    out.reasons.push_back({text + ": data parallelism is the option to test.", evidence});
  } else {
    out.reasons.push_back(
        {fmt::format("No run of {} has ended well: it {}.", s.candidate_name(), s.b.failure),
         {evidence_of(*s.b.failed_run, "run.json", "ending")}});
  }
  if (const auto level = baseline_level(s)) {
    out.reasons.push_back({fmt::format("{} shows {} against {}.", s.baseline_name(),
                                       level_text(*s.threshold, *level), threshold_text(s)),
                           run_evidence(s.a.runs, "steps.csv")});
  }
  out.reasons.push_back({"Only a comparable run with two ranks can show whether it pays.",
                         {lab("option, threshold")}});
  out.next_action = fmt::format(
      "rigwise run --name {} -- torchrun --nproc_per_node 2 … with the same data and the same "
      "global batch, 3 runs a side in turn, then rigwise decide",
      s.candidate_name());
  return out;
}

}  // namespace rigwise::rungs
