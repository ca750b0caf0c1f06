// Phases: steps whose trainer measures them itself (rigwise-engine) state the seconds of each; no
// sampling is needed then.
#pragma once

#include <map>
#include <optional>

#include "ledger/machine.h"
#include "ledger/work.h"
#include "rigwise/run.h"

namespace rigwise {

struct PhasesInput {
  const Rows<StepRecord>* rows = nullptr;
  Timeline time = {};
  std::vector<RankHeld> held = {};  // by rank; the log's own rank is the first
};

struct PhasesSplit {
  WorkSplit run = {};
  std::map<int, WorkSplit> ranks = {};    // where several state their phases
  std::map<int, double> critical_s = {};  // arithmetic of the steps that each of them led
};

/// Empty where fewer than nine tenths of the steps state all their phases.
std::optional<PhasesSplit> split_by_phases(const PhasesInput& input);

}  // namespace rigwise
