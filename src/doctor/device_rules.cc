// The rung "devices": is every card on the bus also one that a program can use, and is it well?
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/text.h"
#include "doctor/rules.h"
#include "host/gpu_sources.h"
#include "rigwise/units.h"

namespace rigwise::doctor {

namespace {

using Names = Judge::Names;

Names names_of(const PciGpu& gpu) {
  return {{"bdf", gpu.address}};
}
Names names_of(const DriverGpu& gpu) {
  return {{"gpu", std::to_string(gpu.device.gpu)}, {"bdf", gpu.device.pci_address}};
}

bool own_driver(const PciGpu& gpu) {
  return gpu.driver == "nvidia" || gpu.driver == "amdgpu" || gpu.driver == "xe" ||
         gpu.driver == "i915";
}

/// Passes once where no card failed; fails once a card that does.
template <class List, class Bad, class Words>
void each(Judge& judge, std::string_view code, const List& list, Bad bad, Words words,
          const std::string& passed) {
  bool good = true;
  for (const auto& item : list) {
    if (!bad(item)) continue;
    good = false;
    words(item);
  }
  if (good) judge.pass(code, passed);
}

void judge_binding(const DeviceFacts& devices, Judge& judge) {
  const auto fail = [&](std::string_view code, const char* says) {
    return [&judge, code, says](const PciGpu& gpu) {
      judge.fail(code, card_words(gpu) + " " + says + ".",
                 shown("/sys/bus/pci/devices/" + gpu.address,
                       gpu.driver.empty() ? "no driver link" : "driver " + gpu.driver),
                 names_of(gpu));
    };
  };
  each(
      judge, "gpu-off-bus", devices.pci, [](const PciGpu& gpu) { return !gpu.answers; },
      [&](const PciGpu& gpu) {
        judge.fail("gpu-off-bus", card_words(gpu) + " does not answer on the bus.",
                   shown("/sys/bus/pci/devices/" + gpu.address + "/config", "all ones"),
                   names_of(gpu));
      },
      "every card answers on the bus");
  each(
      judge, "driver-not-bound", devices.pci,
      [](const PciGpu& gpu) { return gpu.answers && gpu.driver.empty(); },
      fail("driver-not-bound", "has no driver"), "every card has a driver");
  each(
      judge, "nouveau-bound", devices.pci,
      [](const PciGpu& gpu) { return gpu.driver == "nouveau"; },
      fail("nouveau-bound", "is held by nouveau, which runs no CUDA"), "no card is nouveau's");
  each(
      judge, "passed-through", devices.pci,
      [](const PciGpu& gpu) { return gpu.driver == "vfio-pci" || gpu.driver == "pci-stub"; },
      fail("passed-through", "is set aside for a virtual machine"),
      "no card is set aside for a virtual machine");
}

bool lacks_library(const DeviceFacts& devices) {
  return std::any_of(
      devices.why_no_driver.begin(), devices.why_no_driver.end(),
      [](const std::string& why) { return why.find("no libnvidia-ml") != std::string::npos; });
}

bool says(const Strings& texts, std::string_view word) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& text) { return text.find(word) != std::string::npos; });
}

void judge_nvidia_driver(const DeviceFacts& devices, Judge& judge) {
  const bool nvidia = std::any_of(devices.pci.begin(), devices.pci.end(),
                                  [](const PciGpu& gpu) { return gpu.driver == "nvidia"; });
  if (!nvidia) {
    judge.skip("driver-library-missing", "no card is NVIDIA's driver's");
    judge.skip("driver-versions-differ", "no card is NVIDIA's driver's");
    return;
  }
  if (lacks_library(devices)) {
    judge.fail("driver-library-missing",
               "The NVIDIA module is loaded and its library libnvidia-ml.so.1 is not found.",
               {{.what = join(devices.why_no_driver, "; ")}});
  } else {
    judge.pass("driver-library-missing", "libnvidia-ml.so.1 is there");
  }
  const auto& module = devices.nvidia_module;
  const auto& libraries = devices.nvidia_libraries;
  const bool differ_on_disk =
      module && !libraries.empty() &&
      std::find(libraries.begin(), libraries.end(), *module) == libraries.end();
  if (differ_on_disk || says(devices.why_no_driver, "driver and library versions differ")) {
    judge.fail("driver-versions-differ",
               fmt::format("The loaded NVIDIA module is {}, the library on disk {}.",
                           module.value_or("of another version"),
                           libraries.empty() ? "is of another" : "is " + join(libraries, ", ")),
               shown("/sys/module/nvidia/version", join(devices.why_no_driver, "; ")));
  } else if (!module || libraries.empty()) {
    judge.not_judged("driver-versions-differ", module ? "no libnvidia-ml.so.VERSION was found"
                                                      : "the module does not say its version");
  } else {
    judge.pass("driver-versions-differ", "module and library " + *module);
  }
}

