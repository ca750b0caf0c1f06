// tokenizer.json of a Hugging Face model: text → token ids and back, with the ids that the
// `tokenizers` package gives.
//
// Read are byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and the SentencePiece kind of BPE (Llama
// 2, Mistral: "▁" for blanks, byte fallback). Any other kind (WordPiece, Unigram, tiktoken files)
// is refused by name.
//
// Character classes are those of the installed PCRE2 (10.42: Unicode 14) and utf8proc: a character
// that was assigned later may fall into another word than it does in `tokenizers`.
//
// Text is bytes: what is not UTF-8 becomes U+FFFD, as Python's errors="replace" has it.
// Threads: a Tokenizer remembers the words it met and belongs to one thread; a copy is cheap,
// shares the tables and may go to another.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/tokenizer_settings.h"
#include "rigwise/result.h"

namespace rigwise::engine {

class Tokenizer {
 public:
  /// tokenizer.json of a folder (or that file itself) and the settings beside it.
  /// Errors: not_found (no tokenizer.json; the hint says what is there instead), malformed (file,
  /// member, offending text), unavailable (a kind or a step that is not supported, named).
  static Result<Tokenizer> read(const std::filesystem::path& folder_or_file);
  /// `place` is put before each message.
  static Result<Tokenizer> parse(std::string_view tokenizer_json, std::string_view place,
                                 TokenizerSettings settings = {});

  Tokenizer(const Tokenizer& other);
  Tokenizer& operator=(const Tokenizer& other);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Special tokens inside the text are recognised. `add_special`: what the post-processor puts
  /// around a text (Llama: <s> before it). Errors: unavailable (text above 1 GiB, or one on which a
  /// pattern of the tokenizer takes too many steps).
  Result<std::vector<std::int32_t>> encode(std::string_view text, bool add_special = true);

  struct Marked {
    std::vector<std::int32_t> ids = {};
    std::vector<bool> inside = {};  // one an id
  };
  /// encode(), and for each token whether some of its text lies in one of the spans (bytes of
  /// `text`, in order, apart). Tokens that the post-processor puts around are not inside. Exact
  /// unless the normalizer changed the text there (a composed accent), then to about a token.
  Result<Marked> encode_marked(std::string_view text,
                               std::span<const std::pair<std::size_t, std::size_t>> spans,
                               bool add_special = true);

  /// Ids that there are not are passed over. The result is valid UTF-8.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids,
                                   bool skip_special = true) const;

  [[nodiscard]] std::optional<std::int32_t> id(std::string_view token) const;
  /// As the vocabulary spells it ("Ġthe"); nullptr where there is none.
  [[nodiscard]] const std::string* token(std::int32_t id) const;
  [[nodiscard]] bool is_special(std::int32_t id) const;
  /// One above the largest id: the least vocab_size of a model that fits.
  [[nodiscard]] std::int32_t id_end() const;

  /// Ids of the parts that settings() names; nothing where no part or no such token.
  [[nodiscard]] std::optional<std::int32_t> bos() const;
  [[nodiscard]] std::optional<std::int32_t> eos() const;
  [[nodiscard]] std::optional<std::int32_t> pad() const;
  [[nodiscard]] std::optional<std::int32_t> unk() const;
  [[nodiscard]] const TokenizerSettings& settings() const;

 private:
  struct Tables;
  struct Memory;
  [[nodiscard]] std::string surface(std::int32_t id) const;
  [[nodiscard]] std::optional<std::vector<std::size_t>> token_ends(
      std::string_view text, std::span<const std::int32_t> ids) const;
  explicit Tokenizer(std::shared_ptr<const Tables> tables);
  std::shared_ptr<const Tables> tables_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace rigwise::engine
