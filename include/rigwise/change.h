// Change: what became of each row of the ledger between two sets of runs.
//
// Pure functions over ledgers. Seconds throughout; intervals are 95 %.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rigwise/ledger.h"
#include "rigwise/result.h"

namespace rigwise {

/// A figure on both sides of a change: the mean over each side's runs, and b less a.
struct Change {
  std::optional<double> a = {}, b = {};  // empty: some run of that side does not know it
  std::optional<double> difference = {}, low = {}, high = {};  // 95 % interval
  bool moved = false;                                          // the interval does not hold 0
};

struct LedgerChangeRow {
  LedgerClass cls = LedgerClass::unexplained;
  Change seconds = {};
  std::optional<Change> per_step = {};  // where the sides differ in steps and the class grows with
                                        // them: then it is what `moved` goes by
  bool moved = false;
};

struct LedgerSide {
  std::string name = {};               // as the caller calls it; left empty here
  std::vector<std::string> runs = {};  // ids
  std::optional<double> steps = {};    // mean; empty: not every log showed them
};

/// What became of each row of the ledger between two sets of runs.
struct LedgerChange {
  LedgerSide a = {}, b = {};
  Change wall = {};
  std::vector<LedgerChangeRow> rows = {};      // in the order of kLedgerClasses
  std::vector<LedgerClass> in_compute = {};    // told apart in some runs only: added to compute
  std::vector<LedgerClass> not_measured = {};  // in no run: wherever their seconds are, they are
                                               // there on both sides
  bool spread_assumed = false;  // a side of one run does not show how much runs differ anyway
};

/// Differences by Satterthwaite's interval over the runs' rows. A run's own interval counts, and so
/// does a spread from run to run of at least 2 % of the row and 0.5 % of the wall time
/// (docs/ledger.md). Errors: usage (a side without runs, a run on both sides).
Result<LedgerChange> change_of(const std::vector<Ledger>& a, const std::vector<Ledger>& b);

}  // namespace rigwise
