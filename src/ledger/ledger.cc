// make_ledger: evidence of a run → eleven rows that sum to its wall time.
#include "rigwise/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/text.h"
#include "ledger/facts.h"
#include "ledger/findings.h"
#include "ledger/rules.h"
#include "ledger/split.h"
#include "ledger/steps.h"
#include "ledger/work_rows.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

constexpr std::string_view kStacks =
    "where each rank's main thread stands, sampled many times a second";
constexpr std::string_view kInCompute = "not told apart from compute: its seconds are there";

/// Whose rows are made: the run's (nullptr), or one rank's.
struct Whose {
  const WorkSplit* split = nullptr;
  const RankWork* rank = nullptr;
};

// ---- rows -------------------------------------------------------------------------------------

LedgerRow zero(LedgerClass cls, How how, std::string note, std::vector<Evidence> evidence = {}) {
  LedgerRow row = row_of_share(cls, Share{}, how);
  row.note = std::move(note);
  row.evidence = std::move(evidence);
  return row;
}

LedgerRow not_known(LedgerClass cls, std::string note, std::string_view would_measure) {
  LedgerRow row;
  row.cls = cls;
  row.how = How::assumed;
  row.note = std::move(note);
  row.would_measure = std::string(would_measure);
  return row;
}

Evidence step_rows_of(const StepSeries& series, std::string what = {}) {
  Evidence evidence{"", "steps.csv", std::nullopt, std::nullopt, std::move(what)};
  if (series.first_row > 0 && series.last_row > 0) {
    evidence.first_row = series.first_row;
    evidence.last_row = series.last_row;
  }
  return evidence;
}

std::string startup_note(const Facts& facts, const Split& split, const Whose& whose) {
  if (whose.split != nullptr) return join(startup_parts(*whose.split), ", ");
  std::vector<std::string> parts;
  std::map<std::string, double> phases;
  for (const auto& event : facts.events.rows) {
    if (event.kind != EventKind::phase || !event.t_end_s || event.t_s > facts.series->begin_s) {
      continue;
    }
    const double lasted_s = *event.t_end_s - event.t_s;
    if (std::isfinite(lasted_s) && lasted_s > 0 && phases.size() < 8) {
      phases[clean_text(event.name, 40)] += lasted_s;
    }
  }
  if (!facts.ranks.empty()) {
    const auto first = std::min_element(
        facts.ranks.begin(), facts.ranks.end(),
        [](const RankProcess& a, const RankProcess& b) { return a.first_seen_s < b.first_seen_s; });
    if (first->first_seen_s > 0.5) {
      parts.push_back(
          fmt::format("first rank's process after {}", format_duration(first->first_seen_s)));
    }
  }
  std::optional<double> first_bytes_s;
  for (const auto stream : {"out", "err"}) {
    const auto marks = read_log_index(*facts.run, stream);
    if (!marks.ok() || marks->rows.empty() || !std::isfinite(marks->rows.front().t_s)) continue;
    const double t_s = marks->rows.front().t_s;
    first_bytes_s = std::min(first_bytes_s.value_or(t_s), t_s);
  }
  if (first_bytes_s && *first_bytes_s <= facts.series->begin_s) {
    parts.push_back(fmt::format("first output after {}", format_duration(*first_bytes_s)));
  }
  for (const auto& [name, lasted_s] : phases) {
    if (lasted_s < 0.1) continue;
    parts.push_back(fmt::format("{} {}", name, format_duration(lasted_s)));
  }
  if (split.warm_up_s > 0) {
    parts.push_back(fmt::format("first steps {} above the pace", format_duration(split.warm_up_s)));
  }
  if (facts.from_summary) parts.emplace_back("reckoned back from the summary line");
  return join(parts, ", ");
}

/// An imported run's files begin and end when somebody wrote them, not with the command.
bool unseen_edge(const Facts& facts, const Share& share) {
  constexpr double kNothing_s = 0.05;
  return facts.run->info.imported && share.seconds < kNothing_s;
}

