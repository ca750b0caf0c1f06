// Storage: a file of its own is written, synced and read back where the run will write, and the
// free space is held against what earlier runs wrote.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

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
constexpr double kMiB = 1 << 20;
constexpr std::size_t kMostRuns = 20, kMostDirs = 16;
constexpr std::chrono::seconds kLookBackLimit{10};

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

/// What went wrong; empty where `most` blocks, or what fits into the time, were written and synced.
/// Synced piece by piece, pieces that grow while they take no time: a slow drive is told by its
/// rate, not by a sync at the end that nobody can wait for.
std::string write_test(int fd, std::size_t most, double until_s, StorageTry& into) {
  constexpr double kQuick_s = 0.25;
  constexpr std::size_t kMostBlocks = 32;  // a drive whose cache is full ends these in time too
  std::vector<char> block(kBlock);
  std::size_t done = 0, piece = 1, rated = 0;
  double rated_blocks = 0, rated_s = 0;  // of the largest pieces: small ones tell of syncs
  while (done < most && monotonic_s() < until_s) {
    const std::size_t size = std::min(most - done, piece), end = done + size;
    double piece_s = 0;  // making the bytes is not the drive's time
    for (; done < end; ++done) {
      fill(block, done);
      const double start = monotonic_s();
      if (write_all(fd, {block.data(), block.size()}) != block.size()) return failed("write");
      piece_s += monotonic_s() - start;
    }
    const double start = monotonic_s();
    if (::fsync(fd) != 0) return failed("fsync");
    piece_s += monotonic_s() - start;
    if (size > rated) rated = size, rated_blocks = rated_s = 0;
    if (size == rated) rated_blocks += static_cast<double>(size), rated_s += piece_s;
    if (piece_s < kQuick_s) piece = std::min(2 * piece, kMostBlocks);
  }
  into.short_test = done < most;
  into.test_bytes = static_cast<double>(done * kBlock);
  if (rated_s > 0) into.write_bytes_per_s = rated_blocks * kBlock / rated_s;
  return {};
}

std::string read_test(int fd, double until_s, StorageTry& into) {
  // what is still in memory says nothing of the drive; a file system may ignore the wish
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  std::vector<char> wanted(kBlock), block(kBlock);
  const auto blocks = static_cast<std::size_t>(*into.test_bytes) / kBlock;
  double spent_s = 0;
  std::size_t done = 0;
  for (std::size_t i = 0; i < blocks && !into.wrong && monotonic_s() < until_s; ++i, ++done) {
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
  if (spent_s > 0) into.read_bytes_per_s = static_cast<double>(done * kBlock) / spent_s;
  return {};
}

/// A file without a name, which is gone whatever happens; where the file system has none, one that
/// loses its name at once.
int file_without_name(const fs::path& place) {
  int fd = ::open(place.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
  std::string name = (place / ".rigwise-doctor-XXXXXX").string();
  fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd >= 0) ::unlink(name.c_str());
  return fd;
}

/// What a run wrote of checkpoints. Most that lay there at once: all of them where all are still
/// there; else, since some were removed on the way (save_total_limit) or since, what is left and
/// the next one, which is written before one goes.
std::optional<EarlierRun> earlier_of(const Run& run) {
  const auto events = read_events(run);
  if (!events) return std::nullopt;
  std::map<fs::path, double> sizes;  // one that is written again lies there once
  EarlierRun out;
  fs::path last;
  for (const Event& event : events->rows) {
    if (event.kind != EventKind::checkpoint || event.size_bytes.value_or(0) <= 0) continue;
    last = (fs::path(run.info.cwd) / event.name).lexically_normal();
    out.last_bytes = static_cast<double>(*event.size_bytes);
    sizes[last] = std::max(sizes[last], out.last_bytes);
  }
  if (sizes.empty()) return std::nullopt;
  double largest = 0;
  for (const auto& [path, bytes] : sizes) {
    std::error_code error;
    largest = std::max(largest, bytes);
    if (!fs::exists(path, error)) continue;
    ++out.kept;
    out.peak_bytes += bytes;
  }
  out.checkpoints = static_cast<int>(sizes.size());
  if (out.kept < out.checkpoints) out.peak_bytes += largest;
  out.run = run.info.name;
  out.folder = last.parent_path().string();
  StorageTry place;
  describe(existing(out.folder), place);
  out.mount = place.mount;
  return out;
}

/// What to write as a test: like the program's last checkpoint where one is known, within what the
/// level's time allows.
double test_bytes(int level, const std::optional<EarlierRun>& earlier) {
  const double least = (level >= 3 ? 1024 : 64) * kMiB;
  const double most = (level >= 3 ? 8192 : level == 2 ? 512 : 64) * kMiB;
  return std::clamp(earlier ? earlier->last_bytes : least, least, most);
}

/// How much will be written where this folder lies, and how that is known.
void charge(const DoctorOptions& options, const StorageFacts& facts, bool output, StorageTry& one) {
  const bool known = !options.dirs.empty() || !options.outputs.empty();
  if (options.need_bytes) {
    one.need_bytes = options.need_bytes;
    one.need_from = "--need";
    one.need_said = true;
    one.need_here = known && (one.named || output);
    if (known && !one.need_here) one.need_bytes.reset();
    return;
  }
  if (!facts.earlier || one.mount.empty()) return;
  if (options.outputs.empty() ? one.mount != facts.earlier->mount : !output) return;
  one.need_here = true;
  one.need_bytes = facts.earlier->peak_bytes;
  one.need_from = counted(facts.earlier->checkpoints, "checkpoint", "checkpoints") + " of run " +
                  facts.earlier->run;
  if (facts.earlier->kept < facts.earlier->checkpoints)
    one.need_from += fmt::format(", {} of them kept", facts.earlier->kept);
}

}  // namespace

