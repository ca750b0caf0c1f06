// Ranks: how many ranks the command asked for, and how many really trained. The two differ more
// often than one thinks: `accelerate launch --cpu --num_processes 2` starts one process and says
// nothing.
//
// Pure functions over argv, environment, small configuration files and ProcSample rows, so that
// both work on live and on recorded runs.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

struct RanksAsked {
  std::optional<int> count = {};  // empty: not stated, or unknown (a shell script)
  bool elsewhere = false;         // not all of them are of this command's process tree
  std::optional<int> here = {};   // then: those that are, where that is known
  bool elastic = false;           // `count` is what may join at the most
  std::string why = {};           // "torchrun --nproc_per_node 2", "python: one process"
  std::string launcher = {};      // "torchrun", "accelerate", "deepspeed", "mpirun", "srun",
                                  // "horovodrun", "rigwise-engine", "python", "shell",
                                  // "program"

  /// So many of them are this command's own, the others elsewhere.
  void spread(std::optional<int> own) {
    elsewhere = true;
    here = own;
  }
};

/// What stands in for the machine where the launcher's own default depends on it.
struct RanksContext {
  std::vector<std::string> env = {};     // "NAME=value" as the command gets it
  std::string cwd = {};                  // relative config and host files
  std::string home = {};                 // accelerate's default configuration; empty: $HOME of env
  std::optional<int> visible_gpus = {};  // of this host; for "auto" and "gpu"
  std::optional<int> cpus = {};          // for --nproc_per_node cpu
};

/// From the command itself. A shell wrapper gives an empty count: ask ranks_asked_of_tree then.
RanksAsked ranks_asked_of(const std::vector<std::string>& argv, const RanksContext& context);

/// From the command lines of the process tree (/proc/PID/cmdline, root first): the first launcher
/// that states a number. Nothing found: an empty count.
RanksAsked ranks_asked_of_tree(const std::vector<std::vector<std::string>>& command_lines,
                               const RanksContext& context);

/// argv of a process from /proc/PID/cmdline; empty when it is gone.
std::vector<std::string> command_line_of(int pid, const std::string& proc_root = "/proc");

struct RanksTrained {
  std::optional<int> count = {};  // empty: not shown (no samples during the steps)
  std::string why = {};           // "ranks 0, 1 lived through the steps"
};

/// From rows of the run: processes of role "rank" that were there for half of the ticks during the
/// steps and used CPU. `first_step_s`, `last_step_s`: instants of the first and last training
/// record; without them the whole run counts. A rank counts once however often it was restarted.
/// `copies`: LogReader::copies(), since ranks that never joined each print every entry, and are one
/// training.
RanksTrained ranks_trained_of(const std::vector<ProcSample>& samples,
                              std::optional<double> first_step_s, std::optional<double> last_step_s,
                              int copies = 1);

}  // namespace rigwise
