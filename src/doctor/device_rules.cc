// The rung "devices": is every card on the bus also one that a program can use, and is it well?
#include <fmt/format.h>

#include <algorithm>
#include <array>
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
  return {{"bdf", gpu.address}, {"vendor", gpu.vendor}};
}
/// {gpu} is what nvidia-smi -i takes: the address, which means one card whoever counts.
Names names_of(const DriverGpu& gpu) {
  const auto& address = gpu.device.pci_address;
  return {{"gpu", address.empty() ? std::to_string(gpu.device.gpu) : address},
          {"bdf", address},
          {"vendor", gpu.device.vendor}};
}

std::string label(const PciGpu& gpu) {
  return gpu.address;
}
std::string label(const DriverGpu& gpu) {
  return gpu_words(gpu);
}

/// The power limits of the cards of one model.
struct Limits {
  std::string model, vendor;
  std::optional<double> least_w, most_w;
};
std::string label(const Limits& limits) {
  return limits.model;
}

bool own_driver(const PciGpu& gpu) {
  return gpu.driver == "nvidia" || gpu.driver == "amdgpu" || gpu.driver == "xe" ||
         gpu.driver == "i915";
}

/// Fails once a card that is bad; else passes once for the cards whose evidence is there. Those
/// whose is missing never pass: one check that is not judged names them.
template <class List, class Known, class Bad, class Fail>
void each(Judge& judge, std::string_view code, const List& list, Known known, Bad bad, Fail fail,
          const std::string& passed, const std::string& lacks) {
  bool good = true, any = false;
  Strings unknown;
  for (const auto& item : list) {
    if (!known(item)) {
      unknown.push_back(label(item));
      continue;
    }
    any = true;
    if (!bad(item)) continue;
    good = false;
    fail(item);
  }
  if (any && good) judge.pass(code, passed);
  if (!unknown.empty()) judge.not_judged(code, join(unknown, ", ") + ": " + lacks);
  if (list.empty()) judge.not_judged(code, "no card is listed");
}
constexpr auto kAlwaysKnown = [](const auto&) { return true; };

void judge_binding(const DeviceFacts& devices, Judge& judge) {
  const auto fail = [&](std::string_view code, const char* says) {
    return [&judge, code, says](const PciGpu& gpu) {
      judge.fail(code, card_words(gpu) + " " + says + ".",
                 shown("/sys/bus/pci/devices/" + gpu.address,
                       gpu.driver.empty() ? "no driver link" : "driver " + gpu.driver),
                 names_of(gpu));
    };
  };
  const auto on_bus = [&](std::string_view code, auto bad, auto told, const char* passed) {
    each(judge, code, devices.pci, kAlwaysKnown, bad, told, passed, "");
  };
  on_bus(
      "gpu-off-bus", [](const PciGpu& gpu) { return !gpu.answers; },
      [&](const PciGpu& gpu) {
        judge.fail("gpu-off-bus", card_words(gpu) + " does not answer on the bus.",
                   shown("/sys/bus/pci/devices/" + gpu.address + "/config", "all ones"),
                   names_of(gpu));
      },
      "every card answers on the bus");
  on_bus(
      "driver-not-bound", [](const PciGpu& gpu) { return gpu.answers && gpu.driver.empty(); },
      fail("driver-not-bound", "has no driver"), "every card has a driver");
  on_bus(
      "nouveau-bound", [](const PciGpu& gpu) { return gpu.driver == "nouveau"; },
      fail("nouveau-bound", "is held by nouveau, which runs no CUDA"), "no card is nouveau's");
  on_bus(
      "passed-through",
      [](const PciGpu& gpu) { return gpu.driver == "vfio-pci" || gpu.driver == "pci-stub"; },
      fail("passed-through", "is set aside for a virtual machine"),
      "no card is set aside for a virtual machine");
}

bool says(const Strings& texts, std::string_view word) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](const std::string& text) { return text.find(word) != std::string::npos; });
}

