// The text of data/failures.csv, embedded by the build (cmake/triage.cmake).
#pragma once

#include <string_view>

namespace rigwise {

extern const std::string_view kFailureTable;

}  // namespace rigwise
