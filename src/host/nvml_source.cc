// NVIDIA GPUs through libnvidia-ml.so.1.
//
// Calls take the driver's global lock and some cost milliseconds, so they are tiered: cheap ones
// every tick; fan, process lists, limits, maxima and link state at the slow tier (limits, maxima
// and link are then repeated in every row until the next slow tick). What a device answers
// NOT_SUPPORTED to is not asked again. nvmlDeviceGetPcieThroughput is never called: it measures for
// 20 ms inside the call.
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/text.h"
#include "host/gpu_processes.h"
#include "host/gpu_sources.h"
#include "host/kept_file.h"
#include "host/nvml.h"
#include "host/pci.h"
#include "host/proc_text.h"

namespace rigwise {

namespace {
using nvml::Device;
using nvml::Return;

constexpr unsigned kMaxGpus = 64;
constexpr unsigned kMaxProcesses = 512;
constexpr double kMilli = 1e-3, kNano = 1e-9;

/// The library's functions; absent ones stay null.
struct Calls {
  Return (*init)() = nullptr;
  Return (*count)(unsigned*) = nullptr;
  Return (*handle)(unsigned, Device*) = nullptr;
  Return (*driver_version)(char*, unsigned) = nullptr;
  Return (*name)(Device, char*, unsigned) = nullptr;
  Return (*uuid)(Device, char*, unsigned) = nullptr;
  Return (*pci)(Device, nvml::PciInfo*) = nullptr;
  Return (*utilization)(Device, nvml::Utilization*) = nullptr;
  Return (*memory)(Device, nvml::Memory*) = nullptr;
  Return (*memory_v2)(Device, nvml::MemoryV2*) = nullptr;
  Return (*temperature)(Device, int, unsigned*) = nullptr;
  Return (*threshold)(Device, int, unsigned*) = nullptr;
  Return (*power)(Device, unsigned*) = nullptr;
  Return (*power_limit)(Device, unsigned*) = nullptr;
  Return (*power_limits)(Device, unsigned*, unsigned*) = nullptr;
  Return (*energy)(Device, unsigned long long*) = nullptr;
  Return (*clock)(Device, int, unsigned*) = nullptr;
  Return (*clock_max)(Device, int, unsigned*) = nullptr;
  Return (*link_gen)(Device, unsigned*) = nullptr;
  Return (*link_gen_max)(Device, unsigned*) = nullptr;
  Return (*link_width)(Device, unsigned*) = nullptr;
  Return (*link_width_max)(Device, unsigned*) = nullptr;
  Return (*reasons)(Device, unsigned long long*) = nullptr;
  Return (*fields)(Device, int, nvml::FieldValue*) = nullptr;
  Return (*fan)(Device, unsigned*) = nullptr;
  Return (*processes)(Device, unsigned*, nvml::ProcessV2*) = nullptr;
  Return (*processes_v1)(Device, unsigned*, nvml::ProcessV1*) = nullptr;
  Return (*graphics)(Device, unsigned*, nvml::ProcessV2*) = nullptr;
  Return (*graphics_v1)(Device, unsigned*, nvml::ProcessV1*) = nullptr;
  Return (*mig_mode)(Device, unsigned*, unsigned*) = nullptr;
  Return (*peer_status)(Device, Device, int, int*) = nullptr;
};

template <class F>
void find(void* library, F& into, std::initializer_list<const char*> names) {
  for (const char* symbol : names) {
    if (void* address = ::dlsym(library, symbol)) {
      into = reinterpret_cast<F>(address);
      return;
    }
  }
}

Calls find_calls(void* library) {
  Calls c;
  find(library, c.init, {"nvmlInit_v2", "nvmlInit"});
  find(library, c.count, {"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"});
  find(library, c.handle, {"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"});
  find(library, c.driver_version, {"nvmlSystemGetDriverVersion"});
  find(library, c.name, {"nvmlDeviceGetName"});
  find(library, c.uuid, {"nvmlDeviceGetUUID"});
  // Older versions of this call fill a shorter struct: they are not asked.
  find(library, c.pci, {"nvmlDeviceGetPciInfo_v3"});
  find(library, c.utilization, {"nvmlDeviceGetUtilizationRates"});
  find(library, c.memory, {"nvmlDeviceGetMemoryInfo"});
  find(library, c.memory_v2, {"nvmlDeviceGetMemoryInfo_v2"});
  find(library, c.temperature, {"nvmlDeviceGetTemperature"});
  find(library, c.threshold, {"nvmlDeviceGetTemperatureThreshold"});
  find(library, c.power, {"nvmlDeviceGetPowerUsage"});
  find(library, c.power_limit,
       {"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit"});
  find(library, c.power_limits, {"nvmlDeviceGetPowerManagementLimitConstraints"});
  find(library, c.energy, {"nvmlDeviceGetTotalEnergyConsumption"});
  find(library, c.clock, {"nvmlDeviceGetClockInfo"});
  find(library, c.clock_max, {"nvmlDeviceGetMaxClockInfo"});
  find(library, c.link_gen, {"nvmlDeviceGetCurrPcieLinkGeneration"});
  find(library, c.link_gen_max, {"nvmlDeviceGetMaxPcieLinkGeneration"});
  find(library, c.link_width, {"nvmlDeviceGetCurrPcieLinkWidth"});
  find(library, c.link_width_max, {"nvmlDeviceGetMaxPcieLinkWidth"});
  find(library, c.reasons,
       {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"});
  find(library, c.fields, {"nvmlDeviceGetFieldValues"});
  find(library, c.fan, {"nvmlDeviceGetFanSpeed"});
  find(library, c.processes,
       {"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"});
  find(library, c.processes_v1, {"nvmlDeviceGetComputeRunningProcesses"});
  find(library, c.graphics,
       {"nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"});
  find(library, c.graphics_v1, {"nvmlDeviceGetGraphicsRunningProcesses"});
  find(library, c.mig_mode, {"nvmlDeviceGetMigMode"});
  find(library, c.peer_status, {"nvmlDeviceGetP2PStatus"});
  return c;
}

std::string return_text(Return code) {
  switch (code) {
    case nvml::kUninitialized:
      return "not initialised";
    case nvml::kNotSupported:
      return "not supported";
    case nvml::kNoPermission:
      return "no permission";
    case nvml::kDriverNotLoaded:
      return "the NVIDIA driver is not loaded";
    case nvml::kGpuIsLost:
      return "the GPU is lost (it fell off the bus or needs a reset)";
    case nvml::kResetRequired:
      return "the GPU needs a reset";
    case nvml::kLibRmVersionMismatch:
      return "driver and library versions differ (a reboot after an update is due)";
    default:
      return "error " + std::to_string(code);
  }
}

std::optional<double> field_number(const nvml::FieldValue& field) {
  if (field.result != nvml::kSuccess) return std::nullopt;
  switch (field.value_type) {
    case nvml::kDouble:
      return field.value.d;
    case nvml::kUnsigned:
      return field.value.ui;
    case nvml::kUnsignedLong:
      return static_cast<double>(field.value.ul);
    case nvml::kUnsignedLongLong:
      return static_cast<double>(field.value.ull);
    case nvml::kSignedLongLong:
      return static_cast<double>(field.value.sll);
    case nvml::kSigned:
      return field.value.si;
    case nvml::kUnsignedShort:
      return field.value.us;
    default:
      return std::nullopt;
  }
}

class NvmlSource final : public GpuSource {
 public:
  NvmlSource(HostRoot root, Calls calls, int first_gpu)
      : root_(std::move(root)), calls_(calls), first_gpu_(first_gpu) {}

  /// Errors: unavailable (no driver, versions differ, no permission).
  Status open() {
    if (calls_.init == nullptr || calls_.count == nullptr || calls_.handle == nullptr)
      return Error{Errc::unavailable, "nvml: the library lacks nvmlInit"};
    if (const Return code = calls_.init(); code != nvml::kSuccess)
      return Error{Errc::unavailable, "nvml: " + return_text(code)};
    unsigned count = 0;
    if (const Return code = calls_.count(&count); code != nvml::kSuccess)
      return Error{Errc::unavailable, "nvml: " + return_text(code)};
    for (unsigned i = 0; i < std::min(count, kMaxGpus); ++i) {
      Gpu gpu;
      gpu.index = i;
      gpus_.push_back(gpu);
      find_handle(gpus_.back());
    }
    return Ok{};
  }

  std::vector<GpuDevice> devices() override {
    std::vector<GpuDevice> out;
    for (auto& gpu : gpus_) {
      if (gpu.handle == nullptr) find_handle(gpu);
      out.push_back(device_of(gpu));
    }
    return out;
  }

  std::vector<GpuSample> read(double t_s, const std::vector<int>& tree, bool slow) override {
    problems_.clear();
    std::vector<GpuSample> samples;
    GpuProcessLists processes;
    for (auto& gpu : gpus_) {
      GpuSample sample;
      sample.t_s = t_s;
      sample.gpu = first_gpu_ + static_cast<int>(gpu.index);
      lost_ = 0;
      if (gpu.handle == nullptr) find_handle(gpu);
      if (gpu.handle != nullptr) {
        if (slow || !gpu.slow_read) read_slow(gpu);
        read_fast(gpu, sample, slow);
      }
      processes.emplace_back();
      if (slow && gpu.handle != nullptr) {
        processes.back() = processes_of(gpu, calls_.processes, calls_.processes_v1);
        if (const auto screens = processes_of(gpu, calls_.graphics, calls_.graphics_v1))
          sample.graphics_processes = static_cast<double>(screens->size());
      }
      if (lost_ != 0) {
        problems_.push_back("nvml GPU " + std::to_string(sample.gpu) + ": " + return_text(lost_));
        sample = GpuSample{};
        sample.t_s = t_s;
        sample.gpu = first_gpu_ + static_cast<int>(gpu.index);
        processes.back().reset();
        gpu.handle = nullptr;  // asked for anew at the next tick: a reset may bring it back
        gpu.slow_read = false;
      }
      samples.push_back(sample);
    }
    if (slow) assign_processes(root_, tree, processes, samples);
    return samples;
  }

  [[nodiscard]] std::string name() const override { return "nvml"; }
  std::optional<std::string> version() override {
    return text_of([&](char* text, unsigned size) {
      return calls_.driver_version != nullptr ? calls_.driver_version(text, size)
                                              : nvml::kNotSupported;
    });
  }
  std::vector<std::string> problems() override { return problems_; }

 private:
  struct Gpu {
    unsigned index = 0;
    Device handle = nullptr;
    std::set<const void*> unsupported;  // calls, by the address of their slot in Calls
    bool slow_read = false;
    std::optional<double> power_limit_w, sm_clock_max_mhz, gen, gen_max, width, width_max, fan_frac;
  };

  void find_handle(Gpu& gpu) {
    Device handle = nullptr;
    const Return code = calls_.handle(gpu.index, &handle);
    if (code == nvml::kSuccess)
      gpu.handle = handle;
    else
      lost_ = code;
  }

  /// Calls `slot` unless this GPU said earlier that it has no such thing; true where it succeeded.
  template <class F, class... Args>
  bool ask(Gpu& gpu, const F& slot, Args... args) {
    if (slot == nullptr || lost_ != 0 || gpu.unsupported.contains(&slot)) return false;
    const Return code = slot(gpu.handle, args...);
    // A call that also takes a selector may lack one of its kinds only.
    if (code == nvml::kNotSupported && sizeof...(Args) == 1) gpu.unsupported.insert(&slot);
    if (code == nvml::kGpuIsLost || code == nvml::kResetRequired) lost_ = code;
    return code == nvml::kSuccess;
  }
  template <class F, class... Args>
  std::optional<double> number(Gpu& gpu, double factor, const F& slot, Args... args) {
    unsigned value = 0;
    if (!ask(gpu, slot, args..., &value)) return std::nullopt;
    return value * factor;
  }
  template <class F>
  static std::optional<std::string> text_of(F call) {
    std::array<char, 128> text = {};
    if (call(text.data(), static_cast<unsigned>(text.size() - 1)) != nvml::kSuccess)
      return std::nullopt;
    return clean_text(text.data(), text.size());
  }

  void read_slow(Gpu& gpu) {
    gpu.slow_read = true;
    gpu.power_limit_w = number(gpu, kMilli, calls_.power_limit);
    unsigned clock = 0;
    gpu.sm_clock_max_mhz = ask(gpu, calls_.clock_max, nvml::kClockSm, &clock)
                               ? std::optional<double>(clock)
                               : std::nullopt;
    gpu.gen_max = number(gpu, 1, calls_.link_gen_max);
    gpu.width_max = number(gpu, 1, calls_.link_width_max);
    gpu.fan_frac = number(gpu, 0.01, calls_.fan);
  }

  void read_fast(Gpu& gpu, GpuSample& sample, bool slow) {
    nvml::Utilization utilization = {};
    if (ask(gpu, calls_.utilization, &utilization)) {
      sample.util_frac = utilization.gpu / 100.0;
      sample.mem_util_frac = utilization.memory / 100.0;
    }
    read_memory(gpu, sample);
    sample.temp_c = number(gpu, 1, calls_.temperature, nvml::kTemperatureGpu);
    sample.power_w = number(gpu, kMilli, calls_.power);
    sample.power_limit_w = gpu.power_limit_w;
    unsigned long long value = 0;
    if (ask(gpu, calls_.energy, &value)) sample.energy_j = static_cast<double>(value) * kMilli;
    sample.sm_clock_mhz = number(gpu, 1, calls_.clock, nvml::kClockSm);
    sample.mem_clock_mhz = number(gpu, 1, calls_.clock, nvml::kClockMem);
    sample.sm_clock_max_mhz = gpu.sm_clock_max_mhz;
    // The generation drops at idle, so it is read at every tick, beside the load.
    sample.pcie_gen = number(gpu, 1, calls_.link_gen);
    sample.pcie_width = number(gpu, 1, calls_.link_width);
    sample.pcie_gen_max = gpu.gen_max;
    sample.pcie_width_max = gpu.width_max;
    if (ask(gpu, calls_.reasons, &value)) sample.throttle_reasons = static_cast<double>(value);
    if (slow) sample.fan_frac = gpu.fan_frac;
    read_fields(gpu, sample);
  }

  void read_memory(Gpu& gpu, GpuSample& sample) {
    nvml::MemoryV2 memory = {};
    memory.version = nvml::kMemoryV2;
    if (ask(gpu, calls_.memory_v2, &memory)) {  // `used` without what the driver reserves
      sample.used_bytes = static_cast<double>(memory.used);
      sample.total_bytes = static_cast<double>(memory.total);
      return;
    }
    nvml::Memory older = {};
    if (ask(gpu, calls_.memory, &older)) {
      sample.used_bytes = static_cast<double>(older.used);
      sample.total_bytes = static_cast<double>(older.total);
    }
  }

  void read_fields(Gpu& gpu, GpuSample& sample) {
    struct Wanted {
      unsigned field;
      std::optional<double> GpuSample::*into;
      double factor;
    };
    static constexpr std::array<Wanted, 8> kWanted = {{
        {nvml::kFieldHeldPowerNs, &GpuSample::held_power_s, kNano},
        {nvml::kFieldHeldSyncNs, &GpuSample::held_sync_s, kNano},
        {nvml::kFieldHeldSwThermalNs, &GpuSample::held_sw_thermal_s, kNano},
        {nvml::kFieldHeldHwThermalNs, &GpuSample::held_hw_thermal_s, kNano},
        {nvml::kFieldHeldBrakeNs, &GpuSample::held_brake_s, kNano},
        {nvml::kFieldMemoryTempC, &GpuSample::temp_mem_c, 1},
        {nvml::kFieldPcieTxBytes, &GpuSample::pcie_tx_bytes, 1},
        {nvml::kFieldPcieRxBytes, &GpuSample::pcie_rx_bytes, 1},
    }};
    std::array<nvml::FieldValue, kWanted.size()> values = {};
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i].field = kWanted[i].field;
      values[i].result = nvml::kUnknown;
    }
    if (!ask(gpu, calls_.fields, static_cast<int>(values.size()), values.data())) return;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (const auto value = field_number(values[i]))
        sample.*kWanted[i].into = *value * kWanted[i].factor;
    }
  }

