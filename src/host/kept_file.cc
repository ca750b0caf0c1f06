#include "host/kept_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/text.h"

namespace rigwise {

namespace {
constexpr std::size_t kFirstBuffer = 16384;
constexpr std::size_t kLargestText = 4 << 20;

/// Fills `buffer` from offset 0; seq_files hand out a page or so a call, so it asks until the end.
std::optional<std::string_view> pread_whole(int fd, ReadBuffer& buffer, bool one_record) {
  if (buffer.size() < kFirstBuffer) buffer.resize(kFirstBuffer);
  std::size_t have = 0;
  for (;;) {
    if (have == buffer.size()) {
      if (buffer.size() >= kLargestText) return std::nullopt;
      buffer.resize(buffer.size() * 2);
    }
    const ssize_t count =
        ::pread(fd, buffer.data() + have, buffer.size() - have, static_cast<off_t>(have));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::nullopt;
    have += static_cast<std::size_t>(count);
    if (count == 0 || one_record) return std::string_view(buffer.data(), have);
  }
}
}  // namespace

int FdBudget::sensible_limit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 128;
  const rlim_t half = limit.rlim_cur / 2;
  return static_cast<int>(std::min<rlim_t>(half, 700));
}

KeptFile::KeptFile(KeptFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::move(other.fd_)), budget_(other.budget_) {}

KeptFile& KeptFile::operator=(KeptFile&& other) noexcept {
  if (this != &other) {
    close();
    path_ = std::move(other.path_);
    fd_ = std::move(other.fd_);
    budget_ = other.budget_;
  }
  return *this;
}

void KeptFile::close() {
  if (!fd_.valid()) return;
  fd_.reset();
  if (budget_ != nullptr) budget_->give();
}

std::optional<std::string_view> KeptFile::read(ReadBuffer& buffer, bool one_record) {
  if (fd_.valid()) {
    auto text = pread_whole(fd_.get(), buffer, one_record);
    if (!text) close();
    return text;
  }
  if (path_.empty()) return std::nullopt;
  Fd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid()) return std::nullopt;
  const auto text = pread_whole(fd.get(), buffer, one_record);
  if (text && (budget_ == nullptr || budget_->take())) fd_ = std::move(fd);
  return text;
}

std::optional<std::string_view> read_record(const std::string& path, ReadBuffer& buffer) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid()) return std::nullopt;
  return pread_whole(fd.get(), buffer, true);
}

std::optional<std::string> read_small(const std::filesystem::path& path) {
  auto text = read_file(path, 65536);
  if (!text) return std::nullopt;
  return std::string(trim(*text));
}

std::optional<double> read_number(const std::filesystem::path& path, double factor) {
  const auto text = read_small(path);
  if (!text) return std::nullopt;
  const auto value = to_number(*text);
  if (!value) return std::nullopt;
  return *value * factor;
}

std::vector<std::string> list_folder(const std::filesystem::path& path, std::size_t limit) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), &::closedir);
  if (!folder) return names;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() >= limit) break;
    names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace rigwise
