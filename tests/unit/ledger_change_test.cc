// What a change moved. Ledgers made by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "rigwise/change.h"
#include "rigwise/stats.h"

namespace rigwise {
namespace {

using enum LedgerClass;
using Rows = std::map<LedgerClass, double>;

/// A ledger whose rows are known to ± half_s; classes that are not in `rows` are not measured.
Ledger made(const std::string& run, const Rows& rows, std::optional<std::int64_t> steps = 100,
            double half_s = 0.1) {
  Ledger ledger;
  ledger.run = run;
  ledger.steps = steps;
  for (const LedgerClass cls : kLedgerClasses) {
    LedgerRow row;
    row.cls = cls;
    if (const auto found = rows.find(cls); found != rows.end()) {
      row.seconds = found->second;
      row.low_s = found->second - half_s;
      row.high_s = found->second + half_s;
      ledger.wall_s += found->second;
    }
    ledger.rows.push_back(row);
  }
  return ledger;
}

const LedgerChangeRow& row(const LedgerChange& change, LedgerClass cls) {
  for (const LedgerChangeRow& each : change.rows) {
    if (each.cls == cls) return each;
  }
  ADD_FAILURE() << "no row " << to_string(cls);
  return change.rows.front();
}

const Rows kA = {{startup, 20}, {input, 71}, {compute, 214}, {checkpoint, 19}, {unexplained, 3}};
const Rows kB = {{startup, 21}, {input, 10}, {compute, 216}, {checkpoint, 19}, {unexplained, 3}};

TEST(LedgerChange, OneRowMovesAndTheOthersDoNot) {
  const auto change = change_of({made("a", kA)}, {made("b", kB)});
  ASSERT_TRUE(change.ok());
  EXPECT_TRUE(row(*change, input).moved);
  EXPECT_DOUBLE_EQ(*row(*change, input).seconds.difference, -61);
  for (const auto cls : {startup, compute, checkpoint, unexplained})
    EXPECT_FALSE(row(*change, cls).moved) << to_string(cls);
  EXPECT_TRUE(change->wall.moved);
  EXPECT_TRUE(change->spread_assumed);
  EXPECT_EQ(change->not_measured,
            (std::vector{throttle, sync, host, memory, evaluation, teardown}));
  EXPECT_FALSE(row(*change, input).per_step);
}

TEST(LedgerChange, TheIntervalOfOneRunASideIsItsOwnAndTheAssumedSpread) {
  const auto change = change_of({made("a", kA)}, {made("b", kB)});
  // input: 2 % of 71 and of 10 are below 0.5 % of the wall (327 s): 1.635 and 1.635 s
  const double own = 0.1 / 1.96, spread = 0.005 * 327;
  const double half = stats::normal_quantile(0.975) * std::sqrt(2 * (own * own + spread * spread));
  const Change& seconds = row(*change, input).seconds;
  EXPECT_NEAR(*seconds.high - *seconds.difference, half, 1e-9);
  EXPECT_NEAR(*seconds.difference - *seconds.low, half, 1e-9);
}

TEST(LedgerChange, RunsThatDifferByThemselvesWidenTheInterval) {
  const auto with = [](double input_s) {
    Rows rows = kA;
    rows[input] = input_s;
    return rows;
  };
  const auto near = change_of({made("a1", with(70)), made("a2", with(71)), made("a3", with(72))},
                              {made("b1", with(80)), made("b2", with(81)), made("b3", with(82))});
  EXPECT_TRUE(row(*near, input).moved);
  EXPECT_FALSE(near->spread_assumed);
  const auto far = change_of({made("a1", with(55)), made("a2", with(71)), made("a3", with(87))},
                             {made("b1", with(65)), made("b2", with(81)), made("b3", with(97))});
  EXPECT_DOUBLE_EQ(*row(*far, input).seconds.difference, 10);
  EXPECT_FALSE(row(*far, input).moved);
}

TEST(LedgerChange, WhatOneSideDoesNotTellApartIsComputeOnBoth) {
  Rows blind = kB;
  blind[compute] += blind[input];
  blind.erase(input);
  const auto change = change_of({made("a", kA)}, {made("b", blind)});
  EXPECT_EQ(change->in_compute, std::vector{input});
  EXPECT_DOUBLE_EQ(*row(*change, compute).seconds.a, 285);
  EXPECT_DOUBLE_EQ(*row(*change, compute).seconds.b, 226);
  EXPECT_TRUE(row(*change, compute).moved);
  for (const LedgerChangeRow& each : change->rows) EXPECT_NE(each.cls, input);
}

TEST(LedgerChange, AnUnknownStartupIsNoDifference) {
  Rows rows = kB;
  rows.erase(startup);
  const auto change = change_of({made("a", kA)}, {made("b", rows)});
  EXPECT_DOUBLE_EQ(*row(*change, startup).seconds.a, 20);
  EXPECT_FALSE(row(*change, startup).seconds.b);
  EXPECT_FALSE(row(*change, startup).seconds.difference);
  EXPECT_FALSE(row(*change, startup).moved);
}

TEST(LedgerChange, OtherStepCountsAreJudgedByTheStep) {
  Rows twice = kA;
  twice[input] *= 2, twice[compute] *= 2, twice[checkpoint] *= 2;
  const auto change = change_of({made("a", kA, 100)}, {made("b", twice, 200)});
  ASSERT_TRUE(row(*change, compute).per_step);
  EXPECT_TRUE(row(*change, compute).seconds.moved);
  EXPECT_FALSE(row(*change, compute).moved);
  EXPECT_DOUBLE_EQ(*row(*change, compute).per_step->a, 2.14);
  EXPECT_DOUBLE_EQ(*row(*change, compute).per_step->difference, 0);
  EXPECT_FALSE(row(*change, startup).per_step);
  EXPECT_FALSE(row(*change, startup).moved);
}

TEST(LedgerChange, StepsThatALogDidNotShowArePresumedNothing) {
  const auto change = change_of({made("a", kA, 100)}, {made("b", kB, std::nullopt)});
  EXPECT_FALSE(change->b.steps);
  EXPECT_FALSE(row(*change, compute).per_step);
}

TEST(LedgerChange, NeedsTwoSidesOfDifferentRuns) {
  EXPECT_EQ(change_of({}, {made("b", kB)}).error().code, Errc::usage);
  EXPECT_EQ(change_of({made("a", kA)}, {}).error().code, Errc::usage);
  const auto same = change_of({made("a", kA), made("c", kA)}, {made("c", kB)});
  ASSERT_FALSE(same.ok());
  EXPECT_NE(same.error().message.find("run c"), std::string::npos);
}

}  // namespace
}  // namespace rigwise
