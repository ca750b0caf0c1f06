// AMD: `amd-smi static`, `metric`, `list` (an outline, --json, --csv) and `monitor` (a table,
// --csv,
// --json) of ROCm 6 and 7. An outline and JSON become the same paths, "usage/gfx_activity"; CSV has
// only their last names. What amd-smi calls MB is of 1024 × 1024 bytes.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

constexpr int kMostGpus = 64;
using S = GpuSample;
using D = GpuDevice;

enum class Unit { plain, share, mb, gen };

/// Where a value goes: the end of a path of the outline, and its names in CSV and monitor.
struct Place {
  std::string_view path;
  std::array<std::string_view, 3> columns = {};
  Unit unit = Unit::plain;
  std::optional<double> GpuSample::*sample = nullptr;
  std::optional<double> GpuDevice::*device = nullptr;
  std::optional<int> GpuDevice::*device_count = nullptr;
};
constexpr std::array kPlaces = {
    Place{"usage/gfx_activity", {"gfx_activity", "gfx_util", "gfx%"}, Unit::share, &S::util_frac},
    Place{"", {"gfx", "gfx_usage"}, Unit::share, &S::util_frac},
    Place{
        "usage/umc_activity", {"umc_activity", "mem_util", "mem%"}, Unit::share, &S::mem_util_frac},
    Place{"power/socket_power", {"socket_power", "power", "power_usage"}, Unit::plain, &S::power_w},
    Place{"gfx_0/clk", {"gfx_clock", "gfx_clk", "gfx_0_clk"}, Unit::plain, &S::sm_clock_mhz},
    Place{"gfx_0/max_clk", {"gfx_0_max_clk"}, Unit::plain, &S::sm_clock_max_mhz},
    Place{"mem_0/clk", {"mem_clock", "mem_clk", "mem_0_clk"}, Unit::plain, &S::mem_clock_mhz},
    // an edge sensor is rare on the big ones: where there is none, the hot spot stands for the GPU
    Place{"temperature/hotspot",
          {"hotspot", "hotspot_temperature", "gpu_temp"},
          Unit::plain,
          &S::temp_c},
    Place{"", {"gpu_t"}, Unit::plain, &S::temp_c},
    Place{"temperature/edge", {"edge"}, Unit::plain, &S::temp_c},
    Place{"temperature/mem",
          {"memory_temperature", "mem_temp", "mem_t"},
          Unit::plain,
          &S::temp_mem_c},
    Place{"pcie/width", {}, Unit::plain, &S::pcie_width},
    Place{"fan/usage", {"usage"}, Unit::share, &S::fan_frac},
    Place{"mem_usage/total_vram",
          {"total_vram", "vram_total"},
          Unit::mb,
          &S::total_bytes,
          &D::total_bytes},
    Place{"mem_usage/used_vram", {"used_vram", "vram_used"}, Unit::mb, &S::used_bytes},
    Place{
        "energy/total_energy_consumption", {"total_energy_consumption"}, Unit::plain, &S::energy_j},
    Place{"vram/size", {"size"}, Unit::mb, nullptr, &D::total_bytes},
    Place{"limit/max_power", {"max_power"}, Unit::plain, nullptr, &D::power_limit_max_w},
    Place{"limit/socket_power", {}, Unit::plain, nullptr, &D::power_limit_w},
    Place{"limit/current_power", {"current_power"}, Unit::plain, nullptr, &D::power_limit_w},
    Place{"limit/slowdown_edge_temperature",
          {"slowdown_edge_temperature"},
          Unit::plain,
          nullptr,
          &D::slowdown_c},
    Place{"limit/shutdown_edge_temperature",
          {"shutdown_edge_temperature"},
          Unit::plain,
          nullptr,
          &D::shutdown_c},
    Place{"bus/max_pcie_width",
          {"max_pcie_width"},
          Unit::plain,
          nullptr,
          nullptr,
          &D::pcie_width_max},
    Place{"bus/pcie_interface_version",
          {"pcie_interface_version"},
          Unit::gen,
          nullptr,
          nullptr,
          &D::pcie_gen_max},
    Place{"numa/node", {"node"}, Unit::plain, nullptr, nullptr, &D::numa_node},
};

