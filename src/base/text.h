// Text: small pure helpers over strings. No locale is ever consulted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rigwise {

/// ASCII alone: the bytes of other characters are neither.
constexpr bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}
constexpr bool is_letter(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

std::string_view trim(std::string_view text);
std::vector<std::string_view> split(std::string_view text, char separator);
std::string lower(std::string_view text);
std::string join(const std::vector<std::string>& parts, std::string_view separator);

/// A word, and words, as a shell reads them back: quoted where it holds more than plain characters.
std::string shell_word(std::string_view text);
std::string shell_line(const std::vector<std::string>& words);

/// "1 line", "12 lines".
std::string counted(std::int64_t count, std::string_view one, std::string_view many);

/// The whole of `text` as a number ("1e-4", "nan", "inf" too), else nothing.
std::optional<double> to_number(std::string_view text);
std::optional<std::int64_t> to_integer(std::string_view text);

/// Shortest text that reads back as the same double; "nan", "inf", "-inf" for those.
std::string number_text(double value);

/// Hostile bytes made safe to print and store: invalid UTF-8 becomes U+FFFD, control characters
/// (but tab) are dropped, the result is at most `max_bytes` long and never cut inside a character.
std::string clean_text(std::string_view bytes, std::size_t max_bytes = 4096);

/// Adds the UTF-8 bytes of a character (at most U+10FFFF; halves of surrogate pairs are not looked
/// for).
void append_utf8(std::string& out, char32_t character);

/// The candidate with the smallest edit distance, if it is near enough to be a slip of the fingers.
std::optional<std::string> nearest_name(std::string_view name,
                                        const std::vector<std::string>& candidates);

}  // namespace rigwise
