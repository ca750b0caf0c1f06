// Hang watch: has the run stopped making progress, and is anybody of it still at work? Pure: fed
// with what the recorder sees anyway, at no cost of its own.
//
// Progress is a step, bytes in the log, a checkpoint, or data that the processes read or write at
// the block layer. Silence alone is no hang: an evaluation, a compilation or a long step prints
// nothing for minutes. So over the last half of the allowed silence every process is judged:
//
//   at work   its main thread came to another place (stack samples, twenty a second), or it took
//             CPU where CPU means work
//   stuck     it took next to no CPU and stayed in one call (polling in it is staying); or it took
//             CPU in a wait for other ranks or a device (which spins) without moving by a single
//             instruction in all samples; or it is stopped
//
// and only where none is at work and no GPU of the run moves data is it a hang. Where one is at
// work for so long that those who wait for it are about to be killed by their collective's timeout,
// it is told as well, as what it is: that one works cannot be told from that one loops for ever.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "host/traffic.h"
#include "record/stack_watch.h"
#include "rigwise/record.h"
#include "rigwise/run.h"

namespace rigwise {

/// The figures, in one place (docs/hangs.md shows the same).
struct HangLimits {
  double floor_s = 60;  // a silence shorter than this is none
  double floor_before_s =
      300;                    // the same before the first step: models are loaded, kernels compiled
  double steps = 20;          // times the run's own step …
  double gaps = 3;            // … and times its longest ordinary silence so far
  double most_ranks_s = 480;  // with more than one rank: NCCL gives up after 600 s; so long others
                              // may wait for a rank that is at work
  double queued_frac = 0.1;   // a main thread that waits for a CPU for so long has work to do
  double idle_frac = 0.05;    // of one CPU: below it a process does nothing
  double helper_frac = 0.2;   // helpers (loggers, monitors) may take that much and are no training
  double launcher_frac = 0.5;
  double gpu_memory_frac = 0.02;  // a GPU's memory controller: waits of NCCL do not move data
  double read_bytes = 262144;     // within read_s: less is a heartbeat
  double read_s = 10;
  double network_bytes_per_s = 50e3;  // a stream that feeds a loader, an upload
  double gpu_spin_frac = 0.99;        // in every sample: a kernel that waits for its peers
  std::int64_t samples = 10;          // of a process's stack, or of a GPU, that tell anything
  double interval_s = 1;              // of the recorder's ticks
};

/// Works that hand a device what it is to do; with a GPU they spin once its queue is full.
bool is_device_work(std::string_view work);

enum class Progress { step, log, bytes, checkpoint };

/// What the recorder saw at a tick.
struct HangSight {
  const std::vector<ProcSample>* tree = nullptr;
  const std::vector<StackPlace>* places = nullptr;
  const std::vector<GpuSample>* gpus = nullptr;
  const std::vector<NetSample>* nets = nullptr;
  bool paused = false;        // the whole command is stopped, as a shell does it
  bool network_files = true;  // this host has file systems of others mounted
  /// What the tree's own connections have carried so far; asked twice a silence. May be empty.
  std::function<std::optional<Traffic>()> traffic = {};
};

enum class HangChange { none, found, over };

class HangWatch {
 public:
  HangWatch(const HangOptions& options, const HangLimits& limits);

  void note(Progress progress, double t_s);
  /// Of all hosts together, as the command asks for.
  void expect_ranks(int world) { world_ = world; }
  /// The recorder looked away from here on: what lies between is no silence.
  void forget(double t_s);
  HangChange tick(double t_s, const HangSight& sight);
  /// The end: a hang that only its own noise (a timeout's traceback) had interrupted is one still.
  HangChange finish(double t_s, bool ended_well);

