// Facts: the settings and identities that decide whether two runs are comparable, each with the
// place where it was read. Sources: argv, configuration files named there (JSON, TOML, flat YAML),
// contents of named files and folders (hashes), what the log said, and what Hugging Face trainers
// leave in their output folder. Nothing is executed, imported or unpickled.
//
// Threads: pure functions over the file system. facts_of_named_files reads up to limits.max_bytes,
// so call it in a helper thread; it stops early when *stop becomes true.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

/// Every key a Fact may have. Values are as stated, except: booleans are "true"/"false", numbers
/// have no needless zeros ("2e-4" and "0.0002" read the same), hashes are "sha256:HEX" (whole
/// content), "sha256-list:HEX" (a folder) or "sha256-sample:HEX" (size and 64 blocks of a big
/// file).
inline constexpr std::array<std::string_view, 47> kFactKeys = {
    "model",                   // name or path of the base model, as stated
    "model_config_hash",       // of the model folder's config.json
    "model_hash",              // of the model folder or file
    "parameters",              // total count
    "trainable_parameters",    // count
    "data",                    // training data, as stated
    "data_hash",               //
    "data_rows",               // "Num examples", or a limit such as --max_train_samples
    "tokenizer",               //
    "sequence_length",         // tokens
    "packing",                 // true/false
    "micro_batch",             // samples a rank and forward pass
    "accumulation",            // forward passes a step
    "global_batch",            // samples a step over all ranks
    "max_steps",               //
    "epochs",                  //
    "resume",                  // checkpoint that training went on from
    "optimizer",               //
    "learning_rate",           // peak
    "schedule",                // "linear", "cosine"
    "warmup",                  // "10 steps" or "0.03 of all steps"
    "weight_decay",            //
    "clip",                    // gradient norm limit
    "precision",               // "bf16", "fp16", "fp32"
    "quantisation",            // "4bit", "8bit"
    "lora_rank",               //
    "lora_alpha",              //
    "lora_dropout",            //
    "lora_targets",            // sorted, comma separated
    "gradient_checkpointing",  // true/false
    "attention",               // "sdpa", "flash_attention_2"
    "compile",                 // true/false
    "seed",                    //
    "checkpoint_interval",     // "100 steps", "1 epoch", "none"
    "checkpoint_dir",          // as stated
    "evaluation_interval",     // as checkpoint_interval
    "evaluation_data",         // as stated
    "evaluation_data_hash",    //
    "evaluation_rows",         //
    "logging_interval",        // steps
    "dataloader_workers",      // a rank
    "cpu_threads",             // a rank, as asked for in argv
    "parallelism",             // "deepspeed", "fsdp", "ddp": as stated
    "script",                  // as stated
    "script_hash",             //
    "launcher",                // "torchrun", "accelerate", "deepspeed", "mpirun", "srun", "python"
    "tokens_seen",             // at the end, as the trainer stated
};

/// Settings that argv and the configuration files named in it state. Fast (files up to 1 MiB each,
/// at most 8): may be called before the command starts.
std::vector<Fact> facts_of_argv(const std::vector<std::string>& argv, const std::string& cwd);

/// Settings by name as a tracker or a configuration file holds them ("learning_rate", "5e-5"); the
/// source is "SOURCE NAME". Negative numbers say "not set"; so do lengths of a model's own
/// generation settings (max_length beside min_length).
std::vector<Fact> facts_of_settings(
    const std::vector<std::pair<std::string, std::string>>& settings, const std::string& source);

struct HashLimits {
  std::uint64_t max_whole_file_bytes = std::uint64_t{64} << 20;  // larger: size and 64 blocks
  std::uint64_t max_bytes = std::uint64_t{1} << 30;              // all files together
  std::size_t max_folder_files = 5000;
  std::chrono::milliseconds limit{30000};
};

/// Hashes of the script, model, data and evaluation files or folders that argv names; facts of the
/// model folder's config.json. May take seconds: see above.
std::vector<Fact> facts_of_named_files(const std::vector<std::string>& argv, const std::string& cwd,
                                       const HashLimits& limits = {},
                                       const std::atomic<bool>* stop = nullptr);

/// What trainers left in their output folders: newest checkpoint-*/trainer_state.json,
/// adapter_config.json. Files last written before `since_unix_s` (the run's start) are of another
/// run. Call after the command ended.
std::vector<Fact> facts_of_outputs(const std::vector<std::filesystem::path>& directories,
                                   double since_unix_s = 0);

/// global_batch from a summary record that states samples/s and steps/s: their ratio, when it is a
/// whole number as far as the printed digits tell; empty otherwise.
std::optional<Fact> global_batch_of_summary(const StepRecord& summary);

/// One fact a key. Who wins: log, then outputs, then argv, then configuration files (sources say
/// which they are); a loser that disagrees is named in the winner's source. Where nobody states
/// global_batch and micro_batch, accumulation (default 1) and ranks are known, it is their product.
std::vector<Fact> merge_facts(const std::vector<std::vector<Fact>>& sources,
                              std::optional<int> ranks_trained = std::nullopt);

}  // namespace rigwise
