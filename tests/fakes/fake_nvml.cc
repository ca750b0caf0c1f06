// A stand-in for libnvidia-ml.so.1, driven by a JSON file named in RIGWISE_FAKE_NVML, so that GPUs
// can be had where there are none. Put its folder into LD_LIBRARY_PATH (or load it before rigwise
// asks). Hand-made: numbers are whatever the file says; no driver was recorded.
//
//   {"driver_version": "550.54.14", "init": 0, "init_delay_s": 0,
//    "crash": "nvmlDeviceGetTemperature",
//    "hang": {"at_s": 5, "for_s": 3, "function": "nvmlDeviceGetUtilizationRates"},   function: all
//    without "count": 4,                            device entries are repeated up to this many
//    "devices": [{"name": "…", "uuid": "GPU-…", "pci": "00000000:01:00.0",
//                 "unsupported": ["nvmlDeviceGetFanSpeed", "field:197"],
//                 "lost_at_s": 7, "back_at_s": 9,
//                 "processes": [{"pid": 123, "used_bytes": 1e9}], "pids_from": "/path/of/a/list",
//                 "graphics": [{"pid": 124}], "handle": 999 (what its handle answers),
//                 "nvlink": true (to every other),
//                 "values": {"utilization_gpu": 97, …}}]}
//
// A value is a number, a list (one a second, the last stays), {"from", "to", "over_s"} (a ramp) or
// {"start", "per_s"} (a counter). Times count from the first nvmlInit. Values that are not named
// are not supported. Names: utilization_gpu, utilization_memory (%), memory_total, memory_used
// (bytes), temperature, temperature_slowdown, temperature_shutdown (C), power, power_limit,
// power_limit_max (mW), energy (mJ), clock_sm, clock_mem, clock_sm_max, clock_mem_max (MHz),
// pcie_gen, pcie_gen_max, pcie_width, pcie_width_max, reasons (bit mask), fan (%), mig (0 or 1),
// and field_N (value of field N).
//
// Built twice: as a driver of today and, with RIGWISE_FAKE_OLD, as one without the newer symbols.
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "host/nvml.h"

namespace {
namespace nvml = rigwise::nvml;
using nlohmann::json;
using nvml::Device;
using nvml::Return;

struct Fake {
  json spec = json::object();
  bool started = false;
  std::chrono::steady_clock::time_point start;
  std::vector<json> gpus;
};

std::mutex& mutex() {
  static std::mutex one;
  return one;
}
// Never freed: a call may still hang in one when the process ends or the file is read anew.
std::vector<Fake*>& fakes() {
  static auto* all = new std::vector<Fake*>;  // all of them stay reachable: no leak
  return *all;
}
Fake* make_fake() {
  fakes().push_back(new Fake);
  return fakes().back();
}
std::atomic<Fake*> current{make_fake()};
Fake& fake() {
  return *current;
}

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - fake().start).count();
}

void load() {
  Fake& it = fake();
  it.gpus.clear();
  it.spec = json::object();
  if (const char* path = std::getenv("RIGWISE_FAKE_NVML")) {
    std::ifstream file(path);
    it.spec = json::parse(file, nullptr, false, true);
    if (it.spec.is_discarded()) {
      std::fprintf(stderr, "fake nvml: %s does not parse\n", path);
      it.spec = json::object();
    }
  }
  const json devices = it.spec.value("devices", json::array());
  const std::size_t count = it.spec.value("count", devices.size());
  for (std::size_t i = 0; i < count && !devices.empty(); ++i) {
    json gpu = devices[std::min(i, devices.size() - 1)];
    if (i >= devices.size()) {
      gpu["uuid"] = "GPU-fake-" + std::to_string(i);
      char address[32];
      std::snprintf(address, sizeof address, "00000000:%02zX:00.0", i + 1);
      gpu["pci"] = address;
    }
    it.gpus.push_back(std::move(gpu));
  }
}

double value_at(const json& value, double t_s) {
  if (value.is_number()) return value.get<double>();
  if (value.is_array() && !value.empty()) {
    const auto index = static_cast<std::size_t>(std::max(0.0, t_s));
    return value_at(value[std::min(index, value.size() - 1)], 0);
  }
  if (value.is_object() && value.contains("per_s"))
    return value.value("start", 0.0) + value.value("per_s", 0.0) * t_s;
  if (value.is_object()) {
    const double from = value.value("from", 0.0), to = value.value("to", 0.0);
    const double over_s = value.value("over_s", 1.0);
    return from + (to - from) * std::clamp(t_s / over_s, 0.0, 1.0);
  }
  return 0;
}

