#include "record/facts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "record/facts_config.h"
#include "record/facts_spellings.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

const Spelling* spelling_of(std::string_view dotted) {
  const std::size_t dot = dotted.rfind('.');
  const std::size_t before =
      dot == std::string_view::npos || dot == 0 ? dot : dotted.rfind('.', dot - 1);
  const std::string_view last = dot == std::string_view::npos ? dotted : dotted.substr(dot + 1);
  const std::string_view last_two =
      before == std::string_view::npos ? dotted : dotted.substr(before + 1);
  const Spelling* found = nullptr;
  for (const Spelling& spelling : kSpellings) {
    if (spelling.name == last_two) return &spelling;
    if (spelling.name == last) found = &spelling;
  }
  return found;
}

std::string setting_name(std::string_view text) {
  while (text.starts_with("-") || text.starts_with("+")) text.remove_prefix(1);
  std::string name = lower(text);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::optional<bool> truth_of(std::string_view text) {
  const std::string low = lower(trim(text));
  if (low == "true" || low == "1" || low == "yes" || low == "on") return true;
  if (low == "false" || low == "0" || low == "no" || low == "off" || low == "none") return false;
  return std::nullopt;
}

std::string plain(std::string_view text) {
  text = trim(text);
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') &&
      text.back() == text.front())
    text = text.substr(1, text.size() - 2);
  return clean_text(text, 512);
}

std::string precision_name(const std::string& text) {
  const std::string low = lower(text);
  if (low.find("bf16") != std::string::npos || low.find("bfloat16") != std::string::npos)
    return "bf16";
  if (low == "fp16" || low == "float16" || low == "half" || low.starts_with("16")) return "fp16";
  if (low == "fp32" || low == "float32" || low == "no" || low.starts_with("32")) return "fp32";
  return low;
}

/// Words sorted and joined with ','. The order in which LoRA targets are named means nothing.
std::string sorted_list(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char byte : text) {
    if (byte == ',' || byte == ' ' || byte == '[' || byte == ']' || byte == '"' || byte == '\'') {
      if (!word.empty()) words.push_back(std::exchange(word, {}));
    } else {
      word.push_back(byte);
    }
  }
  if (!word.empty()) words.push_back(word);
  std::sort(words.begin(), words.end());
  return join(words, ",");
}

/// The fact's value from the setting's; nothing when it says nothing.
std::optional<std::string> value_of(const Spelling& spelling, std::string_view raw, bool given) {
  const std::string text = plain(raw);
  const auto number = to_number(text);
  switch (spelling.shape) {
    case Shape::truth: {
      if (!given) return "true";
      const auto truth = truth_of(text);
      return truth ? std::optional<std::string>(*truth ? "true" : "false") : std::optional(text);
    }
    case Shape::named: {
      const auto truth = given ? truth_of(text) : std::optional(true);
      if (truth && !*truth) return std::nullopt;
      return std::string(spelling.value);
    }
    case Shape::number:
      return number ? std::optional(number_text(*number)) : std::nullopt;
    case Shape::steps: {
      if (!number) return text.empty() ? std::nullopt : std::optional(text);
      if (*number <= 0) return spelling.key == "warmup" ? "0 steps" : "none";
      if (*number < 1) return number_text(*number) + " of all steps";
      return number_text(*number) + " steps";
    }
    case Shape::share:
      return number ? std::optional(number_text(*number) + " of all steps") : std::nullopt;
    case Shape::bits:
      return number && *number > 0 ? std::optional(number_text(*number) + "bit") : std::nullopt;
    case Shape::policy:
      if (text == "no" || text == "none") return "none";
      if (text == "epoch" || text == "epochs") return "1 epoch";
      return std::nullopt;
    case Shape::list:
      if (spelling.key == "lora_targets") return sorted_list(text);
      [[fallthrough]];
    case Shape::text:
      if (text.empty() || (given && text.starts_with("--"))) return std::nullopt;
      return spelling.key == "precision" ? precision_name(text) : text;
  }
  return std::nullopt;
}

