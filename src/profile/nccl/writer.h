// Writer: the plug-in's own thread. It opens and closes the windows in which NCCL reports (by
// storing into NCCL's activation mask), takes finished operations out of memory and appends them to
// the file that RIGWISE_NCCL_OUT names.
//
// Windows lie at the same wall-clock instants in every process and on every host whose clock is
// set, so that ranks report the same collectives; their place within each period varies, so that
// they cannot lock to the training's own rhythm.
//
// Threads: open_comm and close_comm from any thread; they may take locks and allocate, since NCCL
// calls them when communicators come and go, not while they work.
#pragma once

#include <cstdint>

#include "profile/nccl/events.h"

namespace rigwise::nccl_plugin {

/// What NCCL's init says; -1 and 0 where the interface's version does not.
struct Described {
  std::uint8_t abi = 0;
  const char* name = nullptr;
  std::uint64_t hash = 0;
  std::int32_t nodes = -1, ranks = -1, rank = -1;
};

/// False: there is nowhere to write to, or this process was forked from one that writes: NCCL goes
/// on without the plug-in. True with `context` null: this communicator goes unwatched.
bool open_comm(const Described& described, int* mask, void** context);
void close_comm(void* context);

}  // namespace rigwise::nccl_plugin
