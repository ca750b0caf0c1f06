// What a tokenizer does to text before and after its model: normalizers, pre-tokenizers, decoders.
// Private to engine/text.
//
// Semantics are those of Hugging Face's `tokenizers` 0.23 (normalizers/, pre_tokenizers/,
// decoders/), read from tokenizer.json. All text is valid UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "engine/text/regex.h"
#include "engine/text/unicode.h"
#include "rigwise/result.h"

namespace rigwise::engine {

/// A literal or a regular expression (an index into TextSteps::regexes).
struct TextPattern {
  std::string literal = {};
  int regex = -1;
};

struct Normalizer {
  enum class Kind { prepend, replace, form, lower, strip, byte_level };
  Kind kind = Kind::form;
  TextPattern pattern = {};  // replace
  std::string content = {};  // prepend, replace
  NormalForm form = NormalForm::nfc;
  bool left = true, right = true;  // strip
};

struct PreTokenizer {
  enum class Kind { byte_level, split, digits, metaspace, white, punctuation };
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  enum class Prepend { never, first, always };
  Kind kind = Kind::split;
  TextPattern pattern = {};  // split; byte_level with use_regex
  Behavior behavior = Behavior::isolated;
  bool invert = false;               // split
  bool prefix_space = false;         // byte_level
  bool splits = true;                // byte_level: use_regex; metaspace: split
  std::string replacement = {};      // metaspace: one character
  Prepend prepend = Prepend::never;  // metaspace
};

struct Decoder {
  enum class Kind { byte_level, replace, byte_fallback, fuse, strip, metaspace };
  Kind kind = Kind::fuse;
  TextPattern pattern = {};          // replace
  std::string content = {};          // replace; strip and metaspace: one character
  std::int64_t start = 0, stop = 0;  // strip
  bool drops_first = false;          // metaspace: the mark of the first token
};

struct TextSteps {
  std::vector<Normalizer> normalizers = {};
  std::vector<PreTokenizer> pre_tokenizers = {};
  std::vector<Decoder> decoders = {};
  bool has_decoder = false;  // without one, tokens are joined by blanks
  std::vector<Regex> regexes = {};

  /// Errors: unavailable (a kind that is not known here, named), malformed. Messages name the
  /// member: "pre_tokenizer[1]: …".
  static Result<TextSteps> make(const Json& tokenizer);
};

/// One thread's memory for the regular expressions.
using TextScratch = std::vector<Regex::Scratch>;

/// Errors: unavailable (a pattern that takes too many steps on this text).
Result<std::string> normalize(const TextSteps& steps, std::string_view text, TextScratch& scratch);

/// Words as places in `text`, which may differ from what went in.
struct PreTokenized {
  std::string text = {};
  std::vector<std::pair<std::size_t, std::size_t>> words = {};  // begin, end; never empty
  bool byte_level = false;  // the words are raw bytes still: the model spells them
};
/// `at_start`: the piece is the first of the whole text. Errors: as normalize.
Result<PreTokenized> pre_tokenize(const TextSteps& steps, std::string_view text, bool at_start,
                                  TextScratch& scratch);

/// The bytes of text that a token of the vocabulary stands for: byte-level spelling undone, "▁" a
/// blank, <0x0A> a byte.
std::string token_surface(const TextSteps& steps, std::string_view token);

std::string decode_tokens(const TextSteps& steps, std::vector<std::string> tokens);

}  // namespace rigwise::engine