/// One fact a key; a later statement replaces an earlier one, "none" by policy beats a number.
class FactSet {
 public:
  void put(std::string_view key, std::string value, std::string source) {
    const auto found = places_.find(std::string(key));
    if (found == places_.end()) {
      places_[std::string(key)] = facts_.size();
      facts_.push_back({std::string(key), std::move(value), std::move(source)});
      return;
    }
    Fact& fact = facts_[found->second];
    const bool interval = key == "checkpoint_interval" || key == "evaluation_interval";
    if (interval && fact.value == "none") return;
    fact.value = std::move(value);
    fact.source = std::move(source);
  }
  [[nodiscard]] bool has(std::string_view key) const {
    return places_.count(std::string(key)) != 0;
  }
  [[nodiscard]] std::optional<std::string> get(std::string_view key) const {
    const auto found = places_.find(std::string(key));
    return found == places_.end() ? std::nullopt : std::optional(facts_[found->second].value);
  }
  std::vector<Fact> take() { return std::move(facts_); }

 private:
  std::vector<Fact> facts_;
  std::map<std::string, std::size_t> places_;
};

fs::path resolve(const std::string& cwd, std::string_view text) {
  const fs::path path(text);
  return (path.is_absolute() ? path : fs::path(cwd) / path).lexically_normal();
}

std::string base_of(std::string_view text) {
  const std::size_t slash = text.rfind('/');
  return std::string(slash == std::string_view::npos ? text : text.substr(slash + 1));
}

bool has_ending(std::string_view text, std::initializer_list<std::string_view> endings) {
  const std::string low = lower(text);
  return std::any_of(endings.begin(), endings.end(), [&](auto end) { return low.ends_with(end); });
}

/// The script that is run: the first word that ends in .py, else what "-m" names.
struct Script {
  std::string text = {};
  bool module = false;
};
std::optional<Script> script_of(const std::vector<std::string>& argv) {
  for (const auto& word : argv)
    if (has_ending(word, {".py"}) && !word.starts_with("-")) return Script{word, false};
  std::optional<Script> module;
  for (std::size_t i = 1; i + 1 < argv.size(); ++i)
    if (argv[i] == "-m" || argv[i] == "--module") module = Script{argv[i + 1], true};
  if (module) return module;
  for (const auto& word : argv)
    if (has_ending(word, {".sh"}) && !word.starts_with("-")) return Script{word, false};
  return std::nullopt;
}

std::string launcher_of(const std::vector<std::string>& argv) {
  for (const auto& word : argv) {
    if (has_ending(word, {".py"})) break;
    const std::string name = base_of(word);
    for (const std::string_view known :
         {"torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "srun", "horovodrun",
          "axolotl", "llamafactory-cli", "tune", "litgpt", "swift"})
      if (name == known) return name;
    if (name == "torch.distributed.run" || name == "torch.distributed.launch") return "torchrun";
    if (name == "accelerate.commands.launch") return "accelerate";
  }
  return argv.empty()                             ? std::string()
         : base_of(argv[0]).starts_with("python") ? "python"
                                                  : base_of(argv[0]);
}

/// Configuration files that argv names: by a flag that says so, or as a word of their own.
std::vector<std::string> config_files_of(const std::vector<std::string>& argv,
                                         const std::string& cwd) {
  constexpr std::size_t kMaxFiles = 8;
  std::vector<std::string> files;
  for (std::size_t i = 1; i < argv.size() && files.size() < kMaxFiles; ++i) {
    std::string_view word = argv[i];
    std::string name;
    const std::size_t equals = word.find('=');
    if (equals != std::string_view::npos) {
      name = setting_name(word.substr(0, equals));
      word = word.substr(equals + 1);
    } else if (i > 0 && argv[i - 1].starts_with("-")) {
      name = setting_name(argv[i - 1]);
    }
    if (!has_ending(word, {".yaml", ".yml", ".toml", ".json"})) continue;
    const bool config = name.empty() || name.find("config") != std::string::npos || name == "c" ||
                        name == "deepspeed" || name == "cfg" || name == "recipe";
    std::error_code error;
    if (config && fs::is_regular_file(resolve(cwd, word), error)) files.emplace_back(word);
  }
  return files;
}

