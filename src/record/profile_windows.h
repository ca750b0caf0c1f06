// Profile windows: the recorder's side of short traces. Asks for one when the policy says so, of
// every rank for the same instants, and takes in what the processes wrote.
//
// A window never keeps anybody waiting: a process that does not ask, does not answer or never
// writes is counted. Threads: the recorder's own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "profile/kineto_policy.h"
#include "record/channel.h"
#include "record/trace_helper.h"
#include "rigwise/kineto.h"
#include "rigwise/record.h"
#include "rigwise/run.h"

namespace rigwise {

WindowLimits limits_of(const ProfileOptions& options);

class ProfileWindows {
 public:
  explicit ProfileWindows(const ProfileOptions& options);

  // What the recorder hears and sees.
  void note(const Message& message);  // profiling, trace_news
  void note(const StepRecord& step) { pace_.note(step); }
  void note(const std::vector<GpuSample>& gpus);
  /// The user profiles the run himself: no more windows.
  void note_user_profiles();
  /// Before this process makes threads. `close_first`: descriptors that the reader must not hold.
  void start(RunWriter& writer, const std::string& host, const std::vector<int>& close_first);
  /// A child was waited for.
  void note_ended(pid_t pid);
  /// The process that reads traces; -1 where there is none.
  [[nodiscard]] pid_t helper() const { return helper_.pid(); }
  [[nodiscard]] double helper_cpu_s() const { return helper_cpu_s_; }

  /// Once a tick. `keeper`: channel that the requests go to. Events go to `writer`.
  void tick(double t_s, const std::vector<ProcSample>& tree, int keeper, RunWriter& writer);
  /// The command has ended: what is whole is taken in, what is not is removed.
  void finish(double t_s, RunWriter& writer);
  /// What the recorder should say is missing, in words.
  [[nodiscard]] std::vector<std::string> missing() const;

 private:
  struct Trace {
    pid_t pid = 0;
    std::optional<int> rank = {};
    std::string name = {};  // asked for: "trace-4127-1.json"
    bool took = false;      // the process has the request
    bool reading = false;   // it is whole
    bool over = false;      // taken in, given up or too large
    double bytes = 0;
    [[nodiscard]] std::string file() const;  // relative to the run directory
  };
  struct Window {
    int number = 0;
    double t_s = 0, t_end_s = 0, until_s = 0;
    std::vector<Trace> traces = {};
    double largest_bytes = 0;
  };

  void ask(double t_s, double length_s, const std::vector<ProcSample>& ranks, int keeper,
           const RunWriter& writer);
  void look(double t_s, RunWriter& writer);
  void hand_over(std::size_t index, const std::filesystem::path& file, RunWriter& writer);
  void take(Trace& trace, const TraceAnswer& answer, RunWriter& writer);
  void take_answers(const std::vector<TraceAnswer>& answers, RunWriter& writer);
  void give_up(Trace& trace, const std::string& why, RunWriter& writer);
  [[nodiscard]] Event event_of(const Trace& trace, const std::string& state) const;
  void close_window(double t_s);
  [[nodiscard]] bool window_over() const;
  [[nodiscard]] std::vector<ProcSample> askable(const std::vector<ProcSample>& tree) const;

  std::optional<std::string> why_not_ = {};  // empty: not known yet
  bool open_ = false;
  StepPace pace_;
  WindowPlanner planner_;
  std::map<pid_t, bool> clients_ = {};  // that ask; true: it takes a trace now
  std::optional<Window> window_ = {};
  TraceHelper helper_;
  double helper_cpu_s_ = 0;
  bool gpu_ = false, user_profiles_ = false;
  double due_since_s_ = -1;
  double kept_bytes_ = 0;
  int numbered_ = 0;           // windows that were asked for
  int silent_ = 0, lost_ = 0;  // processes that never took a request; traces that never came
};

}  // namespace rigwise
