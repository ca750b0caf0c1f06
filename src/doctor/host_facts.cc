// Facts of the host: memory, limits, clock, and the variables that steer a run.
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/files.h"
#include "base/text.h"
#include "doctor/facts.h"
#include "host/kept_file.h"
#include "host/machine.h"
#include "host/proc_text.h"

namespace rigwise::doctor {

namespace fs = std::filesystem;

namespace {

/// The soft limit of a line of /proc/self/limits: "Max open files  1024  524288  files".
std::optional<double> soft_limit(std::string_view text, std::string_view name) {
  Lines lines(text);
  std::string_view line;
  while (lines.next(line)) {
    if (!line.starts_with(name)) continue;
    Fields fields(line.substr(name.size()));
    std::string_view soft;
    if (!fields.next(soft)) return std::nullopt;
    return soft == "unlimited" ? std::optional<double>(INFINITY) : to_number(soft);
  }
  return std::nullopt;
}

/// The size of the file system on /dev/shm: its mount option, so that a recorded tree can say it.
std::optional<double> shared_memory_bytes(const HostRoot& root) {
  const auto text = read_file(root / "proc/self/mountinfo", 4 << 20);
  std::optional<double> size;
  if (text) {
    Lines lines(*text);
    std::string_view line;
    while (lines.next(line)) {
      if (line.find(" /dev/shm ") == std::string_view::npos) continue;
      const auto at = line.rfind("size=");
      if (at == std::string_view::npos) continue;
      std::string_view number = line.substr(at + 5);
      number = number.substr(0, number.find(','));
      double factor = 1;
      if (number.ends_with('k')) factor = 1024;
      if (number.ends_with('m')) factor = 1 << 20;
      if (number.ends_with('g')) factor = 1 << 30;
      if (factor > 1) number.remove_suffix(1);
      if (const auto value = to_number(number)) size = *value * factor;
    }
  }
  if (!size && root.live()) {
    if (const auto space = read_space(root, "/dev/shm")) size = space->fs_total_bytes;
  }
  return size;
}

/// Of a group and those below it.
double inactive_file_bytes(const fs::path& group, bool second) {
  const auto text = read_file(group / "memory.stat", 65536);
  if (!text) return 0;
  Lines lines(*text);
  std::string_view line;
  while (lines.next(line)) {
    Fields fields(line);
    std::string_view name, value;
    if (fields.next(name) && name == (second ? "inactive_file" : "total_inactive_file") &&
        fields.next(value))
      return to_number(value).value_or(0);
  }
  return 0;
}

struct Memory {
  std::optional<double> limit_bytes, used_bytes;
};
/// What the control groups above this process leave, both hierarchies; the kernel writes "max" or
/// a number near 2^63 where there is no limit.
Memory group_memory(const HostRoot& root) {
  Memory least;
  const auto text = read_file(root / "proc/self/cgroup", 65536);
  const auto mounts = read_file(root / "proc/self/mountinfo", 4 << 20);
  if (!text || !mounts) return least;
  std::string v2, v1;
  for (const auto& mount : parse_mountinfo(*mounts)) {
    if (mount.fs_type == "cgroup2" && v2.empty()) v2 = mount.path;
    if (mount.fs_type == "cgroup" && fs::path(mount.path).filename() == "memory") v1 = mount.path;
  }
  Lines lines(*text);
  std::string_view line;
  while (lines.next(line)) {
    const auto parts = split(line, ':');
    if (parts.size() < 3) continue;
    const bool second = parts[0] == "0" && parts[1].empty();
    const std::string& top = second ? v2 : v1;
    if (top.empty() || (!second && parts[1] != "memory")) continue;
    fs::path group =
        fs::path(line.substr(parts[0].size() + parts[1].size() + 2)).lexically_normal();
    for (int depth = 0; depth < 64; ++depth) {
      const auto folder = root / (top + "/" + group.string()).substr(1);
      const auto limit = read_number(folder / (second ? "memory.max" : "memory.limit_in_bytes"));
      auto used = read_number(folder / (second ? "memory.current" : "memory.usage_in_bytes"));
      // what was read from files counts as used until somebody needs the memory
      if (used) *used -= std::min(*used, inactive_file_bytes(folder, second));
      if (limit && *limit < 1e18 && (!least.limit_bytes || *limit < *least.limit_bytes))
        least = {limit, used};
      if (!group.has_relative_path()) break;
      group = group.parent_path();
    }
  }
  return least;
}

void read_memory(const HostRoot& root, HostFacts& facts) {
  if (const auto text = read_file(root / "proc/meminfo", 65536)) {
    const MemoryInfo memory = parse_meminfo(*text);
    facts.mem_total_bytes = memory.total_bytes;
    facts.mem_available_bytes = memory.available_bytes;
    facts.swap_total_bytes = memory.swap_total_bytes;
    facts.swap_free_bytes = memory.swap_free_bytes;
  }
  const Memory group = group_memory(root);
  if (!group.limit_bytes) return;
  if (!facts.mem_total_bytes || *group.limit_bytes < *facts.mem_total_bytes)
    facts.mem_total_bytes = group.limit_bytes;
  if (group.used_bytes) {
    const double left = std::max(0.0, *group.limit_bytes - *group.used_bytes);
    facts.mem_available_bytes = std::min(left, facts.mem_available_bytes.value_or(left));
  }
}

std::vector<std::string> own_environment() {
  std::vector<std::string> list;
  for (char** entry = environ; *entry != nullptr; ++entry) list.emplace_back(*entry);
  return list;
}

}  // namespace

std::map<std::string, std::string> steering_variables(const std::vector<std::string>& environment) {
  static constexpr std::array<std::string_view, 16> kNames = {"CUDA_VISIBLE_DEVICES",
                                                              "HIP_VISIBLE_DEVICES",
                                                              "ROCR_VISIBLE_DEVICES",
                                                              "CUDA_DEVICE_ORDER",
                                                              "GLOO_SOCKET_IFNAME",
                                                              "NCCL_SOCKET_IFNAME",
                                                              "NCCL_P2P_DISABLE",
                                                              "NCCL_IB_DISABLE",
                                                              "MASTER_ADDR",
                                                              "MASTER_PORT",
                                                              "RANK",
                                                              "LOCAL_RANK",
                                                              "WORLD_SIZE",
                                                              "LD_LIBRARY_PATH",
                                                              "VIRTUAL_ENV",
                                                              "CONDA_PREFIX"};
  std::map<std::string, std::string> found;
  for (const auto& entry : environment) {
    const auto equals = entry.find('=');
    if (equals == std::string::npos) continue;
    const std::string_view name = std::string_view(entry).substr(0, equals);
    if (std::find(kNames.begin(), kNames.end(), name) != kNames.end())
      found[std::string(name)] = clean_text(std::string_view(entry).substr(equals + 1), 1024);
  }
  return found;
}

HostFacts read_host(const HostRoot& root) {
  HostFacts facts;
  facts.host = clean_text(read_small(root / "proc/sys/kernel/hostname").value_or(""), 255);
  facts.kernel = clean_text(read_small(root / "proc/sys/kernel/osrelease").value_or(""), 128);
  if (const auto cpu = read_file(root / "proc/cpuinfo", 16 << 20)) {
    Lines lines(*cpu);
    std::string_view line;
    while (!facts.virtual_machine && lines.next(line)) {
      if (line.starts_with("flags"))
        facts.virtual_machine = line.find(" hypervisor") != std::string_view::npos;
    }
  }
  read_memory(root, facts);
  facts.shm_total_bytes = shared_memory_bytes(root);
  if (const auto limits = read_file(root / "proc/self/limits", 65536)) {
    facts.locked_bytes = soft_limit(*limits, "Max locked memory");
    facts.open_files = soft_limit(*limits, "Max open files");
  }
  facts.rdma = !list_folder(root / "sys/class/infiniband", 16).empty();
  if (root.live()) {
    timex clock = {};
    if (::adjtimex(&clock) >= 0) facts.clock_synced = (clock.status & STA_UNSYNC) == 0;
    facts.variables = steering_variables(own_environment());
  } else if (const auto text = read_file(root / "proc/self/environ", 1 << 20)) {
    facts.variables = steering_variables(parse_nul_list(*text, 4096));
  }
  return facts;
}

std::vector<int> listening_ports(const HostRoot& root, const std::vector<int>& wanted) {
  std::vector<int> found;
  for (const char* file : {"proc/net/tcp", "proc/net/tcp6"}) {
    const auto text = read_file(root / file, 16 << 20);
    if (!text) continue;
    Lines lines(*text);
    std::string_view line;
    while (lines.next(line)) {
      // "  0: 0100007F:733C 00000000:0000 0A …": local address, remote address, state (0A: listen)
      Fields fields(line);
      std::string_view local, state;
      if (!fields.skip(1) || !fields.next(local) || !fields.skip(1) || !fields.next(state) ||
          state != "0A")
        continue;
      const auto colon = local.rfind(':');
      if (colon == std::string_view::npos) continue;
      const int port =
          static_cast<int>(std::strtol(std::string(local.substr(colon + 1)).c_str(), nullptr, 16));
      if (std::find(wanted.begin(), wanted.end(), port) != wanted.end() &&
          std::find(found.begin(), found.end(), port) == found.end())
        found.push_back(port);
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace rigwise::doctor
