// JSON: small additions to nlohmann::json, kept to one place. Absent optionals are left out, never
// null, unless a schema says otherwise; nan and inf become strings, since JSON has none.
#pragma once

#include <nlohmann/json.hpp>

#include <cmath>
#include <optional>
#include <string>

#include "rigwise/result.h"

namespace rigwise {

using Json = nlohmann::ordered_json;

inline Json json_number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

template <class T>
void put(Json& object, const char* key, const std::optional<T>& value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (value) object[key] = json_number(*value);
  } else {
    if (value) object[key] = *value;
  }
}

/// The member as a T when it is there and of that type; else nothing.
template <class T>
std::optional<T> get(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) return std::nullopt;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!found->is_boolean()) return std::nullopt;
  } else if constexpr (std::is_arithmetic_v<T>) {
    if (!found->is_number()) return std::nullopt;
  }
  try {
    return found->template get<T>();
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

/// Errors: malformed, with byte position and what was expected.
Result<Json> parse_json(std::string_view text);

/// The same for a file that somebody else's program wrote. Its size, its depth (64) and the members
/// of one object (4,000) are bounded before it is parsed: an ordered object's cost grows with the
/// square of its members. Errors: malformed.
Result<Json> parse_foreign_json(std::string_view text, std::size_t most_bytes);

}  // namespace rigwise
