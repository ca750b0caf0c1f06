// Facts of the GPUs: the PCI bus, the drivers, the device nodes and the kernel's log.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <set>

#include "base/clock.h"
#include "base/files.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "doctor/facts.h"
#include "host/gpu_processes.h"
#include "host/kept_file.h"
#include "host/proc_text.h"

namespace rigwise::doctor {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMostDevices = 4096, kMostGpus = 64, kMostLogBytes = std::size_t{16} << 20;

std::string hex_id(const fs::path& file) {
  std::string text = lower(read_small(file).value_or(""));
  return text.starts_with("0x") ? text.substr(2) : text;
}

std::string link_name(const fs::path& link) {
  std::error_code error;
  return fs::read_symlink(link, error).filename().string();
}

std::string vendor_of(std::string_view id) {
  if (id == "10de") return "nvidia";
  if (id == "1002") return "amd";
  if (id == "8086") return "intel";
  return {};
}

/// The largest of the address ranges in `resource`: "0xSTART 0xEND 0xFLAGS" a line.
std::optional<double> largest_bar(const fs::path& device) {
  const auto text = read_small(device / "resource");
  if (!text) return std::nullopt;
  std::optional<double> largest;
  Lines lines(*text);
  std::string_view line;
  for (int bar = 0; bar < 6 && lines.next(line); ++bar) {
    const auto parts = split(line, ' ');
    if (parts.size() < 2) continue;
    const auto begin = std::strtoull(std::string(parts[0]).c_str(), nullptr, 16);
    const auto end = std::strtoull(std::string(parts[1]).c_str(), nullptr, 16);
    if (end > begin) largest = std::max(largest.value_or(0), static_cast<double>(end - begin) + 1);
  }
  return largest;
}

/// "TOTAL_ERR_COR 12" of an AER counter file.
std::optional<double> aer_total(const fs::path& file, std::string_view name) {
  const auto text = read_small(file);
  if (!text) return std::nullopt;
  Lines lines(*text);
  std::string_view line;
  while (lines.next(line)) {
    if (line.starts_with(name)) return to_number(trim(line.substr(name.size())));
  }
  return std::nullopt;
}

/// Does this port send peer-to-peer traffic up to the root? Access Control Services, extended
/// capability 0x000d, control register at +6: 0x04 request redirect, 0x08 completion redirect
/// (PCI Express Base Specification 7.7.11; pciutils' header.h). Nothing where the configuration
/// space beyond 64 bytes cannot be read: that needs root.
std::optional<bool> acs_redirects(const fs::path& device) {
  const auto config = read_file(device / "config", 8192);
  if (!config || config->size() <= 256) return std::nullopt;
  const auto byte_at = [&](std::size_t at) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>((*config)[at]));
  };
  std::size_t at = 256;
  for (int hops = 0; hops < 96 && at >= 256 && at + 8 <= config->size(); ++hops) {
    const std::uint32_t id = byte_at(at) | byte_at(at + 1) << 8;
    const std::uint32_t next = (byte_at(at + 2) | byte_at(at + 3) << 8) >> 4;
    if (id == 0x000d) return (byte_at(at + 6) & 0x0cU) != 0;
    at = next & ~std::size_t{3};
  }
  return false;
}

/// A device that left the bus answers every read with ones: revision ff, link width 63.
bool answers(const fs::path& device) {
  const auto config = read_file(device / "config", 8192);
  if (config && config->size() >= 4 &&
      std::all_of(config->begin(), config->begin() + 4, [](char c) { return c == '\xff'; }))
    return false;
  const auto width = read_number(device / "current_link_width");
  return !(width && *width == 63 && hex_id(device / "revision") == "ff");
}

