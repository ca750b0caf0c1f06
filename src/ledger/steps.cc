#include "ledger/steps.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "rigwise/stats.h"

namespace rigwise {

namespace {

constexpr double kBurstGap_s = 0.001;
constexpr double kBurstShare = 0.20;
constexpr double kFinest = 1e-3;    // of the step time: receive times are no finer, whatever n is
constexpr double kCoarse_s = 0.25;  // bursts closer together than this lose nothing that matters

/// An instant at which `position` steps were done.
struct Tick {
  double t_s = 0;
  double position = 0;
  std::int64_t row = 0;
};

struct Stream {
  std::vector<Tick> ticks = {};
  bool bar = false;
  bool counts_steps = false;
  bool from_zero = false;  // the first tick is an empty bar
  std::optional<int> rank = {};
  std::string log_file = {};
  std::optional<std::int64_t> total = {};  // steps, as the stream states them
  double last_step = 0, offset = 0;
  double stated_s = 0;
  std::int64_t stated = 0;
  bool buffered = false;
  double share_below_1ms = 0;
};

using Key = std::tuple<std::string, bool, int>;  // file, bar, rank

bool is_training(const StepRecord& record) {
  return record.kind == RecordKind::train || record.kind == RecordKind::progress;
}

void add_tick(Stream& stream, const StepRecord& record, std::int64_t row, double wall_s) {
  const double t_s = std::clamp(record.t_s, 0.0, wall_s);
  std::optional<double> step;
  if (record.step) {
    step = static_cast<double>(*record.step);
  } else if (record.bar_step) {
    step = static_cast<double>(*record.bar_step);
  }
  // An empty bar of another length counted something else, such as rows made ready.
  if (record.steps_total && stream.total != record.steps_total) {
    if (stream.from_zero && stream.ticks.size() == 1) stream.ticks.clear();
    stream.total = record.steps_total;
  }
  const bool first = stream.ticks.empty();
  if (step) {
    stream.counts_steps = true;
    if (first) stream.from_zero = stream.bar && *step == 0;
    // A counter that falls far begins anew: the next epoch's bar, or a second training. One that
    // falls a little is another rank's late line, or steps done again after a restart.
    if (!first && (*step < stream.last_step / 2 || *step < 1) && stream.last_step >= 1) {
      stream.offset += stream.last_step;
    } else if (!first && *step <= stream.last_step) {
      return;
    }
    stream.last_step = *step;
    stream.ticks.push_back({t_s, stream.offset + *step, row});
  } else {
    const double next = first ? 1 : stream.ticks.back().position + 1;
    stream.ticks.push_back({t_s, next, row});
  }
  if (record.step_time_s && std::isfinite(*record.step_time_s) && *record.step_time_s > 0 &&
      !stream.bar) {
    const double steps =
        first ? 1 : stream.ticks.back().position - (stream.ticks.end() - 2)->position;
    stream.stated_s += *record.step_time_s * std::max(1.0, steps);
    ++stream.stated;
  }
}

/// Lines in bursts: the program's output waited in a buffer, so that instants say nothing.
void look_for_bursts(Stream& stream) {
  const auto& ticks = stream.ticks;
  if (ticks.size() < 3) return;
  std::size_t tight = 0;
  std::vector<double> wide_s;
  for (std::size_t i = 1; i < ticks.size(); ++i) {
    const double gap_s = ticks[i].t_s - ticks[i - 1].t_s;
    if (gap_s < kBurstGap_s) {
      ++tight;
    } else {
      wide_s.push_back(gap_s);
    }
  }
  stream.share_below_1ms = static_cast<double>(tight) / static_cast<double>(ticks.size() - 1);
  const double spacing_s = stats::median(wide_s).value_or(1e9);
  stream.buffered = stream.share_below_1ms > kBurstShare && spacing_s > kCoarse_s;
}

/// How many steps the first entry closes, where no empty bar shows the begin: as many as the
/// entries after it are apart, but no more than its own number.
double first_entry_steps(const std::vector<Tick>& ticks) {
  if (ticks.size() < 2) return 1;
  std::vector<double> apart;
  for (std::size_t i = 1; i < ticks.size(); ++i) {
    apart.push_back(ticks[i].position - ticks[i - 1].position);
  }
  const double usual = std::max(1.0, stats::median(apart).value_or(1));
  return ticks[0].position < 1 ? 1 : std::min(usual, ticks[0].position);
}

StepSeries series_of(const Stream& stream) {
  StepSeries series;
  const auto& ticks = stream.ticks;
  series.source = (stream.bar ? "bar in " : "entries in ") + stream.log_file;
  series.counts_steps = stream.counts_steps;
  series.rank = stream.rank;
  series.first_row = ticks.front().row;
  series.last_row = ticks.back().row;
  series.end_s = ticks.back().t_s;
  for (std::size_t i = 1; i < ticks.size(); ++i) {
    // The clock of a stream never runs back; a row that says so is taken as simultaneous.
    const double from_s = series.intervals.empty() ? ticks[0].t_s : series.intervals.back().to_s;
    series.intervals.push_back({from_s, std::max(from_s, ticks[i].t_s),
                                std::max(0.0, ticks[i].position - ticks[i - 1].position),
                                ticks[i].row});
  }
  if (!series.intervals.empty()) series.end_s = series.intervals.back().to_s;
  series.begin_s = series.begin_low_s = ticks.front().t_s;
  double steps = ticks.back().position - ticks.front().position;
  if (stream.from_zero) {
    series.begin_seen = true;
  } else {
    const double first_steps = first_entry_steps(ticks);
    const auto pace = pace_of(series.intervals, std::vector<double>(series.intervals.size()));
    const double lasted_s = pace ? pace->step_s * first_steps : 0;
    series.begin_s = std::max(0.0, ticks.front().t_s - lasted_s);
    series.begin_low_s = std::max(0.0, series.begin_s - lasted_s);
    series.intervals.insert(series.intervals.begin(),
                            {series.begin_s, ticks.front().t_s, first_steps, ticks.front().row});
    steps += first_steps;
  }
  if (stream.counts_steps) series.steps = static_cast<std::int64_t>(std::llround(steps));
  return series;
}

/// Ranks in step: a step is done when the slowest rank has done it.
Stream merged(const std::vector<const Stream*>& ranks) {
  Stream all = *ranks.front();
  all.rank.reset();
  std::map<double, Tick> by_position;
  for (const auto* stream : ranks) {
    for (const auto& tick : stream->ticks) {
      Tick& slot = by_position.try_emplace(tick.position, tick).first->second;
      if (tick.t_s > slot.t_s) slot = tick;
    }
  }
  all.ticks.clear();
  for (const auto& [position, tick] : by_position) all.ticks.push_back(tick);
  return all;
}

std::size_t distinct_instants(const Stream& stream) {
  std::size_t count = 0;
  double last_s = -1;
  for (const auto& tick : stream.ticks) {
    if (tick.t_s - last_s >= kBurstGap_s) ++count;
    last_s = tick.t_s;
  }
  return count;
}

}  // namespace

StepsSeen see_steps(const Rows<StepRecord>& rows, double wall_s,
                    const std::vector<std::string>& untimed) {
  StepsSeen seen;
  std::map<Key, Stream> streams;
  for (std::size_t i = 0; i < rows.rows.size(); ++i) {
    const StepRecord& record = rows.rows[i];
    if (!is_training(record) || !std::isfinite(record.t_s)) continue;
    ++seen.entries;
    const bool bar = record.log_format == "bar";
    Stream& stream = streams[Key{record.log_file, bar, record.rank.value_or(-1)}];
    stream.bar = bar;
    stream.rank = record.rank;
    stream.log_file = record.log_file;
    add_tick(stream, record, line_of(rows, i), wall_s);
  }
  std::vector<const Stream*> usable;
  for (auto& [key, stream] : streams) {
    if (std::find(untimed.begin(), untimed.end(), stream.log_file) != untimed.end()) {
      stream.buffered = true;
    } else {
      look_for_bursts(stream);
      seen.bursts = seen.bursts || stream.buffered;
    }
    seen.share_below_1ms = std::max(seen.share_below_1ms, stream.share_below_1ms);
    if (stream.buffered) {
      if (std::find(seen.buffered.begin(), seen.buffered.end(), stream.log_file) ==
          seen.buffered.end()) {
        seen.buffered.push_back(stream.log_file);
      }
      const bool longer = stream.stated_s > seen.stated_s.value_or(0);
      if (longer && stream.stated * 2 > static_cast<std::int64_t>(stream.ticks.size())) {
        seen.stated_s = stream.stated_s;
        seen.stated_steps = static_cast<std::int64_t>(
            std::llround(stream.ticks.back().position - stream.ticks.front().position + 1));
      }
    } else if (stream.ticks.size() >= 2 || (stream.ticks.size() == 1 && !stream.from_zero)) {
      usable.push_back(&stream);
    }
  }
  if (usable.empty()) return seen;
  const auto best =
      *std::max_element(usable.begin(), usable.end(), [](const Stream* a, const Stream* b) {
        return std::tuple(distinct_instants(*a), a->counts_steps, a->from_zero) <
               std::tuple(distinct_instants(*b), b->counts_steps, b->from_zero);
      });
  std::vector<const Stream*> ranks;
  for (const auto* stream : usable) {
    if (stream->rank && stream->bar == best->bar && stream->counts_steps) ranks.push_back(stream);
  }
  if (best->rank && ranks.size() >= 2) {
    std::sort(ranks.begin(), ranks.end(),
              [](const Stream* a, const Stream* b) { return *a->rank < *b->rank; });
    const Stream together = merged(ranks);
    seen.main = series_of(together);
    for (const auto* stream : ranks) seen.ranks.push_back(series_of(*stream));
  } else {
    seen.main = series_of(*best);
  }
  return seen;
}

std::optional<Pace> pace_of(const std::vector<StepInterval>& intervals,
                            const std::vector<double>& lost_s) {
  constexpr std::size_t kEnough = 3;
  std::vector<double> clean, corrected;
  std::vector<std::size_t> clean_at, all_at;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    const auto& interval = intervals[i];
    if (interval.steps < 1) continue;
    corrected.push_back(std::max(0.0, interval.length_s() - lost_s[i]) / interval.steps);
    all_at.push_back(i);
    if (lost_s[i] > 0) continue;
    clean.push_back(interval.length_s() / interval.steps);
    clean_at.push_back(i);
  }
  const bool enough = clean.size() >= kEnough && clean.size() * 4 >= corrected.size();
  const auto& values = enough ? clean : corrected;
  const auto& at = enough ? clean_at : all_at;
  const auto middle = stats::median(values);
  if (!middle) return std::nullopt;
  Pace pace;
  pace.step_s = *middle;
  std::vector<double> scaled;  // an interval of n steps spreads by sqrt(n) steps
  for (std::size_t k = 0; k < values.size(); ++k) {
    scaled.push_back((values[k] - *middle) * std::sqrt(intervals[at[k]].steps));
  }
  pace.spread_s = stats::robust_sd(scaled).value_or(0);
  if (values.size() >= 5) {
    // Standard error of a median under normal noise is 1.2533 times that of a mean.
    constexpr std::size_t kMost = 2048;  // the tail stands for the whole of a long run
    const std::size_t used = std::min(values.size(), kMost);
    const stats::Values tail(values.data() + (values.size() - used), used);
    const double share = stats::effective_sample_size(tail).ess / static_cast<double>(used);
    const double ess = std::max(2.0, share * static_cast<double>(values.size()));
    const double half_s = 1.96 * 1.2533 * stats::robust_sd(values).value_or(0) / std::sqrt(ess);
    pace.half_width_s = std::max(half_s, kFinest * *middle);
  }
  return pace;
}

}  // namespace rigwise
