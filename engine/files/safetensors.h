// Safetensors: tensors in one file, mapped, never copied, never trusted.
//
// Format (read and written here, nothing else of it is ours): u64 little-endian length N of the
// header; N bytes of JSON {"__metadata__": {string: string}, NAME: {"dtype", "shape",
// "data_offsets": [begin, end]}}, padded with blanks; then the bytes, to which the offsets are
// relative. Every byte of the rest belongs to exactly one tensor.
//
// Threads: a SafetensorsFile may be read by many at once; a writer belongs to one thread.
// A file that another program cuts short while it is mapped ends the reader with SIGBUS, as with
// any mapped file: writers of ours therefore only ever replace files, never change them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/files.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// Element types, in the order in which the reference writer lays tensors out (last first).
enum class Dtype {
  bool8,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

std::string_view dtype_name(Dtype dtype);  // "BF16", as the format spells it
std::optional<Dtype> dtype_of(std::string_view name);
std::uint64_t dtype_bits(Dtype dtype);

inline constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // the format's own bound
inline constexpr std::size_t kMostDims = 64;                    // what torch can hold

/// One tensor of an open file. `bytes` lives as long as the file and may lie at any alignment:
/// files of old writers are not padded.
struct TensorView {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape = {};  // row-major; {} is a scalar
  std::span<const std::byte> bytes = {};

  [[nodiscard]] std::int64_t elements() const;
};

/// "[2, 3]"
std::string shape_text(const std::vector<std::int64_t>& shape);

/// What the header says, checked against every rule of the format.
struct SafetensorsHeader {
  struct Entry {
    std::string name;
    Dtype dtype = Dtype::f32;
    std::vector<std::int64_t> shape = {};
    std::uint64_t begin = 0, end = 0;  // bytes, relative to the end of the header
  };
  std::vector<Entry> entries = {};  // in the order of their bytes
  std::map<std::string, std::string> metadata = {};
};

/// The header alone: `json` is its text, `data_bytes` how many bytes follow it. Checked: shape of
/// the JSON, known dtypes, no name twice, offsets that cover the data without hole or overlap,
/// dtype × shape = bytes, no overflow. Errors: malformed, naming the tensor.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, std::uint64_t data_bytes);

class SafetensorsFile {
 public:
  /// Maps the file. Errors: not_found, io; malformed (naming file and tensor), with the way out.
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;
  SafetensorsFile(const SafetensorsFile&) = delete;  // pointers to its tensors are handed out
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;
  ~SafetensorsFile() = default;

  [[nodiscard]] const std::vector<TensorView>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  class Mapping;
  SafetensorsFile() = default;
  std::filesystem::path path_;
  std::shared_ptr<const Mapping> mapping_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string_view, std::size_t> index_;  // into tensors_, keys are theirs
  std::map<std::string, std::string> metadata_;
};

/// What a writer has to know of a tensor before its bytes come.
struct TensorSpec {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape = {};
};

/// Bytes of that many elements. Errors: malformed (negative size, overflow, half a byte).
Result<std::uint64_t> tensor_bytes(Dtype dtype, const std::vector<std::int64_t>& shape);

/// Writes one file: the bytes go to PATH.tmp, in any order of tensors and in pieces, and only
/// finish() puts the file in its place. A writer that is dropped before, for whatever reason,
/// leaves the old file as it was and no temporary one.
class SafetensorsWriter {
 public:
  /// Lays the file out as the reference writer does (dtype, then name), writes the header and
  /// asks the file system for the room, so that a full disk shows before the work.
  /// Errors: usage (a name twice or "__metadata__", a bad shape), io.
  static Result<SafetensorsWriter> create(const std::filesystem::path& path,
                                          std::vector<TensorSpec> tensors,
                                          const std::map<std::string, std::string>& metadata = {});

  SafetensorsWriter(SafetensorsWriter&&) noexcept = default;
  SafetensorsWriter& operator=(SafetensorsWriter&&) noexcept = delete;
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  ~SafetensorsWriter();

  /// In the order of the file: writing in this order is fastest.
  [[nodiscard]] const std::vector<TensorSpec>& tensors() const { return tensors_; }

  /// The next bytes of that tensor. Errors: usage (no such tensor, more bytes than it has), io.
  Status write(std::string_view name, std::span<const std::byte> bytes);

  /// fsync, rename, fsync of the folder. Errors: usage (a tensor is not whole, named), io.
  Status finish();

 private:
  struct Place {
    std::uint64_t at = 0, end = 0;  // the next byte of the file that is still to come
  };
  SafetensorsWriter() = default;
  std::filesystem::path path_, temporary_;
  Fd fd_;
  std::vector<TensorSpec> tensors_;
  std::map<std::string, Place, std::less<>> places_;
};

/// A model as Hugging Face keeps it: STEM.safetensors, or STEM.safetensors.index.json and the
/// shards that it names. One namespace of tensors, whatever file they lie in.
class ModelFolder {
 public:
  /// Errors: not_found (no weights, or a shard is missing: named), malformed (a shard's name that
  /// leads out of the folder, a tensor that is not in the shard which the index names).
  static Result<ModelFolder> open(const std::filesystem::path& folder,
                                  std::string_view stem = "model");

  ModelFolder(ModelFolder&&) = default;
  ModelFolder& operator=(ModelFolder&&) = default;
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;
  ~ModelFolder() = default;

  /// In the order of their names.
  [[nodiscard]] const std::vector<const TensorView*>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  /// The file that a tensor lies in, for messages.
  [[nodiscard]] const SafetensorsFile& file_of(const TensorView& tensor) const;
  [[nodiscard]] const std::vector<SafetensorsFile>& files() const { return files_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }  // of all tensors
  /// 16 hexadecimal digits of names, types, shapes and 4 KiB of each tensor: tells two models of
  /// one shape apart, whatever folder they lie in, without reading the whole.
  [[nodiscard]] std::string fingerprint() const;

 private:
  ModelFolder() = default;
  std::vector<SafetensorsFile> files_;
  std::vector<const TensorView*> tensors_;
  std::uint64_t bytes_ = 0;
};

}  // namespace rigwise::engine
