// NVIDIA: `nvidia-smi --query-gpu=… --format=csv[,noheader][,nounits]`, the plain screen, `-L`.
// Columns and units as `nvidia-smi --help-query-gpu` names them (old and new names of a field).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>

#include "base/json.h"
#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr int kMostGpus = 64;

enum class Role { none, stamp, index, count, uuid, bus_id, name, driver, serial, reasons, reason };

/// One queryable field and where its value goes. `scale` turns the printed unit into ours.
struct Field {
  std::string_view name;
  Role role = Role::none;
  std::optional<double> GpuSample::*sample = nullptr;
  std::optional<double> GpuDevice::*device = nullptr;
  std::optional<int> GpuDevice::*device_count = nullptr;
  double scale = 1;
  unsigned bit = 0;  // of NVML's throttle mask, for a reason with a column of its own
};

constexpr double kPercent = 0.01, kMicro = 1e-6;
// NVML's bits (nvml.h, nvmlClocksEventReason*): a column says "Active" or "Not Active".
constexpr unsigned kIdle = 0x1, kApplication = 0x2, kPowerCap = 0x4, kHwSlowdown = 0x8,
                   kSyncBoost = 0x10, kSwThermal = 0x20, kHwThermal = 0x40, kBrake = 0x80,
                   kDisplay = 0x100;

using S = GpuSample;
using D = GpuDevice;
constexpr std::array kFields = {
    Field{.name = "timestamp", .role = Role::stamp},
    Field{.name = "index", .role = Role::index},
    Field{.name = "count", .role = Role::count},
    Field{.name = "uuid", .role = Role::uuid},
    Field{.name = "gpu_uuid", .role = Role::uuid},
    Field{.name = "pci.bus_id", .role = Role::bus_id},
    Field{.name = "gpu_bus_id", .role = Role::bus_id},
    Field{.name = "name", .role = Role::name},
    Field{.name = "gpu_name", .role = Role::name},
    Field{.name = "driver_version", .role = Role::driver},
    Field{.name = "serial", .role = Role::serial},
    Field{.name = "gpu_serial", .role = Role::serial},
    Field{.name = "utilization.gpu", .sample = &S::util_frac, .scale = kPercent},
    Field{.name = "utilization.memory", .sample = &S::mem_util_frac, .scale = kPercent},
    Field{.name = "memory.used", .sample = &S::used_bytes, .scale = kMiB},
    Field{.name = "memory.total",
          .sample = &S::total_bytes,
          .device = &D::total_bytes,
          .scale = kMiB},
    Field{.name = "temperature.gpu", .sample = &S::temp_c},
    Field{.name = "temperature.memory", .sample = &S::temp_mem_c},
    Field{.name = "power.draw", .sample = &S::power_w},
    Field{.name = "power.draw.instant", .sample = &S::power_w},
    Field{.name = "power.draw.average", .sample = &S::power_w},
    Field{.name = "power.limit", .sample = &S::power_limit_w, .device = &D::power_limit_w},
    Field{.name = "enforced.power.limit", .sample = &S::power_limit_w, .device = &D::power_limit_w},
    Field{.name = "power.max_limit", .device = &D::power_limit_max_w},
    Field{.name = "clocks.sm", .sample = &S::sm_clock_mhz},
    Field{.name = "clocks.current.sm", .sample = &S::sm_clock_mhz},
    Field{.name = "clocks.mem", .sample = &S::mem_clock_mhz},
    Field{.name = "clocks.current.memory", .sample = &S::mem_clock_mhz},
    Field{.name = "clocks.max.sm", .sample = &S::sm_clock_max_mhz},
    Field{.name = "pcie.link.gen.current", .sample = &S::pcie_gen},
    Field{.name = "pcie.link.gen.gpucurrent", .sample = &S::pcie_gen},
    Field{
        .name = "pcie.link.gen.max", .sample = &S::pcie_gen_max, .device_count = &D::pcie_gen_max},
    Field{.name = "pcie.link.gen.gpumax", .sample = &S::pcie_gen_max},
    Field{.name = "pcie.link.width.current", .sample = &S::pcie_width},
    Field{.name = "pcie.link.width.max",
          .sample = &S::pcie_width_max,
          .device_count = &D::pcie_width_max},
    Field{.name = "fan.speed", .sample = &S::fan_frac, .scale = kPercent},
    Field{.name = "clocks_throttle_reasons.active", .role = Role::reasons},
    Field{.name = "clocks_event_reasons.active", .role = Role::reasons},
    Field{.name = "reasons.gpu_idle", .role = Role::reason, .bit = kIdle},
    Field{.name = "reasons.applications_clocks_setting", .role = Role::reason, .bit = kApplication},
    Field{.name = "reasons.sw_power_cap", .role = Role::reason, .bit = kPowerCap},
    Field{.name = "reasons.hw_slowdown", .role = Role::reason, .bit = kHwSlowdown},
    Field{.name = "reasons.sync_boost", .role = Role::reason, .bit = kSyncBoost},
    Field{.name = "reasons.sw_thermal_slowdown", .role = Role::reason, .bit = kSwThermal},
    Field{.name = "reasons.hw_thermal_slowdown", .role = Role::reason, .bit = kHwThermal},
    Field{.name = "reasons.hw_power_brake_slowdown", .role = Role::reason, .bit = kBrake},
    Field{.name = "reasons.display_clocks_setting", .role = Role::reason, .bit = kDisplay},
    Field{.name = "counters.sw_power_cap", .sample = &S::held_power_s, .scale = kMicro},
    Field{.name = "counters.sync_boost", .sample = &S::held_sync_s, .scale = kMicro},
    Field{.name = "counters.sw_thermal_slowdown", .sample = &S::held_sw_thermal_s, .scale = kMicro},
    Field{.name = "counters.hw_thermal_slowdown", .sample = &S::held_hw_thermal_s, .scale = kMicro},
    Field{.name = "counters.hw_power_brake_slowdown", .sample = &S::held_brake_s, .scale = kMicro},
};

