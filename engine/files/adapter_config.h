// adapter_config.json of PEFT: a LoRA adapter's shape, read and written.
//
// Whatever of it would change the arithmetic and is not done here is refused by name; a member that
// this program does not know is passed over only where its value says "off" (null, false, empty).
// The tensors beside it (adapter_model.safetensors) are called
//   base_model.model.<module>.lora_A.weight [r, in]   and   ….lora_B.weight [out, r]
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rigwise/result.h"

namespace rigwise::engine {

struct AdapterConfig {
  std::int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;            // while training
  bool rank_stabilised = false;  // scale alpha / sqrt(rank) instead of alpha / rank
  bool fan_in_fan_out = false;   // base weights lie [in, out]: GPT-2
  /// Modules by the end of their path ("q_proj"), or one regular expression over the whole path.
  std::vector<std::string> target_modules = {};
  std::optional<std::string> target_pattern = {};
  std::vector<std::string> exclude_modules = {};
  std::optional<std::string> exclude_pattern = {};
  /// Module (or pattern of one) → its own rank, its own alpha.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern = {};
  std::vector<std::pair<std::string, double>> alpha_pattern = {};
  std::string base_model = {};  // as the trainer named it; may be empty
  bool operator==(const AdapterConfig&) const = default;
};

/// Does the adapter sit on the module of that path ("model.layers.0.self_attn.q_proj")?
/// `modules` are all the paths that a model has: the answer is those that are hit, in their order.
/// Errors: not_found (none is: the hint lists last parts that there are), malformed (pattern).
Result<std::vector<std::string>> adapted_modules(const AdapterConfig& config,
                                                 const std::vector<std::string>& modules);

/// Rank and scale (alpha / rank or alpha / sqrt(rank)) of the adapter on one module.
struct AdapterShape {
  std::int64_t rank = 0;
  double scale = 0;
};
Result<AdapterShape> adapter_shape(const AdapterConfig& config, std::string_view module);

Result<AdapterConfig> parse_adapter_config(std::string_view json, std::string_view place);
/// adapter_config.json of a folder, or the file itself. Errors: not_found, io, malformed (naming
/// the field), unavailable (a field that changes the arithmetic, named).
Result<AdapterConfig> read_adapter_config(const std::filesystem::path& folder_or_file);

/// As PEFT's save_pretrained writes it. `inference_mode` as PEFT: true in what is saved for use.
std::string adapter_config_json(const AdapterConfig& config, bool inference_mode = true);
Status write_adapter_config(const AdapterConfig& config, const std::filesystem::path& file,
                            bool inference_mode = true);

}  // namespace rigwise::engine
