// vmstat, top -b, uptime and lm-sensors.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

constexpr double kKiB = 1024, kPercent = 0.01;

// ------------------------------------------------------------------------------------------ vmstat

bool is_vmstat_banner(std::string_view text) {
  return (text.starts_with("procs ") || text.starts_with("--procs--")) &&
         text.find("memory") != std::string_view::npos;
}

bool is_vmstat_header(const std::vector<std::string_view>& words) {
  return words.size() >= 15 && words[0] == "r" && words[1] == "b" &&
         std::find(words.begin(), words.end(), "swpd") != words.end();
}

struct VmstatColumn {
  std::string_view name, subject, quantity, unit;
  double scale;
};
/// bi and bo count blocks of 1024 bytes (vmstat(8)).
constexpr std::array kVmstatColumns = {
    VmstatColumn{"r", "host", "run_queue", "count", 1},
    VmstatColumn{"b", "host", "blocked", "count", 1},
    VmstatColumn{"bi", "host", "read_bytes_per_s", "bytes/s", kKiB},
    VmstatColumn{"bo", "host", "write_bytes_per_s", "bytes/s", kKiB},
    VmstatColumn{"us", "cpu", "cpu_user_frac", "1", kPercent},
    VmstatColumn{"sy", "cpu", "cpu_system_frac", "1", kPercent},
    VmstatColumn{"id", "cpu", "cpu_idle_frac", "1", kPercent},
    VmstatColumn{"wa", "cpu", "cpu_iowait_frac", "1", kPercent},
    VmstatColumn{"st", "cpu", "cpu_steal_frac", "1", kPercent}};

/// What -S made of a unit; KiB without it.
double vmstat_unit(std::string_view command) {
  const auto at = command.find("-S");
  if (at == std::string_view::npos) return kKiB;
  const auto letter = trim(command.substr(at + 2)).substr(0, 1);
  return letter == "k" ? 1000 : letter == "m" ? 1e6 : letter == "M" ? kKiB * kKiB : kKiB;
}

void vmstat_row(const Line& line, const std::vector<std::string_view>& names,
                const std::vector<std::string_view>& cells, bool since_boot, double unit_bytes,
                Sink& sink) {
  // -t: "2026-11-28 13:54:56" behind, and its zone's name in the header
  std::optional<double> unix_s;
  std::size_t count = names.size();
  if (cells.size() == names.size() + 1) {
    --count;
    const std::string_view zone = names.back();
    std::string stamp = std::string(cells[count]) + ' ' + std::string(cells[count + 1]);
    if (zone == "UTC" || zone == "GMT") stamp += " UTC";
    unix_s = sink.instant(stamp);
    if (!unix_s) return sink.bad(line);
  } else if (cells.size() != names.size()) {
    return sink.bad(line);
  }
  CapturedHost host;
  std::optional<double> user, system;
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = to_number(cells[i]);
    if (!value || !std::isfinite(*value)) continue;
    if (names[i] == "swpd") host.row.swap_used_bytes = *value * unit_bytes;
    if (names[i] == "us") user = value;
    if (names[i] == "sy") system = value;
    if (names[i] == "wa") host.iowait_frac = *value * kPercent;
    if (names[i] == "st") host.steal_frac = *value * kPercent;
    if (names[i] == "si" || names[i] == "so")
      sink.observe(line, since_boot ? "swap (since boot)" : "swap",
                   names[i] == "si" ? "in_bytes_per_s" : "out_bytes_per_s", *value * unit_bytes,
                   "bytes/s", unix_s);
    for (const auto& column : kVmstatColumns) {
      if (column.name != names[i]) continue;
      const bool now = column.unit == "count";
      sink.observe(line, std::string(column.subject) + (since_boot && !now ? " (since boot)" : ""),
                   column.quantity, *value * column.scale, column.unit, unix_s);
    }
  }
  if (user && system) host.busy_frac = (*user + *system) * kPercent;
  sink.host(host, unix_s);
  sink.used();
}

