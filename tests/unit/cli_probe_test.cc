// The pure parts of `rigwise probe`. Logs of the engine are written by hand here.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/json.h"
#include "cli/engine.h"
#include "cli/probe.h"

namespace rigwise::cli {
namespace {

std::vector<std::string> names(const std::vector<ProbeStrategy>& strategies) {
  std::vector<std::string> out;
  for (const auto& strategy : strategies) {
    out.push_back(fmt::format("{}/{}", strategy.name, strategy.ranks));
  }
  return out;
}

using Words = std::vector<std::string>;

TEST(ProbeStrategies, SmallestFirstAndSingleAlways) {
  EXPECT_EQ(names(*probe_strategies({}, 2)),
            (Words{"single/1", "split/1", "ddp/2", "fsdp/2", "tp/2", "pp/2"}));
  EXPECT_EQ(names(*probe_strategies({}, 4)),
            (Words{"single/1", "split/1", "ddp/4", "fsdp/4", "tp/4", "pp/4", "ddp:2,tp:2/4",
                   "ddp:2,pp:2/4"}));
  EXPECT_EQ(names(*probe_strategies({}, 3)).size(), 6u);
  EXPECT_EQ(names(*probe_strategies({"ddp"}, 2)), (Words{"single/1", "ddp/2"}));
}

TEST(ProbeStrategies, ListsWithSizes) {
  EXPECT_EQ(names(*probe_strategies({"ddp:2,tp:2,single,pp:2"}, 4)),
            (Words{"single/1", "pp:2/2", "ddp:2,tp:2/4"}));
  EXPECT_EQ(names(*probe_strategies({"ddp:2", "tp:2"}, 4)),
            (Words{"single/1", "ddp:2/2", "tp:2/2"}));
  EXPECT_EQ(names(*probe_strategies({"split:3"}, 2)), (Words{"single/1", "split:3/1"}));
}

TEST(ProbeStrategies, WhatIsNone) {
  for (const char* text : {"dpp", "", "ddp:", "ddp:0", "ddp:x", "ddp:65", "ddp,,tp"}) {
    const auto result = probe_strategies({text}, 2);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, Errc::usage);
  }
  EXPECT_NE(probe_strategies({"ddp,ddp"}, 2).error().message.find("ddp twice"), std::string::npos);
}

TEST(ProbeOrder, ThereAndBack) {
  EXPECT_EQ(probe_order(3, 3), (std::vector<std::size_t>{0, 1, 2, 2, 1, 0, 0, 1, 2}));
  EXPECT_EQ(probe_order(2, 2), (std::vector<std::size_t>{0, 1, 1, 0}));
  EXPECT_TRUE(probe_order(0, 3).empty());
}

TEST(ProbeMember, IsAPartOfARunsName) {
  EXPECT_EQ(probe_member("ddp:2,tp:2"), "ddp2-tp2");
  EXPECT_EQ(probe_member("single"), "single");
}

// ------------------------------------------------------------------------------------------------

std::string line(int step, double loss = 7, const char* hash = "0a0b") {
  return fmt::format(
      R"({{"step":{},"loss":{},"tokens":1024,"predicted_tokens":1016,"step_time_s":0.5,)"
      R"("sync_s":0.1,"peak_memory_bytes":{},"token_hash":"{}"}})"
      "\n",
      step, loss, 1000 + step, hash);
}

std::string whole_log(int steps) {
  std::string text;
  for (int step = 1; step <= steps; ++step) text += line(step);
  return text + R"({"kind":"checkpoint_saved","step":)" + std::to_string(steps) +
         R"(,"path":"o/checkpoint"})" + "\n";
}

TEST(EngineLog, Reads) {
  const auto log = read_engine_log(whole_log(5), "log.jsonl");
  ASSERT_TRUE(log);
  ASSERT_EQ(log->steps.size(), 5u);
  EXPECT_EQ(log->steps[4].step, 5);
  EXPECT_EQ(log->steps[4].predicted_tokens, 1016);
  EXPECT_EQ(log->steps[4].token_hash, "0a0b");
  EXPECT_EQ(log->checkpoints, (std::vector<std::int64_t>{5}));
}

TEST(EngineLog, CutAtEveryByte) {
  const std::string text = whole_log(3);
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    const auto log = read_engine_log(std::string_view(text).substr(0, cut), "log.jsonl");
    const bool at_a_line = cut > 0 && text[cut - 1] == '\n';
    EXPECT_EQ(static_cast<bool>(log), at_a_line) << cut;
    if (log) {
      EXPECT_LE(log->steps.size(), 3u);
    }
  }
}

