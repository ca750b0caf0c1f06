// Thinning keeps extremes and gaps; step times come from the best source that the log has.
#include <gtest/gtest.h>

#include "report/series.h"
#include "unit/report_sample.h"

namespace rigwise::report {
namespace {

std::vector<Point> ramp(std::size_t n) {
  std::vector<Point> points;
  for (std::size_t i = 0; i < n; ++i)
    points.push_back({static_cast<double>(i), static_cast<double>(i % 97)});
  return points;
}

TEST(ReportThin, ShortSeriesAreLeftAlone) {
  EXPECT_EQ(thin(ramp(50), 50).size(), 50U);
  EXPECT_TRUE(thin({}, 10).empty());
}

TEST(ReportThin, KeepsExtremesGapsAndEnds) {
  for (const std::size_t limit : {8U, 16U, 100U, 1999U}) {
    auto points = ramp(28'800);
    points[12'345].v = 9000;
    points[20'001].v = -9000;
    points[7'000].v.reset();
    const auto thinned = thin(points, limit);
    EXPECT_LE(thinned.size(), limit);
    const auto holds = [&](std::optional<double> v) {
      return std::any_of(thinned.begin(), thinned.end(), [&](const Point& p) { return p.v == v; });
    };
    EXPECT_TRUE(holds(9000)) << limit;
    EXPECT_TRUE(holds(-9000)) << limit;
    EXPECT_TRUE(holds({})) << limit;
    EXPECT_EQ(thinned.front().t, 0);
    EXPECT_EQ(thinned.back().t, 28'799);
    EXPECT_TRUE(std::is_sorted(thinned.begin(), thinned.end(),
                               [](const Point& a, const Point& b) { return a.t < b.t; }));
  }
}

TEST(ReportThin, OnlyGaps) {
  std::vector<Point> points(1000);
  for (std::size_t i = 0; i < points.size(); ++i) points[i].t = static_cast<double>(i);
  EXPECT_LE(thin(points, 20).size(), 20U);
}

StepRecord train(double t_s, std::optional<std::int64_t> step, double loss) {
  StepRecord r;
  r.t_s = t_s;
  r.step = step;
  r.loss = loss;
  return r;
}
StepRecord bar(double t_s, std::int64_t step) {
  StepRecord r;
  r.t_s = t_s;
  r.kind = RecordKind::progress;
  r.step = step;
  return r;
}

TEST(ReportSeries, StatedStepTimesBeatReceiveTimes) {
  ReportRun run;
  for (int i = 1; i <= 4; ++i) {
    run.steps.rows.push_back(train(10.0 * i, i, 2));
    run.steps.rows.back().step_time_s = 1.5;
  }
  const Panel panel = step_times(run);
  ASSERT_EQ(panel.series.size(), 1U);
  EXPECT_EQ(panel.series[0].points[2].v, 1.5);
  EXPECT_NE(panel.note.find("states"), std::string::npos);
}

TEST(ReportSeries, RowsWithoutInstantsHaveNoPlaceInTime) {
  rigwise::Run imported;
  imported.info.untimed = {"log/out.log"};
  ReportRun run;
  run.run = &imported;
  for (int i = 1; i <= 4; ++i) {
    run.steps.rows.push_back(train(0, i, i == 2 ? std::nan("") : 2));
    run.steps.rows.back().step_time_s = 1.5;
    run.steps.rows.back().log_file = "log/out.log";
  }
  const Panel times = step_times(run);
  EXPECT_TRUE(times.series.empty());
  EXPECT_NE(times.note.find("no instants"), std::string::npos);
  const Panel loss = losses(run);
  EXPECT_TRUE(loss.series.empty() || loss.series[0].points.empty());
  EXPECT_EQ(loss.note, "1 of 4 losses are nan or inf");
  EXPECT_EQ(losses_seen(run, LossBasis::steps).series[0].points.size(), 4U);
}

TEST(ReportSeries, ReceiveTimesOverSeveralSteps) {
  ReportRun run;  // an entry every 10 steps
  for (int i = 1; i <= 5; ++i) run.steps.rows.push_back(train(20.0 * i, 10 * i, 2));
  const Panel panel = step_times(run);
  ASSERT_EQ(panel.series.size(), 1U);
  ASSERT_EQ(panel.series[0].points.size(), 4U);
  EXPECT_DOUBLE_EQ(*panel.series[0].points[0].v, 2.0);
}

TEST(ReportSeries, BarGivesStepsToEntriesWithoutOne) {
  ReportRun run;
  const rigwise::Run recorded = sample::run("x", 1, 60, 0);
  run.run = &recorded;
  for (int i = 1; i <= 20; ++i) {
    run.steps.rows.push_back(bar(i, i));
    if (i % 5 == 0) run.steps.rows.push_back(train(i + 0.1, {}, 3.0 - 0.1 * i));
  }
  EXPECT_EQ(loss_basis({run}), LossBasis::samples);
  const Panel seen = losses_seen(run, LossBasis::samples);
  ASSERT_EQ(seen.series.size(), 1U);
  EXPECT_EQ(seen.series[0].points.front().t, 40);  // step 5 at a batch of 8
  EXPECT_EQ(step_times(run).series[0].points.size(), 19U);
}

TEST(ReportSeries, OneRankOnly) {
  ReportRun run;
  for (int i = 1; i <= 4; ++i) {
    for (int rank = 0; rank < 2; ++rank) {
      run.steps.rows.push_back(train(i + 0.001 * rank, i, 2.0 + rank));
      run.steps.rows.back().rank = rank;
    }
  }
  const Panel panel = losses(run);
  ASSERT_EQ(panel.series.size(), 1U);
  EXPECT_EQ(panel.series[0].points.size(), 4U);
  EXPECT_EQ(panel.series[0].points[0].v, 2.0);
}

TEST(ReportSeries, CountersBecomeRatesAndRestartsGaps) {
  ReportRun run;
  const double totals[] = {5, 6, 8, 1, 2};
  for (int i = 0; i < 5; ++i) {
    HostSample s;
    s.t_s = i;
    s.tree_cpu_s = totals[i];
    run.host.rows.push_back(s);
  }
  const auto panels = machine_panels(run);
  ASSERT_EQ(panels.size(), 1U);
  const auto& points = panels[0].series[0].points;
  ASSERT_EQ(points.size(), 4U);
  EXPECT_EQ(points[0].v, 1.0);
  EXPECT_EQ(points[1].v, 2.0);
  EXPECT_FALSE(points[2].v.has_value());
  EXPECT_EQ(points[3].v, 1.0);
}

TEST(ReportSeries, AbsentIsAbsent) {
  EXPECT_TRUE(machine_panels({}).empty());
  EXPECT_TRUE(step_times({}).series.empty());
  EXPECT_EQ(loss_basis({}), LossBasis::none);
}

}  // namespace
}  // namespace rigwise::report
