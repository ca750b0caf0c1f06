#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
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
/// A child of our own group is asked first: it may have children that it must end itself.
void end_late(pid_t pid, bool share_group) {
  constexpr int kPatience_ms = 10000, kLook_ms = 20;
  int status = 0;
  if (share_group) {
    ::kill(pid, SIGTERM);
    for (int waited = 0; waited < kPatience_ms; waited += kLook_ms) {
      if (::waitpid(pid, &status, WNOHANG) == pid) return;
      ::poll(nullptr, 0, kLook_ms);
    }
  }
  ::kill(share_group ? pid : -pid, SIGKILL);
  ::waitpid(pid, &status, 0);
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
  posix_spawnattr_setflags(&attributes,
                           static_cast<short>((options.share_group ? 0 : POSIX_SPAWN_SETPGROUP) |
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
  ::fcntl(in.write.get(), F_SETFL, O_NONBLOCK);

  ProcessOutput result;
  std::string_view input = options.input;
  if (input.empty()) in.write.reset();
  const double deadline = monotonic_s() + static_cast<double>(options.limit.count()) / 1000;
  bool late = false;
  while (out.read.valid() || err.read.valid()) {
    const int left_ms = static_cast<int>((deadline - monotonic_s()) * 1000);
    if (left_ms <= 0) {
      late = true;
      break;
    }
    std::array<pollfd, 3> fds = {pollfd{out.read.get(), POLLIN, 0},
                                 pollfd{err.read.get(), POLLIN, 0},
                                 pollfd{in.write.get(), POLLOUT, 0}};
    if (::poll(fds.data(), fds.size(), left_ms) < 0 && errno != EINTR) break;
    const auto drain = [&](const pollfd& entry, Fd& fd, std::string& into) {
      if (!fd.valid() || entry.revents == 0) return;
      std::array<char, 16384> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
      const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) return;
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
  // Output may end long before the process does; the limit holds for both.
  int status = 0;
  while (!late) {
    const pid_t done = ::waitpid(pid, &status, WNOHANG);
    if (done == pid) break;
    if (done < 0 && errno != EINTR)
      return Error{Errc::io, argv[0] + ": cannot wait: " + errno_text(errno)};
    if (monotonic_s() >= deadline) late = true;
    ::poll(nullptr, 0, 2);
  }
  if (late) {
    end_late(pid, options.share_group);
    return Error{Errc::unavailable,
                 argv[0] + ": no answer within " + std::to_string(options.limit.count()) + " ms"};
  }
  result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace rigwise
