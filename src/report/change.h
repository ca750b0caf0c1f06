// A change of ledgers as people and programs read it.
#pragma once

#include <string>

#include "report/figures.h"
#include "rigwise/change.h"
#include "rigwise/report.h"

namespace rigwise {

namespace report {
Answer answer_of(const LedgerChange& change);
}  // namespace report

std::string ledger_change_json(const LedgerChange& change);
std::string ledger_change_text(const LedgerChange& change, const TextStyle& style);

}  // namespace rigwise
