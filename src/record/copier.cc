#include "record/copier.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <system_error>

#include "base/clock.h"
#include "record/channel.h"

namespace rigwise {

namespace {
constexpr std::size_t kChunkBytes = 1 << 17;
constexpr int kTerminalPatience_ms = 10000;
constexpr double kQuiet_s = 0.2;   // after the exit: nothing for this long means drained
constexpr double kLinger_s = 0.5;  // … or this long and a pipe's worth of bytes

void wake_up(int event) {
  const std::uint64_t one = 1;
  const ssize_t ignored = ::write(event, &one, sizeof one);
  static_cast<void>(ignored);
}

bool is_pipe_or_socket(int fd) {
  struct stat status = {};
  return fd >= 0 && ::fstat(fd, &status) == 0 &&
         (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}
}  // namespace

// -------------------------------------------------------------------------------------- Audience

bool Audience::join(Fd client, int terminal) {
  const std::lock_guard lock(mutex_);
  if (client_.valid()) return false;
  Message hello;
  hello.kind = MessageKind::attached;
  hello.number = passed_;
  hello.descriptor = terminal;
  if (send_message(client.get(), hello)) client_ = std::move(client);
  skipped_ = 0;
  return true;
}

void Audience::show(std::string_view bytes) {
  constexpr std::size_t kPiece = 8000;
  const std::lock_guard lock(mutex_);
  passed_ += static_cast<std::int64_t>(bytes.size());
  if (!client_.valid()) return;
  Message message;
  message.kind = MessageKind::output;
  if (skipped_ > 0) {
    message.text = "\r\n[rigwise: " + std::to_string(skipped_) + " bytes not shown]\r\n";
    if (send_message(client_.get(), message)) skipped_ = 0;
  }
  while (!bytes.empty()) {
    message.text = bytes.substr(0, kPiece);
    if (skipped_ > 0 || !send_message(client_.get(), message)) {
      skipped_ += static_cast<std::int64_t>(message.text.size());
    }
    bytes.remove_prefix(message.text.size());
  }
}

void Audience::say_exited(int wait_status) {
  const std::lock_guard lock(mutex_);
  Message message;
  message.kind = MessageKind::exited;
  message.detail = wait_status;
  send_message(client_.get(), message);
}

int Audience::descriptor() const {
  const std::lock_guard lock(mutex_);
  return client_.get();
}

void Audience::leave() {
  const std::lock_guard lock(mutex_);
  client_.reset();
}

// ---------------------------------------------------------------------------------------- Copier

Copier::Copier(OutputStream& stream, int log_stream, LogWriter& log, Audience* audience,
               double start_monotonic_s, int notify)
    : stream_(stream),
      log_stream_(log_stream),
      log_(log),
      audience_(audience),
      start_monotonic_s_(start_monotonic_s),
      notify_(notify),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      destination_(stream.destination) {
  if (destination_ >= 0 && ::isatty(destination_) == 1) {
    is_terminal_ = true;
    // A description of our own, so that O_NONBLOCK does not reach the user's shell.
    const std::string path = "/proc/self/fd/" + std::to_string(destination_);
    own_terminal_end_ = Fd(::open(path.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    if (own_terminal_end_.valid()) destination_ = own_terminal_end_.get();
  }
  user_gone_ = destination_ < 0;
}

Copier::~Copier() {
  if (thread_.joinable()) thread_.join();
}

void Copier::start() {
  for (;;) {
    try {
      thread_ = std::thread([this] { run(); });
      return;
    } catch (
        const std::system_error&) {  // no process to spare just now: the command waits, unharmed
      ::poll(nullptr, 0, 50);
    }
  }
}

void Copier::command_exited() {
  exited_ = true;
  wake_up(wake_.get());
}

void Copier::note_drained() {
  if (drained_.exchange(true)) return;
  wake_up(notify_);
}

void Copier::run() {
  // The heap of the keeper stays small: one chunk, on this thread's stack.
  std::array<char, kChunkBytes> chunk;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  bool watch_reader = is_terminal_ || is_pipe_or_socket(destination_);
  const int pipe_bytes = ::fcntl(stream_.source.get(), F_GETPIPE_SZ);
  const std::int64_t capacity = pipe_bytes > 0 ? pipe_bytes : static_cast<int>(kChunkBytes);
  double exited_s = 0, quiet_since_s = 0;
  std::int64_t since_exit = 0;
  for (;;) {
    std::array<pollfd, 3> fds = {pollfd{stream_.source.get(), POLLIN, 0},
                                 pollfd{watch_reader ? destination_ : -1, 0, 0},
                                 pollfd{exited_ ? -1 : wake_.get(), POLLIN, 0}};
    const bool draining = exited_ && !drained_;
    if (draining && exited_s == 0) exited_s = quiet_since_s = monotonic_s();
    const int ready = ::poll(fds.data(), fds.size(), draining ? 20 : -1);
    if (ready < 0 && errno != EINTR) break;
    if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL)) {
      if (!is_terminal_) break;  // the reader is gone: so are we
      lose_user();
      watch_reader = false;
    }
    const double now_s = monotonic_s();
    if (fds[0].revents != 0) {
      const ssize_t count = ::read(stream_.source.get(), chunk.data(), chunk.size());
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (count <= 0) break;  // all writers closed it (a terminal says EIO)
      const std::string_view bytes(chunk.data(), static_cast<std::size_t>(count));
      if (!drained_) log_.push(log_stream_, bytes, monotonic_s() - start_monotonic_s_);
      if (audience_ != nullptr) audience_->show(bytes);
      deliver(bytes);
      if (reader_gone_) break;
      since_exit += draining ? count : 0;
      quiet_since_s = monotonic_s();
    } else if (draining && now_s - quiet_since_s > kQuiet_s) {
      note_drained();
    }
    if (draining && since_exit >= capacity && now_s - exited_s > kLinger_s) note_drained();
  }
  // Closing a terminal hangs it up: that is for the keeper to do.
  if (!stream_.terminal) stream_.source.reset();
  // The reader behind us sees the end when the command's side has ended.
  if (stream_.destination >= 0) {
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    ::dup2(null.get(), stream_.destination);
    if (stream_.shared_destination >= 0) ::dup2(null.get(), stream_.shared_destination);
  }
  ended_ = true;
  drained_ = true;
  wake_up(notify_);
}

// A terminal is written without blocking; true when it takes bytes.
bool Copier::wait_for_room() {
  pollfd entry = {destination_, POLLOUT, 0};
  const int ready = ::poll(&entry, 1, stalled_ ? 0 : is_terminal_ ? kTerminalPatience_ms : -1);
  stalled_ = ready == 0;
  return ready > 0 || (ready < 0 && errno == EINTR);
}

void Copier::lose_user() {
  user_gone_ = true;
  wake_up(notify_);
}

void Copier::deliver(std::string_view bytes) {
  if (user_gone_) return;
  while (!bytes.empty()) {
    const ssize_t count = ::write(destination_, bytes.data(), bytes.size());
    if (count > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
      stalled_ = false;
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {
      if (wait_for_room()) continue;
      return;
    }
    if (count < 0 && (errno == EPIPE || errno == ECONNRESET)) {
      reader_gone_ = true;
    } else if (is_terminal_) {
      lose_user();
    }
    return;  // a full disk and the like: these bytes are dropped, the next ones are tried again
  }
}

}  // namespace rigwise
