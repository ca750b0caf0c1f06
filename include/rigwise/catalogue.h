// Catalogue: hardware and models that are known by name (data/*.csv, built in). Every figure in it
// is assumed until measured.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/plan.h"
#include "rigwise/result.h"

namespace rigwise {

struct GpuSpec {
  std::string name = {};
  double mem_bytes = 0, power_w = 0;
  std::string p2p = {};  // yes, no, nvlink (with a bridge)
  std::string source = {};
};
/// By any spelling that a driver or a person uses: "rtx3090", "NVIDIA GeForce RTX 3090". Errors:
/// usage, with the nearest name.
Result<GpuSpec> find_gpu(std::string_view name);

/// What links of that kind were seen to deliver to an all-reduce.
struct LinkSpec {
  std::string name = {};
  double low_bytes_per_s = 0, usual_bytes_per_s = 0, high_bytes_per_s = 0, latency_s = 0;
  bool between_hosts = false;
  std::string source = {};
};
/// "x4-chipset", "10gbe". Errors: usage, with the nearest name and all of them.
Result<LinkSpec> find_link(std::string_view name);

/// Share of its rating that a power supply must ride for `window_s`.
struct PsuWindow {
  double window_s = 0, with_12vhpwr_frac = 0, without_frac = 0;
};
std::vector<PsuWindow> psu_windows();

struct Circuit {
  std::string name = {};
  double volts = 0, amperes = 0;
};
Result<Circuit> find_circuit(std::string_view name);

struct ModelSource {
  std::string name = {};
  ModelShape shape = {};
  std::optional<double> params = {};      // counted from safetensors headers, where there are any
  std::vector<std::string> assumed = {};  // what config.json did not say
};
/// A model of the catalogue by name ("Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"). Errors:
/// usage, with the nearest name.
Result<ModelSource> find_model(std::string_view name);
/// A folder with config.json, and safetensors files if they are there: only headers are read.
/// Errors: not_found, malformed (the field, its value), unavailable (mixture of experts).
Result<ModelSource> read_model(const std::filesystem::path& folder);

}  // namespace rigwise
