// iostat of sysstat 9 to 12 (-x, -z, -t, -h, -k, -m, -s, -y, JSON): rates of every block of time,
// and the shares of CPU time above them; mpstat and sar (-u, -r, -S, -d, -n DEV). iostat's first
// block is the mean since boot and says so in its subject.
//
// Where blocks have instants, rates times the seconds between them are counters again, as a
// recorded run has them: of disks, networks and CPUs, from the first block on.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>

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
                             Column{"%usr", "cpu_user_frac", "1", kPercent},
                             Column{"%sys", "cpu_system_frac", "1", kPercent},
                             Column{"%irq", "cpu_irq_frac", "1", kPercent},
                             Column{"%soft", "cpu_softirq_frac", "1", kPercent},
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

// --------------------------------------------------------------------------------------- counters

/// What one block says of one disk, in our units.
using Rates = std::map<std::string, double, std::less<>>;

/// Rates of intervals → counters.
class DiskCounters {
 public:
  void add(std::string_view device, std::string_view quantity, double value) {
    if (!std::isfinite(value)) return;
    if (block_.size() < 4096 || block_.contains(std::string(device)))
      block_[std::string(device)].insert_or_assign(std::string(quantity), value);
  }

  /// The block ends at `unix_s`; it lasted `seconds`, where that is known: else counters begin.
  void close(std::optional<double> unix_s, std::optional<double> seconds, Sink& sink) {
    for (const auto& [device, rates] : block_) {
      if (!unix_s) break;
      DiskSample& total = totals_[device];
      total.device = device;
      const auto of = [&](std::string_view quantity) -> std::optional<double> {
        const auto found = rates.find(quantity);
        return found == rates.end() ? std::nullopt : std::optional(found->second);
      };
      const auto count = [&](std::optional<double>& into, std::optional<double> per_s) {
        const double more = per_s ? *per_s * seconds.value_or(0) : 0;
        if (per_s && std::isfinite(into.value_or(0) + more)) into = into.value_or(0) + more;
      };
      const auto product = [](std::optional<double> a, std::optional<double> b) {
        return a && b ? std::optional(*a * *b) : std::nullopt;
      };
      count(total.read_bytes, of("read_bytes_per_s"));
      count(total.write_bytes, of("write_bytes_per_s"));
      count(total.reads, of("reads_per_s"));
      count(total.writes, of("writes_per_s"));
      count(total.read_time_s, product(of("reads_per_s"), of("read_wait_s")));
      count(total.write_time_s, product(of("writes_per_s"), of("write_wait_s")));
      count(total.busy_s, of("busy_frac"));
      sink.disk(total, unix_s);
    }
    block_.clear();
  }

 private:
  std::map<std::string, Rates> block_;
  std::map<std::string, DiskSample> totals_;
};

/// Shares of CPU time under names of kCpu.
void cpu_shares(const Line& line, std::string_view subject,
                const std::vector<std::string_view>& names,
                const std::vector<std::string_view>& cells, std::optional<double> unix_s,
                Sink& sink) {
  CapturedHost host;
  double busy = 0;
  bool any = false;
  for (std::size_t i = 0; i < names.size() && i < cells.size(); ++i) {
    const Column* column = find(kCpu, names[i]);
    if (column == nullptr) continue;
    const auto value = figure(cells[i], *column);
    if (!value) continue;
    sink.observe(line, subject, column->quantity, *value, column->unit, unix_s);
    if (column->quantity == "cpu_iowait_frac") {
      host.iowait_frac = value;
    } else if (column->quantity == "cpu_steal_frac") {
      host.steal_frac = value;
    } else if (column->quantity != "cpu_idle_frac") {
      busy += *value;
      any = true;
    }
  }
  if (any) host.busy_frac = busy;
  sink.host(host, unix_s);
}

struct Place {
  std::string date = {};  // of the banner: old versions print "Time: 02:03:22 PM" alone
  std::optional<double> unix_s = {};
  int blocks = 0;  // of devices so far; the first is since boot
  bool in_block = false;
  bool skips_boot = false;                 // -y: no block since boot
  std::optional<double> last_unix_s = {};  // of the block before
  DiskCounters disks = {};

  [[nodiscard]] bool since_boot(int block) const { return !skips_boot && block <= 1; }
  void close_block(Sink& sink) {
    std::optional<double> seconds;
    if (unix_s && last_unix_s && *unix_s > *last_unix_s) seconds = *unix_s - *last_unix_s;
    disks.close(unix_s, seconds, sink);
    if (unix_s) last_unix_s = unix_s;
  }
};

std::string subject(std::string_view name, bool since_boot) {
  return std::string(name) + (since_boot ? " (since boot)" : "");
}

void device_row(const Line& line, const std::vector<std::string_view>& head,
                const std::vector<std::string_view>& words, Place& place, Sink& sink) {
  const bool first = head.front().starts_with("Device");
  const auto name = first ? words.front() : words.back();
  const std::string device = clean_text(name, 200);
  const auto to = subject(device, place.since_boot(place.blocks));
  for (std::size_t i = first ? 1 : 0; i < words.size() - (first ? 0 : 1); ++i) {
    const Column* column = find(kColumns, head[i]);
    if (column == nullptr) continue;
    if (const auto value = figure(words[i], *column)) {
      sink.observe(line, to, column->quantity, *value, column->unit, place.unix_s);
      place.disks.add(device, column->quantity, *value);
    }
  }
  sink.used();
}

