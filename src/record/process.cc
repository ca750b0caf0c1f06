#include "record/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/files.h"
#include "base/text.h"

extern char** environ;

namespace rigwise {

namespace {
// Faults and aborts of our own must not be blocked; KILL and STOP cannot be.
bool is_handled(int signal) {
  switch (signal) {
    case SIGKILL:
    case SIGSTOP:
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGABRT:
      return false;
    default:
      return signal > 0 && signal < 32;
  }
}

/// A small file of /proc.
std::string proc_text(const std::string& path) {
  auto text = read_file(path, 1 << 16);
  return text ? std::move(*text) : std::string();
}

/// Fields of /proc/PID/stat after the command name; [0] is the state (field 3).
std::vector<std::string_view> stat_fields(const std::string& text) {
  const auto end = text.rfind(')');
  if (end == std::string::npos || end + 2 >= text.size()) return {};
  return split(std::string_view(text).substr(end + 2), ' ');
}
}  // namespace

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal = 1; signal < 32; ++signal) {
    if (is_handled(signal)) sigaddset(&set, signal);
  }
  return set;
}

SignalState SignalState::take_over() {
  SignalState state;
  const sigset_t handled = handled_signals();
  ::sigprocmask(SIG_BLOCK, &handled, &state.mask_);
  for (int signal = 1; signal < 32; ++signal) {
    if (!is_handled(signal)) continue;
    ::sigaction(signal, nullptr, &state.actions_[static_cast<std::size_t>(signal)]);
    struct sigaction plain = {};
    plain.sa_handler = signal == SIGPIPE ? SIG_IGN : SIG_DFL;
    ::sigaction(signal, &plain, nullptr);
  }
  return state;
}

void SignalState::restore() const {
  for (int signal = 1; signal < 32; ++signal) {
    if (is_handled(signal)) {
      ::sigaction(signal, &actions_[static_cast<std::size_t>(signal)], nullptr);
    }
  }
  ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
}

void drop_pending_signals() {
  sigset_t handled = handled_signals();
  sigdelset(&handled, SIGCHLD);
  const timespec now = {0, 0};
  while (::sigtimedwait(&handled, nullptr, &now) > 0) {
  }
}

bool is_pending(pid_t pid, int signal) {
  const std::string text = proc_text("/proc/" + std::to_string(pid) + "/status");
  const auto at = text.find("\nShdPnd:");
  if (at == std::string::npos) return false;
  const auto bits = std::strtoull(text.c_str() + at + 8, nullptr, 16);
  return (bits >> (signal - 1) & 1) != 0;
}

std::optional<double> cpu_seconds_of(pid_t pid) {
  clockid_t clock = {};
  timespec used = {};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0) {
    return std::nullopt;
  }
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

bool signal_process(pid_t pid, const std::string& comm, int signal) {
  // Held by a descriptor first, so that it is the one that is looked at which gets the signal.
  const Fd held(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  std::string name = proc_text("/proc/" + std::to_string(pid) + "/comm");
  if (name.ends_with('\n')) name.pop_back();
  if (name.empty() || clean_text(name, 64) != comm) return false;
  if (!held.valid()) return errno == ENOSYS && ::kill(pid, signal) == 0;
  return ::syscall(SYS_pidfd_send_signal, held.get(), signal, nullptr, 0) == 0;
}

std::optional<std::uint64_t> main_thread_runtime_ns(pid_t pid) {
  const std::string text = proc_text("/proc/" + std::to_string(pid) + "/schedstat");
  if (text.empty()) return std::nullopt;
  return std::strtoull(text.c_str(), nullptr, 10);
}

void set_process_title(const std::string& title) {
  ::prctl(PR_SET_NAME, title.substr(0, 15).c_str());
  const std::string text = proc_text("/proc/self/stat");
  const auto fields = stat_fields(text);  // fields[N - 3] is field N of proc(5)
  if (fields.size() < 49) return;
  const auto address = [&](std::size_t field) {
    return std::strtoull(std::string(fields[field - 3]).c_str(), nullptr, 10);
  };
  const auto arg_start = address(48), arg_end = address(49);
  const auto env_start = address(50), env_end = address(51);
  if (arg_start == 0 || arg_end <= arg_start + 1) return;
  std::size_t room = arg_end - arg_start;
  char* area = reinterpret_cast<char*>(arg_start);  // our own argument strings
  if (room < title.size() + 1 && env_start == arg_end && env_end > env_start) {
    std::size_t count = 0;
    while (environ[count] != nullptr) ++count;
    auto** moved = static_cast<char**>(std::calloc(count + 1, sizeof(char*)));
    if (moved == nullptr) return;
    for (std::size_t i = 0; i < count; ++i) moved[i] = ::strdup(environ[i]);
    environ = moved;
    room = env_end - arg_start;
  }
  std::memset(area, 0, room);
  // The kernel shows the whole area; a byte that is not zero at its end would make it look for
  // more.
  std::memcpy(area, title.data(), std::min(title.size(), room - 1));
}

std::vector<int> inherited_descriptors() {
  std::vector<int> found;
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return found;
  while (const dirent* entry = ::readdir(folder)) {
    const int fd = std::atoi(entry->d_name);
    if (fd <= 2 || fd == ::dirfd(folder)) continue;
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) found.push_back(fd);
  }
  ::closedir(folder);
  return found;
}

void detach_standard_streams() {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (int fd = 0; fd <= 2; ++fd) ::dup2(null, fd);
  if (null > 2) ::close(null);
}

}  // namespace rigwise
