#include "host/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "base/text.h"
#include "host/peers.h"

namespace rigwise {

namespace {
constexpr std::size_t kMaxMembers = 2048;      // a fork bomb must not become ours
constexpr int kMaxThreadReads = 256;           // a tick; larger trees are read in turns
constexpr int kLeastThreadReads = 8;           // a process and tick
constexpr std::size_t kMaxThreads = 4096;      // of one process
constexpr std::size_t kCommandBytes = 32768;   // of a command line
constexpr std::size_t kEnvironBytes = 262144;  // of an environment
constexpr double kScanShare = 1e-3;            // the scan of all processes may take this share
constexpr double kNoticeableCpu_s = 0.05;      // another process below this is not worth a name

double thread_cpu_s() {
  timespec now = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// The first bytes of a file of /proc; empty when unreadable.
std::string read_first(const std::string& path, std::size_t limit) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  if (!fd.valid()) return text;
  while (text.size() < limit) {
    const std::size_t have = text.size();
    text.resize(std::min(limit, have + 16384));
    const ssize_t count = ::read(fd.get(), text.data() + have, text.size() - have);
    text.resize(have + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    if (count <= 0) break;
  }
  return text;
}

/// Names of `path` that are numbers, sorted. `known` avoids work where nothing can be listed.
bool list_numbers(const std::string& path, std::vector<int>& into, std::size_t limit) {
  into.clear();
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) return false;
  while (const dirent* entry = ::readdir(folder)) {
    const std::string_view name = entry->d_name;
    int number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    into.push_back(number);
    if (into.size() >= limit) break;
  }
  ::closedir(folder);
  std::sort(into.begin(), into.end());
  return true;
}
}  // namespace

ProcessTree::ProcessTree(HostRoot root, int root_pid, int reaper_pid, std::vector<int> own_pids)
    : root_(std::move(root)),
      proc_((root_ / "proc").string()),
      root_pid_(root_pid),
      reaper_pid_(reaper_pid),
      own_pids_(std::move(own_pids)),
      ticks_per_s_(static_cast<double>(std::max(1L, ::sysconf(_SC_CLK_TCK)))),
      page_bytes_(static_cast<double>(std::max(1L, ::sysconf(_SC_PAGESIZE)))),
      budget_(FdBudget::sensible_limit()),
      loadavg_(proc_ + "/loadavg") {
  for (const int pid : own_pids_) own_.push_back({KeptFile(proc_path(pid, "stat")), {}});
}

ProcessTree::~ProcessTree() {
  members_.clear();  // its files give their descriptors back to budget_
}

std::string ProcessTree::proc_path(int pid, const char* file) const {
  return proc_ + "/" + std::to_string(pid) + "/" + file;
}

bool ProcessTree::is_own(int pid) const {
  return std::find(own_pids_.begin(), own_pids_.end(), pid) != own_pids_.end();
}

bool ProcessTree::list_pids() {
  return list_numbers(proc_, pids_, std::size_t{1} << 20);
}

bool ProcessTree::belongs(const PidStat& stat) const {
  if (is_own(stat.pid)) return false;
  if (stat.pid == root_pid_) return !root_seen_;
  if (stat.ppid > 0 && members_.contains(stat.ppid)) return true;
  if (reaper_pid_ > 0 && stat.ppid == reaper_pid_) return true;
  const auto leader = members_.find(stat.session);
  return leader != members_.end() && leader->second.session == stat.session;
}

void ProcessTree::add_member(const PidStat& stat) {
  if (members_.size() >= kMaxMembers) return;
  Member member;
  member.pid = stat.pid;
  member.ppid = stat.ppid;
  member.start_ticks = stat.start_ticks;
  member.stat_file = KeptFile(proc_path(stat.pid, "stat"), &budget_);
  member.sched_file = KeptFile(proc_path(stat.pid, "schedstat"), &budget_);
  member.io_file = KeptFile(proc_path(stat.pid, "io"), &budget_);
  member.session = stat.session;
  if (stat.pid == root_pid_) root_seen_ = true;
  members_.insert_or_assign(stat.pid, std::move(member));
  roles_stale_ = true;
}

/// Looks at processes that were not there at the last listing, until no more of them belong.
void ProcessTree::find_members(bool slow) {
  const auto load = loadavg_.read_record(buffer_);
  const auto last = load ? parse_loadavg(*load).last_pid : std::nullopt;
  if (!slow && last && last == last_pid_ && !known_pids_.empty()) return;
  last_pid_ = last;
  if (!list_pids()) return;
  std::vector<PidStat> candidates;
  for (const int pid : pids_) {
    if (std::binary_search(known_pids_.begin(), known_pids_.end(), pid)) continue;
    if (members_.contains(pid) || is_own(pid)) continue;
    const auto text = read_record(proc_path(pid, "stat"), buffer_);
    const auto stat = text ? parse_pid_stat(*text, ticks_per_s_) : std::nullopt;
    if (!stat) continue;
    candidates.push_back(*stat);
    candidates.back().comm = {};  // its text does not live on
  }
  bool found = true;
  while (found) {
    found = false;
    for (auto& candidate : candidates) {
      if (candidate.pid == 0 || !belongs(candidate)) continue;
      add_member(candidate);
      candidate.pid = 0;
      found = true;
    }
  }
  std::swap(known_pids_, pids_);
}

/// Reads one member; false when it has ended (or its pid is another process by now).
bool ProcessTree::refresh(Member& member, bool slow) {
  const auto text = member.stat_file.read_record(buffer_);
  const auto stat = text ? parse_pid_stat(*text, ticks_per_s_) : std::nullopt;
  if (!stat || stat->start_ticks != member.start_ticks) return false;
  if (stat->exec_mark != member.exec_mark) member.fresh_exec = true;
  if (stat->exec_mark != member.exec_mark || stat->comm != member.comm) {
    member.exec_mark = stat->exec_mark;
    member.comm = stat->comm;
    member.looks = 0;
  }
  if (member.ppid != stat->ppid) roles_stale_ = true;
  member.ppid = stat->ppid;
  member.session = stat->session;
  member.state = stat->state;
  member.thread_count = stat->threads;
  member.cpu_s = std::max(member.cpu_s, stat->cpu_s);
  member.children_cpu_s = std::max(member.children_cpu_s, stat->children_cpu_s);
  member.rss_bytes = stat->rss_pages * page_bytes_;
  if (member.state != 'Z') {
    read_threads(member, slow);
    if (member.io_known) {
      const auto io_text = member.io_file.read_record(buffer_);
      if (io_text)
        member.io = parse_pid_io(*io_text);
      else
        member.io_known = slow;  // not ours to read: asked again at the slow tier only
    } else if (slow) {
      member.io_known = true;
    }
    // A process is looked at twice, since the first look may fall between its fork and its exec.
    if (member.looks < 2) look_at_command(member);
  }
  return true;
}

void ProcessTree::read_one_thread(Member& member, Thread& thread) {
  --thread_reads_left_;
  const auto sched_text = thread.sched.read_record(buffer_);
  const auto sched = sched_text ? parse_schedstat(*sched_text) : std::nullopt;
  if (sched) thread.delay_s = std::max(thread.delay_s, sched->delay_s);
  if (thread.tid == member.pid) {
    if (sched) member.main = sched;
    thread.state = member.state;  // of the stat that was just read
    return;
  }
  // A thread that has not run since the last tick is still in the state that it had (but for one
  // that woke this very moment); most threads of a training process never run, and stat costs three
  // times what schedstat does.
  if (sched && sched->run_s == thread.run_s && thread.state != '?') return;
  if (sched) thread.run_s = sched->run_s;
  const auto stat_text = thread.stat.read_record(buffer_);
  const auto stat = stat_text ? parse_pid_stat(*stat_text, ticks_per_s_) : std::nullopt;
  thread.state = stat ? stat->state : '\0';  // gone: the next tick lists anew
}

void ProcessTree::read_threads(Member& member, bool slow) {
  if (member.thread_count > 1) {
    const bool gone = std::any_of(member.threads.begin(), member.threads.end(),
                                  [](const Thread& thread) { return thread.state == '\0'; });
    if (slow || gone || member.threads.size() != static_cast<std::size_t>(member.thread_count)) {
      const std::string folder = proc_path(member.pid, "task");
      std::vector<int> tids;
      if (list_numbers(folder, tids, kMaxThreads)) {
        std::vector<Thread> fresh;
        for (auto& thread : member.threads) {
          if (!std::binary_search(tids.begin(), tids.end(), thread.tid)) {
            member.ended_threads_delay_s += thread.delay_s;
            continue;
          }
          // Still there, whatever a reading of it said: counted once.
          if (thread.state == '\0') thread.state = '?';
          fresh.push_back(std::move(thread));
        }
        std::sort(fresh.begin(), fresh.end(),
                  [](const Thread& a, const Thread& b) { return a.tid < b.tid; });
        const std::size_t kept = fresh.size();
        for (const int tid : tids) {
          const auto have =
              std::lower_bound(fresh.begin(), fresh.begin() + static_cast<std::ptrdiff_t>(kept),
                               tid, [](const Thread& a, int b) { return a.tid < b; });
          if (have != fresh.begin() + static_cast<std::ptrdiff_t>(kept) && have->tid == tid)
            continue;
          Thread thread;
          thread.tid = tid;
          const std::string base = folder + "/" + std::to_string(tid);
          thread.sched = KeptFile(base + "/schedstat", &budget_);
          if (tid != member.pid) thread.stat = KeptFile(base + "/stat", &budget_);
          fresh.push_back(std::move(thread));
        }
        member.threads = std::move(fresh);
      }
    }
  } else if (!member.threads.empty()) {
    for (const auto& thread : member.threads) {
      if (thread.tid != member.pid) member.ended_threads_delay_s += thread.delay_s;
    }
    member.threads.clear();
  }

  if (member.threads.empty()) {
    const auto text = member.sched_file.read_record(buffer_);
    if (const auto sched = text ? parse_schedstat(*text) : std::nullopt) {
      member.main = sched;
      member.delay_s =
          std::max(member.delay_s.value_or(0), member.ended_threads_delay_s + sched->delay_s);
    }
    return;
  }
  const std::size_t count = member.threads.size();
  for (std::size_t i = 0; i < count && thread_reads_left_ > 0; ++i) {
    member.next_thread = (member.next_thread + 1) % count;
    read_one_thread(member, member.threads[member.next_thread]);
  }
  double delay = member.ended_threads_delay_s;
  for (const auto& thread : member.threads) delay += thread.delay_s;
  member.delay_s = std::max(member.delay_s.value_or(0), delay);
}

void ProcessTree::look_at_command(Member& member) {
  ++member.looks;
  roles_stale_ = true;
  auto argv = parse_nul_list(read_first(proc_path(member.pid, "cmdline"), kCommandBytes), 4096);
  if (!argv.empty()) member.argv = std::move(argv);
  const auto words =
      rank_words(parse_nul_list(read_first(proc_path(member.pid, "environ"), kEnvironBytes), 8192));
  // Programs that set their own title write over their environment: what was read first stands.
  if (member.fresh_exec || words.rank) member.rank_env = words.rank;
  if (member.fresh_exec || words.local_rank) member.local_rank_env = words.local_rank;
  if (member.looks >= 2) member.fresh_exec = false;
}

/// Moves what ended members took to the nearest member above them, deepest first. An ancestor is
/// credited with the larger of what the kernel says that its waited-for children took and what was
/// seen of its ended ones, so that neither a child that nobody waited for is lost nor one counted
/// twice.
void ProcessTree::settle_ended() {
  bool found = true;
  while (found) {
    found = false;
    for (auto it = members_.begin(); it != members_.end();) {
      Member& member = it->second;
      const bool has_ended_child =
          !member.alive && std::any_of(members_.begin(), members_.end(), [&](const auto& other) {
            return !other.second.alive && other.second.ppid == member.pid &&
                   &other.second != &member;
          });
      if (member.alive || has_ended_child) {
        ++it;
        continue;
      }
      const double took =
          member.cpu_s + std::max(member.children_cpu_s, member.ended_children_cpu_s);
      const auto parent = members_.find(member.ppid);
      if (parent != members_.end() && &parent->second != &member)
        parent->second.ended_children_cpu_s += took;
      else
        lost_cpu_s_ += took;
      ended_delay_s_ += member.delay_s.value_or(0);
      // The pid may be another process by now: let the next listing look at it again.
      std::erase(known_pids_, member.pid);
      it = members_.erase(it);
      roles_stale_ = true;
      found = true;
    }
  }
}

/// Processes with the command line of data-loader workers may be ranks that the program started by
/// itself (torch.multiprocessing.spawn): then they are connected with each other. They connect soon
/// after their imports, so that families are looked at often while young, then seldom.
void ProcessTree::look_for_peers(bool slow) {
  constexpr int kOften = 60, kMostLooks = 120;
  constexpr std::size_t kMaxFamily = 64;
  std::map<int, std::vector<int>> families;
  for (const auto& [pid, member] : members_) {
    if (member.role != "loader" || member.comm == "pt_data_worker") continue;
    auto& family = families[member.ppid];
    if (family.size() < kMaxFamily) family.push_back(pid);
  }
  for (auto& [ppid, family] : families) {
    const auto parent = members_.find(ppid);
    if (parent == members_.end() || parent->second.family_looks >= kMostLooks) continue;
    if (parent->second.family_looks >= kOften && !slow) continue;
    ++parent->second.family_looks;
    family.push_back(ppid);
    const auto joined = joined_peers(proc_, family);
    for (std::size_t i = 0; i < family.size(); ++i) {
      if (!joined[i]) continue;
      members_.at(family[i]).joined = true;
      parent->second.started_ranks = true;
      roles_stale_ = true;
    }
    if (joined.back()) parent->second.started_ranks = false;  // it trains with them
  }
}

void ProcessTree::assign_roles() {
  if (!roles_stale_) return;
  roles_stale_ = false;
  // Parents first: members whose parent is not one are the tops.
  std::vector<Member*> order;
  std::map<int, int> index;
  for (auto& [pid, member] : members_) {
    if (!members_.contains(member.ppid) || member.ppid == pid) {
      index[pid] = static_cast<int>(order.size());
      order.push_back(&member);
    }
  }
  std::multimap<int, Member*> children;
  for (auto& [pid, member] : members_) children.emplace(member.ppid, &member);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto [first, last] = children.equal_range(order[i]->pid);
    for (auto child = first; child != last; ++child) {
      if (index.contains(child->second->pid)) continue;
      index[child->second->pid] = static_cast<int>(order.size());
      order.push_back(child->second);
    }
  }
  std::vector<RoleInput> inputs;
  for (Member* member : order) {
    RoleInput input;
    const auto parent = index.find(member->ppid);
    if (parent != index.end() && member->ppid != member->pid) {
      input.parent = parent->second;
      const CommandKind above = inputs[static_cast<std::size_t>(input.parent)].kind;
      member->had_trainer = above == CommandKind::python || above == CommandKind::launcher;
    } else {
      // multiprocessing's resource tracker outlives the program by a moment, for one.
      input.left_behind = member->had_trainer && member->role == "other";
    }
    input.kind = command_kind(member->argv);
    input.comm = member->comm;
    input.argv = &member->argv;
    input.rank_env = member->rank_env;
    input.local_rank_env = member->local_rank_env;
    input.settled = member->looks >= 2;
    input.joined = member->joined;
    input.started_ranks = member->started_ranks;
    inputs.push_back(input);
  }
  const auto roles = decide_roles(inputs);
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i]->role = roles[i].role;
    order[i]->rank = roles[i].rank;
  }
}

