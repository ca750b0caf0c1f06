// Keeper: starts the command, moves its bytes, waits for its exit. It does nothing else, so that
// little can go wrong with it; it needs neither front nor recorder to do it.
//
// Threads: the main one waits (signals, channels, attach socket), one copier a stream, one log
// writer.
#pragma once

#include "record/channel.h"
#include "record/launch.h"

namespace rigwise {

/// The keeper's process, from fork to exit. `to_recorder` brings the run directory; where it does
/// not come within 40 ms the command is started without waiting and the log follows when it does.
[[noreturn]] void keeper_main(Launch& launch, Fd to_front, Fd to_recorder);

}  // namespace rigwise