/// Why NVML gave no GPU; other kinds of drivers have reasons of their own. Empty: it was not asked.
std::string why_no_nvml(const DeviceFacts& devices) {
  for (const auto& why : devices.why_no_driver) {
    if (why.starts_with("nvml: ") && why.find("not asked") == std::string::npos) return why;
  }
  return {};
}

void judge_nvidia_driver(const DeviceFacts& devices, Judge& judge) {
  static constexpr std::array kCodes = {"driver-library-missing", "driver-versions-differ",
                                        "driver-fails"};
  const bool nvidia = std::any_of(devices.pci.begin(), devices.pci.end(),
                                  [](const PciGpu& gpu) { return gpu.driver == "nvidia"; });
  if (!nvidia) {
    for (const char* code : kCodes) judge.skip(code, "no card is NVIDIA's driver's");
    return;
  }
  if (nvml_answered(devices)) {  // which settles what the files on disk would only suggest
    for (const char* code : kCodes) judge.pass(code, "the library answers");
    return;
  }
  const std::string why = why_no_nvml(devices);
  const bool missing = why.find("no libnvidia-ml") != std::string::npos;
  const bool told_differ = why.find("driver and library versions differ") != std::string::npos;
  if (missing)
    judge.fail("driver-library-missing",
               "The NVIDIA module is loaded and its library libnvidia-ml.so.1 is not found.",
               words(why));
  else if (why.empty())
    judge.not_judged("driver-library-missing", "the driver was not asked");
  else
    judge.pass("driver-library-missing", "libnvidia-ml.so.1 is there");
  const auto& module = devices.nvidia_module;
  const auto& libraries = devices.nvidia_libraries;
  const bool differ_on_disk =
      module && !libraries.empty() &&
      std::find(libraries.begin(), libraries.end(), *module) == libraries.end();
  if (told_differ || (differ_on_disk && !missing)) {
    judge.fail("driver-versions-differ",
               fmt::format("The loaded NVIDIA module is {}, the library on disk {}.",
                           module.value_or("of another version"),
                           libraries.empty() ? "is of another" : "is " + join(libraries, ", ")),
               shown("/sys/module/nvidia/version", why));
  } else if (missing) {
    judge.not_judged("driver-versions-differ", "the library is not found");
  } else if (!module || libraries.empty()) {
    judge.not_judged("driver-versions-differ", module ? "no libnvidia-ml.so.VERSION was found"
                                                      : "the module does not say its version");
  } else {
    judge.pass("driver-versions-differ", "module and library " + *module);
  }
  if (!why.empty() && !missing && !told_differ)
    judge.fail("driver-fails", "NVIDIA's driver cannot be asked: " + why + ".", words(why));
}

/// A driver that gave no answer: only one that came not in time hangs.
bool judge_answer(const DeviceFacts& devices, Judge& judge) {
  if (devices.driver_trouble.empty() && !devices.driver_hung) {
    if (devices.driver.empty() && devices.problems.empty())
      judge.not_judged("driver-hung", join(devices.why_no_driver, "; "));
    else
      judge.pass("driver-hung",
                 fmt::format("answered in {}", format_duration(devices.driver_answer_s)));
    return true;
  }
  if (devices.driver_hung) {
    judge.fail("driver-hung", "The GPU driver does not answer.", words(devices.driver_trouble));
  } else {
    judge.not_judged("driver-hung", devices.driver_trouble);
    judge.fail("driver-fails", "The GPU driver cannot be asked: " + devices.driver_trouble + ".",
               words(devices.driver_trouble));
  }
  for (const char* code :
       {"gpu-count-differs", "gpu-lost", "device-nodes-missing", "device-nodes-denied"})
    judge.not_judged(code, "the driver gave no answer");
  return false;
}

