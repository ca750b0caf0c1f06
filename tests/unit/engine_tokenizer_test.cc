// Ids are held to golden.json: what `tokenizers` says (tests/fixtures/tokenizers/make.py). The
// whole of a book and the vocabularies of real models: tests/parity/tokenizers_parity.py.
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/text.h"
#include "engine/text/tokenizer.h"
#include "engine/text/unicode.h"
#include "unit/engine_made_files.h"

namespace rigwise::engine {
namespace {

std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(RIGWISE_FIXTURES) / "tokenizers" / name;
}

constexpr const char* kNames[] = {"gpt2",   "prefix_digits",   "llama3",          "qwen", "falcon",
                                  "llama2", "metaspace_first", "metaspace_split", "odd"};

std::vector<std::string> golden_texts(const Json& golden) {
  return golden["texts"].get<std::vector<std::string>>();
}

TEST(Tokenizer, GivesTheIdsAndTextsOfTheReference) {
  const auto golden = parse_json(file_bytes(fixture("golden.json")));
  ASSERT_TRUE(golden.ok());
  const auto texts = golden_texts(*golden);
  for (const std::string name : kNames) {
    auto tokenizer = Tokenizer::read(fixture(name + ".json"));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
    const Json& want = (*golden)["tokenizers"][name];
    for (std::size_t i = 0; i < texts.size(); ++i) {
      for (int pass = 0; pass < 2; ++pass) {  // the second time from memory
        const auto ids = tokenizer->encode(texts[i]);
        ASSERT_TRUE(ids.ok());
        EXPECT_EQ(*ids, want["ids"][i].get<std::vector<std::int32_t>>())
            << name << ": " << texts[i];
        EXPECT_EQ(tokenizer->decode(*ids), want["decoded"][i].get<std::string>()) << name;
      }
    }
  }
}

TEST(Tokenizer, ByteLevelTextComesBackByteForByte) {
  auto tokenizer = Tokenizer::read(fixture("gpt2.json"));
  std::string all;
  for (char32_t c = 0; c < 0x11000; ++c) {
    if (c < 0xD800 || c > 0xDFFF) append_utf8(all, c);
  }
  const auto ids = tokenizer->encode(all, false);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(tokenizer->decode(*ids, false), all);
}

TEST(Tokenizer, WhatIsNotUtf8BecomesReplacementCharacters) {
  auto tokenizer = Tokenizer::read(fixture("gpt2.json"));
  EXPECT_EQ(*tokenizer->encode("a\xFF\xE2\x96z"), *tokenizer->encode("a\uFFFD\uFFFDz"));
  std::size_t replaced = 0;
  // As Python 3 decodes them with errors="replace"
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98 \xED\xA0\x80 \xC0\xAF", &replaced),
            "\uFFFD \uFFFD\uFFFD\uFFFD \uFFFD\uFFFD");
  EXPECT_EQ(replaced, 6U);
}

TEST(Tokenizer, LongWordsTakeNoQuadraticTime) {
  for (const std::string name : {"gpt2", "llama2", "metaspace_first"}) {
    auto tokenizer = Tokenizer::read(fixture(name + ".json"));
    const std::string word(1 << 20, 'a');
    const auto ids = tokenizer->encode(word, false);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(tokenizer->decode(*ids), word);
    ASSERT_TRUE(tokenizer->encode(std::string(1 << 20, ' ')).ok());
    ASSERT_TRUE(tokenizer->encode(std::string(1 << 20, '\n')).ok());
  }
}

