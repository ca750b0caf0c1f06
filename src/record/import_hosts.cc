// Files of several hosts in one import that name none: told apart by the GPUs in them.
#include <algorithm>
#include <set>

#include "base/text.h"
#include "record/import_parts.h"
#include "run/layout.h"

namespace rigwise::importing {

namespace {

/// The same place in a machine, but another device: these are two machines.
bool contradict(const Captured& a, const Captured& b) {
  for (const auto& one : a.rig.gpus) {
    for (const auto& other : b.rig.gpus) {
      if (one.uuid.empty() || other.uuid.empty() || one.uuid == other.uuid) continue;
      const bool same_slot = !one.pci_address.empty() && one.pci_address == other.pci_address;
      const bool same_number = a.gpus_numbered && b.gpus_numbered && one.gpu == other.gpu;
      if (same_slot || same_number) return true;
    }
  }
  return false;
}

std::string first_folder(const Source& source) {
  const auto slash = source.file.path.find('/');
  return slash == std::string::npos ? std::string() : source.file.path.substr(0, slash);
}

std::string host_name(std::string_view text) {
  std::string name;
  for (const char c : text.substr(0, 60))
    name += layout::is_run_name(std::string("a") + c) ? c : '-';
  return layout::is_run_name(name) ? name : "host";
}

}  // namespace

void tell_hosts_apart(std::vector<Source>& sources) {
  constexpr std::size_t kMostCompared = 200;
  std::vector<Source*> with_gpus;
  for (auto& source : sources) {
    const auto& gpus = source.captured.rig.gpus;
    if (source.host.empty() && with_gpus.size() < kMostCompared &&
        std::any_of(gpus.begin(), gpus.end(), [](const auto& g) { return !g.uuid.empty(); }))
      with_gpus.push_back(&source);
  }
  std::set<Source*> apart;
  for (std::size_t i = 0; i < with_gpus.size(); ++i) {
    for (std::size_t k = i + 1; k < with_gpus.size(); ++k) {
      if (!contradict(with_gpus[i]->captured, with_gpus[k]->captured)) continue;
      apart.insert({with_gpus[i], with_gpus[k]});
    }
  }
  if (apart.empty()) return;
  std::set<std::string> folders;
  for (const Source* source : with_gpus) {
    if (apart.contains(const_cast<Source*>(source))) folders.insert(first_folder(*source));
  }
  const bool by_folder = folders.size() > 1 && !folders.contains("");
  for (auto& source : sources) {
    if (!source.host.empty()) continue;
    const bool alone = apart.contains(&source);
    if (by_folder ? !folders.contains(first_folder(source)) : !alone) continue;
    const std::string file = source.path.stem().string();
    source.host = host_name(by_folder ? first_folder(source) : file);
    if (alone)
      source.file.notes.push_back(
          "its GPUs are of another machine than those of other files: host '" + source.host +
          "', after its " + (by_folder ? "folder" : "file"));
  }
}

}  // namespace rigwise::importing
