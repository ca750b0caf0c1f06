// Probes: what needs a program of its own to be known. Each runs in its own process group with a
// hard time limit; what it writes is read as the words of a stranger.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/facts.h"
#include "rigwise/doctor.h"

namespace rigwise::doctor {

/// What is left of a level's time. A probe gets its own limit or that, whichever is less; one that
/// did not come back although it got less is not judged, for its own limit was not reached.
class Budget {
 public:
  explicit Budget(double seconds);
  [[nodiscard]] double left_s() const;
  /// Nothing: too little is left to start anything.
  [[nodiscard]] std::optional<std::chrono::milliseconds> of(std::chrono::seconds limit) const;
  /// "time: the level's 3 min are over".
  [[nodiscard]] std::string over() const;

 private:
  double whole_s_, end_s_;
};
/// All probes of a level together, at most; a smoke test has a limit of its own. A level takes
/// seconds, a minute or ten minutes on a host that is well.
constexpr double level_limit_s(int level) {
  return level <= 1 ? 30 : level == 2 ? 180 : 600;
}

/// A probe's script (src/doctor/probes/NAME.py, with common.py before it).
std::string_view probe_script(std::string_view name);

/// The interpreter to ask, into `into.python` and `.python_how`: the one named, else that of the
/// command, of RIGWISE_PYTHON, VIRTUAL_ENV, CONDA_PREFIX, of PATH. Looked for in a child.
void choose_python(const DoctorOptions& options, FrameworkFacts& into);

/// 21805, as NCCL states its version, is "2.18.5"; other words stay.
std::string nccl_version(const std::string& text);
/// GPUs whose place torch does not say get that of the driver's GPU of the same UUID.
void place_on_bus(const DeviceFacts& devices, FrameworkFacts& into);

void probe_framework(FrameworkFacts& into, const Budget& budget);
/// One process a GPU: memory, a product with a known result, copies while the link is looked at.
std::vector<GpuWork> probe_gpus(const FrameworkFacts& framework, const Budget& budget);
/// Name, interfaces, ports, then a hello of two processes with each launcher that is installed.
LauncherFacts probe_launchers(const DoctorFacts& facts, const HostRoot& root, const Budget& budget);
/// All-reduce and every directed pair; `level` says how large, and the memory that is free.
CollectiveFacts probe_collectives(const DoctorFacts& facts, int level, const Budget& budget);
/// Bytes of the largest transfer: the level's, or what leaves room for the copies that each of
/// `ranks` holds at once. `free_bytes`: for all of them together; nothing where it is not known.
double largest_transfer(int level, int ranks, std::optional<double> free_bytes);
/// The lines of NCCL's own log that tell what it chose and what went wrong, warnings first.
Strings nccl_lines(std::string_view log);

/// Writes, syncs and reads back a file of its own in `folder`, of `most_bytes` or what half of the
/// time takes. In this process: call it in a child.
StorageTry try_storage(const std::filesystem::path& folder, double most_bytes,
                       std::chrono::milliseconds time = std::chrono::seconds(20));
/// What the newest of `runs` wrote that `same_work` takes. Opens runs and looks for their files:
/// call it in a child.
StorageFacts look_back(const std::filesystem::path& runs,
                       const std::function<bool(const RunInfo&)>& same_work);
StorageFacts probe_storage(const DoctorOptions& options, const Budget& budget);

}  // namespace rigwise::doctor
