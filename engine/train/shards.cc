#include "engine/train/shards.h"

#include <c10/util/accumulate.h>
#include <fmt/format.h>

#include "base/json.h"

namespace rigwise::engine {
namespace {

namespace fs = std::filesystem;

std::string shard_name(int rank, int ranks) {
  return fmt::format("shard-{}-of-{}.safetensors", rank, ranks);
}

/// "shard-0-of-W.safetensors" -> W.
std::optional<int> shard_count(const fs::path& folder) {
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, failed)) {
    int ranks = 0;
    const std::string name = entry.path().filename().string();
    if (std::sscanf(name.c_str(), "shard-0-of-%d.safetensors", &ranks) == 1 && ranks > 0 &&
        name == shard_name(0, ranks)) {
      return ranks;
    }
  }
  return std::nullopt;
}

}  // namespace

Status write_shard(DistributedModel& model, const fs::path& folder) {
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  for (const Piece& piece : model.pieces()) {
    if (!model.owns(piece)) continue;
    const Parameter& parameter = *piece.parameter;
    Json where = {{"shape", parameter.shape}, {"begin", piece.begin}, {"end", piece.end}};
    if (parameter.cut) {
      where["dim"] = parameter.cut->dim;
      where["ranges"] = parameter.cut->ranges;
    }
    metadata["piece." + parameter.name] = where.dump();
    tensors.push_back(
        {"value." + parameter.name, piece.master.defined() ? piece.master : piece.value});
    tensors.push_back({"moment1." + parameter.name, piece.moment1});
    tensors.push_back({"moment2." + parameter.name, piece.moment2});
  }
  const Comm& world = *model.mesh().world;
  return save_tensors(folder / shard_name(world.rank(), world.size()), tensors, metadata);
}

bool Shards::are_in(const fs::path& folder) {
  return shard_count(folder).has_value();
}

Result<Shards::Part> Shards::read_part(const std::string& name, const std::string& json,
                                       std::size_t file) {
  const auto bad = [&] {
    return Error{Errc::malformed, fmt::format("{}: its piece does not fit its shape", name),
                 "resume from another checkpoint"};
  };
  RW_TRY(const Json where, parse_foreign_json(json, 1 << 16));
  Part part{.file = file};
  try {
    part.shape = where.at("shape").get<std::vector<std::int64_t>>();
    part.begin = where.at("begin").get<std::int64_t>();
    part.end = where.at("end").get<std::int64_t>();
    if (where.contains("dim")) {
      part.cut = Cut{.dim = where.at("dim").get<std::int64_t>(),
                     .ranges = where.at("ranges").get<decltype(Cut::ranges)>()};
    }
  } catch (const nlohmann::json::exception&) {
    return bad();
  }
  std::vector<std::int64_t> local = part.shape;
  for (const std::int64_t size : part.shape) {
    if (size < 1 || size > (std::int64_t{1} << 40)) return bad();
  }
  if (part.cut) {
    const auto dims = static_cast<std::int64_t>(part.shape.size());
    if (part.cut->dim < 0 || part.cut->dim >= dims) return bad();
    const std::int64_t whole = part.shape[static_cast<std::size_t>(part.cut->dim)];
    for (const auto& [begin, end] : part.cut->ranges) {
      if (begin < 0 || end < begin || end > whole) return bad();
    }
    local[static_cast<std::size_t>(part.cut->dim)] = part.cut->length();
  }
  if (part.begin < 0 || part.end < part.begin || part.end > c10::multiply_integers(local))
    return bad();
  return part;
}

Result<Shards> Shards::open(const fs::path& folder) {
  const auto ranks = shard_count(folder);
  if (!ranks) {
    return Error{Errc::not_found, fmt::format("{}: no shard-0-of-W.safetensors", folder.string())};
  }
  Shards shards;
  for (int rank = 0; rank < *ranks; ++rank) {
    RW_TRY(SafetensorsFile file, SafetensorsFile::open(folder / shard_name(rank, *ranks)));
    constexpr std::string_view kPiece = "piece.";
    for (const auto& [key, json] : file.metadata()) {
      if (!key.starts_with(kPiece)) continue;
      const std::string name = key.substr(kPiece.size());
      RW_TRY(Part part, read_part(name, json, shards.files_.size()));
      for (const char* what : {"value.", "moment1.", "moment2."}) {
        const TensorView* view = file.find(what + name);
        if (view == nullptr || view->dtype != Dtype::f32 ||
            view->elements() != part.end - part.begin) {
          return Error{
              Errc::malformed,
              fmt::format("{}: {}{} is not what its piece says", file.path().string(), what, name),
              "resume from another checkpoint"};
        }
      }
      shards.parts_[name].push_back(std::move(part));
    }
    shards.files_.push_back(std::move(file));
  }
  for (const auto& [name, parts] : shards.parts_) {
    std::int64_t elements = 0;
    for (const Part& part : parts) {
      if (part.shape != parts[0].shape) elements = -c10::multiply_integers(parts[0].shape);
      elements += part.end - part.begin;
    }
    if (elements != c10::multiply_integers(parts[0].shape)) {
      return Error{
          Errc::malformed,
          fmt::format("{}: the shards do not make up the whole of {}", folder.string(), name),
          "resume from another checkpoint"};
    }
  }
  return shards;
}

Result<at::Tensor> Shards::whole(const std::string& what, const std::string& name) const {
  const auto found = parts_.find(name);
  if (found == parts_.end()) {
    return Error{Errc::not_found, fmt::format("no shard has {}", name),
                 "the checkpoint is of another model or another method"};
  }
  at::Tensor whole = at::zeros(found->second[0].shape, at::kFloat);
  for (const Part& part : found->second) {
    const TensorView* view = files_[part.file].find(what + "." + name);
    RW_TRY(const at::Tensor piece, mapped_tensor(*view));
    const at::Tensor region = part_of(whole, part.cut);
    at::Tensor local = region.contiguous().flatten().clone();
    local.narrow(0, part.begin, part.end - part.begin).copy_(piece.flatten());
    if (part.cut) {
      put_part(whole, local.view_as(region), *part.cut);
    } else {
      whole.copy_(local.view_as(whole));
    }
  }
  return whole;
}

}  // namespace rigwise::engine
