// Checkpoint files: what names say, and whether what lies on disk is whole. No state, no clock.
//
// Rules of wholeness (any trainer): nothing of zero length among the weights, no staging name left,
// a safetensors header that fits its file, a zip archive (torch.save) with its end record, every
// shard that an index names, and for a Hugging Face checkpoint (training_args.bin inside) its
// trainer_state.json, which is written last.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace rigwise {

/// "checkpoint-200", "step_200", "iter_0000200", "epoch=3-step=20", staging names of these too.
bool is_numbered_checkpoint_name(std::string_view name);
/// "tmp-checkpoint-200", "model.safetensors.tmp", "x.partial", ".x.swp".
bool is_staging_name(std::string_view name);
/// A part of a folder that is one checkpoint ("model-00001-of-00003.safetensors", "optimizer.pt"),
/// as against a file that is a checkpoint by itself ("epoch=3.ckpt").
bool is_part_name(std::string_view name);
/// Written beside weights: config.json, tokenizer files, README.md.
bool is_companion_name(std::string_view name);

/// The checkpoint that `file` (below or at `root`) belongs to: a folder or the file itself. Empty:
/// none by name; a companion's folder counts only if weights come too.
struct Belonging {
  std::filesystem::path checkpoint = {};
  bool folder = false;
  bool weights = false;  // the file is weights or optimizer state
};
std::optional<Belonging> belongs_to(const std::filesystem::path& root,
                                    const std::filesystem::path& file);

struct Inspection {
  std::int64_t bytes = 0, files = 0;
  bool exists = false;
  bool weights = false;              // at least one file is weights
  std::string torn = {};             // why it is not whole, in words; empty = whole
  std::set<std::string> names = {};  // digits as '#': to compare with the one before
  std::optional<double> newest_unix_s = {}, oldest_unix_s = {};  // last write; birth
};

/// Looks at a checkpoint: stat of every file (at most 20,000, at most 4 deep, links not followed),
/// headers of at most 64. Of a folder that is not a numbered one only its own files count, and of
/// these only those changed since `since_unix_s`.
Inspection inspect_checkpoint(const std::filesystem::path& path, double since_unix_s);

}  // namespace rigwise
