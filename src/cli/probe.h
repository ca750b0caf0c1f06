// Probe: the parts of `rigwise probe` that are pure: which strategies to try, whether two runs did
// the same work, what may be said of them all. Nothing here starts, reads or prints anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/compare.h"
#include "rigwise/plan_strategies.h"
#include "rigwise/report.h"
#include "rigwise/result.h"

namespace rigwise::cli {

struct ProbeStrategy {
  std::string name = {};  // as rigwise-engine takes it: "ddp", "ddp:2,tp:2"
  int ranks = 1;
};

/// What --strategies says, or, where it says nothing, all that `devices` devices can be tried with.
/// Smallest number of ranks first, single always among them. A name without sizes takes all
/// devices; "split" is one process. Errors: usage (unknown name, twice the same, no name).
Result<std::vector<ProbeStrategy>> probe_strategies(const std::vector<std::string>& asked,
                                                    int devices);

/// The part of a run's name that stands for a strategy: "ddp2-tp2".
std::string probe_member(std::string_view strategy);

/// A B C, C B A, A B C …: positions into a list of `count`, so that drift does not look like an
/// effect.
std::vector<std::size_t> probe_order(std::size_t count, int repeats);

/// One step of the engine's log.jsonl.
struct EngineStep {
  std::int64_t step = 0;
  double loss = 0;
  std::int64_t tokens = 0, predicted_tokens = 0;
  double step_time_s = 0, sync_s = 0;
  double forward_s = 0, backward_s = 0, optimizer_s = 0;
  std::int64_t peak_memory_bytes = 0;
  std::string token_hash = {};
};
struct EngineLog {
  std::vector<EngineStep> steps = {};
  std::vector<std::int64_t> checkpoints = {};  // steps at which one was saved
};

/// Reads log.jsonl; `file` is what an error names. Lines of unknown kinds are passed over. Errors:
/// malformed (file:line and the text; also a log without any step, and one cut off in a line).
Result<EngineLog> read_engine_log(std::string_view text, std::string_view file);

/// Did `other` do what `base` did? Steps, tokens, predicted tokens (the loss's denominator), which
/// tokens in which step, and which checkpoints; then the losses within `loss_tolerance`.
struct SameWork {
  bool same = false;
  std::string why = {};             // the first difference in words; empty where same
  double loss_difference_frac = 0;  // largest |other - base| / |base| over all steps
};
SameWork same_work(const EngineLog& base, const EngineLog& other, double loss_tolerance);

/// Steps at the start that no figure is taken from: three, or a tenth where that is more.
std::size_t probe_warm_up(std::size_t steps);

/// What one run shows behind its warm-up.
struct RunFigures {
  double tokens_per_s = 0;  // median over the steps
  double sync_frac = 0;     // of the steps' time
  std::int64_t peak_memory_bytes = 0;
};
std::optional<RunFigures> figures_of(const EngineLog& log);

struct Interval {
  double value = 0;
  std::optional<double> low = {}, high = {};  // 95 %; none from a single run
};
/// Mean of logarithms with Student's t over the runs.
std::optional<Interval> rate_of_runs(const std::vector<RunFigures>& runs);

enum class ProbeState {
  measured,
  does_not_fit,  // the trial failed
  refused,       // it ran, but not the same work
  failed,        // a measured run ended badly
};

struct ProbeRow {
  ProbeStrategy strategy = {};
  ProbeState state = ProbeState::measured;
  std::string why = {};                // where not measured; of a measured one compare's words
  std::string name = {};               // of its runs
  std::vector<std::string> runs = {};  // ids
  std::optional<Interval> tokens_per_s = {}, factor = {};
  std::optional<double> sync_frac = {}, loss_difference_frac = {};
  std::optional<std::int64_t> peak_memory_bytes = {};  // of the rank that needs most
  std::optional<Verdict> verdict = {};                 // against single; none for single itself
  bool likely = false;                                 // a caveat caps the verdict
  std::optional<int> runs_needed = {};
  std::optional<Interval> predicted_factor = {};  // of single's rate, by plan, before it ran
};

/// Best first: measured ones by tokens/s, then those refused, failed and not fitting.
void rank_rows(std::vector<ProbeRow>& rows);

enum class ProbeChoice { use, keep_single, not_shown };
struct ProbeVerdict {
  ProbeChoice choice = ProbeChoice::not_shown;
  std::string strategy = {};  // where use
  std::string sentence = {};
};
/// `rows` ranked. Only a strategy that did the same work and is shown to be faster is ever chosen.
ProbeVerdict probe_verdict(const std::vector<ProbeRow>& rows);

/// Everything that is printed at the end.
struct ProbeReport {
  std::string experiment = {};
  std::string folder = {};  // its lab.toml, engine logs, made model and text
  std::string engine = {};
  std::string model = {}, data = {};
  bool model_made = false, data_made = false;
  std::string device = {};  // "cpu", "cuda"
  int devices = 1;
  std::optional<int> threads = {};  // a rank, on a CPU
  std::string method = {};
  std::int64_t steps = 0, global_batch = 0;
  std::optional<std::int64_t> tokens_a_step = {};
  int repeats = 1;
  double loss_tolerance = 0;
  std::vector<std::string> order = {};  // strategies as they ran
  double took_s = 0;
  std::vector<ProbeRow> rows = {};  // ranked
  ProbeVerdict verdict = {};
  std::vector<std::string> predicted_order = {};  // by plan; empty: not predicted, and why
  std::string not_predicted = {};
  std::optional<OrderJudged> order_judged = {};
  std::vector<std::string> next = {};  // commands
};
std::string probe_text(const ProbeReport& report, const TextStyle& style);
std::string probe_json(const ProbeReport& report);

/// The step of single's trial as plan takes it, behind its first step.
MeasuredStep measured_step(const EngineLog& log, double micro_steps);

std::string_view to_string(ProbeState state);
std::string_view to_string(ProbeChoice choice);

}  // namespace rigwise::cli
