// Captured: what people save by hand beside a run (nvidia-smi, df, iostat, ping, iperf3, accelerate
// env …) → the same values that a recorded run has. Pure functions over text.
//
// One file may hold several outputs after each other, with prompts between them: each begins at a
// line that only this tool prints, and ends where the next begins. Forms are told by content; the
// file's name only helps where the content fits several.
//
// Text is untrusted: bounded rows, bounded texts, nothing throws; what a tool prints for "does not
// say" ([N/A], -, Unknown Error) is absent. Units are those of run.h, whatever the tool prints.
// Sizes that a tool rounded ("12G") are taken as they stand.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

/// A row and the instant that the text states for it. Unix seconds; a stamp without a zone is the
/// local time of the machine that reads it (`Captured::local_time`). t_s of the row is unset (0).
template <class T>
struct Timed {
  T row = {};
  std::optional<double> unix_s = {};
};

/// One reading of the host. Shares are of all CPUs' time since the reading before; counters in
/// `row` are not set.
struct CapturedHost {
  HostSample row = {};
  std::optional<double> busy_frac = {}, iowait_frac = {}, steal_frac = {};
};

struct Captured {
  std::vector<std::string> kinds = {};  // "nvidia-smi csv", "df", …; empty: not known
  std::string host = {};                // the machine's name, where the text states it
  std::vector<Timed<GpuSample>> gpus = {};
  bool gpus_numbered = true;  // false: the numbers are the order in which GPUs appeared
  /// Readings whose instants are stated. Counters of disks and networks count from the first one.
  std::vector<Timed<CapturedHost>> hosts = {};
  std::vector<Timed<DiskSample>> disks = {};
  std::vector<Timed<NetSample>> nets = {};
  std::vector<Timed<Observation>> observations = {};  // source is not set
  Rig rig = {};                                       // gpus, disks, mounts, CPU, memory
  Environment environment = {};                       // versions and facts
  bool local_time = false;  // instants are stated without a zone: taken as local time
  /// Lines that are not blank: matched = used, skipped = of a known form but said nothing,
  /// malformed = looked like the form and do not parse.
  ReadStatistics reading = {};
  std::vector<std::string> notes = {};  // what a person should know, in words
};

/// Commands that are known from elsewhere (a README or script beside the file): the columns of
/// `nvidia-smi --query-gpu=… --format=csv,noheader` stand nowhere else.
struct CaptureHints {
  std::vector<std::string> commands = {};
};

/// At most 64 MiB are read, the rest is said in `notes`; at most 1,000,000 rows.
Captured read_captured(std::string_view file_name, std::string_view text,
                       const CaptureHints& hints = {});

/// The forms that read_captured knows, for messages: "nvidia-smi, rocm-smi, df, …".
std::string captured_forms();

}  // namespace rigwise
