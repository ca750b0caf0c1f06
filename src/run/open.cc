// The reading side of a run directory. Never repairs, never takes a lock, never writes.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <set>
#include <tuple>

#include "base/files.h"
#include "base/text.h"
#include "rigwise/run.h"
#include "run/codec.h"
#include "run/layout.h"
#include "run/tables.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {

/// The t_s of the last whole row of a table whose first or, in a log index, second column it is;
/// nothing where there is none.
std::optional<double> last_instant(const fs::path& path, std::size_t column) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status = {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0) return std::nullopt;
  std::array<char, 8192> tail;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const off_t from = std::max<off_t>(0, status.st_size - static_cast<off_t>(tail.size()));
  const ssize_t count = ::pread(fd.get(), tail.data(), tail.size(), from);
  if (count <= 0) return std::nullopt;
  std::string_view text(tail.data(), static_cast<std::size_t>(count));
  text = text.substr(0, text.rfind('\n'));
  while (!text.empty()) {
    const auto start = text.rfind('\n');
    const auto row = start == std::string_view::npos ? text : text.substr(start + 1);
    const auto fields = split(row, ',');
    if (fields.size() > column) {
      const auto t_s = to_number(fields[column]);
      if (t_s && std::isfinite(*t_s)) return t_s;
    }
    if (start == std::string_view::npos) break;
    text = text.substr(0, start);
  }
  return std::nullopt;
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

template <class T>
Result<Rows<T>> read_table(const Run& run, const std::string& relative) {
  auto text = read_file(run.dir / relative);
  if (!text) {
    Rows<T> none;
    none.file = relative;
    if (text.error().code == Errc::not_found) return none;
    return std::move(text).error();
  }
  Rows<T> rows = tables::parse<T>(*text);
  rows.file = relative;
  return rows;
}

template <class T>
Status walk_table(const Run& run, const std::string& relative, const ColumnNames& columns,
                  const RowVisitor<T>& visit) {
  const auto text = read_file(run.dir / relative);
  if (text.ok()) {
    tables::walk<T>(*text, columns, visit);
  } else if (text.error().code != Errc::not_found) {
    return text.error();
  }
  return Ok{};
}

/// What a finished run should have and this one has not, in words.
void look_for_missing(Run& run) {
  const auto& host = run.info.host;
  const auto lacks = [&](const std::string& file, std::string_view what) {
    if (!is_there(run.dir / file))
      run.missing.push_back(file + ": absent (" + std::string(what) + ")");
  };
  if (run.state == RunState::running) return;
  if (run.info.imported)
    return;  // it has what people kept; `missing` of its run.json says what not
  lacks(layout::watch_file(host, "host"), "no sample of the host was taken");
  lacks(layout::environment_file(host), "the software was not recorded");
  lacks(layout::rig_file(host), "the hardware was not recorded");
  if (!is_there(run.dir / layout::log_file("out"))) {
    run.missing.push_back("log/out.log: absent (the command's output was not kept)");
  }
}

}  // namespace

bool ended_well(const RunInfo& info) {
  if (!info.ending || info.ending->signal) return false;
  if (info.ending->exit_status) return *info.ending->exit_status == 0;
  return info.imported && info.ending->reason == kEndedAsLogged;
}

bool end_unknown(const RunInfo& info) {
  return info.imported && info.ending && !info.ending->signal && !info.ending->exit_status &&
         info.ending->reason != kEndedAsLogged;
}

Result<Run> open_run(const fs::path& dir) {
  Run run;
  run.dir = dir;
  auto text = read_file(dir / layout::kRunJson, std::uint64_t{64} << 20);
  if (!text) {
    if (text.error().code != Errc::not_found) return std::move(text).error();
    return Error{Errc::not_found, dir.string() + ": no run here (it has no run.json)"};
  }
  auto info = decode_run_info(*text);
  if (!info) return std::move(info).error().at((dir / layout::kRunJson).string());
  run.info = std::move(*info);
  if (run.info.name.empty()) run.info.name = dir.filename().string();
  run.missing = run.info.missing;

  if (run.info.ending) {
    run.state = RunState::finished;
  } else if (is_locked(dir / layout::kLock)) {
    run.state = RunState::running;
  } else {
    run.state = RunState::torn;
    run.info.end_unwatched = true;
    run.missing.emplace_back("the end: recorder and front died before the run was closed");
    if (const auto keeper = read_file(dir / layout::kKeeperJson, 1 << 20); keeper.ok()) {
      if (const auto record = decode_keeper_record(*keeper); record.ok()) {
        run.info.ending = record->ending;
        run.missing.back() += "; how the command ended is known from the keeper";
      }
    }
  }
  if (run.info.ending) {
    run.wall_s = run.info.ending->wall_s;
  } else {
    for (const auto kind : {"host", "self", "gpu", "proc"}) {
      const auto t_s = last_instant(dir / layout::watch_file(run.info.host, kind), 0);
      run.wall_s = std::max(run.wall_s, t_s.value_or(0));
    }
    for (const auto stream : {"out", "err"}) {
      run.wall_s =
          std::max(run.wall_s, last_instant(dir / layout::log_index(stream), 1).value_or(0));
    }
  }
  look_for_missing(run);
  return run;
}

