#include "record/trace_helper.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>

#include "base/clock.h"
#include "base/text.h"
#include "record/process.h"
#include "rigwise/trace.h"

namespace rigwise {

namespace {

constexpr std::size_t kMostKept = std::size_t{256} << 20;
constexpr rlim_t kMostMemory = rlim_t{1} << 30;
constexpr double kClocksAgree_s = 5;

/// Reads one trace and writes its row. An empty text: done.
std::string read_one(RunWriter& writer, const std::string& host, const Message& job,
                     Message& answer) {
  TraceOptions options;
  options.most_kept_bytes = kMostKept;
  const auto summary = read_trace(writer.dir() / job.text, options);
  if (!summary) return summary.error().message;
  TraceWindow row = window_of(*summary, writer.info().start_unix_s);
  row.host = host;
  row.pid = job.pid;
  if (job.detail >= 0) row.rank = job.detail;
  row.file = job.text;
  // A wall clock that was set since the run's start; or a trace that does not know it.
  if (!summary->begin_unix_s || std::abs(row.t_s - job.t_s) > kClocksAgree_s) {
    row.t_end_s = job.t_s + (row.t_end_s - row.t_s);
    row.t_s = job.t_s;
    answer.text = "its instants are those that were asked for: the wall clock was set";
  }
  if (!summary->reading.whole)
    return "the trace could not be read whole: " + summary->reading.why_not;
  if (summary->device.empty()) return "nothing ran in it";
  writer.append(row);
  answer.t_s = row.t_s;
  answer.detail = static_cast<std::int32_t>(std::lround((row.t_end_s - row.t_s) * 1000));
  return {};
}

[[noreturn]] void serve(RunWriter& writer, const std::string& host, int channel) {
  for (;;) {
    pollfd entry = {channel, POLLIN, 0};
    if (::poll(&entry, 1, -1) < 0 && errno != EINTR) ::_exit(0);
    const bool there = take_messages(channel, [&](const Message& job) {
      Message answer;
      answer.kind = MessageKind::finished;
      answer.number = job.number;
      std::string trouble;
      try {
        trouble = read_one(writer, host, job, answer);
      } catch (...) {
        trouble = "reading it took too much memory";
      }
      answer.pid = trouble.empty() ? 0 : 1;
      if (!trouble.empty()) answer.text = clean_text(trouble, 500);
      send_message(channel, answer);
    });
    if (!there) ::_exit(0);
  }
}

}  // namespace

void TraceHelper::start(RunWriter& writer, const std::string& host,
                        const std::vector<int>& close_first) {
  auto channel = make_channel();
  if (!channel) return;
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ != 0) {
    if (pid_ > 0) channel_ = std::move(channel->one);
    return;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  channel->one.reset();
  for (const int fd : close_first) ::close(fd);
  set_process_title("rigwise: traces");
  ::setpriority(PRIO_PROCESS, 0, 19);
  const rlimit memory = {kMostMemory, kMostMemory};
  ::setrlimit(RLIMIT_AS, &memory);
  serve(writer, host, channel->other.get());
}

bool TraceHelper::ask(const TraceJob& job) {
  if (!channel_.valid()) return false;
  Message message;
  message.kind = MessageKind::ask_trace;
  message.number = job.number;
  message.text = job.file;
  message.pid = job.pid;
  message.detail = job.rank.value_or(-1);
  message.t_s = job.t_s;
  if (!send_message(channel_.get(), message)) return false;
  asked_.push_back(job.number);
  return true;
}

std::vector<TraceAnswer> TraceHelper::take() {
  std::vector<TraceAnswer> answers;
  if (!channel_.valid()) return answers;
  const bool there = take_messages(channel_.get(), [&](const Message& message) {
    TraceAnswer answer;
    answer.number = message.number;
    if (message.pid != 0) {
      answer.trouble = message.text;
    } else {
      answer.t_s = message.t_s;
      answer.t_end_s = message.t_s + static_cast<double>(message.detail) / 1000;
      answer.detail = message.text;
    }
    std::erase(asked_, answer.number);
    answers.push_back(std::move(answer));
  });
  if (there) return answers;
  channel_.reset();
  for (const auto number : asked_) {
    answers.push_back({.number = number, .trouble = "the process that reads traces died"});
  }
  asked_.clear();
  return answers;
}

std::vector<TraceAnswer> TraceHelper::take_all(double limit_s) {
  std::vector<TraceAnswer> answers = take();
  const double deadline_s = monotonic_s() + limit_s;
  while (!asked_.empty()) {
    const double left_s = deadline_s - monotonic_s();
    pollfd entry = {channel_.get(), POLLIN, 0};
    if (left_s <= 0 || ::poll(&entry, 1, static_cast<int>(left_s * 1000) + 1) == 0) break;
    for (auto& answer : take()) answers.push_back(std::move(answer));
  }
  for (const auto number : asked_) {
    answers.push_back({.number = number, .trouble = "the run's end came before it was read"});
  }
  asked_.clear();
  return answers;
}

void TraceHelper::stop() {
  channel_.reset();
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  for (int i = 0; i < 50 && ::waitpid(pid_, nullptr, WNOHANG) == 0; ++i) {
    const timespec pause = {0, 2000000};
    ::nanosleep(&pause, nullptr);
  }
  pid_ = -1;
}

}  // namespace rigwise