LedgerRow startup_row(const Facts& facts, const Split& split, const Whose& whose) {
  if (unseen_edge(facts, split.startup)) {
    return not_known(LedgerClass::startup, "the files do not show the command's start",
                     "record the run with rigwise run");
  }
  const bool seen = facts.series->begin_seen;
  LedgerRow row =
      row_of_share(LedgerClass::startup, split.startup, seen ? How::measured : How::derived);
  row.note = startup_note(facts, split, whose);
  Evidence first = step_rows_of(*facts.series);
  first.last_row = first.first_row;
  row.evidence = {first};
  if (!seen && !facts.from_summary) {
    row.note += row.note.empty() ? "" : ", ";
    row.note += "first step's begin reckoned from the pace";
  }
  return row;
}

LedgerRow compute_row(const Facts& facts, const Split& split, const Whose& whose) {
  LedgerRow row = row_of_share(LedgerClass::compute, split.compute,
                               whose.split == nullptr ? How::assumed
                               : facts.device.worked  ? How::derived
                                                      : How::measured);
  const StepSeries& series = *facts.series;
  row.evidence = {step_rows_of(series, series.source)};
  if (series.steps) {
    row.note = fmt::format("{} steps", *series.steps);
    if (split.pace) {
      const double half_s = split.pace->half_width_s.value_or(0);
      const bool shown = half_s > 1e-3 * split.pace->step_s;  // more digits would be false ones
      row.note += fmt::format(", {} each", shown ? format_duration(split.pace->step_s, half_s)
                                                 : format_duration(split.pace->step_s));
    }
    row.note += ", ";
  }
  if (whose.split != nullptr) {
    row.note += compute_parts(*whose.split);
    return row;
  }
  row.note += "the steps' time less the rows that are known";
  row.would_measure = std::string(kStacks);
  return row;
}

/// Was anybody looking at the file system? A run whose samples exist had its recorder.
bool checkpoints_watched(const Facts& facts) {
  if (facts.unwatched_end || facts.run->info.checkpoints_unwatched) return false;
  return std::any_of(facts.hosts.begin(), facts.hosts.end(),
                     [](const HostView& host) { return host.present; });
}

LedgerRow checkpoint_row(const Facts& facts, const Split& split, const Whose& whose) {
  if (facts.saves == 0 && split.checkpoint.seconds <= 0) {
    if (!checkpoints_watched(facts) && whose.split == nullptr) {
      return not_known(LedgerClass::checkpoint, "nobody watched the output folders",
                       "record the run with rigwise run");
    }
    return zero(LedgerClass::checkpoint, How::measured, "no checkpoint was written");
  }
  LedgerRow row = row_of_share(LedgerClass::checkpoint, split.checkpoint,
                               facts.from_summary ? How::derived : How::measured);
  if (facts.from_summary) row.low_s = 0;  // whether steps went on meanwhile is not known
  if (facts.saves == 0) {
    row.note = "seen in stack samples; no new files were seen";
    return row;
  }
  const double mean_bytes = facts.save_bytes / static_cast<double>(facts.saves);
  row.note = fmt::format("{} {}", facts.saves, facts.saves == 1 ? "save" : "saves");
  if (mean_bytes > 0) {
    row.note += fmt::format(", {}{}", format_bytes(mean_bytes), facts.saves == 1 ? "" : " each");
  }
  row.note += *row.seconds > 0 ? ", steps stood still" : ", steps did not stand still";
  if (facts.open_saves > 0) row.note += ", one not finished";
  if (facts.torn.count > 0) row.note += fmt::format(", {} torn", facts.torn.count);
  row.evidence = {facts.save_evidence};
  return row;
}

std::string_view why_end_is_lost(const Facts& facts) {
  if (facts.unwatched_end) return "the recorder died before the command did";
  return facts.unread_end ? "the end of the log was not read" : "the end is lost";
}

LedgerRow evaluation_row(const Facts& facts, const Split& split, const Whose& whose) {
  if (whose.split != nullptr && facts.evaluations == 0 && split.evaluation.seconds > 0) {
    LedgerRow row = row_of_share(LedgerClass::evaluation, split.evaluation, How::measured);
    row.note = "seen in stack samples; the log tells of none";
    return row;
  }
  if (facts.evaluations == 0 && facts.unread_end) {
    return not_known(LedgerClass::evaluation, std::string(why_end_is_lost(facts)),
                     "record the run again");
  }
  if (facts.evaluations == 0) {
    return zero(LedgerClass::evaluation, How::measured, "the log tells of none");
  }
  LedgerRow row = row_of_share(LedgerClass::evaluation, split.evaluation, How::measured);
  row.note = fmt::format("{} {}", facts.evaluations,
                         facts.evaluations == 1 ? "evaluation" : "evaluations");
  row.evidence = {facts.evaluation_evidence};
  return row;
}