  [[nodiscard]] bool hung() const { return hung_; }
  /// Of the hang: ranks wait for somebody who is at work.
  [[nodiscard]] bool at_work() const { return at_work_; }
  /// Silence that is too long now; grows with the run's own steps and silences.
  [[nodiscard]] double threshold_s() const;
  [[nodiscard]] double last_progress_s() const { return last_s_; }
  [[nodiscard]] Progress last_progress() const { return last_; }
  /// There are ranks that this host does not see.
  [[nodiscard]] bool ranks_elsewhere() const { return world_ > static_cast<int>(ranks_.size()); }
  /// Nothing at all was ever seen of the run.
  [[nodiscard]] bool silent_from_start() const { return !anything_; }
  /// Over the last half of the silence the run's GPUs were in use at every moment and moved no
  /// data: their kernels wait for other ranks'.
  [[nodiscard]] bool gpus_spin() const;
  /// Of the hang: its last progress before, and when it went on.
  [[nodiscard]] double began_s() const { return began_s_; }
  [[nodiscard]] double over_s() const { return over_s_.value_or(last_s_); }
  /// Of a process since the last half of the silence began: of one CPU; nothing where not known.
  [[nodiscard]] std::optional<double> cpu_frac(const ProcSample& process, double t_s) const;
  [[nodiscard]] std::optional<double> queued_frac(const ProcSample& process, double t_s) const;
  /// Ranks that were seen at work and are not in the tree any more, as last seen.
  [[nodiscard]] std::vector<ProcSample> lost_ranks(const std::vector<ProcSample>& tree) const;

 private:
  struct Before {
    double t_s = 0;
    std::optional<double> cpu_s, delay_s, main_delay_s;
  };
  void note_bytes(double t_s, const HangSight& sight);
  void open_window(double t_s, const HangSight& sight);
  [[nodiscard]] bool anybody_at_work(double t_s, const HangSight& sight) const;
  [[nodiscard]] bool kept_waiting(double t_s, const HangSight& sight) const;
  [[nodiscard]] bool all_wait(const HangSight& sight) const;
  void follow_ranks(const std::vector<ProcSample>& tree);
  void follow_gpus(const std::vector<GpuSample>& gpus);
  [[nodiscard]] bool is_multi_rank() const { return ranks_.size() > 1 || world_ > 1; }
  [[nodiscard]] bool process_at_work(double t_s, const ProcSample& process, const HangSight& sight,
                                     bool any_rank) const;
  [[nodiscard]] bool gpu_at_work(const std::vector<GpuSample>& gpus) const;
  [[nodiscard]] bool network_carries(double t_s, const HangSight& sight) const;
  HangChange while_hung(double t_s);

  HangOptions options_;
  HangLimits limits_;
  double last_s_ = 0, last_tick_s_ = 0;
  Progress last_ = Progress::log;
  bool anything_ = false;  // any progress at all
  std::optional<double> last_step_s_ = {};
  double longest_gap_s_ = 0;            // ordinary silences only
  std::vector<double> step_gaps_ = {};  // the last ones
  std::size_t next_gap_ = 0;
  bool hung_ = false, at_work_ = false;
  bool resumes_ = false;  // the next progress ends a hang or a pause
  double began_s_ = 0;
  std::optional<double> over_s_ = {};
  // Bytes.
  struct Bytes {
    double block = 0, written = 0;
  };
  std::map<int, Bytes> bytes_of_ = {};
  double bytes_ = 0, bytes_since_s_ = 0;
  // The window: what was so when the last half of the silence began.
  std::optional<double> window_s_ = {};
  std::map<int, Before> before_ = {};
  std::map<std::string, double> received_before_ = {};
  std::optional<Traffic> traffic_before_ = {};
  struct GpuSeen {
    double least_use = 1, most_memory = 0;
    std::int64_t samples = 0;
  };
  std::map<int, GpuSeen> gpus_seen_ = {};  // in the window, of those that nobody else uses
  bool gpu_is_ours_ = false;
  std::map<int, ProcSample> ranks_ = {};  // by rank
  int world_ = 0;                         // 0: not known
};

}  // namespace rigwise
