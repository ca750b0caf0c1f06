// Byte pair encoding: a word → token ids, by a table of merges. Private to engine/text.
//
// The result is that of Hugging Face's `tokenizers` (models/bpe): the merge of lowest rank first,
// of the leftmost pair first, until none is left. Time is n log n in the word's length. Words are
// remembered, so that running text costs one hash a word.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rigwise/result.h"

namespace rigwise::engine {

/// Bytes as GPT-2 spells them: each of the 256 has a printable character of its own.
char32_t byte_level_char(unsigned char byte);
std::optional<unsigned char> byte_level_byte(char32_t character);
std::string byte_level_text(std::string_view bytes);

struct BpeOptions {
  std::optional<std::string> unk_token = {};
  bool fuse_unk = false;
  bool byte_fallback = false;  // unknown characters become <0xE2>…
  bool ignore_merges = false;  // a word that is a token is that token
};

class Bpe {
 public:
  using Vocabulary = std::vector<std::pair<std::string, std::int32_t>>;
  using Merges = std::vector<std::pair<std::string, std::string>>;

  Bpe(Bpe&&) noexcept = default;
  Bpe& operator=(Bpe&&) noexcept = default;
  Bpe(const Bpe&) = delete;  // ids_ points into tokens_
  Bpe& operator=(const Bpe&) = delete;
  ~Bpe() = default;

  /// Errors: malformed (a token or an id twice, a merge of or into an unknown token: all named).
  static Result<Bpe> make(Vocabulary vocabulary, const Merges& merges, BpeOptions options);

  [[nodiscard]] std::optional<std::int32_t> id(std::string_view token) const;
  [[nodiscard]] const std::string* token(std::int32_t id) const;
  /// One above the largest id, and how many there are.
  [[nodiscard]] std::int32_t id_end() const { return static_cast<std::int32_t>(tokens_.size()); }
  [[nodiscard]] std::size_t size() const { return ids_.size(); }

  /// What was encoded before; bounded. Belongs to one thread.
  class Memory {
   public:
    Memory();

   private:
    friend class Bpe;
    struct Entry {
      std::uint64_t hash = 0;
      std::uint32_t key = 0, key_bytes = 0, ids = 0, id_count = 0;  // places in the pools
      bool used = false;
    };
    struct Symbol {
      std::int32_t id = 0;
      std::int32_t previous = -1, next = -1;
      bool merged = false;  // into the one on its left
    };
    struct Candidate {
      std::int32_t rank = 0, position = 0, id = 0;
    };
    Entry* look_up(std::string_view word, std::uint64_t hash);
    void keep(std::string_view word, std::uint64_t hash, const std::int32_t* ids,
              std::size_t count);
    void clear();
    std::vector<Entry> entries_;
    std::size_t filled_ = 0;
    std::string keys_;
    std::vector<std::int32_t> ids_;
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
  };

  /// Appends the word's ids to `out`. With `byte_level` the word is raw bytes, which the vocabulary
  /// spells by byte_level_char; else it is valid UTF-8. Below 2^31 bytes. A character that nothing
  /// covers is left out, as `tokenizers` does.
  void encode(std::string_view word, bool byte_level, Memory& memory,
              std::vector<std::int32_t>& out) const;

 private:
  struct Merge {
    std::uint64_t pair = kNoPair;
    std::int32_t rank = 0, id = 0;
  };
  static constexpr std::uint64_t kNoPair = ~std::uint64_t{0};
  Bpe() = default;
  Status add_merges(const Merges& merges);
  [[nodiscard]] const Merge* merge_of(std::int32_t left, std::int32_t right) const;
  void encode_piece(std::string_view word, bool byte_level, Memory& memory,
                    std::vector<std::int32_t>& out) const;
  void begin_symbols(std::string_view word, bool byte_level, Memory& memory) const;
  void merge_symbols(Memory& memory) const;

  BpeOptions options_;
  std::vector<std::string> tokens_;  // by id; "" where there is none (or the token is empty)
  std::vector<bool> has_token_;
  std::unordered_map<std::string_view, std::int32_t> ids_;  // keys are tokens_'
  std::unordered_map<char32_t, std::int32_t> char_ids_;
  std::array<std::int32_t, 128> ascii_ids_ = {};
  std::array<std::int32_t, 256> byte_ids_ = {};                     // by byte_level_char; -1: none
  std::optional<std::array<std::int32_t, 256>> fallback_ids_ = {};  // <0x00>…; -1: none
  std::optional<std::int32_t> unk_id_ = {};
  std::vector<Merge> merges_;  // open addressing, a power of two
  bool cuts_at_space_ = false;  // words may be cut in front of a run of "▁": no merge joins over it
};

}  // namespace rigwise::engine
