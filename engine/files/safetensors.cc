#include "engine/files/safetensors.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/json.h"
#include "base/text.h"

namespace rigwise::engine {

namespace {

constexpr std::string_view kTornHint =
    "The file is not whole: copy or download it again and compare its size with the source's.";

Error io_error(const std::filesystem::path& path, std::string_view doing, int error) {
  Error out{error == ENOENT ? Errc::not_found : Errc::io,
            path.string() + ": cannot " + std::string(doing) + ": " + errno_text(error)};
  if (error == ENOSPC || error == EDQUOT) out.hint = "Make room on that disk, or write elsewhere.";
  return out;
}

std::uint64_t little_endian(const std::byte* bytes) {
  std::uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = (value << 8) | std::to_integer<std::uint64_t>(bytes[i]);
  return value;
}

/// {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}, byte for byte as the reference writer
/// has it, so that a file written here and there is the same file.
std::string header_text(const std::vector<TensorSpec>& tensors,
                        const std::vector<std::uint64_t>& sizes,
                        const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  std::string out = "{";
  const auto quoted = [](const std::string& text) { return Json(text).dump(); };
  if (!metadata.empty()) {
    for (const auto& [key, value] : metadata) header[key] = value;
    out += "\"__metadata__\":" + header.dump();
  }
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (out.size() > 1) out += ',';
    out += quoted(tensors[i].name) + ":{\"dtype\":\"" + std::string(dtype_name(tensors[i].dtype)) +
           "\",\"shape\":[";
    for (std::size_t d = 0; d < tensors[i].shape.size(); ++d)
      out += (d > 0 ? "," : "") + std::to_string(tensors[i].shape[d]);
    out += "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(at + sizes[i]) + "]}";
    at += sizes[i];
  }
  out += '}';
  out.append((8 - out.size() % 8) % 8, ' ');
  return out;
}

/// A shard's name must be a plain file name: the index may come from anywhere.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() < 256 && name != "." && name != ".." &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace

std::int64_t TensorView::elements() const {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;  // cannot overflow: the bytes are in the file
  return count;
}

class SafetensorsFile::Mapping {
 public:
  Mapping(void* at, std::size_t size) : at_(at), size_(size) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (at_ != nullptr) ::munmap(at_, size_);
  }

 private:
  void* at_;
  std::size_t size_;
};

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return io_error(path, "open", errno);
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return io_error(path, "read", errno);
  if (!S_ISREG(status.st_mode)) return Error{Errc::io, path.string() + ": not a file"};
  const auto size = static_cast<std::uint64_t>(status.st_size);
  const auto torn = [&](std::string what) {
    return Error{Errc::malformed, path.string() + ": " + std::move(what), std::string(kTornHint)};
  };
  if (size < 8) return torn(std::to_string(size) + " bytes are too few for a safetensors file");

  void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (at == MAP_FAILED) return io_error(path, "map", errno);
  SafetensorsFile file;
  file.path_ = path;
  file.mapping_ = std::make_shared<const Mapping>(at, size);
  const auto* bytes = static_cast<const std::byte*>(at);
  if (std::memcmp(bytes, "version http", 8) == 0 || std::memcmp(bytes, "PK\3\4", 4) == 0) {
    const bool pointer = bytes[0] == std::byte{'v'};
    return Error{
        Errc::malformed,
        path.string() + (pointer ? ": a Git LFS pointer, not the weights themselves"
                                 : ": a zip archive (PyTorch's own format), not safetensors"),
        pointer ? "Fetch the file with `git lfs pull`."
                : "Save the model again with safe_serialization=True."};
  }
  const std::uint64_t header_bytes = little_endian(bytes);
  if (header_bytes > kMostHeaderBytes) {
    return torn("its first 8 bytes ask for a header of " + std::to_string(header_bytes) +
                " bytes, and the format allows 100,000,000: not a safetensors file");
  }
  if (header_bytes > size - 8) {
    return torn("cut off inside its header (" + std::to_string(header_bytes) + " bytes asked, " +
                std::to_string(size - 8) + " there)");
  }
  const std::string_view json(reinterpret_cast<const char*>(bytes + 8), header_bytes);
  auto header = parse_safetensors_header(json, size - 8 - header_bytes);
  if (!header) {
    Error error = std::move(header).error().at(path.string());
    if (error.hint.empty()) error.hint = kTornHint;
    return error;
  }
  file.metadata_ = std::move(header->metadata);
  file.tensors_.reserve(header->entries.size());
  for (auto& entry : header->entries) {
    file.tensors_.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                             std::span(bytes + 8 + header_bytes + entry.begin,
                                       static_cast<std::size_t>(entry.end - entry.begin))});
  }
  for (std::size_t i = 0; i < file.tensors_.size(); ++i)
    file.index_.emplace(file.tensors_[i].name, i);
  return file;
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Result<SafetensorsWriter> SafetensorsWriter::create(
    const std::filesystem::path& path, std::vector<TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
  });
  std::vector<std::uint64_t> sizes;
  std::uint64_t data_bytes = 0;
  SafetensorsWriter writer;
  const auto refuse = [&](std::string what) {
    return Error{Errc::usage, path.string() + ": " + std::move(what)};
  };
  for (const auto& tensor : tensors) {
    auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
    if (!bytes) return refuse("tensor '" + tensor.name + "': " + bytes.error().message);
    if (tensor.name == "__metadata__") return refuse("no tensor can be called __metadata__");
    if (*bytes > (std::uint64_t{1} << 62) - data_bytes) return refuse("larger than any file");
    if (!writer.places_.emplace(tensor.name, SafetensorsWriter::Place{}).second)
      return refuse("tensor '" + tensor.name + "' is given twice");
    sizes.push_back(*bytes);
    data_bytes += *bytes;
  }
  std::string header;
  try {
    header = header_text(tensors, sizes, metadata);
  } catch (const std::exception&) {
    return refuse("a name or the metadata is not UTF-8");
  }
  if (header.size() > kMostHeaderBytes) return refuse("too many tensors for one file");
  std::uint64_t at = 8 + header.size();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    writer.places_[tensors[i].name] = {at, at + sizes[i]};
    at += sizes[i];
  }
  writer.path_ = path;
  writer.temporary_ = path.string() + ".tmp";
  writer.tensors_ = std::move(tensors);
  ::unlink(writer.temporary_.c_str());  // of a writer that was killed
  writer.fd_.reset(
      ::open(writer.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!writer.fd_.valid()) return io_error(writer.temporary_, "create", errno);
  if (::fallocate(writer.fd_.get(), 0, 0, static_cast<off_t>(8 + header.size() + data_bytes)) !=
          0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
    return io_error(writer.temporary_,
                    "reserve " + std::to_string(8 + header.size() + data_bytes) + " bytes", errno);
  }
  std::string front(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) front[i] = static_cast<char>(header.size() >> (8 * i) & 0xFF);
  front += header;
  if (write_all(writer.fd_.get(), front) != front.size())
    return io_error(writer.temporary_, "write", errno);
  return writer;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_.valid()) ::unlink(temporary_.c_str());
}

