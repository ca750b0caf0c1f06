#include "record/launch.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/text.h"
#include "host/tree.h"
#include "record/nccl_environment.h"
#include "record/secrets.h"

extern char** environ;

namespace rigwise {

namespace {

/// The same open file: what one writes, the other writes behind it.
bool same_open_file(int a, int b) {
  struct stat first = {}, second = {};
  if (::fstat(a, &first) != 0 || ::fstat(b, &second) != 0) return false;
  if (S_ISCHR(first.st_mode) && S_ISCHR(second.st_mode) && ::isatty(a) == 1 && ::isatty(b) == 1) {
    return first.st_rdev == second.st_rdev;
  }
  if (first.st_dev != second.st_dev || first.st_ino != second.st_ino) return false;
  if (S_ISCHR(first.st_mode)) return false;  // /dev/null: nobody sees an order there
  if (S_ISFIFO(first.st_mode) || S_ISSOCK(first.st_mode)) return true;
  const pid_t self = ::getpid();
  const long order = ::syscall(SYS_kcmp, self, self, KCMP_FILE, a, b);
  // Where the kernel does not tell (no kcmp in this sandbox), `2>&1` is the likely reason.
  return order < 0 || order == 0;
}

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

Status make_pipe(OutputStream& stream) {
  std::array<int, 2> fds = {};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) {
    return Error{Errc::io, "cannot make a pipe: " + errno_text(errno)};
  }
  ::fcntl(fds[0], F_SETPIPE_SZ, 1 << 18);  // the command need not wait for us to wake up
  stream.source = Fd(fds[0]);
  stream.command_end = Fd(fds[1]);
  return Ok{};
}

/// A pseudo-terminal with the user's modes and size. `raw_output`: output processing is left to the
/// user's terminal behind it, so that the bytes stay as the program wrote them.
bool make_terminal(OutputStream& stream, int like, bool raw_output) {
  Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master.valid() || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0)
    return false;
  int slave_fd = ::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave_fd < 0) {
    std::array<char, 128> path = {};
    if (::ptsname_r(master.get(), path.data(), path.size()) != 0) return false;
    slave_fd = ::open(path.data(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  Fd slave(slave_fd);
  if (!slave.valid()) return false;
  // Started in the background, the terminal's modes are those of somebody else: the usual ones
  // then.
  const bool ours =
      like >= 0 && (::tcgetsid(like) != ::getsid(0) || ::tcgetpgrp(like) == ::getpgrp());
  termios modes = {};
  if (::tcgetattr(ours ? like : slave.get(), &modes) == 0) {
    if (raw_output) modes.c_oflag &= ~static_cast<tcflag_t>(OPOST);
    ::tcsetattr(slave.get(), TCSANOW, &modes);
  }
  if (!copy_window_size(like, master.get())) {
    const winsize usual = {24, 80, 0, 0};
    ::ioctl(master.get(), TIOCSWINSZ, &usual);
  }
  ::fcntl(master.get(), F_SETFL, O_RDWR | O_NONBLOCK);
  stream.terminal = true;
  stream.source = std::move(master);
  stream.command_end = std::move(slave);
  return true;
}

Status connect(Launch& launch, OutputStream& stream, int user_fd, bool raw_output) {
  stream.destination = user_fd;
  if (::isatty(user_fd) != 1) return make_pipe(stream);
  if (!make_terminal(stream, user_fd, raw_output)) {
    stream.inherited = true;
    launch.warnings.push_back("no pseudo-terminal can be had: std" + stream.name +
                              " is not kept in the log");
  }
  return Ok{};
}

/// Our controlling terminal is this descriptor's.
bool is_controlling(int fd) {
  return ::isatty(fd) == 1 && ::tcgetsid(fd) == ::getsid(0);
}

bool has_controlling_terminal() {
  return Fd(::open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC)).valid();
}

void plan_control(Launch& launch) {
  if (launch.detached || (!launch.out_closed && is_controlling(1))) {
    launch.control = Control::own_terminal;
  } else if (has_controlling_terminal()) {
    launch.control = Control::shared_group;
  }
}

Status connect_detached(Launch& launch) {
  const int like = is_open(1) && ::isatty(1) == 1 ? 1 : is_open(0) && ::isatty(0) == 1 ? 0 : -1;
  if (!make_terminal(launch.out, like, false)) {
    return Error{Errc::io, "no pseudo-terminal can be had for a detached run"};
  }
  launch.err_joins_out = true;
  launch.in_from_terminal = true;
  return Ok{};
}

Status connect_attached(Launch& launch) {
  const bool own_terminal = launch.control == Control::own_terminal;
  if (own_terminal) {
    launch.user_terminal = Fd(::open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC));
  }
  launch.err_joins_out = !launch.out_closed && !launch.err_closed && same_open_file(1, 2);
  if (!launch.out_closed) RW_CHECK(connect(launch, launch.out, 1, !own_terminal));
  if (!launch.err_closed && !launch.err_joins_out) RW_CHECK(connect(launch, launch.err, 2, true));
  launch.err_is_apart = launch.err.source.valid();
  if (launch.err_joins_out) launch.out.shared_destination = 2;
  if (launch.out.inherited) launch.control = Control::shared_group;
  launch.in_from_terminal = launch.control == Control::own_terminal && !launch.in_closed &&
                            ::isatty(0) == 1 && is_controlling(0);
  return Ok{};
}

}  // namespace

