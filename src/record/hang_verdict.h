// Hang verdict: of a run that stands still, who is where and whose doing it is. Pure.
//
// Ranks are grouped by where they are. Those that wait for other ranks (a collective, a barrier, a
// store, a device that runs one) are victims; those elsewhere are suspects, and the heaviest kind
// of place among them is the cause: stopped or gone before a disk, a question at the terminal,
// data, a checkpoint, a lock, code of their own. Where all wait for each other, which call they
// wait in is compared: different ones are the cause, and in the same one nothing local tells.
#pragma once

#include <string>
#include <vector>

#include "rigwise/hang.h"

namespace rigwise {

/// Where a process is, for people: "sits in DataLoader.__next__ on /data (train.py:41)".
std::string place_in_words(const ProcessLook& process);

/// What is known beside the processes.
struct HangScene {
  bool at_work = false;          // somebody of this host is at work
  bool ranks_elsewhere = false;  // there are ranks that are not among the processes
};

/// `processes`: of one moment, the loaders of ranks among them. Valid of a run that stands still;
/// of one at work it says what would be the cause if it stayed so.
HangVerdict judge_hang(const std::vector<ProcessLook>& processes, const HangScene& scene = {});

}  // namespace rigwise
