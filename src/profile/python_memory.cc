#include "profile/python_memory.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

namespace rigwise {

std::string PythonMemory::text(std::uint64_t address, std::size_t most) {
  std::string out;
  while (out.size() < most) {
    // Up to the end of the page: what follows it may not be mapped.
    std::array<char, 256> bytes{};
    const std::uint64_t at = address + out.size();
    const std::size_t want =
        std::min({bytes.size(), most - out.size(), std::size_t{4096 - at % 4096}});
    if (!read(at, bytes.data(), want)) break;
    const std::string_view got(bytes.data(), want);
    const std::size_t end = std::min(got.find(static_cast<char>(0)), got.size());
    out.append(got.substr(0, end));
    if (end != got.size()) break;
  }
  return out;
}

void ProcessMemory::read(std::span<MemoryPiece> pieces) {
  constexpr std::size_t kMost = 256;  // pieces a call; the kernel takes 1024
  std::array<iovec, kMost> local, remote;
  std::size_t from = 0;
  while (from < pieces.size()) {
    const std::size_t count = std::min(kMost, pieces.size() - from);
    for (std::size_t i = 0; i < count; ++i) {
      const MemoryPiece& piece = pieces[from + i];
      local[i] = {piece.into, piece.bytes};
      // An address of the other process: never used as one here.
      remote[i] = {reinterpret_cast<void*>(piece.address), piece.bytes};  // NOLINT
    }
    ++calls_;
    const ssize_t got = process_vm_readv(pid_, local.data(), count, remote.data(), count, 0);
    if (got < 0) last_error_ = errno;
    // It stops at the first piece that cannot be read: that one is passed over.
    auto left = static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    std::size_t done = 0;
    while (done < count && left >= pieces[from + done].bytes) {
      left -= pieces[from + done].bytes;
      pieces[from + done++].whole = true;
    }
    if (done < count) {
      if (got >= 0) last_error_ = EFAULT;
      pieces[from + done++].whole = false;
      if (got < 0 && last_error_ != EFAULT) {  // dead or forbidden: so are all others
        for (MemoryPiece& piece : pieces.subspan(from)) piece.whole = false;
        return;
      }
    }
    from += done;
  }
}

}  // namespace rigwise