void maybe_hang(const char* function) {
  double wait_s = 0;
  {
    const std::lock_guard lock(mutex());
    if (fake().spec.value("crash", "") == function) std::abort();
    const auto hang = fake().spec.find("hang");
    if (hang == fake().spec.end() || !fake().started) return;
    const std::string which = hang->value("function", "");
    if (!which.empty() && which != function) return;
    const double at_s = hang->value("at_s", 0.0), end_s = at_s + hang->value("for_s", 1e9);
    const double t_s = now_s();
    if (t_s >= at_s && t_s < end_s) wait_s = end_s - t_s;
  }
  while (wait_s > 0) {  // in short naps, so that a forgotten hour does not overflow anything
    const double nap_s = std::min(wait_s, 1.0);
    std::this_thread::sleep_for(std::chrono::duration<double>(nap_s));
    wait_s -= nap_s;
  }
}

/// The GPU behind a handle, after hanging where the file says so; null with `code` set where it is
/// lost.
const json* gpu_of(Device device, const char* function, Return& code) {
  maybe_hang(function);
  const auto index = reinterpret_cast<std::uintptr_t>(device) - 1;
  if (index >= fake().gpus.size()) {
    code = nvml::kInvalidArgument;
    return nullptr;
  }
  const json& gpu = fake().gpus[index];
  const double t_s = now_s();
  if (gpu.contains("lost_at_s") && t_s >= gpu["lost_at_s"].get<double>() &&
      t_s < gpu.value("back_at_s", 1e18)) {
    code = nvml::kGpuIsLost;
    return nullptr;
  }
  const json unsupported = gpu.value("unsupported", json::array());
  if (std::find(unsupported.begin(), unsupported.end(), function) != unsupported.end()) {
    code = nvml::kNotSupported;
    return nullptr;
  }
  code = nvml::kSuccess;
  return &gpu;
}

bool find_value(const json& gpu, const std::string& name, double& into) {
  const auto values = gpu.find("values");
  if (values == gpu.end() || !values->contains(name)) return false;
  into = value_at((*values)[name], now_s());
  return true;
}

Return give(Device device, const char* function, const char* name, unsigned* into) {
  Return code = 0;
  const json* gpu = gpu_of(device, function, code);
  if (gpu == nullptr) return code;
  double value = 0;
  if (!find_value(*gpu, name, value)) return nvml::kNotSupported;
  *into = static_cast<unsigned>(value);
  return nvml::kSuccess;
}

Return give_text(const std::string& text, char* into, unsigned size) {
  if (size <= text.size()) return nvml::kInsufficientSize;
  std::memcpy(into, text.c_str(), text.size() + 1);
  return nvml::kSuccess;
}

struct Process {
  unsigned pid;
  unsigned long long used;
};
std::vector<Process> processes_of(const json& gpu, const char* kind) {
  std::vector<Process> out;
  for (const auto& process : gpu.value(kind, json::array())) {
    const double used = process.value("used_bytes", -1.0);
    out.push_back({process.value("pid", 0u),
                   used < 0 ? nvml::kNotAvailable : static_cast<unsigned long long>(used)});
  }
  if (gpu.contains("pids_from") && kind == std::string("processes")) {
    std::ifstream file(gpu["pids_from"].get<std::string>());
    unsigned pid = 0;
    while (file >> pid) out.push_back({pid, 1ull << 30});
  }
  return out;
}

template <class Entry>
Return give_processes(Device device, const char* function, const char* kind, unsigned* count,
                      Entry* into) {
  Return code = 0;
  const json* gpu = gpu_of(device, function, code);
  if (gpu == nullptr) return code;
  const auto list = processes_of(*gpu, kind);
  if (list.size() > *count) {
    *count = static_cast<unsigned>(list.size());
    return nvml::kInsufficientSize;
  }
  *count = static_cast<unsigned>(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    into[i] = Entry{};
    into[i].pid = list[i].pid;
    into[i].used_bytes = list[i].used;
  }
  return nvml::kSuccess;
}

