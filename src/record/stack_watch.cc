#include "record/stack_watch.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <span>
#include <thread>
#include <unordered_map>
#include <utility>

#include "base/clock.h"
#include "base/text.h"
#include "host/kept_file.h"

namespace rigwise {

namespace {

constexpr double kSpan_s = 1;          // a span is closed when it is that long
constexpr std::size_t kMostSpans = 8;  // of about a second, before they are put together by work
constexpr double kCountEvery_s = 60;   // stacks are counted by the minute
constexpr double kSlowestTry_s = 60;   // between tries to look into a process that refused
constexpr int kLoaderEvery = 4;        // loaders are looked at in every fourth round, …
constexpr int kLauncherEvery = 10;     // … processes that only wait for others in every tenth
constexpr std::size_t kMostProcesses = 64;
constexpr std::size_t kMostStacks = 20000;  // what comes after is counted as stack 0
constexpr std::size_t kMostFrames = 200;    // of one stack on disk

/// "site-packages/torch/nn/modules/module.py" → "torch/nn/modules/module.py"; of other files the
/// name alone.
std::string_view short_file(std::string_view file) {
  for (const std::string_view mark : {"/site-packages/", "/dist-packages/"}) {
    const auto at = file.rfind(mark);
    if (at != std::string_view::npos) return file.substr(at + mark.size());
  }
  const auto slash = file.rfind('/');
  return slash == std::string_view::npos ? file : file.substr(slash + 1);
}

/// Outermost first, parted by ';'. Names come from the command: bounded and made safe to print.
std::string folded(const std::vector<PythonFrame>& innermost_first) {
  std::string text;
  const std::size_t count = std::min(innermost_first.size(), kMostFrames);
  for (std::size_t i = count; i-- > 0;) {
    const PythonCode* code = innermost_first[i].code;
    if (code == nullptr) continue;
    std::string frame =
        clean_text(short_file(code->file), 120) + ":" + clean_text(code->function, 120);
    std::replace(frame.begin(), frame.end(), ';', ',');
    if (!text.empty()) text += ';';
    text += frame;
  }
  return text;
}

struct Sched {
  double running_s = 0, queued_s = 0;
};

struct Stack {
  std::int64_t id = 0;   // in profile/HOST.frames.csv; 0: too many are known already
  std::size_t path = 0;  // see path_of
};

/// From where torch was called, as a hash: a forward pass of an evaluation is not one of a step,
/// and spans of the two are kept apart. 0 for all other works.
std::size_t path_of(std::string_view work, std::string_view folded_frames) {
  if (work != "forward") return 0;
  return std::hash<std::string_view>{}(folded_frames.substr(0, folded_frames.find(";torch/")));
}

/// What one sample stands for: from halfway to the one before to halfway to the one after.
struct Cell {
  double t_s = 0;
  std::string_view work = {};
  Stack stack = {};
  std::optional<Sched> used = {};  // since the sample before
  bool asleep = false;             // at the moment of the sample
};

/// A span while it is built.
struct OpenSpan {
  StackSpan row = {};
  std::size_t path = 0;
};

/// Where a stack stands, and since when.
class PlaceKeeper {
 public:
  /// `waits`: the frame that waits, whatever it calls meanwhile.
  void note(std::span<const PythonFrame> innermost_first, std::optional<std::size_t> waits,
            StackPlace& place, double t_s) {
    const std::size_t depth = innermost_first.size();
    const std::optional<std::size_t> outside =
        waits ? std::optional(depth - 1 - *waits) : std::nullopt;
    std::size_t same = 0;
    const std::size_t most = std::min(depth, held_.size());
    const auto at = [&](std::size_t i) -> const PythonFrame& {
      return innermost_first[depth - 1 - i];
    };
    while (same < most && is_same(held_[same], at(same))) ++same;
    const bool in_same_call = outside && outside == outside_ && same >= *outside &&
                              held_[*outside].code == at(*outside).code;
    const bool held = in_same_call || std::max(depth, held_.size()) - same <= kLooksAround;
    if (!held || place.samples == 0) {
      held_.assign(innermost_first.rbegin(), innermost_first.rend());
      outside_ = outside;
      still_ = held_;
      place.held_s = place.still_s = t_s;
      place.samples = 0;
    } else if (depth != still_.size() ||
               !std::equal(still_.begin(), still_.end(), innermost_first.rbegin(), is_same)) {
      still_.assign(innermost_first.rbegin(), innermost_first.rend());
      place.still_s = t_s;
    }
    ++place.samples;
    place.last_s = t_s;
  }

