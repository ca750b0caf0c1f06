// A byte-level BPE tokenizer trained on a text, for models that are made here from nothing.
//
// Written as tokenizer.json and tokenizer_config.json, which transformers' AutoTokenizer reads.
// Ids: the special tokens, the 256 bytes, then the merges in their order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "rigwise/result.h"

namespace rigwise::engine {

struct MadeTokenizer {
  std::string tokenizer_json = {}, tokenizer_config_json = {};
  /// At most what was asked for: a short text has no more pairs that are met twice.
  std::int32_t vocab_size = 0;
  bool has_chat_template = false;  // ChatML, from 259 tokens on
};

inline constexpr std::int32_t kLeastVocabulary = 257;  // <|endoftext|> and the bytes

/// Text in normal form C, words by Qwen's pattern: transformers reads the folder of a qwen2 model
/// with these two whatever its tokenizer.json says, and every other model's as the file says. Each
/// time the most frequent pair is merged, of equal ones that with
/// the smaller ids (Sennrich 2016, as `tokenizers`' BpeTrainer does it). The same text gives the
/// same tokenizer on every machine. An empty text: bytes and special tokens alone.
/// Errors: usage (fewer than 257 tokens or more than 1,048,576), unavailable (text above 1 GiB).
Result<MadeTokenizer> train_tokenizer(std::string_view text, std::int32_t vocab_size);

/// tokenizer.json and tokenizer_config.json of that folder, which must be there.
Status write_tokenizer(const MadeTokenizer& tokenizer, const std::filesystem::path& folder);

}  // namespace rigwise::engine