  /// By the newer call, where the library has it, else by the older.
  template <class New, class Old>
  std::optional<std::vector<GpuProcess>> processes_of(Gpu& gpu, const New& newer,
                                                      const Old& older) {
    return newer != nullptr ? list_of<nvml::ProcessV2>(gpu, newer)
                            : list_of<nvml::ProcessV1>(gpu, older);
  }
  template <class Entry, class F>
  std::optional<std::vector<GpuProcess>> list_of(Gpu& gpu, const F& slot) {
    std::vector<Entry> list(kMaxProcesses);
    unsigned count = kMaxProcesses;
    if (!ask(gpu, slot, &count, list.data())) return std::nullopt;
    std::vector<GpuProcess> out;
    for (unsigned i = 0; i < std::min(count, kMaxProcesses); ++i) {
      GpuProcess process{static_cast<int>(list[i].pid), std::nullopt};
      if (list[i].used_bytes != nvml::kNotAvailable)
        process.used_bytes = static_cast<double>(list[i].used_bytes);
      out.push_back(process);
    }
    return out;
  }

  /// Does NVLink, by bridge or switch, lead to every other GPU? Nothing where there is no other.
  std::optional<bool> linked_to_all(Gpu& gpu) {
    std::optional<bool> linked;
    for (const Gpu& other : gpus_) {
      int status = -1;
      if (&other == &gpu || other.handle == nullptr) continue;
      if (!ask(gpu, calls_.peer_status, other.handle, nvml::kPeerByNvlink, &status))
        return std::nullopt;
      linked = linked.value_or(true) && status == nvml::kPeerOk;
    }
    return linked;
  }

