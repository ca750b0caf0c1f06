// Peeling: what launchers, collectors and loggers put in front of a line (ranks, streams, times),
// and control characters that a collector wrote out as text ("#015", "^[[32m").
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rigwise::logs {

/// Takes the prefixes off the front: "[rank1]:", "[default0]:", "[1,mpirank:0,algo-1]<stdout>:",
/// "[1,0]<stderr>:", "[rank: 0]", "rank 3:", "2: " (srun), "[pod/…]", "(Worker pid=12)", a time
/// stamp. Returns the rank that one of them names.
std::optional<int> peel(std::string_view& text);

/// Whether `text` holds control characters that were written out.
bool has_written_controls(std::string_view text);

/// `text` with those characters put back as the control characters they were.
void restore_controls(std::string_view text, std::string& out);

}  // namespace rigwise::logs