Return start() {
  double delay_s = 0;
  Return code = 0;
  {
    const std::lock_guard lock(mutex());
    if (!fake().started) {
      load();
      fake().start = std::chrono::steady_clock::now();
      fake().started = true;
    }
    delay_s = fake().spec.value("init_delay_s", 0.0);
    code = fake().spec.value("init", 0);
  }
  if (delay_s > 0) std::this_thread::sleep_for(std::chrono::duration<double>(delay_s));
  return code;
}
}  // namespace

extern "C" {
#define FAKE_U32(symbol, value)                  \
  Return symbol(Device device, unsigned* into) { \
    return give(device, #symbol, value, into);   \
  }

#ifdef RIGWISE_FAKE_OLD
Return nvmlInit() {
  return start();
}
Return nvmlDeviceGetCount(unsigned* count) {
  *count = static_cast<unsigned>(fake().gpus.size());
  return nvml::kSuccess;
}
Return nvmlDeviceGetHandleByIndex(unsigned index, Device* device) {
  *device = reinterpret_cast<Device>(std::uintptr_t{index} + 1);
  return index < fake().gpus.size() ? nvml::kSuccess : nvml::kInvalidArgument;
}
Return nvmlDeviceGetComputeRunningProcesses(Device device, unsigned* count, nvml::ProcessV1* into) {
  return give_processes(device, __func__, "processes", count, into);
}
Return nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long* into) {
#else
/// Stand-ins only: starts the clock anew and reads the file again, for the next case of one
/// process.
void rigwise_fake_nvml_restart() {
  const std::lock_guard lock(mutex());
  current = make_fake();
}
Return nvmlInit_v2() {
  return start();
}
Return nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(fake().gpus.size());
  return nvml::kSuccess;
}
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device* device) {
  if (index >= fake().gpus.size()) return nvml::kInvalidArgument;
  Return code = 0;
  *device = reinterpret_cast<Device>(std::uintptr_t{index} + 1);
  const json* gpu = gpu_of(*device, __func__, code);
  return gpu == nullptr ? code : gpu->value("handle", nvml::kSuccess);
}
Return nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, unsigned* count,
                                                nvml::ProcessV2* into) {
  return give_processes(device, __func__, "graphics", count, into);
}
Return nvmlDeviceGetMigMode(Device device, unsigned* now, unsigned* later) {
  *later = 0;
  return give(device, __func__, "mig", now);
}
Return nvmlDeviceGetP2PStatus(Device device, Device, int kind, int* status) {
  Return code = 0;
  const json* gpu = gpu_of(device, __func__, code);
  if (gpu == nullptr) return code;
  *status = kind == nvml::kPeerByNvlink && gpu->value("nvlink", false) ? nvml::kPeerOk : 5;
  return nvml::kSuccess;
}
Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned* count,
                                               nvml::ProcessV2* into) {
  return give_processes(device, __func__, "processes", count, into);
}
Return nvmlDeviceGetMemoryInfo_v2(Device device, nvml::MemoryV2* into) {
  if (into->version != nvml::kMemoryV2) return nvml::kInvalidArgument;
  Return code = 0;
  const json* gpu = gpu_of(device, __func__, code);
  if (gpu == nullptr) return code;
  double total = 0, used = 0;
  if (!find_value(*gpu, "memory_total", total) || !find_value(*gpu, "memory_used", used))
    return nvml::kNotSupported;
  into->total = static_cast<unsigned long long>(total);
  into->used = static_cast<unsigned long long>(used);
  into->free = into->total - into->used;
  into->reserved = 0;
  return nvml::kSuccess;
}
Return nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long* into) {
#endif
  unsigned value = 0;
  const Return code = give(device, __func__, "reasons", &value);
  *into = value;
  return code;
}

