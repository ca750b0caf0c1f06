#include "engine/measure/device.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>

#include "base/text.h"
#include "engine/comm/comm.h"

namespace rigwise::engine {

namespace {

using Clock = std::chrono::steady_clock;

double timed(at::Device device, const std::function<void()>& work) {
  synchronize(device);
  const auto start = Clock::now();
  work();
  synchronize(device);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<double> repeated(const DeviceOptions& options, const std::function<void()>& work) {
  work();  // pages, caches and clocks
  std::vector<double> times_s;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    times_s.push_back(timed(options.device, work));
  }
  return times_s;
}

MatmulRates matmul_rates(const DeviceOptions& options, at::ScalarType type, const char* name) {
  MatmulRates out;
  out.dtype = name;
  const std::int64_t most = options.device.is_cpu() ? 8192 : 16384;
  for (std::int64_t size = 256; size <= most; size *= 2) {
    const auto of_type = at::TensorOptions().dtype(at::kFloat).device(options.device);
    const at::Tensor a_NN = at::randn({size, size}, of_type).to(type);
    const at::Tensor b_NN = at::randn({size, size}, of_type).to(type);
    at::Tensor c_NN = at::empty({size, size}, a_NN.options());
    MatmulRate rate;
    rate.size = size;
    rate.time = spread_of(repeated(options, [&] { at::mm_out(c_NN, a_NN, b_NN); }));
    const auto n = static_cast<double>(size);
    rate.flop_per_s = 2 * n * n * n / rate.time.median_s;
    out.best_flop_per_s = std::max(out.best_flop_per_s, rate.flop_per_s);
    out.sizes.push_back(rate);
    if (rate.time.median_s * 8 > options.matmul_limit_s)
      break;  // the next takes eight times as long
  }
  return out;
}

MemoryRate memory_rate(const DeviceOptions& options, const char* operation, int arrays,
                       const std::function<void()>& work) {
  MemoryRate rate;
  rate.operation = operation;
  rate.bytes = arrays * options.memory_bytes;
  rate.time = spread_of(repeated(options, work));
  rate.bytes_per_s = static_cast<double>(rate.bytes) / rate.time.median_s;
  return rate;
}

std::optional<std::string> cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name"))
      return clean_text(trim(line.substr(line.find(':') + 1)), 120);
  }
  return {};
}

}  // namespace

DeviceReport measure_device(const DeviceOptions& options) {
  const at::NoGradGuard no_grad;
  DeviceReport report;
  report.device = options.device.str();
  if (options.device.is_cpu()) {
    report.model = cpu_model();
    report.threads = at::get_num_threads();
  }
  report.matmul.push_back(matmul_rates(options, at::kFloat, "fp32"));
  report.matmul.push_back(matmul_rates(options, at::kBFloat16, "bf16"));

  const std::int64_t count = options.memory_bytes / 4;
  const auto type = at::TensorOptions().dtype(at::kFloat).device(options.device);
  at::Tensor a = at::zeros({count}, type);
  const at::Tensor b = at::ones({count}, type), c = at::ones({count}, type);
  report.memory.push_back(memory_rate(options, "copy", 2, [&] { a.copy_(b); }));
  report.memory.push_back(memory_rate(options, "triad", 3, [&] { at::add_out(a, b, c, 3); }));
  if (!options.device.is_cpu()) {
    at::Tensor pageable = at::ones({count}, at::kFloat);
    at::Tensor pinned = pageable.pin_memory();
    const auto add = [&](const char* name, at::Tensor& into, const at::Tensor& from) {
      report.memory.push_back(
          memory_rate(options, name, 1, [&] { into.copy_(from, /*non_blocking=*/true); }));
    };
    add("host_to_device", a, pinned);
    add("device_to_host", pinned, a);
    add("host_to_device_pageable", a, pageable);
    add("device_to_host_pageable", pageable, a);
  }
  return report;
}

}  // namespace rigwise::engine
