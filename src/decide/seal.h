// Seal: was the statement written before the runs, and has it stayed as it was?
#pragma once

#include <string>
#include <vector>

#include "rigwise/decide.h"

namespace rigwise {

struct SealState {
  std::vector<Sentence> notes = {};  // every difference, one sentence each, for the record
  /// Why the threshold cannot count as sealed before the option's runs; empty where it can. With a
  /// reason here no verdict is "keep".
  std::string broken = {};
  Evidence broken_evidence = {};
};

SealState seal_of(const DecideInput& input);

}  // namespace rigwise
