// Logs: bytes of a training log in any chunks → StepRecord and Event, with read statistics.
//
// Not thread-safe: one LogReader per stream. Never throws; hostile bytes are counted, not believed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

struct LogBatch {
  std::vector<StepRecord> steps = {};
  std::vector<Event> events = {};
  std::vector<Fact> facts = {};  // banners: "Total train batch size = 8"
};

class LogReader {
 public:
  explicit LogReader(std::string log_file);  // "log/out.log": becomes StepRecord::log_file
  LogReader(LogReader&&) noexcept;
  LogReader& operator=(LogReader&&) noexcept;
  ~LogReader();

  /// Bytes as received at t_s, cut anywhere. Returns what became complete with them.
  LogBatch push(std::string_view bytes, double t_s);
  /// The end of the stream: the half line that was kept is read too.
  LogBatch finish(double t_s);
  [[nodiscard]] const ReadStatistics& statistics() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rigwise
