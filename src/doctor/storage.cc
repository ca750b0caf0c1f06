// Storage: a file of its own is written, synced and read back where the run will write, and the
// free space is held against what earlier runs wrote.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/files.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "doctor/probes.h"
#include "host/proc_text.h"

namespace rigwise::doctor {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kBlock = std::size_t{1} << 20;
constexpr double kQuickBytes = 64.0 * (1 << 20), kWholeBytes = 1024.0 * (1 << 20);
constexpr std::size_t kMostRuns = 20, kMostDirs = 16;

/// Bytes that neither compress nor repeat, and that tell their place: a SplitMix64 stream.
void fill(std::vector<char>& block, std::uint64_t number) {
  std::uint64_t state = number * 0x9E3779B97F4A7C15ULL;
  for (std::size_t at = 0; at + 8 <= block.size(); at += 8) {
    std::uint64_t z = (state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    std::memcpy(block.data() + at, &z, 8);
  }
}

void describe(const fs::path& folder, StorageTry& into) {
  struct statvfs space = {};
  if (::statvfs(folder.c_str(), &space) == 0) {
    const auto unit = static_cast<double>(space.f_frsize);
    into.free_bytes = unit * static_cast<double>(space.f_bavail);
    into.total_bytes = unit * static_cast<double>(space.f_blocks);
    if (space.f_files > 0) {
      into.free_files = static_cast<double>(space.f_favail);
      into.total_files = static_cast<double>(space.f_files);
    }
  }
  const auto text = read_file("/proc/self/mountinfo", 4 << 20);
  std::error_code error;
  const std::string whole = fs::weakly_canonical(folder, error).string();
  const auto mounts = text ? parse_mountinfo(*text) : std::vector<MountEntry>();
  if (const MountEntry* entry = mount_of(mounts, whole)) {
    into.mount = clean_text(entry->path, 1024);
    into.fs_type = clean_text(entry->fs_type, 64);
    into.network = is_network_fs(entry->fs_type);
    into.in_memory = entry->fs_type == "tmpfs" || entry->fs_type == "ramfs";
  }
}

/// The folder itself, or the nearest one above it that is there: a run makes its own.
fs::path existing(fs::path folder) {
  std::error_code error;
  folder = fs::absolute(folder, error);
  while (!fs::is_directory(folder, error) && folder.has_relative_path())
    folder = folder.parent_path();
  return folder;
}

std::string failed(const char* what) {
  return std::string(what) + ": " + errno_text(errno);
}

/// What went wrong; empty where the whole file could be written.
std::string write_test(int fd, std::size_t blocks, StorageTry& into) {
  std::vector<char> block(kBlock);
  double spent_s = 0;  // making the bytes is not the drive's time
  for (std::size_t i = 0; i < blocks; ++i) {
    fill(block, i);
    const double start = monotonic_s();
    if (write_all(fd, {block.data(), block.size()}) != block.size()) return failed("write");
    spent_s += monotonic_s() - start;
  }
  const double start = monotonic_s();
  if (::fsync(fd) != 0) return failed("fsync");
  spent_s += monotonic_s() - start;
  into.test_bytes = static_cast<double>(blocks * kBlock);
  if (spent_s > 0) into.write_bytes_per_s = *into.test_bytes / spent_s;
  return {};
}

std::string read_test(int fd, std::size_t blocks, StorageTry& into) {
  // what is still in memory says nothing of the drive; a file system may ignore the wish
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  std::vector<char> wanted(kBlock), block(kBlock);
  double spent_s = 0;
  for (std::size_t i = 0; i < blocks && !into.wrong; ++i) {
    std::size_t have = 0;
    const double start = monotonic_s();
    while (have < kBlock) {
      const ssize_t count =
          ::pread(fd, block.data() + have, kBlock - have, static_cast<off_t>(i * kBlock + have));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return failed("read");
      if (count == 0) break;
      have += static_cast<std::size_t>(count);
    }
    spent_s += monotonic_s() - start;
    fill(wanted, i);
    into.wrong = have < kBlock || block != wanted;
  }
  if (spent_s > 0) into.read_bytes_per_s = static_cast<double>(blocks * kBlock) / spent_s;
  return {};
}

/// What the newest recorded run with checkpoints wrote of them.
void expect_bytes(const DoctorOptions& options, StorageFacts& into) {
  if (options.need_bytes) {
    into.need_bytes = options.need_bytes;
    into.need_from = "--need";
    return;
  }
  auto runs = list_runs(options.runs);
  std::reverse(runs.begin(), runs.end());
  if (runs.size() > kMostRuns) runs.resize(kMostRuns);
  for (const Run& run : runs) {
    const auto events = read_events(run);
    if (!events) continue;
    double bytes = 0;
    std::int64_t count = 0;
    for (const Event& event : events->rows) {
      if (event.kind != EventKind::checkpoint || !event.size_bytes || *event.size_bytes <= 0)
        continue;
      bytes += static_cast<double>(*event.size_bytes);
      ++count;
    }
    if (count == 0) continue;
    into.need_bytes = bytes;
    into.need_from = counted(count, "checkpoint", "checkpoints") + " of run " + run.info.name;
    return;
  }
}

}  // namespace

StorageTry try_storage(const fs::path& folder, double most_bytes) {
  StorageTry found;
  found.path = clean_text(folder.string(), 1024);
  const fs::path place = existing(folder);
  describe(place, found);
  const double room = found.free_bytes ? *found.free_bytes / 2 : most_bytes;
  const auto blocks = static_cast<std::size_t>(std::min(most_bytes, room) / kBlock);
  std::string name = (place / ".rigwise-doctor-XXXXXX").string();
  const Fd fd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd.valid()) {
    found.error = failed("cannot make a file");
    return found;
  }
  ::unlink(name.c_str());  // nothing stays behind, however this process ends
  if (blocks == 0) return found;
  found.error = write_test(fd.get(), blocks, found);
  if (found.error.empty()) found.error = read_test(fd.get(), blocks, found);
  return found;
}

StorageFacts probe_storage(const DoctorOptions& options) {
  StorageFacts facts;
  expect_bytes(options, facts);
  std::vector<fs::path> dirs = options.dirs;
  if (dirs.empty()) {
    dirs = {options.cwd.empty() ? fs::path(".") : options.cwd};
    if (!options.runs.empty()) dirs.push_back(options.runs);
  }
  if (dirs.size() > kMostDirs) dirs.resize(kMostDirs);
  const bool whole = options.level >= 3;
  const auto limit = std::chrono::seconds(whole ? 180 : 20);
  std::vector<std::string> mounts;
  for (const auto& dir : dirs) {
    const auto answer = run_in_child(
        [&] { return to_json(try_storage(dir, whole ? kWholeBytes : kQuickBytes)); }, limit);
    StorageTry one;
    if (!answer || !from_json(*answer, one)) {
      one.path = clean_text(dir.string(), 1024);
      one.hung = true;
      one.error = answer ? "no sense in the answer" : answer.error().message;
    }
    // two folders of one file system share drive and space
    const bool same = !one.mount.empty() && one.error.empty() &&
                      std::find(mounts.begin(), mounts.end(), one.mount) != mounts.end();
    if (same && options.dirs.empty()) continue;
    mounts.push_back(one.mount);
    facts.dirs.push_back(std::move(one));
  }
  return facts;
}

}  // namespace rigwise::doctor
