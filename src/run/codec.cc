#include "run/codec.h"

#include "base/json.h"

namespace rigwise {

namespace {

// One overload a member type; `get` leaves the target as it is where the document has no such
// member.
template <class T>
void take(const Json& from, const char* key, T& into) {
  if (auto value = get<T>(from, key)) into = std::move(*value);
}
template <class T>
void take(const Json& from, const char* key, std::optional<T>& into) {
  if (auto value = get<T>(from, key)) into = std::move(*value);
}
void take(const Json& from, const char* key, std::vector<std::string>& into) {
  const auto found = from.find(key);
  if (found == from.end() || !found->is_array()) return;
  for (const auto& item : *found) {
    if (item.is_string()) into.push_back(item.get<std::string>());
  }
}
void take(const Json& from, const char* key, std::map<std::string, std::string>& into) {
  const auto found = from.find(key);
  if (found == from.end() || !found->is_object()) return;
  for (const auto& [name, value] : found->items()) {
    if (value.is_string()) into[name] = value.get<std::string>();
  }
}
/// Objects of an array, or one object: calls `read` for each.
template <class Read>
void each(const Json& from, const char* key, Read read) {
  const auto found = from.find(key);
  if (found == from.end()) return;
  if (found->is_object()) read(*found);
  if (!found->is_array()) return;
  for (const auto& item : *found) {
    if (item.is_object()) read(item);
  }
}

std::string text_of(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

Result<Json> parse_object(std::string_view text) {
  RW_TRY(Json json, parse_json(text));
  if (!json.is_object()) return Error{Errc::malformed, "not a JSON object"};
  return json;
}

Json json_of(const Statement& statement) {
  Json json = {{"bottleneck", statement.bottleneck},
               {"threshold", statement.threshold},
               {"option", statement.option},
               {"reason", statement.reason},
               {"stop", statement.stop},
               {"baseline", statement.baseline},
               {"candidate", statement.candidate},
               {"experiment", statement.experiment},
               {"hash", statement.hash}};
  put(json, "sealed_unix_s", statement.sealed_unix_s);
  return json;
}

Statement statement_of(const Json& json) {
  Statement statement;
  take(json, "bottleneck", statement.bottleneck);
  take(json, "threshold", statement.threshold);
  take(json, "option", statement.option);
  take(json, "reason", statement.reason);
  take(json, "stop", statement.stop);
  take(json, "baseline", statement.baseline);
  take(json, "candidate", statement.candidate);
  take(json, "experiment", statement.experiment);
  take(json, "hash", statement.hash);
  take(json, "sealed_unix_s", statement.sealed_unix_s);
  return statement;
}

Json json_of(const Ending& ending) {
  Json json = {{"reason", ending.reason}, {"wall_s", ending.wall_s}};
  put(json, "exit_status", ending.exit_status);
  put(json, "signal", ending.signal);
  return json;
}

Ending ending_of(const Json& json) {
  Ending ending;
  take(json, "exit_status", ending.exit_status);
  take(json, "signal", ending.signal);
  take(json, "reason", ending.reason);
  take(json, "wall_s", ending.wall_s);
  return ending;
}

Json json_of(const RecorderCost& cost) {
  Json json = {{"dropped_readings", cost.dropped_readings},
               {"missed_ticks", cost.missed_ticks},
               {"lost_log_bytes", cost.lost_log_bytes}};
  put(json, "cpu_s", cost.cpu_s);
  put(json, "peak_rss_bytes", cost.peak_rss_bytes);
  put(json, "longest_tick_s", cost.longest_tick_s);
  put(json, "keeper_cpu_s", cost.keeper_cpu_s);
  return json;
}

RecorderCost cost_of(const Json& json) {
  RecorderCost cost;
  take(json, "dropped_readings", cost.dropped_readings);
  take(json, "missed_ticks", cost.missed_ticks);
  take(json, "lost_log_bytes", cost.lost_log_bytes);
  take(json, "cpu_s", cost.cpu_s);
  take(json, "peak_rss_bytes", cost.peak_rss_bytes);
  take(json, "longest_tick_s", cost.longest_tick_s);
  take(json, "keeper_cpu_s", cost.keeper_cpu_s);
  return cost;
}

Json json_of(const ReadStatistics& reading) {
  return {{"lines", reading.lines},
          {"matched", reading.matched},
          {"skipped", reading.skipped},
          {"malformed", reading.malformed},
          {"first_bad_line", reading.first_bad_line},
          {"first_bad_text", reading.first_bad_text}};
}

ReadStatistics reading_of(const Json& json) {
  ReadStatistics reading;
  take(json, "lines", reading.lines);
  take(json, "matched", reading.matched);
  take(json, "skipped", reading.skipped);
  take(json, "malformed", reading.malformed);
  take(json, "first_bad_line", reading.first_bad_line);
  take(json, "first_bad_text", reading.first_bad_text);
  return reading;
}

Json json_of(const GpuDevice& gpu) {
  Json json = {{"gpu", gpu.gpu},
               {"name", gpu.name},
               {"uuid", gpu.uuid},
               {"pci_address", gpu.pci_address},
               {"vendor", gpu.vendor}};
  put(json, "total_bytes", gpu.total_bytes);
  put(json, "power_limit_w", gpu.power_limit_w);
  put(json, "power_limit_max_w", gpu.power_limit_max_w);
  put(json, "slowdown_c", gpu.slowdown_c);
  put(json, "shutdown_c", gpu.shutdown_c);
  put(json, "pcie_gen_max", gpu.pcie_gen_max);
  put(json, "pcie_width_max", gpu.pcie_width_max);
  put(json, "numa_node", gpu.numa_node);
  json["pci_path"] = gpu.pci_path;
  return json;
}

GpuDevice gpu_of(const Json& json) {
  GpuDevice gpu;
  take(json, "gpu", gpu.gpu);
  take(json, "name", gpu.name);
  take(json, "uuid", gpu.uuid);
  take(json, "pci_address", gpu.pci_address);
  take(json, "vendor", gpu.vendor);
  take(json, "total_bytes", gpu.total_bytes);
  take(json, "power_limit_w", gpu.power_limit_w);
  take(json, "power_limit_max_w", gpu.power_limit_max_w);
  take(json, "slowdown_c", gpu.slowdown_c);
  take(json, "shutdown_c", gpu.shutdown_c);
  take(json, "pcie_gen_max", gpu.pcie_gen_max);
  take(json, "pcie_width_max", gpu.pcie_width_max);
  take(json, "numa_node", gpu.numa_node);
  take(json, "pci_path", gpu.pci_path);
  return gpu;
}

}  // namespace

std::string encode(const RunInfo& info) {
  Json json = {{"format", kRunFormat},
               {"id", info.id},
               {"name", info.name},
               {"command", info.command},
               {"cwd", info.cwd},
               {"host", info.host},
               {"start_unix_s", info.start_unix_s},
               {"start_monotonic_s", info.start_monotonic_s},
               {"boot_id", info.boot_id},
               {"version", info.version},
               {"interval_s", info.interval_s},
               {"on_terminal", info.on_terminal}};
  if (info.statement) json["statement"] = json_of(*info.statement);
  put(json, "ranks_asked", info.ranks_asked);
  put(json, "ranks_trained", info.ranks_trained);
  if (!info.ranks_why.empty()) json["ranks_why"] = info.ranks_why;
  json["facts"] = Json::array();
  for (const auto& fact : info.facts) {
    json["facts"].push_back({{"key", fact.key}, {"value", fact.value}, {"source", fact.source}});
  }
  if (info.log_reading) json["log_reading"] = json_of(*info.log_reading);
  if (info.ending) json["ending"] = json_of(*info.ending);
  if (info.recorder) json["recorder"] = json_of(*info.recorder);
  json["digests"] = info.digests;
  json["missing"] = info.missing;
  if (info.end_unwatched) json["end_unwatched"] = true;
  if (info.log_end_unread) json["log_end_unread"] = true;
  if (info.checkpoints_unwatched) json["checkpoints_unwatched"] = true;
  json["warnings"] = info.warnings;
  if (info.imported) json["imported"] = true;
  if (!info.untimed.empty()) json["untimed"] = info.untimed;
  return text_of(json);
}

Result<RunInfo> decode_run_info(std::string_view text) {
  RW_TRY(const Json json, parse_object(text));
  const auto format = get<int>(json, "format");
  if (!format) return Error{Errc::malformed, "no \"format\" in it"};
  if (*format > kRunFormat) {
    return Error{Errc::malformed,
                 "format " + std::to_string(*format) + " is newer than this program",
                 "read it with the rigwise that wrote it, or a newer one"};
  }
  RunInfo info;
  take(json, "id", info.id);
  take(json, "name", info.name);
  take(json, "command", info.command);
  take(json, "cwd", info.cwd);
  take(json, "host", info.host);
  take(json, "start_unix_s", info.start_unix_s);
  take(json, "start_monotonic_s", info.start_monotonic_s);
  take(json, "boot_id", info.boot_id);
  take(json, "version", info.version);
  take(json, "interval_s", info.interval_s);
  take(json, "on_terminal", info.on_terminal);
  each(json, "statement", [&](const Json& item) { info.statement = statement_of(item); });
  take(json, "ranks_asked", info.ranks_asked);
  take(json, "ranks_trained", info.ranks_trained);
  take(json, "ranks_why", info.ranks_why);
  each(json, "facts", [&](const Json& item) {
    Fact& fact = info.facts.emplace_back();
    take(item, "key", fact.key);
    take(item, "value", fact.value);
    take(item, "source", fact.source);
  });
  each(json, "log_reading", [&](const Json& item) { info.log_reading = reading_of(item); });
  each(json, "ending", [&](const Json& item) { info.ending = ending_of(item); });
  each(json, "recorder", [&](const Json& item) { info.recorder = cost_of(item); });
  take(json, "digests", info.digests);
  take(json, "missing", info.missing);
  take(json, "end_unwatched", info.end_unwatched);
  take(json, "log_end_unread", info.log_end_unread);
  take(json, "checkpoints_unwatched", info.checkpoints_unwatched);
  take(json, "warnings", info.warnings);
  take(json, "imported", info.imported);
  take(json, "untimed", info.untimed);
  return info;
}

std::string encode(const Environment& environment) {
  return text_of({{"host", environment.host},
                  {"versions", environment.versions},
                  {"variables", environment.variables},
                  {"variable_names", environment.variable_names},
                  {"facts", environment.facts},
                  {"missing", environment.missing}});
}

Result<Environment> decode_environment(std::string_view text) {
  RW_TRY(const Json json, parse_object(text));
  Environment environment;
  take(json, "host", environment.host);
  take(json, "versions", environment.versions);
  take(json, "variables", environment.variables);
  take(json, "variable_names", environment.variable_names);
  take(json, "facts", environment.facts);
  take(json, "missing", environment.missing);
  return environment;
}

std::string encode(const Rig& rig) {
  Json json = {{"host", rig.host}, {"cpu_model", rig.cpu_model}};
  put(json, "sockets", rig.sockets);
  put(json, "cores", rig.cores);
  put(json, "threads", rig.threads);
  put(json, "numa_nodes", rig.numa_nodes);
  put(json, "cpus_allowed", rig.cpus_allowed);
  put(json, "mem_bytes", rig.mem_bytes);
  json["gpus"] = Json::array();
  for (const auto& gpu : rig.gpus) json["gpus"].push_back(json_of(gpu));
  json["disks"] = Json::array();
  for (const auto& disk : rig.disks) {
    Json item = {{"device", disk.device}, {"model", disk.model}, {"rotational", disk.rotational}};
    put(item, "size_bytes", disk.size_bytes);
    json["disks"].push_back(std::move(item));
  }
  json["mounts"] = Json::array();
  for (const auto& mount : rig.mounts) {
    Json item = {{"path", mount.path},
                 {"device", mount.device},
                 {"fs_type", mount.fs_type},
                 {"network", mount.network}};
    put(item, "total_bytes", mount.total_bytes);
    put(item, "free_bytes", mount.free_bytes);
    json["mounts"].push_back(std::move(item));
  }
  json["nics"] = Json::array();
  for (const auto& nic : rig.nics) {
    Json item = {{"interface", nic.interface}, {"driver", nic.driver}};
    put(item, "link_bytes_per_s", nic.link_bytes_per_s);
    json["nics"].push_back(std::move(item));
  }
  json["missing"] = rig.missing;
  return text_of(json);
}

Result<Rig> decode_rig(std::string_view text) {
  RW_TRY(const Json json, parse_object(text));
  Rig rig;
  take(json, "host", rig.host);
  take(json, "cpu_model", rig.cpu_model);
  take(json, "sockets", rig.sockets);
  take(json, "cores", rig.cores);
  take(json, "threads", rig.threads);
  take(json, "numa_nodes", rig.numa_nodes);
  take(json, "cpus_allowed", rig.cpus_allowed);
  take(json, "mem_bytes", rig.mem_bytes);
  each(json, "gpus", [&](const Json& item) { rig.gpus.push_back(gpu_of(item)); });
  each(json, "disks", [&](const Json& item) {
    Disk& disk = rig.disks.emplace_back();
    take(item, "device", disk.device);
    take(item, "model", disk.model);
    take(item, "rotational", disk.rotational);
    take(item, "size_bytes", disk.size_bytes);
  });
  each(json, "mounts", [&](const Json& item) {
    Mount& mount = rig.mounts.emplace_back();
    take(item, "path", mount.path);
    take(item, "device", mount.device);
    take(item, "fs_type", mount.fs_type);
    take(item, "network", mount.network);
    take(item, "total_bytes", mount.total_bytes);
    take(item, "free_bytes", mount.free_bytes);
  });
  each(json, "nics", [&](const Json& item) {
    Nic& nic = rig.nics.emplace_back();
    take(item, "interface", nic.interface);
    take(item, "driver", nic.driver);
    take(item, "link_bytes_per_s", nic.link_bytes_per_s);
  });
  take(json, "missing", rig.missing);
  return rig;
}

std::string encode(const KeeperRecord& record) {
  Json json = {{"ending", json_of(record.ending)}, {"lost_log_bytes", record.lost_log_bytes}};
  put(json, "cpu_s", record.cpu_s);
  return text_of(json);
}

Result<KeeperRecord> decode_keeper_record(std::string_view text) {
  RW_TRY(const Json json, parse_object(text));
  KeeperRecord record;
  each(json, "ending", [&](const Json& item) { record.ending = ending_of(item); });
  take(json, "lost_log_bytes", record.lost_log_bytes);
  take(json, "cpu_s", record.cpu_s);
  return record;
}

}  // namespace rigwise
