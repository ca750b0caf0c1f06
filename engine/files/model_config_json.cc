// config.json written out, for models that are made here.
#include "base/files.h"
#include "base/json.h"
#include "engine/files/model_config.h"

namespace rigwise::engine {

namespace {

const char* class_name(Architecture architecture) {
  switch (architecture) {
    case Architecture::llama:
      return "LlamaForCausalLM";
    case Architecture::mistral:
      return "MistralForCausalLM";
    case Architecture::qwen2:
      return "Qwen2ForCausalLM";
    case Architecture::qwen3:
      return "Qwen3ForCausalLM";
    case Architecture::gpt2:
      break;
  }
  return "GPT2LMHeadModel";
}

const char* activation_name(Activation activation) {
  switch (activation) {
    case Activation::silu:
      return "silu";
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_tanh:
      return "gelu_new";
    case Activation::relu:
      break;
  }
  return "relu";
}

const char* dtype_text(Dtype dtype) {
  return dtype == Dtype::bf16 ? "bfloat16" : dtype == Dtype::f16 ? "float16" : "float32";
}

Json rope_scaling(const Rope& rope) {
  if (rope.kind == Rope::Kind::plain) return nullptr;
  static constexpr const char* kNames[] = {"default", "linear", "dynamic", "llama3", "yarn"};
  Json out = {{"rope_type", kNames[static_cast<int>(rope.kind)]}, {"factor", rope.factor}};
  if (rope.kind == Rope::Kind::llama3) {
    out["low_freq_factor"] = rope.low_freq_factor;
    out["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.kind == Rope::Kind::yarn) {
    out["beta_fast"] = rope.beta_fast;
    out["beta_slow"] = rope.beta_slow;
    put(out, "attention_factor", rope.attention_factor);
    put(out, "mscale", rope.mscale);
    put(out, "mscale_all_dim", rope.mscale_all_dim);
    if (!rope.truncate) out["truncate"] = false;
  }
  if (rope.original_positions > 0)
    out["original_max_position_embeddings"] = rope.original_positions;
  return out;
}

void put_gpt2(Json& out, const ModelConfig& config) {
  out["n_embd"] = config.hidden_size;
  out["n_inner"] = config.intermediate_size;
  out["n_layer"] = config.layers;
  out["n_head"] = config.heads;
  out["n_positions"] = config.max_positions;
  out["layer_norm_epsilon"] = config.norm_eps;
  out["activation_function"] = activation_name(config.activation);
  out["attn_pdrop"] = config.attention_dropout;
  out["resid_pdrop"] = config.residual_dropout;
  out["embd_pdrop"] = config.embedding_dropout;
}

void put_llama_like(Json& out, const ModelConfig& config) {
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["num_hidden_layers"] = config.layers;
  out["num_attention_heads"] = config.heads;
  out["num_key_value_heads"] = config.kv_heads;
  out["head_dim"] = config.head_dim;
  out["max_position_embeddings"] = config.max_positions;
  out["rms_norm_eps"] = config.norm_eps;
  out["hidden_act"] = activation_name(config.activation);
  out["attention_dropout"] = config.attention_dropout;
  if (config.rope) {
    out["rope_theta"] = config.rope->theta;
    out["rope_scaling"] = rope_scaling(*config.rope);
  }
  const auto architecture = config.architecture;
  if (architecture == Architecture::llama || architecture == Architecture::qwen3)
    out["attention_bias"] = config.qkv_bias;
  if (architecture == Architecture::llama) out["mlp_bias"] = config.mlp_bias;
  if (architecture == Architecture::mistral)
    out["sliding_window"] = config.sliding_window ? Json(*config.sliding_window) : Json(nullptr);
  if (architecture == Architecture::qwen2 || architecture == Architecture::qwen3) {
    out["use_sliding_window"] = config.sliding_window.has_value();
    if (config.sliding_window) {
      out["sliding_window"] = *config.sliding_window;
      Json types = Json::array();
      for (const bool slides : config.sliding_layers)
        types.push_back(slides ? "sliding_attention" : "full_attention");
      out["layer_types"] = std::move(types);
    }
  }
}

}  // namespace

std::string model_config_json(const ModelConfig& config) {
  Json out = {{"architectures", {class_name(config.architecture)}},
              {"model_type", architecture_name(config.architecture)},
              {"vocab_size", config.vocab_size}};
  if (config.architecture == Architecture::gpt2)
    put_gpt2(out, config);
  else
    put_llama_like(out, config);
  out["initializer_range"] = config.initializer_range;
  out["tie_word_embeddings"] = config.tie_embeddings;
  out["bos_token_id"] = config.bos_id ? Json(*config.bos_id) : Json(nullptr);
  if (config.eos_ids.size() == 1)
    out["eos_token_id"] = config.eos_ids[0];
  else
    out["eos_token_id"] = config.eos_ids.empty() ? Json(nullptr) : Json(config.eos_ids);
  if (config.pad_id) out["pad_token_id"] = *config.pad_id;
  if (config.dtype) out["torch_dtype"] = dtype_text(*config.dtype);
  if (config.quantization) {
    Json quantization = {{"quant_method", "bitsandbytes"},
                         {"load_in_4bit", true},
                         {"load_in_8bit", false},
                         {"bnb_4bit_quant_type", "nf4"},
                         {"bnb_4bit_use_double_quant", config.quantization->double_quantised},
                         {"bnb_4bit_compute_dtype", dtype_text(config.quantization->compute_dtype)},
                         {"bnb_4bit_quant_storage", "uint8"}};
    if (!config.quantization->skipped_modules.empty())
      quantization["llm_int8_skip_modules"] = config.quantization->skipped_modules;
    out["quantization_config"] = std::move(quantization);
  }
  return out.dump(2) + "\n";
}

Status write_model_config(const ModelConfig& config, const std::filesystem::path& file) {
  auto checked = check_model_config(config);
  if (!checked) return std::move(checked).error().at(file.string());
  return write_file_atomic(file, model_config_json(config));
}

}  // namespace rigwise::engine
