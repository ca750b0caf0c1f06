// Trace helper: reads the traces of windows in a process of its own, with low priority: a trace
// may need much memory and some seconds, and its bytes are not ours. Its memory goes with it, and
// its death costs the reading of traces and nothing else.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "record/channel.h"
#include "rigwise/run.h"

namespace rigwise {

/// A window's trace: to be read, or what became of it.
struct TraceJob {
  std::int64_t number = 0;  // the asker's own
  std::string file = {};    // relative to the run directory
  int pid = 0;              // as the recorder counts
  std::optional<int> rank = {};
  double t_s = 0;  // when the window was to begin
};
struct TraceAnswer {
  std::int64_t number = 0;
  std::string trouble = {};     // empty: the row stands in profile/windows.csv
  double t_s = 0, t_end_s = 0;  // without trouble: what the trace covers
  std::string detail = {};
};

class TraceHelper {
 public:
  TraceHelper() = default;
  TraceHelper(const TraceHelper&) = delete;
  TraceHelper& operator=(const TraceHelper&) = delete;
  ~TraceHelper() { stop(); }

  /// Forks: before this process makes threads. It writes profile/windows.csv through its copy of
  /// `writer`, and nobody else does. `close_first`: descriptors that it must not hold open.
  void start(RunWriter& writer, const std::string& host, const std::vector<int>& close_first);
  /// False: there is nobody to read it.
  bool ask(const TraceJob& job);
  /// Never blocks. What was asked and will never be answered comes with its trouble.
  std::vector<TraceAnswer> take();
  /// As take(), but waits up to `limit_s` for all that was asked.
  std::vector<TraceAnswer> take_all(double limit_s);
  void stop();
  /// The helper was waited for.
  void note_ended() { pid_ = -1; }

  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  Fd channel_;
  std::vector<std::int64_t> asked_ = {};
};

}  // namespace rigwise