 private:
  static constexpr std::size_t kLooksAround = 3;  // while True: if exists(path): …; sleep(0.1)
  static bool is_same(const PythonFrame& a, const PythonFrame& b) {
    return a.code == b.code && a.instruction == b.instruction;
  }
  std::vector<PythonFrame> held_, still_;  // outermost first
  std::optional<std::size_t> outside_;
};

struct Watched {
  int pid = 0;
  std::string role = {};
  std::optional<int> rank = {};
  std::unique_ptr<PythonProcess> python = {};
  StackClassifier classifier;
  double next_try_s = 0, wait_s = 0.1;
  bool tree_has_it = true;
  KeptFile sched, stat;
  std::optional<Sched> sched_before = {};
  std::optional<double> seen_before_s = {};
  std::optional<Cell> open = {};  // waits for its successor, which says where it ends
  double open_from_s = 0;
  std::optional<OpenSpan> span = {};
  std::vector<std::int64_t> span_stacks = {};
  std::int64_t torn_before = 0;       // since the last good sample
  std::vector<OpenSpan> second = {};  // spans that are closed but not handed over
  std::unordered_map<std::size_t, Stack> stack_of_hash = {};
  PlaceKeeper place_keeper = {};
  StackPlace place = {};
};

std::int64_t commonest(std::vector<std::int64_t>& ids) {
  std::sort(ids.begin(), ids.end());
  std::int64_t best = 0;
  std::ptrdiff_t most = 0;
  for (auto from = ids.begin(); from != ids.end();) {
    const auto to = std::upper_bound(from, ids.end(), *from);
    if (to - from > most) most = to - from, best = *from;
    from = to;
  }
  return best;
}

}  // namespace

struct StackWatch::State {
  explicit State(pid_t command, StackWatchOptions given) : options(std::move(given)) {
    ProcSample first;
    first.pid = command;
    first.role = "other";
    tree.push_back(first);
  }

  StackWatchOptions options;
  std::thread thread;
  // Between the threads.
  mutable std::mutex mutex;
  std::condition_variable wake;
  std::vector<ProcSample> tree;
  bool tree_is_new = true, paused = false, ending = false;
  StackBatch batch;
  std::vector<StackPlace> places;
  std::map<int, std::string> refused;
  std::atomic<bool> profiled = false;
  std::atomic<std::int64_t> samples = 0, torn = 0;
  // The thread's own.
  std::map<int, Watched> processes;
  std::map<std::string, Stack> stack_ids;
  std::map<std::pair<int, std::int64_t>, std::int64_t> counts;
  double counted_from_s = 0;
  std::mt19937 random{std::random_device{}()};
  ReadBuffer buffer;
  std::vector<PythonFrame> frames;
  StackBatch fresh;