void read_iostat(const Section& section, Sink& sink) {
  std::vector<std::string_view> head;
  Place place;
  bool cpu = false;
  int blanks = 0;  // right behind the banner: two with -y
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) {
      if (blanks >= 0 && ++blanks == 2) place.skips_boot = true;
      continue;
    }
    if (!is_banner(text)) blanks = -1;
    const auto words = words_of(text);
    std::size_t length = 0;
    if (is_banner(text)) {
      see_host(text, sink);
      place.close_block(sink);
      blanks = 0;
      const auto words_of_banner = words_of(text.substr(text.find(')') + 1));
      place = {.date = words_of_banner.empty() ? std::string() : std::string(words_of_banner[0])};
      sink.used();
    } else if (text.starts_with("Time: ")) {
      place.close_block(sink);
      place.unix_s = sink.instant(place.date + ' ' + std::string(text.substr(6)));
      place.in_block = false;
      sink.used();
    } else if (const auto stamp = sink.instant(text, &length); stamp && length == text.size()) {
      place.close_block(sink);
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
      cpu_shares(line, subject("cpu", place.since_boot(place.blocks + 1)),
                 {head.begin() + 1, head.end()}, words, place.unix_s, sink);
      cpu = false;
      sink.used();
    } else if (!cpu && !head.empty() && words.size() == head.size()) {
      device_row(line, head, words, place, sink);
    } else {
      sink.bad(line);
    }
  }
  place.close_block(sink);
  if (place.blocks > 0 && !place.unix_s) {
    sink.note("iostat was run without -t: its rates cannot be joined to the run's clock");
  }
}

void json_block(const Json& block, Place& place, Sink& sink) {
  const bool first = place.blocks++ == 0;
  std::optional<double> unix_s;
  if (const auto stamp = get<std::string>(block, "timestamp")) unix_s = sink.instant(*stamp);
  place.unix_s = unix_s;
  if (const auto cpu = block.find("avg-cpu"); cpu != block.end() && cpu->is_object()) {
    std::vector<std::string> names, cells;
    for (const auto& [name, value] : cpu->items()) {
      if (!value.is_number()) continue;
      names.push_back('%' + name);
      cells.push_back(number_text(value.get<double>()));
    }
    cpu_shares({}, subject("cpu", first), {names.begin(), names.end()},
               {cells.begin(), cells.end()}, unix_s, sink);
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
      place.disks.add(clean_text(*name, 200), column->quantity,
                      value.get<double>() * column->scale);
    }
  }
  place.close_block(sink);
}

// --------------------------------------------------------------------------------------- mpstat,
// sar

/// "13:54:57     CPU    %usr …", "01:54:57 PM  IFACE …": how many words the time takes; 0: no such.
std::size_t time_words(const std::vector<std::string_view>& words) {
  if (words.size() < 3 || words[0].size() != 8 || words[0][2] != ':' || words[0][5] != ':' ||
      count_digits(words[0]) != 6)
    return 0;
  return words[1] == "AM" || words[1] == "PM" ? 2 : 1;
}

bool is_sar_header(const std::vector<std::string_view>& words) {
  const auto at = time_words(words);
  if (at == 0 || words.size() < at + 2) return false;
  constexpr std::array<std::string_view, 5> kFirst = {"CPU", "DEV", "IFACE", "kbmemfree",
                                                      "kbswpfree"};
  return std::find(kFirst.begin(), kFirst.end(), words[at]) != kFirst.end();
}

bool is_sar(const Lines& lines, std::size_t at) {
  if (is_sar_header(words_of(trim(lines[at].text.substr(0, 512))))) return true;
  if (!is_banner(trim(lines[at].text.substr(0, 512)))) return false;
  for (std::size_t i = at + 1; i < std::min(lines.size(), at + 4); ++i) {
    const auto text = trim(lines[i].text.substr(0, 512));
    if (!text.empty()) return is_sar_header(words_of(text));
  }
  return false;
}

class SarReader {
 public:
  explicit SarReader(Sink& sink) : sink_(sink) {}

  void line(const Line& line) {
    const auto text = trim(line.text);
    if (text.empty()) return;
    if (is_banner(text)) {
      see_host(text, sink_);
      const auto words = words_of(text.substr(text.find(')') + 1));
      date_ = words.empty() ? std::string() : std::string(words[0]);
      days_ = 0;
      last_unix_s_.reset();
      return sink_.used();
    }
    const auto words = words_of(text);
    if (words[0] == "Average:" || text.find("LINUX RESTART") != std::string_view::npos)
      return sink_.passed();
    const auto at = time_words(words);
    if (at == 0) return sink_.bad(line);
    const auto unix_s = instant(words, at);
    if (is_sar_header(words)) {
      close();
      head_.assign(words.begin() + static_cast<std::ptrdiff_t>(at), words.end());
      begin_unix_s_ = unix_s;  // of the interval
      return sink_.used();
    }
    const std::vector<std::string_view> cells(words.begin() + static_cast<std::ptrdiff_t>(at),
                                              words.end());
    if (head_.empty() || cells.size() != head_.size()) return sink_.bad(line);
    if (unix_s != row_unix_s_) close();  // a sample later, under the same header
    row_unix_s_ = unix_s;
    row(line, cells, unix_s) ? sink_.used() : sink_.passed();
  }

