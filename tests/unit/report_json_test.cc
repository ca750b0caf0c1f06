// JSON documents parse back and hold the fields that docs/json.md promises.
#include <gtest/gtest.h>

#include <limits>

#include "base/json.h"
#include "unit/report_sample.h"

namespace rigwise {
namespace {

Json parsed(const std::string& text) {
  EXPECT_EQ(text.back(), '\n');
  auto json = parse_json(text);
  EXPECT_TRUE(json.ok());
  return json ? std::move(*json) : Json();
}

TEST(ReportJson, Run) {
  const Json json = parsed(run_json(sample::run("two-gpu", 2, 372, 0)));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["name"], "two-gpu");
  EXPECT_EQ(json["state"], "finished");
  EXPECT_EQ(json["exit_status"], 0);
  EXPECT_TRUE(json["signal"].is_null());
  EXPECT_EQ(json["wall_s"], 372);
  EXPECT_EQ(json["ranks_asked"], 2);
  EXPECT_EQ(json["ranks_trained"], 2);
  EXPECT_TRUE(json["missing"].is_array());
  EXPECT_EQ(json["recorder"]["cpu_s"], 0.61);
  EXPECT_EQ(json["recorder"]["peak_rss_bytes"], 14.2e6);
  EXPECT_EQ(json["recorder"]["longest_tick_s"], 0.012);
}

TEST(ReportJson, RunningRunHasItsKeys) {
  rigwise::Run run;
  run.info.name = "x";
  const Json json = parsed(run_json(run));
  for (const char* key : {"exit_status", "signal", "ranks_asked", "ranks_trained"})
    EXPECT_TRUE(json.contains(key) && json[key].is_null()) << key;
  EXPECT_TRUE(json["recorder"]["cpu_s"].is_null());
  EXPECT_EQ(json["state"], "running");
}

TEST(ReportJson, Runs) {
  const Json json = parsed(runs_json({sample::run("a", 1, 5, 0), sample::run("b", 1, 6, 0)}));
  EXPECT_EQ(json["schema"], 1);
  ASSERT_EQ(json["runs"].size(), 2U);
  EXPECT_EQ(json["runs"][1]["name"], "b");
  EXPECT_EQ(parsed(runs_json({}))["runs"].size(), 0U);
}

TEST(ReportJson, LedgerRowsSumToTheWall) {
  const Ledger ledger = sample::two_gpu_ledger("two-gpu");
  const Json json = parsed(ledger_json(ledger));
  double sum = 0;
  for (const Json& row : json["rows"]) {
    sum += row["seconds"].get<double>();
    for (const char* key : {"class", "low_s", "high_s", "how", "evidence", "saves_at_most_s"})
      EXPECT_TRUE(row.contains(key)) << key;
  }
  EXPECT_NEAR(sum, json["wall_s"].get<double>(), 1e-9);
  // What was not measured is not in the sum, and is no zero.
  ASSERT_EQ(json["not_measured"].size(), 1U);
  EXPECT_EQ(json["not_measured"][0]["class"], "memory");
  EXPECT_FALSE(json["not_measured"][0].contains("seconds"));
  EXPECT_EQ(json["bottleneck"]["class"], "input");
  EXPECT_EQ(json["rules_version"], 1);
  EXPECT_EQ(json["ranks"].size(), 2U);
  EXPECT_EQ(json["ranks"][1]["rank"], 1);
  EXPECT_EQ(json["rows"][0]["evidence"][0]["file"], "events.csv");
}

TEST(ReportJson, LedgerThatShowsNothing) {
  Ledger ledger;
  ledger.wall_s = 4;
  const Json json = parsed(ledger_json(ledger));
  EXPECT_TRUE(json["bottleneck"]["class"].is_null());
}

TEST(ReportJson, Comparison) {
  const sample::Experiment experiment(3);
  const Json json = parsed(comparison_json(experiment.compared));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["comparable"], "caveats");
  EXPECT_TRUE(json["blockers"].is_array());
  EXPECT_EQ(json["verdict"], "faster");
  EXPECT_EQ(json["effect"]["metric"], "step_time_per_sample");
  EXPECT_EQ(json["effect"]["percent"], -38.8);
  EXPECT_EQ(json["effect"]["runs_b"], 3);
  EXPECT_EQ(json["loss"]["verdict"], "equivalent");
  EXPECT_EQ(json["efficiency"], 0.815);
  EXPECT_TRUE(json["fields"][2]["a"].is_null());
  const Json empty = parsed(comparison_json({}));
  for (const char* key : {"effect", "loss", "efficiency"})
    EXPECT_TRUE(empty.contains(key) && empty[key].is_null()) << key;
}

TEST(ReportJson, Decision) {
  const Json json = parsed(decision_json(sample::decision("a", "b")));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["verdict"], "fix_first");
  EXPECT_EQ(json["fix"], "input");
  ASSERT_EQ(json["reasons"].size(), 2U);
  EXPECT_TRUE(json["reasons"][0].is_string());
  EXPECT_TRUE(json["next_action"].is_string());
  EXPECT_TRUE(parsed(decision_json({}))["fix"].is_null());
}

TEST(ReportJson, BrokenBytesAndNumbersStillParse) {
  rigwise::Run run = sample::run("x", 1, 1, 0);
  run.info.command = {"\xff\xfe", "\x1b[31m", "</script>"};
  run.wall_s = std::numeric_limits<double>::quiet_NaN();
  const Json json = parsed(run_json(run));
  EXPECT_EQ(json["wall_s"], "nan");
  EXPECT_EQ(json["command"][2], "</script>");
}

}  // namespace
}  // namespace rigwise
