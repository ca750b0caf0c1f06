#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/files.h"
#include "base/json.h"
#include "ledger/rules.h"
#include "rigwise/ledger.h"
#include "unit/ledger_made_run.h"

namespace rigwise {
namespace {

using made::Folder;
using made::Maker;

Ledger ledger_of(const Run& run) {
  auto ledger = make_ledger(run);
  EXPECT_TRUE(ledger.ok()) << (ledger.ok() ? "" : ledger.error().message);
  return ledger.ok() ? *ledger : Ledger{};
}

double seconds(const Ledger& ledger, LedgerClass cls) {
  const LedgerRow* row = row_of(ledger.rows, cls);
  return row != nullptr && row->seconds ? *row->seconds : std::nan("");
}
const LedgerRow& row(const Ledger& ledger, LedgerClass cls) {
  return *row_of(ledger.rows, cls);
}
bool has_finding(const Ledger& ledger, const std::string& id) {
  for (const auto& finding : ledger.findings) {
    if (finding.id == id) return true;
  }
  return false;
}

/// The promise: printed as JSON and read back, the rows sum to the wall time; none is negative;
/// every interval holds its value.
void expect_sums(const std::vector<LedgerRow>& rows, double wall_s) {
  ASSERT_EQ(rows.size(), kLedgerClasses.size());
  Json printed = Json::array();
  for (const auto& r : rows) {
    if (r.seconds) printed.push_back(*r.seconds);
  }
  const auto read = parse_json(printed.dump());
  ASSERT_TRUE(read.ok());
  double sum_s = 0;
  for (const auto& value : *read) sum_s += value.get<double>();
  EXPECT_NEAR(sum_s, wall_s, 1e-9);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& r = rows[i];
    EXPECT_EQ(r.cls, kLedgerClasses[i]);
    if (!r.seconds) {
      EXPECT_FALSE(r.note.empty()) << to_string(r.cls);
      continue;
    }
    EXPECT_GE(*r.seconds, 0) << to_string(r.cls);
    EXPECT_LE(*r.low_s, *r.seconds) << to_string(r.cls);
    EXPECT_GE(*r.high_s, *r.seconds) << to_string(r.cls);
    EXPECT_GE(*r.low_s, 0);
    EXPECT_TRUE(r.saves_at_most_s.has_value());
  }
}
void expect_sums(const Ledger& ledger) {
  expect_sums(ledger.rows, ledger.wall_s);
  for (const auto& rank : ledger.ranks) expect_sums(rank.rows, ledger.wall_s);
}

TEST(Ledger, HealthyRunIsCompute) {
  const Folder folder;
  Maker maker(folder.path(), "single");
  const double end_s = maker.bar(6.25, 200, 0.3);
  maker.train_end(end_s + 0.5);
  maker.host(70);
  maker.rank_process(0, 1, 68);
  const Ledger ledger = ledger_of(maker.finish(69.1));
  expect_sums(ledger);
  EXPECT_NEAR(seconds(ledger, LedgerClass::startup), 6.25, 0.01);
  EXPECT_EQ(row(ledger, LedgerClass::startup).how, How::measured);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 60, 0.01);
  EXPECT_EQ(row(ledger, LedgerClass::compute).how, How::assumed);
  EXPECT_NEAR(seconds(ledger, LedgerClass::unexplained), 0.5, 0.01);
  EXPECT_NEAR(seconds(ledger, LedgerClass::teardown), 2.35, 0.01);
  EXPECT_EQ(seconds(ledger, LedgerClass::checkpoint), 0);
  EXPECT_EQ(seconds(ledger, LedgerClass::memory), 0);
  EXPECT_EQ(seconds(ledger, LedgerClass::sync), 0);
  EXPECT_FALSE(row(ledger, LedgerClass::input).seconds.has_value());
  EXPECT_FALSE(row(ledger, LedgerClass::throttle).seconds.has_value());
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::compute);
  EXPECT_EQ(ledger.bottleneck.why,
            "87 % of the wall time is steps; nothing else reaches its threshold");
  EXPECT_EQ(ledger.steps, 200);
  EXPECT_NEAR(*ledger.step_time_s, 0.3, 1e-6);
  ASSERT_EQ(ledger.ranks.size(), 1u);
  EXPECT_TRUE(ledger.findings.empty());
  EXPECT_EQ(row(ledger, LedgerClass::compute).evidence[0].file, "steps.csv");
  EXPECT_EQ(row(ledger, LedgerClass::compute).evidence[0].first_row, 2);
  EXPECT_EQ(row(ledger, LedgerClass::compute).evidence[0].last_row, 202);
}

