// Rivals: other options that were recorded under the same statement, and what choosing this one
// costs beside the best of them.
#pragma once

#include "decide/measure.h"
#include "rigwise/decide.h"

namespace rigwise {

/// Fills `regret` and adds to the summary and the next action of a decision that is made.
void weigh_rivals(const DecideInput& input, const SideView& candidate, Decision& decision);

}  // namespace rigwise
