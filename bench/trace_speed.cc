// Reads one trace and prints, as one JSON object, what it took and how the trace is parted: for
// bench/trace.py.
//
//   trace_speed FILE
#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>

#include "rigwise/trace.h"

namespace {

double cpu_s() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

double peak_mib() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("trace_speed FILE\n", stderr);
    return 2;
  }
  const double cpu_before_s = cpu_s();
  const auto start = std::chrono::steady_clock::now();
  const auto read = rigwise::read_trace(argv[1]);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (!read) {
    std::fprintf(stderr, "%s\n", read.error().message.c_str());
    return 1;
  }
  const auto& total = read->total;
  std::string streams;
  for (const auto& row : read->streams) {
    streams += fmt::format(
        "{}\"{}\": {{\"host_wait\": {:.9f}, \"kernel_wait\": {:.9f}, \"other\": {:.9f}}}",
        streams.empty() ? "" : ", ", row.stream, row.host_wait_s, row.kernel_wait_s, row.other_s);
  }
  const double overlap = total.communication_s > 0
                             ? 100 * (1 - total.exposed_communication_s / total.communication_s)
                             : 0;
  fmt::print(
      "{{\"total_s\": {:.6f}, \"cpu_s\": {:.6f}, \"peak_mib\": {:.1f}, \"mb\": {:.3f}, \"events\": "
      "{}, \"kernels\": {}, \"steps\": {}, \"whole\": {}, \"compute_s\": {:.9f}, "
      "\"non_compute_s\": {:.9f}, \"idle_s\": {:.9f}, \"kernel_s\": {:.9f}, \"overlap_percent\": "
      "{:.2f}, \"launch_s\": {:.9f}, \"exposed_input_s\": {:.9f}, \"streams\": {{{}}}}}\n",
      took.count(), cpu_s() - cpu_before_s, peak_mib(),
      static_cast<double>(read->reading.bytes) / 1e6, read->reading.events, read->kernels,
      read->steps_ended, read->reading.whole, total.compute_s,
      total.exposed_communication_s + total.copy_s, total.idle_s - read->tail_s,
      total.seconds_s - read->tail_s, overlap, total.launch_s.value_or(0), total.exposed_input_s,
      streams);
}
