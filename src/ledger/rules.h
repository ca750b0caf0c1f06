// Rules: every threshold of the ledger, each with its signal, source and next step, in one table
// (docs/ledger.md shows the same table; a test compares them). A changed figure raises
// kLedgerRulesVersion.
#pragma once

#include <span>
#include <string_view>

#include "rigwise/ledger.h"

namespace rigwise {

inline constexpr int kLedgerRulesVersion = 3;

struct Rule {
  std::string_view id;         // "bottleneck-checkpoint", "clocks-held"
  std::string_view signal;     // what is looked at
  double limit;                // the figure
  std::string_view threshold;  // in words, with the figure
  std::string_view source;
  std::string_view next_step;
};

std::span<const Rule> ledger_rules();
/// The rule of that id; a name that is not in the table is a bug and aborts.
const Rule& ledger_rule(std::string_view id);
/// The rule that makes a class a bottleneck; nullptr for classes that have none (compute, …).
const Rule* bottleneck_rule(LedgerClass cls);

}  // namespace rigwise
