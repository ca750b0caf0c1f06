#include "base/json.h"

namespace rigwise {

Result<Json> parse_json(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    return Error{Errc::malformed, "byte " + std::to_string(error.byte) + ": not valid JSON"};
  }
}

}  // namespace rigwise
