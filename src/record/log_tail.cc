#include "record/log_tail.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "run/layout.h"

namespace rigwise {

namespace {
constexpr std::size_t kPieceBytes = 65536;
constexpr double kMarkPatience_s = 2;

bool open_once(Fd& fd, const std::filesystem::path& path) {
  if (!fd.valid()) fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd.valid();
}
}  // namespace

LogTail::LogTail(std::filesystem::path run_dir, std::string stream)
    : dir_(std::move(run_dir)),
      file_(layout::log_file(stream)),
      index_file_(layout::log_index(stream)) {}

// Takes the next row of the index that lies ahead of what was handed over.
bool LogTail::next_mark() {
  if (!open_once(index_, dir_ / index_file_)) return false;
  for (;;) {
    const auto end = rows_.find('\n');
    if (end == std::string::npos) {
      std::array<char, 4096> more;  // NOLINT(cppcoreguidelines-pro-type-member-init)
      const ssize_t count = ::pread(index_.get(), more.data(), more.size(), index_position_);
      if (count <= 0 || rows_.size() > more.size()) return false;
      index_position_ += count;
      rows_.append(more.data(), static_cast<std::size_t>(count));
      continue;
    }
    const auto comma = rows_.find(',');
    if (comma < end) {
      const std::string_view row(rows_);
      const auto offset = to_integer(row.substr(0, comma));
      const auto t_s = to_number(row.substr(comma + 1, end - comma - 1));
      if (offset && t_s && *offset > position_) {
        mark_bytes_ = *offset;
        mark_s_ = *t_s;
        rows_.erase(0, end + 1);
        return true;
      }
    }
    rows_.erase(0, end + 1);
  }
}

bool LogTail::read(const Consumer& consumer, double now_s, std::size_t max_bytes, bool at_end) {
  if (!open_once(log_, dir_ / file_)) return false;
  std::array<char, kPieceBytes> piece;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::size_t taken = 0;
  while (taken < max_bytes) {
    std::size_t want = std::min(piece.size(), max_bytes - taken);
    double t_s = now_s;
    if (mark_bytes_ > position_ || next_mark()) {
      want = std::min(want, static_cast<std::size_t>(mark_bytes_ - position_));
      t_s = mark_s_;
      unmarked_since_s_ = -1;
    } else if (!at_end) {
      if (left_bytes() == 0) return false;
      if (unmarked_since_s_ < 0) unmarked_since_s_ = now_s;
      if (now_s - unmarked_since_s_ < kMarkPatience_s) return false;
    }
    const ssize_t count = ::pread(log_.get(), piece.data(), want, position_);
    if (count <= 0) return false;
    position_ += count;
    taken += static_cast<std::size_t>(count);
    consumer({piece.data(), static_cast<std::size_t>(count)}, t_s);
  }
  return left_bytes() > 0;
}

std::int64_t LogTail::left_bytes() {
  struct stat status = {};
  if (!open_once(log_, dir_ / file_) || ::fstat(log_.get(), &status) != 0) return 0;
  return std::max<std::int64_t>(0, status.st_size - position_);
}

}  // namespace rigwise
