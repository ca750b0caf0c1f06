// Rig: what the machine is. Read once; everything that may hang (GPU drivers, network mounts) has a
// thread and a limit of its own, and what did not answer is named in `missing`.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/text.h"
#include "host/gpu_sources.h"
#include "host/kept_file.h"
#include "host/machine.h"
#include "host/proc_text.h"
#include "host/worker.h"
#include "rigwise/host.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {
using Clock = std::chrono::steady_clock;
// Without persistence mode an NVIDIA driver takes some seconds a GPU to wake up.
constexpr std::chrono::seconds kGpuLimit{15};
constexpr std::chrono::milliseconds kMountLimit{500};

void read_cpus(const HostRoot& root, Rig& rig) {
  if (const auto text = read_file(root / "proc/cpuinfo", 16 << 20)) {
    Lines lines(*text);
    std::string_view line;
    while (rig.cpu_model.empty() && lines.next(line)) {
      // "model name" on x86, "Model" or "Hardware" on some ARM boards.
      const auto colon = line.find(':');
      if (colon == std::string_view::npos) continue;
      const auto key = trim(line.substr(0, colon));
      if (key == "model name" || key == "Model" || key == "cpu model")
        rig.cpu_model = clean_text(trim(line.substr(colon + 1)), 128);
    }
  }
  const auto cpus = root / "sys/devices/system/cpu";
  std::set<double> sockets;
  std::set<std::pair<double, std::string>> cores;
  int threads = 0;
  for (const auto& name : list_folder(cpus, 65536)) {
    if (!name.starts_with("cpu") || name.size() < 4 ||
        !std::all_of(name.begin() + 3, name.end(), is_digit))
      continue;
    const auto online = read_number(cpus / name / "online");  // cpu0 has no such file
    if (online && *online == 0) continue;
    ++threads;
    const auto socket = read_number(cpus / name / "topology/physical_package_id");
    const auto die = read_small(cpus / name / "topology/die_id").value_or("");
    const auto core = read_small(cpus / name / "topology/core_id");
    if (socket) sockets.insert(*socket);
    if (socket && core) cores.insert({*socket, die + ":" + *core});
  }
  if (threads > 0) rig.threads = threads;
  if (!sockets.empty()) rig.sockets = static_cast<int>(sockets.size());
  if (!cores.empty()) rig.cores = static_cast<int>(cores.size());
  if (const auto nodes = read_small(root / "sys/devices/system/node/online"))
    rig.numa_nodes = count_cpu_list(*nodes);
  if (rig.cpu_model.empty()) rig.missing.push_back("cpu model: /proc/cpuinfo does not say");
}

/// The tightest CPU quota of the cgroups above this process, in CPUs.
std::optional<double> cgroup_quota(const HostRoot& root) {
  std::optional<double> least;
  const auto take = [&](double cpus) { least = std::min(least.value_or(cpus), cpus); };
  const auto text = read_file(root / "proc/self/cgroup", 65536);
  const auto mounts_text = read_file(root / "proc/self/mountinfo", 4 << 20);
  if (!text || !mounts_text) return least;
  std::string v2_root, v1_root;
  for (const auto& mount : parse_mountinfo(*mounts_text)) {
    if (mount.fs_type == "cgroup2" && v2_root.empty()) v2_root = mount.path;
    const std::string last = fs::path(mount.path).filename();
    if (mount.fs_type == "cgroup" &&
        (last == "cpu" || last == "cpu,cpuacct" || last == "cpuacct,cpu"))
      v1_root = mount.path;
  }
  Lines lines(*text);
  std::string_view line;
  while (lines.next(line)) {
    const auto parts = split(line, ':');
    if (parts.size() < 3) continue;
    const bool v2 = parts[0] == "0" && parts[1].empty();
    const auto controllers = split(parts[1], ',');
    const bool v1 = std::find(controllers.begin(), controllers.end(), "cpu") != controllers.end();
    const std::string& top = v2 ? v2_root : v1_root;
    if ((!v2 && !v1) || top.empty()) continue;
    fs::path group =
        fs::path(line.substr(parts[0].size() + parts[1].size() + 2)).lexically_normal();
    for (int depth = 0; depth < 64; ++depth) {
      const auto folder = root / (top + "/" + group.string()).substr(1);
      if (v2) {
        const auto limit = read_small(folder / "cpu.max");  // "150000 100000" or "max 100000"
        double quota = 0, period = 0;
        Fields fields(limit ? std::string_view(*limit) : std::string_view());
        if (fields.number(quota) && fields.number(period) && period > 0) take(quota / period);
      } else {
        const auto quota = read_number(folder / "cpu.cfs_quota_us");
        const auto period = read_number(folder / "cpu.cfs_period_us");
        if (quota && period && *quota > 0 && *period > 0) take(*quota / *period);
      }
      if (!group.has_relative_path()) break;
      group = group.parent_path();
    }
  }
  return least;
}

std::optional<int> allowed_cpus(const HostRoot& root) {
  std::optional<int> count;
  if (root.live()) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
  }
  if (!count) {
    if (const auto text = read_file(root / "proc/self/status", 65536)) {
      Lines lines(*text);
      std::string_view line;
      while (lines.next(line)) {
        if (line.starts_with("Cpus_allowed_list:")) count = count_cpu_list(line.substr(18));
      }
    }
  }
  if (const auto quota = cgroup_quota(root)) {
    const int whole = std::max(1, static_cast<int>(std::floor(*quota + 1e-9)));
    count = std::min(count.value_or(whole), whole);
  }
  return count;
}