  [[nodiscard]] double now_s() const { return monotonic_s() - options.start_monotonic_s; }
  void run();
  void take_tree();
  void look(Watched& process);
  bool attach(Watched& process, double t_s);
  std::optional<Sched> sched_of(Watched& process);
  char state_of(Watched& process);
  Stack stack_of(Watched& process, std::string_view work, double t_s);
  void add(Watched& process, Cell cell);
  void close_cell(Watched& process, double until_s, const std::optional<Sched>& later);
  void close_span(Watched& process);
  void hand_second(Watched& process);
  void close_process(Watched& process);
  void flush_counts(double t_s, bool all);
  void hand_over();
};

// ------------------------------------------------------------------------------- one look

std::optional<Sched> StackWatch::State::sched_of(Watched& process) {
  const auto text = process.sched.read_record(buffer);
  if (!text) return std::nullopt;
  const auto words = split(trim(*text), ' ');
  if (words.size() < 2) return std::nullopt;
  const auto running = to_integer(words[0]), queued = to_integer(words[1]);
  if (!running || !queued) return std::nullopt;
  return Sched{static_cast<double>(*running) * 1e-9, static_cast<double>(*queued) * 1e-9};
}

/// R, S, D, T, … of the main thread; '?' where it cannot be read.
char StackWatch::State::state_of(Watched& process) {
  const auto text = process.stat.read_record(buffer);
  if (!text) return '?';
  const auto paren = text->rfind(')');
  return paren == std::string_view::npos || paren + 2 >= text->size() ? '?' : (*text)[paren + 2];
}

bool StackWatch::State::attach(Watched& process, double t_s) {
  if (t_s < process.next_try_s) return false;
  auto attached = PythonProcess::attach(process.pid);
  if (attached) {
    process.python = std::make_unique<PythonProcess>(std::move(*attached));
    process.wait_s = 0.1;
    const std::lock_guard lock(mutex);
    refused.erase(process.pid);
    return true;
  }
  // It may still be starting up, or about to execute an interpreter.
  process.next_try_s = t_s + process.wait_s;
  process.wait_s = std::min(kSlowestTry_s, process.wait_s * 2);
  if (attached.error().code == Errc::unavailable && process.role == "rank") {
    const std::lock_guard lock(mutex);
    refused[process.pid] = attached.error().message;
  }
  return false;
}

Stack StackWatch::State::stack_of(Watched& process, std::string_view work, double t_s) {
  std::size_t hash = 0;
  for (const auto& frame : frames) {
    hash = hash * 1099511628211ULL + std::hash<const void*>{}(frame.code);
  }
  hash = hash * 31 + std::hash<std::string_view>{}(work);
  const auto known = process.stack_of_hash.find(hash);
  if (known != process.stack_of_hash.end()) return known->second;
  std::string text = std::string(work) + '\n' + folded(frames);
  auto place = stack_ids.find(text);
  if (place == stack_ids.end()) {
    const std::string frames_text = text.substr(text.find('\n') + 1);
    Stack stack;
    stack.path = path_of(work, frames_text);
    if (stack_ids.size() >= kMostStacks) return stack;
    stack.id = static_cast<std::int64_t>(stack_ids.size()) + 1;
    fresh.frames.push_back(StackFrames{t_s, stack.id, std::string(work), frames_text});
    place = stack_ids.emplace(std::move(text), stack).first;
  }
  if (process.stack_of_hash.size() < kMostStacks)
    process.stack_of_hash.emplace(hash, place->second);
  return place->second;
}

void StackWatch::State::look(Watched& process) {
  const double t_s = now_s();
  if (!process.python && !attach(process, t_s)) return;
  const StackRead read = process.python->sample(frames);
  if (read == StackRead::gone) {
    close_process(process);
    process.classifier.forget();
    process.stack_of_hash.clear();
    process.python.reset();
    process.place = {};
    process.next_try_s = t_s + 0.1;
    return;
  }
  ++samples;
  if (read == StackRead::torn) {
    ++torn;
    ++process.torn_before;
    return;
  }
  if (read == StackRead::no_frame) frames.clear();
  Cell cell;
  cell.t_s = t_s;
  cell.work = process.classifier.work_of(frames);
  const auto sched = sched_of(process);
  if (sched && process.sched_before) {
    cell.used = Sched{std::max(0.0, sched->running_s - process.sched_before->running_s),
                      std::max(0.0, sched->queued_s - process.sched_before->queued_s)};
  }
  process.place.work = cell.work;
  process.place_keeper.note(frames, process.classifier.wait_frame(), process.place, t_s);
  const char state = state_of(process);
  cell.asleep = state == 'S' || state == 'D';
  if (state == 'T' || state == 't') cell.work = "stopped";
  process.sched_before = sched;
  if (cell.work == "profiler") profiled = true;
  cell.stack = stack_of(process, cell.work, t_s);
  ++counts[{process.pid, cell.stack.id}];
  add(process, cell);
}

// ------------------------------------------------------------------------------- cells and spans

/// The open cell ends halfway to the next sample, and has half of what was used up to there.
void StackWatch::State::close_cell(Watched& process, double until_s,
                                   const std::optional<Sched>& later) {
  const Cell& cell = *process.open;
  const auto& open = process.span;
  if (open && (open->row.work != cell.work || open->path != cell.stack.path ||
               open->row.t_end_s - open->row.t_s >= kSpan_s)) {
    close_span(process);
  }
  if (!process.span) {
    StackSpan first;
    first.t_s = process.open_from_s;
    first.pid = process.pid;
    first.work = std::string(cell.work);
    first.stretches = 1;
    process.span = OpenSpan{std::move(first), cell.stack.path};
    process.span_stacks.clear();
  }
  StackSpan* const span = &process.span->row;
  span->t_end_s = until_s;
  ++span->samples;
  span->asleep = span->asleep.value_or(0) + (cell.asleep ? 1 : 0);
  span->torn += process.torn_before;
  process.torn_before = 0;
  process.span_stacks.push_back(cell.stack.id);
  for (const auto& half : {cell.used, later}) {
    if (!half) continue;
    span->running_s = span->running_s.value_or(0) + half->running_s / 2;
    span->queued_s = span->queued_s.value_or(0) + half->queued_s / 2;
  }
  process.open.reset();
  process.open_from_s = until_s;
}

void StackWatch::State::add(Watched& process, Cell cell) {
  if (process.open) {
    close_cell(process, (process.open->t_s + cell.t_s) / 2, cell.used);
  } else {
    process.open_from_s = cell.t_s;
  }
  process.open = std::move(cell);
}

void StackWatch::State::close_span(Watched& process) {
  if (!process.span) return;
  StackSpan& row = process.span->row;
  row.role = process.role;  // known better by now than when the span began
  row.rank = process.rank;
  row.stack = commonest(process.span_stacks);
  process.second.push_back(std::move(*process.span));
  process.span.reset();
  const auto& second = process.second;
  if (second.back().row.t_end_s - second.front().row.t_s >= kSpan_s) hand_second(process);
}

/// Steps shorter than some samples make a span of nearly each: such a second is kept as one span a
/// work and path, in the order in which they came first.
void StackWatch::State::hand_second(Watched& process) {
  auto& spans = process.second;
  if (spans.size() > kMostSpans) {
    std::vector<OpenSpan> merged;
    for (auto& span : spans) {
      const StackSpan& row = span.row;
      const auto place = std::find_if(merged.begin(), merged.end(), [&](const OpenSpan& other) {
        return other.row.work == row.work && other.path == span.path;
      });
      if (place == merged.end()) {
        merged.push_back(std::move(span));
        continue;
      }
      StackSpan& same = place->row;
      same.t_end_s += row.t_end_s - row.t_s;
      same.samples += row.samples;
      same.torn += row.torn;
      same.stretches = same.stretches.value_or(1) + row.stretches.value_or(1);
      same.asleep = same.asleep.value_or(0) + row.asleep.value_or(0);
      if (row.running_s) same.running_s = same.running_s.value_or(0) + *row.running_s;
      if (row.queued_s) same.queued_s = same.queued_s.value_or(0) + *row.queued_s;
    }
    double t_s = merged.front().row.t_s;
    for (auto& span : merged) {
      const double lasts_s = span.row.t_end_s - span.row.t_s;
      span.row.t_s = t_s;
      span.row.t_end_s = t_s += lasts_s;
    }
    spans = std::move(merged);
  }
  // A tenth of a millisecond: the clock of what is sampled is no finer.
  const auto rounded = [](double seconds) { return std::round(seconds * 1e4) / 1e4; };
  for (auto& [row, path] : spans) {
    row.t_s = rounded(row.t_s);
    row.t_end_s = rounded(row.t_end_s);
    if (row.running_s) row.running_s = rounded(*row.running_s);
    if (row.queued_s) row.queued_s = rounded(*row.queued_s);
    fresh.spans.push_back(std::move(row));
  }
  spans.clear();
}

void StackWatch::State::close_process(Watched& process) {
  if (process.open) close_cell(process, process.open->t_s, std::nullopt);
  close_span(process);
  if (!process.second.empty()) hand_second(process);
  process.sched_before.reset();
}

void StackWatch::State::flush_counts(double t_s, bool all) {
  if (!all && t_s - counted_from_s < kCountEvery_s) return;
  for (const auto& [key, samples_of] : counts) {
    const auto place = processes.find(key.first);
    StackCount row;
    row.t_s = counted_from_s;
    row.pid = key.first;
    if (place != processes.end()) row.role = place->second.role, row.rank = place->second.rank;
    row.stack = key.second;
    row.samples = samples_of;
    fresh.counts.push_back(std::move(row));
  }
  counts.clear();
  counted_from_s = t_s;
}

// ------------------------------------------------------------------------------- the thread

void StackWatch::State::take_tree() {
  std::vector<ProcSample> now;
  {
    const std::lock_guard lock(mutex);
    if (!tree_is_new) return;
    tree_is_new = false;
    now = tree;
  }
  for (auto& [pid, process] : processes) process.tree_has_it = false;
  for (const auto& sample : now) {
    auto place = processes.find(sample.pid);
    if (place == processes.end()) {
      if (processes.size() >= kMostProcesses) continue;
      place = processes.try_emplace(sample.pid).first;
      Watched& fresh_one = place->second;
      fresh_one.pid = sample.pid;
      fresh_one.classifier = StackClassifier(options.patterns);
      const std::string folder = "/proc/" + std::to_string(sample.pid) + "/";
      fresh_one.sched = KeptFile(folder + "schedstat");
      fresh_one.stat = KeptFile(folder + "stat");
    }
    place->second.tree_has_it = true;
    if (!sample.role.empty()) place->second.role = sample.role;
    place->second.rank = sample.rank;
  }
  for (auto place = processes.begin(); place != processes.end();) {
    if (place->second.tree_has_it) {
      ++place;
      continue;
    }
    close_process(place->second);
    flush_counts(now_s(), true);  // while its role is still known
    place = processes.erase(place);
  }
}

void StackWatch::State::hand_over() {
  {
    const std::lock_guard lock(mutex);
    places.clear();
    for (const auto& [pid, process] : processes) {
      if (process.place.samples == 0) continue;
      places.push_back(process.place);
      places.back().pid = pid;
    }
  }
  if (fresh.spans.empty() && fresh.frames.empty() && fresh.counts.empty()) return;
  const auto move_to = [](auto& from, auto& to) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
    from.clear();
  };
  const std::lock_guard lock(mutex);
  move_to(fresh.spans, batch.spans);
  move_to(fresh.frames, batch.frames);
  move_to(fresh.counts, batch.counts);
}

