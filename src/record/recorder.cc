#include "record/recorder.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>

#include "base/clock.h"
#include "base/text.h"
#include "record/background.h"
#include "record/checkpoint_watch.h"
#include "record/engine_log.h"
#include "record/facts.h"
#include "record/hangs.h"
#include "record/identity.h"
#include "record/keeper.h"
#include "record/log_tail.h"
#include "record/nccl_table.h"
#include "record/profile_windows.h"
#include "record/rank_count.h"
#include "record/secrets.h"
#include "record/stack_watch.h"
#include "record/tally.h"
#include "record/tick_grid.h"
#include "rigwise/host.h"
#include "rigwise/logs.h"
#include "run/layout.h"

namespace rigwise {

namespace {

constexpr double kSlowEvery_s = 10;
constexpr double kSoftwareWait_s = 2;  // at the end, for a helper that has not written env/ yet
constexpr std::size_t kLogPerTick = std::size_t{8} << 20;
constexpr double kLogAtEnd_s = 10;  // for reading what is left of the log
constexpr double kNcclAtEnd_s = 10;

/// One output of the command: its log, its reader, and the watch for secrets in it.
struct LogStream {
  LogTail tail;
  LogReader reader;
  SecretScanner scanner;
  LogStream(const std::filesystem::path& dir, const std::string& name, const Secrets& secrets,
            const std::vector<LogPattern>& patterns)
      : tail(dir, name), reader(layout::log_file(name), patterns), scanner(secrets) {}
};

class Recorder {
 public:
  Recorder(Launch& launch, const RecordOptions& options, Fd to_front, Fd to_keeper, pid_t keeper)
      : launch_(launch),
        options_(options),
        front_(std::move(to_front)),
        keeper_(std::move(to_keeper)),
        keeper_pid_(keeper),
        host_(host_name()),
        cwd_(working_directory()),
        secrets_(launch.argv, launch.environment),
        hangs_(options.hang, host_, options.stack_patterns, options.interval_s),
        windows_(options.profile),
        grid_(options.interval_s) {}

  int run();

 private:
  bool make_directory();
  void start_sampling();
  void loop();
  void take_from_keeper();
  void take_from_front();
  void take_children();
  void take_control();
  void set_paused(bool paused);
  void tick();
  void slow_tick(double t_s);
  bool read_logs(double t_s, bool at_end);
  void note_batch(const LogBatch& batch, double t_s);
  void note_event(Event event);
  void note_host(const HostReading& reading);
  void note_stacks();
  void note_ranks();
  void note_hangs(std::vector<Hang> hangs);
  void end_command(const PoliteEnd::Order& order);
  void note_self(double t_s, double took_s);
  void finish();
  void finish_facts();
  void finish_missing();
  void close_run();
  [[nodiscard]] RecorderCost cost() const;
  [[nodiscard]] double now_s() const { return monotonic_s() - launch_.start_monotonic_s; }
  [[nodiscard]] RanksContext ranks_context() const;

