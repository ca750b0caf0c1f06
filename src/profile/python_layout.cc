#include "profile/python_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
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

// The words of _Py_DebugOffsets in their order, structure by structure (3.13: pycore_runtime.h,
// 3.14: pycore_debug_offsets.h).
class OffsetWords {
 public:
  OffsetWords(std::span<const std::byte> bytes, std::size_t from) : bytes_(bytes), at_(from) {}
  // A field of a structure that ends before `bound` bytes.
  std::uint32_t next(std::uint64_t bound) {
    const auto value = field<std::uint64_t>(bytes_, at_ * 8);
    if (bytes_.size() < (at_ + 1) * 8 || value > bound) sensible_ = false;
    ++at_;
    return sensible_ ? static_cast<std::uint32_t>(value) : 0;
  }
  void skip(std::size_t count) { at_ += count; }
  [[nodiscard]] bool sensible() const { return sensible_; }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_;
  bool sensible_ = true;
};

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

Result<PythonLayout> python_layout(std::span<const std::byte> head) {
  const auto version = field<std::uint64_t>(head, 8);
  const int minor = static_cast<int>(version >> 16 & 0xFF);
  const auto unavailable = [minor](std::string message) {
    return Error{.code = Errc::unavailable,
                 .message = fmt::format("CPython 3.{}: {}", minor, message),
                 .hint = "CPython 3.9 to 3.14 can be read"};
  };
  if (version >> 24 != 3 || (minor != 13 && minor != 14))
    return unavailable("stacks of that version are not read");
  if (field<std::uint64_t>(head, 16) != 0)
    return unavailable("stacks of free-threaded builds are not read");
  constexpr std::uint64_t kLarge = 1 << 24, kSmall = 1 << 12;
  const bool is_14 = minor == 14;
  PythonLayout out{.minor = minor, .first_entry_owner = 3};
  OffsetWords words(head, 3);
  words.skip(2);  // runtime: size, finalizing
  out.runtime_interpreters = words.next(kLarge);
  // Behind the list {head, main, next_id}: the thread that started the runtime.
  out.runtime_main_thread = out.runtime_interpreters + 24;
  words.skip(2);  // interpreter: size, id
  out.interpreter_next = words.next(kLarge);
  out.interpreter_threads = words.next(kLarge);
  words.skip(is_14 ? 10 : 9);
  words.skip(2);  // thread: size, prev
  out.thread_next = words.next(kSmall);
  out.thread_interpreter = words.next(kSmall);
  out.thread_frame = words.next(kSmall);
  out.thread_id = words.next(kSmall);
  out.thread_native_id = words.next(kSmall);
  out.thread_chunk = words.next(kSmall);
  words.skip(1);
  words.skip(1);  // frame: size
  out.frame_previous = words.next(kSmall);
  out.frame_code = words.next(kSmall);
  out.frame_instruction = words.next(kSmall);
  words.skip(1);
  out.frame_owner = words.next(kSmall);
  words.skip(is_14 ? 1 : 0);
  words.skip(1);  // code: size
  out.code_file = words.next(kSmall);
  out.code_name = words.next(kSmall);
  out.code_qualname = words.next(kSmall);
  out.code_lines = words.next(kSmall);
  out.code_first_line = words.next(kSmall);
  words.skip(3);
  out.code_instructions = words.next(kSmall);
  words.skip(1);  // object: size
  out.object_type = words.next(kSmall);
  words.skip(1);  // type: size
  out.type_name = words.next(kSmall);
  words.skip(2);
  words.skip(3 + 3 + (is_14 ? 4 : 0) + 3 + 2 + 3);  // tuple, list, set, dict, float, int
  words.skip(1);                                    // bytes: size
  out.bytes_size = words.next(kSmall);
  out.bytes_data = words.next(kSmall);
  words.skip(1);  // str: size
  out.string_state = words.next(kSmall);
  out.string_length = words.next(kSmall);
  out.string_ascii = words.next(kSmall);
  out.string_compact = out.string_ascii + 16;  // utf8_length and utf8 behind it
  if (!words.sensible() || out.string_ascii < 24 || out.string_ascii > 96)
    return unavailable("what the process says about its layout makes no sense");
  out.frame_bytes =
      std::max({out.frame_previous, out.frame_code, out.frame_instruction, out.frame_owner}) + 8;
  out.code_bytes = std::max({out.code_file, out.code_name, out.code_qualname, out.code_lines,
                             out.code_first_line, std::uint32_t{16}}) +
                   8;
  // 3.14: a frame refers to its code by a pointer whose low bits say who owns the reference.
  if (is_14) out.code_tag_bits = 3;
  return out;
}

}  // namespace rigwise