/// The first words of every field's name, for telling a header from other CSV.
constexpr std::array<std::string_view, 24> kFamilies = {"timestamp",
                                                        "driver_version",
                                                        "count",
                                                        "name",
                                                        "index",
                                                        "uuid",
                                                        "serial",
                                                        "pci",
                                                        "pcie",
                                                        "fan",
                                                        "pstate",
                                                        "clocks",
                                                        "memory",
                                                        "compute_mode",
                                                        "utilization",
                                                        "encoder",
                                                        "temperature",
                                                        "power",
                                                        "ecc",
                                                        "vbios_version",
                                                        "persistence_mode",
                                                        "display_active",
                                                        "display_mode",
                                                        "enforced"};

struct Column {
  std::string name = {};  // without its unit
  const Field* field = nullptr;
  double unit = 1;  // of values that carry none themselves, from the header's "[MiB]"
};

const Field* field_of(std::string_view name) {
  for (const auto& field : kFields) {
    if (field.name == name) return &field;
  }
  // clocks_event_reasons.sw_power_cap, clocks_throttle_reasons.…, clocks_event_reasons_counters.…
  for (const std::string_view prefix :
       {"clocks_event_reasons.", "clocks_throttle_reasons.", "clocks_event_reasons_counters.",
        "clocks_throttle_reasons_counters."}) {
    if (!name.starts_with(prefix)) continue;
    const std::string tail =
        (prefix.find("counters") == std::string_view::npos ? "reasons." : "counters.") +
        std::string(name.substr(prefix.size()));
    for (const auto& field : kFields) {
      if (field.name == tail) return &field;
    }
  }
  return nullptr;
}

/// What one of a printed unit is in the unit that the table's `scale` expects.
std::optional<double> unit_factor(std::string_view unit) {
  struct Unit {
    std::string_view name;
    double factor;
  };
  constexpr std::array kUnits = {
      Unit{"%", 1},  Unit{"MiB", 1},   Unit{"GiB", 1024}, Unit{"KiB", 1.0 / 1024},
      Unit{"W", 1},  Unit{"mW", 1e-3}, Unit{"MHz", 1},    Unit{"GHz", 1000},
      Unit{"us", 1}, Unit{"ms", 1e3},  Unit{"C", 1}};
  for (const auto& known : kUnits) {
    if (known.name == unit) return known.factor;
  }
  return std::nullopt;
}

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells = split(line, ',');
  for (auto& cell : cells) cell = unquoted(cell);
  return cells;
}

