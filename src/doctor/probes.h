// Probes: what needs a program of its own to be known. Each runs in its own process group with a
// hard time limit; what it writes is read as the words of a stranger.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/facts.h"
#include "rigwise/doctor.h"

namespace rigwise::doctor {

/// A probe's script (src/doctor/probes/NAME.py, with common.py before it).
std::string_view probe_script(std::string_view name);

/// The interpreter to ask, into `into.python` and `.python_how`: the one named, else that of the
/// command, of RIGWISE_PYTHON, VIRTUAL_ENV, CONDA_PREFIX, of PATH. Looked for in a child.
void choose_python(const DoctorOptions& options, FrameworkFacts& into);

/// 21805, as NCCL states its version, is "2.18.5"; other words stay.
std::string nccl_version(const std::string& text);
/// GPUs whose place torch does not say get that of the driver's GPU of the same UUID.
void place_on_bus(const DeviceFacts& devices, FrameworkFacts& into);

void probe_framework(FrameworkFacts& into);
/// One process a GPU: memory, a product with a known result, copies while the link is looked at.
std::vector<GpuWork> probe_gpus(const FrameworkFacts& framework);
/// Name, interfaces, ports, then a hello of two processes with each launcher that is installed.
LauncherFacts probe_launchers(const DoctorFacts& facts, const HostRoot& root);
/// All-reduce and every directed pair; `level` says how large.
CollectiveFacts probe_collectives(const DoctorFacts& facts, int level);

/// Writes, syncs and reads back a file of its own in `folder`. In this process: call it in a child.
StorageTry try_storage(const std::filesystem::path& folder, double most_bytes);
StorageFacts probe_storage(const DoctorOptions& options);

}  // namespace rigwise::doctor