void judge_answers(const DeviceFacts& devices, Judge& judge) {
  if (devices.driver_hung) {
    judge.fail("driver-hung", "The GPU driver does not answer.",
               {{.what = join(devices.problems, "; ")}});
    for (const char* code : {"gpu-count-differs", "gpu-lost"})
      judge.not_judged(code, "the driver does not answer");
    return;
  }
  judge.pass("driver-hung",
             fmt::format("answered in {}", format_duration(devices.driver_answer_s)));
  std::map<std::string, std::set<std::string>> bound, listed;
  for (const auto& gpu : devices.pci) {
    if (gpu.driver == "nvidia") bound["nvidia"].insert(gpu.address);
  }
  for (const auto& gpu : devices.driver) {
    if (gpu.device.vendor == "nvidia") listed["nvidia"].insert(gpu.device.pci_address);
  }
  const auto& on_bus = bound["nvidia"];
  const auto& known = listed["nvidia"];
  const bool none_asked = known.empty() && !devices.why_no_driver.empty();
  if (on_bus.empty()) {
    judge.skip("gpu-count-differs", "no card is NVIDIA's driver's");
  } else if (none_asked) {
    judge.not_judged("gpu-count-differs", join(devices.why_no_driver, "; "));
  } else if (known.size() < on_bus.size()) {
    std::string missing;
    for (const auto& address : on_bus) {
      if (!known.contains(address)) missing += (missing.empty() ? "" : ", ") + address;
    }
    judge.fail("gpu-count-differs",
               fmt::format("{} NVIDIA {} on the bus, {} known to the driver.",
                           counted(static_cast<std::int64_t>(on_bus.size()), "card", "cards"),
                           on_bus.size() == 1 ? "is" : "are", known.size()),
               {{.what = "not known to the driver: " + missing}});
  } else {
    judge.pass("gpu-count-differs",
               counted(static_cast<std::int64_t>(known.size()), "card", "cards") +
                   " on the bus and known to the driver");
  }
  std::vector<Evidence> lost;
  for (const auto& problem : devices.problems) {
    if (problem.find("lost") != std::string::npos || problem.find("reset") != std::string::npos)
      lost.push_back({.what = problem});
  }
  if (lost.empty()) {
    judge.pass("gpu-lost", "no GPU is lost");
  } else {
    const std::string what = lost.front().what;
    judge.fail("gpu-lost", "The driver lost a GPU: " + what + ".", std::move(lost));
  }
}

void judge_nodes(const DeviceFacts& devices, Judge& judge) {
  if (devices.nodes_missing.empty()) {
    judge.pass("device-nodes-missing", "the device files are there");
  } else {
    judge.fail("device-nodes-missing",
               "Device files are missing: " + join(devices.nodes_missing, ", ") + ".",
               shown("/dev", join(devices.nodes_missing, ", ")));
  }
  if (devices.nodes_denied.empty()) {
    judge.pass("device-nodes-denied", "the device files may be opened");
  } else {
    judge.fail("device-nodes-denied",
               "This user may not open " + join(devices.nodes_denied, ", ") + ".",
               shown("/dev", "no read and write: " + join(devices.nodes_denied, ", ")));
  }
}