void read_above(const HostRoot& root, PciGpu& gpu) {
  gpu.hops = pci_hops(root, gpu.address);
  const auto devices = root / "sys/bus/pci/devices";
  bool all_known = true, any = false;
  for (std::size_t i = 0; i < gpu.hops.size(); ++i) {
    const auto folder = devices / gpu.hops[i].address;
    gpu.hop_names.push_back(
        pci_device_name(root, hex_id(folder / "vendor"), hex_id(folder / "device")).value_or(""));
    if (i + 1 == gpu.hops.size()) break;  // the card itself is no port
    const auto redirects = acs_redirects(folder);
    all_known = all_known && redirects.has_value();
    any = any || redirects.value_or(false);
  }
  if (gpu.hops.size() > 1 && (all_known || any)) gpu.acs_redirects = any;
}

PciGpu pci_gpu(const HostRoot& root, const std::string& address, const std::string& vendor) {
  const auto folder = root / "sys/bus/pci/devices" / address;
  PciGpu gpu;
  gpu.address = address;
  gpu.vendor = vendor;
  gpu.driver = clean_text(link_name(folder / "driver"), 64);
  gpu.name = pci_device_name(root, hex_id(folder / "vendor"), hex_id(folder / "device"))
                 .value_or(vendor + " GPU");
  gpu.answers = answers(folder);
  gpu.asleep = read_small(folder / "power/runtime_status").value_or("") == "suspended";
  read_above(root, gpu);
  gpu.largest_bar_bytes = largest_bar(folder);
  for (int bar = 0; bar < 6; ++bar) {
    std::error_code error;
    const std::string file = "resource" + std::to_string(bar) + "_resize";
    gpu.bar_resizable = gpu.bar_resizable || fs::exists(folder / file, error);
  }
  gpu.aer_corrected = aer_total(folder / "aer_dev_correctable", "TOTAL_ERR_COR");
  const auto fatal = aer_total(folder / "aer_dev_fatal", "TOTAL_ERR_FATAL");
  const auto nonfatal = aer_total(folder / "aer_dev_nonfatal", "TOTAL_ERR_NONFATAL");
  if (fatal || nonfatal) gpu.aer_uncorrected = fatal.value_or(0) + nonfatal.value_or(0);
  const std::string group = link_name(folder / "iommu_group");
  if (!group.empty())
    gpu.iommu_type =
        clean_text(read_small(root / "sys/kernel/iommu_groups" / group / "type").value_or(""), 32);
  return gpu;
}

/// Graphics of the processor: not a card that anybody trains on. Intel's devices of bus 0 are the
/// processor's own; old AMD processors have it at 00:01.0. Newer ones put it behind an internal
/// bridge that looks like a card's slot, but there it is one function of a device whose others
/// (security processor, USB) bear the processor's vendor 1022, while all of a card's bear 1002.
/// This needs neither a driver nor a guess at the size of a carve-out. Accelerators (class 1200:
/// MI300A) share a chip with a processor and are no graphics.
bool integrated(const HostRoot& root, const std::string& address) {
  const auto devices = root / "sys/bus/pci/devices";
  const std::string vendor = vendor_of(hex_id(devices / address / "vendor"));
  if (vendor == "intel") return address.starts_with("0000:00:");
  if (vendor != "amd" || hex_id(devices / address / "class").starts_with("1200")) return false;
  if (address == "0000:00:01.0") return true;
  for (int function = 1; function < 8; ++function) {
    const std::string other = address.substr(0, address.size() - 1) + std::to_string(function);
    if (hex_id(devices / other / "vendor") == "1022") return true;
  }
  return false;
}

void read_bus(const HostRoot& root, DeviceFacts& into) {
  const auto devices = root / "sys/bus/pci/devices";
  std::vector<std::string> drives;
  for (const auto& address : list_folder(devices, kMostDevices)) {
    const std::string type = hex_id(devices / address / "class");
    if (type.starts_with("0108")) drives.push_back(address);
    if (!type.starts_with("0300") && !type.starts_with("0302") && !type.starts_with("0380") &&
        !type.starts_with("1200"))
      continue;
    const std::string vendor = vendor_of(hex_id(devices / address / "vendor"));
    if (vendor.empty() || into.pci.size() >= kMostGpus) continue;  // a server's or a guest's screen
    // a virtual function is a part of a card, which is here itself; a guest sees it as a card
    std::error_code error;
    if (fs::is_symlink(devices / address / "physfn", error)) continue;
    if (!integrated(root, address)) into.pci.push_back(pci_gpu(root, address, vendor));
  }
  for (const auto& drive : drives) {
    const auto hops = pci_hops(root, drive);
    if (hops.size() < 2) continue;
    for (PciGpu& gpu : into.pci) {
      if (gpu.hops.size() > 1 && gpu.hops.front().address == hops.front().address)
        gpu.nvme_beside.push_back(drive);
    }
  }
}

