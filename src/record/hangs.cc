#include "record/hangs.h"

#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <thread>
#include <utility>

#include "base/files.h"
#include "host/proc_text.h"
#include "host/traffic.h"
#include "record/hang_verdict.h"
#include "record/look.h"

namespace rigwise {

namespace {

constexpr double kLookLimit_s = 10;  // a look that takes longer hangs itself
constexpr std::size_t kMostProcesses = 64;
constexpr std::size_t kMostFrames = 80;  // of a process, innermost
constexpr int kMostHangs = 50;           // of a run; later ones are noise

std::string_view words_of(Progress progress) {
  switch (progress) {
    case Progress::step:
      return "a step";
    case Progress::log:
      return "a line of the log";
    case Progress::bytes:
      return "bytes read or written";
    case Progress::checkpoint:
      return "a checkpoint";
  }
  return "?";
}

bool has_network_files() {
  const auto text = read_file("/proc/self/mountinfo", std::size_t{16} << 20);
  if (!text) return true;
  const auto mounts = parse_mountinfo(*text);
  return std::any_of(mounts.begin(), mounts.end(),
                     [](const MountEntry& mount) { return is_network_fs(mount.fs_type); });
}

double rounded(double value) {
  return std::round(value * 1e3) / 1e3;
}

}  // namespace

// ------------------------------------------------------------------------------- the log

bool LogNews::take(std::string_view bytes) {
  constexpr std::uint64_t kPrime = 1099511628211u;  // FNV-1a
  constexpr std::size_t kFlood = 65536;  // at once: nobody's heartbeat, and a cost to look through
  if (bytes.size() >= kFlood) {
    shape_ = 0;
    return true;
  }
  bool news = false;
  for (const char c : bytes) {
    if (c != '\n' && c != '\r') {
      const char low = static_cast<char>(c | 0x20);
      if (low >= 'a' && low <= 'z') shape_ = (shape_ ^ static_cast<unsigned char>(low)) * kPrime;
      continue;
    }
    if (seen_.size() < kMostShapes || seen_.contains(shape_)) {
      int& count = seen_[shape_];
      count = std::min(count + 1, kOften + 1);
      news = news || count <= kOften;
    } else {
      news = true;
    }
    shape_ = 0;
  }
  // an unfinished line counts: a question, or dots
  return news || (!bytes.empty() && bytes.back() != '\n' && bytes.back() != '\r');
}

// ------------------------------------------------------------------------------- ending politely

void PoliteEnd::begin(double t_s) {
  if (!begun_s_) begun_s_ = t_s;
}

std::optional<PoliteEnd::Order> PoliteEnd::due(double t_s, double progress_s) {
  if (!begun_s_) return std::nullopt;
  const double waited_s = t_s - std::max(*begun_s_, progress_s);
  if (orders_ == 0) {
    ++orders_;
    return Order{SIGINT, false};
  }
  if (orders_ == 1 && waited_s >= kTerminate_s) {
    ++orders_;
    return Order{SIGTERM, true};
  }
  if (orders_ < 2 || waited_s < kKill_s || t_s - killed_s_ < kAgain_s) return std::nullopt;
  killed_s_ = t_s;
  return Order{SIGKILL, true};
}

// ------------------------------------------------------------------------------- looking

struct Hangs::Job {
  std::vector<ProcSample> tree = {};
  LookOptions options = {};
  double begun_s = 0;
  std::mutex mutex = {};
  bool done = false;
  std::vector<ProcessLook> looks = {};  // in the tree's order: what is there so far
};

Hangs::Hangs(const HangOptions& options, std::string host, std::vector<StackPattern> patterns,
             double interval_s)
    : options_(options),
      host_(std::move(host)),
      patterns_(std::move(patterns)),
      watch_(options, HangLimits{.interval_s = interval_s}),
      network_files_(has_network_files()) {}

void Hangs::note(const StepRecord& step, double t_s) {
  if (step.kind == RecordKind::system || step.kind == RecordKind::summary) return;
  const auto number = step.step ? step.step : step.bar_step;
  if (step.kind == RecordKind::train || (number && number != last_step_)) {
    watch_.note(Progress::step, t_s);
    news_.forget();
  }
  if (number && step.kind != RecordKind::eval) last_step_ = number;
}

void Hangs::note(const HostReading& reading) {
  for (const GpuSample& gpu : reading.gpus) {
    const auto known = std::find_if(gpus_.begin(), gpus_.end(),
                                    [&](const GpuSample& each) { return each.gpu == gpu.gpu; });
    if (known == gpus_.end()) {
      gpus_.push_back(gpu);
      continue;
    }
    GpuSample now = gpu;  // who uses it is read now and then only
    if (!now.tree_processes) now.tree_processes = known->tree_processes;
    if (!now.other_processes) now.other_processes = known->other_processes;
    if (!now.tree_used_bytes) now.tree_used_bytes = known->tree_used_bytes;
    *known = now;
  }
  if (!reading.nets.empty()) nets_ = reading.nets;
}

void Hangs::start_look(double t_s, const std::vector<ProcSample>& tree,
                       const std::vector<StackPlace>& places) {
  seen_.clear();
  for (const ProcSample& process : tree) {  // ranks first, and the helpers of helpers not at all
    if (seen_.size() < kMostProcesses) seen_.push_back(process);
  }
  lost_ = watch_.lost_ranks(tree);
  places_ = places;
  cpu_.clear();
  queued_.clear();
  for (const ProcSample& process : seen_) {
    cpu_.push_back(watch_.cpu_frac(process, t_s));
    queued_.push_back(watch_.queued_frac(process, t_s));
  }
  hang_ = {};
  hang_.number = ++count_;
  hang_.host = host_;
  hang_.t_s = rounded(watch_.began_s());
  hang_.found_s = rounded(t_s);
  hang_.threshold_s = rounded(watch_.threshold_s());
  if (!watch_.silent_from_start()) hang_.last_progress = words_of(watch_.last_progress());
  hang_.last_step = last_step_;
  at_work_ = watch_.at_work();
  gpus_spin_ = watch_.gpus_spin();
  job_ = std::make_shared<Job>();
  job_->tree = seen_;
  job_->options.patterns = patterns_;
  job_->begun_s = t_s;
  sigset_t all, before;
  sigfillset(&all);
  const bool masked = ::pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
  try {
    std::thread([job = job_] {
      try {
        for (const ProcSample& row : job->tree) {
          ProcessLook look = look_at(row, job->options);
          const std::lock_guard lock(job->mutex);
          job->looks.push_back(std::move(look));
        }
      } catch (...) {
        // Out of memory: the rest is told as not seen.
      }
      const std::lock_guard lock(job->mutex);
      job->done = true;
    }).detach();
  } catch (...) {
    job_->done = true;  // no thread to be had
  }
  if (masked) ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

/// The hang with what could be seen.
Hang Hangs::found(double t_s) {
  std::vector<ProcessLook> looks;
  {
    const std::lock_guard lock(job_->mutex);
    looks = job_->looks;
  }
  job_.reset();
  for (std::size_t i = looks.size(); i < seen_.size(); ++i) {
    ProcessLook process = look_of(seen_[i]);
    process.state = seen_[i].main_state;
    process.read = "unavailable";
    process.why = i == looks.size() ? "the look at it did not come back: it hangs in the kernel"
                                    : "not looked at: the look at another one did not come back";
    looks.push_back(std::move(process));
  }
  for (std::size_t i = 0; i < looks.size(); ++i) {
    ProcessLook& process = looks[i];
    if (process.frames.size() > kMostFrames) process.frames.resize(kMostFrames);
    if (cpu_[i]) process.cpu_frac = rounded(*cpu_[i]);
    if (queued_[i]) process.queued_frac = rounded(*queued_[i]);
    const auto place = std::find_if(places_.begin(), places_.end(), [&](const StackPlace& each) {
      return each.pid == process.pid;
    });
    if (place != places_.end())
      process.still_s = rounded(std::max(0.0, hang_.found_s - place->held_s));
    process.spins_on_gpu = gpus_spin_ && process.holds_gpu && process.state == "R";
  }
  for (const ProcSample& row : lost_) {
    ProcessLook process = look_of(row);
    process.read = "gone";
    looks.push_back(std::move(process));
  }
  hang_.look.t_s = rounded(t_s);
  hang_.look.verdict =
      judge_hang(looks, {.at_work = at_work_, .ranks_elsewhere = watch_.ranks_elsewhere()});
  hang_.look.processes = std::move(looks);
  for (const GpuSample& gpu : gpus_) {
    if (gpu.tree_processes.value_or(0) > 0 || gpu.tree_used_bytes.value_or(0) > 0)
      hang_.look.gpus.push_back(gpu);
  }
  return hang_;
}

/// What is sure to stand still for good, and is nobody's debugging.
bool Hangs::may_stop() const {
  const HangVerdict& verdict = hang_.look.verdict;
  const bool by_others =
      verdict.cause == HangCause::unknown || verdict.cause == HangCause::collective;
  return !verdict.at_work && verdict.cause != HangCause::terminal &&
         !(by_others && watch_.ranks_elsewhere());
}

Hang Hangs::ended(HangState state, double t_s) {
  hang_.state = state;
  hang_.t_end_s = rounded(t_s);
  return hang_;
}

// ------------------------------------------------------------------------------- the recorder's
// calls

std::vector<Hang> Hangs::tick(double t_s, const std::vector<ProcSample>& tree,
                              const std::vector<StackPlace>& places, bool stopped) {
  std::vector<Hang> news;
  HangSight sight;
  sight.tree = &tree;
  sight.places = &places;
  sight.gpus = &gpus_;
  sight.nets = &nets_;
  sight.paused = stopped;
  sight.network_files = network_files_;
  sight.traffic = [&tree] {
    std::vector<int> pids;
    for (const ProcSample& process : tree) pids.push_back(process.pid);
    return traffic_of(pids);
  };
  const HangChange change = watch_.tick(t_s, sight);
  if (change == HangChange::found && count_ < kMostHangs) start_look(t_s, tree, places);
  if (job_) {
    bool done = t_s - job_->begun_s >= kLookLimit_s || change == HangChange::over;
    {
      const std::lock_guard lock(job_->mutex);
      done = done || job_->done;
    }
    if (done) {
      news.push_back(found(t_s));
      if (options_.stop && change != HangChange::over && may_stop()) end_.begin(t_s);
    }
  }
  if (change == HangChange::over && hang_.number == count_ && count_ > 0 && !hang_.t_end_s)
    news.push_back(ended(HangState::over, watch_.over_s()));
  return news;
}

std::vector<Hang> Hangs::finish(double t_s, bool ended_well) {
  std::vector<Hang> news;
  const bool open = watch_.hung();
  const HangChange change = watch_.finish(t_s, ended_well);
  if (job_) news.push_back(found(t_s));
  if (!open || count_ == 0 || hang_.t_end_s) return news;
  const bool over = change == HangChange::over && !end_.begun();
  const HangState state = over           ? HangState::over
                          : end_.begun() ? HangState::stopped
                                         : HangState::ended;
  news.push_back(ended(state, over ? watch_.over_s() : t_s));
  return news;
}

std::optional<PoliteEnd::Order> Hangs::order_due(double t_s) {
  return end_.due(t_s, watch_.last_progress_s());
}

void mask_texts(Hang& hang, const std::function<std::string(const std::string&)>& mask) {
  HangVerdict& verdict = hang.look.verdict;
  for (std::string* text : {&verdict.where, &verdict.because, &verdict.advice}) *text = mask(*text);
  for (ProcessLook& process : hang.look.processes) {
    process.waits_on = mask(process.waits_on);
    process.why = mask(process.why);
    process.hint = mask(process.hint);
    for (ThreadGroup& group : process.threads) group.comm = mask(group.comm);
    process.comm = mask(process.comm);
    for (LookFrame& frame : process.frames) {
      frame.file = mask(frame.file);
      frame.function = mask(frame.function);
    }
  }
}

}  // namespace rigwise
