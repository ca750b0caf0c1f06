// Ranks: how a process learns which rank of how many it is, and how one program becomes several.
//
//   --ranks N on one host   run_ranks() starts this program N times and watches over the ranks
//   torchrun and by hand    RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR,
//   MASTER_PORT mpirun                  OMPI_COMM_WORLD_RANK/_SIZE/_LOCAL_RANK/_LOCAL_SIZE, or
//   PMI_RANK/_SIZE srun                    SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID,
//   SLURM_JOB_NODELIST
//
// Knows no libtorch.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"

namespace rigwise::engine {

struct RankPlace {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;     // on this host
  std::string master_host = "127.0.0.1";  // where the ranks meet
  int master_port = 0;
  bool meeting_held = false;           // by the launcher (torchrun's agent), else rank 0 holds it
  std::optional<int> meeting_fd = {};  // rank 0 of run_ranks(): the socket that listens already
  std::string meeting_prefix = {};     // tells this attempt from an earlier one at the same place
  std::string launcher = "none";       // none, rigwise-engine, torchrun, mpirun, srun, environment
};

using ReadEnvironment = std::function<std::optional<std::string>(const char* name)>;

/// A place from the variables of the first launcher found in the order above (rigwise-engine's own,
/// torchrun's, mpirun's, srun's); one rank where there is none. `srun --pty bash` and the shell of
/// an allocation are no launch. Errors: usage (half a launch: a variable that is missing, no
/// number, a rank that is not below the size), which names the variable.
Result<RankPlace> place_from_environment(const ReadEnvironment& read);
Result<RankPlace> place_from_environment();

/// The first host of a Slurm node list: "gpu[03-05,9],login1" is gpu03. Empty: the list is
/// malformed.
std::string first_slurm_host(std::string_view list);

/// CPU threads for one of `local_size` ranks: the CPUs this process may use (affinity, cgroup
/// quota) shared out, at least 1.
int threads_per_rank(int local_size);

struct RanksOptions {
  int ranks = 2;
  std::optional<int> port = {};  // else a free one
  double grace_s = 5;            // between the first failure and SIGTERM, and from there to SIGKILL
};

/// Starts this program's `argv` as `ranks` ranks on this host and waits for them. Signals sent to
/// this process reach the ranks; when it is killed they end. When a rank fails, the others get
/// grace_s to say so themselves and are then ended. `say` is given one line for each thing that
/// went wrong ("rank 1 (pid 4242) was killed by signal 9"). Returns the exit status of the first
/// failure: the rank's own, 1 where a signal killed it, 130/143 where we were interrupted.
/// Errors: unavailable (the port is taken), io.
Result<int> run_ranks(const std::vector<std::string>& argv, const RanksOptions& options,
                      const std::function<void(std::string_view)>& say);

}  // namespace rigwise::engine
