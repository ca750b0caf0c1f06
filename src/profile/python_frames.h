// The frames of one thread out of the memory of a CPython process.
//
// The process runs while it is read, so nothing that was read is believed: every pointer may be
// stale, every length garbage. All loops and sizes are bounded, and a stack counts only where every
// frame's code object proves to be one and the frames did not change between two copies of them.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "profile/python_layout.h"
#include "profile/python_memory.h"
#include "rigwise/stacks.h"

namespace rigwise {

/// Code objects that were met. An address can come to hold another one: each is known by its
/// address and by the pointers and the line in it.
class PythonCodes {
 public:
  PythonCodes(PythonMemory& memory, const PythonLayout& layout)
      : memory_(memory), layout_(layout) {}

  struct Request {
    std::uint64_t address = 0;
    const PythonCode* code = nullptr;     // what it is; null where it is no code object (any more)
    std::uint64_t instructions = 0;       // where its bytecode begins and how long it is; 0 of
    std::uint64_t instruction_bytes = 0;  // versions that count them from the frame
    bool generator = false;               // known of 3.9 and 3.10 only
  };
  /// Looks at every address as it is now, in few reads.
  void resolve(std::span<Request> requests);
  int line_of(const PythonCode& code, int instruction);

 private:
  struct Known {
    PythonCode code;
    std::uint64_t address = 0, file = 0, name = 0, qualname = 0, lines = 0;
    bool lines_read = false;
    std::string line_table;
  };
  struct Head {  // fields of a code object as they stand there now
    std::uint64_t type = 0, file = 0, name = 0, qualname = 0, lines = 0, units = 0;
    int first_line = 0;
    std::uint32_t flags = 0;
  };
  [[nodiscard]] Head head_of(std::span<const std::byte> bytes) const;
  const PythonCode* known(std::uint64_t address, const Head& head);
  bool is_type(std::uint64_t address, std::string_view name, std::uint64_t& trusted);
  bool read_string(std::uint64_t address, std::size_t most, std::string& into);
  bool read_lines(Known& known);

  PythonMemory& memory_;
  PythonLayout layout_;
  std::uint64_t code_type_ = 0, string_type_ = 0;
  std::deque<Known> all_;  // stable addresses: frames point at them
  std::unordered_map<std::uint64_t, Known*> by_address_;
  std::unordered_map<const PythonCode*, Known*> by_code_;
  PythonCode surplus_{.file = "", .function = "(more code objects than are kept)"};
  std::vector<std::byte> buffer_;
  std::vector<MemoryPiece> pieces_;
};

class PythonFrames {
 public:
  /// `runtime` = address of _PyRuntime; `main_thread` = the main thread's id in its own pid
  /// namespace.
  PythonFrames(PythonMemory& memory, const PythonLayout& layout, std::uint64_t runtime,
               std::uint64_t main_thread)
      : memory_(memory),
        layout_(layout),
        runtime_(runtime),
        main_thread_(main_thread),
        codes_(memory, layout) {}

  /// Never `gone` for a process that only moves: it means that _PyRuntime cannot be read any more.
  StackRead sample(std::vector<PythonFrame>& frames);
  int line_of(const PythonFrame& frame);
  /// Are there interpreters whose threads point back at them, as in this layout they must?
  /// Nothing where no interpreter is there yet.
  std::optional<bool> plausible();

 private:
  struct Frame {  // as copied
    std::uint64_t address = 0, code = 0, previous = 0, instruction = 0;
    int owner = 0;
  };
  struct Region {  // a stretch of a data stack or a frame elsewhere, copied once or twice
    std::uint64_t address = 0;
    std::vector<std::byte> first, second;
    bool whole = false, twice = false;
  };
  StackRead find_thread();
  bool read_thread();
  StackRead try_sample(std::vector<PythonFrame>& frames, bool last_try);
  bool copy(std::uint64_t& root);
  StackRead walk(std::uint64_t root);
  const Region* region_of(std::uint64_t address);
  bool add_older_chunk(std::uint64_t address);
  [[nodiscard]] Frame frame_at(const Region& region, bool second, std::uint64_t address) const;
  Region& add_region();
  void drop_moving(bool& moved);
  StackRead name_frames(std::vector<PythonFrame>& frames);

  PythonMemory& memory_;
  PythonLayout layout_;
  std::uint64_t runtime_ = 0, main_thread_ = 0;
  PythonCodes codes_;
  std::uint64_t thread_ = 0, interpreter_ = 0;  // PyThreadState of the main thread, once found
  std::uint64_t wanted_id_ = 0;                 // what its id field must say
  bool wanted_native_ = false;
  std::vector<std::byte> thread_bytes_;
  std::vector<Region> regions_;
  std::size_t region_count_ = 0;
  bool has_chunk_ = false;  // the first region is the youngest chunk of the data stack
  std::vector<std::uint64_t> scattered_;  // frames outside of data stacks in the last sample
  std::vector<Frame> frames_;             // innermost first
  std::vector<PythonCodes::Request> requests_;
  std::vector<MemoryPiece> pieces_;
};

}  // namespace rigwise