/// The slow tier: every process once, to name the one outside the tree that took most CPU since the
/// scan before. On a machine with very many processes it comes less often, by its own cost.
void ProcessTree::scan_others(TreeReading& reading) {
  const double before = thread_cpu_s();
  std::unordered_map<int, Seen> now;
  now.reserve(known_pids_.size());
  std::string top;
  double top_cpu_s = kNoticeableCpu_s;
  for (const int pid : known_pids_) {
    if (members_.contains(pid) || is_own(pid)) continue;
    const auto text = read_record(proc_path(pid, "stat"), buffer_);
    const auto stat = text ? parse_pid_stat(*text, ticks_per_s_) : std::nullopt;
    if (!stat) continue;
    if (belongs(*stat)) {
      add_member(*stat);
      continue;
    }
    const auto earlier = others_.find(pid);
    const bool same = earlier != others_.end() && earlier->second.start_ticks == stat->start_ticks;
    // A process that was not there at the scan before took all of its time since then.
    const double took = stat->cpu_s - (same ? earlier->second.cpu_s : 0);
    if (!others_.empty() && took > top_cpu_s) {
      top_cpu_s = took;
      top = clean_text(stat->comm, 64) + ":" + std::to_string(pid);
      reading.top_other_cpu_s = took;
    }
    now[pid] = {stat->start_ticks, stat->cpu_s};
  }
  others_ = std::move(now);
  reading.top_other = std::move(top);
  next_scan_s_ += (thread_cpu_s() - before) / kScanShare;
}

