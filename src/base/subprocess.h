// Subprocess: a short helper command (git, nvidia-smi, ssh -G) run with a time limit and bounded
// output. The user's own command never goes through here: see src/record.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/result.h"

namespace rigwise {

struct ProcessOutput {
  int exit_status = 0;  // 128 + N by signal
  std::string out = {}, err = {};
  bool truncated = false;
};

struct ProcessOptions {
  std::chrono::milliseconds limit{2000};
  std::size_t max_output_bytes = 1 << 20;
  std::optional<std::filesystem::path> cwd = {};
  std::string input = {};                   // given on stdin, which is else empty
  std::vector<std::string> extra_env = {};  // "NAME=value" on top of our own
  // Long work that belongs to the caller's terminal: it stays in our process group, so that Ctrl-C
  // reaches it, and at the limit it is asked to end before it is killed.
  bool share_group = false;
};

/// Runs argv (looked up on PATH, no shell) until it ends, whoever else holds its output open. At
/// the limit the child's process group (the child alone, where the group is shared) is killed.
/// Called within run_in_child, the child belongs to that one's group and ends with it.
/// Errors: not_found (no such program), unavailable (time limit), io.
Result<ProcessOutput> run_process(const std::vector<std::string>& argv,
                                  const ProcessOptions& options = {});

/// What `work` returns, from a forked child: for calls that may crash, or hang inside a driver
/// where no thread could be ended. A child that not even SIGKILL ends (it sits in the kernel) is
/// left behind after a second. Only from a process without other threads. Errors: unavailable (time
/// limit, and nothing else), io (ended by a signal, exception, more than `max_bytes`).
Result<std::string> run_in_child(const std::function<std::string()>& work,
                                 std::chrono::milliseconds limit,
                                 std::size_t max_bytes = std::size_t{4} << 20);

}  // namespace rigwise
