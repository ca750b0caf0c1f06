// NVIDIA: the tables that nvidia-smi prints beside its screen: dmon and pmon with any of their
// options, `topo -m`, `nvlink -s`.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

constexpr double kMiB = 1024.0 * 1024.0, kPercent = 0.01;
constexpr int kMostGpus = 64;
using S = GpuSample;

// -------------------------------------------------------------------------------------- dmon, pmon

/// A column of dmon: of the samples, or a figure that they have no column for.
struct DmonColumn {
  std::string_view name;
  std::optional<double> GpuSample::*member = nullptr;
  double scale = 1;
  std::string_view quantity = {}, unit = {};
};
constexpr std::array kDmon = {
    DmonColumn{"pwr", &S::power_w}, DmonColumn{"gtemp", &S::temp_c}, DmonColumn{"temp", &S::temp_c},
    DmonColumn{"mtemp", &S::temp_mem_c}, DmonColumn{"sm", &S::util_frac, kPercent},
    DmonColumn{"mem", &S::mem_util_frac, kPercent}, DmonColumn{"mclk", &S::mem_clock_mhz},
    DmonColumn{"pclk", &S::sm_clock_mhz}, DmonColumn{"fb", &S::used_bytes, kMiB},
    // shares of time and flags over the interval, rates: no state of an instant
    DmonColumn{"pviol", nullptr, kPercent, "power_held_frac", "1"},
    DmonColumn{"tviol", nullptr, 1, "thermal_held", "count"},
    DmonColumn{"rxpci", nullptr, 1e6, "pcie_rx_bytes_per_s", "bytes/s"},
    DmonColumn{"txpci", nullptr, 1e6, "pcie_tx_bytes_per_s", "bytes/s"}};
constexpr std::array kPmon = {DmonColumn{"sm", nullptr, kPercent, "util_frac", "1"},
                              DmonColumn{"mem", nullptr, kPercent, "mem_util_frac", "1"},
                              DmonColumn{"fb", nullptr, kMiB, "used_bytes", "bytes"}};

bool has(const std::vector<std::string_view>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// "# gpu    pwr  gtemp …", "#Date       Time        gpu    pwr …"; of pmon where `pid` stands in
/// it.
bool is_table_header(std::string_view line, bool of_processes) {
  line = trim(line.substr(0, 1000));
  if (!line.starts_with("#")) return false;
  const auto words = words_of(line.substr(1));
  if (!has(words, "gpu") || has(words, "pid") != of_processes) return false;
  return of_processes || std::any_of(kDmon.begin(), kDmon.end(), [&](const DmonColumn& column) {
           return has(words, column.name);
         });
}

/// The GPU and the instant of a row; nothing where it names no GPU.
struct RowHead {
  int gpu = 0;
  std::optional<double> unix_s = {};
};
std::optional<RowHead> head_of(const std::vector<std::string_view>& names,
                               const std::vector<std::string_view>& cells, Sink& sink) {
  RowHead head;
  std::string date, time;
  std::optional<std::int64_t> gpu;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == "gpu") gpu = to_integer(cells[i]);
    if (names[i] == "Date" && cells[i].size() == 8) date = std::string(cells[i]);
    if (names[i] == "Time") time = std::string(cells[i]);
  }
  if (!gpu || *gpu < 0 || *gpu >= kMostGpus) return std::nullopt;
  head.gpu = static_cast<int>(*gpu);
  if (!date.empty() && !time.empty()) {
    head.unix_s = sink.instant(date.substr(0, 4) + '-' + date.substr(4, 2) + '-' + date.substr(6) +
                               ' ' + time);
  } else if (!time.empty()) {
    sink.note("its times have no date (-o T): use -o DT");
  }
  return head;
}

std::optional<double> number(std::string_view cell) {
  const auto value = to_number(cell);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

bool dmon_row(const Line& line, const std::vector<std::string_view>& names,
              const std::vector<std::string_view>& cells, Sink& sink) {
  const auto head = cells.size() == names.size() ? head_of(names, cells, sink) : std::nullopt;
  if (!head) {
    sink.bad(line);
    return true;
  }
  GpuSample sample = {.gpu = head->gpu};
  bool any = false;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    for (const auto& column : kDmon) {
      if (column.name != names[i]) continue;
      const auto value = number(cells[i]);
      if (!value || !std::isfinite(*value * column.scale)) continue;
      if (column.member != nullptr) {
        sample.*column.member = *value * column.scale;
        any = true;
      } else {
        sink.observe(line, "gpu " + std::to_string(head->gpu), column.quantity,
                     *value * column.scale, column.unit, head->unix_s);
      }
    }
  }
  sink.device(sample.gpu).vendor = "nvidia";
  sink.used();
  return !any || sink.gpu(sample, head->unix_s);
}

