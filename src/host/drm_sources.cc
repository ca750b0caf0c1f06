// AMD and Intel GPUs by the files that their kernel drivers show under /sys/class/drm.
//
// Files are those of the kernel's own documentation (gpu/amdgpu/thermal, gpu/xe/xe_gt_freq, hwmon).
// Never read: amdgpu's pcie_bw, which measures for a second inside the read. A card that sleeps
// (runtime suspended) is left asleep: its values are absent, since a read would wake it.
#include <algorithm>
#include <cstring>
#include <map>

#include "base/text.h"
#include "host/gpu_processes.h"
#include "host/gpu_sources.h"
#include "host/kept_file.h"
#include "host/pci.h"
#include "host/proc_text.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {
constexpr std::size_t kMaxCards = 64;

struct Card {
  int gpu = 0;
  std::string driver, address;
  fs::path device;  // …/cardN/device
  fs::path hwmon;   // …/hwmon/hwmonK; empty where there is none
};

std::string link_name(const fs::path& link) {
  std::error_code error;
  return fs::read_symlink(link, error).filename().string();
}

/// Cards bound to one of `drivers`, in PCI order (the order of /sys/class/drm follows the probing).
std::vector<Card> find_cards(const HostRoot& root, std::initializer_list<std::string_view> drivers,
                             int first_gpu) {
  std::vector<Card> cards;
  const auto drm = root / "sys/class/drm";
  for (const auto& name : list_folder(drm)) {
    if (!name.starts_with("card") || name.find('-') != std::string::npos) continue;
    Card card;
    card.device = drm / name / "device";
    card.driver = link_name(card.device / "driver");
    if (std::find(drivers.begin(), drivers.end(), card.driver) == drivers.end()) continue;
    card.address = link_name(card.device);
    const auto monitors = list_folder(card.device / "hwmon", 16);
    if (!monitors.empty()) card.hwmon = card.device / "hwmon" / monitors.front();
    cards.push_back(std::move(card));
    if (cards.size() >= kMaxCards) break;
  }
  std::sort(cards.begin(), cards.end(),
            [](const Card& a, const Card& b) { return a.address < b.address; });
  for (std::size_t i = 0; i < cards.size(); ++i) cards[i].gpu = first_gpu + static_cast<int>(i);
  return cards;
}

bool sleeps(const Card& card) {
  const auto state = read_small(card.device / "power/runtime_status");
  return state && *state == "suspended";
}

/// Files of one card, kept open between ticks.
class CardFiles {
 public:
  explicit CardFiles(Card card) : card_(std::move(card)) {}
  std::optional<std::string_view> text(const fs::path& path) {
    auto [it, fresh] = files_.try_emplace(path.string());
    if (fresh) it->second = KeptFile(path.string());
    return it->second.read(buffer_);
  }
  std::optional<double> number(const fs::path& path, double factor = 1) {
    const auto found = text(path);
    const auto value = found ? to_number(trim(*found)) : std::nullopt;
    return value ? std::optional<double>(*value * factor) : std::nullopt;
  }
  std::optional<double> monitor(const char* file, double factor) {
    if (card_.hwmon.empty()) return std::nullopt;
    return number(card_.hwmon / file, factor);
  }
  /// The hwmon channel "temp", "power" … whose label is `label`; `fallback` where none is labelled
  /// so.
  std::optional<double> labelled(const std::string& kind, std::string_view label, double factor,
                                 const char* fallback) {
    if (card_.hwmon.empty()) return std::nullopt;
    const auto key = kind + ":" + std::string(label);
    auto found = channels_.find(key);
    if (found == channels_.end()) {
      std::string channel = fallback;
      for (int i = 1; i <= 8; ++i) {
        const std::string stem = kind + std::to_string(i);
        const auto have = read_small(card_.hwmon / (stem + "_label"));
        if (have && *have == label) channel = stem + "_input";
      }
      found = channels_.emplace(key, channel).first;
    }
    if (found->second.empty()) return std::nullopt;
    return number(card_.hwmon / found->second, factor);
  }
  [[nodiscard]] const Card& card() const { return card_; }

