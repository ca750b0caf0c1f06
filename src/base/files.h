// Files: whole-file reads with a bound, crash-safe whole-file writes, digests, locks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "rigwise/result.h"

namespace rigwise {

/// A file descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

/// The whole file. Errors: not_found, io, unavailable (larger than max_bytes).
Result<std::string> read_file(const std::filesystem::path& path,
                              std::uint64_t max_bytes = std::uint64_t{1} << 31);

/// Temporary beside it, write, fsync, rename, fsync of the folder: readers see the old bytes or the
/// new ones.
Status write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

/// The last step of a crash-safe write: `temporary`, written and synced, takes the place of `path`
/// on the same file system, and the folder is synced. On an error `temporary` is still there.
Status replace_file(const std::filesystem::path& temporary, const std::filesystem::path& path);

/// Writes all of `bytes`, over short writes and EINTR. Returns how many were written (all, unless
/// errno says why not).
std::size_t write_all(int fd, std::string_view bytes);

std::string sha256_hex(std::string_view bytes);
/// `each_piece` is called after every 64 KiB.
Result<std::string> sha256_file_hex(const std::filesystem::path& path,
                                    const std::function<void()>& each_piece = {});

/// An advisory lock on a whole file, shared by processes that inherit the descriptor and gone with
/// the last of them (open-file-description lock). Errors: conflict (somebody holds it), io.
Result<Fd> lock_file(const std::filesystem::path& path);
/// Does somebody hold it? Asks without taking it. A file that is not there is not locked.
bool is_locked(const std::filesystem::path& path);

/// "No such file or directory" for ENOENT.
std::string errno_text(int error);

}  // namespace rigwise
