#include "engine/comm/ranks.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "base/text.h"

namespace rigwise::engine {

namespace {

constexpr std::int64_t kMostRanks = 4096;
constexpr int kDefaultPort = 29500;  // torchrun's

/// The variables of one launcher. Empty names: it has no such variable.
struct Launcher {
  const char* name;
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};

constexpr Launcher kTorchrun = {"environment", "RANK", "WORLD_SIZE", "LOCAL_RANK",
                                "LOCAL_WORLD_SIZE"};
constexpr Launcher kOpenMpi = {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                               "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Launcher kHydra = {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID",
                             "MPI_LOCALNRANKS"};
constexpr Launcher kSrun = {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""};

Error bad_variable(const char* name, const std::string& text, const std::string& why) {
  return Error{Errc::usage, fmt::format("{}='{}': {}", name, clean_text(text, 80), why),
               "start the ranks with one launcher only, or unset its variables"};
}

Result<int> number_in(const ReadEnvironment& read, const char* name, std::int64_t least,
                      std::int64_t most) {
  const auto text = read(name);
  if (!text) {
    return Error{Errc::usage,
                 fmt::format("{} is not set, but other variables of its launcher are", name),
                 "set all of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or none"};
  }
  const auto value = to_integer(*text);
  if (!value) return bad_variable(name, *text, "not a whole number");
  if (*value < least || *value > most) {
    return bad_variable(name, *text, fmt::format("not between {} and {}", least, most));
  }
  return static_cast<int>(*value);
}

Result<RankPlace> place_of(const Launcher& launcher, const ReadEnvironment& read) {
  RankPlace place;
  place.launcher = launcher.name;
  RW_TRY(place.size, number_in(read, launcher.size, 1, kMostRanks));
  RW_TRY(place.rank, number_in(read, launcher.rank, 0, kMostRanks - 1));
  if (place.rank >= place.size) {
    return Error{Errc::usage,
                 fmt::format("{}={} is not below {}={}", launcher.rank, place.rank, launcher.size,
                             place.size),
                 "ranks count from 0"};
  }
  place.local_rank = place.rank;
  place.local_size = place.size;
  if (read(launcher.local_rank)) {
    RW_TRY(place.local_rank, number_in(read, launcher.local_rank, 0, kMostRanks - 1));
  }
  if (*launcher.local_size != '\0' && read(launcher.local_size)) {
    RW_TRY(place.local_size, number_in(read, launcher.local_size, 1, kMostRanks));
  }
  place.master_port = kDefaultPort;
  if (read("MASTER_PORT")) {
    RW_TRY(place.master_port, number_in(read, "MASTER_PORT", 1, 65535));
  }
  if (const auto host = read("MASTER_ADDR"); host && !host->empty()) place.master_host = *host;
  return place;
}

/// torchrun, run_ranks() and people by hand set the same variables.
Result<RankPlace> place_of_torchrun(const ReadEnvironment& read) {
  RW_TRY(RankPlace place, place_of(kTorchrun, read));
  if (place.size > 1 && !read("MASTER_ADDR")) {
    return Error{Errc::usage, "WORLD_SIZE is set, but MASTER_ADDR is not",
                 "export MASTER_ADDR=the host of rank 0 on every host"};
  }
  if (read("RIGWISE_MEETING_FD")) {
    place.launcher = "rigwise-engine";
    if (place.rank == 0) {
      RW_TRY(place.meeting_fd, number_in(read, "RIGWISE_MEETING_FD", 0, 1 << 20));
    }
  } else if (read("TORCHELASTIC_RUN_ID")) {
    place.launcher = "torchrun";
    place.meeting_held = read("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
    place.meeting_prefix = read("TORCHELASTIC_RUN_ID").value_or("") + "/" +
                           read("TORCHELASTIC_RESTART_COUNT").value_or("0") + "/";
  }
  return place;
}

Result<RankPlace> place_of_srun(const ReadEnvironment& read) {
  Launcher launcher = kSrun;
  if (!read(launcher.size)) launcher.size = "SLURM_NTASKS";
  RW_TRY(RankPlace place, place_of(launcher, read));
  // "2(x3),1": tasks on each node of the step; those of ours are not told apart, so the first.
  const std::string tasks = read("SLURM_STEP_TASKS_PER_NODE").value_or("");
  const auto first = to_integer(std::string_view(tasks).substr(0, tasks.find_first_of("(,")));
  if (first && *first > place.local_rank && *first <= kMostRanks) {
    place.local_size = static_cast<int>(*first);
  }
  if (!read("MASTER_ADDR") && place.size > place.local_size) {
    auto list = read("SLURM_STEP_NODELIST");
    if (!list) list = read("SLURM_JOB_NODELIST");
    place.master_host = first_slurm_host(list.value_or(""));
    if (place.master_host.empty()) {
      return bad_variable("SLURM_JOB_NODELIST", list.value_or(""), "no node list");
    }
  }
  if (!read("MASTER_PORT")) {
    // two jobs on one host must not meet each other
    const auto job = to_integer(read("SLURM_JOB_ID").value_or("")).value_or(0);
    const auto step = to_integer(read("SLURM_STEP_ID").value_or("")).value_or(0);
    place.master_port = static_cast<int>(20000 + (job % 1000) * 10 + step % 10);
  }
  return place;
}

Result<RankPlace> place_of_mpirun(const Launcher& launcher, const ReadEnvironment& read) {
  RW_TRY(RankPlace place, place_of(launcher, read));
  if (!read("MASTER_ADDR") && place.size > place.local_size) {
    return Error{
        Errc::usage,
        fmt::format("{} ranks on more than one host, and MASTER_ADDR is not set", place.size),
        "mpirun -x MASTER_ADDR=the host of rank 0 …"};
  }
  return place;
}

/// The CPUs that a cgroup's quota is worth, if it has one.
std::optional<double> cgroup_cpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");  // version 2
  std::string quota;
  double period_us = 0;
  if (!(file >> quota >> period_us) || period_us <= 0) return {};
  const auto quota_us = to_number(quota);  // "max" is none
  if (!quota_us || *quota_us <= 0) return {};
  return *quota_us / period_us;
}

}  // namespace

Result<RankPlace> place_from_environment(const ReadEnvironment& read) {
  if (read("RANK") || read("WORLD_SIZE")) return place_of_torchrun(read);
  if (read(kOpenMpi.rank)) return place_of_mpirun(kOpenMpi, read);
  if (read(kHydra.rank)) return place_of_mpirun(kHydra, read);
  // SLURM_PROCID=0 stands in a batch script too; only a step has an id
  if (read("SLURM_STEP_ID") && read(kSrun.rank)) return place_of_srun(read);
  return RankPlace{};
}

Result<RankPlace> place_from_environment() {
  return place_from_environment([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    if (value == nullptr) return {};
    return value;
  });
}

std::string first_slurm_host(std::string_view list) {
  const std::size_t bracket = list.find('[');
  const std::size_t comma = list.find(',');
  if (bracket == std::string_view::npos || comma < bracket) {
    return std::string(trim(list.substr(0, comma)));
  }
  const std::size_t close = list.find(']', bracket);
  if (close == std::string_view::npos) return "";
  const std::string_view inside = list.substr(bracket + 1, close - bracket - 1);
  const std::string_view first = inside.substr(0, inside.find_first_of(",-"));
  if (first.empty()) return "";
  std::string_view rest = list.substr(close + 1);
  rest = rest.substr(0, rest.find(','));
  if (rest.find('[') != std::string_view::npos) {  // "rack[1-2]n[3-4]"
    const std::string tail = first_slurm_host(rest);
    if (tail.empty()) return "";
    return std::string(list.substr(0, bracket)) + std::string(first) + tail;
  }
  return std::string(list.substr(0, bracket)) + std::string(first) + std::string(rest);
}

int threads_per_rank(int local_size) {
  double cpus = std::max(1U, std::thread::hardware_concurrency());
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) cpus = CPU_COUNT(&set);
  if (const auto quota = cgroup_cpus()) cpus = std::min(cpus, std::ceil(*quota));
  return std::max(1, static_cast<int>(cpus) / std::max(1, local_size));
}

}  // namespace rigwise::engine
