// tokenizer.json as text → its parts. Private to engine/text.
//
// The vocabulary and the merges (hundreds of thousands of entries) are read past the general JSON
// reader, straight into lists; the rest is small.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "rigwise/result.h"

namespace rigwise::engine {

struct TokenizerJson {
  Json rest = {};  // an object: all but model.vocab and model.merges
  std::vector<std::pair<std::string, std::int32_t>> vocabulary = {};
  std::vector<std::pair<std::string, std::string>> merges = {};
  bool has_vocabulary_list = false;  // model.vocab is a list of [token, score]: Unigram
};

/// Errors: malformed (not JSON, with the byte; too deep; a shape that no tokenizer.json has).
Result<TokenizerJson> read_tokenizer_json(std::string_view text);

}  // namespace rigwise::engine
