// Unicode, as far as tokenizers need it: UTF-8, character classes, normal forms. Tables:
// utf8proc's.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace rigwise::engine {

bool is_ascii(std::string_view text);

/// The first byte that is not part of valid UTF-8 (no surrogates, nothing above U+10FFFF), or npos.
std::size_t first_invalid_utf8(std::string_view text);

/// Each maximal invalid part becomes one U+FFFD: what WHATWG and Python's errors="replace" do.
/// *replaced grows by their number.
std::string replace_invalid_utf8(std::string_view text, std::size_t* replaced = nullptr);

// The functions below want valid UTF-8.

/// The character that begins at `at`, which moves behind it.
char32_t next_char(std::string_view text, std::size_t& at);
/// Where the character before `at` begins; `at` > 0.
std::size_t char_before(std::string_view text, std::size_t at);

bool is_white(char32_t character);        // White_Space
bool is_numeric(char32_t character);      // Nd, Nl, No
bool is_punctuation(char32_t character);  // ASCII's, and P*
bool is_word(char32_t character);         // \w: letters, marks, decimal digits, connectors

enum class NormalForm { nfc, nfd, nfkc, nfkd };
std::string normal_form(std::string_view text, NormalForm form);
char32_t upper_char(char32_t character);
/// Character by character, without context.
std::string lower_case(std::string_view text);

}  // namespace rigwise::engine
