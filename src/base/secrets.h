// Secrets by their looks: which text is a token, password or key although no value is known. For
// everything that quotes what others wrote: command lines, log lines, paths, settings.
//
//   token shapes      hf_…, sk-…, ghp_…, AKIA…, JSON web tokens; a W&B key beside its word
//   URLs              user:PASSWORD@host; over http a user alone is a token, whatever its length
//   headers           Authorization: Bearer TOKEN, Cookie: …, also in the middle of an argument
//   names             --hf_token X, API_KEY=X, "password": "X"; not --max_tokens 512, --pad_token
//   <pad>
//
// What everybody's settings hold is left in view: booleans, 0, 1, none, auto.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace rigwise {

inline constexpr std::string_view kSecretMask = "***";

/// The text with what looks like a secret as "***". Masking twice changes nothing more.
std::string mask_secrets(std::string_view text);

/// What a name says about its value: `by_value` where only a value that looks random is a secret
/// ("--text_key content" is none).
enum class Suspicion { none, by_value, yes };

/// Of a flag, a setting, a member of a configuration: "--hf_token", "apiKey", "x-api-key".
Suspicion suspicion_of(std::string_view name);
/// Of an environment variable: names that end in a word like TOKEN, KEY, PASSWORD, SECRET or AUTH
/// (PGPASSWORD too), but not TOKENIZERS_PARALLELISM, GIT_AUTHOR_NAME, or what names a file or
/// place.
Suspicion suspicion_of_variable(std::string_view name);

/// Is the value of a setting of that name to be hidden?
bool hides_secret(std::string_view name, std::string_view value);

/// Booleans and other settings that are no secret whatever their name is.
bool is_harmless_value(std::string_view value);

/// "--token=a, b" → name and all that follows; "NAME=a" only without blanks, for else it is a line
/// for a shell.
std::optional<std::pair<std::string_view, std::string_view>> split_named(std::string_view argument);

}  // namespace rigwise
