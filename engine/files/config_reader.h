// Members of a foreign JSON object, read by name and range. Private to engine/.
//
// The first error is kept and every later read gives its fallback, so that a reader of thirty
// fields stays a list of thirty lines.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/text.h"
#include "rigwise/result.h"

namespace rigwise::engine {

class ConfigReader {
 public:
  /// `object` must be a JSON object and outlive the reader.
  ConfigReader(const Json& object, std::string place) : object_(object), place_(std::move(place)) {}

  [[nodiscard]] bool has(const char* key) const {  // null is as good as absent
    const auto found = object_.find(key);
    return found != object_.end() && !found->is_null();
  }
  [[nodiscard]] bool is_null(const char* key) const {
    const auto found = object_.find(key);
    return found != object_.end() && found->is_null();
  }
  [[nodiscard]] const Json* find(const char* key) const {
    return has(key) ? &object_[key] : nullptr;
  }

  std::int64_t integer(const char* key, std::int64_t fallback, std::int64_t least,
                       std::int64_t most) {
    if (!has(key)) return fallback;
    const Json& value = object_[key];
    if (!value.is_number_integer() ||
        (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{1} << 62)) {
      refuse(key, "must be a whole number");
      return fallback;
    }
    const auto number = value.get<std::int64_t>();
    if (number < least || number > most) {
      refuse(key, "must lie from " + std::to_string(least) + " to " + std::to_string(most));
      return fallback;
    }
    return number;
  }

  double number(const char* key, double fallback, double least, double most) {
    if (!has(key)) return fallback;
    const Json& value = object_[key];
    const double number = value.is_number() ? value.get<double>() : NAN;
    if (!(number >= least && number <= most)) {
      refuse(key, "must be a number from " + number_text(least) + " to " + number_text(most));
      return fallback;
    }
    return number;
  }

  std::optional<double> maybe_number(const char* key, double least, double most) {
    if (!has(key)) return std::nullopt;
    return number(key, least, least, most);
  }

  bool flag(const char* key, bool fallback) {
    if (!has(key)) return fallback;
    if (object_[key].is_boolean()) return object_[key].get<bool>();
    refuse(key, "must be true or false");
    return fallback;
  }

  std::string text(const char* key, std::string fallback) {
    if (!has(key)) return fallback;
    if (object_[key].is_string()) return object_[key].get<std::string>();
    refuse(key, "must be a text");
    return fallback;
  }

  std::vector<std::string> texts(const char* key) {
    std::vector<std::string> out;
    if (!has(key)) return out;
    if (object_[key].is_array()) {
      for (const auto& item : object_[key]) {
        if (!item.is_string()) return refuse(key, "must be a list of texts"), out;
        out.push_back(item.get<std::string>());
      }
      return out;
    }
    refuse(key, "must be a list of texts");
    return out;
  }

  /// The value as a person would quote it, short.
  [[nodiscard]] std::string quoted(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) return "";
    return clean_text(found->dump(-1, ' ', false, Json::error_handler_t::replace), 60);
  }

  void refuse(const char* key, const std::string& why) {
    fail({Errc::malformed, place_ + ": " + key + " is " + quoted(key) + ", " + why});
  }
  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  [[nodiscard]] const std::string& place() const { return place_; }

 private:
  const Json& object_;
  std::string place_;
  std::optional<Error> error_;
};

}  // namespace rigwise::engine
