// Series: a run's tables as lines to draw, thinned without losing an extreme.
//
// A point without a value is a gap: nothing was measured there, and no line may cross it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rigwise/report.h"

namespace rigwise::report {

struct Point {
  double t = 0;  // seconds since the command's start, or samples seen
  std::optional<double> v = {};
};

struct Series {
  std::string label = {};  // "GPU 0", "the run's processes", "/data"
  std::vector<Point> points = {};
};

/// One plot's lines of one run.
struct Panel {
  std::string key = {};   // "step_time", "gpu_util", …: the page knows title and unit
  std::string note = {};  // where the figures come from, or what is wrong with them
  std::vector<Series> series = {};
};

/// At most about `max_points` points (never more, for max_points ≥ 8): the first, the last, and of
/// every stretch between them its lowest and its highest value and its gap, in order of time.
std::vector<Point> thin(const std::vector<Point>& points, std::size_t max_points);

/// Seconds a step over time, by the best source the log has: stated step times, stated rates, else
/// receive times of successive step numbers.
Panel step_times(const ReportRun& run);
/// Losses over time; nan and inf are gaps, counted in the note.
Panel losses(const ReportRun& run);

enum class LossBasis { samples, tokens, steps, none };
/// The finest basis on which every run's losses can be placed.
LossBasis loss_basis(const std::vector<ReportRun>& runs);
/// Losses against samples, tokens or steps seen.
Panel losses_seen(const ReportRun& run, LossBasis basis);

/// GPU, CPU, memory and disk lines, one Panel a plot; panels without a single value are left out.
std::vector<Panel> machine_panels(const ReportRun& run);

}  // namespace rigwise::report
