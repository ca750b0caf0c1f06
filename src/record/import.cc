// Import: sources → one clock, one training, one rig → a run directory.
#include "rigwise/import.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "record/facts.h"
#include "record/import_parts.h"
#include "record/ranks.h"
#include "record/secrets.h"
#include "rigwise/units.h"
#include "run/layout.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace importing {
namespace {

// ------------------------------------------------------------------------------------------ run

/// GPUs by what does not change: a file that numbers them itself tells the others.
std::map<std::string, int> numbered_gpus(const std::vector<Source>& sources) {
  std::map<std::string, int> numbers;
  for (const auto& source : sources) {
    if (!source.captured.gpus_numbered) continue;
    for (const auto& gpu : source.captured.rig.gpus) {
      if (!gpu.uuid.empty()) numbers.try_emplace(gpu.uuid, gpu.gpu);
      if (!gpu.pci_address.empty()) numbers.try_emplace(gpu.pci_address, gpu.gpu);
    }
  }
  return numbers;
}

void renumber(Captured& captured, const std::map<std::string, int>& numbers) {
  if (captured.gpus_numbered) return;
  std::map<int, int> to;
  for (auto& gpu : captured.rig.gpus) {
    auto found = numbers.find(gpu.uuid);
    if (found == numbers.end()) found = numbers.find(gpu.pci_address);
    if (found == numbers.end()) continue;
    to[gpu.gpu] = found->second;
  }
  for (auto& gpu : captured.rig.gpus) {
    if (const auto found = to.find(gpu.gpu); found != to.end()) gpu.gpu = found->second;
  }
  for (auto& sample : captured.gpus) {
    if (const auto found = to.find(sample.row.gpu); found != to.end())
      sample.row.gpu = found->second;
  }
}

template <class T>
void fill(std::optional<T>& into, const std::optional<T>& from) {
  if (!into) into = from;
}
void fill(std::string& into, const std::string& from) {
  if (into.empty()) into = from;
}

void merge_rig(const Rig& from, Rig& into) {
  fill(into.cpu_model, from.cpu_model);
  fill(into.sockets, from.sockets);
  fill(into.cores, from.cores);
  fill(into.threads, from.threads);
  fill(into.numa_nodes, from.numa_nodes);
  fill(into.mem_bytes, from.mem_bytes);
  for (const auto& gpu : from.gpus) {
    const auto found = std::find_if(into.gpus.begin(), into.gpus.end(),
                                    [&](const auto& g) { return g.gpu == gpu.gpu; });
    if (found == into.gpus.end()) {
      into.gpus.push_back(gpu);
      continue;
    }
    fill(found->name, gpu.name);
    fill(found->uuid, gpu.uuid);
    fill(found->pci_address, gpu.pci_address);
    fill(found->vendor, gpu.vendor);
    fill(found->total_bytes, gpu.total_bytes);
    fill(found->power_limit_w, gpu.power_limit_w);
    fill(found->power_limit_max_w, gpu.power_limit_max_w);
    fill(found->pcie_gen_max, gpu.pcie_gen_max);
    fill(found->pcie_width_max, gpu.pcie_width_max);
    fill(found->slowdown_c, gpu.slowdown_c);
    fill(found->shutdown_c, gpu.shutdown_c);
    fill(found->numa_node, gpu.numa_node);
    if (gpu.name.size() > found->name.size() && gpu.name.starts_with(found->name))
      found->name = gpu.name;
  }
  std::sort(into.gpus.begin(), into.gpus.end(),
            [](const auto& a, const auto& b) { return a.gpu < b.gpu; });
  for (const auto& disk : from.disks) {
    if (std::none_of(into.disks.begin(), into.disks.end(),
                     [&](const auto& d) { return d.device == disk.device; })) {
      into.disks.push_back(disk);
    }
  }
  for (const auto& mount : from.mounts) {
    const auto found = std::find_if(into.mounts.begin(), into.mounts.end(),
                                    [&](const auto& m) { return m.path == mount.path; });
    if (found == into.mounts.end()) {
      into.mounts.push_back(mount);
      continue;
    }
    fill(found->device, mount.device);
    fill(found->fs_type, mount.fs_type);
    fill(found->total_bytes, mount.total_bytes);
    fill(found->free_bytes, mount.free_bytes);
  }
}

/// A GPU sample without an instant has no row to stand in: its figures become observations.
struct SampleFigure {
  std::string_view quantity, unit;
  std::optional<double> GpuSample::*member;
};
constexpr std::array kSampleFigures = {
    SampleFigure{"util_frac", "1", &GpuSample::util_frac},
    SampleFigure{"used_bytes", "bytes", &GpuSample::used_bytes},
    SampleFigure{"temp_c", "°C", &GpuSample::temp_c},
    SampleFigure{"power_w", "W", &GpuSample::power_w},
    SampleFigure{"power_limit_w", "W", &GpuSample::power_limit_w},
    SampleFigure{"sm_clock_mhz", "MHz", &GpuSample::sm_clock_mhz},
    SampleFigure{"mem_clock_mhz", "MHz", &GpuSample::mem_clock_mhz},
    SampleFigure{"fan_frac", "1", &GpuSample::fan_frac},
    SampleFigure{"pcie_gen", "count", &GpuSample::pcie_gen},
    SampleFigure{"pcie_width", "count", &GpuSample::pcie_width},
    SampleFigure{"held_power_s", "s", &GpuSample::held_power_s},
    SampleFigure{"held_sw_thermal_s", "s", &GpuSample::held_sw_thermal_s},
    SampleFigure{"held_hw_thermal_s", "s", &GpuSample::held_hw_thermal_s},
};

/// All that goes into the run directory, on its clock.
class Assembly {
 public:
  Assembly(std::vector<Source>& sources, const ImportOptions& options)
      : sources_(sources),
        options_(options),
        clock_(clock_of(sources, options)),
        names_(log_names(sources)) {}

