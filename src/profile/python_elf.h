// Symbols of an ELF file: of one that is loaded in the process that is read, out of its memory, and
// of one on disk, for what is not loaded.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "profile/python_memory.h"

namespace rigwise {

/// Address of a dynamic symbol of the ELF image that is loaded at `image`.
class LoadedImage {
 public:
  /// Nothing where no ELF image for this kind of machine lies there.
  static std::optional<LoadedImage> at(PythonMemory& memory, std::uint64_t image);
  std::optional<std::uint64_t> symbol(std::string_view name) const;
  [[nodiscard]] std::uint64_t bias() const { return bias_; }

 private:
  PythonMemory* memory_ = nullptr;
  std::uint64_t bias_ = 0, symbols_ = 0, strings_ = 0, hash_ = 0;
};

/// The symbol table (.symtab) and the sections of an ELF file, bounded. Addresses are the file's:
/// without the bias with which it is loaded.
class ElfSymbols {
 public:
  /// Nothing where it is no ELF file for this kind of machine.
  static std::optional<ElfSymbols> read(int fd);
  /// Only of the names below.
  [[nodiscard]] std::optional<std::uint64_t> value(std::string_view name) const;
  [[nodiscard]] std::optional<std::uint64_t> section(std::string_view name) const;

 private:
  static constexpr std::array<std::string_view, 4> kWanted{"_PyRuntime", "Py_Version",
                                                           "PyIter_Send", "PyFrame_GetCode"};
  std::map<std::string, std::uint64_t, std::less<>> values_, sections_;
};

}  // namespace rigwise
