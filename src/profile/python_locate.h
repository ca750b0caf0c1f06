// Finding CPython in a process: which of its files is the interpreter, where _PyRuntime lies in
// memory, and which version it is. Symbols come from the loaded image itself (dynamic symbols), so
// that containers and files that were replaced do not matter; the file is asked only for what is
// not loaded.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "profile/python_layout.h"
#include "profile/python_memory.h"

namespace rigwise {

/// A file as it is mapped: /proc/PID/maps.
struct MappedFile {
  std::uint64_t address = 0;  // where its first byte lies
  std::uint64_t end = 0;      // of the first mapping of it
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
/// `executable` = the path of the program; `open` gives a mapped file to read, an invalid one where
/// it cannot.
using OpenMapped = std::function<Fd(const MappedFile&)>;
Result<LocatedPython> locate_python(PythonMemory& memory, const std::vector<MappedFile>& files,
                                    const std::string& executable, const OpenMapped& open = {});

}  // namespace rigwise
