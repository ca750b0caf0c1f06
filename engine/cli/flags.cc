#include "engine/cli/flags.h"

#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/text.h"

namespace rigwise::engine {

void add_device_flags(CLI::App& verb, DeviceFlags& flags) {
  verb.add_option("--device", flags.device,
                  "cpu, cuda (each rank its own) or cuda:N (default: cuda where every rank of this "
                  "host has one, else cpu)")
      ->type_name("NAME");
  verb.add_option("--threads", flags.threads,
                  "CPU threads of each rank (default: the CPUs shared out among this host's ranks)")
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
}

void add_rank_flags(CLI::App& verb, RankFlags& flags) {
  verb.add_option("--ranks", flags.ranks,
                  "Ranks to start on this host (torchrun, srun and mpirun start their own)")
      ->type_name("N")
      ->check(CLI::Range(1, 64));
  verb.add_option("--port", flags.port, "Where --ranks meet (default: a free port)")
      ->type_name("PORT")
      ->check(CLI::Range(1, 65535));
  verb.add_option("--timeout", flags.timeout_s,
                  "Seconds after which a rank that does not answer is given up")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  verb.add_option("--interface", flags.interface,
                  "Network interface between the ranks (default: lo on one host, else the one "
                  "towards rank 0)")
      ->type_name("NAME");
}

Result<std::variant<RankPlace, int>> start_ranks(const RankFlags& flags, const Program& program) {
  using Out = std::variant<RankPlace, int>;
  RW_TRY(RankPlace place, place_from_environment());
  if (place.size > 1) {
    if (flags.ranks && *flags.ranks != place.size) {
      return Error{Errc::usage,
                   fmt::format("--ranks {}, but {} started {} ranks", *flags.ranks, place.launcher,
                               place.size),
                   "leave --ranks out under a launcher"};
    }
    return Out(std::move(place));
  }
  if (flags.ranks.value_or(1) == 1) return Out(std::move(place));
  RanksOptions options;
  options.ranks = *flags.ranks;
  options.port = flags.port;
  RW_TRY(const int status, run_ranks(program.argv, options, [](std::string_view line) {
           const char* over_bar = ::isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";
           std::fprintf(stderr, "%srigwise-engine: %.*s\n", over_bar, static_cast<int>(line.size()),
                        line.data());
         }));
  return Out(status);
}

Result<at::Device> use_device(const DeviceFlags& flags, const RankPlace& place) {
  int threads = threads_per_rank(place.local_size);
  if (const char* wanted = std::getenv("OMP_NUM_THREADS"); wanted != nullptr) {
    // torchrun sets 1 for everyone who did not choose
    const auto number = to_integer(wanted);
    const bool chosen = place.launcher != "torchrun" || number != 1;
    if (number && *number > 0 && *number <= 4096 && chosen) threads = static_cast<int>(*number);
  }
  at::set_num_threads(flags.threads.value_or(threads));

  if (flags.device == "cpu") return at::Device(at::kCPU);  // and leave the GPUs' driver asleep
  const auto count =
      at::hasCUDA() ? static_cast<std::int64_t>(at::detail::getCUDAHooks().deviceCount()) : 0;
  const bool each_has_one = count > 0 && count >= place.local_size;
  const std::string_view name = !flags.device.empty() ? std::string_view(flags.device)
                                : each_has_one        ? "cuda"
                                                      : "cpu";
  if (name == "cpu") return at::Device(at::kCPU);
  const auto index = name.starts_with("cuda:") ? to_integer(name.substr(5)) : std::nullopt;
  if (name != "cuda" && !index) {
    return Error{Errc::usage, fmt::format("unknown device '{}'", clean_text(name, 40)),
                 "cpu, cuda or cuda:N"};
  }
  if (count == 0) {
    return Error{Errc::usage,
                 fmt::format("device '{}': libtorch sees no CUDA device", clean_text(name, 40)),
                 "nvidia-smi shows what the driver sees; the engine must be built against a torch "
                 "with CUDA (rigwise-engine --version)"};
  }
  const std::int64_t wanted = index.value_or(place.local_rank % count);
  if (wanted < 0 || wanted >= count) {
    return Error{Errc::usage, fmt::format("device '{}': there are {}", clean_text(name, 40), count),
                 "they count from 0"};
  }
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(wanted));
}

Result<std::shared_ptr<Comm>> connect_ranks(const RankFlags& flags, const RankPlace& place,
                                            at::Device device) {
  CommOptions options;
  options.device = device;
  options.timeout_s = flags.timeout_s;
  options.interface = flags.interface;
  options.on_stuck = [](const Error& error) { std::_Exit(fail(error)); };
  RW_TRY(auto comm, connect(place, options));
  if (comm->rank() == 0 && comm->size() > 1 && !comm->notes().empty()) {
    std::fprintf(stderr, "rigwise-engine: %d ranks, %s\n", comm->size(), comm->notes()[0].c_str());
  }
  return comm;
}

}  // namespace rigwise::engine
