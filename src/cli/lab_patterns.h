// The user's own patterns for lines of their trainer: [[log.pattern]] in lab.toml.
#pragma once

#include <vector>

#include "cli/args.h"
#include "rigwise/logs.h"
#include "rigwise/result.h"

namespace rigwise::cli {

/// The patterns of the file that --lab names, else of lab.toml; none where the table is not there,
/// nor lab.toml. Errors: usage, where --lab named a file that is not there; malformed, with the
/// place, for a file that is no TOML or a pattern without a figure.
Result<std::vector<LogPattern>> lab_patterns(const Lab& lab);

}  // namespace rigwise::cli
