// Lines: the bytes of logs as lines with what launchers, collectors and loggers put in front of
// them taken off: rank, host, time.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "rigwise/triage.h"

namespace rigwise::triage_parts {

struct LogLine {
  std::size_t log = 0;            // which of the logs
  std::int64_t number = 0;        // 1-based
  std::string_view shown = {};    // as a terminal would show it last, prefixes and all
  std::string_view message = {};  // what is left behind the prefixes; its indentation kept
  std::optional<int> rank = {};
  std::string_view host = {};
  std::optional<double> unix_s = {};  // of the stamp on the line, or of the last one before it
  bool stamped = false;               // on the line itself
  int section = 0;                    // counts "===== host-a =====" and the like, in a log
  bool evidence = false;              // of the machine or a scheduler, not of the program
};

/// Calls `take` for each line, of its first 16 KiB. Views live until the next call and have no
/// control sequences.
void walk(const std::vector<FailureLog>& logs, const std::function<void(const LogLine&)>& take);

/// "rank3.log", "logs/attempt_0/3/stderr.log" (torchrun --log-dir), "worker-rank-3.err".
std::optional<int> rank_of_file(std::string_view file);

}  // namespace rigwise::triage_parts