TEST(Ledger, CheckpointsCountOnlyWhereStepsStoodStill) {
  const Folder folder;
  Maker maker(folder.path(), "saves");
  // Every 50th step is followed by a save of 6 s that steps 51, 101 … wait for.
  const auto wait = [](int k) { return k % 50 == 1 && k > 1 ? 6.0 : 0.0; };
  const double end_s = maker.bar(10, 200, 0.5, wait);
  double t_s = 10;
  for (int k = 1; k <= 200; ++k) {
    t_s += 0.5 + wait(k);
    if (k % 50 == 0 && k < 200) maker.checkpoint(t_s + 0.2, t_s + 6.0);
    if (k == 120) maker.checkpoint(t_s, t_s + 3);  // in the background
  }
  maker.checkpoint(end_s + 0.1, end_s + 4.1);  // the last one, after the last step
  maker.train_end(end_s + 4.5);
  maker.host(end_s + 6);
  const Ledger ledger = ledger_of(maker.finish(end_s + 6));
  expect_sums(ledger);
  EXPECT_NEAR(seconds(ledger, LedgerClass::checkpoint), 3 * 5.8 + 4, 0.05);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 100 + 3 * 0.2, 0.05);
  const auto& checkpoint = row(ledger, LedgerClass::checkpoint);
  EXPECT_EQ(checkpoint.how, How::measured);
  EXPECT_EQ(checkpoint.note, "5 saves, 312 MB each, steps stood still");
  EXPECT_EQ(checkpoint.evidence[0].file, "events.csv");
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::checkpoint);
  EXPECT_FALSE(has_finding(ledger, "step-stalled"));
}

TEST(Ledger, TornCheckpointsAreTold) {
  const Folder folder;
  Maker maker(folder.path(), "torn");
  const double end_s = maker.bar(10, 200, 0.5, [](int) { return 0.0; });
  maker.checkpoint(40, 41);
  maker.checkpoint(end_s + 0.1, end_s + 4.1, 100e6, "torn");
  maker.train_end(end_s + 4.5);
  maker.host(end_s + 6);
  const Ledger ledger = ledger_of(maker.finish(end_s + 6));
  const std::string& note = row(ledger, LedgerClass::checkpoint).note;
  EXPECT_NE(note.find(", 1 torn"), std::string::npos) << note;
  ASSERT_TRUE(has_finding(ledger, "checkpoint-torn"));
  EXPECT_EQ(ledger.findings[0].id, "checkpoint-torn");
  EXPECT_EQ(ledger.findings[0].severity, Severity::critical);
  EXPECT_NE(ledger.findings[0].claim.find("shorter than its header says"), std::string::npos);
}

TEST(Ledger, EvaluationsFromTheLog) {
  const Folder folder;
  Maker maker(folder.path(), "evals");
  const auto wait = [](int k) { return k == 101 ? 20.0 : 0.0; };
  const double end_s = maker.bar(5, 200, 0.5, wait);
  maker.evaluation(55.1, 74.8);
  maker.evaluation(end_s + 0.5, end_s + 20.5);  // after the last step
  maker.host(end_s + 25);
  const Ledger ledger = ledger_of(maker.finish(end_s + 22));
  expect_sums(ledger);
  EXPECT_NEAR(seconds(ledger, LedgerClass::evaluation), 39.7, 0.05);
  EXPECT_NEAR(seconds(ledger, LedgerClass::teardown), 2, 0.05);
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::evaluation);
}

