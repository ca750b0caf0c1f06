#include "record/hang_watch.h"

#include <algorithm>

namespace rigwise {

namespace {

constexpr std::size_t kMostGaps = 64;
constexpr double kFreshSample_s = 5;  // an older stack sample says nothing of now
constexpr double kConfirm_s = 30;     // noise that lasts so long is progress

/// Works in which a process spins while it waits: CPU is no sign of life in them.
bool is_wait(std::string_view work) {
  return work == "sync" || work == "rendezvous" || work == "device";
}
/// Where a process was seen last; null: it was not looked into.
const StackPlace* place_of(const HangSight& sight, int pid) {
  const auto found = std::find_if(sight.places->begin(), sight.places->end(),
                                  [pid](const StackPlace& each) { return each.pid == pid; });
  return found == sight.places->end() ? nullptr : &*found;
}
bool is_stopped(const ProcSample& process) {
  return process.main_state == "T" || process.main_state == "t";
}
bool is_dead(const ProcSample& process) {
  return process.main_state == "Z" || process.main_state == "X";
}

std::optional<double> share(const std::optional<double>& now, const std::optional<double>& before,
                            double took_s) {
  if (!now || !before || !(took_s > 0)) return std::nullopt;
  return std::max(0.0, *now - *before) / took_s;
}

}  // namespace

bool is_device_work(std::string_view work) {
  return work == "forward" || work == "backward" || work == "optimizer" || work == "transfer";
}

HangWatch::HangWatch(const HangOptions& options, const HangLimits& limits)
    : options_(options), limits_(limits) {}

void HangWatch::note(Progress progress, double t_s) {
  t_s = std::max(t_s, last_s_);
  const bool ordinary = anything_ && (!hung_ || at_work_) && !resumes_;
  if (ordinary) longest_gap_s_ = std::max(longest_gap_s_, t_s - last_s_);
  if (progress == Progress::step) {
    if (!last_step_s_) longest_gap_s_ = 0;  // what loading took says nothing of steps
    if (last_step_s_ && ordinary && t_s > *last_step_s_) {
      if (step_gaps_.size() < kMostGaps) step_gaps_.push_back(0);
      step_gaps_[next_gap_++ % step_gaps_.size()] = t_s - *last_step_s_;
      next_gap_ %= kMostGaps;
    }
    last_step_s_ = t_s;
  }
  resumes_ = false;
  anything_ = true;
  last_s_ = t_s;
  last_ = progress;
  window_s_.reset();
  if (hung_ && !over_s_) over_s_ = t_s;
}

void HangWatch::forget(double t_s) {
  if (hung_) return;
  last_s_ = std::max(last_s_, t_s);
  resumes_ = true;
  window_s_.reset();
}

double HangWatch::threshold_s() const {
  if (options_.after_s) return *options_.after_s;
  if (!last_step_s_) return std::max(limits_.floor_before_s, limits_.gaps * longest_gap_s_);
  double step_s = 0;
  if (!step_gaps_.empty()) {
    std::vector<double> gaps = step_gaps_;
    const auto middle = gaps.begin() + static_cast<std::ptrdiff_t>(gaps.size() / 2);
    std::nth_element(gaps.begin(), middle, gaps.end());
    step_s = *middle;
  }
  const double by_history =
      std::max(limits_.steps * step_s, limits_.gaps * std::max(step_s, longest_gap_s_));
  const double most_s = is_multi_rank() ? limits_.most_ranks_s : by_history;
  return std::max(limits_.floor_s, std::min(by_history, most_s));
}

// ------------------------------------------------------------------------------------ what moves

void HangWatch::note_bytes(double t_s, const HangSight& sight) {
  if (t_s - bytes_since_s_ >= limits_.read_s) {
    bytes_ = 0;
    bytes_since_s_ = t_s;
  }
  for (const ProcSample& process : *sight.tree) {
    if (!process.read_bytes && !process.write_bytes) continue;
    // once there are ranks, what a logger or a monitor writes is no progress of theirs
    if (!ranks_.empty() && process.role != "rank" && process.role != "loader") continue;
    const Bytes now = {process.read_bytes.value_or(0) + process.write_bytes.value_or(0),
                       process.written_bytes.value_or(0)};
    const auto [place, fresh] = bytes_of_.try_emplace(process.pid, now);
    // a file system in a program (FUSE) has no block layer: of who saves, its calls count
    const StackPlace* where = place_of(sight, process.pid);
    const bool saves = where != nullptr && where->work == "checkpoint";
    if (!fresh) {
      bytes_ += std::max(0.0, now.block - place->second.block);
      if (saves) bytes_ += std::max(0.0, now.written - place->second.written);
    }
    place->second = now;
  }
  if (bytes_ < limits_.read_bytes) return;
  bytes_ = 0;
  bytes_since_s_ = t_s;
  note(Progress::bytes, t_s);
}

void HangWatch::open_window(double t_s, const HangSight& sight) {
  window_s_ = t_s;
  before_.clear();
  received_before_.clear();
  traffic_before_ = sight.traffic ? sight.traffic() : std::nullopt;
  gpus_seen_.clear();
  for (const ProcSample& process : *sight.tree)
    before_[process.pid] = {t_s, process.cpu_s, process.run_delay_s, process.main_run_delay_s};
  for (const NetSample& net : *sight.nets)
    if (net.interface != "lo" && net.rx_bytes) received_before_[net.interface] = *net.rx_bytes;
}

std::optional<double> HangWatch::cpu_frac(const ProcSample& process, double t_s) const {
  const auto before = before_.find(process.pid);
  if (!window_s_ || before == before_.end()) return std::nullopt;
  return share(process.cpu_s, before->second.cpu_s, t_s - before->second.t_s);
}

std::optional<double> HangWatch::queued_frac(const ProcSample& process, double t_s) const {
  const auto before = before_.find(process.pid);
  if (!window_s_ || before == before_.end()) return std::nullopt;
  return share(process.run_delay_s, before->second.delay_s, t_s - before->second.t_s);
}

bool HangWatch::gpu_at_work(const std::vector<GpuSample>& gpus) const {
  return std::any_of(gpus.begin(), gpus.end(), [&](const GpuSample& gpu) {
    const auto seen = gpus_seen_.find(gpu.gpu);
    return seen != gpus_seen_.end() && seen->second.most_memory > limits_.gpu_memory_frac;
  });
}

bool HangWatch::gpus_spin() const {
  return std::any_of(gpus_seen_.begin(), gpus_seen_.end(), [&](const auto& one) {
    const GpuSeen& seen = one.second;
    return seen.samples >= limits_.samples && seen.least_use >= limits_.gpu_spin_frac &&
           seen.most_memory <= limits_.gpu_memory_frac;
  });
}

/// The run's own connections tell, where the kernel does. Files of a network have no connection of
/// the run's: of who loads from one, the host's interfaces, which count everybody's bytes, are all
/// there is.
bool HangWatch::network_carries(double t_s, const HangSight& sight) const {
  const double most_bytes = limits_.network_bytes_per_s * (t_s - *window_s_);
  const auto now = traffic_before_ && sight.traffic ? sight.traffic() : std::nullopt;
  if (now && carried(*traffic_before_, *now) > most_bytes) return true;
  if (now && !sight.network_files) return false;
  const bool loads =
      std::any_of(sight.places->begin(), sight.places->end(), [](const StackPlace& place) {
        return place.work == "input" || place.work == "prepare" || place.work == "load";
      });
  if (!loads) return false;
  double received = 0;
  for (const NetSample& net : *sight.nets) {
    const auto before = received_before_.find(net.interface);
    if (before != received_before_.end() && net.rx_bytes)
      received += std::max(0.0, *net.rx_bytes - before->second);
  }
  return received > most_bytes;
}

bool HangWatch::process_at_work(double t_s, const ProcSample& process, const HangSight& sight,
                                bool any_rank) const {
  if (is_dead(process) || is_stopped(process)) return false;
  const bool trains = process.role == "rank" || process.role == "loader";
  if (!before_.contains(process.pid)) return trains;  // it came while the rest was silent
  const auto cpu = cpu_frac(process, t_s);
  if (process.role == "launcher") return !cpu || *cpu >= limits_.launcher_frac;
  if (!trains && any_rank) return cpu && *cpu >= limits_.helper_frac;
  const auto queued = share(process.main_run_delay_s, before_.at(process.pid).main_delay_s,
                            t_s - before_.at(process.pid).t_s);
  const bool idle = cpu && *cpu < limits_.idle_frac && queued.value_or(0) < limits_.queued_frac;
  const StackPlace* place = place_of(sight, process.pid);
  const bool seen = place != nullptr && t_s - place->last_s < kFreshSample_s;
  if (!seen) return !idle;
  if (place->samples < limits_.samples) return true;
  if (idle) return place->held_s > *window_s_;
  // A call without a frame (item(), cpu()) spins in the user's own line until the device answers.
  const bool waits =
      is_wait(place->work) || (gpu_is_ours_ && is_device_work(place->work)) || gpus_spin();
  return !waits || place->still_s > *window_s_;
}

bool HangWatch::anybody_at_work(double t_s, const HangSight& sight) const {
  if (gpu_at_work(*sight.gpus)) return true;
  const bool any_rank = std::any_of(sight.tree->begin(), sight.tree->end(),
                                    [](const ProcSample& each) { return each.role == "rank"; });
  for (const ProcSample& process : *sight.tree)
    if (process_at_work(t_s, process, sight, any_rank)) return true;
  return network_carries(t_s, sight);
}

/// Silent for so long that a collective's timeout is near, or longer than ever where it had none,
/// and a rank has waited for others in one call for half of that time while no device did anything.
bool HangWatch::kept_waiting(double t_s, const HangSight& sight) const {
  const double most_s = options_.after_s.value_or(std::max(limits_.most_ranks_s, longest_gap_s_));
  if (ranks_.size() < 2 || t_s - last_s_ <= most_s || gpu_at_work(*sight.gpus)) return false;
  return std::any_of(sight.tree->begin(), sight.tree->end(), [&](const ProcSample& process) {
    if (process.role != "rank" || is_dead(process) || is_stopped(process)) return false;
    const StackPlace* place = place_of(sight, process.pid);
    return place != nullptr && (place->work == "sync" || place->work == "rendezvous") &&
           place->held_s <= t_s - most_s / 2;
  });
}

std::vector<ProcSample> HangWatch::lost_ranks(const std::vector<ProcSample>& tree) const {
  std::vector<ProcSample> lost;
  for (const auto& [rank, process] : ranks_) {
    const bool there = std::any_of(tree.begin(), tree.end(), [&, number = rank](const auto& each) {
      return each.role == "rank" && each.rank == number && !is_dead(each);
    });
    if (!there) lost.push_back(process);
  }
  return lost;
}

// ------------------------------------------------------------------------------------ the verdict

/// A traceback or a launcher's last words are no progress: a step is, or words that go on.
HangChange HangWatch::while_hung(double t_s) {
  if (!over_s_) return HangChange::none;
  const double silence_s = t_s - last_s_;
  if (silence_s >= threshold_s()) {
    over_s_.reset();  // it said something, and stands still again: the same hang
    return HangChange::none;
  }
  const bool steps = last_step_s_ && *last_step_s_ > began_s_;
  const bool goes_on = last_s_ - *over_s_ >= std::max(kConfirm_s, threshold_s() / 2);
  if (!steps && !goes_on) return HangChange::none;
  hung_ = false;
  return HangChange::over;
}

/// Every rank of this host sits in a call that waits for other ranks.
bool HangWatch::all_wait(const HangSight& sight) const {
  return std::all_of(sight.tree->begin(), sight.tree->end(), [&](const ProcSample& process) {
    if (process.role != "rank" || is_dead(process)) return true;
    const StackPlace* place = place_of(sight, process.pid);
    return place != nullptr && is_wait(place->work);
  });
}

/// A command may run one program after the other: the ranks of the next one have a history of their
/// own.
void HangWatch::follow_ranks(const std::vector<ProcSample>& tree) {
  const auto is_known = [&](const ProcSample& process) {
    return std::any_of(ranks_.begin(), ranks_.end(),
                       [&](const auto& one) { return one.second.pid == process.pid; });
  };
  bool known_left = false, fresh = false;
  for (const ProcSample& process : tree) {
    if (process.role != "rank" || !process.rank || is_dead(process)) continue;
    (is_known(process) ? known_left : fresh) = true;
  }
  if (fresh && !known_left && !ranks_.empty()) {
    ranks_.clear();
    step_gaps_.clear();
    last_step_s_.reset();
    next_gap_ = 0;
    longest_gap_s_ = 0;
  }
  for (const ProcSample& process : tree)
    if (process.role == "rank" && process.rank && !is_dead(process))
      ranks_[*process.rank] = process;
}

void HangWatch::follow_gpus(const std::vector<GpuSample>& gpus) {
  for (const GpuSample& gpu : gpus) {
    const bool ours = gpu.tree_processes.value_or(0) > 0 || gpu.tree_used_bytes.value_or(0) > 0;
    const bool shared = gpu.other_processes.value_or(0) > 0;
    gpu_is_ours_ = gpu_is_ours_ || ours;
    if (!ours || shared || !gpu.mem_util_frac) continue;
    GpuSeen& seen = gpus_seen_[gpu.gpu];
    seen.most_memory = std::max(seen.most_memory, *gpu.mem_util_frac);
    seen.least_use = std::min(seen.least_use, gpu.util_frac.value_or(0));
    ++seen.samples;
  }
}

HangChange HangWatch::tick(double t_s, const HangSight& sight) {
  follow_ranks(*sight.tree);
  note_bytes(t_s, sight);
  follow_gpus(*sight.gpus);
  const double patience_s = std::max({5.0, threshold_s() / 4, 3 * limits_.interval_s});
  const bool looked_away = t_s - last_tick_s_ > patience_s;
  last_tick_s_ = t_s;
  if (sight.paused || looked_away) {
    forget(t_s);
    return HangChange::none;
  }
  if (hung_) return while_hung(t_s);
  if (!options_.watch) return HangChange::none;
  const double silence_s = t_s - last_s_;
  double limit_s = threshold_s();
  // ranks of another host may be at work: only a collective's timeout is a reason to speak
  if (!options_.after_s && ranks_elsewhere() && all_wait(sight))
    limit_s = std::max(limit_s, limits_.most_ranks_s);
  if (silence_s < limit_s / 2) return HangChange::none;
  if (!window_s_) {
    open_window(t_s, sight);
    return HangChange::none;
  }
  for (const ProcSample& process : *sight.tree)  // helpers come and go: each is judged by its own
    if (process.role != "rank" && process.role != "loader")
      before_.try_emplace(
          process.pid, Before{t_s, process.cpu_s, process.run_delay_s, process.main_run_delay_s});
  const bool due = silence_s >= limit_s && t_s - *window_s_ >= limit_s / 2;
  const bool waits = kept_waiting(t_s, sight);
  if (!due && !waits) return HangChange::none;
  const bool works = anybody_at_work(t_s, sight);
  at_work_ = works && waits;
  if (works && !at_work_) {
    if (due) open_window(t_s, sight);  // asked again when as much time has passed
    return HangChange::none;
  }
  if (!works && !due) return HangChange::none;
  hung_ = true;
  resumes_ = false;
  began_s_ = last_s_;
  over_s_.reset();
  return HangChange::found;
}

HangChange HangWatch::finish(double t_s, bool ended_well) {
  if (!hung_) return HangChange::none;
  hung_ = false;
  if (!over_s_ && ended_well) over_s_ = t_s;
  if (!ended_well) over_s_.reset();
  return over_s_ ? HangChange::over : HangChange::none;
}

}  // namespace rigwise