/// The columns of "timestamp, index, utilization.gpu [%]"; empty when it is no such line.
std::vector<Column> header_of(std::string_view line) {
  if (line.size() > 8192) return {};
  std::vector<Column> columns;
  int known = 0;
  for (const auto cell : cells_of(line)) {
    Column column;
    const auto bracket = cell.find('[');
    column.name = lower(trim(cell.substr(0, bracket)));
    if (bracket != std::string_view::npos) {
      const auto close = cell.find(']', bracket);
      const auto unit = unit_factor(
          cell.substr(bracket + 1, close == std::string_view::npos ? close : close - bracket - 1));
      column.unit = unit.value_or(1);
    }
    const auto family = std::string_view(column.name).substr(0, column.name.find_first_of("._"));
    const bool ours =
        std::any_of(kFamilies.begin(), kFamilies.end(), [&](std::string_view known_family) {
          return family == known_family || column.name == known_family;
        });
    if (column.name.empty() || count_digits(column.name) > 2 ||
        (!ours && column.name.find('.') == std::string::npos)) {
      return {};
    }
    column.field = field_of(column.name);
    known += column.field != nullptr ? 1 : 0;
    columns.push_back(std::move(column));
  }
  // plain words alone could head any table: as nvidia-smi writes them, a blank follows the comma
  const bool all = known == static_cast<int>(columns.size());
  const bool ours = line.find('.') != std::string_view::npos ||
                    line.find("uuid") != std::string_view::npos ||
                    (all && known > 1 && line.find(", ") != std::string_view::npos);
  return known > 0 && ours ? columns : std::vector<Column>();
}

std::vector<Column> columns_of_query(std::string_view command) {
  const auto at = command.find("--query-gpu");
  if (at == std::string_view::npos) return {};
  auto list = command.substr(at + 11);
  const auto first = list.find_first_not_of(" =\"'");
  if (first == std::string_view::npos) return {};
  list = list.substr(first);
  list = list.substr(0, list.find_first_of(" \"'|>\t"));
  return header_of(list);
}

bool is_stamp(std::string_view text) {  // 2026/11/24 14:03:22.123
  return text.size() >= 19 && text[4] == '/' && text[7] == '/' && text[10] == ' ' &&
         count_digits(text.substr(0, 19)) == 14;
}

bool is_value_with_unit(std::string_view text) {
  std::string_view unit;
  return number_of(text, &unit) && (unit == "%" || unit == "MiB" || unit == "W" || unit == "MHz");
}

/// A row of nvidia-smi without its header: a stamp as it writes them, a UUID or a bus id, or units.
bool is_bare_row(std::string_view line) {
  if (line.size() > 4096 || line.find(',') == std::string_view::npos) return false;
  int certain = 0, cells = 0;
  for (const auto cell : cells_of(line)) {
    ++cells;
    certain +=
        (is_stamp(cell) || cell.starts_with("GPU-") || is_bus_id(cell) || is_value_with_unit(cell))
            ? 1
            : 0;
  }
  return certain >= 2 || (certain == 1 && cells >= 2 && line.starts_with("GPU-"));
}

struct Row {
  GpuSample sample = {};
  GpuDevice device = {};
  std::optional<double> unix_s = {};
  std::optional<int> index = {};
  std::optional<int> count = {};
  std::string driver = {};
  bool any = false;
};

void set_number(const Column& column, std::string_view cell, Row& row) {
  const Field& field = *column.field;
  std::string_view unit;
  const auto number = number_of(cell, &unit);
  if (!number) return;
  const double factor = unit.empty() ? column.unit : unit_factor(unit).value_or(1);
  const double value = *number * factor * field.scale;
  if (!std::isfinite(value)) return;
  row.any = true;
  if (field.sample != nullptr) row.sample.*field.sample = value;
  if (field.device != nullptr) row.device.*field.device = value;
  if (field.device_count != nullptr && value >= 0 && value < 1024) {
    row.device.*field.device_count = static_cast<int>(value);
  }
}

void set_reasons(const Field& field, std::string_view cell, Row& row) {
  if (field.role == Role::reasons) {
    if (!cell.starts_with("0x") || cell.size() > 18) return;
    row.sample.throttle_reasons =
        static_cast<double>(std::strtoull(std::string(cell).c_str(), nullptr, 16));
    row.any = true;
    return;
  }
  const std::string low = lower(cell);
  if (low != "active" && low != "not active") return;
  const auto mask = static_cast<unsigned>(row.sample.throttle_reasons.value_or(0));
  row.sample.throttle_reasons = static_cast<double>(mask | (low == "active" ? field.bit : 0));
  row.any = true;
}

