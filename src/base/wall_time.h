// Wall time: the instants that logs and tools write as text.
//
// Nothing is guessed: a stamp without a zone is local time and says so, one without a date is
// seconds of a day and says so. No locale is consulted; month names are English, as C and Python
// write them.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace rigwise {

struct WallTime {
  double unix_s = 0;       // of a stamp without a date: seconds since midnight
  bool has_date = true;    // "14:03:22,123" has none
  bool has_year = true;    // "1124 14:03:22" has none: this year, or the last if that were ahead
  bool has_zone = false;   // else local time of this machine
  std::size_t length = 0;  // bytes of the text that the stamp took
};

/// The stamp that `text` begins with, nothing else read. Forms: ISO 8601 with 'T' or blank, '-',
/// '/' or '.' between date parts, fractions by '.' or ',', zones Z, +hh:mm, +hhmm, UTC, GMT;
/// 11/24/26 and 11/24/2026 (month first, unless that is no month) with or without AM/PM;
/// "Tue Nov 24 16:47:22 UTC 2026", "Tue, 24 Nov 2026 16:47:12 GMT", "24/Nov/2026:16:47:12";
/// glog's "I1124 14:03:22.123456"; 20261124-140322; Unix seconds with a fraction; "14:03:22,123".
/// `now_unix_s` supplies a missing year.
std::optional<WallTime> parse_wall_time(std::string_view text, double now_unix_s);

}  // namespace rigwise
