// Front: the process that the user started. Starts recorder, keeper and command, passes signals,
// keys and the window size on, stops and goes on with the command, and returns its status. Where
// the recorder dies or hangs, the front closes the run itself.
//
// Which signals reach the command, exactly once:
//   sent by the terminal (SI_KERNEL)   shared_group: it has it already. Else: raised in its
//   terminal. sent to the front alone            to the command alone sent to the front's whole
//   group    shared_group: it has it already. Else: to the command's group sent to every process
//   there is     it has it already (a service manager stopping a service)
// Who else was hit shows in what is pending: the recorder sits in the front's group, the keeper
// does not, and both leave such signals alone until the front tells them to drop them.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/clock.h"
#include "base/text.h"
#include "record/channel.h"
#include "record/identity.h"
#include "record/launch.h"
#include "record/recorder.h"
#include "rigwise/kineto.h"
#include "rigwise/record.h"

namespace rigwise {

namespace {

constexpr double kSilence_s = 10;        // a recorder that does not run for this long hangs
constexpr double kFinishAllowed_s = 30;  // a recorder at work is left alone after this
constexpr int kMaxAttempts = 3;
constexpr double kCloseAllowed_s = 10;  // for closing the run ourselves

class Front {
 public:
  Front(const RecordOptions& options, Launch launch)
      : options_(options), launch_(std::move(launch)) {
    outcome_.name = launch_.name;
  }

  /// False: nothing was started (no process to be had).
  bool start();
  /// Until the command has ended and the run is closed.
  RecordOutcome wait();
  /// Until it is known whether the command runs and where it is recorded.
  RecordOutcome wait_for_start();

 private:
  bool fork_recorder();
  bool fork_stand_in();
  void let_go();
  void step(int timeout_ms);
  void take_from_keeper();
  void take_from_recorder();
  void reap();
  void on_signals();
  void pass_on(const signalfd_siginfo& info);
  void order(int signal, bool whole_group);
  void stop_with_command(int stop_signal);
  void go_on();
  void claim_terminal();
  void release_terminal();
  void relay_keys();
  void flush_keys();
  void note_exit(int wait_status, double t_s);
  void tell_exec_error();
  void bury();
  void close_run();
  void close_run_ourselves(std::string what);
  [[nodiscard]] bool in_foreground() const {
    return launch_.user_terminal.valid() && ::tcgetpgrp(launch_.user_terminal.get()) == ::getpgrp();
  }
  void warn(const std::string& text) const {
    const std::string line = "rigwise: " + text + (raw_ ? "\r\n" : "\n");
    write_all(2, line);
  }
  [[nodiscard]] double now_s() const { return monotonic_s() - launch_.start_monotonic_s; }