void judge_variables(const DoctorFacts& facts, Judge& judge) {
  const auto& variables = facts.host.variables;
  const auto found = variables.find("CUDA_VISIBLE_DEVICES");
  const std::size_t count = facts.devices.driver.size();
  if (found == variables.end()) {
    judge.pass("visible-devices-bad", "CUDA_VISIBLE_DEVICES is not set");
  } else if (count == 0) {
    judge.not_judged("visible-devices-bad", "the drivers list no GPU");
  } else {
    std::string bad;
    const auto names = split(found->second, ',');
    for (const auto& word : names) {
      const std::string name(trim(word));
      const auto index = to_integer(name);
      const bool known_uuid =
          std::any_of(facts.devices.driver.begin(), facts.devices.driver.end(),
                      [&](const DriverGpu& gpu) { return gpu.device.uuid.starts_with(name); });
      if (name.empty() || (index && (*index < 0 || *index >= static_cast<std::int64_t>(count))) ||
          (!index && !name.starts_with("MIG-") && !known_uuid))
        bad += (bad.empty() ? "'" : ", '") + name + "'";
    }
    if (bad.empty())
      judge.pass("visible-devices-bad", "CUDA_VISIBLE_DEVICES=" + found->second);
    else
      judge.fail("visible-devices-bad",
                 fmt::format("CUDA_VISIBLE_DEVICES names {}, and there {} {}.", bad,
                             count == 1 ? "is" : "are",
                             counted(static_cast<std::int64_t>(count), "GPU", "GPUs")),
                 {{.what = "CUDA_VISIBLE_DEVICES=" + found->second}});
  }
  std::set<std::string> models;
  for (const auto& gpu : facts.devices.driver) models.insert(gpu.device.name);
  const std::string list = join(std::vector<std::string>(models.begin(), models.end()), ", ");
  if (models.size() < 2) {
    judge.pass("models-differ", count == 0 ? "no GPU" : "one model");
    judge.pass("device-order-unset", "the order is the same either way");
    return;
  }
  judge.fail("models-differ", "The GPUs are of several models: " + list + ".", {{.what = list}});
  const auto order = variables.find("CUDA_DEVICE_ORDER");
  if (order != variables.end() && order->second == "PCI_BUS_ID")
    judge.pass("device-order-unset", "CUDA_DEVICE_ORDER=PCI_BUS_ID");
  else
    judge.fail("device-order-unset", "CUDA and nvidia-smi may number the GPUs differently here.",
               {{.what = "models: " + list + "; CUDA_DEVICE_ORDER is not PCI_BUS_ID"}});
}

// ---- state ------------------------------------------------------------------------------------

bool hardware_xid(int xid) {
  static constexpr int kHardware[] = {48, 61, 62, 63, 64, 74, 79, 92, 94, 95, 119, 120, 140};
  return std::find(std::begin(kHardware), std::end(kHardware), xid) != std::end(kHardware);
}

void judge_xids(const DeviceFacts& devices, Judge& judge) {
  for (const bool hardware : {true, false}) {
    const std::string_view code = hardware ? "xid-hardware" : "xid-software";
    if (!devices.kernel_log_readable) {
      judge.not_judged(code, devices.kernel_log_from + ": sudo dmesg | grep Xid");
      continue;
    }
    std::map<int, int> counts;
    std::vector<Evidence> lines;
    for (const auto& line : devices.xids) {
      if (hardware_xid(line.xid) != hardware) continue;
      ++counts[line.xid];
      if (lines.size() < 3) lines.push_back({.file = devices.kernel_log_from, .what = line.text});
    }
    if (counts.empty()) {
      judge.pass(code, "none in " + devices.kernel_log_from);
      continue;
    }
    std::string words;
    for (const auto& [xid, count] : counts)
      words +=
          fmt::format("{}{} ({})", words.empty() ? "" : ", ", xid, counted(count, "time", "times"));
    judge.fail(code,
               fmt::format("The kernel logged Xid {} since boot: {}.", words,
                           hardware ? "hardware or link" : "most often a program's fault"),
               std::move(lines));
  }
}

