// Scanning: bytes, numbers as logs print them, clocks. Views point into the given text; nothing
// here allocates.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/text.h"

namespace rigwise::logs {

// ------------------------------------------------------------------------------------------------
// bytes

/// What a byte can be the beginning of; a piece's Shape is the union over its bytes.
enum Class : std::uint8_t {
  kDigit = 1,
  kLetter = 2,    // and '_'
  kBrace = 4,     // '{' '}'
  kBracket = 8,   // '['
  kSign = 16,     // ':' '='
  kPercent = 32,  // '%'
  kBar = 64,      // '|' ',' and tab: what stands between columns
  kHigh = 128,    // not ASCII: glyphs of bars and boxes
};
using Shape = std::uint8_t;

namespace detail {
constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> table{};
  for (int byte = 0; byte < 256; ++byte) {
    std::uint8_t bits = 0;
    if (byte >= '0' && byte <= '9') bits = kDigit;
    if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_') bits = kLetter;
    if (byte == '{' || byte == '}') bits = kBrace;
    if (byte == '[') bits = kBracket;
    if (byte == ':' || byte == '=') bits = kSign;
    if (byte == '%') bits = kPercent;
    if (byte == '|' || byte == ',' || byte == '\t') bits = kBar;
    if (byte >= 128) bits = kHigh;
    table[static_cast<std::size_t>(byte)] = bits;
  }
  return table;
}
inline constexpr std::array<std::uint8_t, 256> kClasses = make_classes();
}  // namespace detail

inline std::uint8_t class_of(char byte) {
  return detail::kClasses[static_cast<unsigned char>(byte)];
}
inline bool is_word(char byte) {
  return (class_of(byte) & (kDigit | kLetter)) != 0;
}
inline bool is_blank(char byte) {
  return byte == ' ' || byte == '\t';
}
inline char lower_byte(char byte) {
  return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
}

Shape shape_of(std::string_view text);

/// Words that some readers look for, as far as a few of their letters tell: most lines have none
/// of them.
struct Hints {
  bool saves = false;     // "save", "saving", "writing"
  bool banner = false;    // "batch size", "Num …", "steps", "param"
  bool training = false;  // "training", "Running"
  bool better = false;    // "improved", "reached"
};
Hints hints_of(std::string_view text);

/// Lower-case copy; ASCII only.
std::string lower_ascii(std::string_view text);
bool contains(std::string_view text, std::string_view needle);
/// Case does not matter; `start` and `word` are lower case.
bool starts_with_word(std::string_view text, std::string_view start);
bool equals_word(std::string_view text, std::string_view word);
/// `text` without blanks and tabs at both ends.
std::string_view strip(std::string_view text);

// ------------------------------------------------------------------------------------------------
// numbers

struct Number {
  double value = 0;
  std::size_t size = 0;     // bytes of text that it took
  bool whole = false;       // digits only (and groups of thousands)
  bool grouped = false;     // "1,234": one or more groups of thousands, or a decimal comma
  double decimal = 0;       // when grouped with one comma: the value if that comma is a decimal one
  bool sure_comma = false;  // "0,421" or "2,31": the comma can only be a decimal one; value says so
};

/// Reads a number at text[0]: "2.3", "-1e-4", "5,790" (thousands), "0,42" (decimal comma), "nan",
/// "-inf", ".5". False when there is none. With `commas` false a comma ends the number.
bool scan_number(std::string_view text, Number& number, bool commas = true);

/// The whole of `text` (quotes and "tensor(" taken off) as a number.
std::optional<double> plain_number(std::string_view text);

/// "0:00:10.48", "1:02:03", "41m 48s", "43s", "1h 2m" → seconds.
std::optional<double> scan_clock(std::string_view text);

/// A whole number in [0, 9e15], else nothing.
std::optional<std::int64_t> whole_number(double value);

}  // namespace rigwise::logs