void read_vmstat(const Section& section, Sink& sink) {
  std::vector<std::string_view> names;
  bool first = true, timed = false;
  const double unit_bytes = vmstat_unit(section.command);
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    const auto words = words_of(text.substr(0, 2000));
    if (is_vmstat_banner(text)) {
      timed = timed || text.find("timestamp") != std::string_view::npos;
      sink.used();
    } else if (is_vmstat_header(words)) {
      names = words;
      sink.used();
    } else if (names.empty()) {
      sink.bad(line);
    } else {
      vmstat_row(line, names, words, first, unit_bytes, sink);
      first = false;
    }
  }
  if (!timed) sink.note("vmstat was run without -t: its rates cannot be joined to the run's clock");
}

// --------------------------------------------------------------------------------------------- top

bool is_load_line(std::string_view text) {  // "top - 13:55:02 up 19 min, …  load average: 9.56, …"
  return text.size() < 300 && text.find("load average: ") != std::string_view::npos &&
         (text.starts_with("top - ") ||
          (text.find(" up ") != std::string_view::npos && count_digits(text.substr(0, 2)) == 2));
}

/// "24105.6 total,  13884.3 free": the figure before a word.
std::optional<double> before(std::string_view text, std::string_view word) {
  const auto at = text.find(word);
  if (at == std::string_view::npos || at == 0) return std::nullopt;
  const auto words = words_of(text.substr(0, at));
  return words.empty() ? std::nullopt : number_of(words.back());
}

void top_memory(const Line& line, std::string_view text, Sink& sink) {
  const auto unit = text.starts_with("MiB ")   ? 1024.0 * 1024
                    : text.starts_with("GiB ") ? 1024.0 * 1024 * 1024
                                               : kKiB;
  const bool swap = text.find(" Swap") != std::string_view::npos;
  const auto figures = text.substr(std::min(text.find(':') + 1, text.size()));
  const auto total = before(figures, " total"), used = before(figures, " used"),
             available = before(figures, " avail Mem");
  if (total) sink.observe(line, swap ? "swap" : "memory", "total_bytes", *total * unit, "bytes");
  if (used) sink.observe(line, swap ? "swap" : "memory", "used_bytes", *used * unit, "bytes");
  if (available) sink.observe(line, "memory", "available_bytes", *available * unit, "bytes");
  if (total && !swap && *total > 0) sink.into().rig.mem_bytes = *total * unit;
}

void top_cpu(const Line& line, std::string_view text, bool first, Sink& sink) {
  struct Share {
    std::string_view name, quantity;
  };
  constexpr std::array kShares = {Share{" us", "cpu_user_frac"},   Share{" sy", "cpu_system_frac"},
                                  Share{" ni", "cpu_nice_frac"},   Share{" id", "cpu_idle_frac"},
                                  Share{" wa", "cpu_iowait_frac"}, Share{" st", "cpu_steal_frac"}};
  const auto figures = text.substr(std::min(text.find(':') + 1, text.size()));
  for (const auto part : split(figures, ',')) {
    for (const auto& share : kShares) {
      if (!trim(part).ends_with(share.name)) continue;
      if (const auto value = number_of(part))
        sink.observe(line, first ? "cpu (since boot)" : "cpu", share.quantity, *value * kPercent,
                     "1");
    }
  }
}

/// The busiest processes: "11835 root 20 0 1404704 1.2g 19912 R 25.0 5.0 0:31.48 cc1plus".
bool top_process(const Line& line, const std::vector<std::string_view>& names,
                 const std::vector<std::string_view>& cells, Sink& sink) {
  if (cells.size() < names.size()) return false;
  std::optional<double> share;
  for (std::size_t i = 0; i + 1 < names.size(); ++i) {
    if (names[i] == "%CPU") share = to_number(cells[i]);
  }
  const auto pid = to_integer(cells[0]);
  if (!pid || !share || !(*share > 0)) return false;
  return sink.observe(
      line, "process " + std::to_string(*pid) + ' ' + clean_text(cells[names.size() - 1], 60),
      "cpus_busy", *share * kPercent, "count");
}

