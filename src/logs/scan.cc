#include "logs/scan.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/text.h"

namespace rigwise::logs {
namespace {

constexpr std::array<double, 23> kPowers = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                            1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                            1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
constexpr std::uint64_t kExact = std::uint64_t{1} << 53;  // whole numbers below are exact doubles

/// "nan", "inf", "infinity" in any case, not followed by a letter: bytes taken, or 0.
std::size_t scan_not_finite(std::string_view text, double& value) {
  if (text.size() < 3) return 0;
  const char first = lower_byte(text[0]);
  if (first != 'n' && first != 'i') return 0;
  std::size_t size = 0;
  if (starts_with_word(text, "nan")) {
    value = std::numeric_limits<double>::quiet_NaN();
    size = 3;
  } else if (starts_with_word(text, "infinity")) {
    value = std::numeric_limits<double>::infinity();
    size = 8;
  } else if (starts_with_word(text, "inf")) {
    value = std::numeric_limits<double>::infinity();
    size = 3;
  }
  return size < text.size() && is_word(text[size]) ? 0 : size;
}

/// "5,790", "1,234,567", "0,42" behind `digits` leading digits; sets value, decimal and flags.
void scan_commas(std::string_view text, std::size_t digits, Number& number) {
  std::size_t at = digits;
  int groups = 0;
  double total = number.value;
  const bool zero = digits == 1 && text[0] == '0';
  while (digits <= 3 && !zero && at + 3 < text.size() && text[at] == ',' &&
         is_digit(text[at + 1]) && is_digit(text[at + 2]) && is_digit(text[at + 3]) &&
         (at + 4 >= text.size() || !is_digit(text[at + 4]))) {
    total = total * 1000 + (text[at + 1] - '0') * 100 + (text[at + 2] - '0') * 10 +
            (text[at + 3] - '0');
    at += 4;
    ++groups;
  }
  std::size_t end = digits + 1;
  double scale = 1, fraction = 0;
  while (end < text.size() && is_digit(text[end]) && end - digits < 18) {
    scale /= 10;
    fraction += (text[end] - '0') * scale;
    ++end;
  }
  const double decimal = number.value + fraction;
  if (groups > 0) {
    number.value = total;
    number.grouped = true;
    number.decimal = decimal;
    number.size = at;
    if (groups == 1) return;
    number.decimal = total;
    return;
  }
  // "0,4217" and "2,31"; not "1,2,3" (a list) and not "3, 4".
  const std::size_t places = end - digits - 1;
  if (places == 0) return;
  if (end < text.size() && (text[end] == ',' || text[end] == '.')) return;
  number.value = number.decimal = decimal;
  number.size = end;
  number.whole = false;
  number.grouped = number.sure_comma = true;
}

}  // namespace

Shape shape_of(std::string_view text) {
  const char* at = text.data();
  const char* const end = at + text.size();
  Shape a = 0, b = 0, c = 0, d = 0;
  for (; end - at >= 4; at += 4) {
    a |= class_of(at[0]);
    b |= class_of(at[1]);
    c |= class_of(at[2]);
    d |= class_of(at[3]);
  }
  for (; at < end; ++at) a |= class_of(*at);
  return static_cast<Shape>(a | b | c | d);
}

namespace {

/// Letters in a row, and what they hint at. A third letter of 0: any.
struct Needle {
  char first, second, third;
  std::uint8_t hint;
};
constexpr std::uint8_t kSaves = 1, kBanner = 2, kTraining = 4, kBetter = 8;
constexpr Needle kNeedles[] = {
    {'a', 'v', 0, kSaves},       // save, saving
    {'r', 'i', 't', kSaves},     // writing, written
    {'r', 'o', 't', kSaves},     // wrote
    {'A', 'V', 0, kSaves},       //
    {'i', 'z', 'e', kBanner},    // batch size
    {'N', 'u', 'm', kBanner},    // Num examples
    {'e', 'p', 's', kBanner},    // steps
    {'a', 'r', 'a', kBanner},    // params
    {'r', 'a', 'i', kTraining},  // training
    {'R', 'u', 'n', kTraining},  // ***** Running
    {'r', 'o', 'v', kBetter},    // improved
    {'e', 'a', 'c', kBetter},    // reached
};

/// The hints whose letters begin at one of the sixteen bytes at `at`; two more can be read.
std::uint8_t hints_at(const char* at) {
  std::uint8_t found = 0;
#if defined(__SSE2__)
  const auto load = [](const char* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  };
  const __m128i first = load(at), second = load(at + 1), third = load(at + 2);
  for (const Needle& needle : kNeedles) {
    __m128i here = _mm_and_si128(_mm_cmpeq_epi8(first, _mm_set1_epi8(needle.first)),
                                 _mm_cmpeq_epi8(second, _mm_set1_epi8(needle.second)));
    if (needle.third != 0)
      here = _mm_and_si128(here, _mm_cmpeq_epi8(third, _mm_set1_epi8(needle.third)));
    if (_mm_movemask_epi8(here) != 0) found |= needle.hint;
  }
#else
  for (int i = 0; i < 16; ++i)
    for (const Needle& needle : kNeedles)
      if (at[i] == needle.first && at[i + 1] == needle.second &&
          (needle.third == 0 || at[i + 2] == needle.third))
        found |= needle.hint;
#endif
  return found;
}

}  // namespace

Hints hints_of(std::string_view text) {
  std::uint8_t found = 0;
  std::size_t at = 0;
  for (; at + 18 <= text.size(); at += 16) found |= hints_at(text.data() + at);
  std::array<char, 18 + 16> rest{};  // up to 17 bytes
  std::memcpy(rest.data(), text.data() + at, text.size() - at);
  found |= hints_at(rest.data());
  found |= hints_at(rest.data() + 16);
  Hints hints;
  hints.saves = (found & kSaves) != 0;
  hints.banner = (found & kBanner) != 0;
  hints.training = (found & kTraining) != 0;
  hints.better = (found & kBetter) != 0;
  return hints;
}

std::string lower_ascii(std::string_view text) {
  std::string out(text);
  for (char& byte : out) byte = lower_byte(byte);
  return out;
}

bool contains(std::string_view text, std::string_view needle) {
  return text.find(needle) != std::string_view::npos;
}

bool starts_with_word(std::string_view text, std::string_view start) {
  if (text.size() < start.size()) return false;
  for (std::size_t i = 0; i < start.size(); ++i)
    if (lower_byte(text[i]) != start[i]) return false;
  return true;
}

bool equals_word(std::string_view text, std::string_view word) {
  return text.size() == word.size() && starts_with_word(text, word);
}

std::string_view strip(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

bool scan_number(std::string_view text, Number& number, bool commas) {
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const char* at = begin;
  number = Number{};
  if (at == end) return false;
  const bool negative = *at == '-';
  if (negative || *at == '+') ++at;
  if (at == end) return false;
  if (!is_digit(*at) && *at != '.') {
    const std::size_t size =
        scan_not_finite(text.substr(static_cast<std::size_t>(at - begin)), number.value);
    if (size == 0) return false;
    if (negative) number.value = -number.value;
    number.size = static_cast<std::size_t>(at - begin) + size;
    return true;
  }
  const char* const first = at;
  std::uint64_t mantissa = 0;
  int places = 0, digits = 0, exponent = 0;
  for (; at < end && is_digit(*at); ++at, ++digits)
    mantissa = mantissa * 10 + static_cast<std::uint64_t>(*at - '0');
  const int leading = digits;
  if (at < end && *at == '.' && at + 1 < end && is_digit(at[1])) {
    for (++at; at < end && is_digit(*at); ++at, ++digits, ++places)
      mantissa = mantissa * 10 + static_cast<std::uint64_t>(*at - '0');
  } else if (at < end && *at == '.' && leading > 0 && (at + 1 == end || !is_word(at[1]))) {
    ++at;                              // "12."
    if (at < end && *at == '.') --at;  // "12...": an ellipsis
  }
  if (digits == 0) return false;
  const bool point = at != first + leading;
  const char* const before_exponent = at;
  if (at < end && (*at == 'e' || *at == 'E')) {
    const char* mark = at + 1;
    const bool down = mark < end && *mark == '-';
    if (mark < end && (*mark == '-' || *mark == '+')) ++mark;
    if (mark < end && is_digit(*mark)) {
      for (; mark < end && is_digit(*mark); ++mark)
        if (exponent < 9999) exponent = exponent * 10 + (*mark - '0');
      if (down) exponent = -exponent;
      at = mark;
    }
  }
  const int power = exponent - places;
  if (digits <= 19 && mantissa < kExact && power >= -22 && power <= 22) {
    const auto value = static_cast<double>(mantissa);
    number.value = power < 0 ? value / kPowers[static_cast<std::size_t>(-power)]
                             : value * kPowers[static_cast<std::size_t>(power)];
  } else {
    const auto [after, error] = std::from_chars(first, at, number.value);
    if (error == std::errc::result_out_of_range)
      number.value = power > 0 ? std::numeric_limits<double>::infinity() : 0;
    else if (error != std::errc())
      return false;
  }
  number.size = static_cast<std::size_t>(at - begin);
  number.whole = !point && at == before_exponent;
  if (commas && number.whole && at < end && *at == ',') {
    const std::size_t sign = static_cast<std::size_t>(first - begin);
    number.size = 0;
    scan_commas(text.substr(sign), static_cast<std::size_t>(leading), number);
    number.size = number.size == 0 ? static_cast<std::size_t>(at - begin) : number.size + sign;
    // "1,234.5": thousands with a fraction behind
    if (number.grouped && !number.sure_comma && number.size + 1 < text.size() &&
        text[number.size] == '.' && is_digit(text[number.size + 1])) {
      double scale = 1;
      std::size_t i = number.size + 1;
      for (; i < text.size() && is_digit(text[i]); ++i) {
        scale /= 10;
        number.value += (text[i] - '0') * scale;
      }
      number.size = i;
      number.whole = false;
      number.decimal = number.value;
    }
  }
  if (negative) {
    number.value = -number.value;
    number.decimal = -number.decimal;
  }
  return true;
}

std::optional<double> plain_number(std::string_view text) {
  text = strip(text);
  if (text.size() >= 2 && (text.front() == '\'' || text.front() == '"') &&
      text.back() == text.front())
    text = strip(text.substr(1, text.size() - 2));
  if (text.starts_with("tensor(")) text.remove_prefix(7);
  Number number;
  if (!scan_number(text, number)) return std::nullopt;
  const std::string_view rest = text.substr(number.size);
  if (rest.empty() || rest.front() == ',' || rest.front() == ')') return number.value;
  return std::nullopt;
}

std::optional<double> scan_clock(std::string_view text) {
  text = strip(text);
  double total = 0;
  Number number;
  if (contains(text, ":")) {
    int parts = 0;
    while (true) {
      if (!scan_number(text, number, false) || !(number.value >= 0) || ++parts > 4)
        return std::nullopt;
      total = total * 60 + number.value;
      text.remove_prefix(number.size);
      if (text.empty()) return parts > 1 ? std::optional(total) : std::nullopt;
      if (text.front() != ':') return std::nullopt;
      text.remove_prefix(1);
    }
  }
  bool any = false;
  while (!text.empty()) {
    if (!scan_number(text, number, false)) return std::nullopt;
    text = strip(text.substr(number.size));
    std::size_t letters = 0;
    while (letters < text.size() && is_letter(text[letters])) ++letters;
    const std::string_view unit = text.substr(0, letters);
    double scale = 0;
    if (unit == "d" || unit == "day" || unit == "days") scale = 86400;
    if (unit == "h" || unit == "hr" || unit == "hrs" || unit == "hour" || unit == "hours")
      scale = 3600;
    if (unit == "m" || unit == "min" || unit == "mins" || unit == "minute" || unit == "minutes")
      scale = 60;
    if (unit == "s" || unit == "sec" || unit == "secs" || unit == "second" || unit == "seconds")
      scale = 1;
    if (unit == "ms") scale = 1e-3;
    if (scale == 0) return std::nullopt;
    total += number.value * scale;
    any = true;
    text = strip(text.substr(letters));
    if (!text.empty() && text.front() == ',') text = strip(text.substr(1));
  }
  return any ? std::optional(total) : std::nullopt;
}

std::optional<std::int64_t> whole_number(double value) {
  if (!(value >= 0) || value > 9e15 || value != std::floor(value)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

}  // namespace rigwise::logs
