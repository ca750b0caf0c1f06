// run_ranks(): one process a rank on this host, and the one that watches over them.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>

#include "engine/comm/ranks.h"
#include "engine/comm/sockets.h"

namespace rigwise::engine {

namespace {

using Clock = std::chrono::steady_clock;
using Say = std::function<void(std::string_view)>;

constexpr std::array kForwarded = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

Error system_error(Errc code, const std::string& what) {
  return Error{code, what + ": " + std::strerror(errno)};
}

/// A socket of the loopback interface that the ranks will meet at. It listens before any rank
/// starts, so that a free port cannot be taken by another program in between.
struct MeetingSocket {
  int fd = -1;
  int port = 0;

  MeetingSocket() = default;
  MeetingSocket(const MeetingSocket&) = delete;
  MeetingSocket& operator=(const MeetingSocket&) = delete;
  ~MeetingSocket() {
    if (fd >= 0) ::close(fd);
  }

  Status open(std::optional<int> wanted_port) {
    auto listening = listen_on("127.0.0.1", wanted_port.value_or(0));
    if (!listening) {
      Error error = std::move(listening).error();
      if (error.code == Errc::unavailable) {
        error.hint = "leave --port out (a free one is taken), or see who has it: ss -ltnp";
      }
      return error;
    }
    fd = *listening;
    RW_TRY(port, port_of(fd));
    ::fcntl(fd, F_SETFD, 0);  // rank 0 inherits it
    return Ok{};
  }
};

/// The environment of one rank: ours, less what another launcher left in it.
std::vector<std::string> environment_of(int rank, int ranks, const MeetingSocket& meeting) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    if (name == "RANK" || name == "WORLD_SIZE" || name == "LOCAL_RANK" ||
        name == "LOCAL_WORLD_SIZE" || name == "MASTER_ADDR" || name == "MASTER_PORT" ||
        name == "RIGWISE_MEETING_FD" || name.starts_with("TORCHELASTIC_")) {
      continue;
    }
    out.emplace_back(text);
  }
  out.push_back(fmt::format("RANK={}", rank));
  out.push_back(fmt::format("LOCAL_RANK={}", rank));
  out.push_back(fmt::format("WORLD_SIZE={}", ranks));
  out.push_back(fmt::format("LOCAL_WORLD_SIZE={}", ranks));
  out.push_back("MASTER_ADDR=127.0.0.1");
  out.push_back(fmt::format("MASTER_PORT={}", meeting.port));
  out.push_back(fmt::format("RIGWISE_MEETING_FD={}", meeting.fd));
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (auto& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

using Queued = std::map<std::string, double>;  // by thread

struct RankProcess {
  pid_t pid = 0;
  bool running = false;
  Queued queued_s;  // when the end began
};

/// How long each thread of a process has been ready to run and had no CPU.
Queued queued_s(pid_t pid) {
  Queued threads;
  std::error_code ignored;
  const std::filesystem::path tasks = "/proc/" + std::to_string(pid) + "/task";
  for (std::filesystem::directory_iterator task(tasks, ignored), end; task != end;
       task.increment(ignored)) {
    std::ifstream file(task->path() / "schedstat");
    double running_ns = 0, waiting_ns = 0;
    if (file >> running_ns >> waiting_ns) threads[task->path().filename()] = waiting_ns / 1e9;
  }
  return threads;
}

/// Of the thread that had to wait longest since.
double queued_since_s(pid_t pid, const Queued& before) {
  double longest_s = 0;
  for (const auto& [thread, now_s] : queued_s(pid)) {
    const auto then = before.find(thread);
    longest_s = std::max(longest_s, now_s - (then == before.end() ? 0 : then->second));
  }
  return longest_s;
}

class Watch {
 public:
  Watch(const RanksOptions& options, const Say& say) : options_(options), say_(say) {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGCHLD);
    for (const int number : kForwarded) {
      struct sigaction action = {};
      ::sigaction(number, nullptr, &action);
      if (action.sa_handler != SIG_IGN) sigaddset(&signals_, number);  // nohup's stays ignored
    }
    ::sigprocmask(SIG_BLOCK, &signals_, &before_);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

  Status start(std::vector<std::string> argv, const MeetingSocket& meeting) {
    const pid_t parent = ::getpid();
    for (int rank = 0; rank < options_.ranks; ++rank) {
      std::vector<std::string> environment = environment_of(rank, options_.ranks, meeting);
      const auto words = pointers(argv);
      const auto variables = pointers(environment);
      const pid_t pid = ::fork();
      if (pid < 0) {
        const Error error =
            system_error(Errc::io, fmt::format("rank {} could not be started", rank));
        send_all(SIGKILL);
        return error;
      }
      if (pid == 0) {  // between here and exec only calls that are safe behind a fork
        ::prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (::getppid() != parent) ::_exit(1);
        if (rank != 0) ::close(meeting.fd);
        ::sigprocmask(SIG_SETMASK, &before_, nullptr);
        ::execve("/proc/self/exe", words.data(), variables.data());
        ::_exit(127);
      }
      processes_.push_back({pid, true});
    }
    return Ok{};
  }

  int wait() {
    while (running() > 0) {
      const int number = next_signal();
      if (number == SIGCHLD || number == 0) {
        reap();
      } else {
        if (number == SIGUSR1 || number == SIGUSR2) continue;  // the ranks' own business
        interrupted_by_ = number;
        begin_end();
      }
      press();
    }
    if (first_failure_) return *first_failure_;
    return 0;
  }

 private:
  [[nodiscard]] int running() const {
    int count = 0;
    for (const auto& process : processes_) count += process.running ? 1 : 0;
    return count;
  }

  void send_all(int number) const {
    for (const auto& process : processes_) {
      if (process.running) ::kill(process.pid, number);
    }
  }

  /// The next signal for us, forwarded if it is not one that the terminal gave to the ranks too; 0
  /// when there was none for a while.
  int next_signal() const {
    siginfo_t info = {};
    const timespec while_ending = {0, 100'000'000};
    const timespec idle = {3600, 0};
    const int number = ::sigtimedwait(&signals_, &info, ending_ ? &while_ending : &idle);
    if (number <= 0) return 0;
    if (number != SIGCHLD && info.si_code != SI_KERNEL) send_all(number);
    return number;
  }

  void reap() {
    for (std::size_t rank = 0; rank < processes_.size(); ++rank) {
      auto& process = processes_[rank];
      int status = 0;
      if (!process.running || ::waitpid(process.pid, &status, WNOHANG) != process.pid) continue;
      process.running = false;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
      note_failure(rank, status);
    }
  }

  void note_failure(std::size_t rank, int status) {
    const bool first = !first_failure_;
    if (WIFSIGNALED(status)) {
      const int number = WTERMSIG(status);
      if (first) first_failure_ = interrupted_by_ != 0 ? 128 + interrupted_by_ : 1;
      if (!pressed_ && interrupted_by_ == 0) {
        say_(fmt::format("rank {} (pid {}) was killed by signal {} ({})", rank,
                         processes_[rank].pid, number, ::strsignal(number)));
      }
    } else if (first) {
      first_failure_ = interrupted_by_ != 0 ? 128 + interrupted_by_ : WEXITSTATUS(status);
    }
    begin_end();
  }

  void begin_end() {
    if (ending_) return;
    ending_ = true;
    begin_grace();
  }

  void begin_grace() {
    grace_began_ = Clock::now();
    for (auto& process : processes_) {
      if (process.running) process.queued_s = queued_s(process.pid);
    }
  }

  /// Have all that still run had their time? What a rank stood in a queue for a CPU is none of it:
  /// a host that others keep busy must not cost the line that says who was lost.
  [[nodiscard]] bool grace_is_over() const {
    constexpr double kMostGraces = 6;
    const double passed_s = std::chrono::duration<double>(Clock::now() - grace_began_).count();
    if (passed_s < options_.grace_s) return false;
    if (passed_s > kMostGraces * options_.grace_s) return true;
    return std::all_of(processes_.begin(), processes_.end(), [&](const RankProcess& process) {
      return !process.running ||
             passed_s - queued_since_s(process.pid, process.queued_s) >= options_.grace_s;
    });
  }

  /// Ranks that did not end by themselves in time: asked first, then killed.
  void press() {
    if (!ending_ || running() == 0 || !grace_is_over()) return;
    say_(fmt::format("{} {} still running {:.0f} s after {}: {}", running(),
                     running() == 1 ? "rank was" : "ranks were",
                     std::chrono::duration<double>(Clock::now() - grace_began_).count(),
                     pressed_ ? "that" : "the first failure",
                     pressed_ ? "killed" : "asked to end"));
    send_all(pressed_ ? SIGKILL : SIGTERM);
    pressed_ = true;
    begin_grace();
  }

  const RanksOptions& options_;
  const Say& say_;
  sigset_t signals_ = {}, before_ = {};
  std::vector<RankProcess> processes_;
  std::optional<int> first_failure_;
  int interrupted_by_ = 0;
  bool ending_ = false, pressed_ = false;
  Clock::time_point grace_began_ = {};
};

}  // namespace

Result<int> run_ranks(const std::vector<std::string>& argv, const RanksOptions& options,
                      const Say& say) {
  MeetingSocket meeting;
  RW_CHECK(meeting.open(options.port));
  Watch watch(options, say);
  RW_CHECK(watch.start(argv, meeting));
  ::close(meeting.fd);  // rank 0 has it
  meeting.fd = -1;
  return watch.wait();
}

}  // namespace rigwise::engine
