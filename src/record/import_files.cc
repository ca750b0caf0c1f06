// Which files there are, and what each of them is.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/files.h"
#include "base/text.h"
#include "record/facts.h"
#include "record/facts_config.h"
#include "record/import_parts.h"
#include "record/ranks.h"
#include "run/layout.h"

namespace rigwise::importing {

namespace fs = std::filesystem;

namespace {

constexpr int kDeepest = 6;
constexpr std::size_t kMostFiles = 2000;
constexpr std::uint64_t kMostKept = std::uint64_t{1} << 30;  // a larger file is named, not copied
constexpr std::uint64_t kMostInMemory = std::uint64_t{256} << 20;
constexpr std::uint64_t kMostSniffed = std::uint64_t{4} << 20;  // larger text: a log, by its head

bool has_ending(std::string_view name, std::initializer_list<std::string_view> endings) {
  const std::string low = lower(name);
  return std::any_of(endings.begin(), endings.end(), [&](auto end) { return low.ends_with(end); });
}

/// Weights and archives are the run's fruit, not evidence of how it went.
bool is_weights(std::string_view name) {
  return has_ending(name, {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".npz",
                           ".npy", ".arrow", ".parquet", ".tar", ".tgz", ".tar.gz", ".tar.zst",
                           ".tar.xz", ".tar.bz2", ".zip", ".h5"});
}

/// One file, packed: "train.log.gz".
bool is_compressed(std::string_view name) {
  return has_ending(name, {".gz", ".zst", ".xz", ".bz2"});
}

class Walker {
 public:
  Walker(const ImportOptions& options, Walked& into) : into_(into) {
    std::error_code error;
    root_ = fs::weakly_canonical(options.root, error);
  }

  void folder(const fs::path& dir, const std::string& shown, int depth) {
    std::error_code error;
    if (fs::exists(dir / layout::kRunJson, error)) {
      return left_out(shown, "a run directory already");
    }
    if (fs::weakly_canonical(dir, error) == root_) return;  // the runs themselves
    std::vector<fs::path> entries;
    for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
      if (entries.size() >= 20000) {
        left_out(shown, "more than 20,000 entries: the rest was not looked at");
        break;
      }
      entries.push_back(it->path());
    }
    if (error) return left_out(shown, "cannot be read: " + error.message());
    std::sort(entries.begin(), entries.end());
    for (const auto& entry : entries) {
      const std::string name = entry.filename().string();
      const std::string path = shown.empty() ? name : shown + '/' + name;
      const auto status = fs::symlink_status(entry, error);
      if (status.type() == fs::file_type::directory) {
        constexpr std::array<std::string_view, 5> kSkipped = {".git", "__pycache__", "node_modules",
                                                              ".venv", "venv"};
        if (std::find(kSkipped.begin(), kSkipped.end(), name) != kSkipped.end()) {
          left_out(path, "not evidence of a run");
        } else if (depth >= kDeepest) {
          left_out(path, "deeper than 6 folders");
        } else {
          folder(entry, path, depth + 1);
        }
      } else if (status.type() == fs::file_type::regular) {
        file(entry, path);
      } else if (status.type() == fs::file_type::symlink) {
        left_out(path, "a link: not followed");
      } else {
        left_out(path, "no regular file");
      }
    }
  }

  void file(const fs::path& path, const std::string& shown) {
    if (into_.sources.size() >= kMostFiles) {
      if (!full_) into_.left_out.emplace_back("files beyond the first 2,000");
      full_ = true;
      return;
    }
    Source source;
    source.path = path;
    source.file.path = shown;
    std::error_code error;
    const auto size = fs::file_size(path, error);
    source.file.size_bytes = error ? 0 : static_cast<std::int64_t>(size);
    into_.sources.push_back(std::move(source));
  }

