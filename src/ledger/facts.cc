#include "ledger/facts.h"

#include <algorithm>
#include <cmath>

namespace rigwise {

namespace {

bool is_buffered(const Facts& facts, const std::string& log_file) {
  const auto has = [&](const std::vector<std::string>& files) {
    return std::find(files.begin(), files.end(), log_file) != files.end();
  };
  return has(facts.seen.buffered) || has(facts.run->info.untimed);
}

void extend(Evidence& evidence, const std::string& file, std::int64_t line) {
  evidence.file = file;
  if (line <= 0) return;
  if (!evidence.first_row) evidence.first_row = line;
  evidence.last_row = line;
}

/// A run of which only the totals are known: one interval that holds all steps.
void use_summary(Facts& facts) {
  const StepRecord* summary = nullptr;
  std::int64_t line = 0;
  for (std::size_t i = 0; i < facts.step_rows.rows.size(); ++i) {
    const auto& record = facts.step_rows.rows[i];
    if (record.kind != RecordKind::summary || !record.runtime_s) continue;
    if (!std::isfinite(*record.runtime_s) || !(*record.runtime_s > 0)) continue;
    summary = &record;
    line = line_of(facts.step_rows, i);
  }
  if (summary == nullptr) return;
  StepSeries series;
  const auto& untimed = facts.run->info.untimed;
  const bool placed = std::find(untimed.begin(), untimed.end(), summary->log_file) == untimed.end();
  series.end_s = placed ? std::clamp(summary->t_s, 0.0, facts.wall_s) : facts.wall_s;
  series.begin_s = std::max(0.0, series.end_s - *summary->runtime_s);
  series.begin_low_s = 0;
  series.first_row = series.last_row = line;
  series.source = "summary line in " + summary->log_file;
  double steps = 1;
  if (summary->steps_per_s && *summary->steps_per_s > 0) {
    steps = std::max(1.0, std::round(*summary->steps_per_s * *summary->runtime_s));
    series.steps = static_cast<std::int64_t>(std::min(steps, 1e15));
  }
  series.intervals.push_back({series.begin_s, series.end_s, steps, line});
  facts.series = series;
  facts.from_summary = true;
}

/// An evaluation known only by a result line that waited in a buffer: its instants say nothing.
bool waited_in_buffer(const Facts& facts, const Event& event) {
  if (facts.seen.buffered.empty() || event.how != "log" || event.detail.find("bar") == 0) {
    return false;
  }
  return std::any_of(
      facts.step_rows.rows.begin(), facts.step_rows.rows.end(), [&](const StepRecord& record) {
        return record.kind == RecordKind::eval && std::fabs(record.t_s - *event.t_end_s) < 0.01 &&
               is_buffered(facts, record.log_file);
      });
}

void read_log_events(Facts& facts) {
  std::vector<Window> evaluations, checkpoints;
  for (std::size_t i = 0; i < facts.events.rows.size(); ++i) {
    const Event& event = facts.events.rows[i];
    const std::int64_t line = line_of(facts.events, i);
    if (!std::isfinite(event.t_s)) continue;
    if (event.kind == EventKind::train_end && !facts.train_end_s) facts.train_end_s = event.t_s;
    if (event.kind == EventKind::evaluation && event.t_end_s && !waited_in_buffer(facts, event)) {
      evaluations.push_back({event.t_s, *event.t_end_s});
      extend(facts.evaluation_evidence, facts.events.file, line);
    }
    if (event.kind == EventKind::checkpoint && event.how != "log") {
      ++facts.saves;
      if (event.state == "open") ++facts.open_saves;
      facts.torn.last = event.state == "torn";
      if (facts.torn.last) {
        ++facts.torn.count;
        facts.torn.name = event.name;
        facts.torn.why = event.detail;
        extend(facts.torn.evidence, facts.events.file, line);
      }
      const auto bytes = static_cast<double>(event.size_bytes.value_or(0));
      facts.save_bytes += bytes;
      facts.largest_save_bytes = std::max(facts.largest_save_bytes, bytes);
      // Still being written when the record ends: the steps may be waiting for it.
      const double to_s = event.t_end_s.value_or(event.state == "open" ? facts.wall_s : event.t_s);
      checkpoints.push_back({event.t_s, to_s});
      extend(facts.save_evidence, facts.events.file, line);
    }
  }
  facts.evaluations = static_cast<std::int64_t>(evaluations.size());
  const bool told = !evaluations.empty();
  for (std::size_t i = 0; i < facts.step_rows.rows.size(); ++i) {
    const auto& record = facts.step_rows.rows[i];
    if (record.kind != RecordKind::eval || !record.runtime_s) continue;
    if (!std::isfinite(*record.runtime_s) || *record.runtime_s <= 0) continue;
    facts.stated_evaluation_s += *record.runtime_s;
    if (told) continue;
    ++facts.evaluations;
    extend(facts.evaluation_evidence, facts.step_rows.file, line_of(facts.step_rows, i));
    if (!is_buffered(facts, record.log_file)) {
      evaluations.push_back({record.t_s - *record.runtime_s, record.t_s});
    }
  }
  for (const auto& record : facts.step_rows.rows) {
    // A summary line that waited in a buffer does not say when training ended.
    if (record.kind == RecordKind::summary && is_buffered(facts, record.log_file) &&
        facts.train_end_s && *facts.train_end_s >= record.t_s - 0.01) {
      facts.train_end_s.reset();
    }
  }
  facts.evaluation_windows = united(std::move(evaluations), facts.wall_s);
  facts.checkpoint_windows = united(std::move(checkpoints), facts.wall_s);
}

Timeline timeline_of(const Facts& facts, const StepSeries& series) {
  Timeline time;
  time.wall_s = facts.wall_s;
  time.begin_s = series.begin_s;
  time.end_s = series.end_s;
  time.evaluations = facts.evaluation_windows;
  time.checkpoints = facts.checkpoint_windows;
  time.ended = facts.ended;
  return time;
}

/// What a rank's main thread ran and queued in a stretch, whatever it did: by the process's rows,
/// else by its spans.
RankHeld with_main(RankHeld held, const RankWork& rank, const Stretch& steps) {
  if (held.main_cpu_s && held.main_queued_s) return held;
  double cpu_s = 0, queued_s = 0;
  for (const auto& span : rank.spans) {
    if (span.to_s <= steps.from_s || span.from_s >= steps.to_s) continue;
    cpu_s += span.running_s, queued_s += span.queued_s;
  }
  held.main_cpu_s = std::min(cpu_s, held.cpu_s);
  held.main_queued_s = std::min(queued_s, held.queued_s);
  return held;
}

/// Where a rank's arithmetic is shared by threads, the others' waits for a CPU hold it up.
void note_teams(const Facts& facts, const Stretch& steps, WorkLedger& worked) {
  const bool several = worked.ranks.size() > 1;
  const auto led = std::max_element(worked.critical_s.begin(), worked.critical_s.end());
  for (const auto& held : see_held_ranks(*facts.run, steps, facts.numbers)) {
    for (std::size_t i = 0; i < facts.work.ranks.size(); ++i) {
      if (facts.work.ranks[i].rank != held.rank) continue;
      const RankHeld all = with_main(held, facts.work.ranks[i], steps);
      // Of evaluations and the like too: the steps' part is that of the main thread.
      const double main_cpu_s = *all.main_cpu_s;
      const double part =
          main_cpu_s > 0 ? std::min(1.0, worked.ranks[i].running_s / main_cpu_s) : 0;
      const double others_queued_s = part * std::max(0.0, all.queued_s - *all.main_queued_s);
      const double others_cpu_s = part * std::max(0.0, all.cpu_s - main_cpu_s);
      const bool leads = led - worked.critical_s.begin() == static_cast<std::ptrdiff_t>(i);
      if (leads) note_team(worked.run, others_queued_s, others_cpu_s, several);
      note_team(worked.ranks[i], others_queued_s, others_cpu_s, several);
    }
  }
}

/// Stack samples of every rank carry the rows where they cover the steps.
void use_stacks(Facts& facts) {
  constexpr double kLeastCover = 0.6;
  facts.work = see_work(*facts.run, facts.numbers);
  const auto trained = trained_by_stacks(facts.work);
  if (!trained) return;
  facts.device = see_devices(
      *facts.run, facts.series ? facts.stretch : Stretch{trained->from_s, trained->to_s});
  StepSeries series = facts.series.value_or(StepSeries{});
  const bool from_log = facts.series && !facts.from_summary;
  if (!from_log) {
    series.begin_s = trained->from_s;
    series.end_s = trained->to_s;
    series.counts_steps = facts.series.has_value();
    series.intervals = {{series.begin_s, series.end_s, 1, series.first_row}};
    series.source = "stack samples";
  } else {
    // An empty bar is drawn before the first batch is fetched; other lines come after a step.
    series.begin_s =
        series.begin_seen ? std::min(series.begin_s, trained->from_s) : trained->from_s;
    // The last steps of a run may have had no line of their own.
    series.end_s = std::max(series.end_s, trained->to_s);
  }
  series.begin_seen = true;
  series.begin_s = std::clamp(series.begin_s, 0.0, facts.wall_s);
  series.end_s = std::clamp(series.end_s, series.begin_s, facts.wall_s);
  WorkInput input;
  input.seen = &facts.work;
  input.time = timeline_of(facts, series);
  input.devices = facts.device.worked;
  WorkLedger worked = split_by_work(input);
  if (facts.device.worked) {
    const bool several = facts.work.ranks.size() > 1;
    give_to_device(worked.run, facts.device, several);
    for (WorkSplit& rank : worked.ranks) give_to_device(rank, facts.device, several);
  } else {  // threads share the arithmetic
    note_teams(facts, {series.begin_s, series.end_s}, worked);
  }
  if (worked.run.covered_s < kLeastCover * (series.end_s - series.begin_s)) return;
  facts.series = std::move(series);
  facts.stretch = {facts.series->begin_s, facts.series->end_s};
  facts.from_summary = false;
  facts.worked = std::move(worked);
}

/// Steps that state their phases carry the rows: nothing sampled is finer.
void use_phases(Facts& facts) {
  if (!facts.series) return;
  StepSeries series = *facts.series;
  const auto first =
      std::find_if(facts.step_rows.rows.begin(), facts.step_rows.rows.end(),
                   [](const StepRecord& record) { return record.input_s.has_value(); });
  if (first == facts.step_rows.rows.end()) return;
  if (!series.begin_seen && !series.intervals.empty() && first->step_time_s) {
    // How long the first step took is stated, not reckoned from the others' pace.
    const double lasted_s = std::clamp(*first->step_time_s, 0.0, series.intervals.front().to_s);
    series.begin_s = series.intervals.front().to_s - lasted_s;
    series.begin_seen = true;
  }
  PhasesInput input;
  input.rows = &facts.step_rows;
  input.time = timeline_of(facts, series);
  input.held = see_held_ranks(*facts.run, facts.stretch, facts.numbers);
  auto split = split_by_phases(input);
  if (!split) return;
  facts.series = std::move(series);
  facts.stretch = {facts.series->begin_s, facts.series->end_s};
  facts.worked.emplace();
  facts.worked->run = std::move(split->run);
  for (auto& [number, rows] : split->ranks) {
    RankWork& rank = facts.work.ranks.emplace_back();
    rank.rank = number;
    rank.host = facts.run->info.host;
    facts.worked->ranks.push_back(std::move(rows));
    facts.worked->critical_s.push_back(split->critical_s[number]);
  }
  facts.by_phases = true;
}

}  // namespace

Result<Facts> gather_facts(const Run& run) {
  Facts facts;
  facts.run = &run;
  facts.wall_s = run.wall_s;
  facts.unwatched_end = run.info.end_unwatched;
  facts.unread_end = facts.unwatched_end || run.info.log_end_unread;
  facts.ended =
      (run.state == RunState::finished || run.info.ending.has_value()) && !facts.unread_end;
  facts.numbers = rank_numbers(run);
  RW_TRY(facts.step_rows, read_steps(run));
  RW_TRY(facts.events, read_events(run));
  facts.seen = see_steps(facts.step_rows, facts.wall_s, run.info.untimed);
  facts.series = facts.seen.main;
  if (!facts.series && !facts.seen.stated_s) use_summary(facts);
  read_log_events(facts);
  facts.stretch =
      facts.series ? Stretch{facts.series->begin_s, facts.series->end_s} : Stretch{0, facts.wall_s};
  use_phases(facts);
  if (!facts.by_phases) use_stacks(facts);
  for (const auto& host : hosts_of(run)) {
    facts.hosts.push_back(see_host(run, host, facts.stretch));
    for (auto& rank : see_ranks(run, host, facts.numbers[host]))
      facts.ranks.push_back(std::move(rank));
  }
  facts.throttling = see_throttling(run, facts.stretch);
  return facts;
}

}  // namespace rigwise
