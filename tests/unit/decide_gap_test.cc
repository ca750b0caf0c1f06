// A threshold against the rows of one ledger.
#include <gtest/gtest.h>

#include "rigwise/decide.h"

namespace rigwise {
namespace {

Ledger ledger_of(std::initializer_list<std::pair<LedgerClass, double>> rows, std::int64_t steps) {
  Ledger ledger;
  for (const auto& [cls, seconds] : rows) {
    LedgerRow row;
    row.cls = cls;
    row.seconds = seconds;
    ledger.rows.push_back(row);
    ledger.wall_s += seconds;
  }
  ledger.steps = steps;
  return ledger;
}

TEST(ThresholdGap, TheRowWhoseRemovalMeetsItIsNamedFirst) {
  // 300 steps; 3000 take 100 + 10 * (600 + 1200 + 100) = 19100 s.
  const Ledger ledger = ledger_of({{LedgerClass::startup, 100},
                                   {LedgerClass::input, 600},
                                   {LedgerClass::compute, 1200},
                                   {LedgerClass::checkpoint, 100}},
                                  300);
  const auto gap = threshold_gap(*parse_threshold("wall_clock(3000 steps) <= 5h"), ledger);
  ASSERT_TRUE(gap.has_value());
  EXPECT_DOUBLE_EQ(gap->value_s, 19100);
  EXPECT_FALSE(gap->meets);
  ASSERT_EQ(gap->without.size(), 3U);
  EXPECT_EQ(gap->without[0].cls, LedgerClass::input);
  EXPECT_DOUBLE_EQ(gap->without[0].value_s, 13100);
  EXPECT_TRUE(gap->without[0].meets);
  EXPECT_EQ(gap->without[1].cls, LedgerClass::checkpoint);
  EXPECT_FALSE(gap->without[1].meets);
}

TEST(ThresholdGap, WhatCannotBeReckonedIsNotSaid) {
  const Ledger ledger = ledger_of({{LedgerClass::compute, 10}}, 10);
  EXPECT_FALSE(threshold_gap(*parse_threshold("tokens_per_s >= 1.4x"), ledger).has_value());
  EXPECT_FALSE(
      threshold_gap(*parse_threshold("wall_clock(3000 tokens) <= 5h"), ledger).has_value());
  Ledger silent = ledger;
  silent.steps.reset();
  EXPECT_FALSE(threshold_gap(*parse_threshold("wall_clock(30 steps) <= 5h"), silent).has_value());
  const auto met = threshold_gap(*parse_threshold("wall_clock <= 5h"), silent);
  ASSERT_TRUE(met.has_value());
  EXPECT_TRUE(met->meets);
}

}  // namespace
}  // namespace rigwise