  Launch& launch_;
  const RecordOptions& options_;
  Fd front_, keeper_, control_, children_;
  const pid_t keeper_pid_;
  pid_t command_ = -1;
  const std::string host_, cwd_;
  const Secrets secrets_;
  std::unique_ptr<RunWriter> writer_;
  RunInfo info_;
  Background background_;
  std::unique_ptr<HostSampler> sampler_;
  std::unique_ptr<CheckpointWatch> watch_;
  std::unique_ptr<StackWatch> stacks_;
  Hangs hangs_;
  std::optional<HangLog> hang_log_;
  std::unique_ptr<LogStream> out_, err_;
  RunTally tally_;
  RankCount ranks_;
  ProfileWindows windows_;
  std::vector<Fact> argv_facts_;
  std::string profiling_folder_;  // the keeper's, who removes it unless it is killed
  std::optional<Ending> ending_;
  std::optional<std::int64_t> first_step_;  // its number
  int exec_error_ = 0;
  bool command_stopped_ = false;  // as a shell stops a job
  bool drained_ = false, paused_ = false, updated_ = false, keeper_died_ = false;
  std::int64_t lost_log_bytes_ = 0, lost_times_ = 0, unread_log_bytes_ = 0;
  TickGrid grid_;
  double next_slow_s_ = 0, longest_tick_s_ = 0, background_cpu_s_ = 0;
  double keeper_cpu_s_ = 0;
};

// ------------------------------------------------------------------------------------------ start

bool Recorder::make_directory() {
  info_ = identity_of(launch_, options_, secrets_);
  auto writer = RunWriter::create(options_.root, info_);
  Message message;
  if (!writer) {
    message.kind = MessageKind::refused;
    message.text = writer.error().message;
    if (!writer.error().hint.empty()) message.text += " (" + writer.error().hint + ")";
    send_message(keeper_.get(), message);
    send_message(front_.get(), message);
    return false;
  }
  writer_ = std::make_unique<RunWriter>(std::move(*writer));
  info_ = writer_->info();
  hang_log_.emplace(writer_->dir());
  message.kind = MessageKind::recording;
  message.text = writer_->dir().string();
  message.descriptor = writer_->lock_descriptor();
  send_message(keeper_.get(), message);
  send_message(front_.get(), message);
  return true;
}

RanksContext Recorder::ranks_context() const {
  RanksContext context;
  context.env = launch_.environment;
  context.cwd = cwd_;
  context.visible_gpus = background_.gpus();
  const long cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (cpus > 0) context.cpus = static_cast<int>(cpus);
  return context;
}

void Recorder::note_ranks() {
  info_.ranks_asked = ranks_.asked().count;
  info_.ranks_why = secrets_.mask(ranks_.asked().why);
  if (info_.ranks_asked) hangs_.expect_ranks(*info_.ranks_asked);
}

// After the command was started: nothing here delays it.
void Recorder::start_sampling() {
  background_.start(*writer_, launch_, options_.host_root, host_, cwd_, secrets_,
                    {front_.get(), keeper_.get(), writer_->lock_descriptor()});
  windows_.start(*writer_, host_, {front_.get(), keeper_.get(), writer_->lock_descriptor()});
  StackWatchOptions stacks;
  stacks.start_monotonic_s = launch_.start_monotonic_s;
  stacks.patterns = options_.stack_patterns;
  stacks_ = std::make_unique<StackWatch>(command_, std::move(stacks));
  // Behind the stack watch: a sample that comes late is a sample of an idle moment. All that
  // follows may wait.
  ::setpriority(PRIO_PROCESS, 0, 10);
  if (auto control = listen_in(writer_->dir(), layout::kControl)) control_ = std::move(*control);

  argv_facts_ = facts_of_argv(launch_.argv, cwd_);
  for (Fact& fact : argv_facts_) {
    fact.value = secrets_.mask(fact.value);
    fact.source = secrets_.mask(fact.source);
  }
  info_.facts = merge_facts({argv_facts_});
  ranks_ = RankCount(launch_.argv, ranks_context());
  note_ranks();
  static_cast<void>(writer_->update(info_).ok());

  out_ = std::make_unique<LogStream>(writer_->dir(), "out", secrets_, options_.patterns);
  if (launch_.err_is_apart) {
    err_ = std::make_unique<LogStream>(writer_->dir(), "err", secrets_, options_.patterns);
    out_->reader.join(err_->reader);
  }
  CheckpointWatchOptions watch;
  watch.argv = launch_.argv;
  watch.cwd = cwd_;
  watch.unix_at_zero_s = launch_.start_unix_s;
  watch_ = std::make_unique<CheckpointWatch>(watch);

  SamplerOptions sampler;
  sampler.root_pid = command_;
  sampler.own_pids = {launch_.front_pid, ::getpid(), keeper_pid_};
  if (background_.pid() > 0) sampler.own_pids.push_back(background_.pid());
  if (windows_.helper() > 0) sampler.own_pids.push_back(windows_.helper());
  sampler.reaper_pid = ::getpid();
  sampler.watched_paths = watch_->outputs();
  sampler.watched_paths.push_back(writer_->dir());
  sampler.slow_every_s = kSlowEvery_s;
  sampler_ = std::make_unique<HostSampler>(HostRoot{.root = options_.host_root}, sampler);
  ::malloc_trim(0);
}

// --------------------------------------------------------------------------------------- channels

void Recorder::take_from_keeper() {
  const bool there = take_messages(keeper_.get(), [this](const Message& message) {
    switch (message.kind) {
      case MessageKind::started:
        command_ = message.pid;
        exec_error_ = message.detail;
        break;
      case MessageKind::stopped:
      case MessageKind::continued:
        command_stopped_ = message.kind == MessageKind::stopped;
        break;
      case MessageKind::profiling:
        if (message.detail != 0) profiling_folder_ = message.text;
        [[fallthrough]];
      case MessageKind::trace_news:
        windows_.note(message);
        break;
      case MessageKind::exited:
        ending_ = ending_of(message.detail, exec_error_, message.t_s);
        break;
      case MessageKind::drained:
        drained_ = true;
        lost_log_bytes_ = message.number;
        lost_times_ = message.detail;
        break;
      default:
        break;
    }
  });
  if (there) return;
  keeper_.reset();
  keeper_died_ = !drained_;
  if (keeper_died_) remove_kineto_folder(profiling_folder_);
  if (command_ <= 0 || ending_) drained_ = true;  // nothing (more) will come
}

void Recorder::take_from_front() {
  const bool there = take_messages(front_.get(), [](const Message& message) {
    if (message.kind == MessageKind::drop_signals) drop_pending_signals();
  });
  if (there) return;
  front_.reset();
  // A front that was killed leaves the user's terminal raw; one that left in order does not.
  termios now = {};
  if (!launch_.user_modes || ::tcgetattr(launch_.user_terminal.get(), &now) != 0) return;
  termios raw = *launch_.user_modes;
  ::cfmakeraw(&raw);
  if (now.c_lflag == raw.c_lflag && now.c_oflag == raw.c_oflag) {
    ::tcsetattr(launch_.user_terminal.get(), TCSANOW, &*launch_.user_modes);
  }
}

// As a child subreaper we inherit the command when its keeper is killed.
void Recorder::take_children() {
  signalfd_siginfo ignored = {};
  while (::read(children_.get(), &ignored, sizeof ignored) > 0) {
  }
  int status = 0;
  rusage usage = {};
  for (pid_t pid = 0; (pid = ::wait4(-1, &status, WNOHANG, &usage)) > 0;) {
    windows_.note_ended(pid);
    if (pid == background_.pid()) {
      const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
      };
      background_cpu_s_ = seconds(usage.ru_utime) + seconds(usage.ru_stime);
      background_.note_ended();
    } else if (pid == command_) {
      ending_ = ending_of(status, 0, now_s());
      drained_ = true;
      Message message;
      message.kind = MessageKind::orphaned;
      message.pid = pid;
      message.detail = status;
      message.t_s = ending_->wall_s;
      send_message(front_.get(), message);
    }
  }
}

void Recorder::set_paused(bool paused) {
  if (paused == paused_) return;
  const double t_s = now_s();
  Event event;
  event.t_s = t_s;
  event.kind = EventKind::recorder;
  event.name = paused ? "paused" : "resumed";
  event.how = "recorder";
  writer_->append(event);
  paused_ = paused;
  if (stacks_) stacks_->pause(paused);
  hangs_.forget(t_s);
  note_self(t_s, 0);
  grid_.begin(t_s);
}

void Recorder::take_control() {
  const Fd client = accept_own(control_.get());
  if (!client.valid()) return;
  pollfd entry = {client.get(), POLLIN, 0};
  if (::poll(&entry, 1, 100) <= 0) return;
  const Received received = receive_message(client.get());
  if (!received.message) return;
  if (received.message->kind == MessageKind::pause_sampling) set_paused(true);
  if (received.message->kind == MessageKind::resume_sampling) set_paused(false);
  Message done;
  done.kind = MessageKind::finished;
  send_message(client.get(), done);
}

// ------------------------------------------------------------------------------------------ ticks

/// Names come from the file system and from the log: a secret in one is masked as anywhere else.
void Recorder::note_event(Event event) {
  if (event.kind == EventKind::checkpoint) hangs_.note_checkpoint(now_s());
  event.name = secrets_.mask(event.name);
  event.detail = secrets_.mask(event.detail);
  writer_->append(event);
}

void Recorder::note_batch(const LogBatch& batch, double t_s) {
  for (const StepRecord& step : batch.steps) {
    writer_->append(step);
    tally_.note(step);
    const auto number = step.step ? step.step : step.bar_step;
    if (number && *number > 0 && !first_step_) first_step_ = number;
    windows_.note(step);
    hangs_.note(step, t_s);
  }
  for (const Event& event : batch.events) {
    // Checkpoints come from the file system, which knows when they ended; the log helps to find it.
    if (event.kind != EventKind::checkpoint) note_event(event);
  }
  for (const Fact& fact : batch.facts) {
    tally_.note({fact.key, secrets_.mask(fact.value), secrets_.mask(fact.source)});
  }
  if (!batch.events.empty()) watch_->note_log(batch, t_s);
}

// True: there is more.
bool Recorder::read_logs(double t_s, bool at_end) {
  bool more = false;
  for (LogStream* stream : {err_.get(), out_.get()}) {
    if (stream == nullptr) continue;
    const auto take = [&](std::string_view bytes, double received_s) {
      hangs_.note_log(bytes, received_s);
      note_batch(stream->reader.push(bytes, received_s), received_s);
      for (const std::string& name : stream->scanner.push(bytes)) tally_.note_secret(name);
    };
    if (stream->tail.read(take, t_s, kLogPerTick, at_end)) more = true;
    if (!at_end) note_batch(stream->reader.push({}, t_s), t_s);
  }
  return more;
}

void Recorder::note_host(const HostReading& reading) {
  hangs_.note(reading);
  if (reading.host) writer_->append(host_, *reading.host);
  for (const auto& row : reading.gpus) writer_->append(host_, row);
  windows_.note(reading.gpus);
  for (const auto& row : reading.disks) {
    if (!row.device.starts_with("/")) {
      writer_->append(host_, row);
      continue;
    }
    DiskSample masked = row;  // a mount point
    masked.device = secrets_.mask(row.device);
    writer_->append(host_, masked);
  }
  for (const auto& row : reading.nets) writer_->append(host_, row);
  for (const auto& row : reading.procs) {
    writer_->append(host_, row);
    tally_.note(row);
  }
  for (const auto& what : reading.dropped) tally_.note_dropped(what);
}

RecorderCost Recorder::cost() const {
  RecorderCost cost;
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  double cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime) + background_cpu_s_;
  if (background_.pid() > 0) cpu_s += cpu_seconds_of(background_.pid()).value_or(0);
  cpu_s += windows_.helper_cpu_s();
  cost.cpu_s = cpu_s;
  // The kernel notes the peak now and then only.
  cost.peak_rss_bytes =
      std::max(static_cast<double>(usage.ru_maxrss) * 1024, resident_bytes().value_or(0));
  cost.longest_tick_s = longest_tick_s_;
  cost.keeper_cpu_s = keeper_cpu_s_;
  cost.dropped_readings = tally_.dropped();
  cost.missed_ticks = grid_.missed();
  cost.lost_log_bytes = lost_log_bytes_;
  return cost;
}