  const RecordOptions& options_;
  Launch launch_;
  Fd keeper_, recorder_, signals_;
  Fd terminal_;  // the command's own terminal: takes keys and sizes
  Fd sized_;     // stderr's pseudo-terminal beside a stdout that is none: takes sizes
  pid_t recorder_pid_ = -1, keeper_pid_ = -1, command_ = -1;
  int exec_error_ = 0, wait_status_ = 0;
  bool started_ = false, known_ = false, ended_ = false, drained_ = false, finished_ = false;
  bool closed_ = false;  // run.json holds the ending
  bool told_ = false;    // that the command could not be executed
  bool awake_ = false, stand_in_ = false, raw_ = false, user_gone_ = false, impatient_ = false;
  int attempts_ = 0, signs_of_life_ = 0;
  double ended_s_ = 0;
  std::int64_t lost_log_bytes_ = 0;
  std::string keys_ = {};  // read from the user, not yet taken by the command's terminal
  std::string profiling_folder_ = {};  // of the keeper, who removes it unless it is killed
  Fd lock_;
  RecordOutcome outcome_;
};

bool Front::start() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const sigset_t handled = handled_signals();
  signals_.reset(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  launch_.start_monotonic_s = monotonic_s();
  launch_.start_unix_s = unix_s();
  if (launch_.control == Control::own_terminal && !launch_.detached) {
    terminal_.reset(::fcntl(launch_.out.source.get(), F_DUPFD_CLOEXEC, 3));
    claim_terminal();
  } else if (launch_.err.terminal) {
    sized_.reset(::fcntl(launch_.err.source.get(), F_DUPFD_CLOEXEC, 3));
  }
  if (fork_recorder()) return true;
  release_terminal();
  return false;
}

bool Front::fork_recorder() {
  auto to_keeper = make_channel();
  auto to_recorder = make_channel();
  if (!to_keeper || !to_recorder) return false;
  const pid_t child = ::fork();
  if (child < 0) return false;
  if (child == 0) {
    signals_.reset();
    terminal_.reset();
    sized_.reset();
    to_keeper->one.reset();
    to_recorder->one.reset();
    recorder_main(launch_, options_, std::move(to_recorder->other), std::move(to_keeper->other));
  }
  recorder_pid_ = child;
  keeper_ = std::move(to_keeper->one);
  recorder_ = std::move(to_recorder->one);
  ++attempts_;
  return true;
}

bool Front::fork_stand_in() {
  auto channel = make_channel();
  const pid_t child = channel ? ::fork() : -1;
  if (child == 0) {
    keeper_.reset();
    signals_.reset();
    stand_in_main(launch_, options_, std::move(channel->other));
  }
  if (child < 0) return false;
  stand_in_ = true;
  recorder_pid_ = child;
  recorder_ = std::move(channel->one);
  return true;
}

// The command is on its way: what belongs to it is held by it alone from now on, since whoever
// waits for the end of such a descriptor must not wait for us.
void Front::let_go() {
  for (OutputStream* stream : {&launch_.out, &launch_.err}) {
    stream->source.reset();
    stream->command_end.reset();
  }
  for (const int fd : launch_.inherited) ::close(fd);
  launch_.inherited.clear();
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  ::dup2(null.get(), 0);
}

// ------------------------------------------------------------------------------- the two channels

void Front::note_exit(int wait_status, double t_s) {
  if (ended_) return;
  ended_ = true;
  wait_status_ = wait_status;
  ended_s_ = t_s;
}

void Front::take_from_keeper() {
  const bool there = take_messages(keeper_.get(), [this](const Message& message) {
    switch (message.kind) {
      case MessageKind::awake:
        awake_ = true;
        break;
      case MessageKind::started:
        let_go();
        started_ = true;
        command_ = message.pid;
        exec_error_ = message.detail;
        keeper_pid_ = static_cast<pid_t>(message.number);
        break;
      case MessageKind::profiling:
        if (message.detail != 0) profiling_folder_ = message.text;
        break;
      case MessageKind::stopped:
        stop_with_command(message.detail);
        break;
      case MessageKind::exited:
        note_exit(message.detail, message.t_s);
        break;
      case MessageKind::drained:
        drained_ = true;
        lost_log_bytes_ = message.number;
        break;
      default:
        break;
    }
  });
  if (there) return;
  // The recorder died before there was a keeper: nothing has been started yet.
  if (!awake_ && attempts_ < kMaxAttempts && fork_recorder()) return;
  keeper_.reset();
  sized_.reset();
  terminal_.reset();  // else the command's terminal would not hang up
  drained_ = true;
}

void Front::take_from_recorder() {
  const bool there = take_messages(recorder_.get(), [this](const Message& message) {
    ++signs_of_life_;
    switch (message.kind) {
      case MessageKind::recording:
        known_ = true;
        outcome_.dir = message.text;
        lock_.reset(message.descriptor);
        if (stand_in_) send_message(keeper_.get(), message);
        break;
      case MessageKind::refused:
        known_ = true;
        finished_ = true;
        if (stand_in_) send_message(keeper_.get(), message);
        warn(message.text + "; training unrecorded");
        break;
      case MessageKind::orphaned:
        note_exit(message.detail, message.t_s);
        break;
      case MessageKind::closed:
        closed_ = true;
        break;
      case MessageKind::finished:
        finished_ = true;
        if (!message.text.empty()) warn("the run could not be closed: " + message.text);
        break;
      default:
        break;
    }
  });
  if (there) return;
  recorder_.reset();
  // Dead before there was a keeper: the keeper's channel ends too, and both are started again.
  if (!known_ && !awake_ && attempts_ < kMaxAttempts) take_from_keeper();
  if (recorder_.valid()) return;
  if (!known_ && !stand_in_ && fork_stand_in()) return;
  if (!known_) warn("the recorder died at once: training unrecorded");
  known_ = true;
}

// Whatever ends below us while recorder and keeper are gone comes to us (child subreaper).
void Front::reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == command_) note_exit(status, now_s());
  }
}

