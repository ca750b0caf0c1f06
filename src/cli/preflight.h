// Before a run: the cheap rungs of doctor, and whether a long run has a smoke test behind it.
#pragma once

#include <optional>

#include "cli/args.h"

namespace rigwise::cli {

/// The exit code of a run that is refused, told on stderr with its finding; nothing where the run
/// may start.
std::optional<int> preflight(const RunArgs& args);

}  // namespace rigwise::cli