void Recorder::note_self(double t_s, double took_s) {
  if (const auto cpu_s = cpu_seconds_of(keeper_pid_)) keeper_cpu_s_ = *cpu_s;
  longest_tick_s_ = std::max(longest_tick_s_, took_s);
  const RecorderCost so_far = cost();
  SelfSample row;
  row.t_s = t_s;
  row.cpu_s = so_far.cpu_s;
  row.rss_bytes = resident_bytes();
  row.peak_rss_bytes = so_far.peak_rss_bytes;
  row.tick_s = took_s;
  row.longest_tick_s = longest_tick_s_;
  row.dropped = static_cast<double>(so_far.dropped_readings);
  row.keeper_cpu_s = so_far.keeper_cpu_s;
  if (paused_) row.paused = "1";
  writer_->append(host_, row);
}

void Recorder::note_stacks() {
  const StackBatch batch = stacks_->take();
  for (const StackSpan& row : batch.spans) writer_->append(host_, row);
  for (StackFrames row : batch.frames) {
    row.frames = secrets_.mask(row.frames);
    writer_->append(host_, row);
  }
  for (const StackCount& row : batch.counts) writer_->append(host_, row);
}

/// What was found goes to hangs.jsonl at once; an event says how long it lasted once that is known.
void Recorder::note_hangs(std::vector<Hang> hangs) {
  for (Hang& hang : hangs) {
    mask_texts(hang, [this](const std::string& text) { return secrets_.mask(text); });
    hang_log_->append(hang);
    if (!hang.t_end_s) continue;
    Event event;
    event.t_s = hang.t_s;
    event.t_end_s = hang.t_end_s;
    event.kind = EventKind::gap;
    event.name = "hang " + std::to_string(hang.number);
    event.state = to_string(hang.state);
    event.step = hang.last_step;
    event.how = "recorder";
    event.detail = hang.look.verdict.claim();
    writer_->append(event);
  }
}

