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

/// A table read with only the columns that are compared, each row with its line in the file.
template <class T>
struct Table {
  std::vector<T> rows = {};
  std::vector<std::int64_t> lines = {};
  std::string file = {};
};

struct HostData {
  std::string host = {};
  Table<HostSample> samples = {};
  Table<GpuSample> gpu = {};
  std::optional<Rig> rig = {};
  std::optional<Environment> environment = {};
};

struct RunData {
  const Run* run = nullptr;
  std::string label = {};  // the run's id: what evidence calls it
  Rows<StepRecord> steps = {};
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

template <class T>
Evidence rows_evidence(const RunData& data, const Table<T>& table, std::size_t first,
                       std::size_t last, std::string what) {
  Evidence evidence{.run = data.label, .file = table.file, .what = std::move(what)};
  if (last < table.lines.size()) {
    evidence.first_row = table.lines[first];
    evidence.last_row = table.lines[last];
  }
  return evidence;
}

/// Positions [first, last) of rows with t_s inside [from, to]; rows are in order of time.
template <class T>
std::pair<std::size_t, std::size_t> rows_between(const std::vector<T>& rows, double from,
                                                 double to) {
  std::size_t first = 0;
  while (first < rows.size() && rows[first].t_s < from) ++first;
  std::size_t last = rows.size();
  while (last > first && rows[last - 1].t_s > to) --last;
  return {first, last};
}

/// The stretch in which steps ran; the whole run where no step was seen.
std::pair<double, double> step_window(const RunData& data);

}  // namespace rigwise::compare_data
