// Recorder: makes the run directory, samples, reads the log, watches checkpoints, closes the run.
// It may be killed or hang at any instant: the command never notices.
//
// Threads: one loop; the sampler's sources have threads of their own. What reads much or may hang
// (software, hardware, hashes of files) runs in a helper process with low priority.
#pragma once

#include "record/channel.h"
#include "record/launch.h"
#include "rigwise/record.h"

namespace rigwise {

/// The recorder's process, from fork to exit. Its first act is to fork the keeper.
[[noreturn]] void recorder_main(Launch& launch, const RecordOptions& options, Fd to_front,
                                Fd keeper_to_front);

/// Stands in for a recorder that was killed before it had told of its run directory: takes that one
/// over, or makes another, tells the front of it and ends. Nothing is sampled then, but the log is
/// kept and the run can be closed.
[[noreturn]] void stand_in_main(const Launch& launch, const RecordOptions& options, Fd to_front);

}  // namespace rigwise