// ---------------------------------------------------------------------------------------- signals

void Front::order(int signal, bool whole_group) {
  Message message;
  message.kind = MessageKind::forward;
  message.detail = signal;
  message.number = whole_group ? 1 : 0;
  if (keeper_.valid() && send_message(keeper_.get(), message)) return;
  if (command_ > 0 && !ended_) ::kill(command_, signal);
}

void Front::pass_on(const signalfd_siginfo& info) {
  const int signal = static_cast<int>(info.ssi_signo);
  const bool shared = launch_.control == Control::shared_group;
  if (ended_ && (signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT)) {
    impatient_ = true;  // nobody is left to pass it to: the user wants his prompt
    return;
  }
  if (info.ssi_code == SI_KERNEL) {
    if (shared) return;
    if (terminal_.valid() && (signal == SIGINT || signal == SIGQUIT || signal == SIGTSTP) &&
        ::ioctl(terminal_.get(), TIOCSIG, signal) == 0) {
      return;
    }
    order(signal, true);
    return;
  }
  ::poll(nullptr, 0, 5);  // one kill(2) reaches the members of a group one after the other
  const bool group = recorder_pid_ > 0 && is_pending(recorder_pid_, signal);
  const bool everybody = keeper_pid_ > 0 && is_pending(keeper_pid_, signal);
  if (everybody || (shared && group)) return;
  order(signal, group);
}

void Front::on_signals() {
  signalfd_siginfo info = {};
  bool drop = false;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const int signal = static_cast<int>(info.ssi_signo);
    const auto sender = static_cast<pid_t>(info.ssi_pid);
    switch (signal) {
      case SIGCHLD:
        reap();
        continue;
      case SIGWINCH:
        if (terminal_.valid()) copy_window_size(launch_.user_terminal.get(), terminal_.get());
        // The command heard of it from the terminal, perhaps before its stderr had the new size.
        if (copy_window_size(2, sized_.get())) order(SIGWINCH, false);
        continue;
      case SIGPIPE:
      case SIGTTIN:
      case SIGTTOU:
      case SIGURG:
        continue;
      default:
        break;
    }
    drop = true;
    if (signal == SIGCONT) {
      go_on();
      if (sender == keeper_pid_) continue;
    }
    if (signal == SIGHUP && launch_.control == Control::own_terminal) {
      pollfd entry = {launch_.user_terminal.get(), 0, 0};
      ::poll(&entry, 1, 0);
      if (user_gone_ || (entry.revents & (POLLHUP | POLLERR)) != 0) {
        user_gone_ = true;  // a hang-up detaches; rigwise attach comes back
        raw_ = false;
        continue;
      }
    }
    pass_on(info);
  }
  if (!drop) return;
  Message message;
  message.kind = MessageKind::drop_signals;
  if (recorder_.valid()) send_message(recorder_.get(), message);
  if (keeper_.valid()) send_message(keeper_.get(), message);
}

