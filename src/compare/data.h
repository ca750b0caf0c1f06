// Data: what a comparison needs of one run, read once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rigwise/finding.h"
#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise::compare_data {

/// A figure and the line of the table where it stands.
struct Peak {
  std::optional<double> value = {};
  std::int64_t line = 0;
  void see(const std::optional<double>& seen, std::int64_t at) {
    if (!seen || (value && *seen <= *value)) return;
    value = seen;
    line = at;
  }
};

/// A cumulative counter at the first and the last row that hold it.
struct Span {
  std::optional<double> begin = {}, end = {};
  double begin_t_s = 0, end_t_s = 0;
  std::int64_t first_line = 0, last_line = 0;
  void see(const std::optional<double>& value, double t_s, std::int64_t line) {
    if (!value) return;
    if (!begin) {
      begin = value;
      begin_t_s = t_s;
      first_line = line;
    }
    end = value;
    end_t_s = t_s;
    last_line = line;
  }
};

/// One GPU over a run. "During the steps" is the step window.
struct GpuSummary {
  bool ours = false;  // a process of the run was seen on it
  double most_util = 0, width = 0, width_max = 0, gen = 0;
  std::optional<double> first_temp_c = {}, power_limit_w = {};
  Peak temp_c = {}, used_bytes = {};
  // during the steps
  double power_sum_w = 0;
  std::int64_t power_count = 0, first_line = 0, last_line = 0;
  Span held_s = {};                                    // by heat or a fault
  std::int64_t with_reason = 0, with_heat_reason = 0;  // instants with NVML's mask; those of heat
  double most_others = 0;                              // compute processes of others
};

/// The host over a run.
struct HostSummary {
  Span others_cpu_s = {};  // during the steps
  Span package_energy_j = {};
  Peak rss_bytes = {}, swap_bytes = {}, temp_cpu_c = {};
  std::string top_other = {};  // during the steps, the last one named
};

struct HostData {
  std::string host = {};
  HostSummary summary = {};
  std::map<int, GpuSummary> gpus = {};  // those with any sample
  std::string host_file = {}, gpu_file = {};
  std::optional<Rig> rig = {};
  std::optional<Environment> environment = {};
};

struct RunData {
  const Run* run = nullptr;
  std::string label = {};       // the run's id: what evidence calls it
  Rows<StepRecord> steps = {};  // entries that state no step have been placed
  Rows<Event> events = {};
  std::vector<HostData> hosts = {};  // the run's own host first
  std::map<std::string, Fact> facts = {};
  std::vector<std::string> trouble = {};  // tables that could not be read, in words

  std::optional<double> global_batch = {};  // stated, else product, else samples/s over steps/s
  std::string global_batch_source = {};
  std::optional<int> ranks = {};  // that trained; asked ones where nothing showed it
  std::optional<double> first_step_t_s = {}, last_step_t_s = {};  // receive times of training
  bool diverged = false;
  std::string diverged_why = {};
  Evidence diverged_evidence = {};
};

/// Unreadable tables become `trouble`, never an error: the comparison says what it lacks.
RunData load(const Run& run);

/// A row of a log that states no instants: its t_s says nothing.
bool is_untimed(const Run& run, const StepRecord& record);

std::optional<std::string> fact(const RunData& data, const std::string& key);
std::optional<double> fact_number(const RunData& data, const std::string& key);
/// The leading number of "100 steps"; nothing for "1 epoch" or "none".
std::optional<double> interval_steps(const RunData& data, const std::string& key);

/// Rows [first, last] (0-based positions in `rows`) of a table as line numbers of its file. Where
/// bad rows were passed over the lines are not known, and the file is named without them.
template <class T>
Evidence rows_evidence(const RunData& data, const Rows<T>& rows, std::size_t first,
                       std::size_t last, std::string what) {
  Evidence evidence{.run = data.label, .file = rows.file, .what = std::move(what)};
  if (rows.bad_rows == 0 && last < rows.rows.size()) {
    evidence.first_row = static_cast<std::int64_t>(first) + 2;  // line 1 is the header
    evidence.last_row = static_cast<std::int64_t>(last) + 2;
  }
  return evidence;
}

/// Lines of a table that was walked.
inline Evidence lines_evidence(const RunData& data, const std::string& file, std::int64_t first,
                               std::int64_t last, std::string what) {
  Evidence evidence{.run = data.label, .file = file, .what = std::move(what)};
  if (first > 0) {
    evidence.first_row = first;
    evidence.last_row = last;
  }
  return evidence;
}

/// The stretch in which steps ran; the whole run where no step was seen.
std::pair<double, double> step_window(const RunData& data);

}  // namespace rigwise::compare_data
