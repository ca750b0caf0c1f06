// What trackers measured of the machine → readings like those of tools: MLflow's system/… metrics,
// W&B's stats. Units as the trackers' own code has them: MLflow's megabytes are 10^6 bytes, W&B's
// MB and GB are powers of 1024.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "record/import_parts.h"

namespace rigwise::importing {

namespace {

constexpr double kPercent = 0.01, kMega = 1e6, kMiB = 1024.0 * 1024.0, kGiB = kMiB * 1024.0;
constexpr int kMostGpus = 64;
using S = GpuSample;

struct GpuName {
  std::string_view name;
  std::optional<double> GpuSample::*member;
  double scale;
};
/// Behind "system/gpu_0_" of MLflow.
constexpr std::array kMlflowGpu = {GpuName{"utilization_percentage", &S::util_frac, kPercent},
                                   GpuName{"memory_usage_megabytes", &S::used_bytes, kMega},
                                   GpuName{"power_usage_watts", &S::power_w, 1}};
/// Behind "gpu.0." of W&B. `memory` is how busy the memory is, not how full.
constexpr std::array kWandbGpu = {GpuName{"gpu", &S::util_frac, kPercent},
                                  GpuName{"memory", &S::mem_util_frac, kPercent},
                                  GpuName{"memoryAllocatedBytes", &S::used_bytes, 1},
                                  GpuName{"temp", &S::temp_c, 1},
                                  GpuName{"powerWatts", &S::power_w, 1},
                                  GpuName{"enforcedPowerLimitWatts", &S::power_limit_w, 1},
                                  GpuName{"smClock", &S::sm_clock_mhz, 1},
                                  GpuName{"memoryClock", &S::mem_clock_mhz, 1},
                                  GpuName{"fanSpeed", &S::fan_frac, kPercent},
                                  GpuName{"pcieLinkGen", &S::pcie_gen, 1},
                                  GpuName{"pcieLinkWidth", &S::pcie_width, 1}};

/// The readings of one instant, put together from names.
class Moment {
 public:
  Moment(double unix_s, Captured& into) : unix_s_(unix_s), into_(into) {}

  /// False for a name that has no place.
  bool take(std::string_view name, double value) {
    if (name.starts_with("system/")) return mlflow(name.substr(7), value);
    if (name.starts_with("gpu.")) return gpu(name.substr(4), '.', kWandbGpu, value);
    return wandb(name, value);
  }

  void finish() {
    for (auto& sample : gpus_) into_.gpus.push_back({sample, unix_s_});
    for (auto& disk : disks_) into_.disks.push_back({std::move(disk), unix_s_});
    if (net_.rx_bytes || net_.tx_bytes) into_.nets.push_back({net_, unix_s_});
    if (cores_ > 0) {
      host_.busy_frac = cores_busy_ / cores_;
      if (!into_.rig.threads) into_.rig.threads = cores_;
    }
    const HostSample& row = host_.row;
    if (host_.busy_frac || row.mem_available_bytes) into_.hosts.push_back({host_, unix_s_});
  }

 private:
  template <std::size_t N>
  bool gpu(std::string_view rest, char behind, const std::array<GpuName, N>& names, double value) {
    const auto end = rest.find(behind);
    const auto number = to_integer(rest.substr(0, end));
    if (end == std::string_view::npos || !number || *number < 0 || *number >= kMostGpus)
      return false;
    const auto found = std::find_if(names.begin(), names.end(), [&](const GpuName& known) {
      return known.name == rest.substr(end + 1);
    });
    if (found == names.end()) return false;
    const int index = static_cast<int>(*number);
    auto sample = std::find_if(gpus_.begin(), gpus_.end(),
                               [&](const GpuSample& known) { return known.gpu == index; });
    if (sample == gpus_.end()) sample = gpus_.insert(gpus_.end(), {.gpu = index});
    (*sample).*found->member = value * found->scale;
    return true;
  }

