// The user's own patterns in lab.toml: for lines of their trainer ([[log.pattern]]) and for its
// functions ([[stack.pattern]]).
#pragma once

#include <vector>

#include "cli/args.h"
#include "rigwise/logs.h"
#include "rigwise/result.h"
#include "rigwise/stacks.h"

namespace rigwise::cli {

/// The patterns of the file that --lab names, else of lab.toml; none where the table is not there,
/// nor lab.toml. Errors: usage, where --lab named a file that is not there; malformed, with the
/// place, for a file that is no TOML or a pattern without a figure.
Result<std::vector<LogPattern>> lab_patterns(const Lab& lab);
/// The same for functions: which work they stand for. Errors as above; malformed, where a pattern
/// lacks its file, function or work, or names a work that there is none of.
Result<std::vector<StackPattern>> lab_stack_patterns(const Lab& lab);

}  // namespace rigwise::cli
