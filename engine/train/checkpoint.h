// OUT/checkpoint-N/: what a run needs to go on, and what others can load.
//
//   LoRA, QLoRA   adapter_model.safetensors, adapter_config.json: a PEFT folder
//   full          model.safetensors, config.json and the tokenizer's files: a Hugging Face folder
//   optimizer.safetensors   moment1.NAME, moment2.NAME, and value.NAME (fp32) where the weights are
//                           kept in fewer bits
//   shard-R-of-W.safetensors   instead of the two, where a checkpoint is saved in parts (shards.h);
//                           adapters are whole all the same
//   trainer.json            the step, and the choices that a run may not change on the way
//   manifest.json           every file's size and XXH3 (128 bits), written last
//
// A folder is written as checkpoint-N.partial and renamed when all is on disk: what is called
// checkpoint-N is whole, or was damaged later, which the manifest tells.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "engine/parallel/distributed_model.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// Choice -> value, as text: what defines the work of a run ("global_batch" -> "8").
using WorkDefinition = std::map<std::string, std::string>;

struct CheckpointState {
  std::int64_t step = 0;  // updates done
  WorkDefinition work = {};
};

/// `in_parts`: each rank writes its own shard, and nothing but adapters is gathered.
/// Collective. Errors: io, named with the file (a full disk; nothing called checkpoint-N is left).
Status save_checkpoint(DistributedModel& model, const std::filesystem::path& out,
                       const CheckpointState& state, bool in_parts = false);

/// Where to go on from: "auto" is the newest whole one of `out` (none: nothing), else a folder.
/// Errors: not_found, malformed (a file's size or hash: named).
Result<std::optional<std::filesystem::path>> find_checkpoint(const std::filesystem::path& out,
                                                             const std::string& resume);

/// By its name: checkpoint-N.
bool is_checkpoint(const std::filesystem::path& folder);

/// Compares sizes and hashes with the manifest. Errors: not_found, malformed (the file, named).
Status verify_checkpoint(const std::filesystem::path& folder);

/// What a copy of a model needs beside its weights: config.json, naming the type that they have now
/// (transformers loads them in it), and the tokenizer's files, where they are there. Errors: io.
Status copy_model_files(const std::filesystem::path& from, const std::filesystem::path& to,
                        at::ScalarType dtype);

/// trainer.json. Errors: not_found, malformed.
Result<CheckpointState> read_checkpoint_state(const std::filesystem::path& folder);

/// Puts values and moments into the model, whatever its layout. Errors: as of the files; a name or
/// shape that the model does not have.
Status restore_checkpoint(DistributedModel& model, const std::filesystem::path& folder);

/// Errors: usage, listing each choice that differs and both values.
Status check_same_work(const WorkDefinition& saved, const WorkDefinition& now);

}  // namespace rigwise::engine
