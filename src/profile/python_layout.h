// Where CPython keeps what a stack is made of: offsets into its structures, a version each.
//
// 3.9 to 3.12 are tables, taken from the headers of each version by a compiler (the layout of a
// debug build is the same); 3.13 on describe themselves (_Py_DebugOffsets at the head of
// _PyRuntime).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "rigwise/result.h"

namespace rigwise {

struct PythonLayout {
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};  // this version has no such field

  int minor = 0;  // 11 of 3.11
  // _PyRuntimeState, PyInterpreterState
  std::uint32_t runtime_interpreters = kNone, runtime_main_thread = kNone;
  std::uint32_t interpreter_next = kNone, interpreter_threads = kNone;
  // PyThreadState. `thread_frame` points at the innermost frame, or, where `cframe_frame` is a
  // field, at a structure on the C stack that does.
  std::uint32_t thread_next = kNone, thread_interpreter = kNone, thread_id = kNone,
                thread_native_id = kNone, thread_frame = kNone, thread_chunk = kNone;
  std::uint32_t cframe_frame = kNone;
  // PyFrameObject (3.9, 3.10) or _PyInterpreterFrame
  std::uint32_t frame_previous = kNone, frame_code = kNone, frame_instruction = kNone,
                frame_owner = kNone, frame_bytes = kNone;
  int first_entry_owner = 256;      // owners from here on are no Python code: entries from C
  std::uint64_t code_tag_bits = 0;  // of frame_code, which are no part of the address
  // PyCodeObject
  std::uint32_t code_file = kNone, code_name = kNone, code_qualname = kNone,
                code_first_line = kNone, code_lines = kNone, code_instructions = kNone,
                code_flags = kNone, code_bytes = kNone;
  // PyASCIIObject: its size is where the text of a compact ASCII string begins
  std::uint32_t string_state = kNone, string_length = kNone, string_ascii = kNone,
                string_compact = kNone;
  std::uint32_t object_type = 8, type_name = 24, bytes_size = 16, bytes_data = 32;

  [[nodiscard]] bool has_chunks() const { return thread_chunk != kNone; }
};

/// The table of 3.9 to 3.12.
std::optional<PythonLayout> python_layout(int minor);

/// What a process of 3.13 or later says about itself. `head` = the first bytes of _PyRuntime.
/// Errors: unavailable (free-threaded, or a version or figures that make no sense).
inline constexpr std::size_t kDebugOffsetsBytes = 1024;
Result<PythonLayout> python_layout(std::span<const std::byte> head);
bool has_debug_offsets(std::span<const std::byte> head);

}  // namespace rigwise
