#include "record/checkpoint_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "record/checkpoint_watch.h"
#include "record/facts.h"

namespace rigwise {
namespace {

constexpr std::array<std::string_view, 9> kNumberWords = {
    "checkpoint", "ckpt", "chkpt", "step", "global_step", "iter", "epoch", "update", "batch"};
constexpr std::array<std::string_view, 14> kWeightEndings = {
    ".safetensors", ".bin", ".pt",    ".pth",     ".ckpt", ".distcp", ".gguf",
    ".npz",         ".h5",  ".keras", ".msgpack", ".onnx", ".pkl",    ".pdparams"};
constexpr std::array<std::string_view, 5> kStagingEndings = {".tmp", ".partial", ".incomplete",
                                                             ".temp", ".part"};

bool has_digit(std::string_view text) {
  return text.find_first_of("0123456789") != std::string_view::npos;
}

/// The name without its staging prefix or suffix.
std::string_view without_staging(std::string_view name) {
  for (const std::string_view start :
       {"tmp-", "tmp_", "temp-", "temp_", ".tmp-", ".tmp_", ".tmp.", ".tmp"})
    if (name.starts_with(start)) return name.substr(start.size());
  for (const auto end : kStagingEndings)
    if (name.size() > end.size() && name.ends_with(end))
      return name.substr(0, name.size() - end.size());
  for (const std::string_view end : {"-tmp", "_tmp", "_temp"})
    if (name.size() > end.size() && name.ends_with(end))
      return name.substr(0, name.size() - end.size());
  return name;
}

bool has_weight_ending(std::string_view name) {
  for (const auto end : kWeightEndings)
    if (name.size() > end.size() && name.ends_with(end)) return true;
  return false;
}

/// Names that start with one of the words are checkpoints at their outermost folder.
bool starts_numbered(std::string_view name) {
  const std::string low = lower(without_staging(name));
  if (!has_digit(low)) return false;
  for (const auto word : kNumberWords)
    if (low.starts_with(word)) return true;
  return false;
}

std::string masked_digits(std::string_view name) {
  std::string out;
  for (const char byte : name) {
    const bool digit = is_digit(byte);
    if (digit && !out.empty() && out.back() == '#') continue;
    out.push_back(digit ? '#' : byte);
  }
  return out;
}

double seconds_of(const struct timespec& time) {
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Up to `size` bytes from `offset`; fewer at the end of the file.
std::string read_at(int fd, off_t offset, std::size_t size) {
  std::string bytes(size, '\0');
  const ssize_t got = ::pread(fd, bytes.data(), size, offset);
  bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return bytes;
}

/// Why this file of weights is not whole; empty when it is, or when its format says nothing.
std::string torn_file(const std::filesystem::path& path, std::int64_t size) {
  const std::string name = path.filename().string();
  if (size == 0) return name + " is empty";
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return {};
  const std::string head = read_at(fd.get(), 0, 8);
  if (name.find(".safetensors") != std::string::npos) {
    if (head.size() < 8) return name + " is shorter than its header's length";
    std::uint64_t length = 0;
    std::memcpy(&length, head.data(), sizeof length);
    if (length > static_cast<std::uint64_t>(size) - 8)
      return name + ": its header does not fit the file";
    // The header tells where the last tensor ends; a file cut after its header is shorter than
    // that.
    constexpr std::uint64_t kMaxHeader = 8 << 20;
    if (length > kMaxHeader) return {};
    const auto header = parse_json(read_at(fd.get(), 8, static_cast<std::size_t>(length)));
    if (!header || !header->is_object()) return name + ": its header does not parse";
    std::uint64_t end = 0;
    for (const auto& [key, tensor] : header->items()) {
      if (!tensor.is_object() || !tensor.contains("data_offsets")) continue;
      const auto& offsets = tensor["data_offsets"];
      if (offsets.is_array() && offsets.size() == 2 && offsets[1].is_number_unsigned())
        end = std::max(end, offsets[1].get<std::uint64_t>());
    }
    if (end > static_cast<std::uint64_t>(size) - 8 - length)
      return name + " is cut before its last tensor";
    return {};
  }
  if (head.starts_with("PK\x03\x04")) {
    constexpr std::int64_t kEndRecord = 65557;
    const std::int64_t from = std::max<std::int64_t>(0, size - kEndRecord);
    const std::string tail = read_at(fd.get(), from, static_cast<std::size_t>(size - from));
    if (tail.rfind("PK\x05\x06") == std::string::npos)
      return name + " is cut: its archive has no end";
  }
  return {};
}

/// Shards that an index file names and that are not there.
std::string missing_shard(const std::filesystem::path& index,
                          const std::set<std::string>& present) {
  const auto text = read_file(index, 64 << 20);
  if (!text) return {};
  const auto json = parse_json(*text);
  if (!json) return index.filename().string() + " does not parse";
  const auto map = json->find("weight_map");
  if (map == json->end() || !map->is_object()) return {};
  for (const auto& [tensor, file] : map->items())
    if (file.is_string() && present.count(file.get<std::string>()) == 0)
      return clean_text(file.get<std::string>(), 128) + " is named by the index and not there";
  return {};
}

/// Part N of M by name: how many of the M are missing.
std::string missing_part(const std::set<std::string>& present) {
  for (const auto& name : present) {
    const std::size_t of = name.find("-of-");
    if (of == std::string::npos || of < 5) continue;
    std::size_t from = of;
    while (from > 0 && is_digit(name[from - 1])) --from;
    std::size_t to = of + 4;
    while (to < name.size() && is_digit(name[to])) ++to;
    const auto count = to_integer(std::string_view(name).substr(of + 4, to - of - 4));
    const std::size_t width = of - from;
    if (!count || *count < 1 || *count > 9999 || width == 0) continue;
    for (std::int64_t i = 1; i <= *count; ++i) {
      std::string digits = std::to_string(i);
      if (digits.size() < width) digits.insert(0, width - digits.size(), '0');
      const std::string part = name.substr(0, from) + digits + name.substr(of);
      if (present.count(part) == 0) return part + " is missing";
    }
    return {};
  }
  return {};
}

class Inspector {
 public:
  Inspector(std::filesystem::path path, double since_unix_s)
      : path_(std::move(path)), since_unix_s_(since_unix_s) {}

  Inspection run() {
    struct stat status {};
    if (::lstat(path_.c_str(), &status) != 0 || S_ISLNK(status.st_mode)) return std::move(result_);
    result_.exists = true;
    if (!S_ISDIR(status.st_mode)) {
      file(path_, path_.filename().string(), status);
      return std::move(result_);
    }
    numbered_ = is_numbered_checkpoint_name(path_.filename().string());
    folder(path_, "", 0);
    if (result_.torn.empty()) result_.torn = missing_part(present_);
    if (result_.torn.empty() && numbered_ && present_.count("training_args.bin") != 0 &&
        present_.count("trainer_state.json") == 0)
      result_.torn = "trainer_state.json is missing, which is written last";
    return std::move(result_);
  }

 private:
  void folder(const std::filesystem::path& at, const std::string& prefix, int depth) {
    constexpr int kMaxDepth = 4;
    constexpr std::int64_t kMaxFiles = 20000;
    std::error_code error;
    std::vector<std::filesystem::path> indexes;
    for (std::filesystem::directory_iterator it(at, error), end; !error && it != end;
         it.increment(error)) {
      if (result_.files >= kMaxFiles) break;
      struct stat status {};
      if (::lstat(it->path().c_str(), &status) != 0) continue;
      const std::string name = it->path().filename().string();
      if (S_ISDIR(status.st_mode)) {
        if (numbered_ && depth < kMaxDepth) folder(it->path(), prefix + name + "/", depth + 1);
        continue;
      }
      if (!S_ISREG(status.st_mode)) continue;
      if (!numbered_ && seconds_of(status.st_mtim) < since_unix_s_) continue;
      if (!numbered_ && !is_checkpoint_file(name) && !is_companion_name(name) &&
          !is_staging_name(name))
        continue;
      file(it->path(), prefix + name, status);
      if (name.ends_with(".index.json")) indexes.push_back(it->path());
    }
    for (const auto& index : indexes)
      if (result_.torn.empty() && prefix.empty()) result_.torn = missing_shard(index, present_);
  }

  void file(const std::filesystem::path& at, const std::string& name, const struct stat& status) {
    constexpr int kMaxHeaders = 64;
    ++result_.files;
    result_.bytes += status.st_size;
    present_.insert(name);
    result_.names.insert(masked_digits(name));
    const double written = seconds_of(status.st_mtim);
    result_.newest_unix_s = std::max(result_.newest_unix_s.value_or(written), written);
    struct statx more {};
    if (::statx(AT_FDCWD, at.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BTIME, &more) == 0 &&
        (more.stx_mask & STATX_BTIME) != 0) {
      const double born =
          static_cast<double>(more.stx_btime.tv_sec) + 1e-9 * more.stx_btime.tv_nsec;
      result_.oldest_unix_s = std::min(result_.oldest_unix_s.value_or(born), born);
    }
    const std::string base = at.filename().string();
    const bool weights = is_checkpoint_file(base);
    result_.weights = result_.weights || weights;
    if (!result_.torn.empty()) return;
    if (is_staging_name(base))
      result_.torn = base + " still has its temporary name";
    else if (weights && headers_++ < kMaxHeaders)
      result_.torn = torn_file(at, status.st_size);
  }

  std::filesystem::path path_;
  double since_unix_s_;
  bool numbered_ = false;
  int headers_ = 0;
  std::set<std::string> present_;
  Inspection result_;
};

}  // namespace

bool is_staging_name(std::string_view name) {
  return without_staging(name).size() != name.size();
}

bool is_numbered_checkpoint_name(std::string_view name) {
  const std::string low = lower(without_staging(name));
  if (!has_digit(low)) return false;
  for (const auto word : kNumberWords)
    if (low.find(word) != std::string::npos) return true;
  return false;
}

bool is_checkpoint_file(std::string_view full) {
  const std::string_view name = without_staging(full);
  if (name == "trainer_state.json" || name == ".metadata") return true;
  if (name.starts_with("events.out.tfevents")) return false;
  return has_weight_ending(name);
}

bool is_part_name(std::string_view full) {
  const std::string_view name = without_staging(full);
  if (name == "trainer_state.json" || name == ".metadata" || name.ends_with(".distcp")) return true;
  if (name.find("-of-") != std::string_view::npos) return true;
  for (const std::string_view start :
       {"model.",        "adapter_model", "adapters.",    "pytorch_model",
        "optimizer",     "optim.",        "scheduler",    "rng_state",
        "random_states", "training_args", "consolidated", "diffusion_pytorch_model",
        "mp_rank_",      "zero_pp_rank_", "bf16_zero",    "pytorch_lora_weights",
        "tf_model",      "flax_model",    "scaler.",      "custom_checkpoint"})
    if (name.starts_with(start)) return true;
  return false;
}

bool is_companion_name(std::string_view full) {
  const std::string_view name = without_staging(full);
  for (const std::string_view end : {".json", ".model", ".yaml", ".yml", ".jinja", ".md", ".toml"})
    if (name.ends_with(end)) return true;
  return name == "merges.txt" || name == "vocab.txt";
}

std::optional<std::int64_t> step_of_checkpoint_name(std::string_view full) {
  std::string_view name = full;
  while (!name.empty() && name.back() == '/') name.remove_suffix(1);
  const std::size_t slash = name.rfind('/');
  if (slash != std::string_view::npos) name = name.substr(slash + 1);
  const std::string low = lower(name);
  const auto number_from = [&](std::size_t at) -> std::optional<std::int64_t> {
    while (at < low.size() && std::strchr("-_=. ", low[at]) != nullptr) ++at;
    std::size_t end = at;
    while (end < low.size() && is_digit(low[end])) ++end;
    return to_integer(std::string_view(low).substr(at, end - at));
  };
  for (const std::string_view word :
       {"step", "iter", "checkpoint", "ckpt", "chkpt", "update", "batch"}) {
    for (std::size_t at = low.find(word); at != std::string::npos; at = low.find(word, at + 1)) {
      std::size_t behind = at + word.size();
      if (low.substr(behind, 5) == "ation") behind += 5;
      if (const auto number = number_from(behind)) return number;
    }
  }
  return std::nullopt;  // an epoch number is no step
}

std::optional<Belonging> belongs_to(const std::filesystem::path& root,
                                    const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  const bool weights = is_checkpoint_file(name);
  const std::filesystem::path parent = file.parent_path();
  // Folders from the root down to the file's own.
  std::vector<std::filesystem::path> folders;
  for (std::filesystem::path at = parent; folders.size() < 16; at = at.parent_path()) {
    folders.push_back(at);
    if (at == root || !at.has_relative_path()) break;
  }
  std::reverse(folders.begin(), folders.end());
  for (const auto& folder : folders)
    if (starts_numbered(folder.filename().string())) return Belonging{folder, true, weights};
  for (auto it = folders.rbegin(); it != folders.rend(); ++it)
    if (*it != root && is_numbered_checkpoint_name(it->filename().string()))
      return Belonging{*it, true, weights};
  if (weights && !is_part_name(name)) return Belonging{file, false, true};
  // A staging name that tells nothing (".tmpX8f2", as safetensors writes) may become weights.
  if (weights || is_companion_name(name) || is_staging_name(name))
    return Belonging{parent, true, weights};
  return std::nullopt;
}

Inspection inspect_checkpoint(const std::filesystem::path& path, double since_unix_s) {
  return Inspector(path, since_unix_s).run();
}

// ------------------------------------------------------------------------------------------------
// argv

namespace {

/// Last part of a dotted key, dashes as underscores: "--trainer.default-root-dir" →
/// "default_root_dir".
std::string option_name(std::string_view text) {
  while (text.starts_with("-") || text.starts_with("+")) text.remove_prefix(1);
  std::string name = lower(text);
  std::replace(name.begin(), name.end(), '-', '_');
  if (name == "hydra.run.dir") return "output_dir";
  const std::size_t dot = name.rfind('.');
  return dot == std::string::npos ? name : name.substr(dot + 1);
}

bool names_output(const std::string& name) {
  for (const std::string_view known : {"output_dir",
                                       "out",
                                       "out_dir",
                                       "outdir",
                                       "output",
                                       "output_path",
                                       "o",
                                       "save",
                                       "save_dir",
                                       "save_path",
                                       "save_folder",
                                       "checkpoint_dir",
                                       "checkpoints_dir",
                                       "ckpt_dir",
                                       "checkpoint_path",
                                       "checkpoints",
                                       "default_root_dir",
                                       "run_dir",
                                       "work_dir",
                                       "workdir",
                                       "results_dir",
                                       "exp_dir",
                                       "adapter_path",
                                       "saving_path",
                                       "output_folder",
                                       "save_root",
                                       "model_save_dir"})
    if (name == known) return true;
  return false;
}

bool is_path_text(std::string_view text) {
  if (text.empty() || text.size() > 1024 || text.starts_with("-") || text.find("://") != text.npos)
    return false;
  if (text.find_first_of("\n*?{}|;<>$`\"'") != text.npos) return false;
  const std::string low = lower(text);
  return !to_number(text) && low != "true" && low != "false" && low != "none" && low != "auto";
}

}  // namespace

std::vector<std::filesystem::path> output_directories_of(const std::vector<std::string>& argv,
                                                         const std::string& cwd) {
  constexpr std::size_t kMaxPositional = 8;
  std::vector<std::filesystem::path> found;
  const auto add = [&](std::string_view text) {
    if (!is_path_text(text)) return;
    std::filesystem::path path =
        (std::filesystem::path(text).is_absolute() ? std::filesystem::path(text)
                                                   : std::filesystem::path(cwd) / text)
            .lexically_normal();
    if (!path.has_filename()) path = path.parent_path();
    if (is_checkpoint_file(path.filename().string())) path = path.parent_path();
    if (std::find(found.begin(), found.end(), path) == found.end()) found.push_back(path);
  };
  std::vector<std::string> positional;
  for (std::size_t i = 1; i < argv.size(); ++i) {
    const std::string& argument = argv[i];
    const std::size_t equals = argument.find('=');
    if (equals != std::string::npos) {
      if (names_output(option_name(std::string_view(argument).substr(0, equals))))
        add(std::string_view(argument).substr(equals + 1));
      continue;
    }
    if (argument.starts_with("-")) {
      const bool has_value = i + 1 < argv.size() && !argv[i + 1].starts_with("-");
      if (has_value && names_output(option_name(argument))) add(argv[i + 1]);
      if (has_value) ++i;
      continue;
    }
    positional.push_back(argument);
  }
  for (const Fact& fact : facts_of_argv(argv, cwd))
    if (fact.key == "checkpoint_dir" && !fact.source.starts_with("argv")) add(fact.value);
  // Words that are no options: folders that are there, or that may come to be.
  std::size_t taken = 0;
  for (const std::string& word : positional) {
    if (taken >= kMaxPositional || !is_path_text(word) || word.find('.') == 0) continue;
    const std::filesystem::path path = std::filesystem::path(word).is_absolute()
                                           ? std::filesystem::path(word)
                                           : std::filesystem::path(cwd) / word;
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    const bool program = path.extension() == ".py" || path.extension() == ".sh";
    if (program || (std::filesystem::exists(status) && !std::filesystem::is_directory(status)))
      continue;
    ++taken;
    add(word);
  }
  return found;
}

}  // namespace rigwise
