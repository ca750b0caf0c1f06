// Look: where every process of a run is at this moment: Python frames with lines, the call and the
// file that it waits for, its threads and connections. Nothing is stopped.
//
// Takes some milliseconds a process. A process that hangs in the kernel can hold up whoever looks
// at it: call from a thread that nobody waits for, or from a program that the user can end.
#pragma once

#include <string>
#include <vector>

#include "rigwise/hang.h"
#include "rigwise/stacks.h"

namespace rigwise {

struct LookOptions {
  std::vector<StackPattern> patterns = {};
  std::string proc = "/proc";
};

/// Who it is, as the recorder last saw it; nothing yet of where.
ProcessLook look_of(const ProcSample& row);

/// One look at it; of one whose pid is another program's by now (another name than `row` says) only
/// that it is gone.
ProcessLook look_at(const ProcSample& row, const LookOptions& options);

}  // namespace rigwise