void Recorder::end_command(const PoliteEnd::Order& order) {
  Message message;
  message.kind = MessageKind::forward;
  message.detail = order.signal;
  message.number = launch_.control == Control::shared_group ? 0 : 1;
  const bool told = keeper_.valid() && send_message(keeper_.get(), message);
  if (!told && command_ > 0 && !ending_) ::kill(command_, order.signal);
  if (!order.everybody && launch_.control != Control::shared_group) return;
  for (const ProcSample& process : sampler_->tree()) {
    if (process.pid != command_) signal_process(process.pid, process.comm, order.signal);
  }
}

void Recorder::slow_tick(double t_s) {
  std::vector<int> pids;
  for (const ProcSample& process : sampler_->tree()) pids.push_back(process.pid);
  watch_->look_at_tree(pids, t_s);
  for (const auto& path : watch_->outputs()) sampler_->watch_path(path);
  if (!info_.ranks_asked) {
    ranks_.look_for_launcher(sampler_->tree(), command_, t_s, ranks_context());
    note_ranks();
  }
  ::malloc_trim(0);
}

void Recorder::tick() {
  const double began_s = now_s();
  read_logs(began_s, false);
  note_host(sampler_->tick(began_s));
  stacks_->follow(sampler_->tree());
  note_stacks();
  if (tally_.first_step_s()) ranks_.look_for_others(sampler_->tree());
  for (Event& event : watch_->poll(began_s)) note_event(std::move(event));
  note_hangs(hangs_.tick(began_s, sampler_->tree(), stacks_->places(), command_stopped_));
  if (const auto order = hangs_.order_due(began_s)) end_command(*order);
  if (stacks_->user_profiles()) windows_.note_user_profiles();
  windows_.tick(began_s, sampler_->tree(), keeper_.get(), *writer_);
  if (began_s >= next_slow_s_) {
    slow_tick(began_s);
    next_slow_s_ = began_s + kSlowEvery_s;
  }
  if (!updated_ && background_.complete()) {
    updated_ = true;
    info_.facts = merge_facts({argv_facts_, background_.facts()});
    static_cast<void>(writer_->update(info_).ok());
  }
  note_self(began_s, now_s() - began_s);
}

