#include "base/json.h"

#include <utility>
#include <vector>

namespace rigwise {

namespace {

bool is_modest(std::string_view text) {
  constexpr std::size_t kMostDepth = 64, kMostMembers = 4000;
  std::vector<std::pair<char, std::size_t>> open;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (open.size() >= kMostDepth) return false;
      open.emplace_back(c, 0);
    } else if (c == '}' || c == ']') {
      if (!open.empty()) open.pop_back();
    } else if (c == ',' && !open.empty() && open.back().first == '{') {
      if (++open.back().second > kMostMembers) return false;
    }
  }
  return true;
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    return Error{Errc::malformed, "byte " + std::to_string(error.byte) + ": not valid JSON"};
  } catch (const nlohmann::json::exception&) {  // a number that no double holds: 1e999
    return Error{Errc::malformed, "a number in it is out of range"};
  }
}

Result<Json> parse_foreign_json(std::string_view text, std::size_t most_bytes) {
  if (text.size() > most_bytes || !is_modest(text)) {
    return Error{Errc::malformed, "not a JSON document of this kind"};
  }
  return parse_json(text);
}

}  // namespace rigwise
