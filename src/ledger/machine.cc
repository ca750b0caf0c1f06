#include "ledger/machine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/text.h"
#include "rigwise/stats.h"

namespace rigwise {

namespace {

bool inside(double t_s, const Stretch& stretch) {
  return std::isfinite(t_s) && t_s >= stretch.from_s && t_s <= stretch.to_s;
}

struct Cause {
  std::string_view name;
  std::optional<double> GpuSample::*counter_s;
};
constexpr std::array kCauses = {
    Cause{"power limit", &GpuSample::held_power_s},
    Cause{"sync boost", &GpuSample::held_sync_s},
    Cause{"heat", &GpuSample::held_sw_thermal_s},
    Cause{"heat (hardware)", &GpuSample::held_hw_thermal_s},
    Cause{"power brake", &GpuSample::held_brake_s},
};

/// One GPU while the steps ran: what its counters added, tick by tick.
struct GpuTrack {
  struct Tick {
    double t_s = 0, held_s = 0;  // held_s: added since the tick before, all causes
    std::optional<double> clock_mhz = {};
  };
  std::vector<Tick> ticks = {};
  std::optional<GpuSample> last = {};
  std::array<double, kCauses.size()> by_cause_s = {};
  std::array<double, kCauses.size()> unused_s =
      {};  // of the last tick: it was not held for so long
  double clock_max_mhz = 0;
  std::int64_t first_line = 0, last_line = 0;
  bool counted = false;

  void add(const GpuSample& sample, std::int64_t line) {
    if (first_line == 0) first_line = line;
    last_line = line;
    clock_max_mhz = std::max(clock_max_mhz, sample.sm_clock_max_mhz.value_or(0));
    Tick tick{sample.t_s, 0, sample.sm_clock_mhz};
    if (last) {
      for (std::size_t i = 0; i < kCauses.size(); ++i) {
        const auto& now = sample.*kCauses[i].counter_s;
        const auto& before = (*last).*kCauses[i].counter_s;
        if (!now || !before) continue;
        counted = true;
        // Rows of a damaged table may go back in time: nothing was added in such a stretch. The
        // driver refreshes its counters now and then: what the tick before lacked may come now.
        const double passed_s = std::max(0.0, sample.t_s - last->t_s);
        const double added_s = std::clamp(*now - *before, 0.0, passed_s + unused_s[i]);
        unused_s[i] = std::max(0.0, passed_s - added_s);
        by_cause_s[i] += added_s;
        tick.held_s = std::max(tick.held_s, added_s);  // causes overlap
      }
    }
    ticks.push_back(tick);
    last = sample;
  }

  [[nodiscard]] double held_s() const {
    double sum_s = 0;
    for (const auto& tick : ticks) sum_s += tick.held_s;
    return sum_s;
  }

  /// The clock while it was held in the time before a tick. A reading is of one instant: one with
  /// held time on both its sides is of that time, the others may be of the time beside it.
  [[nodiscard]] std::optional<double> held_clock_mhz(std::size_t at) const {
    const auto inside = [&](std::size_t end) {
      return end > 0 && ticks[end].held_s > 0 && end + 1 < ticks.size() &&
             ticks[end + 1].held_s > 0;
    };
    const auto& here = ticks[at].clock_mhz;
    if (at == 0 || !here || !ticks[at - 1].clock_mhz) return here;
    const double before = *ticks[at - 1].clock_mhz;
    if (inside(at) == inside(at - 1))
      return inside(at) ? (before + *here) / 2 : std::min(before, *here);
    return inside(at) ? *here : before;
  }

  /// Held time times the clock's shortfall against `level_mhz`.
  [[nodiscard]] double lost_s(double level_mhz) const {
    double sum_s = 0;
    for (std::size_t i = 0; i < ticks.size(); ++i) {
      const auto clock_mhz = ticks[i].held_s > 0 ? held_clock_mhz(i) : std::nullopt;
      if (!clock_mhz || level_mhz <= 0) continue;
      sum_s += ticks[i].held_s * std::clamp(1 - *clock_mhz / level_mhz, 0.0, 1.0);
    }
    return sum_s;
  }