LedgerRow teardown_row(const Facts& facts, const Split& split) {
  if (!facts.ended) {
    return not_known(LedgerClass::teardown,
                     std::string(facts.run->state == RunState::running ? "still running"
                                                                       : why_end_is_lost(facts)),
                     "");
  }
  if (unseen_edge(facts, split.teardown)) {
    return not_known(LedgerClass::teardown, "the files do not show the command's end",
                     "record the run with rigwise run");
  }
  LedgerRow row = row_of_share(LedgerClass::teardown, split.teardown, How::measured);
  row.evidence = {Evidence{"", "run.json", std::nullopt, std::nullopt, "ending"}};
  const auto& ending = facts.run->info.ending;
  if (ending && (ending->signal || ending->exit_status.value_or(0) != 0)) {
    row.note = ending->signal ? fmt::format("ended by signal {}", *ending->signal)
                              : fmt::format("exit {}", *ending->exit_status);
  }
  return row;
}

LedgerRow throttle_row(const Facts& facts, double room_s) {
  const Throttling& held = facts.throttling;
  if (!held.counted) {
    return not_known(LedgerClass::throttle, "no violation counter could be read",
                     "a driver with NVML's cumulative violation counters");
  }
  if (held.held_s <= 0) {
    return zero(LedgerClass::throttle, How::measured, "no violation counter moved",
                {held.evidence});
  }
  LedgerRow row =
      row_of_share(LedgerClass::throttle, Share{std::min(held.lost_s, room_s), 0}, How::derived);
  row.low_s = 0;  // a step that waits for memory loses nothing to a lower clock
  row.high_s = std::min(std::max(held.lost_high_s, *row.seconds), room_s);
  row.evidence = {held.evidence};
  row.note = fmt::format("GPU {} held down {} ({}), times the clock's shortfall", held.gpu,
                         format_duration(held.held_s), held.cause);
  return row;
}

LedgerRow memory_row(const Facts& facts, double room_s, const Whose& whose) {
  constexpr double kSwapNoise_bytes = 16e6;
  constexpr double kPressureNoise_s = 0.05;
  const HostView* worst = nullptr;
  for (const auto& host : facts.hosts) {
    if (!host.mem_full_s && !host.swap_rise_bytes) continue;
    if (worst == nullptr || host.mem_full_s.value_or(0) > worst->mem_full_s.value_or(0)) {
      worst = &host;
    }
  }
  if (worst == nullptr) {
    return not_known(LedgerClass::memory, "neither swap nor memory pressure was recorded",
                     "a kernel with /proc/pressure");
  }
  const double full_s = worst->mem_full_s.value_or(0);
  const double swapped = worst->swap_rise_bytes.value_or(0);
  if (full_s <= kPressureNoise_s && swapped <= kSwapNoise_bytes) {
    return zero(LedgerClass::memory, How::measured, "no swapping, no memory pressure",
                {worst->evidence});
  }
  if (!worst->mem_full_s) {
    return not_known(LedgerClass::memory,
                     fmt::format("swap grew by {} while steps ran", format_bytes(swapped)),
                     "a kernel with /proc/pressure");
  }
  if (whose.split != nullptr) {
    // While the main thread slept where it should compute, it may have waited for memory.
    const double asleep_s = std::min(room_s, whose.split->asleep_in_compute_s);
    const double some_s = worst->mem_some_s.value_or(full_s);
    // Pages were taken away, and no team of its own threads is what it waits for: it sleeps until
    // they are back from the disk, of which pressure counts only the pages that were lately used.
    const bool swapped_in = swapped > kSwapNoise_bytes && !whose.split->team;
    const double lost_s = swapped_in ? asleep_s : std::min(some_s, asleep_s);
    LedgerRow row = row_of_share(LedgerClass::memory, Share{lost_s, 0}, How::derived);
    row.low_s = swapped_in ? 0.9 * lost_s : std::min(full_s, asleep_s);
    row.high_s = std::min(room_s, swapped_in ? 1.1 * lost_s : std::max(lost_s, some_s));
    row.evidence = {worst->evidence};
    row.note = "tasks stood still for memory while the main thread slept in its arithmetic";
    if (swapped > kSwapNoise_bytes) row.note += ", swap grew by " + format_bytes(swapped);
    return row;
  }
  LedgerRow row =
      row_of_share(LedgerClass::memory, Share{std::min(full_s, room_s), 0}, How::derived);
  row.low_s = 0;
  row.high_s = std::min(room_s, std::max(full_s, worst->mem_some_s.value_or(full_s)));
  row.evidence = {worst->evidence};
  row.note = "all tasks of the host stood still for memory";
  if (swapped > kSwapNoise_bytes) row.note += ", swap grew by " + format_bytes(swapped);
  return row;
}

