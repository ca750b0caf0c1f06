// What the files beside tokenizer.json say: which tokens play which part, and the chat template.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rigwise/result.h"

namespace rigwise::engine {

struct TokenizerSettings {
  /// Texts of the tokens, as the files spell them (plain or as {"content": …}).
  std::optional<std::string> bos_token = {}, eos_token = {}, pad_token = {}, unk_token = {};
  /// Ids that end a generation (generation_config.json); may be empty.
  std::vector<std::int32_t> stop_ids = {};
  /// Jinja, by name; the one that is used unless asked is "default".
  std::vector<std::pair<std::string, std::string>> chat_templates = {};

  [[nodiscard]] const std::string* chat_template(const std::string& name = "default") const;
  bool operator==(const TokenizerSettings&) const = default;
};

/// tokenizer_config.json, special_tokens_map.json (where the former says nothing),
/// generation_config.json and chat_template.jinja (before the one in tokenizer_config.json) of a
/// folder; files that are missing say nothing. Errors: malformed (file and member), io.
Result<TokenizerSettings> read_tokenizer_settings(const std::filesystem::path& folder);

}  // namespace rigwise::engine
