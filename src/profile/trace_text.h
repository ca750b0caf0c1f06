// Trace text: the few lexical steps that the trace scanner is made of. Each moves `at` forward and
// says whether it got there, met the end of the bytes in hand first, or bytes that are not JSON.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>

#include <bit>
#endif

namespace rigwise::trace_text {

enum class Got { ok, more, bad };

inline bool is_space(char byte) {
  return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

inline void skip_space(const char*& at, const char* end) {
  while (at != end && is_space(*at)) ++at;
}

/// The first quote, backslash or line break; `end` where there is none.
inline const char* find_string_mark(const char* at, const char* end) {
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"'), escape = _mm_set1_epi8('\\'),
                line = _mm_set1_epi8('\n');
  for (; end - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const int mask = _mm_movemask_epi8(
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, escape)),
                     _mm_cmpeq_epi8(bytes, line)));
    if (mask != 0) return at + std::countr_zero(static_cast<unsigned>(mask));
  }
#endif
  while (at != end && *at != '"' && *at != '\\' && *at != '\n') ++at;
  return at;
}

/// The first quote, bracket or brace; `end` where there is none.
inline const char* find_structure(const char* at, const char* end) {
#if defined(__SSE2__)
  // '[' and ']' differ from '{' and '}' in one bit
  const __m128i quote = _mm_set1_epi8('"'), bit = _mm_set1_epi8(0x20), open = _mm_set1_epi8('{'),
                close = _mm_set1_epi8('}');
  for (; end - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i folded = _mm_or_si128(bytes, bit);
    const int mask = _mm_movemask_epi8(
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(folded, open)),
                     _mm_cmpeq_epi8(folded, close)));
    if (mask != 0) return at + std::countr_zero(static_cast<unsigned>(mask));
  }
#endif
  while (at != end && *at != '"' && (*at | 0x20) != '{' && (*at | 0x20) != '}') ++at;
  return at;
}

/// A string, from its opening quote on; `out` is what stands between the quotes. A line break ends
/// it as bad: JSON has none inside strings, and what follows can be read again from the next line.
inline Got read_string(const char*& at, const char* end, std::string_view& out) {
  if (at == end) return Got::more;
  if (*at != '"') return Got::bad;
  const char* from = at + 1;
  for (const char* mark = from;;) {
    mark = find_string_mark(mark, end);
    if (mark == end) return Got::more;
    if (*mark == '\n') return Got::bad;
    if (*mark == '"') {
      out = std::string_view(from, static_cast<std::size_t>(mark - from));
      at = mark + 1;
      return Got::ok;
    }
    if (end - mark < 2) return Got::more;
    mark += 2;
  }
}

/// An object or array, from its opening brace on, however deep.
inline Got skip_nested(const char*& at, const char* end) {
  std::int64_t depth = 0;
  for (const char* mark = at;;) {
    mark = find_structure(mark, end);
    if (mark == end) return Got::more;
    if (*mark == '"') {
      std::string_view ignored;
      const Got got = read_string(mark, end, ignored);
      if (got != Got::ok) return got;
      continue;
    }
    depth += (*mark | 0x20) == '{' ? 1 : -1;
    ++mark;
    if (depth == 0) {
      at = mark;
      return Got::ok;
    }
  }
}

/// A number, true, NaN …: the bytes up to what ends a value.
inline Got read_word(const char*& at, const char* end, std::string_view& out) {
  const char* mark = at;
  while (mark != end && *mark != ',' && *mark != '}' && *mark != ']' && !is_space(*mark)) {
    if (*mark == '"' || *mark == '{' || *mark == '[' || *mark == ':') return Got::bad;
    ++mark;
  }
  if (mark == end) return Got::more;
  if (mark == at) return Got::bad;
  out = std::string_view(at, static_cast<std::size_t>(mark - at));
  at = mark;
  return Got::ok;
}

inline Got skip_value(const char*& at, const char* end) {
  if (at == end) return Got::more;
  std::string_view ignored;
  if (*at == '"') return read_string(at, end, ignored);
  if (*at == '{' || *at == '[') return skip_nested(at, end);
  return read_word(at, end, ignored);
}

/// A whole number as the value; `out` keeps what it was where the value is something else, which is
/// passed over.
inline Got read_integer(const char*& at, const char* end, std::int64_t& out) {
  if (at == end) return Got::more;
  const char* mark = at;
  const bool negative = *mark == '-';
  if (negative) ++mark;
  std::int64_t value = 0;
  int digits = 0;
  while (mark != end && *mark >= '0' && *mark <= '9' && digits < 18) {
    value = value * 10 + (*mark++ - '0');
    ++digits;
  }
  if (mark == end) return Got::more;
  if (digits > 0 && (*mark == ',' || *mark == '}' || is_space(*mark))) {
    out = negative ? -value : value;
    at = mark;
    return Got::ok;
  }
  return skip_value(at, end);
}

/// Microseconds as Kineto writes them (`5042631777076.312`, `12`) → nanoseconds. `fits` says
/// whether the value was a number between -2^60 and 2^60 ns; anything else is passed over. Numbers
/// with an exponent or in quotes are read too.
Got read_us(const char*& at, const char* end, std::int64_t& out_ns, bool& fits);

/// A process or thread: a number, or a word, which becomes a negative number of its own.
Got read_id(const char*& at, const char* end, std::int64_t& out);

}  // namespace rigwise::trace_text