void judge_errors(const DeviceFacts& devices, Judge& judge) {
  constexpr double kCorrected = 100;
  bool known = false;
  each(
      judge, "pcie-errors", devices.pci,
      [&](const PciGpu& gpu) {
        known = known || gpu.aer_corrected || gpu.aer_uncorrected;
        return gpu.aer_corrected.value_or(0) >= kCorrected || gpu.aer_uncorrected.value_or(0) > 0;
      },
      [&](const PciGpu& gpu) {
        judge.fail("pcie-errors",
                   fmt::format("{} counted {:.0f} corrected and {:.0f} uncorrected link errors.",
                               card_words(gpu), gpu.aer_corrected.value_or(0),
                               gpu.aer_uncorrected.value_or(0)),
                   shown("/sys/bus/pci/devices/" + gpu.address + "/aer_dev_correctable",
                         "totals since boot"),
                   names_of(gpu));
      },
      known ? "no link errors counted" : "no counter, or none that moved");
}

void judge_use(const DeviceFacts& devices, Judge& judge) {
  bool told = true;
  for (const auto& gpu : devices.driver) told = told && gpu.sample.other_processes.has_value();
  const auto busy = [](const DriverGpu& gpu) { return gpu.sample.other_processes.value_or(0) > 0; };
  if (!told) {
    judge.not_judged("gpu-in-use", "the driver lists no processes here (another pid namespace)");
  } else {
    each(
        judge, "gpu-in-use", devices.driver, busy,
        [&](const DriverGpu& gpu) {
          judge.fail("gpu-in-use",
                     gpu_words(gpu) + " is in use by " +
                         counted(static_cast<std::int64_t>(*gpu.sample.other_processes), "process",
                                 "processes") +
                         (gpu.sample.used_bytes
                              ? ", " + format_bytes_binary(*gpu.sample.used_bytes) + " taken."
                              : "."),
                     {{.what = "compute processes of the driver's list"}}, names_of(gpu));
        },
        "no process computes on a GPU");
  }
  each(
      judge, "gpu-memory-held", devices.driver,
      [&](const DriverGpu& gpu) {
        return gpu.sample.other_processes && *gpu.sample.other_processes == 0 &&
               gpu.sample.used_bytes && gpu.device.total_bytes &&
               *gpu.sample.used_bytes > 0.1 * *gpu.device.total_bytes;
      },
      [&](const DriverGpu& gpu) {
        judge.fail("gpu-memory-held",
                   fmt::format("{} of {} is taken and no process is listed.",
                               format_bytes_binary(*gpu.sample.used_bytes), gpu_words(gpu)),
                   {{.what = "memory used against the list of processes"}}, names_of(gpu));
      },
      "no memory is held without a process");
  if (devices.leased.empty()) {
    judge.pass("gpu-leased", "no lease is held");
  } else {
    judge.fail("gpu-leased", "Leased to somebody: " + join(devices.leased, ", ") + ".",
               shown("/run/rigwise", join(devices.leased, ", ")));
  }
}

void judge_power(const DeviceFacts& devices, Judge& judge) {
  std::map<std::string, std::pair<double, double>> limits;  // by model: lowest, highest
  for (const auto& gpu : devices.driver) {
    if (!gpu.device.power_limit_w) continue;
    const double limit = *gpu.device.power_limit_w;
    auto [at, fresh] = limits.try_emplace(gpu.device.name, limit, limit);
    if (!fresh)
      at->second = {std::min(at->second.first, limit), std::max(at->second.second, limit)};
  }
  each(
      judge, "power-limits-differ", limits,
      [](const auto& model) { return model.second.first < 0.95 * model.second.second; },
      [&](const auto& model) {
        judge.fail("power-limits-differ",
                   fmt::format("{}: power limits from {:.0f} to {:.0f} W.", model.first,
                               model.second.first, model.second.second),
                   {{.what = "enforced power limits"}});
      },
      limits.empty() ? "no power limit is told" : "equal among cards of one model");
  each(
      judge, "power-limit-low", devices.driver,
      [](const DriverGpu& gpu) {
        return gpu.device.power_limit_w && gpu.device.power_limit_max_w &&
               *gpu.device.power_limit_w < 0.7 * *gpu.device.power_limit_max_w;
      },
      [&](const DriverGpu& gpu) {
        judge.fail(
            "power-limit-low",
            fmt::format("{} may draw {:.0f} W of the {:.0f} W that its board allows.",
                        gpu_words(gpu), *gpu.device.power_limit_w, *gpu.device.power_limit_max_w),
            {{.what = "enforced limit against the board's most"}}, names_of(gpu));
      },
      "none below 70 % of the board's most");
}