void read_nvidia_files(const HostRoot& root, DeviceFacts& into) {
  into.nvidia_module = read_small(root / "sys/module/nvidia/version");
  std::error_code error;
  into.nouveau = fs::exists(root / "sys/module/nouveau", error);
  std::set<std::string> versions;
  for (const char* folder :
       {"usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib",
        "usr/lib/x86_64-linux-gnu/nvidia/current", "usr/local/nvidia/lib64"}) {
    for (const auto& name : list_folder(root / folder, 65536)) {
      constexpr std::string_view kStem = "libnvidia-ml.so.";
      if (name.starts_with(kStem) && name.find('.', kStem.size()) != std::string::npos)
        versions.insert(clean_text(name.substr(kStem.size()), 64));
    }
  }
  into.nvidia_libraries.assign(versions.begin(), versions.end());
}

enum class Node { good, missing, denied, withheld };

/// access(2) asks the control group's device rules too (inode_permission of the kernel), and those
/// refuse with EPERM, where the file's own mode refuses with EACCES. Nothing is opened: that would
/// wake a card, or wait for one that hangs.
Node look_at_node(const HostRoot& root, const std::string& path) {
  if (::access((root / path).c_str(), R_OK | W_OK) == 0) return Node::good;
  if (errno == ENOENT || errno == ENOTDIR) return Node::missing;
  return errno == EPERM ? Node::withheld : Node::denied;
}

void want_node(const HostRoot& root, const std::string& path, DeviceFacts& into) {
  const Node node = look_at_node(root, path);
  if (node == Node::missing) into.nodes_missing.push_back("/" + path);
  if (node == Node::denied || node == Node::withheld) into.nodes_denied.push_back("/" + path);
}

/// /dev/nvidia0 … : minor numbers need not start at 0.
std::vector<std::string> nvidia_nodes(const HostRoot& root) {
  std::vector<std::string> nodes;
  for (const auto& name : list_folder(root / "dev", 65536)) {
    if (name.size() > 6 && name.starts_with("nvidia") && name[6] >= '0' && name[6] <= '9')
      nodes.push_back("dev/" + name);
  }
  return nodes;
}

/// The file of a card that NVIDIA's driver drives, by the minor number that it tells; nothing where
/// it tells of other cards only (a container's runtime hides those that it does not give) or none.
std::optional<std::string> nvidia_node(const HostRoot& root, const std::string& address) {
  constexpr std::string_view kMinor = "Device Minor:";
  const auto text = read_small(root / "proc/driver/nvidia/gpus" / address / "information");
  const auto at = text ? text->find(kMinor) : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  const std::string_view rest = std::string_view(*text).substr(at + kMinor.size());
  return "dev/nvidia" + std::string(trim(rest.substr(0, rest.find('\n'))));
}

