// The memory of the process that is read: one interface, so that recorded and hostile memory can
// stand in for a live process.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <type_traits>

namespace rigwise {

/// One stretch of the other process and where its bytes go.
struct MemoryPiece {
  std::uint64_t address = 0;
  void* into = nullptr;
  std::size_t bytes = 0;
  bool whole = false;  // set by read(): all bytes came
};

class PythonMemory {
 public:
  PythonMemory() = default;
  PythonMemory(const PythonMemory&) = delete;
  PythonMemory& operator=(const PythonMemory&) = delete;
  virtual ~PythonMemory() = default;
  /// Copies every piece that can be read, in their order. Any address may be asked for.
  virtual void read(std::span<MemoryPiece> pieces) = 0;

  bool read(std::uint64_t address, void* into, std::size_t bytes) {
    MemoryPiece piece{.address = address, .into = into, .bytes = bytes};
    read(std::span(&piece, 1));
    return piece.whole;
  }
  template <class T>
  std::optional<T> value(std::uint64_t address) {
    static_assert(std::is_trivially_copyable_v<T>);
    T out{};
    if (!read(address, &out, sizeof out)) return std::nullopt;
    return out;
  }
  /// The bytes up to a NUL, at most `most`; what lies behind the readable end is cut.
  std::string text(std::uint64_t address, std::size_t most);
};

/// A live process, by process_vm_readv: nothing in it stops or is written.
class ProcessMemory final : public PythonMemory {
 public:
  explicit ProcessMemory(pid_t pid) : pid_(pid) {}
  using PythonMemory::read;
  void read(std::span<MemoryPiece> pieces) override;

  [[nodiscard]] std::uint64_t calls() const { return calls_; }  // process_vm_readv so far
  /// errno of the last piece that could not be read: EFAULT (not mapped), ESRCH (died), EPERM.
  [[nodiscard]] int last_error() const { return last_error_; }

 private:
  pid_t pid_;
  std::uint64_t calls_ = 0;
  int last_error_ = 0;
};

/// A field out of bytes that were copied; 0 where it lies outside of them.
template <class T>
T field(std::span<const std::byte> bytes, std::size_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  T out{};
  if (offset <= bytes.size() && bytes.size() - offset >= sizeof out)
    std::memcpy(&out, bytes.data() + offset, sizeof out);
  return out;
}

}  // namespace rigwise