  RunInfo info() {
    RunInfo info;
    info.name = name();
    info.imported = true;
    info.checkpoints_unwatched = true;
    info.version = options_.version;
    info.host = host_ = main_host();
    info.interval_s = 0;
    take_command(info);
    take_training(info);
    take_facts(info);
    Ending ending;
    ending.wall_s = clock_.wall_s;
    ending.reason = end_in_words();
    info.ending = ending;
    start(info);
    return info;
  }

  [[nodiscard]] const Clock& clock() const { return clock_; }
  [[nodiscard]] const std::map<const Source*, std::string>& log_files() const { return names_; }

  /// Everything but run.json. The files of the originals are there already.
  Status write(RunWriter& writer, RunInfo& info) {
    for (const auto& row : steps_) writer.append(row);
    for (const auto& event : events_) writer.append(event);
    std::map<std::string, Rig> rigs;
    std::map<std::string, Environment> environments;
    const auto numbers = numbered_gpus(sources_);
    const auto host_of = [&](const Source& source) {
      return source.host.empty() || single_host_ ? host_ : source.host;
    };
    for (auto& source : sources_) {
      renumber(source.captured, numbers);
      merge_rig(source.captured.rig, rigs[host_of(source)]);
    }
    for (Source* source : by_readings()) {  // of two that count the same, the one that tells more
      const std::string host = host_of(*source);
      take_samples(*source, host, rigs[host]);
    }
    for (auto& source : sources_) {
      const std::string host = host_of(source);
      for (const auto& row : observations_of(source)) writer.append(row);
      merge_environment(source, environments[host], info);
    }
    samples_.write(writer);
    const Secrets secrets;
    for (auto& [host, environment] : environments) {
      if (environment.versions.empty() && environment.facts.empty()) continue;
      environment.host = host;
      secrets.mask(environment);
      RW_CHECK(writer.write(environment));
    }
    for (auto& [host, rig] : rigs) {
      if (rig.gpus.empty() && rig.disks.empty() && rig.mounts.empty() && rig.cpu_model.empty() &&
          !rig.mem_bytes && !rig.threads)
        continue;
      rig.host = host;
      RW_CHECK(writer.write(rig));
    }
    if (!samples_.any_gpu())
      info.missing.emplace_back("GPU samples: no file holds any with a time of the run");
    info.missing.emplace_back(samples_.any_host()
                                  ? "samples of the host: only what files hold"
                                  : "samples of the host: not taken, the run was imported");
    return Ok{};
  }

