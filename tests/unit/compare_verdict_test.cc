// Verdicts: the acceptance checks of the comparison rules, on made runs with fixed seeds.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compare_made.h"

namespace {

using namespace rigwise;
using namespace rigwise::compare_made;

Comparison compared(const std::vector<Run>& a, const std::vector<Run>& b,
                    const CompareOptions& options = {}) {
  auto result = compare(a, b, options);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  return std::move(*result);
}

std::string report(const Comparison& comparison) {
  std::string text = std::string(to_string(comparison.verdict)) + ": " + comparison.verdict_why;
  for (const auto& blocker : comparison.blockers) text += "\n  blocks: " + blocker;
  for (const auto& field : comparison.fields) {
    if (field.speed >= Impact::caps || field.loss >= Impact::caps) {
      text += "\n  " + field.field + ": " + field.a + " | " + field.b + " " +
              std::string(to_string(field.speed)) + "/" + std::string(to_string(field.loss)) + " " +
              field.note;
    }
  }
  return text;
}

TEST(CompareVerdict, SameCommandIsNotFasterThanItself) {
  const Folder folder;
  const auto a = make_side(folder.path(), {.name = "one"}, 3, 0.005, 1);
  const auto b = make_side(folder.path(), {.name = "again"}, 3, 0.005, 2, 300, 1);
  const Comparison comparison = compared(a, b);
  EXPECT_EQ(comparison.verdict, Verdict::equivalent) << report(comparison);
  EXPECT_EQ(comparison.comparable, Comparable::yes) << report(comparison);
  EXPECT_FALSE(comparison.likely);
  ASSERT_TRUE(comparison.effect);
  EXPECT_EQ(comparison.effect->metric, "step_time_per_sample");
  EXPECT_EQ(comparison.effect->runs_a, 3);
  EXPECT_GT(comparison.effect->clean_a, 550);
  EXPECT_FALSE(comparison.effect->floor_percent);
  ASSERT_TRUE(comparison.wall);
  EXPECT_NEAR(comparison.wall->percent, 0, 2);
  ASSERT_TRUE(comparison.loss);
  EXPECT_EQ(comparison.loss->verdict, "equivalent");
  ASSERT_TRUE(comparison.advice);
  EXPECT_TRUE(comparison.advice->measured);
  EXPECT_GT(comparison.rules_version, 0);
}

TEST(CompareVerdict, PlantedFivePercentIsFound) {
  const Folder folder;
  const auto a = make_side(folder.path(), {.name = "plain"}, 3, 0.008, 11);
  const auto b =
      make_side(folder.path(), {.name = "delayed", .step_s = 0.525}, 3, 0.008, 12, 300, 1);
  const Comparison slower = compared(a, b);
  EXPECT_EQ(slower.verdict, Verdict::slower) << report(slower);
  EXPECT_NEAR(slower.effect->percent, 5, 2);
  const Comparison faster = compared(b, a);
  EXPECT_EQ(faster.verdict, Verdict::faster);
  EXPECT_LT(faster.effect->percent, 0);
}

TEST(CompareVerdict, OneRunASideCannotShowThreePercent) {
  const Folder folder;
  const std::vector<rigwise::Run> a{make(folder.path(), {.name = "a", .seed = 3})};
  const std::vector<rigwise::Run> b{make(folder.path(), {.name = "b", .step_s = 0.485, .seed = 4})};
  const Comparison comparison = compared(a, b);
  EXPECT_EQ(comparison.verdict, Verdict::inconclusive) << report(comparison);
  ASSERT_TRUE(comparison.runs_needed);
  EXPECT_GT(*comparison.runs_needed, 3);
  ASSERT_TRUE(comparison.effect->floor_percent);
  EXPECT_NEAR(*comparison.effect->floor_percent, 2, 1e-9);
  EXPECT_EQ(comparison.repeat_a->level, "one run");
  // A gap of 20 % is beyond any floor.
  const std::vector<rigwise::Run> c{make(folder.path(), {.name = "c", .step_s = 0.4, .seed = 5})};
  EXPECT_EQ(compared(a, c).verdict, Verdict::faster);
}

TEST(CompareVerdict, BatchSixteenAgainstThirtyTwo) {
  const Folder folder;
  const auto a =
      make_side(folder.path(), {.name = "b16", .facts = {{"global_batch", "16"}}}, 3, 0.005, 21);
  const auto b = make_side(folder.path(), {.name = "b32", .facts = {{"global_batch", "32"}}}, 3,
                           0.005, 22, 300, 1);
  const Comparison comparison = compared(a, b);
  EXPECT_EQ(comparison.comparable, Comparable::per_sample) << report(comparison);
  EXPECT_EQ(comparison.verdict, Verdict::faster);
  EXPECT_EQ(comparison.effect->metric, "step_time_per_sample");
  EXPECT_NEAR(comparison.effect->percent, -50, 2);
  ASSERT_TRUE(comparison.loss);
  EXPECT_EQ(comparison.loss->verdict, "blocked");
  EXPECT_EQ(field_of(comparison, "global_batch")->speed, Impact::normalise);
  EXPECT_FALSE(comparison.wall);
  EXPECT_FALSE(comparison.wall_blockers.empty());
}

TEST(CompareVerdict, StrongScalingIsTheFactorByItself) {
  const Folder folder;
  const auto a = make_side(folder.path(), {.name = "single"}, 3, 0.005, 31);
  const auto b =
      make_side(folder.path(), {.name = "two", .step_s = 0.3, .ranks = 2}, 3, 0.005, 32, 300, 1);
  const Comparison comparison = compared(a, b);
  EXPECT_EQ(comparison.factor, "ranks");
  EXPECT_EQ(comparison.comparable, Comparable::yes) << report(comparison);
  EXPECT_EQ(comparison.verdict, Verdict::faster);
  ASSERT_TRUE(comparison.scaling);
  EXPECT_EQ(comparison.scaling->kind, "strong");
  EXPECT_NEAR(comparison.scaling->speedup, 0.5 / 0.3, 0.05);
  EXPECT_NEAR(comparison.scaling->efficiency, 0.5 / 0.3 / 2, 0.03);
  EXPECT_LT(comparison.scaling->speedup_low, comparison.scaling->speedup);
  EXPECT_EQ(comparison.loss->verdict, "equivalent") << report(comparison);
  EXPECT_TRUE(field_of(comparison, "ranks")->is_factor);
}

TEST(CompareVerdict, WeakScalingCountsSamples) {
  const Folder folder;
  const auto a = make_side(folder.path(), {.name = "single"}, 3, 0.005, 33);
  Made two{.name = "two", .step_s = 0.6, .ranks = 2};
  two.facts = {{"global_batch", "16"}, {"micro_batch", "8"}};
  const auto b = make_side(folder.path(), two, 3, 0.005, 34, 300, 1);
  const Comparison comparison = compared(a, b, {.factor = "gpus=1,2"});
  EXPECT_EQ(comparison.factor, "ranks");
  EXPECT_EQ(comparison.comparable, Comparable::per_sample) << report(comparison);
  EXPECT_EQ(comparison.scaling->kind, "weak");
  EXPECT_NEAR(comparison.scaling->speedup, 2 * 0.5 / 0.6, 0.05);
  EXPECT_EQ(comparison.loss->verdict, "blocked");
}

TEST(CompareVerdict, AccelerateTrapIsNotComparable) {
  // accelerate launch --cpu --num_processes 2 starts one process, and the log looks fine.
  const Folder folder;
  const auto a = make_side(folder.path(), {.name = "single"}, 3, 0.005, 41);
  Made trap{.name = "two", .ranks = 1, .ranks_asked = 2};
  trap.command = {"accelerate", "launch", "--cpu", "--num_processes", "2", "train.py"};
  const auto b = make_side(folder.path(), trap, 3, 0.005, 42, 300, 1);
  const Comparison comparison = compared(a, b, {.factor = "ranks"});
  EXPECT_EQ(comparison.verdict, Verdict::not_comparable);
  EXPECT_EQ(comparison.comparable, Comparable::no);
  EXPECT_FALSE(comparison.effect);
  ASSERT_FALSE(comparison.blockers.empty());
  EXPECT_NE(comparison.blockers[0].find("1 of 2 asked for"), std::string::npos);
  EXPECT_NE(field_of(comparison, "ranks_trained")->note.find("torchrun"), std::string::npos);
  EXPECT_EQ(comparison.smallest_change, "start the ranks of two with torchrun --nproc_per_node");
  EXPECT_TRUE(has_finding(comparison, "ranks-missing"));
}

TEST(CompareVerdict, ThrottledRunShowsWhereItSlowed) {
  const Folder folder;
  const Made cool{.name = "cool", .seed = 51};
  Made hot{.name = "hot", .seed = 52};
  hot.stretch = [](int step) { return step > 120 ? 1.2 : 1.0; };
  const Comparison comparison = compared({make(folder.path(), cool)}, {make(folder.path(), hot)});
  ASSERT_EQ(comparison.series_b[0].change_points.size(), 1u) << report(comparison);
  EXPECT_NEAR(comparison.series_b[0].change_points[0], 120, 10);
  EXPECT_TRUE(comparison.series_a[0].change_points.empty());
  EXPECT_TRUE(has_finding(comparison, "speed-changed"));
  // The last level holds less than half of the run: one run alone says nothing.
  EXPECT_EQ(comparison.verdict, Verdict::inconclusive);
}

TEST(CompareVerdict, ADivergedRunWinsNothingSilently) {
  const Folder folder;
  Made broken{.name = "broken", .step_s = 0.3, .seed = 62};
  broken.edit = [](StepRecord& record) {
    if (*record.step > 80) record.loss = std::nan("");
  };
  const Comparison comparison =
      compared({make(folder.path(), {.name = "good", .seed = 61})}, {make(folder.path(), broken)});
  EXPECT_EQ(comparison.loss->verdict, "diverged");
  EXPECT_TRUE(has_finding(comparison, "diverged"));
  EXPECT_NE(comparison.verdict_why.find("diverged"), std::string::npos);
  EXPECT_TRUE(comparison.likely) << report(comparison);
  // A loss of exactly 0 beside a gradient norm of nan is the same thing.
  broken.name = "zero";
  broken.edit = [](StepRecord& record) {
    if (*record.step > 80) {
      record.loss = 0;
      record.grad_norm = std::numeric_limits<double>::quiet_NaN();
    }
  };
  const Comparison zero =
      compared({make(folder.path(), {.name = "good2", .seed = 61})}, {make(folder.path(), broken)});
  EXPECT_EQ(zero.loss->verdict, "diverged");
}

TEST(CompareVerdict, AShortFailedRunBlocks) {
  const Folder folder;
  Made short_run{.name = "killed", .steps = 30, .exit_status = 137};
  short_run.facts = {{"max_steps", "200"}};
  const Comparison comparison =
      compared({make(folder.path(), {.name = "good"})}, {make(folder.path(), short_run)});
  EXPECT_EQ(comparison.verdict, Verdict::not_comparable) << report(comparison);
  EXPECT_EQ(field_of(comparison, "run_ended")->speed, Impact::blocks);
  EXPECT_EQ(comparison.smallest_change, "repeat killed to its end");
}

TEST(CompareVerdict, TornRunsAreSaidToBe) {
  const Folder folder;
  const Comparison comparison =
      compared({make(folder.path(), {.name = "good"})},
               {make(folder.path(), {.name = "torn", .exit_status = {}})});
  EXPECT_EQ(field_of(comparison, "run_ended")->b, "end not known");
  EXPECT_EQ(field_of(comparison, "run_ended")->speed, Impact::caps) << report(comparison);
  EXPECT_FALSE(comparison.wall);
  EXPECT_NE(comparison.verdict, Verdict::not_comparable);
}

TEST(CompareVerdict, LogsThatStateNothingAreTimedByArrival) {
  const Folder folder;
  const auto a = make_side(folder.path(), {.name = "a", .stated = false}, 3, 0.005, 71);
  const auto b =
      make_side(folder.path(), {.name = "b", .step_s = 0.4, .stated = false}, 3, 0.005, 72, 300, 1);
  const Comparison comparison = compared(a, b);
  EXPECT_EQ(comparison.series_a[0].source, "receive times");
  EXPECT_EQ(comparison.verdict, Verdict::faster) << report(comparison);
  EXPECT_NEAR(comparison.effect->percent, -20, 2);
}

TEST(CompareVerdict, BufferedOutputHasNoTimes) {
  const Folder folder;
  Made buffered{.name = "buffered", .stated = false};
  buffered.edit = [](StepRecord& record) {
    record.t_s = 20 * std::ceil(static_cast<double>(*record.step) / 40);
  };
  const auto run = make(folder.path(), buffered);
  const Comparison comparison = compared({make(folder.path(), {.name = "fine"})}, {run});
  EXPECT_EQ(comparison.verdict, Verdict::inconclusive);
  EXPECT_NE(comparison.series_b[0].trouble.find("PYTHONUNBUFFERED"), std::string::npos);
  EXPECT_FALSE(comparison.effect);
}

TEST(CompareVerdict, OnlyASummary) {
  const Folder folder;
  Made quiet{.name = "quiet", .steps = 200};
  quiet.edit = [](StepRecord& record) {
    record.kind = *record.step == 200 ? RecordKind::summary : RecordKind::system;
    record.step.reset();
    record.step_time_s.reset();
    record.runtime_s = 100;
    record.steps_per_s = 2;
    record.samples_per_s = 16;
  };
  const Comparison comparison =
      compared({make(folder.path(), quiet)}, {make(folder.path(), {.name = "full"})});
  EXPECT_EQ(comparison.series_a[0].source, "summary");
  EXPECT_EQ(comparison.verdict, Verdict::inconclusive);
  ASSERT_TRUE(comparison.effect);  // a ratio without a test
  EXPECT_EQ(comparison.effect->low, comparison.effect->high);
}

TEST(CompareVerdict, BarsBesideMeansOfTenSteps) {
  // One side's log states a mean every 10 steps, the other every step: medians of unlike records
  // would differ by the skew of the steps.
  const Folder folder;
  const auto a = make_side(folder.path(), {.name = "each", .sd = 0.1, .phi = 0}, 3, 0.003, 81);
  Made tens{.name = "tens", .sd = 0.1, .phi = 0};
  tens.facts = {{"logging_interval", "10"}};
  double sum = 0;
  tens.edit = [&](StepRecord& record) {
    sum += *record.step_time_s;
    if (*record.step % 10 != 0) {
      record.kind = RecordKind::system;
      record.step_time_s.reset();
      return;
    }
    record.steps_per_s = 10 / sum;
    record.step_time_s.reset();
    sum = 0;
  };
  const auto b = make_side(folder.path(), tens, 3, 0.003, 82, 300, 1);
  const Comparison comparison = compared(a, b);
  ASSERT_TRUE(comparison.effect) << report(comparison);
  EXPECT_NEAR(comparison.effect->percent, 0, 1.5);
  EXPECT_EQ(comparison.series_a[0].total, 20);
  EXPECT_EQ(comparison.series_b[0].source, "means stated by the log");
}

TEST(CompareVerdict, RanksThatLogApartAreMergedToTheSlowest) {
  const Folder folder;
  Made two{.name = "two", .ranks = 2};
  two.more = [](RunWriter& writer, RunInfo&) {
    for (int step = 1; step <= 200; ++step) {
      StepRecord record;
      record.t_s = 10 + 0.5 * step;
      record.step = step;
      record.rank = 1;
      record.step_time_s = 0.65;
      record.log_file = "log/out.log";
      writer.append(record);
    }
  };
  two.edit = [](StepRecord& record) { record.rank = 0; };
  const Comparison comparison =
      compared({make(folder.path(), {.name = "single"})}, {make(folder.path(), two)});
  EXPECT_EQ(comparison.series_b[0].total, 200);
  EXPECT_NEAR(comparison.series_b[0].median_s, 0.65, 0.01);
  EXPECT_TRUE(has_finding(comparison, "uneven-ranks"));
}

TEST(CompareVerdict, Usage) {
  const Folder folder;
  const rigwise::Run run = make(folder.path(), {});
  EXPECT_EQ(compare({}, {run}, {}).error().code, Errc::usage);
  EXPECT_EQ(compare({run}, {run}, {}).error().code, Errc::usage);
  const rigwise::Run other = make(folder.path(), {.name = "other"});
  const auto unknown = compare({run}, {other}, {.factor = "precison"});
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, Errc::usage);
  EXPECT_NE(unknown.error().hint.find("precision"), std::string::npos);
}

TEST(CompareVerdict, SameInputSameValues) {
  const Folder folder;
  const auto a = make_side(folder.path(), {.name = "one", .phi = 0.9}, 2, 0.01, 1);
  const auto b = make_side(folder.path(), {.name = "two", .phi = 0.9}, 2, 0.01, 2, 300, 1);
  const Comparison first = compared(a, b), second = compared(a, b);
  EXPECT_EQ(first.effect->low, second.effect->low);
  EXPECT_EQ(first.effect->high, second.effect->high);
  EXPECT_EQ(first.verdict_why, second.verdict_why);
}

}  // namespace