/// NVML's list against the cards that NVIDIA's driver holds on the bus.
void count_nvidia(const DeviceFacts& devices, Judge& judge) {
  std::vector<const PciGpu*> bound;
  for (const auto& gpu : devices.pci) {
    if (gpu.driver == "nvidia") bound.push_back(&gpu);
  }
  if (bound.empty()) return;
  if (!nvml_answered(devices))
    return judge.not_judged("gpu-count-differs", join(devices.why_no_driver, "; "));
  std::set<std::string> known;
  std::size_t listed = 0;  // an old library lists cards without their addresses
  for (const auto& gpu : devices.driver) {
    if (gpu.device.vendor != "nvidia") continue;
    ++listed;
    known.insert(gpu.device.pci_address);
  }
  Strings lost, withheld;
  for (const PciGpu* gpu : bound) {
    if (listed >= bound.size() || known.contains(gpu->address)) continue;
    (gpu->withheld || says(devices.problems, "no permission") ? withheld : lost)
        .push_back(gpu->address);
  }
  const auto cards = [](std::size_t count) {
    return counted(static_cast<std::int64_t>(count), "card", "cards");
  };
  if (!lost.empty()) {
    std::vector<Evidence> evidence = words("not known to the driver: " + join(lost, ", "));
    for (const auto& problem : devices.problems) evidence.push_back({.what = problem});
    judge.fail("gpu-count-differs",
               fmt::format("{} NVIDIA {} on the bus, {} known to the driver.", cards(bound.size()),
                           bound.size() == 1 ? "is" : "are", listed),
               std::move(evidence), {{"bdf", lost.front()}});
  } else if (!withheld.empty()) {
    judge.not_judged("gpu-count-differs",
                     fmt::format("{} of the {} on the bus not given to this container or job: {}",
                                 withheld.size(), cards(bound.size()), join(withheld, ", ")));
  } else {
    judge.pass("gpu-count-differs", cards(listed) + " on the bus and known to the driver");
  }
}

/// The cards that ROCm's driver (KFD) serves against those that amdgpu holds. It leaves out models
/// that are too old, so a card is missing only where another one of its model is served.
void count_amd(const DeviceFacts& devices, Judge& judge) {
  std::vector<const PciGpu*> bound;
  for (const auto& gpu : devices.pci) {
    if (gpu.driver == "nvidia") return;  // then an AMD card is a screen's
    if (gpu.driver == "amdgpu" && !gpu.withheld) bound.push_back(&gpu);
  }
  if (bound.empty()) return;
  if (!devices.kfd)
    return judge.not_judged("gpu-count-differs",
                            "the kernel has no /sys/class/kfd (ROCm's driver)");
  const auto served = [&](const PciGpu* gpu) {
    return std::find(devices.kfd->begin(), devices.kfd->end(), gpu->address) != devices.kfd->end();
  };
  Strings lost, left_out;
  for (const PciGpu* gpu : bound) {
    if (served(gpu)) continue;
    const bool model_served = std::any_of(bound.begin(), bound.end(), [&](const PciGpu* other) {
      return other->name == gpu->name && served(other);
    });
    (model_served ? lost : left_out).push_back(gpu->address);
  }
  if (!lost.empty())
    judge.fail("gpu-count-differs",
               "ROCm's driver does not serve " + join(lost, ", ") +
                   ", and serves another card of that model.",
               shown("/sys/class/kfd/kfd/topology/nodes", "no node of " + join(lost, ", ")),
               {{"bdf", lost.front()}, {"vendor", "amd"}});
  else if (!left_out.empty())
    judge.not_judged("gpu-count-differs",
                     "ROCm's driver does not serve " + join(left_out, ", ") + ", nor its model");
  else
    judge.pass("gpu-count-differs", "ROCm's driver serves every card");
}

void judge_lost(const DeviceFacts& devices, Judge& judge) {
  Strings others;
  bool lost = false;
  for (const auto& problem : devices.problems) {
    if (problem.find("lost") == std::string::npos && problem.find("reset") == std::string::npos) {
      others.push_back(problem);
      continue;
    }
    // "nvml GPU 1: …" counts as nvidia-smi does
    constexpr std::string_view kStem = "nvml GPU ";
    std::string which;
    if (problem.starts_with(kStem))
      which = problem.substr(kStem.size(), problem.find(':') - kStem.size());
    for (const auto& gpu : devices.driver) {
      if (std::to_string(gpu.device.gpu) == which && !gpu.device.pci_address.empty())
        which = gpu.device.pci_address;
    }
    lost = true;
    judge.fail("gpu-lost", "The driver lost a GPU: " + problem + ".", words(problem),
               {{"gpu", which}});
  }
  if (!others.empty())
    judge.not_judged("gpu-lost", join(others, "; "));
  else if (!lost && devices.driver.empty())
    judge.not_judged("gpu-lost", join(devices.why_no_driver, "; "));
  else if (!lost)
    judge.pass("gpu-lost", "no GPU is lost");
}

