#include "host/machine.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"

namespace rigwise {

namespace fs = std::filesystem;

MachineReader::MachineReader(const HostRoot& root)
    : root_(root),
      stat_((root / "proc/stat").string()),
      meminfo_((root / "proc/meminfo").string()),
      loadavg_((root / "proc/loadavg").string()),
      psi_cpu_((root / "proc/pressure/cpu").string()),
      psi_io_((root / "proc/pressure/io").string()),
      psi_memory_((root / "proc/pressure/memory").string()),
      diskstats_((root / "proc/diskstats").string()),
      net_dev_((root / "proc/net/dev").string()),
      ticks_per_s_(static_cast<double>(std::max(1L, ::sysconf(_SC_CLK_TCK)))) {}

void MachineReader::read(HostSample& host, std::optional<double>& process_s) {
  process_s.reset();
  if (const auto text = stat_.read(buffer_)) {
    if (const auto times = parse_cpu_times(*text, ticks_per_s_)) {
      host.cpu_busy_s = times->busy_s;
      host.cpu_iowait_s = times->iowait_s;
      host.cpu_steal_s = times->steal_s;
      process_s = times->process_s;
    }
  }
  if (const auto text = meminfo_.read(buffer_)) {
    const MemoryInfo memory = parse_meminfo(*text);
    host.mem_total_bytes = memory.total_bytes;
    host.mem_available_bytes = memory.available_bytes;
    host.dirty_bytes = memory.dirty_bytes;
    host.writeback_bytes = memory.writeback_bytes;
    if (memory.swap_total_bytes && memory.swap_free_bytes)
      host.swap_used_bytes = *memory.swap_total_bytes - *memory.swap_free_bytes;
  }
  if (const auto text = loadavg_.read(buffer_)) host.load1 = parse_loadavg(*text).load1;
  if (const auto text = psi_cpu_.read(buffer_)) host.psi_cpu_some_s = parse_pressure(*text).some_s;
  if (const auto text = psi_io_.read(buffer_)) {
    const Pressure io = parse_pressure(*text);
    host.psi_io_some_s = io.some_s;
    host.psi_io_full_s = io.full_s;
  }
  if (const auto text = psi_memory_.read(buffer_)) {
    const Pressure memory = parse_pressure(*text);
    host.psi_mem_some_s = memory.some_s;
    host.psi_mem_full_s = memory.full_s;
  }
}

std::vector<std::string> physical_disks(const HostRoot& root) {
  std::vector<std::string> with_device, others;
  static constexpr std::array<std::string_view, 7> kNotDisks = {"loop", "ram", "zram", "dm-",
                                                                "md",   "sr",  "fd"};
  for (const auto& name : list_folder(root / "sys/block")) {
    const bool skipped = std::any_of(kNotDisks.begin(), kNotDisks.end(),
                                     [&](auto prefix) { return name.starts_with(prefix); });
    if (skipped) continue;
    std::error_code error;
    const bool has_device = fs::exists(root / "sys/block" / name / "device", error);
    (has_device ? with_device : others).push_back(name);
  }
  return with_device.empty() ? others : with_device;
}

void MachineReader::read_disks(double t_s, bool slow, std::vector<DiskSample>& into) {
  if (slow || disks_.empty()) {
    disks_.clear();
    for (auto& name : physical_disks(root_)) disks_.insert(std::move(name));
  }
  const auto text = diskstats_.read(buffer_);
  if (!text) return;
  parse_diskstats(*text, disk_rows_);
  for (const auto& row : disk_rows_) {
    if (!disks_.contains(row.name) || row.reads + row.writes == 0) continue;
    DiskSample disk;
    disk.t_s = t_s;
    disk.device = std::string(row.name);
    disk.reads = row.reads;
    disk.read_bytes = row.read_bytes;
    disk.read_time_s = row.read_time_s;
    disk.writes = row.writes;
    disk.write_bytes = row.write_bytes;
    disk.write_time_s = row.write_time_s;
    disk.queue_depth = row.in_flight;
    disk.busy_s = row.busy_s;
    into.push_back(std::move(disk));
  }
}

void MachineReader::read_nets(double t_s, std::vector<NetSample>& into) {
  const auto text = net_dev_.read(buffer_);
  if (!text) return;
  parse_net_dev(*text, net_rows_);
  for (const auto& row : net_rows_) {
    if (row.rx_bytes + row.tx_bytes == 0) continue;
    NetSample net;
    net.t_s = t_s;
    net.interface = clean_text(row.name, 64);
    net.rx_bytes = row.rx_bytes;
    net.tx_bytes = row.tx_bytes;
    net.rx_drops = row.rx_drops;
    net.tx_drops = row.tx_drops;
    net.rx_errors = row.rx_errors;
    net.tx_errors = row.tx_errors;
    into.push_back(std::move(net));
  }
}

SensorReader::SensorReader(const HostRoot& root) : root_(root) {
  discover();
}

void SensorReader::discover() {
  cpu_temps_.clear();
  static constexpr std::array<std::string_view, 5> kCpuDrivers = {"coretemp", "k10temp", "zenpower",
                                                                  "cpu_thermal", "k8temp"};
  const auto hwmon = root_ / "sys/class/hwmon";
  for (const auto& folder : list_folder(hwmon, 256)) {
    const auto name = read_small(hwmon / folder / "name");
    if (!name || std::find(kCpuDrivers.begin(), kCpuDrivers.end(), *name) == kCpuDrivers.end())
      continue;
    for (const auto& file : list_folder(hwmon / folder)) {
      if (!file.starts_with("temp") || !file.ends_with("_input") || cpu_temps_.size() >= 256)
        continue;
      // k10temp's Tctl has an offset on some parts (fan control); Tdie and Tccd are the silicon's.
      const auto label = read_small(hwmon / folder / (file.substr(0, file.size() - 5) + "label"));
      std::error_code error;
      if (label && *label == "Tctl" && fs::exists(hwmon / folder / "temp2_input", error)) continue;
      cpu_temps_.emplace_back((hwmon / folder / file).string());
    }
  }
  if (cpu_temps_.empty()) {
    const auto zones = root_ / "sys/class/thermal";
    for (const auto& zone : list_folder(zones, 256)) {
      const auto type = read_small(zones / zone / "type");
      if (type && (*type == "x86_pkg_temp" || *type == "cpu-thermal" || *type == "cpu_thermal"))
        cpu_temps_.emplace_back((zones / zone / "temp").string());
    }
  }
  if (!packages_.empty()) return;  // their wraps are counted: never start anew
  const auto powercap = root_ / "sys/class/powercap";
  for (const auto& zone : list_folder(powercap, 256)) {
    // "intel-rapl:0" is a package (AMD too), "intel-rapl:0:0" a part of it.
    if (!zone.starts_with("intel-rapl:") || std::count(zone.begin(), zone.end(), ':') != 1)
      continue;
    const auto name = read_small(powercap / zone / "name");
    if (!name || !name->starts_with("package")) continue;
    Package package;
    package.energy = KeptFile((powercap / zone / "energy_uj").string());
    package.range_j = read_number(powercap / zone / "max_energy_range_uj", 1e-6).value_or(0);
    if (package.energy.read(buffer_)) packages_.push_back(std::move(package));  // often root only
  }
}

SensorReading SensorReader::read(bool slow) {
  SensorReading reading;
  if (slow && !has_any()) discover();
  for (auto& file : cpu_temps_) {
    const auto text = file.read(buffer_);
    const auto value = text ? to_number(trim(*text)) : std::nullopt;
    if (!value) continue;
    const double temp_c = *value * 1e-3;
    if (temp_c < -50 || temp_c > 200) continue;  // a sensor that is not wired
    reading.temp_cpu_c = std::max(reading.temp_cpu_c.value_or(temp_c), temp_c);
  }
  bool whole = !packages_.empty();
  double energy_j = 0;
  for (auto& package : packages_) {
    const auto text = package.energy.read(buffer_);
    const auto value = text ? to_number(trim(*text)) : std::nullopt;
    if (!value) {
      whole = false;
      continue;
    }
    const double now_j = *value * 1e-6;
    if (package.last_j >= 0 && now_j < package.last_j) package.wrapped_j += package.range_j;
    package.last_j = now_j;
    energy_j += now_j + package.wrapped_j;
  }
  if (whole) reading.package_energy_j = energy_j;
  if (slow) {
    const auto net = root_ / "sys/class/net";
    for (const auto& name : list_folder(net, 256)) {
      // Megabits per second; -1 or an error where the link is down or has no speed.
      const auto speed = read_number(net / name / "speed", 1e6 / 8);
      if (speed && *speed > 0) reading.link_bytes_per_s.emplace_back(name, *speed);
    }
  }
  return reading;
}

std::optional<DiskSample> read_space(const HostRoot& root, const fs::path& path) {
  // The nearest folder that is there: an output directory may not have been made yet.
  fs::path asked = path;
  struct statvfs space = {};
  while (::statvfs(asked.c_str(), &space) != 0) {
    if (!asked.has_parent_path() || asked == asked.parent_path()) return std::nullopt;
    asked = asked.parent_path();
  }
  std::array<char, PATH_MAX> real = {};
  const std::string resolved =
      ::realpath(asked.c_str(), real.data()) != nullptr ? real.data() : asked.string();
  DiskSample disk;
  const auto text = read_file(root / "proc/self/mountinfo", 4 << 20);
  const auto mounts = text ? parse_mountinfo(*text) : std::vector<MountEntry>();
  const MountEntry* mount = mount_of(mounts, resolved);
  disk.device = clean_text(mount != nullptr ? mount->path : resolved, 1024);
  const double block = static_cast<double>(space.f_frsize);
  disk.fs_total_bytes = static_cast<double>(space.f_blocks) * block;
  disk.fs_free_bytes = static_cast<double>(space.f_bavail) * block;
  if (space.f_files > 0) disk.fs_free_inodes = static_cast<double>(space.f_favail);
  return disk;
}

}  // namespace rigwise
