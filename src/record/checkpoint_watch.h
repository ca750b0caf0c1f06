// Checkpoint watch: which checkpoints the command wrote, when, how big, whole or torn — seen from
// the file system by inotify, without asking the command.
//
// Directories come from argv (--output_dir X …), from paths that log lines mention, and from files
// that the process tree holds open for writing. A checkpoint is a directory (checkpoint-200,
// step_200) or a single file (epoch=3.ckpt); staging names (tmp-checkpoint-200, x.tmp) count as the
// name that they are renamed to. Only names, sizes, mtimes and safetensors headers are read;
// nothing is written and no symbolic link is followed below a watched directory.
//
// Threads: none; one owner. Never blocks on the command; file system calls on the watched
// directories can hang with a dead network mount, so call it where that does no harm.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/logs.h"
#include "rigwise/run.h"

namespace rigwise {

struct CheckpointWatchOptions {
  std::vector<std::string> argv = {};  // of the command, unmasked
  std::string cwd = {};                // of the command
  double unix_at_zero_s = 0;           // CLOCK_REALTIME at t_s = 0: turns mtimes into instants
  std::filesystem::path proc_root = "/proc";
  std::size_t max_watches = 1024;  // directories; further ones are counted in refused_watches
  double settle_s = 2;  // quiet time after the last close before a checkpoint counts as finished
};

/// What was lost on the way; recorder puts non-zero ones into RunInfo::missing.
struct CheckpointWatchCounts {
  std::int64_t overflows = 0;        // inotify queue overflows: events lost, directories rescanned
  std::int64_t refused_watches = 0;  // directories not watched: limit or refused by the kernel
  std::int64_t read_errors = 0;      // directories or files that could not be looked at
  std::string unavailable = {};      // why there is no inotify at all, in words; empty = there is
};

class CheckpointWatch {
 public:
  explicit CheckpointWatch(const CheckpointWatchOptions& options);
  CheckpointWatch(CheckpointWatch&&) noexcept;
  CheckpointWatch& operator=(CheckpointWatch&&) noexcept;
  ~CheckpointWatch();

  /// Readable when something happened: poll(2) on it and call poll() at once, since instants are
  /// taken when events are read. -1 where inotify is unavailable (poll() then still works, on
  /// mtimes).
  [[nodiscard]] int fd() const;

  /// Reads whatever waits, never blocks. Returns checkpoints that became finished:
  /// Event{checkpoint, t_s = first write, t_end_s = last close or rename, size_bytes, files, state
  /// complete|torn, how "filesystem"}. Call at every tick as well, so that quiet time can pass.
  std::vector<Event> poll(double t_s);

  /// A directory that may receive checkpoints; it need not exist yet. Relative ones are taken from
  /// cwd.
  void watch(const std::filesystem::path& directory, double t_s);

  /// Checkpoint paths that log lines mention (events of kind checkpoint in the batch).
  void note_log(const LogBatch& batch, double t_s);

  /// Slow tier (every 10 s or so): looks at files that these processes hold open for writing, and
  /// watches directories in which one looks like weights or optimizer state.
  void look_at_tree(const std::vector<int>& pids, double t_s);

  /// The end: everything that waits is read and all checkpoints are judged. `command_ended` false
  /// (the recorder stops first) leaves unfinished ones "open"; true makes them "torn".
  std::vector<Event> finish(double t_s, bool command_ended);

  /// Directories watched as outputs (roots, not their subdirectories), absolute.
  [[nodiscard]] std::vector<std::filesystem::path> outputs() const;

  [[nodiscard]] const CheckpointWatchCounts& counts() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Output directories that argv names: --output_dir X, --out=X, save_dir=X, hydra.run.dir=X, -o X …
/// Absolute; in order of appearance; those that exist and those that do not.
std::vector<std::filesystem::path> output_directories_of(const std::vector<std::string>& argv,
                                                         const std::string& cwd);

/// Is this file name weights or optimizer state ("model-00001-of-00003.safetensors",
/// "optimizer.pt")?
bool is_checkpoint_file(std::string_view name);

/// The step that a checkpoint's name states: "checkpoint-200" → 200, "epoch=3-step=200.ckpt" → 200.
std::optional<std::int64_t> step_of_checkpoint_name(std::string_view name);

}  // namespace rigwise