void Recorder::loop() {
  grid_.begin(now_s());
  while (!drained_) {
    const bool sampling = sampler_ && !paused_;
    const double wait_s = grid_.wait_s(now_s());
    const timespec timeout = {
        static_cast<time_t>(wait_s),
        static_cast<long>((wait_s - static_cast<double>(static_cast<time_t>(wait_s))) * 1e9)};
    std::array<pollfd, 6> fds = {
        pollfd{keeper_.get(), POLLIN, 0},    pollfd{front_.get(), POLLIN, 0},
        pollfd{children_.get(), POLLIN, 0},  pollfd{control_.get(), POLLIN, 0},
        pollfd{background_.fd(), POLLIN, 0}, pollfd{sampling ? watch_->fd() : -1, POLLIN, 0}};
    if (::ppoll(fds.data(), fds.size(), sampling ? &timeout : nullptr, nullptr) < 0 &&
        errno != EINTR) {
      return;
    }
    if (fds[0].revents != 0) take_from_keeper();
    if (fds[1].revents != 0) take_from_front();
    if (fds[2].revents != 0) take_children();
    if (fds[3].revents != 0) take_control();
    if (fds[4].revents != 0) background_.take();
    if (fds[5].revents != 0) {
      for (Event& event : watch_->poll(now_s())) note_event(std::move(event));
    }
    if (!sampler_ && command_ > 0) {
      start_sampling();
      grid_.begin(now_s());
    }
    if (sampler_ && !paused_ && !drained_ && grid_.due(now_s())) {
      tick();
      grid_.done(now_s());
    }
  }
}

