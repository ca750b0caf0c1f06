// Background: what is read once about a run and may take seconds or hang: software, hardware,
// hashes of the files that the command names. A helper process of low priority reads it, writes
// env/ and rig/, and sends the rest back as lines; its memory goes with it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "record/launch.h"
#include "record/secrets.h"
#include "rigwise/record.h"

namespace rigwise {

class Background {
 public:
  /// Forks the helper: before this process makes threads. `close_first`: descriptors that it must
  /// not hold open.
  void start(RunWriter& writer, const Launch& launch, const std::filesystem::path& host_root,
             const std::string& host, const std::string& cwd, const Secrets& secrets,
             const std::vector<int>& close_first);

  /// Takes what has come; never blocks. True: the helper has ended.
  bool take();
  /// Ends a helper that still runs.
  void stop();
  /// The helper was waited for.
  void note_ended() { pid_ = -1; }

  [[nodiscard]] int fd() const { return pipe_.get(); }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] const std::vector<Fact>& facts() const { return facts_; }
  [[nodiscard]] std::optional<int> gpus() const { return gpus_; }
  [[nodiscard]] bool complete() const { return complete_; }

 private:
  void take_line(std::string_view line);

  Fd pipe_;
  pid_t pid_ = -1;
  std::string half_line_;
  std::vector<Fact> facts_;
  std::optional<int> gpus_;
  bool complete_ = false;
};

}  // namespace rigwise
