#include "ledger/phases.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <string>
#include <tuple>

namespace rigwise {

namespace {

struct Phases {
  double step_s = 0, input_s = 0, forward_s = 0, backward_s = 0, sync_s = 0, optimizer_s = 0;

  void add(const Phases& other) {
    step_s += other.step_s, input_s += other.input_s, forward_s += other.forward_s;
    backward_s += other.backward_s, sync_s += other.sync_s, optimizer_s += other.optimizer_s;
  }
  [[nodiscard]] double compute_s() const { return forward_s + backward_s + optimizer_s; }
};

/// The steps along the critical path: in each, the phases of the rank that waited least.
struct Stated {
  std::size_t entries = 0, steps = 0;  // of the log, and those of them that state their phases
  Phases led;
  struct Rank {
    double led_compute_s = 0, compute_s = 0;
  };
  std::map<int, Rank> ranks;
};

bool finite(const std::optional<double>& value) {
  return value && std::isfinite(*value) && *value >= 0;
}

std::optional<Phases> phases_of(const StepRecord& record) {
  const bool whole = record.step && finite(record.step_time_s) && finite(record.input_s) &&
                     finite(record.forward_s) && finite(record.backward_s) &&
                     finite(record.sync_s) && finite(record.optimizer_s);
  if (!whole) return std::nullopt;
  return Phases{*record.step_time_s, *record.input_s, *record.forward_s,
                *record.backward_s,  *record.sync_s,  *record.optimizer_s};
}

/// `only`: of that rank alone.
Stated stated_by(const Rows<StepRecord>& rows, std::optional<int> only = {}) {
  std::map<std::int64_t, std::map<int, Phases>> steps;               // by number, then by rank
  std::map<std::string, std::pair<std::size_t, std::size_t>> files;  // entries, whole ones
  for (const auto& record : rows.rows) {
    if (record.kind != RecordKind::train) continue;
    if (only && record.rank.value_or(0) != *only) continue;
    auto& [entries, whole] = files[record.log_file];
    ++entries;
    const auto phases = phases_of(record);
    if (!phases) continue;
    ++whole;
    steps[*record.step][record.rank.value_or(0)] = *phases;
  }
  Stated stated;
  for (const auto& [file, counts] : files) {
    if (counts.second > stated.steps) std::tie(stated.entries, stated.steps) = counts;
  }
  for (const auto& [number, ranks] : steps) {
    const auto leader = std::min_element(
        ranks.begin(), ranks.end(),
        [](const auto& a, const auto& b) { return a.second.sync_s < b.second.sync_s; });
    stated.led.add(leader->second);
    stated.ranks[leader->first].led_compute_s += leader->second.compute_s();
    for (const auto& [rank, phases] : ranks) stated.ranks[rank].compute_s += phases.compute_s();
  }
  return stated;
}

/// What run queues cost a rank: all that its main thread stood there, and part of what a team did.
TeamLoss lost_to_queues(const RankHeld& rank, double steps_s, bool several) {
  if (rank.main_cpu_s && rank.main_queued_s) {
    TeamLoss lost;
    if (rank.cpu_s - *rank.main_cpu_s >= team_share(several) * *rank.main_cpu_s) {
      lost = lost_to_team(std::max(0.0, rank.queued_s - *rank.main_queued_s));
    }
    lost.seconds += *rank.main_queued_s;
    return lost;
  }
  // An older record has the sum of all threads only. Those that share the arithmetic are always on
  // a CPU or in a queue for one, so their number shows.
  const double threads = steps_s > 0 ? std::max(1.0, (rank.cpu_s + rank.queued_s) / steps_s) : 1;
  const double first_s = rank.queued_s / threads;
  TeamLoss lost = lost_to_team(rank.queued_s - first_s);
  lost.seconds += first_s;
  return lost;
}

/// What the ranks were kept from in the steps that they led.
struct Held {
  double queued_s = 0, stopped_s = 0, sd_s = 0;
  double from_sync_s = 0;  // of both: what the log calls a wait for another rank
  [[nodiscard]] double all_s() const { return queued_s + stopped_s; }
};

Held held_in(const Stated& stated, const std::vector<RankHeld>& ranks) {
  Held held;
  if (ranks.empty()) return held;
  const bool several = ranks.size() > 1;
  const auto add = [&](const RankHeld& rank, double part) {
    const TeamLoss lost = lost_to_queues(rank, stated.led.step_s, several);
    held.queued_s += part * lost.seconds;
    held.stopped_s += rank.stopped_s;
    held.sd_s += part * lost.sd_s;
    if (rank.stopped_s > 0) held.sd_s += rank.main_cpu_s ? 0.1 : 0.5;
  };
  if (stated.ranks.size() > 1) {
    for (const auto& rank : ranks) {
      const auto own = stated.ranks.find(rank.rank);
      if (own == stated.ranks.end() || own->second.compute_s <= 0) continue;
      add(rank, own->second.led_compute_s / own->second.compute_s);
    }
    return held;
  }
  // The log speaks for one rank; where another was held longer, that one waited for it, and that is
  // no wait for the wire.
  const auto sum_s = [&](const RankHeld& rank) {
    return lost_to_queues(rank, stated.led.step_s, several).seconds + rank.stopped_s;
  };
  const auto worst =
      std::max_element(ranks.begin(), ranks.end(),
                       [&](const RankHeld& a, const RankHeld& b) { return sum_s(a) < sum_s(b); });
  add(*worst, 1);
  held.from_sync_s = std::clamp(sum_s(*worst) - sum_s(ranks.front()), 0.0, stated.led.sync_s);
  return held;
}

/// The rows that stated phases make. Empty where they do not cover the steps.
std::optional<WorkSplit> split_of(const Stated& stated, const std::vector<RankHeld>& ranks,
                                  const Timeline& time) {
  constexpr double kLeastShare = 0.9;
  const Phases& sums = stated.led;
  const auto steps = static_cast<double>(stated.steps);
  const double room_s = time.end_s - time.begin_s;
  if (stated.steps < 2 || steps < kLeastShare * static_cast<double>(stated.entries) ||
      sums.step_s > 1.05 * room_s) {
    return std::nullopt;
  }
  WorkSplit split;
  const Held held = held_in(stated, ranks);
  const double compute_s = sums.compute_s();
  const double from_sync_s = held.from_sync_s;
  const double from_compute_s = std::clamp(held.all_s() - from_sync_s, 0.0, 0.95 * compute_s);
  const double held_s = from_sync_s + from_compute_s;
  const auto give = [&](LedgerClass cls, double seconds, const char* part) {
    if (seconds <= 0) return;
    split.of(cls).add(seconds);
    split.parts[cls][part] += seconds;
  };
  give(LedgerClass::host, held.all_s() > 0 ? held_s * held.queued_s / held.all_s() : 0,
       "waiting for a CPU");
  give(LedgerClass::host, held.all_s() > 0 ? held_s * held.stopped_s / held.all_s() : 0,
       "stopped by a signal");
  give(LedgerClass::sync, sums.sync_s - from_sync_s, "as the steps state it");
  give(LedgerClass::input, sums.input_s, "as the steps state it");
  const double left = compute_s > 0 ? (compute_s - from_compute_s) / compute_s : 0;
  give(LedgerClass::compute, sums.forward_s * left, "forward");
  give(LedgerClass::compute, sums.backward_s * left, "backward");
  give(LedgerClass::compute, sums.optimizer_s * left, "optimizer");
  // What no step holds: evaluations and saves between them.
  double outside_s = std::max(0.0, room_s - sums.step_s);
  const double evaluated_s =
      std::min(outside_s, overlap_s(time.evaluations, time.begin_s, time.end_s));
  outside_s -= evaluated_s;
  const auto saves = without(time.checkpoints, time.evaluations);
  const double saved_s = std::min(outside_s, overlap_s(saves, time.begin_s, time.end_s));
  outside_s -= saved_s;
  give(LedgerClass::evaluation, evaluated_s, "");
  give(LedgerClass::checkpoint, saved_s, "");
  give(LedgerClass::unexplained, outside_s, "between the steps");
  give(LedgerClass::unexplained,
       std::max(0.0, sums.step_s - compute_s - sums.input_s - sums.sync_s), "inside steps");
  // Before and behind.
  give(LedgerClass::startup, time.begin_s, "other code");
  const double last_evaluated_s = overlap_s(time.evaluations, time.end_s, time.wall_s);
  const double last_saved_s = overlap_s(saves, time.end_s, time.wall_s);
  give(LedgerClass::evaluation, last_evaluated_s, "");
  give(LedgerClass::checkpoint, last_saved_s, "");
  give(time.ended ? LedgerClass::teardown : LedgerClass::unexplained,
       time.wall_s - time.end_s - last_evaluated_s - last_saved_s, "behind the last step");
  // Each step's phases are rounded by the log to a microsecond or so; what the run queue took is
  // known by the tick of one second at both ends.
  split.of(LedgerClass::startup).add(0, 0.05);
  for (const auto cls : {LedgerClass::input, LedgerClass::sync, LedgerClass::compute}) {
    if (split.of(cls).seconds > 0) split.of(cls).add(0, 1e-6 * std::sqrt(steps));
  }
  if (held_s > 0) {
    const double sd_s = 0.05 * held_s + held.sd_s;
    for (const auto cls : {LedgerClass::host, LedgerClass::compute}) split.of(cls).add(0, sd_s);
  }
  split.covered_s = sums.step_s;
  return split;
}

}  // namespace

std::optional<PhasesSplit> split_by_phases(const PhasesInput& input) {
  const Stated stated = stated_by(*input.rows);
  auto run = split_of(stated, input.held, input.time);
  if (!run) return std::nullopt;
  PhasesSplit split;
  split.run = std::move(*run);
  if (stated.ranks.size() < 2) return split;
  for (const auto& [rank, own] : stated.ranks) {
    std::vector<RankHeld> held;
    std::copy_if(input.held.begin(), input.held.end(), std::back_inserter(held),
                 [&, number = rank](const RankHeld& one) { return one.rank == number; });
    auto alone = split_of(stated_by(*input.rows, rank), held, input.time);
    if (!alone) continue;
    split.ranks.emplace(rank, std::move(*alone));
    split.critical_s[rank] = own.led_compute_s;
  }
  return split;
}

}  // namespace rigwise
