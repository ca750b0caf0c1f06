// PythonCodes: code objects, their names and their line tables.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "profile/python_frames.h"
#include "profile/python_lines.h"

namespace rigwise {
namespace {

constexpr std::size_t kMostCodes = 32768;        // a large training has about 10 000
constexpr std::size_t kMostNameBytes = 4096;     // a path; a name
constexpr std::size_t kMostLineBytes = 1 << 20;  // the line table of one function
constexpr std::uint64_t kMostInstructionBytes = 1 << 26;
constexpr std::uint32_t kGeneratorFlags = 0x20 | 0x80 | 0x200;  // generator, coroutine, async one

}  // namespace

PythonCodes::Head PythonCodes::head_of(std::span<const std::byte> bytes) const {
  Head head{.type = field<std::uint64_t>(bytes, layout_.object_type),
            .file = field<std::uint64_t>(bytes, layout_.code_file),
            .name = field<std::uint64_t>(bytes, layout_.code_name),
            .lines = field<std::uint64_t>(bytes, layout_.code_lines),
            .first_line = field<std::int32_t>(bytes, layout_.code_first_line)};
  if (layout_.code_qualname != PythonLayout::kNone)
    head.qualname = field<std::uint64_t>(bytes, layout_.code_qualname);
  if (layout_.code_instructions != PythonLayout::kNone)
    head.units = field<std::uint64_t>(bytes, 16);  // ob_size: code units of two bytes
  if (layout_.code_flags != PythonLayout::kNone)
    head.flags = field<std::uint32_t>(bytes, layout_.code_flags);
  return head;
}

void PythonCodes::resolve(std::span<Request> requests) {
  const std::size_t bytes = layout_.code_bytes;
  buffer_.assign(requests.size() * bytes, std::byte{});
  pieces_.clear();
  for (std::size_t i = 0; i < requests.size(); ++i)
    pieces_.push_back(
        {.address = requests[i].address, .into = buffer_.data() + i * bytes, .bytes = bytes});
  memory_.read(pieces_);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    Request& request = requests[i];
    request.code = nullptr;
    if (!pieces_[i].whole || request.address % 8 != 0) continue;
    const Head head = head_of(std::span(buffer_).subspan(i * bytes, bytes));
    if (!is_type(head.type, "code", code_type_)) continue;
    if (head.units > kMostInstructionBytes / 2) continue;
    request.code = known(request.address, head);
    request.generator = (head.flags & kGeneratorFlags) != 0;
    if (layout_.code_instructions != PythonLayout::kNone) {
      request.instructions = request.address + layout_.code_instructions;
      request.instruction_bytes = head.units * 2;
    }
  }
}

const PythonCode* PythonCodes::known(std::uint64_t address, const Head& head) {
  Known* old = nullptr;
  if (const auto it = by_address_.find(address); it != by_address_.end()) {
    old = it->second;
    if (old->file == head.file && old->name == head.name && old->qualname == head.qualname &&
        old->lines == head.lines && old->code.first_line == head.first_line)
      return &old->code;
  }
  PythonCode code{.first_line = head.first_line};
  const std::uint64_t name = head.qualname != 0 ? head.qualname : head.name;
  if (!read_string(head.file, kMostNameBytes, code.file) ||
      !read_string(name, kMostNameBytes, code.function) || head.first_line < 0)
    return nullptr;
  const bool same = old != nullptr && old->code.file == code.file &&
                    old->code.function == code.function && old->code.first_line == code.first_line;
  if (!same) {
    if (all_.size() >= kMostCodes) return &surplus_;
    old = &all_.emplace_back();
    old->code = std::move(code);
    by_address_[address] = old;
    by_code_[&old->code] = old;
  }
  old->address = address;
  old->file = head.file;
  old->name = head.name;
  old->qualname = head.qualname;
  old->lines = head.lines;
  old->lines_read = false;  // compiled again, maybe from changed text
  old->line_table.clear();
  return &old->code;
}

// Is this address the type object of that name? `trusted` keeps the one that was.
bool PythonCodes::is_type(std::uint64_t address, std::string_view name, std::uint64_t& trusted) {
  if (address == 0) return false;
  if (address == trusted) return true;
  if (trusted != 0) return false;
  const auto tp_name = memory_.value<std::uint64_t>(address + layout_.type_name);
  if (!tp_name || memory_.text(*tp_name, name.size() + 1) != name) return false;
  trusted = address;
  return true;
}

// A str as UTF-8. A longer one than `most` characters is no name.
bool PythonCodes::read_string(std::uint64_t address, std::size_t most, std::string& into) {
  std::array<std::byte, 128> head{};
  if (address % 8 != 0 || !memory_.read(address, head.data(), layout_.string_compact)) return false;
  const auto type = field<std::uint64_t>(head, layout_.object_type);
  if (!is_type(type, "str", string_type_)) return false;
  const auto length = field<std::uint64_t>(head, layout_.string_length);
  // Bit fields: how it is interned, then three bits for the kind, compact, ascii. The first takes
  // two bits, in 3.14 a whole byte or two of which no more than two bits are ever set.
  auto state = field<std::uint32_t>(head, layout_.string_state) >> 2;
  if (layout_.minor >= 14 && (state & 7) == 0) state >>= 6;
  if (layout_.minor >= 14 && (state & 7) == 0) state >>= 8;
  const std::uint32_t kind = state & 7;
  const bool compact = (state >> 3 & 1) != 0, ascii = (state >> 4 & 1) != 0;
  if (length > most || !compact || (kind != 1 && kind != 2 && kind != 4)) return false;
  std::vector<std::byte> bytes(length * kind);
  const std::uint64_t data = address + (ascii ? layout_.string_ascii : layout_.string_compact);
  if (!bytes.empty() && !memory_.read(data, bytes.data(), bytes.size())) return false;
  into.clear();
  for (std::size_t i = 0; i < bytes.size(); i += kind) {
    std::uint32_t point = 0;
    std::memcpy(&point, bytes.data() + i, kind);          // little-endian, as both machines are
    const bool half = point >= 0xD800 && point < 0xE000;  // of a surrogate pair: no character
    append_utf8(into, half || point > 0x10FFFF ? 0xFFFD : point);
  }
  return true;
}

bool PythonCodes::read_lines(Known& known) {
  std::array<std::byte, 24> head{};
  std::vector<std::byte> code(layout_.code_bytes);
  if (!memory_.read(known.address, code.data(), code.size())) return false;
  const Head now = head_of(code);
  if (now.file != known.file || now.name != known.name || now.lines != known.lines ||
      now.first_line != known.code.first_line)
    return false;  // the address holds another code object by now
  if (!memory_.read(known.lines, head.data(), head.size())) return false;
  const auto size = field<std::uint64_t>(head, layout_.bytes_size);
  if (size > kMostLineBytes) return false;
  known.line_table.resize(size);
  if (size != 0 && !memory_.read(known.lines + layout_.bytes_data, known.line_table.data(), size)) {
    known.line_table.clear();
    return false;
  }
  known.lines_read = true;
  return true;
}

int PythonCodes::line_of(const PythonCode& code, int instruction) {
  const auto it = by_code_.find(&code);
  if (it == by_code_.end()) return 0;
  Known& known = *it->second;
  if (instruction < 0) return known.code.first_line;  // it has not begun
  if (!known.lines_read && !read_lines(known)) return 0;
  return python_line(layout_.minor, known.line_table, known.code.first_line, instruction);
}

}  // namespace rigwise