void judge_heat(const DeviceFacts& devices, Judge& judge) {
  constexpr double kMargin_c = 10, kFan_c = 70;
  constexpr unsigned kHardware = 0x08;
  constexpr unsigned kHeld = kHardware | kReasonSwThermal | kReasonHwThermal | kReasonBrake;
  each(
      judge, "gpu-hot", devices.driver,
      [&](const DriverGpu& gpu) {
        return gpu.sample.temp_c && gpu.device.slowdown_c &&
               *gpu.sample.temp_c >= *gpu.device.slowdown_c - kMargin_c;
      },
      [&](const DriverGpu& gpu) {
        judge.fail("gpu-hot",
                   fmt::format("{} is at {:.0f} °C; its clocks drop at {:.0f} °C.", gpu_words(gpu),
                               *gpu.sample.temp_c, *gpu.device.slowdown_c),
                   {{.what = "temperature against the slowdown threshold"}}, names_of(gpu));
      },
      "10 °C or more below slowdown, where told");
  each(
      judge, "gpu-fan-stopped", devices.driver,
      [&](const DriverGpu& gpu) {
        return gpu.sample.fan_frac && *gpu.sample.fan_frac <= 0 &&
               gpu.sample.temp_c.value_or(0) >= kFan_c;
      },
      [&](const DriverGpu& gpu) {
        judge.fail("gpu-fan-stopped",
                   fmt::format("{} is at {:.0f} °C and its fan stands.", gpu_words(gpu),
                               *gpu.sample.temp_c),
                   {{.what = "fan 0 %"}}, names_of(gpu));
      },
      "no warm card has a standing fan");
  each(
      judge, "gpu-slowed", devices.driver,
      [&](const DriverGpu& gpu) {
        return (static_cast<unsigned>(gpu.sample.throttle_reasons.value_or(0)) & kHeld) != 0;
      },
      [&](const DriverGpu& gpu) {
        const auto reasons = static_cast<unsigned>(*gpu.sample.throttle_reasons);
        judge.fail("gpu-slowed",
                   gpu_words(gpu) + " is slowed down " +
                       (reasons & kReasonBrake ? "by its power brake: the supply."
                        : reasons & (kReasonHwThermal | kReasonSwThermal) ? "by heat."
                                                                          : "by the hardware."),
                   {{.what = fmt::format("clock event reasons 0x{:x}", reasons)}}, names_of(gpu));
      },
      "no clock is held down");
}

}  // namespace

std::vector<const PciGpu*> usable_gpus(const DeviceFacts& facts) {
  std::vector<const PciGpu*> out;
  for (const auto& gpu : facts.pci) {
    if (gpu.answers && own_driver(gpu)) out.push_back(&gpu);
  }
  return out;
}

std::string gpu_words(const DriverGpu& gpu) {
  std::string out = "GPU " + std::to_string(gpu.device.gpu);
  if (!gpu.device.name.empty()) out += " (" + gpu.device.name + ")";
  return out;
}

void judge_devices(const DoctorFacts& facts, Judge& judge) {
  const DeviceFacts& devices = facts.devices;
  if (devices.pci.empty() && devices.driver.empty() && !devices.driver_hung) {
    judge.skip("driver-not-bound", "no GPU on the PCI bus");
    return;
  }
  judge_binding(devices, judge);
  judge_nvidia_driver(devices, judge);
  judge_answers(devices, judge);
  judge_nodes(devices, judge);
  if (devices.driver_hung) return;  // nothing below is known
  judge_variables(facts, judge);
  judge_xids(devices, judge);
  judge_errors(devices, judge);
  judge_use(devices, judge);
  judge_power(devices, judge);
  judge_heat(devices, judge);
}

}  // namespace rigwise::doctor
