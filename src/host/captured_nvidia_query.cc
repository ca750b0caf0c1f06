// NVIDIA: `nvidia-smi -q`, whole or with `-d …`, as the outline that it prints and as XML (`-x`).
// Both become the same paths, "fb_memory_usage/used"; names of drivers 470 to 580.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

constexpr int kMostGpus = 64;
using S = GpuSample;
using D = GpuDevice;

enum class Unit { plain, share, bytes, micro, rate };

/// Where a value goes. The end of a path; the last that says something counts.
struct Place {
  std::string_view path;
  Unit unit = Unit::plain;
  std::optional<double> GpuSample::*sample = nullptr;
  std::optional<double> GpuDevice::*device = nullptr;
  std::optional<int> GpuDevice::*device_count = nullptr;
  std::string_view quantity = {};  // of an observation
  std::string_view quantity_unit = {};
};

// The outline's spelling, then the one of XML where it differs.
constexpr std::array kPlaces = {
    Place{"fan_speed", Unit::share, &S::fan_frac},
    Place{"fb_memory_usage/total", Unit::bytes, &S::total_bytes, &D::total_bytes},
    Place{"fb_memory_usage/used", Unit::bytes, &S::used_bytes},
    Place{"utilization/gpu", Unit::share, &S::util_frac},
    Place{"utilization/gpu_util", Unit::share, &S::util_frac},
    Place{"utilization/memory", Unit::share, &S::mem_util_frac},
    Place{"utilization/memory_util", Unit::share, &S::mem_util_frac},
    Place{"temperature/gpu_current_temp", Unit::plain, &S::temp_c},
    Place{"temperature/gpu_temp", Unit::plain, &S::temp_c},
    Place{"temperature/memory_current_temp", Unit::plain, &S::temp_mem_c},
    Place{"temperature/memory_temp", Unit::plain, &S::temp_mem_c},
    Place{.path = "temperature/gpu_slowdown_temp", .device = &D::slowdown_c},
    Place{.path = "temperature/gpu_temp_slow_threshold", .device = &D::slowdown_c},
    Place{.path = "temperature/gpu_shutdown_temp", .device = &D::shutdown_c},
    Place{.path = "temperature/gpu_temp_max_threshold", .device = &D::shutdown_c},
    Place{"power_readings/power_draw", Unit::plain, &S::power_w},
    Place{"gpu_power_readings/power_draw", Unit::plain, &S::power_w},
    Place{"gpu_power_readings/average_power_draw", Unit::plain, &S::power_w},
    Place{"gpu_power_readings/instantaneous_power_draw", Unit::plain, &S::power_w},
    Place{"gpu_power_readings/instant_power_draw", Unit::plain, &S::power_w},
    Place{"power_readings/power_limit", Unit::plain, &S::power_limit_w, &D::power_limit_w},
    Place{"power_readings/enforced_power_limit", Unit::plain, &S::power_limit_w, &D::power_limit_w},
    Place{"gpu_power_readings/current_power_limit", Unit::plain, &S::power_limit_w,
          &D::power_limit_w},
    Place{.path = "power_readings/max_power_limit", .device = &D::power_limit_max_w},
    Place{.path = "gpu_power_readings/max_power_limit", .device = &D::power_limit_max_w},
    Place{"clocks/sm", Unit::plain, &S::sm_clock_mhz},
    Place{"clocks/sm_clock", Unit::plain, &S::sm_clock_mhz},
    Place{"clocks/memory", Unit::plain, &S::mem_clock_mhz},
    Place{"clocks/mem_clock", Unit::plain, &S::mem_clock_mhz},
    Place{"max_clocks/sm", Unit::plain, &S::sm_clock_max_mhz},
    Place{"max_clocks/sm_clock", Unit::plain, &S::sm_clock_max_mhz},
    Place{"pcie_generation/current", Unit::plain, &S::pcie_gen},
    Place{"pcie_gen/current_link_gen", Unit::plain, &S::pcie_gen},
    Place{"pcie_generation/max", Unit::plain, &S::pcie_gen_max, nullptr, &D::pcie_gen_max},
    Place{"pcie_gen/max_link_gen", Unit::plain, &S::pcie_gen_max, nullptr, &D::pcie_gen_max},
    Place{"link_width/current", Unit::plain, &S::pcie_width},
    Place{"link_widths/current_link_width", Unit::plain, &S::pcie_width},
    Place{"link_width/max", Unit::plain, &S::pcie_width_max, nullptr, &D::pcie_width_max},
    Place{"link_widths/max_link_width", Unit::plain, &S::pcie_width_max, nullptr,
          &D::pcie_width_max},
    Place{"counters/sw_power_capping", Unit::micro, &S::held_power_s},
    Place{"counters/sw_power_cap", Unit::micro, &S::held_power_s},
    Place{"counters/sync_boost", Unit::micro, &S::held_sync_s},
    Place{"counters/sw_thermal_slowdown", Unit::micro, &S::held_sw_thermal_s},
    Place{"counters/sw_therm_slowdown", Unit::micro, &S::held_sw_thermal_s},
    Place{"counters/hw_thermal_slowdown", Unit::micro, &S::held_hw_thermal_s},
    Place{"counters/hw_therm_slowdown", Unit::micro, &S::held_hw_thermal_s},
    Place{"counters/hw_power_braking", Unit::micro, &S::held_brake_s},
    Place{"counters/hw_power_brake", Unit::micro, &S::held_brake_s},
    Place{"counters/hw_power_brake_slowdown", Unit::micro, &S::held_brake_s},
    // what the sampled tables have no column for
    Place{.path = "pci/tx_throughput",
          .unit = Unit::rate,
          .quantity = "pcie_tx_bytes_per_s",
          .quantity_unit = "bytes/s"},
    Place{.path = "pci/tx_util",
          .unit = Unit::rate,
          .quantity = "pcie_tx_bytes_per_s",
          .quantity_unit = "bytes/s"},
    Place{.path = "pci/rx_throughput",
          .unit = Unit::rate,
          .quantity = "pcie_rx_bytes_per_s",
          .quantity_unit = "bytes/s"},
    Place{.path = "pci/rx_util",
          .unit = Unit::rate,
          .quantity = "pcie_rx_bytes_per_s",
          .quantity_unit = "bytes/s"},
    Place{.path = "power_samples/avg", .quantity = "power_mean_w", .quantity_unit = "W"},
    Place{.path = "power_samples/max", .quantity = "power_max_w", .quantity_unit = "W"},
    Place{.path = "gpu_utilization_samples/avg",
          .unit = Unit::share,
          .quantity = "util_mean_frac",
          .quantity_unit = "1"},
    Place{.path = "memory_utilization_samples/avg",
          .unit = Unit::share,
          .quantity = "mem_util_mean_frac",
          .quantity_unit = "1"},
    Place{.path = "sm_clock_samples/avg", .quantity = "sm_clock_mean_mhz", .quantity_unit = "MHz"},
};

