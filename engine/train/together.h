// Ranks that begin, go on or fail together, so that none waits for one that has given up.
#pragma once

#include <string>

#include "engine/comm/comm.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// All ranks learn whether all could do their part. The first that could not keeps its error; the
/// others get one of the same exit code without a message, for it is told already. Collective.
Status together(Comm& world, Status mine);

/// Rank 0's text, on every rank. Collective.
std::string text_of_first(Comm& world, const std::string& text);

}  // namespace rigwise::engine
