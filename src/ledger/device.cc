#include "ledger/device.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace rigwise {

namespace {

/// Utilisation of one GPU integrated over the steps.
struct Busy {
  double idle_s = 0, seen_s = 0;
  std::optional<double> last_s = {};
  bool ours = true;
};

void see_utilisation(const Run& run, const Stretch& steps, DeviceSeen& seen) {
  constexpr double kBusy_frac = 0.02;
  constexpr double kLongest_s = 30;  // a longer hole between samples says nothing
  for (const auto& host : hosts_of(run)) {
    std::map<int, Busy> gpus;
    (void)visit_gpu(run, host, {"t_s", "gpu", "util_frac", "tree_processes"},
                    [&](const GpuSample& sample, std::int64_t) {
                      if (!sample.util_frac || !std::isfinite(*sample.util_frac)) return true;
                      if (sample.t_s < steps.from_s || sample.t_s > steps.to_s) return true;
                      Busy& gpu = gpus[sample.gpu];
                      if (sample.tree_processes) gpu.ours = *sample.tree_processes > 0;
                      const double dt_s = gpu.last_s ? sample.t_s - *gpu.last_s : 0;
                      gpu.last_s = sample.t_s;
                      if (dt_s <= 0 || dt_s > kLongest_s) return true;
                      gpu.seen_s += dt_s;
                      gpu.idle_s += dt_s * (1 - std::clamp(*sample.util_frac, 0.0, 1.0));
                      return true;
                    })
        .ok();
    for (const auto& [number, gpu] : gpus) {
      const bool busy = gpu.ours && gpu.seen_s > 0 && gpu.idle_s < (1 - kBusy_frac) * gpu.seen_s;
      if (!busy) continue;
      const bool busier = !seen.worked || gpu.idle_s * seen.seen_s < seen.idle_s * gpu.seen_s;
      seen.worked = true;
      if (busier) seen.idle_s = gpu.idle_s, seen.seen_s = gpu.seen_s;
    }
  }
}

NcclSeen see_nccl(const Run& run, const Stretch& steps) {
  NcclSeen seen;
  const auto rows = read_nccl_seconds(run);
  if (!rows.ok()) return seen;
  const auto sane = [](double value) { return std::isfinite(value) && value >= 0; };
  for (const NcclSeconds& row : rows->rows) {
    const bool inside = row.t_s < steps.to_s && row.t_end_s > steps.from_s;
    if (!inside || !sane(row.observed_s) || row.observed_s <= 0 || !sane(row.communication_s))
      continue;
    seen.observed_s += row.observed_s;
    seen.communication_s += std::min(row.communication_s, row.observed_s);
    if (!row.rank || row.matched <= 0 || row.last < 0 || !sane(row.late_s)) continue;
    const double late_frac = std::min(1.0, row.late_s / row.observed_s);
    if (late_frac <= seen.late_frac) continue;
    seen.last_rank = row.rank;
    seen.late_frac = late_frac;
    seen.last = std::min(row.last, row.matched);
    seen.matched = row.matched;
  }
  return seen;
}

}  // namespace

DeviceSeen see_devices(const Run& run, const Stretch& steps) {
  DeviceSeen seen;
  see_utilisation(run, steps, seen);
  seen.nccl = see_nccl(run, steps);
  const auto windows = read_trace_windows(run);
  if (!windows.ok()) return seen;
  for (const auto& window : windows->rows) {
    const double length_s = window.t_end_s - window.t_s;
    if (window.device != "gpu" || !(length_s > 0) || !std::isfinite(length_s)) continue;
    const auto inside = [&](const std::optional<double>& value) {
      return std::isfinite(value.value_or(0)) ? std::clamp(value.value_or(0), 0.0, length_s) : 0.0;
    };
    seen.worked = true;
    ++seen.windows;
    seen.traced_s += length_s;
    seen.exposed_communication_s += inside(window.exposed_communication_s);
    seen.launch_s += inside(window.launch_s);
    seen.input_s += inside(window.input_s);
    seen.exposed_input_s += inside(window.exposed_input_s);
  }
  return seen;
}

void give_to_device(WorkSplit& split, const DeviceSeen& seen, bool several) {
  // A window is a sample: its shares stray by a fifth between windows of one steady run.
  constexpr double kWindow_sd = 0.2;
  Share& input = split.of(LedgerClass::input);
  Share& compute = split.of(LedgerClass::compute);
  const double host_input_s = input.seconds;
  double exposed_s = std::min(host_input_s, seen.idle_s);
  double exposed_sd = exposed_s / 4;
  if (seen.input_s > 0) {
    exposed_s = host_input_s * seen.exposed_input_s / seen.input_s;
    exposed_sd = kWindow_sd * exposed_s / std::sqrt(static_cast<double>(seen.windows));
  }
  input.seconds = exposed_s;
  input.variance += exposed_sd * exposed_sd;
  compute.seconds += host_input_s - exposed_s;  // the device went on meanwhile
  compute.variance += exposed_sd * exposed_sd;
  if (split.parts.contains(LedgerClass::input) && host_input_s > 0) {
    for (auto& [part, seconds] : split.parts[LedgerClass::input]) {
      seconds *= exposed_s / host_input_s;
    }
  }
  const auto take = [&](LedgerClass cls, double seconds, double sd_s, const char* part) {
    seconds = std::clamp(seconds, 0.0, compute.seconds);
    if (seconds <= 0) return;
    compute.seconds -= seconds;
    split.of(cls).add(seconds, sd_s);
    compute.variance += sd_s * sd_s;
    split.parts[cls][part] += seconds;
  };
  const double steps_s = compute.seconds;
  if (seen.windows > 0 && seen.traced_s > 0) {
    const double root = std::sqrt(static_cast<double>(seen.windows));
    const double waits_s = steps_s * seen.exposed_communication_s / seen.traced_s;
    if (several) {
      take(LedgerClass::sync, waits_s, kWindow_sd * waits_s / root, "exposed, in short traces");
    }
    const double launch_s = steps_s * seen.launch_s / seen.traced_s;
    take(LedgerClass::host, launch_s, kWindow_sd * launch_s / root, "kernels launched too late");
    return;
  }
  // NCCL says how long its kernels ran, not what the device computed meanwhile: all of it may be
  // exposed, or none.
  if (several) {
    const double communication_s = steps_s * seen.nccl.share();
    take(LedgerClass::sync, communication_s / 2, communication_s / 2 / 1.96,
         "in NCCL, some of it beside compute");
    return;
  }
  // Without a trace: what the device idled while nothing else explains it. That the main thread was
  // too slow is then the likeliest reason, and no more than that.
  const double idle_s = seen.idle_s - exposed_s - split.of(LedgerClass::checkpoint).seconds -
                        split.of(LedgerClass::evaluation).seconds;
  take(LedgerClass::host, idle_s, idle_s / 2, "the device idled");
}

}  // namespace rigwise