WorkRowsInput work_rows_input(const Facts& facts, const Whose& whose) {
  WorkRowsInput input;
  input.seen = &facts.work;
  input.split = whose.split;
  input.rank = whose.rank;
  input.critical_s = &facts.worked->critical_s;
  input.hosts = &facts.hosts;
  input.lone = facts.work.ranks.size() < 2;
  if (facts.by_phases) input.stated = step_rows_of(*facts.series, "phases of each step");
  return input;
}

LedgerRow sync_row(const Facts& facts, const Whose& whose) {
  if (facts.run->info.ranks_trained == 1 && facts.work.ranks.size() < 2) {
    return zero(LedgerClass::sync, How::derived, "one rank trained: nobody to wait for",
                {Evidence{"", "run.json", std::nullopt, std::nullopt, "ranks_trained"}});
  }
  const NcclSeen& nccl = facts.device.nccl;
  if (whose.split != nullptr && facts.device.worked && facts.device.windows == 0 &&
      nccl.observed_s <= 0 && whose.split->of(LedgerClass::sync).seconds < 0.1) {
    return not_known(LedgerClass::sync,
                     "what GPUs exchange is not seen: its seconds are in compute",
                     "a short trace (not with --profile none), or the NCCL plug-in");
  }
  if (whose.split != nullptr) {
    LedgerRow row = sync_row_of(work_rows_input(facts, whose));
    if (!facts.device.worked || nccl.observed_s <= 0) return row;
    row.evidence.push_back(
        Evidence{"", "profile/nccl.csv", std::nullopt, std::nullopt, "NCCL's collectives"});
    row.note += fmt::format("; NCCL was at work {} of the time", format_share(nccl.share()));
    if (facts.device.windows == 0) {
      row.how = How::derived;
      row.would_measure = "a short trace (not with --profile none) says how much compute hid";
    }
    return row;
  }
  return not_known(LedgerClass::sync, std::string(kInCompute),
                   "stack samples of every rank, or a short trace of the collectives");
}

LedgerRow host_row(const Facts& facts, const Whose& whose) {
  if (whose.split != nullptr) return host_row_of(work_rows_input(facts, whose));
  std::string note(kInCompute);
  for (const auto& host : facts.hosts) {
    if (!host.run_delay_s) continue;
    note += fmt::format("; threads waited {} for a CPU", format_duration(*host.run_delay_s));
    break;
  }
  return not_known(LedgerClass::host, note,
                   "stack samples beside each GPU's utilisation and the run-queue delay");
}

std::string unexplained_note(const Facts& facts, const Split& split, const Whose& whose) {
  if (whose.split != nullptr) return unexplained_parts(*whose.split);
  std::vector<std::string> parts;
  const auto part = [&](double seconds, const char* what) {
    if (seconds >= 0.05) parts.push_back(format_duration(seconds) + " " + what);
  };
  double stalled_s = 0;
  for (const auto& stall : split.stalls) stalled_s += stall.seconds;
  part(stalled_s, "in steps that stood still beside no event");
  part(split.around_events_s, "around saves and evaluations");
  part(split.before_end_s, "between the last step and the summary line");
  part(split.after_last_s, facts.run->state == RunState::running
                               ? "since the last step seen"
                               : "after the last step, before the record ends");
  return join(parts, ", ");
}

/// What stack samples measured goes before what steps and windows of the log and the file system
/// imply.
void use_work(const WorkSplit& work, Split& split) {
  split.startup = work.of(LedgerClass::startup);
  split.compute = work.of(LedgerClass::compute);
  split.checkpoint = work.of(LedgerClass::checkpoint);
  split.evaluation = work.of(LedgerClass::evaluation);
  split.teardown = work.of(LedgerClass::teardown);
  split.unexplained = work.of(LedgerClass::unexplained);
  split.stalls.clear();
}

