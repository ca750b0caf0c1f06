// threshold_gap: which row of a ledger stands between a run and its threshold.
#include <algorithm>

#include "rigwise/decide.h"

namespace rigwise {

namespace {

bool once_a_run(LedgerClass cls) {
  return cls == LedgerClass::startup || cls == LedgerClass::teardown;
}

bool holds(const Threshold& threshold, double value) {
  switch (threshold.relation) {
    case Relation::less_equal:
      return value <= threshold.value;
    case Relation::less:
      return value < threshold.value;
    case Relation::greater_equal:
      return value >= threshold.value;
    case Relation::greater:
      return value > threshold.value;
  }
  return false;
}

}  // namespace

std::optional<ThresholdGap> threshold_gap(const Threshold& threshold, const Ledger& ledger) {
  if (threshold.metric != Metric::wall_clock || threshold.relative) return std::nullopt;
  double scale = 1;
  if (threshold.work) {
    const bool countable = threshold.work_unit == "steps" && ledger.steps && *ledger.steps > 0;
    if (!countable) return std::nullopt;
    scale = *threshold.work / static_cast<double>(*ledger.steps);
  }
  const auto part_s = [&](const LedgerRow& row) {
    return row.seconds.value_or(0) * (once_a_run(row.cls) ? 1 : scale);
  };
  ThresholdGap gap;
  for (const auto& row : ledger.rows) gap.value_s += part_s(row);
  gap.meets = holds(threshold, gap.value_s);
  for (const auto& row : ledger.rows) {
    const bool removable = row.cls != LedgerClass::compute && row.cls != LedgerClass::unexplained;
    if (!removable || !(part_s(row) > 0)) continue;
    const double value_s = gap.value_s - part_s(row);
    gap.without.push_back({row.cls, value_s, holds(threshold, value_s)});
  }
  std::stable_sort(gap.without.begin(), gap.without.end(),
                   [](const RowRemoved& a, const RowRemoved& b) { return a.value_s < b.value_s; });
  return gap;
}

}  // namespace rigwise