Return nvmlSystemGetDriverVersion(char* text, unsigned size) {
  maybe_hang(__func__);
  return give_text(fake().spec.value("driver_version", "550.54.14"), text, size);
}
Return nvmlDeviceGetName(Device device, char* text, unsigned size) {
  Return code = 0;
  const json* gpu = gpu_of(device, __func__, code);
  return gpu == nullptr ? code : give_text(gpu->value("name", "Fake GPU"), text, size);
}
Return nvmlDeviceGetUUID(Device device, char* text, unsigned size) {
  Return code = 0;
  const json* gpu = gpu_of(device, __func__, code);
  return gpu == nullptr ? code : give_text(gpu->value("uuid", "GPU-fake"), text, size);
}
Return nvmlDeviceGetPciInfo_v3(Device device, nvml::PciInfo* into) {
  Return code = 0;
  const json* gpu = gpu_of(device, __func__, code);
  if (gpu == nullptr) return code;
  *into = nvml::PciInfo{};
  const std::string address = gpu->value("pci", "00000000:01:00.0");
  std::snprintf(into->bus_id, sizeof into->bus_id, "%s", address.c_str());
  return nvml::kSuccess;
}
Return nvmlDeviceGetUtilizationRates(Device device, nvml::Utilization* into) {
  const Return code = give(device, __func__, "utilization_gpu", &into->gpu);
  if (code != nvml::kSuccess) return code;
  return give(device, __func__, "utilization_memory", &into->memory);
}
Return nvmlDeviceGetMemoryInfo(Device device, nvml::Memory* into) {
  Return code = 0;
  const json* gpu = gpu_of(device, __func__, code);
  if (gpu == nullptr) return code;
  double total = 0, used = 0;
  if (!find_value(*gpu, "memory_total", total) || !find_value(*gpu, "memory_used", used))
    return nvml::kNotSupported;
  *into = {static_cast<unsigned long long>(total), static_cast<unsigned long long>(total - used),
           static_cast<unsigned long long>(used)};
  return nvml::kSuccess;
}
Return nvmlDeviceGetTemperature(Device device, int, unsigned* into) {
  return give(device, __func__, "temperature", into);
}
Return nvmlDeviceGetTemperatureThreshold(Device device, int kind, unsigned* into) {
  return give(device, __func__,
              kind == nvml::kThresholdShutdown ? "temperature_shutdown" : "temperature_slowdown",
              into);
}
FAKE_U32(nvmlDeviceGetPowerUsage, "power")
FAKE_U32(nvmlDeviceGetEnforcedPowerLimit, "power_limit")
FAKE_U32(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_gen")
FAKE_U32(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_gen_max")
FAKE_U32(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
FAKE_U32(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
FAKE_U32(nvmlDeviceGetFanSpeed, "fan")
Return nvmlDeviceGetPowerManagementLimitConstraints(Device device, unsigned* least,
                                                    unsigned* most) {
  *least = 0;
  return give(device, __func__, "power_limit_max", most);
}
Return nvmlDeviceGetTotalEnergyConsumption(Device device, unsigned long long* into) {
  Return code = 0;
  const json* gpu = gpu_of(device, __func__, code);
  if (gpu == nullptr) return code;
  double value = 0;
  if (!find_value(*gpu, "energy", value)) return nvml::kNotSupported;
  *into = static_cast<unsigned long long>(value);
  return nvml::kSuccess;
}
Return nvmlDeviceGetClockInfo(Device device, int kind, unsigned* into) {
  return give(device, __func__, kind == nvml::kClockSm ? "clock_sm" : "clock_mem", into);
}
Return nvmlDeviceGetMaxClockInfo(Device device, int kind, unsigned* into) {
  return give(device, __func__, kind == nvml::kClockSm ? "clock_sm_max" : "clock_mem_max", into);
}
Return nvmlDeviceGetFieldValues(Device device, int count, nvml::FieldValue* values) {
  Return code = 0;
  const json* gpu = gpu_of(device, __func__, code);
  if (gpu == nullptr) return code;
  const json unsupported = gpu->value("unsupported", json::array());
  for (int i = 0; i < count; ++i) {
    const std::string number = std::to_string(values[i].field);
    double value = 0;
    values[i].result = nvml::kNotSupported;
    if (std::find(unsupported.begin(), unsupported.end(), "field:" + number) != unsupported.end())
      continue;
    if (!find_value(*gpu, "field_" + number, value)) continue;
    values[i].value_type = nvml::kUnsignedLongLong;
    values[i].value.ull = static_cast<unsigned long long>(value);
    values[i].result = nvml::kSuccess;
  }
  return nvml::kSuccess;
}
/// Never to be called: the real one measures for 20 ms inside the call.
Return nvmlDeviceGetPcieThroughput(Device, int, unsigned*) {
  std::fputs("fake nvml: nvmlDeviceGetPcieThroughput was called\n", stderr);
  std::abort();
}
}  // extern "C"
