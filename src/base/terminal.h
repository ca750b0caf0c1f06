// Terminal: what the terminal behind a file says of itself.
#pragma once

#include <optional>

namespace rigwise {

/// Characters of a line: what COLUMNS says, for people and tests who want another width, else the
/// terminal itself. Nothing: `fd` is no terminal, or one that does not know.
std::optional<int> terminal_columns(int fd);

}  // namespace rigwise
