// A training run from its options to its last checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/comm/comm.h"
#include "engine/data/windows.h"
#include "engine/parallel/distributed_model.h"
#include "engine/text/tokenizer.h"
#include "engine/train/batch_plan.h"
#include "engine/train/optimizer.h"
#include "engine/train/run_log.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct DataFlags {
  std::filesystem::path file = {};
  Pack pack = Pack::concat;
  std::int64_t seq = 512;
  DataOptions reading = {};
};

struct TrainOptions {
  ModelOptions model = {};
  DataFlags data = {};
  BatchPlanOptions batches = {};
  AdamwOptions adamw = {};
  std::optional<std::int64_t> steps = {};  // updates; none: one epoch
  double lr = 2e-4;
  LrSchedule schedule = LrSchedule::linear;
  std::int64_t warmup = 0;
  double clip = 1;  // of the gradient's global norm; 0: none
  std::uint64_t seed = 0;
  std::filesystem::path out = {};
  std::int64_t save_every = 0;             // 0: the last step alone
  bool save_in_parts = false;              // but for the last step, which others are to load
  std::optional<std::string> resume = {};  // auto, or a checkpoint's folder
};

/// What a run is, known before its first step.
struct TrainPlan {
  std::int64_t steps = 0, first_step = 0;  // first_step updates were done before
  std::int64_t global_batch = 0, micro_batches = 0;
  std::int64_t trained_elements = 0, all_elements = 0;
  WindowStatistics windows = {};
  DataStatistics data = {};
  std::optional<std::filesystem::path> resumed_from = {};
};

/// Told on every rank; whoever prints asks for rank 0.
struct TrainEvents {
  std::function<void(const TrainPlan&)> planned = [](const TrainPlan&) {};
  std::function<void(const StepRecord&)> stepped = [](const StepRecord&) {};
  std::function<void(std::int64_t step, const std::filesystem::path&, double seconds)> saved =
      [](std::int64_t, const std::filesystem::path&, double) {};
  std::function<void(const Error&)> trouble = [](const Error&) {};  // that does not end the run
};

/// Does the model know the highest id that its tokenizer gave on `what`? Errors: malformed.
Status check_highest_id(std::int32_t highest, const ModelConfig& config,
                        const std::filesystem::path& model, std::string_view what);

/// Windows of a data file under a model's tokenizer. Errors: of the files; malformed (an id that
/// the model does not have).
Result<std::shared_ptr<const Windows>> read_windows(const std::filesystem::path& model,
                                                    const DataFlags& data,
                                                    DataStatistics* statistics);

/// Collective. Errors before the first step: of files, flags and layout, usage where `out` holds a
/// run and nothing says to resume it; unavailable when the loss is no number, io while it saves. An
/// error without a message is one that another rank tells. Throws CommFailure when a rank is lost.
Status train(const TrainOptions& options, const std::shared_ptr<Comm>& world,
             const TrainEvents& events);

}  // namespace rigwise::engine
