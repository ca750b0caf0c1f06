// iostat of sysstat 9 to 12 (-x, -z, -t, -h, -k, -m, -s, JSON): rates of every block of time, and
// the shares of CPU time above them. The first block is the mean since boot and says so in its
// subject.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

struct Column {
  std::string_view name, quantity, unit;
  double scale;
};

constexpr double kKiB = 1024, kMiB = 1024.0 * 1024, kSector = 512, kMs = 1e-3, kPercent = 0.01;
constexpr std::array kColumns = {
    Column{"r/s", "reads_per_s", "1/s", 1},
    Column{"w/s", "writes_per_s", "1/s", 1},
    Column{"d/s", "discards_per_s", "1/s", 1},
    Column{"f/s", "flushes_per_s", "1/s", 1},
    Column{"tps", "transfers_per_s", "1/s", 1},
    Column{"rkB/s", "read_bytes_per_s", "bytes/s", kKiB},
    Column{"wkB/s", "write_bytes_per_s", "bytes/s", kKiB},
    Column{"dkB/s", "discard_bytes_per_s", "bytes/s", kKiB},
    Column{"rMB/s", "read_bytes_per_s", "bytes/s", kMiB},
    Column{"wMB/s", "write_bytes_per_s", "bytes/s", kMiB},
    Column{"dMB/s", "discard_bytes_per_s", "bytes/s", kMiB},
    Column{"rsec/s", "read_bytes_per_s", "bytes/s", kSector},
    Column{"wsec/s", "write_bytes_per_s", "bytes/s", kSector},
    Column{"kB_read/s", "read_bytes_per_s", "bytes/s", kKiB},
    Column{"kB_wrtn/s", "write_bytes_per_s", "bytes/s", kKiB},
    Column{"MB_read/s", "read_bytes_per_s", "bytes/s", kMiB},
    Column{"MB_wrtn/s", "write_bytes_per_s", "bytes/s", kMiB},
    Column{"Blk_read/s", "read_bytes_per_s", "bytes/s", kSector},
    Column{"Blk_wrtn/s", "write_bytes_per_s", "bytes/s", kSector},
    Column{"await", "wait_s", "s", kMs},
    Column{"r_await", "read_wait_s", "s", kMs},
    Column{"w_await", "write_wait_s", "s", kMs},
    Column{"d_await", "discard_wait_s", "s", kMs},
    Column{"f_await", "flush_wait_s", "s", kMs},
    Column{"aqu-sz", "queue_depth", "count", 1},
    Column{"avgqu-sz", "queue_depth", "count", 1},
    Column{"%util", "busy_frac", "1", kPercent},
    Column{"util", "busy_frac", "1", kPercent},
};
constexpr std::array kCpu = {Column{"%user", "cpu_user_frac", "1", kPercent},
                             Column{"%nice", "cpu_nice_frac", "1", kPercent},
                             Column{"%system", "cpu_system_frac", "1", kPercent},
                             Column{"%iowait", "cpu_iowait_frac", "1", kPercent},
                             Column{"%steal", "cpu_steal_frac", "1", kPercent},
                             Column{"%idle", "cpu_idle_frac", "1", kPercent}};

template <std::size_t N>
const Column* find(const std::array<Column, N>& columns, std::string_view name) {
  const auto found =
      std::find_if(columns.begin(), columns.end(), [&](const Column& c) { return c.name == name; });
  return found == columns.end() ? nullptr : &*found;
}

/// "Device r/s …", "Device: tps …" and -h's "r/s rkB/s … Device"
bool is_device_header(const std::vector<std::string_view>& words) {
  if (words.size() < 3) return false;
  if (!words.front().starts_with("Device") && words.back() != "Device") return false;
  return std::any_of(words.begin(), words.end(),
                     [](std::string_view word) { return find(kColumns, word) != nullptr; });
}

bool is_cpu_header(std::string_view line) {
  return line.starts_with("avg-cpu:") && line.find("%user") != std::string_view::npos;
}

/// "Linux 6.1.0 (host) 	11/24/26 	_x86_64_	(2 CPU)"
bool is_banner(std::string_view line) {
  return line.starts_with("Linux ") && line.find(" CPU)") != std::string_view::npos &&
         line.find('(') != std::string_view::npos;
}

/// A figure of a cell: "8.39", "8,39", with -h "1.0M", "27.9k" and "10.7%".
std::optional<double> figure(std::string_view cell, const Column& column) {
  std::string_view unit;
  const auto number = number_of(cell, &unit);
  if (!number) return std::nullopt;
  if (unit.empty() || unit == "%") return *number * column.scale;
  const auto bytes = size_of(cell);  // -h turns kB columns into bytes with a letter
  if (!bytes) return std::nullopt;
  return column.unit == "bytes/s" ? *bytes : *bytes * column.scale;
}