 private:
  [[nodiscard]] std::string name() const {
    if (!options_.name.empty()) return options_.name;
    std::error_code error;
    auto path = fs::weakly_canonical(options_.paths.front(), error);
    std::string name =
        fs::is_directory(path, error) ? path.filename().string() : path.stem().string();
    for (char& c : name) {
      if (!layout::is_run_name(std::string(1, 'a') + c)) c = '-';
    }
    name = name.substr(0, 100);
    const auto first = name.find_first_not_of(".-");
    name = first == std::string::npos ? std::string() : name.substr(first);
    return layout::is_run_name(name) ? name : "imported";
  }

  std::string main_host() {
    std::map<std::string, int> stated;
    for (const auto& source : sources_) {
      if (!source.host.empty()) ++stated[source.host];
    }
    single_host_ = stated.size() <= 1;
    if (!options_.host.empty()) return options_.host;
    std::string best = "unknown-host";
    int most = 0;
    for (const auto& [host, count] : stated) {
      std::string clean;
      for (const char c : host) clean += layout::is_run_name(std::string(1, 'a') + c) ? c : '-';
      if (count > most && layout::is_run_name(clean)) {
        best = clean;
        most = count;
      }
    }
    for (auto& source : sources_) {  // a name becomes that of files
      std::string clean;
      for (const char c : source.host)
        clean += layout::is_run_name(std::string(1, 'a') + c) ? c : '-';
      source.host = layout::is_run_name(clean) ? clean : std::string();
    }
    return best;
  }

  void take_command(RunInfo& info) {
    const Secrets secrets;
    for (const auto& source : sources_) {
      if (source.command.empty()) continue;
      info.command = secrets.mask_argv(source.command);
      const auto folder = source.path.parent_path().string();
      argv_facts_ = facts_of_argv(source.command, folder);
      const RanksAsked asked = ranks_asked_of(source.command, {.cwd = folder});
      info.ranks_asked = asked.count;
      info.ranks_why = asked.why;
      return;
    }
  }

  void take_training(RunInfo& info) {
    ReadStatistics reading;
    std::set<int> ranks;
    for (auto& source : sources_) {
      auto& training = source.training;
      const auto named = names_.find(&source);
      const std::string before = std::string(layout::kImportFolder) + '/' + source.file.path;
      const std::string file = named == names_.end() ? before : named->second;
      if (source.is_log) add(training.reading, reading);
      count(source);
      const bool timed = training.timed && clock_.zero_unix_s.has_value();
      for (auto& row : training.steps) {
        row.t_s = timed ? std::max(0.0, row.t_s - *clock_.zero_unix_s) : 0;
        row.log_file = file;
        if (row.rank && row.kind == RecordKind::train) ranks.insert(*row.rank);
        if (row.kind == RecordKind::summary) {
          if (auto fact = global_batch_of_summary(row)) log_facts_.push_back(std::move(*fact));
        }
        steps_.push_back(std::move(row));
      }
      for (auto& event : training.events) take_event(source, event, timed);
      for (auto fact : training.facts) {
        if (fact.source.starts_with(before)) fact.source.replace(0, before.size(), file);
        log_facts_.push_back(std::move(fact));
      }
      if (!training.steps.empty() && !timed) info.untimed.push_back(file);
    }
    std::stable_sort(steps_.begin(), steps_.end(),
                     [](const auto& a, const auto& b) { return a.t_s < b.t_s; });
    std::stable_sort(events_.begin(), events_.end(),
                     [](const auto& a, const auto& b) { return a.t_s < b.t_s; });
    if (reading.lines > 0) info.log_reading = reading;
    if (ranks.size() >= 2) {
      info.ranks_trained = static_cast<int>(ranks.size());
      info.ranks_why +=
          std::string(info.ranks_why.empty() ? "" : "; ") +
          fmt::format("entries of ranks {} to {} in the logs", *ranks.begin(), *ranks.rbegin());
    }
  }

  static void add(const ReadStatistics& from, ReadStatistics& into) {
    into.lines += from.lines;
    into.matched += from.matched;
    into.skipped += from.skipped;
    into.malformed += from.malformed;
    if (into.first_bad_line == 0) {
      into.first_bad_line = from.first_bad_line;
      into.first_bad_text = from.first_bad_text;
    }
  }

