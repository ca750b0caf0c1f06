// Against `tokenizers`' own trainer and transformers' AutoTokenizer:
// tests/parity/training_parity.py.
#include <gtest/gtest.h>

#include "base/json.h"
#include "engine/text/bpe_training.h"
#include "engine/text/tokenizer.h"
#include "unit/engine_made_files.h"

namespace rigwise::engine {
namespace {

Tokenizer tokenizer_of(const MadeTokenizer& made) {
  const TemporaryFolder folder;
  EXPECT_TRUE(write_tokenizer(made, folder.path()).ok());
  auto read = Tokenizer::read(folder.path());
  EXPECT_TRUE(read.ok()) << read.error().message;
  return std::move(*read);
}

TEST(TrainTokenizer, MergesTheMostFrequentPairFirst) {
  // low 5, lowest 2, newer 6, wider 3: the worked example of Sennrich, Haddow and Birch (2016)
  std::string text;
  for (const auto& [word, count] : {std::pair("low", 5), std::pair("lowest", 2),
                                    std::pair("newer", 6), std::pair("wider", 3)}) {
    for (int i = 0; i < count; ++i) text += std::string(word) + "\n";
  }
  const auto made = train_tokenizer(text, 259 + 4);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->vocab_size, 263);
  EXPECT_TRUE(made->has_chat_template);
  const auto json = parse_json(made->tokenizer_json);
  ASSERT_TRUE(json.ok());
  // er 9 times; lo and ow 7 each, low; then ew, ne and wer, 6 each: that with the smallest ids
  EXPECT_EQ((*json)["model"]["merges"].get<std::vector<std::string>>(),
            (std::vector<std::string>{"e r", "l o", "lo w", "e w"}));
}

TEST(TrainTokenizer, TheSameTextGivesTheSameBytes) {
  const std::string text =
      file_bytes(std::filesystem::path(RIGWISE_FIXTURES) / "tokenizers/make.py");
  const auto once = train_tokenizer(text, 400), again = train_tokenizer(text, 400);
  ASSERT_TRUE(once.ok());
  EXPECT_EQ(once->tokenizer_json, again->tokenizer_json);
  EXPECT_EQ(once->vocab_size, 400);
  auto tokenizer = tokenizer_of(*once);
  EXPECT_EQ(tokenizer.id_end(), 400);
  const auto ids = tokenizer.encode(text);
  ASSERT_TRUE(ids.ok());
  EXPECT_LT(ids->size(), text.size() * 3 / 5);
  EXPECT_EQ(tokenizer.decode(*ids, false), text);
  EXPECT_EQ(*tokenizer.encode("<|im_start|>a<|im_end|>"),
            (std::vector<std::int32_t>{1, *tokenizer.id("a"), 2}));
  EXPECT_EQ(tokenizer.eos(), 0);
  EXPECT_EQ(tokenizer.bos(), 0);
  EXPECT_EQ(tokenizer.pad(), 0);
  EXPECT_NE(tokenizer.settings().chat_template(), nullptr);
}

TEST(TrainTokenizer, NoTextGivesBytes) {
  const auto least = train_tokenizer("", 257);
  ASSERT_TRUE(least.ok());
  EXPECT_EQ(least->vocab_size, 257);
  EXPECT_FALSE(least->has_chat_template);
  auto bytes = tokenizer_of(*least);
  EXPECT_EQ(bytes.encode("h\xC3\xA9")->size(), 3U);
  EXPECT_EQ(bytes.settings().chat_template(), nullptr);
  EXPECT_EQ(train_tokenizer("", 50257)->vocab_size, 259);
  EXPECT_EQ(train_tokenizer("ab", 50257)->vocab_size, 259);  // met once
  EXPECT_EQ(train_tokenizer("abab", 50257)->vocab_size, 260);
}

TEST(TrainTokenizer, RefusesSizesThatCannotBe) {
  EXPECT_EQ(train_tokenizer("", 256).error().code, Errc::usage);
  EXPECT_EQ(train_tokenizer("", 1 << 21).error().code, Errc::usage);
  EXPECT_TRUE(train_tokenizer("\xFF\xFF\x80", 300).ok());
}

}  // namespace
}  // namespace rigwise::engine
