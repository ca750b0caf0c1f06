// Lone forwards: evaluations that have no name that the table of works knows, by what they are:
// forward passes that no backward pass follows.
#pragma once

#include <vector>

#include "ledger/work.h"

namespace rigwise {

/// Which of the rank's spans are such. `paths`: from where torch was called, by stack.
std::vector<bool> lone_forwards(const RankWork& rank, const CallPaths& paths);

}  // namespace rigwise
