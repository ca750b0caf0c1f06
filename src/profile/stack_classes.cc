#include "profile/stack_classes.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"

namespace rigwise {

namespace {

constexpr auto kWhole = StackReach::whole;
constexpr auto kItself = StackReach::itself;

// Names were read in torch 2.13, transformers 5, accelerate 1.x, peft 0.18, datasets 4 and, where
// they are older or newer, in the published sources of lightning, trl, fairscale, deepspeed and
// composer. A row that no version has any more does no harm. First match of a frame counts.
constexpr std::array kRules = {
    // Waiting for, and making, batches.
    StackRule{"torch/utils/data/dataloader.py",
              "__next__|__iter__|__init__|_get_iterator|_next_data", "input", kWhole, "torch"},
    StackRule{"torch/utils/data/_utils/worker.py", "_worker_loop", "input", kWhole, "torch"},
    StackRule{"torch/utils/data/_utils/pin_memory.py", "*", "input", kWhole, "torch"},
    StackRule{"torchdata/", "__next__|next", "input", kWhole, "torchdata"},
    StackRule{"accelerate/data_loader.py", "__iter__|_fetch_batches", "input", kWhole,
              "accelerate"},
    StackRule{"transformers/trainer.py", "get_batch_samples", "input", kWhole, "transformers"},
    StackRule{"transformers/trainer.py", "_prepare_inputs|_prepare_input", "transfer", kItself,
              "transformers"},
    StackRule{"accelerate/utils/operations.py", "send_to_device", "transfer", kItself,
              "accelerate"},
    StackRule{"lightning/pytorch/loops/fetchers.py", "__next__|fetching_next", "input", kWhole,
              "lightning"},
    StackRule{"pytorch_lightning/loops/fetchers.py", "__next__|fetching_next", "input", kWhole,
              "lightning"},
    StackRule{"webdataset/", "*", "input", kWhole, "webdataset"},
    StackRule{"streaming/base/", "__next__|__iter__|__getitem__", "input", kWhole, "streaming"},
    StackRule{"datasets/iterable_dataset.py", "__iter__|_iter_pytorch", "input", kWhole,
              "datasets"},
    StackRule{"datasets/arrow_dataset.py", "__getitem__|__getitems__|_getitem", "input", kWhole,
              "datasets"},
    StackRule{"datasets/arrow_dataset.py", "map|filter|_map_single|from_generator", "prepare",
              kWhole, "datasets"},
    StackRule{"datasets/load.py", "load_dataset", "prepare", kWhole, "datasets"},
    StackRule{"datasets/builder.py", "download_and_prepare", "prepare", kWhole, "datasets"},
    // Checkpoints.
    StackRule{"transformers/trainer.py", "_save_checkpoint|save_model|_save|save_state",
              "checkpoint", kWhole, "transformers"},
    StackRule{"transformers/modeling_utils.py", "save_pretrained", "checkpoint", kWhole,
              "transformers"},
    StackRule{"peft/peft_model.py", "save_pretrained", "checkpoint", kWhole, "peft"},
    StackRule{"torch/serialization.py", "save|_save|_legacy_save", "checkpoint", kWhole, "torch"},
    StackRule{"torch/distributed/checkpoint/state_dict_saver.py", "*", "checkpoint", kWhole,
              "torch"},
    StackRule{"safetensors/torch.py", "save_file|save_model", "checkpoint", kWhole, "safetensors"},
    StackRule{"accelerate/accelerator.py", "save_state|save_model|save", "checkpoint", kWhole,
              "accelerate"},
    StackRule{"lightning/pytorch/", "save_checkpoint|_save_checkpoint", "checkpoint", kWhole,
              "lightning"},
    StackRule{"pytorch_lightning/", "save_checkpoint|_save_checkpoint", "checkpoint", kWhole,
              "lightning"},
    StackRule{"deepspeed/runtime/engine.py", "save_checkpoint|save_16bit_model", "checkpoint",
              kWhole, "deepspeed"},
    // Evaluation.
    StackRule{"transformers/trainer.py",
              "evaluate|_evaluate|evaluation_loop|predict|prediction_loop|prediction_step",
              "evaluation", kWhole, "transformers"},
    StackRule{"transformers/trainer_seq2seq.py", "evaluate|predict|prediction_step", "evaluation",
              kWhole, "transformers"},
    StackRule{"lightning/pytorch/loops/evaluation_loop.py", "run", "evaluation", kWhole,
              "lightning"},
    StackRule{"pytorch_lightning/loops/evaluation_loop.py", "run", "evaluation", kWhole,
              "lightning"},
    StackRule{"lm_eval/", "*", "evaluation", kWhole, "lm-evaluation-harness"},
    StackRule{"evaluate/module.py", "compute", "evaluation", kWhole, "evaluate"},
    // Waiting for other ranks in Python. What DDP does under backward is C++ and has no frame.
    StackRule{"torch/distributed/distributed_c10d.py",
              "init_process_group|_new_process_group_helper", "rendezvous", kWhole, "torch"},
    StackRule{"torch/distributed/rendezvous.py", "*", "rendezvous", kWhole, "torch"},
    StackRule{
        "torch/distributed/distributed_c10d.py",
        "all_reduce|all_gather|all_gather_into_tensor|_all_gather_base|all_gather_object|"
        "all_gather_coalesced|reduce_scatter|reduce_scatter_tensor|_reduce_scatter_base|broadcast|"
        "broadcast_object_list|barrier|monitored_barrier|all_to_all|all_to_all_single|gather|"
        "gather_object|scatter|scatter_object_list|reduce|send|recv|batch_isend_irecv",
        "sync", kWhole, "torch"},
    StackRule{"torch/distributed/_functional_collectives.py",
              "wait_tensor|all_reduce|all_gather_tensor", "sync", kWhole, "torch"},
    StackRule{"torch/distributed/fsdp/_runtime_utils.py",
              "_unshard|_wait_for_computation_stream|_reduce_grad|_post_backward_final_callback",
              "sync", kItself, "torch"},
    StackRule{"torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py", "*", "sync", kItself,
              "torch"},
    StackRule{"torch/distributed/fsdp/_fully_shard/_fsdp_param_group.py",
              "unshard|wait_for_unshard|finalize_backward", "sync", kItself, "torch"},
    StackRule{"torch/nn/parallel/distributed.py", "_sync_buffers|_sync_module_states|__init__",
              "sync", kItself, "torch"},
    StackRule{"accelerate/utils/operations.py",
              "gather|_gpu_gather|reduce|broadcast|gather_object|broadcast_object_list", "sync",
              kItself, "accelerate"},
    StackRule{"accelerate/state.py", "wait_for_everyone", "sync", kWhole, "accelerate"},
    // A queue in the training loop is what feeds it.
    StackRule{"queue.py", "get", "input", kItself, "CPython"},
    StackRule{"multiprocessing/queues.py", "get", "input", kItself, "CPython"},
    StackRule{"multiprocessing/pool.py", "next|get", "input", kItself, "CPython"},
    // The steps themselves.
    StackRule{"torch/autograd/graph.py", "_engine_run_backward", "backward", kItself, "torch"},
    StackRule{"torch/autograd/__init__.py", "backward|grad", "backward", kItself, "torch"},
    StackRule{"torch/_tensor.py", "backward", "backward", kItself, "torch"},
    StackRule{"accelerate/accelerator.py", "backward", "backward", kItself, "accelerate"},
    StackRule{"deepspeed/runtime/engine.py", "backward", "backward", kItself, "deepspeed"},
    StackRule{"torch/utils/checkpoint.py", "backward", "backward", kItself, "torch"},
    StackRule{"torch/optim/", "step|wrapper|_use_grad|zero_grad|get_lr", "optimizer", kItself,
              "torch"},
    StackRule{"torch/nn/utils/clip_grad.py", "*", "optimizer", kItself, "torch"},
    StackRule{"accelerate/optimizer.py", "step|zero_grad", "optimizer", kItself, "accelerate"},
    StackRule{"accelerate/scheduler.py", "step", "optimizer", kItself, "accelerate"},
    StackRule{"bitsandbytes/optim/", "step|update_step", "optimizer", kItself, "bitsandbytes"},
    StackRule{"deepspeed/runtime/engine.py", "step|_take_model_step", "optimizer", kItself,
              "deepspeed"},
    StackRule{"transformers/trainer.py", "_clip_grad_norm", "optimizer", kItself, "transformers"},
    StackRule{"torch/amp/grad_scaler.py", "*", "optimizer", kItself, "torch"},
    StackRule{"torch/_dynamo/convert_frame.py", "*", "compile", kWhole, "torch"},
    StackRule{"torch/nn/modules/module.py", "_call_impl|_wrapped_call_impl", "forward", kItself,
              "torch"},
    StackRule{"transformers/trainer.py", "compute_loss", "forward", kItself, "transformers"},
    StackRule{"torch/cuda/__init__.py", "synchronize", "device", kItself, "torch"},
    StackRule{"torch/cuda/streams.py", "synchronize|wait_stream|wait_event", "device", kItself,
              "torch"},
    StackRule{"torch/nn/modules/module.py", "to|cuda|_apply", "load", kItself, "torch"},
    // Before the first step.
    StackRule{"transformers/modeling_utils.py",
              "from_pretrained|from_config|_load_pretrained_model", "load", kWhole, "transformers"},
    StackRule{"transformers/models/auto/auto_factory.py", "from_pretrained|from_config", "load",
              kItself, "transformers"},
    StackRule{"transformers/tokenization_utils_base.py", "from_pretrained", "load", kWhole,
              "transformers"},
    StackRule{"transformers/tokenization_utils_base.py",
              "__call__|_call_one|batch_encode_plus|encode_plus", "prepare", kItself,
              "transformers"},
    StackRule{"transformers/trainer.py", "_load_from_checkpoint|_load_best_model|_load_rng_state",
              "load", kWhole, "transformers"},
    StackRule{"peft/mapping_func.py", "get_peft_model", "load", kItself, "peft"},
    StackRule{"peft/peft_model.py", "from_pretrained", "load", kWhole, "peft"},
    StackRule{"torch/serialization.py", "load|_load", "load", kItself, "torch"},
    StackRule{"safetensors/torch.py", "load_file|load_model", "load", kItself, "safetensors"},
    StackRule{"<frozen importlib._bootstrap>", "_find_and_load|_load_unlocked", "import", kItself,
              "CPython"},
    StackRule{"<frozen importlib._bootstrap_external>", "*", "import", kItself, "CPython"},
    StackRule{"importlib/__init__.py", "import_module", "import", kItself, "CPython"},
    // Processes that only wait for ranks.
    StackRule{"torch/distributed/elastic/agent/server/api.py", "run|_invoke_run", "launch", kWhole,
              "torch"},
    StackRule{"torch/multiprocessing/spawn.py", "join", "launch", kWhole, "torch"},
    StackRule{"accelerate/commands/launch.py",
              "simple_launcher|multi_gpu_launcher|deepspeed_launcher|multi_cpu_launcher", "launch",
              kItself, "accelerate"},
    // Telling people.
    StackRule{"transformers/trainer.py", "log|store_flos", "log", kItself, "transformers"},
    StackRule{"wandb/", "*", "log", kItself, "wandb"},
    StackRule{"mlflow/", "*", "log", kItself, "mlflow"},
    StackRule{"torch/utils/tensorboard/", "*", "log", kItself, "torch"},
    StackRule{"tqdm/", "*", "log", kItself, "tqdm"},
    StackRule{"torch/profiler/profiler.py", "*", "profiler", kItself, "torch"},
    // The user's own code, by the names that people give to it.
    StackRule{"user",
              "evaluate|evaluate_model|evaluation|evaluation_loop|eval_loop|eval_model|eval_epoch|"
              "eval_step|run_eval|run_evaluation|do_eval|validate|validate_model|validation|"
              "validation_loop|validate_epoch|run_validation|do_validation|estimate_loss|test_loop|"
              "test_model|compute_metrics|evaluate_loss|evaluate_perplexity|eval_loss|valid_loop",
              "evaluation", kWhole, "usual names"},
    StackRule{
        "user",
        "save_checkpoint|save_model|save_ckpt|save_state|save_weights|save_adapter|save_snapshot|"
        "write_checkpoint|checkpoint|_save_checkpoint|save_pretrained|save|dump_checkpoint|"
        "save_training_state|do_save|store_checkpoint",
        "checkpoint", kWhole, "usual names"},
    StackRule{
        "user",
        "__getitem__|__getitems__|collate|collate_fn|collator|data_collator|get_batch|next_batch|"
        "load_batch|make_batch|read_batch|fetch_batch|sample_batch|build_batch|get_batches|batches|"
        "iter_batches|batch_iterator|batch_generator|data_iterator|data_loader|dataloader|"
        "data_generator|load_sample|load_samples|load_example|read_sample|read_samples|preprocess|"
        "preprocess_batch|prepare_batch|prepare_sample|augment|tokenize_batch|encode_batch|"
        "load_shard|read_shard|read_rows|load_rows|stream_batches|batch_stream|prefetch|next_"
        "example",
        "input", kWhole, "usual names"},
    StackRule{"user",
              "load_checkpoint|resume|load_state|load_model|build_model|create_model|make_model",
              "load", kItself, "usual names"},
    StackRule{"user", "tokenize|tokenize_dataset|prepare_data|build_dataset|load_data|make_dataset",
              "prepare", kItself, "usual names"},
    StackRule{"user", "log_metrics|write_metrics|report_metrics|print_metrics", "log", kItself,
              "usual names"},
    StackRule{"user", "forward|compute_loss|loss_fn", "forward", kItself, "usual names"},
    StackRule{"user", "all_reduce_gradients|average_gradients|sync_gradients|allreduce_grads",
              "sync", kWhole, "usual names"},
};

/// Nobody's library: not the standard library, not an installed package.
bool is_user_code(std::string_view file) {
  const auto has = [&](std::string_view part) { return file.find(part) != std::string_view::npos; };
  if (file.empty() || file.front() == '<') return false;
  return !has("/site-packages/") && !has("/dist-packages/") && !has("/lib/python3") &&
         !has("/lib64/python3");
}

bool file_matches(std::string_view pattern, std::string_view file) {
  if (pattern == "*") return true;
  if (pattern == "user") return is_user_code(file);
  if (pattern.ends_with('/')) {
    const auto at = file.find(pattern);
    return at == 0 || (at != std::string_view::npos && file[at - 1] == '/');
  }
  if (!file.ends_with(pattern)) return false;
  return file.size() == pattern.size() || file[file.size() - pattern.size() - 1] == '/';
}

/// "Trainer.train.<locals>.wrapper" → "wrapper".
std::string_view bare_name(std::string_view qualified) {
  const auto dot = qualified.rfind('.');
  return dot == std::string_view::npos ? qualified : qualified.substr(dot + 1);
}

bool function_matches(std::string_view pattern, std::string_view name) {
  if (pattern == "*") return name != "<module>";  // being imported is not being at work
  while (!pattern.empty()) {
    const auto bar = pattern.find('|');
    if (pattern.substr(0, bar) == name) return true;
    if (bar == std::string_view::npos) return false;
    pattern.remove_prefix(bar + 1);
  }
  return false;
}

}  // namespace

std::span<const StackRule> stack_rules() {
  return kRules;
}

std::span<const std::string_view> stack_works() {
  static constexpr std::array<std::string_view, 17> kWorks = {
      "input",    "checkpoint", "evaluation", "sync",   "rendezvous", "forward",
      "backward", "optimizer",  "transfer",   "device", "compile",    "import",
      "load",     "prepare",    "launch",     "log",    "profiler"};
  return kWorks;
}

StackClassifier::StackClassifier(std::vector<StackPattern> patterns)
    : patterns_(std::move(patterns)) {}

StackClassifier::Verdict StackClassifier::verdict_of(const PythonCode& code) const {
  const std::string_view name = bare_name(code.function);
  for (const auto& pattern : patterns_) {
    if (!file_matches(pattern.file, code.file)) continue;
    if (!function_matches(pattern.function, name)) continue;
    return {pattern.work, pattern.whole};
  }
  for (const auto& rule : kRules) {
    if (!function_matches(rule.function, name) || !file_matches(rule.file, code.file)) continue;
    return {rule.work, rule.reach == StackReach::whole};
  }
  return {};
}

namespace {
bool is_wait(std::string_view work) {
  return work == "input" || work == "sync" || work == "rendezvous" || work == "launch";
}
}  // namespace

std::string_view StackClassifier::work_of(std::span<const PythonFrame> innermost_first) {
  std::string_view inner, whole;
  bool trains = false, predicts = false;
  wait_frame_.reset();
  for (std::size_t i = 0; i < innermost_first.size(); ++i) {
    const PythonFrame& frame = innermost_first[i];
    if (frame.code == nullptr) continue;
    const auto [place, fresh] = verdicts_.try_emplace(frame.code);
    if (fresh) place->second = verdict_of(*frame.code);
    const Verdict& verdict = place->second;
    if (verdict.work.empty()) continue;
    const bool makes_gradients = verdict.work == "backward" || verdict.work == "optimizer";
    trains = trains || makes_gradients;
    predicts = predicts || verdict.work == "forward";
    if (verdict.whole && !makes_gradients) {
      if (predicts && verdict.work == "checkpoint") continue;  // activations, not files
      whole = verdict.work;                                    // the outermost one in the end
      if (is_wait(verdict.work)) wait_frame_ = i;
    } else if (inner.empty()) {
      inner = verdict.work;
    }
  }
  // Gradients are never made inside of what only reads, saves or evaluates: then the outer name
  // means something else, such as a program called "evaluate" that trains.
  if (!whole.empty() && !trains) return whole;
  if (trains) wait_frame_.reset();
  if (!inner.empty()) return inner;
  return innermost_first.empty() ? kNoPythonWork : kOtherPythonWork;
}

void StackClassifier::forget() {
  verdicts_.clear();
}

}  // namespace rigwise
