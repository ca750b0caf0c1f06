#include "engine/model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "engine/files/rope.h"

namespace rigwise::engine {
namespace {

at::Tensor activated(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::silu:
      return at::silu(x);
    case Activation::gelu:
      return at::gelu(x);
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::relu:
      return at::relu(x);
  }
  return x;
}

/// Through a layer whose result is joined with other ranks' before the bias, which all of them
/// hold, is added.
at::Tensor joined(const Linear& layer, const at::Tensor& x, const Seam& leave,
                  const DropoutKey* dropout) {
  if (!leave) return layer(x, dropout);
  const at::Tensor y = leave(layer.without_bias(x, dropout));
  return layer.bias != nullptr ? y + layer.bias->value.to(y.scalar_type()) : y;
}

}  // namespace

at::Tensor Norm::operator()(const at::Tensor& x_ND) const {
  if (!mean_centred) return rms_norm(x_ND, weight->value, eps);
  const at::ScalarType dtype = x_ND.scalar_type();
  return at::layer_norm(x_ND, {x_ND.size(-1)}, weight->value.to(dtype), bias->value.to(dtype), eps);
}

at::Tensor Block::operator()(const at::Tensor& x_ND, const BlockInput& input) const {
  const auto entered = [&](const at::Tensor& h) { return enter ? enter(h) : h; };
  const at::Tensor h = entered(attention_norm(x_ND));
  at::Tensor q, k, v;
  if (qkv.size() == 1) {
    const std::int64_t q_size = heads * head_dim, kv_size = kv_heads * head_dim;
    const std::vector<at::Tensor> parts =
        qkv[0](h, input.dropout).split_with_sizes({q_size, kv_size, kv_size}, 1);
    q = parts[0], k = parts[1], v = parts[2];
  } else {
    q = qkv[0](h, input.dropout), k = qkv[1](h, input.dropout), v = qkv[2](h, input.dropout);
  }
  q = q.unflatten(1, {heads, head_dim});
  k = k.unflatten(1, {kv_heads, head_dim});
  v = v.unflatten(1, {kv_heads, head_dim});
  if (q_norm) {
    q = (*q_norm)(q.flatten(0, 1)).view_as(q);
    k = (*k_norm)(k.flatten(0, 1)).view_as(k);
  }
  if (input.rotary.cos.defined()) {
    q = rotate(q, input.rotary);
    k = rotate(k, input.rotary);
  }
  const at::Tensor mixed = (input.past != nullptr ? input.past->attend(index, q, k, v, window)
                                                  : attention(q, k, v, *input.stretches, window))
                               .flatten(1, 2);
  const at::Tensor x = x_ND + joined(out, mixed, leave, input.dropout);

  const at::Tensor m = entered(mlp_norm(x));
  const at::Tensor wide =
      mlp_in.size() == 1 ? activated(mlp_in[0](m, input.dropout), activation)
                         : (activation == Activation::silu
                                ? swiglu(mlp_in[0](m, input.dropout), mlp_in[1](m, input.dropout))
                                : activated(mlp_in[0](m, input.dropout), activation) *
                                      mlp_in[1](m, input.dropout));
  return x + joined(mlp_out, wide, leave, input.dropout);
}

std::vector<Linear*> Block::linears() {
  std::vector<Linear*> all;
  for (Linear& layer : qkv) all.push_back(&layer);
  all.push_back(&out);
  for (Linear& layer : mlp_in) all.push_back(&layer);
  all.push_back(&mlp_out);
  return all;
}

std::vector<Parameter*> Block::parameters() {
  std::vector<Parameter*> all;
  const auto add = [&](Parameter* parameter) {
    if (parameter != nullptr) all.push_back(parameter);
  };
  const auto add_norm = [&](const Norm& norm) { add(norm.weight), add(norm.bias); };
  add_norm(attention_norm), add_norm(mlp_norm);
  if (q_norm) add_norm(*q_norm), add_norm(*k_norm);
  for (const Linear* layer : linears()) {
    add(layer->weight), add(layer->bias);
    if (layer->nf4) add(layer->nf4->absmax), add(layer->nf4->nested_absmax);
    if (layer->lora) add(layer->lora->a), add(layer->lora->b);
  }
  return all;
}

std::unique_ptr<Model> Model::describe(const ModelConfig& config) {
  std::unique_ptr<Model> model(new Model(config));
  if (config.architecture == Architecture::gpt2) {
    model->describe_gpt2();
  } else {
    model->describe_llama();
  }
  model->set_longest(config.max_positions);
  return model;
}