void read_settings(const std::vector<std::string>& argv, FactSet& facts) {
  for (std::size_t i = 1; i < argv.size(); ++i) {
    const std::string& word = argv[i];
    const bool flag = word.starts_with("-") && word.size() > 1 && !to_number(word);
    const std::size_t equals = word.find('=');
    if (!flag && equals == std::string::npos) continue;
    std::string name = setting_name(std::string_view(word).substr(0, equals));
    const Spelling* spelling = spelling_of(name);
    if (spelling == nullptr) {
      // --no-bf16, --no_gradient_checkpointing
      if (name.starts_with("no_") && flag && equals == std::string::npos) {
        spelling = spelling_of(std::string_view(name).substr(3));
        if (spelling != nullptr && spelling->shape == Shape::truth)
          facts.put(spelling->key, "false", "argv " + clean_text(word, 128));
      }
      continue;
    }
    std::string value;
    bool given = false;
    if (equals != std::string::npos) {
      value = word.substr(equals + 1);
      given = true;
    } else if (i + 1 < argv.size() && (!argv[i + 1].starts_with("-") || to_number(argv[i + 1]))) {
      const bool is_switch = spelling->shape == Shape::truth || spelling->shape == Shape::named;
      const bool config = has_ending(argv[i + 1], {".json", ".yaml", ".yml"});
      if (!is_switch || truth_of(argv[i + 1]) || config) {
        value = argv[++i];
        given = true;
        while (spelling->shape == Shape::list && i + 1 < argv.size() &&
               !argv[i + 1].starts_with("-") && argv[i + 1].find('=') == std::string::npos)
          value += ',' + argv[++i];
      }
    }
    if (auto fact = value_of(*spelling, value, given))
      facts.put(spelling->key, std::move(*fact),
                "argv " + clean_text(std::string_view(word).substr(0, equals), 128));
  }
}

}  // namespace

std::vector<Fact> facts_of_argv(const std::vector<std::string>& argv, const std::string& cwd) {
  FactSet facts, configured;
  read_settings(argv, facts);
  if (const auto script = script_of(argv))
    facts.put("script", clean_text(script->text, 512), "argv");
  if (!argv.empty()) facts.put("launcher", launcher_of(argv), "argv");
  for (const std::string& file : config_files_of(argv, cwd))
    for (const auto& [key, value] : settings_of_file(resolve(cwd, file))) {
      const Spelling* spelling = spelling_of(setting_name(key));
      if (spelling == nullptr) continue;
      if (auto fact = value_of(*spelling, value, true))
        configured.put(spelling->key, std::move(*fact),
                       "config " + clean_text(file, 256) + ' ' + clean_text(key, 128));
    }
  std::vector<Fact> all = facts.take();
  for (Fact& fact : configured.take()) {
    const bool known =
        std::any_of(all.begin(), all.end(), [&](const Fact& f) { return f.key == fact.key; });
    if (!known) all.push_back(std::move(fact));
  }
  return all;
}

std::vector<Fact> facts_of_settings(
    const std::vector<std::pair<std::string, std::string>>& settings, const std::string& source) {
  FactSet facts;
  const bool generation = std::any_of(settings.begin(), settings.end(), [](const auto& setting) {
    return setting.first == "min_length";
  });
  for (const auto& [name, value] : settings) {
    const std::string key = setting_name(name);
    const Spelling* spelling = spelling_of(key);
    if (spelling == nullptr || (generation && key == "max_length")) continue;
    if (const auto number = to_number(value); number && *number < 0) continue;
    if (value == "null" || value == "None") continue;
    if (auto fact = value_of(*spelling, value, true)) {
      facts.put(spelling->key, std::move(*fact), source + ' ' + clean_text(name, 128));
    }
  }
  return facts.take();
}

// ------------------------------------------------------------------------------------------------
// hashes

namespace {

class Hasher {
 public:
  Hasher(const HashLimits& limits, const std::atomic<bool>* stop)
      : limits_(limits), stop_(stop), until_(std::chrono::steady_clock::now() + limits.limit) {}

  /// Hash of a file or folder; nothing when it is not there, unreadable, or the limits are reached:
  /// a hash of half the content would compare as something else.
  std::optional<std::string> of(const fs::path& path) {
    std::error_code error;
    if (fs::is_directory(path, error)) return folder(path);
    return file(path);
  }

 private:
  [[nodiscard]] bool over() const {
    return (stop_ != nullptr && stop_->load()) || std::chrono::steady_clock::now() > until_ ||
           read_bytes_ > limits_.max_bytes;
  }