/// "98 %", "288 W", "61 °C", "24560 MB", "Gen 4"; without a unit what amd-smi counts in.
std::optional<double> figure(std::string_view value, Unit kind) {
  if (kind == Unit::gen && value.starts_with("Gen ")) value.remove_prefix(4);
  std::string_view unit;
  const auto number = number_of(value, &unit);
  if (!number || !std::isfinite(*number)) return std::nullopt;
  if (kind == Unit::mb) return size_of(value, 1024, 1024.0 * 1024.0);
  if (kind == Unit::share)
    return unit.empty() || unit == "%" ? std::optional(*number * 0.01) : std::nullopt;
  if (unit.starts_with("GHz")) return *number * 1000;
  return *number;
}

/// One GPU's readings at one instant.
class Reading {
 public:
  explicit Reading(Sink& sink) : sink_(sink) {}

  void begin(int gpu, std::optional<double> unix_s) {
    end();
    sample_ = {.gpu = gpu};
    unix_s_ = unix_s;
    open_ = true;
    any_ = edge_ = false;
  }
  [[nodiscard]] bool open() const { return open_; }

  /// By the end of a path. False where the pair tells nothing that has a place.
  bool pair(std::string_view path, std::string_view value) {
    value = trim(value);
    if (!open_ || says_nothing(value)) return false;
    if (text(path.substr(path.rfind('/') + 1), value, path)) return true;
    for (const auto& place : kPlaces) {
      if (!place.path.empty() && path_ends(path, place.path)) return put(place, value);
    }
    return false;
  }

  /// By the name of a column.
  bool cell(std::string_view name, std::string_view value) {
    value = trim(value);
    if (!open_ || says_nothing(value)) return false;
    if (name == "vram_usage") {  // "19.8/ 24.0 GB"
      const auto slash = value.find('/');
      const auto unit = value.find_last_of(' ');
      if (slash == std::string_view::npos || unit == std::string_view::npos) return false;
      const std::string_view in = value.substr(unit);
      return cell("vram_used", std::string(value.substr(0, slash)) + std::string(in)) &&
             cell("vram_total", value.substr(slash + 1));
    }
    if (text(name, value, name)) return true;
    for (const auto& place : kPlaces) {
      if (std::find(place.columns.begin(), place.columns.end(), name) != place.columns.end())
        return put(place, value);
    }
    return false;
  }

  bool end() {
    const bool go = !open_ || !any_ || sink_.gpu(sample_, unix_s_);
    open_ = false;
    return go;
  }

 private:
  bool text(std::string_view name, std::string_view value, std::string_view path) {
    if (name != "market_name" && !name.ends_with("bdf") && !name.ends_with("uuid") &&
        !name.ends_with("version"))
      return false;
    GpuDevice& device = sink_.device(sample_.gpu);
    if (name == "market_name") {
      device.name = clean_text(value, 128);
    } else if (name == "bdf" || name == "gpu_bdf") {
      device.pci_address = lower(clean_text(value, 32));
    } else if (name == "uuid" || name == "gpu_uuid") {
      device.uuid = clean_text(value, 64);
    } else if (path_ends(path, "driver/version") || name == "driver_version") {
      sink_.version("driver", "amdgpu " + clean_text(value, 100));
    } else {
      return false;
    }
    device.vendor = "amd";
    return true;
  }

  bool put(const Place& place, std::string_view value) {
    const auto number = figure(value, place.unit);
    if (!number || !std::isfinite(*number)) return false;
    if (place.sample != nullptr) {
      const bool is_edge = place.path == "temperature/edge";
      if (place.sample == &S::temp_c && edge_ && !is_edge) return true;
      edge_ = edge_ || is_edge;
      sample_.*place.sample = *number;
      any_ = true;
    }
    GpuDevice& device = sink_.device(sample_.gpu);
    device.vendor = "amd";
    if (place.device != nullptr) device.*place.device = *number;
    if (place.device_count != nullptr && *number >= 0 && *number < 1024)
      device.*place.device_count = static_cast<int>(*number);
    return true;
  }

  Sink& sink_;
  GpuSample sample_;
  std::optional<double> unix_s_;
  bool open_ = false, any_ = false, edge_ = false;
};

std::optional<int> gpu_of(std::string_view text) {
  const auto gpu = to_integer(trim(text));
  if (!gpu || *gpu < 0 || *gpu >= kMostGpus) return std::nullopt;
  return static_cast<int>(*gpu);
}

