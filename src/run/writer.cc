// The writing side of a run directory: create, append, update, finish. Every whole-file write is
// temporary + fsync + rename; every table is append-only with one writer.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <ctime>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "rigwise/run.h"
#include "run/codec.h"
#include "run/layout.h"
#include "run/tables.h"

namespace rigwise {

namespace fs = std::filesystem;

// ------------------------------------------------------------------------------------ AppendFile

namespace {
std::int64_t rows_in(std::string_view text) {
  return std::count(text.begin(), text.end(), '\n');
}
}  // namespace

AppendFile::AppendFile(fs::path path, std::string header)
    : path_(std::move(path)), header_(std::move(header)) {}

AppendFile::AppendFile(AppendFile&& other) noexcept {
  *this = std::move(other);
}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  if (this == &other) return *this;
  if (fd_ >= 0) ::close(fd_);
  fd_ = std::exchange(other.fd_, -1);
  path_ = std::move(other.path_);
  header_ = std::move(other.header_);
  header_done_ = other.header_done_;
  half_row_ = other.half_row_;
  lost_rows_ = other.lost_rows_;
  lost_bytes_ = other.lost_bytes_;
  return *this;
}

AppendFile::~AppendFile() {
  if (fd_ >= 0) ::close(fd_);
}

/// Opened, and the header stands whole in front.
bool AppendFile::ready() {
  if (fd_ < 0) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    struct stat status = {};
    if (fd_ < 0 || ::fstat(fd_, &status) != 0) return false;
    const auto size = static_cast<std::size_t>(std::max<off_t>(0, status.st_size));
    std::string beginning(std::min(size, header_.size()), '\0');
    const bool read = ::pread(fd_, beginning.data(), beginning.size(), 0) ==
                      static_cast<ssize_t>(beginning.size());
    const bool cut = size < header_.size() && read && header_.starts_with(beginning);
    header_done_ = cut ? size : header_.size();
    char last = 0;
    half_row_ = !cut && size > 0 && ::pread(fd_, &last, 1, status.st_size - 1) == 1 && last != '\n';
  }
  if (header_done_ < header_.size()) {
    header_done_ += write_all(fd_, std::string_view(header_).substr(header_done_));
  }
  return header_done_ == header_.size();
}

/// Of a file that was found with half a row at its end, by whoever wrote it before.
bool AppendFile::close_half_row() {
  if (half_row_ && write_all(fd_, "\n") != 1) return false;
  half_row_ = false;
  return true;
}

std::size_t AppendFile::append(std::string_view rows) {
  std::size_t done = 0;
  if (ready() && close_half_row()) {
    done = write_all(fd_, rows);
    if (done == rows.size()) return static_cast<std::size_t>(rows_in(rows));
  }
  const auto end = rows.substr(0, done).rfind('\n');
  const std::size_t whole = end == std::string_view::npos ? 0 : end + 1;
  struct stat status = {};
  if (done > whole) {  // closed with a newline, half a row might pass for a whole one
    const auto half = static_cast<off_t>(done - whole);
    half_row_ = ::fstat(fd_, &status) != 0 || ::ftruncate(fd_, status.st_size - half) != 0;
  }
  const std::int64_t kept = rows_in(rows.substr(0, whole));
  lost_rows_ += rows_in(rows) - kept;
  lost_bytes_ += static_cast<std::int64_t>(rows.size() - whole);
  return static_cast<std::size_t>(kept);
}

// ------------------------------------------------------------------------------------ RunWriter

namespace {

std::string stamp(double start_unix_s) {
  const auto seconds = static_cast<std::time_t>(start_unix_s);
  std::tm local = {};
  ::localtime_r(&seconds, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &local);
  return text;
}

Result<fs::path> make_run_folder(const fs::path& root, const std::string& base) {
  std::error_code error;
  fs::create_directories(root, error);
  if (error) return Error{Errc::io, root.string() + ": cannot make it: " + error.message()};
  for (int i = 1; i < 1000; ++i) {
    const fs::path dir = root / (i == 1 ? base : base + "-" + std::to_string(i));
    if (::mkdir(dir.c_str(), 0755) == 0) return dir;
    if (errno != EEXIST) {
      return Error{Errc::io, dir.string() + ": cannot make it: " + errno_text(errno)};
    }
  }
  return Error{Errc::conflict, root.string() + ": too many runs named " + base};
}

/// Digests of every file below `dir` but run.json, the lock and what is no regular file.
std::map<std::string, std::string> digests_of(const fs::path& dir,
                                              const std::function<void()>& sign_of_life) {
  std::map<std::string, std::string> digests;
  std::error_code error;
  for (auto entry = fs::recursive_directory_iterator(dir, error);
       !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (fs::symlink_status(entry->path(), ignored).type() != fs::file_type::regular) continue;
    const std::string relative = entry->path().lexically_relative(dir).string();
    if (relative == layout::kRunJson || relative == layout::kLock || relative == layout::kReserve ||
        relative.ends_with(".tmp")) {
      continue;
    }
    const Fd fd(::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.valid()) ::fdatasync(fd.get());  // the digest must hold after a power cut too
    if (sign_of_life) sign_of_life();
    if (auto digest = sha256_file_hex(entry->path(), sign_of_life)) {
      digests[relative] = "sha256:" + *digest;
    }
  }
  return digests;
}

constexpr off_t kReserveBytes = off_t{256} << 10;  // run.json twice, the old one and the new

/// A file system that cannot set room aside does without.
void set_room_aside(const fs::path& dir) {
  const fs::path path = dir / layout::kReserve;
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (fd.valid() && ::fallocate(fd.get(), 0, 0, kReserveBytes) != 0) ::unlink(path.c_str());
}

/// run.json at the end: where the disk is full, in the room that was set aside for it.
Status write_last(const fs::path& dir, const RunInfo& info) {
  const std::string text = encode(info);
  Status done = write_file_atomic(dir / layout::kRunJson, text);
  if (done || ::unlink((dir / layout::kReserve).c_str()) != 0) return done;
  return write_file_atomic(dir / layout::kRunJson, text);
}

}  // namespace

