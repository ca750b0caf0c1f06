#include "record/profile_windows.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <system_error>

#include "base/clock.h"
#include "base/text.h"
#include "record/process.h"
#include "run/layout.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {

constexpr double kStarted_s =
    5;  // behind a window's end, a process at work on it says that it is busy
constexpr double kWrite_s = 180;  // a trace that is not there by then is given up
constexpr double kMaxTraceBytes = 256e6;
constexpr double kMaxKeptBytes = 64e6;  // of a run
constexpr double kMinFreeBytes = 2e9;   // of the disk, before a window is asked for
constexpr double kAllRanks_s = 30;      // for the last rank to ask for the first time
constexpr double kReadAtEnd_s = 8;
constexpr double kTakenBefore_s = 2.3;  // of a window's begin: warm-up and a turn of its thread

double free_bytes(const fs::path& folder) {
  struct statvfs info = {};
  if (::statvfs(folder.c_str(), &info) != 0) return 0;
  return static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
}

std::optional<double> size_of(const fs::path& file) {
  std::error_code error;
  const auto bytes = fs::file_size(file, error);
  if (error) return std::nullopt;
  return static_cast<double>(bytes);
}

/// What the process made of "trace-4127-1.json": "trace-4127-1_PID.json" once it is whole, with
/// ".tmp" behind it until then. PID is as the process counts, in a container another.
struct Written {
  std::optional<fs::path> whole = {}, growing = {};
};
Written written_for(const fs::path& folder, const std::string& name) {
  const std::string start = name.substr(0, name.size() - std::string_view(".json").size()) + "_";
  Written written;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string found = at->path().filename();
    if (!found.starts_with(start) || at->is_symlink(error)) continue;
    if (found.ends_with(".json")) written.whole = at->path();
    if (found.ends_with(".json.tmp")) written.growing = at->path();
  }
  return written;
}

}  // namespace

std::string ProfileWindows::Trace::file() const {
  return std::string(layout::kProfileFolder) + "/" + name;
}

WindowLimits limits_of(const ProfileOptions& options) {
  WindowLimits limits;
  if (options.most_windows) limits.count = *options.most_windows;
  if (options.share) limits.share = *options.share;
  limits.length_s = options.length_s;
  limits.first_s = options.first_s;
  limits.every_s = options.every_s;
  return limits;
}

ProfileWindows::ProfileWindows(const ProfileOptions& options) : planner_(limits_of(options)) {}

void ProfileWindows::note(const Message& message) {
  if (message.kind == MessageKind::profiling) {
    open_ = message.detail != 0;
    why_not_ = open_ ? std::string() : message.text;
    return;
  }
  switch (static_cast<KinetoEvent>(message.detail)) {
    case KinetoEvent::appeared:
      clients_[message.pid] = true;
      return;
    case KinetoEvent::ready:
      clients_[message.pid] = true;
      return;
    case KinetoEvent::busy: {
      clients_[message.pid] = false;
      const auto ours = [&](const Trace& trace) { return trace.pid == message.pid && trace.took; };
      // Nothing of ours runs in it, so that something of the user's own does.
      if (!window_ || std::none_of(window_->traces.begin(), window_->traces.end(), ours)) {
        note_user_profiles();
      }
      return;
    }
    case KinetoEvent::took:
      if (!window_) return;
      for (Trace& trace : window_->traces) {
        if (trace.pid == message.pid) trace.took = true;
      }
      return;
  }
}

void ProfileWindows::note(const std::vector<GpuSample>& gpus) {
  for (const GpuSample& gpu : gpus) {
    if (gpu.tree_processes && *gpu.tree_processes > 0) gpu_ = true;
  }
}

void ProfileWindows::note_user_profiles() {
  user_profiles_ = true;
}

void ProfileWindows::start(RunWriter& writer, const std::string& host,
                           const std::vector<int>& close_first) {
  if (open_) helper_.start(writer, host, close_first);
}

void ProfileWindows::note_ended(pid_t pid) {
  if (pid == helper_.pid()) helper_.note_ended();
}

std::vector<ProcSample> ProfileWindows::askable(const std::vector<ProcSample>& tree) const {
  std::vector<ProcSample> ranks;
  for (const ProcSample& process : tree) {
    if (process.role == "rank" && clients_.contains(process.pid)) ranks.push_back(process);
  }
  return ranks;
}

