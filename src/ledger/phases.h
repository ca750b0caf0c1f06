// Phases: steps whose trainer measures them itself (rigwise-engine) state the seconds of each; no
// sampling is needed then.
#pragma once

#include <optional>

#include "ledger/machine.h"
#include "ledger/work.h"
#include "rigwise/run.h"

namespace rigwise {

/// A rank's process while steps ran, by its rows in watch/HOST.proc.csv.
struct RankHeld {
  int rank = 0;
  double cpu_s = 0;      // of all its threads
  double queued_s = 0;   // all its threads in a run queue
  double stopped_s = 0;  // by a signal; by the tick, so to about a second
};

struct PhasesInput {
  const Rows<StepRecord>* rows = nullptr;
  double wall_s = 0, begin_s = 0, end_s = 0;
  std::vector<Window> evaluations = {}, checkpoints = {};
  std::vector<RankHeld> held = {};  // by rank; the log's own rank is the first
  bool ended = true;
};

/// Empty where fewer than nine tenths of the steps state all their phases.
std::optional<WorkSplit> split_by_phases(const PhasesInput& input);

std::vector<RankHeld> see_held_ranks(const Run& run, const Stretch& steps);

}  // namespace rigwise
