// Parsers of /proc text: pure, bounded, no allocation where a tick needs them. Text is untrusted: a
// field that is not there or does not parse is absent, never 0, and nothing throws.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rigwise {

/// The first line of /proc/stat, in seconds over all CPUs since boot.
struct CpuTimes {
  double busy_s = 0;     // user, nice, system, irq, softirq (guest is part of user)
  double process_s = 0;  // user, nice, system: what processes and kernel threads took
  double iowait_s = 0;
  double steal_s = 0;
};
std::optional<CpuTimes> parse_cpu_times(std::string_view text, double ticks_per_s);

struct MemoryInfo {
  std::optional<double> total_bytes, available_bytes, swap_total_bytes, swap_free_bytes,
      dirty_bytes, writeback_bytes;
};
MemoryInfo parse_meminfo(std::string_view text);

struct LoadAverage {
  std::optional<double> load1;
  std::optional<std::int64_t> last_pid;  // changes whenever a task was created anywhere
};
LoadAverage parse_loadavg(std::string_view text);

/// Cumulative stall seconds (`total`, microseconds) of one /proc/pressure file.
struct Pressure {
  std::optional<double> some_s, full_s;
};
Pressure parse_pressure(std::string_view text);

/// One line of /proc/diskstats (Documentation/admin-guide/iostats.rst): sectors of 512 bytes, times
/// in ms.
struct DiskCounters {
  std::string_view name;
  double reads = 0, read_bytes = 0, read_time_s = 0;
  double writes = 0, write_bytes = 0, write_time_s = 0;
  double in_flight = 0, busy_s = 0;
};
void parse_diskstats(std::string_view text, std::vector<DiskCounters>& into);

struct NetCounters {
  std::string_view name;
  double rx_bytes = 0, rx_errors = 0, rx_drops = 0;
  double tx_bytes = 0, tx_errors = 0, tx_drops = 0;
};
void parse_net_dev(std::string_view text, std::vector<NetCounters>& into);

/// /proc/PID/stat or /proc/PID/task/TID/stat (proc_pid_stat(5)). `comm` may hold blanks and
/// parentheses.
struct PidStat {
  int pid = 0, ppid = 0, session = 0, threads = 0;
  std::string_view comm;
  char state = '?';
  double cpu_s = 0;               // user and system of the process itself, ended threads included
  double children_cpu_s = 0;      // of children that were waited for, and theirs
  std::uint64_t start_ticks = 0;  // since boot: tells a reused pid
  double rss_pages = 0;
  std::uint64_t exec_mark = 0;  // changes at exec (addresses of code and stack); 0 where hidden
};
std::optional<PidStat> parse_pid_stat(std::string_view text, double ticks_per_s);

struct SchedStat {
  double run_s = 0, delay_s = 0;
};
std::optional<SchedStat> parse_schedstat(std::string_view text);

struct PidIo {
  std::optional<double> read_bytes, write_bytes;  // at the block layer
  std::optional<double> written_bytes;            // by its calls, to anything
};
PidIo parse_pid_io(std::string_view text);

/// The pids of one process in each pid namespace, outermost that the reader sees first (`NSpid`).
std::vector<int> parse_ns_pids(std::string_view status_text);

/// NUL-separated strings of cmdline and environ; at most `max_items`.
std::vector<std::string> parse_nul_list(std::string_view text, std::size_t max_items);

struct MountEntry {
  std::string path, fs_type, device;
};
/// /proc/self/mountinfo, with \040 and its like undone.
std::vector<MountEntry> parse_mountinfo(std::string_view text);
/// The mount that holds `path` (absolute, normalised); the last mounted of equals wins.
const MountEntry* mount_of(const std::vector<MountEntry>& mounts, std::string_view path);
bool is_network_fs(std::string_view fs_type);

/// "0-3,8" → 5. Nothing when it does not parse.
std::optional<int> count_cpu_list(std::string_view text);

/// Every line of `text` without its newline; for loops that need no allocation.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  bool next(std::string_view& line);

 private:
  std::string_view rest_;
};

/// Blank-separated fields of one line.
class Fields {
 public:
  explicit Fields(std::string_view text) : rest_(text) {}
  bool next(std::string_view& field);
  bool number(double& value);  // false at the end or where the field is no number
  bool skip(int count);

 private:
  std::string_view rest_;
};

}  // namespace rigwise
