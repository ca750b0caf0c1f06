// Host: what this machine is (Rig), what software it runs (Environment), and what it does
// (samples).
//
// Every read of /proc and /sys goes through a HostRoot, so that a recorded tree can stand in for a
// machine.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

/// "/" or the top of a recorded tree that holds proc/ and sys/.
struct HostRoot {
  std::filesystem::path root = "/";
  /// Under a recorded tree the GPUs of this machine's own NVIDIA driver do not belong, so NVML is
  /// asked there only where a stand-in library was put in its place.
  bool nvml_stands_in = false;
  /// This machine itself: its programs may be run, its libraries asked.
  [[nodiscard]] bool live() const { return root == "/"; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view relative) const {
    return root / relative;
  }
};

/// One reading of GPUs: NVML by dlopen, amdgpu and xe sysfs, or a replay. May hang: callers give it
/// a thread of its own.
class GpuSource {
 public:
  virtual ~GpuSource() = default;
  virtual std::vector<GpuDevice> devices() = 0;
  /// `tree` = pids of the run (host pid namespace); `slow` asks for the costly tier (process lists,
  /// static fields) too.
  virtual std::vector<GpuSample> read(double t_s, const std::vector<int>& tree, bool slow) = 0;
  [[nodiscard]] virtual std::string name() const = 0;
  virtual std::optional<std::string> version() { return std::nullopt; }  // driver
  /// What the last read() could not do, in words: "nvml GPU 2: the GPU is lost …".
  virtual std::vector<std::string> problems() { return {}; }
};

/// All sources this host has; none is a normal answer. `why_not` says of each kind that has no GPU
/// here what was tried, also where another kind has some. GPU numbers are distinct over sources:
/// NVML's first, then amdgpu's, then Intel's. May take seconds (a driver that wakes up) or hang.
std::vector<std::unique_ptr<GpuSource>> open_gpu_sources(const HostRoot& root,
                                                         std::vector<std::string>* why_not);

struct HostReading {
  std::optional<HostSample> host = {};
  std::vector<GpuSample> gpus = {};
  std::vector<DiskSample> disks = {};
  std::vector<NetSample> nets = {};
  std::vector<ProcSample> procs = {};
  /// What this tick lacks and why: a source that hung, was late or is still being opened ("nvml: no
  /// answer within 200 ms"), a GPU that is lost. One entry is one dropped reading.
  std::vector<std::string> dropped = {};
};

struct SamplerOptions {
  int root_pid = 0;                // the command: its tree is walked
  std::vector<int> own_pids = {};  // rigwise's own processes
  int reaper_pid =
      0;  // adopts orphans of the command (the front, a child subreaper); 0 = none known
  std::vector<std::filesystem::path> watched_paths =
      {};                    // free space of their file systems is recorded
  double slow_every_s = 10;  // the costly tier
  std::chrono::milliseconds source_limit{
      200};  // a source that takes longer is dropped for that tick
};

/// Samples everything once a call. A source that hangs keeps its own thread busy, never the caller:
/// a tick takes at most source_limit and a little, and a source that answers again is back at the
/// tick after. Make it after the last fork: it has threads (signals are blocked in them). One owner
/// thread.
class HostSampler {
 public:
  HostSampler(HostRoot root, SamplerOptions options);
  ~HostSampler();
  /// `t_s` counts up. Counters "since the run's start" start with the first tick that could read
  /// them.
  HostReading tick(double t_s);
  /// Free space of the file system that holds `path` is recorded too (at most 16 paths, slow tier).
  void watch_path(const std::filesystem::path& path);
  /// The command's tree at the last tick, ranks first.
  [[nodiscard]] const std::vector<ProcSample>& tree() const;
  /// Why there is no GPU source, once that is known; empty where there is one.
  [[nodiscard]] const std::vector<std::string>& why_no_gpu() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Rig read_rig_of(const HostRoot& root, const std::vector<std::filesystem::path>& touched);

struct EnvironmentQuery {
  std::vector<std::string> argv = {};
  std::string cwd = {};
  std::vector<std::string> env = {};  // "NAME=value", as the command gets it
  std::chrono::milliseconds limit{2000};
};

/// The software of the command's own Python (venv, conda, or the interpreter in argv), read from
/// installed metadata and version files, never by importing; driver, kernel, container, git commit
/// and dirty hash.
Environment read_environment_of(const HostRoot& root, const EnvironmentQuery& query);

}  // namespace rigwise