  GpuDevice device_of(Gpu& gpu) {
    GpuDevice device;
    device.gpu = first_gpu_ + static_cast<int>(gpu.index);
    device.vendor = "nvidia";
    lost_ = 0;
    if (gpu.handle == nullptr) return device;
    device.name = text_of([&](char* text, unsigned size) {
                    return calls_.name ? calls_.name(gpu.handle, text, size) : nvml::kNotSupported;
                  }).value_or("");
    device.uuid = text_of([&](char* text, unsigned size) {
                    return calls_.uuid ? calls_.uuid(gpu.handle, text, size) : nvml::kNotSupported;
                  }).value_or("");
    nvml::PciInfo pci = {};
    if (ask(gpu, calls_.pci, &pci)) {
      pci.bus_id[sizeof pci.bus_id - 1] = '\0';
      device.pci_address = sysfs_pci_address(clean_text(pci.bus_id, 32));
    }
    GpuSample memory;
    read_memory(gpu, memory);
    device.total_bytes = memory.total_bytes;
    device.power_limit_w = number(gpu, kMilli, calls_.power_limit);
    unsigned least = 0, most = 0;
    if (ask(gpu, calls_.power_limits, &least, &most)) device.power_limit_max_w = most * kMilli;
    device.slowdown_c = number(gpu, 1, calls_.threshold, nvml::kThresholdSlowdown);
    device.shutdown_c = number(gpu, 1, calls_.threshold, nvml::kThresholdShutdown);
    const auto integer = [](std::optional<double> value) {
      return value ? std::optional<int>(static_cast<int>(*value)) : std::nullopt;
    };
    device.pcie_gen_max = integer(number(gpu, 1, calls_.link_gen_max));
    device.pcie_width_max = integer(number(gpu, 1, calls_.link_width_max));
    unsigned mig = 0, mig_later = 0;
    if (ask(gpu, calls_.mig_mode, &mig, &mig_later)) device.mig = mig == 1;
    device.nvlink_to_all = linked_to_all(gpu);
    add_pci_facts(root_, device);
    return device;
  }

  HostRoot root_;
  Calls calls_;
  int first_gpu_;
  std::vector<Gpu> gpus_;
  std::vector<std::string> problems_;
  Return lost_ = 0;  // of the GPU being read
};
}  // namespace

void add_pci_facts(const HostRoot& root, GpuDevice& device) {
  if (device.pci_address.empty()) return;
  for (const auto& hop : pci_hops(root, device.pci_address))
    device.pci_path.push_back(hop_text(hop));
  const auto node = read_number(root / "sys/bus/pci/devices" / device.pci_address / "numa_node");
  if (node && *node >= 0) device.numa_node = static_cast<int>(*node);
}

Result<std::unique_ptr<GpuSource>> open_nvml(const HostRoot& root, int first_gpu) {
  // Never closed: a call that hangs may still be inside it.
  void* library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return Error{Errc::unavailable, "nvml: no libnvidia-ml.so.1 (no NVIDIA driver)"};
  auto source = std::make_unique<NvmlSource>(root, find_calls(library), first_gpu);
  RW_CHECK(source->open());
  return std::unique_ptr<GpuSource>(std::move(source));
}

}  // namespace rigwise