/// -w writes whole seconds since 1970.
std::optional<double> instant_of(std::string_view text, Sink& sink) {
  const auto seconds = to_number(trim(text));
  if (seconds && *seconds > 1e9 && *seconds < 1e11) return seconds;
  return seconds ? std::nullopt : sink.instant(trim(text));
}

// ----------------------------------------------------------------------------------------- outline

bool is_gpu_line(std::string_view text) {  // "GPU: 0"
  return text.starts_with("GPU: ") && gpu_of(text.substr(5));
}

/// "ASIC:", "BDF: 0000:03:00.0", "GFX_ACTIVITY: 98 %": amd-smi shouts.
bool is_name_line(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos || colon < 2) return false;
  return text.substr(0, colon).find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
         std::string_view::npos;
}

void read_outline(const Section& section, Sink& sink) {
  Reading reading(sink);
  Outline outline;
  std::optional<double> unix_s;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    if (is_gpu_line(text)) {
      reading.begin(*gpu_of(text.substr(5)), unix_s);
      outline.clear();
      sink.used();
      continue;
    }
    const auto colon = text.find(':');
    if (colon == std::string_view::npos) {
      sink.passed();
      continue;
    }
    const auto name = text.substr(0, colon);
    if (lower(name) == "timestamp") {  // of -w, above each round
      reading.end();
      unix_s = instant_of(text.substr(colon + 1), sink);
      unix_s ? sink.used() : sink.passed();
      continue;
    }
    const std::string& path = outline.enter(line.text.find_first_not_of(" \t"), name);
    reading.pair(path, text.substr(colon + 1)) ? sink.used() : sink.passed();
  }
  reading.end();
}

// ----------------------------------------------------------------------------------- monitor, csv

bool is_monitor_header(std::string_view line) {
  if (line.size() > 1000) return false;
  const auto words = words_of(line);
  if (words.size() < 2 || std::find(words.begin(), words.end(), "GPU") > words.begin() + 1)
    return false;
  constexpr std::array<std::string_view, 7> kSure = {"GPU_TEMP", "GFX_UTIL",   "VRAM_USED", "GPU_T",
                                                     "GFX_CLK",  "VRAM_USAGE", "GFX_CLOCK"};
  return std::any_of(kSure.begin(), kSure.end(), [&](std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  });
}

/// Cells of a row: a unit belongs to the number before it, "0.4/ 24.0 GB" is one cell.
std::vector<std::string> monitor_cells(std::string_view line) {
  constexpr std::array<std::string_view, 11> kUnits = {"W",  "°C", "C",    "%",    "MHz", "MB",
                                                       "GB", "mV", "Mb/s", "KB/s", "MB/s"};
  std::vector<std::string> cells;
  for (const auto word : words_of(line)) {
    const bool unit = std::find(kUnits.begin(), kUnits.end(), word) != kUnits.end();
    if (!cells.empty() && (unit || cells.back().ends_with('/'))) {
      cells.back() += ' ';
      cells.back() += word;
    } else {
      cells.emplace_back(word);
    }
  }
  return cells;
}

void row(const Line& line, const std::vector<std::string>& names,
         const std::vector<std::string>& cells, Sink& sink) {
  std::optional<int> gpu;
  std::optional<double> unix_s;
  for (std::size_t i = 0; i < names.size() && i < cells.size(); ++i) {
    if (names[i] == "gpu") gpu = gpu_of(cells[i]);
    if (names[i] == "timestamp") unix_s = instant_of(cells[i], sink);
  }
  if (!gpu || cells.size() != names.size()) return sink.bad(line);
  Reading reading(sink);
  reading.begin(*gpu, unix_s);
  for (std::size_t i = 0; i < names.size(); ++i) reading.cell(names[i], cells[i]);
  reading.end();
  sink.used();
}

void read_monitor(const Section& section, Sink& sink) {
  std::vector<std::string> names;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    if (is_monitor_header(text)) {
      names.clear();
      for (const auto word : words_of(text)) names.push_back(lower(word));
      sink.used();
      continue;
    }
    const auto cells = monitor_cells(text.substr(0, 2000));
    // a list of processes may stand below, under a heading of its own
    if (cells.empty() || count_digits(cells[0].substr(0, 1)) == 0) {
      sink.passed();
      continue;
    }
    row(line, names, cells, sink);
  }
}

