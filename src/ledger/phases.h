// Phases: steps whose trainer measures them itself (rigwise-engine) state the seconds of each; no
// sampling is needed then.
#pragma once

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

/// Empty where fewer than nine tenths of the steps state all their phases.
std::optional<WorkSplit> split_by_phases(const PhasesInput& input);

}  // namespace rigwise