  std::vector<PciHop> hops;
  bool hops_known = false;

 private:
  Card card_;
  std::map<std::string, KeptFile> files_;
  std::map<std::string, std::string> channels_;
  ReadBuffer buffer_;
};

/// The card sits behind a switch of its own, so the device's own link says nothing: the narrowest
/// hop counts. What the ports could do is read once, what they do now at every tick.
void read_link(const HostRoot& root, CardFiles& files, GpuSample& sample) {
  if (!files.hops_known) {
    files.hops = pci_hops(root, files.card().address);
    files.hops_known = true;
  }
  for (auto& hop : files.hops) {
    const auto folder = root / "sys/bus/pci/devices" / hop.address;
    const auto width = files.text(folder / "current_link_width");
    hop.width = width ? parse_link_width(*width) : std::nullopt;
    const auto speed = files.text(folder / "current_link_speed");
    hop.speed_gts = speed ? parse_link_speed(*speed) : std::nullopt;
  }
  const PcieLink link = narrowest(files.hops);
  const auto put_into = [](std::optional<double>& into, std::optional<int> value) {
    if (value) into = *value;
  };
  put_into(sample.pcie_gen, link.gen);
  put_into(sample.pcie_gen_max, link.gen_max);
  put_into(sample.pcie_width, link.width);
  put_into(sample.pcie_width_max, link.width_max);
}

GpuDevice device_of(const HostRoot& root, const Card& card, std::string vendor) {
  GpuDevice device;
  device.gpu = card.gpu;
  device.vendor = std::move(vendor);
  device.pci_address = card.address;
  const auto id = [&](const char* file) {
    std::string text = read_small(card.device / file).value_or("");
    return text.starts_with("0x") ? text.substr(2) : text;
  };
  device.name = read_small(card.device / "product_name").value_or("");
  if (device.name.empty())
    device.name = pci_device_name(root, id("vendor"), id("device")).value_or("");
  if (device.name.empty()) device.name = device.vendor + " " + id("vendor") + ":" + id("device");
  device.name = clean_text(device.name, 128);
  device.uuid = clean_text(read_small(card.device / "unique_id").value_or(""), 64);
  const PcieLink link = narrowest(pci_hops(root, card.address));
  device.pcie_gen_max = link.gen_max;
  device.pcie_width_max = link.width_max;
  add_pci_facts(root, device);
  return device;
}

class AmdSource final : public GpuSource {
 public:
  AmdSource(HostRoot root, std::vector<Card> cards) : root_(std::move(root)) {
    for (auto& card : cards) cards_.emplace_back(std::move(card));
  }

  std::vector<GpuDevice> devices() override {
    std::vector<GpuDevice> out;
    for (auto& files : cards_) {
      GpuDevice device = device_of(root_, files.card(), "amd");
      device.total_bytes = files.number(files.card().device / "mem_info_vram_total");
      device.power_limit_w = files.monitor("power1_cap", 1e-6);
      device.power_limit_max_w = files.monitor("power1_cap_max", 1e-6);
      device.slowdown_c = files.monitor("temp1_crit", 1e-3);
      device.shutdown_c = files.monitor("temp1_emergency", 1e-3);
      out.push_back(std::move(device));
    }
    return out;
  }

  std::vector<GpuSample> read(double t_s, const std::vector<int>& tree, bool slow) override {
    std::vector<GpuSample> samples;
    GpuProcessLists processes;
    const auto served = slow ? kfd_gpus(root_) : std::nullopt;
    for (auto& files : cards_) {
      GpuSample sample;
      sample.t_s = t_s;
      sample.gpu = files.card().gpu;
      if (!sleeps(files.card())) read_card(files, sample, slow);
      samples.push_back(sample);
      processes.emplace_back();
      for (const auto& one : served.value_or(std::vector<KfdGpu>{})) {
        if (one.address == files.card().address)
          processes.back() = kfd_processes(root_, one.gpu_id);
      }
    }
    if (served) assign_processes(root_, tree, processes, samples);
    return samples;
  }