TEST(Ledger, FirstStepsAboveThePaceBelongToStartup) {
  const Folder folder;
  Maker maker(folder.path(), "compile");
  const double end_s = maker.bar(5, 100, 0.5, [](int k) {
    return k == 1 ? 30.0 : k == 2 ? 4.0 : 0.0;
  });
  const Ledger ledger = ledger_of(maker.finish(end_s));
  expect_sums(ledger);
  EXPECT_NEAR(seconds(ledger, LedgerClass::startup), 39, 0.05);
  EXPECT_NE(row(ledger, LedgerClass::startup).note.find("first steps 34.0 s above the pace"),
            std::string::npos)
      << row(ledger, LedgerClass::startup).note;
}

TEST(Ledger, AStallBesideNoEventIsUnexplained) {
  const Folder folder;
  Maker maker(folder.path(), "stall");
  const double end_s =
      maker.bar(5, 100, 0.5, [](int k) { return k == 60 ? 12.0 : (k % 3) * 0.01; });
  const Ledger ledger = ledger_of(maker.finish(end_s));
  expect_sums(ledger);
  EXPECT_NEAR(seconds(ledger, LedgerClass::unexplained), 12, 0.1);
  ASSERT_TRUE(has_finding(ledger, "step-stalled"));
  EXPECT_EQ(ledger.findings[0].claim,
            "1 step stood still for 12.0 s in all with no event beside it; the longest 12.0 s at "
            "35.1 s.");
  EXPECT_EQ(ledger.findings[0].evidence[0].first_row, 62);
}

TEST(Ledger, KeyValueLinesWithoutABar) {
  const Folder folder;
  Maker maker(folder.path(), "lines");
  for (int k = 1; k <= 20; ++k) maker.line(8 + 3.0 * k, 10 * k);  // ten steps of 0.3 s a line
  const Ledger ledger = ledger_of(maker.finish(70));
  expect_sums(ledger);
  EXPECT_NEAR(seconds(ledger, LedgerClass::startup), 8, 0.01);
  EXPECT_EQ(row(ledger, LedgerClass::startup).how, How::derived);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 60, 0.01);
  EXPECT_EQ(ledger.steps, 200);
  EXPECT_NEAR(*ledger.step_time_s, 0.3, 1e-9);
}

TEST(Ledger, NoStepsAtAll) {
  const Folder folder;
  Maker maker(folder.path(), "silent");
  maker.host(20);
  const Ledger ledger = ledger_of(maker.finish(20));
  expect_sums(ledger);
  EXPECT_EQ(seconds(ledger, LedgerClass::unexplained), 20);
  EXPECT_FALSE(row(ledger, LedgerClass::startup).seconds.has_value());
  EXPECT_EQ(ledger.bottleneck.cls, std::nullopt);
  EXPECT_TRUE(has_finding(ledger, "no-steps"));
  EXPECT_NE(row(ledger, LedgerClass::unexplained).would_measure.find("Hugging Face"),
            std::string::npos);
}

TEST(Ledger, SummaryLineOnly) {
  const Folder folder;
  Maker maker(folder.path(), "summary");
  StepRecord summary;
  summary.kind = RecordKind::summary;
  summary.t_s = 58;
  summary.runtime_s = 50;
  summary.steps_per_s = 2;
  summary.log_file = "log/out.log";
  maker.add(summary);
  maker.checkpoint(40, 45);
  const Ledger ledger = ledger_of(maker.finish(60));
  expect_sums(ledger);
  EXPECT_NEAR(seconds(ledger, LedgerClass::startup), 8, 1e-9);
  EXPECT_NEAR(seconds(ledger, LedgerClass::compute), 45, 1e-9);
  EXPECT_NEAR(seconds(ledger, LedgerClass::checkpoint), 5, 1e-9);
  EXPECT_EQ(row(ledger, LedgerClass::startup).how, How::derived);
  EXPECT_EQ(ledger.steps, 100);
}

