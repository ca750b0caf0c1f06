// Units: the only place that turns seconds, bytes, rates and shares into text for people, and such
// text into numbers.
#pragma once

#include <string>
#include <string_view>

#include "rigwise/result.h"

namespace rigwise {

/// "0.42 s", "71.4 s", "6 min 12 s", "8 h 02 min"; digits fit the magnitude.
std::string format_duration(double seconds);
/// A ± in the same unit and with the same digits as `seconds` ± `half_width` deserves: "1.71 ± 0.03
/// s".
std::string format_duration(double seconds, double half_width);
/// "312 MB", "2.4 GB": powers of ten, as disks are sold.
std::string format_bytes(double bytes);
/// "21.7 GiB": powers of two, as device memory is stated.
std::string format_bytes_binary(double bytes);
/// 0.193 → "19 %", 0.004 → "0.4 %".
std::string format_share(double frac);
/// A number with as many digits as its uncertainty leaves: (0.42817, 0.003) → "0.428".
std::string format_to_uncertainty(double value, double half_width);
/// Unix seconds → "2026-11-20 18:02" local time, and "2026-11-20T17:02:11Z".
std::string format_wall_clock(double unix_s);
std::string format_iso_utc(double unix_s);

/// "5h", "20 s", "1h30m", "10min", "250 ms" → seconds. Errors: usage.
Result<double> parse_duration(std::string_view text);
/// "22GiB", "312 MB", "1.5e9" → bytes. Errors: usage.
Result<double> parse_bytes(std::string_view text);

}  // namespace rigwise
