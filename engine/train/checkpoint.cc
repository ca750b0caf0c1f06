#include "engine/train/checkpoint.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "engine/model/lora.h"
#include "engine/train/shards.h"
#include "engine/train/together.h"

namespace rigwise::engine {
namespace {

namespace fs = std::filesystem;
using Part = DistributedModel::Part;

constexpr std::string_view kPrefix = "checkpoint-";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kOptimizer = "optimizer.safetensors";

std::string hash_hex(const XXH128_hash_t& hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

Result<std::string> hash_file(const fs::path& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return Error{Errc::io, fmt::format("{}: {}", file.string(), errno_text(errno))};
  }
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> piece(std::size_t{1} << 20);
  for (;;) {
    const ssize_t got = ::read(fd.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error{Errc::io, fmt::format("{}: {}", file.string(), errno_text(errno))};
    if (got == 0) return hash_hex(XXH3_128bits_digest(state.get()));
    XXH3_128bits_update(state.get(), piece.data(), static_cast<std::size_t>(got));
  }
}

Status write_manifest(const fs::path& folder) {
  Json files = Json::object();
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  for (const fs::path& path : paths) {
    RW_TRY(const std::string hash, hash_file(path));
    files[path.filename().string()] = {{"bytes", fs::file_size(path)}, {"xxh3_128", hash}};
  }
  return write_file_atomic(folder / kManifest,
                           Json{{"format", 1}, {"files", files}}.dump(2) + "\n");
}

/// The model's config.json, but with the type that the weights have now: transformers loads them in
/// the type that it names.
Status copy_config(const fs::path& from, const fs::path& to, at::ScalarType dtype) {
  RW_TRY(const std::string bytes, read_file(from / "config.json"));
  RW_TRY(Json config, parse_foreign_json(bytes, std::size_t{1} << 20));
  const char* key =
      config.contains("torch_dtype") ? "torch_dtype" : "dtype";  // before transformers 5
  config[key] = dtype == at::kFloat ? "float32" : "bfloat16";
  return write_file_atomic(to / "config.json", config.dump(2) + "\n");
}

Status write_weights(DistributedModel& model, const fs::path& folder,
                     std::vector<NamedTensor> values) {
  const ModelOptions& options = model.options();
  if (options.method == Method::full) {
    for (NamedTensor& tensor : values) tensor.value = tensor.value.to(options.dtype);
    RW_CHECK(save_tensors(folder / "model.safetensors", values));
    return copy_model_files(options.model, folder, options.dtype);
  }
  for (NamedTensor& tensor : values) tensor.name = peft_name(tensor.name);
  RW_CHECK(save_tensors(folder / "adapter_model.safetensors", values));
  return write_adapter_config(options.adapter, folder / "adapter_config.json");
}

Status make_empty(const fs::path& folder) {
  std::error_code failed;
  fs::remove_all(folder, failed);
  fs::create_directories(folder, failed);
  if (failed) return Error{Errc::io, fmt::format("{}: {}", folder.string(), failed.message())};
  return Ok{};
}

Status write_state(const fs::path& folder, const CheckpointState& state) {
  Json work = Json::object();
  for (const auto& [key, value] : state.work) work[key] = value;
  return write_file_atomic(
      folder / "trainer.json",
      Json{{"format", 1}, {"step", state.step}, {"work", work}}.dump(2) + "\n");
}

/// What is gathered on rank 0, in the order in which it is written.
struct Gathered {
  std::vector<NamedTensor> values, optimizer;
};

/// Collective.
Gathered gather(DistributedModel& model, bool in_parts) {
  Gathered all;
  const bool full = model.options().method == Method::full;
  if (!in_parts || !full) all.values = model.gather(Part::value);
  if (in_parts) return all;
  const auto add = [&](const char* prefix, const std::vector<NamedTensor>& tensors) {
    for (const NamedTensor& tensor : tensors) {
      all.optimizer.push_back({prefix + tensor.name, tensor.value});
    }
  };
  add("moment1.", model.gather(Part::moment1));
  add("moment2.", model.gather(Part::moment2));
  if (full && model.options().dtype != at::kFloat) add("value.", all.values);
  return all;
}

Status write_gathered(DistributedModel& model, const fs::path& folder, Gathered all,
                      const CheckpointState& state) {
  if (!all.optimizer.empty()) RW_CHECK(save_tensors(folder / kOptimizer, all.optimizer));
  if (!all.values.empty()) {
    RW_CHECK(write_weights(model, folder, std::move(all.values)));
  } else {
    RW_CHECK(copy_model_files(model.options().model, folder, model.options().dtype));
  }
  RW_CHECK(write_state(folder, state));
  return write_manifest(folder);
}

/// Takes the place of what is called so: nothing, or a damaged one of an earlier try.
Status put_in_place(const fs::path& partial, const fs::path& folder) {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return replace_file(partial, folder);
}

std::optional<std::int64_t> step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char *begin = name.data() + kPrefix.size(), *end = name.data() + name.size();
  const auto [at, error] = std::from_chars(begin, end, step);
  return error == std::errc() && at == end ? std::optional(step) : std::nullopt;
}

}  // namespace

Status copy_model_files(const fs::path& from, const fs::path& to, at::ScalarType dtype) {
  RW_CHECK(copy_config(from, to, dtype));
  for (const char* name : {"generation_config.json", "tokenizer.json", "tokenizer_config.json",
                           "special_tokens_map.json", "added_tokens.json", "vocab.json",
                           "merges.txt", "tokenizer.model", "chat_template.jinja"}) {
    if (!fs::exists(from / name)) continue;
    RW_TRY(const std::string bytes, read_file(from / name));
    RW_CHECK(write_file_atomic(to / name, bytes));
  }
  return Ok{};
}

Status save_checkpoint(DistributedModel& model, const fs::path& out, const CheckpointState& state,
                       bool in_parts) {
  Comm& world = *model.mesh().world;
  const bool first = world.rank() == 0;
  const fs::path folder = out / fmt::format("{}{}", kPrefix, state.step);
  const fs::path partial = folder.string() + ".partial";
  Status written = together(world, first ? make_empty(partial) : Status(Ok{}));
  if (written && in_parts) written = together(world, write_shard(model, partial));
  if (written) {
    Gathered all = gather(model, in_parts);
    Status rest = Ok{};
    if (first) {
      rest = write_gathered(model, partial, std::move(all), state);
      if (rest) rest = put_in_place(partial, folder);
    }
    written = together(world, std::move(rest));
  }
  if (!written && first) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
  }
  return written;
}