TEST(EngineLog, EveryByteChanged) {
  const std::string text = whole_log(2);
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (const char c : {'\0', '"', '9', '\xff', '{', '\n'}) {
      std::string changed = text;
      changed[at] = c;
      const auto log = read_engine_log(changed, "log.jsonl");
      if (!log) {
        EXPECT_NE(log.error().message.find("log.jsonl"), std::string::npos);
        continue;
      }
      for (const auto& step : log->steps) {
        EXPECT_GT(step.step_time_s, 0);
        EXPECT_GE(step.step, 1);
      }
    }
  }
}

TEST(EngineLog, SaysWhereAndWhat) {
  EXPECT_NE(read_engine_log(line(1) + "{\"step\":2}\n", "a/log.jsonl")
                .error()
                .message.find("a/log.jsonl:2: a step without a usable 'loss'"),
            std::string::npos);
  EXPECT_NE(read_engine_log("", "log.jsonl").error().message.find("no step"), std::string::npos);
  // a loss of nan is written as a string: no figure can be made of it
  EXPECT_FALSE(read_engine_log(
      R"({"step":1,"loss":"nan","tokens":1,"predicted_tokens":1,"step_time_s":1,"token_hash":"a"})"
      "\n",
      "log.jsonl"));
}

// ------------------------------------------------------------------------------------------------

EngineLog log_of(int steps) {
  EngineLog log;
  for (int step = 1; step <= steps; ++step) {
    log.steps.push_back({.step = step,
                         .loss = 7.0 - 0.01 * step,
                         .tokens = 1024,
                         .predicted_tokens = 1016,
                         .step_time_s = step <= 3 ? 5.0 : 0.5,
                         .sync_s = step <= 3 ? 4.0 : 0.1,
                         .peak_memory_bytes = 100 + step,
                         .token_hash = fmt::format("{:04x}", step)});
  }
  log.checkpoints = {steps};
  return log;
}

TEST(SameWork, IsTheSame) {
  EngineLog other = log_of(20);
  for (auto& step : other.steps) step.step_time_s *= 2, step.loss *= 1 + 1e-6;
  const SameWork work = same_work(log_of(20), other, 1e-4);
  EXPECT_TRUE(work.same) << work.why;
  EXPECT_NEAR(work.loss_difference_frac, 1e-6, 1e-9);
}

TEST(SameWork, EachDifferenceIsNamed) {
  struct Case {
    const char* says;
    std::function<void(EngineLog&)> change;
  };
  const Case cases[] = {
      {"19 optimizer steps, not 20", [](EngineLog& log) { log.steps.pop_back(); }},
      {"step 8 where 7 is due", [](EngineLog& log) { log.steps[6].step = 8; }},
      {"another global batch", [](EngineLog& log) { log.steps[3].tokens = 2048; }},
      {"step 4 predicts 1015 tokens, not 1016",
       [](EngineLog& log) { log.steps[3].predicted_tokens = 1015; }},
      {"step 20 takes other tokens", [](EngineLog& log) { log.steps[19].token_hash = "ffff"; }},
      {"2 checkpoints were saved, not 1",
       [](EngineLog& log) {
         log.checkpoints = {10, 20};
       }},
      {"or at other steps", [](EngineLog& log) { log.checkpoints = {10}; }},
      {"loss differs by 2.0e-04 at step 9", [](EngineLog& log) { log.steps[8].loss *= 1.0002; }},
      {"step 9 has the loss nan", [](EngineLog& log) { log.steps[8].loss = std::nan(""); }},
  };
  for (const Case& c : cases) {
    EngineLog other = log_of(20);
    c.change(other);
    const SameWork work = same_work(log_of(20), other, 1e-4);
    EXPECT_FALSE(work.same) << c.says;
    EXPECT_NE(work.why.find(c.says), std::string::npos) << work.why;
  }
}

TEST(RunFigures, LeaveTheWarmUpOut) {
  const auto figures = figures_of(log_of(20));
  ASSERT_TRUE(figures);
  EXPECT_DOUBLE_EQ(figures->tokens_per_s, 2048);
  EXPECT_NEAR(figures->sync_frac, 0.2, 1e-12);
  EXPECT_EQ(figures->peak_memory_bytes, 120);
  EXPECT_FALSE(figures_of(log_of(3)));
  EXPECT_EQ(probe_warm_up(20), 3u);
  EXPECT_EQ(probe_warm_up(200), 20u);
}