 private:
  void left_out(const std::string& shown, std::string_view why) {
    if (into_.left_out.size() < 200) {
      into_.left_out.push_back(clean_text(shown, 300) + ": " + std::string(why));
    }
  }
  Walked& into_;
  fs::path root_;
  bool full_ = false;
};

}  // namespace

Result<Walked> walk(const ImportOptions& options) {
  Walked walked;
  Walker walker(options, walked);
  std::set<std::string> taken;
  for (const auto& path : options.paths) {
    std::error_code error;
    const auto status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) {
      return Error{Errc::not_found, clean_text(path.string(), 300) + ": no such file or folder",
                   "rigwise runs import FOLDER|FILE…"};
    }
    std::string name = path.filename().string();
    if (name.empty() || name == "." || name == "..")
      name = fs::weakly_canonical(path, error).filename().string();
    if (!taken.insert(name).second) {
      int again = 2;
      while (!taken.insert(name + '-' + std::to_string(again)).second) ++again;
      name += '-' + std::to_string(again);
    }
    if (status.type() == fs::file_type::directory) {
      if (fs::exists(path / layout::kRunJson, error)) {
        return Error{Errc::usage, clean_text(path.string(), 300) + " is a run directory already",
                     "rigwise runs show " + clean_text(path.string(), 300)};
      }
      walker.folder(path, options.paths.size() > 1 ? name : std::string(), 0);
    } else if (status.type() == fs::file_type::regular) {
      walker.file(path, name);
    } else {
      return Error{Errc::usage,
                   clean_text(path.string(), 300) + ": neither a folder nor a regular file"};
    }
  }
  return walked;
}

// ----------------------------------------------------------------------------------- one source

namespace {

std::string folder_of(const Source& source) {
  const auto slash = source.file.path.rfind('/');
  return slash == std::string::npos ? std::string() : source.file.path.substr(0, slash);
}
std::string name_of(const Source& source) {
  return source.path.filename().string();
}

/// The first bytes of a file. Nothing where it cannot be read.
std::optional<std::string> head_of(const fs::path& path, std::size_t bytes) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return std::nullopt;
  std::string head(bytes, '\0');
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::read(fd.get(), head.data() + done, bytes - done);
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  head.resize(done);
  return head;
}

bool is_text(std::string_view head) {
  return head.find('\0') == std::string_view::npos;
}

void take_store(MetricStore store, const std::string& log_file, Source& source) {
  source.is_store = true;
  source.file.became = store.kind;
  source.training = read_entries(store, log_file);
  const auto facts = facts_of_settings(store.settings, "output " + source.file.path);
  source.facts.insert(source.facts.end(), facts.begin(), facts.end());
  source.command = store.command;
  source.host = store.host;
  source.git_commit = store.git_commit;
  source.tracker_name = store.name;
  source.versions = store.versions;
  source.begin_unix_s = store.begin_unix_s;
  source.end_unix_s = store.end_unix_s;
  source.ended_well = store.ended_well;
  take_system(store, source);
}

std::string kept_name(const Source& source) {
  return std::string(layout::kImportFolder) + '/' + source.file.path;
}

/// TensorBoard, W&B, trainer_state.json, results of a Hugging Face example. False: none of these.
bool try_store(std::string_view head, Source& source) {
  const std::string name = name_of(source);
  const bool events = looks_like_event_file(head), wandb = looks_like_wandb_log(head);
  const bool state = name == "trainer_state.json", summary = name == "wandb-summary.json";
  const bool results = has_ending(name, {"_results.json"});
  const bool machine = name == "wandb-events.jsonl";
  if (!events && !wandb && !state && !summary && !results && !machine) return false;
  const auto text = read_file(source.path, kMostKept);
  if (!text) {
    source.file.notes.push_back(text.error().message);
    return false;
  }
  auto store = events    ? read_event_file(*text)
               : wandb   ? read_wandb_log(*text)
               : state   ? read_trainer_state(*text)
               : machine ? Result<MetricStore>(read_wandb_events(*text))
                         : read_wandb_summary(*text);
  if (!store) {
    source.file.notes.push_back(store.error().message);
    return false;
  }
  if (results) store->kind = "results";
  // Keras and others write evaluation to a folder of that name, under the training's own tags.
  const std::string folder = folder_of(source);
  const auto last = folder.substr(folder.rfind('/') + 1);
  if (events && (last == "validation" || last == "eval" || last == "val" || last == "test")) {
    for (auto& entry : store->entries) {
      for (auto& value : entry.values) value.first = "eval/" + value.first;
    }
  }
  take_store(std::move(*store), kept_name(source), source);
  return true;
}

