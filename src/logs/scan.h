// Scanning: numbers with units, mappings ({…} as Python, JSON or something between prints them),
// prefixes that name a rank. Views point into the given text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rigwise::logs {

/// One key and its value as printed, quotes taken off.
struct Field {
  std::string_view key = {};
  std::string_view value = {};
  std::string parent = {};  // "mem" for {"mem": {"allocated_mb": 1}}
};

struct Mapping {
  std::vector<Field> fields = {};
  std::size_t size = 0;    // bytes used, the closing brace included
  bool complete = false;   // the closing brace was there
  bool json = false;       // keys in double quotes
  bool malformed = false;  // not a mapping after all
};

/// Reads the mapping that starts at text[0] == '{'. Tolerant: either quote, bare words, nan and
/// inf,
/// "...", nested mappings (flattened, at most 4 deep), lists (passed over). A value that the end of
/// the text cuts is left out.
Mapping scan_mapping(std::string_view text);

/// A number and what stands right behind it.
struct Quantity {
  double value = 0;
  std::string_view unit = {};  // letters, '%' and '/' directly behind, or after one blank
  std::size_t size = 0;        // bytes of the number without its unit
};

/// Reads a number at the start of `text`: "2.3", "1,234" (thousands), "1e-4", "nan", "inf", "-inf".
std::optional<Quantity> scan_quantity(std::string_view text);

/// "12", "1,234", "0.5", "1e-4", "NaN", "'3.1'" → value; nothing when anything else stands there.
std::optional<double> plain_number(std::string_view text);

/// "0:00:10.48", "1:02:03", "41m 48s", "43s" → seconds.
std::optional<double> scan_clock(std::string_view text);

/// Takes "[rank1]:", "[default0]:", "[1,mpirank:0,algo-1]<stdout>:", "[1,0]<stderr>:" off the
/// front.
std::optional<int> strip_rank_prefix(std::string_view& text);

bool is_letter(char byte);
bool is_digit(char byte);
/// Lower-case copy; ASCII only.
std::string lower_ascii(std::string_view text);
bool contains(std::string_view text, std::string_view needle);

}  // namespace rigwise::logs