void ProfileWindows::tick(double t_s, const std::vector<ProcSample>& tree, int keeper,
                          RunWriter& writer) {
  if (window_) look(t_s, writer);
  if (!open_ || window_ || user_profiles_) return;
  const double lead_s = planner_.lead_s(kKinetoLead_s);
  const auto length_s = planner_.due(t_s, pace_, gpu_, lead_s);
  if (!length_s) {
    due_since_s_ = -1;
    return;
  }
  if (due_since_s_ < 0) due_since_s_ = t_s;
  const std::vector<ProcSample> ranks = askable(tree);
  const auto all = std::count_if(tree.begin(), tree.end(),
                                 [](const ProcSample& row) { return row.role == "rank"; });
  const bool ready = std::all_of(ranks.begin(), ranks.end(),
                                 [&](const ProcSample& row) { return clients_.at(row.pid); });
  if (ranks.empty() || !ready) return;
  if (static_cast<std::ptrdiff_t>(ranks.size()) < all && t_s < due_since_s_ + kAllRanks_s) return;
  silent_ = std::max(silent_, static_cast<int>(all) - static_cast<int>(ranks.size()));
  if (free_bytes(writer.dir()) < kMinFreeBytes) return;
  ask(t_s, *length_s, ranks, keeper, writer);
}

void ProfileWindows::ask(double t_s, double length_s, const std::vector<ProcSample>& ranks,
                         int keeper, const RunWriter& writer) {
  Window window;
  const double lead_s = planner_.lead_s(kKinetoLead_s);
  window.number = ++numbered_;
  // What has run since the tick began counts: the window begins so long from now.
  const double begin_s = monotonic_s() - writer.info().start_monotonic_s + lead_s;
  const double begin_unix_s = unix_s() + lead_s;
  window.t_s = begin_s;
  window.t_end_s = begin_s + length_s;
  window.until_s = begin_s - kTakenBefore_s;
  for (const ProcSample& rank : ranks) {
    Trace trace;
    trace.pid = rank.pid;
    trace.rank = rank.rank;
    trace.name =
        "trace-" + std::to_string(rank.pid) + "-" + std::to_string(window.number) + ".json";
    Message message;
    message.kind = MessageKind::ask_trace;
    message.pid = rank.pid;
    message.t_s = window.until_s;
    message.number = std::llround(begin_unix_s * 1000);
    message.detail = static_cast<std::int32_t>(std::lround(length_s * 1000));
    message.text = trace.name;
    if (send_message(keeper, message)) window.traces.push_back(std::move(trace));
  }
  planner_.note_asked(t_s);
  window_ = std::move(window);
}

void ProfileWindows::look(double t_s, RunWriter& writer) {
  const fs::path folder = writer.dir() / layout::kProfileFolder;
  for (std::size_t i = 0; i < window_->traces.size(); ++i) {
    Trace& trace = window_->traces[i];
    if (trace.over || trace.reading) continue;
    if (!trace.took) {
      if (t_s > window_->until_s + 1) give_up(trace, "the process did not ask in time", writer);
      continue;
    }
    const Written written = written_for(folder, trace.name);
    const double growing = written.growing ? size_of(*written.growing).value_or(0) : 0;
    if (written.whole) {
      hand_over(i, *written.whole, writer);
    } else if (growing > kMaxTraceBytes) {
      std::error_code error;
      fs::remove(*written.growing, error);
      window_->largest_bytes = std::max(window_->largest_bytes, growing);
      give_up(trace, "larger than 256 MB", writer);
    } else if (t_s > window_->t_end_s + kStarted_s && clients_[trace.pid]) {
      give_up(trace, "the process got the request too late to warm up", writer);
    } else if (t_s > window_->t_end_s + kWrite_s) {
      give_up(trace, "the process wrote no trace", writer);
    }
  }
  take_answers(helper_.take(), writer);
  if (helper_.pid() > 0) helper_cpu_s_ = cpu_seconds_of(helper_.pid()).value_or(helper_cpu_s_);
  if (window_over()) close_window(t_s);
}

bool ProfileWindows::window_over() const {
  return std::all_of(window_->traces.begin(), window_->traces.end(),
                     [](const Trace& trace) { return trace.over; });
}