// -------------------------------------------------------------------------------------------- end

void Recorder::finish_facts() {
  std::vector<Fact> outputs = facts_of_outputs(watch_->outputs(), launch_.start_unix_s);
  for (Fact& fact : outputs) fact.value = secrets_.mask(fact.value);
  std::vector<Fact> log = tally_.facts();
  if (tally_.summary()) {
    if (auto batch = global_batch_of_summary(*tally_.summary())) log.push_back(std::move(*batch));
  }
  int copies = out_->reader.copies();
  if (err_) copies = std::max(copies, err_->reader.copies());
  RanksTrained trained =
      ranks_trained_of(tally_.ranks(), tally_.first_step_s(), tally_.last_step_s(), copies);
  // Without a step, processes that lived and worked are all there is to go by; a failed command's
  // may have got no further than reading its arguments.
  const bool failed = ending_ && ending_->exit_status != 0;
  const bool shown = tally_.first_step_s().has_value() || !failed;
  if (!shown) trained = {};
  const RanksCounted counted = ranks_.conclude(trained);
  info_.ranks_asked = counted.asked;
  info_.ranks_trained = counted.trained;
  info_.ranks_why = secrets_.mask(counted.why);
  info_.facts = merge_facts({log, outputs, argv_facts_, background_.facts()}, counted.trained);

  ReadStatistics statistics = out_->reader.statistics();
  if (err_) {
    const ReadStatistics& err = err_->reader.statistics();
    statistics.lines += err.lines;
    statistics.matched += err.matched;
    statistics.skipped += err.skipped;
    statistics.malformed += err.malformed;
    if (statistics.first_bad_line == 0 && err.first_bad_line != 0) {
      statistics.first_bad_line = err.first_bad_line;
      statistics.first_bad_text = err.first_bad_text;
    }
  }
  statistics.first_bad_text = secrets_.mask(statistics.first_bad_text);
  info_.log_reading = statistics;
}

