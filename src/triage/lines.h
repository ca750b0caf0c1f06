// Lines: the bytes of logs as lines with what launchers, collectors and loggers put in front of
// them taken off: rank, host, time.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/triage.h"

namespace rigwise::triage_parts {

/// Where in all that was read: a section is one log's part below a heading.
struct Place {
  std::size_t log = 0;
  int section = 0;
  std::int64_t line = 0;  // 1-based, of the log
};

struct LogLine {
  Place place = {};
  std::string_view shown = {};    // as a terminal would show it last, prefixes and all
  std::string_view message = {};  // what is left behind the prefixes; its indentation kept
  std::optional<int> rank = {};
  std::optional<int> member =
      {};  // the number of the pod or container that the line is tagged with
  std::string_view host = {};
  std::optional<double> unix_s = {};  // of the stamp on the line, or of the last one before it
  std::optional<int> nccl_pid = {}, nccl_device = {};  // "host-a:201:260 [0] NCCL …"
  std::optional<int> actor_pid = {};                   // "(RayTrainWorker pid=31201) …"
  bool evidence = false;  // of the machine or a scheduler, not of the program
  bool has_tabs = false;
  /// Of its bytes; not known where they came in several pieces or hold control sequences.
  std::optional<std::span<const Signatures::Hit>> hits = {};
};

/// Bytes in any pieces → lines, of each the first 16 KiB. What `take` is given lives until it
/// returns and has no control sequences.
class Lines {
 public:
  /// The minute of the last stamp: local time is dear to reckon, and most lines share one.
  struct Minute {
    std::string text = {};  // "2026-11-23 01:43"
    double unix_s = 0;
  };

  explicit Lines(std::function<void(const LogLine&)> take) : take_(std::move(take)) {}
  void begin(const LogName& log);                                   // the next log
  void push(std::string_view bytes, const Signatures::Hits& hits);  // of these bytes
  void skip(std::string_view bytes);                                // its lines are counted only
  void end();                                                       // of that log

 private:
  void line(std::string_view rough);

  std::function<void(const LogLine&)> take_;
  std::string half_, plain_;
  LogLine line_;
  std::optional<int> file_rank_;
  std::string host_;
  Minute minute_;
  double known_unix_s_ = 0;  // the last stamp that states its year, of any log
  std::size_t logs_ = 0;
  bool torn_ = false;  // a line has begun
};

/// "rank3.log", "logs/attempt_0/3/stderr.log" (torchrun --log-dir), "worker-rank-3.err".
std::optional<int> rank_of_file(std::string_view file);

/// 2 of "attempt_2/0/stderr.log" (torchrun that starts anew); else 0.
int attempt_of_file(std::string_view file);

/// Ranks of files that are called alike but for one number, which counts from 0 or 1 on:
/// "out.0.txt", "out.1.txt". Nothing where the names say another way, or count hosts.
std::vector<std::optional<int>> ranks_of_files(const std::vector<std::string>& files);

}  // namespace rigwise::triage_parts
