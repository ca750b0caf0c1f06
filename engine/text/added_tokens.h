// Tokens that are cut out of a text before the model sees it. Private to engine/text.
// Semantics: `tokenizers`' AddedVocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace rigwise::engine {

struct AddedToken {
  std::int32_t id = 0;
  std::string content = {};
  bool single_word = false;             // not inside of a word
  bool lstrip = false, rstrip = false;  // takes the white space beside it along
  bool normalized = false;              // looked for after the normalizer
  bool special = false;
};

/// A piece of text, or the token that stands there.
struct TextPiece {
  std::string_view text = {};
  std::optional<std::int32_t> token = {};
};

/// Finds the leftmost, longest of its tokens.
class AddedTokenFinder {
 public:
  /// `content` is what to look for: the token's own, or what the normalizer makes of it.
  void add(const AddedToken& token, std::string content);
  /// `text` cut at the tokens; empty pieces are left out.
  [[nodiscard]] std::vector<TextPiece> cut(std::string_view text) const;

 private:
  struct Hit {
    std::size_t begin = 0, end = 0;
    const AddedToken* token = nullptr;
  };
  [[nodiscard]] std::optional<Hit> find(std::string_view text, std::size_t from) const;
  struct First {
    std::vector<std::size_t> lengths =
        {};  // of the contents that begin with that byte, longest first
  };
  std::array<First, 256> by_first_ = {};
  std::unordered_map<std::string, AddedToken> tokens_;  // by what is looked for
};

}  // namespace rigwise::engine