Status SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = places_.find(name);
  if (found == places_.end()) {
    return Error{Errc::usage, path_.string() + ": no tensor '" + std::string(name) +
                                  "' was announced for this file"};
  }
  Place& place = found->second;
  if (bytes.size() > place.end - place.at) {
    return Error{Errc::usage, path_.string() + ": tensor '" + std::string(name) +
                                  "' gets more bytes than its shape has"};
  }
  while (!bytes.empty()) {
    // Linux writes at most 2 GiB at once
    const ssize_t count =
        ::pwrite(fd_.get(), bytes.data(), std::min<std::size_t>(bytes.size(), 1 << 30),
                 static_cast<off_t>(place.at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return io_error(temporary_, "write", count < 0 ? errno : EIO);
    place.at += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return Ok{};
}

Status SafetensorsWriter::finish() {
  if (!fd_.valid()) return Error{Errc::usage, path_.string() + ": finished already"};
  for (const auto& [name, place] : places_) {
    if (place.at == place.end) continue;
    return Error{Errc::usage, path_.string() + ": tensor '" + name + "' lacks " +
                                  std::to_string(place.end - place.at) + " bytes"};
  }
  if (::fsync(fd_.get()) != 0) return io_error(temporary_, "write", errno);
  RW_CHECK(replace_file(temporary_, path_));  // on failure the destructor removes the temporary
  fd_.reset();
  return Ok{};
}

namespace {

struct Listing {
  std::map<std::string, std::string> shard_of;  // tensor → file name
  std::vector<std::string> shards;
};

Result<Listing> read_index(const std::filesystem::path& path) {
  RW_TRY(const auto text, read_file(path, kMostHeaderBytes));
  const auto bad = [&](std::string what) {
    return Error{Errc::malformed, path.string() + ": " + std::move(what)};
  };
  // not base's ordered Json: its cost would grow with the square of the tensors' number
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded()) return bad("not valid JSON");
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object())
    return bad("has no weight_map {tensor: file}");
  Listing out;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string()) return bad("weight_map of '" + clean_text(name, 200) + "' is no text");
    const auto shard = file.get<std::string>();
    if (!is_plain_name(shard)) {
      Error error = bad("weight_map of '" + clean_text(name, 200) + "' names '" +
                        clean_text(shard, 200) + "', which is no plain file name");
      error.hint =
          "Shards lie beside the index. Do not use an index from a source you do not trust.";
      return error;
    }
    out.shard_of.emplace(name, shard);
    out.shards.push_back(shard);
  }
  std::sort(out.shards.begin(), out.shards.end());
  out.shards.erase(std::unique(out.shards.begin(), out.shards.end()), out.shards.end());
  if (out.shards.empty()) return bad("its weight_map is empty");
  if (out.shards.size() > 10'000) return bad("names more than 10,000 shards");
  return out;
}