void set_cell(const Column& column, std::string_view cell, Row& row, Sink& sink) {
  if (column.field == nullptr || says_nothing(cell)) return;
  const std::string text = clean_text(cell, 128);
  switch (column.field->role) {
    case Role::none:
      return set_number(column, cell, row);
    case Role::stamp:
      row.unix_s = sink.instant(cell);
      return;
    case Role::index:
    case Role::count:
      if (const auto number = to_integer(cell); number && *number >= 0 && *number < kMostGpus) {
        (column.field->role == Role::index ? row.index : row.count) = static_cast<int>(*number);
      }
      return;
    case Role::uuid:
      row.device.uuid = text;
      return;
    case Role::bus_id:
      row.device.pci_address = lower(text);
      return;
    case Role::name:
      row.device.name = text;
      return;
    case Role::driver:
      row.driver = text;
      return;
    case Role::serial:
      return;
    case Role::reasons:
    case Role::reason:
      return set_reasons(*column.field, cell, row);
  }
}

/// What a noheader column must be, by its values alone; a number with '%' or MiB could be several.
std::vector<Column> columns_by_values(const std::vector<std::vector<std::string_view>>& rows) {
  std::vector<Column> columns(rows.empty() ? 0 : rows.front().size());
  std::vector<std::size_t> watts;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    bool stamps = true, uuids = true, buses = true, watt = true, varies = false, letters = true;
    for (const auto& row : rows) {
      if (i >= row.size()) continue;
      std::string_view unit;
      stamps = stamps && is_stamp(row[i]);
      uuids = uuids && row[i].starts_with("GPU-");
      buses = buses && is_bus_id(row[i]);
      watt = watt && ((number_of(row[i], &unit) && unit == "W") || says_nothing(row[i]));
      varies = varies || row[i] != rows.front()[i];
      letters = letters && (row[i].starts_with("NVIDIA") || row[i].starts_with("Tesla") ||
                            row[i].starts_with("GeForce") || row[i].starts_with("Quadro"));
    }
    const std::string_view name = stamps           ? "timestamp"
                                  : uuids          ? "uuid"
                                  : buses          ? "pci.bus_id"
                                  : letters        ? "name"
                                  : watt && varies ? "power.draw"
                                                   : "";
    if (name == "power.draw") watts.push_back(i);
    columns[i].name = std::string(name);
    columns[i].field = name.empty() ? nullptr : field_of(name);
  }
  if (watts.size() > 1) {
    for (const auto i : watts) columns[i].field = nullptr;
  }
  return columns;
}

/// Which GPU every row is of: as stated, else by order within one reading of all GPUs.
void number_rows(std::vector<Row>& rows, Sink& sink) {
  std::map<std::string, int> by_id;
  const auto id_of = [](const Row& row) {
    return row.device.uuid.empty() ? row.device.pci_address : row.device.uuid;
  };
  const bool indexed = std::any_of(rows.begin(), rows.end(), [](const Row& r) { return r.index; });
  const bool named =
      std::any_of(rows.begin(), rows.end(), [&](const Row& r) { return !id_of(r).empty(); });
  const auto counted =
      std::find_if(rows.begin(), rows.end(), [](const Row& r) { return r.count > 0; });
  const bool timed = std::any_of(rows.begin(), rows.end(), [](const Row& r) { return r.unix_s; });
  if (!indexed && !rows.empty()) sink.into().gpus_numbered = false;
  // GPUs of one reading have stamps some milliseconds apart, readings the interval of -l.
  double apart_s = 0;
  if (timed && !indexed && !named) {
    std::vector<double> gaps;
    for (std::size_t i = 1; i < rows.size(); ++i) {
      if (rows[i].unix_s && rows[i - 1].unix_s)
        gaps.push_back(*rows[i].unix_s - *rows[i - 1].unix_s);
    }
    if (!gaps.empty()) {
      const auto at = gaps.begin() + static_cast<std::ptrdiff_t>(gaps.size() * 9 / 10);
      std::nth_element(gaps.begin(), at, gaps.end());
      apart_s = *at / 2;
    }
  }
  int next = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    Row& row = rows[i];
    if (indexed) {
      row.sample.gpu = row.index.value_or(0);
    } else if (named) {
      row.sample.gpu = by_id.try_emplace(id_of(row), static_cast<int>(by_id.size())).first->second;
    } else if (counted != rows.end()) {
      row.sample.gpu = static_cast<int>(i) % *counted->count;
    } else if (timed) {
      const bool same =
          i > 0 && row.unix_s && rows[i - 1].unix_s && *row.unix_s - *rows[i - 1].unix_s <= apart_s;
      next = same ? next + 1 : 0;
      row.sample.gpu = std::min(next, kMostGpus - 1);
    } else {
      row.sample.gpu = rows.size() <= 16 ? static_cast<int>(i) : 0;
      if (rows.size() > 1) {
        sink.note(rows.size() <= 16 ? "no column says which GPU a row is of: taken in their order"
                                    : "no column says which GPU a row is of: all taken as GPU 0");
      }
    }
    row.sample.gpu = std::clamp(row.sample.gpu, 0, kMostGpus - 1);
  }
}