/// NVML's bits (nvml.h, nvmlClocksEventReason*).
struct Reason {
  std::string_view name;
  unsigned bit;
};
constexpr std::array kReasons = {Reason{"idle", 0x1},
                                 Reason{"gpu_idle", 0x1},
                                 Reason{"applications_clocks_setting", 0x2},
                                 Reason{"sw_power_cap", 0x4},
                                 Reason{"hw_slowdown", 0x8},
                                 Reason{"sync_boost", 0x10},
                                 Reason{"sw_thermal_slowdown", 0x20},
                                 Reason{"hw_thermal_slowdown", 0x40},
                                 Reason{"hw_power_brake_slowdown", 0x80},
                                 Reason{"display_clock_setting", 0x100},
                                 Reason{"display_clocks_setting", 0x100}};

/// A value in our units: "24576 MiB", "71 C", "98 %", "1250000 us", "16x", "310000 KB/s".
std::optional<double> figure(std::string_view value, Unit kind) {
  if (kind == Unit::bytes) return size_of(value);
  std::string_view unit;
  const auto number = number_of(value, &unit);
  if (!number) return std::nullopt;
  if (kind == Unit::share) return unit == "%" ? std::optional(*number * 0.01) : std::nullopt;
  if (kind == Unit::micro) {
    return unit == "us"   ? std::optional(*number * 1e-6)
           : unit == "ms" ? std::optional(*number * 1e-3)
                          : std::nullopt;
  }
  if (kind == Unit::rate) {
    if (!unit.ends_with("/s")) return std::nullopt;
    unit.remove_suffix(2);
    return size_of(std::to_string(*number) + std::string(unit), 1000);
  }
  return *number;
}

class QueryReader {
 public:
  explicit QueryReader(Sink& sink) : sink_(sink) {}

  /// A report begins: what stands in it before the first GPU belongs to all.
  void report() {
    close();
    unix_s_.reset();
    in_gpu_ = false;
  }

