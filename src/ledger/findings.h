// Findings of the ledger: what stands beside the seconds and limits what they can show.
#pragma once

#include <vector>

#include "ledger/machine.h"
#include "ledger/split.h"
#include "ledger/steps.h"
#include "ledger/straggler.h"
#include "rigwise/hang.h"
#include "rigwise/ledger.h"

namespace rigwise {

/// Checkpoints of which something is missing: they cannot be loaded.
struct TornCheckpoints {
  std::int64_t count = 0;
  bool last = false;                // the newest one is torn
  std::string name = {}, why = {};  // of the last torn one
  Evidence evidence = {};
};

struct FindingInput {
  const Run* run = nullptr;
  const StepsSeen* steps = nullptr;
  const Split* split = nullptr;  // nullptr where no step was seen
  const Throttling* throttling = nullptr;
  Stretch stretch = {};
  std::vector<HostView> hosts = {};
  std::vector<FileSystemView> file_systems = {};
  double largest_checkpoint_bytes = 0;
  TornCheckpoints torn = {};
  std::optional<Straggler> straggler = {};
  std::vector<Hang> hangs = {};
  std::int64_t bad_rows = 0;  // of steps.csv and events.csv
};

/// Most severe first; within a severity in the order of the rules.
std::vector<Finding> ledger_findings(const FindingInput& input);

}  // namespace rigwise
