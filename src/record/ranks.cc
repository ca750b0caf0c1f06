#include "record/ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/files.h"
#include "base/text.h"

namespace rigwise {
namespace {

using Args = std::vector<std::string>;

std::string base_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

bool is_python(std::string_view name) {
  return name.starts_with("python") || name.starts_with("pypy");
}
bool is_shell(std::string_view name) {
  return name == "sh" || name == "bash" || name == "zsh" || name == "dash" || name == "ksh" ||
         name == "fish";
}

std::optional<std::string> env_value(const RanksContext& context, std::string_view name) {
  for (const auto& entry : context.env)
    if (entry.size() > name.size() && entry[name.size()] == '=' && entry.starts_with(name))
      return entry.substr(name.size() + 1);
  return std::nullopt;
}

std::optional<int> count_of(std::string_view text) {
  constexpr std::int64_t kMaxRanks = 1 << 20;
  const auto value = to_integer(trim(text));
  if (!value || *value < 1 || *value > kMaxRanks) return std::nullopt;
  return static_cast<int>(*value);
}

/// The options of a launcher: everything up to its own script.
class Options {
 public:
  /// `flags` take no value. `attached`: "-n4" gives -n the value 4.
  Options(const Args& args, std::size_t from, const std::set<std::string, std::less<>>& flags,
          bool attached = false)
      : args_(args) {
    std::size_t i = from;
    while (i < args.size() && args[i].size() > 1 && args[i][0] == '-') {
      if (args[i] == "--") {
        ++i;
        break;
      }
      const std::size_t equals = args[i].find('=');
      std::string name = args[i].substr(0, equals);
      // Two spellings of one option: --nproc-per-node and --nproc_per_node.
      if (name.starts_with("--")) std::replace(name.begin() + 2, name.end(), '-', '_');
      if (equals != std::string::npos) {
        values_.emplace_back(name, args[i].substr(equals + 1));
      } else if (flags.count(name) != 0) {
        values_.emplace_back(name, "");
      } else if (attached && args[i][1] != '-' && args[i].size() > 2 &&
                 count_of(args[i].substr(2))) {
        values_.emplace_back(args[i].substr(0, 2), args[i].substr(2));
      } else if (i + 1 < args.size()) {
        values_.emplace_back(name, args[++i]);
      } else {
        values_.emplace_back(name, "");
      }
      ++i;
    }
    rest_ = i;
  }

  [[nodiscard]] std::optional<std::string> value(
      std::initializer_list<std::string_view> names) const {
    std::optional<std::string> found;  // the last one given wins
    for (const auto& [name, text] : values_)
      if (std::find(names.begin(), names.end(), name) != names.end()) found = text;
    return found;
  }
  [[nodiscard]] bool has(std::string_view name) const { return value({name}).has_value(); }
  [[nodiscard]] Args rest() const {
    return {args_.begin() + static_cast<std::ptrdiff_t>(std::min(rest_, args_.size())),
            args_.end()};
  }

