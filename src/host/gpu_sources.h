// The GPU sources: NVML, amdgpu's sysfs, Intel's (xe and i915) sysfs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rigwise/host.h"

namespace rigwise {

/// Errors: unavailable, with what is missing. `first_gpu` is added to the driver's indices, so that
/// GPUs of several drivers have distinct numbers.
Result<std::unique_ptr<GpuSource>> open_nvml(const HostRoot& root, int first_gpu);
/// Cards of /sys/class/drm bound to amdgpu, or to xe and i915; null where there is none.
std::unique_ptr<GpuSource> open_amdgpu(const HostRoot& root, int first_gpu);
std::unique_ptr<GpuSource> open_intel(const HostRoot& root, int first_gpu);

/// PCI path and NUMA node of `device`, from its address.
void add_pci_facts(const HostRoot& root, GpuDevice& device);

/// Bits of NVML's throttle mask, into which the other drivers' reasons are put.
inline constexpr unsigned kReasonPower = 0x4, kReasonSwThermal = 0x20, kReasonHwThermal = 0x40,
                          kReasonBrake = 0x80;

/// amdgpu's gpu_metrics, versions 1.1 to 1.3 (a dGPU's; little endian). Throttling is told by 1.3
/// only.
struct AmdMetrics {
  std::optional<double> throttle_reasons;  // as NVML's mask; the always-set hotspot bit is left out
  std::optional<double> pcie_width, pcie_gts;
};
AmdMetrics parse_amd_metrics(std::string_view bytes);

/// The starred line of a pp_dpm table, else nothing: "1: 2304Mhz *".
std::optional<double> starred_mhz(std::string_view table);

}  // namespace rigwise
