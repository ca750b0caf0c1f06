// Straggler: the rank that the others wait for, and what it was at meanwhile.
#pragma once

#include <optional>
#include <string>

#include "rigwise/finding.h"

namespace rigwise {

struct Facts;

struct Straggler {
  int rank = 0;
  double waited_s = 0, steps_s = 0;  // what the others waited for it on average; of how long
  std::string with = {};             // what it had more of than they; empty: not known
  Evidence evidence = {};
};

/// By the stack samples of all ranks, else by NCCL's collectives. Empty where one rank trained, or
/// where no rank is last for most of the time.
std::optional<Straggler> straggler_of(const Facts& facts);

}  // namespace rigwise
