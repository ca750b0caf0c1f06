#include "cli/failed_run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <future>
#include <map>

#include "base/files.h"
#include "base/text.h"
#include "rigwise/hang.h"
#include "rigwise/units.h"
#include "run/layout.h"

namespace rigwise::cli {

namespace {

constexpr std::size_t kPiece = 1 << 20;

Status trouble(const std::filesystem::path& path) {
  const auto code = errno == ENOENT ? Errc::not_found : Errc::io;
  return Error{code, clean_text(path.string(), 200) + ": " + errno_text(errno), ""};
}

/// What run.json says of the end, in the words that the table of signatures knows; empty for an end
/// without a fault of its own.
std::string words_of(const Ending& ending) {
  if (ending.signal) {
    const char* name = sigabbrev_np(*ending.signal);
    return "ended by signal SIG" + std::string(name == nullptr ? "?" : name);
  }
  if (ending.exit_status && *ending.exit_status != 0)
    return "exit status " + std::to_string(*ending.exit_status);
  return {};
}

/// The file system with the least room at the end, if one was full.
std::string full_disk(const Run& run) {
  std::map<std::string, DiskSample> last;
  const auto visited =
      visit_disk(run, run.info.host, {"t_s", "device", "fs_total_bytes", "fs_free_bytes"},
                 [&](const DiskSample& row, std::int64_t) {
                   if (row.device.starts_with('/')) last[row.device] = row;
                   return true;
                 });
  if (!visited) return {};
  constexpr double kFull_frac = 0.005;
  for (const auto& [mount, row] : last) {
    if (!row.fs_free_bytes || !row.fs_total_bytes) continue;
    if (*row.fs_free_bytes > kFull_frac * *row.fs_total_bytes) continue;
    return fmt::format("{} had {} free at {:.0f} s ({})", clean_text(mount, 80),
                       format_bytes(*row.fs_free_bytes), row.t_s,
                       layout::watch_file(run.info.host, "disk"));
  }
  return {};
}

/// How little memory was left in the last samples.
std::string little_memory(const Run& run) {
  std::optional<HostSample> least;
  constexpr double kLast_s = 10;
  const auto visited =
      visit_host(run, run.info.host, {"t_s", "mem_available_bytes", "tree_rss_bytes"},
                 [&](const HostSample& row, std::int64_t) {
                   if (row.t_s < run.wall_s - kLast_s || !row.mem_available_bytes) return true;
                   if (!least || *row.mem_available_bytes < *least->mem_available_bytes)
                     least = row;
                   return true;
                 });
  if (!visited || !least) return {};
  std::string out = fmt::format("{} of memory were left at {:.0f} s",
                                format_bytes(*least->mem_available_bytes), least->t_s);
  if (least->tree_rss_bytes)
    out += fmt::format(", the run held {}", format_bytes(*least->tree_rss_bytes));
  return out + " (" + layout::watch_file(run.info.host, "host") + ")";
}

void know_ranks(Triage& triage, const Run& run) {
  (void)visit_proc(run, run.info.host, {"t_s", "pid", "role", "rank"},
                   [&](const ProcSample& row, std::int64_t) {
                     if (row.role == "rank" && row.rank) triage.know_rank(row.pid, *row.rank);
                     return true;
                   });
}

/// Of which layer a hang's cause is; what only shows that some rank does not come is a timeout's.
FailureLayer layer_of(HangCause cause) {
  switch (cause) {
    case HangCause::input:
      return FailureLayer::data_pipeline;
    case HangCause::checkpoint:
      return FailureLayer::checkpoint;
    case HangCause::disk:
      return FailureLayer::storage_io_permission;
    case HangCause::terminal:
    case HangCause::lock:
    case HangCause::elsewhere:
    case HangCause::mismatch:
      return FailureLayer::user_code;
    case HangCause::unknown:
    case HangCause::stopped:
    case HangCause::ended:
    case HangCause::collective:
      break;
  }
  return FailureLayer::collective_timeout;
}

/// A run that ended while it hung: what the log says then (a timeout, the user's Ctrl-C, a kill) is
/// what came of it, and the look at its processes tells more.
void tell_of_hang(const Run& run, Failure& failure) {
  const auto hangs = read_hangs(run);
  if (!hangs || hangs->rows.empty() || ended_well(run.info)) return;
  const Hang& hang = hangs->rows.back();
  if (hang.state == HangState::over) return;
  const bool by_ending =
      failure.first_meaningful && failure.first_meaningful->file == std::string(layout::kRunJson);
  const bool gives_way = failure.layer == FailureLayer::none ||
                         failure.layer == FailureLayer::collective_timeout || by_ending;
  if (!gives_way || hang.look.verdict.where.empty()) return;
  const HangVerdict& verdict = hang.look.verdict;
  if (failure.layer != FailureLayer::none) {
    failure.runner_up = failure.layer;
    failure.runner_up_line = failure.first_meaningful;
  }
  failure.layer = layer_of(verdict.cause);
  failure.first_meaningful =
      FailureLine{std::string(layout::kHangs), hang.line, clean_text(verdict.claim(), 600)};
  failure.rank.reset();
  if (verdict.ranks.size() == 1) failure.rank = verdict.ranks.front();
  failure.host = hang.host;
  failure.signature = "hang-" + std::string(to_string(verdict.cause));
  const bool shown = verdict.cause != HangCause::unknown && verdict.cause != HangCause::collective;
  failure.confidence = !shown ? 0.5 : verdict.at_work ? 0.6 : 0.9;
  failure.why = fmt::format(
      "the run had made no progress for {} when it ended, and this is where "
      "its processes were at {}",
      format_duration(seconds_of(hang, run)), format_duration(hang.look.t_s));
  if (!verdict.advice.empty()) failure.advice = verdict.advice;
  failure.confirms = "rigwise stacks " + run.info.name + " the next time, while it stands still";
  failure.failed = true;
}

/// Some bytes of a file, and where signatures may stand in them.
struct Piece {
  std::string room = std::string(kPiece, '\0');
  ssize_t got = 0;  // 0: the end; negative: it cannot be read
  int error = 0;    // then: errno, which each thread has of its own
  Signatures::Hits hits = {};

