// Roles: which process of the tree launches, which trains (and as which rank), which loads data.
//
// A rank is the topmost process that is neither a launcher nor a wrapper and holds a rank variable
// (RANK, then the MPI and Slurm ones); a descendant with another rank is a rank of its own
// (Lightning starts ranks 1… as children of rank 0). Without any such variable it is the topmost
// Python, or, where there is none, the command itself or a program that stays. Children that are
// connected with each other are ranks however they were started; a parent that is not connected
// with them launched them (torch.multiprocessing.spawn). A program without a number whose copies,
// of the same command line, have one launched them too (rigwise-engine --ranks).
#include <algorithm>
#include <array>

#include "base/text.h"
#include "host/tree.h"

namespace rigwise {

namespace {
std::string_view base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

template <std::size_t N>
bool one_of(std::string_view word, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

constexpr std::array<std::string_view, 14> kLauncherNames = {
    "torchrun",          "accelerate", "deepspeed",     "mpirun",         "mpiexec",
    "orterun",           "prterun",    "srun",          "horovodrun",     "colossalai",
    "accelerate-launch", "composer",   "mpiexec.hydra", "hydra_pmi_proxy"};
constexpr std::array<std::string_view, 9> kLauncherModules = {"torch.distributed.run",
                                                              "torch.distributed.launch",
                                                              "torch.distributed.launcher",
                                                              "accelerate.commands.launch",
                                                              "accelerate",
                                                              "accelerate.commands.accelerate_cli",
                                                              "deepspeed.launcher.launch",
                                                              "deepspeed.launcher.runner",
                                                              "torchrun"};
constexpr std::array<std::string_view, 31> kWrappers = {
    "sh",    "bash",    "dash",   "zsh",    "fish",   "ksh",        "env",     "time",
    "nohup", "timeout", "nice",   "ionice", "setsid", "stdbuf",     "taskset", "numactl",
    "uv",    "uvx",     "poetry", "conda",  "mamba",  "micromamba", "pixi",    "pipenv",
    "hatch", "make",    "sudo",   "docker", "podman", "script",     "tee"};

bool is_python_name(std::string_view name) {
  if (name.starts_with("pypy")) return true;
  if (!name.starts_with("python")) return false;
  return std::all_of(name.begin() + 6, name.end(),
                     [](char c) { return is_digit(c) || c == '.' || c == 't'; });
}

std::string_view without_py(std::string_view name) {
  if (name.ends_with(".py")) name.remove_suffix(3);
  return name;
}

/// What `python …` runs: module or script name.
CommandKind python_kind(const std::vector<std::string>& argv) {
  for (std::size_t i = 1; i < argv.size(); ++i) {
    const std::string_view word = argv[i];
    if (word == "-m") {
      if (i + 1 < argv.size() && one_of(argv[i + 1], kLauncherModules))
        return CommandKind::launcher;
      return CommandKind::python;
    }
    if (word == "-c") return CommandKind::python;
    if (word == "-X" || word == "-W" || word == "--check-hash-based-pycs") {
      ++i;
      continue;
    }
    if (word.starts_with("-")) continue;
    const std::string_view script = without_py(base_name(word));
    if (one_of(script, kLauncherNames)) return CommandKind::launcher;
    if (script == "conda" || script == "poetry" || script == "pipenv" || script == "hatch")
      return CommandKind::wrapper;
    return CommandKind::python;
  }
  return CommandKind::python;
}

bool contains(const std::vector<std::string>& argv, std::string_view what) {
  return std::any_of(argv.begin(), argv.end(),
                     [&](const std::string& word) { return word.find(what) != std::string::npos; });
}

bool looks_like_loader(const RoleInput& process, const RoleInput& parent) {
  if (process.comm == "pt_data_worker") return true;
  if (process.kind != CommandKind::python || process.argv == nullptr) return false;
  if (contains(*process.argv, "multiprocessing.spawn import spawn_main")) return true;
  return parent.argv != nullptr && !process.argv->empty() && *process.argv == *parent.argv;
}
/// Started by a program of no rank to be one of its ranks: the same words, and a number of its own.
bool is_numbered_copy(const RoleInput& process, const RoleInput& parent) {
  const auto numbered = [](const RoleInput& one) { return one.rank_env || one.local_rank_env; };
  return process.kind == CommandKind::program && numbered(process) && !numbered(parent) &&
         process.argv != nullptr && parent.argv != nullptr && !process.argv->empty() &&
         *process.argv == *parent.argv;
}
}  // namespace

CommandKind command_kind(const std::vector<std::string>& argv) {
  if (argv.empty() || argv[0].empty()) return CommandKind::unknown;
  std::string_view name = base_name(argv[0]);
  if (name.starts_with("-")) name.remove_prefix(1);  // a login shell
  if (is_python_name(name)) return python_kind(argv);
  if (one_of(without_py(name), kLauncherNames)) return CommandKind::launcher;
  if (one_of(name, kWrappers)) return CommandKind::wrapper;
  return CommandKind::program;
}

RankWords rank_words(const std::vector<std::string>& environment) {
  static constexpr std::array<std::string_view, 6> kNames = {
      "RANK=",     "OMPI_COMM_WORLD_RANK=", "PMIX_RANK=",
      "PMI_RANK=", "MV2_COMM_WORLD_RANK=",  "SLURM_PROCID="};
  const auto value_of = [&](std::string_view name) -> std::optional<int> {
    for (const auto& entry : environment) {
      if (!entry.starts_with(name)) continue;
      const auto number = to_integer(std::string_view(entry).substr(name.size()));
      if (number && *number >= 0 && *number < 1 << 20) return static_cast<int>(*number);
    }
    return std::nullopt;
  };
  RankWords words;
  for (const auto name : kNames) {
    words.rank = value_of(name);
    if (words.rank) break;
  }
  words.local_rank = value_of("LOCAL_RANK=");
  return words;
}

std::vector<RoleOutput> decide_roles(const std::vector<RoleInput>& processes) {
  std::vector<RoleOutput> out(processes.size());
  std::vector<int> rank_above(processes.size(), -1);  // nearest ancestor that could be a rank
  std::vector<bool> candidate(processes.size(), false);
  const auto number_in_environment = [&](std::size_t i) {
    return processes[i].rank_env ? processes[i].rank_env : processes[i].local_rank_env;
  };
  // Ranks that a program starts by itself inherit its environment: the number in it is not theirs.
  const auto number_of = [&](std::size_t i) {
    const int parent = processes[i].parent;
    auto number = number_in_environment(i);
    if (processes[i].joined && parent >= 0 &&
        number == number_in_environment(static_cast<std::size_t>(parent))) {
      number.reset();
    }
    return number;
  };
  std::vector<bool> started_ranks;
  for (const auto& process : processes) started_ranks.push_back(process.started_ranks);
  for (const auto& process : processes) {
    if (process.joined && process.parent >= 0) {
      const auto p = static_cast<std::size_t>(process.parent);
      started_ranks[p] = !processes[p].joined;
    }
  }
  std::vector<bool> is_copy(processes.size(), false);
  for (std::size_t i = 0; i < processes.size(); ++i) {
    if (processes[i].parent < 0) continue;
    const auto p = static_cast<std::size_t>(processes[i].parent);
    is_copy[i] = is_numbered_copy(processes[i], processes[p]);
    if (is_copy[i]) started_ranks[p] = true;
  }

  for (std::size_t i = 0; i < processes.size(); ++i) {
    const auto& process = processes[i];
    const int parent = process.parent;
    if (parent >= 0) {
      const auto p = static_cast<std::size_t>(parent);
      rank_above[i] = candidate[p] ? parent : rank_above[p];
    }
    if (process.left_behind) continue;
    if (process.kind == CommandKind::launcher || started_ranks[i]) out[i].role = "launcher";
    if (started_ranks[i]) continue;
    if (process.joined || (parent >= 0 && started_ranks[static_cast<std::size_t>(parent)])) {
      candidate[i] = process.joined || is_copy[i];  // its other children are helpers
      continue;
    }
    if (process.kind != CommandKind::python && process.kind != CommandKind::program) continue;
    const int above = rank_above[i];
    if (above < 0) {
      candidate[i] = process.kind == CommandKind::python || process.parent < 0 ||
                     (process.settled && number_of(i)) || process.settled;
    } else {
      const auto own = number_of(i), theirs = number_of(static_cast<std::size_t>(above));
      // Below a rank that was started without a number, a number is what that one has set since.
      candidate[i] = own && own != theirs && (theirs || *own > 0) &&
                     process.kind == CommandKind::python &&
                     !processes[static_cast<std::size_t>(above)].joined;
    }
  }

  // A helper without a rank variable is no rank where its siblings have one; a Python that holds
  // such ranks below it is (it is rank 0 of them).
  bool any_number = false, any_python = false;
  std::vector<bool> has_rank_below(processes.size(), false);
  for (std::size_t i = 0; i < processes.size(); ++i) {
    if (!candidate[i]) continue;
    any_number = any_number || number_of(i).has_value();
    any_python = any_python || processes[i].kind == CommandKind::python;
    if (rank_above[i] >= 0) has_rank_below[static_cast<std::size_t>(rank_above[i])] = true;
  }
  int unnumbered = 0;
  for (std::size_t i = 0; i < processes.size(); ++i) {
    if (!candidate[i]) continue;
    if (any_python && processes[i].kind != CommandKind::python) candidate[i] = false;
    if (any_number && !number_of(i) && !has_rank_below[i] && !processes[i].joined) {
      candidate[i] = false;
    }
    if (candidate[i] && !number_of(i)) ++unnumbered;
  }
  for (std::size_t i = 0; i < processes.size(); ++i) {
    if (candidate[i]) {
      out[i].role = "rank";
      out[i].rank = number_of(i);
      // The last one left of several is not the first for that.
      if (!out[i].rank && unnumbered == 1 && !processes[i].joined) out[i].rank = 0;
      continue;
    }
    const int above = rank_above[i];
    if (above < 0 || !candidate[static_cast<std::size_t>(above)]) continue;
    const auto& rank_process = processes[static_cast<std::size_t>(above)];
    const bool direct = processes[i].parent == above;
    if (processes[i].comm == "pt_data_worker" ||
        (direct && looks_like_loader(processes[i], rank_process))) {
      out[i].role = "loader";
      out[i].rank = number_of(static_cast<std::size_t>(above));
      if (!out[i].rank) out[i].rank = out[static_cast<std::size_t>(above)].rank;
    }
  }
  return out;
}

}  // namespace rigwise
