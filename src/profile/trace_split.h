// Trace split: what was gathered of a trace → its summary, by the definitions of rigwise/trace.h.
#pragma once

#include "profile/trace_gather.h"
#include "rigwise/trace.h"

namespace rigwise {

/// Fills in everything but file and reading. Uses `gather` up.
void split_trace(TraceGather& gather, TraceSummary& summary);

}  // namespace rigwise
