// A causal language model of a Hugging Face folder: Llama 2/3, Mistral, Qwen2/2.5/3, GPT-2.
//
// It is made in three steps, so that whoever parts it among ranks never has to be known here:
//   1. describe(): all names and shapes, no memory;
//   2. others cut parameters, drop blocks, hang seams into blocks, choose devices (parallel/);
//   3. load_weights() or init_weights() (weights.h) fill what is left.
//
// Legend: N tokens of the batch, D hidden, V vocabulary.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/files/model_config.h"
#include "engine/model/attention.h"
#include "engine/model/linear.h"
#include "engine/model/ops.h"

namespace rigwise::engine {

/// One micro-batch: B windows of T tokens each, one after the other.
struct MicroBatch {
  at::Tensor ids;        // int64 [N]
  at::Tensor positions;  // int64 [N]
  at::Tensor targets;    // int64 [N], the next token, or -100 where none is predicted
  std::vector<Stretch> stretches = {};  // tokens that see one another
  DropoutKey dropout = {};
  bool training = false;
  KeyValueCache* past = nullptr;  // of the tokens before these, where there are any
};

/// RMSNorm, or LayerNorm with a bias.
struct Norm {
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;
  double eps = 1e-6;
  bool mean_centred = false;  // LayerNorm
  at::Tensor operator()(const at::Tensor& x_ND) const;
};

/// Everything of a batch that blocks share. On the device of the block.
struct BlockInput {
  RotaryTable rotary;
  const std::vector<Stretch>* stretches = nullptr;
  const DropoutKey* dropout = nullptr;  // null outside training
  KeyValueCache* past = nullptr;        // then the stretches play no part
};

/// A place where another rank's part has to be joined; the identity if it is empty.
using Seam = std::function<at::Tensor(const at::Tensor& x_ND)>;

struct Block {
  std::int64_t index = 0;
  Norm attention_norm, mlp_norm;
  std::vector<Linear> qkv;  // q, k, v; or one fused matrix
  Linear out;
  std::optional<Norm> q_norm, k_norm;
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;  // that this rank holds
  std::optional<std::int64_t> window = {};
  std::vector<Linear> mlp_in;  // gate, up; or one
  Linear mlp_out;
  Activation activation = Activation::silu;
  /// Before the first matrices of attention and MLP; after their last, before its bias.
  Seam enter, leave;
  at::Device device = at::kCPU;

  at::Tensor operator()(const at::Tensor& x_ND, const BlockInput& input) const;
  /// All linear layers, in the order of the computation.
  std::vector<Linear*> linears();
  /// Every parameter of it, those of adapters and quantised matrices included.
  std::vector<Parameter*> parameters();
};

/// How a block is run: plainly, recomputed in the backward pass, gathered first.
using BlockRunner =
    std::function<at::Tensor(const Block& block, const at::Tensor& x_ND, const BlockInput& input)>;

class Model {
 public:
  /// Names and shapes. The configuration must have passed check_model_config().
  static std::unique_ptr<Model> describe(const ModelConfig& config);

  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  /// In the order of the computation. Pointers to them stay good.
  [[nodiscard]] std::vector<Parameter*> parameters();
  [[nodiscard]] Parameter* find(std::string_view name);
  Parameter* add_parameter(std::string name, std::vector<std::int64_t> shape);
  /// Leaves the blocks [first, last), the embedding or the head to others.
  void keep_only(std::int64_t first, std::int64_t last, bool embedding, bool head);

  /// Packs frozen matrices where that makes products faster: the last step before use, for batches
  /// of about `rows` tokens; `backward`: also for gradients. Costs the memory of one more copy.
  void pack(std::int64_t rows, bool backward);

  [[nodiscard]] std::vector<std::unique_ptr<Block>>& blocks() { return blocks_; }
  [[nodiscard]] bool has_embedding() const { return has_embedding_; }
  [[nodiscard]] bool has_head() const { return has_head_; }
  void set_runner(BlockRunner runner) { runner_ = std::move(runner); }
  /// Puts a block's layers, values to come included, on a device.
  void place(Block& block, at::Device device);
  /// Puts everything outside the blocks on one.
  void place_rest(at::Device device);
  /// Longest sequence of the run; must be told before the first batch where rotary scaling asks.
  void set_longest(std::int64_t positions);

  /// Embedding (of ids, or what the stage before sent), this model's blocks.
  at::Tensor hidden(const MicroBatch& batch, const at::Tensor& x_ND = {});
  /// scale * sum of the nll of the batch's targets, from what hidden() gave.
  at::Tensor loss(const at::Tensor& x_ND, const MicroBatch& batch, double scale);
  /// [rows, V] in fp32.
  at::Tensor logits(const at::Tensor& x_ND);

 private:
  explicit Model(const ModelConfig& config) : config_(config) {}
  void describe_llama();
  void describe_gpt2();
  Linear linear(const std::string& module, std::int64_t outputs, std::int64_t inputs, bool bias);
  Norm norm(const std::string& module, std::int64_t size);
  RotaryTable rotary(const at::Tensor& positions);
  at::Tensor head_input(const at::Tensor& x_ND) const;

  ModelConfig config_;
  std::deque<Parameter> parameters_;
  std::unordered_map<std::string, Parameter*> by_name_;
  std::vector<std::unique_ptr<Block>> blocks_;
  Parameter *embedding_ = nullptr, *position_embedding_ = nullptr, *head_ = nullptr;
  Packed packed_head_;
  Norm final_norm_;
  bool has_embedding_ = true, has_head_ = true;
  BlockRunner runner_;
  std::int64_t longest_ = 0;
  at::Tensor inverse_frequencies_;  // [C / 2]
  double rotary_scale_ = 1;
};

}  // namespace rigwise::engine
