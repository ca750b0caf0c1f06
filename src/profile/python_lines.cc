#include "profile/python_lines.h"

#include <cstddef>
#include <cstdint>

namespace rigwise {
namespace {

constexpr std::int64_t kMostLine = 1 << 30;

int as_line(std::int64_t line) {
  return line > 0 && line < kMostLine ? static_cast<int>(line) : 0;
}

// Pairs (bytes of code, lines): 3.9's. A pair says where the next line begins.
int lnotab_line(std::string_view table, std::int64_t line, int instruction) {
  std::int64_t address = 0;
  for (std::size_t i = 0; i + 1 < table.size(); i += 2) {
    address += static_cast<unsigned char>(table[i]);
    if (address > instruction) break;
    line += static_cast<signed char>(table[i + 1]);
  }
  return as_line(line);
}

// Pairs (bytes of code, lines): 3.10's. A pair is a range with the line that it has; -128 = none.
int linetable_line(std::string_view table, std::int64_t line, int instruction) {
  std::int64_t end = 0;
  for (std::size_t i = 0; i + 1 < table.size(); i += 2) {
    end += static_cast<unsigned char>(table[i]);
    const auto delta = static_cast<signed char>(table[i + 1]);
    if (delta != -128) line += delta;
    if (instruction < end) return delta == -128 ? 0 : as_line(line);
  }
  return 0;
}

class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return at_ >= bytes_.size(); }
  unsigned next() { return empty() ? 0U : static_cast<unsigned char>(bytes_[at_++]); }
  std::int64_t varint() {  // six bits a byte, the lowest first; bit 6: more follow
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 36; shift += 6) {
      const unsigned byte = next();
      value |= static_cast<std::uint64_t>(byte & 63) << shift;
      if ((byte & 64) == 0) break;
    }
    return static_cast<std::int64_t>(value);
  }
  std::int64_t signed_varint() {
    const std::int64_t value = varint();
    return (value & 1) != 0 ? -(value >> 1) : value >> 1;
  }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

int location_line(std::string_view table, std::int64_t line, int instruction) {
  std::int64_t end = 0;
  for (Bytes bytes(table); !bytes.empty();) {
    const unsigned first = bytes.next();
    const unsigned kind = first >> 3 & 15;
    end += std::int64_t{(first & 7) + 1} * 2;
    if (kind == 14) {  // long form: line, end line, column, end column
      line += bytes.signed_varint();
      for (int i = 0; i < 3; ++i) bytes.varint();
    } else if (kind == 13) {  // no columns
      line += bytes.signed_varint();
    } else if (kind >= 10 && kind <= 12) {  // one line, two columns
      line += static_cast<int>(kind) - 10;
      bytes.next();
      bytes.next();
    } else if (kind < 10) {  // short form: columns in one byte
      bytes.next();
    }
    if (line < -kMostLine || line > kMostLine) return 0;
    if (instruction < end) return kind == 15 ? 0 : as_line(line);
  }
  return 0;
}

}  // namespace

int python_line(int minor, std::string_view table, int first_line, int instruction) {
  if (minor <= 9) return lnotab_line(table, first_line, instruction);
  if (minor == 10) return linetable_line(table, first_line, instruction);
  return location_line(table, first_line, instruction);
}

}  // namespace rigwise