/// The command stands last and may hold blanks.
void pmon_row(const Line& line, const std::vector<std::string_view>& names,
              std::vector<std::string_view> cells, Sink& sink) {
  if (cells.size() < names.size()) return sink.bad(line);
  std::string command = clean_text(cells[names.size() - 1], 120);
  for (std::size_t i = names.size(); i < cells.size() && command.size() < 120; ++i)
    command += ' ' + clean_text(cells[i], 120);
  const auto head = head_of(names, cells, sink);
  if (!head) return sink.bad(line);
  sink.device(head->gpu).vendor = "nvidia";
  std::string subject = "gpu " + std::to_string(head->gpu) + " process ";
  bool any = false;
  for (std::size_t i = 0; i + 1 < names.size(); ++i) {
    if (names[i] == "pid") {
      const auto pid = to_integer(cells[i]);
      if (!pid) return sink.passed();  // "-": no process on this GPU
      subject += std::to_string(*pid) + ' ' + command;
    }
    for (const auto& column : kPmon) {
      const auto value = column.name == names[i] ? number(cells[i]) : std::nullopt;
      if (!value) continue;
      any = sink.observe(line, subject, column.quantity, *value * column.scale, column.unit,
                         head->unix_s) ||
            any;
    }
  }
  any ? sink.used() : sink.passed();
}

void read_table(const Section& section, bool of_processes, Sink& sink) {
  std::vector<std::string_view> names;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    if (is_table_header(text, of_processes)) {
      names = words_of(text.substr(1));
      sink.used();
    } else if (text.starts_with("#")) {
      sink.passed();
    } else if (names.empty()) {
      sink.bad(line);
    } else if (of_processes) {
      pmon_row(line, names, words_of(text), sink);
    } else if (!dmon_row(line, names, words_of(text), sink)) {
      return;
    }
  }
}

// -------------------------------------------------------------------------------------------- topo

/// "GPU0" → 0
std::optional<int> gpu_of(std::string_view word) {
  if (!word.starts_with("GPU")) return std::nullopt;
  const auto gpu = to_integer(word.substr(3));
  if (!gpu || *gpu < 0 || *gpu >= kMostGpus) return std::nullopt;
  return static_cast<int>(*gpu);
}

bool is_link(std::string_view cell) {  // "X", "PHB", "NV4"
  constexpr std::array<std::string_view, 6> kLinks = {"X", "SYS", "NODE", "PHB", "PXB", "PIX"};
  return std::find(kLinks.begin(), kLinks.end(), cell) != kLinks.end() ||
         (cell.starts_with("NV") && to_integer(cell.substr(2)));
}

/// The columns of "	GPU0	GPU1	NIC0	CPU Affinity	NUMA Affinity"; empty where it is no
/// such line.
std::vector<std::string> topo_header(std::string_view line) {
  if (line.size() > 4096) return {};
  const std::string plain = without_escapes(line);
  std::vector<std::string> names;
  const auto cells = split(plain, '\t');
  if (!trim(cells[0]).empty()) return {};  // a row: "GPU0 X PHB"
  for (const auto cell : cells) {
    if (const auto name = trim(cell); !name.empty()) names.emplace_back(name);
  }
  if (names.empty() || names.front() != "GPU0") return {};
  return names;
}

void topo_row(const Line& line, const std::vector<std::string>& names, Sink& sink) {
  const std::string plain = without_escapes(line.text.substr(0, 4096));
  const auto cells = split(plain, '\t');
  const auto from = gpu_of(trim(cells[0]));
  if (!from) return sink.passed();  // a network card's row: GPUs' rows say the same
  bool any = false;
  for (std::size_t i = 0; i < names.size() && i + 1 < cells.size(); ++i) {
    const auto cell = trim(cells[i + 1]);
    if (says_nothing(cell)) continue;
    if (names[i] == "NUMA Affinity") {
      if (const auto node = to_integer(cell); node && *node >= 0 && *node < 1024) {
        sink.device(*from).numa_node = static_cast<int>(*node);
        any = true;
      }
    }
    if (!is_link(cell) || cell == "X") continue;
    any = true;
    const auto to = gpu_of(names[i]);
    if (to && *to < *from) continue;  // the matrix says everything twice
    // evidence is figures: "NV4" is four NVLinks, "PHB" one path through the host's bridge
    const bool nvlink = cell.starts_with("NV");
    std::string there = to ? "gpu " + std::to_string(*to) : lower(clean_text(names[i], 40));
    sink.observe(line, "gpu " + std::to_string(*from) + " to " + there,
                 nvlink ? "nvlinks" : "link_" + lower(cell),
                 nvlink ? to_number(cell.substr(2)).value_or(0) : 1, "count");
  }
  if (any) sink.device(*from).vendor = "nvidia";
  any ? sink.used() : sink.bad(line);
}

