// Report of plans: text and JSON of predictions and of how well they did. Pure, as report.h.
#pragma once

#include <string>
#include <vector>

#include "rigwise/plan.h"
#include "rigwise/plan_options.h"
#include "rigwise/report.h"

namespace rigwise {

/// One line a group with its error, coverage and the trivial predictors beside it.
std::string scorecard_text(const Scorecard& card, const TextStyle& style);
/// One object a line: {"id", "predicted", "low", "high", "refused", "why"}.
std::string predictions_json(const std::vector<CasePrediction>& predictions);

/// Does it fit, what dominates, what to change before buying more.
std::string fit_text(const FitPlan& plan, const Workload& workload, const TextStyle& style);
/// Every option in one table, best first.
std::string options_text(const OptionPlan& plan, const OptionContext& context,
                         const TextStyle& style);
std::string options_json(const OptionPlan& plan, const OptionContext& context);
std::string fit_json(const FitPlan& plan, const Workload& workload);

}  // namespace rigwise