  void gpu(std::string_view bus_id) {
    close();
    const std::string address = lower(clean_text(bus_id, 32));
    const auto& known = sink_.into().rig.gpus;
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const GpuDevice& d) { return d.pci_address == address; });
    int number = 0;
    if (found != known.end()) {
      number = found->gpu;
    } else {
      sink_.into().gpus_numbered = false;  // by their order: `-i 1` prints one alone
      while (std::any_of(known.begin(), known.end(),
                         [&](const GpuDevice& d) { return d.gpu == number; }))
        ++number;
    }
    if (number >= kMostGpus) {
      in_gpu_ = false;
      return;
    }
    sample_ = {.gpu = number};
    any_ = false;
    in_gpu_ = true;
    GpuDevice& device = sink_.device(number);
    device.vendor = "nvidia";
    device.pci_address = address;
  }

  /// False where the pair tells nothing that has a place.
  bool pair(const Line& line, std::string_view path, std::string_view value) {
    value = trim(value);
    if (says_nothing(value)) return false;
    if (path_ends(path, "timestamp")) {
      unix_s_ = sink_.instant(value);
      return unix_s_.has_value();
    }
    if (path_ends(path, "driver_version")) {
      sink_.version("driver", value);
      return true;
    }
    if (path_ends(path, "cuda_version")) {
      sink_.fact("cuda_of_driver", value);
      return true;
    }
    if (!in_gpu_) return false;
    GpuDevice& device = sink_.device(sample_.gpu);
    if (path_ends(path, "product_name")) {
      device.name = clean_text(value, 128);
      return true;
    }
    if (path_ends(path, "gpu_uuid") || path_ends(path, "gpu/uuid")) {
      device.uuid = clean_text(value, 64);
      return true;
    }
    return reason(path, value) || process(line, path, value) || number(line, path, value, device);
  }

  void close() {
    if (in_gpu_ && any_) sink_.gpu(sample_, unix_s_);
    in_gpu_ = any_ = false;
    process_.clear();
  }

 private:
  bool reason(std::string_view path, std::string_view value) {
    if (path.find("_reasons/") == std::string_view::npos) return false;
    const std::string low = lower(value);
    if (low != "active" && low != "not active") return false;
    auto name = path.substr(path.rfind('/') + 1);
    // XML: clocks_event_reason_sw_power_cap
    if (const auto at = name.find("_reason_"); at != std::string_view::npos)
      name = name.substr(at + 8);
    for (const auto& reason : kReasons) {
      if (reason.name != name) continue;
      const auto mask = static_cast<unsigned>(sample_.throttle_reasons.value_or(0));
      sample_.throttle_reasons = static_cast<double>(mask | (low == "active" ? reason.bit : 0));
      return any_ = true;
    }
    return false;
  }

  bool process(const Line& line, std::string_view path, std::string_view value) {
    if (path.find("processes") == std::string_view::npos) return false;
    if (path_ends(path, "process_id") || path_ends(path, "pid")) {
      process_ = "gpu " + std::to_string(sample_.gpu) + " process " + clean_text(value, 20);
      return true;
    }
    if (process_.empty()) return false;
    if (path_ends(path, "name") || path_ends(path, "process_name")) {
      process_ += ' ' + clean_text(value, 120);
      return true;
    }
    if (!path_ends(path, "used_gpu_memory") && !path_ends(path, "used_memory")) return false;
    const auto bytes = size_of(value);
    return bytes && sink_.observe(line, process_, "used_bytes", *bytes, "bytes", unix_s_);
  }

  bool number(const Line& line, std::string_view path, std::string_view value, GpuDevice& device) {
    std::string tail(path);
    // XML repeats the family:
    // clocks_event_reasons_counters/clocks_event_reasons_counters_sync_boost
    if (const auto at = tail.find("_counters/"); at != std::string::npos) {
      auto last = tail.substr(tail.rfind('/') + 1);
      if (const auto again = last.find("_counters_"); again != std::string::npos)
        last = last.substr(again + 10);
      tail = "counters/" + last;
    }
    for (const auto& place : kPlaces) {
      if (!path_ends(tail, place.path)) continue;
      const auto figure_here = figure(value, place.unit);
      if (!figure_here || !std::isfinite(*figure_here)) return false;
      if (place.sample != nullptr) {
        sample_.*place.sample = *figure_here;
        any_ = true;
      }
      if (place.device != nullptr) device.*place.device = *figure_here;
      if (place.device_count != nullptr && *figure_here >= 0 && *figure_here < 1024)
        device.*place.device_count = static_cast<int>(*figure_here);
      return place.quantity.empty() ||
             sink_.observe(line, "gpu " + std::to_string(sample_.gpu), place.quantity, *figure_here,
                           place.quantity_unit, unix_s_);
    }
    return false;
  }

  Sink& sink_;
  std::optional<double> unix_s_;
  GpuSample sample_;
  std::string process_;
  bool in_gpu_ = false, any_ = false;
};