/// The command was stopped: so are we, with the rest of our job, as our shell expects it.
void Front::stop_with_command(int stop_signal) {
  release_terminal();
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTSTP);
  const timespec none = {0, 0};
  if (stop_signal == SIGSTOP) {
    ::kill(::getpid(), SIGSTOP);
  } else {
    // SIGTSTP, not SIGSTOP: where nobody could ever continue us (an orphaned process group) the
    // kernel drops it. The others of our group share the stop, unless the terminal told them.
    while (::sigtimedwait(&stop, nullptr, &none) > 0) {
    }
    const bool alone = launch_.control == Control::shared_group;
    ::kill(alone ? ::getpid() : 0, SIGTSTP);
    ::sigprocmask(SIG_UNBLOCK, &stop, nullptr);  // here we stop
    ::sigprocmask(SIG_BLOCK, &stop, nullptr);
  }
  go_on();
  Message message;
  message.kind = MessageKind::drop_signals;
  // Whoever continued us did so with SIGCONT, which is passed on like any signal.
  sigset_t pending;
  if (::sigpending(&pending) == 0 && sigismember(&pending, SIGCONT) == 1) return;
  if (recorder_.valid()) send_message(recorder_.get(), message);
  message.kind = MessageKind::resume;
  if (stop_signal != SIGSTOP && keeper_.valid()) send_message(keeper_.get(), message);
}

void Front::go_on() {
  claim_terminal();
  if (terminal_.valid()) copy_window_size(launch_.user_terminal.get(), terminal_.get());
}

// --------------------------------------------------------------------------------------- terminal

void Front::claim_terminal() {
  termios modes = {};
  if (raw_ || user_gone_ || launch_.detached || !in_foreground() ||
      ::tcgetattr(launch_.user_terminal.get(), &modes) != 0) {
    return;
  }
  launch_.user_modes = modes;
  ::cfmakeraw(&modes);
  raw_ = ::tcsetattr(launch_.user_terminal.get(), TCSANOW, &modes) == 0;
}

void Front::release_terminal() {
  if (!raw_) return;
  raw_ = false;
  ::tcsetattr(launch_.user_terminal.get(), TCSANOW, &*launch_.user_modes);
}

void Front::relay_keys() {
  std::array<char, 512> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const ssize_t count = ::read(launch_.user_terminal.get(), bytes.data(), bytes.size());
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (count <= 0) {
    user_gone_ = true;
    raw_ = false;
    return;
  }
  keys_.append(bytes.data(), static_cast<std::size_t>(count));
  flush_keys();
}

void Front::flush_keys() {
  const ssize_t count = ::write(terminal_.get(), keys_.data(), keys_.size());
  if (count > 0) keys_.erase(0, static_cast<std::size_t>(count));
  if (count < 0 && errno != EAGAIN && errno != EINTR) keys_.clear();
}

// -------------------------------------------------------------------------------------- main loop

void Front::step(int timeout_ms) {
  const bool relay = raw_ && !user_gone_ && terminal_.valid();
  if (launch_.user_terminal.valid() && !raw_ && !user_gone_ && !ended_) {
    timeout_ms = timeout_ms < 0 ? 250 : std::min(timeout_ms, 250);  // fg says nothing to a runner
  }
  std::array<pollfd, 5> fds = {
      pollfd{signals_.get(), POLLIN, 0}, pollfd{keeper_.get(), POLLIN, 0},
      pollfd{recorder_.get(), POLLIN, 0},
      pollfd{relay && keys_.empty() ? launch_.user_terminal.get() : -1, POLLIN, 0},
      pollfd{relay && !keys_.empty() ? terminal_.get() : -1, POLLOUT, 0}};
  const int ready = ::poll(fds.data(), fds.size(), timeout_ms);
  if (ready == 0 && !ended_) claim_terminal();
  if (ready <= 0) return;
  if (fds[2].revents != 0) take_from_recorder();
  if (fds[1].revents != 0) take_from_keeper();
  if (fds[3].revents != 0) relay_keys();
  if (fds[4].revents != 0) flush_keys();
  if (fds[0].revents != 0) on_signals();
}

RecordOutcome Front::wait_for_start() {
  const double deadline_s = monotonic_s() + 5;
  while (monotonic_s() < deadline_s && (keeper_.valid() || recorder_.valid())) {
    if (started_ && known_) break;
    step(100);
  }
  outcome_.detached = true;
  if (exec_error_ != 0) outcome_.exit_code = exec_error_ == ENOENT ? 127 : 126;
  return outcome_;
}

