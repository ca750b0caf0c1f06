// A checkpoint in the parts that ranks hold: each writes what it updates, nothing is gathered.
//
//   shard-R-of-W.safetensors   value.NAME, moment1.NAME, moment2.NAME, fp32, one-dimensional
//   its metadata piece.NAME    {"shape", "dim", "ranges", "begin", "end"}: which elements of the
//                              whole those are (parameter.h's Cut, replicas.h's Piece)
//
// Any layout can read it: wholes are put together from whatever parts there are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/files/safetensors.h"
#include "engine/parallel/distributed_model.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// Writes this rank's shard into `folder`, where it holds what no other rank does. Errors: io.
Status write_shard(DistributedModel& model, const std::filesystem::path& folder);

class Shards {
 public:
  /// Errors: not_found (a shard of the W is missing), malformed (pieces that do not fit their
  /// shapes, or leave elements of a parameter out; the file and name).
  static Result<Shards> open(const std::filesystem::path& folder);
  static bool are_in(const std::filesystem::path& folder);

  /// The whole of "value", "moment1" or "moment2" of a parameter. Errors: not_found.
  [[nodiscard]] Result<at::Tensor> whole(const std::string& part, const std::string& name) const;

 private:
  struct Part {
    std::size_t file = 0;
    std::vector<std::int64_t> shape = {};
    std::optional<Cut> cut = {};
    std::int64_t begin = 0, end = 0;
  };
  static Result<Part> read_part(const std::string& name, const std::string& json, std::size_t file);
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::vector<Part>> parts_;
};

}  // namespace rigwise::engine
