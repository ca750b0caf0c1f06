// Hang JSON: where one process is, as hangs.jsonl and `stacks --json` have it.
#pragma once

#include "base/json.h"
#include "rigwise/hang.h"

namespace rigwise {

/// What is not known of the process is left out; frames and threads are there, be they empty.
Json json_of(const ProcessLook& process);

}  // namespace rigwise