TEST(Ledger, BufferedOutputIsSaidAndNotBelieved) {
  const Folder folder;
  Maker maker(folder.path(), "buffered");
  for (int k = 1; k <= 90; ++k) maker.line(20.0 * ((k + 29) / 30), k);  // three bursts
  const Ledger ledger = ledger_of(maker.finish(63));
  expect_sums(ledger);
  EXPECT_TRUE(has_finding(ledger, "output-buffered"));
  EXPECT_NEAR(seconds(ledger, LedgerClass::unexplained), 63, 1e-9);

  // The same beside a bar on stderr: the bar's instants stand.
  Maker both(folder.path(), "both");
  for (int k = 1; k <= 90; ++k) both.line(20.0 * ((k + 29) / 30), k);
  both.bar(3, 90, 0.6);
  const Ledger good = ledger_of(both.finish(63));
  expect_sums(good);
  EXPECT_NEAR(seconds(good, LedgerClass::compute), 54, 0.01);
  ASSERT_TRUE(has_finding(good, "output-buffered"));
  EXPECT_EQ(good.findings[0].severity, Severity::info);
}

TEST(Ledger, TwoRankStreamsFollowTheSlowest) {
  const Folder folder;
  Maker maker(folder.path(), "two");
  maker.info.ranks_asked = maker.info.ranks_trained = 2;
  for (int k = 1; k <= 40; ++k) {
    maker.line(5 + k * 1.0, k, 0, "log/rank0.log");
    maker.line(5 + k * 1.0 + 0.2, k, 1, "log/rank1.log");
  }
  maker.rank_process(0, 1, 47);
  maker.rank_process(1, 3, 47);
  const Ledger ledger = ledger_of(maker.finish(48));
  expect_sums(ledger);
  ASSERT_EQ(ledger.ranks.size(), 2u);
  EXPECT_EQ(ledger.ranks[1].rank, 1);
  EXPECT_EQ(ledger.ranks[1].rows[0].note, "process seen from 3.00 s");
  EXPECT_NEAR(*row_of(ledger.ranks[0].rows, LedgerClass::teardown)->seconds, 3, 0.01);
  EXPECT_NEAR(*row_of(ledger.ranks[1].rows, LedgerClass::teardown)->seconds, 2.8, 0.01);
  EXPECT_NEAR(seconds(ledger, LedgerClass::teardown), 2.8, 0.01);
  EXPECT_FALSE(row(ledger, LedgerClass::sync).seconds.has_value());
}

TEST(Ledger, RanksMissingIsCritical) {
  const Folder folder;
  Maker maker(folder.path(), "accelerate");
  maker.bar(5, 50, 0.5);
  maker.info.ranks_asked = 2;
  maker.info.ranks_trained = 1;
  maker.info.ranks_why = "accelerate launch --num_processes 2; one process trained";
  const Ledger ledger = ledger_of(maker.finish(31));
  ASSERT_FALSE(ledger.findings.empty());
  EXPECT_EQ(ledger.findings[0].id, "ranks-missing");
  EXPECT_EQ(ledger.findings[0].severity, Severity::critical);
  EXPECT_EQ(ledger.findings[0].claim, "2 ranks were asked for, 1 trained.");
}

