// A failed run's directory → its failure: what its command wrote, how it ended, and what the
// machine showed then.
#pragma once

#include <cstdint>

#include "rigwise/result.h"
#include "rigwise/run.h"
#include "rigwise/triage.h"

namespace rigwise::cli {

/// Of each log, where a person waits at the end of something else.
inline constexpr std::uint64_t kLogEnds_bytes = 64 << 20;

/// Reads log/*.log of the run, of each file at most its last `most_bytes` (lines are counted all
/// the same), and the ending; where the machine's own samples confirm the failure, `confirms` says
/// so with their file; the runs beside it tell what has changed since the last good one. Errors:
/// unavailable (the run has no log), io.
Result<Failure> failure_of_run(const Run& run, const Signatures& signatures,
                               std::uint64_t most_bytes);

/// Pushes the whole file, from `from` on, in pieces; before it only counts lines. Errors:
/// not_found, io.
Status push_file(Triage& triage, const std::filesystem::path& path, const LogName& name,
                 std::uint64_t most_bytes);

}  // namespace rigwise::cli
