// Readings of tools and trackers on the run's clock → rows of the watch tables.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "record/import_parts.h"

namespace rigwise::importing {

namespace {

/// Seconds since t = 0; nothing for an instant outside the run.
std::optional<double> placed(double unix_s, const Clock& clock) {
  const double t_s = unix_s - *clock.zero_unix_s;
  if (t_s < -1 || (clock.wall_known && t_s > clock.wall_s + 1)) return std::nullopt;
  return std::max(0.0, t_s);
}

/// Counters of CPU seconds out of shares of intervals: what vmstat and psutil divided, multiplied
/// back. The first reading is where they begin.
class CpuCounter {
 public:
  void count(const CapturedHost& reading, double unix_s, std::optional<int> threads,
             HostSample& row) {
    if (!threads || !reading.busy_frac) return;
    const double seconds =
        last_unix_s_ ? std::max(0.0, unix_s - *last_unix_s_) * static_cast<double>(*threads) : 0;
    last_unix_s_ = unix_s;
    busy_s_ += *reading.busy_frac * seconds;
    row.cpu_busy_s = busy_s_;
    if (reading.iowait_frac) row.cpu_iowait_s = iowait_s_ += *reading.iowait_frac * seconds;
    if (reading.steal_frac) row.cpu_steal_s = steal_s_ += *reading.steal_frac * seconds;
  }

 private:
  std::optional<double> last_unix_s_;
  double busy_s_ = 0, iowait_s_ = 0, steal_s_ = 0;
};

template <class T>
void write_rows(std::vector<std::pair<std::string, T>>& rows, RunWriter& writer) {
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.second.t_s < b.second.t_s; });
  for (const auto& [host, row] : rows) writer.append(host, row);
}

}  // namespace

bool Samples::owns(const std::string& what, const Source& source) {
  return owners_.try_emplace(what, &source).first->second == &source;
}

void Samples::take(Source& source, const std::string& host, std::optional<int> threads,
                   const Clock& clock) {
  auto& file = source.file;
  const Captured& from = source.captured;
  std::int64_t outside = 0, timed = 0, doubled = 0;
  const auto put = [&](auto row, std::optional<double> unix_s, auto& into, std::int64_t& count) {
    if (!unix_s || !clock.zero_unix_s) return;
    ++timed;
    const auto t_s = placed(*unix_s, clock);
    if (!t_s) {
      ++outside;
      return;
    }
    row.t_s = *t_s;
    into.emplace_back(host, std::move(row));
    ++count;
  };
  // What lies outside the run claims no device.
  const auto inside = [&](std::optional<double> unix_s) {
    return unix_s && clock.zero_unix_s && placed(*unix_s, clock).has_value();
  };
  for (const auto& [row, unix_s] : from.gpus) put(row, unix_s, gpus_, file.samples);
  if (!from.gpus.empty()) file.times = timed > 0 ? TimesJoined::yes : TimesJoined::no;
  CpuCounter cpu;
  for (const auto& [reading, unix_s] : from.hosts) {
    HostSample row = reading.row;
    if (!inside(unix_s)) {
      if (unix_s) cpu.count(reading, *unix_s, threads, row);
      put(std::move(row), unix_s, hosts_, file.host_samples);
      continue;
    }
    const bool counts = reading.busy_frac && owns(host + "/cpu", source);
    if (counts && unix_s) cpu.count(reading, *unix_s, threads, row);
    if (row.mem_available_bytes && !owns(host + "/memory", source)) row.mem_available_bytes.reset();
    if (row.swap_used_bytes && !owns(host + "/swap", source)) row.swap_used_bytes.reset();
    if (!row.cpu_busy_s && !row.mem_available_bytes && !row.swap_used_bytes) {
      doubled += reading.busy_frac && !counts ? 1 : 0;
      continue;
    }
    put(std::move(row), unix_s, hosts_, file.host_samples);
  }
  for (const auto& [row, unix_s] : from.disks) {
    !inside(unix_s) || owns(host + "/disk/" + row.device, source)
        ? put(row, unix_s, disks_, file.host_samples)
        : void(++doubled);
  }
  for (const auto& [row, unix_s] : from.nets) {
    !inside(unix_s) || owns(host + "/net/" + row.interface, source)
        ? put(row, unix_s, nets_, file.host_samples)
        : void(++doubled);
  }
  if (timed > 0) file.times = TimesJoined::yes;
  if (outside > 0)
    file.notes.push_back(counted(outside, "sample lies outside the run and was",
                                 "samples lie outside the run and were") +
                         " left out");
  if (doubled > 0)
    file.notes.emplace_back(
        "another file counts the same CPUs, disks or networks: these rows were left out");
}

void Samples::write(RunWriter& writer) {
  write_rows(gpus_, writer);
  write_rows(hosts_, writer);
  write_rows(disks_, writer);
  write_rows(nets_, writer);
}

}  // namespace rigwise::importing
