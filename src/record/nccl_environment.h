// What the command's environment needs so that NCCL loads our profiler plug-in, and whether it may.
//
// NCCL takes one plug-in only, so the user's own always comes first, wherever it is named. NCCL
// before 2.23 does not look at these variables; which events are asked of which later version is
// decided by the plug-in itself, inside the process, where the version is known
// (docs/profiling.md).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "rigwise/host.h"

namespace rigwise {

/// There is an NVIDIA GPU that the command may use.
bool nccl_is_likely(const HostRoot& root, const std::vector<std::string>& environment);

/// librigwise-nccl.so beside this program or in ../lib; empty where there is none.
std::filesystem::path nccl_plugin_path();

/// "NAME=value" entries to add; none where the user has a plug-in of his own or the paths are
/// longer than NCCL takes. Makes the run's folder profile/.
std::vector<std::string> nccl_environment(const HostRoot& root,
                                          const std::vector<std::string>& environment,
                                          const std::filesystem::path& run_dir,
                                          const std::filesystem::path& plugin);

}  // namespace rigwise