  [[nodiscard]] std::string name() const override { return "amdgpu"; }
  std::optional<std::string> version() override {
    return read_small(root_ / "sys/module/amdgpu/version");
  }

 private:
  void read_card(CardFiles& files, GpuSample& sample, bool slow) {
    const fs::path& device = files.card().device;
    sample.util_frac = files.number(device / "gpu_busy_percent", 0.01);
    sample.mem_util_frac = files.number(device / "mem_busy_percent", 0.01);
    sample.used_bytes = files.number(device / "mem_info_vram_used");
    sample.total_bytes = files.number(device / "mem_info_vram_total");
    sample.temp_c = files.labelled("temp", "edge", 1e-3, "temp1_input");
    sample.temp_mem_c = files.labelled("temp", "mem", 1e-3, "");
    sample.power_w = files.monitor("power1_average", 1e-6);
    if (!sample.power_w) sample.power_w = files.monitor("power1_input", 1e-6);  // RDNA3 and later
    sample.power_limit_w = files.monitor("power1_cap", 1e-6);
    sample.sm_clock_mhz = files.labelled("freq", "sclk", 1e-6, "");
    sample.mem_clock_mhz = files.labelled("freq", "mclk", 1e-6, "");
    const auto clocks = files.text(device / "pp_dpm_sclk");
    if (clocks) {
      if (!sample.sm_clock_mhz) sample.sm_clock_mhz = starred_mhz(*clocks);
      sample.sm_clock_max_mhz = highest_mhz(*clocks);
    }
    if (!sample.mem_clock_mhz) {
      if (const auto memory = files.text(device / "pp_dpm_mclk"))
        sample.mem_clock_mhz = starred_mhz(*memory);
    }
    read_link(root_, files, sample);
    if (const auto metrics = files.text(device / "gpu_metrics"))
      sample.throttle_reasons = parse_amd_metrics(*metrics).throttle_reasons;
    if (slow) {
      const auto now = files.monitor("pwm1", 1), most = files.monitor("pwm1_max", 1);
      if (now && most && *most > 0) sample.fan_frac = *now / *most;
    }
  }

  static std::optional<double> highest_mhz(std::string_view table) {
    std::optional<double> most;
    Lines lines(table);
    std::string_view line;
    while (lines.next(line)) {
      const auto colon = line.find(':');
      const auto unit = line.find("Mhz");
      if (colon == std::string_view::npos || unit == std::string_view::npos || unit < colon)
        continue;
      const auto value = to_number(trim(line.substr(colon + 1, unit - colon - 1)));
      if (value) most = std::max(most.value_or(*value), *value);
    }
    return most;
  }

  HostRoot root_;
  std::vector<CardFiles> cards_;
};

class IntelSource final : public GpuSource {
 public:
  IntelSource(HostRoot root, std::vector<Card> cards) : root_(std::move(root)) {
    for (auto& card : cards) cards_.emplace_back(std::move(card));
  }

  std::vector<GpuDevice> devices() override {
    std::vector<GpuDevice> out;
    for (auto& files : cards_) {
      GpuDevice device = device_of(root_, files.card(), "intel");
      device.power_limit_w = files.monitor("power1_max", 1e-6);
      device.power_limit_max_w = files.monitor("power1_rated_max", 1e-6);
      device.slowdown_c = files.monitor("temp2_crit", 1e-3);
      device.shutdown_c = files.monitor("temp2_emergency", 1e-3);
      out.push_back(std::move(device));
    }
    return out;
  }

