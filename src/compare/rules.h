// Rules: every threshold and severity that a comparison rests on, in one versioned table.
//
// A number changes here and nowhere else, and kRulesVersion goes up with it: verdicts carry the
// version, so that an old record can be read with the rules of its day.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "rigwise/compare.h"
#include "rigwise/stats.h"

namespace rigwise::compare_rules {

inline constexpr int kRulesVersion = 1;

// the verdict
inline constexpr double kFloorPercent = 100 * stats::kRunToRunFrac;  // where none was seen
inline constexpr double kFloorLeastPercent = 0.5;   // no calibration makes it smaller
inline constexpr double kEquivalencePercent = 3.0;  // TOST margin
inline constexpr int kRunsForTest = 3;              // a side, for a test over runs
inline constexpr int kRunsForWelch =
    4;  // below, the sides share one variance (Welch has 2 to 4 df)
inline constexpr double kFloorWeightRuns = 1;   // the floor counts as so many runs' worth of spread
inline constexpr double kPower = 0.9;           // of the run counts that are advised
inline constexpr double kSpreadQuantile = 0.2;  // advice: spread that is exceeded with this chance

// the series
inline constexpr double kEventSds = 6;
inline constexpr double kEventLeastLog = 0.002;  // 0.2 %: below, printing and clock ticks
inline constexpr double kUnexplainedShare = 0.05;
inline constexpr int kMinClean = 50;        // records for a test on one run
inline constexpr double kMinEss = 20;       // effective size for a test on one run
inline constexpr int kMinInterval = 20;     // records for an interval without a verdict
inline constexpr double kMeanOfSteps = 10;  // records that are means of so many steps need less:
inline constexpr int kMinMeans = 20;        // … for a test on one run, and
inline constexpr int kMinRepeated = 10;     // … records a run where three runs a side are tested
inline constexpr double kStrongLag1 = 0.8;  // block bootstrap as a cross-check above
inline constexpr double kChangeShift = 0.03;
inline constexpr int kChangeSegment = 20;
inline constexpr double kVoidGapShare = 0.20;  // receive times: share of gaps below kVoidGap
inline constexpr double kVoidGap_s = 0.001;
inline constexpr double kUnsteadyShare = 2.0 / 3;  // of a side's runs; more, and no verdict

// the gate
inline constexpr double kCaptureBlocks = 0.80, kCaptureCaps = 0.95;
inline constexpr double kOrderGap_s = 3600;
inline constexpr double kForeignCpuShare = 0.05;  // of the machine's CPU during the steps
inline constexpr double kThrottleShare = 0.01;    // of the steps' time
inline constexpr double kStartTempGap_c = 10;
inline constexpr double kAfterBoot_s = 600;  // page cache still cold
inline constexpr double kRateAgreement = 0.05;

// loss and repeatability
inline constexpr int kLossBins = 20;
inline constexpr double kLossTailShare = 0.2;
inline constexpr std::size_t kLossLeastTail = 4;  // losses in the last fifth, for an interval
inline constexpr double kLossMarginShare = 0.01;
inline constexpr double kLossSeedSds = 2;
inline constexpr double kLossResolutions = 10;
inline constexpr int kLossBinsOutside = 4;
inline constexpr double kSpeedSpreadPercent = 2.0;

/// One field of the table in docs (compare.md section 2).
struct FieldRule {
  std::string_view field;
  Impact speed = Impact::none;  // where both sides are known and differ
  Impact loss = Impact::none;
  bool wall = false;  // a difference makes total wall times say nothing
  std::string_view why = {};
  std::string_view change = {};  // the smallest change; empty: rerun with the other side's value
};

/// Settings that are read from facts, in the order in which they are listed.
std::span<const FieldRule> fact_rules();

/// What is not a setting: how it ended, ranks, machine, software, capture, order.
std::span<const FieldRule> state_rules();

/// Of either table; aborts on a name that is in neither (a bug of ours).
const FieldRule& rule_of(std::string_view field);

/// Software whose version decides (C); any other package is noted only.
bool decides_speed(std::string_view package);

/// Fields that follow from the factor under test and are not mismatches of their own.
bool follows(std::string_view factor, std::string_view field);

/// "gpus" → "ranks", "batch" → "micro_batch"; the name itself where it is a field; else empty.
std::string_view factor_field(std::string_view word);

/// A field that a free text such as "second GPU in the x4 slot" speaks of; empty where unclear.
std::string_view factor_in_words(std::string_view text);

}  // namespace rigwise::compare_rules
