// Engine log: on a terminal rigwise-engine draws a bar, and the seconds of each step's phases stand
// in its own file alone. Read once, at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

inline constexpr const char* kEngineLog = "OUT/log.jsonl";

/// Steps from `first_step` on out of the file that `argv` (rigwise-engine train --out DIR …) names,
/// if it was written since `start_unix_s`. Nothing where the command is another one, or the file is
/// not there. Their t_s says nothing; their log_file is kEngineLog.
std::vector<StepRecord> engine_steps(const std::vector<std::string>& argv, const std::string& cwd,
                                     double start_unix_s, std::int64_t first_step, double t_s);

}  // namespace rigwise
