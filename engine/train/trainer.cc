#include "engine/train/trainer.h"

#define XXH_INLINE_ALL
#include <fmt/ranges.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/text.h"
#include "engine/train/checkpoint.h"
#include "engine/train/together.h"

namespace rigwise::engine {
namespace {

namespace fs = std::filesystem;

std::string_view method_name(Method method) {
  switch (method) {
    case Method::full:
      return "full";
    case Method::lora:
      return "lora";
    case Method::qlora:
      return "qlora";
  }
  return "";
}

/// What a run may not change when it goes on. Strategy and ranks are not in it: the work is the
/// same under all of them.
WorkDefinition work_of(const TrainOptions& options, const Windows& windows,
                       std::int64_t global_batch, std::int64_t steps) {
  std::vector<std::int64_t> all(windows.size());
  std::iota(all.begin(), all.end(), 0);
  const AdapterConfig& adapter = options.model.adapter;
  WorkDefinition work = {
      {"method", std::string(method_name(options.model.method))},
      {"dtype", options.model.dtype == at::kFloat ? "fp32" : "bf16"},
      {"data", fmt::format("{:016x}", windows.token_hash(all))},
      {"pack", std::string(pack_name(options.data.pack))},
      {"seq", fmt::format("{}", windows.seq())},
      {"global_batch", fmt::format("{}", global_batch)},
      {"shuffle", options.batches.shuffle ? fmt::format("{}", *options.batches.shuffle) : "no"},
      {"seed", fmt::format("{}", options.seed)},
      {"lr", fmt::format("{}", options.lr)},
      {"warmup", fmt::format("{}", options.warmup)},
      {"clip", fmt::format("{}", options.clip)},
      {"weight_decay", fmt::format("{}", options.adamw.weight_decay)},
      {"schedule", std::string(lr_schedule_name(options.schedule))}};
  // A falling rate depends on where it ends.
  if (options.schedule != LrSchedule::constant) work["steps"] = fmt::format("{}", steps);
  if (options.model.method != Method::full) {
    work["lora_rank"] = fmt::format("{}", adapter.rank);
    work["lora_alpha"] = fmt::format("{}", adapter.alpha);
    work["lora_dropout"] = fmt::format("{}", adapter.dropout);
    std::vector<std::string> targets = adapter.target_modules;
    std::ranges::sort(targets);
    work["lora_targets"] = fmt::format("{}", fmt::join(targets, ","));
    work["rslora"] = adapter.rank_stabilised ? "yes" : "no";
  }
  return work;
}

/// What is there already may be somebody's only copy.
Status check_fresh(const fs::path& out, const fs::path& log) {
  std::error_code failed;
  std::vector<fs::path> kept;
  for (const fs::path& file : {out / "log.jsonl", log}) {
    if (fs::exists(file, failed) && fs::file_size(file, failed) > 0) kept.push_back(file);
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(out, failed)) {
    if (is_checkpoint(entry.path())) kept.push_back(entry.path());
  }
  if (kept.empty()) return Ok{};
  return Error{Errc::usage,
               fmt::format("--out {}: a run is there already ({})", out.string(),
                           kept.front().filename().string()),
               "--resume auto goes on with it; else name another --out, or remove that one"};
}

/// One choice a line, for comparing ranks.
std::string lines_of(const WorkDefinition& work, std::int64_t done) {
  std::string text = fmt::format("step gone on from: {}\n", done);
  for (const auto& [key, value] : work) text += fmt::format("{}: {}\n", key, value);
  return text;
}

/// Lines of one text that the other does not have.
std::string lines_beside(std::string_view text, std::string_view other) {
  std::string found;
  for (const std::string_view line : split(text, '\n')) {
    if (other.find(std::string(line) + "\n") != std::string_view::npos) continue;
    found += fmt::format("{}{}", found.empty() ? "" : "; ", line);
  }
  return found;
}

class Run {
 public:
  Run(const TrainOptions& options, std::shared_ptr<Comm> world, const TrainEvents& events)
      : options_(options), world_(std::move(world)), events_(events), adamw_(options.adamw) {}