bool copy_window_size(int from, int to) {
  winsize size = {};
  return from >= 0 && to >= 0 && ::ioctl(from, TIOCGWINSZ, &size) == 0 &&
         ::ioctl(to, TIOCSWINSZ, &size) == 0;
}

namespace {

/// "train.py" → "train"; nothing for what is no script.
std::optional<std::string> script_name(std::string_view word) {
  const std::filesystem::path file = std::filesystem::path(word).filename();
  if (file.extension() != ".py" && file.extension() != ".sh") return std::nullopt;
  return file.stem().string();
}

/// What an interpreter, a launcher or a wrapper is to start: `python -m pkg.train` → "train".
std::optional<std::string> started_name(const std::vector<std::string>& argv) {
  for (std::size_t i = 1; i < argv.size(); ++i) {
    if (auto script = script_name(argv[i])) return script;
    if (argv[i] == "-m" && i + 1 < argv.size()) {
      const std::vector<std::string> module = {"python", "-m", argv[i + 1]};
      if (command_kind(module) == CommandKind::launcher)
        continue;  // python -m torch.distributed.run
      const std::string& dotted = argv[i + 1];
      return dotted.substr(dotted.rfind('.') + 1);
    }
    if (argv[i] == "-c" && i + 1 < argv.size()) {  // a line for a shell
      for (const auto word : split(argv[i + 1], ' ')) {
        if (auto script = script_name(word)) return script;
      }
    }
  }
  return std::nullopt;
}

/// A name that gives a secret away would be a folder's name and a process title.
void choose_name(Launch& launch, const std::string& asked) {
  const Secrets secrets(launch.argv, launch.environment);
  launch.name = asked.empty() ? name_of_command(launch.argv) : asked;
  if (secrets.mask(launch.name) == launch.name) return;
  launch.name = name_of_command(secrets.mask_argv(launch.argv));
  if (secrets.mask(launch.name) != launch.name) launch.name = "run";
  launch.warnings.push_back("the run's name holds a secret: it is called " + launch.name +
                            " instead");
}

}  // namespace

std::string name_of_command(const std::vector<std::string>& argv) {
  std::string word = "run";
  if (!argv.empty()) {
    word = std::filesystem::path(argv[0]).filename().string();
    if (auto script = script_name(word)) word = *script;
    // `python train.py` is better called train.
    if (command_kind(argv) != CommandKind::program) word = started_name(argv).value_or(word);
  }
  std::string name;
  for (const char c : word) {
    const bool good = is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '-';
    name += good ? c : '-';
  }
  name = name.substr(0, 60);
  while (!name.empty() && (name.front() == '.' || name.front() == '-')) name.erase(0, 1);
  return name.empty() ? "run" : name;
}

Result<Launch> plan_launch(const RecordOptions& options) {
  Launch launch;
  launch.argv = options.command;
  launch.detached = options.detach;
  launch.profile_windows =
      options.profile.inside && options.profile.most_windows != 0 && options.host_root == "/";
  launch.out.name = "out";
  launch.err.name = "err";
  launch.inherited = inherited_descriptors();
  for (char** entry = environ; *entry != nullptr; ++entry) launch.environment.emplace_back(*entry);
  choose_name(launch, options.name);
  launch.watch_nccl =
      options.profile.inside && nccl_is_likely({.root = options.host_root}, launch.environment);
  launch.in_closed = !is_open(0);
  launch.out_closed = !is_open(1);
  launch.err_closed = !is_open(2);
  // Nothing that we open may land on 0, 1 or 2.
  for (int fd = 0; fd <= 2; ++fd) {
    if (!is_open(fd)) ::open("/dev/null", O_RDWR | O_CLOEXEC);
  }
  launch.front_pid = ::getpid();
  launch.front_group = ::getpgrp();
  plan_control(launch);
  RW_CHECK(launch.detached ? connect_detached(launch) : connect_attached(launch));
  return launch;
}

int execute_command(const Launch& launch) {
  if (launch.control == Control::shared_group) {
    ::setpgid(0, launch.front_group);
  } else {
    ::setpgid(0, 0);
  }
  const int terminal = launch.out.command_end.get();
  if (launch.control == Control::own_terminal) ::tcsetpgrp(terminal, ::getpgrp());

  const auto give = [](int fd, bool closed, int as) {
    if (closed) {
      ::close(as);
    } else if (fd >= 0) {
      ::dup2(fd, as);
    }
  };
  give(launch.in_from_terminal ? terminal : -1, launch.in_closed && !launch.in_from_terminal, 0);
  const bool detached = launch.detached;
  give(terminal, launch.out_closed && !detached, 1);
  give(launch.err_joins_out ? terminal : launch.err.command_end.get(),
       launch.err_closed && !detached, 2);
  if (launch.err_joins_out && launch.out.inherited) ::dup2(1, 2);

  launch.original_signals.restore();
  std::vector<char*> argv;
  for (const auto& word : launch.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> environment;
  for (const auto& entry : launch.environment)
    environment.push_back(const_cast<char*>(entry.c_str()));
  for (const auto& entry : launch.nccl_environment)
    environment.push_back(const_cast<char*>(entry.c_str()));
  if (::access(launch.added_for.c_str(), W_OK) == 0) {
    for (const auto& entry : launch.added_environment)
      environment.push_back(const_cast<char*>(entry.c_str()));
  }
  environment.push_back(nullptr);
  ::execvpe(argv[0], argv.data(), environment.data());
  return errno;
}

}  // namespace rigwise
