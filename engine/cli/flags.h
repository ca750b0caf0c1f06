// Flags that several verbs share, and what they mean for this process.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "engine/cli/verbs.h"
#include "engine/comm/comm.h"

namespace rigwise::engine {

/// --device, --threads.
struct DeviceFlags {
  std::string device = {};  // empty: see use_device
  std::optional<int> threads = {};
};
void add_device_flags(CLI::App& verb, DeviceFlags& flags);

/// --ranks, --port, --timeout, --interface.
struct RankFlags {
  std::optional<int> ranks = {};
  std::optional<int> port = {};
  double timeout_s = 60;
  std::optional<std::string> interface = {};
};
void add_rank_flags(CLI::App& verb, RankFlags& flags);

/// This process as one rank, or, where it was asked to become several, their common exit code: the
/// ranks have run and ended when it returns. Call it before anything else is done or printed.
/// Errors: usage (half a launch, --ranks against the launcher's own), unavailable (a busy port).
Result<std::variant<RankPlace, int>> start_ranks(const RankFlags& flags, const Program& program);

/// The device that --device names, for this rank: "cuda" is cuda:LOCAL_RANK. Sets libtorch's
/// threads: --threads, else the CPUs shared out among the ranks of this host.
/// Errors: usage (no such device).
Result<at::Device> use_device(const DeviceFlags& flags, const RankPlace& place);

/// The ranks together (comm.h); rank 0 tells on stderr how, where there are several.
Result<std::shared_ptr<Comm>> connect_ranks(const RankFlags& flags, const RankPlace& place,
                                            at::Device device);

}  // namespace rigwise::engine