void Front::tell_exec_error() {
  if (exec_error_ == 0 || told_) return;
  told_ = true;
  const auto& what = launch_.argv.empty() ? std::string() : launch_.argv[0];
  warn(clean_text(what, 300) + ": " +
       (exec_error_ == ENOENT ? "command not found"
                              : "cannot be executed: " + errno_text(exec_error_)));
}

RecordOutcome Front::wait() {
  outcome_.detached = false;
  tell_exec_error();
  while (!(ended_ && (drained_ || impatient_))) {
    // Keeper and recorder are gone and the command came not to us: its status is lost.
    if (!keeper_.valid() && !recorder_.valid()) {
      reap();
      if (ended_ || command_ <= 0 || ::kill(command_, 0) != 0) break;
    }
    step(keeper_.valid() || recorder_.valid() ? -1 : 200);
    tell_exec_error();
  }
  release_terminal();
  close_run();
  bury();
  remove_kineto_folder(profiling_folder_);
  if (!ended_) {
    outcome_.exit_code = 1;
    warn("how the command ended is not known: the keeper was killed");
  } else if (exec_error_ != 0) {
    outcome_.exit_code = exec_error_ == ENOENT ? 127 : 126;
  } else {
    outcome_.exit_code =
        WIFSIGNALED(wait_status_) ? 128 + WTERMSIG(wait_status_) : WEXITSTATUS(wait_status_);
  }
  return outcome_;
}

/// Recorder and keeper end with us; where nobody else reaps (pid 1 of a container) they must not
/// stay behind as zombies.
void Front::bury() {
  for (int i = 0; i < 100 && finished_; ++i) {
    const bool gone = ::kill(recorder_pid_, 0) != 0;
    reap();  // the keeper comes to us when the recorder is gone
    if (gone) return;
    ::poll(nullptr, 0, 2);
  }
}

// ------------------------------------------------------------------------------------ closing run

void Front::close_run() {
  if (!outcome_.dir && known_) return;
  const double began_s = monotonic_s();
  double moved_s = began_s;
  auto runtime = main_thread_runtime_ns(recorder_pid_);
  int signs = signs_of_life_;
  while (recorder_.valid() && !finished_ && !impatient_) {
    step(100);
    const double now = monotonic_s();
    const auto seen = main_thread_runtime_ns(recorder_pid_);
    if (seen != runtime || signs != signs_of_life_) {
      runtime = seen;
      signs = signs_of_life_;
      moved_s = now;
    }
    // With the ending on disk nothing is lost by leaving a slow disk to the recorder alone.
    const bool silent = now - moved_s >= kSilence_s;
    if (now - began_s > kFinishAllowed_s || (silent && closed_)) {
      warn(closed_ ? "the recorder is still making the run's digests; it goes on by itself"
                   : "the recorder is still closing the run; it goes on by itself");
      return;
    }
    if (!silent) continue;
    ::kill(recorder_pid_, SIGKILL);
    close_run_ourselves("the recorder did not answer at the end");
    return;
  }
  if (finished_ || impatient_) return;
  close_run_ourselves("the recorder was killed");
}

/// In a process of its own, since the file system may be what hung the recorder.
void Front::close_run_ourselves(std::string what) {
  if (!outcome_.dir) return;
  const pid_t child = ::fork();
  if (child == 0) {
    set_process_title("rigwise: closing " + launch_.name);
    std::vector<std::string> missing = {what +
                                        ": samples, steps and events end before the run does"};
    if (lost_log_bytes_ > 0) {
      missing.push_back("log: " + std::to_string(lost_log_bytes_) + " bytes could not be written");
    }
    Ending ending;
    if (ended_) {
      ending = ending_of(wait_status_, exec_error_, ended_s_);
    } else {
      ending.reason = "status lost";
      ending.wall_s = now_s();
    }
    ::_exit(finish_run(*outcome_.dir, ending, std::move(missing)).ok() ? 0 : 1);
  }
  if (child < 0) return;
  const double deadline_s = monotonic_s() + kCloseAllowed_s;
  int status = 0;
  while (monotonic_s() < deadline_s) {
    if (::waitpid(child, &status, WNOHANG) == child) {
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
      return warn(outcome_.dir->string() + ": the run could not be closed");
    }
    ::poll(nullptr, 0, 10);
  }
  warn(outcome_.dir->string() + ": the run folder does not answer; the run is not closed");
}