/// Cards that the bus shows, as it shows them to every container, and that this container or job
/// may not open. NVIDIA's: among those that NVML does not list, where it answers at all.
void find_withheld(const HostRoot& root, DeviceFacts& into) {
  std::set<std::string> listed;
  for (const auto& gpu : into.driver) listed.insert(gpu.device.pci_address);
  const bool told = !list_folder(root / "proc/driver/nvidia/gpus", kMostGpus).empty();
  const auto nodes = nvidia_nodes(root);
  const auto open = std::count_if(nodes.begin(), nodes.end(), [&](const std::string& node) {
    return look_at_node(root, node) == Node::good;
  });
  const auto cards = std::count_if(into.pci.begin(), into.pci.end(),
                                   [](const PciGpu& gpu) { return gpu.driver == "nvidia"; });
  const bool screens = !list_folder(root / "dev/dri", 256).empty();
  for (PciGpu& gpu : into.pci) {
    if (gpu.driver == "nvidia" && nvml_answered(into) && !listed.contains(gpu.address)) {
      const auto node = nvidia_node(root, gpu.address);
      // without a minor number the files are counted
      gpu.withheld = node ? look_at_node(root, *node) != Node::good : told || open < cards;
    } else if (screens && (gpu.driver == "amdgpu" || gpu.driver == "xe" || gpu.driver == "i915")) {
      for (const auto& name : list_folder(root / "sys/bus/pci/devices" / gpu.address / "drm", 64)) {
        if (!name.starts_with("renderD")) continue;
        const Node node = look_at_node(root, "dev/dri/" + name);
        gpu.withheld = node == Node::missing || node == Node::withheld;
      }
    }
  }
}

/// Held with flock(2), as by flock(1) of a shell? Only the kernel's list shows that without taking
/// the lock for a moment, in which its holder-to-be would be refused.
bool is_flocked(const HostRoot& root, const fs::path& file) {
  struct stat status = {};
  const auto text = read_file(root / "proc/locks", 4 << 20);
  if (!text || ::stat(file.c_str(), &status) != 0) return false;
  // "1: FLOCK  ADVISORY  WRITE 4127 00:19:1723 0 EOF"
  const std::string place =
      fmt::format(" {:02x}:{:02x}:{} ", major(status.st_dev), minor(status.st_dev), status.st_ino);
  Lines lines(*text);
  std::string_view line;
  while (lines.next(line)) {
    if (line.find(" FLOCK ") != std::string_view::npos &&
        line.find(place) != std::string_view::npos)
      return true;
  }
  return false;
}

void read_leases(const HostRoot& root, DeviceFacts& into) {
  const auto folder = root / "run/rigwise";
  for (const auto& name : list_folder(folder, 256)) {
    if (name.starts_with("gpu-") && name.ends_with(".lock") &&
        (is_locked(folder / name) || is_flocked(root, folder / name)))
      into.leased.push_back(clean_text(name.substr(0, name.size() - 5), 80));
  }
}

std::optional<std::string> kernel_log(const HostRoot& root, std::string& from) {
  if (!root.live()) {
    from = "var/log/dmesg";
    auto text = read_file(root / "var/log/dmesg", kMostLogBytes);
    if (!text) return from = "no kernel log was recorded", std::nullopt;
    return std::move(*text);
  }
  constexpr int kReadAll = 3;  // SYSLOG_ACTION_READ_ALL of syslog(2)
  std::string text(std::size_t{1} << 20, '\0');
  const int count = ::klogctl(kReadAll, text.data(), static_cast<int>(text.size()));
  if (count >= 0) {
    text.resize(static_cast<std::size_t>(count));
    return from = "dmesg", text;
  }
  ProcessOptions options;
  options.limit = std::chrono::milliseconds(1500);
  options.max_output_bytes = kMostLogBytes;
  const auto journal = run_process({"journalctl", "-k", "-b", "-q", "--no-pager"}, options);
  if (journal && journal->exit_status == 0 && !journal->out.empty())
    return from = "journalctl -k -b", journal->out;
  from = "the kernel's log is not open to this user";
  return std::nullopt;
}

}  // namespace

void read_kernel_log(std::string_view text, DeviceFacts& into) {
  constexpr std::size_t kMost = 200;
  Lines lines(text);
  std::string_view line;
  while (lines.next(line)) {
    // "NVRM: Xid (PCI:0000:01:00): 79, pid=…, GPU has fallen off the bus."
    if (const auto at = line.find("NVRM: Xid ("); at != std::string_view::npos) {
      const auto close = line.find("): ", at);
      if (close == std::string_view::npos) continue;
      const std::string_view rest = line.substr(close + 3);
      const auto end = rest.find_first_not_of("0123456789");
      if (end == std::string_view::npos) continue;  // cut: the number may go on
      const auto xid = to_integer(rest.substr(0, end));
      if (xid && *xid < 100000 && into.xids.size() < kMost)
        into.xids.push_back({static_cast<int>(*xid), clean_text(trim(line), 300)});
    } else if (line.find("available PCIe bandwidth, limited by") != std::string_view::npos &&
               into.downtrained.size() < kMost) {
      into.downtrained.push_back(clean_text(trim(line), 300));
    }
  }
}

