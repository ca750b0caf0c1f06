// PythonProcess: a live process by its pid, and the proof that it is still the same one.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "base/files.h"
#include "profile/python_frames.h"
#include "profile/python_locate.h"
#include "rigwise/stacks.h"

namespace rigwise {
namespace {

constexpr std::size_t kMostMapsBytes = 16 << 20;
constexpr int kCheckEvery = 64;  // samples, while all goes well

std::filesystem::path proc_of(pid_t pid, std::string_view file) {
  return fmt::format("/proc/{}/{}", pid, file);
}

// When it started, and where its program and its stack begin: exec changes the latter two.
std::string identity_of(pid_t pid) {
  const auto stat = read_file(proc_of(pid, "stat"), 4096);
  if (!stat) return "";
  const std::size_t comm_end = stat->rfind(')');
  if (comm_end == std::string::npos) return "";
  std::string out;
  int number = 2;
  std::string_view rest = std::string_view(*stat).substr(comm_end + 1);
  while (!rest.empty()) {
    const std::size_t from = rest.find_first_not_of(' ');
    if (from == std::string_view::npos) break;
    rest.remove_prefix(from);
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(word.size());
    ++number;
    if (number == 3 && (word == "Z" || word == "X")) return "";
    if (number == 22 || number == 26 || number == 28) {  // starttime, startcode, startstack
      out += word;
      out += ' ';
    }
  }
  return out;
}

// Its id in the innermost pid namespace, which is how it knows itself.
std::uint64_t own_pid(pid_t pid) {
  auto out = static_cast<std::uint64_t>(pid);
  const auto status = read_file(proc_of(pid, "status"), 1 << 16);
  if (!status) return out;
  const std::size_t at = status->find("\nNSpid:");
  if (at == std::string::npos) return out;
  std::string_view line = std::string_view(*status).substr(at + 1);
  line = line.substr(0, line.find('\n'));
  const std::size_t last = line.find_last_of(" \t");
  if (last == std::string_view::npos) return out;
  std::from_chars(line.data() + last + 1, line.data() + line.size(), out);
  return out;
}

Error forbidden(pid_t pid) {
  std::string hint = "the same user, without a container between, may read it; so may root";
  if (const auto scope = read_file("/proc/sys/kernel/yama/ptrace_scope", 16); scope)
    if (const char level = scope->empty() ? '0' : scope->front(); level != '0')
      hint = level == '1'
                 ? "kernel.yama.ptrace_scope is 1: only a program that started it may read "
                   "it, as `rigwise run` does; `sysctl kernel.yama.ptrace_scope=0` allows "
                   "it to its user"
                 : fmt::format(
                       "kernel.yama.ptrace_scope is {}: only root may read it "
                       "(CAP_SYS_PTRACE)",
                       level);
  return {
      .code = Errc::unavailable,
      .message = fmt::format("the kernel does not let rigwise read the memory of process {}", pid),
      .hint = std::move(hint)};
}

// A file as the process has it mapped, be it replaced or in a container since: by the mapping
// itself, which needs a privilege, else by the program's own link or by its path from its root.
Fd open_mapped(pid_t pid, const MappedFile& file, bool executable) {
  std::vector<std::filesystem::path> ways{
      proc_of(pid, fmt::format("map_files/{:x}-{:x}", file.address, file.end))};
  if (executable) ways.push_back(proc_of(pid, "exe"));
  ways.push_back(proc_of(pid, "root").concat(file.path));
  for (const auto& way : ways)
    if (Fd fd(open(way.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)); fd.valid()) return fd;
  return {};
}

Error died(pid_t pid) {
  return {.code = Errc::not_found, .message = fmt::format("there is no process {}", pid)};
}

}  // namespace

struct PythonProcess::State {
  State(pid_t its_pid, std::string its_identity)
      : pid(its_pid), identity(std::move(its_identity)), memory(its_pid) {}
  pid_t pid;
  std::string identity;
  Fd handle;  // of the process: tells its end, whatever its number is used for afterwards
  ProcessMemory memory;
  std::optional<PythonFrames> frames;
  std::string version;
  int until_check = kCheckEvery;

  [[nodiscard]] bool ended() const {
    if (!handle.valid()) return false;
    pollfd ask{.fd = handle.get(), .events = POLLIN, .revents = 0};
    return poll(&ask, 1, 0) > 0;
  }
};

PythonProcess::PythonProcess(std::unique_ptr<State> state) : state_(std::move(state)) {}
PythonProcess::PythonProcess(PythonProcess&&) noexcept = default;
PythonProcess& PythonProcess::operator=(PythonProcess&&) noexcept = default;
PythonProcess::~PythonProcess() = default;

Result<PythonProcess> PythonProcess::attach(pid_t pid) {
  std::string identity = pid > 0 ? identity_of(pid) : "";
  if (identity.empty()) return died(pid);
  auto state = std::make_unique<State>(pid, std::move(identity));
  state->handle = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  std::error_code error;
  const std::string executable = std::filesystem::read_symlink(proc_of(pid, "exe"), error);
  const auto maps = read_file(proc_of(pid, "maps"), kMostMapsBytes);
  if (!maps) return identity_of(pid).empty() ? died(pid) : forbidden(pid);
  const auto files = parse_mapped_files(*maps);
  if (files.empty()) {  // a kernel thread, or just before its exec
    if (identity_of(pid).empty()) return died(pid);
    return Error{.code = Errc::unavailable,
                 .message = fmt::format("process {} has no program mapped", pid)};
  }
  auto located = locate_python(state->memory, files, executable, [&](const MappedFile& file) {
    return open_mapped(pid, file, file.path == executable);
  });
  if (!located) {
    if (state->memory.last_error() == EPERM) return forbidden(pid);
    if (const std::string now = identity_of(pid); now != state->identity) {
      if (now.empty()) return died(pid);
      return Error{.code = Errc::unavailable,
                   .message = fmt::format("process {} executed another program meanwhile", pid)};
    }
    return std::move(located).error().at(fmt::format("process {}", pid));
  }
  state->frames.emplace(state->memory, located->layout, located->runtime, own_pid(pid));
  state->version = fmt::format("3.{}", located->layout.minor);
  bool sensible = false;
  for (int i = 0; i < 3 && !sensible; ++i)  // it moves: once is no proof
    sensible = state->frames->plausible().value_or(true);
  if (!sensible)
    return Error{.code = Errc::unavailable,
                 .message = fmt::format("process {}: its interpreter is not laid out as CPython {}",
                                        pid, state->version)};
  return PythonProcess(std::move(state));
}

StackRead PythonProcess::sample(std::vector<PythonFrame>& frames) {
  frames.clear();
  if (state_->ended()) return StackRead::gone;
  const StackRead result = state_->frames->sample(frames);
  if (result == StackRead::whole && --state_->until_check > 0) return result;
  if (result == StackRead::gone) return result;
  state_->until_check = kCheckEvery;
  if (state_->memory.last_error() == ESRCH || state_->memory.last_error() == EPERM ||
      identity_of(state_->pid) != state_->identity) {
    frames.clear();
    return StackRead::gone;
  }
  return result;
}

int PythonProcess::line_of(const PythonFrame& frame) {
  return state_->frames->line_of(frame);
}

const std::string& PythonProcess::version() const {
  return state_->version;
}

std::uint64_t PythonProcess::reads() const {
  return state_->memory.calls();
}

}  // namespace rigwise
