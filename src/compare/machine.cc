// Machines: hosts, devices, links, software, environment variables, code revision.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "base/text.h"
#include "compare/fields.h"
#include "rigwise/units.h"

namespace rigwise::compare_fields {

using compare_data::HostData;
using compare_data::RunData;
using compare_rules::FieldRule;
using compare_rules::rule_of;

namespace {

Values per_run(const Side& side, const std::function<std::string(const RunData&)>& value) {
  Values values;
  for (const RunData& run : side.runs) values.push_back(value(run));
  return values;
}

void add(std::string_view name, const Side& a, const Side& b, Gate& gate,
         const std::function<std::string(const RunData&)>& value, const std::string& folder) {
  ComparedField field = lay(rule_of(name), per_run(a, value), per_run(b, value));
  if (field.a != field.b) {
    for (const Side* side : {&a, &b}) {
      const RunData& run = side->runs.front();
      if (run.hosts.empty()) continue;
      field.evidence.push_back({.run = run.label,
                                .file = folder + "/" + run.hosts.front().host + ".json",
                                .what = std::string(name)});
    }
  }
  gate.fields.push_back(std::move(field));
}

std::string of_rigs(const RunData& data, const std::function<std::string(const Rig&)>& value) {
  std::vector<std::string> parts;
  for (const HostData& host : data.hosts) {
    if (!host.rig) continue;
    const std::string text = value(*host.rig);
    if (!text.empty() && std::find(parts.begin(), parts.end(), text) == parts.end()) {
      parts.push_back(text);
    }
  }
  return join(parts, " + ");
}

/// Rounded to 4 %: firmware and kernels reserve a little more or less.
std::string memory_in_words(const Rig& rig) {
  if (!rig.mem_bytes || !(*rig.mem_bytes > 0)) return {};
  const double gib = *rig.mem_bytes / (1024.0 * 1024 * 1024);
  return fmt::format("{:.0f} GiB", std::exp(std::round(std::log(gib) / 0.04) * 0.04));
}

std::string storage_in_words(const Rig& rig) {
  std::set<std::string> kinds;
  for (const Mount& mount : rig.mounts) {
    std::string kind = mount.network ? "network" : "local";
    for (const Disk& disk : rig.disks) {
      if (!mount.device.empty() && mount.device.find(disk.device) != std::string::npos) {
        kind = disk.rotational ? "hard disk" : "solid state";
      }
    }
    kinds.insert(kind + (mount.fs_type.empty() ? "" : " " + mount.fs_type));
  }
  return join({kinds.begin(), kinds.end()}, ", ");
}

// ---------------------------------------------------------------------------------------------
// devices

const GpuDevice* device_of(const HostData& host, int gpu) {
  if (!host.rig) return nullptr;
  for (const GpuDevice& device : host.rig->gpus) {
    if (device.gpu == gpu) return &device;
  }
  return nullptr;
}

/// The GPUs that a run trained on, as "a value a device", in order of index over all hosts.
std::vector<std::string> of_gpus(
    const RunData& data,
    const std::function<std::string(const HostData&, const GpuDevice*, int)>& value) {
  std::vector<std::string> parts;
  for (const HostData& host : data.hosts) {
    std::vector<int> used = gpus_used(host);
    if (used.empty() && host.gpus.empty() && host.rig) {
      for (const GpuDevice& device : host.rig->gpus) used.push_back(device.gpu);
    }
    for (const int gpu : used) parts.push_back(value(host, device_of(host, gpu), gpu));
  }
  return parts;
}

/// The link under load: the widest and fastest state seen, since an idle link saves power.
std::string link_in_words(const HostData& host, const GpuDevice*, int gpu) {
  const auto found = host.gpus.find(gpu);
  if (found == host.gpus.end() || !(found->second.width > 0)) return {};
  const double width = found->second.width, gen = found->second.gen;
  return gen > 0 ? fmt::format("x{:.0f} gen {:.0f}", width, gen) : fmt::format("x{:.0f}", width);
}

std::string limit_in_words(const HostData& host, const GpuDevice* device, int gpu) {
  const auto found = host.gpus.find(gpu);
  std::optional<double> limit;
  if (found != host.gpus.end()) limit = found->second.power_limit_w;
  if (!limit && device != nullptr) limit = device->power_limit_w;
  return limit ? fmt::format("{:.0f} W", *limit) : std::string();
}

/// The devices that both sides have are compared; further ones belong to the rank count.
void add_gpu_field(
    std::string_view name, const Side& a, const Side& b, Gate& gate,
    const std::function<std::string(const HostData&, const GpuDevice*, int)>& value) {
  std::size_t common = SIZE_MAX, most = 0;
  for (const Side* side : {&a, &b}) {
    for (const RunData& run : side->runs) {
      const std::size_t count = of_gpus(run, value).size();
      common = std::min(common, count);
      most = std::max(most, count);
    }
  }
  if (most == 0) return;  // no GPU anywhere: a CPU run
  const auto of_run = [&](const RunData& run) {
    std::vector<std::string> parts = of_gpus(run, value);
    parts.resize(std::min(parts.size(), common));
    std::vector<std::string> known;
    for (const std::string& part : parts) {
      if (!part.empty()) known.push_back(part);
    }
    return known.size() == parts.size() ? join(known, ", ") : std::string();
  };
  ComparedField field = lay(rule_of(name), per_run(a, of_run), per_run(b, of_run));
  if (common == 0) field.note = "one side used no GPU, or its use was not recorded";
  for (const Side* side : {&a, &b}) {
    const RunData& run = side->runs.front();
    if (run.hosts.empty() || field.a == field.b) continue;
    field.evidence.push_back({.run = run.label,
                              .file = "rig/" + run.hosts.front().host + ".json",
                              .what = std::string(name)});
  }
  gate.fields.push_back(std::move(field));
}

/// A further GPU that hangs on a narrower link than the first is worth a word: it is the layout
/// that is measured, not "two GPUs".
void look_at_further_links(const Side& a, const Side& b, Gate& gate) {
  for (const Side* side : {&a, &b}) {
    const RunData& run = side->runs.front();
    std::optional<double> widest;
    for (const HostData& host : run.hosts) {
      for (const int gpu : gpus_used(host)) {
        const double width = host.gpus.at(gpu).width, most = host.gpus.at(gpu).width_max;
        if (!(width > 0)) continue;
        if (widest && width < *widest) {
          gate.findings.push_back(
              {.id = "narrow-link",
               .severity = Severity::warning,
               .claim = fmt::format("{}: GPU {} is attached by x{:.0f}, another by x{:.0f}",
                                    side->name, gpu, width, *widest),
               .evidence = {{.run = run.label,
                             .file = host.gpu_file,
                             .what = fmt::format("GPU {}: pcie_width {:.0f}, at most {:.0f}", gpu,
                                                 width, most)}},
               .next_step = "move the GPU to a slot with more lanes, then repeat"});
        }
        widest = std::max(widest.value_or(0), width);
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------
// software

/// "2.4.1" and "2.4.0": the same but for the last part.
bool only_patch_differs(const std::string& a, const std::string& b) {
  const auto parts_a = split(a, '.'), parts_b = split(b, '.');
  if (parts_a.size() < 3 || parts_b.size() < 3) return false;
  return parts_a[0] == parts_b[0] && parts_a[1] == parts_b[1];
}

std::set<std::string> keys_of(const Side& a, const Side& b,
                              std::map<std::string, std::string> Environment::*member) {
  std::set<std::string> keys;
  for (const Side* side : {&a, &b}) {
    for (const RunData& run : side->runs) {
      for (const HostData& host : run.hosts) {
        if (!host.environment) continue;
        for (const auto& [key, value] : (*host.environment).*member) keys.insert(key);
      }
    }
  }
  return keys;
}

Values entries(const Side& side, std::map<std::string, std::string> Environment::*member,
               const std::string& key) {
  return per_run(side, [&](const RunData& run) {
    std::vector<std::string> values;
    for (const HostData& host : run.hosts) {
      if (!host.environment) continue;
      const auto found = ((*host.environment).*member).find(key);
      if (found == ((*host.environment).*member).end()) continue;
      if (std::find(values.begin(), values.end(), found->second) == values.end()) {
        values.push_back(found->second);
      }
    }
    return clean_text(join(values, " + "), 200);
  });
}

bool any_environment(const Side& side) {
  for (const RunData& run : side.runs) {
    for (const HostData& host : run.hosts) {
      if (host.environment) return true;
    }
  }
  return false;
}

void look_at_software(const Side& a, const Side& b, Gate& gate) {
  if (!any_environment(a) || !any_environment(b)) {
    gate.fields.push_back(
        lay(rule_of("software"),
            per_run(a, [&](const RunData&) { return any_environment(a) ? "recorded" : ""; }),
            per_run(b, [&](const RunData&) { return any_environment(b) ? "recorded" : ""; })));
    return;
  }
  std::size_t equal = 0;
  for (const std::string& package : keys_of(a, b, &Environment::versions)) {
    const Values va = entries(a, &Environment::versions, package);
    const Values vb = entries(b, &Environment::versions, package);
    ComparedField field = lay(rule_of("software"), va, vb);
    if (field.a == field.b) {
      ++equal;
      continue;
    }
    field.field = "software:" + package;
    const bool repeats = std::min(a.runs.size(), b.runs.size()) >= compare_rules::kRunsForTest;
    if (!compare_rules::decides_speed(package)) {
      field.speed = field.loss = Impact::noted;
    } else if (repeats && only_patch_differs(field.a, field.b)) {
      field.speed = field.loss = Impact::noted;
      field.note = "only the patch level differs";
    }
    if (field.a.empty() || field.b.empty()) field.note = "present or recorded on one side only";
    for (const Side* side : {&a, &b}) {
      const RunData& run = side->runs.front();
      field.evidence.push_back(
          {.run = run.label, .file = "env/" + run.hosts.front().host + ".json", .what = package});
    }
    gate.fields.push_back(std::move(field));
  }
  const std::string same = fmt::format("{} packages equal", equal);
  gate.fields.push_back({.field = "software", .a = same, .b = same});
}

/// Which environment variables can change a step's time; the others are noted.
bool variable_decides(std::string_view name) {
  for (const std::string_view head :
       {"OMP_", "MKL_", "OPENBLAS_", "NCCL_", "CUDA_", "TORCH_", "PYTORCH_", "HIP_", "HSA_",
        "RCCL_", "GLOO_", "ACCELERATE_"}) {
    if (name.starts_with(head)) return true;
  }
  return false;
}

void look_at_variables(const Side& a, const Side& b, Gate& gate) {
  for (const std::string& name : keys_of(a, b, &Environment::variables)) {
    const Values va = entries(a, &Environment::variables, name);
    const Values vb = entries(b, &Environment::variables, name);
    if (in_words(va) == in_words(vb)) continue;
    ComparedField field{.field = "environment_variable:" + name,
                        .a = in_words(va),
                        .b = in_words(vb),
                        .note = std::string(rule_of("environment_variable").why)};
    field.speed = variable_decides(name) ? rule_of("environment_variable").speed : Impact::noted;
    field.loss = Impact::noted;
    // Which devices are shown says no more than the rank count, which is judged by itself.
    if (name.ends_with("_VISIBLE_DEVICES")) field.speed = Impact::noted;
    if (field.a.empty()) field.a = "not set";
    if (field.b.empty()) field.b = "not set";
    gate.fields.push_back(std::move(field));
  }
}

}  // namespace

void look_at_machines(const Side& a, const Side& b, Gate& gate) {
  add(
      "host", a, b, gate, [](const RunData& run) { return run.run->info.host; }, "rig");
  add(
      "cpu", a, b, gate,
      [](const RunData& run) { return of_rigs(run, [](const Rig& rig) { return rig.cpu_model; }); },
      "rig");
  add(
      "cpus_allowed", a, b, gate,
      [](const RunData& run) {
        return of_rigs(run, [](const Rig& rig) {
          const auto cpus = rig.cpus_allowed ? rig.cpus_allowed : rig.threads;
          return cpus ? std::to_string(*cpus) : std::string();
        });
      },
      "rig");
  add(
      "host_memory", a, b, gate, [](const RunData& run) { return of_rigs(run, memory_in_words); },
      "rig");
  add(
      "storage", a, b, gate, [](const RunData& run) { return of_rigs(run, storage_in_words); },
      "rig");
  add_gpu_field("gpu_model", a, b, gate, [](const HostData&, const GpuDevice* device, int) {
    return device == nullptr ? std::string() : device->name;
  });
  add_gpu_field("gpu_link", a, b, gate, link_in_words);
  add_gpu_field("gpu_power_limit", a, b, gate, limit_in_words);
  look_at_further_links(a, b, gate);
  look_at_software(a, b, gate);
  look_at_variables(a, b, gate);
  const auto environment_fact = [](const char* key) {
    return [key](const RunData& run) {
      for (const HostData& host : run.hosts) {
        if (!host.environment) continue;
        const auto found = host.environment->facts.find(key);
        if (found != host.environment->facts.end()) return found->second;
      }
      return std::string();
    };
  };
  add("code_revision", a, b, gate, environment_fact("git_commit"), "env");
  add("code_changes", a, b, gate, environment_fact("git_dirty_hash"), "env");
}

}  // namespace rigwise::compare_fields