void keep_device(const GpuDevice& from, int gpu, Sink& sink) {
  GpuDevice& device = sink.device(gpu);
  const auto text = [](const std::string& value, std::string& into) {
    if (!value.empty()) into = value;
  };
  text(from.name, device.name);
  text(from.uuid, device.uuid);
  text(from.pci_address, device.pci_address);
  device.vendor = "nvidia";
  if (from.total_bytes) device.total_bytes = from.total_bytes;
  if (from.power_limit_w) device.power_limit_w = from.power_limit_w;
  if (from.power_limit_max_w) device.power_limit_max_w = from.power_limit_max_w;
  if (from.pcie_gen_max) device.pcie_gen_max = from.pcie_gen_max;
  if (from.pcie_width_max) device.pcie_width_max = from.pcie_width_max;
}

std::vector<Column> columns_without_header(const Section& section, Sink& sink) {
  std::vector<std::string> commands = {section.command};
  if (section.hints != nullptr) {
    commands.insert(commands.end(), section.hints->commands.begin(), section.hints->commands.end());
  }
  const std::size_t width = cells_of(section.lines.front().text).size();
  for (const auto& command : commands) {
    auto columns = columns_of_query(command);
    if (columns.size() != width) continue;
    sink.note("no header: columns as in the command '" +
              clean_text(std::string_view(command).substr(command.find("--query-gpu")), 120) + "'");
    return columns;
  }
  std::vector<std::vector<std::string_view>> first;
  for (const auto& line : section.lines) {
    if (auto cells = cells_of(line.text); cells.size() == width && first.size() < 5000) {
      first.push_back(std::move(cells));
    }
  }
  auto columns = columns_by_values(first);
  std::vector<std::string> sure, unsure;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].field != nullptr) {
      sure.push_back(columns[i].name);
    } else {
      unsure.push_back(std::to_string(i + 1));
    }
  }
  if (!unsure.empty()) {
    sink.note("no header: " + (sure.empty() ? "no column" : "only " + join(sure, ", ")) +
              " is certain by its values; column" + (unsure.size() == 1 ? " " : "s ") +
              join(unsure, ", ") + (unsure.size() == 1 ? " was" : " were") +
              " passed over (keep the command line beside the file)");
  }
  return columns;
}

void read_csv(const Section& section, Sink& sink) {
  std::vector<Column> columns = header_of(section.lines.front().text);
  if (columns.empty()) {
    columns = columns_without_header(section, sink);
  }
  std::vector<Row> rows;
  constexpr std::size_t kMost = 1'000'000;
  for (const auto& line : section.lines) {
    if (trim(line.text).empty()) continue;
    if (auto again = header_of(line.text); !again.empty()) {
      columns = std::move(again);
      sink.used();
      continue;
    }
    const auto cells = cells_of(line.text);
    if (cells.size() != columns.size()) {
      sink.bad(line);
      continue;
    }
    Row row;
    for (std::size_t i = 0; i < cells.size(); ++i) set_cell(columns[i], cells[i], row, sink);
    if (rows.size() < kMost) rows.push_back(std::move(row));
    sink.used();
  }
  number_rows(rows, sink);
  for (Row& row : rows) {
    keep_device(row.device, row.sample.gpu, sink);
    sink.version("driver", row.driver);
    if (row.any && !sink.gpu(row.sample, row.unix_s)) break;
  }
}

