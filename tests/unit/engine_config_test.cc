#include <gtest/gtest.h>

#include "engine/files/adapter_config.h"
#include "engine/files/model_config.h"
#include "engine/files/rope.h"
#include "unit/engine_made_files.h"

namespace rigwise::engine {
namespace {

std::string why(std::string_view json) {
  const auto read = parse_model_config(json, "config.json");
  return read.ok() ? "" : read.error().message;
}

TEST(ModelConfig, MissingFieldsTakeTheClassesOwnFigures) {
  const auto llama = parse_model_config(R"({"model_type":"llama"})", "c");
  ASSERT_TRUE(llama.ok());
  EXPECT_EQ(llama->hidden_size, 4096);
  EXPECT_EQ(llama->kv_heads, 32);
  EXPECT_EQ(llama->eos_ids, std::vector<std::int32_t>{2});
  const auto mistral = parse_model_config(R"({"model_type":"mistral"})", "c");
  EXPECT_EQ(mistral->kv_heads, 8);
  EXPECT_EQ(mistral->sliding_window, 4096);
  EXPECT_TRUE(mistral->layer_slides(31));
  const auto full = parse_model_config(
      R"({"model_type":"mistral","sliding_window":null,"num_key_value_heads":null})", "c");
  EXPECT_FALSE(full->sliding_window);
  EXPECT_EQ(full->kv_heads, 32);
  const auto qwen3 = parse_model_config(
      R"({"model_type":"qwen3","hidden_size":1024,"num_attention_heads":16,"num_key_value_heads":8})",
      "c");
  EXPECT_EQ(qwen3->head_dim, 128);
  EXPECT_TRUE(qwen3->qk_norm);
  const auto gpt2 =
      parse_model_config(R"({"architectures":["GPT2LMHeadModel"],"n_embd":96,"n_head":4})", "c");
  ASSERT_TRUE(gpt2.ok()) << gpt2.error().message;
  EXPECT_EQ(gpt2->intermediate_size, 384);
  EXPECT_EQ(gpt2->head_dim, 24);
  EXPECT_FALSE(gpt2->rope);
  EXPECT_EQ(gpt2->residual_dropout, 0.1);
}

TEST(ModelConfig, ReadsBothDialects) {
  const std::string sizes =
      R"("model_type":"llama","hidden_size":64,"num_attention_heads":4,"max_position_embeddings":131072,)";
  const auto old = parse_model_config(
      "{" + sizes +
          R"("rope_theta":5e5,"torch_dtype":"bfloat16","rope_scaling":{"type":"llama3","factor":8.0,
        "low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}})",
      "c");
  const auto fresh = parse_model_config(
      "{" + sizes +
          R"("dtype":"bfloat16","rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,"factor":8,
        "low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}})",
      "c");
  ASSERT_TRUE(old.ok()) << old.error().message;
  ASSERT_TRUE(fresh.ok()) << fresh.error().message;
  EXPECT_EQ(*old, *fresh);
  EXPECT_EQ(old->dtype, Dtype::bf16);
  EXPECT_EQ(old->rope->original_positions, 8192);
}

TEST(ModelConfig, WhatIsWrittenReadsBackTheSame) {
  for (const auto architecture : {Architecture::llama, Architecture::mistral, Architecture::qwen2,
                                  Architecture::qwen3, Architecture::gpt2}) {
    ModelConfig config = default_model_config(architecture);
    config.eos_ids = {5, 6};
    config.pad_id = 0;
    config.dtype = Dtype::f16;
    config.quantization = Nf4Quantization{true, Dtype::bf16, {"lm_head"}};
    if (config.rope) {
      config.rope->kind = Rope::Kind::yarn;
      config.rope->factor = 4;
      config.rope->original_positions = 512;
      config.rope->mscale = 0.7;
    }
    if (architecture == Architecture::qwen2) {
      config.sliding_window = 7;
      config.sliding_layers.assign(32, false);
      config.sliding_layers[3] = true;
    }
    const auto back = parse_model_config(model_config_json(config), "c");
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(*back, config) << architecture_name(architecture);
  }
}

TEST(ModelConfig, HostileNumbersNameTheField) {
  const auto with = [](std::string_view member) {
    return why(R"({"model_type":"llama",)" + std::string(member) + "}");
  };
  EXPECT_EQ(with(R"("hidden_size":0)"),
            "config.json: hidden_size is 0, must lie from 1 to 1048576");
  EXPECT_EQ(with(R"("num_hidden_layers":-3)"),
            "config.json: num_hidden_layers is -3, must lie from 1 to 10000");
  EXPECT_EQ(with(R"("vocab_size":1e18)"),
            "config.json: vocab_size is 1e+18, must be a whole number");
  EXPECT_EQ(with(R"("vocab_size":18446744073709551615)"),
            "config.json: vocab_size is 18446744073709551615, must be a whole number");
  EXPECT_EQ(with(R"("hidden_size":"big")"),
            "config.json: hidden_size is \"big\", must be a whole number");
  EXPECT_EQ(with(R"("num_attention_heads":30)"),
            "config.json: num_attention_heads (30) does not divide hidden_size (4096)");
  EXPECT_EQ(with(R"("num_key_value_heads":5)"),
            "config.json: num_key_value_heads (5) does not divide num_attention_heads (32)");
  EXPECT_EQ(with(R"("hidden_size":96)"), "config.json: head_dim (3) must be even to be rotated");
  EXPECT_EQ(with(R"("rope_theta":0)"),
            "config.json: rope_theta is 0, must be a number from 1e-06 to 1e+15");
  EXPECT_EQ(with(R"("hidden_act":"xielu")"),
            "config.json: hidden_act is \"xielu\", must be silu, gelu, gelu_new, gelu_pytorch_tanh "
            "or relu");
  EXPECT_EQ(with(R"("rope_scaling":{"type":"longrope","factor":4})"),
            "config.json: rope parameters: rope scaling 'longrope' is not supported");
  EXPECT_EQ(with(R"("rope_scaling":{"type":"linear"})"),
            "config.json: rope parameters: has no factor");
  EXPECT_EQ(with(R"("rope_scaling":[1])"), "config.json: the rope parameters are no object");
  EXPECT_EQ(with(R"("dtype":"int7")"),
            "config.json: dtype is \"int7\", must be float32, float16 or bfloat16");
  EXPECT_EQ(with(R"("eos_token_id":["x"])"),
            "config.json: eos_token_id is [\"x\"], must be token ids");
  EXPECT_EQ(with(R"("quantization_config":{"quant_method":"gptq"})"),
            "config.json: quantization_config: quant_method 'gptq' is not supported");
  EXPECT_EQ(with(R"("layer_types":["full_attention"])"),
            "config.json: layer_types is [\"full_attention\"], must name the kind of each layer");
  EXPECT_EQ(why("[]"), "config.json: not a JSON object");
  EXPECT_EQ(why(R"({"model_type":"gpt2","scale_attn_by_inverse_layer_idx":true})"),
            "config.json: scale_attn_by_inverse_layer_idx is true, which is not supported");
}

TEST(ModelConfig, UnknownArchitecturesListTheKnown) {
  const auto read = parse_model_config(R"({"model_type":"mamba"})", "c");
  EXPECT_EQ(read.error().code, Errc::unavailable);
  EXPECT_EQ(read.error().hint, "Supported: llama, mistral, qwen2, qwen3, gpt2.");
  EXPECT_FALSE(
      parse_model_config(
          R"({"model_type":"llama","architectures":["LlamaForSequenceClassification"]})", "c")
          .ok());
  EXPECT_EQ(parse_model_config("{}", "c").error().code, Errc::malformed);
  const TemporaryFolder folder;
  EXPECT_NE(read_model_config(folder.path()).error().hint.find("config.json"), std::string::npos);
}

TEST(Rope, StretchesAsPublished) {
  // transformers 5.24 ROPE_INIT_FUNCTIONS["llama3"]: head_dim 8, theta 5e5, factor 8, 8192
  // positions
  ModelConfig config = default_model_config(Architecture::llama);
  config.head_dim = 8;
  config.rope =
      Rope{.kind = Rope::Kind::llama3, .theta = 500'000, .factor = 8, .original_positions = 8192};
  const auto llama3 = rope_frequencies(config, 1);
  ASSERT_EQ(llama3.inverse.size(), 4u);
  EXPECT_FLOAT_EQ(llama3.inverse[0], 1.0F);
  EXPECT_FLOAT_EQ(llama3.inverse[1], 0.0376060307F);
  EXPECT_FLOAT_EQ(llama3.inverse[3], 6.64786967e-06F);
  config.rope = Rope{.kind = Rope::Kind::dynamic, .theta = 10'000, .factor = 2};
  EXPECT_EQ(rope_frequencies(config, 2048).inverse, rope_frequencies(config, 7).inverse);
  EXPECT_LT(rope_frequencies(config, 4096).inverse[3], rope_frequencies(config, 7).inverse[3]);
}

std::string adapter_why(std::string_view member) {
  const auto read = parse_adapter_config(
      R"({"peft_type":"LORA","target_modules":["q_proj"])" + std::string(member) + "}", "a.json");
  return read.ok() ? "" : read.error().message;
}

TEST(AdapterConfig, RefusesWhatChangesTheArithmetic) {
  EXPECT_EQ(adapter_why(""), "");
  EXPECT_EQ(
      adapter_why(
          R"(,"inference_mode":true,"megatron_core":"megatron.core","unknown":null,"other":{})"),
      "");
  EXPECT_EQ(adapter_why(R"(,"use_dora":true)"), "a.json: use_dora is true, which is not supported");
  EXPECT_EQ(adapter_why(R"(,"layers_to_transform":[0])"),
            "a.json: layers_to_transform is [0], which is not supported");
  EXPECT_EQ(adapter_why(R"(,"modules_to_save":["lm_head"])"),
            "a.json: modules_to_save is [\"lm_head\"], which is not supported");
  EXPECT_EQ(adapter_why(R"(,"of_tomorrow":1)"), "a.json: of_tomorrow is 1, which is not supported");
  EXPECT_EQ(adapter_why(R"(,"bias":"all")"), "a.json: bias is \"all\", only none is supported");
  EXPECT_NE(adapter_why(R"(,"init_lora_weights":"pissa")"), "");
  EXPECT_EQ(adapter_why(R"(,"init_lora_weights":"gaussian")"), "");
  EXPECT_EQ(adapter_why(R"(,"r":0)"), "a.json: r is 0, must lie from 1 to 65536");
  EXPECT_EQ(adapter_why(R"(,"rank_pattern":{"q":-1})"),
            "a.json: rank_pattern is {\"q\":-1}, 'q' is not in range");
  EXPECT_EQ(parse_adapter_config(R"({"peft_type":"IA3"})", "a").error().code, Errc::unavailable);
  EXPECT_EQ(parse_adapter_config(R"({"peft_type":"LORA"})", "a").error().message,
            "a: names no target_modules");
}

TEST(AdapterConfig, MatchesModulesAsPeftDoes) {
  AdapterConfig config;
  config.target_modules = {"q_proj", "mlp.up_proj"};
  config.rank = 8;
  config.alpha = 16;
  config.rank_pattern = {{"layers.1.self_attn.q_proj", 4}, {"q_.*", 2}};
  config.alpha_pattern = {{"^model.layers.0.mlp.up_proj", 3}};
  const std::vector<std::string> modules = {
      "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.xq_proj",
      "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj", "lm_head"};
  const auto hit = adapted_modules(config, modules);
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(*hit, (std::vector<std::string>{modules[0], modules[2], modules[3]}));
  EXPECT_EQ(adapter_shape(config, modules[0])->rank, 2);
  EXPECT_EQ(adapter_shape(config, modules[3])->rank, 4);
  EXPECT_EQ(adapter_shape(config, modules[3])->scale, 4);
  EXPECT_EQ(adapter_shape(config, modules[2])->scale, 3.0 / 8);
  config.rank_stabilised = true;
  EXPECT_EQ(adapter_shape(config, modules[3])->scale, 8);
  config.target_pattern = R"(.*layers\.1\..*)";
  EXPECT_EQ(adapted_modules(config, modules)->size(), 1u);
  config.exclude_modules = {"q_proj"};
  const auto none = adapted_modules(config, modules);
  EXPECT_EQ(none.error().code, Errc::not_found);
  EXPECT_EQ(none.error().hint, "It has: lm_head, q_proj, up_proj, xq_proj.");
  config.target_pattern = "(";
  EXPECT_EQ(adapted_modules(config, modules).error().code, Errc::malformed);
}

TEST(AdapterConfig, WhatIsWrittenReadsBackTheSame) {
  AdapterConfig config;
  config.target_modules = {"c_attn"};
  config.fan_in_fan_out = true;
  config.rank = 4;
  config.alpha = 6.5;
  config.rank_pattern = {{"h.0.attn.c_attn", 2}};
  config.base_model = "gpt2";
  const TemporaryFolder folder;
  ASSERT_TRUE(write_adapter_config(config, folder.path() / "adapter_config.json").ok());
  const auto back = read_adapter_config(folder.path());
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*back, config);
}

}  // namespace
}  // namespace rigwise::engine
