#include "record/background.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/text.h"
#include "record/facts.h"
#include "record/process.h"
#include "rigwise/host.h"

namespace rigwise {

namespace {

constexpr std::size_t kMaxLine = 65536;

/// One line: word, then fields behind tabs; clean_text has taken newlines, tabs are made spaces.
std::string field(std::string_view text) {
  std::string clean = clean_text(text);
  for (char& c : clean) {
    if (c == '\t' || c == '\n') c = ' ';
  }
  return clean;
}

void say(int fd, const std::string& line) {
  write_all(fd, line + "\n");
}

}  // namespace

void Background::start(RunWriter& writer, const Launch& launch,
                       const std::filesystem::path& host_root, const std::string& host,
                       const std::string& cwd, const Secrets& secrets,
                       const std::vector<int>& close_first) {
  std::array<int, 2> fds = {};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return;
  pipe_.reset(fds[0]);
  Fd answers(fds[1]);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ != 0) {
    ::fcntl(pipe_.get(), F_SETFL, O_NONBLOCK);
    if (pid_ < 0) pipe_.reset();
    return;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  pipe_.reset();
  for (const int fd : close_first) ::close(fd);
  set_process_title("rigwise: reading " + launch.name);
  ::setpriority(PRIO_PROCESS, 0, 19);

  const HostRoot root{.root = host_root};
  EnvironmentQuery query;
  query.argv = launch.argv;
  query.cwd = cwd;
  query.env = launch.environment;
  Environment environment = read_environment_of(root, query);
  environment.host = host;
  secrets.mask(environment);
  static_cast<void>(writer.write(environment).ok());
  Rig rig = read_rig_of(root, {writer.dir(), cwd});
  rig.host = host;
  secrets.mask(rig);
  static_cast<void>(writer.write(rig).ok());
  say(answers.get(), "gpus\t" + std::to_string(rig.gpus.size()));
  for (const Fact& fact : facts_of_named_files(launch.argv, cwd)) {
    say(answers.get(), "fact\t" + field(fact.key) + "\t" + field(secrets.mask(fact.value)) + "\t" +
                           field(secrets.mask(fact.source)));
  }
  say(answers.get(), "complete");
  ::_exit(0);
}

void Background::take_line(std::string_view line) {
  const auto fields = split(line, '\t');
  if (fields[0] == "complete") complete_ = true;
  if (fields[0] == "gpus" && fields.size() == 2) {
    if (const auto count = to_integer(fields[1])) gpus_ = static_cast<int>(*count);
  }
  if (fields[0] == "fact" && fields.size() == 4) {
    facts_.push_back({std::string(fields[1]), std::string(fields[2]), std::string(fields[3])});
  }
}

bool Background::take() {
  if (!pipe_.valid()) return true;
  std::array<char, 4096> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (;;) {
    const ssize_t count = ::read(pipe_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return false;
    if (count <= 0 || half_line_.size() > kMaxLine) {
      pipe_.reset();
      return true;
    }
    half_line_.append(bytes.data(), static_cast<std::size_t>(count));
    for (auto end = half_line_.find('\n'); end != std::string::npos; end = half_line_.find('\n')) {
      take_line(std::string_view(half_line_).substr(0, end));
      half_line_.erase(0, end + 1);
    }
  }
}

void Background::stop() {
  if (pid_ <= 0) return;
  if (::waitpid(pid_, nullptr, WNOHANG) == 0) {
    ::kill(pid_, SIGKILL);
    // In a file system that hangs it does not die; it is not waited for then.
    for (int i = 0; i < 50 && ::waitpid(pid_, nullptr, WNOHANG) == 0; ++i) {
      const timespec pause = {0, 2000000};
      ::nanosleep(&pause, nullptr);
    }
  }
  pid_ = -1;
  pipe_.reset();
}

}  // namespace rigwise
