// Blocked: what a process waits for in the kernel: the call, the file behind its descriptor, the
// function that it sleeps in; its threads and its connections.
//
// Everything is read from /proc, and nothing is stopped. `syscall` needs the right to look into the
// process (an ancestor, or root); without it the rest stands alone. A process whose memory map is
// locked in the kernel can hold up whoever reads some of these files: call from a thread that
// nobody waits for.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/hang.h"

namespace rigwise {

/// A line of /proc/PID/syscall: "running", "-1 sp pc", or number, six arguments, sp, pc.
struct KernelCall {
  std::string name = {};       // "read", "futex"; "call 451" of one that has no name here
  std::optional<int> fd = {};  // where its first argument is a descriptor
  std::optional<std::uint64_t> path_at = {};  // where an argument is a path: its address
};
std::optional<KernelCall> parse_syscall(std::string_view text);

/// Fills state, wchan, syscall, waits_fd, waits_on, holds_gpu, threads and connections of
/// `process.pid`.
/// False: it has ended, or another program has its pid by now (its name is not `process.comm`).
bool look_at_kernel(const std::string& proc, ProcessLook& process);

}  // namespace rigwise