bool is_checkpoint(const fs::path& folder) {
  return step_of(folder).has_value();
}

Status verify_checkpoint(const fs::path& folder) {
  const std::string place = (folder / kManifest).string();
  RW_TRY(const std::string text, read_file(folder / kManifest));
  auto manifest = parse_foreign_json(text, std::size_t{1} << 20);
  if (!manifest) return std::move(manifest).error().at(place);
  const auto files = manifest->find("files");
  if (files == manifest->end() || !files->is_object()) {
    return Error{Errc::malformed, place + ": no list of files"};
  }
  for (const auto& [name, entry] : files->items()) {
    const fs::path file = folder / fs::path(name).filename();
    std::error_code failed;
    const std::uintmax_t bytes = fs::file_size(file, failed);
    const auto wanted = get<std::uint64_t>(entry, "bytes");
    if (failed || !wanted || bytes != *wanted) {
      return Error{Errc::malformed,
                   fmt::format("{}: {} of the {} bytes that its checkpoint had", file.string(),
                               failed ? 0 : bytes, wanted.value_or(0)),
                   "resume from an earlier checkpoint"};
    }
    RW_TRY(const std::string hash, hash_file(file));
    if (get<std::string>(entry, "xxh3_128") != hash) {
      return Error{Errc::malformed,
                   fmt::format("{}: its bytes changed since it was saved", file.string()),
                   "resume from an earlier checkpoint"};
    }
  }
  return Ok{};
}

