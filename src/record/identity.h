// Identity: what run.json says of a run before its command starts, and how its end is put in words.
#pragma once

#include <string>

#include "record/launch.h"
#include "record/secrets.h"
#include "rigwise/record.h"
#include "rigwise/run.h"

namespace rigwise {

/// This host's name, made safe to be part of a file name.
std::string host_name();

std::string working_directory();

RunInfo identity_of(const Launch& launch, const RecordOptions& options, const Secrets& secrets);

/// "exited", "signal SIGKILL", "not found" …: what a wait status or a failed exec says.
Ending ending_of(int wait_status, int exec_error, double wall_s);

}  // namespace rigwise
