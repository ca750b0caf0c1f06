// Loss trend, repeatability, side effects.
#include <gtest/gtest.h>

#include <cmath>

#include "compare_made.h"

namespace {

using namespace rigwise;
using namespace rigwise::compare_made;

Comparison compared(const std::vector<rigwise::Run>& a, const std::vector<rigwise::Run>& b) {
  auto result = compare(a, b, {});
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  return std::move(*result);
}

Comparison losses(const Folder& folder, const Made& b) {
  return compared({make(folder.path(), {.name = "a"})}, {make(folder.path(), b)});
}

TEST(CompareLoss, SameOrderIsPaired) {
  const Folder folder;
  const Comparison comparison = losses(folder, {.name = "b", .seed = 9});
  ASSERT_TRUE(comparison.loss);
  EXPECT_EQ(comparison.loss->verdict, "equivalent");
  EXPECT_EQ(comparison.loss->basis, "training loss");
  EXPECT_NEAR(*comparison.loss->difference, 0, 1e-9);
  EXPECT_NE(comparison.loss->notes[0].find("paired"), std::string::npos);
  EXPECT_DOUBLE_EQ(*comparison.loss->to_samples, 1600);
}

TEST(CompareLoss, OtherSeedsStillAgreeWithinOnePercent) {
  const Folder folder;
  const Comparison comparison = losses(folder, {.name = "b", .seed = 9, .loss_seed = 8});
  EXPECT_EQ(comparison.loss->verdict, "equivalent");
  EXPECT_LT(*comparison.loss->low, 0.005);
  EXPECT_GE(*comparison.loss->margin, 0.01 * 2);
}

TEST(CompareLoss, AWorseRunIsDifferentAndOneSeedNeverWins) {
  const Folder folder;
  const Comparison worse = losses(folder, {.name = "b", .loss_to = 2.3, .loss_seed = 8});
  EXPECT_EQ(worse.loss->verdict, "different");
  EXPECT_GT(*worse.loss->difference, 0.1);
  const Comparison better = losses(folder, {.name = "c", .loss_to = 1.5, .loss_seed = 8});
  EXPECT_EQ(better.loss->verdict, "different");  // training loss of one seed
  EXPECT_TRUE(has_finding(better, "converges-faster"));
}

TEST(CompareLoss, EvaluationLossOfThreeRunsMayWin) {
  const Folder folder;
  const auto with_eval = [](double level) {
    return [=](RunWriter& writer, RunInfo&) {
      for (int i = 1; i <= 10; ++i) {
        StepRecord record;
        record.t_s = 20 + 10 * i;
        record.kind = RecordKind::eval;
        record.step = 20 * i;
        record.eval_loss = level + 0.001 * (i % 3);
        record.runtime_s = 0.5;
        writer.append(record);
      }
    };
  };
  Made a{.name = "a", .loss_seed = 1}, b{.name = "b", .loss_seed = 2};
  a.more = with_eval(2.1);
  b.more = with_eval(1.9);
  const Comparison comparison = compared(make_side(folder.path(), a, 3, 0.003, 1),
                                         make_side(folder.path(), b, 3, 0.003, 2, 300, 1));
  EXPECT_EQ(comparison.loss->basis, "evaluation loss");
  EXPECT_EQ(comparison.loss->verdict, "b_better");
}

TEST(CompareLoss, SumsAgainstMeansAreNotComparable) {
  const Folder folder;
  const Comparison comparison =
      losses(folder, {.name = "b", .loss_from = 12, .loss_to = 8, .loss_noise = 0.04});
  EXPECT_EQ(comparison.loss->verdict, "blocked");
  EXPECT_NE(comparison.loss->notes[0].find("factor of 4"), std::string::npos);
}

TEST(CompareLoss, EntriesWithoutAStepArePlacedByTheBar) {
  // Dict lines on stdout beside a bar on stderr, and nobody states the interval.
  const Folder folder;
  Made bare{.name = "b", .seed = 5};
  bare.facts = {{"logging_interval", ""}};
  bare.edit = [](StepRecord& record) {
    const double loss = *record.loss;
    const auto step = *record.step;
    record.step_time_s.reset();
    record.loss.reset();
    record.kind = RecordKind::progress;
    record.steps_total = 200;
    record.log_file = "log/err.log";
    record.log_format = "bar";
    if (step % 10 != 0) return;
    record.kind = RecordKind::train;  // the bar of this step was not caught
    record.steps_total.reset();
    record.step.reset();
    record.loss = loss;
    record.log_file = "log/out.log";
    record.log_format = "hf_dict";
  };
  const Comparison comparison = losses(folder, bare);
  ASSERT_TRUE(comparison.loss);
  EXPECT_DOUBLE_EQ(*comparison.loss->to_samples, 1600);  // 200 steps of 8
  EXPECT_EQ(comparison.loss->verdict, "equivalent");
}

TEST(CompareLoss, ALaggingBarDoesNotMoveEntries) {
  // As recorded from a real pair of runs: the bar beside an entry lags by a step now and then.
  const Folder folder;
  std::vector<rigwise::Run> sides[2];
  for (int i = 0; i < 6; ++i) {
    Made made{.name = i % 2 == 0 ? "a" : "b", .steps = 60, .seed = static_cast<std::uint64_t>(i)};
    made.facts = {{"logging_interval", ""}, {"evaluation_interval", "30 steps"}};
    made.edit = [i](StepRecord& record) {
      record.bar_step = std::max<std::int64_t>(1, *record.step - (*record.step + i) % 3);
      record.step.reset();
    };
    made.more = [i](RunWriter& writer, RunInfo&) {
      for (const int step : {30, 60}) {
        StepRecord record;
        record.t_s = 20 + step;
        record.kind = RecordKind::eval;
        record.bar_step = step - i % 2;
        record.eval_loss = step == 30 ? 6.746 : 6.576;
        writer.append(record);
      }
    };
    sides[i % 2].push_back(make(folder.path(), made));
  }
  const Comparison comparison = compared(sides[0], sides[1]);
  EXPECT_EQ(comparison.loss->basis, "evaluation loss");
  EXPECT_EQ(comparison.loss->verdict, "equivalent");
  EXPECT_DOUBLE_EQ(*comparison.loss->difference, 0);
  EXPECT_DOUBLE_EQ(*comparison.loss->to_samples, 480);
  EXPECT_EQ(comparison.repeat_a->level, "bitwise");
}

TEST(CompareLoss, NoLossNoTrend) {
  const Folder folder;
  Made silent{.name = "b"};
  silent.edit = [](StepRecord& record) { record.loss.reset(); };
  EXPECT_FALSE(losses(folder, silent).loss.has_value());
}

TEST(CompareRepeat, Levels) {
  const Folder folder;
  const auto steady = make_side(folder.path(), {.name = "steady"}, 3, 0.003, 1);
  Made wild{.name = "wild"};
  auto spread = make_side(folder.path(), wild, 2, 0.003, 3, 300, 1);
  wild.run_shift = 0.12;
  wild.loss_seed = 8;
  wild.loss_to = 2.4;
  wild.start_unix_s += 3000;
  spread.push_back(make(folder.path(), wild));
  const Comparison comparison = compared(steady, spread);
  EXPECT_EQ(comparison.repeat_a->level, "bitwise");  // equal seeds print equal losses
  EXPECT_LT(*comparison.repeat_a->spread_percent, 2);
  EXPECT_EQ(comparison.repeat_b->level, "not repeatable");
  EXPECT_NE(comparison.repeat_b->note.find("unexplained"), std::string::npos);

  auto seeds = std::vector<rigwise::Run>{};
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    seeds.push_back(make(folder.path(),
                         {.name = "seeds", .seed = seed, .loss_noise = 0.002, .loss_seed = seed}));
  }
  const Comparison two = compared(seeds, {spread[0], spread[1]});
  EXPECT_EQ(two.repeat_a->level, "loss");
  EXPECT_EQ(two.repeat_b->level, "bitwise");
  Made failed{.name = "failed", .exit_status = 1};
  const Comparison bad = compared({seeds[0], make(folder.path(), failed)}, {spread[0]});
  EXPECT_EQ(bad.repeat_a->level, "not repeatable");
}