/// Gives the seconds away in the rules' order and makes the rows sum to the wall time exactly.
std::vector<LedgerRow> rows_of(const Facts& facts, Split split, const Whose& whose = {}) {
  if (whose.split != nullptr) use_work(*whose.split, split);
  const double unplaced_s =
      facts.stated_evaluation_s - (split.evaluation.seconds + split.around_events_s);
  if (whose.split == nullptr && facts.evaluation_windows.empty() && unplaced_s > 0) {
    // Results whose lines waited in a buffer: their seconds are among the stalls, if anywhere.
    for (auto& stall : split.stalls) {
      const double moved_s =
          std::min(stall.seconds, facts.stated_evaluation_s - split.evaluation.seconds);
      stall.seconds -= moved_s;
      split.evaluation.add(moved_s);
      split.unexplained.seconds -= moved_s;
    }
    std::erase_if(split.stalls, [](const Stall& stall) { return stall.seconds <= 0; });
    if (facts.from_summary) {  // the totals hold them: no step stands out to have waited
      const double moved_s = std::clamp(facts.stated_evaluation_s - split.evaluation.seconds, 0.0,
                                        split.compute.seconds);
      split.compute.seconds -= moved_s;
      split.evaluation.add(moved_s);
    }
  }
  std::map<LedgerClass, LedgerRow> rows;
  rows[LedgerClass::startup] = startup_row(facts, split, whose);
  rows[LedgerClass::checkpoint] = checkpoint_row(facts, split, whose);
  rows[LedgerClass::evaluation] = evaluation_row(facts, split, whose);
  if (whose.split == nullptr && facts.evaluation_windows.empty() && facts.evaluations > 0) {
    rows[LedgerClass::evaluation].how = How::derived;
    rows[LedgerClass::evaluation].note += ", placed by their stated length";
  }
  rows[LedgerClass::teardown] = teardown_row(facts, split);
  double room_s = split.compute.seconds;
  for (const auto cls : {LedgerClass::throttle, LedgerClass::memory}) {
    LedgerRow row = cls == LedgerClass::throttle ? throttle_row(facts, room_s)
                                                 : memory_row(facts, room_s, whose);
    room_s -= row.seconds.value_or(0);
    if (row.high_s && row.low_s) {
      const double sd = (*row.high_s - *row.low_s) / (2 * 1.96);
      split.compute.variance += sd * sd;
    }
    rows[cls] = std::move(row);
  }
  split.compute.seconds = std::max(0.0, room_s);
  split.compute.variance += split.checkpoint.variance + split.evaluation.variance;
  rows[LedgerClass::compute] = compute_row(facts, split, whose);
  rows[LedgerClass::input] = whose.split != nullptr
                                 ? input_row_of(work_rows_input(facts, whose))
                                 : not_known(LedgerClass::input, std::string(kInCompute), kStacks);
  rows[LedgerClass::sync] = sync_row(facts, whose);
  rows[LedgerClass::host] = host_row(facts, whose);
  LedgerRow rest = row_of_share(LedgerClass::unexplained, split.unexplained, How::derived);
  rest.note = unexplained_note(facts, split, whose);
  rows[LedgerClass::unexplained] = std::move(rest);
  std::vector<LedgerRow> list;
  for (const auto cls : kLedgerClasses) list.push_back(std::move(rows[cls]));
  return list;
}