void read_topo(const Section& section, Sink& sink) {
  std::vector<std::string> names;
  bool legend = false;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    if (auto header = topo_header(line.text); !header.empty()) {
      names = std::move(header);
      legend = false;
      sink.used();
    } else if (legend || text.starts_with("Legend") || text.starts_with("NIC Legend")) {
      legend = true;
      sink.passed();
    } else {
      topo_row(line, names, sink);
    }
  }
}

// ------------------------------------------------------------------------------------------ nvlink

bool is_list_line(std::string_view text) {  // "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-…)"
  return text.starts_with("GPU ") && text.find("(UUID: ") != std::string_view::npos;
}

void read_nvlink(const Section& section, Sink& sink) {
  std::string subject;  // of the GPU above
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    const auto colon = text.find(": ");
    if (is_list_line(text)) {
      const auto number = to_integer(text.substr(4, colon - 4));
      subject.clear();
      if (!number || *number < 0 || *number >= kMostGpus) {
        sink.bad(line);
        continue;
      }
      subject = "gpu " + std::to_string(*number) + " nvlink ";
      GpuDevice& device = sink.device(static_cast<int>(*number));
      device.vendor = "nvidia";
      const auto open = text.rfind("(UUID: ");
      const auto id = text.substr(open + 7);
      device.uuid = clean_text(id.substr(0, id.find(')')), 64);
      if (open > colon + 2)
        device.name = clean_text(trim(text.substr(colon + 2, open - colon - 2)), 128);
      sink.used();
    } else if (!subject.empty() && text.starts_with("Link ") && colon != std::string_view::npos) {
      std::string_view unit;
      const auto rate = number_of(text.substr(colon + 2), &unit);
      const auto link = to_integer(text.substr(5, colon - 5));
      if (!rate || !link || unit != "GB/s") {  // "<inactive>"
        sink.passed();
        continue;
      }
      sink.observe(line, subject + std::to_string(*link), "link_bytes_per_s", *rate * 1e9,
                   "bytes/s");
      sink.used();
    } else {
      sink.passed();
    }
  }
}

// -------------------------------------------------------------------------------- compute-apps csv

/// "pid, process_name, used_gpu_memory [MiB]", in any order and with other columns.
std::vector<std::string> apps_header(std::string_view line) {
  if (line.size() > 1000) return {};
  std::vector<std::string> names;
  for (const auto cell : split(line, ',')) names.emplace_back(trim(cell.substr(0, cell.find('['))));
  const auto has_name = [&](std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const bool ours = has_name("pid") && (has_name("process_name") || has_name("used_gpu_memory") ||
                                        has_name("used_memory"));
  return ours ? names : std::vector<std::string>();
}

void read_apps(const Section& section, Sink& sink) {
  std::vector<std::string> names;
  for (const auto& line : section.lines) {
    if (trim(line.text).empty()) continue;
    if (auto header = apps_header(line.text); !header.empty()) {
      names = std::move(header);
      sink.used();
      continue;
    }
    const auto cells = split(line.text.substr(0, 4096), ',');
    if (names.empty() || cells.size() != names.size()) {
      sink.bad(line);
      continue;
    }
    std::string pid, name, gpu;
    std::optional<double> bytes, unix_s;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto cell = trim(cells[i]);
      if (says_nothing(cell)) continue;
      if (names[i] == "timestamp") unix_s = sink.instant(cell);
      if (names[i] == "pid" && to_integer(cell)) pid = clean_text(cell, 20);
      if (names[i] == "process_name" || names[i] == "name") name = clean_text(cell, 120);
      if (names[i] == "gpu_uuid" || names[i] == "gpu_bus_id") gpu = clean_text(cell, 64);
      if (names[i] == "used_gpu_memory" || names[i] == "used_memory")
        bytes = size_of(cell, 1024, kMiB);
    }
    if (pid.empty()) {
      sink.bad(line);
      continue;
    }
    const std::string subject = (gpu.empty() ? "" : "gpu " + gpu + ' ') + "process " + pid +
                                (name.empty() ? "" : ' ' + name);
    bytes&& sink.observe(line, subject, "used_bytes", *bytes, "bytes", unix_s) ? sink.used()
                                                                               : sink.passed();
  }
}

// ----------------------------------------------------------------------------------------- gpustat

/// "[0] NVIDIA GeForce RTX 3090 | 71'C,  98 %,  347 / 350 W | 21041 / 24576 MB | me(20992M)"
bool is_gpustat_row(std::string_view plain) {
  return plain.size() < 1000 && plain.starts_with("[") && plain.find("] ") < 5 &&
         plain.find(" | ") != std::string_view::npos && plain.find(" MB") != std::string_view::npos;
}

