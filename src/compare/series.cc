#include "compare/series.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/text.h"
#include "compare/rules.h"
#include "rigwise/stats.h"

namespace rigwise::compare_series {

using compare_data::RunData;

namespace {

bool is_time(const std::optional<double>& value) {
  return value && std::isfinite(*value) && *value > 0;
}

std::optional<double> step_of(const StepRecord& record) {
  if (record.step) return static_cast<double>(*record.step);
  if (record.bar_step) return static_cast<double>(*record.bar_step);
  return std::nullopt;
}

// ---------------------------------------------------------------------------------------------
// stated times

/// Seconds a step that the record itself states; `mean` tells a rate over several steps from the
/// time of one.
std::optional<double> stated_seconds(const StepRecord& record, const RunData& data, bool mean) {
  if (!mean) return is_time(record.step_time_s) ? record.step_time_s : std::nullopt;
  if (is_time(record.steps_per_s)) return 1 / *record.steps_per_s;
  if (is_time(record.samples_per_s) && data.global_batch) {
    const double scale = record.per_device ? data.ranks.value_or(1) : 1;
    return *data.global_batch / (*record.samples_per_s * scale);
  }
  return std::nullopt;
}

/// Step numbers that start again (a counter an epoch) go on counting, each rank by itself.
class StepCounter {
 public:
  double at(double raw, int rank) {
    Place& place = places_[rank];
    if (raw < place.last / 2 && place.last > 1) place.offset += place.last;
    place.last = raw;
    return raw + place.offset;
  }

 private:
  struct Place {
    double last = 0, offset = 0;
  };
  std::map<int, Place> places_;
};

/// Ranks that log the same step apart are merged to the slowest: that is the step's true time.
std::vector<Point> merge_ranks(const std::vector<Point>& points, const std::vector<int>& ranks,
                               Series& series) {
  struct Merged {
    Point point = {};
    int rank = 0;
    double fastest = 0;
  };
  std::map<double, std::size_t> place_of;
  std::vector<Merged> merged;
  bool several = false;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto [place, fresh] = place_of.try_emplace(points[i].step, merged.size());
    if (fresh) {
      merged.push_back({points[i], ranks[i], points[i].seconds});
      continue;
    }
    Merged& kept = merged[place->second];
    several = several || ranks[i] != kept.rank;
    kept.fastest = std::min(kept.fastest, points[i].seconds);
    kept.point.seconds = std::max(kept.point.seconds, points[i].seconds);
    kept.point.t_s = std::max(kept.point.t_s, points[i].t_s);
  }
  std::vector<Point> result;
  double spread = 0;
  for (const Merged& one : merged) {
    result.push_back(one.point);
    spread += one.point.seconds / one.fastest;
  }
  if (several) series.rank_spread = spread / static_cast<double>(merged.size());
  return result;
}

std::vector<Point> stated(const RunData& data, bool mean, Series& series) {
  std::vector<Point> points;
  std::vector<int> ranks;
  StepCounter counter;
  double order = 0;
  for (std::size_t i = 0; i < data.steps.rows.size(); ++i) {
    const StepRecord& record = data.steps.rows[i];
    if (record.kind != RecordKind::train) continue;
    const auto seconds = stated_seconds(record, data, mean);
    if (!seconds) continue;
    order += 1;
    const int rank = record.rank.value_or(0);
    points.push_back({.step = counter.at(step_of(record).value_or(order), rank),
                      .seconds = *seconds,
                      .t_s = record.t_s,
                      .row = i});
    ranks.push_back(rank);
  }
  points = merge_ranks(points, ranks, series);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const double gap = i == 0 ? (points.size() > 1 ? points[1].step - points[0].step : 1)
                              : points[i].step - points[i - 1].step;
    points[i].steps = std::max(1.0, gap);
  }
  return points;
}

// ---------------------------------------------------------------------------------------------
// receive times

/// Lines of one kind from one file and one rank, each with the step that it reached.
struct Track {
  std::vector<Point> marks = {};  // seconds unused; step non-decreasing
  double total = 0;               // of a bar
  bool bar = false;
};

/// The total of the training bar: what max_steps says, else the bar that is on show longest.
std::optional<std::int64_t> training_total(const RunData& data) {
  std::map<std::int64_t, std::pair<double, double>> span;  // total → first and last time
  for (const StepRecord& record : data.steps.rows) {
    if (record.kind != RecordKind::progress || !record.steps_total) continue;
    const auto [place, fresh] =
        span.try_emplace(*record.steps_total, std::pair{record.t_s, record.t_s});
    if (!fresh) place->second.second = record.t_s;
  }
  const auto stated = compare_data::fact_number(data, "max_steps");
  std::optional<std::int64_t> best;
  double longest = -1;
  for (const auto& [total, times] : span) {
    if (stated && static_cast<double>(total) == *stated) return total;
    if (times.second - times.first > longest) {
      longest = times.second - times.first;
      best = total;
    }
  }
  return best;
}

