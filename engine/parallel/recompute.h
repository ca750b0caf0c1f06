// Activation checkpointing (Chen et al., arXiv 1604.06174): a block keeps its input alone and is
// computed again in the backward pass. Hooks around both passes let whoever shards weights have
// them there only while the block runs.
#pragma once

#include <functional>

#include "engine/model/model.h"

namespace rigwise::engine {

struct BlockHooks {
  /// Before the block is computed; `again`: in the backward pass.
  std::function<void(const Block& block, bool again)> before;
  std::function<void(const Block& block, bool again)> after;
};

/// A runner for Model::set_runner. The batch must outlive the backward pass.
BlockRunner recompute_blocks(BlockHooks hooks = {});

}  // namespace rigwise::engine
