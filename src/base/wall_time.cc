#include "base/wall_time.h"

#include <array>
#include <cmath>
#include <ctime>

#include "base/text.h"

namespace rigwise {

namespace {

/// A cursor over a stamp. Every step says whether it matched; a failed one leaves the place as is.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text.substr(0, 64)) {}

  [[nodiscard]] std::size_t at() const { return at_; }
  void back_to(std::size_t at) { at_ = at; }
  [[nodiscard]] char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool one(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  bool one_of(std::string_view chars) {
    if (peek() == '\0' || chars.find(peek()) == std::string_view::npos) return false;
    ++at_;
    return true;
  }
  bool blanks() {
    const std::size_t from = at_;
    while (peek() == ' ') ++at_;
    return at_ > from;
  }
  bool word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  /// Between `least` and `most` digits.
  std::optional<int> number(int least, int most) {
    int value = 0, count = 0;
    while (count < most && is_digit(peek(static_cast<std::size_t>(count)))) {
      value = value * 10 + (peek(static_cast<std::size_t>(count)) - '0');
      ++count;
    }
    if (count < least) return std::nullopt;
    at_ += static_cast<std::size_t>(count);
    return value;
  }
  /// ".123" or ",123" as 0.123; 0 where there is none.
  double fraction() {
    if ((peek() != '.' && peek() != ',') || !is_digit(peek(1))) return 0;
    double value = 0, place = 0.1;
    for (++at_; is_digit(peek()); ++at_, place /= 10) value += (peek() - '0') * place;
    return value;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
constexpr std::array<std::string_view, 7> kDays = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

struct Parts {
  int year = 0, month = 0, day = 0;
  int hour = 0, minute = 0, second = 0;
  double fraction = 0;
  bool has_date = true, has_year = true;
  std::optional<int> zone_s = {};  // east of Greenwich
};

std::optional<int> month_name(Cursor& at) {
  for (std::size_t i = 0; i < kMonths.size(); ++i) {
    if (at.word(kMonths[i])) return static_cast<int>(i) + 1;
  }
  return std::nullopt;
}

bool day_name(Cursor& at) {
  for (const auto day : kDays) {
    if (at.word(day)) return true;
  }
  return false;
}

bool clock_of(Cursor& at, Parts& parts) {
  const auto hour = at.number(1, 2);
  if (!hour || !at.one(':')) return false;
  const auto minute = at.number(2, 2);
  if (!minute || !at.one(':')) return false;
  const auto second = at.number(2, 2);
  if (!second || *hour > 23 || *minute > 59 || *second > 60) return false;
  parts.hour = *hour;
  parts.minute = *minute;
  parts.second = *second;
  parts.fraction = at.fraction();
  const std::size_t before = at.at();
  at.blanks();
  const bool after_noon = at.word("PM"), before_noon = !after_noon && at.word("AM");
  if (!after_noon && !before_noon) {
    at.back_to(before);
  } else if (parts.hour <= 12) {
    parts.hour = parts.hour % 12 + (after_noon ? 12 : 0);
  }
  return true;
}

void zone_of(Cursor& at, Parts& parts) {
  const std::size_t before = at.at();
  at.blanks();
  for (const std::string_view name : {"Z", "UTC", "GMT"}) {
    if (at.word(name)) {
      parts.zone_s = 0;
      return;
    }
  }
  const bool east = at.peek() == '+';
  if ((east || at.peek() == '-') && is_digit(at.peek(1)) && is_digit(at.peek(2))) {
    at.one_of("+-");
    const auto hours = at.number(2, 2);
    at.one(':');
    const auto minutes = at.number(2, 2);
    if (hours && *hours <= 14 && minutes && *minutes < 60) {
      parts.zone_s = (east ? 1 : -1) * (*hours * 3600 + *minutes * 60);
      return;
    }
  }
  at.back_to(before);
}

/// 2026-11-24, 2026/11/24, 2026.11.24
bool year_first(Cursor& at, Parts& parts) {
  const auto year = at.number(4, 4);
  const char separator = at.peek();
  if (!year || !at.one_of("-/.")) return false;
  const auto month = at.number(1, 2);
  if (!month || !at.one(separator)) return false;
  const auto day = at.number(1, 2);
  if (!day) return false;
  parts.year = *year;
  parts.month = *month;
  parts.day = *day;
  return true;
}

/// 11/24/26 and 11/24/2026 month first; 24.11.2026 day first, and where it can only be so.
bool year_last(Cursor& at, Parts& parts) {
  const auto first = at.number(1, 2);
  const char separator = at.peek();
  if (!first || !at.one_of("/.-")) return false;
  const auto second = at.number(1, 2);
  if (!second || !at.one(separator)) return false;
  const auto year = at.number(2, 4);
  if (!year) return false;
  const bool day_first = separator != '/' || *first > 12;
  parts.day = day_first ? *first : *second;
  parts.month = day_first ? *second : *first;
  parts.year = *year < 100 ? 2000 + *year : *year;
  return true;
}

/// Tue Nov 24 16:47:22 UTC 2026 · Nov 24 16:47:22 · Tue, 24 Nov 2026 16:47:12 GMT ·
/// 24/Nov/2026:16:…
bool month_in_letters(Cursor& at, Parts& parts) {
  const bool named = day_name(at);
  if (named) at.one(','), at.blanks();
  if (const auto month = month_name(at)) {
    at.blanks();
    const auto day = at.number(1, 2);
    if (!day || !at.blanks() || !clock_of(at, parts)) return false;
    parts.month = *month;
    parts.day = *day;
    zone_of(at, parts);
    const std::size_t before = at.at();
    at.blanks();
    for (std::size_t letters = 0; letters < 5 && at.peek() >= 'A' && at.peek() <= 'Z'; ++letters) {
      at.one(at.peek());  // "CET": a zone by a name that is not unique
    }
    at.blanks();
    const auto year = at.number(4, 4);
    if (year) {
      parts.year = *year;
    } else {
      at.back_to(before);
      parts.has_year = false;
    }
    return true;
  }
  const auto day = at.number(1, 2);
  if (!day || !at.one_of(" /-")) return false;
  const auto month = month_name(at);
  if (!month || !at.one_of(" /-")) return false;
  const auto year = at.number(4, 4);
  if (!year || !at.one_of(" :")) return false;
  at.blanks();
  if (!clock_of(at, parts)) return false;
  parts.year = *year;
  parts.month = *month;
  parts.day = *day;
  zone_of(at, parts);
  return true;
}

/// I1124 14:03:22.123456
bool glog(Cursor& at, Parts& parts) {
  if (!at.one_of("IWEFD")) return false;
  const auto month = at.number(2, 2);
  const auto day = month ? at.number(2, 2) : std::nullopt;
  if (!day || !at.blanks() || !clock_of(at, parts)) return false;
  parts.month = *month;
  parts.day = *day;
  parts.has_year = false;
  return true;
}

/// 20261124-140322, 20261124_140322, 20261124T140322
bool compact(Cursor& at, Parts& parts) {
  const auto year = at.number(4, 4);
  const auto month = year ? at.number(2, 2) : std::nullopt;
  const auto day = month ? at.number(2, 2) : std::nullopt;
  if (!day || !at.one_of("-_T")) return false;
  const auto hour = at.number(2, 2);
  const auto minute = hour ? at.number(2, 2) : std::nullopt;
  const auto second = minute ? at.number(2, 2) : std::nullopt;
  if (!second || is_digit(at.peek()) || *hour > 23 || *minute > 59 || *second > 60) {
    return false;
  }
  parts = {.year = *year,
           .month = *month,
           .day = *day,
           .hour = *hour,
           .minute = *minute,
           .second = *second};
  parts.fraction = at.fraction();
  zone_of(at, parts);
  return true;
}

bool numeric_date(Cursor& at, Parts& parts, bool (*date)(Cursor&, Parts&)) {
  if (!date(at, parts)) return false;
  const bool joined = at.one_of("T_");
  if (!joined && !at.blanks()) return false;
  if (!clock_of(at, parts)) return false;
  zone_of(at, parts);
  return true;
}

bool possible(const Parts& parts) {
  return parts.month >= 1 && parts.month <= 12 && parts.day >= 1 && parts.day <= 31 &&
         (!parts.has_year || (parts.year >= 1990 && parts.year <= 2200));
}

std::optional<double> unix_of(const Parts& parts) {
  std::tm when = {};
  when.tm_year = parts.year - 1900;
  when.tm_mon = parts.month - 1;
  when.tm_mday = parts.day;
  when.tm_hour = parts.hour;
  when.tm_min = parts.minute;
  when.tm_sec = parts.second;
  when.tm_isdst = -1;
  const std::time_t seconds = parts.zone_s ? ::timegm(&when) : ::mktime(&when);
  if (seconds == static_cast<std::time_t>(-1)) return std::nullopt;
  return static_cast<double>(seconds) - parts.zone_s.value_or(0) + parts.fraction;
}

/// 1795538823.019973: only with a fraction, or it is any number.
std::optional<WallTime> unix_seconds(std::string_view text) {
  Cursor at(text);
  const auto high = at.number(4, 4);
  const auto low = high ? at.number(6, 6) : std::nullopt;
  if (!low || at.peek() != '.' || !is_digit(at.peek(1))) return std::nullopt;
  const double seconds = *high * 1e6 + *low + at.fraction();
  if (seconds < 9e8 || seconds > 7e9) return std::nullopt;
  return WallTime{.unix_s = seconds, .has_zone = true, .length = at.at()};
}

}  // namespace

std::optional<WallTime> parse_wall_time(std::string_view text, double now_unix_s) {
  if (const auto seconds = unix_seconds(text)) return seconds;
  using Form = bool (*)(Cursor&, Parts&);
  constexpr std::array<Form, 5> kForms = {
      [](Cursor& at, Parts& parts) { return numeric_date(at, parts, year_first); },
      [](Cursor& at, Parts& parts) { return numeric_date(at, parts, year_last); }, month_in_letters,
      glog, compact};
  for (const Form form : kForms) {
    Cursor at(text);
    Parts parts;
    if (!form(at, parts) || !possible(parts)) continue;
    if (!parts.has_year) {
      const auto now = static_cast<std::time_t>(now_unix_s);
      std::tm local = {};
      ::localtime_r(&now, &local);
      parts.year = local.tm_year + 1900;
      if (const auto guess = unix_of(parts); guess && *guess > now_unix_s + 86400) --parts.year;
    }
    const auto seconds = unix_of(parts);
    if (!seconds) continue;
    return WallTime{.unix_s = *seconds,
                    .has_date = true,
                    .has_year = parts.has_year,
                    .has_zone = parts.zone_s.has_value(),
                    .length = at.at()};
  }
  Cursor at(text);
  Parts parts;
  if (!clock_of(at, parts) || is_digit(at.peek()) || at.peek() == ':') return std::nullopt;
  return WallTime{
      .unix_s = parts.hour * 3600.0 + parts.minute * 60.0 + parts.second + parts.fraction,
      .has_date = false,
      .has_year = false,
      .length = at.at()};
}

}  // namespace rigwise