  std::optional<std::string> file(const fs::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || over())
      return std::nullopt;
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size <= limits_.max_whole_file_bytes) {
      read_bytes_ += size;
      if (read_bytes_ > limits_.max_bytes) return std::nullopt;
      const auto hash = sha256_file_hex(path);
      return hash ? std::optional("sha256:" + *hash) : std::nullopt;
    }
    // Size, and 64 blocks spread over the file, its ends among them.
    constexpr std::uint64_t kBlocks = 64, kBlockBytes = 64 << 10;
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd.valid()) return std::nullopt;
    std::string sample = std::to_string(size) + '\n';
    std::string block(kBlockBytes, '\0');
    for (std::uint64_t i = 0; i < kBlocks; ++i) {
      if (over()) return std::nullopt;
      const std::uint64_t offset = (size - kBlockBytes) / (kBlocks - 1) * i;
      const std::uint64_t at = i + 1 == kBlocks ? size - kBlockBytes : offset;
      const ssize_t got = ::pread(fd.get(), block.data(), block.size(), static_cast<off_t>(at));
      if (got != static_cast<ssize_t>(kBlockBytes)) return std::nullopt;
      read_bytes_ += kBlockBytes;
      sample += block;
    }
    return "sha256-sample:" + sha256_hex(sample);
  }

  std::optional<std::string> folder(const fs::path& path) {
    constexpr std::uint64_t kSmall = 1 << 20;
    std::vector<std::pair<std::string, std::uint64_t>> files;
    std::error_code error;
    fs::recursive_directory_iterator it(path, fs::directory_options::skip_permission_denied, error),
        end;
    for (; !error && it != end; it.increment(error)) {
      if (over() || files.size() > limits_.max_folder_files) return std::nullopt;
      const std::string name = it->path().filename().string();
      if (name.starts_with(".")) {  // caches and locks of readers
        if (it->is_directory(error)) it.disable_recursion_pending();
        continue;
      }
      if (it->is_regular_file(error))
        files.emplace_back(it->path().lexically_relative(path).string(), it->file_size(error));
    }
    if (error || files.empty()) return std::nullopt;
    std::sort(files.begin(), files.end());
    std::string list;
    for (const auto& [name, size] : files) {
      list += name + '\t' + std::to_string(size);
      if (size <= kSmall || has_ending(name, {".safetensors"})) {
        const auto hash = size <= kSmall ? file(path / name) : sampled(path / name);
        if (!hash) return std::nullopt;
        list += '\t' + *hash;
      }
      list += '\n';
    }
    return "sha256-list:" + sha256_hex(list);
  }

  /// Weights of one shape have one size: a few blocks tell them apart.
  std::optional<std::string> sampled(const fs::path& path) {
    Hasher blocks(limits_, stop_);
    blocks.limits_.max_whole_file_bytes = std::uint64_t{4} << 20;
    blocks.until_ = until_;
    auto hash = blocks.file(path);
    read_bytes_ += blocks.read_bytes_;
    return hash;
  }

  HashLimits limits_;
  const std::atomic<bool>* stop_;
  std::chrono::steady_clock::time_point until_;
  std::uint64_t read_bytes_ = 0;
};

}  // namespace

std::vector<Fact> facts_of_named_files(const std::vector<std::string>& argv, const std::string& cwd,
                                       const HashLimits& limits, const std::atomic<bool>* stop) {
  std::vector<Fact> out;
  Hasher hasher(limits, stop);
  const auto stated = facts_of_argv(argv, cwd);
  const auto value = [&](std::string_view key) -> std::optional<std::string> {
    for (const Fact& fact : stated)
      if (fact.key == key) return fact.value;
    return std::nullopt;
  };
  const auto hash = [&](const char* key, std::string_view text) {
    if (text.empty() || text.find("://") != std::string_view::npos) return;
    if (auto digest = hasher.of(resolve(cwd, text)))
      out.push_back({key, std::move(*digest), "file " + clean_text(text, 512)});
  };
  /// Several files in one value: a hash over their hashes.
  const auto hash_list = [&](const char* key, const std::string& text) {
    const auto parts = split(text, ',');
    if (parts.size() == 1) return hash(key, text);
    std::string all;
    for (const auto part : parts) {
      const auto digest = hasher.of(resolve(cwd, part));
      if (!digest) return;
      all += *digest + '\n';
    }
    out.push_back({key, "sha256-list:" + sha256_hex(all), "files " + clean_text(text, 512)});
  };
  // Cheap and most telling first, so that the limits cut the least.
  if (const auto script = value("script")) hash("script_hash", *script);
  const auto model = value("model");
  if (model) hash("model_config_hash", *model + "/config.json");
  if (const auto data = value("data")) hash_list("data_hash", *data);
  if (const auto data = value("evaluation_data")) hash_list("evaluation_data_hash", *data);
  if (model) hash("model_hash", *model);
  return out;
}

