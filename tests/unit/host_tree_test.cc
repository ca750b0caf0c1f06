#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "base/clock.h"
#include "host/machine.h"
#include "host/tree.h"
#include "host/worker.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

void spin_cpu(double cpu_s) {
  timespec now = {};
  do {
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  } while (static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 < cpu_s);
}

void nap(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

/// A child that does as it is told, and is killed with its whole process group at the end.
class Child {
 public:
  explicit Child(const std::function<void()>& body) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::setpgid(0, 0);
    body();
    ::_exit(0);
  }
  ~Child() {
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  [[nodiscard]] int pid() const { return pid_; }

 private:
  pid_t pid_;
};

/// Ticks until `done` or for a generous while.
TreeReading tick_until(ProcessTree& tree, const std::function<bool(const TreeReading&)>& done) {
  TreeReading reading;
  for (int i = 0; i < 500; ++i) {
    reading = tree.read(i, i % 10 == 0);
    if (done(reading)) break;
    nap(20);
  }
  return reading;
}

TEST(HostTree, CpuOfEndedChildrenStays) {
  // A parent whose short-lived children each take 50 ms: those that live and die between two ticks,
  // those that are seen alive, and one that nobody waits for while it lives.
  const Child parent([] {
    for (int i = 0; i < 6; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        spin_cpu(0.05);
        ::usleep(30000);
        ::_exit(0);
      }
      ::waitpid(pid, nullptr, 0);
    }
    for (;;) ::pause();
  });
  ProcessTree tree({}, parent.pid(), 0, {});
  double last = 0;
  bool back = false;
  const auto reading = tick_until(tree, [&](const TreeReading& now) {
    back = back || now.cpu_s.value_or(0) < last;
    last = now.cpu_s.value_or(0);
    return last >= 0.27 && now.processes == 1;
  });
  EXPECT_FALSE(back);
  EXPECT_GE(reading.cpu_s.value_or(0), 0.27);
  EXPECT_LE(reading.cpu_s.value_or(0), 0.45);
  EXPECT_EQ(reading.processes, 1);
}

TEST(HostTree, CpuOfChildrenThatNobodyWaitsForStaysToo) {
  // SIGCHLD ignored: the kernel adds nothing to the parent's cutime.
  const Child parent([] {
    ::signal(SIGCHLD, SIG_IGN);
    if (::fork() == 0) {
      spin_cpu(0.2);
      ::usleep(300000);
      ::_exit(0);
    }
    for (;;) ::pause();
  });
  ProcessTree tree({}, parent.pid(), 0, {});
  bool both = false;
  const auto reading = tick_until(tree, [&](const TreeReading& now) {
    both = both || (now.processes == 2 && now.cpu_s.value_or(0) >= 0.19);
    return both && now.processes == 1;
  });
  ASSERT_TRUE(both);
  EXPECT_GE(reading.cpu_s.value_or(0), 0.18);
  EXPECT_GT(tree.read(1000, true).cpu_s.value_or(0), 0.18);
}

TEST(HostTree, OrphansStayInTheTree) {
  // The middle process ends; its child, adopted by another, is still the run's.
  const Child parent([] {
    if (::fork() == 0) {
      if (::fork() == 0) {
        for (;;) ::pause();
      }
      ::usleep(400000);
      ::_exit(0);
    }
    while (::wait(nullptr) < 0) {
    }
    for (;;) ::pause();
  });
  ProcessTree tree({}, parent.pid(), 0, {});
  tick_until(tree, [](const TreeReading& now) { return now.processes == 3; });
  const auto reading = tick_until(tree, [](const TreeReading& now) { return now.processes == 2; });
  ASSERT_EQ(reading.processes, 2);
  for (const auto& process : reading.procs) {
    if (process.pid != parent.pid()) {
      EXPECT_NE(process.ppid, parent.pid());
    }
  }
  for (const auto& process : reading.procs) ::kill(process.pid, SIGKILL);
}

TEST(HostTree, ThreadsAndRunDelay) {
  const Child parent([] {
    for (int i = 0; i < 3; ++i)
      std::thread([] {
        for (;;) ::pause();
      }).detach();
    for (;;) ::pause();
  });
  ProcessTree tree({}, parent.pid(), 0, {::getpid()});
  const auto reading = tick_until(tree, [](const TreeReading& now) {
    return now.threads >= 4 && !now.procs.empty() && now.procs[0].main_state == "S" &&
           now.procs[0].threads_running == 0;
  });
  ASSERT_GE(reading.threads, 4);  // a sanitizer adds one of its own
  ASSERT_EQ(reading.procs.size(), 1u);
  EXPECT_EQ(reading.procs[0].main_state, "S");
  EXPECT_EQ(reading.procs[0].threads_running, 0);
  EXPECT_GT(reading.own_cpu_s.value_or(0), 0);
  EXPECT_GT(reading.rss_bytes.value_or(0), 0);
  EXPECT_EQ(fs::exists("/proc/self/schedstat"), reading.run_delay_s.has_value());
}