/// Adds a line to its track. A redraw of a counter that was seen is dropped; a counter that starts
/// again (a bar an epoch) goes on counting.
void add_mark(Track& track, double step, double t_s, std::size_t row, double& offset,
              double& last_raw) {
  if (!track.marks.empty() && step < last_raw) offset += last_raw;
  if (!track.marks.empty() && step == last_raw) return;
  last_raw = step;
  track.marks.push_back({.step = step + offset, .t_s = t_s, .row = row});
}

std::vector<Track> tracks_of(const RunData& data) {
  struct Building {
    Track track = {};
    double offset = 0, last_raw = 0;
  };
  std::map<std::string, Building> building;
  const auto total = training_total(data);
  for (std::size_t i = 0; i < data.steps.rows.size(); ++i) {
    const StepRecord& record = data.steps.rows[i];
    const bool bar = record.kind == RecordKind::progress && record.steps_total;
    if (bar && record.steps_total != total) continue;
    if (!bar && record.kind != RecordKind::train) continue;
    const std::string key =
        fmt::format("{}|{}|{}", bar ? "bar" : "line", record.log_file, record.rank.value_or(-1));
    Building& one = building[key];
    one.track.bar = bar;
    auto step = bar ? std::optional<double>(record.step ? static_cast<double>(*record.step) : -1)
                    : step_of(record);
    if (!step || *step < 0) continue;
    add_mark(one.track, *step, record.t_s, i, one.offset, one.last_raw);
  }
  std::vector<Track> tracks;
  for (auto& [key, one] : building) {
    if (one.track.marks.size() > 1) tracks.push_back(std::move(one.track));
  }
  // Finest first: most marks; ties in order of the key, so that the choice is always the same.
  std::stable_sort(tracks.begin(), tracks.end(),
                   [](const Track& a, const Track& b) { return a.marks.size() > b.marks.size(); });
  return tracks;
}

/// Do long gaps come after equally many short ones, as when a full buffer is handed over?
bool comes_in_bursts(const std::vector<double>& gaps) {
  const double large = *stats::quantile(gaps, 0.95);
  std::vector<std::size_t> bursts;
  std::size_t length = 0, small = 0;
  for (const double gap : gaps) {
    ++length;
    if (gap > 0.02 * large) {
      bursts.push_back(length);
      length = 0;
    } else {
      ++small;
    }
  }
  if (bursts.size() < 3 || 2 * small < gaps.size()) return false;
  std::map<std::size_t, std::size_t> counts;
  std::size_t most = 0;
  for (const std::size_t burst : bursts) most = std::max(most, ++counts[burst]);
  return static_cast<double>(most) >= 0.8 * static_cast<double>(bursts.size());
}

/// Why the times at which these lines were received say nothing about steps; empty where they do.
std::string why_void(const Track& track) {
  std::vector<double> gaps;
  std::size_t short_gaps = 0;
  for (std::size_t i = 1; i < track.marks.size(); ++i) {
    gaps.push_back(track.marks[i].t_s - track.marks[i - 1].t_s);
    if (gaps.back() < compare_rules::kVoidGap_s) ++short_gaps;
  }
  const double share = static_cast<double>(short_gaps) / static_cast<double>(gaps.size());
  if (share > compare_rules::kVoidGapShare) {
    return fmt::format("{:.0f} % of its lines came within 1 ms of the one before", 100 * share);
  }
  if (gaps.size() >= 20 && comes_in_bursts(gaps)) return "its lines came in bursts of equal size";
  return {};
}

std::vector<Point> from_track(const Track& track) {
  std::vector<Point> points;
  for (std::size_t i = 1; i < track.marks.size(); ++i) {
    Point point = track.marks[i];
    point.steps = track.marks[i].step - track.marks[i - 1].step;
    const double gap = track.marks[i].t_s - track.marks[i - 1].t_s;
    if (!(point.steps > 0) || !(gap > 0)) continue;
    point.seconds = gap / point.steps;
    points.push_back(point);
  }
  return points;
}

std::vector<Point> received(const RunData& data, Series& series) {
  for (const Track& track : tracks_of(data)) {
    if (const auto& first = data.steps.rows[track.marks.front().row];
        compare_data::is_untimed(*data.run, first)) {
      series.notes.push_back("no receive times: " + first.log_file + " states no instants");
      continue;
    }
    const std::string trouble = why_void(track);
    if (trouble.empty()) return from_track(track);
    const std::string& file = data.steps.rows[track.marks.front().row].log_file;
    series.notes.push_back(
        fmt::format("receive times void, the output was buffered: {} in {}; set PYTHONUNBUFFERED=1",
                    trouble, file.empty() ? "the log" : file));
  }
  return {};
}

/// The step of a printed clock: 1 s for a bar, the last decimal for a figure such as 12.34 (a zero
/// at its end is lost, which errs on the coarse side).
double grid_of(double seconds, bool bar) {
  if (bar) return 1;
  const std::string text = number_text(seconds);
  const auto dot = text.find('.');
  if (dot == std::string::npos) return 1;
  return std::pow(10.0, -static_cast<double>(text.size() - dot - 1));
}

