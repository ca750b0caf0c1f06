// The command's process tree: who belongs to it, what each process is for, and what all of it cost.
//
// Membership: descendants of the command; once in, always in (a daemon that was adopted by another
// stays), by pid and start time, so that a reused pid is never taken for a member. Orphans that
// were never seen under their parent are found as children of the reaper, or by a session that a
// member leads. New processes are found by listing /proc only when /proc/loadavg's last pid has
// moved, and only pids not seen before are looked at.
//
// CPU of ended processes is kept: the kernel adds it to the parent that waited for it (cutime);
// what no surviving member's cutime shows is added from the last reading.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/kept_file.h"
#include "host/proc_text.h"
#include "rigwise/host.h"
#include "rigwise/run.h"

namespace rigwise {

struct TreeReading {
  std::vector<ProcSample> procs = {};  // ranks first, by rank; then by pid
  std::optional<double> cpu_s = {}, run_delay_s = {}, rss_bytes = {};
  double processes = 0, threads = 0;
  std::optional<double> own_cpu_s = {};
  std::string top_other = {};
  std::optional<double> top_other_cpu_s = {};  // since the scan before
};

class ProcessTree {
 public:
  ProcessTree(HostRoot root, int root_pid, int reaper_pid, std::vector<int> own_pids);
  ~ProcessTree();
  ProcessTree(const ProcessTree&) = delete;
  ProcessTree& operator=(const ProcessTree&) = delete;

  /// One reading. `slow`: all of /proc is looked at too, for the other process that took most CPU.
  TreeReading read(double t_s, bool slow);

 private:
  struct Thread {
    int tid = 0;
    KeptFile stat, sched;
    double delay_s = 0, run_s = -1;
    char state = '?';
  };
  struct Member {
    int pid = 0, ppid = 0, session = 0, thread_count = 0;
    std::uint64_t start_ticks = 0, exec_mark = 0;
    std::string comm;
    char state = '?';
    double cpu_s = 0, rss_bytes = 0;
    double children_cpu_s = 0;        // cutime and cstime: of children that it waited for
    double ended_children_cpu_s = 0;  // what was last seen of members below it that ended
    double ended_threads_delay_s = 0;
    std::optional<double> delay_s;
    std::optional<SchedStat> main;  // of the main thread
    PidIo io;
    bool io_known = true;
    KeptFile stat_file, sched_file, io_file;
    std::vector<Thread> threads;
    std::size_t next_thread = 0;
    bool fresh_exec = true;
    int looks = 0;  // how often cmdline and environ were read since the last exec
    std::vector<std::string> argv;
    std::optional<int> rank_env, local_rank_env;
    std::string role = "other";
    std::optional<int> rank;
    bool started_ranks = false;  // its children are ranks, it is none; so after their end
    bool joined = false;         // talks to others of its family as ranks do
    int family_looks = 0;        // how often its children were looked at for that
    bool had_trainer = false;    // its parent was a Python or a launcher, when it had one here
    bool alive = true;
  };
  struct Seen {
    std::uint64_t start_ticks = 0;
    double cpu_s = 0;
  };
  struct Own {
    KeptFile stat;
    std::optional<double> cpu_s;  // the last reading: a process that ended keeps its cost
  };

  bool list_pids();
  void find_members(bool slow);
  bool belongs(const PidStat& stat) const;
  void add_member(const PidStat& stat);
  void drop(Member& member);
  bool refresh(Member& member, bool slow);
  void read_threads(Member& member, bool slow);
  void read_one_thread(Member& member, Thread& thread);
  void settle_ended();
  void look_at_command(Member& member);
  void look_for_peers(bool slow);
  void assign_roles();
  [[nodiscard]] std::vector<int> parents_first() const;
  static ProcSample sample_of(const Member& member, double t_s);
  void scan_others(TreeReading& reading);
  [[nodiscard]] bool is_own(int pid) const;
  [[nodiscard]] std::string proc_path(int pid, const char* file) const;

  HostRoot root_;
  std::string proc_;
  int root_pid_;
  int reaper_pid_;
  std::vector<int> own_pids_;
  double ticks_per_s_, page_bytes_;
  FdBudget budget_;
  ReadBuffer buffer_;
  KeptFile loadavg_;
  std::optional<std::int64_t> last_pid_;
  std::vector<int> pids_, known_pids_;
  std::map<int, Member> members_;
  std::vector<Own> own_;
  bool roles_stale_ = true;
  double lost_cpu_s_ = 0;     // of ended processes that no living member's cutime holds
  double ended_delay_s_ = 0;  // run-queue delay of ended processes
  double shown_cpu_s_ = 0;    // never goes back
  bool root_seen_ = false;
  std::unordered_map<int, Seen> others_;
  double next_scan_s_ = 0;
  int thread_reads_left_ = 0;
};

/// What a command line is, by its words alone.
enum class CommandKind { launcher, wrapper, python, program, unknown };
CommandKind command_kind(const std::vector<std::string>& argv);

/// The rank variables of an environment: RANK and the launchers' own, then LOCAL_RANK.
struct RankWords {
  std::optional<int> rank, local_rank;
};
RankWords rank_words(const std::vector<std::string>& environment);

/// One process as roles are decided from; `parent` is an index into the same list or -1.
struct RoleInput {
  int parent = -1;
  CommandKind kind = CommandKind::unknown;
  std::string_view comm;
  const std::vector<std::string>* argv = nullptr;
  std::optional<int> rank_env, local_rank_env;
  bool settled = false;        // seen often enough not to be a passing helper
  bool started_ranks = false;  // known to have started ranks that have ended since
  bool joined = false;         // connected with its siblings or parent as ranks are (host/peers.h)
  bool left_behind = false;    // was a helper of a Python or a launcher that has ended
};
struct RoleOutput {
  std::string_view role = "other";
  std::optional<int> rank;
};
/// Parents come before their children.
std::vector<RoleOutput> decide_roles(const std::vector<RoleInput>& processes);

}  // namespace rigwise