TEST(Tokenizer, TokensAndPartsByName) {
  const TemporaryFolder folder;
  folder.put("tokenizer.json", file_bytes(fixture("llama3.json")));
  folder.put("tokenizer_config.json",
             R"({"bos_token":{"content":"<|im_start|>","lstrip":false},"eos_token":"<|im_end|>",
                 "chat_template":[{"name":"default","template":"D"},{"name":"tool_use","template":"T"}]})");
  folder.put("special_tokens_map.json", R"({"eos_token":"x","pad_token":"<|endoftext|>"})");
  folder.put("generation_config.json", R"({"eos_token_id":[2,0]})");
  auto tokenizer = Tokenizer::read(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_EQ(tokenizer->pad(), 0);
  EXPECT_FALSE(tokenizer->unk());
  EXPECT_EQ(tokenizer->settings().stop_ids, (std::vector<std::int32_t>{2, 0}));
  EXPECT_EQ(*tokenizer->settings().chat_template("tool_use"), "T");
  EXPECT_EQ(tokenizer->id_end(), 340);
  EXPECT_EQ(*tokenizer->token(1), "<|im_start|>");
  EXPECT_EQ(tokenizer->token(340), nullptr);
  EXPECT_EQ(tokenizer->token(-1), nullptr);
  EXPECT_TRUE(tokenizer->is_special(1));
  EXPECT_FALSE(tokenizer->is_special(5));
  Tokenizer copy = *tokenizer;
  EXPECT_EQ(*copy.encode("whale"), *tokenizer->encode("whale"));
  folder.put("chat_template.jinja", "J");
  EXPECT_EQ(*Tokenizer::read(folder.path())->settings().chat_template(), "J");
  folder.put("tokenizer_config.json", R"({"bos_token":7})");
  EXPECT_NE(Tokenizer::read(folder.path()).error().message.find("bos_token"), std::string::npos);
}

std::string why(const std::string& json) {
  const auto read = Tokenizer::parse(json, "tokenizer.json");
  return read.ok() ? "" : read.error().message;
}

std::string with_model(const std::string& model, const std::string& rest = "") {
  return "{\"model\":" + model + rest + "}";
}

TEST(Tokenizer, OtherKindsAreRefusedByName) {
  const auto refused = [](const std::string& json, const std::string& word) {
    const auto read = Tokenizer::parse(json, "tokenizer.json");
    ASSERT_FALSE(read.ok()) << json;
    EXPECT_EQ(read.error().code, Errc::unavailable) << read.error().message;
    EXPECT_NE(read.error().message.find(word), std::string::npos) << read.error().message;
    EXPECT_TRUE(read.error().message.starts_with("tokenizer.json: "));
    EXPECT_FALSE(read.error().hint.empty());
  };
  const std::string bpe = R"({"type":"BPE","vocab":{"a":0},"merges":[]})";
  refused(with_model(R"({"type":"WordPiece","vocab":{"a":0}})"), "WordPiece");
  refused(with_model(R"({"type":"Unigram","vocab":[["a",-1.5],["b",-2]]})"), "Unigram");
  refused(with_model(R"({"vocab":[["a",-1.5]]})"), "Unigram");
  refused(with_model(R"({"type":"BPE","vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"})"),
          "end_of_word_suffix");
  refused(with_model(R"({"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1})"), "dropout");
  refused(with_model(bpe, R"(,"normalizer":{"type":"BertNormalizer"})"), "BertNormalizer");
  refused(with_model(bpe, R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits",
                              "individual_digits":true},{"type":"UnicodeScripts"}]})"),
          "pre_tokenizer[1]: type 'UnicodeScripts'");
  refused(with_model(bpe, R"(,"post_processor":{"type":"RobertaProcessing"})"),
          "RobertaProcessing");
  refused(with_model(bpe, R"(,"decoder":{"type":"WordPiece"})"), "WordPiece");
  const TemporaryFolder folder;
  const auto none = Tokenizer::read(folder.path());
  EXPECT_EQ(none.error().code, Errc::not_found);
  folder.put("tokenizer.model", "x");
  EXPECT_NE(Tokenizer::read(folder.path()).error().hint.find("tokenizer.model"), std::string::npos);
}

