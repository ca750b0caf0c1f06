// stack_speed PID [SECONDS] [HZ]: what reading the Python stack of a live process costs.
//
// Samples at HZ (0 = as fast as it goes) and prints microseconds (by the clock; and on a core,
// which is what counts on a busy machine) and reads a sample, the share of a core, torn samples and
// the commonest innermost functions.
#include <fmt/format.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "rigwise/stacks.h"

namespace {

double seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const double length_s = argc > 2 ? std::atof(argv[2]) : 10;
  const double rate_hz = argc > 3 ? std::atof(argv[3]) : 20;
  auto process = rigwise::PythonProcess::attach(std::atoi(argv[1]));
  if (!process) {
    fmt::print("{}\n  {}\n", process.error().message, process.error().hint);
    return 1;
  }
  std::vector<rigwise::PythonFrame> frames;
  std::map<rigwise::StackRead, int> results;
  std::map<std::string, int> leaves;
  double depth = 0, spent_s = 0, longest_s = 0;
  const double begin_s = seconds_of(CLOCK_MONOTONIC), cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
  int samples = 0;
  for (double now_s = begin_s; now_s < begin_s + length_s; ++samples) {
    const auto result = process->sample(frames);
    const double after_s = seconds_of(CLOCK_MONOTONIC);
    spent_s += after_s - now_s;
    longest_s = std::max(longest_s, after_s - now_s);
    ++results[result];
    depth += static_cast<double>(frames.size());
    if (result == rigwise::StackRead::whole && !frames.empty())
      ++leaves[fmt::format("{} ({}:{})", frames[0].code->function, frames[0].code->file,
                           process->line_of(frames[0]))];
    if (result == rigwise::StackRead::gone) break;
    if (rate_hz > 0) std::this_thread::sleep_for(std::chrono::duration<double>(1 / rate_hz));
    now_s = seconds_of(CLOCK_MONOTONIC);
  }
  const double used_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_s;
  const double wall_s = seconds_of(CLOCK_MONOTONIC) - begin_s;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto share = [&](rigwise::StackRead what) { return 100.0 * results[what] / samples; };
  fmt::print(
      "CPython {}: {} samples in {:.1f} s, {:.1f} frames each\n"
      "{:.1f} us a sample (longest {:.0f}), of them {:.1f} us on a core, {:.1f} reads; "
      "{:.3f} % of a core, {:.1f} MB\n"
      "whole {:.2f} %, no frame {:.2f} %, torn {:.2f} %\n",
      process->version(), samples, wall_s, depth / samples, spent_s / samples * 1e6,
      longest_s * 1e6, used_s / samples * 1e6, static_cast<double>(process->reads()) / samples,
      100 * used_s / wall_s, static_cast<double>(usage.ru_maxrss) / 1024,
      share(rigwise::StackRead::whole), share(rigwise::StackRead::no_frame),
      share(rigwise::StackRead::torn));
  std::vector<std::pair<int, std::string>> order;
  for (const auto& [name, count] : leaves) order.emplace_back(count, name);
  std::sort(order.rbegin(), order.rend());
  for (std::size_t i = 0; i < std::min<std::size_t>(order.size(), 12); ++i)
    fmt::print("{:6.2f} %  {}\n", 100.0 * order[i].first / samples, order[i].second);
}
