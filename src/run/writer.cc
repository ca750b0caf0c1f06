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

AppendFile::AppendFile(AppendFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      half_row_(other.half_row_),
      lost_bytes_(other.lost_bytes_) {}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    half_row_ = other.half_row_;
    lost_bytes_ = other.lost_bytes_;
  }
  return *this;
}

AppendFile::~AppendFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<AppendFile> AppendFile::open(const fs::path& path, std::string_view header) {
  AppendFile file;
  file.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file.fd_ < 0) {
    return Error{Errc::io, path.string() + ": cannot open: " + errno_text(errno)};
  }
  struct stat status = {};
  if (::fstat(file.fd_, &status) == 0 && status.st_size > 0) {
    char last = 0;
    file.half_row_ = ::pread(file.fd_, &last, 1, status.st_size - 1) == 1 && last != '\n';
  } else {
    file.append(header);
  }
  return file;
}

void AppendFile::append(std::string_view rows) {
  const auto size = static_cast<std::int64_t>(rows.size());
  if (half_row_ && write_all(fd_, "\n") != 1) {
    lost_bytes_ += size;
    return;
  }
  half_row_ = false;
  const std::size_t done = write_all(fd_, rows);
  if (done == rows.size()) return;
  half_row_ = done > 0 && rows[done - 1] != '\n';
  lost_bytes_ += size - static_cast<std::int64_t>(done);
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
std::map<std::string, std::string> digests_of(const fs::path& dir) {
  std::map<std::string, std::string> digests;
  std::error_code error;
  for (auto entry = fs::recursive_directory_iterator(dir, error);
       !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (fs::symlink_status(entry->path(), ignored).type() != fs::file_type::regular) continue;
    const std::string relative = entry->path().lexically_relative(dir).string();
    if (relative == layout::kRunJson || relative == layout::kLock || relative.ends_with(".tmp")) {
      continue;
    }
    const Fd fd(::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.valid()) ::fdatasync(fd.get());  // the digest must hold after a power cut too
    if (auto digest = sha256_file_hex(entry->path())) digests[relative] = "sha256:" + *digest;
  }
  return digests;
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
  for (const auto folder :
       {layout::kLogFolder, layout::kWatchFolder, layout::kEnvFolder, layout::kRigFolder}) {
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
  return writer;
}

template <class T>
void RunWriter::append_row(const std::string& relative, const T& row) {
  auto found = files_.find(relative);
  if (found == files_.end()) {
    auto opened = AppendFile::open(dir_ / relative, tables::header<T>());
    found = files_.emplace(relative, opened ? std::move(*opened) : AppendFile()).first;
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

Status RunWriter::finish(RunInfo info) {
  if (const auto lost = lost_bytes(); lost > 0) {
    info.missing.push_back(std::to_string(lost) + " bytes of tables could not be written");
  }
  files_.clear();
  info.digests = digests_of(dir_);
  return update(info);
}

std::int64_t RunWriter::lost_bytes() const {
  std::int64_t lost = 0;
  for (const auto& [name, file] : files_) lost += file.lost_bytes();
  return lost;
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
  info.ending = ending;
  for (auto& what : missing) info.missing.push_back(std::move(what));
  info.digests = digests_of(dir);
  return write_file_atomic(dir / layout::kRunJson, encode(info));
}

}  // namespace rigwise