  Status prepare() {
    RW_CHECK(together(*world_, prepare_data()));
    RW_CHECK(together(*world_, prepare_model()));
    RW_CHECK(together(*world_, agree()));
    RW_TRY(RunLog log, RunLog::open(log_file(), done_));
    log_.emplace(std::move(log));
    plan_told_.steps = steps_, plan_told_.first_step = done_;
    plan_told_.global_batch = batches_->global_batch();
    plan_told_.micro_batches = batches_->micro_batches();
    plan_told_.trained_elements = model_->trained_elements();
    plan_told_.all_elements = model_->all_elements();
    plan_told_.windows = windows_->statistics();
    events_.planned(plan_told_);
    return Ok{};
  }

  Status steps() {
    reset_peak_memory(world_->device());
    for (std::int64_t index = done_; index < steps_; ++index) {
      RW_TRY(const StepRecord record, step(index));
      const bool last = index + 1 == steps_;
      const bool due = options_.save_every > 0 && (index + 1) % options_.save_every == 0;
      events_.stepped(record);
      if (last || due) RW_CHECK(save(index + 1));
    }
    return Ok{};
  }

 private:
  Status prepare_data() {
    if (!options_.resume) RW_CHECK(check_fresh(options_.out, log_file()));
    RW_TRY(windows_, read_windows(options_.model.model, options_.data, &plan_told_.data));
    options_.model.longest = windows_->seq();
    options_.model.seed = options_.seed;
    options_.model.rows = windows_->seq() * options_.batches.micro_batch;
    options_.batches.same_count = options_.model.layout.sharded;
    return Ok{};
  }

  Status prepare_model() {
    RW_TRY(model_, DistributedModel::make(options_.model, world_));
    RW_TRY(BatchPlan made, BatchPlan::make(windows_, options_.batches, model_->mesh().data->rank(),
                                           model_->mesh().data->size()));
    batches_.emplace(std::move(made));
    steps_ = options_.steps.value_or(batches_->steps_per_epoch());
    work_ = work_of(options_, *windows_, batches_->global_batch(), steps_);
    if (options_.model.method != Method::full) {  // else the checkpoint holds the model
      work_["model"] = model_->base_fingerprint();
    }
    std::error_code failed;
    fs::create_directories(options_.out, failed);
    if (failed) {
      return Error{Errc::io, fmt::format("{}: {}", options_.out.string(), failed.message())};
    }
    return resume();
  }

  /// Hosts may have other files under the same names.
  Status agree() {
    const std::string mine = lines_of(work_, done_), first = text_of_first(*world_, mine);
    if (mine == first) return Ok{};
    const int rank = world_->rank();
    return Error{Errc::conflict,
                 fmt::format("rank {} on {} would do other work than rank 0: {}; rank 0 has {}",
                             rank, world_->hosts()[static_cast<std::size_t>(rank)],
                             lines_beside(mine, first), lines_beside(first, mine)),
                 "give every rank the same flags and files; checkpoints lie where all hosts see "
                 "them"};
  }

  fs::path log_file() const {
    const int rank = world_->rank();
    return options_.out / (rank == 0 ? "log.jsonl" : fmt::format("log.rank{}.jsonl", rank));
  }

  Status resume() {
    if (!options_.resume) return Ok{};
    RW_TRY(const auto folder, find_checkpoint(options_.out, *options_.resume));
    if (!folder) return Ok{};
    RW_TRY(const CheckpointState state, read_checkpoint_state(*folder));
    RW_CHECK(check_same_work(state.work, work_));
    RW_CHECK(restore_checkpoint(*model_, *folder));
    done_ = state.step;
    plan_told_.resumed_from = folder;
    return Ok{};
  }