Result<std::optional<fs::path>> find_checkpoint(const fs::path& out, const std::string& resume) {
  if (resume != "auto") {
    RW_CHECK(verify_checkpoint(resume));
    return std::optional<fs::path>(resume);
  }
  std::vector<std::pair<std::int64_t, fs::path>> found;
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(out, failed)) {
    if (const auto step = step_of(entry.path())) found.emplace_back(*step, entry.path());
  }
  std::ranges::sort(found, std::greater<>());
  for (const auto& [step, folder] : found) {
    if (verify_checkpoint(folder)) return std::optional<fs::path>(folder);
  }
  return std::optional<fs::path>();
}

Result<CheckpointState> read_checkpoint_state(const fs::path& folder) {
  const fs::path file = folder / "trainer.json";
  RW_TRY(const std::string text, read_file(file));
  auto json = parse_foreign_json(text, std::size_t{1} << 20);
  if (!json) return std::move(json).error().at(file.string());
  CheckpointState state;
  const auto step = get<std::int64_t>(*json, "step");
  const auto work = json->find("work");
  if (!step || *step < 0 || work == json->end() || !work->is_object()) {
    return Error{Errc::malformed, file.string() + ": no step, or no work",
                 "it is not a checkpoint of rigwise-engine"};
  }
  state.step = *step;
  for (const auto& [key, value] : work->items()) {
    if (value.is_string()) state.work[key] = value.get<std::string>();
  }
  return state;
}

Status restore_checkpoint(DistributedModel& model, const fs::path& folder) {
  const auto restore_all = [&](const auto& whole) -> Status {
    for (const auto& [part, name] : {std::pair(Part::value, "value"),
                                     {Part::moment1, "moment1"},
                                     {Part::moment2, "moment2"}}) {
      RW_CHECK(model.restore(
          part, [&](const Parameter& parameter) { return whole(name, parameter.name); }));
    }
    return Ok{};
  };
  if (Shards::are_in(folder)) {
    RW_TRY(const Shards shards, Shards::open(folder));
    return restore_all(
        [&](const std::string& part, const std::string& name) { return shards.whole(part, name); });
  }
  const bool full = model.options().method == Method::full;
  const char* weights_name = full ? "model.safetensors" : "adapter_model.safetensors";
  RW_TRY(const SafetensorsFile optimizer, SafetensorsFile::open(folder / kOptimizer));
  RW_TRY(const SafetensorsFile weights, SafetensorsFile::open(folder / weights_name));
  return restore_all([&](const std::string& part, const std::string& name) -> Result<at::Tensor> {
    // Values lie with the moments where the weights are kept in fewer bits.
    const TensorView* view = optimizer.find(part + "." + name);
    if (view == nullptr && part == "value") view = weights.find(full ? name : peft_name(name));
    if (view != nullptr) return mapped_tensor(*view);
    return Error{Errc::not_found, fmt::format("{}: no {} of {}", folder.string(), part, name),
                 "the checkpoint is of another model or another method"};
  });
}

Status check_same_work(const WorkDefinition& saved, const WorkDefinition& now) {
  std::string differences;
  for (const auto& [key, value] : now) {
    const auto found = saved.find(key);
    const std::string before = found == saved.end() ? "nothing" : found->second;
    if (before != value) {
      differences +=
          fmt::format("{}{}: {} then, {} now", differences.empty() ? "" : "; ", key, before, value);
    }
  }
  if (differences.empty()) return Ok{};
  return Error{Errc::usage, "the checkpoint is of other work: " + differences,
               "give the flags that it was saved with, or start anew with another --out"};
}

}  // namespace rigwise::engine
