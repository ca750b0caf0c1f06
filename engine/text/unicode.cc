#include "engine/text/unicode.h"

#include <utf8proc.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/text.h"

namespace rigwise::engine {

namespace {

unsigned byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

/// Bytes of the valid character at `at`, or 0; *bad is then the length of the invalid part.
std::size_t valid_length(std::string_view text, std::size_t at, std::size_t* bad) {
  const unsigned lead = byte_at(text, at);
  *bad = 1;
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  // The second byte's range: no long forms, no surrogates, nothing above U+10FFFF
  unsigned low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i >= text.size() || byte_at(text, at + i) < low || byte_at(text, at + i) > high)
      return 0;
    low = 0x80, high = 0xBF;
    *bad = i + 1;
  }
  return length;
}

const utf8proc_property_t* property(char32_t character) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(character));
}

}  // namespace

bool is_ascii(std::string_view text) {
  constexpr std::uint64_t kHigh = 0x8080808080808080;
  std::size_t at = 0;
  for (std::uint64_t word = 0; at + sizeof word <= text.size(); at += sizeof word) {
    std::memcpy(&word, text.data() + at, sizeof word);
    if ((word & kHigh) != 0) return false;
  }
  for (; at < text.size(); ++at) {
    if (byte_at(text, at) >= 0x80) return false;
  }
  return true;
}

std::size_t first_invalid_utf8(std::string_view text) {
  std::size_t bad = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = valid_length(text, at, &bad);
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::string replace_invalid_utf8(std::string_view text, std::size_t* replaced) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    std::size_t bad = 0;
    const std::size_t length = valid_length(text, at, &bad);
    if (length > 0) {
      out.append(text, at, length);
      at += length;
    } else {
      out += "\xEF\xBF\xBD";
      if (replaced != nullptr) ++*replaced;
      at += bad;
    }
  }
  return out;
}

char32_t next_char(std::string_view text, std::size_t& at) {
  const unsigned lead = byte_at(text, at++);
  if (lead < 0x80) return lead;
  const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  char32_t out = lead & (0x3FU >> more);
  for (int i = 0; i < more && at < text.size(); ++i) out = out << 6 | (byte_at(text, at++) & 0x3FU);
  return out;
}

std::size_t char_before(std::string_view text, std::size_t at) {
  --at;
  while (at > 0 && (byte_at(text, at) & 0xC0U) == 0x80) --at;
  return at;
}

bool is_white(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  if (c == 0x85) return true;
  const auto category = property(c)->category;
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool is_numeric(char32_t c) {
  const auto category = property(c)->category;
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return c > ' ' && c < 0x7F &&
           std::strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", static_cast<int>(c)) != nullptr;
  const auto category = property(c)->category;
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool is_word(char32_t c) {
  const auto category = property(c)->category;
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
         category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC || c == 0x200C ||
         c == 0x200D;
}

std::string normal_form(std::string_view text, NormalForm form) {
  int options = UTF8PROC_STABLE;
  const bool composes = form == NormalForm::nfc || form == NormalForm::nfkc;
  options |= composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::nfkc || form == NormalForm::nfkd) options |= UTF8PROC_COMPAT;
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    // ASCII stays as it is, but its last character may join with a mark behind it
    std::size_t end = at;
    while (end < text.size() && byte_at(text, end) < 0x80) ++end;
    if (end == text.size()) return out.append(text, at);
    const std::size_t begin = end > at ? end - 1 : end;
    out.append(text, at, begin - at);
    while (end < text.size() && byte_at(text, end) >= 0x80) ++end;
    utf8proc_uint8_t* made = nullptr;
    const auto bytes = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + begin),
                                    static_cast<utf8proc_ssize_t>(end - begin), &made,
                                    static_cast<utf8proc_option_t>(options));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> holder(made, &std::free);
    if (bytes < 0)  // out of memory alone: the text is valid
      out.append(text, begin, end - begin);
    else
      out.append(reinterpret_cast<const char*>(made), static_cast<std::size_t>(bytes));
    at = end;
  }
  return out;
}

char32_t upper_char(char32_t c) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}

std::string lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_char(text, at);
    if (c == 0x130) {  // the one character whose lower case is two
      out += "i\xCC\x87";
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return out;
}

}  // namespace rigwise::engine
