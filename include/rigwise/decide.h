// Decide: the user's sealed statement against what the runs showed.
//
// Three things live here: the threshold language, lab.toml (the Statement), and the ladder that
// ends in one of five verdicts. Pure functions; files are read and written only by the two lab.toml
// functions.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/compare.h"
#include "rigwise/finding.h"
#include "rigwise/ledger.h"
#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

// ----------------------------------------------------------------------------------------------
// threshold language

enum class Metric {
  wall_clock,
  tokens_per_s,
  samples_per_s,
  steps_per_s,
  step_time,
  peak_memory,
  checkpoint_time,
  evaluation_delay
};
enum class Relation { less_equal, less, greater_equal, greater };

/// `wall_clock(3000 steps) <= 5h`, `tokens_per_s >= 1.4x` (against the baseline), `peak_memory <=
/// 22GiB`.
struct Threshold {
  Metric metric = Metric::wall_clock;
  std::optional<double> work = {};  // the 3000 of wall_clock(3000 steps)
  std::string work_unit = {};       // "steps", "samples", "tokens"
  Relation relation = Relation::less_equal;
  double value = 0;       // seconds, bytes, per second, or a factor
  bool relative = false;  // "1.4x": a factor of the baseline
  std::string text = {};  // as written
};

/// Errors: usage, with the text, a caret under the character where reading stopped, what was
/// expected there, and the nearest known metric or unit.
Result<Threshold> parse_threshold(std::string_view text);

/// A sealed threshold held against one ledger: what the run takes, and what it would take at most
/// less if one of its rows were gone. A row is a bottleneck of the statement where that meets it.
struct RowRemoved {
  LedgerClass cls = LedgerClass::unexplained;
  double value_s = 0;  // with the row gone
  bool meets = false;
};
struct ThresholdGap {
  double value_s = 0;  // as it is
  bool meets = false;
  std::vector<RowRemoved> without = {};  // largest row first; no startup of a run without steps
};
/// Only for wall_clock with a limit of its own; for N steps, startup and teardown count once and
/// all else by the step. Empty where the ledger does not say what that takes.
std::optional<ThresholdGap> threshold_gap(const Threshold& threshold, const Ledger& ledger);

/// What is missing for a claim to be tested, with an example; empty = a metric, a number and a
/// reason are there. "training is slow" and "we need two GPUs" are the cases it exists for.
std::vector<std::string> statement_gaps(const Statement& statement);

// ----------------------------------------------------------------------------------------------
// lab.toml

/// A path to lab.toml's [experiment] table → Statement with its hash.
/// sealed_unix_s is set only while the seal's hash fits the words that stand there. Errors:
/// not_found (no file, or no [experiment] table), malformed (line and column; a slip in a key's
/// name), usage (threshold: caret).
Result<Statement> read_lab(const std::filesystem::path& path);

/// Writes lab.toml, keeping every table and comment it does not own; the same words keep their
/// first seal. Read back and compared before it replaces the old file. Errors: io, usage
/// (statement_gaps), malformed (the old file), conflict ([experiment] is an inline table).
Status write_lab(const std::filesystem::path& path, const Statement& statement);

std::string statement_hash(const Statement& statement);  // SHA-256, hex; see Statement

// ----------------------------------------------------------------------------------------------
// the ladder

enum class DecisionVerdict { keep, simplify, fix_first, stop, not_shown };

/// One sentence of the record and what it rests on.
struct Sentence {
  std::string text = {};
  std::vector<Evidence> evidence = {};
};

/// What the option costs beside the others that were recorded under the same statement.
struct Regret {
  std::string best = {};            // the fastest shown; empty: which one is, is not shown
  std::optional<double> frac = {};  // of the best one's step time; 0: the option is the best
  Sentence said = {};
};

struct Decision {
  std::string experiment = {};
  DecisionVerdict verdict = DecisionVerdict::not_shown;
  std::optional<std::string> fix =
      {};  // a ledger class, or environment, link, heat, power, memory_fit, single_run
  std::vector<Sentence> reasons = {};
  std::string next_action = {};
  Statement statement = {};
  std::vector<std::string> amendments =
      {};                              // statement changed after a run had started: what, when
  std::vector<Sentence> summary = {};  // Evidence summary
  std::vector<Sentence> baseline_result = {}, candidate_result = {}, side_effects = {};
  std::optional<Regret> regret = {};  // nothing else was recorded: none
  std::string rung = {};              // id of the rung of the ladder that decided
  int rules_version = 0;
};

/// What the ladder looks at. Facts that only the user knows (demos wait for training, many users,
/// backups …) come from lab.toml's statement texts and its [context] table.
struct LabContext {
  bool fits_on_one = true;  // false: the statement or a run shows that it does not fit
  std::optional<bool> fits_known = {};
  std::vector<std::string> waits_for_training = {};  // "evaluation", "demos"
  std::vector<std::string> tried = {};   // "quantisation", "lora", "sequence", "checkpointing"
  std::vector<std::string> agenda = {};  // "users", "backups", "failures", "heat"
};
Result<LabContext> read_context(const std::filesystem::path& lab_toml);

/// Another option that was recorded under the same statement.
struct Rival {
  std::string name = {};
  std::vector<Run> runs = {};
  Comparison against = {};  // from the candidate to it: `faster` means that it is
};

struct DecideInput {
  Statement statement = {};
  LabContext context = {};
  std::vector<Run> baseline = {}, candidate = {};
  std::vector<Ledger> baseline_ledgers = {}, candidate_ledgers = {};
  std::optional<Comparison> comparison = {};
  std::vector<Rival> rivals = {};
};

/// Ledgers stand in the order of their runs. The first rung of the ladder that holds decides
/// (docs/ledger.md); every sentence carries evidence. Never "keep" unless the comparison allows it
/// (yes or caveats), the threshold is met by its whole interval, the difference is shown, and the
/// threshold was sealed before the option ran. Reads the runs' tables.
Decision decide(const DecideInput& input);

/// Is the threshold met by this candidate? "met", "missed" or "not shown", from intervals, never
/// from a point alone.
ThresholdOutcome judge(const Threshold& threshold, const DecideInput& input);

constexpr std::string_view to_string(DecisionVerdict value) {
  switch (value) {
    case DecisionVerdict::keep:
      return "keep";
    case DecisionVerdict::simplify:
      return "simplify";
    case DecisionVerdict::fix_first:
      return "fix_first";
    case DecisionVerdict::stop:
      return "stop";
    case DecisionVerdict::not_shown:
      return "not_shown";
  }
  return "?";
}
constexpr std::string_view to_string(Metric value) {
  switch (value) {
    case Metric::wall_clock:
      return "wall_clock";
    case Metric::tokens_per_s:
      return "tokens_per_s";
    case Metric::samples_per_s:
      return "samples_per_s";
    case Metric::steps_per_s:
      return "steps_per_s";
    case Metric::step_time:
      return "step_time";
    case Metric::peak_memory:
      return "peak_memory";
    case Metric::checkpoint_time:
      return "checkpoint_time";
    case Metric::evaluation_delay:
      return "evaluation_delay";
  }
  return "?";
}

}  // namespace rigwise