TEST(Ledger, FailedTornAndDyingRuns) {
  const Folder folder;
  Maker failed(folder.path(), "failed");
  failed.bar(5, 20, 0.5);
  failed.host(16);
  const Ledger bad = ledger_of(failed.finish(17, 1));
  expect_sums(bad);
  EXPECT_EQ(row(bad, LedgerClass::teardown).note, "exit 1");

  Maker torn(folder.path(), "torn");
  torn.bar(5, 20, 0.5);
  torn.host(30);
  const Ledger half = ledger_of(torn.torn());
  expect_sums(half);
  EXPECT_FALSE(row(half, LedgerClass::teardown).seconds.has_value());
  EXPECT_GT(seconds(half, LedgerClass::unexplained), 14);
  EXPECT_TRUE(has_finding(half, "recorder-died"));

  Maker lost(folder.path(), "lost");
  lost.bar(5, 200, 0.5);
  lost.host(20);  // samples end at 20 s of 110 s
  lost.info.end_unwatched = true;
  const Ledger blind = ledger_of(lost.finish(110));
  expect_sums(blind);
  EXPECT_TRUE(has_finding(blind, "recorder-died"));
  EXPECT_FALSE(row(blind, LedgerClass::checkpoint).seconds.has_value());

  // Flags decide, not the words of `missing`.
  Maker wordy(folder.path(), "wordy");
  wordy.bar(5, 200, 0.5);
  wordy.host(110);
  wordy.info.missing = {"watch/lab.net.csv: 1 row could not be written by the recorder",
                        "a checkpoint of inotify"};
  const Ledger whole = ledger_of(wordy.finish(110));
  EXPECT_FALSE(has_finding(whole, "recorder-died"));
  EXPECT_EQ(row(whole, LedgerClass::checkpoint).seconds, 0.0);
  EXPECT_TRUE(row(whole, LedgerClass::teardown).seconds.has_value());

  Maker cut(folder.path(), "cut");
  cut.bar(5, 200, 0.5);
  cut.host(110);
  cut.info.log_end_unread = true;
  cut.info.checkpoints_unwatched = true;
  const Ledger deaf = ledger_of(cut.finish(110));
  expect_sums(deaf);
  EXPECT_FALSE(has_finding(deaf, "recorder-died"));
  EXPECT_FALSE(row(deaf, LedgerClass::teardown).seconds.has_value());
  EXPECT_FALSE(row(deaf, LedgerClass::evaluation).seconds.has_value());
  EXPECT_FALSE(row(deaf, LedgerClass::checkpoint).seconds.has_value());
}

TEST(Ledger, MachineFindings) {
  const Folder folder;
  Maker maker(folder.path(), "machine");
  maker.bar(5, 100, 0.5);
  Rig rig;
  rig.host = "rig";
  rig.cpus_allowed = 2;
  ASSERT_TRUE(maker.writer().write(rig).ok());
  maker.host(60, [&](HostSample& sample) {
    sample.others_cpu_s = sample.t_s * 0.5;
    sample.tree_run_delay_s = sample.t_s * 0.4;
    sample.top_other = "chrome:4127";
    if (sample.t_s > 30) *sample.wall_unix_s -= 3600;
    if (sample.t_s > 40) sample.psi_mem_full_s = 2;
  });
  DiskSample disk;
  disk.t_s = 50;
  disk.device = "/data";
  disk.fs_total_bytes = 1e12;
  disk.fs_free_bytes = 5e8;
  maker.add(disk);
  maker.checkpoint(30.1, 30.3, 312e6);
  maker.info.log_reading = ReadStatistics{900, 95, 700, 10, 17, "{'loss': 2."};
  const Ledger ledger = ledger_of(maker.finish(60));
  expect_sums(ledger);
  for (const char* id :
       {"other-programs-took-cpu", "clock-jumped", "disk-nearly-full", "log-lossy"}) {
    EXPECT_TRUE(has_finding(ledger, id)) << id;
  }
  EXPECT_NEAR(seconds(ledger, LedgerClass::memory), 2, 1e-9);
  EXPECT_EQ(row(ledger, LedgerClass::memory).how, How::derived);
  EXPECT_EQ(ledger.findings[0].id, "disk-nearly-full");
  EXPECT_EQ(ledger.findings[0].claim,
            "/data has 500 MB of 1.0 TB left; one checkpoint takes 312 MB.");
}

