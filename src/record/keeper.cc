#include "record/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <memory>

#include "base/clock.h"
#include "record/copier.h"
#include "record/identity.h"
#include "record/log_writer.h"
#include "record/nccl_environment.h"
#include "record/profile_gate.h"
#include "rigwise/kineto.h"
#include "run/layout.h"

namespace rigwise {

namespace {

constexpr int kDirectoryWait_ms = 40;
constexpr double kLogPatience_s = 5;

class Keeper {
 public:
  Keeper(Launch& launch, Fd to_front, Fd to_recorder)
      : launch_(launch),
        front_(std::move(to_front)),
        recorder_(std::move(to_recorder)),
        log_(launch.start_monotonic_s, launch.err.source.valid() ? 2 : 1),
        notify_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  [[noreturn]] void run();

 private:
  void own_session();
  void open_profiling();
  void serve_profiling();
  void await_directory();
  bool start_command();
  void start_copying();
  void stop_copying();
  void wait_for_events();
  void take_from_recorder();
  void decide_directory(const Message& message);
  void take_from_front();
  void pass_on(const Message& message) const;
  void note_children();
  void take_audience();
  void finish_when_drained();
  void tell(const Message& message) {
    if (front_.valid()) send_message(front_.get(), message);
    if (recorder_.valid()) send_message(recorder_.get(), message);
  }
  [[nodiscard]] double now_s() const { return monotonic_s() - launch_.start_monotonic_s; }
  [[nodiscard]] bool all(bool (Copier::*what)() const) const {
    return (!out_ || (out_.get()->*what)()) && (!err_ || (err_.get()->*what)());
  }

