// Device: what this device can do at best: matrix multiplications a second, memory bandwidth, and
// copies to and from the host where it is not the host itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/measure/spread.h"
#include "engine/torch.h"

namespace rigwise::engine {

struct DeviceOptions {
  at::Device device = at::kCPU;
  int repeats = 7;
  std::int64_t memory_bytes = 256 << 20;  // one array: well beyond the caches
  double matmul_limit_s = 1;  // sizes grow until one multiplication takes a quarter of it
};

/// [size, size] times [size, size]: 2 size³ operations.
struct MatmulRate {
  std::int64_t size = 0;
  Spread time;
  double flop_per_s = 0;
};
struct MatmulRates {
  std::string dtype;  // fp32, bf16
  std::vector<MatmulRate> sizes;
  double best_flop_per_s = 0;
};

/// Bytes are counted as STREAM does (McCalpin 1995): each array that is read or written once.
struct MemoryRate {
  std::string operation;  // copy (a = b), triad (a = b + 3 c), host_to_device, device_to_host, …
  std::int64_t bytes = 0;
  Spread time;
  double bytes_per_s = 0;
};

struct DeviceReport {
  std::string device;                     // cpu, cuda:0
  std::optional<std::string> model = {};  // of the CPU
  std::optional<int> threads = {};        // CPU threads that libtorch uses
  std::vector<MatmulRates> matmul;
  std::vector<MemoryRate> memory;
};

/// Throws c10::Error where the device is missing or its memory does not suffice.
DeviceReport measure_device(const DeviceOptions& options);

}  // namespace rigwise::engine