StorageTry try_storage(const fs::path& folder, double most_bytes, std::chrono::milliseconds time) {
  // half to write, most of the rest to read: an answer is due before who asked gives up
  const double time_s = static_cast<double>(time.count()) / 1000, start_s = monotonic_s();
  StorageTry found;
  found.path = clean_text(folder.string(), 1024);
  const fs::path place = existing(folder);
  std::error_code error;
  if (!fs::is_directory(folder, error)) found.place = clean_text(place.string(), 1024);
  describe(place, found);
  double most = found.free_bytes ? std::min(most_bytes, *found.free_bytes / 2) : most_bytes;
  if (found.in_memory) most = std::min(most, 64 * kMiB);  // the run's own memory
  const auto blocks = static_cast<std::size_t>(most / kBlock);
  const Fd fd(file_without_name(place));
  if (!fd.valid()) {
    found.error = failed("cannot make a file");
    return found;
  }
  if (blocks == 0) return found;
  found.error = write_test(fd.get(), blocks, start_s + time_s / 2, found);
  if (found.error.empty()) found.error = read_test(fd.get(), start_s + time_s * 0.8, found);
  return found;
}

StorageFacts look_back(const fs::path& runs, const std::function<bool(const RunInfo&)>& same_work) {
  StorageFacts facts;
  facts.why_no_earlier = "no earlier run of this command shows its checkpoints: --need SIZE";
  auto all = list_runs(runs);
  std::erase_if(all, [&](const Run& run) {
    return run.info.name == "smoke" || !same_work(run.info);  // a smoke test ends early
  });
  std::reverse(all.begin(), all.end());
  if (all.size() > kMostRuns) all.resize(kMostRuns);
  for (const Run& run : all) {
    facts.earlier = earlier_of(run);
    if (!facts.earlier) continue;
    facts.why_no_earlier.clear();
    break;
  }
  return facts;
}

StorageFacts probe_storage(const DoctorOptions& options, const Budget& budget) {
  StorageFacts facts;
  facts.why_no_earlier = "no command is named, so no earlier run is its like: --need SIZE";
  const auto look_limit = budget.of(kLookBackLimit);
  if (options.same_work && look_limit) {
    const auto text = run_in_child(
        [&] { return to_json(look_back(options.runs, options.same_work)); }, *look_limit);
    if (!text || !from_json(*text, facts))
      facts.why_no_earlier = "earlier runs were not read: " + (text ? "" : text.error().message);
  }
  std::vector<fs::path> dirs = options.dirs.empty() ? options.outputs : options.dirs;
  const std::size_t outputs = options.dirs.empty() ? dirs.size() : 0;
  if (options.dirs.empty()) {
    if (dirs.empty() && facts.earlier) dirs.emplace_back(facts.earlier->folder);
    if (dirs.empty()) dirs.push_back(options.cwd.empty() ? fs::path(".") : options.cwd);
    if (!options.runs.empty()) dirs.push_back(options.runs);
  }
  if (dirs.size() > kMostDirs) dirs.resize(kMostDirs);
  const std::chrono::seconds limit(options.level >= 3 ? 180 : 20);
  std::vector<std::string> mounts;
  for (std::size_t i = 0; i < dirs.size(); ++i) {
    const auto time = budget.of(limit);
    StorageTry one;
    one.path = clean_text(dirs[i].string(), 1024);
    const auto answer = time ? run_in_child(
                                   [&] {
                                     return to_json(try_storage(
                                         dirs[i], test_bytes(options.level, facts.earlier), *time));
                                   },
                                   *time)
                             : Result<std::string>(Error{Errc::unavailable, budget.over(), ""});
    if (!answer || !from_json(*answer, one)) {
      one.hung = !answer && answer.error().code == Errc::unavailable;
      one.error = answer ? "no sense in the answer" : answer.error().message;
      if (one.hung && (!time || *time < limit)) one.no_time = budget.over();
    }
    one.named = !options.dirs.empty();
    charge(options, facts, i < outputs, one);
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
