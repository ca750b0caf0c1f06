#include "host/proc_text.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/text.h"

namespace rigwise {

namespace {
constexpr double kSectorBytes = 512;  // always, whatever the device's block size is
constexpr std::size_t kMaxRows = 4096;

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

template <class T>
bool parse_whole(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// "MemTotal:       16316412 kB" → bytes.
std::optional<double> kib_value(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  Fields fields(line.substr(colon + 1));
  double value = 0;
  if (!fields.number(value)) return std::nullopt;
  return value * 1024;
}
}  // namespace

bool Lines::next(std::string_view& line) {
  if (rest_.empty()) return false;
  const auto end = rest_.find('\n');
  line = rest_.substr(0, end);
  rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
  return true;
}

bool Fields::next(std::string_view& field) {
  std::size_t begin = 0;
  while (begin < rest_.size() && is_blank(rest_[begin])) ++begin;
  std::size_t end = begin;
  while (end < rest_.size() && !is_blank(rest_[end]) && rest_[end] != '\n') ++end;
  if (begin == end) return false;
  field = rest_.substr(begin, end - begin);
  rest_.remove_prefix(end);
  return true;
}

bool Fields::number(double& value) {
  std::string_view field;
  return next(field) && parse_whole(field, value);
}

bool Fields::skip(int count) {
  std::string_view field;
  for (int i = 0; i < count; ++i) {
    if (!next(field)) return false;
  }
  return true;
}

std::optional<CpuTimes> parse_cpu_times(std::string_view text, double ticks_per_s) {
  std::string_view line;
  Lines lines(text);
  if (!lines.next(line) || !line.starts_with("cpu ") || ticks_per_s <= 0) return std::nullopt;
  Fields fields(line.substr(4));
  std::array<double, 8> ticks = {};  // user nice system idle iowait irq softirq steal
  for (auto& value : ticks) {
    if (!fields.number(value)) return std::nullopt;
  }
  CpuTimes times;
  times.process_s = (ticks[0] + ticks[1] + ticks[2]) / ticks_per_s;
  times.busy_s = times.process_s + (ticks[5] + ticks[6]) / ticks_per_s;
  times.iowait_s = ticks[4] / ticks_per_s;
  times.steal_s = ticks[7] / ticks_per_s;
  return times;
}

MemoryInfo parse_meminfo(std::string_view text) {
  MemoryInfo info;
  Lines lines(text);
  std::string_view line;
  const auto take = [&](std::string_view key, std::optional<double>& into) {
    if (line.starts_with(key)) into = kib_value(line);
  };
  while (lines.next(line)) {
    if (line.empty()) continue;
    switch (line.front()) {
      case 'M':
        take("MemTotal:", info.total_bytes);
        take("MemAvailable:", info.available_bytes);
        break;
      case 'S':
        take("SwapTotal:", info.swap_total_bytes);
        take("SwapFree:", info.swap_free_bytes);
        break;
      case 'D':
        take("Dirty:", info.dirty_bytes);
        break;
      case 'W':
        take("Writeback:", info.writeback_bytes);
        return info;  // nothing that we want comes after it
      default:
        break;
    }
  }
  return info;
}

LoadAverage parse_loadavg(std::string_view text) {
  LoadAverage out;
  Fields fields(text);
  double value = 0;
  if (!fields.number(value)) return out;
  out.load1 = value;
  std::string_view last;
  std::int64_t pid = 0;
  if (fields.skip(3) && fields.next(last) && parse_whole(last, pid)) out.last_pid = pid;
  return out;
}

Pressure parse_pressure(std::string_view text) {
  Pressure out;
  Lines lines(text);
  std::string_view line;
  while (lines.next(line)) {
    const auto at = line.find("total=");
    double microseconds = 0;
    if (at == std::string_view::npos || !parse_whole(line.substr(at + 6), microseconds)) continue;
    if (line.starts_with("some ")) out.some_s = microseconds * 1e-6;
    if (line.starts_with("full ")) out.full_s = microseconds * 1e-6;
  }
  return out;
}

void parse_diskstats(std::string_view text, std::vector<DiskCounters>& into) {
  into.clear();
  Lines lines(text);
  std::string_view line;
  while (lines.next(line) && into.size() < kMaxRows) {
    Fields fields(line);
    DiskCounters disk;
    std::array<double, 10> value = {};
    if (!fields.skip(2) || !fields.next(disk.name)) continue;
    bool whole = true;
    for (auto& number : value) whole = whole && fields.number(number);
    if (!whole) continue;
    disk.reads = value[0];
    disk.read_bytes = value[2] * kSectorBytes;
    disk.read_time_s = value[3] * 1e-3;
    disk.writes = value[4];
    disk.write_bytes = value[6] * kSectorBytes;
    disk.write_time_s = value[7] * 1e-3;
    disk.in_flight = value[8];
    disk.busy_s = value[9] * 1e-3;
    into.push_back(disk);
  }
}

void parse_net_dev(std::string_view text, std::vector<NetCounters>& into) {
  into.clear();
  Lines lines(text);
  std::string_view line;
  while (lines.next(line) && into.size() < kMaxRows) {
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    NetCounters net;
    net.name = trim(line.substr(0, colon));
    Fields fields(line.substr(colon + 1));
    std::array<double, 12> value = {};
    bool whole = !net.name.empty();
    for (auto& number : value) whole = whole && fields.number(number);
    if (!whole) continue;
    net.rx_bytes = value[0];
    net.rx_errors = value[2];
    net.rx_drops = value[3];
    net.tx_bytes = value[8];
    net.tx_errors = value[10];
    net.tx_drops = value[11];
    into.push_back(net);
  }
}

std::optional<PidStat> parse_pid_stat(std::string_view text, double ticks_per_s) {
  const auto open = text.find('(');
  const auto close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open ||
      ticks_per_s <= 0)
    return std::nullopt;
  PidStat stat;
  if (!parse_whole(trim(text.substr(0, open)), stat.pid)) return std::nullopt;
  stat.comm = text.substr(open + 1, close - open - 1);
  Fields fields(text.substr(close + 1));
  std::string_view field;
  if (!fields.next(field) || field.size() != 1) return std::nullopt;
  stat.state = field.front();
  // Field numbers as in the manual page, where `state` is 3.
  std::array<std::string_view, 29> at = {};
  for (std::size_t i = 4; i < at.size(); ++i) {
    if (!fields.next(at[i])) {
      if (i <= 24) return std::nullopt;
      break;
    }
  }
  double user = 0, system = 0, children_user = 0, children_system = 0;
  if (!parse_whole(at[4], stat.ppid) || !parse_whole(at[6], stat.session) ||
      !parse_whole(at[14], user) || !parse_whole(at[15], system) ||
      !parse_whole(at[16], children_user) || !parse_whole(at[17], children_system) ||
      !parse_whole(at[20], stat.threads) || !parse_whole(at[22], stat.start_ticks) ||
      !parse_whole(at[24], stat.rss_pages))
    return std::nullopt;
  stat.cpu_s = (user + system) / ticks_per_s;
  stat.children_cpu_s = (children_user + children_system) / ticks_per_s;
  std::uint64_t code = 0, stack = 0;
  if (parse_whole(at[26], code) && parse_whole(at[28], stack)) stat.exec_mark = code * 31 + stack;
  return stat;
}

std::optional<SchedStat> parse_schedstat(std::string_view text) {
  Fields fields(text);
  double run_ns = 0, delay_ns = 0;
  if (!fields.number(run_ns) || !fields.number(delay_ns)) return std::nullopt;
  return SchedStat{run_ns * 1e-9, delay_ns * 1e-9};
}

PidIo parse_pid_io(std::string_view text) {
  PidIo out;
  Lines lines(text);
  std::string_view line;
  const auto take = [&](std::string_view key, std::optional<double>& into) {
    double value = 0;
    if (line.starts_with(key) && parse_whole(trim(line.substr(key.size())), value)) into = value;
  };
  while (lines.next(line)) {
    take("read_bytes:", out.read_bytes);
    take("write_bytes:", out.write_bytes);
    take("wchar:", out.written_bytes);
  }
  return out;
}

std::vector<int> parse_ns_pids(std::string_view status_text) {
  std::vector<int> pids;
  Lines lines(status_text);
  std::string_view line;
  while (lines.next(line)) {
    if (!line.starts_with("NSpid:")) continue;
    Fields fields(line.substr(6));
    std::string_view field;
    int pid = 0;
    while (fields.next(field) && parse_whole(field, pid) && pids.size() < 32) pids.push_back(pid);
    break;
  }
  return pids;
}

std::vector<std::string> parse_nul_list(std::string_view text, std::size_t max_items) {
  std::vector<std::string> items;
  while (!text.empty() && items.size() < max_items) {
    const auto end = text.find('\0');
    items.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return items;
}

namespace {
/// mountinfo writes blank, tab, newline and backslash as three octal digits.
std::string undo_octal(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      const auto digit = [&](std::size_t k) { return text[i + k] - '0'; };
      if (digit(1) >= 0 && digit(1) < 4 && digit(2) >= 0 && digit(2) < 8 && digit(3) >= 0 &&
          digit(3) < 8) {
        out += static_cast<char>(digit(1) * 64 + digit(2) * 8 + digit(3));
        i += 3;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}
}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> mounts;
  Lines lines(text);
  std::string_view line;
  while (lines.next(line) && mounts.size() < 16384) {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
    Fields fields(line);
    std::string_view point, field, type, device;
    if (!fields.skip(4) || !fields.next(point)) continue;
    bool separator = false;
    while (!separator && fields.next(field)) separator = field == "-";
    if (!separator || !fields.next(type)) continue;
    fields.next(device);
    mounts.push_back({undo_octal(point), std::string(type), undo_octal(device)});
  }
  return mounts;
}

const MountEntry* mount_of(const std::vector<MountEntry>& mounts, std::string_view path) {
  const MountEntry* best = nullptr;
  for (const auto& mount : mounts) {
    const std::string_view point = mount.path;
    const bool holds =
        point == "/" || path == point ||
        (path.starts_with(point) && path.size() > point.size() && path[point.size()] == '/');
    if (holds && (best == nullptr || point.size() >= best->path.size())) best = &mount;
  }
  return best;
}

bool is_network_fs(std::string_view fs_type) {
  static constexpr std::array<std::string_view, 22> kNetwork = {
      "nfs",          "nfs4",       "cifs",          "smb3",         "smbfs",     "9p",
      "ceph",         "lustre",     "gpfs",          "afs",          "beegfs",    "glusterfs",
      "fuse.sshfs",   "fuse.s3fs",  "fuse.rclone",   "fuse.gcsfuse", "fuse.ceph", "fuse.glusterfs",
      "fuse.juicefs", "fuse.davfs", "fuse.mount-s3", "virtiofs"};
  return std::find(kNetwork.begin(), kNetwork.end(), fs_type) != kNetwork.end();
}

std::optional<int> count_cpu_list(std::string_view text) {
  text = trim(text);
  if (text.empty()) return std::nullopt;
  int count = 0;
  for (const auto part : split(text, ',')) {
    const auto dash = part.find('-');
    int first = 0, last = 0;
    if (!parse_whole(trim(part.substr(0, dash)), first)) return std::nullopt;
    last = first;
    if (dash != std::string_view::npos && !parse_whole(trim(part.substr(dash + 1)), last))
      return std::nullopt;
    if (first < 0 || last < first || last > 1 << 20) return std::nullopt;
    count += last - first + 1;
  }
  return count;
}

}  // namespace rigwise
