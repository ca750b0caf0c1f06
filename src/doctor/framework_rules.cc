// The rung "framework": does the run's own Python see and use the devices?
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/text.h"
#include "doctor/rules.h"
#include "rigwise/units.h"

namespace rigwise::doctor {

namespace {

using Names = Judge::Names;

/// The library beside torch whose import began last; empty: the probe was at something else.
std::string imported(const FrameworkFacts& framework) {
  constexpr std::string_view kImport = "import ";
  const bool import = framework.last_step.starts_with(kImport);
  const std::string name = import ? framework.last_step.substr(kImport.size()) : "";
  return name == "torch" ? std::string() : name;
}

/// True where torch came up; else the failure is told.
bool judge_import(const FrameworkFacts& framework, Judge& judge) {
  const Names names = {{"python", framework.python}};
  if (framework.python.empty() && framework.trouble.starts_with("looking for it:")) {
    judge.not_judged("python-missing", framework.trouble);
    return false;
  }
  if (framework.python.empty()) {
    judge.fail("python-missing", "No Python was found.", words(framework.trouble));
    return false;
  }
  judge.pass("python-missing", framework.python + " (" + framework.python_how + ")");
  // an end within the import of a library beside torch is that one's: judge_extensions
  if (!framework.trouble.empty() && imported(framework).empty()) {
    const bool hung = framework.trouble.find("no answer within") != std::string::npos;
    judge.fail(hung ? "framework-hung" : "framework-crashed",
               fmt::format("{} {} at: {}.", framework.python, hung ? "hangs" : "ended badly",
                           framework.last_step.empty() ? "its start" : framework.last_step),
               words(framework.trouble), names);
    return false;
  }
  judge.pass("framework-hung", "torch comes up");
  judge.pass("framework-crashed", "torch comes up");
  if (framework.torch_error.find("No module named 'torch'") != std::string::npos) {
    judge.fail("torch-missing", framework.python + " has no torch.", words(framework.torch_error),
               names);
    return false;
  }
  judge.pass("torch-missing", "torch is installed");
  if (!framework.torch_error.empty()) {
    judge.fail("torch-import-fails", "torch cannot be imported: " + framework.torch_error,
               words(framework.torch_error), names);
    return false;
  }
  judge.pass("torch-import-fails", "torch " + framework.torch);
  return true;
}

/// "8.6" → 86; "gfx1100" stays a name.
std::optional<int> capability_number(std::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (c != '.') digits += c;
  }
  const auto number = to_integer(digits);
  return number ? std::optional<int>(static_cast<int>(*number)) : std::nullopt;
}

/// CUDA runs binary code of the same major version and a minor not above the card's, and compiles
/// PTX (compute_NN) of any lower version (CUDA C Programming Guide, "Compute Capability").
bool arch_serves(const std::string& arch, int capability) {
  const bool binary = arch.starts_with("sm_"), ptx = arch.starts_with("compute_");
  if (!binary && !ptx) return false;
  std::string digits = arch.substr(arch.find('_') + 1);
  const bool exact = !digits.empty() && (digits.back() == 'a' || digits.back() == 'f');
  if (exact) digits.pop_back();
  const auto number = to_integer(digits);
  if (!number) return false;
  if (exact) return *number == capability;
  return binary ? *number / 10 == capability / 10 && *number <= capability : *number <= capability;
}

void judge_arches(const FrameworkFacts& framework, Judge& judge) {
  if (framework.arch_list.empty() || !framework.hip.empty()) {
    judge.not_judged("torch-arch-missing", "this torch does not list CUDA architectures");
    return;
  }
  bool good = true;
  for (const auto& device : framework.devices) {
    const auto capability = capability_number(device.capability);
    if (!capability ||
        std::any_of(framework.arch_list.begin(), framework.arch_list.end(),
                    [&](const std::string& arch) { return arch_serves(arch, *capability); }))
      continue;
    good = false;
    judge.fail("torch-arch-missing",
               fmt::format("torch {} has no code for GPU {} ({}, sm_{}).", framework.torch,
                           device.index, device.name, *capability),
               words("it has " + join(framework.arch_list, " ")),
               {{"python", framework.python}, {"gpu", std::to_string(device.index)}});
  }
  if (good) judge.pass("torch-arch-missing", "code for every card");
}

/// The GPUs that a build of torch could use: those of its vendor, as bus and drivers show them.
struct Expected {
  std::string vendor;  // "" for a build for the CPU: any that another build would use
  std::size_t usable = 0, listed = 0;
  bool others = false;  // GPUs that this build is not for
  bool mig = false;
};
Expected expected_of(const DoctorFacts& facts) {
  Expected out;
  const FrameworkFacts& framework = facts.framework;
  if (!framework.cuda.empty()) out.vendor = "nvidia";
  if (!framework.hip.empty()) out.vendor = "amd";
  const Strings served = facts.devices.kfd.value_or(Strings{});
  const auto fits = [&](const std::string& vendor, const std::string& address) {
    if (!out.vendor.empty()) return vendor == out.vendor;
    return vendor == "nvidia" ||  // AMD's: many a screen's card is none of ROCm's
           (vendor == "amd" && std::find(served.begin(), served.end(), address) != served.end());
  };
  for (const PciGpu* gpu : usable_gpus(facts.devices)) {
    const bool fit = fits(gpu->vendor, gpu->address);
    out.usable += fit ? 1 : 0;
    out.others = out.others || !fit;
  }
  for (const DriverGpu& gpu : facts.devices.driver) {
    out.listed += fits(gpu.device.vendor, gpu.device.pci_address) ? 1 : 0;
    out.mig = out.mig || gpu.device.mig.value_or(false);
  }
  return out;
}

/// CUDA error 802: on boards whose GPUs are joined by NVSwitch nothing runs before the fabric does.
bool fabric_waits(const FrameworkFacts& framework) {
  return framework.gpu_error.find("Error 802") != std::string::npos ||
         framework.gpu_error.find("system not yet initialized") != std::string::npos;
}

void judge_count(const DoctorFacts& facts, const Expected& expected, Judge& judge) {
  const auto seen = static_cast<std::size_t>(*facts.framework.gpus);
  const bool filtered = facts.host.variables.contains("CUDA_VISIBLE_DEVICES") ||
                        facts.host.variables.contains("HIP_VISIBLE_DEVICES") ||
                        facts.host.variables.contains("ROCR_VISIBLE_DEVICES");
  if (expected.listed == 0) {
    judge.not_judged("torch-count-differs", "the drivers were not asked, or list none");
  } else if (expected.mig) {
    judge.not_judged("torch-count-differs",
                     "MIG splits a card: CUDA shows a process one instance, NVML the whole cards");
  } else if (filtered && seen <= expected.listed) {
    judge.pass("torch-count-differs", "a variable chooses among them");
  } else if (seen < expected.listed) {  // more is no loss: ROCm counts the processor's graphics
    judge.fail(
        "torch-count-differs",
        fmt::format("torch sees {}, the driver lists {}.",
                    counted(static_cast<std::int64_t>(seen), "GPU", "GPUs"), expected.listed),
        words("torch.cuda.device_count against the driver's list"),
        {{"python", facts.framework.python}, {"vendor", expected.vendor}});
  } else {
    judge.pass("torch-count-differs", "as many as the driver lists");
  }
}

constexpr std::array kOfDevices = {"torch-without-gpu", "torch-sees-no-gpu", "torch-count-differs",
                                   "torch-call-fails", "torch-arch-missing"};

bool judge_devices_of(const DoctorFacts& facts, Judge& judge) {
  const FrameworkFacts& framework = facts.framework;
  const Expected expected = expected_of(facts);
  const Names names = {{"python", framework.python}, {"vendor", expected.vendor}};
  const bool none = expected.usable == 0 && expected.listed == 0;
  if (!facts.cpu_meant.empty() || !framework.xpu.empty()) {
    const std::string why = !facts.cpu_meant.empty() ? "no GPU is to be used: " + facts.cpu_meant
                                                     : "torch is built for XPU " + framework.xpu +
                                                           ", which is not asked";
    for (const char* code : kOfDevices) {
      if (facts.cpu_meant.empty())
        judge.not_judged(code, why);
      else
        judge.skip(code, why);
    }
    return false;
  }
  if (none && framework.gpus.value_or(0) == 0) {
    for (const char* code : kOfDevices) {
      if (expected.others)
        judge.not_judged(code, "torch " + framework.torch + " is not built for this host's GPUs");
      else
        judge.skip(code, "no GPU on this host");
    }
    return false;
  }
  if (expected.vendor.empty() && !none) {
    judge.fail(
        "torch-without-gpu",
        fmt::format("torch {} is built for the CPU, and the host has {}.", framework.torch,
                    counted(static_cast<std::int64_t>(std::max(expected.usable, expected.listed)),
                            "GPU", "GPUs")),
        words("torch.version.cuda and hip are None"), names);
    return false;
  }
  judge.pass("torch-without-gpu", framework.hip.empty() ? "built for CUDA " + framework.cuda
                                                        : "built for ROCm " + framework.hip);
  if (framework.gpus.value_or(0) == 0) {
    judge.fail(
        fabric_waits(framework) ? "fabric-manager-stopped" : "torch-sees-no-gpu",
        "torch sees no GPU: " + (framework.gpu_error.empty() ? std::string("it does not say why")
                                                             : framework.gpu_error),
        words(framework.gpu_error), names);
    return false;
  }
  judge.pass("torch-sees-no-gpu", counted(*framework.gpus, "GPU", "GPUs") + " seen");
  judge_count(facts, expected, judge);
  if (framework.device_error.empty())
    judge.pass("torch-call-fails", "torch describes its GPUs");
  else
    judge.fail("torch-call-fails", "torch cannot describe its GPUs: " + framework.device_error,
               words(framework.device_error), names);
  judge_arches(framework, judge);
  return true;
}

void judge_work(const DoctorFacts& facts, Judge& judge) {
  const auto each = [&](std::string_view code, auto bad, auto claim, const char* passed) {
    bool good = true;
    for (const auto& work : facts.work) {
      if (!work.no_time.empty()) {
        judge.not_judged(code, fmt::format("GPU {}: {}", work.index, work.no_time));
        good = false;
      }
      if (!work.no_time.empty() || !bad(work)) continue;
      good = false;
      judge.fail(code, claim(work), words(work.trouble.empty() ? work.last_step : work.trouble),
                 {{"python", facts.framework.python},
                  {"gpu", std::to_string(work.index)},
                  {"bdf", work.pci.empty() ? "PCI-ADDRESS" : work.pci},
                  {"vendor", facts.framework.hip.empty() ? "nvidia" : "amd"}});
    }
    if (good) judge.pass(code, passed);
  };
  if (facts.work.empty()) {
    for (const char* code : {"gpu-work-hung", "gpu-work-fails", "gpu-work-wrong"})
      judge.skip(code, "no GPU was put to work");
    return;
  }
  each(
      "gpu-work-hung", [](const GpuWork& work) { return work.hung; },
      [](const GpuWork& work) {
        return fmt::format("GPU {} hangs at: {}.", work.index, work.last_step);
      },
      "every GPU answered in time");
  each(
      "gpu-work-fails", [](const GpuWork& work) { return !work.hung && !work.trouble.empty(); },
      [](const GpuWork& work) {
        return fmt::format("GPU {} could not do a small product: {}", work.index, work.trouble);
      },
      "every GPU did a small product");
  each(
      "gpu-work-wrong",
      [](const GpuWork& work) { return !work.hung && work.trouble.empty() && !work.correct; },
      [](const GpuWork& work) {
        return fmt::format("GPU {} computed a wrong product.", work.index);
      },
      "the products are right");
}

std::string major_minor(std::string_view version) {
  const auto parts = split(version, '.');
  if (parts.size() < 2) return std::string(version);
  std::string out = std::string(parts[0]) + "." + std::string(parts[1]);
  return parts.size() > 2 ? out + "." + std::string(parts[2]) : out;
}

void judge_nccl(const DoctorFacts& facts, Judge& judge) {
  const FrameworkFacts& framework = facts.framework;
  const Names names = {{"python", framework.python}};
  if (framework.gpus.value_or(0) < 2) {
    judge.skip("nccl-missing", "fewer than two GPUs");
  } else if (!framework.nccl_error.empty() && framework.nccl.empty()) {
    judge.not_judged("nccl-missing", "NCCL does not say its version: " + framework.nccl_error);
  } else if (framework.nccl.empty()) {
    judge.fail("nccl-missing", "torch " + framework.torch + " has no NCCL.",
               words("torch.distributed.is_nccl_available() is False"), names);
  } else {
    judge.pass("nccl-missing", "NCCL " + framework.nccl);
  }
  std::string installed, package;
  for (const auto& [name, version] : framework.packages) {
    if (name.starts_with("nvidia-nccl-")) installed = major_minor(version), package = name;
  }
  if (installed.empty()) {
    judge.skip("nccl-versions-differ", "no NCCL package beside torch");
  } else if (framework.nccl_loaded.empty()) {
    judge.not_judged("nccl-versions-differ", framework.nccl_error.empty()
                                                 ? "no library of NCCL is mapped"
                                                 : framework.nccl_error);
  } else if (framework.nccl_loaded != installed) {
    judge.fail(
        "nccl-versions-differ",
        fmt::format("torch loaded NCCL {}; {} is {}.", framework.nccl_loaded, package, installed),
        shown(framework.nccl_file, "ncclGetVersion says " + framework.nccl_loaded), names);
  } else {
    judge.pass("nccl-versions-differ", "NCCL " + installed + ", as installed");
  }
}

void judge_peer_access(const FrameworkFacts& framework, Judge& judge) {
  if (!framework.peer_error.empty())
    judge.not_judged("peer-access-missing", framework.peer_error);
  else if (framework.no_peer.empty())
    judge.pass("peer-access-missing",
               framework.gpus.value_or(0) < 2 ? "one GPU" : "every pair has peer access");
  else
    judge.fail("peer-access-missing",
               "No peer access between GPUs " + join(framework.no_peer, ", ") + ".",
               words("torch.cuda.can_device_access_peer"),
               {{"vendor", framework.hip.empty() ? "nvidia" : "amd"}});
}

/// The probe put load on a link that it could not find.
void judge_unplaced(const DoctorFacts& facts, Judge& judge) {
  for (const auto& work : facts.work) {
    if (!work.pci.empty()) continue;
    for (const char* code : {"link-narrow", "link-slow"})
      judge.not_judged(
          code, fmt::format("GPU {}: torch does not say its place on the PCI bus", work.index));
  }
}

/// "/a/libcudart.so.12.4" → "libcudart".
std::string library_name(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  return file.substr(0, file.find(".so"));
}

void judge_libraries(const FrameworkFacts& framework, Judge& judge) {
  std::map<std::string, std::set<std::string>> places;
  for (const auto& path : framework.loaded) places[library_name(path)].insert(path);
  std::vector<Evidence> mixed;
  for (const auto& [name, paths] : places) {
    if (paths.size() < 2) continue;
    for (const auto& path : paths) mixed.push_back({.what = "mapped: " + path});
  }
  std::map<std::string, std::set<std::string>> cuda;  // by CUDA of the package's name
  for (const auto& [name, version] : framework.packages) {
    // "nvidia-nccl-cu13"; "nvidia-cuda-runtime" does not say
    const auto at = name.rfind("-cu");
    if (name.starts_with("nvidia-") && at != std::string::npos && to_integer(name.substr(at + 3)))
      cuda[name.substr(at + 1)].insert(name);
  }
  if (cuda.size() > 1) {
    for (const auto& [version, packages] : cuda)
      mixed.push_back({.what = fmt::format("{}: {}", version, *packages.begin())});
  }
  if (mixed.empty())
    judge.pass("cuda-libraries-mixed",
               places.empty() ? "no CUDA library is mapped" : "one of each is mapped");
  else
    judge.fail("cuda-libraries-mixed", "CUDA libraries are mixed.", std::move(mixed),
               {{"python", framework.python}});
}

void judge_extensions(const FrameworkFacts& framework, Judge& judge) {
  bool good = true;
  Strings loaded;
  for (const auto& extension : framework.extensions) {
    if (extension.error.empty()) {
      loaded.push_back(extension.name + " " + extension.version);
      continue;
    }
    good = false;
    judge.fail("extension-fails",
               fmt::format("{} {} cannot be imported: {}", extension.name, extension.version,
                           extension.error),
               words(extension.error), {{"python", framework.python}, {"name", extension.name}});
  }
  // an import that ended the interpreter is the last one that began
  const std::string name = imported(framework);
  if (!framework.trouble.empty() && !name.empty()) {
    good = false;
    judge.fail("extension-fails", "import " + name + " did not end: " + framework.trouble,
               words(framework.trouble), {{"python", framework.python}, {"name", name}});
  }
  if (good) {
    judge.pass("extension-fails", loaded.empty() ? "none is installed" : join(loaded, ", "));
  }
}

}  // namespace

bool judge_left_out(const DoctorFacts& facts, Judge& judge) {
  const DeviceFacts& devices = facts.devices;
  const bool none = devices.pci.empty() && devices.driver.empty() && devices.problems.empty();
  if (facts.cpu_meant.empty() || none) return false;
  judge.fail("gpus-left-out", "The GPUs are left out: " + facts.cpu_meant + ".",
             words(facts.cpu_meant));
  return true;
}

void judge_framework(const DoctorFacts& facts, Judge& judge) {
  const FrameworkFacts& framework = facts.framework;
  if (!framework.no_time.empty()) return judge.not_judged("framework-hung", framework.no_time);
  if (!judge_import(framework, judge)) return;
  if (judge_devices_of(facts, judge)) {
    judge_work(facts, judge);
    judge_links(facts, judge, true);
    judge_unplaced(facts, judge);
    judge_nccl(facts, judge);
    judge_peer_access(framework, judge);
  }
  judge_libraries(framework, judge);
  judge_extensions(framework, judge);
}

}  // namespace rigwise::doctor
