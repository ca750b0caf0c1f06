// The data island of report.html: what web/src/data.ts reads. Internal to the page, without a
// version of its own: script and data always travel together.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "report/layout.h"
#include "report/page.h"
#include "report/series.h"

namespace rigwise::report {

namespace {
constexpr std::size_t kMaxEvents = 500;  // of one run

/// Four significant digits: finer than a plot can show, half the bytes.
double four_digits(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double magnitude = std::floor(std::log10(std::fabs(value)));
  if (magnitude >= 3)
    return std::round(value / std::pow(10, magnitude - 3)) * std::pow(10, magnitude - 3);
  const double scale = std::pow(10, 3 - magnitude);
  return std::round(value * scale) / scale;
}

/// Instants need a fixed step, not significant digits.
double instant(double t, double span) {
  const double scale = span < 100 ? 1000 : span < 10000 ? 100 : 10;
  return std::round(t * scale) / scale;
}

Json number(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == std::floor(value) && std::fabs(value) < 1e15)
    return static_cast<std::int64_t>(value);
  return value;
}

/// Of all points, not of the thinned ones, whose extremes would weigh too much.
void put_summary(Json& line, const std::vector<Point>& points) {
  std::vector<double> values;
  for (const Point& point : points) {
    if (point.v) values.push_back(*point.v);
  }
  if (values.empty()) return;
  line["last"] = number(four_digits(values.back()));
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  double median = *middle;
  if (values.size() % 2 == 0) median = (median + *std::max_element(values.begin(), middle)) / 2;
  line["median"] = number(four_digits(median));
  line["peak"] = number(four_digits(*std::max_element(middle, values.end())));
}

Json panel_json(const Panel& panel, std::size_t max_points) {
  Json lines = Json::array();
  for (const Series& series : panel.series) {
    const std::vector<Point> points = thin(series.points, max_points);
    const double span = points.empty() ? 0 : points.back().t - points.front().t;
    Json t = Json::array(), v = Json::array();
    for (const Point& point : points) {
      t.push_back(number(instant(point.t, span)));
      v.push_back(point.v ? number(four_digits(*point.v)) : Json(nullptr));
    }
    Json line = {{"label", series.label}, {"t", std::move(t)}, {"v", std::move(v)}};
    if (points.size() < series.points.size()) line["of"] = series.points.size();
    put_summary(line, series.points);
    lines.push_back(std::move(line));
  }
  Json object = {{"lines", std::move(lines)}};
  if (!panel.note.empty()) object["note"] = panel.note;
  return object;
}

int rank_of(EventKind kind) {  // what must stay when there are too many
  switch (kind) {
    case EventKind::error:
    case EventKind::checkpoint:
    case EventKind::evaluation:
    case EventKind::train_end:
      return 0;
    case EventKind::phase:
    case EventKind::throttle:
    case EventKind::gap:
      return 1;
    default:
      return 2;
  }
}

Json events_json(const ReportRun& run) {
  std::vector<const Event*> events;
  for (const Event& event : run.events.rows) events.push_back(&event);
  if (events.size() > kMaxEvents) {
    std::stable_sort(events.begin(), events.end(), [](const Event* a, const Event* b) {
      return rank_of(a->kind) < rank_of(b->kind);
    });
    events.resize(kMaxEvents);
  }
  std::stable_sort(events.begin(), events.end(),
                   [](const Event* a, const Event* b) { return a->t_s < b->t_s; });
  Json array = Json::array();
  for (const Event* event : events) {
    Json item = {{"kind", to_string(event->kind)}, {"t", number(instant(event->t_s, 0))}};
    if (event->t_end_s) item["e"] = number(instant(*event->t_end_s, 0));
    if (!event->name.empty()) item["name"] = safe(event->name, 120);
    if (!event->state.empty()) item["state"] = safe(event->state, 20);
    if (event->size_bytes) item["bytes"] = *event->size_bytes;
    if (!event->detail.empty()) item["detail"] = safe(event->detail, 160);
    array.push_back(std::move(item));
  }
  return array;
}

Json run_json(const ReportRun& run, int side, LossBasis basis, std::size_t max_points) {
  Json panels = Json::object();
  const auto add = [&](const Panel& panel) {
    if (!panel.series.empty() || !panel.note.empty())
      panels[panel.key] = panel_json(panel, max_points);
  };
  add(step_times(run));
  add(losses(run));
  add(losses_seen(run, basis));
  for (const Panel& panel : machine_panels(run)) add(panel);
  Json item = {
      {"id", run.run != nullptr ? safe(run.run->info.id, 120) : std::string()},
      {"name", run.run != nullptr ? safe(run.run->info.name, 80) : std::string("run")},
      {"side", side},
      {"wall_s", number(run.run != nullptr ? run.run->wall_s : 0)},
      {"events", events_json(run)},
      {"dropped_events",
       run.events.rows.size() > kMaxEvents ? run.events.rows.size() - kMaxEvents : std::size_t{0}},
      {"panels", std::move(panels)}};
  if (run.rig) {
    Json slow = Json::array();
    for (const GpuDevice& gpu : run.rig->gpus) {
      if (gpu.slowdown_c) slow.push_back(number(*gpu.slowdown_c));
    }
    if (!slow.empty()) item["slowdown_c"] = std::move(slow);
  }
  return item;
}

std::string_view basis_name(LossBasis basis) {
  switch (basis) {
    case LossBasis::samples:
      return "samples";
    case LossBasis::tokens:
      return "tokens";
    case LossBasis::steps:
      return "steps";
    case LossBasis::none:
      break;
  }
  return "";
}

/// Nothing in the text may end the <script> it stands in, or begin a comment there.
std::string inert_in_script(std::string json) {
  std::string out;
  out.reserve(json.size() + json.size() / 64);
  for (const char c : json) {
    switch (c) {
      case '<':
        out += "\\u003c";
        break;
      case '>':
        out += "\\u003e";
        break;
      case '&':
        out += "\\u0026";
        break;
      default:
        out += c;
    }
  }
  return out;
}
}  // namespace

std::string data_island(const Page& page) {
  const LossBasis basis = loss_basis(page.input.runs);
  const std::size_t max_points = std::clamp<std::size_t>(page.input.max_points, 16, 20000);
  Json runs = Json::array();
  for (std::size_t i = 0; i < page.input.runs.size(); ++i)
    runs.push_back(run_json(page.input.runs[i], page.side[i], basis, max_points));
  Json sides = Json::array();
  for (const std::string& name : page.side_name) {
    if (!name.empty()) sides.push_back(safe(name, 80));
  }
  const Json document = {
      {"sides", std::move(sides)}, {"loss_basis", basis_name(basis)}, {"runs", std::move(runs)}};
  return inert_in_script(document.dump(-1, ' ', true, Json::error_handler_t::replace));
}

}  // namespace rigwise::report