  void close() {
    std::optional<double> seconds;
    if (row_unix_s_ && begin_unix_s_ && *row_unix_s_ > *begin_unix_s_)
      seconds = *row_unix_s_ - *begin_unix_s_;
    disks_.close(row_unix_s_, seconds, sink_);
    for (auto& [name, rates] : nets_now_) {
      if (!row_unix_s_) break;
      NetSample& total = nets_[name];
      total.interface = name;
      const double rx = total.rx_bytes.value_or(0) + rates.first * seconds.value_or(0);
      const double tx = total.tx_bytes.value_or(0) + rates.second * seconds.value_or(0);
      if (!std::isfinite(rx) || !std::isfinite(tx)) continue;
      total.rx_bytes = rx;
      total.tx_bytes = tx;
      sink_.net(total, row_unix_s_);
    }
    nets_now_.clear();
    if (row_unix_s_) begin_unix_s_ = row_unix_s_;
    row_unix_s_.reset();
  }

 private:
  std::optional<double> instant(const std::vector<std::string_view>& words, std::size_t at) {
    if (date_.empty()) return std::nullopt;
    std::string stamp = date_ + ' ' + std::string(words[0]);
    if (at == 2) stamp += ' ' + std::string(words[1]);
    auto unix_s = sink_.instant(stamp);
    if (!unix_s) return std::nullopt;
    *unix_s += days_ * 86400.0;
    if (last_unix_s_ && *unix_s < *last_unix_s_ - 43200) {  // past midnight
      ++days_;
      *unix_s += 86400.0;
    }
    last_unix_s_ = unix_s;
    return unix_s;
  }

  bool row(const Line& line, const std::vector<std::string_view>& cells,
           std::optional<double> unix_s) {
    if (head_[0] == "CPU") {
      if (cells[0] != "all") return false;
      cpu_shares(line, "cpu", head_, cells, unix_s, sink_);
      return true;
    }
    if (head_[0] == "DEV" || head_[0] == "IFACE") return device(line, cells, unix_s);
    bool any = false;
    CapturedHost host;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto number = number_of(cells[i]);
      if (!number) continue;
      const double bytes = *number * kKiB;
      if (head_[i] == "kbavail") host.row.mem_available_bytes = bytes;
      if (head_[i] == "kbswpused") host.row.swap_used_bytes = bytes;
      if (head_[i] == "kbmemused")
        any = sink_.observe(line, "memory", "mem_used_bytes", bytes, "bytes", unix_s) || any;
    }
    if (host.row.mem_available_bytes || host.row.swap_used_bytes)
      any = sink_.host(host, unix_s) || any;
    return any;
  }

  bool device(const Line& line, const std::vector<std::string_view>& cells,
              std::optional<double> unix_s) {
    const std::string name = clean_text(cells[0], 100);
    bool any = false;
    for (std::size_t i = 1; i < cells.size(); ++i) {
      const auto number = number_of(cells[i]);
      if (!number) continue;
      if (head_[0] == "IFACE") {
        if (head_[i] != "rxkB/s" && head_[i] != "txkB/s") continue;
        const bool rx = head_[i] == "rxkB/s";
        if (nets_now_.size() < 4096) {
          auto& rates = nets_now_[name];
          (rx ? rates.first : rates.second) = *number * kKiB;
        }
        any = sink_.observe(line, name, rx ? "rx_bytes_per_s" : "tx_bytes_per_s", *number * kKiB,
                            "bytes/s", unix_s) ||
              any;
      } else if (const Column* column = find(kColumns, head_[i])) {
        any = sink_.observe(line, name, column->quantity, *number * column->scale, column->unit,
                            unix_s) ||
              any;
        disks_.add(name, column->quantity, *number * column->scale);
      }
    }
    return any;
  }

  Sink& sink_;
  std::string date_;
  int days_ = 0;
  std::vector<std::string_view> head_;
  std::optional<double> begin_unix_s_, row_unix_s_, last_unix_s_;
  DiskCounters disks_;
  std::map<std::string, std::pair<double, double>> nets_now_;
  std::map<std::string, NetSample> nets_;
};

void read_sar(const Section& section, Sink& sink) {
  SarReader reader(sink);
  for (const auto& line : section.lines) reader.line(line);
  reader.close();
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

const Form kSar = {"mpstat/sar", is_sar, read_sar};

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
    Place place;
    for (const auto& block : *blocks) {
      if (block.is_object()) json_block(block, place, sink);
    }
  }
  return true;
}

}  // namespace rigwise::captured