void judge_nodes(const DeviceFacts& devices, Judge& judge) {
  const auto& missing = devices.nodes_missing;
  const bool amd = says(missing, "/dev/kfd");
  if (missing.empty())
    judge.pass("device-nodes-missing", "the device files are there");
  else
    judge.fail("device-nodes-missing", "Device files are missing: " + join(missing, ", ") + ".",
               shown("/dev", join(missing, ", ")), {{"vendor", amd ? "amd" : "nvidia"}});
  if (!devices.uvm_missing)
    judge.pass("uvm-node-missing", "/dev/nvidia-uvm is there, or not wanted");
  else
    judge.fail("uvm-node-missing", "/dev/nvidia-uvm is not there yet.",
               shown("/dev", "no nvidia-uvm"));
  if (devices.nodes_denied.empty()) {
    judge.pass("device-nodes-denied", "the device files may be opened");
  } else {
    judge.fail("device-nodes-denied",
               "This user may not open " + join(devices.nodes_denied, ", ") + ".",
               shown("/dev", "no read and write: " + join(devices.nodes_denied, ", ")));
  }
}

/// What CUDA_VISIBLE_DEVICES may name: HIP heeds it too, so where there is no NVIDIA card, AMD's.
std::vector<const DriverGpu*> numbered_gpus(const DeviceFacts& devices) {
  for (const std::string_view vendor : {"nvidia", "amd"}) {
    std::vector<const DriverGpu*> gpus;
    for (const auto& gpu : devices.driver) {
      if (gpu.device.vendor == vendor) gpus.push_back(&gpu);
    }
    if (!gpus.empty()) return gpus;
  }
  return {};
}

void judge_models(const DoctorFacts& facts, Judge& judge) {
  std::map<std::string, std::set<std::string>> models;  // by vendor: a screen's card trains nobody
  for (const auto& gpu : facts.devices.driver) models[gpu.device.vendor].insert(gpu.device.name);
  if (models.empty()) {
    for (const char* code : {"models-differ", "device-order-unset"})
      judge.not_judged(code, "the drivers list no GPU");
    return;
  }
  const auto list_of = [](const std::set<std::string>& names) {
    return join(Strings(names.begin(), names.end()), ", ");
  };
  bool one_each = true;
  for (const auto& [vendor, names] : models) {
    if (names.size() < 2) continue;
    one_each = false;
    judge.fail("models-differ", "The GPUs are of several models: " + list_of(names) + ".",
               words(list_of(names)), {{"vendor", vendor}});
  }
  if (one_each) judge.pass("models-differ", "one model");
  const auto& variables = facts.host.variables;
  const auto order = variables.find("CUDA_DEVICE_ORDER");
  if (models["nvidia"].size() < 2)
    judge.pass("device-order-unset", "the order is the same either way");
  else if (order != variables.end() && order->second == "PCI_BUS_ID")
    judge.pass("device-order-unset", "CUDA_DEVICE_ORDER=PCI_BUS_ID");
  else
    judge.fail(
        "device-order-unset", "CUDA and nvidia-smi may number the GPUs differently here.",
        words("models: " + list_of(models["nvidia"]) + "; CUDA_DEVICE_ORDER is not PCI_BUS_ID"));
}

