// Parts of an import: what one file gives, before it is put on the run's clock. Private to
// src/record/import*.cc.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/captured.h"
#include "rigwise/import.h"
#include "rigwise/logs.h"
#include "rigwise/logs_stores.h"
#include "rigwise/run.h"

namespace rigwise::importing {

/// A receive time for the log's index: after so many bytes.
struct Mark {
  std::int64_t offset_bytes = 0;
  double unix_s = 0;
};

/// Rows of one log or store. While `timed`, their t_s are unix seconds; else they say nothing.
struct Training {
  std::vector<StepRecord> steps = {};
  std::vector<Event> events = {};
  std::vector<Fact> facts = {};
  ReadStatistics reading = {};
  bool timed = false, local_time = false, guessed_date = false;
  std::optional<double> first_unix_s = {}, last_unix_s = {};
  std::vector<Mark> marks = {};
  bool ended = false;  // it says that training ended
  std::vector<std::string> notes = {};
};

/// One file on its way.
struct Source {
  std::filesystem::path path = {};
  ImportedFile file = {};
  bool is_log = false, is_store = false;
  bool copied = true;  // else only named
  Training training = {};
  Captured captured = {};
  std::vector<Fact> facts = {};           // of stores' settings and configuration files
  std::vector<std::string> command = {};  // argv of a script or a tracker
  std::string host = {}, git_commit = {}, tracker_name = {};
  std::vector<std::pair<std::string, std::string>> versions = {};
  std::optional<double> begin_unix_s = {}, end_unix_s = {};
  std::optional<bool> ended_well = {};
  std::string digest = {};
};

struct Walked {
  std::vector<Source> sources = {};
  std::vector<std::string> left_out = {};
};

/// Files below the paths, in order; neither links nor run directories nor `root` are entered.
/// Errors: not_found, io.
Result<Walked> walk(const ImportOptions& options);

/// Reads a log. Instants are the stamps that its lines carry; `log_file` becomes that of its rows.
/// `start_unix_s` gives a date to stamps without one.
Training read_log(const std::filesystem::path& path, const std::string& log_file,
                  std::optional<double> start_unix_s);
/// The same from memory.
Training read_log_text(std::string_view text, const std::string& log_file,
                       std::optional<double> start_unix_s, std::optional<double> written_unix_s);

/// Reads a store's entries as the log reader reads JSON lines.
Training read_entries(const MetricStore& store, const std::string& log_file);

/// Reads every source, the stores of several files too, and says what each became.
void read_sources(Walked& walked, const ImportOptions& options);

/// Every training entry comes from one source: the first in the order timed log, timed store,
/// untimed log, untimed store, then the one with more entries. The others keep what they alone say.
void choose_training(std::vector<Source>& sources);

struct Clock {
  std::optional<double> zero_unix_s = {};
  bool training_timed = false;  // training evidence is on it
  double wall_s = 0;
  bool wall_known = false;
  bool local_time = false;
  std::string words = {};
};

/// A day that was taken from a file's own time must fit what others state, or its times are
/// dropped.
void doubt_guessed_days(std::vector<Source>& sources);
/// t_s = 0 and the wall time: as trackers state it, or from first to last instant, but no less than
/// the trainer's own runtime; else a bar's clock; else that of the GPU samples.
Clock clock_of(const std::vector<Source>& sources, const ImportOptions& options);
/// Names the log files of the run: out.log the one that tells most, err.log one called so.
std::map<const Source*, std::string> log_names(const std::vector<Source>& sources);

/// Sources that name no host and whose GPUs contradict each other get hosts after their folders or
/// files.
void tell_hosts_apart(std::vector<Source>& sources);

/// Text with UTF-16's byte order mark, as PowerShell redirects it; as UTF-8.
bool is_utf16(std::string_view head);
std::string utf8_of_utf16(std::string_view bytes);

/// What a tracker measured of the machine becomes readings of `source`.
void take_system(const MetricStore& store, Source& source);

/// Readings of all sources on the run's clock, for the watch tables.
class Samples {
 public:
  /// `threads` of the host: shares of its CPUs become seconds by it; without it they stay out.
  /// Counts what it took in the source's file, and notes what lies outside the run. Counters of one
  /// device come from one source: the first that is given.
  void take(Source& source, const std::string& host, std::optional<int> threads,
            const Clock& clock);
  void write(RunWriter& writer);
  [[nodiscard]] bool any_gpu() const { return !gpus_.empty(); }
  [[nodiscard]] bool any_host() const {
    return !hosts_.empty() || !disks_.empty() || !nets_.empty();
  }

 private:
  bool owns(const std::string& what, const Source& source);
  template <class T>
  using Placed = std::vector<std::pair<std::string, T>>;
  Placed<GpuSample> gpus_;
  Placed<HostSample> hosts_;
  Placed<DiskSample> disks_;
  Placed<NetSample> nets_;
  std::map<std::string, const Source*> owners_;  // "rig/disk/nvme0n1" → whose counters count
};

/// A launch command in a script or a text: "torchrun --nproc_per_node 2 train.py …" → argv.
std::vector<std::string> command_in(std::string_view text);

}  // namespace rigwise::importing
