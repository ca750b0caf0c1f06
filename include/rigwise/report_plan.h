// Report of plans: text and JSON of predictions and of how well they did. Pure, as report.h.
#pragma once

#include <string>
#include <vector>

#include "rigwise/plan.h"
#include "rigwise/report.h"

namespace rigwise {

/// One line a group with its error, coverage and the trivial predictors beside it.
std::string scorecard_text(const Scorecard& card, const TextStyle& style);
/// One object a line: {"id", "predicted", "low", "high", "refused", "why"}.
std::string predictions_json(const std::vector<CasePrediction>& predictions);

}  // namespace rigwise
