#include "base/json.h"

namespace rigwise {

Result<Json> parse_json(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    return Error{Errc::malformed, "byte " + std::to_string(error.byte) + ": not valid JSON"};
  } catch (const nlohmann::json::exception&) {  // a number that no double holds: 1e999
    return Error{Errc::malformed, "a number in it is out of range"};
  }
}

}  // namespace rigwise
