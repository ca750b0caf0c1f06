// Hangs: joins the watch for them with the look at every process, what is written of it, and, where
// it was asked for, the end of the command. The recorder feeds it and writes what it gives back.
//
// Looking is done by a thread that nobody waits for, since a process that hangs in the kernel may
// hold it up: a hang is then told without what could not be seen.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "record/hang_watch.h"
#include "rigwise/hang.h"
#include "rigwise/host.h"
#include "rigwise/stacks.h"

namespace rigwise {

/// How a command is ended: as Ctrl-C does it, so that launchers end their ranks in order; then with
/// SIGTERM; then with SIGKILL, for each process that is left.
class PoliteEnd {
 public:
  struct Order {
    int signal = SIGINT;
    bool everybody =
        false;  // each process of the tree; else the command, and its group if it leads one
  };
  void begin(double t_s);
  [[nodiscard]] bool begun() const { return begun_s_.has_value(); }
  /// The next order that is due, each once; SIGKILL again and again. A command that makes progress
  /// at its end (it saves) is given the time: `progress_s` is its last.
  std::optional<Order> due(double t_s, double progress_s);

 private:
  // torchrun gives stuck ranks 30 s before it kills them.
  static constexpr double kTerminate_s = 45, kKill_s = 65, kAgain_s = 2;
  std::optional<double> begun_s_ = {};
  double killed_s_ = 0;
  int orders_ = 0;
};

/// Which bytes of a log say something new. A line of a shape (its letters) that has come twice
/// since the last step is a heartbeat: "still waiting (40 s)", a bar that redraws itself. A program
/// whose steps nobody can read prints lines of one shape too; it is at work then, which is asked as
/// well.
class LogNews {
 public:
  bool take(std::string_view bytes);
  void forget() { seen_.clear(); }

 private:
  static constexpr int kOften = 2;
  static constexpr std::size_t kMostShapes = 256;
  std::map<std::uint64_t, int> seen_ = {};
  std::uint64_t shape_ = 0;  // of the line that is not at its end
};

class Hangs {
 public:
  Hangs(const HangOptions& options, std::string host, std::vector<StackPattern> patterns,
        double interval_s);

  void note(const StepRecord& step, double t_s);
  void note_log(std::string_view bytes, double t_s) {
    if (news_.take(bytes)) watch_.note(Progress::log, t_s);
  }
  void note_checkpoint(double t_s) { watch_.note(Progress::checkpoint, t_s); }
  void expect_ranks(int world) { watch_.expect_ranks(world); }
  void note(const HostReading& reading);
  /// Not looked at until now (paused).
  void forget(double t_s) { watch_.forget(t_s); }

  /// Once a tick. `stopped`: the command was stopped as a shell stops it. Gives what is to be
  /// appended to hangs.jsonl: a hang that was found, or one that ended.
  std::vector<Hang> tick(double t_s, const std::vector<ProcSample>& tree,
                         const std::vector<StackPlace>& places, bool stopped);
  /// The command has ended.
  std::vector<Hang> finish(double t_s, bool ended_well);
  /// What the command is to be sent now (--on-hang stop).
  std::optional<PoliteEnd::Order> order_due(double t_s);
  /// The command was told to end because of a hang.
  [[nodiscard]] bool stopping() const { return end_.begun(); }

 private:
  struct Job;  // one look; outlives us where it hangs
  void start_look(double t_s, const std::vector<ProcSample>& tree,
                  const std::vector<StackPlace>& places);
  Hang found(double t_s);
  [[nodiscard]] bool may_stop() const;
  Hang ended(HangState state, double t_s);

  HangOptions options_;
  std::string host_;
  std::vector<StackPattern> patterns_;
  HangWatch watch_;
  LogNews news_ = {};
  bool network_files_ = true;
  PoliteEnd end_;
  std::vector<GpuSample> gpus_ = {};
  std::vector<NetSample> nets_ = {};
  std::optional<std::int64_t> last_step_ = {};
  int count_ = 0;
  Hang hang_ = {};                                 // the latest
  std::vector<ProcSample> seen_ = {}, lost_ = {};  // when it was found
  std::vector<StackPlace> places_ = {};
  bool at_work_ = false, gpus_spin_ = false;
  std::vector<std::optional<double>> cpu_ = {}, queued_ = {};
  std::shared_ptr<Job> job_ = {};  // being looked at
};

/// Every text of a hang through `mask` (secrets in paths and words).
void mask_texts(Hang& hang, const std::function<std::string(const std::string&)>& mask);

}  // namespace rigwise