/// Parents before children: a child that is read alive cannot be in the cutime that was read before
/// it, so nothing is counted twice.
std::vector<int> ProcessTree::parents_first() const {
  std::vector<int> order;
  order.reserve(members_.size());
  std::multimap<int, int> children;
  for (const auto& [pid, member] : members_) {
    if (members_.contains(member.ppid) && member.ppid != pid)
      children.emplace(member.ppid, pid);
    else
      order.push_back(pid);
  }
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto [first, last] = children.equal_range(order[i]);
    for (auto child = first; child != last; ++child) order.push_back(child->second);
  }
  return order;
}

ProcSample ProcessTree::sample_of(const Member& member, double t_s) {
  ProcSample sample;
  sample.t_s = t_s;
  sample.pid = member.pid;
  sample.ppid = member.ppid;
  sample.role = member.role;
  sample.rank = member.rank;
  sample.comm = clean_text(member.comm, 64);
  sample.cpu_s = member.cpu_s;
  sample.run_delay_s = member.delay_s;
  sample.rss_bytes = member.rss_bytes;
  sample.read_bytes = member.io.read_bytes;
  sample.write_bytes = member.io.write_bytes;
  sample.written_bytes = member.io.written_bytes;
  sample.threads = member.thread_count;
  double running = member.state == 'R' ? 1 : 0, waiting = member.state == 'D' ? 1 : 0;
  for (const auto& thread : member.threads) {
    if (thread.tid == member.pid) continue;
    running += thread.state == 'R' ? 1 : 0;
    waiting += thread.state == 'D' ? 1 : 0;
  }
  sample.threads_running = running;
  sample.threads_disk_wait = waiting;
  sample.main_state = std::string(1, member.state);
  if (member.main) {
    sample.main_cpu_s = member.main->run_s;
    sample.main_run_delay_s = member.main->delay_s;
  }
  return sample;
}

