// Hangs as people and programs read them.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "rigwise/hang.h"
#include "rigwise/report.h"

namespace rigwise {

Json verdict_json(const HangVerdict& verdict);

/// Of `runs show --json`: the hangs of a run, without what each process was at.
Json hangs_json(const std::vector<Hang>& hangs);

/// "It stood still for 4 min 12 s at 312 s (hang 1): CLAIM."
std::string hang_sentence(const Hang& hang, const Run& run);

}  // namespace rigwise
