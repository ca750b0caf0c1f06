// A failure as people and programs read it.
#pragma once

#include <string>

#include "rigwise/report.h"
#include "rigwise/triage.h"

namespace rigwise {

std::string failure_json(const Failure& failure);
std::string failure_text(const Failure& failure, const TextStyle& style);

/// What `run` says of a command that failed (without the "rigwise: " of the first line): how it
/// ended, and the failure in three lines. Empty where the failure has no cause that is shown.
std::string failed_closing_text(const Run& run, const Failure& failure, const TextStyle& style);

}  // namespace rigwise