bool is_banner(std::string_view text) {
  return text.starts_with("====") && text.find("NVSMI LOG") != std::string_view::npos;
}
bool is_gpu_line(std::string_view text) {
  return text.starts_with("GPU ") && is_bus_id(trim(text.substr(4)));
}
bool is_xml_begin(std::string_view text) {
  return text.starts_with("<nvidia_smi_log") || text.starts_with("<!DOCTYPE nvidia_smi_log");
}

void outline_line(const Line& line, Outline& outline, QueryReader& reader, Sink& sink) {
  const auto text = trim(line.text);
  if (is_banner(text)) {
    outline.clear();
    reader.report();
    sink.used();
    return;
  }
  if (is_gpu_line(text)) {
    outline.clear();
    reader.gpu(trim(text.substr(4)));
    sink.used();
    return;
  }
  const std::size_t indent = line.text.find_first_not_of(" \t");
  const auto colon = text.ends_with(" :") ? text.size() - 1 : text.find(" : ");
  const auto name = text.substr(0, colon == std::string_view::npos ? colon : colon + 1);
  const std::string& path = outline.enter(indent, trim(name.substr(0, name.find(" : "))));
  if (colon == std::string_view::npos) return sink.passed();
  reader.pair(line, path, text.substr(colon + (text.ends_with(" :") ? 1 : 3))) ? sink.used()
                                                                               : sink.passed();
}

std::string unescaped(std::string_view text) {
  std::string out;
  constexpr std::array<std::pair<std::string_view, char>, 5> kEntities = {
      {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}}};
  while (!text.empty()) {
    const auto found = std::find_if(kEntities.begin(), kEntities.end(),
                                    [&](const auto& e) { return text.starts_with(e.first); });
    out += found == kEntities.end() ? text.front() : found->second;
    text.remove_prefix(found == kEntities.end() ? 1 : found->first.size());
  }
  return out;
}

/// The XML of -x is one element a line, but several are read too.
void xml_line(const Line& line, Outline& outline, std::size_t& depth, QueryReader& reader,
              Sink& sink) {
  auto rest = trim(line.text);
  bool used = false;
  while (!rest.empty()) {
    const auto open = rest.find('<');
    const auto close = rest.find('>', std::min(open, rest.size()));
    if (open == std::string_view::npos || close == std::string_view::npos) break;
    const auto tag = rest.substr(open + 1, close - open - 1);
    rest = rest.substr(close + 1);
    if (tag.empty() || tag.front() == '?' || tag.front() == '!') continue;
    if (tag.front() == '/') {
      if (tag == "/gpu") reader.close();
      if (tag == "/nvidia_smi_log") reader.report();
      if (depth > 0) --depth;
      outline.leave();
      continue;
    }
    const auto name = tag.substr(0, tag.find_first_of(" /\t"));
    const std::string path = outline.enter(++depth, name);
    if (name == "gpu") {
      const auto id = tag.find("id=\"");
      if (id != std::string_view::npos) {
        const auto value = tag.substr(id + 4);
        reader.gpu(value.substr(0, value.find('"')));
        used = true;
      }
    }
    if (tag.ends_with('/')) {
      --depth;
      outline.leave();
      continue;
    }
    const auto value = rest.substr(0, rest.find('<'));
    if (!trim(value).empty()) used = reader.pair(line, path, unescaped(value)) || used;
  }
  used ? sink.used() : sink.passed();
}

void read_query(const Section& section, Sink& sink) {
  QueryReader reader(sink);
  Outline outline;
  bool xml = false;
  std::size_t depth = 0;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    if (is_banner(text)) xml = false;
    if (text.starts_with("<?xml") || is_xml_begin(text)) {
      if (!text.starts_with("<nvidia_smi_log") || !xml) reader.report();
      xml = true;
      depth = 0;
      outline.clear();
    }
    xml ? xml_line(line, outline, depth, reader, sink) : outline_line(line, outline, reader, sink);
  }
  reader.close();
}

}  // namespace

const Form kNvidiaQuery = {"nvidia-smi -q",
                           [](const Lines& lines, std::size_t at) {
                             const auto text = trim(lines[at].text.substr(0, 200));
                             if (is_banner(text) || is_gpu_line(text) || is_xml_begin(text))
                               return true;
                             return text.starts_with("<?xml") && at + 1 < lines.size() &&
                                    is_xml_begin(trim(lines[at + 1].text.substr(0, 200)));
                           },
                           read_query};

}  // namespace rigwise::captured
