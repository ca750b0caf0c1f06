#include "base/files.h"

#include <fcntl.h>
#include <sha256.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace rigwise {

namespace {
Error io_error(const std::filesystem::path& path, std::string_view doing, int error) {
  return {error == ENOENT ? Errc::not_found : Errc::io,
          path.string() + ": cannot " + std::string(doing) + ": " + errno_text(error)};
}

std::string hex(const std::array<std::uint8_t, SHA256_DIGEST_LENGTH>& digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const auto byte : digest) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

struct flock whole_file(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}
}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) reset(other.release());
  return *this;
}

void Fd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

std::string errno_text(int error) {
  return std::generic_category().message(error);
}

Result<std::string> read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return io_error(path, "open", errno);
  struct stat status = {};
  std::string bytes;
  if (::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    if (static_cast<std::uint64_t>(status.st_size) > max_bytes) {
      return Error{Errc::unavailable,
                   path.string() + ": larger than " + std::to_string(max_bytes) + " bytes"};
    }
    bytes.reserve(static_cast<std::size_t>(status.st_size) + 1);
  }
  std::array<char, 65536> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (;;) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error(path, "read", errno);
    if (count == 0) return bytes;
    if (bytes.size() + static_cast<std::size_t>(count) > max_bytes) {
      return Error{Errc::unavailable,
                   path.string() + ": larger than " + std::to_string(max_bytes) + " bytes"};
    }
    bytes.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

std::size_t write_all(int fd, std::string_view bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

Status write_file_atomic(const std::filesystem::path& path, std::string_view bytes) {
  const std::string temporary = path.string() + ".tmp";
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return io_error(temporary, "create", errno);
  if (write_all(fd.get(), bytes) != bytes.size() || ::fsync(fd.get()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return io_error(temporary, "write", error);
  }
  fd.reset();
  auto replaced = replace_file(temporary, path);
  if (!replaced) ::unlink(temporary.c_str());
  return replaced;
}

Status replace_file(const std::filesystem::path& temporary, const std::filesystem::path& path) {
  if (::rename(temporary.c_str(), path.c_str()) != 0) return io_error(path, "replace", errno);
  const auto parent = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  const Fd folder(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.valid())
    ::fsync(folder.get());  // a file system that cannot sync folders still has the rename
  return Ok{};
}

std::string sha256_hex(std::string_view bytes) {
  SHA2_CTX context;
  SHA256Init(&context);
  SHA256Update(&context, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest = {};
  SHA256Final(digest.data(), &context);
  return hex(digest);
}

Result<std::string> sha256_file_hex(const std::filesystem::path& path,
                                    const std::function<void()>& each_piece) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return io_error(path, "open", errno);
  SHA2_CTX context;
  SHA256Init(&context);
  std::array<std::uint8_t, 65536> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (;;) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error(path, "read", errno);
    if (count == 0) break;
    SHA256Update(&context, buffer.data(), static_cast<std::size_t>(count));
    if (each_piece) each_piece();
  }
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest = {};
  SHA256Final(digest.data(), &context);
  return hex(digest);
}

Result<Fd> lock_file(const std::filesystem::path& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid()) return io_error(path, "open", errno);
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno == EAGAIN || errno == EACCES)
      return Error{Errc::conflict, path.string() + ": in use by another process"};
    return io_error(path, "lock", errno);
  }
  return fd;
}

bool is_locked(const std::filesystem::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return false;
  struct flock lock = whole_file(F_RDLCK);
  return ::fcntl(fd.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

}  // namespace rigwise