  /// The clock while nothing held it down; empty where that was never seen.
  [[nodiscard]] std::optional<double> free_level_mhz() const {
    constexpr std::size_t kEnough = 10;
    std::vector<double> unheld;
    for (std::size_t i = 0; i + 1 < ticks.size(); ++i) {
      const bool held = ticks[i].held_s > 0 || ticks[i + 1].held_s > 0;
      if (!held && ticks[i].clock_mhz) unheld.push_back(*ticks[i].clock_mhz);
    }
    if (unheld.size() < kEnough) return std::nullopt;
    return stats::median(unheld);
  }
};

std::string file_of(const std::string& host, std::string_view kind) {
  return "watch/" + host + "." + std::string(kind) + ".csv";
}

/// Rise of a value while the steps ran: the highest seen less the first seen.
struct Rise {
  std::optional<double> first = {}, highest = {};
  void add(const std::optional<double>& value) {
    if (!value) return;
    if (!first) first = value;
    highest = std::max(highest.value_or(*value), *value);
  }
  [[nodiscard]] std::optional<double> value() const {
    return first ? std::optional(*highest - *first) : std::nullopt;
  }
};

}  // namespace

Throttling see_throttling(const Run& run, const Stretch& steps) {
  Throttling worst;
  for (const auto& host : hosts_of(run)) {
    std::map<int, GpuTrack> gpus;
    const ColumnNames columns = {
        "t_s",          "gpu",         "sm_clock_mhz",      "sm_clock_max_mhz",
        "held_power_s", "held_sync_s", "held_sw_thermal_s", "held_hw_thermal_s",
        "held_brake_s"};
    (void)visit_gpu(run, host, columns, [&](const GpuSample& sample, std::int64_t line) {
      if (inside(sample.t_s, steps)) gpus[sample.gpu].add(sample, line);
      return true;
    }).ok();
    for (const auto& [gpu, track] : gpus) {
      if (!track.counted) continue;
      const double held_s = track.held_s();
      const bool first = !worst.counted;
      worst.counted = true;
      // Held down all the time (a power limit often is): half of the bound is the best guess.
      const auto level_mhz = track.free_level_mhz();
      const double bound_s = track.lost_s(track.clock_max_mhz);
      const double lost_s = level_mhz ? track.lost_s(*level_mhz) : bound_s / 2;
      if (!first && std::pair(lost_s, held_s) <= std::pair(worst.lost_s, worst.held_s)) continue;
      worst.held_s = held_s;
      worst.lost_s = lost_s;
      worst.lost_high_s = std::max(lost_s, bound_s);
      worst.gpu = gpu;
      worst.host = host;
      const auto most = std::max_element(track.by_cause_s.begin(), track.by_cause_s.end());
      worst.cause =
          *most > 0
              ? std::string(kCauses[static_cast<std::size_t>(most - track.by_cause_s.begin())].name)
              : "";
      worst.evidence = Evidence{"", file_of(host, "gpu"), track.first_line, track.last_line,
                                held_s > 0 ? "" : "no violation counter moved"};
    }
  }
  return worst;
}

HostView see_host(const Run& run, const std::string& host, const Stretch& steps) {
  HostView view;
  view.host = host;
  Rise swap, full, some;
  std::optional<HostSample> last;
  std::int64_t first_line = 0, last_line = 0;
  const ColumnNames columns = {"t_s",
                               "others_cpu_s",
                               "tree_cpu_s",
                               "tree_run_delay_s",
                               "swap_used_bytes",
                               "psi_mem_full_s",
                               "psi_mem_some_s",
                               "wall_unix_s",
                               "top_other"};
  std::map<std::string, int> others;
  (void)visit_host(run, host, columns, [&](const HostSample& sample, std::int64_t line) {
    if (!std::isfinite(sample.t_s)) return true;
    view.present = true;
    if (!view.first_s) view.first_s = sample.t_s;
    view.last_s = sample.t_s;
    if (first_line == 0) first_line = line;
    last_line = line;
    if (sample.others_cpu_s) view.others_cpu_s = sample.others_cpu_s;
    if (sample.tree_cpu_s) {
      view.tree_cpu_s = std::max(view.tree_cpu_s.value_or(0), *sample.tree_cpu_s);
    }
    if (sample.tree_run_delay_s) {
      view.run_delay_s = std::max(view.run_delay_s.value_or(0), *sample.tree_run_delay_s);
    }
    if (!sample.top_other.empty() && others.size() < 1000) ++others[sample.top_other];
    if (inside(sample.t_s, steps)) {
      swap.add(sample.swap_used_bytes);
      full.add(sample.psi_mem_full_s);
      some.add(sample.psi_mem_some_s);
    }
    if (last && last->wall_unix_s && sample.wall_unix_s) {
      const double jump_s = (*sample.wall_unix_s - *last->wall_unix_s) - (sample.t_s - last->t_s);
      if (std::fabs(jump_s) > std::fabs(view.jump_s.value_or(0))) {
        view.jump_s = jump_s;
        view.jump_at_s = sample.t_s;
        view.jump_evidence = Evidence{"", file_of(host, "host"), line - 1, line, ""};
      }
    }
    last = sample;
    return true;
  }).ok();
  view.swap_rise_bytes = swap.value();
  view.mem_full_s = full.value();
  view.mem_some_s = some.value();
  if (!others.empty()) {
    view.top_other =
        std::max_element(others.begin(), others.end(), [](const auto& a, const auto& b) {
          return a.second < b.second;
        })->first;
  }
  if (view.present) {
    view.evidence = Evidence{"", file_of(host, "host"), first_line, last_line, ""};
  }
  if (const auto rig = read_rig(run, host); rig.ok()) {
    if (rig->cpus_allowed) {
      view.cpus = *rig->cpus_allowed;
    } else if (rig->threads) {
      view.cpus = *rig->threads;
    }
  }
  return view;
}

std::vector<FileSystemView> see_file_systems(const Run& run, const std::string& host) {
  std::map<std::string, FileSystemView> last;
  const ColumnNames columns = {"t_s", "device", "fs_total_bytes", "fs_free_bytes"};
  (void)visit_disk(run, host, columns, [&](const DiskSample& sample, std::int64_t line) {
    if (!sample.fs_free_bytes || !sample.fs_total_bytes || !(*sample.fs_total_bytes > 0)) {
      return true;
    }
    if (last.size() >= 256 && !last.contains(sample.device)) return true;
    last[sample.device] =
        FileSystemView{host, sample.device, *sample.fs_free_bytes, *sample.fs_total_bytes,
                       Evidence{"", file_of(host, "disk"), line, line, ""}};
    return true;
  }).ok();
  std::vector<FileSystemView> views;
  for (auto& [mount, view] : last) views.push_back(std::move(view));
  return views;
}

std::vector<RankProcess> see_ranks(const Run& run, const std::string& host,
                                   const std::map<int, int>& numbers) {
  std::map<int, RankProcess> ranks;
  (void)visit_proc(run, host, {"t_s", "pid"}, [&](const ProcSample& sample, std::int64_t) {
    const auto number = numbers.find(sample.pid);
    if (number == numbers.end() || !std::isfinite(sample.t_s)) return true;
    const int rank = number->second;
    if (ranks.size() >= 4096 && !ranks.contains(rank)) return true;
    auto& process =
        ranks.try_emplace(rank, RankProcess{rank, host, sample.t_s, sample.t_s}).first->second;
    process.last_seen_s = sample.t_s;
    return true;
  }).ok();
  std::vector<RankProcess> list;
  for (auto& [rank, process] : ranks) list.push_back(std::move(process));
  return list;
}

namespace {

/// One rank's rows of watch/HOST.proc.csv, as they come.
class RankTrack {
 public:
  void add(const ProcSample& sample, const Stretch& steps) {
    if (sample.t_s > steps.to_s + 1) return;
    Tick tick{sample.t_s,
              sample.cpu_s,
              sample.run_delay_s,
              sample.main_cpu_s,
              sample.main_run_delay_s,
              sample.main_state == "T" || sample.main_state == "t"};
    if (!first_ || sample.t_s <= steps.from_s) {
      first_ = tick;
    } else if (sample.t_s >= steps.from_s && last_) {
      note_interval(*last_, tick);
    }
    last_ = tick;
  }

