#include "host/gpu_processes.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <set>

#include "base/files.h"
#include "base/text.h"
#include "host/kept_file.h"
#include "host/proc_text.h"

namespace rigwise {

namespace {

bool in_first_pid_namespace(const HostRoot& root) {
  struct stat status = {};
  static constexpr ino_t kFirst = 0xEFFFFFFC;  // PROC_PID_INIT_INO of the kernel
  return ::stat((root / "proc/self/ns/pid").c_str(), &status) == 0 && status.st_ino == kFirst;
}

/// "location_id 768" of a node's properties.
std::optional<std::int64_t> property(std::string_view text, std::string_view name) {
  Lines lines(text);
  std::string_view line;
  while (lines.next(line)) {
    if (line.starts_with(name) && line.substr(name.size()).starts_with(' '))
      return to_integer(trim(line.substr(name.size())));
  }
  return std::nullopt;
}

}  // namespace

void assign_processes(const HostRoot& root, const std::vector<int>& tree,
                      const GpuProcessLists& lists, std::vector<GpuSample>& samples) {
  std::set<int> ours(tree.begin(), tree.end());
  for (const int pid : tree) {
    if (const auto text = read_file(root / "proc" / std::to_string(pid) / "status", 65536)) {
      for (const int inner : parse_ns_pids(*text)) ours.insert(inner);
    }
  }
  bool match = false, all_known = in_first_pid_namespace(root);
  std::error_code error;
  for (const auto& list : lists) {
    if (!list) continue;
    for (const auto& process : *list) {
      match = match || ours.contains(process.pid);
      if (all_known && !match)
        all_known = std::filesystem::exists(root / "proc" / std::to_string(process.pid), error);
    }
  }
  if (!match && !all_known) return;
  for (std::size_t i = 0; i < samples.size() && i < lists.size(); ++i) {
    if (!lists[i]) continue;
    double mine = 0, others = 0;
    std::optional<double> used = 0;
    for (const auto& process : *lists[i]) {
      if (!ours.contains(process.pid)) {
        others += 1;
        continue;
      }
      mine += 1;
      if (!process.used_bytes)
        used.reset();
      else if (used)
        used = *used + *process.used_bytes;
    }
    samples[i].tree_processes = mine;
    samples[i].other_processes = others;
    samples[i].tree_used_bytes = used;
  }
}

std::optional<std::vector<KfdGpu>> kfd_gpus(const HostRoot& root) {
  const auto nodes = root / "sys/class/kfd/kfd/topology/nodes";
  std::error_code error;
  if (!std::filesystem::is_directory(nodes, error)) return std::nullopt;
  std::vector<KfdGpu> gpus;
  for (const auto& name : list_folder(nodes)) {
    const auto text = read_small(nodes / name / "properties");
    const auto place = text ? property(*text, "location_id") : std::nullopt;
    // a processor's node has no SIMD; the node of a GPU that is not given to this control group
    // cannot be read
    if (!place || property(*text, "simd_count").value_or(0) == 0) continue;
    // bus and device; the function's bits number the parts of a partitioned card
    gpus.push_back({fmt::format("{:04x}:{:02x}:{:02x}.0", property(*text, "domain").value_or(0),
                                *place >> 8 & 0xff, *place >> 3 & 0x1f),
                    read_small(nodes / name / "gpu_id").value_or("")});
  }
  return gpus;
}

std::optional<std::vector<GpuProcess>> kfd_processes(const HostRoot& root,
                                                     const std::string& gpu_id) {
  const auto folder = root / "sys/class/kfd/kfd/proc";
  std::error_code error;
  if (gpu_id.empty() || !std::filesystem::is_directory(folder, error)) return std::nullopt;
  std::vector<GpuProcess> out;
  for (const auto& name : list_folder(folder)) {
    const auto pid = to_integer(name);
    const auto used = read_number(folder / name / ("vram_" + gpu_id));
    if (pid && used && *used > 0) out.push_back({static_cast<int>(*pid), *used});
  }
  return out;
}

}  // namespace rigwise
