// Layout of a run directory, format 1: the only place that names its files (docs/run-directory.md
// describes them).
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/text.h"

namespace rigwise::layout {

inline constexpr std::string_view kRunJson =
    "run.json";  // identity, command, start; closed with the ending
inline constexpr std::string_view kKeeperJson =
    "keeper.json";                                 // the keeper's own word on how the command ended
inline constexpr std::string_view kLock = "lock";  // locked while any process of ours lives
/// Room set aside, so that run.json can be closed on a full disk; gone once the run is finished.
inline constexpr std::string_view kReserve = "reserve";
inline constexpr std::string_view kControl = "control";  // socket of the recorder: pause, resume
inline constexpr std::string_view kAttach = "attach";    // socket of the keeper: the terminal
inline constexpr std::string_view kSteps = "steps.csv";
inline constexpr std::string_view kEvents = "events.csv";
inline constexpr std::string_view kHangs = "hangs.jsonl";      // silences, and where everybody was
inline constexpr std::string_view kEvidence = "evidence.csv";  // figures with no other place
inline constexpr std::string_view kTriageJson =
    "triage.json";  // what a failed run failed of; derived, can always be made again
inline constexpr std::string_view kImportFolder = "import";  // an imported run's files as they were
inline constexpr std::string_view kLogFolder = "log";
inline constexpr std::string_view kWatchFolder = "watch";
inline constexpr std::string_view kEnvFolder = "env";
inline constexpr std::string_view kRigFolder = "rig";
inline constexpr std::string_view kProfileFolder = "profile";
/// In the profile folder: one file a process that used NCCL, "nccl-HOST-PID.bin".
inline constexpr std::string_view kNcclFiles = "nccl-";
inline constexpr std::string_view kNcclSeconds = "profile/nccl.csv";
inline constexpr std::string_view kTraceWindows = "profile/windows.csv";

/// "log/out.log" of stream "out".
inline std::string log_file(std::string_view stream) {
  return "log/" + std::string(stream) + ".log";
}
/// "log/out.idx.csv": rows offset_bytes,t_s of stream "out".
inline std::string log_index(std::string_view stream) {
  return "log/" + std::string(stream) + ".idx.csv";
}
inline constexpr std::string_view kLogIndexHeader = "offset_bytes,t_s\n";
/// "log/out.lost.csv": behind the first offset_bytes bytes of the log, lost_bytes are missing.
inline std::string log_losses(std::string_view stream) {
  return "log/" + std::string(stream) + ".lost.csv";
}
inline constexpr std::string_view kLogLossesHeader = "offset_bytes,lost_bytes,t_s\n";

/// "watch/HOST.gpu.csv"; kind is gpu, host, disk, net, proc or self.
inline std::string watch_file(const std::string& host, std::string_view kind) {
  return "watch/" + host + "." + std::string(kind) + ".csv";
}
/// "profile/HOST.stacks.csv"; kind is stacks, frames or folded.
inline std::string profile_file(const std::string& host, std::string_view kind) {
  return "profile/" + host + "." + std::string(kind) + ".csv";
}
inline std::string environment_file(const std::string& host) {
  return "env/" + host + ".json";
}
inline std::string rig_file(const std::string& host) {
  return "rig/" + host + ".json";
}

/// Letters, digits, '.', '_' and '-'; at most 100, not led by '.' or '-': safe as a folder's name.
inline bool is_run_name(std::string_view name) {
  const auto good = [](char c) {
    return is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= 100 && name.front() != '.' && name.front() != '-' &&
         std::all_of(name.begin(), name.end(), good);
}

}  // namespace rigwise::layout