void Recorder::finish_missing() {
  const auto lacks = [&](std::int64_t count, const std::string& what) {
    if (count > 0) info_.missing.push_back(std::to_string(count) + " " + what);
  };
  if (launch_.out.inherited || launch_.err.inherited) {
    for (const auto& warning : launch_.warnings) info_.missing.push_back(warning);
  }
  if (keeper_died_) {
    info_.missing.emplace_back("the keeper was killed: the log ends before the command does");
  }
  lacks(lost_log_bytes_, "bytes of the log could not be written (log/*.lost.csv says where)");
  lacks(lost_times_, "receive times of the log could not be written");
  lacks(unread_log_bytes_, "bytes at the end of the log were not read for steps");
  lacks(hang_log_->lost_rows(), "lines of hangs.jsonl could not be written");
  // A late tick now and then is told by recorder.missed_ticks alone.
  if (grid_.missed() * 100 > grid_.ticks()) {
    lacks(grid_.missed(), "samplings were left out: the one before took too long");
  }
  const CheckpointWatchCounts& counts = watch_->counts();
  info_.log_end_unread = keeper_died_ || unread_log_bytes_ > 0;
  info_.checkpoints_unwatched = counts.overflows > 0 || counts.refused_watches > 0 ||
                                counts.read_errors > 0 || !counts.unavailable.empty();
  lacks(counts.overflows, "overflows of the checkpoint watch: events lost");
  lacks(counts.refused_watches, "directories were not watched for checkpoints");
  lacks(counts.read_errors, "directories or files of checkpoints could not be looked at");
  if (!counts.unavailable.empty()) info_.missing.push_back("checkpoints: " + counts.unavailable);
  for (auto& what : windows_.missing()) info_.missing.push_back(std::move(what));
  for (auto& what : tally_.dropped_words()) info_.missing.push_back(std::move(what));
  for (const auto& why : stacks_->refusals()) {
    info_.missing.push_back("no Python stacks: " + clean_text(why, 300));
  }
  // Samples that moved while they were read are told where they are more than now and then.
  if (stacks_->torn() * 20 > stacks_->samples()) {
    lacks(stacks_->torn(), "stack samples moved while they were read");
  }
  if (const auto& why = sampler_->why_no_gpu(); !why.empty()) {
    info_.missing.push_back("no GPU was found: " + join(why, "; "));
  }
  for (const auto& name : tally_.secrets()) info_.warnings.push_back(secret_warning(name));
}

void Recorder::finish() {
  const double t_s = now_s();
  if (!sampler_) start_sampling();
  while (read_logs(t_s, true) && now_s() - t_s < kLogAtEnd_s) {
  }
  for (LogStream* stream : {err_.get(), out_.get()}) {
    if (stream == nullptr) continue;
    unread_log_bytes_ += stream->tail.left_bytes();
    note_batch(stream->reader.finish(t_s), t_s);
  }
  if (first_step_) {
    for (const EngineLog& log : engine_logs(launch_.argv, cwd_, launch_.start_unix_s, *first_step_,
                                            t_s, launch_.out.terminal)) {
      for (const StepRecord& step : log.steps) writer_->append(step);
      info_.untimed.push_back(log.name);
    }
  }
  note_host(sampler_->tick(now_s()));
  note_hangs(hangs_.finish(t_s, ending_ && ending_->exit_status == 0));
  if (hangs_.stopping() && ending_) ending_->reason = kStoppedForHang;
  stacks_->stop();
  note_stacks();
  windows_.finish(now_s(), *writer_);
  if (auto why = write_nccl_table(*writer_, kNcclAtEnd_s); !why.empty()) {
    info_.missing.push_back(std::move(why));
  }
  for (Event& event : watch_->finish(now_s(), true)) note_event(std::move(event));
  const double deadline_s = now_s() + kSoftwareWait_s;
  while (!background_.take() && !background_.gpus() && now_s() < deadline_s) {
    pollfd entry = {background_.fd(), POLLIN, 0};
    ::poll(&entry, 1, 50);
  }
  take_children();
  background_.stop();
  finish_facts();
  finish_missing();
  note_self(now_s(), now_s() - t_s);
  info_.recorder = cost();
  if (!ending_) {
    ending_.emplace();
    ending_->reason = "status lost";
    ending_->wall_s = t_s;
  }
  info_.ending = ending_;
  if (control_.valid()) ::unlink((writer_->dir() / layout::kControl).c_str());
  close_run();
}

