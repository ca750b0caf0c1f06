// Memory of a CPython process as it was read once: a stand-in for a live one, for tests and
// fuzzing.
//
// A file of it: the line "python-snapshot 1 RUNTIME MAIN_THREAD" (decimal), a line "file ADDRESS
// PATH" for each mapped file that matters, an empty line, then stretches of memory: address and
// length (8 and 4 bytes, little-endian) and the bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "profile/python_frames.h"
#include "profile/python_locate.h"

namespace rigwise {

class Snapshot final : public PythonMemory {
 public:
  std::uint64_t runtime = 0, main_thread = 0;
  std::vector<MappedFile> files;
  std::map<std::uint64_t, std::string> stretches;

  Snapshot() = default;
  using PythonMemory::read;
  void read(std::span<MemoryPiece> pieces) override {
    for (MemoryPiece& piece : pieces) {
      piece.whole = false;
      auto it = stretches.upper_bound(piece.address);
      if (it == stretches.begin()) continue;
      --it;
      const std::uint64_t offset = piece.address - it->first;
      if (offset > it->second.size() || it->second.size() - offset < piece.bytes) continue;
      if (piece.bytes > 0) std::memcpy(piece.into, it->second.data() + offset, piece.bytes);
      piece.whole = true;
    }
  }

  // Later bytes win where stretches overlap.
  void add(std::uint64_t address, std::string bytes) {
    std::uint64_t end = address + bytes.size();
    auto it = stretches.upper_bound(address);
    if (it != stretches.begin() && std::prev(it)->first + std::prev(it)->second.size() >= address)
      --it;
    while (it != stretches.end() && it->first <= end) {
      std::string merged;
      if (it->first < address) {
        merged = it->second.substr(0, address - it->first);
        address = it->first;
      }
      merged += bytes;
      const std::uint64_t its_end = it->first + it->second.size();
      if (its_end > end) {
        merged += it->second.substr(it->second.size() - (its_end - end));
        end = its_end;
      }
      bytes = std::move(merged);
      it = stretches.erase(it);
    }
    stretches.emplace(address, std::move(bytes));
  }

  [[nodiscard]] std::string text() const {
    std::ostringstream out;
    out << "python-snapshot 1 " << runtime << ' ' << main_thread << '\n';
    for (const MappedFile& file : files) out << "file " << file.address << ' ' << file.path << '\n';
    out << '\n';
    for (const auto& [address, bytes] : stretches) {
      const auto size = static_cast<std::uint32_t>(bytes.size());
      out.write(reinterpret_cast<const char*>(&address), sizeof address);
      out.write(reinterpret_cast<const char*>(&size), sizeof size);
      out << bytes;
    }
    return out.str();
  }

  // What does not parse is left out: a fuzzer writes these files too.
  void parse(std::string_view text) {
    while (!text.empty()) {
      const std::string line(text.substr(0, text.find('\n')));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
      if (line.empty()) break;
      std::istringstream words(line);
      std::string kind;
      words >> kind;
      if (kind == "python-snapshot") words >> kind >> runtime >> main_thread;
      if (kind == "file" && files.size() < 16) {
        MappedFile file;
        words >> file.address >> file.path;
        files.push_back(file);
      }
    }
    for (std::size_t n = 0; text.size() >= 12 && n < 4096; ++n) {
      std::uint64_t address = 0;
      std::uint32_t size = 0;
      std::memcpy(&address, text.data(), sizeof address);
      std::memcpy(&size, text.data() + 8, sizeof size);
      text.remove_prefix(12);
      stretches[address] = std::string(text.substr(0, size));
      text.remove_prefix(std::min<std::size_t>(text.size(), size));
    }
  }
};

/// Everything that a reader does with a process: find the interpreter, sample, tell lines.
struct SnapshotReading {
  std::string error;
  StackRead read = StackRead::gone;
  std::vector<std::string> frames;  // "function:line", outermost first
};
inline SnapshotReading read_snapshot(PythonMemory& memory, const Snapshot& described) {
  SnapshotReading out;
  const auto python = locate_python(memory, described.files, "");
  if (!python) return out.error = python.error().message, out;
  PythonFrames reader(memory, python->layout, python->runtime, described.main_thread);
  std::vector<PythonFrame> frames;
  for (int i = 0; i < 2; ++i) out.read = reader.sample(frames);  // from its own start, and again
  for (auto it = frames.rbegin(); it != frames.rend(); ++it)
    out.frames.push_back(it->code->function + ":" + std::to_string(reader.line_of(*it)));
  return out;
}

}  // namespace rigwise
