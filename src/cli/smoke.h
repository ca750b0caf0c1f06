// A smoke test: the user's own command, run and recorded as any other, and ended once it has made
// so many steps.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "rigwise/doctor.h"
#include "rigwise/result.h"

namespace rigwise::cli {

/// A command line as words: blanks part them, quotes and backslashes keep them together as in a
/// shell. What only a shell can do (variables, pipes, patterns, …) makes it `sh -c TEXT`. Errors:
/// usage (an open quote, no word).
Result<std::vector<std::string>> command_words(const std::string& text);

/// Script or module of a command, as runs are named; "" for none.
std::string program_of(const std::vector<std::string>& command);

/// Runs `command` under `rigwise run` until `steps` steps are on record, it ends by itself, or
/// `limit_s` is over; then it is asked to end (SIGTERM), and killed where it does not within 20 s.
/// `passed` is left for who judges.
SmokeResult smoke_test(const std::filesystem::path& runs, const std::vector<std::string>& command,
                       int steps, double limit_s);

}  // namespace rigwise::cli