void read_disks(const HostRoot& root, Rig& rig) {
  for (const auto& name : physical_disks(root)) {
    const auto folder = root / "sys/block" / name;
    Disk disk;
    disk.device = name;
    disk.model = clean_text(read_small(folder / "device/model").value_or(""), 128);
    disk.rotational = read_number(folder / "queue/rotational").value_or(0) != 0;
    disk.size_bytes = read_number(folder / "size", 512);
    if (disk.size_bytes && *disk.size_bytes == 0) continue;  // an empty card reader
    rig.disks.push_back(std::move(disk));
  }
}

void read_nics(const HostRoot& root, Rig& rig) {
  const auto net = root / "sys/class/net";
  std::vector<Nic> physical, others;
  std::error_code error;
  for (const auto& name : list_folder(net, 512)) {
    if (name == "lo") continue;
    Nic nic;
    nic.interface = clean_text(name, 64);
    nic.driver = fs::read_symlink(net / name / "device/driver", error).filename().string();
    const auto speed = read_number(net / name / "speed", 1e6 / 8);
    if (speed && *speed > 0) nic.link_bytes_per_s = *speed;
    if (fs::exists(net / name / "device", error))
      physical.push_back(std::move(nic));
    else if (read_small(net / name / "operstate").value_or("") == "up")
      others.push_back(std::move(nic));  // a container's only link is one end of a pair
  }
  rig.nics = physical.empty() ? std::move(others) : std::move(physical);
}

/// The mount of one touched path. Resolving and asking it may hang.
std::optional<Mount> mount_at(const HostRoot& root, const fs::path& path) {
  const auto space = read_space(root, path);
  if (!space) return std::nullopt;
  Mount mount;
  mount.path = space->device;
  mount.total_bytes = space->fs_total_bytes;
  mount.free_bytes = space->fs_free_bytes;
  return mount;
}

void read_mounts(const HostRoot& root, const std::vector<fs::path>& touched, Rig& rig) {
  const auto text = read_file(root / "proc/self/mountinfo", 4 << 20);
  const auto mounts = text ? parse_mountinfo(*text) : std::vector<MountEntry>();
  if (!text) rig.missing.push_back("mounts: /proc/self/mountinfo cannot be read");
  std::set<std::string> have;
  std::set<std::string> asked;
  for (const auto& path : touched) {
    std::error_code error;
    const std::string absolute = fs::absolute(path, error).lexically_normal().string();
    if (error || asked.size() >= 16 || !asked.insert(absolute).second) continue;
    Worker<int, std::optional<Mount>> worker(
        "mount", [root, absolute](const int&) { return mount_at(root, absolute); });
    worker.post(0);
    auto answer = worker.wait(Clock::now() + kMountLimit);
    Mount mount;
    if (answer && *answer) {
      mount = std::move(**answer);
    } else {
      // By the path's words alone: a link into another file system goes unseen.
      const MountEntry* entry = mount_of(mounts, absolute);
      if (entry == nullptr) continue;
      mount.path = clean_text(entry->path, 1024);
      rig.missing.push_back("free space of " + mount.path +
                            (answer ? ": cannot be asked" : ": no answer within 500 ms"));
    }
    const MountEntry* entry = mount_of(mounts, mount.path);
    if (entry != nullptr) {
      mount.device = clean_text(entry->device, 256);
      mount.fs_type = clean_text(entry->fs_type, 64);
      mount.network = is_network_fs(entry->fs_type);
    }
    if (have.insert(mount.path).second) rig.mounts.push_back(std::move(mount));
  }
}

struct GpuAnswer {
  std::vector<GpuDevice> devices;
  std::vector<std::string> why_not;
};

void read_gpus(const HostRoot& root, Rig& rig) {
  Worker<int, GpuAnswer> worker("gpu", [root](const int&) {
    GpuAnswer answer;
    for (const auto& source : open_gpu_sources(root, &answer.why_not)) {
      for (auto& device : source->devices()) answer.devices.push_back(std::move(device));
    }
    return answer;
  });
  worker.post(0);
  auto answer = worker.wait(Clock::now() + kGpuLimit);
  if (!answer) {
    rig.missing.push_back("gpus: no answer of the driver within 15 s");
    return;
  }
  rig.gpus = std::move(answer->devices);
  if (!rig.gpus.empty()) return;
  for (auto& why : answer->why_not) rig.missing.push_back("gpus: " + why);
}
}  // namespace

Rig read_rig_of(const HostRoot& root, const std::vector<fs::path>& touched) {
  Rig rig;
  if (root.live()) {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) == 0) rig.host = clean_text(name, 255);
  } else {
    rig.host = clean_text(read_small(root / "proc/sys/kernel/hostname").value_or(""), 255);
  }
  read_cpus(root, rig);
  rig.cpus_allowed = allowed_cpus(root);
  if (const auto text = read_file(root / "proc/meminfo", 65536))
    rig.mem_bytes = parse_meminfo(*text).total_bytes;
  read_disks(root, rig);
  read_nics(root, rig);
  read_mounts(root, touched, rig);
  read_gpus(root, rig);
  return rig;
}

}  // namespace rigwise