 private:
  const Args& args_;
  std::vector<std::pair<std::string, std::string>> values_;
  std::size_t rest_ = 0;
};

std::filesystem::path absolute_in(const std::string& cwd, const std::string& path) {
  std::filesystem::path result(path);
  return result.is_absolute() ? result : std::filesystem::path(cwd) / result;
}

/// A number at "key:" of a flat YAML or JSON file; configuration files of launchers are that
/// simple.
std::optional<std::string> config_value(const std::filesystem::path& path, std::string_view key) {
  const auto text = read_file(path, 1 << 20);
  if (!text) return std::nullopt;
  for (const auto line : split(*text, '\n')) {
    std::string_view rest = trim(line);
    while (!rest.empty() && (rest.front() == '"' || rest.front() == '{')) rest.remove_prefix(1);
    if (!rest.starts_with(key)) continue;
    rest.remove_prefix(key.size());
    if (rest.starts_with("\"")) rest.remove_prefix(1);
    rest = trim(rest);
    if (!rest.starts_with(":")) continue;
    rest = trim(rest.substr(1));
    while (!rest.empty() && (rest.back() == ',' || rest.back() == '"' || rest.back() == '\''))
      rest.remove_suffix(1);
    while (!rest.empty() && (rest.front() == '"' || rest.front() == '\'')) rest.remove_prefix(1);
    return std::string(rest);
  }
  return std::nullopt;
}

RanksAsked torchrun(const Args& argv, std::size_t from, const RanksContext& context) {
  static const std::set<std::string, std::less<>> kFlags = {
      "--standalone", "--no_python",         "-m", "--module", "--use_env", "--run_path", "-h",
      "--help",       "--virtual_local_rank"};
  const Options options(argv, from, kFlags);
  RanksAsked asked;
  asked.launcher = "torchrun";
  auto per_node = options.value({"--nproc_per_node"});
  std::string said = "torchrun";
  if (!per_node) per_node = env_value(context, "PET_NPROC_PER_NODE");
  if (per_node) said += " --nproc_per_node " + *per_node;
  auto nodes = options.value({"--nnodes"});
  if (!nodes) nodes = env_value(context, "PET_NNODES");
  int node_count = 1;
  if (nodes) {
    said += " --nnodes " + *nodes;
    const std::size_t colon = nodes->find(':');  // elastic "min:max"
    const auto most = count_of(colon == std::string::npos ? *nodes : nodes->substr(colon + 1));
    if (!most) {
      asked.why = said + ": not a number of hosts";
      return asked;
    }
    node_count = *most;
    asked.elastic =
        colon != std::string::npos && nodes->substr(0, colon) != nodes->substr(colon + 1);
  }
  std::optional<int> local = 1;
  if (per_node) {
    const bool gpus = *per_node == "gpu" || *per_node == "xpu";
    if (gpus || (*per_node == "auto" && context.visible_gpus.value_or(0) > 0))
      local = context.visible_gpus;
    else if (*per_node == "cpu" || *per_node == "auto")
      local = context.cpus;
    else
      local = count_of(*per_node);
    if (!local) {
      asked.why = said + ": how many that is depends on the host";
      return asked;
    }
  }
  asked.count = *local * node_count;
  if (node_count > 1) asked.spread(local);
  asked.why = per_node || nodes ? said : said + ": one process by default";
  return asked;
}

RanksAsked accelerate(const Args& argv, std::size_t from, const RanksContext& context) {
  static const std::set<std::string, std::less<>> kFlags = {"--cpu",
                                                            "--multi_gpu",
                                                            "--tpu",
                                                            "--ipex",
                                                            "--use_deepspeed",
                                                            "--use_fsdp",
                                                            "--use_xpu",
                                                            "-m",
                                                            "--module",
                                                            "--no_python",
                                                            "--debug",
                                                            "-q",
                                                            "--quiet",
                                                            "--use_megatron_lm",
                                                            "--same_network",
                                                            "--use_parallelism_config",
                                                            "--tpu_use_cluster",
                                                            "--main_training_function_",
                                                            "-h",
                                                            "--help",
                                                            "--enable_cpu_affinity",
                                                            "--dynamo_use_fullgraph",
                                                            "--dynamo_use_dynamic"};
  const Options options(argv, from, kFlags);
  RanksAsked asked;
  asked.launcher = "accelerate";
  const auto processes = options.value({"--num_processes", "-n"});
  auto machines = options.value({"--num_machines"});
  // The processes are those of all hosts together.
  const auto share_out = [&] {
    const int hosts = machines ? count_of(*machines).value_or(1) : 1;
    if (hosts > 1 && asked.count) asked.spread(std::max(1, *asked.count / hosts));
  };
  std::filesystem::path config;
  if (const auto named = options.value({"--config_file"})) {
    config = absolute_in(context.cwd, *named);
  } else {
    const std::string home =
        context.home.empty() ? env_value(context, "HOME").value_or("") : context.home;
    const std::string cache = env_value(context, "HF_HOME").value_or(home + "/.cache/huggingface");
    config = std::filesystem::path(cache) / "accelerate" / "default_config.yaml";
  }
  if (!machines) machines = config_value(config, "num_machines");
  if (processes) {
    asked.count = count_of(*processes);
    asked.why = "accelerate launch --num_processes " + *processes;
    share_out();
    return asked;
  }
  if (const auto stated = config_value(config, "num_processes")) {
    asked.count = count_of(*stated);
    asked.why = "accelerate launch: num_processes " + *stated + " in " + config.string();
    share_out();
    return asked;
  }
  if (options.has("--cpu")) {
    asked.count = 1;
    asked.why = "accelerate launch --cpu: one process by default";
  } else if (context.visible_gpus) {
    asked.count = std::max(1, *context.visible_gpus);
    asked.why = "accelerate launch: one process a visible GPU by default";
  } else {
    asked.why = "accelerate launch: its default depends on the host";
  }
  return asked;
}

RanksAsked deepspeed(const Args& argv, std::size_t from, const RanksContext& context) {
  static const std::set<std::string, std::less<>> kFlags = {"--force_multi",
                                                            "--no_python",
                                                            "--module",
                                                            "-m",
                                                            "--no_local_rank",
                                                            "--no_ssh",
                                                            "-h",
                                                            "--help",
                                                            "--elastic_training",
                                                            "--save_pid",
                                                            "--enable_each_rank_log_"};
  const Options options(argv, from, kFlags);
  RanksAsked asked;
  asked.launcher = "deepspeed";
  const auto gpus = options.value({"--num_gpus", "--num_accelerators"});
  const auto nodes = options.value({"--num_nodes"});
  const auto hostfile = options.value({"-H", "--hostfile"});
  if (hostfile && !gpus) {
    const auto text = read_file(absolute_in(context.cwd, *hostfile), 1 << 20);
    int slots = 0, hosts_named = 0;
    if (text)
      for (const auto line : split(*text, '\n')) {
        const std::size_t at = line.find("slots=");
        if (at == std::string_view::npos || trim(line).starts_with("#")) continue;
        std::string_view number = line.substr(at + 6);
        number = number.substr(0, number.find_first_not_of("0123456789"));
        slots += count_of(number).value_or(0);
        ++hosts_named;
      }
    if (slots > 0) asked.count = slots;
    if (hosts_named > 1) asked.spread({});
    asked.why = "deepspeed --hostfile " + *hostfile;
    return asked;
  }
  const auto local = gpus ? count_of(*gpus) : context.visible_gpus;
  const auto hosts = nodes ? count_of(*nodes) : std::optional(1);
  if (local && *local > 0 && hosts) asked.count = *local * *hosts;
  if (hosts && *hosts > 1) asked.spread({});  // it starts them by ssh, here as elsewhere
  asked.why = "deepspeed";
  if (gpus) asked.why += " --num_gpus " + *gpus;
  if (nodes) asked.why += " --num_nodes " + *nodes;
  if (!gpus && asked.count) asked.why += ": one process a visible GPU by default";
  if (!asked.count) asked.why += ": its default depends on the host";
  return asked;
}

RanksAsked of_command(const Args& argv, const RanksContext& context, int depth);

/// A launcher inside another one (srun torchrun …) knows the total itself.
std::optional<RanksAsked> inner_launcher(const Args& rest, const RanksContext& context, int depth) {
  if (rest.empty()) return std::nullopt;
  RanksAsked inner = of_command(rest, context, depth + 1);
  if (inner.count && (inner.launcher == "torchrun" || inner.launcher == "accelerate" ||
                      inner.launcher == "deepspeed"))
    return inner;
  return std::nullopt;
}

RanksAsked mpirun(const Args& argv, std::size_t from, const RanksContext& context, int depth,
                  const std::string& launcher) {
  static const std::set<std::string, std::less<>> kFlags = {"--allow_run_as_root",
                                                            "-allow-run-as-root",
                                                            "--oversubscribe",
                                                            "-oversubscribe",
                                                            "-v",
                                                            "--verbose",
                                                            "--tag_output",
                                                            "-tag-output",
                                                            "-q",
                                                            "--quiet",
                                                            "--use_hwthread_cpus",
                                                            "--bind_to_none",
                                                            "-bynode",
                                                            "--bynode",
                                                            "--nolocal",
                                                            "-nolocal",
                                                            "--display_map",
                                                            "--version",
                                                            "--report_bindings",
                                                            "-report-bindings",
                                                            "-l",
                                                            "--gloo",
                                                            "--mpi",
                                                            "--verbose_"};
  Args args = argv;
  // Options with two values, "-x NAME" and "-mca KEY VALUE", would hide what follows.
  for (std::size_t i = from; i < args.size(); ++i)
    if ((args[i] == "--mca" || args[i] == "-mca" || args[i] == "-env" || args[i] == "-genv") &&
        i + 2 < args.size())
      args.erase(args.begin() + static_cast<std::ptrdiff_t>(i) + 2);
  const Options options(args, from, kFlags, true);
  RanksAsked asked;
  asked.launcher = launcher;
  if (auto inner = inner_launcher(options.rest(), context, depth)) return *inner;
  if (const auto count = options.value({"-n", "-np", "--np", "-c", "--n", "--num_proc"})) {
    asked.count = count_of(*count);
    asked.why = launcher + " -n " + *count;
    const auto hosts = options.value({"-H", "-host", "--host", "-hosts", "--hosts"});
    const bool several = hosts && hosts->find(',') != std::string::npos;
    if (several ||
        options.value({"-f", "-hostfile", "--hostfile", "-machinefile", "--machinefile"}))
      asked.spread({});
  } else {
    asked.why = launcher + ": its default depends on the host";
  }
  return asked;
}

RanksAsked srun(const Args& argv, std::size_t from, const RanksContext& context, int depth) {
  static const std::set<std::string, std::less<>> kFlags = {"--exclusive",
                                                            "-l",
                                                            "--label",
                                                            "-u",
                                                            "--unbuffered",
                                                            "-v",
                                                            "--verbose",
                                                            "-Q",
                                                            "--quiet",
                                                            "--pty",
                                                            "-s",
                                                            "--oversubscribe",
                                                            "--overlap",
                                                            "-O",
                                                            "--overcommit",
                                                            "-K",
                                                            "--kill_on_bad_exit_",
                                                            "--no_kill",
                                                            "-k",
                                                            "-E",
                                                            "--preserve_env",
                                                            "--exact",
                                                            "-X",
                                                            "--disable_status",
                                                            "-Z"};
  const Options options(argv, from, kFlags, true);
  RanksAsked asked;
  asked.launcher = "srun";
  if (auto inner = inner_launcher(options.rest(), context, depth)) return *inner;
  const auto tasks = options.value({"-n", "--ntasks"});
  auto nodes = options.value({"-N", "--nodes"});
  auto per_node = options.value({"--ntasks_per_node"});
  if (tasks) {
    asked.count = count_of(*tasks);
    asked.why = "srun --ntasks " + *tasks;
    asked.spread({});  // Slurm's daemon is their parent, on every host
    return asked;
  }
  if (!nodes) nodes = env_value(context, "SLURM_NNODES");
  if (!per_node) per_node = env_value(context, "SLURM_NTASKS_PER_NODE");
  const auto environment = env_value(context, "SLURM_NTASKS");
  if (environment && !options.value({"-N", "--nodes", "--ntasks_per_node"})) {
    asked.count = count_of(*environment);
    asked.why = "srun: SLURM_NTASKS=" + *environment;
    asked.spread({});
    return asked;
  }
  const auto hosts = nodes ? count_of(*nodes) : std::optional(1);
  const auto local = per_node ? count_of(*per_node) : std::optional(1);
  if (hosts && local) asked.count = *hosts * *local;
  asked.spread({});
  asked.why = "srun";
  if (nodes) asked.why += " --nodes " + *nodes;
  if (per_node) asked.why += " --ntasks-per-node " + *per_node;
  if (!nodes && !per_node) asked.why += ": one task by default";
  return asked;
}

/// Commands that run another command: how many of their own words to pass over.
std::optional<Args> behind_wrapper(const Args& argv) {
  const std::string name = base_name(argv[0]);
  std::size_t i = 1;
  const auto skip_options = [&](std::initializer_list<std::string_view> with_value) {
    while (i < argv.size() && argv[i].size() > 1 && argv[i][0] == '-') {
      const bool takes =
          std::find(with_value.begin(), with_value.end(), argv[i]) != with_value.end();
      i += takes ? 2 : 1;
    }
  };
  if (name == "env") {
    skip_options({"-u", "--unset", "-C", "--chdir"});
    while (i < argv.size() && argv[i].find('=') != std::string::npos) ++i;
  } else if (name == "nohup" || name == "setsid" || name == "time" || name == "unbuffer" ||
             name == "systemd-run" || name == "doas") {
    skip_options({"-o", "-f", "-p", "--unit"});
  } else if (name == "nice" || name == "ionice" || name == "chrt" || name == "sudo" ||
             name == "stdbuf") {
    skip_options({"-n", "-c", "-p", "-u", "-g", "-o", "-e", "-i"});
  } else if (name == "taskset") {
    skip_options({"-c", "--cpu-list"});
    if (std::find(argv.begin(), argv.end(), "-c") == argv.end()) ++i;  // a mask
  } else if (name == "timeout") {
    skip_options({"-s", "--signal", "-k", "--kill-after"});
    ++i;
  } else if (name == "numactl") {
    skip_options({"-N", "-m", "-C", "-l"});
  } else if ((name == "uv" || name == "poetry" || name == "pipenv" || name == "pdm" ||
              name == "conda" || name == "mamba" || name == "micromamba") &&
             argv.size() > 1 && argv[1] == "run") {
    i = 2;
    skip_options({"-n", "--name", "-p", "--prefix", "--python", "--with", "--extra", "--group",
                  "--env-file"});
  } else {
    return std::nullopt;
  }
  if (i >= argv.size()) return std::nullopt;
  return Args(argv.begin() + static_cast<std::ptrdiff_t>(i), argv.end());
}

/// A program that is no launcher is one process; with a world's size in its environment, one of
/// that many, whose others are not below it.
void one_of_a_launchers(const RanksContext& context, const std::string& alone, RanksAsked& asked) {
  const auto world = env_value(context, "WORLD_SIZE");
  asked.count = world ? count_of(*world) : std::nullopt;
  asked.why = asked.count ? "WORLD_SIZE=" + *world : alone;
  if (!asked.count) asked.count = 1;
  if (*asked.count > 1) asked.spread(1);
}

/// rigwise-engine starts its own ranks on this host, or is one of a launcher's.
RanksAsked engine(const Args& argv, std::size_t from, const RanksContext& context) {
  RanksAsked asked;
  asked.launcher = "rigwise-engine";
  constexpr std::string_view kFlag = "--ranks";
  for (std::size_t i = from; i < argv.size(); ++i) {
    const std::string_view word = argv[i];
    if (!word.starts_with(kFlag)) continue;
    std::optional<int> count;
    if (word == kFlag && i + 1 < argv.size()) count = count_of(argv[i + 1]);
    if (word.size() > kFlag.size() && word[kFlag.size()] == '=') {
      count = count_of(word.substr(kFlag.size() + 1));
    }
    if (!count) continue;
    asked.count = count;
    asked.why = "rigwise-engine --ranks " + std::to_string(*count);
    return asked;
  }
  one_of_a_launchers(context, "rigwise-engine: one process", asked);
  return asked;
}

/// The launcher that this program or script name is, by its own name.
std::optional<RanksAsked> known_launcher(const std::string& name, const Args& argv,
                                         std::size_t from, const RanksContext& context, int depth) {
  if (name == "torchrun" || name == "torchrun.exe") return torchrun(argv, from, context);
  if (name == "accelerate-launch") return accelerate(argv, from, context);
  if (name == "accelerate") {
    if (from < argv.size() && argv[from] == "launch") return accelerate(argv, from + 1, context);
    return std::nullopt;
  }
  if (name == "deepspeed" || name == "ds") return deepspeed(argv, from, context);
  if (name == "mpirun" || name == "mpiexec" || name == "orterun" || name == "mpiexec.hydra")
    return mpirun(argv, from, context, depth, name == "orterun" ? "mpirun" : name);
  if (name == "horovodrun") return mpirun(argv, from, context, depth, "horovodrun");
  if (name == "srun") return srun(argv, from, context, depth);
  if (name == "rigwise-engine") return engine(argv, from, context);
  if (name == "tune" && from < argv.size() && argv[from] == "run")
    return torchrun(argv, from + 1, context);
  return std::nullopt;
}

RanksAsked python(const Args& argv, const RanksContext& context, int depth) {
  std::size_t i = 1;
  bool module = false;
  while (i < argv.size() && argv[i].size() > 1 && argv[i][0] == '-') {
    if (argv[i] == "-m") {
      module = true;
      ++i;
      break;
    }
    if (argv[i] == "-c") break;
    i += argv[i] == "-X" || argv[i] == "-W" ? 2 : 1;
  }
  if (i < argv.size()) {
    const std::string& what = argv[i];
    if (module) {
      if (what == "torch.distributed.run" || what == "torch.distributed.launch")
        return torchrun(argv, i + 1, context);
      if (what == "accelerate.commands.launch") return accelerate(argv, i + 1, context);
      if (what == "accelerate.commands.accelerate_cli" && i + 1 < argv.size() &&
          argv[i + 1] == "launch")
        return accelerate(argv, i + 2, context);
      if (what == "deepspeed.launcher.runner") return deepspeed(argv, i + 1, context);
    } else if (auto asked = known_launcher(base_name(what), argv, i + 1, context, depth)) {
      return *asked;  // a console script: python /venv/bin/torchrun …
    }
  }
  RanksAsked asked;
  asked.launcher = "python";
  one_of_a_launchers(context, "python: one process", asked);
  return asked;
}

RanksAsked of_command(const Args& argv, const RanksContext& context, int depth) {
  constexpr int kMaxDepth = 6;
  RanksAsked asked;
  if (argv.empty() || depth > kMaxDepth) {
    asked.launcher = "program";
    asked.why = "no command";
    return asked;
  }
  const std::string name = base_name(argv[0]);
  if (auto known = known_launcher(name, argv, 1, context, depth)) return *known;
  if (is_python(name)) return python(argv, context, depth);
  if (const auto inner = behind_wrapper(argv)) return of_command(*inner, context, depth + 1);
  if (is_shell(name)) {
    asked.launcher = "shell";
    asked.why = name + ": what it starts is not known beforehand";
    return asked;
  }
  if (name.ends_with(".py")) return python({"python", argv[0]}, context, depth);
  asked.launcher = "program";
  asked.why = name + ": not a launcher known to rigwise";
  return asked;
}

bool is_real_launcher(const RanksAsked& asked) {
  return asked.launcher != "python" && asked.launcher != "shell" && asked.launcher != "program";
}

}  // namespace

RanksAsked ranks_asked_of(const std::vector<std::string>& argv, const RanksContext& context) {
  return of_command(argv, context, 0);
}

RanksAsked ranks_asked_of_tree(const std::vector<std::vector<std::string>>& command_lines,
                               const RanksContext& context) {
  std::optional<RanksAsked> fallback;
  for (const auto& argv : command_lines) {
    if (argv.empty()) continue;
    RanksAsked asked = of_command(argv, context, 0);
    if (is_real_launcher(asked)) return asked;
    if (asked.launcher == "python" && !fallback) fallback = asked;
  }
  if (fallback) return *fallback;
  RanksAsked none;
  none.launcher = "program";
  none.why = "no launcher was seen in the process tree";
  return none;
}

std::vector<std::string> command_line_of(int pid, const std::string& proc_root) {
  constexpr std::uint64_t kMaxBytes = 1 << 20;
  const auto text =
      read_file(std::filesystem::path(proc_root) / std::to_string(pid) / "cmdline", kMaxBytes);
  std::vector<std::string> argv;
  if (!text) return argv;
  for (const auto part : split(*text, '\0')) argv.emplace_back(part);
  if (!argv.empty() && argv.back().empty()) argv.pop_back();
  return argv;
}

RanksTrained ranks_trained_of(const std::vector<ProcSample>& samples,
                              std::optional<double> first_step_s, std::optional<double> last_step_s,
                              int copies) {
  RanksTrained trained;
  std::set<double> instants;
  for (const auto& sample : samples) instants.insert(sample.t_s);
  if (instants.empty()) {
    trained.why = "no process was sampled";
    return trained;
  }
  // One tick around the steps belongs to them: short runs have few ticks.
  double tick_s = 1;
  if (instants.size() > 1)
    tick_s = (*instants.rbegin() - *instants.begin()) / static_cast<double>(instants.size() - 1);
  double from_s = first_step_s.value_or(*instants.begin()) - tick_s;
  double to_s = last_step_s.value_or(*instants.rbegin()) + tick_s;
  const auto inside = [&](double t_s) { return t_s >= from_s && t_s <= to_s; };
  auto ticks = std::count_if(instants.begin(), instants.end(), inside);
  if (ticks == 0) {
    from_s = *instants.begin();
    to_s = *instants.rbegin();
    ticks = static_cast<std::ptrdiff_t>(instants.size());
  }

  struct Life {
    std::set<double> seen;
    std::map<int, std::pair<double, double>> cpu_s;  // by pid: least and most
    std::string name;
  };
  bool numbered = false;
  for (const auto& sample : samples) numbered = numbered || (sample.role == "rank" && sample.rank);
  std::map<std::pair<bool, int>, Life> lives;  // a rank counts once, however often it was restarted
  for (const auto& sample : samples) {
    if (sample.role != "rank" || !inside(sample.t_s) || (numbered && !sample.rank)) continue;
    Life& life = lives[{sample.rank.has_value(), sample.rank.value_or(sample.pid)}];
    life.name = sample.rank ? std::to_string(*sample.rank) : fmt::format("pid {}", sample.pid);
    life.seen.insert(sample.t_s);
    if (!sample.cpu_s) continue;
    const auto [place, fresh] = life.cpu_s.try_emplace(sample.pid, *sample.cpu_s, *sample.cpu_s);
    if (!fresh) place->second.second = std::max(place->second.second, *sample.cpu_s);
  }
  if (lives.empty()) {
    trained.why = "no process of the tree was recognised as a rank";
    return trained;
  }

  const auto used = [](const Life& life) {
    double sum = 0;
    for (const auto& [pid, range] : life.cpu_s) sum += range.second - range.first;
    return sum;
  };
  double busiest_s = 0;
  for (const auto& [key, life] : lives) busiest_s = std::max(busiest_s, used(life));
  constexpr double kLeastShare = 0.02;  // of the busiest rank's CPU time
  std::vector<std::string> names, idle;
  for (const auto& [key, life] : lives) {
    const bool lived = 2 * static_cast<std::ptrdiff_t>(life.seen.size()) >= ticks;
    // Seen once, it may have worked all the time: there is nothing to take a difference from.
    const bool worked = busiest_s <= 0 || life.cpu_s.empty() || life.seen.size() < 2 ||
                        used(life) >= kLeastShare * busiest_s;
    (lived && worked ? names : idle).push_back(life.name);
  }
  int count = static_cast<int>(names.size());
  trained.why = fmt::format("{} {} lived through the steps and worked",
                            count == 1 ? "rank" : "ranks", join(names, ", "));
  if (!idle.empty()) trained.why += fmt::format("; {} did not", join(idle, ", "));
  if (copies > 1 && count > 1) {
    // Started together, but each trains for itself: the log has every entry several times.
    trained.why += fmt::format("; but each training entry came {} times: they train apart", copies);
    count = std::max(1, count / copies);
  }
  trained.count = count;
  return trained;
}

}  // namespace rigwise
