// What `rigwise read` makes of logs: entries as they come, and what is known at the end.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "rigwise/logs.h"
#include "rigwise/report.h"

namespace rigwise::cli {

/// The end of the run, as far as its log says that there was one.
struct LogSummary {
  bool ended = false;
  bool totals = false;  // told with the run's totals, not by a sentence alone
  std::optional<double> train_runtime_s = {}, train_samples_per_s = {}, train_steps_per_s = {};
  std::optional<double> last_loss = {};
  std::optional<std::int64_t> total_steps = {};  // stated
  std::optional<std::int64_t> last_step = {}, bar_total = {};
};

/// Whether an entry is worth a line of output: a bar that tells neither a rate nor a metric is
/// none.
bool is_told(const StepRecord& record);

/// The entry with the names of docs/json.md.
Json entry_json(const StepRecord& record, const std::string& file);
Json checkpoint_json(const Event& event, const std::string& file);
Json summary_json(const LogSummary& summary);
Json statistics_json(const ReadStatistics& statistics);

void note(LogSummary& summary, const StepRecord& record);

/// Rows of which at most `limit` are kept, evenly over all that came. Constant memory.
class ThinnedRows {
 public:
  explicit ThinnedRows(std::size_t limit) : limit_(limit) {}
  void add(const StepRecord& record);
  /// At most `count` of them, the first and the last always; all of them with 0.
  [[nodiscard]] std::vector<StepRecord> rows(std::size_t count) const;
  [[nodiscard]] std::int64_t seen() const { return seen_; }

 private:
  std::size_t limit_;
  std::int64_t seen_ = 0, stride_ = 1;
  std::vector<StepRecord> kept_ = {};
  std::optional<StepRecord> last_ = {};
};

/// Everything that the text output says.
struct LogPage {
  std::vector<std::string> files = {};
  ThinnedRows steps{4096}, evaluations{4096};
  std::optional<StepRecord> best_evaluation = {};
  std::optional<double> first_loss = {};
  std::int64_t bars = 0, not_finite = 0;
  std::vector<Event> checkpoints = {};
  std::int64_t checkpoints_seen = 0;
  LogSummary summary = {};
  ReadStatistics statistics = {};
  std::string first_bad_file = {};
};

void note(LogPage& page, const StepRecord& record);
void note(LogPage& page, const Event& event);

std::string page_text(const LogPage& page, int rows, const TextStyle& style);

}  // namespace rigwise::cli