TEST(RateOfRuns, StudentsT) {
  const auto one = rate_of_runs({{.tokens_per_s = 100}});
  ASSERT_TRUE(one);
  EXPECT_NEAR(one->value, 100, 1e-9);
  EXPECT_FALSE(one->low);
  // logs -0.1, 0, 0.1: sd 0.1, t(0.975, 2) = 4.3027
  const auto three = rate_of_runs({{.tokens_per_s = 100 * std::exp(-0.1)},
                                   {.tokens_per_s = 100},
                                   {.tokens_per_s = 100 * std::exp(0.1)}});
  EXPECT_NEAR(three->value, 100, 1e-9);
  EXPECT_NEAR(*three->high, 100 * std::exp(4.3027 * 0.1 / std::sqrt(3.0)), 1e-2);
  EXPECT_FALSE(rate_of_runs({}));
  EXPECT_FALSE(rate_of_runs({{.tokens_per_s = 0}}));
}

// ------------------------------------------------------------------------------------------------

ProbeRow row(const char* name, double rate, std::optional<Verdict> verdict,
             std::optional<Interval> factor = {}) {
  return {.strategy = {name, verdict ? 2 : 1},
          .tokens_per_s = Interval{rate, rate * 0.98, rate * 1.02},
          .factor = factor,
          .verdict = verdict};
}

ProbeRow left_out(const char* name, ProbeState state, const char* why) {
  return {.strategy = {name, 2}, .state = state, .why = why};
}

ProbeVerdict verdict_of(std::vector<ProbeRow> rows) {
  rank_rows(rows);
  return probe_verdict(rows);
}

TEST(ProbeVerdict, UseTheFastestThatIsShown) {
  const auto verdict =
      verdict_of({row("single", 100, {}), row("tp", 120, Verdict::faster, Interval{1.2, 1.1, 1.3}),
                  row("ddp", 170, Verdict::faster, Interval{1.7, 1.6, 1.8})});
  EXPECT_EQ(verdict.choice, ProbeChoice::use);
  EXPECT_EQ(verdict.strategy, "ddp");
  EXPECT_EQ(verdict.sentence,
            "use ddp: 1.70x (1.60 to 1.80) of single's tokens/s for the same work");
}

TEST(ProbeVerdict, FasterStillButNotShown) {
  auto open = row("pp", 190, Verdict::inconclusive, Interval{1.9, 0.9, 4.0});
  open.runs_needed = 9;
  const auto verdict = verdict_of(
      {row("single", 100, {}), open, row("ddp", 170, Verdict::faster, Interval{1.7, 1.6, 1.8})});
  EXPECT_EQ(verdict.strategy, "ddp");
  EXPECT_NE(verdict.sentence.find("pp may be faster still, which --repeats 9 would show"),
            std::string::npos)
      << verdict.sentence;
}

TEST(ProbeVerdict, ChanceIsNeverTakenForAnEffect) {
  auto open = row("ddp", 99, Verdict::inconclusive, Interval{0.99, 0.8, 1.2});
  open.runs_needed = 12;
  const auto verdict = verdict_of({row("single", 100, {}), open});
  EXPECT_EQ(verdict.choice, ProbeChoice::not_shown);
  EXPECT_NE(verdict.sentence.find("--repeats 12"), std::string::npos);
  // without an interval nothing is ruled out
  EXPECT_EQ(verdict_of({row("single", 100, {}),
                        row("ddp", 50, Verdict::inconclusive, Interval{.value = 0.5})})
                .choice,
            ProbeChoice::not_shown);
}

TEST(ProbeVerdict, KeepSingle) {
  EXPECT_EQ(verdict_of({row("single", 100, {}),
                        row("ddp", 90, Verdict::slower, Interval{0.9, 0.85, 0.95}),
                        row("pp", 80, Verdict::inconclusive, Interval{0.8, 0.65, 0.99}),
                        row("tp", 100, Verdict::equivalent, Interval{1.0, 0.99, 1.01})})
                .choice,
            ProbeChoice::keep_single);
  const auto alone =
      verdict_of({row("single", 100, {}), left_out("ddp", ProbeState::does_not_fit, "no memory")});
  EXPECT_EQ(alone.choice, ProbeChoice::keep_single);
  EXPECT_NE(alone.sentence.find("no other strategy could be measured"), std::string::npos);
}

TEST(ProbeVerdict, OtherWorkIsNeverRanked) {
  auto refused = row("ddp", 900, Verdict::faster, Interval{9, 8, 10});
  refused.state = ProbeState::refused;
  std::vector<ProbeRow> rows = {refused, row("single", 100, {})};
  rank_rows(rows);
  EXPECT_EQ(rows[0].strategy.name, "single");
  EXPECT_EQ(probe_verdict(rows).choice, ProbeChoice::keep_single);
}

