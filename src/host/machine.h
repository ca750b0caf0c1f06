// What the whole machine does: /proc counters (kept open), sensors under /sys, free space.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "host/kept_file.h"
#include "host/proc_text.h"
#include "rigwise/host.h"
#include "rigwise/run.h"

namespace rigwise {

/// /proc/stat, meminfo, loadavg, pressure, diskstats and net/dev. None of these can hang, so they
/// are read on the caller's thread.
class MachineReader {
 public:
  explicit MachineReader(const HostRoot& root);
  /// Fills the machine's columns of `host`; `process_s` is the CPU that processes took since boot.
  void read(HostSample& host, std::optional<double>& process_s);
  /// Whole disks that have ever done I/O; no partitions, loop, ram or mapped devices.
  void read_disks(double t_s, bool slow, std::vector<DiskSample>& into);
  /// Interfaces that have ever moved a byte, `lo` too (local ranks talk over it).
  void read_nets(double t_s, std::vector<NetSample>& into);

 private:
  HostRoot root_;
  ReadBuffer buffer_;
  KeptFile stat_, meminfo_, loadavg_, psi_cpu_, psi_io_, psi_memory_, diskstats_, net_dev_;
  std::set<std::string, std::less<>> disks_;
  std::vector<DiskCounters> disk_rows_;
  std::vector<NetCounters> net_rows_;
  double ticks_per_s_;
};

/// Names under /sys/block that are whole, physical disks.
std::vector<std::string> physical_disks(const HostRoot& root);

struct SensorReading {
  std::optional<double> temp_cpu_c, package_energy_j;
  std::vector<std::pair<std::string, double>> link_bytes_per_s;  // by interface (slow tier)
};

/// hwmon, RAPL and link speeds: files of drivers, which may hang, so this belongs on a worker.
class SensorReader {
 public:
  explicit SensorReader(const HostRoot& root);
  SensorReading read(bool slow);
  [[nodiscard]] bool has_any() const { return !cpu_temps_.empty() || !packages_.empty(); }

 private:
  struct Package {
    KeptFile energy;
    double range_j = 0, last_j = -1, wrapped_j = 0;
  };
  void discover();
  HostRoot root_;
  ReadBuffer buffer_;
  std::vector<KeptFile> cpu_temps_;
  std::vector<Package> packages_;
};

/// Capacity of the file system that holds `path`, by statvfs; `device` is its mount point. May hang
/// on a stale network mount. Nothing when the path cannot be asked.
std::optional<DiskSample> read_space(const HostRoot& root, const std::filesystem::path& path);

}  // namespace rigwise