void judge_variables(const DoctorFacts& facts, Judge& judge) {
  const auto& variables = facts.host.variables;
  const auto found = variables.find("CUDA_VISIBLE_DEVICES");
  const auto gpus = numbered_gpus(facts.devices);
  const std::size_t count = gpus.size();
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
      const bool known_uuid = std::any_of(gpus.begin(), gpus.end(), [&](const DriverGpu* gpu) {
        return gpu->device.uuid.starts_with(name);
      });
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
  each(
      judge, "pcie-errors", devices.pci,
      [](const PciGpu& gpu) { return gpu.aer_corrected || gpu.aer_uncorrected; },
      [](const PciGpu& gpu) {
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
      "no link errors counted", "the kernel counts no link errors of it");
}

void judge_use(const DeviceFacts& devices, Judge& judge) {
  each(
      judge, "gpu-in-use", devices.driver,
      [](const DriverGpu& gpu) { return gpu.sample.other_processes.has_value(); },
      [](const DriverGpu& gpu) { return *gpu.sample.other_processes > 0; },
      [&](const DriverGpu& gpu) {
        judge.fail("gpu-in-use",
                   gpu_words(gpu) + " is in use by " +
                       counted(static_cast<std::int64_t>(*gpu.sample.other_processes), "process",
                               "processes") +
                       (gpu.sample.used_bytes
                            ? ", " + format_bytes_binary(*gpu.sample.used_bytes) + " taken."
                            : "."),
                   words("compute processes of the driver's list"), names_of(gpu));
      },
      "no process computes on a GPU",
      "the driver lists no processes, or only those of another pid namespace");
  // a desktop's processes hold memory and do not compute: they are no reason to reset its GPU
  each(
      judge, "gpu-memory-held", devices.driver,
      [](const DriverGpu& gpu) {
        return gpu.sample.other_processes && gpu.sample.graphics_processes &&
               gpu.sample.used_bytes && gpu.device.total_bytes;
      },
      [](const DriverGpu& gpu) {
        return *gpu.sample.other_processes == 0 && *gpu.sample.graphics_processes == 0 &&
               *gpu.sample.used_bytes > 0.1 * *gpu.device.total_bytes;
      },
      [&](const DriverGpu& gpu) {
        judge.fail("gpu-memory-held",
                   fmt::format("{} of {} is taken and no process is listed.",
                               format_bytes_binary(*gpu.sample.used_bytes), gpu_words(gpu)),
                   words("memory used against the lists of processes"), names_of(gpu));
      },
      "no memory is held without a process",
      "the driver tells memory or processes, screens' among them, not whole");
  if (devices.leased.empty()) {
    judge.pass("gpu-leased", "no lease is held");
  } else {
    judge.fail("gpu-leased", "Leased to somebody: " + join(devices.leased, ", ") + ".",
               shown("/run/rigwise", join(devices.leased, ", ")));
  }
}

void judge_power(const DeviceFacts& devices, Judge& judge) {
  std::vector<Limits> models;
  for (const auto& gpu : devices.driver) {
    auto at = std::find_if(models.begin(), models.end(),
                           [&](const Limits& one) { return one.model == gpu.device.name; });
    if (at == models.end())
      at = models.insert(at, {.model = gpu.device.name, .vendor = gpu.device.vendor});
    if (const auto limit = gpu.device.power_limit_w) {
      at->least_w = std::min(at->least_w.value_or(*limit), *limit);
      at->most_w = std::max(at->most_w.value_or(*limit), *limit);
    }
  }
  each(
      judge, "power-limits-differ", models,
      [](const Limits& model) { return model.least_w.has_value(); },
      [](const Limits& model) { return *model.least_w < 0.95 * *model.most_w; },
      [&](const Limits& model) {
        judge.fail("power-limits-differ",
                   fmt::format("{}: power limits from {:.0f} to {:.0f} W.", model.model,
                               *model.least_w, *model.most_w),
                   words("enforced power limits"), {{"vendor", model.vendor}});
      },
      "equal among cards of one model", "no power limit is told");
  each(
      judge, "power-limit-low", devices.driver,
      [](const DriverGpu& gpu) { return gpu.device.power_limit_w && gpu.device.power_limit_max_w; },
      [](const DriverGpu& gpu) {
        return *gpu.device.power_limit_w < 0.7 * *gpu.device.power_limit_max_w;
      },
      [&](const DriverGpu& gpu) {
        judge.fail(
            "power-limit-low",
            fmt::format("{} may draw {:.0f} W of the {:.0f} W that its board allows.",
                        gpu_words(gpu), *gpu.device.power_limit_w, *gpu.device.power_limit_max_w),
            words("enforced limit against the board's most"), names_of(gpu));
      },
      "none below 70 % of the board's most", "no power limit is told");
}

void judge_heat(const DeviceFacts& devices, Judge& judge) {
  constexpr double kMargin_c = 10, kFan_c = 70;
  constexpr unsigned kHardware = 0x08;
  constexpr unsigned kHeld = kHardware | kReasonSwThermal | kReasonHwThermal | kReasonBrake;
  each(
      judge, "gpu-hot", devices.driver,
      [](const DriverGpu& gpu) { return gpu.sample.temp_c && gpu.device.slowdown_c; },
      [](const DriverGpu& gpu) { return *gpu.sample.temp_c >= *gpu.device.slowdown_c - kMargin_c; },
      [&](const DriverGpu& gpu) {
        judge.fail("gpu-hot",
                   fmt::format("{} is at {:.0f} °C; its clocks drop at {:.0f} °C.", gpu_words(gpu),
                               *gpu.sample.temp_c, *gpu.device.slowdown_c),
                   words("temperature against the slowdown threshold"), names_of(gpu));
      },
      "10 °C or more below slowdown", "no temperature, or no slowdown threshold, is told");
  each(
      judge, "gpu-fan-stopped", devices.driver,
      [](const DriverGpu& gpu) { return gpu.sample.fan_frac && gpu.sample.temp_c; },
      [](const DriverGpu& gpu) {
        return *gpu.sample.fan_frac <= 0 && *gpu.sample.temp_c >= kFan_c;
      },
      [&](const DriverGpu& gpu) {
        judge.fail("gpu-fan-stopped",
                   fmt::format("{} is at {:.0f} °C and its fan stands.", gpu_words(gpu),
                               *gpu.sample.temp_c),
                   words("fan 0 %"), names_of(gpu));
      },
      "no warm card has a standing fan", "no fan is told (cooled by the chassis?)");
  each(
      judge, "gpu-slowed", devices.driver,
      [](const DriverGpu& gpu) { return gpu.sample.throttle_reasons.has_value(); },
      [](const DriverGpu& gpu) {
        return (static_cast<unsigned>(*gpu.sample.throttle_reasons) & kHeld) != 0;
      },
      [&](const DriverGpu& gpu) {
        const auto reasons = static_cast<unsigned>(*gpu.sample.throttle_reasons);
        judge.fail("gpu-slowed",
                   gpu_words(gpu) + " is slowed down " +
                       (reasons & kReasonBrake ? "by its power brake: the supply."
                        : reasons & (kReasonHwThermal | kReasonSwThermal) ? "by heat."
                                                                          : "by the hardware."),
                   words(fmt::format("clock event reasons 0x{:x}", reasons)), names_of(gpu));
      },
      "no clock is held down", "its driver tells no reasons");
}

}  // namespace

std::vector<const PciGpu*> usable_gpus(const DeviceFacts& facts) {
  std::vector<const PciGpu*> out;
  for (const auto& gpu : facts.pci) {
    if (gpu.answers && own_driver(gpu) && !gpu.withheld) out.push_back(&gpu);
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
  const bool asked = devices.driver_trouble.empty() && !devices.driver_hung;
  if (devices.pci.empty() && devices.driver.empty() && devices.problems.empty() && asked) {
    judge.skip("driver-not-bound", "no GPU on the PCI bus");
    return;
  }
  judge_binding(devices, judge);
  if (!judge_answer(devices, judge)) {  // of what is below only the kernel's log is known
    if (!devices.kernel_log_from.empty()) judge_xids(devices, judge);
    return;
  }
  judge_nvidia_driver(devices, judge);
  count_nvidia(devices, judge);
  count_amd(devices, judge);
  judge_lost(devices, judge);
  judge_nodes(devices, judge);
  judge_variables(facts, judge);
  judge_models(facts, judge);
  judge_xids(devices, judge);
  judge_errors(devices, judge);
  judge_use(devices, judge);
  judge_power(devices, judge);
  judge_heat(devices, judge);
}

}  // namespace rigwise::doctor