  [[nodiscard]] std::string_view bytes() const {
    return std::string_view(room).substr(0, static_cast<std::size_t>(std::max<ssize_t>(0, got)));
  }
  void read(const Fd& file, std::uint64_t most = kPiece) {
    do {
      got = ::read(file.get(), room.data(), std::min<std::uint64_t>(most, room.size()));
    } while (got < 0 && errno == EINTR);
    error = errno;
  }
};

}  // namespace

Status push_file(Triage& triage, const std::filesystem::path& path, const LogName& name,
                 std::uint64_t most_bytes) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (!file.valid() || ::fstat(file.get(), &status) != 0) return trouble(path);
  std::uint64_t skip = 0;
  if (S_ISREG(status.st_mode) && static_cast<std::uint64_t>(status.st_size) > most_bytes)
    skip = static_cast<std::uint64_t>(status.st_size) - most_bytes;
  triage.begin(name);
  // The next piece is read and scanned while this one is understood.
  std::array<Piece, 2> pieces;
  while (skip > 0) {
    pieces[0].read(file, skip);
    if (pieces[0].got < 0) return trouble(path);
    if (pieces[0].got == 0) return Ok{};
    triage.skip(pieces[0].bytes());
    skip -= static_cast<std::uint64_t>(pieces[0].got);
  }
  const auto fill = [&](Piece& piece) {
    piece.read(file);
    piece.hits = triage.scan(piece.bytes());
  };
  fill(pieces[0]);
  for (std::size_t i = 0;; i = 1 - i) {
    if (pieces[i].got < 0) {
      errno = pieces[i].error;
      return trouble(path);
    }
    if (pieces[i].got == 0) return Ok{};
    auto ahead =
        std::async(std::launch::async | std::launch::deferred, [&] { fill(pieces[1 - i]); });
    triage.push(pieces[i].bytes(), pieces[i].hits);
    ahead.get();
  }
}

Result<Failure> failure_of_run(const Run& run, const Signatures& signatures,
                               std::uint64_t most_bytes) {
  std::vector<std::filesystem::path> files;
  std::error_code failed;
  const auto folder = run.dir / layout::kLogFolder;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    if (entry.path().extension() == ".log" && entry.is_regular_file(failed))
      files.push_back(entry.path());
  }
  if (files.empty()) return Error{Errc::unavailable, "run " + run.info.id + " has no log", ""};
  std::sort(files.begin(), files.end());
  Triage triage(signatures);
  know_ranks(triage, run);
  for (const auto& file : files) {
    const auto name = std::filesystem::path(layout::kLogFolder) / file.filename();
    RW_CHECK(push_file(triage, file, {name.string(), {}, run.info.host}, most_bytes));
  }
  if (run.info.ending) {
    triage.begin({std::string(layout::kRunJson), {}, run.info.host});
    triage.push(words_of(*run.info.ending));
  }
  Failure failure = triage.finish();
  const std::string seen = failure.layer == FailureLayer::storage_space ? full_disk(run)
                           : failure.layer == FailureLayer::host_oom    ? little_memory(run)
                                                                        : std::string();
  if (!seen.empty()) failure.confirms = seen;
  tell_of_hang(run, failure);
  if (failure.failed || failure.layer != FailureLayer::none)
    failure.last_good = last_good(run, list_runs(run.dir.parent_path()), failure.layer);
  return failure;
}

}  // namespace rigwise::cli