  void count(Source& source) {
    auto& file = source.file;
    for (const auto& row : source.training.steps) {
      (row.kind == RecordKind::eval ? file.evaluations : file.steps) +=
          row.kind == RecordKind::train || row.kind == RecordKind::eval ? 1 : 0;
    }
    if (source.is_log || source.is_store) {
      file.malformed = source.training.reading.malformed;
      file.first_bad_line = source.training.reading.first_bad_line;
      if (!source.training.steps.empty() || source.is_log) {
        file.times = source.training.timed           ? TimesJoined::yes
                     : source.training.steps.empty() ? TimesJoined::none
                                                     : TimesJoined::no;
      }
      file.notes.insert(file.notes.end(), source.training.notes.begin(),
                        source.training.notes.end());
    }
    file.facts = static_cast<std::int64_t>(source.facts.size() + source.training.facts.size());
  }

  /// Where no instant is stated, an event has no place on the clock; a save is still a figure.
  void take_event(const Source& source, Event& event, bool timed) {
    if (timed) {
      event.t_s = std::max(0.0, event.t_s - *clock_.zero_unix_s);
      if (event.t_end_s) event.t_end_s = std::max(0.0, *event.t_end_s - *clock_.zero_unix_s);
      events_.push_back(std::move(event));
    } else if (event.kind == EventKind::checkpoint && event.step) {
      saves_[&source].push_back(
          {.source = std::string(layout::kImportFolder) + '/' + source.file.path,
           .subject = event.name.empty() ? "checkpoint" : event.name,
           .quantity = "saved_at_step",
           .value = static_cast<double>(*event.step),
           .unit = "count"});
    }
  }

  void take_facts(RunInfo& info) {
    std::vector<std::vector<Fact>> all = {log_facts_, argv_facts_};
    for (const auto& source : sources_) all.push_back(source.facts);
    const Secrets secrets;
    info.facts = merge_facts(all, info.ranks_trained ? info.ranks_trained : info.ranks_asked);
    for (auto& fact : info.facts) {
      fact.value = secrets.mask(fact.value);
      fact.source = secrets.mask(fact.source);
    }
  }

  /// Did the last training bar fill up?
  [[nodiscard]] bool bar_was_full() const {
    std::int64_t largest = 0, reached = 0;
    for (const auto& row : steps_) {
      if (row.kind != RecordKind::progress || !row.steps_total || !row.step) continue;
      if (*row.steps_total > largest) largest = *row.steps_total, reached = 0;
      if (*row.steps_total == largest) reached = std::max(reached, *row.step);
    }
    return largest > 0 && reached >= largest;
  }

  [[nodiscard]] std::string end_in_words() const {
    bool ended = bar_was_full();
    for (const auto& source : sources_) {
      if (source.ended_well == false) return "failed, as " + source.file.became + " says";
      ended = ended || source.ended_well == true || source.training.ended;
    }
    return std::string(ended ? kEndedAsLogged : kEndNotKnown);
  }

  void start(RunInfo& info) const {
    if (clock_.zero_unix_s) {
      info.start_unix_s = *clock_.zero_unix_s;
      return;
    }
    // no file states an instant: the oldest time of a training file, less what training took
    std::optional<double> written;
    for (const auto& source : sources_) {
      struct stat status = {};
      if ((!source.is_log && !source.is_store) || ::stat(source.path.c_str(), &status) != 0)
        continue;
      const auto at = static_cast<double>(status.st_mtim.tv_sec);
      written = std::min(written.value_or(at), at);
    }
    info.start_unix_s = std::max(1.0, written.value_or(unix_s()) - clock_.wall_s);
    info.missing.emplace_back(
        "the start: no file states an instant; it is taken from the files' own times");
  }

  std::vector<Source*> by_readings() {
    std::vector<Source*> order;
    for (auto& source : sources_) order.push_back(&source);
    const auto readings = [](const Source& source) {
      const Captured& captured = source.captured;
      return captured.hosts.size() + captured.disks.size() + captured.nets.size();
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](const Source* a, const Source* b) { return readings(*a) > readings(*b); });
    return order;
  }

  void take_samples(Source& source, const std::string& host, const Rig& rig) {
    samples_.take(source, host, rig.threads, clock_);
    if (source.file.samples > 0 && !clock_.training_timed && !options_.start_unix_s &&
        !steps_.empty()) {
      source.file.notes.emplace_back(
          "the steps have no instants: give --start to place samples beside them");
    }
  }

