#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/files.h"

extern char** environ;

namespace rigwise {

namespace {
struct Pipe {
  Fd read, write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> fds = {};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0)
    return Error{Errc::io, "cannot make a pipe: " + errno_text(errno)};
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (auto& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}
/// Waits for a child's end, at most that long.
bool ends_within(pid_t pid, int patience_ms) {
  constexpr int kLook_ms = 20;
  for (int waited_ms = 0;; waited_ms += kLook_ms) {
    if (::waitpid(pid, nullptr, WNOHANG) != 0) return true;
    if (waited_ms >= patience_ms) return false;
    ::poll(nullptr, 0, kLook_ms);
  }
}
/// One that hangs inside the kernel outlives SIGKILL, so nobody waits for it for ever. `polite`:
/// asked first, since it may have children that it must end itself.
void end_late(pid_t pid, bool own_group, bool polite) {
  constexpr int kPolite_ms = 10000, kKilled_ms = 1000;
  if (polite) {
    ::kill(pid, SIGTERM);
    if (ends_within(pid, kPolite_ms)) return;
  }
  ::kill(own_group ? -pid : pid, SIGKILL);
  ends_within(pid, kKilled_ms);
}

/// In a child of run_in_child: what it starts stays in its group, and so ends with it.
bool guarded_child = false;

[[noreturn]] void serve_as_child(const std::function<std::string()>& work, int answer) {
  guarded_child = true;
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (answer <= 2) answer = ::fcntl(answer, F_DUPFD_CLOEXEC, 3);  // started with closed streams
  // a library that talks must not talk into the caller's own output
  const Fd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (nothing.valid()) {
    for (const int stream : {0, 1, 2}) ::dup2(nothing.get(), stream);
  }
  int status = 1;
  try {
    const std::string text = work();
    status = write_all(answer, text) == text.size() ? 0 : 1;
  } catch (...) {  // told by the status
  }
  ::_exit(status);
}
}  // namespace

Result<ProcessOutput> run_process(const std::vector<std::string>& argv,
                                  const ProcessOptions& options) {
  if (argv.empty()) return Error{Errc::internal, "run_process: empty command"};
  RW_TRY(Pipe in, make_pipe());
  RW_TRY(Pipe out, make_pipe());
  RW_TRY(Pipe err, make_pipe());

  std::vector<std::string> arguments = argv;
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  for (const auto& entry : options.extra_env) {
    const std::string prefix = entry.substr(0, entry.find('=') + 1);
    std::erase_if(environment, [&](const std::string& have) { return have.starts_with(prefix); });
    environment.push_back(entry);
  }

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.read.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, out.write.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, err.write.get(), 2);
  if (options.cwd) posix_spawn_file_actions_addchdir_np(&actions, options.cwd->c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  const bool own_group = !options.share_group && !guarded_child;
  posix_spawnattr_setflags(&attributes,
                           static_cast<short>((own_group ? POSIX_SPAWN_SETPGROUP : 0) |
                                              POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK));
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setsigmask(&attributes, &none);

  pid_t pid = 0;
  const int failed = ::posix_spawnp(&pid, arguments[0].c_str(), &actions, &attributes,
                                    pointers(arguments).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    return Error{failed == ENOENT ? Errc::not_found : Errc::io,
                 argv[0] + ": cannot start: " + errno_text(failed)};
  }
  in.read.reset();
  out.write.reset();
  err.write.reset();
  for (const Fd* end : {&in.write, &out.read, &err.read}) ::fcntl(end->get(), F_SETFL, O_NONBLOCK);

  ProcessOutput result;
  std::string_view input = options.input;
  if (input.empty()) in.write.reset();
  const double deadline = monotonic_s() + static_cast<double>(options.limit.count()) / 1000;
  bool late = false, ended = false;
  int status = 0;
  while (!ended || out.read.valid() || err.read.valid()) {
    // A daemon that it left behind may hold the pipes for ever: its own end counts, not theirs.
    // Looked at before they are emptied, so that nothing it wrote is left in them.
    if (!ended) {
      const pid_t done = ::waitpid(pid, &status, WNOHANG);
      if (done < 0 && errno != EINTR)
        return Error{Errc::io, argv[0] + ": cannot wait: " + errno_text(errno)};
      ended = done == pid;
    }
    if (monotonic_s() >= deadline) {
      late = !ended;
      break;
    }
    constexpr int kLook_ms = 20;
    const bool open = out.read.valid() || err.read.valid();
    std::array<pollfd, 3> fds = {pollfd{out.read.get(), POLLIN, 0},
                                 pollfd{err.read.get(), POLLIN, 0},
                                 pollfd{in.write.get(), POLLOUT, 0}};
    const int ready = ::poll(fds.data(), fds.size(), ended ? 0 : open ? kLook_ms : 2);
    if (ready < 0 && errno != EINTR) {
      late = !ended;
      break;
    }
    if (ended && ready == 0) break;
    const auto drain = [&](const pollfd& entry, Fd& fd, std::string& into) {
      if (!fd.valid() || entry.revents == 0) return;
      std::array<char, 16384> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
      const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
      if (count <= 0) return fd.reset();
      const std::size_t room =
          options.max_output_bytes - std::min(options.max_output_bytes, into.size());
      const std::size_t take = std::min(room, static_cast<std::size_t>(count));
      into.append(buffer.data(), take);
      if (take < static_cast<std::size_t>(count)) result.truncated = true;
    };
    drain(fds[0], out.read, result.out);
    drain(fds[1], err.read, result.err);
    if (in.write.valid() && fds[2].revents != 0) {
      const ssize_t count = ::write(in.write.get(), input.data(), input.size());
      if (count > 0) input.remove_prefix(static_cast<std::size_t>(count));
      if (input.empty() || (count < 0 && errno != EAGAIN && errno != EINTR)) in.write.reset();
    }
  }
  if (late) {
    end_late(pid, own_group, options.share_group);
    return Error{Errc::unavailable,
                 argv[0] + ": no answer within " + std::to_string(options.limit.count()) + " ms"};
  }
  result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

Result<std::string> run_in_child(const std::function<std::string()>& work,
                                 std::chrono::milliseconds limit, std::size_t max_bytes) {
  RW_TRY(Pipe answer, make_pipe());
  const pid_t pid = ::fork();
  if (pid < 0) return Error{Errc::io, "cannot fork: " + errno_text(errno)};
  if (pid == 0) serve_as_child(work, answer.write.get());
  ::setpgid(pid, pid);  // both sides, so that the group is there whoever comes first
  answer.write.reset();

  std::string text;
  const double deadline = monotonic_s() + static_cast<double>(limit.count()) / 1000;
  while (true) {
    const int left_ms = static_cast<int>((deadline - monotonic_s()) * 1000);
    pollfd entry = {answer.read.get(), POLLIN, 0};
    const int ready = left_ms > 0 ? ::poll(&entry, 1, left_ms) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || text.size() > max_bytes) {
      end_late(pid, true, false);
      if (text.size() > max_bytes)
        return Error{Errc::io, "more than " + std::to_string(max_bytes) + " bytes of answer"};
      return Error{Errc::unavailable, "no answer within " + std::to_string(limit.count()) + " ms"};
    }
    std::array<char, 16384> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
    const ssize_t count = ::read(answer.read.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  int status = 0;
  pid_t done = 0;
  while ((done = ::waitpid(pid, &status, WNOHANG)) == 0 && monotonic_s() < deadline)
    ::poll(nullptr, 0, 2);
  if (done == 0) {
    end_late(pid, true, false);
    return Error{Errc::unavailable, "did not end within " + std::to_string(limit.count()) + " ms"};
  }
  if (done == pid && WIFSIGNALED(status))
    return Error{Errc::io, "ended by signal " + std::to_string(WTERMSIG(status))};
  if (done == pid && WEXITSTATUS(status) != 0)
    return Error{Errc::io, "ended by an error of its own"};
  return text;
}

}  // namespace rigwise