ProbeReport report() {
  ProbeReport report;
  report.experiment = "probe1";
  report.model = "models/small";
  report.data = "notes.jsonl";
  report.device = "cpu";
  report.devices = 2;
  report.threads = 1;
  report.method = "lora";
  report.steps = 50;
  report.global_batch = 8;
  report.repeats = 3;
  report.loss_tolerance = 1e-4;
  auto ddp = row("ddp", 1700, Verdict::faster, Interval{1.7, 1.65, 1.75});
  ddp.peak_memory_bytes = 640 << 20;
  ddp.sync_frac = 0.12;
  ddp.loss_difference_frac = 2e-8;
  report.rows = {row("single", 1000, {}), ddp,
                 left_out("tp", ProbeState::does_not_fit,
                          "tp:2 does not divide the model's 3 key-value heads"),
                 left_out("pp", ProbeState::refused, "step 4 takes other tokens")};
  rank_rows(report.rows);
  report.verdict = probe_verdict(report.rows);
  report.next = {"rigwise compare probe1-single -- probe1-ddp"};
  return report;
}

TEST(ProbeReport, Text) {
  const std::string text = probe_text(report(), {.width = 80});
  EXPECT_LT(text.find("\n  ddp "), text.find("\n  single "));
  for (const char* part :
       {"1.70 ±0.05", "640 MiB", "12 %", "2e-08", "does not fit: tp:2 does not divide",
        "not the same work: step 4", "Verdict: use ddp", "has one of"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  EXPECT_NE(probe_text(report(), {.width = 40}).find("Verdict"), std::string::npos);
  EXPECT_EQ(text.find("Plan"), std::string::npos);
}

TEST(ProbeReport, PlansOrderIsJudged) {
  ProbeReport judged = report();
  judged.predicted_order = {"pp", "ddp", "single"};
  judged.order_judged = OrderJudged{"pp", "ddp", 0.25, 0.3};
  for (auto& row : judged.rows) row.predicted_factor = Interval{1.61, 1.5, 1.7};
  const std::string text = probe_text(judged, {.width = 80});
  EXPECT_NE(text.find("takes 25.0 % longer than the fastest measured, ddp"), std::string::npos) << text;
  EXPECT_NE(text.find("1.61"), std::string::npos);
  const auto json = parse_json(probe_json(judged));
  ASSERT_TRUE(json);
  EXPECT_EQ((*json)["order_judged"]["best"], "ddp");
  EXPECT_EQ((*json)["predicted_order"].size(), 3U);
}

TEST(EngineLog, GivesPlanItsPhases) {
  const std::string text =
      R"({"step":1,"loss":7,"tokens":64,"predicted_tokens":63,"step_time_s":9,"forward_s":3,)"
      R"("backward_s":5,"optimizer_s":1,"token_hash":"0a"})"
      "\n"
      R"({"step":2,"loss":7,"tokens":64,"predicted_tokens":63,"step_time_s":1,"forward_s":0.3,)"
      R"("backward_s":0.5,"optimizer_s":0.1,"token_hash":"0a"})"
      "\n";
  const auto log = read_engine_log(text, "log.jsonl");
  ASSERT_TRUE(log);
  const MeasuredStep step = measured_step(*log, 4);
  EXPECT_TRUE(step.phases_measured);
  EXPECT_DOUBLE_EQ(step.backward_s, 0.5);  // the first step warms up
  EXPECT_NEAR(step.other_s, 0.1, 1e-12);
  EXPECT_FALSE(measured_step(*read_engine_log(whole_log(3), "log.jsonl"), 1).phases_measured);
}

TEST(ProbeReport, Json) {
  const auto json = parse_json(probe_json(report()));
  ASSERT_TRUE(json);
  EXPECT_EQ(json->at("schema"), 1);
  EXPECT_EQ(json->at("strategies").at(0).at("strategy"), "ddp");
  EXPECT_EQ(json->at("strategies").at(0).at("factor_low"), 1.65);
  EXPECT_EQ(json->at("strategies").at(3).at("state"), "does_not_fit");
  EXPECT_EQ(json->at("verdict").at("choice"), "use");
  EXPECT_EQ(json->at("verdict").at("strategy"), "ddp");
}

TEST(MadeText, IsTheSameEveryTime) {
  const std::string text = made_text(5000);
  EXPECT_GE(text.size(), 5000u);
  EXPECT_EQ(text, made_text(5000));
  EXPECT_EQ(made_text(9000).substr(0, 4000), text.substr(0, 4000));
}

TEST(LastWord, OfAProgram) {
  const std::string err =
      "rigwise-engine: 2 ranks, gloo over lo\nrigwise-engine: tp:2 does not divide\n  choose\n";
  EXPECT_EQ(last_word(err, "rigwise-engine", 2), "tp:2 does not divide");
  EXPECT_EQ(last_word("", "rigwise-engine", 1), "exit 1");
  EXPECT_EQ(last_word("", "rigwise-engine", 137), "ended by signal 9 (out of memory?)");
}

}  // namespace
}  // namespace rigwise::cli