TEST(HostTree, TheOtherThatTookMost) {
  const Child other([] {
    ::prctl(PR_SET_NAME, "greedy,one");
    for (;;) {
    }
  });
  const Child parent([] {
    for (;;) ::pause();
  });
  ProcessTree tree({}, parent.pid(), 0, {::getpid()});
  // Other programs may take more on a busy machine: then one of them is named.
  tree.read(0, true);
  nap(400);
  const auto reading = tree.read(1e6, true);
  EXPECT_FALSE(reading.top_other.empty());
  EXPECT_GT(reading.top_other_cpu_s.value_or(0), 0.05);
  EXPECT_NE(reading.top_other, "host_test:" + std::to_string(parent.pid()));
}

/// A made /proc of single files.
class MadeProc {
 public:
  MadeProc() : root_(fs::temp_directory_path() / ("rigwise-host-" + std::to_string(::getpid()))) {
    fs::remove_all(root_);
    fs::create_directories(root_ / "proc");
    put("proc/loadavg", "0 0 0 1/1 1\n");
  }
  ~MadeProc() { fs::remove_all(root_); }
  MadeProc(const MadeProc&) = delete;
  MadeProc& operator=(const MadeProc&) = delete;
  void put(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void process(int pid, int ppid, int utime, int start, const std::string& comm = "python",
               int threads = 1) const {
    put("proc/" + std::to_string(pid) + "/stat",
        std::to_string(pid) + " (" + comm + ") S " + std::to_string(ppid) + " 1 1 0 -1 0 0 0 0 0 " +
            std::to_string(utime) + " 0 0 0 20 0 " + std::to_string(threads) + " 0 " +
            std::to_string(start) + " 0 10 0 0 0 0\n");
    put("proc/" + std::to_string(pid) + "/cmdline", std::string("python\0train.py\0", 16));
  }
  void last_pid(int pid) const { put("proc/loadavg", "0 0 0 1/1 " + std::to_string(pid) + "\n"); }
  [[nodiscard]] HostRoot root() const { return {.root = root_}; }

 private:
  fs::path root_;
};

TEST(HostTree, AReusedPidIsAnotherProcess) {
  MadeProc proc;
  proc.process(100, 1, 500, 1000);
  proc.process(101, 100, 300, 1001);
  ProcessTree tree(proc.root(), 100, 0, {});
  auto reading = tree.read(0, true);
  EXPECT_EQ(reading.processes, 2);
  EXPECT_DOUBLE_EQ(reading.cpu_s.value_or(0), 8);
  // 101 ended; its pid is a foreign process now, with much CPU of its own.
  proc.process(101, 1, 90000, 2000, "chrome");
  proc.last_pid(101);
  reading = tree.read(1, false);
  EXPECT_EQ(reading.processes, 1);
  EXPECT_DOUBLE_EQ(reading.cpu_s.value_or(0), 8);
  reading = tree.read(2, false);
  EXPECT_EQ(reading.processes, 1);
  EXPECT_DOUBLE_EQ(reading.cpu_s.value_or(0), 8);
  // The command itself ends and its pid is reused: nothing of the new one is counted.
  proc.process(100, 1, 70000, 3000, "cc1");
  proc.last_pid(100);
  reading = tree.read(3, false);
  EXPECT_EQ(reading.processes, 0);
  EXPECT_DOUBLE_EQ(reading.cpu_s.value_or(0), 8);
}

TEST(HostTree, VeryManyThreadsAreReadInTurns) {
  MadeProc proc;
  for (const int pid : {100, 10000}) {
    proc.process(pid, pid == 100 ? 1 : 100, 500, 1000, "python", 200);
    for (int tid = pid; tid < pid + 200; ++tid) {
      const std::string task =
          "proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/schedstat";
      proc.put(task, "1000 10000000 1\n");  // 10 ms each
    }
  }
  ProcessTree tree(proc.root(), 100, 0, {});
  TreeReading reading;
  for (int i = 0; i < 4; ++i) reading = tree.read(i, false);
  ASSERT_EQ(reading.procs.size(), 2u);
  EXPECT_NEAR(reading.procs[0].run_delay_s.value_or(0), 2, 1e-9);
  EXPECT_NEAR(reading.procs[1].run_delay_s.value_or(0), 2, 1e-9);
  EXPECT_EQ(reading.threads, 400);
}

TEST(HostTree, OrphansNeverSeenUnderTheirParent) {
  MadeProc proc;
  proc.process(50, 1, 1, 10, "front");
  proc.process(100, 60, 500, 1000);
  proc.process(60, 50, 1, 11, "keeper");
  proc.process(200, 50, 100, 1500, "daemon");  // adopted by the front
  ProcessTree tree(proc.root(), 100, 50, {50, 60});
  EXPECT_EQ(tree.read(0, true).processes, 2);
}

TEST(HostTree, GarbageIsNoProcess) {
  MadeProc proc;
  proc.process(100, 1, 500, 1000);
  proc.put("proc/101/stat", "101 (x) S");
  proc.put("proc/102/stat", "");
  proc.put("proc/103/stat", std::string(20000, '('));
  proc.process(104, 100, 1, 1, "\x1b[31mred\n");
  ProcessTree tree(proc.root(), 100, 0, {});
  const auto reading = tree.read(0, true);
  EXPECT_EQ(reading.processes, 2);
  EXPECT_EQ(reading.procs[1].comm.find('\x1b'), std::string::npos);
}

// ---------------------------------------------------------------------------------------------
// workers

TEST(HostWorker, AHangBlocksNobodyAndTheSourceComesBack) {
  auto hang = std::make_shared<std::atomic<bool>>(true);
  Worker<int, int> worker("slow", [hang](const int& question) {
    while (*hang && question == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return question;
  });
  const auto soon = [] { return std::chrono::steady_clock::now() + std::chrono::milliseconds(30); };
  const auto later = [] { return std::chrono::steady_clock::now() + std::chrono::seconds(20); };
  EXPECT_TRUE(worker.post(1));
  EXPECT_FALSE(worker.wait(soon()));
  EXPECT_FALSE(worker.post(2));  // still at it
  *hang = false;
  while (worker.busy()) nap(1);
  EXPECT_TRUE(worker.post(3));
  EXPECT_EQ(worker.wait(later()), 3);  // never the stale 1
  EXPECT_FALSE(worker.wait(soon()));   // once only
}

TEST(HostWorker, OneThatHangsCanBeLeft) {
  auto hang = std::make_shared<std::atomic<bool>>(true);
  {
    Worker<int, int> worker("stuck", [hang](const int&) {
      while (*hang) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return 0;
    });
    worker.post(1);
  }
  *hang = false;
}

TEST(HostWorker, AThrowingSourceIsOneLostAnswer) {
  Worker<int, int> worker("throws", [](const int& question) -> int {
    if (question == 1) throw std::runtime_error("no");
    return question;
  });
  worker.post(1);
  while (worker.busy()) nap(1);
  EXPECT_TRUE(worker.post(2));
  EXPECT_EQ(worker.wait(std::chrono::steady_clock::now() + std::chrono::seconds(20)), 2);
}

// ------------------------------------------------------------------------------- the real machine

TEST(HostSampler, TicksOnThisMachine) {
  const Child parent([] {
    spin_cpu(0.1);
    for (;;) ::pause();
  });
  SamplerOptions options;
  options.root_pid = parent.pid();
  options.own_pids = {::getpid()};
  options.watched_paths = {fs::temp_directory_path()};
  options.source_limit = std::chrono::seconds(20);
  HostSampler sampler({}, options);
  const HostReading first = sampler.tick(0);
  ASSERT_TRUE(first.host);
  EXPECT_EQ(first.dropped, std::vector<std::string>());
  EXPECT_GT(first.host->cpu_busy_s.value_or(0), 0);
  EXPECT_GT(first.host->mem_total_bytes.value_or(0),
            first.host->mem_available_bytes.value_or(1e30));
  EXPECT_TRUE(first.host->wall_unix_s);
  EXPECT_EQ(first.host->tree_processes, 1);
  const auto space = std::find_if(first.disks.begin(), first.disks.end(),
                                  [](const DiskSample& disk) { return disk.fs_total_bytes > 0; });
  EXPECT_NE(space, first.disks.end());
  HostReading reading;
  for (int i = 1; i < 200; ++i) {
    nap(20);
    reading = sampler.tick(i * 0.02);
    if (reading.host->tree_cpu_s >= 0.09) break;
  }
  EXPECT_GE(reading.host->tree_cpu_s.value_or(0), 0.09);
  EXPECT_TRUE(reading.host->others_cpu_s);
  EXPECT_GE(reading.host->others_cpu_s.value_or(-1), 0);
  ASSERT_EQ(sampler.tree().size(), 1u);
  EXPECT_EQ(sampler.tree()[0].pid, parent.pid());
}

TEST(HostSampler, FreeSpaceOfAPathThatIsAddedLater) {
  SamplerOptions options;
  options.source_limit = std::chrono::seconds(20);
  HostSampler sampler({}, options);
  sampler.tick(0);
  sampler.watch_path(fs::temp_directory_path() / "not-made-yet");
  const HostReading reading = sampler.tick(1);  // no slow tick: new paths do not wait for one
  const auto space = std::find_if(reading.disks.begin(), reading.disks.end(),
                                  [](const DiskSample& disk) { return disk.fs_free_bytes > 0; });
  EXPECT_NE(space, reading.disks.end());
}

TEST(HostSampler, ProcessesThatEndedLeaveATick) {
  SamplerOptions options;
  {
    const Child parent([] {});
    options.root_pid = parent.pid();
  }
  options.source_limit = std::chrono::seconds(20);
  HostSampler sampler({}, options);
  const HostReading reading = sampler.tick(0);
  EXPECT_TRUE(reading.procs.empty());
  EXPECT_FALSE(reading.host->tree_cpu_s);  // never seen: absent, not 0
}

}  // namespace
}  // namespace rigwise