// ----------------------------------------------------------------------------------------- screen

bool screen_begins(const Lines& lines, std::size_t at) {
  for (std::size_t i = at; i < std::min(lines.size(), at + 3); ++i) {
    const auto text = trim(lines[i].text);
    if (text.starts_with("| NVIDIA-SMI ")) return true;
    const bool above =
        i == at ? (text.starts_with("+--") || count_digits(text) >= 10) : text.starts_with("+--");
    if (!above) return false;
  }
  return false;
}

std::string_view between(std::string_view line, std::string_view from, std::string_view to) {
  const auto begin = line.find(from);
  if (begin == std::string_view::npos) return {};
  auto rest = line.substr(begin + from.size());
  return trim(rest.substr(0, rest.find(to)));
}

/// "|   0  NVIDIA GeForce RTX 3090        Off |   00000000:01:00.0  On |                  N/A |"
std::optional<int> screen_device(std::string_view line, Sink& sink) {
  const auto cells = split(line, '|');
  if (cells.size() < 4) return std::nullopt;
  const auto words = words_of(cells[1]);
  const auto bus = words_of(cells[2]);
  if (words.size() < 2 || bus.empty() || !is_bus_id(bus[0])) return std::nullopt;
  const auto gpu = to_integer(words[0]);
  if (!gpu || *gpu < 0 || *gpu >= kMostGpus) return std::nullopt;
  const bool mode = words.back() == "On" || words.back() == "Off" || says_nothing(words.back());
  GpuDevice device;
  for (std::size_t i = 1; i < words.size() - (mode ? 1 : 0); ++i) {
    if (!device.name.empty()) device.name += ' ';
    device.name += clean_text(words[i], 64);
  }
  if (const auto dots = device.name.rfind("..."); dots != std::string::npos) {
    device.name.resize(dots);  // cut by the screen's width: "NVIDIA GeForce ..."
    device.name = std::string(trim(device.name));
    sink.note("GPU names are cut short on this screen");
  }
  device.pci_address = lower(clean_text(bus[0], 32));
  keep_device(device, static_cast<int>(*gpu), sink);
  return static_cast<int>(*gpu);
}

/// "| 30%   45C    P8    25W / 350W |    512MiB /  24576MiB |      3%      Default |"
bool screen_values(std::string_view line, int gpu, std::optional<double> unix_s, Sink& sink) {
  const auto cells = split(line, '|');
  if (cells.size() < 4) return false;
  GpuSample sample = {.gpu = gpu};
  const auto pair = [](std::string_view text) {
    const auto slash = text.find('/');
    return std::pair(trim(text.substr(0, slash)), slash == std::string_view::npos
                                                      ? std::string_view()
                                                      : trim(text.substr(slash + 1)));
  };
  std::string_view unit;
  for (const auto word : words_of(cells[1].substr(0, cells[1].find(" P")))) {
    const auto number = number_of(word, &unit);
    if (number && unit == "%") sample.fan_frac = *number * kPercent;
    if (number && unit == "C") sample.temp_c = *number;
  }
  // behind the performance state stands "25W / 350W"
  const auto state = cells[1].find(" P");
  auto power =
      state == std::string_view::npos ? std::string_view() : trim(cells[1].substr(state + 1));
  power = power.substr(std::min(power.find(' '), power.size()));
  const auto [draw, limit] = pair(power);
  if (const auto number = number_of(draw, &unit); number && unit == "W") sample.power_w = *number;
  if (const auto number = number_of(limit, &unit); number && unit == "W") {
    sample.power_limit_w = *number;
    sink.device(gpu).power_limit_w = *number;
  }
  const auto [used, total] = pair(cells[2]);
  sample.used_bytes = size_of(used);
  sample.total_bytes = size_of(total);
  if (sample.total_bytes) sink.device(gpu).total_bytes = sample.total_bytes;
  const auto words = words_of(cells[3]);
  if (!words.empty()) {
    const auto number = number_of(words[0], &unit);
    if (number && unit.starts_with("%")) sample.util_frac = *number * kPercent;
  }
  if (!sample.used_bytes && !sample.util_frac && !sample.temp_c) return false;
  return sink.gpu(sample, unix_s);
}