  bool mlflow(std::string_view name, double value) {
    if (name.starts_with("gpu_")) return gpu(name.substr(4), '_', kMlflowGpu, value);
    if (name == "cpu_utilization_percentage") {
      host_.busy_frac = value * kPercent;
      return observe("cpu", "cpu_busy_frac", value * kPercent, "1");
    }
    if (name == "system_memory_usage_megabytes")
      return observe("memory", "mem_used_bytes", value * kMega, "bytes");
    if (name == "disk_available_megabytes") {
      disk("/").fs_free_bytes = value * kMega;
      return true;
    }
    if (name == "network_receive_megabytes") {
      net_.rx_bytes = value * kMega;
      return true;
    }
    if (name == "network_transmit_megabytes") {
      net_.tx_bytes = value * kMega;
      return true;
    }
    return false;
  }

  bool wandb(std::string_view name, double value) {
    if (name.starts_with("cpu.") && name.ends_with(".cpu_percent")) {
      cores_busy_ += value * kPercent;
      ++cores_;
      return true;
    }
    if (name == "cpu")  // of the training process, as a share of all cores
      return observe("training process", "cpu_frac", value * kPercent, "1");
    if (name == "proc.memory.rssMB")
      return observe("training process", "rss_bytes", value * kMiB, "bytes");
    if (name == "memory_percent" || name == "memory")
      return observe("memory", "mem_used_frac", value * kPercent, "1");
    if (name == "proc.memory.availableMB") {
      host_.row.mem_available_bytes = value * kMiB;
      return true;
    }
    if (name == "network.recv" || name == "network.sent") {
      (name.ends_with("recv") ? net_.rx_bytes : net_.tx_bytes) = value;
      return true;
    }
    if (!name.starts_with("disk.")) return false;
    const auto last = name.rfind('.');
    const auto device = last > 5 ? name.substr(5, last - 5) : std::string_view();
    const auto what = name.substr(last + 1);
    if (device.empty()) return false;
    if (what == "in" || what == "out") {
      (what == "in" ? disk(device).read_bytes : disk(device).write_bytes) = value * kMiB;
      return true;
    }
    if (what == "usageGB") return observe(device, "fs_used_bytes", value * kGiB, "bytes");
    return false;
  }

  DiskSample& disk(std::string_view device) {
    const std::string name = clean_text(device, 200);
    for (auto& known : disks_) {
      if (known.device == name) return known;
    }
    disks_.push_back({.device = name});
    return disks_.back();
  }

  bool observe(std::string_view subject, std::string_view quantity, double value,
               std::string_view unit) {
    into_.observations.push_back({{.subject = clean_text(subject, 200),
                                   .quantity = std::string(quantity),
                                   .value = value,
                                   .unit = std::string(unit)},
                                  unix_s_});
    return true;
  }

  double unix_s_;
  Captured& into_;
  std::vector<GpuSample> gpus_;
  std::vector<DiskSample> disks_;
  NetSample net_ = {.interface = "all"};
  CapturedHost host_;
  double cores_busy_ = 0;
  int cores_ = 0;
};

}  // namespace

void take_system(const MetricStore& store, Source& source) {
  constexpr std::size_t kMostRows = 1'000'000;
  Captured& into = source.captured;
  std::size_t rows = 0;
  bool any_gpu = false;
  for (const auto& reading : store.system) {
    rows += reading.values.size();
    if (rows > kMostRows) {
      into.notes.emplace_back(
          "more than 1,000,000 figures of the machine: the rest was passed over");
      break;
    }
    Moment moment(reading.unix_s, into);
    for (const auto& [name, value] : reading.values) moment.take(name, value);
    moment.finish();
    any_gpu = any_gpu || !into.gpus.empty();
  }
  if (!any_gpu) return;
  for (const auto& sample : into.gpus) {
    auto& known = into.rig.gpus;
    if (std::none_of(known.begin(), known.end(),
                     [&](const GpuDevice& d) { return d.gpu == sample.row.gpu; }))
      known.push_back({.gpu = sample.row.gpu});
  }
}

}  // namespace rigwise::importing
