// Ledger: the wall time of a run split into eleven classes that sum to it exactly, missing evidence
// included.
//
// Pure functions over an opened run; nothing is written. Seconds throughout; intervals are 95 %.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/finding.h"
#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

enum class LedgerClass {
  startup,
  input,
  compute,
  throttle,
  sync,
  host,
  memory,
  checkpoint,
  evaluation,
  teardown,
  unexplained,
};
inline constexpr std::array kLedgerClasses = {
    LedgerClass::startup,  LedgerClass::input,      LedgerClass::compute,
    LedgerClass::throttle, LedgerClass::sync,       LedgerClass::host,
    LedgerClass::memory,   LedgerClass::checkpoint, LedgerClass::evaluation,
    LedgerClass::teardown, LedgerClass::unexplained};

struct LedgerRow {
  LedgerClass cls = LedgerClass::unexplained;
  std::optional<double> seconds =
      {};  // empty: no evidence either way; its seconds are in another row, named in `note`
  std::optional<double> low_s = {}, high_s = {};
  How how = How::measured;
  std::vector<Evidence> evidence = {};
  std::optional<double> saves_at_most_s = {};
  std::string note = {};           // what shows it, in one line
  std::string would_measure = {};  // the next cheapest measurement, where the row is not known
};

struct RankLedger {
  int rank = 0;
  std::string host = {};
  std::vector<LedgerRow> rows = {};
};

struct Bottleneck {
  std::optional<LedgerClass> cls =
      {};  // compute for a healthy run; empty only where nothing could be shown
  std::string why = {};
  std::string next_step = {};  // what removes it, or what would show more
};

struct Ledger {
  std::string run = {};
  double wall_s = 0;
  std::vector<LedgerRow> rows =
      {};  // all eleven, in the order of kLedgerClasses; known seconds sum to wall_s
  std::vector<RankLedger> ranks = {};
  Bottleneck bottleneck = {};
  int rules_version = 0;
  std::vector<Finding> findings = {};  // "ranks-missing", "other-programs-took-cpu", "log-lossy", …
  std::optional<double> step_time_s = {}, step_time_half_width_s = {};  // steady steps
  std::optional<std::int64_t> steps = {};  // optimizer steps that the log showed
};

/// Errors: unavailable (the run has no wall time at all).
Result<Ledger> make_ledger(const Run& run);

constexpr std::string_view to_string(LedgerClass value) {
  switch (value) {
    case LedgerClass::startup:
      return "startup";
    case LedgerClass::input:
      return "input";
    case LedgerClass::compute:
      return "compute";
    case LedgerClass::throttle:
      return "throttle";
    case LedgerClass::sync:
      return "sync";
    case LedgerClass::host:
      return "host";
    case LedgerClass::memory:
      return "memory";
    case LedgerClass::checkpoint:
      return "checkpoint";
    case LedgerClass::evaluation:
      return "evaluation";
    case LedgerClass::teardown:
      return "teardown";
    case LedgerClass::unexplained:
      return "unexplained";
  }
  return "?";
}
constexpr std::optional<LedgerClass> ledger_class(std::string_view name) {
  for (const auto cls : kLedgerClasses) {
    if (to_string(cls) == name) return cls;
  }
  return std::nullopt;
}

/// The row of a class; nullptr where the rows do not have it.
inline const LedgerRow* row_of(const std::vector<LedgerRow>& rows, LedgerClass cls) {
  for (const auto& row : rows) {
    if (row.cls == cls) return &row;
  }
  return nullptr;
}

}  // namespace rigwise
