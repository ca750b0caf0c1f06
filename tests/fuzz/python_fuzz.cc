// Memory of a CPython process that lies: the finder of interpreters, the stack reader and the line
// tables. Seeds: tests/fixtures/python_memory.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../unit/profile_python_snapshot.h"
#include "profile/python_lines.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  rigwise::Snapshot snapshot;
  snapshot.parse(text);
  const auto reading = rigwise::read_snapshot(snapshot, snapshot);
  if (reading.read == rigwise::StackRead::whole && reading.error.empty() && reading.frames.empty())
    __builtin_trap();
  rigwise::parse_mapped_files(text);
  if (size > 1)
    for (const int minor : {9, 10, 11}) rigwise::python_line(minor, text.substr(1), 1, data[0] * 2);
  return 0;
}
