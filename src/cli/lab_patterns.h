// The user's own patterns for lines of their trainer: [[log.pattern]] in lab.toml.
#pragma once

#include <filesystem>
#include <vector>

#include "rigwise/logs.h"
#include "rigwise/result.h"

namespace rigwise::cli {

/// The patterns of lab.toml; none where the file or the table is not there. Errors: malformed, with
/// the place, for a file that is no TOML or a pattern without a figure.
Result<std::vector<LogPattern>> lab_patterns(const std::filesystem::path& lab);

}  // namespace rigwise::cli
