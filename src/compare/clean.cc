// Cleaning: warm-up, level shifts, events (compare.md 3.1), on logarithms of step time.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compare/rules.h"
#include "compare/series.h"
#include "rigwise/stats.h"
#include "rigwise/units.h"

namespace rigwise::compare_series {

using compare_data::RunData;

namespace {

std::vector<double> logs_of(const Series& series) {
  std::vector<double> logs;
  logs.reserve(series.points.size());
  for (const Point& point : series.points) logs.push_back(std::log(point.seconds));
  return logs;
}

/// Level shifts after a third of the run; earlier ones belong to the warm-up.
std::size_t first_late_shift(const std::vector<double>& logs) {
  for (const stats::ChangePoint& shift :
       stats::change_points(logs, {.min_segment = compare_rules::kChangeSegment,
                                  .min_shift = compare_rules::kChangeShift})) {
    if (shift.index >= logs.size() / 3) return shift.index;
  }
  return 0;
}

/// The second half is the yardstick of warm-up. Where the speed changed in mid-run it is the wrong
/// one for the start, and the first level's own second half takes its place.
std::size_t find_warm_up(const std::vector<double>& logs, bool& steady) {
  const stats::Warmup whole = stats::detect_warm_up(logs);
  steady = whole.steady;
  if (whole.steady) return whole.drop;
  const std::size_t shift = first_late_shift(logs);
  if (shift >= 2 * static_cast<std::size_t>(compare_rules::kChangeSegment)) {
    const stats::Warmup first = stats::detect_warm_up(std::span(logs).first(shift));
    steady = first.steady;
    if (first.steady) return first.drop;
  }
  return whole.drop;
}

struct Stretch {
  double from = 0, to = 0;
  std::string what = {};
};

/// Stretches of time that the log or the file system names.
std::vector<Stretch> named_stretches(const RunData& data) {
  std::vector<Stretch> stretches;
  for (const Event& event : data.events.rows) {
    switch (event.kind) {
      case EventKind::checkpoint:
      case EventKind::evaluation:
      case EventKind::profile_window:
      case EventKind::recorder:
      case EventKind::gap:
        stretches.push_back({event.t_s, event.t_end_s.value_or(event.t_s),
                             std::string(rigwise::to_string(event.kind))});
        break;
      default:
        break;
    }
  }
  for (const StepRecord& record : data.steps.rows) {
    if (record.kind != RecordKind::eval) continue;
    const double took = record.runtime_s.value_or(0);
    stretches.push_back({record.t_s - (std::isfinite(took) ? took : 0), record.t_s, "evaluation"});
  }
  std::sort(stretches.begin(), stretches.end(),
            [](const Stretch& a, const Stretch& b) { return a.from < b.from; });
  return stretches;
}

std::string name_of(const Point& point, const std::vector<Stretch>& stretches) {
  const double from = point.t_s - point.seconds * point.steps;
  std::string checkpoint;
  for (const Stretch& stretch : stretches) {
    if (stretch.from > point.t_s) break;
    if (stretch.to < from) continue;
    if (stretch.what == "evaluation") return stretch.what;
    checkpoint = stretch.what;
  }
  return checkpoint;
}

/// Marks the events of records [from, to), against the median and spread of that stretch alone.
void mark_events(Series& series, const std::vector<double>& logs, std::size_t from, std::size_t to,
                 const std::vector<Stretch>& stretches) {
  const std::span<const double> part(logs.data() + from, to - from);
  for (const std::size_t i :
       stats::outliers(part, compare_rules::kEventSds, compare_rules::kEventLeastLog)) {
    Point& point = series.points[from + i];
    point.event = name_of(point, stretches);
    point.state = point.event.empty() ? PointState::unexplained : PointState::event;
  }
}

}  // namespace

void clean(Series& series, const RunData& data) {
  series.clean.clear();
  series.last_level.clear();
  const std::vector<double> logs = logs_of(series);
  if (series.source == Source::summary) {
    series.clean = series.last_level = logs;
    return;
  }
  if (logs.size() < 6) return;
  const std::size_t warm = find_warm_up(logs, series.steady);
  for (std::size_t i = 0; i < warm; ++i) series.points[i].state = PointState::warm_up;

  const std::span<const double> rest = std::span(logs).subspan(warm);
  std::vector<std::size_t> edges{warm};
  for (const stats::ChangePoint& shift :
       stats::change_points(rest, {.min_segment = compare_rules::kChangeSegment,
                                  .min_shift = compare_rules::kChangeShift})) {
    edges.push_back(warm + shift.index);
    series.shifts.push_back(
        {series.points[warm + shift.index].step, std::exp(shift.before), std::exp(shift.after)});
  }
  edges.push_back(logs.size());
  const std::vector<Stretch> stretches = named_stretches(data);
  for (std::size_t e = 0; e + 1 < edges.size(); ++e) {
    mark_events(series, logs, edges[e], edges[e + 1], stretches);
  }
  const std::size_t last_edge = edges[edges.size() - 2];
  for (std::size_t i = warm; i < logs.size(); ++i) {
    if (series.points[i].state != PointState::clean) continue;
    series.clean.push_back(logs[i]);
    if (i >= last_edge) series.last_level.push_back(logs[i]);
  }
  series.last_part = 2 * (logs.size() - last_edge) >= logs.size() - warm;
}

SeriesSummary summary_of(const Series& series, const RunData& data) {
  SeriesSummary summary;
  summary.run = data.label;
  summary.total = static_cast<int>(series.points.size());
  summary.clean = static_cast<int>(series.clean.size());
  for (const Point& point : series.points) {
    if (point.state == PointState::warm_up) ++summary.warm_up;
    if (point.state == PointState::event) ++summary.events;
    if (point.state == PointState::unexplained) ++summary.unexplained_events;
  }
  if (const auto middle = stats::median(series.clean)) {
    summary.median_s = std::exp(*middle);
    summary.ess = stats::effective_sample_size(series.clean).ess;
  }
  for (const LevelShift& shift : series.shifts) summary.change_points.push_back(shift.step);
  summary.source = std::string(to_string(series.source));
  if (series.source == Source::none) {
    summary.trouble = series.notes.empty() ? "the log shows no step times" : series.notes.front();
  } else if (series.source == Source::summary) {
    summary.trouble = "only the closing summary states a time: warm-up and events are in it";
  } else if (!series.steady) {
    summary.trouble = "never steady: the step time did not settle within a third of the run";
  } else if (!series.shifts.empty()) {
    const LevelShift& shift = series.shifts.back();
    summary.trouble =
        fmt::format("speed changed in mid-run: from {} to {} at step {:.0f}",
                    format_duration(shift.before_s), format_duration(shift.after_s), shift.step);
  } else if (!series.notes.empty()) {
    summary.trouble = series.notes.front();
  }
  return summary;
}

}  // namespace rigwise::compare_series