/// The trace gets the name that it was asked under and goes to the reader.
void ProfileWindows::hand_over(std::size_t index, const fs::path& file, RunWriter& writer) {
  Trace& trace = window_->traces[index];
  trace.bytes = size_of(file).value_or(0);
  trace.reading = true;
  window_->largest_bytes = std::max(window_->largest_bytes, trace.bytes);
  std::error_code error;
  fs::rename(file, writer.dir() / trace.file(), error);
  TraceJob job;
  job.number = static_cast<std::int64_t>(index);
  job.file = trace.file();
  job.pid = trace.pid;
  job.rank = trace.rank;
  job.t_s = window_->t_s;
  if (error || !helper_.ask(job)) {
    const std::string why = error ? error.message() : "nobody reads traces";
    take(trace, {.number = job.number, .trouble = why}, writer);
  }
}

void ProfileWindows::take_answers(const std::vector<TraceAnswer>& answers, RunWriter& writer) {
  for (const TraceAnswer& answer : answers) {
    const auto index = static_cast<std::size_t>(answer.number);
    if (window_ && index < window_->traces.size() && !window_->traces[index].over) {
      take(window_->traces[index], answer, writer);
    }
  }
}

void ProfileWindows::take(Trace& trace, const TraceAnswer& answer, RunWriter& writer) {
  trace.over = true;
  Event event = event_of(trace, answer.trouble.empty() ? "whole" : "unread");
  event.size_bytes = static_cast<std::int64_t>(trace.bytes);
  if (answer.trouble.empty()) {
    event.t_s = answer.t_s;
    event.t_end_s = answer.t_end_s;
    event.detail = answer.detail;
  } else {
    ++lost_;
    event.detail = answer.trouble;
  }
  if (kept_bytes_ + trace.bytes > kMaxKeptBytes) {
    std::error_code error;
    fs::remove(writer.dir() / trace.file(), error);
    event.detail += event.detail.empty() ? "" : "; ";
    event.detail += "not kept: the run's traces would be larger than 64 MB";
  } else {
    kept_bytes_ += trace.bytes;
  }
  writer.append(event);
}

void ProfileWindows::give_up(Trace& trace, const std::string& why, RunWriter& writer) {
  trace.over = true;
  ++lost_;
  Event event = event_of(trace, "none");
  event.detail = why;
  writer.append(event);
}

Event ProfileWindows::event_of(const Trace& trace, const std::string& state) const {
  Event event;
  event.t_s = window_->t_s;
  event.t_end_s = window_->t_end_s;
  event.kind = EventKind::profile_window;
  event.name = trace.file();
  event.state = state;
  event.rank = trace.rank;
  event.how = "kineto";
  return event;
}

void ProfileWindows::close_window(double t_s) {
  if (window_->largest_bytes > 0) {
    planner_.note_done(window_->t_end_s - window_->t_s, window_->largest_bytes);
  } else {
    planner_.note_failed(t_s);
  }
  window_.reset();
}

void ProfileWindows::finish(double t_s, RunWriter& writer) {
  if (window_) look(t_s, writer);
  if (window_) {
    take_answers(helper_.take_all(kReadAtEnd_s), writer);
    if (helper_.pid() > 0) helper_cpu_s_ = cpu_seconds_of(helper_.pid()).value_or(helper_cpu_s_);
    for (Trace& trace : window_->traces) {
      if (trace.over) continue;
      const Written written = written_for(writer.dir() / layout::kProfileFolder, trace.name);
      std::error_code error;
      if (written.growing) fs::remove(*written.growing, error);
      give_up(trace, "the command ended first", writer);
    }
    close_window(t_s);
  }
  helper_.stop();
}

std::vector<std::string> ProfileWindows::missing() const {
  std::vector<std::string> words;
  if (why_not_ && !why_not_->empty()) words.push_back("no profile windows: " + *why_not_);
  if (user_profiles_) {
    words.emplace_back("no (more) profile windows: the command uses PyTorch's profiler itself");
  }
  if (due_since_s_ >= 0 && numbered_ == 0 && !user_profiles_) {
    words.emplace_back("no profile windows: no rank asked for one");
  }
  if (silent_ > 0) {
    words.push_back(counted(silent_, "rank", "ranks") + " never asked for a profile window");
  }
  if (lost_ > 0) {
    words.push_back(counted(lost_, "profile window", "profile windows") +
                    " could not be used (events.csv says why)");
  }
  return words;
}

}  // namespace rigwise