// ------------------------------------------------------------------------------------------------
// what trainers leave

namespace {

void put_number(FactSet& facts, const Json& json, const char* member, const char* key,
                const std::string& source, std::string_view unit = {}) {
  const auto number = get<double>(json, member);
  if (!number || !(*number > 0)) return;
  facts.put(key, number_text(*number) + std::string(unit), source + ' ' + member);
}

std::optional<Json> json_of_file(const fs::path& path, double since_unix_s) {
  constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;  // log_history grows with the run
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  if (static_cast<double>(status.st_mtim.tv_sec) + 1 < since_unix_s) return std::nullopt;
  const auto text = read_file(path, kMaxBytes);
  if (!text) return std::nullopt;
  auto json = parse_json(*text);
  if (!json || !json->is_object()) return std::nullopt;
  return std::move(*json);
}

/// checkpoint-* folders, newest step first.
std::vector<fs::path> checkpoints_in(const fs::path& directory) {
  std::vector<std::pair<std::int64_t, fs::path>> found;
  std::error_code error;
  std::size_t entries = 0;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (++entries > 20000) break;
    const std::string name = it->path().filename().string();
    if (!name.starts_with("checkpoint-")) continue;
    if (const auto step = to_integer(std::string_view(name).substr(11)))
      found.emplace_back(*step, it->path());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

void read_trainer_state(const Json& state, const std::string& source, FactSet& facts) {
  put_number(facts, state, "train_batch_size", "micro_batch", source);
  put_number(facts, state, "max_steps", "max_steps", source);
  put_number(facts, state, "num_train_epochs", "epochs", source);
  put_number(facts, state, "num_input_tokens_seen", "tokens_seen", source);
  put_number(facts, state, "save_steps", "checkpoint_interval", source, " steps");
  put_number(facts, state, "logging_steps", "logging_interval", source);
  // The state names an interval even where nothing is evaluated; the history tells.
  const auto history = state.find("log_history");
  bool evaluated = false;
  if (history != state.end() && history->is_array())
    for (const auto& entry : *history)
      evaluated = evaluated || (entry.is_object() && entry.contains("eval_loss"));
  if (evaluated) put_number(facts, state, "eval_steps", "evaluation_interval", source, " steps");
}

void read_adapter(const Json& adapter, const std::string& source, FactSet& facts) {
  put_number(facts, adapter, "r", "lora_rank", source);
  put_number(facts, adapter, "lora_alpha", "lora_alpha", source);
  if (const auto dropout = get<double>(adapter, "lora_dropout"))
    facts.put("lora_dropout", number_text(*dropout), source + " lora_dropout");
  if (const auto base = get<std::string>(adapter, "base_model_name_or_path");
      base && !base->empty())
    facts.put("model", clean_text(*base, 512), source + " base_model_name_or_path");
  const auto targets = adapter.find("target_modules");
  if (targets == adapter.end()) return;
  const std::string text = targets->is_string() ? targets->get<std::string>() : targets->dump();
  if (!text.empty() && text != "null")
    facts.put("lora_targets", clean_text(sorted_list(text), 512), source + " target_modules");
}

}  // namespace

std::vector<Fact> facts_of_outputs(const std::vector<fs::path>& directories, double since_unix_s) {
  constexpr std::size_t kMaxDirectories = 16;
  FactSet facts;
  std::size_t seen = 0;
  for (const auto& directory : directories) {
    if (++seen > kMaxDirectories) break;
    std::vector<fs::path> places = checkpoints_in(directory);
    if (places.size() > 1) places.resize(1);
    places.push_back(directory);
    bool state_read = false, adapter_read = false;
    for (const auto& place : places) {
      const std::string source = "output " + clean_text(place.filename().string(), 128);
      if (!state_read)
        if (const auto state = json_of_file(place / "trainer_state.json", since_unix_s)) {
          read_trainer_state(*state, source + "/trainer_state.json", facts);
          state_read = true;
        }
      if (!adapter_read)
        if (const auto adapter = json_of_file(place / "adapter_config.json", since_unix_s)) {
          read_adapter(*adapter, source + "/adapter_config.json", facts);
          adapter_read = true;
        }
    }
  }
  return facts.take();
}

std::optional<Fact> global_batch_of_summary(const StepRecord& summary) {
  if (summary.kind != RecordKind::summary || !summary.samples_per_s || !summary.steps_per_s ||
      !(*summary.steps_per_s > 0))
    return std::nullopt;
  // Rates are printed with three decimals or four digits: where that leaves two whole numbers open,
  // nothing is said.
  constexpr double kHalfUnit = 0.0005, kRelative = 0.002;
  const double ratio = *summary.samples_per_s / *summary.steps_per_s;
  const double whole = std::round(ratio);
  const double error = ratio * std::min(kHalfUnit / *summary.steps_per_s, kRelative);
  if (!(whole >= 1) || ratio * kHalfUnit / *summary.steps_per_s > 0.5 ||
      std::abs(ratio - whole) > std::max(0.01, error))
    return std::nullopt;
  return Fact{"global_batch", number_text(whole),
              summary.log_file +
                  (summary.log_line > 0 ? ':' + std::to_string(summary.log_line) : std::string()) +
                  " samples/s ÷ steps/s"};
}

// ------------------------------------------------------------------------------------------------
// merging

namespace {

/// The trainer's own word about what it did comes first.
int standing(const Fact& fact) {
  if (fact.source.starts_with("log/")) return 0;
  if (fact.source.starts_with("output ")) return 1;
  if (fact.source.starts_with("argv")) return 2;
  if (fact.source.starts_with("config ")) return 4;
  return 3;
}

bool same_value(const std::string& a, const std::string& b) {
  if (a == b) return true;
  const auto x = to_number(a), y = to_number(b);
  return x && y && std::abs(*x - *y) <= 1e-12 * std::max(std::abs(*x), std::abs(*y));
}

}  // namespace

std::vector<Fact> merge_facts(const std::vector<std::vector<Fact>>& sources,
                              std::optional<int> ranks_trained) {
  std::map<std::string, std::vector<const Fact*>> by_key;
  for (const auto& source : sources)
    for (const Fact& fact : source) by_key[fact.key].push_back(&fact);
  std::vector<Fact> merged;
  for (auto& [key, facts] : by_key) {
    std::stable_sort(facts.begin(), facts.end(),
                     [](const Fact* a, const Fact* b) { return standing(*a) < standing(*b); });
    Fact winner = *facts.front();
    for (std::size_t i = 1; i < facts.size(); ++i) {
      if (!same_value(facts[i]->value, winner.value)) {
        winner.source += fmt::format(" ({} says {})", facts[i]->source, facts[i]->value);
        break;  // one other opinion is enough to look
      }
      // Which flag it was is kept: compare must not take it for an argument that nothing reads.
      if (facts[i]->source.starts_with("argv ")) winner.source += ", " + facts[i]->source;
    }
    merged.push_back(std::move(winner));
  }
  const auto number = [&](std::string_view key) -> std::optional<double> {
    const auto found = by_key.find(std::string(key));
    return found == by_key.end() ? std::nullopt : to_number(found->second.front()->value);
  };
  const auto micro = number("micro_batch");
  if (by_key.count("global_batch") == 0 && micro && ranks_trained) {
    const double accumulation = number("accumulation").value_or(1);
    merged.push_back({"global_batch", number_text(*micro * accumulation * *ranks_trained),
                      fmt::format("micro_batch {} × accumulation {} × {} ranks", *micro,
                                  accumulation, *ranks_trained)});
  }
  std::sort(merged.begin(), merged.end(), [](const Fact& a, const Fact& b) {
    const auto place = [](const Fact& f) {
      return std::find(kFactKeys.begin(), kFactKeys.end(), f.key);
    };
    return place(a) < place(b);
  });
  return merged;
}

}  // namespace rigwise
