// Device: on a run whose arithmetic GPUs do, the main thread only feeds them. Its seconds in the
// data loader cost something where the device had run dry, and waits between ranks happen on the
// device: short traces say how much, else what NCCL did and the device's utilisation bound it.
#pragma once

#include <optional>

#include "ledger/machine.h"
#include "ledger/work.h"
#include "rigwise/run.h"

namespace rigwise {

/// What the NCCL plug-in's windows say, all ranks together.
struct NcclSeen {
  double observed_s = 0, communication_s = 0;  // sums over ranks; observed_s = 0: nothing is known
  // The rank for which the others waited longest; empty: no collective was seen of all ranks.
  std::optional<int> last_rank = {};
  double late_frac = 0;                // of the time: what they waited for it
  std::int64_t last = 0, matched = 0;  // collectives that it came last to, of those seen of all
  [[nodiscard]] double share() const { return observed_s > 0 ? communication_s / observed_s : 0; }
};

struct DeviceSeen {
  bool worked = false;  // a GPU of the run was busy while steps ran
  double idle_s = 0;    // of the steps, by the utilisation of the busiest GPU
  double seen_s = 0;    // of the steps, with samples of it
  // Sums over the traced windows of GPUs; `windows` = 0: there are none.
  std::int64_t windows = 0;
  double traced_s = 0, exposed_communication_s = 0, launch_s = 0, input_s = 0, exposed_input_s = 0;
  NcclSeen nccl = {};
};
DeviceSeen see_devices(const Run& run, const Stretch& steps);

/// The main thread's seconds made the device's. `several`: more than one rank trained.
void give_to_device(WorkSplit& split, const DeviceSeen& seen, bool several);

}  // namespace rigwise
