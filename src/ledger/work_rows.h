// Work rows: the ledger's rows that stack samples carry, in words.
#pragma once

#include <string>
#include <vector>

#include "ledger/machine.h"
#include "ledger/work.h"
#include "rigwise/ledger.h"

namespace rigwise {

struct WorkRowsInput {
  const WorkSeen* seen = nullptr;
  const WorkSplit* split = nullptr;
  const RankWork* rank = nullptr;  // whose rows; nullptr: the run's
  const std::vector<double>* critical_s = nullptr;
  const std::vector<HostView>* hosts = nullptr;
  bool lone = false;                    // one rank trained
  std::optional<Evidence> stated = {};  // the steps state their phases: no stacks were needed
};

LedgerRow input_row_of(const WorkRowsInput& input);
LedgerRow sync_row_of(const WorkRowsInput& input);
LedgerRow host_row_of(const WorkRowsInput& input);
/// "forward 40 %, backward 51 %, optimizer 9 %".
std::string compute_parts(const WorkSplit& split);
/// "imports 9 s, model load 12 s": for the note of the startup row.
std::vector<std::string> startup_parts(const WorkSplit& split);
/// "2.1 s asleep in train.py:pause".
std::string unexplained_parts(const WorkSplit& split);
Evidence stack_evidence(const WorkRowsInput& input, std::string what);

/// A row of `share`: what stack samples show is measured.
LedgerRow row_of_share(LedgerClass cls, const Share& share, How how);

}  // namespace rigwise