/// Differences of a clock that the log itself prints beside the step: a bar's elapsed time, or the
/// seconds since training began in a train entry. Records of at least 20 grid steps keep the
/// rounding below 5 %.
std::vector<Point> from_clock(const RunData& data, bool bar) {
  const auto total = training_total(data);
  std::vector<Point> points;
  double step = -1, elapsed = 0;
  for (std::size_t i = 0; i < data.steps.rows.size(); ++i) {
    const StepRecord& record = data.steps.rows[i];
    if (record.kind != (bar ? RecordKind::progress : RecordKind::train)) continue;
    if (bar && record.steps_total != total) continue;
    const auto at = step_of(record);
    if (!at || !record.runtime_s || !std::isfinite(*record.runtime_s)) continue;
    if (step < 0 || *at < step || *record.runtime_s < elapsed) {
      step = *at;
      elapsed = *record.runtime_s;
      continue;
    }
    const double grid = std::max(grid_of(*record.runtime_s, bar), grid_of(elapsed, bar));
    if (*record.runtime_s - elapsed < 20 * grid || *at <= step) continue;
    points.push_back({.step = *at,
                      .steps = *at - step,
                      .seconds = (*record.runtime_s - elapsed) / (*at - step),
                      .t_s = record.t_s,
                      .row = i});
    step = *at;
    elapsed = *record.runtime_s;
  }
  return points;
}

std::vector<Point> from_summary(const RunData& data) {
  std::vector<Point> points;
  for (std::size_t i = 0; i < data.steps.rows.size(); ++i) {
    const StepRecord& record = data.steps.rows[i];
    if (record.kind != RecordKind::summary) continue;
    const auto steps = compare_data::fact_number(data, "max_steps");
    double seconds = 0;
    if (is_time(record.runtime_s) && steps && *steps > 0) {
      seconds = *record.runtime_s / *steps;
    } else if (is_time(record.steps_per_s)) {
      seconds = 1 / *record.steps_per_s;
    } else {
      continue;
    }
    points = {{.step = steps.value_or(1),
               .steps = steps.value_or(1),
               .seconds = seconds,
               .t_s = record.t_s,
               .row = i}};
  }
  return points;
}

void find_extent(const RunData& data, Series& series) {
  double last = 0;
  for (const Point& point : series.points) {
    series.steps_seen += point.steps;
    last = std::max(last, point.step);
  }
  const bool finished_well = ended_well(data.run->info);
  std::optional<double> planned = compare_data::fact_number(data, "max_steps");
  if (!planned || !(*planned > 0)) {
    const auto total = training_total(data);
    planned = total ? std::optional<double>(static_cast<double>(*total)) : std::nullopt;
  }
  // A run that was cut short can only be asked for the steps that it reached.
  series.steps_expected = finished_well && planned ? planned : std::optional<double>(last);
  if (series.points.empty() && !planned) series.steps_expected.reset();
  std::vector<double> widths;
  for (const Point& point : series.points) widths.push_back(point.steps);
  series.mean_of = stats::median(widths).value_or(1);
  // A difference of receive times loses the first record, a mean record its head.
  if (series.steps_seen > 0 && series.points.front().step > 0) {
    series.steps_seen +=
        std::clamp(series.points.front().step - series.points.front().steps, 0.0, series.mean_of);
  }
}

}  // namespace

Series extract(const RunData& data) {
  Series series;
  const auto take = [&](Source source, std::vector<Point> points, std::size_t least) {
    if (series.source != Source::none || points.size() < least) return;
    series.source = source;
    series.points = std::move(points);
  };
  take(Source::stated_step, stated(data, false, series), 5);
  if (series.source == Source::none) take(Source::stated_mean, stated(data, true, series), 5);
  if (series.source == Source::none) take(Source::receive_times, received(data, series), 5);
  if (series.source == Source::none) take(Source::stated_clock, from_clock(data, false), 5);
  if (series.source == Source::none) take(Source::bar_elapsed, from_clock(data, true), 3);
  if (series.source == Source::none) take(Source::summary, from_summary(data), 1);
  find_extent(data, series);
  return series;
}

void coarsen(Series& series, double steps) {
  if (series.source == Source::summary || !(steps > series.mean_of)) return;
  std::vector<Point> joined;
  Point open;
  double seconds = 0, covered = 0;
  for (const Point& point : series.points) {
    seconds += point.seconds * point.steps;
    covered += point.steps;
    open = point;
    if (covered < steps * 0.999) continue;
    open.steps = covered;
    open.seconds = seconds / covered;
    joined.push_back(open);
    seconds = covered = 0;
  }
  series.points = std::move(joined);
  series.mean_of = steps;
}

std::string_view to_string(Source source) {
  switch (source) {
    case Source::none:
      return "none";
    case Source::stated_step:
      return "stated by the log";
    case Source::stated_mean:
      return "means stated by the log";
    case Source::receive_times:
      return "receive times";
    case Source::stated_clock:
      return "clock stated by the log";
    case Source::bar_elapsed:
      return "bar";
    case Source::summary:
      return "summary";
  }
  return "?";
}

}  // namespace rigwise::compare_series
