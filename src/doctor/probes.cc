#include "doctor/probes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "base/clock.h"
#include "base/files.h"
#include "base/secrets.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "host/kept_file.h"
#include "host/proc_text.h"
#include "host/python.h"
#include "rigwise/units.h"

extern char** environ;

namespace rigwise::doctor {

namespace fs = std::filesystem;

namespace {

constexpr int kFrameworkLimit_s = 120, kGpuLimit_s = 60, kHelloLimit_s = 90, kQuickLimit_s = 120,
              kWholeLimit_s = 300, kNameLimit_s = 5;
constexpr std::chrono::seconds kLookLimit{4};  // files that tell the interpreter
constexpr std::size_t kMostWords = std::size_t{1} << 20, kMostLines = 20000, kMostRanks = 64;

/// A folder for one probe's script and answers. A child waits for our end, however it comes (Ctrl-C
/// and SIGKILL too), or for the probe's, and removes it.
class Workplace {
 public:
  Workplace() {
    std::error_code error;
    const fs::path temporary = fs::temp_directory_path(error);
    std::string name = (error ? fs::path("/tmp") : temporary) / "rigwise-doctor-XXXXXX";
    std::array<int, 2> ends = {};
    if (::mkdtemp(name.data()) == nullptr) return;
    path_ = name;
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return;
    Fd waits(ends[0]);
    life_ = Fd(ends[1]);
    janitor_ = ::fork();
    if (janitor_ != 0) return;
    ::setsid();  // a terminal's Ctrl-C is not for it
    life_.reset();
    char byte = 0;
    while (::read(waits.get(), &byte, 1) < 0 && errno == EINTR) {
    }
    fs::remove_all(path_, error);
    ::_exit(0);
  }
  ~Workplace() {
    life_.reset();
    std::error_code error;
    if (janitor_ > 0)
      ::waitpid(janitor_, nullptr, 0);
    else if (!path_.empty())
      fs::remove_all(path_, error);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  Fd life_;
  pid_t janitor_ = -1;
};

struct Probe {
  std::string script;
  std::vector<std::string> before = {};  // the launcher
  std::vector<std::string> after = {};   // the script's own words
  int limit_s = 60;
};

struct Answer {
  std::string trouble;  // no answer, or an end by signal or status
  std::string no_time;  // the level's time was over before the probe's own limit was
  bool hung = false;
  int exit_status = 0;
  Strings tail = {};                    // last lines of its output
  std::vector<std::string> words = {};  // one text of JSON lines a rank that wrote any
  Strings nccl = {};                    // telling lines of NCCL's log
};

Strings last_lines(const std::string& text) {
  constexpr std::size_t kLines = 6;
  Strings lines;
  for (const auto line : split(text, '\n')) {
    const std::string clean(trim(mask_secrets(clean_text(line, 300))));
    if (!clean.empty()) lines.push_back(clean);
  }
  if (lines.size() > kLines)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(kLines));
  return lines;
}

Answer ask(const Probe& probe, const Budget& budget) {
  Answer answer;
  const auto limit = budget.of(std::chrono::seconds(probe.limit_s));
  if (!limit) {
    answer.no_time = budget.over();
    return answer;
  }
  const Workplace place;
  const fs::path script = place.path() / (probe.script + ".py");
  if (place.path().empty() || !write_file_atomic(script, probe_script(probe.script))) {
    answer.trouble = "no folder for temporary files can be written";
    answer.exit_status = 1;
    return answer;
  }
  std::vector<std::string> argv = probe.before;
  argv.push_back(script.string());
  argv.insert(argv.end(), probe.after.begin(), probe.after.end());
  ProcessOptions options;
  options.limit = *limit;
  // Ctrl-C reaches a launcher so, and at the limit it may end its ranks itself; ranks that are left
  // end with it (common.py)
  options.share_group = true;
  options.extra_env = {"RIGWISE_PROBE_OUT=" + place.path().string()};
  // a little more than our own limit, which names what it ended
  options.extra_env.push_back(fmt::format("RIGWISE_PROBE_LIMIT_S={}", probe.limit_s + 5));
  options.extra_env.push_back("PYTHONUNBUFFERED=1");
  // into files, which also one that hangs leaves
  options.extra_env.push_back("NCCL_DEBUG=INFO");
  options.extra_env.push_back("NCCL_DEBUG_FILE=" + (place.path() / "nccl-%p.log").string());
  const auto output = run_process(argv, options);
  if (!output) {
    answer.hung = output.error().code == Errc::unavailable;
    if (answer.hung && *limit < std::chrono::seconds(probe.limit_s)) answer.no_time = budget.over();
    answer.exit_status = 1;
    answer.trouble = answer.hung ? fmt::format("no answer within {} s", probe.limit_s)
                                 : clean_text(output.error().message, 300);
  } else {
    answer.exit_status = output->exit_status;
    answer.tail = last_lines(output->err.empty() ? output->out : output->err);
    if (answer.exit_status > 128)
      answer.trouble = fmt::format("ended by signal {}", answer.exit_status - 128);
    else if (answer.exit_status != 0)
      answer.trouble = fmt::format("exit {}: {}", answer.exit_status,
                                   answer.tail.empty() ? "" : answer.tail.back());
  }
  std::string log;
  for (const auto& name : list_folder(place.path(), 2 * kMostRanks + 1)) {
    const bool words = name.ends_with(".jsonl");
    if (!words && !name.ends_with(".log")) continue;
    const auto text = read_file(place.path() / name, kMostWords);
    if (text && words) answer.words.push_back(*text);
    if (text && !words) log += *text;
  }
  answer.nccl = nccl_lines(log);
  return answer;
}

/// Calls `take` with each whole line; a half last line is not one.
template <class Take>
void each_line(const std::string& text, Take take) {
  std::string_view rest = text;
  for (std::size_t count = 0; count < kMostLines; ++count) {
    const auto end = rest.find('\n');
    if (end == std::string_view::npos) return;
    take(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
}

Variables own_variables() {
  Variables variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const auto equals = text.find('=');
    if (equals != std::string::npos) variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return variables;
}

// ---- groups -----------------------------------------------------------------------------------

/// What the ranks of a probe said, put together.
struct Ranks {
  int answered = 0, done = 0, together = 0, world = 0;
  std::string last_step;  // of the rank that got least far
  std::string error;
  Strings wrong = {};
  std::vector<PairTime> pairs = {};
  std::optional<double> reduce_bytes, reduce_s;
};

Ranks listen(const Answer& answer) {
  Ranks ranks;
  std::size_t least = ~std::size_t{0};
  for (const auto& text : answer.words) {
    std::size_t steps = 0;
    RankWord all;
    each_line(text, [&](std::string_view line) {
      RankWord word;
      if (!from_json(line, word)) return;
      if (!word.step.empty()) all.step = word.step, ++steps;
      if (word.world) all.world = word.world;
      all.together = all.together || word.together;
      all.done = all.done || word.done;
      if (!word.wrong.empty()) ranks.wrong.push_back(word.wrong);
      if (word.pair) ranks.pairs.push_back(*word.pair);
      if (word.reduce_s) ranks.reduce_s = word.reduce_s, ranks.reduce_bytes = word.reduce_bytes;
      if (!word.error.empty() && ranks.error.empty()) ranks.error = word.error;
    });
    if (all.world) ++ranks.answered;
    ranks.done += all.done ? 1 : 0;
    ranks.together += all.together ? 1 : 0;
    ranks.world = std::max(ranks.world, all.world.value_or(0));
    if (!all.done && steps < least) {
      least = steps;
      ranks.last_step = all.step;
    }
  }
  return ranks;
}

/// What starts `code` in every rank, for a shell.
std::string by_hand(std::vector<std::string> launcher, const FrameworkFacts& framework,
                    std::string code) {
  for (auto& word : {std::string("--no_python"), framework.python, std::string("-c"), code})
    launcher.push_back(word);
  return shell_line(launcher);
}

LauncherTry hello(const std::string& name, const FrameworkFacts& framework,
                  const std::vector<std::string>& launcher, const Budget& budget) {
  LauncherTry one;
  one.name = name;
  one.command = by_hand(launcher, framework,
                        "import torch.distributed as d; d.init_process_group(\"gloo\"); "
                        "print(d.get_rank(), d.get_world_size())");
  const double start = monotonic_s();
  const Answer answer =
      ask({.script = "hello", .before = launcher, .limit_s = kHelloLimit_s}, budget);
  one.seconds = monotonic_s() - start;
  const Ranks ranks = listen(answer);
  one.hung = answer.hung;
  one.no_time = answer.no_time;
  one.exit_status = answer.exit_status;
  one.tail = answer.tail;
  // what a rank says of itself is more than what its launcher says of it
  if (!ranks.error.empty()) one.tail = {ranks.error};
  if (one.tail.empty() && !answer.trouble.empty()) one.tail.push_back(answer.trouble);
  one.answered = ranks.answered;
  one.world = ranks.world;
  one.together = ranks.together == 2;
  one.last_step = ranks.last_step;
  return one;
}

/// A port that nobody listens on now; 0, which leaves the choice to whoever takes it, where none
/// can be had.
int free_port() {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (!fd.valid() || ::bind(fd.get(), any, size) != 0 || ::getsockname(fd.get(), any, &size) != 0)
    return 0;
  return ntohs(address.sin_port);
}

std::vector<std::string> torchrun(const FrameworkFacts& framework, int ranks) {
  return {framework.python, "-m", "torch.distributed.run", "--standalone",
          fmt::format("--nproc-per-node={}", ranks)};
}

CollectiveTry exchange(const FrameworkFacts& framework, const std::string& backend, int ranks,
                       int level, std::optional<double> free_bytes, const Budget& budget) {
  CollectiveTry one;
  one.backend = backend;
  one.ranks = ranks;
  const bool gpus = backend == "nccl";
  one.command = by_hand(
      torchrun(framework, ranks), framework,
      fmt::format("import os, torch, torch.distributed as d; d.init_process_group(\"{}\"); "
                  "x = torch.ones(1 << 22{}); d.all_reduce(x); print(d.get_rank(), x[0].item())",
                  backend, gpus ? ", device=\"cuda:\" + os.environ[\"LOCAL_RANK\"]" : ""));
  // 4 bytes find latency and connections, 256 KiB a path that drops large packets, the last a rate
  const std::string sizes =
      fmt::format("4,262144,{:.0f}", largest_transfer(level, ranks, free_bytes));
  const Answer answer = ask({.script = "collective",
                             .before = torchrun(framework, ranks),
                             .after = {backend, sizes},
                             .limit_s = level >= 3 ? kWholeLimit_s : kQuickLimit_s},
                            budget);
  one.no_time = answer.no_time;
  one.log = answer.nccl;
  const Ranks said = listen(answer);
  one.hung = answer.hung;
  one.exit_status = answer.exit_status;
  one.last_step = said.last_step;
  one.trouble = !said.error.empty()   ? said.error
                : answer.tail.empty() ? answer.trouble
                                      : join(answer.tail, " | ");
  one.wrong = said.wrong;
  one.pairs = said.pairs;
  one.reduce_bytes = said.reduce_bytes;
  one.reduce_s = said.reduce_s;
  one.complete = said.done == ranks;
  return one;
}

// ---- names ------------------------------------------------------------------------------------

/// Addresses of a name, a line each; may wait for a name server.
std::string look_up(const std::string& name) {
  addrinfo wanted = {};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  std::string out;
  if (::getaddrinfo(name.c_str(), nullptr, &wanted, &list) != 0) return out;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    char text[NI_MAXHOST] = {};
    if (::getnameinfo(entry->ai_addr, entry->ai_addrlen, text, sizeof text, nullptr, 0,
                      NI_NUMERICHOST) == 0)
      out += std::string(text) + "\n";
  }
  ::freeaddrinfo(list);
  return out;
}

/// What a recorded machine's etc/hosts says of a name.
std::string look_up_recorded(const HostRoot& root, const std::string& name) {
  std::string out;
  const auto text = read_file(root / "etc/hosts", 1 << 20);
  if (!text) return out;
  Lines lines(*text);
  std::string_view line;
  while (lines.next(line)) {
    Fields fields(line.substr(0, line.find('#')));
    std::string_view address, word;
    if (!fields.next(address)) continue;
    while (fields.next(word)) {
      if (word == name) out += std::string(address) + "\n";
    }
  }
  return out;
}

void read_name(const HostRoot& root, LauncherFacts& into) {
  const auto text = root.live() ? run_in_child([&] { return look_up(into.host); },
                                               std::chrono::seconds(kNameLimit_s))
                                : Result<std::string>(look_up_recorded(root, into.host));
  into.resolver_hung = !text;
  if (!text || text->empty()) return;
  Strings addresses;
  for (const auto line : split(*text, '\n')) {
    if (!line.empty() && std::find(addresses.begin(), addresses.end(), line) == addresses.end())
      addresses.push_back(clean_text(line, 64));
  }
  into.addresses = std::move(addresses);
}

// ---- the interpreter --------------------------------------------------------------------------

/// One place to look for it, and how that is called. `words`: a command line.
struct Place {
  std::vector<std::string> words;
  std::string how;
};

/// The one that is named, else the command's, else that of the environment: the first that is said,
/// whether or not it is there, for else another one would be judged than the one that will run.
Place place_of_python(const DoctorOptions& options, const Variables& variables) {
  if (!options.python.empty()) return {{options.python}, "--python"};
  if (!options.command.empty()) return {options.command, ""};
  if (const auto own = variable(variables, "RIGWISE_PYTHON"); !own.empty())
    return {{own}, "RIGWISE_PYTHON"};
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (const auto prefix = variable(variables, name); !prefix.empty())
      return {{prefix + "/bin/python"}, name};
  }
  return {{"python3"}, "PATH"};
}

FrameworkFacts look_for_python(const DoctorOptions& options) {
  FrameworkFacts out;
  const Variables variables = own_variables();
  const Place place = place_of_python(options, variables);
  const auto found = find_python(options.root, place.words, options.cwd.string(), variables);
  std::error_code error;
  if (found && fs::exists(found->path, error)) {
    out.python = found->path;
    out.python_how = place.how.empty() ? found->how : place.how;
  } else if (found && options.root.live()) {
    out.trouble = found->path + " is not there";
  } else {
    out.trouble = found ? "a recorded machine has no programs to run" : found.error().message;
  }
  if (!out.trouble.empty() && !place.how.empty() && place.how != "PATH")
    out.trouble += " (named by " + place.how + ")";
  return out;
}

}  // namespace

Budget::Budget(double seconds) : whole_s_(seconds), end_s_(monotonic_s() + seconds) {}

double Budget::left_s() const {
  return end_s_ - monotonic_s();
}

std::optional<std::chrono::milliseconds> Budget::of(std::chrono::seconds limit) const {
  const std::chrono::milliseconds left(static_cast<std::int64_t>(left_s() * 1000));
  if (left < std::chrono::seconds(1)) return std::nullopt;
  return std::min<std::chrono::milliseconds>(limit, left);
}

std::string Budget::over() const {
  return "time: the level's " + format_duration(whole_s_) + " are over";
}

void choose_python(const DoctorOptions& options, FrameworkFacts& into) {
  const auto text = run_in_child([&] { return to_json(look_for_python(options)); }, kLookLimit);
  if (!text || !from_json(*text, into))
    into.trouble = "looking for it: " + (text ? std::string("no sense") : text.error().message);
}

std::string nccl_version(const std::string& text) {
  const auto number = to_integer(text);
  if (!number) return text;
  const auto major = *number < 10000 ? 1000 : 10000;  // 2.8.4 is 2804, 2.18.5 is 21805
  return fmt::format("{}.{}.{}", *number / major, *number % major / 100, *number % 100);
}

void place_on_bus(const DeviceFacts& devices, FrameworkFacts& into) {
  for (auto& gpu : into.devices) {
    for (const auto& one : devices.driver) {
      if (gpu.pci.empty() && !gpu.uuid.empty() &&
          (one.device.uuid == gpu.uuid || one.device.uuid == "GPU-" + gpu.uuid))
        gpu.pci = one.device.pci_address;
    }
  }
}

void probe_framework(FrameworkFacts& into, const Budget& budget) {
  const Answer answer =
      ask({.script = "framework", .before = {into.python}, .limit_s = kFrameworkLimit_s}, budget);
  const FrameworkFacts before = into;
  for (const auto& text : answer.words)
    each_line(text, [&](std::string_view line) { (void)from_json(line, into).ok(); });
  into.python = before.python;  // which interpreter was asked is not its to say
  into.python_how = before.python_how;
  into.trouble = answer.trouble;
  into.no_time = answer.no_time;
  into.nccl = nccl_version(into.nccl);
  into.nccl_loaded = nccl_version(into.nccl_loaded);
}

std::vector<GpuWork> probe_gpus(const FrameworkFacts& framework, const Budget& budget) {
  std::vector<GpuWork> all;
  for (const auto& device : framework.devices) {
    const Answer answer = ask({.script = "gpu",
                               .before = {framework.python},
                               .after = {std::to_string(device.index), device.pci},
                               .limit_s = kGpuLimit_s},
                              budget);
    GpuWork work;
    for (const auto& text : answer.words)
      each_line(text, [&](std::string_view line) { (void)from_json(line, work).ok(); });
    work.index = device.index;
    work.pci = device.pci;
    work.hung = answer.hung;
    work.no_time = answer.no_time;
    if (work.trouble.empty()) work.trouble = answer.trouble;
    all.push_back(std::move(work));
  }
  return all;
}

LauncherFacts probe_launchers(const DoctorFacts& facts, const HostRoot& root,
                              const Budget& budget) {
  LauncherFacts out;
  out.host = facts.host.host;
  out.variables = facts.host.variables;
  out.interfaces = list_folder(root / "sys/class/net", 512);
  out.ports_in_use = listening_ports(root, {29500, 29400});
  read_name(root, out);
  const FrameworkFacts& framework = facts.framework;
  if (framework.torch.empty() || !root.live()) {
    out.tries.push_back({.name = "torchrun", .skipped = "no torch to start"});
    return out;
  }
  out.tries.push_back(hello("torchrun", framework, torchrun(framework, 2), budget));
  if (framework.has_accelerate) {
    // the form for several GPUs starts as well without one: the hello itself needs the CPU only
    out.tries.push_back(hello("accelerate", framework,
                              {framework.python, "-m", "accelerate.commands.launch", "--multi_gpu",
                               "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
                               "--dynamo_backend=no", "--main_process_port=0"},
                              budget));
  } else {
    out.tries.push_back({.name = "accelerate", .skipped = "accelerate is not installed"});
  }
  if (!framework.has_deepspeed) {
    out.tries.push_back({.name = "deepspeed", .skipped = "deepspeed is not installed"});
  } else if (framework.gpus.value_or(0) < 2 || !facts.cpu_meant.empty()) {
    out.tries.push_back({.name = "deepspeed", .skipped = "deepspeed counts GPUs: fewer than two"});
  } else {
    out.tries.push_back(hello("deepspeed", framework,
                              {framework.python, "-m", "deepspeed.launcher.runner", "--num_gpus=2",
                               fmt::format("--master_port={}", free_port())},
                              budget));
  }
  return out;
}

double largest_transfer(int level, int ranks, std::optional<double> free_bytes) {
  constexpr double kWhole = 256.0 * (1 << 20), kQuick = 16.0 * (1 << 20), kLeast = 1 << 18;
  // what is sent, what is wanted, what is made of them and the backend's buffers, in half of it
  constexpr double kCopies = 6;
  const double most = level >= 3 ? kWhole : kQuick;
  if (!free_bytes) return most;
  const double room = *free_bytes / 2 / (kCopies * ranks);
  return std::floor(std::clamp(room, kLeast, most) / 4) * 4;
}

CollectiveFacts probe_collectives(const DoctorFacts& facts, int level, const Budget& budget) {
  constexpr int kMostGpus = 8;  // pairs grow with their square
  CollectiveFacts out;
  const FrameworkFacts& framework = facts.framework;
  const int all = facts.cpu_meant.empty() ? framework.gpus.value_or(0) : 0;
  const int gpus = std::min(all, kMostGpus);
  if (framework.torch.empty() || !framework.gloo) {
    out.tries.push_back({.backend = "gloo", .skipped = "no torch with Gloo"});
  } else {
    out.tries.push_back(exchange(framework, "gloo", std::max(2, gpus), level,
                                 facts.host.mem_available_bytes, budget));
  }
  if (framework.nccl.empty() || gpus < 2) {
    out.tries.push_back(
        {.backend = "nccl",
         .skipped = facts.cpu_meant.empty() ? "fewer than two GPUs" : "no GPU is to be used"});
  } else {
    std::optional<double> least;  // each rank has a card of its own: that of the fullest, times all
    for (const auto& gpu : facts.devices.driver) {
      if (!gpu.device.total_bytes || !gpu.sample.used_bytes) continue;
      const double free = (*gpu.device.total_bytes - *gpu.sample.used_bytes) * gpus;
      least = std::min(free, least.value_or(free));
    }
    out.tries.push_back(exchange(framework, "nccl", gpus, level, least, budget));
  }
  for (auto& one : out.tries) one.left_out = all - gpus;
  return out;
}

Strings nccl_lines(std::string_view log) {
  constexpr std::size_t kMostTold = 8;
  Strings warnings, choices;
  for (const auto line : split(log, '\n')) {
    // "host:4127:4140 [0] NCCL WARN Call to connect failed"
    const auto at = line.find("NCCL ");
    if (at == std::string_view::npos) continue;
    const std::string text(trim(mask_secrets(clean_text(line.substr(at), 300))));
    const auto says = [&](std::string_view word) { return text.find(word) != std::string::npos; };
    const bool warning = text.starts_with("NCCL WARN");
    if (!warning && !says("Using network") && !says("NCCL version") && !says(" via ") &&
        !says("P2P is disabled"))
      continue;
    Strings& list = warning ? warnings : choices;
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
  }
  warnings.insert(warnings.end(), choices.begin(), choices.end());
  if (warnings.size() > kMostTold) warnings.resize(kMostTold);
  return warnings;
}

}  // namespace rigwise::doctor
