// The PCI tree as sysfs shows it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/host.h"

namespace rigwise {

struct PciHop {
  std::string address;                             // "0000:01:00.0"
  std::optional<int> width, width_max;             // lanes
  std::optional<double> speed_gts, speed_max_gts;  // GT/s a lane
};

/// Root port first, the device last. Empty where sysfs does not know the device.
std::vector<PciHop> pci_hops(const HostRoot& root, std::string_view address);

/// "16.0 GT/s PCIe" → 16; "8" → 8 lanes. Nothing for "Unknown", 0 and 255.
std::optional<double> parse_link_speed(std::string_view text);
std::optional<int> parse_link_width(std::string_view text);

/// "0000:00:01.0 x16 2.5 GT/s (max x16 16.0 GT/s)"; the maximum only where it differs; "link
/// unknown" where the port does not say. The speed drops when a device idles, the width is the
/// wiring.
std::string hop_text(const PciHop& hop);

/// 2.5 → 1, 5 → 2, 8 → 3, 16 → 4, 32 → 5, 64 → 6.
std::optional<int> pcie_generation(double gts);

/// The smallest over all hops that say: what the device really gets.
struct PcieLink {
  std::optional<int> gen, gen_max, width, width_max;
};
PcieLink narrowest(const std::vector<PciHop>& hops);

/// NVML writes "00000000:01:00.0", sysfs "0000:01:00.0".
std::string sysfs_pci_address(std::string_view address);

/// The name that the PCI id list gives a device ("Navi 31 [Radeon RX 7900 XTX]"), where one is
/// installed.
std::optional<std::string> pci_device_name(const HostRoot& root, std::string_view vendor_hex,
                                           std::string_view device_hex);

}  // namespace rigwise