TEST(Tokenizer, HostileFilesAreRefusedWithTheirPlace) {
  const auto says = [](const std::string& json, const std::string& word) {
    EXPECT_NE(why(json).find(word), std::string::npos) << json << "\n" << why(json);
  };
  says("", "not valid JSON");
  says("[]", "not a JSON object");
  says("{}", "no model");
  says(with_model("3"), "no model");
  says(with_model(R"({"vocab":{},"merges":[]})"), "empty");
  says(with_model(R"({"vocab":{"a":0,"b":0},"merges":[]})"), "same id 0");
  says(with_model(R"({"vocab":{"a":0,"a":1},"merges":[]})"), "'a' is there twice");
  says(with_model(R"({"vocab":{"a":-1},"merges":[]})"), "out of range");
  says(with_model(R"({"vocab":{"a":4194304},"merges":[]})"), "out of range");
  says(with_model(R"({"vocab":{"a":99999999999999999999},"merges":[]})"),
       "'a' has no whole number");
  says(with_model(R"({"vocab":{"a":1.5},"merges":[]})"), "no whole number");
  says(with_model(R"({"vocab":{"a":{}},"merges":[]})"), "inside model.vocab");
  says(with_model(R"({"vocab":{"a":0,"b":1},"merges":["a c"]})"), "model.merges[0]: 'c'");
  says(with_model(R"({"vocab":{"a":0,"b":1},"merges":[["a","b"]]})"), "not in model.vocab");
  says(with_model(R"({"vocab":{"a":0},"merges":["a a a"]})"), "not a pair");
  says(with_model(R"({"vocab":{"a":0},"merges":[["a"]]})"), "not a pair");
  says(with_model(R"({"vocab":{"a":0},"merges":[["a","b","c"]]})"), "not a pair");
  says(with_model(R"({"vocab":{"a":0},"merges":[[["a"]]]})"), "merge");
  says(with_model(R"({"vocab":{"a":0},"merges":[],"unk_token":"u"})"), "unk_token 'u'");
  const std::string bpe = R"({"type":"BPE","vocab":{"a":0},"merges":[]})";
  says(with_model(bpe, R"(,"added_tokens":[{"id":5,"content":"x"}])"), "the next free one is 1");
  says(with_model(bpe, R"(,"added_tokens":[{"id":5,"content":"a"}])"), "also 0");
  says(with_model(bpe, R"(,"added_tokens":[{"id":1}])"), "needs content");
  says(
      with_model(
          bpe,
          R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated","invert":false})"),
      "pattern '(a'");
  says(
      with_model(
          bpe,
          R"(,"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"No","invert":false})"),
      "behavior 'No'");
  says(with_model(bpe, R"(,"pre_tokenizer":{"type":"Metaspace","replacement":"ab"})"),
       "one character");
  says(with_model(bpe, R"(,"normalizer":{"type":"Replace","pattern":7,"content":""})"), "pattern");
  says(with_model(bpe, R"(,"post_processor":{"type":"TemplateProcessing","single":[]})"),
       "no Sequence");
  says(with_model(
           bpe,
           R"(,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"b"}},
       {"Sequence":{"id":"A"}}],"special_tokens":{"b":{"ids":[9]}}})"),
       "no token has the id 9");
  std::string deep = R"({"type":"Digits","individual_digits":true})";
  for (int i = 0; i < 100; ++i) deep = R"({"type":"Sequence","pretokenizers":[)" + deep + "]}";
  says(with_model(bpe, ",\"pre_tokenizer\":" + deep), "64 deep");
}

TEST(Tokenizer, AFileCutAtAnyByteIsRefused) {
  const std::string whole = file_bytes(fixture("llama2.json"));
  for (std::size_t cut = 0; cut + 2 < whole.size(); ++cut)  // "}\n" ends it
    EXPECT_FALSE(Tokenizer::parse(whole.substr(0, cut), "t").ok()) << cut;
}

TEST(Tokenizer, APatternThatTakesTooLongIsAnError) {
  auto tokenizer = Tokenizer::parse(
      with_model(
          R"({"type":"BPE","vocab":{"a":0},"merges":[]})",
          R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a|a)*[bc]"},"behavior":"Isolated","invert":false})"),
      "t");
  ASSERT_TRUE(tokenizer.ok());
  const auto ids = tokenizer->encode(std::string(5000, 'a'));
  ASSERT_FALSE(ids.ok());
  EXPECT_NE(ids.error().message.find("too many steps"), std::string::npos);
}

}  // namespace
}  // namespace rigwise::engine
