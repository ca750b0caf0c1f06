#include "rigwise/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>

#include "base/text.h"

namespace rigwise {

namespace {
struct Scale {
  std::string_view name;
  double factor;
};

constexpr std::array kDurations = {
    Scale{"ms", 1e-3}, Scale{"us", 1e-6},   Scale{"s", 1},       Scale{"sec", 1},
    Scale{"secs", 1},  Scale{"second", 1},  Scale{"seconds", 1}, Scale{"m", 60},
    Scale{"min", 60},  Scale{"mins", 60},   Scale{"minute", 60}, Scale{"minutes", 60},
    Scale{"h", 3600},  Scale{"hr", 3600},   Scale{"hour", 3600}, Scale{"hours", 3600},
    Scale{"d", 86400}, Scale{"day", 86400}, Scale{"days", 86400}};

constexpr double kKi = 1024;
constexpr std::array kBytes = {Scale{"", 1},
                               Scale{"b", 1},
                               Scale{"kb", 1e3},
                               Scale{"mb", 1e6},
                               Scale{"gb", 1e9},
                               Scale{"tb", 1e12},
                               Scale{"kib", kKi},
                               Scale{"mib", kKi* kKi},
                               Scale{"gib", kKi* kKi* kKi},
                               Scale{"tib", kKi* kKi* kKi* kKi}};

template <std::size_t N>
const Scale* find(const std::array<Scale, N>& scales, std::string_view name) {
  const auto found =
      std::find_if(scales.begin(), scales.end(), [&](const Scale& s) { return s.name == name; });
  return found == scales.end() ? nullptr : &*found;
}

/// Decimals that show `half_width` with one significant digit, 0 to 6.
int decimals_for(double half_width) {
  if (!(half_width > 0) || !std::isfinite(half_width)) return 2;
  return std::clamp(static_cast<int>(std::ceil(-std::log10(half_width))), 0, 6);
}

int decimals_of_seconds(double seconds) {
  const double size = std::fabs(seconds);
  return size < 0.1 ? 3 : size < 10 ? 2 : 1;
}

std::string scaled(double value, double base, const std::array<const char*, 5>& names) {
  std::size_t i = 0;
  double size = std::fabs(value);
  while (size >= base * 0.9995 && i + 1 < names.size()) {
    size /= base;
    value /= base;
    ++i;
  }
  const int decimals = i == 0 || size >= 100 ? 0 : 1;
  return fmt::format("{:.{}f} {}", value, decimals, names[i]);
}
}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "not measured";
  const double size = std::fabs(seconds);
  const char* sign = seconds < 0 ? "−" : "";
  if (size < 59.95) return fmt::format("{}{:.{}f} s", sign, size, decimals_of_seconds(size));
  if (size < 3599.5) {
    const auto whole = static_cast<long>(std::lround(size));
    return fmt::format("{}{} min {} s", sign, whole / 60, whole % 60);
  }
  const auto minutes = static_cast<long>(std::lround(size / 60));
  return fmt::format("{}{} h {:02} min", sign, minutes / 60, minutes % 60);
}

std::string format_duration(double seconds, double half_width) {
  if (!std::isfinite(seconds) || !std::isfinite(half_width)) return format_duration(seconds);
  if (std::fabs(seconds) >= 120)
    return format_duration(seconds) + " ± " + format_duration(half_width);
  const int decimals = decimals_for(half_width);
  return fmt::format("{:.{}f} ± {:.{}f} s", seconds, decimals, half_width, decimals);
}

std::string format_bytes(double bytes) {
  return scaled(bytes, 1000, {"B", "kB", "MB", "GB", "TB"});
}
std::string format_bytes_binary(double bytes) {
  return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB"});
}

std::string format_share(double frac) {
  const double percent = frac * 100;
  if (!std::isfinite(percent)) return "not measured";
  if (percent != 0 && std::fabs(percent) < 0.95) return fmt::format("{:.1f} %", percent);
  return fmt::format("{:.0f} %", percent);
}

std::string format_to_uncertainty(double value, double half_width) {
  return fmt::format("{:.{}f}", value, decimals_for(half_width));
}

std::string format_wall_clock(double unix_time_s) {
  const auto seconds = static_cast<std::time_t>(unix_time_s);
  std::tm local = {};
  ::localtime_r(&seconds, &local);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}", local.tm_year + 1900, local.tm_mon + 1,
                     local.tm_mday, local.tm_hour, local.tm_min);
}

std::string format_iso_utc(double unix_time_s) {
  const auto seconds = static_cast<std::time_t>(unix_time_s);
  std::tm utc = {};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

Result<double> parse_duration(std::string_view text) {
  std::string_view rest = trim(text);
  const Error bad{Errc::usage, fmt::format("'{}' is not a duration", text),
                  "write it as 5h, 90min, 1h30m, 20 s or 250 ms"};
  if (rest.empty()) return bad;
  double total = 0;
  while (!rest.empty()) {
    const auto digits = rest.find_first_not_of("0123456789.");
    if (digits == 0) return bad;
    const auto number = to_number(rest.substr(0, digits));
    if (!number) return bad;
    rest = digits == std::string_view::npos ? std::string_view() : trim(rest.substr(digits));
    const auto letters = std::min(rest.find_first_of("0123456789. \t"), rest.size());
    const Scale* unit = find(
        kDurations, letters == 0 && total == 0 ? std::string_view("s") : rest.substr(0, letters));
    if (unit == nullptr) return bad;
    total += *number * unit->factor;
    rest = trim(rest.substr(letters));
  }
  return total;
}

Result<double> parse_bytes(std::string_view text) {
  const std::string_view rest = trim(text);
  const auto digits = rest.find_first_not_of("0123456789.");
  const auto number = to_number(rest.substr(0, digits));
  const Scale* unit = find(
      kBytes, digits == std::string_view::npos ? std::string() : lower(trim(rest.substr(digits))));
  if (!number || unit == nullptr) {
    return Error{Errc::usage, fmt::format("'{}' is not a size", text),
                 "write it as 22GiB, 312 MB or 1500000"};
  }
  return *number * unit->factor;
}

}  // namespace rigwise
