// Tally: what the recorder keeps in memory about a run, bounded however long it lasts.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

class RunTally {
 public:
  void note(const StepRecord& step);
  void note(const ProcSample& process);
  void note(const Fact& fact);
  void note_secret(const std::string& name);
  void note_dropped(const std::string& what);

  /// Instants of the first and last training record.
  [[nodiscard]] std::optional<double> first_step_s() const { return first_step_s_; }
  [[nodiscard]] std::optional<double> last_step_s() const { return last_step_s_; }
  [[nodiscard]] const std::optional<StepRecord>& summary() const { return summary_; }
  /// Rows of ranks, thinned evenly over the run: the first and the latest row of each process stay.
  [[nodiscard]] std::vector<ProcSample> ranks() const;
  [[nodiscard]] std::vector<Fact> facts() const;
  [[nodiscard]] const std::vector<std::string>& secrets() const { return secrets_; }
  [[nodiscard]] std::int64_t dropped() const { return dropped_; }
  /// "12 readings: nvml: no answer within 200 ms", at most a few.
  [[nodiscard]] std::vector<std::string> dropped_words() const;

 private:
  struct Rank {
    std::vector<ProcSample> rows = {};
    std::optional<ProcSample> latest = {};
    double apart_s = 0;  // rows are kept at least this far apart
  };
  std::optional<double> first_step_s_ = {}, last_step_s_ = {};
  std::optional<StepRecord> summary_ = {};
  std::map<int, Rank> ranks_ = {};
  std::map<std::string, Fact> facts_ = {};
  std::vector<std::string> secrets_ = {};
  std::map<std::string, std::int64_t> dropped_by_ = {};
  std::int64_t dropped_ = 0;
};

/// Resident memory of this process.
std::optional<double> resident_bytes();

}  // namespace rigwise
