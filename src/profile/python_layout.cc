#include "profile/python_layout.h"

#include <fmt/format.h>

#include <cstring>
#include <string_view>

#include "profile/python_memory.h"

namespace rigwise {
namespace {

constexpr std::string_view kCookie = "xdebugpy";

// 3.9 and 3.10: a frame is an object on the heap.
PythonLayout old_layout(int minor) {
  PythonLayout out{.minor = minor,
                   .runtime_interpreters = 32,
                   .runtime_main_thread = 72,
                   .interpreter_next = 0,
                   .interpreter_threads = 8,
                   .thread_next = 8,
                   .thread_interpreter = 16,
                   .thread_id = 176,
                   .thread_frame = 24,
                   .frame_previous = 24,
                   .frame_code = 32,
                   .frame_instruction = minor == 9 ? 104U : 96U,
                   .code_file = 104,
                   .code_name = 112,
                   .code_first_line = 40,
                   .code_lines = 120,
                   .code_flags = 36,
                   .code_bytes = 136,
                   .string_state = 32,
                   .string_length = 16,
                   .string_ascii = 48,
                   .string_compact = 72};
  out.frame_bytes = out.frame_instruction + 4;
  return out;
}

PythonLayout layout_3_11() {
  return {.minor = 11,
          .runtime_interpreters = 40,
          .runtime_main_thread = 80,
          .interpreter_next = 0,
          .interpreter_threads = 16,
          .thread_next = 8,
          .thread_interpreter = 16,
          .thread_id = 152,
          .thread_native_id = 160,
          .thread_frame = 56,
          .thread_chunk = 296,
          .cframe_frame = 8,
          .frame_previous = 48,
          .frame_code = 32,
          .frame_instruction = 56,
          .frame_owner = 69,
          .frame_bytes = 72,
          .code_file = 112,
          .code_name = 120,
          .code_qualname = 128,
          .code_first_line = 72,
          .code_lines = 136,
          .code_instructions = 184,
          .code_bytes = 144,
          .string_state = 32,
          .string_length = 16,
          .string_ascii = 48,
          .string_compact = 72};
}

PythonLayout layout_3_12() {
  PythonLayout out = layout_3_11();
  out.minor = 12;
  out.runtime_main_thread = 64;
  out.interpreter_threads = 72;
  out.thread_id = 136;
  out.thread_native_id = 144;
  out.thread_chunk = 232;
  out.cframe_frame = 0;
  out.frame_code = 0;
  out.frame_previous = 8;
  out.frame_owner = 70;
  out.first_entry_owner = 3;
  out.code_first_line = 68;
  out.code_instructions = 192;
  out.string_ascii = 40;
  out.string_compact = 56;
  return out;
}

}  // namespace

std::optional<PythonLayout> python_layout(int minor) {
  switch (minor) {
    case 9:
    case 10:
      return old_layout(minor);
    case 11:
      return layout_3_11();
    case 12:
      return layout_3_12();
    default:
      return std::nullopt;
  }
}

bool has_debug_offsets(std::span<const std::byte> head) {
  return head.size() >= kCookie.size() &&
         std::memcmp(head.data(), kCookie.data(), kCookie.size()) == 0;
}

}  // namespace rigwise