void read_top(const Section& section, Sink& sink) {
  std::vector<std::string_view> names;
  int screens = 0, processes = 0;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text.substr(0, 1000));
    if (text.empty()) continue;
    const auto words = words_of(text);
    if (is_load_line(text)) {
      const auto load = number_of(text.substr(text.find("load average: ") + 14));
      if (load) sink.observe(line, "host", "load1", *load, "count");
      screens += text.starts_with("top - ") ? 1 : 0;
      names.clear();
      processes = 0;
      load ? sink.used() : sink.bad(line);
    } else if (text.starts_with("%Cpu") || text.starts_with("Cpu(s)")) {
      top_cpu(line, text, screens <= 1, sink);
      sink.used();
    } else if (text.find(" Mem:") != std::string_view::npos ||
               text.find(" Mem :") != std::string_view::npos ||
               text.find(" Swap:") != std::string_view::npos) {
      top_memory(line, text, sink);
      sink.used();
    } else if (words[0] == "PID" && words.back() == "COMMAND") {
      names = words;
      sink.used();
    } else if (!names.empty() && processes < 10 && top_process(line, names, words, sink)) {
      ++processes;
      sink.used();
    } else {
      sink.passed();
    }
  }
}

// ----------------------------------------------------------------------------------------- sensors

/// "k10temp-pci-00c3", "BAT0-acpi-0": a driver, a bus, an address.
bool is_chip(std::string_view line) {
  const auto parts = split(line.substr(0, 100), '-');
  return parts.size() >= 3 && line.find_first_of(" \t:") == std::string_view::npos &&
         !parts.back().empty() &&
         parts.back().find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_adapter(std::string_view line) {
  return line.starts_with("Adapter: ");
}

/// "Tctl:         +54.9°C  (high = +70.0°C)", "fan1:        1200 RPM"
bool sensor_line(const Line& line, const std::string& chip, Sink& sink) {
  const auto text = trim(line.text.substr(0, 400));
  const auto colon = text.find(": ");
  if (colon == std::string_view::npos || text.starts_with("(")) return false;
  std::string_view unit;
  const auto value = number_of(text.substr(colon + 1), &unit);
  if (!value) return false;
  struct Kind {
    std::string_view printed, quantity, unit;
    double scale;
  };
  constexpr std::array kKinds = {
      Kind{"°C", "temp_c", "°C", 1},      Kind{"C", "temp_c", "°C", 1},
      Kind{"RPM", "fan_rpm", "1/min", 1}, Kind{"mV", "voltage_v", "V", 1e-3},
      Kind{"V", "voltage_v", "V", 1},     Kind{"mW", "power_w", "W", 1e-3},
      Kind{"W", "power_w", "W", 1}};
  for (const auto& kind : kKinds) {
    if (!starts_with_word(unit, kind.printed)) continue;
    return sink.observe(line, chip + ' ' + clean_text(text.substr(0, colon), 60), kind.quantity,
                        *value * kind.scale, kind.unit);
  }
  return false;
}

void read_sensors(const Section& section, Sink& sink) {
  std::string chip;
  for (std::size_t i = 0; i < section.lines.size(); ++i) {
    const auto& line = section.lines[i];
    const auto text = trim(line.text);
    if (text.empty()) continue;
    if (i + 1 < section.lines.size() && is_adapter(section.lines[i + 1].text)) {
      chip = clean_text(text, 80);
      sink.used();
    } else if (!chip.empty() && sensor_line(line, chip, sink)) {
      sink.used();
    } else {
      sink.passed();
    }
  }
}

}  // namespace

const Form kVmstat = {"vmstat",
                      [](const Lines& lines, std::size_t at) {
                        return is_vmstat_banner(trim(lines[at].text.substr(0, 300))) ||
                               is_vmstat_header(words_of(lines[at].text.substr(0, 300)));
                      },
                      read_vmstat};
const Form kTop = {"top",
                   [](const Lines& lines, std::size_t at) {
                     return is_load_line(trim(lines[at].text.substr(0, 400)));
                   },
                   read_top};
const Form kSensors = {"sensors",
                       [](const Lines& lines, std::size_t at) {
                         return at + 1 < lines.size() && is_adapter(lines[at + 1].text) &&
                                is_chip(lines[at].text);
                       },
                       read_sensors};

}  // namespace rigwise::captured