void read_screen(const Section& section, Sink& sink) {
  std::optional<double> unix_s;
  std::optional<int> gpu;
  bool processes = false;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    std::size_t length = 0;
    if (const auto stamp = sink.instant(text, &length); stamp && length == text.size()) {
      unix_s = stamp;
      processes = false;
      sink.used();
    } else if (text.starts_with("| NVIDIA-SMI ")) {
      sink.version("driver", between(text, "Driver Version: ", " "));
      const auto cuda = between(text, "CUDA Version: ", " ");
      if (!says_nothing(cuda)) sink.fact("cuda_of_driver", cuda);
      processes = false;
      sink.used();
    } else if (text.find("Processes:") != std::string_view::npos) {
      processes = true;
      sink.passed();
    } else if (processes) {
      sink.passed();
    } else if (gpu) {
      screen_values(text, *gpu, unix_s, sink) ? sink.used() : sink.bad(line);
      gpu.reset();
    } else if (text.starts_with("|")) {
      gpu = screen_device(text, sink);
      gpu ? sink.used() : sink.passed();
    } else {
      sink.passed();
    }
  }
}

// ------------------------------------------------------------------------------------------- list

/// "GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-…)"
void read_list(const Section& section, Sink& sink) {
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    const auto colon = text.find(": ");
    const auto uuid = between(text, "(UUID: ", ")");
    const auto gpu = text.starts_with("GPU ") && colon != std::string_view::npos
                         ? to_integer(text.substr(4, colon - 4))
                         : std::nullopt;
    if (!gpu || *gpu < 0 || *gpu >= kMostGpus || uuid.empty()) {
      text.starts_with("MIG") ? sink.passed() : sink.bad(line);
      continue;
    }
    GpuDevice device;
    device.uuid = clean_text(uuid, 64);
    const auto name = text.substr(colon + 2);
    device.name = clean_text(trim(name.substr(0, name.rfind("(UUID"))), 128);
    keep_device(device, static_cast<int>(*gpu), sink);
    sink.used();
  }
}

}  // namespace

/// gpustat --json: {"hostname": …, "query_time": …, "gpus": [{"index": 0, "memory.used": 21041}]},
/// under nvidia-smi's names and in its units.
bool read_gpustat_json(const Json& json, Sink& sink) {
  const auto gpus = json.find("gpus");
  if (gpus == json.end() || !gpus->is_array() || !json.contains("query_time")) return false;
  std::optional<double> unix_s;
  if (const auto time = get<std::string>(json, "query_time")) unix_s = sink.instant(*time);
  if (const auto host = get<std::string>(json, "hostname"))
    sink.into().host = clean_text(*host, 100);
  if (const auto driver = get<std::string>(json, "driver_version")) sink.version("driver", *driver);
  std::vector<Row> rows;
  for (const auto& gpu : *gpus) {
    if (!gpu.is_object() || rows.size() >= static_cast<std::size_t>(kMostGpus)) continue;
    Row row;
    row.unix_s = unix_s;
    for (const auto& [name, value] : gpu.items()) {
      const Column column = {.name = name, .field = field_of(name)};
      if (value.is_string()) set_cell(column, value.get<std::string>(), row, sink);
      if (value.is_number()) set_cell(column, number_text(value.get<double>()), row, sink);
    }
    rows.push_back(std::move(row));
  }
  number_rows(rows, sink);
  for (const Row& row : rows) {
    keep_device(row.device, row.sample.gpu, sink);
    if (row.any) sink.gpu(row.sample, row.unix_s);
  }
  return !rows.empty();
}

const Form kNvidiaCsv = {"nvidia-smi csv",
                         [](const Lines& lines, std::size_t at) {
                           return !header_of(lines[at].text).empty() || is_bare_row(lines[at].text);
                         },
                         read_csv};
const Form kNvidiaScreen = {"nvidia-smi", screen_begins, read_screen};
const Form kNvidiaList = {"nvidia-smi -L",
                          [](const Lines& lines, std::size_t at) {
                            return lines[at].text.starts_with("GPU ") &&
                                   lines[at].text.find("(UUID: ") != std::string_view::npos;
                          },
                          read_list};

}  // namespace rigwise::captured