void see_host(std::string_view line, Sink& sink) {
  const auto open = line.find('('), close = line.find(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return;
  sink.into().host = clean_text(line.substr(open + 1, close - open - 1), 100);
  const auto words = words_of(line.substr(0, open));
  if (words.size() >= 2) sink.version("kernel", words[1]);
  const auto cpus = line.rfind('(');
  if (const auto count = number_of(line.substr(cpus + 1)); count && *count >= 1 && *count < 65536) {
    sink.into().rig.threads = static_cast<int>(*count);
  }
}

struct Place {
  std::string date = {};  // of the banner: old versions print "Time: 02:03:22 PM" alone
  std::optional<double> unix_s = {};
  int blocks = 0;  // of devices so far; the first is since boot
  bool in_block = false;
};

std::string subject(std::string_view name, bool since_boot) {
  return std::string(name) + (since_boot ? " (since boot)" : "");
}

void device_row(const Line& line, const std::vector<std::string_view>& head,
                const std::vector<std::string_view>& words, const Place& place, Sink& sink) {
  const bool first = head.front().starts_with("Device");
  const auto name = first ? words.front() : words.back();
  const auto to = subject(name, place.blocks <= 1);
  for (std::size_t i = first ? 1 : 0; i < words.size() - (first ? 0 : 1); ++i) {
    const Column* column = find(kColumns, head[i]);
    if (column == nullptr) continue;
    if (const auto value = figure(words[i], *column)) {
      sink.observe(line, to, column->quantity, *value, column->unit, place.unix_s);
    }
  }
  sink.used();
}

void read_iostat(const Section& section, Sink& sink) {
  std::vector<std::string_view> head;
  Place place;
  bool cpu = false;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    const auto words = words_of(text);
    std::size_t length = 0;
    if (is_banner(text)) {
      see_host(text, sink);
      const auto words_of_banner = words_of(text.substr(text.find(')') + 1));
      place = {.date = words_of_banner.empty() ? std::string() : std::string(words_of_banner[0])};
      sink.used();
    } else if (text.starts_with("Time: ")) {
      place.unix_s = sink.instant(place.date + ' ' + std::string(text.substr(6)));
      place.in_block = false;
      sink.used();
    } else if (const auto stamp = sink.instant(text, &length); stamp && length == text.size()) {
      place.unix_s = stamp;
      place.in_block = false;
      sink.used();
    } else if (is_cpu_header(text)) {
      head = words;
      cpu = true;
      place.in_block = false;
      sink.used();
    } else if (is_device_header(words)) {
      head = words;
      cpu = false;
      if (!place.in_block) ++place.blocks;  // -h cuts one block into several tables
      place.in_block = true;
      sink.used();
    } else if (cpu && words.size() + 1 == head.size()) {
      const auto to = subject("cpu", place.blocks == 0);
      for (std::size_t i = 0; i < words.size(); ++i) {
        const Column* column = find(kCpu, head[i + 1]);
        if (column == nullptr) continue;
        if (const auto value = figure(words[i], *column)) {
          sink.observe(line, to, column->quantity, *value, column->unit, place.unix_s);
        }
      }
      cpu = false;
      sink.used();
    } else if (!cpu && !head.empty() && words.size() == head.size()) {
      device_row(line, head, words, place, sink);
    } else {
      sink.bad(line);
    }
  }
  if (place.blocks > 0 && !place.unix_s) {
    sink.note("iostat was run without -t: its rates cannot be joined to the run's clock");
  }
}

void json_block(const Json& block, bool first, Sink& sink) {
  std::optional<double> unix_s;
  if (const auto stamp = get<std::string>(block, "timestamp")) unix_s = sink.instant(*stamp);
  if (const auto cpu = block.find("avg-cpu"); cpu != block.end() && cpu->is_object()) {
    for (const auto& [name, value] : cpu->items()) {
      const Column* column = find(kCpu, "%" + name);
      if (column == nullptr || !value.is_number()) continue;
      sink.observe({}, subject("cpu", first), column->quantity, value.get<double>() * column->scale,
                   column->unit, unix_s);
    }
  }
  const auto disks = block.find("disk");
  if (disks == block.end() || !disks->is_array()) return;
  for (const auto& disk : *disks) {
    if (!disk.is_object()) continue;
    const auto name = get<std::string>(disk, "disk_device");
    if (!name) continue;
    for (const auto& [key, value] : disk.items()) {
      const Column* column = find(kColumns, key);
      if (column == nullptr || !value.is_number()) continue;
      sink.observe({}, subject(*name, first), column->quantity, value.get<double>() * column->scale,
                   column->unit, unix_s);
    }
  }
}

}  // namespace

const Form kIostat = {
    "iostat",
    [](const Lines& lines, std::size_t at) {
      const auto text = trim(lines[at].text);
      if (text.size() > 512) return false;
      return is_banner(text) || is_cpu_header(text) ||
             (text.find("Device") != std::string_view::npos && is_device_header(words_of(text)));
    },
    read_iostat};

bool read_iostat_json(const Json& json, Sink& sink) {
  const auto top = json.find("sysstat");
  if (top == json.end() || !top->is_object()) return false;
  const auto hosts = top->find("hosts");
  if (hosts == top->end() || !hosts->is_array()) return false;
  for (const auto& host : *hosts) {
    if (!host.is_object()) continue;
    if (const auto name = get<std::string>(host, "nodename"))
      sink.into().host = clean_text(*name, 100);
    if (const auto kernel = get<std::string>(host, "release")) sink.version("kernel", *kernel);
    const auto blocks = host.find("statistics");
    if (blocks == host.end() || !blocks->is_array()) continue;
    bool first = true;
    for (const auto& block : *blocks) {
      if (block.is_object()) json_block(block, first, sink);
      first = false;
    }
  }
  return true;
}

}  // namespace rigwise::captured
