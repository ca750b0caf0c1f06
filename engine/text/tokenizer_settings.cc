#include "engine/text/tokenizer_settings.h"

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"

namespace rigwise::engine {

namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMostTemplates = 64, kMostStopIds = 1000;

/// Nothing when the file is not there.
Result<std::optional<Json>> read_object(const std::filesystem::path& file) {
  auto text = read_file(file, kMostBytes);
  if (!text) {
    if (text.error().code == Errc::not_found) return std::optional<Json>();
    return std::move(text).error();
  }
  auto json = parse_foreign_json(*text, kMostBytes);
  // Models with many added tokens list each of them: more members than the foreign reader takes
  if (!json) json = parse_json(*text);
  if (!json) return std::move(json).error().at(file.string());
  if (!json->is_object()) return Error{Errc::malformed, file.string() + ": not a JSON object"};
  return std::optional<Json>(std::move(*json));
}

Status read_token(const Json& object, const char* key, const std::string& place,
                  std::optional<std::string>& out) {
  const auto found = object.find(key);
  if (out || found == object.end() || found->is_null()) return Ok{};
  if (found->is_string())
    out = found->get<std::string>();
  else if (found->is_object())
    out = get<std::string>(*found, "content");
  if (!out)
    return Error{Errc::malformed,
                 place + ": " + key + " is neither a text nor an object with content"};
  return Ok{};
}

Status read_templates(const Json& object, const std::string& place, TokenizerSettings& out) {
  const auto found = object.find("chat_template");
  if (found == object.end() || found->is_null()) return Ok{};
  if (found->is_string()) {
    out.chat_templates.emplace_back("default", found->get<std::string>());
    return Ok{};
  }
  if (!found->is_array() || found->size() > kMostTemplates)
    return Error{Errc::malformed, place + ": chat_template is neither a text nor a short list"};
  for (const auto& item : *found) {
    auto name = item.is_object() ? get<std::string>(item, "name") : std::nullopt;
    auto text = item.is_object() ? get<std::string>(item, "template") : std::nullopt;
    if (!name || !text)
      return Error{Errc::malformed, place + ": an entry of chat_template has no name or template"};
    out.chat_templates.emplace_back(std::move(*name), std::move(*text));
  }
  return Ok{};
}

Status read_stop_ids(const Json& object, const std::string& place, TokenizerSettings& out) {
  const auto found = object.find("eos_token_id");
  if (found == object.end() || found->is_null()) return Ok{};
  const Json list = found->is_array() ? *found : Json::array({*found});
  for (const auto& item : list) {
    if (!item.is_number_integer() || item.get<std::int64_t>() < 0 ||
        item.get<std::int64_t>() > INT32_MAX || out.stop_ids.size() >= kMostStopIds)
      return Error{Errc::malformed, place + ": eos_token_id is no token id"};
    out.stop_ids.push_back(item.get<std::int32_t>());
  }
  return Ok{};
}

}  // namespace

const std::string* TokenizerSettings::chat_template(const std::string& name) const {
  for (const auto& [key, text] : chat_templates) {
    if (key == name) return &text;
  }
  return nullptr;
}

Result<TokenizerSettings> read_tokenizer_settings(const std::filesystem::path& folder) {
  TokenizerSettings out;
  auto own = read_file(folder / "chat_template.jinja", kMostBytes);
  if (own)
    out.chat_templates.emplace_back("default", std::move(*own));
  else if (own.error().code != Errc::not_found)
    return std::move(own).error();
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto file = folder / name;
    RW_TRY(const auto json, read_object(file));
    if (!json) continue;
    RW_CHECK(read_token(*json, "bos_token", file.string(), out.bos_token));
    RW_CHECK(read_token(*json, "eos_token", file.string(), out.eos_token));
    RW_CHECK(read_token(*json, "pad_token", file.string(), out.pad_token));
    RW_CHECK(read_token(*json, "unk_token", file.string(), out.unk_token));
    RW_CHECK(read_templates(*json, file.string(), out));
  }
  const auto file = folder / "generation_config.json";
  RW_TRY(const auto json, read_object(file));
  if (json) RW_CHECK(read_stop_ids(*json, file.string(), out));
  return out;
}

}  // namespace rigwise::engine
