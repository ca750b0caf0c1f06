// Endings: what launchers, shells and schedulers say of how a process ended.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rigwise::triage_parts {

/// The exit code that a line states, a signal as its negative number: "exitcode: -9", "Exit Code:
/// 137", "return code = -7", "exited on signal 11 (Segmentation fault)", "<Signals.SIGBUS: 7>",
/// "task 0: Killed", "Aborted (core dumped)". 0: it says that all went well. Codes above 128 are
/// signals, as shells write them (POSIX sh, 2.8.2).
std::optional<int> ending_in(std::string_view line);

/// In the words that rows of the table know: "ended by signal SIGKILL", "exit status 3".
std::string ending_words(int code);

}  // namespace rigwise::triage_parts
