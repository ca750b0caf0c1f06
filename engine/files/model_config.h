// config.json of a Hugging Face model folder: which architecture, and every number of it.
//
// Read in both dialects: rope_theta + rope_scaling + torch_dtype (transformers 4) and
// rope_parameters + dtype (transformers 5). A field that is missing takes what transformers'
// configuration class of that architecture gives it. What would change the arithmetic and is not
// known here is refused by name, never passed over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/files/safetensors.h"
#include "rigwise/result.h"

namespace rigwise::engine {

enum class Architecture { llama, mistral, qwen2, qwen3, gpt2 };
std::string_view architecture_name(Architecture architecture);  // as model_type: "qwen2"
std::optional<Architecture> architecture_of(std::string_view model_type);
/// "llama, mistral, qwen2, qwen3, gpt2", for messages.
std::string supported_architectures();

enum class Activation { silu, gelu, gelu_tanh, relu };

/// Rotary positions (not GPT-2's). Formulas: rope.h.
struct Rope {
  enum class Kind { plain, linear, dynamic, llama3, yarn };
  Kind kind = Kind::plain;
  double theta = 10'000;
  double factor = 1;
  std::int64_t original_positions = 0;                                            // llama3, yarn
  double low_freq_factor = 1, high_freq_factor = 4;                               // llama3
  double beta_fast = 32, beta_slow = 1;                                           // yarn
  std::optional<double> attention_factor = {}, mscale = {}, mscale_all_dim = {};  // yarn
  bool truncate = true;                                                           // yarn
  bool operator==(const Rope&) const = default;
};

/// bitsandbytes' 4-bit normal float, the one quantised form that is read.
struct Nf4Quantization {
  bool double_quantised = false;
  Dtype compute_dtype = Dtype::f32;
  std::vector<std::string> skipped_modules = {};  // kept in full; empty: lm_head alone
  bool operator==(const Nf4Quantization&) const = default;
};

struct ModelConfig {
  Architecture architecture = Architecture::llama;
  std::int64_t hidden_size = 0;        // residual stream
  std::int64_t intermediate_size = 0;  // of the MLP
  std::int64_t layers = 0;
  std::int64_t heads = 0, kv_heads = 0;  // kv_heads divides heads
  std::int64_t head_dim = 0;             // need not be hidden_size / heads
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;
  double norm_eps = 1e-6;
  Activation activation = Activation::silu;
  bool tie_embeddings = false;
  bool qkv_bias = false, output_bias = false;  // attention's q, k, v and o projections
  bool mlp_bias = false;
  bool qk_norm = false;  // RMSNorm over each head of q and k (qwen3)
  std::optional<Rope> rope = {};
  /// Attention reaches that many tokens back (this one counted), in the layers that slide.
  std::optional<std::int64_t> sliding_window = {};
  std::vector<bool> sliding_layers = {};  // one a layer where sliding_window is set, else empty
  // GPT-2 trains with 0.1 each unless told otherwise; the others have attention_dropout only.
  double attention_dropout = 0, residual_dropout = 0, embedding_dropout = 0;
  double initializer_range = 0.02;
  std::optional<std::int32_t> bos_id = {}, pad_id = {};
  std::vector<std::int32_t> eos_ids = {};
  std::optional<Dtype> dtype = {};  // f32, f16, bf16: what the weights are said to be
  std::optional<Nf4Quantization> quantization = {};

  [[nodiscard]] bool layer_slides(std::int64_t layer) const {
    return sliding_window && sliding_layers[static_cast<std::size_t>(layer)];
  }
  bool operator==(const ModelConfig&) const = default;
};

/// What transformers' configuration class holds when nothing is given.
ModelConfig default_model_config(Architecture architecture);

/// Are the sizes positive, within what memory can hold, and do they fit one another?
/// Errors: malformed, naming the field as config.json calls it.
Status check_model_config(const ModelConfig& config);

/// `place` is put before each message.
/// Errors: malformed (naming the field), unavailable (an architecture or a way to compute that is
/// not supported; the hint lists what is).
Result<ModelConfig> parse_model_config(std::string_view json, std::string_view place);

/// config.json of a folder, or the file itself. Errors: as above, not_found, io.
Result<ModelConfig> read_model_config(const std::filesystem::path& folder_or_file);

/// In the older dialect, which every transformers reads. A fine-tuned copy of a model is better
/// served by the config.json that it came with.
std::string model_config_json(const ModelConfig& config);
Status write_model_config(const ModelConfig& config, const std::filesystem::path& file);

}  // namespace rigwise::engine