Error no_weights(const std::filesystem::path& folder, std::string_view stem) {
  Error error{Errc::not_found, folder.string() + ": holds neither " + std::string(stem) +
                                   ".safetensors nor " + std::string(stem) +
                                   ".safetensors.index.json"};
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    error.message = folder.string() + ": no such folder";
    return error;
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const auto extension = entry.path().extension();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".gguf") {
      error.hint = "It holds " + entry.path().filename().string() +
                   ", a format that is not read here. Load it with transformers and save it with "
                   "save_pretrained(…, safe_serialization=True).";
      return error;
    }
  }
  error.hint = "A model folder holds config.json, tokenizer.json and safetensors files.";
  return error;
}

}  // namespace

Result<ModelFolder> ModelFolder::open(const std::filesystem::path& folder, std::string_view stem) {
  const auto single = folder / (std::string(stem) + ".safetensors");
  const auto index = folder / (std::string(stem) + ".safetensors.index.json");
  ModelFolder out;
  std::error_code ignored;
  if (std::filesystem::exists(single, ignored)) {
    RW_TRY(auto file, SafetensorsFile::open(single));
    out.files_.push_back(std::move(file));
    for (const auto& tensor : out.files_[0].tensors()) out.tensors_.push_back(&tensor);
  } else if (std::filesystem::exists(index, ignored)) {
    RW_TRY(const auto listing, read_index(index));
    std::vector<std::string> missing;
    for (const auto& shard : listing.shards) {
      if (!std::filesystem::exists(folder / shard, ignored)) missing.push_back(shard);
    }
    if (!missing.empty()) {
      return Error{Errc::not_found,
                   folder.string() + ": " + std::to_string(missing.size()) + " of " +
                       std::to_string(listing.shards.size()) +
                       " shards are missing: " + clean_text(join(missing, ", "), 500),
                   "Download the model again, all files of it."};
    }
    std::map<std::string, std::size_t> place;
    for (const auto& shard : listing.shards) {
      RW_TRY(auto file, SafetensorsFile::open(folder / shard));
      place.emplace(shard, out.files_.size());
      out.files_.push_back(std::move(file));
    }
    for (const auto& [name, shard] : listing.shard_of) {
      const TensorView* tensor = out.files_[place[shard]].find(name);
      if (tensor == nullptr) {
        return Error{Errc::malformed, index.string() + ": tensor '" + clean_text(name, 200) +
                                          "' is not in " + shard + ", which the index names"};
      }
      out.tensors_.push_back(tensor);
    }
  } else {
    return no_weights(folder, stem);
  }
  std::sort(out.tensors_.begin(), out.tensors_.end(),
            [](const auto* a, const auto* b) { return a->name < b->name; });
  for (const auto* tensor : out.tensors_) out.bytes_ += tensor->bytes.size();
  return out;
}

const TensorView* ModelFolder::find(std::string_view name) const {
  const auto found =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const TensorView* a, std::string_view b) { return a->name < b; });
  return found == tensors_.end() || (*found)->name != name ? nullptr : *found;
}

std::string ModelFolder::fingerprint() const {
  constexpr std::size_t kSample = 4096;
  std::uint64_t hash = 0;
  const auto add = [&](const void* bytes, std::size_t size) {
    hash = XXH3_64bits_withSeed(bytes, size, hash);
  };
  for (const TensorView* tensor : tensors_) {
    const std::string described =
        fmt::format("{} {} {}", tensor->name, dtype_name(tensor->dtype), shape_text(tensor->shape));
    add(described.data(), described.size());
    const std::size_t size = std::min(kSample, tensor->bytes.size());
    add(tensor->bytes.data() + (tensor->bytes.size() - size) / 2, size);
  }
  return fmt::format("{:016x}", hash);
}

const SafetensorsFile& ModelFolder::file_of(const TensorView& tensor) const {
  for (const auto& file : files_) {
    if (!file.tensors().empty() && &tensor >= file.tensors().data() &&
        &tensor <= &file.tensors().back())
      return file;
  }
  return files_.front();
}

}  // namespace rigwise::engine