/// The ending first: digests of a long log on a slow disk take their time.
void Recorder::close_run() {
  Message message;
  const Status closed = writer_->close(info_);
  if (closed) {
    message.kind = MessageKind::closed;
    send_message(front_.get(), message);
    message.kind = MessageKind::alive;
    double told_s = now_s();
    const Status sealed = writer_->seal([&] {
      if (now_s() - told_s < 1) return;
      told_s = now_s();
      send_message(front_.get(), message);
    });
    static_cast<void>(sealed.ok());  // a full disk: the run has no digests then
  } else {
    message.text = closed.error().message;
  }
  message.kind = MessageKind::finished;
  send_message(front_.get(), message);
}

int Recorder::run() {
  sigset_t chld;
  sigemptyset(&chld);
  sigaddset(&chld, SIGCHLD);
  children_.reset(::signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!make_directory()) return 0;
  loop();
  finish();
  return 0;
}

}  // namespace

void stand_in_main(const Launch& launch, const RecordOptions& options, Fd to_front) {
  set_process_title("rigwise: stand-in " + launch.name);
  Message message;
  Fd lock;
  try {
    const Secrets secrets(launch.argv, launch.environment);
    const RunInfo info = identity_of(launch, options, secrets);
    message.kind = MessageKind::recording;
    for (const Run& run : list_runs(options.root)) {
      if (run.info.start_monotonic_s != info.start_monotonic_s || run.info.name != info.name ||
          run.info.boot_id != info.boot_id) {
        continue;
      }
      std::error_code error;
      message.text = std::filesystem::absolute(run.dir, error).string();
      if (auto held = lock_file(run.dir / layout::kLock)) lock = std::move(*held);
    }
    if (message.text.empty()) {
      auto writer = RunWriter::create(options.root, info);
      if (writer) {
        message.text = writer->dir().string();
        lock.reset(::fcntl(writer->lock_descriptor(), F_DUPFD_CLOEXEC, 3));
      } else {
        message.kind = MessageKind::refused;
        message.text = writer.error().message;
      }
    }
  } catch (...) {
    message.kind = MessageKind::refused;
    message.text = "the recorder died at once";
  }
  message.descriptor = lock.get();
  send_message(to_front.get(), message);
  ::_exit(0);
}

void recorder_main(Launch& launch, const RecordOptions& options, Fd to_front, Fd keeper_to_front) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  auto channel = make_channel();
  const pid_t keeper = channel ? ::fork() : -1;
  if (keeper == 0) {
    to_front.reset();
    channel->one.reset();
    keeper_main(launch, std::move(keeper_to_front), std::move(channel->other));
  }
  if (keeper < 0) ::_exit(70);
  channel->other.reset();
  keeper_to_front.reset();
  for (OutputStream* stream : {&launch.out, &launch.err}) {
    stream->source.reset();
    stream->command_end.reset();
  }
  for (const int fd : launch.inherited) ::close(fd);
  detach_standard_streams();
  set_process_title("rigwise: recorder " + launch.name);
  ::mallopt(M_ARENA_MAX, 1);
  int status = 70;
  try {
    status = Recorder(launch, options, std::move(to_front), std::move(channel->one), keeper).run();
  } catch (...) {
    // The keeper goes on, the front closes the run and says that we are missing.
  }
  ::_exit(status);
}

}  // namespace rigwise
