// A doctor's report as people and programs read it.
#pragma once

#include <string>

#include "rigwise/doctor.h"
#include "rigwise/report.h"

namespace rigwise {

/// docs/json.md, "Doctor".
std::string doctor_json(const DoctorReport& report);

/// The answer, one mark a rung, then each finding with its evidence and one thing to try.
std::string doctor_text(const DoctorReport& report, const TextStyle& style);

/// "NOT READY: …" in one line, without colour.
std::string doctor_answer(const DoctorReport& report);

/// One failed check: the finding, what shows it, one thing to try, the command by hand.
std::string check_text(const Check& check, const TextStyle& style);

}  // namespace rigwise