TreeReading ProcessTree::read(double t_s, bool slow) {
  TreeReading reading;
  const bool scan = slow && t_s >= next_scan_s_;
  find_members(scan);
  if (scan) {
    next_scan_s_ = t_s;
    scan_others(reading);
  }

  // Each process gets a fair share, so that one with very many threads does not hide the others.
  const auto threaded = std::count_if(members_.begin(), members_.end(), [](const auto& member) {
    return member.second.thread_count > 1;
  });
  const int share =
      std::max(kLeastThreadReads, kMaxThreadReads / std::max(1, static_cast<int>(threaded)));
  for (const int pid : parents_first()) {
    Member& member = members_.at(pid);
    thread_reads_left_ = share;
    member.alive = refresh(member, slow);
  }
  settle_ended();
  look_for_peers(slow);
  assign_roles();

  double cpu_s = lost_cpu_s_, delay_s = ended_delay_s_, rss_bytes = 0;
  bool delay_known = false;
  for (const auto& [pid, member] : members_) {
    cpu_s += member.cpu_s + std::max(member.children_cpu_s, member.ended_children_cpu_s);
    if (member.delay_s) {
      delay_s += *member.delay_s;
      delay_known = true;
    }
    rss_bytes += member.rss_bytes;
    reading.processes += 1;
    reading.threads += member.thread_count;
    reading.procs.push_back(sample_of(member, t_s));
  }
  if (root_seen_) {
    shown_cpu_s_ = std::max(shown_cpu_s_, cpu_s);
    reading.cpu_s = shown_cpu_s_;
    reading.rss_bytes = rss_bytes;
    if (delay_known || ended_delay_s_ > 0) reading.run_delay_s = delay_s;
  }
  std::stable_sort(reading.procs.begin(), reading.procs.end(),
                   [](const ProcSample& a, const ProcSample& b) {
                     const bool a_rank = a.role == "rank", b_rank = b.role == "rank";
                     if (a_rank != b_rank) return a_rank;
                     return a_rank && a.rank.value_or(1 << 30) < b.rank.value_or(1 << 30);
                   });

  for (auto& own : own_) {
    const auto text = own.stat.read_record(buffer_);
    const auto stat = text ? parse_pid_stat(*text, ticks_per_s_) : std::nullopt;
    if (stat) own.cpu_s = stat->cpu_s;
    if (own.cpu_s) reading.own_cpu_s = reading.own_cpu_s.value_or(0) + *own.cpu_s;
  }
  return reading;
}

}  // namespace rigwise