  Result<StepRecord> step(std::int64_t index) {
    StepClock& clock = model_->clock();
    clock.begin();
    const StepWork work = batches_->step(index);
    std::vector<MicroBatch> micros;
    for (const std::vector<std::int64_t>& windows : work.mine) {
      micros.push_back(batches_->batch(windows, options_.seed, index));
    }
    const double scale = 1 / static_cast<double>(std::max<std::int64_t>(1, work.predicted));
    const DistributedModel::Outcome outcome = model_->gradients(micros, scale);
    const bool finite = std::isfinite(outcome.loss) && std::isfinite(outcome.gradient_norm);
    clock.enter(Phase::optimizer);
    const double lr = options_.lr * lr_factor(options_.schedule, index, options_.warmup, steps_);
    double factor = 1;
    if (options_.clip > 0) {
      factor = std::min(1.0, options_.clip / (outcome.gradient_norm + 1e-6));
    }
    if (finite) adamw_.update(model_->pieces(), lr, factor, index + 1);
    StepRecord record{.step = index + 1,
                      .epoch = work.epoch,
                      .loss = outcome.loss,
                      .grad_norm = outcome.gradient_norm,
                      .lr = lr,
                      .tokens = work.tokens,
                      .predicted_tokens = work.predicted,
                      .token_hash = work.token_hash};
    record.phases = clock.end();
    record.step_time_s = std::accumulate(record.phases.begin(), record.phases.end(), 0.0);
    record.peak_memory_bytes = peak_memory_bytes(world_->device());
    const Status logged = log_->append(step_line(record));
    if (!logged) events_.trouble(logged.error());
    if (!finite) return not_finite(record);
    return record;
  }

  /// The same on every rank. An update would put NaN into every weight.
  Error not_finite(const StepRecord& record) const {
    if (world_->rank() != 0) return Error{Errc::unavailable, ""};
    return Error{
        Errc::unavailable,
        fmt::format("step {}: loss {}, gradient norm {}: training cannot go on from there",
                    record.step, record.loss, record.grad_norm),
        "a lower --lr, or --warmup, or --dtype fp32; checkpoints of earlier steps are good"};
  }

  Status save(std::int64_t step) {
    const auto began = std::chrono::steady_clock::now();
    const bool in_parts = options_.save_in_parts && step < steps_;
    RW_CHECK(save_checkpoint(*model_, options_.out, {.step = step, .work = work_}, in_parts));
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    const fs::path folder = options_.out / fmt::format("checkpoint-{}", step);
    if (world_->rank() == 0) {
      const Status logged = log_->append(checkpoint_line(step, folder, seconds));
      if (!logged) events_.trouble(logged.error());
    }
    events_.saved(step, folder, seconds);
    return Ok{};
  }

  TrainOptions options_;
  std::shared_ptr<Comm> world_;
  const TrainEvents& events_;
  Adamw adamw_;
  std::shared_ptr<const Windows> windows_;
  std::unique_ptr<DistributedModel> model_;
  std::optional<BatchPlan> batches_;
  std::optional<RunLog> log_;
  WorkDefinition work_;
  TrainPlan plan_told_;
  std::int64_t steps_ = 0, done_ = 0;
};

}  // namespace

Status check_highest_id(std::int32_t highest, const ModelConfig& config, const fs::path& model,
                        std::string_view what) {
  if (highest < config.vocab_size) return Ok{};
  return Error{Errc::malformed,
               fmt::format("{}: its tokenizer gives id {} on {}, but the model knows {} tokens "
                           "(vocab_size of config.json)",
                           model.string(), highest, what, config.vocab_size),
               "the tokenizer and the weights are of two models"};
}

Result<std::shared_ptr<const Windows>> read_windows(const fs::path& model, const DataFlags& data,
                                                    DataStatistics* statistics) {
  RW_TRY(Tokenizer tokenizer, Tokenizer::read(model));
  RW_TRY(Documents documents, read_documents(data.file, tokenizer, data.reading));
  if (statistics != nullptr) *statistics = documents.statistics();
  RW_TRY(const ModelConfig config, read_model_config(model));
  std::int32_t highest = 0;
  for (std::int64_t at = 0; at < documents.tokens(); ++at) {
    highest = std::max(highest, documents.id(at));
  }
  RW_CHECK(check_highest_id(highest, config, model, data.file.string()));
  // Padding is masked, so that any id that the model has will do.
  std::int32_t pad = tokenizer.pad().value_or(tokenizer.eos().value_or(0));
  if (pad >= config.vocab_size) pad = 0;
  RW_TRY(Windows windows, Windows::make(std::make_shared<const Documents>(std::move(documents)),
                                        data.pack, data.seq, pad));
  return std::make_shared<const Windows>(std::move(windows));
}

Status train(const TrainOptions& options, const std::shared_ptr<Comm>& world,
             const TrainEvents& events) {
  Run run(options, world, events);
  RW_CHECK(run.prepare());
  return run.steps();
}

}  // namespace rigwise::engine