void take_config(Source& source) {
  auto settings = settings_of_file(source.path);
  // W&B wraps every setting: "learning_rate: {desc: null, value: 0.0001}"
  bool wrapped = false;
  for (auto& [key, value] : settings) {
    if (!key.ends_with(".value")) continue;
    key.resize(key.size() - 6);
    wrapped = true;
  }
  if (wrapped)
    std::erase_if(settings, [](const auto& s) {
      return s.first.ends_with(".desc") || s.first.starts_with("_wandb");
    });
  auto facts = facts_of_settings(settings, (wrapped ? "output " : "config ") + source.file.path);
  if (facts.empty()) return;
  source.file.became = "config";
  source.facts = std::move(facts);
}

/// wandb-metadata.json: where, with what and how it was started.
bool try_wandb_metadata(Source& source) {
  if (name_of(source) != "wandb-metadata.json") return false;
  std::vector<std::string> args;
  std::string program;
  for (const auto& [key, value] : settings_of_file(source.path)) {
    if (key == "host") source.host = clean_text(value, 100);
    if (key == "git.commit") source.git_commit = clean_text(value, 64);
    if (key == "program" || key == "codePath") program = program.empty() ? value : program;
    if (key == "args") {
      for (const auto word : split(value, ',')) args.emplace_back(word);
    }
    if (key == "python") source.versions.emplace_back("python", value);
    if (key == "cuda" || key == "cudaVersion")
      source.versions.emplace_back("cuda_of_driver", value);
    if (key == "gpu") source.captured.environment.facts["gpu_name"] = clean_text(value, 100);
  }
  source.file.became = "wandb metadata";
  if (!program.empty()) {
    source.command = {"python", program};
    source.command.insert(source.command.end(), args.begin(), args.end());
  }
  return true;
}

/// "rank1.log", "worker_3.err", "gpu-0.out" → the number
std::optional<int> rank_of_name(std::string_view name) {
  const std::string low = lower(name);
  for (const std::string_view word : {"rank", "worker", "proc"}) {
    auto at = low.find(word);
    if (at == std::string::npos) continue;
    at += word.size();
    while (at < low.size() && (low[at] == '_' || low[at] == '-' || low[at] == '.')) ++at;
    const auto end = std::min(low.find_first_not_of("0123456789", at), low.size());
    if (end == at || end - at > 4) continue;
    if (const auto rank = to_integer(std::string_view(low).substr(at, end - at)))
      return static_cast<int>(*rank);
  }
  return std::nullopt;
}

/// `decoded`: the text where the file holds it in another encoding.
void take_log(Source& source, const std::optional<std::string>& decoded,
              const ImportOptions& options) {
  if (decoded) {
    struct stat status = {};
    std::optional<double> written;
    if (::stat(source.path.c_str(), &status) == 0)
      written = static_cast<double>(status.st_mtim.tv_sec);
    source.training = read_log_text(*decoded, kept_name(source), options.start_unix_s, written);
    source.training.marks.clear();  // they count bytes of the file
  } else {
    source.training = read_log(source.path, kept_name(source), options.start_unix_s);
  }
  const auto& training = source.training;
  const bool says =
      !training.steps.empty() || !training.events.empty() || training.facts.size() >= 2;
  const bool named = has_ending(source.path.filename().string(), {".log", ".out", ".err"});
  if (!says && !named) return;
  source.is_log = true;
  source.file.became = "log";
  if (const auto rank = rank_of_name(name_of(source))) {
    for (auto& row : source.training.steps) {
      if (!row.rank) row.rank = rank;
    }
  }
}