  [[nodiscard]] RankHeld held(int rank) const {
    RankHeld held;
    held.rank = rank;
    if (!first_) return held;
    held.cpu_s = rise(first_->cpu_s, last_->cpu_s).value_or(0);
    held.queued_s = rise(first_->queued_s, last_->queued_s).value_or(0);
    held.main_cpu_s = rise(first_->main_cpu_s, last_->main_cpu_s);
    held.main_queued_s = rise(first_->main_queued_s, last_->main_queued_s);
    held.stopped_s = stopped_s();
    return held;
  }

 private:
  struct Tick {
    double t_s = 0;
    std::optional<double> cpu_s, queued_s, main_cpu_s, main_queued_s;
    bool stopped = false;
  };
  struct Idle {
    double length_s = 0, idle_s = 0;
  };

  static std::optional<double> rise(const std::optional<double>& from,
                                    const std::optional<double>& to) {
    if (!from || !to) return std::nullopt;
    return std::max(0.0, *to - *from);
  }

  void note_interval(const Tick& from, const Tick& to) {
    const double length_s = to.t_s - from.t_s;
    const auto ran_s = rise(from.main_cpu_s, to.main_cpu_s);
    const auto queued_s = rise(from.main_queued_s, to.main_queued_s);
    if (to.stopped) by_tick_s_ += length_s;
    if (!ran_s || !queued_s || !(length_s > 0)) {
      figures_ = false;
      return;
    }
    const Idle idle{length_s, std::clamp(length_s - *ran_s - *queued_s, 0.0, length_s)};
    if (from.stopped || to.stopped) {
      touched_.push_back(idle);
    } else if (idle_frac_.size() < 100000) {
      idle_frac_.push_back(idle.idle_s / length_s);
    }
  }

