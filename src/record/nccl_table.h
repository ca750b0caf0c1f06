// NCCL table: at a run's end, the plug-in's files of this host become profile/nccl.csv.
#pragma once

#include <string>

#include "rigwise/run.h"

namespace rigwise {

/// Reads the files and appends their rows. In a child process with bounded memory, low priority and
/// `limit_s`: the files were written by the user's processes, and the recorder is to stay small.
/// Call while this process has one thread. Returns what is to be said in `missing`; empty where
/// all was read, or where no process used NCCL.
std::string write_nccl_table(RunWriter& writer, double limit_s);

}  // namespace rigwise