/// A file of a known form is a log too where entries of training stand in it.
void take_training_behind(const std::optional<std::string>& decoded, const ImportOptions& options,
                          Source& source) {
  Source as_log;
  as_log.path = source.path;
  as_log.file = source.file;
  take_log(as_log, decoded, options);
  const auto& steps = as_log.training.steps;
  const auto trained = std::count_if(steps.begin(), steps.end(), [](const StepRecord& row) {
    return (row.kind == RecordKind::train && row.loss) ||
           (row.kind == RecordKind::eval && row.eval_loss);
  });
  if (trained < 2) return;
  source.training = std::move(as_log.training);
  source.is_log = true;
  source.file.became = "log + " + source.file.became;
}

bool is_script(std::string_view name) {
  const std::string low = lower(name);
  return has_ending(low, {".sh", ".bash", ".sbatch", ".slurm"}) || low.starts_with("command") ||
         low.starts_with("cmd");
}

/// Text that no log is: its words are about runs, not of one.
bool is_prose_or_code(std::string_view name) {
  return has_ending(name, {".md", ".rst",  ".py",     ".ipynb", ".yaml", ".yml", ".toml",
                           ".sh", ".bash", ".sbatch", ".slurm", ".html", ".js",  ".ts",
                           ".cc", ".cpp",  ".h",      ".cu",    ".ini",  ".cfg"});
}

void keep_captured(Captured captured, Source& source) {
  auto facts = std::move(source.captured.environment.facts);
  source.captured = std::move(captured);
  source.captured.environment.facts.merge(facts);
  if (!source.captured.host.empty()) source.host = source.captured.host;
}

void read_text(std::string_view head, const std::optional<std::string>& decoded,
               const CaptureHints& hints, const ImportOptions& options, Source& source) {
  if (decoded) head = *decoded;
  const std::string name = name_of(source);
  if (is_script(name)) {
    source.command = command_in(head);
    if (!source.command.empty()) source.file.became = "command";
  }
  const auto size = static_cast<std::uint64_t>(source.file.size_bytes);
  bool captured_all = false;
  if (!is_prose_or_code(name)) {
    const auto text = size <= kMostSniffed && !decoded ? read_file(source.path, kMostSniffed)
                                                       : Result<std::string>(std::string(head));
    Captured captured = read_captured(name, text ? *text : std::string(head), hints);
    const auto& reading = captured.reading;
    const bool known = !captured.kinds.empty();
    captured_all = known && (reading.matched + reading.skipped) * 2 >= reading.lines;
    if (captured_all && size > kMostSniffed && !decoded) {
      if (const auto whole = read_file(source.path, kMostInMemory))
        captured = read_captured(name, *whole, hints);
    }
    keep_captured(std::move(captured), source);
    if (captured_all) source.file.became = join(source.captured.kinds, " + ");
  }
  // A job's log often begins with nvidia-smi's screen or an environment: what follows is training.
  if (captured_all) return take_training_behind(decoded, options, source);
  const bool debug =
      name.starts_with("debug") && folder_of(source).find("wandb") != std::string::npos;
  if (!is_prose_or_code(name) && !has_ending(name, {".json"}) && !debug)
    take_log(source, decoded, options);
  if (has_ending(name, {".jsonl", ".ndjson"}) && !source.is_log) take_log(source, decoded, options);
  if (!source.file.became.empty()) return;
  if (has_ending(name, {".yaml", ".yml", ".toml", ".json"}) && name != "lab.toml")
    take_config(source);
  // versions that somebody wrote between other lines are kept all the same
  if (source.file.became.empty() && !source.captured.environment.versions.empty()) {
    source.file.became = "printed versions";
  }
}