bool gpustat_row(std::string_view plain, std::optional<double> unix_s, Sink& sink) {
  const auto close = plain.find("] ");
  const auto gpu = to_integer(plain.substr(1, close - 1));
  if (!gpu || *gpu < 0 || *gpu >= kMostGpus) return false;
  const auto parts = split(plain.substr(close + 2), '|');
  if (parts.size() < 3) return false;
  GpuSample sample = {.gpu = static_cast<int>(*gpu)};
  GpuDevice& device = sink.device(sample.gpu);
  device.vendor = "nvidia";
  device.name = clean_text(trim(parts[0]), 128);
  std::vector<double> shares;  // with -F the fan's comes before that of the GPU
  for (const auto part : split(parts[1], ',')) {
    std::string_view unit;
    const auto value = number_of(part, &unit);
    if (!value || !std::isfinite(*value)) continue;
    if (unit == "%") shares.push_back(*value * kPercent);
    if (unit.ends_with("C")) sample.temp_c = *value;
    if (!unit.ends_with("W")) continue;
    sample.power_w = *value;
    if (!unit.starts_with("/")) continue;
    if (const auto limit = number_of(unit.substr(1)))
      sample.power_limit_w = device.power_limit_w = limit;
  }
  if (!shares.empty()) sample.util_frac = shares.back();
  if (shares.size() == 2) sample.fan_frac = shares.front();
  const auto slash = parts[2].find('/');
  if (slash != std::string_view::npos) {
    const auto used = number_of(parts[2].substr(0, slash));
    const auto total = number_of(parts[2].substr(slash + 1));
    if (used && std::isfinite(*used * kMiB)) sample.used_bytes = *used * kMiB;
    if (total && std::isfinite(*total * kMiB))
      sample.total_bytes = device.total_bytes = *total * kMiB;
  }
  return sink.gpu(sample, unix_s);
}

void read_gpustat(const Section& section, Sink& sink) {
  std::optional<double> unix_s;
  for (const auto& line : section.lines) {
    const std::string plain = without_escapes(line.text.substr(0, 2000));
    const auto text = trim(plain);
    if (text.empty()) continue;
    if (is_gpustat_row(text)) {
      gpustat_row(text, unix_s, sink) ? sink.used() : sink.bad(line);
      continue;
    }
    // above each reading: "rig    Tue Nov 24 14:03:22 2026  550.127.05"
    const auto words = words_of(text);
    const auto rest = trim(text.substr(words[0].size()));
    std::size_t length = 0;
    const auto stamp = sink.instant(rest, &length);
    if (!stamp) {
      sink.passed();
      continue;
    }
    unix_s = stamp;
    sink.into().host = clean_text(words[0], 100);
    if (const auto driver = trim(rest.substr(length)); count_digits(driver.substr(0, 1)) == 1)
      sink.version("driver", driver);
    sink.used();
  }
}

bool gpustat_begins(const Lines& lines, std::size_t at) {
  const auto row_at = [&](std::size_t i) {
    return i < lines.size() && is_gpustat_row(trim(without_escapes(lines[i].text.substr(0, 1000))));
  };
  return row_at(at) || (lines[at].text.size() < 200 && row_at(at + 1) &&
                        words_of(without_escapes(lines[at].text)).size() >= 6);
}

}  // namespace

const Form kNvidiaApps = {
    "nvidia-smi compute apps",
    [](const Lines& lines, std::size_t at) { return !apps_header(lines[at].text).empty(); },
    read_apps};
const Form kGpustat = {"gpustat", gpustat_begins, read_gpustat};
const Form kNvidiaDmon = {
    "nvidia-smi dmon",
    [](const Lines& lines, std::size_t at) { return is_table_header(lines[at].text, false); },
    [](const Section& section, Sink& sink) { read_table(section, false, sink); }};
const Form kNvidiaPmon = {
    "nvidia-smi pmon",
    [](const Lines& lines, std::size_t at) { return is_table_header(lines[at].text, true); },
    [](const Section& section, Sink& sink) { read_table(section, true, sink); }};
const Form kNvidiaTopo = {
    "nvidia-smi topo -m",
    [](const Lines& lines, std::size_t at) {
      if (topo_header(lines[at].text).empty()) return false;
      return at + 1 < lines.size() &&
             trim(without_escapes(lines[at + 1].text.substr(0, 200))).starts_with("GPU0");
    },
    read_topo};
const Form kNvidiaNvlink = {"nvidia-smi nvlink",
                            [](const Lines& lines, std::size_t at) {
                              return is_list_line(lines[at].text) && at + 1 < lines.size() &&
                                     trim(lines[at + 1].text).starts_with("Link ");
                            },
                            read_nvlink};

}  // namespace rigwise::captured
