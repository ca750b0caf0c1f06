// Options: what each thing that one could do or buy would make of a measured run.
//
// An option transforms the run's ledger row by row: what it divides, what it adds, what it leaves.
// Pure. Seconds; intervals are meant to hold the truth 8 times in 10.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/catalogue.h"
#include "rigwise/plan.h"
#include "rigwise/plan_strategies.h"
#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

/// One row of the measured ledger, for the whole run.
struct MeasuredRow {
  std::string cls = {};  // a ledger class by name: "compute", "input", …
  Interval seconds = {};
};

/// A run as a plan sees it.
struct MeasuredRun {
  std::string name = {};
  double wall_s = 0;
  std::vector<MeasuredRow> rows = {};        // known ones; they sum to wall_s or less
  std::vector<std::string> unmeasured = {};  // classes that no evidence tells apart
  std::optional<std::int64_t> steps = {};
  std::int64_t gpus = 1;
  Workload workload = {};                 // as far as its settings are known
  std::optional<MeasuredStep> step = {};  // of one GPU, where its log states phases
  std::optional<double> settled_c = {}, slowdown_c = {};
  std::vector<double> heat_c = {};  // readings of the hottest GPU since the load began
  double heat_interval_s = 0;       // between them
  std::optional<double> gpu_mean_w = {}, gpu_limit_w = {};
  std::optional<double> checkpoint_bytes = {};  // all that was saved
};

/// What a plan needs of a run beside its ledger's rows: settings, heat, power, saved bytes. A model
/// folder that is still there is read for its dimensions.
MeasuredRun measured_run(const Run& run, std::vector<MeasuredRow> rows,
                         std::optional<std::int64_t> steps);

struct Addition {
  std::string text = {};  // "rtx3090 @ x4-chipset"
  GpuSpec gpu = {};
  std::optional<LinkKnown> link = {};
};
/// "GPU @ LINK" or "GPU". Errors: usage, with the nearest name.
Result<Addition> parse_addition(std::string_view text, const std::optional<LinkKnown>& measured);

/// Prices and limits that only the user knows. Currency is theirs.
struct OptionContext {
  std::optional<double> work_steps = {};  // of the threshold; else the run's own
  std::optional<double> limit_s = {};     // wall clock
  std::optional<double> kwh_price = {}, gpu_price = {};
  std::optional<double> rent_per_h = {}, rent_speedup = {};
  std::optional<double> psu_w = {}, rest_w = {};  // rest: host without GPUs, measured or assumed
  std::optional<Circuit> circuit = {};
  double circuit_other_w = 0;
  std::optional<double> evaluation_wait_s = {};  // between a run's end and its evaluation, by hand
  std::string currency = "€";
};

struct OptionRow {
  std::string id = {}, name = {};
  std::optional<Interval> wall_s = {};     // for work_steps; empty: refused
  std::optional<double> chance_frac = {};  // of meeting limit_s
  std::string refused = {};                // why, where there is no prediction
  bool assumed = false;                    // rests on a figure that nobody measured
  std::string risk = {}, evidence_needed = {}, notes = {};
  std::optional<ThrottleForecast> throttle =
      {};  // of the GPU that was measured, beside the new one
  std::optional<double> buy_price = {}, run_kwh = {}, run_price = {};
  std::optional<double> payback_runs = {};  // purchase against renting
  std::vector<MeasuredRow> rows = {};       // the predicted ledger
};

struct PowerWindow {
  double window_s = 0;             // 0: continuous
  double draw_w = 0, worst_w = 0;  // one card's spike; all cards' at once
  double limit_w = 0;
  bool holds = false, holds_worst = false;
};
/// The supply's verdict for a number of GPUs of one kind.
struct PowerPlan {
  std::int64_t gpus = 0;
  double continuous_w = 0, wall_w = 0;
  std::vector<PowerWindow> windows = {};
  std::optional<double> circuit_limit_w = {};
  std::optional<bool> circuit_holds = {};
  std::string verdict = {};  // one sentence
  std::vector<std::string> assumed = {};
};
PowerPlan plan_power(std::int64_t gpus, double gpu_limit_w, const OptionContext& context);

struct OptionPlan {
  std::string run = {};
  double work_steps = 0;
  std::optional<double> limit_s = {};
  double as_measured_s = 0;             // for that work
  std::vector<OptionRow> options = {};  // ranked: chance, then time, then money; refused last
  std::optional<PowerPlan> power = {};
  std::vector<StrategyStep> strategies = {};  // over the first addition's link, fastest first
  std::string answer = {};                    // one sentence
};

/// Errors: unavailable (no steps, no compute row: what would measure them).
Result<OptionPlan> plan_options(const MeasuredRun& run, const std::vector<Addition>& additions,
                                const OptionContext& context);

}  // namespace rigwise
