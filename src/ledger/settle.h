// Settle: what the samples of a rank say against what the scheduler counted. Samples say which work
// was done and whether the thread slept, but are few; the scheduler knows to the microsecond how
// long it slept, but not in which work.
#pragma once

#include "ledger/work.h"

namespace rigwise {

/// Gives each span its share of what was slept and run, and the variance of its seconds. `alone`:
/// one rank trained, and the spans' weights are set too: seconds asleep and seconds awake each sum
/// to the scheduler's (post-stratification), so that a wait for data is nearly exact.
void settle(RankWork& rank, bool alone);

}  // namespace rigwise
