// Before a run: the cheap rungs of doctor, and whether a long run has a smoke test behind it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/args.h"
#include "rigwise/doctor.h"

namespace rigwise::cli {

/// What doctor is to know of a command that runs in `options.cwd`: which earlier runs were of its
/// program from there, and which folders it says it writes checkpoints to.
void know_command(const std::vector<std::string>& command, DoctorOptions& options);

/// The exit code of a run that is refused, told on stderr with its finding; nothing where the run
/// may start.
std::optional<int> preflight(const RunArgs& args);

}  // namespace rigwise::cli