/// No instants of steps: what is stated is kept, the rest is unexplained.
std::vector<LedgerRow> rows_without_series(const Facts& facts) {
  const bool stated = facts.seen.stated_s.has_value();
  const std::string why = stated ? "lines arrived in bursts: instants are void"
                                 : "no training step was seen in the log";
  const std::string_view forms =
      "a log that rigwise reads: Hugging Face dict lines or bars, key=value or JSON lines";
  std::vector<LedgerRow> list;
  for (const auto cls : kLedgerClasses) list.push_back(not_known(cls, why, forms));
  const auto at = [&](LedgerClass cls) -> LedgerRow& {
    return list[static_cast<std::size_t>(cls)];
  };
  double room_s = facts.wall_s;
  const auto give = [&](LedgerClass cls, double seconds, How how, std::string note,
                        Evidence evidence) {
    LedgerRow row = row_of_share(cls, Share{std::clamp(seconds, 0.0, room_s), 0}, how);
    row.note = std::move(note);
    row.evidence = {std::move(evidence)};
    room_s -= *row.seconds;
    at(cls) = std::move(row);
  };
  if (stated && facts.stated_evaluation_s > 0) {
    give(LedgerClass::evaluation, facts.stated_evaluation_s, How::derived,
         "stated lengths, instants unknown", facts.evaluation_evidence);
  }
  if (stated) {
    give(LedgerClass::compute, *facts.seen.stated_s, How::assumed,
         "sum of the stated step times; saves may be among them",
         Evidence{"", "steps.csv", std::nullopt, std::nullopt, ""});
  }
  LedgerRow rest = row_of_share(LedgerClass::unexplained, Share{room_s, 0}, How::derived);
  rest.note = stated ? "where in the run the steps lie is not known" : why;
  rest.would_measure = facts.run->info.imported ? "a log with time stamps"
                       : stated                 ? "PYTHONUNBUFFERED=1, or a terminal"
                                                : std::string(forms);
  at(LedgerClass::unexplained) = std::move(rest);
  return list;
}

/// The last row takes the rounding of all others, and never goes below zero.
void close_sum(std::vector<LedgerRow>& rows, double wall_s) {
  double others_s = 0;
  for (const auto& row : rows) {
    if (row.cls != LedgerClass::unexplained) others_s += row.seconds.value_or(0);
  }
  LedgerRow& rest = rows.back();
  rest.seconds = wall_s - others_s;
  if (*rest.seconds < 0) {
    auto most =
        std::max_element(rows.begin(), rows.end() - 1, [](const LedgerRow& a, const LedgerRow& b) {
          return a.seconds.value_or(0) < b.seconds.value_or(0);
        });
    most->seconds = *most->seconds + *rest.seconds;
    rest.seconds = 0;
  }
  for (auto& row : rows) {
    if (!row.seconds) continue;
    row.low_s = std::min(row.low_s.value_or(*row.seconds), *row.seconds);
    row.high_s = std::max(row.high_s.value_or(*row.seconds), *row.seconds);
    row.saves_at_most_s = std::min(*row.high_s, wall_s);
  }
}

Bottleneck bottleneck_of(const std::vector<LedgerRow>& rows, double wall_s, bool steps_seen) {
  Bottleneck found;
  if (!steps_seen || wall_s <= 0) {
    found.why = "no training step was seen in the log, so nothing can be shown";
    found.next_step = std::string(ledger_rule("no-steps").next_step);
    return found;
  }
  const LedgerRow* worst = nullptr;
  for (const auto& row : rows) {
    const Rule* rule = bottleneck_rule(row.cls);
    if (rule == nullptr || !row.seconds || *row.seconds < rule->limit * wall_s) continue;
    const bool last_resort = row.cls == LedgerClass::unexplained && worst != nullptr;
    if (!last_resort && (worst == nullptr || *row.seconds > *worst->seconds)) worst = &row;
  }
  if (worst != nullptr) {
    const Rule& rule = *bottleneck_rule(worst->cls);
    found.cls = worst->cls;
    found.why = fmt::format("{} is {} of the wall time ({}); its threshold is {}",
                            to_string(worst->cls), format_share(*worst->seconds / wall_s),
                            format_duration(*worst->seconds), rule.threshold);
    found.next_step = std::string(rule.next_step);
    return found;
  }
  const double compute_s = row_of(rows, LedgerClass::compute)->seconds.value_or(0);
  found.cls = LedgerClass::compute;
  found.why = fmt::format("{} of the wall time is steps; nothing else reaches its threshold",
                          format_share(compute_s / wall_s));
  found.next_step = "data parallel ranks, a faster device, or shorter sequences";
  return found;
}

