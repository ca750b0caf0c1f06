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

/// The model's own files that a fine-tuned copy needs beside its weights.
Status copy_model_files(const fs::path& from, const fs::path& to) {
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json",
                           "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                           "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"}) {
    if (!fs::exists(from / name)) continue;
    RW_TRY(const std::string bytes, read_file(from / name));
    RW_CHECK(write_file_atomic(to / name, bytes));
  }
  return Ok{};
}

Status write_weights(DistributedModel& model, const fs::path& folder,
                     std::vector<NamedTensor> values) {
  const ModelOptions& options = model.options();
  if (options.method == Method::full) {
    for (NamedTensor& tensor : values) tensor.value = tensor.value.to(options.dtype);
    RW_CHECK(save_tensors(folder / "model.safetensors", values));
    return copy_model_files(options.model, folder);
  }
  for (NamedTensor& tensor : values) tensor.name = peft_name(tensor.name);
  RW_CHECK(save_tensors(folder / "adapter_model.safetensors", values));
  return write_adapter_config(options.adapter, folder / "adapter_config.json");
}

Status write_folder(DistributedModel& model, const fs::path& folder, const CheckpointState& state,
                    std::vector<NamedTensor> values, const std::vector<NamedTensor>& moment1,
                    const std::vector<NamedTensor>& moment2) {
  std::error_code failed;
  fs::remove_all(folder, failed);
  fs::create_directories(folder, failed);
  if (failed) return Error{Errc::io, fmt::format("{}: {}", folder.string(), failed.message())};
  std::vector<NamedTensor> optimizer;
  for (const NamedTensor& tensor : moment1)
    optimizer.push_back({"moment1." + tensor.name, tensor.value});
  for (const NamedTensor& tensor : moment2)
    optimizer.push_back({"moment2." + tensor.name, tensor.value});
  const bool narrowed =
      model.options().method == Method::full && model.options().dtype != at::kFloat;
  if (narrowed) {
    for (const NamedTensor& tensor : values)
      optimizer.push_back({"value." + tensor.name, tensor.value});
  }
  RW_CHECK(save_tensors(folder / kOptimizer, optimizer));
  RW_CHECK(write_weights(model, folder, std::move(values)));
  Json work = Json::object();
  for (const auto& [key, value] : state.work) work[key] = value;
  RW_CHECK(
      write_file_atomic(folder / "trainer.json",
                        Json{{"format", 1}, {"step", state.step}, {"work", work}}.dump(2) + "\n"));
  return write_manifest(folder);
}

std::optional<std::int64_t> step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char *begin = name.data() + kPrefix.size(), *end = name.data() + name.size();
  const auto [at, error] = std::from_chars(begin, end, step);
  return error == std::errc() && at == end ? std::optional(step) : std::nullopt;
}

/// All ranks learn whether rank 0 could do its part, so that none goes on alone.
Status together(Comm& world, Status mine) {
  at::Tensor failed = at::zeros({1}, at::TensorOptions(world.device()).dtype(at::kInt));
  if (!mine) failed.fill_(1);
  if (world.size() > 1) world.all_reduce(failed, ReduceOp::max).wait();
  if (!mine) return mine;
  if (failed.item<int>() == 0) return Ok{};
  return Error{Errc::io, "rank 0 could not write the checkpoint", "its message says why"};
}

}  // namespace

Status save_checkpoint(DistributedModel& model, const fs::path& out, const CheckpointState& state) {
  std::vector<NamedTensor> values = model.gather(Part::value);
  const std::vector<NamedTensor> moment1 = model.gather(Part::moment1),
                                 moment2 = model.gather(Part::moment2);
  Status written = Ok{};
  if (model.mesh().world->rank() == 0) {
    const fs::path folder = out / fmt::format("{}{}", kPrefix, state.step);
    const fs::path partial = folder.string() + ".partial";
    written = write_folder(model, partial, state, std::move(values), moment1, moment2);
    if (written) {
      std::error_code ignored;
      fs::remove_all(folder, ignored);  // a damaged one of an earlier try
      written = replace_file(partial, folder);
    }
    if (!written) {
      std::error_code ignored;
      fs::remove_all(partial, ignored);
    }
  }
  return together(*model.mesh().world, std::move(written));
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
  RW_TRY(const SafetensorsFile optimizer, SafetensorsFile::open(folder / kOptimizer));
  const bool full = model.options().method == Method::full;
  RW_TRY(
      const SafetensorsFile weights,
      SafetensorsFile::open(folder / (full ? "model.safetensors" : "adapter_model.safetensors")));
  const auto from = [](const SafetensorsFile& file, const std::string& name) -> Result<at::Tensor> {
    const TensorView* view = file.find(name);
    if (view == nullptr) {
      return Error{Errc::not_found, fmt::format("{}: no tensor {}", file.path().string(), name),
                   "the checkpoint is of another model or another method"};
    }
    return mapped_tensor(*view);
  };
  RW_CHECK(model.restore(Part::value, [&](const Parameter& parameter) {
    const std::string kept = "value." + parameter.name;
    if (optimizer.find(kept) != nullptr) return from(optimizer, kept);
    return from(weights, full ? parameter.name : peft_name(parameter.name));
  }));
  RW_CHECK(model.restore(Part::moment1, [&](const Parameter& parameter) {
    return from(optimizer, "moment1." + parameter.name);
  }));
  return model.restore(Part::moment2, [&](const Parameter& parameter) {
    return from(optimizer, "moment2." + parameter.name);
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