Parameter* Model::add_parameter(std::string name, std::vector<std::int64_t> shape) {
  Parameter& added = parameters_.emplace_back(Parameter{std::move(name), std::move(shape)});
  by_name_[added.name] = &added;
  return &added;
}

Linear Model::linear(const std::string& module, std::int64_t outputs, std::int64_t inputs,
                     bool bias) {
  const bool transposed = config_.architecture == Architecture::gpt2;
  Linear layer{.module = module, .transposed = transposed};
  layer.weight = add_parameter(
      module + ".weight", transposed ? std::vector{inputs, outputs} : std::vector{outputs, inputs});
  if (bias) layer.bias = add_parameter(module + ".bias", {outputs});
  return layer;
}

Norm Model::norm(const std::string& module, std::int64_t size) {
  Norm out{.weight = add_parameter(module + ".weight", {size}), .eps = config_.norm_eps};
  if (config_.architecture == Architecture::gpt2) {
    out.mean_centred = true;
    out.bias = add_parameter(module + ".bias", {size});
  }
  return out;
}

void Model::describe_llama() {
  const ModelConfig& c = config_;
  embedding_ = add_parameter("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string at = fmt::format("model.layers.{}.", i);
    auto block = std::make_unique<Block>();
    block->index = i;
    block->heads = c.heads, block->kv_heads = c.kv_heads, block->head_dim = c.head_dim;
    if (c.layer_slides(i)) block->window = c.sliding_window;
    block->activation = c.activation;
    block->attention_norm = norm(at + "input_layernorm", c.hidden_size);
    const std::int64_t q_size = c.heads * c.head_dim, kv_size = c.kv_heads * c.head_dim;
    const std::string attention_at = at + "self_attn.";
    block->qkv.push_back(linear(attention_at + "q_proj", q_size, c.hidden_size, c.qkv_bias));
    block->qkv.push_back(linear(attention_at + "k_proj", kv_size, c.hidden_size, c.qkv_bias));
    block->qkv.push_back(linear(attention_at + "v_proj", kv_size, c.hidden_size, c.qkv_bias));
    if (c.qk_norm) {
      block->q_norm = norm(attention_at + "q_norm", c.head_dim);
      block->k_norm = norm(attention_at + "k_norm", c.head_dim);
    }
    block->out = linear(attention_at + "o_proj", c.hidden_size, q_size, c.output_bias);
    block->mlp_norm = norm(at + "post_attention_layernorm", c.hidden_size);
    block->mlp_in.push_back(
        linear(at + "mlp.gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias));
    block->mlp_in.push_back(
        linear(at + "mlp.up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias));
    block->mlp_out = linear(at + "mlp.down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias);
    blocks_.push_back(std::move(block));
  }
  final_norm_ = norm("model.norm", c.hidden_size);
  head_ = c.tie_embeddings ? embedding_
                           : add_parameter("lm_head.weight", {c.vocab_size, c.hidden_size});
}

void Model::describe_gpt2() {
  const ModelConfig& c = config_;
  embedding_ = add_parameter("transformer.wte.weight", {c.vocab_size, c.hidden_size});
  position_embedding_ = add_parameter("transformer.wpe.weight", {c.max_positions, c.hidden_size});
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string at = fmt::format("transformer.h.{}.", i);
    auto block = std::make_unique<Block>();
    block->index = i;
    block->heads = block->kv_heads = c.heads, block->head_dim = c.head_dim;
    block->activation = c.activation;
    block->attention_norm = norm(at + "ln_1", c.hidden_size);
    block->qkv.push_back(linear(at + "attn.c_attn", 3 * c.hidden_size, c.hidden_size, true));
    block->out = linear(at + "attn.c_proj", c.hidden_size, c.hidden_size, true);
    block->mlp_norm = norm(at + "ln_2", c.hidden_size);
    block->mlp_in.push_back(linear(at + "mlp.c_fc", c.intermediate_size, c.hidden_size, true));
    block->mlp_out = linear(at + "mlp.c_proj", c.hidden_size, c.intermediate_size, true);
    blocks_.push_back(std::move(block));
  }
  final_norm_ = norm("transformer.ln_f", c.hidden_size);
  head_ = c.tie_embeddings ? embedding_
                           : add_parameter("lm_head.weight", {c.vocab_size, c.hidden_size});
}

std::vector<Parameter*> Model::parameters() {
  std::vector<Parameter*> all;
  for (Parameter& parameter : parameters_) {
    if (by_name_.contains(parameter.name)) all.push_back(&parameter);
  }
  return all;
}

Parameter* Model::find(std::string_view name) {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : found->second;
}

void Model::keep_only(std::int64_t first, std::int64_t last, bool embedding, bool head) {
  const auto drop = [&](Parameter* parameter) {
    if (parameter != nullptr) by_name_.erase(parameter->name);
  };
  for (const std::unique_ptr<Block>& block : blocks_) {
    if (block->index >= first && block->index < last) continue;
    for (Parameter* parameter : block->parameters()) drop(parameter);
  }
  std::erase_if(blocks_, [&](const auto& b) { return b->index < first || b->index >= last; });
  has_embedding_ = embedding, has_head_ = head;
  if (!head) drop(final_norm_.weight), drop(final_norm_.bias);
  if (!embedding) drop(position_embedding_);
  const bool tied = head_ == embedding_;
  if (!embedding && !(tied && head)) drop(embedding_);
  if (!head && !tied) drop(head_);
}

void Model::pack(std::int64_t rows, bool backward) {
  for (const std::unique_ptr<Block>& block : blocks_) {
    for (Linear* layer : block->linears()) layer->pack(rows, backward);
  }
  if (!has_head_ || head_->trainable) return;
  const at::Tensor& head = head_->value;
  if (can_pack(head.device(), head.scalar_type())) {
    packed_head_.matrix = pack_matrix(head, rows);
    if (backward) packed_head_.transposed = pack_matrix(head.t(), rows);
  }
}

void Model::place(Block& block, at::Device device) {
  block.device = device;
  for (Parameter* parameter : block.parameters()) parameter->device = device;
}

void Model::place_rest(at::Device device) {
  std::vector<Parameter*> rest = parameters();
  for (const std::unique_ptr<Block>& block : blocks_) {
    for (const Parameter* parameter : block->parameters()) std::erase(rest, parameter);
  }
  for (Parameter* parameter : rest) parameter->device = device;
}

void Model::set_longest(std::int64_t positions) {
  longest_ = positions;
  if (!config_.rope) return;
  const RopeFrequencies frequencies = rope_frequencies(config_, positions);
  inverse_frequencies_ = at::tensor(frequencies.inverse);
  rotary_scale_ = static_cast<double>(frequencies.scale);
}

RotaryTable Model::rotary(const at::Tensor& positions) {
  if (!config_.rope) return {};
  const at::Tensor angles =
      positions.to(at::kFloat).unsqueeze(1) * inverse_frequencies_.to(positions.device());
  return {.cos = angles.cos() * rotary_scale_, .sin = angles.sin() * rotary_scale_};
}

at::Tensor Model::hidden(const MicroBatch& batch, const at::Tensor& x_ND) {
  at::Tensor x = x_ND;
  if (has_embedding_) {
    const at::Device device = embedding_->value.device();
    x = at::embedding(embedding_->value, batch.ids.to(device));
    if (position_embedding_ != nullptr) {
      x = x + at::embedding(position_embedding_->value, batch.positions.to(device));
    }
  }
  BlockInput input{.rotary = rotary(batch.positions.to(x.device())),
                   .stretches = &batch.stretches,
                   .dropout = batch.training ? &batch.dropout : nullptr,
                   .past = batch.past};
  for (const std::unique_ptr<Block>& block : blocks_) {
    if (block->device != x.device()) {
      x = x.to(block->device, /*non_blocking=*/true);
      if (input.rotary.cos.defined()) {
        input.rotary = {input.rotary.cos.to(block->device), input.rotary.sin.to(block->device)};
      }
    }
    x = runner_ ? runner_(*block, x, input) : (*block)(x, input);
  }
  return x;
}

at::Tensor Model::head_input(const at::Tensor& x_ND) const {
  return final_norm_(x_ND.to(head_->value.device()));
}

at::Tensor Model::loss(const at::Tensor& x_ND, const MicroBatch& batch, double scale) {
  const at::Tensor x = head_input(x_ND);
  return linear_nll(x, head_->value, batch.targets.to(x.device()), scale, packed_head_);
}

at::Tensor Model::logits(const at::Tensor& x_ND) {
  return at::linear(head_input(x_ND), head_->value).to(at::kFloat);
}

}  // namespace rigwise::engine