  /// The grid of ticks sees that the thread stood, not for how long: what it neither ran nor queued
  /// in the intervals on both sides of such a tick says that, less what it sleeps there anyway.
  [[nodiscard]] double stopped_s() const {
    if (!figures_) return by_tick_s_;
    const double usual = std::min(0.95, stats::median(idle_frac_).value_or(0));
    double sum_s = 0;
    for (const Idle& each : touched_) {
      sum_s += std::max(0.0, (each.idle_s - usual * each.length_s) / (1 - usual));
    }
    return sum_s;
  }

  std::optional<Tick> first_, last_;
  std::vector<Idle> touched_;
  std::vector<double> idle_frac_;
  double by_tick_s_ = 0;
  bool figures_ = true;
};

}  // namespace

std::vector<RankHeld> see_held_ranks(const Run& run, const Stretch& steps,
                                     const RankNumbers& all_numbers) {
  std::map<int, RankTrack> tracks;
  const ColumnNames columns = {"t_s",        "pid",        "run_delay_s",     "cpu_s",
                               "main_state", "main_cpu_s", "main_run_delay_s"};
  for (const auto& host : hosts_of(run)) {
    const auto known = all_numbers.find(host);
    if (known == all_numbers.end()) continue;
    const auto& numbers = known->second;
    (void)visit_proc(run, host, columns, [&](const ProcSample& sample, std::int64_t) {
      const auto number = numbers.find(sample.pid);
      if (number == numbers.end() || !std::isfinite(sample.t_s)) return true;
      const int rank = number->second;
      if (tracks.size() >= 4096 && !tracks.contains(rank)) return true;
      tracks[rank].add(sample, steps);
      return true;
    }).ok();
  }
  std::vector<RankHeld> held;
  for (const auto& [rank, track] : tracks) held.push_back(track.held(rank));
  return held;
}

}  // namespace rigwise
