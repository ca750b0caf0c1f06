// Values for the parameters of a described (and perhaps parted) model, and back to files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/files/safetensors.h"
#include "engine/model/model.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// A tensor under a name.
struct NamedTensor {
  std::string name;
  at::Tensor value;
};

/// What a frozen linear matrix is kept as.
enum class Storage { full, nf4, nf4_double };

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;  // fp32 or bf16, of everything that is not quantised
  /// Of the linear layers in the blocks; a folder that is quantised already stays so.
  Storage storage = Storage::full;
  /// Called when a block has all its values, so that its memory can be given away before the next.
  std::function<void(Block&)> on_block = {};
};

/// Fills every parameter from a Hugging Face folder, each with this rank's part only. Nothing is
/// trainable afterwards. GPT-2 files without the "transformer." before their names are read too.
/// Errors: not_found (a tensor is missing, named), malformed (a shape: both are told), unavailable
/// (a type that is not a floating one; NF4 parts that a cut would tear).
Status load_weights(Model& model, const ModelFolder& folder, const LoadOptions& options);

/// Random values as transformers initialises: normal with the configuration's initializer_range,
/// norms 1, biases 0. The same for a name and seed whatever part of it a rank holds.
void init_weights(Model& model, std::uint64_t seed, at::ScalarType dtype);

/// Every parameter as a file keeps it; quantised matrices with the tables and the description that
/// bitsandbytes puts beside them.
std::vector<NamedTensor> stored_tensors(Model& model);

/// A generator on the CPU for one named tensor of one seed.
at::Generator named_generator(std::string_view name, std::uint64_t seed);

at::ScalarType scalar_type_of(Dtype dtype);
Dtype dtype_of_tensor(at::ScalarType type);

/// A tensor over the bytes of the mapped file: read only, good as long as the file is open.
/// Errors: unavailable (a type that torch does not have).
Result<at::Tensor> mapped_tensor(const TensorView& view);

/// In any order; written as the reference writer lays them out.
Status save_tensors(const std::filesystem::path& file, const std::vector<NamedTensor>& tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace rigwise::engine