Result<RunWriter> RunWriter::create(const fs::path& root, RunInfo info) {
  if (!layout::is_run_name(info.name)) {
    return Error{Errc::usage, "'" + clean_text(info.name, 120) + "' cannot name a run",
                 "use letters, digits, '.', '_' and '-', at most 100"};
  }
  RW_TRY(const fs::path dir, make_run_folder(root, stamp(info.start_unix_s) + "-" + info.name));
  info.id = dir.filename().string();
  RW_TRY(Fd lock, lock_file(dir / layout::kLock));
  for (const auto folder : {layout::kLogFolder, layout::kWatchFolder, layout::kEnvFolder,
                            layout::kRigFolder, layout::kProfileFolder}) {
    if (::mkdir((dir / folder).c_str(), 0755) != 0) {
      return Error{Errc::io, (dir / folder).string() + ": cannot make it: " + errno_text(errno)};
    }
  }
  RunWriter writer;
  std::error_code error;
  writer.dir_ = fs::absolute(dir, error);  // the command's or our own chdir must not move it
  if (error) writer.dir_ = dir;
  writer.lock_ = std::make_shared<Fd>(std::move(lock));
  RW_CHECK(writer.update(info));
  set_room_aside(writer.dir_);
  return writer;
}

template <class T>
void RunWriter::append_row(const std::string& relative, const T& row) {
  auto found = files_.find(relative);
  if (found == files_.end()) {
    found = files_.try_emplace(relative, dir_ / relative, tables::header<T>()).first;
  }
  found->second.append(tables::line(row));
}

void RunWriter::append(const StepRecord& row) {
  append_row(std::string(layout::kSteps), row);
}
void RunWriter::append(const Event& row) {
  append_row(std::string(layout::kEvents), row);
}
void RunWriter::append(const Observation& row) {
  append_row(std::string(layout::kEvidence), row);
}
void RunWriter::append(const std::string& host, const GpuSample& row) {
  append_row(layout::watch_file(host, "gpu"), row);
}
void RunWriter::append(const std::string& host, const HostSample& row) {
  append_row(layout::watch_file(host, "host"), row);
}
void RunWriter::append(const std::string& host, const DiskSample& row) {
  append_row(layout::watch_file(host, "disk"), row);
}
void RunWriter::append(const std::string& host, const NetSample& row) {
  append_row(layout::watch_file(host, "net"), row);
}
void RunWriter::append(const std::string& host, const ProcSample& row) {
  append_row(layout::watch_file(host, "proc"), row);
}
void RunWriter::append(const std::string& host, const SelfSample& row) {
  append_row(layout::watch_file(host, "self"), row);
}

void RunWriter::append(const std::string& host, const StackSpan& row) {
  append_row(layout::profile_file(host, "stacks"), row);
}
void RunWriter::append(const std::string& host, const StackFrames& row) {
  append_row(layout::profile_file(host, "frames"), row);
}
void RunWriter::append(const std::string& host, const StackCount& row) {
  append_row(layout::profile_file(host, "folded"), row);
}
void RunWriter::append(const TraceWindow& row) {
  append_row(std::string(layout::kTraceWindows), row);
}

void RunWriter::append(const NcclSeconds& row) {
  append_row(std::string(layout::kNcclSeconds), row);
}

Status RunWriter::write(const Environment& environment) {
  return write_file_atomic(dir_ / layout::environment_file(environment.host), encode(environment));
}

Status RunWriter::write(const Rig& rig) {
  return write_file_atomic(dir_ / layout::rig_file(rig.host), encode(rig));
}

Status RunWriter::update(const RunInfo& info) {
  info_ = info;
  return write_file_atomic(dir_ / layout::kRunJson, encode(info_));
}

Status RunWriter::close(RunInfo info) {
  for (const auto& [name, file] : files_) {
    if (file.lost_rows() == 0) continue;
    info.missing.push_back(name + ": " + std::to_string(file.lost_rows()) +
                           (file.lost_rows() == 1 ? " row" : " rows") + " could not be written");
  }
  files_.clear();
  info_ = std::move(info);
  return write_last(dir_, info_);
}

Status RunWriter::seal(const std::function<void()>& sign_of_life) {
  info_.digests = digests_of(dir_, sign_of_life);
  Status done = write_last(dir_, info_);
  ::unlink((dir_ / layout::kReserve).c_str());
  return done;
}

Status RunWriter::finish(RunInfo info) {
  RW_CHECK(close(std::move(info)));
  return seal();
}

int RunWriter::lock_descriptor() const {
  return lock_ ? static_cast<const Fd*>(lock_.get())->get() : -1;
}

Status write_keeper_record(const fs::path& dir, const KeeperRecord& record) {
  return write_file_atomic(dir / layout::kKeeperJson, encode(record));
}

Status finish_run(const fs::path& dir, const Ending& ending, std::vector<std::string> missing) {
  RW_TRY(const std::string text, read_file(dir / layout::kRunJson));
  RW_TRY(RunInfo info, decode_run_info(text));
  if (!info.ending) {
    info.ending = ending;
    info.end_unwatched = true;
    for (auto& what : missing) info.missing.push_back(std::move(what));
    RW_CHECK(write_last(dir, info));
  }
  info.digests = digests_of(dir, {});
  Status done = write_last(dir, info);
  ::unlink((dir / layout::kReserve).c_str());
  return done;
}

}  // namespace rigwise