Result<Rows<StepRecord>> read_steps(const Run& run) {
  return read_table<StepRecord>(run, std::string(layout::kSteps));
}
Result<Rows<Event>> read_events(const Run& run) {
  return read_table<Event>(run, std::string(layout::kEvents));
}
Result<Rows<GpuSample>> read_gpu(const Run& run, const std::string& host) {
  return read_table<GpuSample>(run, layout::watch_file(host, "gpu"));
}
Result<Rows<HostSample>> read_host(const Run& run, const std::string& host) {
  return read_table<HostSample>(run, layout::watch_file(host, "host"));
}
Result<Rows<DiskSample>> read_disk(const Run& run, const std::string& host) {
  return read_table<DiskSample>(run, layout::watch_file(host, "disk"));
}
Result<Rows<NetSample>> read_net(const Run& run, const std::string& host) {
  return read_table<NetSample>(run, layout::watch_file(host, "net"));
}
Result<Rows<ProcSample>> read_proc(const Run& run, const std::string& host) {
  return read_table<ProcSample>(run, layout::watch_file(host, "proc"));
}
Result<Rows<SelfSample>> read_self(const Run& run, const std::string& host) {
  return read_table<SelfSample>(run, layout::watch_file(host, "self"));
}

Result<Rows<StackSpan>> read_stacks(const Run& run, const std::string& host) {
  return read_table<StackSpan>(run, layout::profile_file(host, "stacks"));
}
Result<Rows<StackFrames>> read_stack_frames(const Run& run, const std::string& host) {
  return read_table<StackFrames>(run, layout::profile_file(host, "frames"));
}
Result<Rows<StackCount>> read_stack_counts(const Run& run, const std::string& host) {
  return read_table<StackCount>(run, layout::profile_file(host, "folded"));
}
Result<Rows<TraceWindow>> read_trace_windows(const Run& run) {
  return read_table<TraceWindow>(run, std::string(layout::kTraceWindows));
}
Result<Rows<NcclSeconds>> read_nccl_seconds(const Run& run) {
  return read_table<NcclSeconds>(run, std::string(layout::kNcclSeconds));
}
Result<Rows<Observation>> read_evidence(const Run& run) {
  return read_table<Observation>(run, std::string(layout::kEvidence));
}

Status visit_gpu(const Run& run, const std::string& host, const ColumnNames& columns,
                 const RowVisitor<GpuSample>& visit) {
  return walk_table(run, layout::watch_file(host, "gpu"), columns, visit);
}
Status visit_host(const Run& run, const std::string& host, const ColumnNames& columns,
                  const RowVisitor<HostSample>& visit) {
  return walk_table(run, layout::watch_file(host, "host"), columns, visit);
}
Status visit_disk(const Run& run, const std::string& host, const ColumnNames& columns,
                  const RowVisitor<DiskSample>& visit) {
  return walk_table(run, layout::watch_file(host, "disk"), columns, visit);
}
Status visit_proc(const Run& run, const std::string& host, const ColumnNames& columns,
                  const RowVisitor<ProcSample>& visit) {
  return walk_table(run, layout::watch_file(host, "proc"), columns, visit);
}
Status visit_stacks(const Run& run, const std::string& host, const ColumnNames& columns,
                    const RowVisitor<StackSpan>& visit) {
  return walk_table(run, layout::profile_file(host, "stacks"), columns, visit);
}

Result<Rows<LogMark>> read_log_index(const Run& run, std::string_view file) {
  return read_table<LogMark>(run, layout::log_index(file));
}