void read_utf16(std::string_view head, const CaptureHints& hints, const ImportOptions& options,
                Source& source) {
  const auto bytes = read_file(source.path, kMostInMemory);
  if (!bytes)
    source.file.notes.emplace_back("UTF-16 and larger than 256 MiB: only its head was read");
  read_text({}, utf8_of_utf16(bytes ? std::string_view(*bytes) : head), hints, options, source);
}

// ---------------------------------------------------------------------------------------- mlflow

std::string text_or_empty(const fs::path& path, std::uint64_t most = std::uint64_t{64} << 20) {
  auto text = read_file(path, most);
  return text ? std::move(*text) : std::string();
}

/// Where a path lies in a run of MLflow's file store: RUN/metrics/…, RUN/params/…, RUN/tags/….
struct MlflowPlace {
  std::string run = {}, kind = {}, name = {};
};
std::optional<MlflowPlace> mlflow_place(const std::string& path,
                                        const std::set<std::string>& runs) {
  for (const std::string_view kind : {"/metrics/", "/params/", "/tags/"}) {
    const auto at = path.rfind(kind);
    if (at == std::string::npos) continue;
    std::string run = path.substr(0, at);
    if (!runs.contains(run)) continue;
    return MlflowPlace{run, std::string(kind.substr(1, kind.size() - 2)),
                       path.substr(at + kind.size())};
  }
  return std::nullopt;
}

/// Puts the files of every MLflow run together. Its meta.yaml stands for the run.
void read_mlflow_runs(Walked& walked) {
  std::set<std::string> runs;
  for (const auto& source : walked.sources) {
    if (name_of(source) != "meta.yaml") continue;
    const auto text = head_of(source.path, 4096);
    if (text && text->find("run_id:") != std::string::npos) runs.insert(folder_of(source));
  }
  struct Parts {
    std::vector<MlflowMetric> metrics;
    std::vector<std::pair<std::string, std::string>> params;
    std::map<std::string, std::string> tags;
  };
  std::map<std::string, Parts> parts;
  for (auto& source : walked.sources) {
    const auto place = mlflow_place(source.file.path, runs);
    if (!place) continue;
    Parts& run = parts[place->run];
    source.file.became = "mlflow " + place->kind;
    const std::string text = text_or_empty(source.path);
    if (place->kind == "metrics") run.metrics.push_back({place->name, text});
    if (place->kind == "params") run.params.emplace_back(place->name, clean_text(trim(text), 500));
    if (place->kind == "tags") run.tags[place->name] = clean_text(trim(text), 500);
  }
  for (auto& source : walked.sources) {
    const std::string folder = folder_of(source);
    if (name_of(source) != "meta.yaml" || !runs.contains(folder)) continue;
    Parts& run = parts[folder];
    MetricStore store = read_mlflow(run.metrics, text_or_empty(source.path, 1 << 20));
    store.settings = std::move(run.params);
    const auto tag = [&](const char* name) {
      const auto found = run.tags.find(name);
      return found == run.tags.end() ? std::string() : found->second;
    };
    store.git_commit = tag("mlflow.source.git.commit");
    if (store.name.empty()) store.name = tag("mlflow.runName");
    take_store(std::move(store), kept_name(source), source);
  }
}

}  // namespace