  std::vector<GpuSample> read(double t_s, const std::vector<int>& /*tree*/,
                              bool /*slow*/) override {
    std::vector<GpuSample> samples;
    for (auto& files : cards_) {
      GpuSample sample;
      sample.t_s = t_s;
      sample.gpu = files.card().gpu;
      if (!sleeps(files.card())) {
        files.card().driver == "xe" ? read_xe(files, sample) : read_i915(files, sample);
        // Power is an energy counter only; "card" is the whole board, "pkg" the chip.
        sample.energy_j = files.labelled("energy", "card", 1e-6, "energy1_input");
        sample.power_limit_w = files.monitor("power1_max", 1e-6);
        sample.temp_c = files.labelled("temp", "pkg", 1e-3, "");
        sample.temp_mem_c = files.labelled("temp", "vram", 1e-3, "");
        read_link(root_, files, sample);
      }
      samples.push_back(sample);
    }
    return samples;
  }

  [[nodiscard]] std::string name() const override { return "intel"; }

 private:
  struct Reason {
    const char* file;
    unsigned bit;
  };

  template <std::size_t N>
  static std::optional<double> reasons(CardFiles& files, const fs::path& folder,
                                       const std::array<Reason, N>& table) {
    unsigned mask = 0;
    bool known = false;
    for (const auto& reason : table) {
      const auto value = files.number(folder / reason.file);
      known = known || value.has_value();
      if (value && *value != 0) mask |= reason.bit;
    }
    return known ? std::optional<double>(mask) : std::nullopt;
  }

  static void read_xe(CardFiles& files, GpuSample& sample) {
    static constexpr std::array<Reason, 8> kReasons = {{{"reason_pl1", kReasonPower},
                                                        {"reason_pl2", kReasonPower},
                                                        {"reason_pl4", kReasonPower},
                                                        {"reason_ratl", kReasonSwThermal},
                                                        {"reason_thermal", kReasonSwThermal},
                                                        {"reason_prochot", kReasonHwThermal},
                                                        {"reason_vr_thermalert", kReasonHwThermal},
                                                        {"reason_vr_tdc", kReasonPower}}};
    const fs::path clock = files.card().device / "tile0/gt0/freq0";
    sample.sm_clock_mhz = files.number(clock / "act_freq");
    sample.sm_clock_max_mhz = files.number(clock / "rp0_freq");
    sample.throttle_reasons = reasons(files, clock / "throttle", kReasons);
  }

  static void read_i915(CardFiles& files, GpuSample& sample) {
    static constexpr std::array<Reason, 8> kReasons = {
        {{"throttle_reason_pl1", kReasonPower},
         {"throttle_reason_pl2", kReasonPower},
         {"throttle_reason_pl4", kReasonPower},
         {"throttle_reason_ratl", kReasonSwThermal},
         {"throttle_reason_thermal", kReasonSwThermal},
         {"throttle_reason_prochot", kReasonHwThermal},
         {"throttle_reason_vr_thermalert", kReasonHwThermal},
         {"throttle_reason_vr_tdc", kReasonPower}}};
    // These live beside `device`, in the card's own folder.
    const fs::path clock = files.card().device.parent_path() / "gt/gt0";
    sample.sm_clock_mhz = files.number(clock / "rps_act_freq_mhz");
    sample.sm_clock_max_mhz = files.number(clock / "rps_RP0_freq_mhz");
    sample.throttle_reasons = reasons(files, clock, kReasons);
  }

  HostRoot root_;
  std::vector<CardFiles> cards_;
};

template <class T>
std::optional<T> little_endian(std::string_view bytes, std::size_t at) {
  if (at + sizeof(T) > bytes.size()) return std::nullopt;
  T value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof(T));  // every host of such a card is little endian
  return value;
}
}  // namespace

