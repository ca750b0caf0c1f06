// Who computes on a GPU: the driver's lists of processes against the run's own, and AMD's list (the
// kernel's KFD, which every ROCm program goes through).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rigwise/host.h"

namespace rigwise {

struct GpuProcess {
  int pid = 0;
  std::optional<double> used_bytes;
};
/// One list a sample; nothing where the driver gave none.
using GpuProcessLists = std::vector<std::optional<std::vector<GpuProcess>>>;

/// Counts the run's processes and others' into `samples`. The drivers count in the machine's first
/// pid namespace, so in a container their pids may mean other processes, or be hidden. Counts are
/// given only where that is ruled out: one of the run's processes is in a list, or this is the
/// first pid namespace and every listed pid is there.
void assign_processes(const HostRoot& root, const std::vector<int>& tree,
                      const GpuProcessLists& lists, std::vector<GpuSample>& samples);

/// A GPU that KFD serves: only such a one runs ROCm programs.
struct KfdGpu {
  std::string address, gpu_id;  // "0000:03:00.0"; the name of the GPU in KFD's own files
};
/// /sys/class/kfd; nothing where the kernel has no KFD.
std::optional<std::vector<KfdGpu>> kfd_gpus(const HostRoot& root);
/// Processes that hold memory of a GPU.
std::optional<std::vector<GpuProcess>> kfd_processes(const HostRoot& root,
                                                     const std::string& gpu_id);

}  // namespace rigwise