  Launch& launch_;
  Fd front_, recorder_;
  LogWriter log_;
  Fd notify_, signals_, listener_, lock_;
  Audience audience_;
  std::unique_ptr<Copier> out_, err_;
  std::string attach_path_;
  std::unique_ptr<KinetoDaemon> kineto_;
  pid_t command_ = -1, front_pid_ = 0;
  int exec_error_ = 0, wait_status_ = 0;
  bool exited_ = false, closed_ = false;
  bool decided_ = false;  // whether there is a run directory
  double exited_s_ = 0;
};

// A terminal of the command's own needs a session whose leader is not the command: else its stop
// signals would be discarded (orphaned process group), and its exit would hang up what it leaves
// running. A shell does the same.
void Keeper::own_session() {
  if (launch_.control == Control::own_terminal) {
    ::setsid();
    ::ioctl(launch_.out.command_end.get(), TIOCSCTTY, 0);
  } else {
    ::setpgid(0, 0);
  }
}

// Before the command starts, since PyTorch looks at its environment once. Here and not in the
// recorder, which may die or hang: whoever serves the socket must answer to the end.
void Keeper::open_profiling() {
  if (!launch_.profile_windows) return;
  std::error_code error;
  const ProfileGate gate = profile_gate(launch_.argv, std::filesystem::current_path(error).string(),
                                        launch_.environment);
  Message message;
  message.kind = MessageKind::profiling;
  message.text = gate.why;
  if (gate.open) {
    if (auto daemon = KinetoDaemon::open()) {
      kineto_ = std::make_unique<KinetoDaemon>(std::move(*daemon));
      launch_.added_environment = kineto_->environment();
      launch_.added_for = kineto_->socket_path();
      message.detail = 1;
      message.text = kineto_->folder();
    } else {
      message.text = daemon.error().message;
    }
  }
  tell(message);
}

void Keeper::serve_profiling() {
  Message message;
  message.kind = MessageKind::trace_news;
  message.t_s = now_s();
  for (const KinetoNews& news : kineto_->serve(message.t_s)) {
    message.pid = news.pid;
    message.detail = static_cast<std::int32_t>(news.event);
    if (recorder_.valid()) send_message(recorder_.get(), message);
  }
}

void Keeper::await_directory() {
  pollfd entry = {recorder_.get(), POLLIN, 0};
  if (::poll(&entry, 1, kDirectoryWait_ms) > 0) take_from_recorder();
}

void Keeper::take_from_recorder() {
  if (!recorder_.valid()) return;
  const auto take = [this](const Message& message) {
    if (message.kind == MessageKind::forward) return pass_on(message);
    if (message.kind != MessageKind::ask_trace) return decide_directory(message);
    if (!kineto_) return;
    kineto_->ask(message.pid,
                 kineto_configuration(kineto_->trace_path(message.text),
                                      static_cast<double>(message.number) / 1000,
                                      static_cast<double>(message.detail) / 1000),
                 message.t_s);
  };
  if (take_messages(recorder_.get(), take)) return;
  recorder_.reset();
  // The front makes a run directory where a dead recorder left none.
  if (!front_.valid()) decide_directory({});
}

void Keeper::decide_directory(const Message& message) {
  if (decided_) {
    if (message.descriptor >= 0) ::close(message.descriptor);
    return;
  }
  decided_ = true;
  if (message.kind != MessageKind::recording) return log_.give_up();
  lock_.reset(message.descriptor);
  log_.start(message.text);
  if (launch_.watch_nccl && command_ < 0)
    launch_.nccl_environment =
        nccl_environment({}, launch_.environment, message.text, nccl_plugin_path());
  if (kineto_) {
    const auto target = std::filesystem::path(message.text) / layout::kProfileFolder;
    static_cast<void>(kineto_->set_trace_folder(target).ok());
  }
  if (launch_.control != Control::own_terminal) return;
  if (auto listener = listen_in(message.text, layout::kAttach)) {
    listener_ = std::move(*listener);
    attach_path_ = message.text + "/" + std::string(layout::kAttach);
  }
}

// False: it could not be executed (exec_error_ says why).
bool Keeper::start_command() {
  std::array<int, 2> fds = {-1, -1};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) {
    exec_error_ = errno;
    return false;
  }
  Fd read_end(fds[0]), write_end(fds[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    const int error = execute_command(launch_);
    const ssize_t ignored = ::write(write_end.get(), &error, sizeof error);
    static_cast<void>(ignored);
    ::_exit(error == ENOENT ? 127 : 126);
  }
  if (child < 0) {
    exec_error_ = errno;
    return false;
  }
  command_ = child;
  // Done on both sides, so that neither has to wait for the other.
  if (launch_.control != Control::shared_group) ::setpgid(child, child);
  if (launch_.control == Control::own_terminal) ::tcsetpgrp(launch_.out.command_end.get(), child);
  write_end.reset();
  ssize_t count = 0;
  do {
    count = ::read(read_end.get(), &exec_error_, sizeof exec_error_);
  } while (count < 0 && errno == EINTR);
  if (count <= 0) exec_error_ = 0;
  // What belongs to the command alone is held by it alone from now on. A terminal stays open until
  // the exit: a command may close it and open /dev/tty again.
  if (!launch_.out.terminal) launch_.out.command_end.reset();
  if (!launch_.err.terminal) launch_.err.command_end.reset();
  for (const int fd : launch_.inherited) ::close(fd);
  if (launch_.detached) {
    detach_standard_streams();
  } else {
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    ::dup2(null.get(), 0);
  }
  return true;
}

void Keeper::start_copying() {
  Audience* audience = launch_.control == Control::own_terminal ? &audience_ : nullptr;
  if (launch_.out.source.valid()) {
    out_ = std::make_unique<Copier>(launch_.out, 0, log_, audience, launch_.start_monotonic_s,
                                    notify_.get());
    out_->start();
  }
  if (launch_.err.source.valid()) {
    err_ = std::make_unique<Copier>(launch_.err, 1, log_, nullptr, launch_.start_monotonic_s,
                                    notify_.get());
    err_->start();
  }
}

void Keeper::stop_copying() {
  launch_.out.command_end.reset();
  launch_.err.command_end.reset();
  if (out_) out_->command_exited();
  if (err_) err_->command_exited();
}

void Keeper::note_children() {
  signalfd_siginfo ignored = {};
  while (::read(signals_.get(), &ignored, sizeof ignored) > 0) {
  }
  int status = 0;
  while (!exited_ && ::waitpid(command_, &status, WNOHANG | WUNTRACED | WCONTINUED) == command_) {
    Message message;
    message.pid = command_;
    if (WIFSTOPPED(status)) {
      message.kind = MessageKind::stopped;
      message.detail = WSTOPSIG(status);
    } else if (WIFCONTINUED(status)) {
      message.kind = MessageKind::continued;
      // The front stopped with the command; whoever continued the command alone wants both.
      if (front_.valid()) ::kill(front_pid_, SIGCONT);
    } else {
      exited_ = true;
      exited_s_ = now_s();
      wait_status_ = status;
      message.kind = MessageKind::exited;
      message.detail = status;
      message.t_s = exited_s_;
      stop_copying();
    }
    tell(message);
  }
}

/// The command is our child and not yet waited for, so its number is still its own.
void Keeper::pass_on(const Message& message) const {
  if (exited_ || command_ <= 0) return;
  ::kill(message.number != 0 ? -command_ : command_, message.detail);
}

void Keeper::take_from_front() {
  const bool there = take_messages(front_.get(), [this](const Message& message) {
    switch (message.kind) {
      case MessageKind::recording:
      case MessageKind::refused:
        decide_directory(message);
        break;
      case MessageKind::forward:
        pass_on(message);
        break;
      case MessageKind::resume:
        if (!exited_) ::kill(-command_, SIGCONT);
        break;
      case MessageKind::drop_signals:
        drop_pending_signals();
        break;
      default:
        break;
    }
  });
  if (there) return;
  front_.reset();
  if (!recorder_.valid() && !decided_) decide_directory({});
}

void Keeper::take_audience() {
  Fd client = accept_own(listener_.get());
  if (!client.valid()) return;
  const int copy = ::fcntl(client.get(), F_DUPFD_CLOEXEC, 0);
  const Fd refusal(copy);
  const bool alone = launch_.detached || !front_.valid() || !out_ || out_->user_gone();
  if (alone && audience_.join(std::move(client), launch_.out.source.get())) return;
  Message message;
  message.kind = MessageKind::refused;
  message.text = "somebody is attached to this run already";
  send_message(refusal.get(), message);
}

void Keeper::wait_for_events() {
  std::array<pollfd, 7> fds = {pollfd{signals_.get(), POLLIN, 0},
                               pollfd{front_.get(), POLLIN, 0},
                               pollfd{recorder_.get(), POLLIN, 0},
                               pollfd{notify_.get(), POLLIN, 0},
                               pollfd{listener_.get(), POLLIN, 0},
                               pollfd{audience_.descriptor(), POLLIN, 0},
                               pollfd{kineto_ ? kineto_->fd() : -1, POLLIN, 0}};
  if (::poll(fds.data(), fds.size(), exited_ && !decided_ ? 100 : -1) < 0) return;
  if (fds[0].revents != 0) note_children();
  if (fds[1].revents != 0) take_from_front();
  if (fds[2].revents != 0) take_from_recorder();
  if (fds[3].revents != 0) {
    std::uint64_t count = 0;
    const ssize_t ignored = ::read(notify_.get(), &count, sizeof count);
    static_cast<void>(ignored);
  }
  if (fds[4].revents != 0) take_audience();
  if (fds[5].revents != 0) audience_.leave();  // a client sends nothing: it left
  if (fds[6].revents != 0) serve_profiling();
}

void Keeper::finish_when_drained() {
  if (!exited_ || closed_ || !all(&Copier::drained)) return;
  // A command may be quicker than a busy disk: what it wrote waits in the queue.
  if (!decided_ && now_s() - exited_s_ < kLogPatience_s) return;
  closed_ = true;
  Message message;
  message.kind = MessageKind::drained;
  message.number = log_.close(ending_of(wait_status_, exec_error_, exited_s_), kLogPatience_s);
  message.detail = static_cast<std::int32_t>(log_.lost_times());
  message.t_s = now_s();
  audience_.say_exited(exec_error_ == 0 ? wait_status_ : (exec_error_ == ENOENT ? 127 : 126) << 8);
  if (listener_.valid()) ::unlink(attach_path_.c_str());
  tell(message);
  listener_.reset();
  lock_.reset();
  recorder_.reset();
}

void Keeper::run() {
  Message awake;
  awake.kind = MessageKind::awake;
  send_message(front_.get(), awake);
  front_pid_ = launch_.front_pid;
  own_session();
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  signals_.reset(::signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK));
  open_profiling();
  await_directory();

  const bool started = start_command();
  Message message;
  message.kind = MessageKind::started;
  message.pid = command_;
  message.detail = exec_error_;
  message.number = ::getpid();
  message.t_s = now_s();
  tell(message);
  if (!started) {
    message.kind = MessageKind::exited;
    message.detail = 126 << 8;
    tell(message);
    exited_ = true;
  }
  start_copying();
  if (exited_) stop_copying();
  while (!closed_ || !all(&Copier::ended)) {
    finish_when_drained();
    if (closed_ && all(&Copier::ended)) break;
    wait_for_events();
  }
  // The end of a session's leader hangs up its foreground group: let that be nobody but us.
  if (launch_.control == Control::own_terminal) {
    ::tcsetpgrp(launch_.out.source.get(), ::getpgrp());
  }
  kineto_.reset();
  ::_exit(0);
}

}  // namespace

void keeper_main(Launch& launch, Fd to_front, Fd to_recorder) {
  set_process_title("rigwise: keeper " + launch.name);
  Keeper(launch, std::move(to_front), std::move(to_recorder)).run();
}

}  // namespace rigwise