  std::vector<Observation> observations_of(Source& source) {
    std::vector<Observation> rows;
    const std::string from = source.copied
                                 ? std::string(layout::kImportFolder) + '/' + source.file.path
                                 : source.file.path;
    bool any_time = false;
    for (auto& [row, unix_s] : source.captured.observations) {
      row.source = from;
      if (unix_s && clock_.zero_unix_s) {
        row.t_s = *unix_s - *clock_.zero_unix_s;
        any_time = true;
      }
      rows.push_back(row);
    }
    if (!rows.empty() && source.file.times == TimesJoined::none) {
      source.file.times = any_time ? TimesJoined::yes : TimesJoined::no;
    }
    constexpr std::size_t kMostUntimed = 20000;
    for (const auto& sample : source.captured.gpus) {
      if (sample.unix_s && clock_.zero_unix_s) continue;
      for (const auto& figure : kSampleFigures) {
        const auto& value = sample.row.*figure.member;
        if (!value || rows.size() >= kMostUntimed) continue;
        rows.push_back({.source = from,
                        .subject = "gpu " + std::to_string(sample.row.gpu),
                        .quantity = std::string(figure.quantity),
                        .value = *value,
                        .unit = std::string(figure.unit)});
      }
    }
    if (const auto saves = saves_.find(&source); saves != saves_.end()) {
      rows.insert(rows.end(), saves->second.begin(), saves->second.end());
    }
    source.file.figures = static_cast<std::int64_t>(rows.size());
    return rows;
  }

  void merge_environment(Source& source, Environment& into, RunInfo& info) {
    for (const auto& [name, version] : source.versions)
      source.captured.environment.versions.try_emplace(name, version);
    source.file.versions = static_cast<std::int64_t>(source.captured.environment.versions.size());
    for (const auto& [name, version] : source.captured.environment.versions) {
      const auto [found, is_new] = into.versions.try_emplace(name, version);
      if (!is_new && found->second != version && info.warnings.size() < 20) {
        info.warnings.push_back(fmt::format("{} {} by {}, {} before", name, clean_text(version, 60),
                                            source.file.path, clean_text(found->second, 60)));
      }
    }
    for (const auto& [name, value] : source.captured.environment.facts)
      into.facts.try_emplace(name, value);
    if (!source.git_commit.empty()) into.facts.try_emplace("git_commit", source.git_commit);
    if (!source.is_log && !source.is_store) {
      source.file.malformed = source.captured.reading.malformed;
      source.file.first_bad_line = source.captured.reading.first_bad_line;
    }
    auto& notes = source.file.notes;
    notes.insert(notes.end(), source.captured.notes.begin(), source.captured.notes.end());
  }

  std::vector<Source>& sources_;
  const ImportOptions& options_;
  Clock clock_;
  std::map<const Source*, std::string> names_;
  std::string host_;
  bool single_host_ = true;
  std::vector<StepRecord> steps_;
  std::vector<Event> events_;
  std::vector<Fact> log_facts_, argv_facts_;
  std::map<const Source*, std::vector<Observation>> saves_;
  Samples samples_;
};

// ------------------------------------------------------------------------------------------ files

/// Copies every original below import/, and lets logs stand in log/ as well.
Status keep_originals(std::vector<Source>& sources,
                      const std::map<const Source*, std::string>& logs, const fs::path& dir) {
  constexpr std::uint64_t kMostTogether = std::uint64_t{8} << 30;
  std::uint64_t together = 0;
  for (auto& source : sources) {
    const auto size = static_cast<std::uint64_t>(source.file.size_bytes);
    if (source.copied && together + size > kMostTogether) {
      source.copied = false;
      source.file.notes.emplace_back("more than 8 GiB together: named, not copied");
    }
    const auto log = logs.find(&source);
    const fs::path to = dir / layout::kImportFolder / source.file.path;
    std::error_code error;
    if (source.copied) {
      together += size;
      fs::create_directories(to.parent_path(), error);
      if (!fs::copy_file(source.path, to, error) || error) {
        source.copied = false;
        source.file.notes.push_back("not copied: " + error.message());
      } else {
        source.file.kept = std::string(layout::kImportFolder) + '/' + source.file.path;
      }
    }
    if (log == logs.end()) continue;
    const fs::path as_log = dir / log->second;
    if (source.copied) fs::create_hard_link(to, as_log, error);
    if (!source.copied || error) fs::copy_file(source.path, as_log, error);
    if (error) return Error{Errc::io, as_log.string() + ": cannot be written: " + error.message()};
  }
  return Ok{};
}