Result<Environment> read_environment(const Run& run, const std::string& host) {
  const std::string relative = layout::environment_file(host);
  RW_TRY(const std::string text, read_file(run.dir / relative, std::uint64_t{64} << 20));
  auto environment = decode_environment(text);
  if (!environment) return std::move(environment).error().at(relative);
  return environment;
}

Result<Rig> read_rig(const Run& run, const std::string& host) {
  const std::string relative = layout::rig_file(host);
  RW_TRY(const std::string text, read_file(run.dir / relative, std::uint64_t{64} << 20));
  auto rig = decode_rig(text);
  if (!rig) return std::move(rig).error().at(relative);
  return rig;
}

std::vector<std::string> hosts_of(const Run& run) {
  std::set<std::string> found;
  const auto look = [&](std::string_view folder, auto name_of) {
    std::error_code error;
    for (auto entry = fs::directory_iterator(run.dir / folder, error);
         !error && entry != fs::directory_iterator(); entry.increment(error)) {
      const std::string host = name_of(entry->path().filename().string());
      if (!host.empty() && host != run.info.host) found.insert(host);
    }
  };
  const auto without = [](const std::string& name, std::string_view ending) {
    return name.ends_with(ending) ? name.substr(0, name.size() - ending.size()) : std::string();
  };
  look(layout::kEnvFolder, [&](const std::string& name) { return without(name, ".json"); });
  look(layout::kRigFolder, [&](const std::string& name) { return without(name, ".json"); });
  look(layout::kWatchFolder, [&](const std::string& name) {
    for (const auto kind : {".gpu.csv", ".host.csv", ".proc.csv"}) {
      if (const auto host = without(name, kind); !host.empty()) return host;
    }
    return std::string();
  });
  std::vector<std::string> hosts;
  if (!run.info.host.empty()) hosts.push_back(run.info.host);
  hosts.insert(hosts.end(), found.begin(), found.end());
  return hosts;
}

fs::path runs_root(const std::optional<std::string>& flag) {
  if (flag && !flag->empty()) return *flag;
  if (const char* variable = std::getenv("RIGWISE_RUNS");
      variable != nullptr && *variable != '\0') {
    return variable;
  }
  return "runs";
}

std::vector<Run> list_runs(const fs::path& root) {
  std::vector<Run> runs;
  std::error_code error;
  for (auto entry = fs::directory_iterator(root, error);
       !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (!is_there(entry->path() / layout::kRunJson)) continue;
    if (auto run = open_run(entry->path())) runs.push_back(std::move(*run));
  }
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) {
    return std::tie(a.info.start_unix_s, a.info.id) < std::tie(b.info.start_unix_s, b.info.id);
  });
  return runs;
}

Result<std::vector<Run>> find_runs(const fs::path& root, const std::string& name) {
  // A path with a slash is a run directory itself.
  if (name.find('/') != std::string::npos) {
    RW_TRY(Run run, open_run(name));
    std::vector<Run> one;
    one.push_back(std::move(run));
    return one;
  }
  std::vector<Run> all = list_runs(root);
  std::vector<std::string> names;
  std::vector<Run> found;
  std::size_t by_id = 0;
  for (auto& run : all) {
    names.push_back(run.info.name);
    names.push_back(run.info.id);
    if (run.info.id == name) ++by_id;
    if (run.info.name == name || run.info.id == name) found.push_back(std::move(run));
  }
  if (by_id > 0 && by_id < found.size()) {
    std::string ways = (root / name).string() + "/ is the one of that id";
    for (const Run& run : found) {
      if (run.info.id != name) ways += ", " + run.info.id + " has that name";
      if (ways.size() > 400) break;
    }
    return Error{Errc::conflict,
                 "'" + clean_text(name, 120) + "' is the id of one run and the name of another",
                 "say which: " + clean_text(ways, 600)};
  }
  if (!found.empty()) return found;
  Error error{Errc::not_found,
              "no run named '" + clean_text(name, 120) + "' in " + root.string() + "/"};
  if (const auto near = nearest_name(name, names)) {
    error.hint = "did you mean '" + *near + "'?";
  } else if (names.empty()) {
    error.hint = "no run is recorded there yet: rigwise run --name NAME -- COMMAND";
  } else {
    error.hint = "rigwise runs list shows what there is";
  }
  return error;
}

}  // namespace rigwise
