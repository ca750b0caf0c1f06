// What a trained model gives: its loss on held-out data, and text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/parallel/distributed_model.h"
#include "engine/text/tokenizer.h"
#include "engine/train/trainer.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct Evaluation {
  double loss = 0;          // mean next-token nll over predicted tokens, nats
  std::int64_t tokens = 0;  // predicted ones
  std::int64_t documents = 0;
  double seconds = 0;  // without loading
};

/// One process. `progress` is told windows done and all. Errors: of the files.
Result<Evaluation> evaluate(const ModelOptions& model, const DataFlags& data,
                            std::int64_t micro_batch,
                            const std::function<void(std::int64_t, std::int64_t)>& progress);

struct GenerateOptions {
  std::int64_t max_tokens = 64;
  double temperature = 0;  // 0: the most likely token each time
  std::uint64_t seed = 0;
};

/// Goes on from `prompt` until a stop token, max_tokens or the model's last position; `piece` is
/// given text as it comes, whole characters only. Errors: of the files, usage (a prompt that fills
/// the model's positions).
Status generate(const ModelOptions& model, const std::string& prompt,
                const GenerateOptions& options, const std::function<void(std::string_view)>& piece);

/// A model with its adapter, ready to be used by this process alone. Nothing is trained.
Result<std::unique_ptr<Model>> load_for_use(const ModelOptions& options);

}  // namespace rigwise::engine