AmdMetrics parse_amd_metrics(std::string_view bytes) {
  // Offsets of the kernel's struct gpu_metrics_v1_3 (1.1 and 1.2 are shorter and begin alike).
  constexpr std::size_t kLinkWidth = 74, kLinkSpeed = 76, kThrottle = 112, kSize = 120;
  AmdMetrics metrics;
  const auto size = little_endian<std::uint16_t>(bytes, 0);
  if (!size || *size > bytes.size() || *size < 80) return metrics;
  const unsigned format = static_cast<unsigned char>(bytes[2]);
  const unsigned content = static_cast<unsigned char>(bytes[3]);
  if (format != 1 || content < 1 || content > 3) return metrics;
  bytes = bytes.substr(0, *size);
  constexpr std::uint16_t kAbsent = 0xFFFF;
  if (const auto width = little_endian<std::uint16_t>(bytes, kLinkWidth);
      width && *width != kAbsent && *width != 0)
    metrics.pcie_width = *width;
  if (const auto speed = little_endian<std::uint16_t>(bytes, kLinkSpeed);
      speed && *speed != kAbsent && *speed != 0)
    metrics.pcie_gts = *speed / 10.0;
  if (content < 3 || bytes.size() < kSize) return metrics;
  const auto status = little_endian<std::uint64_t>(bytes, kThrottle);
  if (!status || *status == ~std::uint64_t{0}) return metrics;
  const auto any = [&](int first, int last) {
    for (int bit = first; bit <= last; ++bit) {
      // RDNA3 and 4 set the hotspot bit (36) even when idle: it tells nothing.
      if (bit != 36 && (*status >> bit & 1) != 0) return true;
    }
    return false;
  };
  unsigned mask = 0;
  // PPT0…3, SPL, FPPT, SPPT; TDC and EDC, the currents of the board's own regulators: limits that a
  // busy card runs at, not the brake that a failing supply pulls
  if (any(0, 7) || any(16, 23)) mask |= kReasonPower;
  if (any(32, 43)) mask |= kReasonSwThermal;  // temperature limits
  if (any(44, 47)) mask |= kReasonHwThermal;  // VRHOT, PROCHOT
  metrics.throttle_reasons = mask;
  return metrics;
}

std::optional<double> starred_mhz(std::string_view table) {
  Lines lines(table);
  std::string_view line;
  while (lines.next(line)) {
    const auto colon = line.find(':');
    const auto unit = line.find("Mhz");
    if (line.find('*') == std::string_view::npos || colon == std::string_view::npos ||
        unit == std::string_view::npos || unit < colon)
      continue;
    return to_number(trim(line.substr(colon + 1, unit - colon - 1)));
  }
  return std::nullopt;
}

std::unique_ptr<GpuSource> open_amdgpu(const HostRoot& root, int first_gpu) {
  auto cards = find_cards(root, {"amdgpu"}, first_gpu);
  if (cards.empty()) return nullptr;
  return std::make_unique<AmdSource>(root, std::move(cards));
}

std::unique_ptr<GpuSource> open_intel(const HostRoot& root, int first_gpu) {
  auto cards = find_cards(root, {"xe", "i915"}, first_gpu);
  if (cards.empty()) return nullptr;
  return std::make_unique<IntelSource>(root, std::move(cards));
}

std::vector<std::unique_ptr<GpuSource>> open_gpu_sources(const HostRoot& root,
                                                         std::vector<std::string>* why_not) {
  std::vector<std::unique_ptr<GpuSource>> sources;
  std::vector<std::string> why;
  int next_gpu = 0;
  const auto add = [&](std::unique_ptr<GpuSource> source) {
    const auto devices = source->devices();
    for (const auto& device : devices) next_gpu = std::max(next_gpu, device.gpu + 1);
    if (devices.empty())
      why.push_back(source->name() + ": no GPU");
    else
      sources.push_back(std::move(source));
  };
  if (root.live() || root.nvml_stands_in) {
    auto nvml = open_nvml(root, next_gpu);
    if (nvml)
      add(std::move(nvml).value());
    else
      why.push_back(nvml.error().message);
  } else {
    why.push_back("nvml: not asked about a recorded machine");
  }
  if (auto amd = open_amdgpu(root, next_gpu))
    add(std::move(amd));
  else
    why.push_back("amdgpu: no card");
  if (auto intel = open_intel(root, next_gpu))
    add(std::move(intel));
  else
    why.push_back("xe, i915: no card");
  if (why_not != nullptr) *why_not = std::move(why);
  return sources;
}

}  // namespace rigwise
