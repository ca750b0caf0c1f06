// Engine log: rigwise-engine's own files, where they say more than its output: the phases of rank
// 0's steps where a terminal gets a bar, and those of the other ranks of this host in any case.
// Read once, at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

struct EngineLog {
  std::string name = {};  // as log_file of its steps: "OUT/log.jsonl", "OUT/log.rank1.jsonl"
  std::vector<StepRecord> steps = {};
};

/// Steps from `first_step` on out of the files in the folder that `argv` (rigwise-engine train
/// --out DIR …) names, of those that were written since `start_unix_s`. Nothing where the command
/// is another one, or there is no such file. Their t_s says nothing. `of_rank_0`: rank 0's too.
std::vector<EngineLog> engine_logs(const std::vector<std::string>& argv, const std::string& cwd,
                                   double start_unix_s, std::int64_t first_step, double t_s,
                                   bool of_rank_0);

}  // namespace rigwise
