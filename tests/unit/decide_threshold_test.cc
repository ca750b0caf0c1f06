#include <gtest/gtest.h>

#include <string>

#include "rigwise/decide.h"

namespace rigwise {
namespace {

Threshold parsed(std::string_view text) {
  auto threshold = parse_threshold(text);
  EXPECT_TRUE(threshold.ok()) << text << "\n" << (threshold.ok() ? "" : threshold.error().message);
  return threshold.ok() ? *threshold : Threshold{};
}

TEST(Threshold, EveryMetricOfTheDocumentation) {
  const Threshold wall = parsed("wall_clock(3000 steps) <= 5h");
  EXPECT_EQ(wall.metric, Metric::wall_clock);
  EXPECT_EQ(wall.work, 3000);
  EXPECT_EQ(wall.work_unit, "steps");
  EXPECT_EQ(wall.relation, Relation::less_equal);
  EXPECT_EQ(wall.value, 5 * 3600);
  EXPECT_FALSE(wall.relative);

  const Threshold rate = parsed("tokens_per_s >= 1.5x");
  EXPECT_TRUE(rate.relative);
  EXPECT_EQ(rate.value, 1.5);
  EXPECT_EQ(parsed("peak_memory <= 22GiB").value, 22.0 * 1024 * 1024 * 1024);
  EXPECT_EQ(parsed("checkpoint_time <= 20s").value, 20);
  EXPECT_EQ(parsed("evaluation_delay <= 10min").value, 600);
  EXPECT_EQ(parsed("samples_per_s > 12 samples/s").relation, Relation::greater);
  EXPECT_EQ(parsed("steps_per_s>=0.5 it/s").value, 0.5);
  EXPECT_EQ(parsed("step_time < 250 ms").value, 0.25);
}

TEST(Threshold, ForgivingWhereNothingIsLost) {
  EXPECT_EQ(parsed("  Wall_Clock( 3,000 Steps ) ≤ 1h30m ").value, 5400);
  EXPECT_EQ(parsed("wall_clock(2M tokens) <= 1 h").work, 2e6);
  EXPECT_EQ(parsed("wall_clock(1.5e6 tokens) <= 90 min").work, 1.5e6);
  EXPECT_EQ(parsed("wall_clock(3_000 steps) =< 5 hours").work, 3000);
  EXPECT_EQ(parsed("tokens_per_s => 1.4 ×").value, 1.4);
  EXPECT_EQ(parsed("tokens_per_s >= 12k").value, 12000);
  EXPECT_EQ(parsed("wall_clock <= 2h").work, std::nullopt);
  EXPECT_EQ(parsed("peak_memory <= 0.9x").relative, true);
}

struct Golden {
  const char* text;
  const char* message;
  const char* hint;
};

TEST(Threshold, ErrorsPointAtTheCharacter) {
  const Golden cases[] = {
      {"wall_clock(3000 steps) <= 5q",
       "threshold: expected a unit of time (s, min, h), found 'q'\n"
       "  wall_clock(3000 steps) <= 5q\n"
       "                             ^",
       "write: wall_clock(3000 steps) <= 5h"},
      {"tokens_per_sec >= 1.4x",
       "threshold: expected a metric, found 'tokens_per_sec'\n"
       "  tokens_per_sec >= 1.4x\n"
       "  ^",
       "did you mean tokens_per_s?"},
      {"throughput >= 1.4x",
       "threshold: expected a metric, found 'throughput'\n"
       "  throughput >= 1.4x\n"
       "  ^",
       "did you mean tokens_per_s?"},
      {"wall_clock(3000 stpes) <= 5h",
       "threshold: expected steps, samples or tokens, found 'stpes'\n"
       "  wall_clock(3000 stpes) <= 5h\n"
       "                  ^",
       "did you mean steps?"},
      {"wall_clock(3000 steps <= 5h",
       "threshold: expected ')', found '<'\n"
       "  wall_clock(3000 steps <= 5h\n"
       "                        ^",
       "write: wall_clock(3000 steps) <= 5h"},
      {"tokens_per_s = 1.4x",
       "threshold: expected a relation (<=, <, >=, >), found '='\n"
       "  tokens_per_s = 1.4x\n"
       "               ^",
       "a measurement is never exactly equal: use <= or >="},
      {"tokens_per_s >= +40%",
       "threshold: expected a number, found '+'\n"
       "  tokens_per_s >= +40%\n"
       "                  ^",
       "write: tokens_per_s >= 1.4x"},
      {"tokens_per_s >= 40%",
       "threshold: expected a unit, or x for a factor of the baseline, found '%'\n"
       "  tokens_per_s >= 40%\n"
       "                    ^",
       "a change is written as a factor: 40 % more is 1.4x, 40 % less is 0.6x"},
      {"peak_memory <= 22",
       "threshold: expected a unit of memory (GiB, MiB, GB, MB), the text ends here\n"
       "  peak_memory <= 22\n"
       "                   ^",
       "write: peak_memory <= 22GiB"},
      {"peak_memory <= 22 Gi8",
       "threshold: expected a unit of memory (GiB, MiB, GB, MB), found 'Gi8'\n"
       "  peak_memory <= 22 Gi8\n"
       "                    ^",
       "did you mean GiB?"},
      {"step_time <= 0s",
       "threshold: expected a number above 0, found '0s'\n"
       "  step_time <= 0s\n"
       "               ^",
       "write: step_time <= 1.5s"},
      {"step_time(3 steps) <= 1s",
       "threshold: expected a relation (<=, <, >=, >), found '('\n"
       "  step_time(3 steps) <= 1s\n"
       "           ^",
       "only wall_clock takes an amount of work; write: step_time <= 1.5s"},
      {"wall_clock <= 5h and tokens_per_s >= 2x",
       "threshold: expected the end of the threshold, found 'and'\n"
       "  wall_clock <= 5h and tokens_per_s >= 2x\n"
       "                   ^",
       "one threshold holds one comparison"},
      {"dauer ≤ ö", "threshold: expected a metric, found 'dauer'\n  dauer ≤ ö\n  ^",
       "metrics: wall_clock, tokens_per_s, samples_per_s, steps_per_s, step_time, peak_memory, "
       "checkpoint_time, evaluation_delay"},
      {"step_time ≤ ö", "threshold: expected a number, found 'ö'\n  step_time ≤ ö\n              ^",
       "write: step_time <= 1.5s"},
      {"", "threshold: expected a metric, the text ends here\n  \n  ^",
       "for example: tokens_per_s >= 1.4x"},
  };
  for (const auto& golden : cases) {
    const auto threshold = parse_threshold(golden.text);
    ASSERT_FALSE(threshold.ok()) << golden.text;
    EXPECT_EQ(threshold.error().code, Errc::usage);
    EXPECT_EQ(threshold.error().message, golden.message);
    EXPECT_EQ(threshold.error().hint, golden.hint) << golden.text;
  }
}

TEST(Threshold, CutAnywhereAndFilledWithAnyByteNeverCrashes) {
  const std::string whole = "wall_clock(3,000 steps) <= 1h30m";
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    (void)parse_threshold(whole.substr(0, cut)).ok();
    (void)parse_threshold(whole.substr(cut)).ok();
    for (int byte = 0; byte < 256; ++byte) {
      std::string hurt = whole;
      hurt[std::min(cut, whole.size() - 1)] = static_cast<char>(byte);
      const auto threshold = parse_threshold(hurt);
      if (!threshold.ok()) {
        EXPECT_NE(threshold.error().message.find('^'), std::string::npos);
      }
    }
  }
  EXPECT_FALSE(parse_threshold(std::string(100000, '9')).ok());
  EXPECT_FALSE(parse_threshold("step_time <= 1e999 s").ok());
}

}  // namespace
}  // namespace rigwise