bool is_csv_header(std::string_view line) {
  if (line.size() > 8192 || (!line.starts_with("gpu,") && !line.starts_with("timestamp,gpu,")))
    return false;
  const auto cells = split(line, ',');
  static constexpr std::array<std::string_view, 14> kSure = {
      "gpu_bdf",   "gpu_uuid",    "market_name",  "gfx_activity",       "umc_activity",
      "gfx_clock", "gfx_0_clk",   "total_vram",   "used_vram",          "vram_used",
      "hotspot",   "power_usage", "socket_power", "hotspot_temperature"};
  return std::any_of(cells.begin(), cells.end(), [](std::string_view cell) {
    return std::find(kSure.begin(), kSure.end(), trim(cell)) != kSure.end();
  });
}

void read_csv(const Section& section, Sink& sink) {
  std::vector<std::string> names;
  for (const auto& line : section.lines) {
    if (trim(line.text).empty()) continue;
    std::vector<std::string> cells;
    std::string cell;
    bool quoted = false;
    for (const char c : line.text.substr(0, 65536)) {  // lists of values are quoted
      if (c == '"') {
        quoted = !quoted;
      } else if (c == ',' && !quoted) {
        cells.push_back(std::move(cell));
        cell.clear();
      } else {
        cell += c;
      }
    }
    cells.push_back(std::move(cell));
    if (is_csv_header(line.text)) {
      names.clear();
      for (const auto& name : cells) names.push_back(lower(trim(name)));
      sink.used();
      continue;
    }
    row(line, names, cells, sink);
  }
}

// -------------------------------------------------------------------------------------------- json

std::string text_of(const Json& value) {
  if (value.is_string()) return clean_text(value.get<std::string>(), 200);
  if (value.is_number()) return number_text(value.get<double>());
  return {};
}

bool json_pairs(const Json& object, const std::string& path, int depth, Reading& reading) {
  bool any = false;
  for (const auto& [key, value] : object.items()) {
    const std::string here = path.empty() ? lower(key) : path + '/' + lower(key);
    if (value.is_object() && value.contains("value") && value.contains("unit")) {
      any = reading.pair(here, text_of(value["value"]) + ' ' + text_of(value["unit"])) || any;
      if (depth == 0)
        any = reading.cell(here, text_of(value["value"]) + ' ' + text_of(value["unit"])) || any;
    } else if (value.is_object() && depth < 6) {
      any = json_pairs(value, here, depth + 1, reading) || any;
    } else if (!value.is_structured()) {
      any =
          (depth == 0 ? reading.cell(here, text_of(value)) : reading.pair(here, text_of(value))) ||
          any;
    }
  }
  return any;
}

}  // namespace

const Form kAmdSmi = {"amd-smi",
                      [](const Lines& lines, std::size_t at) {
                        if (!is_gpu_line(trim(lines[at].text.substr(0, 100)))) return false;
                        return at + 1 < lines.size() && lines[at + 1].text.starts_with("  ") &&
                               is_name_line(trim(lines[at + 1].text));
                      },
                      read_outline};
const Form kAmdMonitor = {
    "amd-smi monitor",
    [](const Lines& lines, std::size_t at) { return is_monitor_header(lines[at].text); },
    read_monitor};
const Form kAmdCsv = {
    "amd-smi csv", [](const Lines& lines, std::size_t at) { return is_csv_header(lines[at].text); },
    read_csv};

/// [{"gpu": 0, "usage": {"gfx_activity": {"value": 98, "unit": "%"}}}], or below "gpu_data".
bool read_amd_json(const Json& json, Sink& sink) {
  const Json* list = &json;
  if (json.is_object()) {
    const auto found = json.find("gpu_data");
    if (found == json.end()) return false;
    list = &*found;
  }
  if (!list->is_array()) return false;
  bool any = false;
  for (const auto& item : *list) {
    if (!item.is_object() || std::none_of(item.begin(), item.end(),
                                          [](const Json& member) { return member.is_object(); }))
      continue;  // a list of somebody's own
    const auto number = item.find("gpu");
    const auto gpu = number != item.end() ? gpu_of(text_of(*number)) : std::nullopt;
    if (!gpu) continue;
    std::optional<double> unix_s;
    if (const auto stamp = item.find("timestamp"); stamp != item.end())
      unix_s = instant_of(text_of(*stamp), sink);
    Reading reading(sink);
    reading.begin(*gpu, unix_s);
    any = json_pairs(item, "", 0, reading) || any;
    if (!reading.end()) break;
  }
  return any;
}

}  // namespace rigwise::captured
