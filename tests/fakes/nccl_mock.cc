// A program that uses a profiler plug-in as NCCL would and reports what it cost:
//
//   nccl_mock PLUGIN VERSION THREADS CALLS CHANNELS ENDING [CALLS_PER_S]
//
// THREADS communicators, each with a launching thread that makes CALLS collectives of CHANNELS
// channels. ENDING: finalize, exit (main returns with everything open), kill (SIGKILL to itself).
// CALLS_PER_S: of each thread, in bursts of a millisecond; else as fast as it can. Waits for the
// first window. Prints one line of JSON; the time is that inside the calls.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "fakes/nccl_core.h"

using rigwise::fake_nccl::Call;
using rigwise::fake_nccl::Core;

namespace {

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                    std::chrono::nanoseconds(1));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7 && argc != 8) return 2;
  const int burst = argc == 8 ? std::atoi(argv[7]) / 1000 : 0;
  const auto core = Core::load(argv[1], std::atoi(argv[2]));
  if (core == nullptr) return 3;
  const int threads = std::atoi(argv[3]), calls = std::atoi(argv[4]), channels = std::atoi(argv[5]);
  std::vector<void*> contexts;
  for (int t = 0; t < threads; ++t) {
    int result = 0;
    contexts.push_back(core->init("mock", 0x1000u + static_cast<unsigned>(t), 1, 2, 0, &result));
    if (result != 0) return 4;
  }
  for (int i = 0; core->mask() == 0 && i < 30000; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::vector<long> made(static_cast<std::size_t>(threads));
  std::vector<std::uint64_t> inside(made.size());
  const std::uint64_t start = now_ns();
  {
    std::vector<std::jthread> workers;
    for (std::size_t t = 0; t < made.size(); ++t) {
      workers.emplace_back([&, t] {
        Call call;
        call.channels = channels;
        auto due = std::chrono::steady_clock::now();
        for (int i = 0; i < calls; ++i) {
          if (burst > 0 && i % burst == 0)
            std::this_thread::sleep_until(due += std::chrono::milliseconds(1));
          call.sequence = static_cast<std::uint64_t>(i);
          const std::uint64_t at = now_ns();
          made[t] += whole_call(*core, contexts[t], call, "mock", 0x1000u + t, 0, at, at + 1000);
          inside[t] += now_ns() - at;
        }
      });
    }
  }
  const std::uint64_t wall = now_ns() - start;
  std::uint64_t took = 0;
  for (const std::uint64_t ns : inside) took += ns;
  long total = 0;
  for (const long events : made) total += events;
  std::printf("{\"version\": %d, \"events\": %ld, \"seconds\": %.6f, \"ns_per_event\": %.1f}\n",
              core->version(), total, static_cast<double>(wall) * 1e-9,
              total > 0 ? static_cast<double>(took) / static_cast<double>(total) : 0.0);
  std::fflush(stdout);
  if (std::strcmp(argv[6], "kill") == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // as if it had worked on
    std::raise(SIGKILL);
  }
  if (std::strcmp(argv[6], "finalize") == 0) {
    for (void* context : contexts) core->finalize(context);
  }
  return 0;
}
