// Rungs: the steps of the decision ladder, and what they all look at.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "decide/measure.h"
#include "decide/seal.h"
#include "decide/signals.h"
#include "rigwise/decide.h"

namespace rigwise::rungs {

/// Everything the rungs look at.
struct Situation {
  const DecideInput& input;
  LabContext context = {};
  SideView a = {}, b = {};  // baseline, candidate: runs that ended well
  std::optional<Threshold> threshold = {};
  Measurement measured = {};
  SealState seal = {};

  [[nodiscard]] const Comparison* comparison() const {
    return input.comparison ? &*input.comparison : nullptr;
  }
  [[nodiscard]] bool met() const { return measured.state == "met"; }
  [[nodiscard]] bool missed() const { return measured.state == "missed"; }
  [[nodiscard]] std::string candidate_name() const {
    return b.name.empty() ? std::string("two-gpu") : b.name;
  }
  [[nodiscard]] std::string baseline_name() const {
    return a.name.empty() ? std::string("single") : a.name;
  }
};

struct Outcome {
  DecisionVerdict verdict = DecisionVerdict::not_shown;
  std::optional<std::string> fix = {};
  std::vector<Sentence> reasons = {};
  std::string next_action = {};
};
using Holds = std::optional<Outcome>;

// Shared by the rungs' texts.
Evidence lab(std::string what);
std::vector<Evidence> run_evidence(const std::vector<const Run*>& runs, const std::string& file);
std::vector<Evidence> both_sides(const Situation& s, const std::string& file);
std::string listed(const std::vector<std::string>& names);  // "a, b and c"
std::string upper_first(std::string text);
/// What disturbs the runs first, if anything; then "record 3 runs of single and of two-gpu in turn,
/// then rigwise decide".
std::string pair_again(const Situation& s, int runs);
std::string threshold_text(const Situation& s);
/// The baseline against an absolute threshold; empty where it is relative or nothing was measured.
std::optional<Level> baseline_level(const Situation& s);
/// "In single: checkpoint is 14 % …": fix first, or simplify where it is evaluation.
Outcome fix_named(const NamedBottleneck& named, const std::string& whose);

// Rungs that need no run of the option (rungs_first.cc).
Holds statement(const Situation& s);
Holds agenda(const Situation& s);
Holds memory_fit(const Situation& s);
Holds environment(const Situation& s);
Holds single_run(const Situation& s);
Holds waits(const Situation& s);
Holds baseline_bottleneck(const Situation& s);
Holds already_met(const Situation& s);
Holds idle_device(const Situation& s);
Holds test_option(const Situation& s);

// Rungs with runs on both sides (rungs_pair.cc).
Holds not_comparable(const Situation& s);
Holds loss_differs(const Situation& s);
Holds stop_condition(const Situation& s);
Holds keep(const Situation& s);
Holds met_but(const Situation& s);
Holds poor_layout(const Situation& s);
Holds other_bottleneck(const Situation& s);
Holds missed_for_unknown_reason(const Situation& s);
Holds measured_short(const Situation& s);
Holds not_shown(const Situation& s);

}  // namespace rigwise::rungs
