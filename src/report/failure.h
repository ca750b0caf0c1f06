// A failure as people and programs read it.
#pragma once

#include <string>

#include "rigwise/report.h"
#include "rigwise/triage.h"

namespace rigwise {

std::string failure_json(const Failure& failure);
std::string failure_text(const Failure& failure, const TextStyle& style);

}  // namespace rigwise