TEST(Ledger, ClocksHeldDown) {
  const Folder folder;
  Maker maker(folder.path(), "hot");
  maker.bar(5, 100, 0.5);
  for (int t = 0; t < 60; ++t) {
    for (int gpu = 0; gpu < 2; ++gpu) {
      GpuSample sample;
      sample.t_s = t;
      sample.gpu = gpu;
      const bool hot = gpu == 1 && t > 25;
      sample.sm_clock_mhz = hot ? 1200 : 1600;
      sample.sm_clock_max_mhz = 2100;
      sample.held_sw_thermal_s = hot ? t - 25.0 : 0.0;
      sample.held_power_s = 0;
      maker.add(sample);
    }
  }
  const Ledger ledger = ledger_of(maker.finish(60));
  expect_sums(ledger);
  // 30 s held of the steps' 50, at three quarters of the free clock.
  EXPECT_NEAR(seconds(ledger, LedgerClass::throttle), 30 * 0.25, 0.01);
  EXPECT_EQ(row(ledger, LedgerClass::throttle).how, How::derived);
  EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::throttle);
  EXPECT_TRUE(has_finding(ledger, "clocks-held"));

  // Held for six seconds of ten. The clock is read just when a stretch begins or has ended, and the
  // counter comes a second late once in each.
  Maker pulsed(folder.path(), "pulsed");
  pulsed.bar(5, 100, 0.5);
  int held_s = 0;
  for (int t = 0; t < 60; ++t) {
    GpuSample sample;
    sample.t_s = t;
    sample.sm_clock_mhz = t % 10 < 6 ? 800 : 1600;
    sample.sm_clock_max_mhz = 2100;
    sample.held_power_s = t % 10 == 3 ? held_s - 1 : held_s;
    held_s += t % 10 < 6 ? 1 : 0;
    pulsed.add(sample);
  }
  EXPECT_NEAR(seconds(ledger_of(pulsed.finish(60)), LedgerClass::throttle), 30 * 0.5, 0.6);

  Maker cool(folder.path(), "cool");
  cool.bar(5, 100, 0.5);
  for (int t = 0; t < 60; ++t) {
    GpuSample sample;
    sample.t_s = t;
    sample.held_power_s = 3.5;  // from before the run
    cool.add(sample);
  }
  const Ledger quiet = ledger_of(cool.finish(60));
  EXPECT_EQ(seconds(quiet, LedgerClass::throttle), 0);
  EXPECT_EQ(row(quiet, LedgerClass::throttle).how, How::measured);
  EXPECT_EQ(row(quiet, LedgerClass::throttle).note, "no violation counter moved");
}

TEST(Ledger, RunningRun) {
  const Folder folder;
  Maker maker(folder.path(), "live");
  maker.bar(5, 20, 0.5);
  maker.host(30);
  const rigwise::Run run = maker.live();
  EXPECT_EQ(run.state, RunState::running);
  const Ledger ledger = ledger_of(run);
  expect_sums(ledger);
  EXPECT_FALSE(row(ledger, LedgerClass::teardown).seconds.has_value());
  EXPECT_EQ(row(ledger, LedgerClass::unexplained).note, "15.0 s since the last step seen");
}

TEST(Ledger, NoWallTimeIsAnError) {
  rigwise::Run run;
  run.info.name = "nothing";
  const auto ledger = make_ledger(run);
  ASSERT_FALSE(ledger.ok());
  EXPECT_EQ(ledger.error().code, Errc::unavailable);
}

TEST(Ledger, HostileRowsNeverBreakTheSum) {
  const Folder folder;
  Maker maker(folder.path(), "hostile");
  maker.bar(5, 30, 0.5);
  const rigwise::Run clean = maker.finish(25);
  const std::string steps = *read_file(clean.dir / "steps.csv");
  const std::string header = steps.substr(0, steps.find('\n') + 1);
  const char* rows[] = {"nan,train,5",
                        "inf,train,6",
                        "-4,train,7",
                        "1e300,progress,9223372036854775807",
                        "12,train,-9223372036854775808",
                        "12,train,nan"};
  const auto commas = static_cast<std::size_t>(std::count(header.begin(), header.end(), ','));
  for (const char* text : rows) {
    std::string hostile = steps;
    std::string line = text;
    line += std::string(
        commas - static_cast<std::size_t>(std::count(line.begin(), line.end(), ',')), ',');
    hostile.insert(header.size(), line + "\n");
    hostile += line + "\n";
    std::ofstream(clean.dir / "steps.csv", std::ios::binary) << hostile;
    std::ofstream(clean.dir / "events.csv", std::ios::binary)
        << "t_s,t_end_s,kind\nnan,3,checkpoint\n4,-inf,evaluation\n20,4,checkpoint\n"
           "0,1e308,evaluation\n";
    expect_sums(ledger_of(clean));
  }
  for (std::size_t cut = 0; cut < steps.size(); cut += 7) {
    std::ofstream(clean.dir / "steps.csv", std::ios::binary) << steps.substr(0, cut);
    expect_sums(ledger_of(clean));
  }
}

