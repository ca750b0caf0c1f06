// Record: the sentences of the decision record that hold whatever the verdict is.
#pragma once

#include "decide/measure.h"
#include "rigwise/decide.h"

namespace rigwise {

/// Fills summary, baseline_result, candidate_result and side_effects.
void write_record(const DecideInput& input, const SideView& baseline, const SideView& candidate,
                  const std::optional<Threshold>& threshold, const Measurement& measured,
                  Decision& decision);

}  // namespace rigwise