// ------------------------------------------------------------------------------------ entry points

/// Nothing else worked: the command in our place, unrecorded.
[[noreturn]] void become_command(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  const int error = errno;
  ::_exit(error == ENOENT ? 127 : 126);
}

RecordOutcome start_detached(const RecordOptions& options, Launch launch);

}  // namespace

RecordOutcome record_run(const RecordOptions& options) {
  auto launch = plan_launch(options);
  if (!launch) {
    std::fprintf(stderr, "rigwise: %s; training unrecorded\n", launch.error().message.c_str());
    become_command(options.command);
  }
  for (const auto& warning : launch->warnings)
    std::fprintf(stderr, "rigwise: %s\n", warning.c_str());
  launch->original_signals = SignalState::take_over();
  const SignalState signals = launch->original_signals;
  RecordOutcome outcome;
  if (options.detach) {
    outcome = start_detached(options, std::move(*launch));
  } else {
    Front front(options, std::move(*launch));
    if (!front.start()) {
      std::fprintf(stderr, "rigwise: no process to spare; training unrecorded\n");
      signals.restore();
      become_command(options.command);
    }
    outcome = front.wait();
  }
  drop_pending_signals();
  signals.restore();
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  return outcome;
}

namespace {

/// The front of a detached run is a process of its own, in a session of its own; we only wait until
/// it says how the start went.
RecordOutcome start_detached(const RecordOptions& options, Launch launch) {
  RecordOutcome outcome;
  outcome.name = launch.name;
  outcome.exit_code = 1;
  auto channel = make_channel();
  const pid_t child = channel ? ::fork() : -1;
  if (child < 0) {
    std::fprintf(stderr, "rigwise: no process to spare\n");
    return outcome;
  }
  if (child == 0) {
    channel->one.reset();
    ::setsid();
    set_process_title("rigwise: front " + launch.name);
    launch.front_pid = ::getpid();
    launch.front_group = ::getpgrp();
    Front front(options, std::move(launch));
    Message message;
    message.kind = MessageKind::refused;
    message.text = "no process to spare";
    bool goes_on = false;
    if (front.start()) {
      RecordOutcome start = front.wait_for_start();
      goes_on = start.exit_code == 0;
      if (!goes_on) start = front.wait();  // nothing runs: the user hears of it whole
      message.kind = goes_on ? MessageKind::recording : MessageKind::finished;
      message.detail = start.exit_code;
      message.text = start.dir ? start.dir->string() : std::string();
    }
    // Warnings of the start have reached the user; later ones have no reader.
    send_message(channel->other.get(), message);
    channel->other.reset();
    detach_standard_streams();
    if (goes_on) {
      const RecordOutcome end = front.wait();
      if (end.dir && options.when_over) options.when_over(*end.dir);
    }
    ::_exit(0);
  }
  channel->other.reset();
  pollfd entry = {channel->one.get(), POLLIN, 0};
  while (::poll(&entry, 1, -1) < 0 && errno == EINTR) {
  }
  const Received received = receive_message(channel->one.get());
  if (!received.message || received.message->kind == MessageKind::refused) {
    std::fprintf(stderr, "rigwise: the detached run did not start: %s\n",
                 received.message ? received.message->text.c_str() : "its front died at once");
    return outcome;
  }
  outcome.detached = received.message->kind == MessageKind::recording;
  outcome.exit_code = received.message->detail;
  if (!received.message->text.empty()) outcome.dir = received.message->text;
  return outcome;
}

}  // namespace

}  // namespace rigwise
