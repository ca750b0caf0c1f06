#include "ledger/phases.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

namespace rigwise {

namespace {

struct Sums {
  double entries = 0, steps = 0, step_s = 0, input_s = 0, forward_s = 0, backward_s = 0, sync_s = 0,
         optimizer_s = 0;
};

bool finite(const std::optional<double>& value) {
  return value && std::isfinite(*value) && *value >= 0;
}

/// Of the one file of the log whose entries state most.
Sums sums_of(const Rows<StepRecord>& rows) {
  std::map<std::string, Sums> files;
  for (const auto& record : rows.rows) {
    if (record.kind != RecordKind::train) continue;
    Sums& sums = files[record.log_file];
    ++sums.entries;
    const bool whole = finite(record.step_time_s) && finite(record.input_s) &&
                       finite(record.forward_s) && finite(record.backward_s) &&
                       finite(record.sync_s) && finite(record.optimizer_s);
    if (!whole) continue;
    ++sums.steps;
    sums.step_s += *record.step_time_s;
    sums.input_s += *record.input_s;
    sums.forward_s += *record.forward_s;
    sums.backward_s += *record.backward_s;
    sums.sync_s += *record.sync_s;
    sums.optimizer_s += *record.optimizer_s;
  }
  Sums best;
  for (const auto& [file, sums] : files) {
    if (sums.steps > best.steps) best = sums;
  }
  return best;
}

/// Threads that share the arithmetic are always on a CPU or in a queue for one, so their number
/// shows.
TeamLoss lost_to_queues(const RankHeld& rank, double steps_s) {
  const double threads = steps_s > 0 ? std::max(1.0, (rank.cpu_s + rank.queued_s) / steps_s) : 1;
  const double first_s = rank.queued_s / threads;
  TeamLoss lost = lost_to_team(rank.queued_s - first_s);
  lost.seconds += first_s;
  return lost;
}

}  // namespace

std::optional<WorkSplit> split_by_phases(const PhasesInput& input) {
  constexpr double kLeastShare = 0.9;
  const Timeline& time = input.time;
  const Sums sums = sums_of(*input.rows);
  const double room_s = time.end_s - time.begin_s;
  if (sums.steps < 2 || sums.steps < kLeastShare * sums.entries || sums.step_s > 1.05 * room_s) {
    return std::nullopt;
  }
  WorkSplit split;
  // What the ranks were kept from: the log speaks for the first; where another was held longer, the
  // first waited for it, and that is no wait for the wire.
  double own_s = 0, worst_s = 0, queued_s = 0, stopped_s = 0, team_sd_s = 0;
  for (const auto& rank : input.held) {
    const TeamLoss lost = lost_to_queues(rank, sums.step_s);
    const double held_s = lost.seconds + rank.stopped_s;
    if (&rank == &input.held.front()) own_s = held_s;
    if (held_s < worst_s) continue;
    worst_s = held_s, queued_s = lost.seconds, stopped_s = rank.stopped_s, team_sd_s = lost.sd_s;
  }
  const double compute_s = sums.forward_s + sums.backward_s + sums.optimizer_s;
  const double from_sync_s = std::clamp(worst_s - own_s, 0.0, sums.sync_s);
  const double from_compute_s = std::min(own_s, 0.95 * compute_s);
  const double held_s = from_sync_s + from_compute_s;
  const auto give = [&](LedgerClass cls, double seconds, const char* part) {
    if (seconds <= 0) return;
    split.of(cls).add(seconds);
    split.parts[cls][part] += seconds;
  };
  give(LedgerClass::host, worst_s > 0 ? held_s * queued_s / worst_s : 0, "waiting for a CPU");
  give(LedgerClass::host, worst_s > 0 ? held_s * stopped_s / worst_s : 0, "stopped by a signal");
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
    if (split.of(cls).seconds > 0) split.of(cls).add(0, 1e-6 * std::sqrt(sums.steps));
  }
  if (held_s > 0) {
    const double sd_s = 0.05 * held_s + team_sd_s + (stopped_s > 0 ? 0.5 : 0);
    for (const auto cls : {LedgerClass::host, LedgerClass::compute}) split.of(cls).add(0, sd_s);
  }
  split.covered_s = sums.step_s;
  return split;
}

}  // namespace rigwise