/// When the log had reached which length: only where its lines say so.
void write_marks(const std::vector<Source>& sources,
                 const std::map<const Source*, std::string>& logs, const fs::path& dir,
                 const Clock& clock) {
  for (const auto& [source, file] : logs) {
    if (!source->training.timed || !clock.zero_unix_s || source->training.marks.empty()) continue;
    std::string text(layout::kLogIndexHeader);
    for (const auto& mark : source->training.marks) {
      text += fmt::format("{},{}\n", mark.offset_bytes,
                          number_text(std::max(0.0, mark.unix_s - *clock.zero_unix_s)));
    }
    const auto stem = file.substr(4, file.size() - 8);  // "log/out.log" → "out"
    (void)write_file_atomic(dir / layout::log_index(stem), text);
  }
  (void)sources;
}

bool gives_something(const Source& source) {
  return source.is_log || source.is_store || !source.captured.kinds.empty() ||
         !source.facts.empty() || !source.command.empty() ||
         source.file.became == "printed versions" || source.file.became == "wandb metadata";
}

}  // namespace
}  // namespace importing

Result<ImportOutcome> import_run(const ImportOptions& options) {
  using namespace importing;
  if (options.paths.empty())
    return Error{Errc::usage, "nothing to import", "rigwise runs import FOLDER|FILE…"};
  for (const auto* word : {&options.name, &options.host}) {
    if (!word->empty() && !layout::is_run_name(*word)) {
      return Error{Errc::usage,
                   "'" + clean_text(*word, 120) + "' cannot name a " +
                       (word == &options.name ? "run" : "host"),
                   "use letters, digits, '.', '_' and '-', at most 100"};
    }
  }
  RW_TRY(Walked walked, walk(options));
  read_sources(walked, options);
  auto& sources = walked.sources;
  if (std::none_of(sources.begin(), sources.end(), gives_something)) {
    return Error{Errc::unavailable,
                 fmt::format("{}: no file of a known form in it ({} looked at)",
                             clean_text(options.paths.front().string(), 300), sources.size()),
                 "known are training logs, TensorBoard event files, MLflow and W&B folders,\n  "
                 "trainer_state.json, and what nvidia-smi, rocm-smi, amd-smi, df, du, lsblk,\n  "
                 "iostat, mpstat, sar, vmstat, top, sensors, ping, iperf3, free, lscpu, uname,\n  "
                 "pip, torch and accelerate print"};
  }
  for (auto& source : sources) {
    if (!source.is_log && !source.is_store) continue;
    if (auto digest = sha256_file_hex(source.path)) source.digest = std::move(*digest);
  }
  tell_hosts_apart(sources);
  doubt_guessed_days(sources);
  choose_training(sources);

  Assembly assembly(sources, options);
  RunInfo info = assembly.info();
  RunInfo running = info;
  running.ending.reset();  // a run that is cut off here is torn, not finished
  RW_TRY(RunWriter writer, RunWriter::create(options.root, std::move(running)));
  info.id = writer.info().id;
  RW_CHECK(keep_originals(sources, assembly.log_files(), writer.dir()));
  RW_CHECK(assembly.write(writer, info));
  write_marks(sources, assembly.log_files(), writer.dir(), assembly.clock());
  if (!assembly.clock().wall_known) info.missing.emplace_back("the wall time: no file states it");
  for (const auto& what : walked.left_out) {
    if (info.missing.size() < 200) info.missing.push_back("not imported: " + what);
  }
  for (const auto& file : info.untimed)
    info.missing.push_back("times of " + file + ": it states none");
  info.version = options.version;
  RW_CHECK(writer.finish(info));

  ImportOutcome outcome{
      .dir = writer.dir(), .left_out = std::move(walked.left_out), .clock = assembly.clock().words};
  for (auto& source : sources) outcome.files.push_back(std::move(source.file));
  return outcome;
}

}  // namespace rigwise
