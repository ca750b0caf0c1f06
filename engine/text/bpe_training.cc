#include "engine/text/bpe_training.h"

#include <algorithm>
#include <array>
#include <optional>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/text/bpe.h"
#include "engine/text/regex.h"
#include "engine/text/unicode.h"

namespace rigwise::engine {

namespace {

constexpr std::int32_t kMostVocabulary = 1 << 20, kBytes = 256;
constexpr std::int32_t kChatVocabulary = kBytes + 3;
constexpr std::size_t kMostTextBytes = std::size_t{1} << 30;
constexpr std::int64_t kLeastCount = 2;  // a pair that is met once teaches nothing

constexpr std::string_view kPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kChatMl =
    "{%- for message in messages -%}\n"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}\n"
    "{%- if message['role'] == 'assistant' -%}\n"
    "{%- generation -%}\n"
    "{{- message['content'] + '<|im_end|>' -}}\n"
    "{%- endgeneration -%}\n"
    "{%- else -%}\n"
    "{{- message['content'] + '<|im_end|>' -}}\n"
    "{%- endif -%}\n"
    "{{- '\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- '<|im_start|>assistant\\n' -}}\n"
    "{%- endif -%}\n";

using Id = std::int32_t;

struct Word {
  std::vector<Id> symbols = {};
  std::int64_t count = 0;
};

std::uint64_t pair_of(Id left, Id right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

class Trainer {
 public:
  Trainer(std::vector<std::string> tokens, std::vector<Word> words)
      : tokens_(std::move(tokens)), words_(std::move(words)) {
    for (std::size_t i = 0; i < tokens_.size(); ++i) ids_.emplace(tokens_[i], static_cast<Id>(i));
    for (std::size_t i = 0; i < words_.size(); ++i) {
      const auto& word = words_[i];
      for (std::size_t k = 0; k + 1 < word.symbols.size(); ++k)
        change(pair_of(word.symbols[k], word.symbols[k + 1]), word.count, i);
    }
    push_changed();
  }

  void run(std::size_t vocab_size) {
    while (tokens_.size() < vocab_size && !queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      Pair& pair = pairs_[top.pair];
      if (top.count != pair.count) {  // it changed since it was queued
        if (pair.count >= kLeastCount) queue_.push({pair.count, top.pair});
        continue;
      }
      merge(top.pair);
    }
  }

  [[nodiscard]] const std::vector<std::string>& tokens() const { return tokens_; }
  [[nodiscard]] const Bpe::Merges& merges() const { return merges_; }

 private:
  struct Pair {
    std::int64_t count = 0;
    std::vector<std::size_t> words = {};  // that hold it, or did
    bool changed = false;
  };
  struct Candidate {
    std::int64_t count = 0;
    std::uint64_t pair = 0;
    bool operator<(const Candidate& other) const {  // the queue's top is the largest
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void change(std::uint64_t key, std::int64_t by, std::size_t word) {
    Pair& pair = pairs_[key];
    pair.count += by;
    if (by < 0) return;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
    if (!pair.changed) changed_.push_back(key);
    pair.changed = true;
  }
  void push_changed() {
    for (const auto key : changed_) {
      Pair& pair = pairs_[key];
      pair.changed = false;
      if (pair.count >= kLeastCount) queue_.push({pair.count, key});
    }
    changed_.clear();
  }

  void merge(std::uint64_t key) {
    const auto left = static_cast<Id>(key >> 32), right = static_cast<Id>(key & 0xFFFFFFFF);
    const std::string& left_token = tokens_[static_cast<std::size_t>(left)];
    const std::string& right_token = tokens_[static_cast<std::size_t>(right)];
    std::string joined = left_token + right_token;
    merges_.emplace_back(left_token, right_token);
    // Two ways to one token are two merges and one id
    const auto [place, is_new] = ids_.emplace(joined, static_cast<Id>(tokens_.size()));
    const Id id = place->second;
    if (is_new) tokens_.push_back(std::move(joined));
    std::vector<std::size_t> words;
    words.swap(pairs_[key].words);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    for (const auto index : words) merge_in(index, left, right, id);
    pairs_[key].count = 0;
    push_changed();
  }

  void merge_in(std::size_t index, Id left, Id right, Id id) {
    Word& word = words_[index];
    auto& symbols = word.symbols;
    std::vector<Id> out;
    out.reserve(symbols.size());
    bool found = false;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      if (i + 1 < symbols.size() && symbols[i] == left && symbols[i + 1] == right) {
        out.push_back(id);
        ++i;
        found = true;
      } else {
        out.push_back(symbols[i]);
      }
    }
    if (!found) return;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
      change(pair_of(symbols[i], symbols[i + 1]), -word.count, index);
    for (std::size_t i = 0; i + 1 < out.size(); ++i)
      change(pair_of(out[i], out[i + 1]), word.count, index);
    symbols = std::move(out);
  }

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, Id> ids_;
  std::vector<Word> words_;
  Bpe::Merges merges_;
  std::unordered_map<std::uint64_t, Pair> pairs_;
  std::vector<std::uint64_t> changed_;
  std::priority_queue<Candidate> queue_;
};

Result<std::vector<Word>> count_words(std::string_view text, const std::array<Id, 256>& byte_ids) {
  RW_TRY(const auto pattern, Regex::compile(kPattern));
  Regex::Scratch scratch(pattern);
  std::unordered_map<std::string_view, std::size_t> places;
  std::vector<Word> out;
  for (std::size_t at = 0; at < text.size();) {
    const auto match = pattern.find(text, at, scratch);
    if (!match || match->end == match->begin) break;
    at = match->end;
    const auto bytes = text.substr(match->begin, match->end - match->begin);
    const auto [place, is_new] = places.emplace(bytes, out.size());
    if (is_new) {
      Word& word = out.emplace_back();
      for (const char byte : bytes)
        word.symbols.push_back(byte_ids[static_cast<unsigned char>(byte)]);
    }
    ++out[place->second].count;
  }
  return out;
}

std::string json_text(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string tokenizer_text(const std::vector<std::string>& tokens, const Bpe::Merges& merges,
                           std::size_t specials) {
  Json added = Json::array();
  for (std::size_t i = 0; i < specials; ++i) {
    added.push_back({{"id", i},
                     {"content", tokens[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const std::string byte_level =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false})";
  // The vocabulary is written by hand: an ordered object's cost grows with the square of its size
  std::string out =
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":)" + added.dump() +
      R"(,"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[)" +
      R"({"type":"Split","pattern":{"Regex":)" + json_text(kPattern) +
      R"(},"behavior":"Isolated","invert":false},)" + byte_level +
      "]},\"post_processor\":" + byte_level + ",\"decoder\":" + byte_level +
      R"(,"model":{"type":"BPE","dropout":null,"unk_token":null,)" +
      R"("continuing_subword_prefix":null,"end_of_word_suffix":null,)" +
      R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":false,)" + "\n\"vocab\":{";
  for (std::size_t i = 0; i < tokens.size(); ++i)
    out += (i > 0 ? ",\n" : "\n") + json_text(tokens[i]) + ":" + std::to_string(i);
  out += "},\n\"merges\":[";
  for (std::size_t i = 0; i < merges.size(); ++i)
    out += (i > 0 ? ",\n" : "\n") + json_text(merges[i].first + " " + merges[i].second);
  return out + "]}}\n";
}

std::string config_text(bool has_chat) {
  Json out = {{"tokenizer_class", "PreTrainedTokenizerFast"},
              {"bos_token", "<|endoftext|>"},
              {"eos_token", "<|endoftext|>"},
              {"pad_token", "<|endoftext|>"},
              {"unk_token", nullptr},
              {"add_prefix_space", false},
              {"clean_up_tokenization_spaces", false},
              {"model_max_length", 1'000'000}};
  if (has_chat) out["chat_template"] = kChatMl;
  return out.dump(2) + "\n";
}

}  // namespace

Result<MadeTokenizer> train_tokenizer(std::string_view text, std::int32_t vocab_size) {
  if (vocab_size < kLeastVocabulary || vocab_size > kMostVocabulary)
    return Error{Errc::usage,
                 "a vocabulary of " + std::to_string(vocab_size) +
                     " tokens: it must have from 257 (256 bytes and <|endoftext|>) to 1048576"};
  if (text.size() > kMostTextBytes)
    return Error{Errc::unavailable, "a text above 1 GiB is not trained on",
                 "Give a part of it: some 100 MB are plenty."};
  const bool has_chat = vocab_size >= kChatVocabulary;
  std::vector<std::string> tokens = {"<|endoftext|>"};
  if (has_chat) tokens.insert(tokens.end(), {"<|im_start|>", "<|im_end|>"});
  const std::size_t specials = tokens.size();
  // Bytes in the order of the characters that stand for them, as `tokenizers` sorts its alphabet
  std::array<Id, 256> byte_ids = {};
  for (char32_t c = 0; c < 512; ++c) {
    const auto byte = byte_level_byte(c);
    if (!byte) continue;
    byte_ids[*byte] = static_cast<Id>(tokens.size());
    append_utf8(tokens.emplace_back(), c);
  }
  std::string normal;
  if (!is_ascii(text)) text = normal = normal_form(replace_invalid_utf8(text), NormalForm::nfc);
  RW_TRY(auto words, count_words(text, byte_ids));
  Trainer trainer(std::move(tokens), std::move(words));
  trainer.run(static_cast<std::size_t>(vocab_size));
  MadeTokenizer out;
  out.tokenizer_json = tokenizer_text(trainer.tokens(), trainer.merges(), specials);
  out.tokenizer_config_json = config_text(has_chat);
  out.vocab_size = static_cast<Id>(trainer.tokens().size());
  out.has_chat_template = has_chat;
  return out;
}

Status write_tokenizer(const MadeTokenizer& tokenizer, const std::filesystem::path& folder) {
  RW_CHECK(write_file_atomic(folder / "tokenizer.json", tokenizer.tokenizer_json));
  return write_file_atomic(folder / "tokenizer_config.json", tokenizer.tokenizer_config_json);
}

}  // namespace rigwise::engine
