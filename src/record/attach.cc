// The two verbs that talk to a live run: back to its terminal, and pausing its recorder.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <string>

#include "record/channel.h"
#include "record/launch.h"
#include "rigwise/record.h"
#include "run/layout.h"

namespace rigwise {

namespace {

constexpr std::int64_t kRecentBytes = 8192;
constexpr char kLeaveKey = 0x1c;  // Ctrl-\, then d

Result<Message> wait_for_answer(int channel, int limit_ms) {
  pollfd entry = {channel, POLLIN, 0};
  while (::poll(&entry, 1, limit_ms) < 0 && errno == EINTR) {
  }
  Received received = receive_message(channel);
  if (received.message) return std::move(*received.message);
  return Error{Errc::io, "the run did not answer"};
}

/// What the terminal showed last, from the log.
void show_recent(const std::filesystem::path& run_dir, std::int64_t live_from) {
  const Fd log(::open((run_dir / layout::log_file("out")).c_str(), O_RDONLY | O_CLOEXEC));
  if (!log.valid()) return;
  struct stat status = {};
  // The keeper's writer may be a moment behind.
  for (int i = 0; i < 20 && ::fstat(log.get(), &status) == 0 && status.st_size < live_from; ++i) {
    ::poll(nullptr, 0, 10);
  }
  const std::int64_t end = std::min<std::int64_t>(live_from, status.st_size);
  const std::int64_t begin = std::max<std::int64_t>(0, end - kRecentBytes);
  std::string text(static_cast<std::size_t>(end - begin), '\0');
  const ssize_t count = ::pread(log.get(), text.data(), text.size(), begin);
  if (count <= 0) return;
  std::string_view view(text.data(), static_cast<std::size_t>(count));
  const auto line = view.find('\n');
  if (begin > 0 && line != std::string_view::npos) view.remove_prefix(line + 1);
  write_all(1, view);
}

/// Our end of an attached terminal.
class Visitor {
 public:
  Visitor(Fd channel, Fd terminal) : channel_(std::move(channel)), terminal_(std::move(terminal)) {}
  ~Visitor() { restore(); }
  Visitor(const Visitor&) = delete;
  Visitor& operator=(const Visitor&) = delete;

  /// Until the run ends or the user leaves.
  Result<int> stay();

 private:
  void claim();
  void restore();
  bool relay_keys();
  std::optional<int> take_output();

  Fd channel_, terminal_, signals_;
  std::optional<termios> modes_;
  bool raw_ = false, leaving_ = false, left_ = false;
};

void Visitor::claim() {
  termios modes = {};
  if (raw_ || ::tcgetattr(0, &modes) != 0 || ::tcgetpgrp(0) != ::getpgrp()) return;
  if (!modes_) modes_ = modes;
  ::cfmakeraw(&modes);
  raw_ = ::tcsetattr(0, TCSANOW, &modes) == 0;
}

void Visitor::restore() {
  if (raw_) ::tcsetattr(0, TCSANOW, &*modes_);
  raw_ = false;
}

/// False: the user leaves.
bool Visitor::relay_keys() {
  std::array<char, 256> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const ssize_t count = ::read(0, bytes.data(), bytes.size());
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (count <= 0) return false;
  std::string keys;
  bool stays = true;
  for (const char key : std::string_view(bytes.data(), static_cast<std::size_t>(count))) {
    if (leaving_ && key == 'd') {
      stays = false;
      break;
    }
    if (!leaving_ && key == kLeaveKey) {
      leaving_ = true;
      continue;
    }
    if (leaving_ && key != kLeaveKey) keys += kLeaveKey;  // twice: once for the command
    leaving_ = false;
    keys += key;
  }
  // A command that reads nothing fills its terminal; keys that it would never see are let go.
  const ssize_t ignored = ::write(terminal_.get(), keys.data(), keys.size());
  static_cast<void>(ignored);
  return stays;
}

std::optional<int> Visitor::take_output() {
  for (;;) {
    const Received received = receive_message(channel_.get());
    if (received.closed) return 0;
    if (!received.message) return std::nullopt;
    if (received.message->kind == MessageKind::output) write_all(1, received.message->text);
    if (received.message->kind == MessageKind::exited) {
      const int status = received.message->detail;
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
  }
}

Result<int> Visitor::stay() {
  sigset_t mine;
  sigemptyset(&mine);
  for (const int signal : {SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGCONT}) sigaddset(&mine, signal);
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &mine, &before);
  signals_.reset(::signalfd(-1, &mine, SFD_CLOEXEC | SFD_NONBLOCK));
  claim();
  copy_window_size(0, terminal_.get());
  std::optional<int> ended;
  while (!ended && !left_) {
    std::array<pollfd, 3> fds = {pollfd{channel_.get(), POLLIN, 0}, pollfd{0, POLLIN, 0},
                                 pollfd{signals_.get(), POLLIN, 0}};
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) break;
    if (fds[0].revents != 0) ended = take_output();
    if (fds[1].revents != 0 && !relay_keys()) left_ = true;
    signalfd_siginfo info = {};
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGWINCH) copy_window_size(0, terminal_.get());
      if (info.ssi_signo == SIGCONT) claim();
      left_ = left_ || info.ssi_signo == SIGTERM || info.ssi_signo == SIGHUP ||
              info.ssi_signo == SIGINT;
    }
  }
  restore();
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return ended.value_or(0);
}

}  // namespace

Result<int> attach_run(const std::filesystem::path& run_dir) {
  auto channel = connect_in(run_dir, layout::kAttach);
  if (!channel) {
    return Error{Errc::not_found, run_dir.string() + ": no terminal to attach to",
                 "only a run that goes on, started on a terminal or with --detach, has one"};
  }
  RW_TRY(const Message hello, wait_for_answer(channel->get(), 5000));
  if (hello.kind != MessageKind::attached || hello.descriptor < 0) {
    return Error{Errc::conflict, run_dir.string() + ": " + hello.text};
  }
  Fd terminal(hello.descriptor);
  show_recent(run_dir, hello.number);
  return Visitor(std::move(*channel), std::move(terminal)).stay();
}

Status pause_recorder(const std::filesystem::path& run_dir, bool pause) {
  auto channel = connect_in(run_dir, layout::kControl);
  if (!channel) {
    return Error{Errc::not_found, run_dir.string() + ": no recorder answers here"};
  }
  Message message;
  message.kind = pause ? MessageKind::pause_sampling : MessageKind::resume_sampling;
  if (!send_message(channel->get(), message)) {
    return Error{Errc::io, run_dir.string() + ": the recorder does not listen"};
  }
  RW_TRY(const Message answer, wait_for_answer(channel->get(), 5000));
  static_cast<void>(answer);
  return Ok{};
}

}  // namespace rigwise