void StackWatch::State::run() {
  std::uniform_real_distribution<double> jitter(0.5, 1.5);
  for (int round = 0;; ++round) {
    const std::chrono::duration<double> wait(options.interval_s * jitter(random));
    {
      std::unique_lock lock(mutex);
      wake.wait_for(lock, wait, [this] { return ending; });
      if (ending) break;
      if (paused) {
        lock.unlock();
        for (auto& [pid, process] : processes) close_process(process);
        hand_over();
        continue;
      }
    }
    take_tree();
    for (auto& [pid, process] : processes) {
      const int every = process.role == "loader"     ? kLoaderEvery
                        : process.role == "launcher" ? kLauncherEvery
                                                     : 1;
      if ((round + pid) % every == 0) look(process);
    }
    flush_counts(now_s(), false);
    hand_over();
  }
  for (auto& [pid, process] : processes) close_process(process);
  flush_counts(now_s(), true);
  hand_over();
}

StackWatch::StackWatch(pid_t command, StackWatchOptions options)
    : state_(std::make_unique<State>(command, std::move(options))) {
  sigset_t all, before;
  sigfillset(&all);
  const bool masked = ::pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
  state_->thread = std::thread([state = state_.get()] {
    try {
      state->run();
    } catch (...) {
      // Out of memory: there are no more samples, and the spans end here.
    }
  });
  if (masked) ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

StackWatch::~StackWatch() {
  stop();
}

void StackWatch::follow(const std::vector<ProcSample>& tree) {
  const std::lock_guard lock(state_->mutex);
  state_->tree = tree;
  state_->tree_is_new = true;
}

void StackWatch::pause(bool paused) {
  const std::lock_guard lock(state_->mutex);
  state_->paused = paused;
}

StackBatch StackWatch::take() {
  const std::lock_guard lock(state_->mutex);
  return std::exchange(state_->batch, {});
}

void StackWatch::stop() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->ending = true;
  }
  state_->wake.notify_all();
  if (state_->thread.joinable()) state_->thread.join();
}

std::vector<StackPlace> StackWatch::places() const {
  const std::lock_guard lock(state_->mutex);
  return state_->places;
}

bool StackWatch::user_profiles() const {
  return state_->profiled;
}

std::vector<std::string> StackWatch::refusals() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<std::string> words;
  std::set<std::string> told;
  for (const auto& [pid, why] : state_->refused) {
    if (told.insert(why).second) words.push_back(why);
  }
  return words;
}

std::int64_t StackWatch::samples() const {
  return state_->samples;
}
std::int64_t StackWatch::torn() const {
  return state_->torn;
}

}  // namespace rigwise
