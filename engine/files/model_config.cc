#include "engine/files/model_config.h"

#include <algorithm>
#include <array>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/files/config_reader.h"

namespace rigwise::engine {

namespace {

constexpr std::array<std::string_view, 5> kArchitectures = {"llama", "mistral", "qwen2", "qwen3",
                                                            "gpt2"};
// Bounds that no model of today comes near, and that keep every product of two sizes in range.
constexpr std::int64_t kMostWidth = 1 << 20, kMostLayers = 10'000, kMostVocab = 1 << 24,
                       kMostPositions = std::int64_t{1} << 30;

/// How an architecture's config.json calls the sizes.
struct FieldNames {
  const char *hidden, *intermediate, *layers, *heads, *positions, *eps, *activation;
};
constexpr FieldNames kLlamaNames = {
    "hidden_size",         "intermediate_size",       "num_hidden_layers",
    "num_attention_heads", "max_position_embeddings", "rms_norm_eps",
    "hidden_act"};
constexpr FieldNames kGpt2Names = {"n_embd",
                                   "n_inner",
                                   "n_layer",
                                   "n_head",
                                   "n_positions",
                                   "layer_norm_epsilon",
                                   "activation_function"};

const FieldNames& names_of(Architecture architecture) {
  return architecture == Architecture::gpt2 ? kGpt2Names : kLlamaNames;
}

constexpr std::array<std::pair<std::string_view, Activation>, 6> kActivations = {
    {{"silu", Activation::silu},
     {"swish", Activation::silu},
     {"gelu", Activation::gelu},
     {"gelu_new", Activation::gelu_tanh},
     {"gelu_pytorch_tanh", Activation::gelu_tanh},
     {"relu", Activation::relu}}};

constexpr std::array<std::pair<std::string_view, Dtype>, 3> kWeightDtypes = {
    {{"float32", Dtype::f32}, {"float16", Dtype::f16}, {"bfloat16", Dtype::bf16}}};

std::optional<Dtype> weight_dtype(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  for (const auto& [text, dtype] : kWeightDtypes) {
    if (text == name) return dtype;
  }
  return std::nullopt;
}

Error unavailable(const std::string& place, std::string what, std::string hint = {}) {
  return {Errc::unavailable, place + ": " + std::move(what), std::move(hint)};
}

Result<Architecture> read_architecture(const Json& object, const std::string& place) {
  const auto type = get<std::string>(object, "model_type");
  std::string first_class;
  const auto classes = object.find("architectures");
  if (classes != object.end() && classes->is_array() && !classes->empty() &&
      (*classes)[0].is_string())
    first_class = (*classes)[0].get<std::string>();
  const std::string hint = "Supported: " + supported_architectures() + ".";
  std::optional<Architecture> found;
  if (type) {
    found = architecture_of(*type);
    if (!found)
      return unavailable(place, "model_type '" + clean_text(*type, 60) + "' is not supported",
                         hint);
  }
  if (!first_class.empty()) {
    // "Qwen2ForCausalLM"; GPT-2 calls its own GPT2LMHeadModel
    const std::string wanted = lower(first_class);
    const bool causal = wanted.ends_with("forcausallm") || wanted == "gpt2lmheadmodel" ||
                        wanted == "llamamodel" || wanted == "gpt2model";
    const auto named = architecture_of(wanted.substr(0, wanted.find("for")));
    if (!found) found = wanted == "gpt2lmheadmodel" ? Architecture::gpt2 : named;
    if (!found || !causal) {
      return unavailable(place,
                         "architectures '" + clean_text(first_class, 60) +
                             "' is not a supported causal language model",
                         hint);
    }
  }
  if (!found) {
    return Error{Errc::malformed, place + ": names no model_type",
                 "Is this a Hugging Face model's config.json? " + hint};
  }
  return *found;
}

void read_rope_kind(ConfigReader& in, Rope& rope) {
  const std::string kind = in.text("rope_type", in.text("type", "default"));
  if (kind == "default") {
    rope.kind = Rope::Kind::plain;
  } else if (kind == "linear") {
    rope.kind = Rope::Kind::linear;
  } else if (kind == "dynamic") {
    rope.kind = Rope::Kind::dynamic;
  } else if (kind == "llama3") {
    rope.kind = Rope::Kind::llama3;
  } else if (kind == "yarn") {
    rope.kind = Rope::Kind::yarn;
  } else {
    in.fail(unavailable(in.place(), "rope scaling '" + clean_text(kind, 40) + "' is not supported",
                        "Supported: default, linear, dynamic, llama3, yarn."));
  }
}

/// From rope_parameters, or rope_scaling and the rope_theta beside it.
std::optional<Rope> read_rope(ConfigReader& top, std::int64_t max_positions) {
  Rope rope;
  constexpr double kMost = 1e15;
  rope.theta = top.number("rope_theta", 10'000, 1e-6, kMost);
  if (top.number("partial_rotary_factor", 1, 0, kMost) != 1)
    top.fail(unavailable(top.place(), "partial_rotary_factor is not supported"));
  const Json* scaling = top.find("rope_scaling");
  if (scaling == nullptr || scaling->empty()) scaling = top.find("rope_parameters");
  if (scaling == nullptr) return rope;
  if (!scaling->is_object()) {
    top.fail({Errc::malformed, top.place() + ": the rope parameters are no object"});
    return rope;
  }
  ConfigReader in(*scaling, top.place() + ": rope parameters");
  for (const char* nested : {"full_attention", "sliding_attention"}) {
    if (in.has(nested))
      in.fail(unavailable(in.place(), "one set a kind of layer is not supported"));
  }
  read_rope_kind(in, rope);
  rope.theta = in.number("rope_theta", rope.theta, 1e-6, kMost);
  if (in.number("partial_rotary_factor", 1, 0, kMost) != 1)
    in.fail(unavailable(in.place(), "partial_rotary_factor is not supported"));
  const bool scaled = rope.kind != Rope::Kind::plain;
  const bool keeps_original = rope.kind == Rope::Kind::llama3 || rope.kind == Rope::Kind::yarn;
  if (keeps_original) {
    const std::int64_t outside =
        top.integer("original_max_position_embeddings", 0, 1, kMostPositions);
    rope.original_positions = outside > 0 ? outside
                                          : in.integer("original_max_position_embeddings",
                                                       max_positions, 1, kMostPositions);
  }
  if (scaled && !in.has("factor")) {
    if (rope.kind == Rope::Kind::yarn && rope.original_positions > 0) {
      rope.factor =
          static_cast<double>(max_positions) / static_cast<double>(rope.original_positions);
    } else {
      in.fail({Errc::malformed, in.place() + ": has no factor"});
    }
  } else if (scaled) {
    rope.factor = in.number("factor", 1, 1e-3, 1e9);
  }
  if (rope.kind == Rope::Kind::llama3) {
    rope.low_freq_factor = in.number("low_freq_factor", 1, 1e-6, 1e9);
    rope.high_freq_factor = in.number("high_freq_factor", 4, 1e-6, 1e9);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      in.fail({Errc::malformed, in.place() + ": high_freq_factor must be above low_freq_factor"});
  }
  if (rope.kind == Rope::Kind::yarn) {
    rope.attention_factor = in.maybe_number("attention_factor", 0, 1e6);
    rope.mscale = in.maybe_number("mscale", 0, 1e6);
    rope.mscale_all_dim = in.maybe_number("mscale_all_dim", 0, 1e6);
    rope.beta_fast = in.number("beta_fast", 32, 1e-6, 1e6);
    rope.beta_slow = in.number("beta_slow", 1, 1e-6, 1e6);
    rope.truncate = in.flag("truncate", true);
  }
  if (in.error()) top.fail(*in.error());
  return rope;
}

/// Which layers look back only so far: all of Mistral's, some of Qwen's.
void read_sliding(ConfigReader& in, ModelConfig& config) {
  const auto layers = static_cast<std::size_t>(config.layers);
  const bool qwen =
      config.architecture == Architecture::qwen2 || config.architecture == Architecture::qwen3;
  std::vector<bool> slides;
  if (config.architecture == Architecture::mistral) {
    if (!in.is_null("sliding_window")) {
      config.sliding_window = in.integer("sliding_window", 4096, 1, kMostPositions);
      slides.assign(layers, true);
    }
  } else if (qwen && in.flag("use_sliding_window", false) && !in.is_null("sliding_window")) {
    config.sliding_window = in.integer("sliding_window", 4096, 1, kMostPositions);
    const auto from = in.integer("max_window_layers", 28, 0, kMostPositions);
    for (std::size_t i = 0; i < layers; ++i) slides.push_back(static_cast<std::int64_t>(i) >= from);
  }
  if (in.has("layer_types")) {
    const auto types = in.texts("layer_types");
    if (types.size() != layers) in.refuse("layer_types", "must name the kind of each layer");
    std::vector<bool> named;
    for (const auto& type : types) {
      if (type != "full_attention" && type != "sliding_attention") {
        in.fail(unavailable(in.place(),
                            "layers of type '" + clean_text(type, 40) + "' are not supported"));
      }
      named.push_back(type == "sliding_attention");
    }
    const bool any = std::find(named.begin(), named.end(), true) != named.end();
    if (any && !config.sliding_window)
      in.fail(
          {Errc::malformed, in.place() + ": layer_types slide, but there is no sliding_window"});
    if (qwen) {
      slides = named;
    } else if (any != !slides.empty() || (any && named != slides)) {
      in.fail(unavailable(in.place(), "layers of two kinds are not supported for this model_type"));
    }
  }
  if (!config.sliding_window || std::find(slides.begin(), slides.end(), true) == slides.end()) {
    config.sliding_window.reset();
    slides.clear();
  }
  config.sliding_layers = std::move(slides);
}

void read_quantization(ConfigReader& top, ModelConfig& config) {
  const Json* member = top.find("quantization_config");
  if (member == nullptr) return;
  if (!member->is_object()) return top.refuse("quantization_config", "must be an object");
  ConfigReader in(*member, top.place() + ": quantization_config");
  const std::string hint = "Supported: bitsandbytes' 4-bit nf4. Or take the unquantised model.";
  const std::string method = in.text("quant_method", "bitsandbytes");
  Nf4Quantization out;
  if (method != "bitsandbytes") {
    in.fail(unavailable(in.place(),
                        "quant_method '" + clean_text(method, 40) + "' is not supported", hint));
  } else if (!in.flag("load_in_4bit", in.flag("_load_in_4bit", false)) ||
             in.text("bnb_4bit_quant_type", "fp4") != "nf4" ||
             in.text("bnb_4bit_quant_storage", "uint8") != "uint8") {
    in.fail(unavailable(in.place(),
                        "only load_in_4bit with bnb_4bit_quant_type nf4 in uint8 is "
                        "supported",
                        hint));
  }
  out.double_quantised = in.flag("bnb_4bit_use_double_quant", false);
  const auto dtype = weight_dtype(in.text("bnb_4bit_compute_dtype", "float32"));
  if (!dtype) in.refuse("bnb_4bit_compute_dtype", "must be float32, float16 or bfloat16");
  out.compute_dtype = dtype.value_or(Dtype::f32);
  out.skipped_modules = in.texts("llm_int8_skip_modules");
  if (in.error()) top.fail(*in.error());
  config.quantization = std::move(out);
}

std::optional<std::int32_t> read_token_id(ConfigReader& in, const char* key,
                                          std::optional<std::int32_t> fallback) {
  if (in.is_null(key)) return std::nullopt;
  if (!in.has(key)) return fallback;
  const auto id = in.integer(key, -1, -1, kMostVocab);
  if (id < 0) return std::nullopt;  // the -1 of old conversions
  return static_cast<std::int32_t>(id);
}

void read_token_ids(ConfigReader& in, ModelConfig& config) {
  config.bos_id = read_token_id(in, "bos_token_id", config.bos_id);
  config.pad_id = read_token_id(in, "pad_token_id", config.pad_id);
  const Json* eos = in.find("eos_token_id");
  if (in.is_null("eos_token_id")) config.eos_ids.clear();
  if (eos == nullptr) return;
  config.eos_ids.clear();
  if (!eos->is_array()) {
    if (const auto id = read_token_id(in, "eos_token_id", {})) config.eos_ids.push_back(*id);
    return;
  }
  for (const auto& item : *eos) {
    if (!item.is_number_integer() || item.get<std::int64_t>() < 0 ||
        item.get<std::int64_t>() > kMostVocab || config.eos_ids.size() >= 1000)
      return in.refuse("eos_token_id", "must be token ids");
    config.eos_ids.push_back(item.get<std::int32_t>());
  }
}

void read_dtype(ConfigReader& in, ModelConfig& config) {
  const char* key = in.has("dtype") ? "dtype" : "torch_dtype";
  const std::string name = in.text(key, "auto");
  if (name == "auto") return;
  config.dtype = weight_dtype(name);
  if (!config.dtype) in.refuse(key, "must be float32, float16 or bfloat16");
}

void read_sizes(ConfigReader& in, ModelConfig& config) {
  const FieldNames& names = names_of(config.architecture);
  const bool gpt2 = config.architecture == Architecture::gpt2;
  config.hidden_size = in.integer(names.hidden, config.hidden_size, 1, kMostWidth);
  const std::int64_t intermediate = gpt2 ? 4 * config.hidden_size : config.intermediate_size;
  config.intermediate_size = in.integer(names.intermediate, intermediate, 1, 16 * kMostWidth);
  config.layers = in.integer(names.layers, config.layers, 1, kMostLayers);
  config.heads = in.integer(names.heads, config.heads, 1, kMostWidth);
  config.vocab_size = in.integer("vocab_size", config.vocab_size, 1, kMostVocab);
  config.max_positions = in.integer(names.positions, config.max_positions, 1, kMostPositions);
  config.norm_eps = in.number(names.eps, config.norm_eps, 0, 1);
  config.tie_embeddings = in.flag("tie_word_embeddings", config.tie_embeddings);
  config.initializer_range = in.number("initializer_range", config.initializer_range, 0, 1e3);
  // null means "as many as heads"; missing is the class's own figure (8 for Mistral)
  const bool own_kv =
      config.architecture != Architecture::llama && !gpt2 && !in.is_null("num_key_value_heads");
  config.kv_heads = gpt2 ? config.heads
                         : in.integer("num_key_value_heads",
                                      own_kv ? config.kv_heads : config.heads, 1, kMostWidth);
  const bool derived =
      gpt2 || (!in.has("head_dim") &&
               (config.architecture != Architecture::qwen3 || in.is_null("head_dim")));
  if (derived) {
    if (config.hidden_size % config.heads != 0)
      in.fail({Errc::malformed, in.place() + ": " + names.heads + " (" +
                                    std::to_string(config.heads) + ") does not divide " +
                                    names.hidden + " (" + std::to_string(config.hidden_size) +
                                    ")"});
    config.head_dim = config.hidden_size / config.heads;
  } else {
    config.head_dim = in.integer("head_dim", config.head_dim, 1, kMostWidth);
  }
}

}  // namespace

std::string_view architecture_name(Architecture architecture) {
  return kArchitectures[static_cast<std::size_t>(architecture)];
}

std::optional<Architecture> architecture_of(std::string_view model_type) {
  for (std::size_t i = 0; i < kArchitectures.size(); ++i) {
    if (kArchitectures[i] == model_type) return static_cast<Architecture>(i);
  }
  return std::nullopt;
}

std::string supported_architectures() {
  return join({kArchitectures.begin(), kArchitectures.end()}, ", ");
}

ModelConfig default_model_config(Architecture architecture) {
  // transformers 5.24, models/*/configuration_*.py
  ModelConfig out;
  out.architecture = architecture;
  out.hidden_size = 4096;
  out.layers = out.heads = out.kv_heads = 32;
  out.head_dim = 128;
  if (architecture != Architecture::gpt2) out.rope = Rope{};
  switch (architecture) {
    case Architecture::llama:
    case Architecture::mistral:
      out.vocab_size = 32'000;
      out.bos_id = 1;
      out.eos_ids = {2};
      out.intermediate_size = architecture == Architecture::llama ? 11'008 : 14'336;
      out.max_positions = architecture == Architecture::llama ? 2048 : 4096 * 32;
      if (architecture == Architecture::mistral) {
        out.kv_heads = 8;
        out.sliding_window = 4096;
        out.sliding_layers.assign(32, true);
      }
      break;
    case Architecture::qwen2:
    case Architecture::qwen3:
      out.vocab_size = 151'936;
      out.intermediate_size = 22'016;
      out.max_positions = 32'768;
      out.qkv_bias = architecture == Architecture::qwen2;
      out.qk_norm = architecture == Architecture::qwen3;
      break;
    case Architecture::gpt2:
      out.vocab_size = 50'257;
      out.hidden_size = 768;
      out.intermediate_size = 3072;
      out.layers = out.heads = out.kv_heads = 12;
      out.head_dim = 64;
      out.max_positions = 1024;
      out.norm_eps = 1e-5;
      out.activation = Activation::gelu_tanh;
      out.tie_embeddings = true;
      out.qkv_bias = out.output_bias = out.mlp_bias = true;
      out.attention_dropout = out.residual_dropout = out.embedding_dropout = 0.1;
      out.bos_id = 50'256;
      out.eos_ids = {50'256};
      break;
  }
  return out;
}

Status check_model_config(const ModelConfig& config) {
  const FieldNames& names = names_of(config.architecture);
  const auto bad = [](std::string what) { return Error{Errc::malformed, std::move(what)}; };
  const auto within = [&](const char* name, std::int64_t value, std::int64_t most) -> Status {
    if (value >= 1 && value <= most) return Ok{};
    return bad(std::string(name) + " is " + std::to_string(value) + ", must lie from 1 to " +
               std::to_string(most));
  };
  const auto divides = [&](const char* small, std::int64_t a, const char* large,
                           std::int64_t b) -> Status {
    if (b % a == 0) return Ok{};
    return bad(std::string(small) + " (" + std::to_string(a) + ") does not divide " + large + " (" +
               std::to_string(b) + ")");
  };
  RW_CHECK(within(names.hidden, config.hidden_size, kMostWidth));
  RW_CHECK(within(names.intermediate, config.intermediate_size, 16 * kMostWidth));
  RW_CHECK(within(names.layers, config.layers, kMostLayers));
  RW_CHECK(within(names.heads, config.heads, kMostWidth));
  RW_CHECK(within("num_key_value_heads", config.kv_heads, kMostWidth));
  RW_CHECK(within("head_dim", config.head_dim, kMostWidth));
  RW_CHECK(within("vocab_size", config.vocab_size, kMostVocab));
  RW_CHECK(within(names.positions, config.max_positions, kMostPositions));
  RW_CHECK(divides("num_key_value_heads", config.kv_heads, names.heads, config.heads));
  // transformers refuses such a Llama, whatever its head_dim
  if (config.architecture == Architecture::llama || config.architecture == Architecture::gpt2)
    RW_CHECK(divides(names.heads, config.heads, names.hidden, config.hidden_size));
  if (config.rope && config.head_dim % 2 != 0)
    return bad("head_dim (" + std::to_string(config.head_dim) + ") must be even to be rotated");
  if (config.rope.has_value() == (config.architecture == Architecture::gpt2))
    return bad("gpt2 has no rotary positions and every other architecture has");
  if (config.sliding_window &&
      config.sliding_layers.size() != static_cast<std::size_t>(config.layers))
    return bad("a sliding window must say of each layer whether it slides");
  return Ok{};
}

Result<ModelConfig> parse_model_config(std::string_view json, std::string_view place) {
  const std::string where(place);
  auto parsed = parse_foreign_json(json, std::size_t{8} << 20);
  if (!parsed) return std::move(parsed).error().at(where);
  if (!parsed->is_object()) return Error{Errc::malformed, where + ": not a JSON object"};
  RW_TRY(const auto architecture, read_architecture(*parsed, where));
  ModelConfig config = default_model_config(architecture);
  config.sliding_window.reset();
  config.sliding_layers.clear();
  ConfigReader in(*parsed, where);
  read_sizes(in, config);
  const FieldNames& names = names_of(architecture);
  if (in.has(names.activation)) {
    const std::string name = in.text(names.activation, "");
    const auto* known = std::find_if(kActivations.begin(), kActivations.end(),
                                     [&](const auto& a) { return a.first == name; });
    if (known == kActivations.end())
      in.refuse(names.activation, "must be silu, gelu, gelu_new, gelu_pytorch_tanh or relu");
    else
      config.activation = known->second;
  }
  if (architecture == Architecture::gpt2) {
    config.attention_dropout = in.number("attn_pdrop", 0.1, 0, 1);
    config.residual_dropout = in.number("resid_pdrop", 0.1, 0, 1);
    config.embedding_dropout = in.number("embd_pdrop", 0.1, 0, 1);
    if (!in.flag("scale_attn_weights", true))
      in.refuse("scale_attn_weights", "which is not supported");
    for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"})
      if (in.flag(key, false)) in.refuse(key, "which is not supported");
  } else {
    config.attention_dropout = in.number("attention_dropout", 0, 0, 1);
    config.rope = read_rope(in, config.max_positions);
  }
  if (architecture == Architecture::llama || architecture == Architecture::qwen3)
    config.qkv_bias = config.output_bias = in.flag("attention_bias", false);
  if (architecture == Architecture::llama) config.mlp_bias = in.flag("mlp_bias", false);
  read_sliding(in, config);
  read_token_ids(in, config);
  read_dtype(in, config);
  read_quantization(in, config);
  if (in.error()) return *in.error();
  auto checked = check_model_config(config);
  if (!checked) return std::move(checked).error().at(where);
  return config;
}

Result<ModelConfig> read_model_config(const std::filesystem::path& folder_or_file) {
  std::error_code ignored;
  auto file = folder_or_file;
  if (std::filesystem::is_directory(file, ignored)) file /= "config.json";
  auto text = read_file(file, std::uint64_t{8} << 20);
  if (!text) {
    Error error = std::move(text).error();
    if (error.code == Errc::not_found)
      error.hint = "A model folder holds config.json, tokenizer.json and safetensors files.";
    return error;
  }
  return parse_model_config(*text, file.string());
}

}  // namespace rigwise::engine
