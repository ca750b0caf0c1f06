// OUT/log.jsonl: one JSON object a step, the global figures as rank 0 saw them; OUT/log.rankR.jsonl
// beside it: the seconds of another rank. Seconds of the phases sum to step_time_s.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/files.h"
#include "engine/parallel/step_clock.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct StepRecord {
  std::int64_t step = 0;  // from 1
  double epoch = 0;
  double loss = 0;  // mean nll of the predicted tokens, nats
  double grad_norm = 0, lr = 0;
  std::int64_t tokens = 0, predicted_tokens = 0;  // of all ranks; padding is not counted
  double step_time_s = 0;
  PhaseSeconds phases = {};
  std::int64_t peak_memory_bytes = 0;  // device: of tensors; CPU: of the process (VmHWM)
  std::uint64_t token_hash = 0;
};

/// One line, without the end of line.
std::string step_line(const StepRecord& record);
std::string checkpoint_line(std::int64_t step, const std::filesystem::path& folder, double seconds);

class RunLog {
 public:
  /// Opens it for going on behind step `done`: later lines, and a torn last one, are cut off.
  /// Errors: io.
  static Result<RunLog> open(const std::filesystem::path& file, std::int64_t done);
  /// A line that cannot be written ends logging, not training: the first failure is returned, later
  /// lines are dropped.
  Status append(const std::string& line);

 private:
  Fd fd_;
  std::filesystem::path file_;
  bool broken_ = false;
};

std::int64_t peak_memory_bytes(at::Device device);
/// So that the next figure is of what comes, where the device can (CPU processes cannot).
void reset_peak_memory(at::Device device);

}  // namespace rigwise::engine
