// What is not as it was when the same command last went well.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/text.h"
#include "rigwise/triage.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

using Values = std::map<std::string, std::string>;

constexpr std::size_t kMostChanges = 100, kMostText = 200;
/// Below this share of a file system's size its free space counts as changed.
constexpr double kLittle_frac = 0.05;

std::string_view base_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

/// What is run: the script, or the module behind the last -m, or the program.
std::string program_of(const std::vector<std::string>& command) {
  std::string module;
  for (std::size_t i = 0; i < command.size(); ++i) {
    const std::string& word = command[i];
    if (word.ends_with(".py") || (i > 0 && word.ends_with(".sh"))) return word;
    if (i > 0 && command[i - 1] == "-m") module = word;
  }
  if (!module.empty()) return module;
  return command.empty() ? std::string() : std::string(base_name(command[0]));
}

/// Options with their values; the other words by their place.
Values arguments_of(const std::vector<std::string>& command) {
  Values out;
  int place = 0;
  for (std::size_t i = 1; i < command.size(); ++i) {
    const std::string& word = command[i];
    const std::size_t equals = word.find('=');
    if (!word.starts_with('-')) {
      out[fmt::format("word {}", ++place)] = word;
    } else if (equals != std::string::npos) {
      out[word.substr(0, equals)] = word.substr(equals + 1);
    } else if (i + 1 < command.size() && !command[i + 1].starts_with('-')) {
      out[word] = command[++i];
    } else {
      out[word] = "given";
    }
  }
  return out;
}

class Changes {
 public:
  void compare(std::string_view what, const Values& before, const Values& now) {
    std::set<std::string> names;
    for (const auto& [name, value] : before) names.insert(name);
    for (const auto& [name, value] : now) names.insert(name);
    for (const std::string& name : names) {
      const auto old = before.find(name), fresh = now.find(name);
      add(what, name, old == before.end() ? "" : old->second,
          fresh == now.end() ? "" : fresh->second);
    }
  }

  void add(std::string_view what, const std::string& name, const std::string& before,
           const std::string& now) {
    if (before == now || found_.size() >= kMostChanges) return;
    found_.push_back({std::string(what), clean_text(name, kMostText), clean_text(before, kMostText),
                      clean_text(now, kMostText)});
  }

  std::vector<Change> take() { return std::move(found_); }

 private:
  std::vector<Change> found_ = {};
};

std::string gpus_of(const Rig& rig) {
  std::vector<std::string> names;
  for (const GpuDevice& gpu : rig.gpus) names.push_back(gpu.name);
  return names.empty() ? std::string("none") : join(names, ", ");
}

void compare_rigs(const Rig& before, const Rig& now, Changes& out) {
  out.add("machine", "GPUs", gpus_of(before), gpus_of(now));
  if (before.mem_bytes && now.mem_bytes)
    out.add("machine", "memory", format_bytes(*before.mem_bytes), format_bytes(*now.mem_bytes));
  if (before.cpus_allowed && now.cpus_allowed)
    out.add("machine", "CPUs", std::to_string(*before.cpus_allowed),
            std::to_string(*now.cpus_allowed));
  for (const Mount& mount : now.mounts) {
    const auto old = std::find_if(before.mounts.begin(), before.mounts.end(),
                                  [&](const Mount& other) { return other.path == mount.path; });
    if (old == before.mounts.end() || !mount.free_bytes || !old->free_bytes) continue;
    const bool little = mount.total_bytes && *mount.free_bytes < kLittle_frac * *mount.total_bytes;
    if (!little || *mount.free_bytes >= *old->free_bytes) continue;
    out.add("disk", "free at the start on " + mount.path, format_bytes(*old->free_bytes),
            format_bytes(*mount.free_bytes));
  }
}

Values names_of(const std::vector<std::string>& names) {
  Values out;
  for (const std::string& name : names) out[name] = "set";
  return out;
}

/// Settings that were read from somewhere else than the words of the command.
Values facts_of(const RunInfo& info) {
  Values out;
  for (const Fact& fact : info.facts) {
    if (!fact.source.starts_with("argv")) out[fact.key] = fact.value;
  }
  return out;
}

/// What each layer looks at first.
int distance(std::string_view what, FailureLayer layer) {
  std::vector<std::string_view> order = {"argument", "setting", "software", "machine",
                                         "variable", "disk",    "place"};
  std::string_view first;
  switch (layer) {
    case FailureLayer::framework_env:
    case FailureLayer::driver:
    case FailureLayer::gpu_runtime:
      first = "software";
      break;
    case FailureLayer::storage_space:
    case FailureLayer::storage_io_permission:
      first = "disk";
      break;
    case FailureLayer::hardware_fault:
    case FailureLayer::topology_p2p:
    case FailureLayer::host_oom:
      first = "machine";
      break;
    case FailureLayer::rendezvous_network:
      first = "variable";
      break;
    default:
      break;
  }
  if (what == first) return -1;
  return static_cast<int>(std::find(order.begin(), order.end(), what) - order.begin());
}

/// The newest one that went well; with the same words before any other of the same program.
const Run* newest_good(const Run& failed, const std::vector<Run>& runs) {
  const std::string program = program_of(failed.info.command);
  const Run* found = nullptr;
  bool same_words = false;
  for (const Run& run : runs) {
    const bool earlier = run.info.start_unix_s < failed.info.start_unix_s;
    if (!earlier || run.info.imported || !ended_well(run.info)) continue;
    if (program.empty() || program_of(run.info.command) != program) continue;
    const bool same = run.info.command == failed.info.command;
    const bool newer = found == nullptr || run.info.start_unix_s > found->info.start_unix_s;
    if (found != nullptr && (same != same_words ? same_words : !newer)) continue;
    found = &run;
    same_words = same;
  }
  return found;
}

}  // namespace

std::optional<LastGood> last_good(const Run& failed, const std::vector<Run>& runs,
                                  FailureLayer layer) {
  const Run* good = newest_good(failed, runs);
  if (good == nullptr) return {};
  Changes changes;
  changes.compare("argument", arguments_of(good->info.command), arguments_of(failed.info.command));
  changes.compare("setting", facts_of(good->info), facts_of(failed.info));
  changes.add("place", "host", good->info.host, failed.info.host);
  changes.add("place", "folder", good->info.cwd, failed.info.cwd);
  const auto before = read_environment(*good, good->info.host);
  const auto now = read_environment(failed, failed.info.host);
  if (before && now) {
    changes.compare("software", before->versions, now->versions);
    changes.compare("software", before->facts, now->facts);
    changes.compare("variable", before->variables, now->variables);
    changes.compare("variable", names_of(before->variable_names), names_of(now->variable_names));
  }
  const auto old_rig = read_rig(*good, good->info.host);
  const auto new_rig = read_rig(failed, failed.info.host);
  if (old_rig && new_rig) compare_rigs(*old_rig, *new_rig, changes);
  LastGood out;
  out.run_id = good->info.id;
  out.started_unix_s = good->info.start_unix_s;
  out.software_known = before && now;
  out.changes = changes.take();
  std::stable_sort(out.changes.begin(), out.changes.end(), [&](const Change& a, const Change& b) {
    return distance(a.what, layer) < distance(b.what, layer);
  });
  return out;
}

}  // namespace rigwise
