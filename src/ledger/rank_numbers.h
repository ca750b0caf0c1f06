// Rank numbers: which process of a host was which rank.
#pragma once

#include <map>
#include <string>

#include "rigwise/run.h"

namespace rigwise {

using RankNumbers = std::map<std::string, std::map<int, int>>;  // by host, by process id

/// Rank of each process that was one. What a process is shows a while after it started: the role
/// that it had longest counts. Ranks that a program starts itself (torch.multiprocessing.spawn)
/// have no number that is seen from outside; they are numbered in the order of their start.
RankNumbers rank_numbers(const Run& run);

}  // namespace rigwise