DeviceFacts read_devices(const HostRoot& root) {
  DeviceFacts facts;
  read_bus(root, facts);
  read_nvidia_files(root, facts);
  read_leases(root, facts);
  if (const auto served = kfd_gpus(root)) {
    facts.kfd.emplace();
    for (const auto& gpu : *served) facts.kfd->push_back(clean_text(gpu.address, 32));
  }
  const auto log = kernel_log(root, facts.kernel_log_from);
  facts.kernel_log_readable = log.has_value();
  if (log) read_kernel_log(*log, facts);
  return facts;
}

bool nvml_answered(const DeviceFacts& facts) {
  return std::any_of(facts.driver.begin(), facts.driver.end(),
                     [](const DriverGpu& gpu) { return gpu.device.vendor == "nvidia"; }) ||
         std::any_of(facts.problems.begin(), facts.problems.end(),
                     [](const std::string& text) { return text.starts_with("nvml GPU "); }) ||
         std::find(facts.why_no_driver.begin(), facts.why_no_driver.end(), "nvml: no GPU") !=
             facts.why_no_driver.end();
}

void read_nodes(const HostRoot& root, DeviceFacts& into) {
  find_withheld(root, into);
  std::erase_if(into.driver, [&](const DriverGpu& gpu) {  // sysfs tells of everybody's
    return std::any_of(into.pci.begin(), into.pci.end(), [&](const PciGpu& card) {
      return card.withheld && card.address == gpu.device.pci_address;
    });
  });
  const auto has = [&](std::string_view driver) {
    return std::any_of(into.pci.begin(), into.pci.end(),
                       [&](const PciGpu& gpu) { return gpu.driver == driver && !gpu.withheld; });
  };
  if (has("nvidia")) {
    want_node(root, "dev/nvidiactl", into);
    into.uvm_missing = look_at_node(root, "dev/nvidia-uvm") == Node::missing;
    if (!into.uvm_missing) want_node(root, "dev/nvidia-uvm", into);
    if (nvml_answered(into)) return;  // it opened the files of the cards that it lists
    const auto nodes = nvidia_nodes(root);
    if (nodes.empty()) into.nodes_missing.push_back("/dev/nvidia0 …");
    for (const auto& node : nodes) {
      if (look_at_node(root, node) == Node::denied) into.nodes_denied.push_back("/" + node);
    }
  } else if (has("amdgpu")) {  // beside NVIDIA's cards an AMD card is a screen's
    want_node(root, "dev/kfd", into);
  }
}

void ask_drivers(const HostRoot& root, DeviceFacts& into) {
  const double start = monotonic_s();
  for (const auto& source : open_gpu_sources(root, &into.why_no_driver)) {
    const auto devices = source->devices();
    const auto samples = source->read(0, {}, true);
    for (auto& problem : source->problems()) into.problems.push_back(std::move(problem));
    for (const GpuDevice& device : devices) {
      // one whose handle the driver refused is among the problems
      if (device.pci_address.empty() && device.uuid.empty() && device.name.empty()) continue;
      if (integrated(root, device.pci_address)) continue;
      DriverGpu gpu;
      gpu.device = device;
      gpu.hops = pci_hops(root, device.pci_address);
      for (const GpuSample& sample : samples) {
        if (sample.gpu == device.gpu) gpu.sample = sample;
      }
      into.driver.push_back(std::move(gpu));
    }
  }
  into.driver_answer_s = monotonic_s() - start;
  read_nodes(root, into);
}

}  // namespace rigwise::doctor