TEST(CompareSideEffects, RowsThatCanBeOpened) {
  const Folder folder;
  Made b{.name = "b", .seed = 4};
  b.more = [](RunWriter& writer, RunInfo&) {
    for (int i = 0; i < 3; ++i) {
      writer.append(Event{.t_s = 30.0 + i,
                          .t_end_s = 45.0 + i,
                          .kind = EventKind::checkpoint,
                          .state = "complete",
                          .size_bytes = 900000000});
    }
    HostSample sample;
    sample.t_s = 200;
    sample.tree_rss_bytes = 6e9;
    writer.append("box", sample);
  };
  const Comparison comparison = losses(folder, b);
  bool time = false, memory = false;
  for (const SideEffect& effect : comparison.side_effects) {
    if (effect.what == "checkpoint time") {
      time = true;
      EXPECT_EQ(effect.change[0], '+');
      ASSERT_EQ(effect.evidence.size(), 2u);
      EXPECT_EQ(effect.evidence[1].file, "events.csv");
      EXPECT_TRUE(effect.evidence[1].first_row.has_value());
    }
    if (effect.what == "memory of the processes") {
      memory = true;
      EXPECT_EQ(effect.evidence[1].file, "watch/box.host.csv");
    }
  }
  EXPECT_TRUE(time);
  EXPECT_TRUE(memory);
}

}  // namespace