std::vector<RankLedger> rank_ledgers(const Facts& facts, const std::vector<LedgerRow>& rows,
                                     const SplitInput& whole) {
  std::map<int, RankLedger> ranks;
  const auto start = [&](int rank, const std::string& host) -> RankLedger& {
    RankLedger& ledger = ranks[rank];
    ledger.rank = rank;
    if (ledger.host.empty()) ledger.host = host;
    return ledger;
  };
  for (const auto& process : facts.ranks) start(process.rank, process.host);
  if (facts.worked) {
    const Split timeline = split_timeline(whole);
    for (std::size_t i = 0; i < facts.work.ranks.size(); ++i) {
      const RankWork& rank = facts.work.ranks[i];
      RankLedger& ledger = start(rank.rank, rank.host);
      ledger.rows = rows_of(facts, timeline, Whose{&facts.worked->ranks[i], &rank});
      close_sum(ledger.rows, facts.wall_s);
    }
  }
  for (const auto& series : facts.seen.ranks) {
    if (facts.worked) break;
    RankLedger& ledger = start(*series.rank, facts.run->info.host);
    Facts own = facts;
    own.series = series;
    SplitInput input = whole;
    input.steps = &series;
    ledger.rows = rows_of(own, split_timeline(input));
    close_sum(ledger.rows, facts.wall_s);
  }
  if (facts.run->info.ranks_trained == 1) {  // its rows are the run's
    if (ranks.empty()) start(0, facts.run->info.host);
    if (ranks.size() == 1) ranks.begin()->second.rows = rows;
  }
  std::vector<RankLedger> list;
  for (auto& [rank, ledger] : ranks) {
    const auto process = std::find_if(facts.ranks.begin(), facts.ranks.end(),
                                      [&, r = rank](const RankProcess& p) { return p.rank == r; });
    if (ledger.rows.empty()) continue;  // what it did is not told apart from the others
    if (process != facts.ranks.end()) {
      ledger.rows.front().note =
          fmt::format("process seen from {}", format_duration(process->first_seen_s));
    }
    list.push_back(std::move(ledger));
  }
  return list;
}

}  // namespace

Result<Ledger> make_ledger(const Run& run) {
  if (!std::isfinite(run.wall_s) || run.wall_s <= 0) {
    return Error{Errc::unavailable,
                 fmt::format("run {} has no wall time: nothing is recorded of it", run.info.name),
                 "record it again with rigwise run"};
  }
  RW_TRY(const Facts facts, gather_facts(run));
  Ledger ledger;
  ledger.run = run.info.name;
  ledger.wall_s = facts.wall_s;
  ledger.rules_version = kLedgerRulesVersion;
  std::optional<Split> split;
  if (facts.series) {
    SplitInput input;
    input.steps = &*facts.series;
    input.evaluations = facts.evaluation_windows;
    input.checkpoints = facts.checkpoint_windows;
    input.wall_s = facts.wall_s;
    input.train_end_s = facts.train_end_s;
    input.ended = facts.ended;
    split = split_timeline(input);
    const Whose whose{facts.worked ? &facts.worked->run : nullptr, nullptr};
    ledger.rows = rows_of(facts, *split, whose);
    if (facts.worked) split->stalls.clear();  // what was done in them is in the rows
    close_sum(ledger.rows, facts.wall_s);
    ledger.ranks = rank_ledgers(facts, ledger.rows, input);
    ledger.steps = facts.series->steps;
    if (split->pace && facts.series->counts_steps) {
      ledger.step_time_s = split->pace->step_s;
      ledger.step_time_half_width_s = split->pace->half_width_s;
    }
  } else {
    ledger.rows = rows_without_series(facts);
    close_sum(ledger.rows, facts.wall_s);
    ledger.steps = facts.seen.stated_steps;
  }
  const bool steps_seen = facts.series.has_value() || facts.seen.stated_s.has_value();
  ledger.bottleneck = bottleneck_of(ledger.rows, facts.wall_s, steps_seen);

  FindingInput input;
  input.run = &run;
  input.steps = &facts.seen;
  input.split = split ? &*split : nullptr;
  input.throttling = &facts.throttling;
  input.stretch = facts.stretch;
  input.hosts = facts.hosts;
  for (const auto& host : facts.hosts) {
    for (auto& view : see_file_systems(run, host.host)) {
      input.file_systems.push_back(std::move(view));
    }
  }
  input.largest_checkpoint_bytes = facts.largest_save_bytes;
  input.torn = facts.torn;
  input.straggler = straggler_of(facts);
  if (auto hangs = read_hangs(run)) input.hangs = std::move(hangs->rows);
  input.bad_rows = facts.step_rows.bad_rows + facts.events.bad_rows;
  ledger.findings = ledger_findings(input);
  return ledger;
}

}  // namespace rigwise
