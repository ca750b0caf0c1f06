// The page: inert, whole, honest about what is missing. RIGWISE_SAMPLE_PAGES=FOLDER makes the test
// leave its pages there, to look at and for page_html_test.py to read.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <limits>

#include "base/json.h"
#include "unit/report_sample.h"

namespace rigwise {
namespace {

constexpr const char* kScript = "</script><script>alert(1)</script>";
constexpr const char* kImage = "<img src=x onerror=alert(2)>";
constexpr const char* kTerminal = "\x1b[31mred\x1b]0;title\x07 \xE2\x80\xAEreversed";
constexpr const char* kQuote = "\" onmouseover=\"alert(3)' x='";

std::string keep(const std::string& name, std::string page) {
  if (const char* folder = std::getenv("RIGWISE_SAMPLE_PAGES"))
    std::ofstream(std::string(folder) + "/" + name + ".html") << page;
  return page;
}

std::size_t times(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

Json island(const std::string& page) {
  const std::string open = "id=\"data\">";
  const std::size_t begin = page.find(open) + open.size();
  auto parsed = parse_json(page.substr(begin, page.find("</script>", begin) - begin));
  return parsed ? std::move(*parsed) : Json();
}

TEST(ReportPage, WholeExperiment) {
  const sample::Experiment experiment(3);
  const std::string page = keep("experiment", report_html(experiment.page));
  EXPECT_NE(page.find("<span class=\"lead\">FIX ANOTHER BOTTLENECK FIRST:</span> input."),
            std::string::npos);
  EXPECT_EQ(times(page, "<div class=\"col\">"), 6U);  // a column a run
  EXPECT_NE(page.find("href=\"../../20261120-180010-single/steps.csv\""), std::string::npos);
  EXPECT_NE(page.find("sealed 2026-11-20"), std::string::npos);
  EXPECT_EQ(page.find("://"), page.find("://www.w3.org/2000/svg"));  // no address on a network
  const Json data = island(page);
  ASSERT_EQ(data["runs"].size(), 6U);
  EXPECT_EQ(data["sides"], Json({"single", "two-gpu"}));
  EXPECT_EQ(data["loss_basis"], "samples");
  EXPECT_EQ(data["runs"][3]["side"], 1);
  EXPECT_EQ(data["runs"][3]["panels"]["gpu_util"]["lines"].size(), 2U);
  // 30 s without a reading of GPU 0 is a gap, not a line.
  const Json& values = data["runs"][3]["panels"]["gpu_util"]["lines"][0]["v"];
  EXPECT_EQ(std::count(values.begin(), values.end(), Json(nullptr)), 1);
}

TEST(ReportPage, OneRunASide) {
  const sample::Experiment experiment(1);
  keep("pair", report_html(experiment.page));
}

TEST(ReportPage, OneRun) {
  const sample::Experiment experiment(1);
  ReportInput input;
  input.runs.push_back(experiment.page.runs.back());
  const std::string page = keep("one", report_html(input));
  EXPECT_NE(
      page.find("Input holds this run back: removing it saves at most 71&nbsp;s (19&nbsp;%)."),
      std::string::npos);
}

TEST(ReportPage, NothingAtAll) {
  const std::string page = keep("nothing", report_html({}));
  EXPECT_NE(page.find("Nothing was recorded."), std::string::npos);
}

TEST(ReportPage, NothingIsMeasured) {
  rigwise::Run run = sample::run("bare", 1, 3, 0);
  run.info.recorder.reset();
  run.info.log_reading.reset();
  run.info.facts.clear();
  run.missing = {"watch/rig.gpu.csv: absent"};
  Ledger ledger;
  ledger.run = run.info.id;
  ledger.wall_s = 3;
  ledger.rows = {sample::row(LedgerClass::unexplained, 3, 0, How::measured, "no step was seen")};
  ReportInput input;
  ReportRun one;
  one.run = &run;
  one.ledger = &ledger;
  input.runs.push_back(one);
  const std::string page = keep("bare", report_html(input));
  EXPECT_NE(page.find("not measured"), std::string::npos);
  EXPECT_NE(page.find("watch/rig.gpu.csv: absent"), std::string::npos);
  EXPECT_TRUE(island(page)["runs"][0]["panels"].empty() ||
              !island(page)["runs"][0]["panels"].contains("gpu_util"));
}

TEST(ReportPage, HostileWordsStayWords) {
  sample::Experiment experiment(1);
  for (rigwise::Run* run : {&experiment.a[0], &experiment.b[0]}) {
    run->info.command = {"python", kScript, kImage, kTerminal, kQuote};
    run->info.cwd = kImage;
    run->info.host = kScript;
    run->info.warnings = {kImage, kScript};
    run->missing = {kTerminal, kQuote};
  }
  for (Ledger* ledger : {&experiment.ledgers_a[0], &experiment.ledgers_b[0]}) {
    for (LedgerRow& row : ledger->rows) {
      row.note = std::string(kScript) + kImage;
      row.would_measure = kQuote;
      row.evidence = {sample::evidence(kScript, "../../../etc/passwd", 1, 2, kImage),
                      sample::evidence(ledger->run, "javascript:alert(1)", 1, 2, kImage)};
    }
    ledger->bottleneck.why = kScript;
    for (Finding& finding : ledger->findings) finding.claim = kImage;
  }
  Comparison& compared = experiment.compared;
  compared.blockers = {kScript};
  compared.smallest_change = kImage;
  compared.fields.push_back(
      {kScript, kImage, kQuote, Impact::blocks, Impact::blocks, false, kTerminal, {}});
  compared.side_effects.push_back({kScript, kImage, kQuote, kTerminal, {}});
  Decision& decided = experiment.decided;
  decided.experiment = kScript;
  decided.fix = kImage;
  decided.next_action = kQuote;
  decided.amendments = {kScript, kTerminal};
  decided.statement.threshold = kImage;
  decided.reasons.push_back({kScript, {}});
  for (ReportRun& run : experiment.page.runs) {
    run.environment.versions[kScript] = kImage;
    run.environment.facts["git_commit"] = kImage;
    run.environment.variables["PATH"] = run.run == &experiment.a[0] ? kQuote : kScript;
    run.events.rows.push_back({5,
                               6.0,
                               EventKind::warning,
                               kScript,
                               kImage,
                               {},
                               {},
                               {},
                               {},
                               kQuote,
                               std::string(kTerminal) + "<!-- -->"});
    run.disk.rows.push_back({1, kScript, {}, {}, {}, {}, {}, {}, {}, {}, {}, 1e9, {}});
  }
  const std::string page = keep("hostile", report_html(experiment.page));
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_EQ(page.find("<img"), std::string::npos);
  EXPECT_EQ(page.find("<!--"), std::string::npos);
  EXPECT_EQ(page.find('\x1b'), std::string::npos);
  EXPECT_EQ(page.find("\xE2\x80\xAE"), std::string::npos);
  EXPECT_EQ(page.find("href=\"javascript"), std::string::npos);
  EXPECT_EQ(page.find("etc/passwd\""), std::string::npos);
  EXPECT_EQ(times(page, "</script>"), 2U);
  const Json data = island(page);
  ASSERT_EQ(data["runs"].size(), 2U);
  EXPECT_NE(data["runs"][0]["events"].dump().find("<script>"), std::string::npos);  // as words
}

TEST(ReportPage, SummariesAreOfAllPoints) {
  const rigwise::Run run = sample::run("long", 1, 9000, 0);
  ReportInput input;
  ReportRun one;
  one.run = &run;
  for (int s = 0; s < 9000; ++s) {
    GpuSample sample;
    sample.t_s = s;
    sample.util_frac = s % 100 == 0 ? 0.0 : 0.9;  // thinning keeps every 0
    one.gpu.rows.push_back(sample);
  }
  input.runs.push_back(one);
  input.max_points = 200;
  const Json line =
      island(keep("long", report_html(input)))["runs"][0]["panels"]["gpu_util"]["lines"][0];
  EXPECT_LE(line["t"].size(), 200U);
  EXPECT_EQ(line["of"], 9000);
  EXPECT_EQ(line["median"], 90);
  EXPECT_EQ(line["peak"], 90);
}

TEST(ReportPage, BrokenUtf8AndNumbers) {
  sample::Experiment experiment(1);
  experiment.a[0].info.name = "bad\xff\xfe";
  experiment.ledgers_a[0].rows[0].note = "\xc3(";
  auto& steps = experiment.page.runs[0].steps.rows;
  steps[10].loss = std::numeric_limits<double>::quiet_NaN();
  steps[11].loss = std::numeric_limits<double>::infinity();
  const std::string page = keep("broken", report_html(experiment.page));
  const Json data = island(page);
  ASSERT_TRUE(data.is_object());
  EXPECT_NE(data["runs"][0]["panels"]["loss"]["note"].get<std::string>().find("2 of 200 losses"),
            std::string::npos);
}

}  // namespace
}  // namespace rigwise
