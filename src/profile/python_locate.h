// Finding CPython in a process: which of its files is the interpreter, where _PyRuntime lies in
// memory, and which version it is. Symbols come from the loaded image itself (dynamic symbols), so
// that containers and files that were replaced do not matter; the file is asked only for what is
// not loaded.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "profile/python_layout.h"
#include "profile/python_memory.h"

namespace rigwise {

/// A file as it is mapped: /proc/PID/maps.
struct MappedFile {
  std::uint64_t address = 0;  // where its first byte lies
  std::string path;           // as the process sees it
};
/// The files whose beginning is mapped, each once. Bounded; lines that do not parse are passed
/// over.
std::vector<MappedFile> parse_mapped_files(std::string_view maps);

struct LocatedPython {
  std::uint64_t runtime = 0;
  PythonLayout layout;
};
/// Errors: unavailable, and the message says why.
Result<LocatedPython> locate_python(PythonMemory& memory, const std::vector<MappedFile>& files,
                                    const std::string& executable);

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

}  // namespace rigwise