std::vector<std::string> command_in(std::string_view text) {
  std::string joined;  // lines that end in '\' go on
  std::vector<std::string> lines;
  for (auto line : split(text.substr(0, 65536), '\n')) {
    line = trim(line);
    const bool more = line.ends_with('\\');
    joined += std::string(more ? line.substr(0, line.size() - 1) : line) + ' ';
    if (more) continue;
    lines.push_back(std::move(joined));
    joined.clear();
  }
  lines.push_back(std::move(joined));
  for (const auto& line : lines) {
    std::string_view rest = trim(line);
    if (rest.starts_with("$ ")) rest = rest.substr(2);
    if (rest.empty() || rest.front() == '#') continue;
    std::vector<std::string> argv;
    std::string word;
    bool any = false, quoted_word = false;
    char quote = 0;
    const auto close = [&] {
      const auto equals = word.find('=');
      const bool variable =
          argv.empty() && !quoted_word && equals != std::string::npos && equals > 0;
      if (any && !variable) argv.push_back(word);
      word.clear();
      any = quoted_word = false;
    };
    for (const char c : rest) {
      if (quote != 0) {
        if (c == quote) {
          quote = 0;
        } else {
          word += c;
        }
      } else if (c == '"' || c == '\'') {
        quote = c;
        any = quoted_word = true;
      } else if (c == ' ' || c == '\t') {
        close();
      } else if (c == '|' || c == ';' || c == '&' || c == '>' || c == '<') {
        break;
      } else {
        word += c;
        any = true;
      }
      if (argv.size() > 2000) return {};
    }
    close();
    while (!argv.empty() &&
           (argv[0] == "exec" || argv[0] == "nohup" || argv[0] == "time" || argv[0] == "env")) {
      argv.erase(argv.begin());
    }
    if (argv.size() < 2) continue;
    const std::string program = argv[0].substr(argv[0].rfind('/') + 1);
    constexpr std::array<std::string_view, 12> kLaunchers = {
        "python", "python3", "torchrun", "accelerate", "deepspeed", "mpirun",
        "srun",   "axolotl", "tune",     "litgpt",     "swift",     "llamafactory-cli"};
    if (std::find(kLaunchers.begin(), kLaunchers.end(), program) == kLaunchers.end()) continue;
    // "python -c …", "python -V", "accelerate env" start no training
    if (argv[1] == "-c" || argv[1] == "-V" || argv[1] == "--version" || argv[1] == "env") continue;
    return argv;
  }
  return {};
}

void read_sources(Walked& walked, const ImportOptions& options) {
  CaptureHints hints;
  for (const auto& source :
       walked.sources) {  // columns of a CSV without header stand in the command
    if (source.file.size_bytes > 65536 || hints.commands.size() >= 100) continue;
    const auto head = head_of(source.path, 65536);
    if (!head || !is_text(*head) || head->find("--query-gpu") == std::string::npos) continue;
    for (const auto line : split(*head, '\n')) {
      if (line.find("--query-gpu") != std::string_view::npos && hints.commands.size() < 100) {
        hints.commands.push_back(clean_text(line, 1000));
      }
    }
  }
  read_mlflow_runs(walked);
  for (auto& source : walked.sources) {
    if (!source.file.became.empty()) continue;
    const std::string name = name_of(source);
    const auto head = head_of(source.path, 65536);
    if (!head) {
      source.copied = false;
      source.file.became = "unreadable";
      source.file.notes.push_back("cannot be read: " + errno_text(errno));
      continue;
    }
    if (head->empty()) {
      source.file.became = "empty";
    } else if (is_weights(name)) {
      source.copied = false;
      source.file.became = "named only";
      source.file.notes.emplace_back("weights and archives are not copied");
    } else if (is_compressed(name)) {
      source.file.notes.emplace_back("compressed: not read. Unpack it and import again");
    } else if (is_utf16(*head)) {
      read_utf16(*head, hints, options, source);
    } else if (!try_store(*head, source) && is_text(*head) && !try_wandb_metadata(source)) {
      read_text(*head, std::nullopt, hints, options, source);
    }
    if (source.file.became.empty()) source.file.became = "attachment";
    if (static_cast<std::uint64_t>(source.file.size_bytes) > kMostKept) {
      source.copied = false;
      source.file.notes.emplace_back("larger than 1 GiB: named, not copied");
    }
  }
}

}  // namespace rigwise::importing