// Recorded on a real machine (tests/fixtures/runs/README.md).
TEST(Ledger, RealHuggingFaceRuns) {
  for (const char* name : {"ledger-hf-single", "ledger-hf-pair"}) {
    const auto run = open_run(std::string(RIGWISE_FIXTURES) + "/runs/" + name);
    ASSERT_TRUE(run.ok()) << run.error().message;
    const Ledger ledger = ledger_of(*run);
    expect_sums(ledger);
    EXPECT_EQ(ledger.bottleneck.cls, LedgerClass::compute) << name;
    EXPECT_EQ(ledger.steps, 60);
    // Without stack samples the pair's ranks are not told apart.
    EXPECT_EQ(ledger.ranks.size(), name == std::string("ledger-hf-pair") ? 0u : 1u);
    // The trainer's own words: evaluations of 0.4 to 0.6 s each, some 12 to 17 s of training.
    EXPECT_NEAR(seconds(ledger, LedgerClass::evaluation), 1.0, 0.3) << name;
    EXPECT_GT(seconds(ledger, LedgerClass::compute), 10) << name;
    EXPECT_LT(seconds(ledger, LedgerClass::unexplained), 0.3) << name;
    EXPECT_EQ(row(ledger, LedgerClass::checkpoint).note.substr(0, 7), "3 saves");
    EXPECT_TRUE(has_finding(ledger, "other-programs-took-cpu")) << name;
    EXPECT_FALSE(has_finding(ledger, "output-buffered")) << name;
  }
}

TEST(Ledger, EveryRuleStandsInTheDocumentation) {
  const auto page = read_file(std::string(RIGWISE_FIXTURES) + "/../../docs/ledger.md");
  ASSERT_TRUE(page.ok());
  for (const auto& rule : ledger_rules()) {
    EXPECT_NE(page->find("| " + std::string(rule.id) + " |"), std::string::npos) << rule.id;
    EXPECT_NE(page->find("| " + std::string(rule.threshold) + " |"), std::string::npos)
        << rule.id << ": " << rule.threshold;
  }
}

TEST(Ledger, WalkingATableEqualsReadingIt) {
  const Folder folder;
  Maker maker(folder.path(), "walk");
  maker.bar(5, 30, 0.5);
  maker.host(20, [](HostSample& sample) { sample.top_other = "a,\"b\":1"; });
  const rigwise::Run run = maker.finish(25);
  {
    std::ofstream file(run.dir / "watch/rig.host.csv", std::ios::app | std::ios::binary);
    file << "bad,row\n21,2";
  }
  const auto read = read_host(run, "rig");
  std::vector<HostSample> walked;
  std::int64_t last_line = 0;
  ASSERT_TRUE(visit_host(run, "rig", {"t_s", "tree_cpu_s", "top_other"},
                         [&](const HostSample& sample, std::int64_t line) {
                           walked.push_back(sample);
                           last_line = line;
                           return true;
                         })
                  .ok());
  ASSERT_EQ(walked.size(), read->rows.size());
  EXPECT_EQ(last_line, static_cast<std::int64_t>(walked.size()) + 1);
  for (std::size_t i = 0; i < walked.size(); ++i) {
    EXPECT_EQ(walked[i].t_s, read->rows[i].t_s);
    EXPECT_EQ(walked[i].tree_cpu_s, read->rows[i].tree_cpu_s);
    EXPECT_EQ(walked[i].top_other, "a,\"b\":1");
    EXPECT_FALSE(walked[i].others_cpu_s.has_value());
  }
}

}  // namespace
}  // namespace rigwise
