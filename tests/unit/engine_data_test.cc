// Against transformers' own masks and Hugging Face's group_texts: tests/parity/data_parity.py.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/data/dataset.h"
#include "engine/data/windows.h"
#include "engine/text/bpe_training.h"
#include "unit/engine_made_files.h"

namespace rigwise::engine {
namespace {

/// Bytes and the special tokens: ids are 3 + the byte's rank, <|endoftext|> is 0.
Tokenizer byte_tokenizer(const std::string& chat_template = "") {
  const auto made = train_tokenizer("", 259);
  const TemporaryFolder folder;
  EXPECT_TRUE(write_tokenizer(*made, folder.path()).ok());
  if (!chat_template.empty()) folder.put("chat_template.jinja", chat_template);
  return std::move(*Tokenizer::read(folder.path()));
}

Documents documents(const std::string& bytes, const std::string& name,
                    const DataOptions& options = {}) {
  auto tokenizer = byte_tokenizer();
  auto read = parse_documents(bytes, name, tokenizer, options);
  EXPECT_TRUE(read.ok()) << read.error().message;
  return read ? std::move(*read) : Documents();
}

/// The document's text; what is not trained on in lower case, the end as "$".
std::string shown(const Documents& documents, std::size_t index) {
  static const Tokenizer tokenizer = byte_tokenizer();
  std::string out;
  for (std::int64_t at = documents.begin(index); at < documents.end(index); ++at) {
    const auto id = documents.id(at);
    std::string text = id == 0   ? "$"
                       : id == 1 ? "<"
                       : id == 2 ? ">"
                                 : tokenizer.decode(std::vector<std::int32_t>{id});
    if (!documents.trained(at)) {
      std::transform(text.begin(), text.end(), text.begin(),
                     [](char c) { return static_cast<char>(std::tolower(c)); });
      if (text == "$") text = "0";
    }
    out += text;
  }
  return out;
}

TEST(Documents, TextIsPartedByALineOfItsOwn) {
  const auto parts = documents("ONE\n<|doc|>\nTWO\nX\n<|doc|>\n\n<|doc|>\n<|doc|> NO\n", "a.txt");
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(shown(parts, 0), "ONE$");
  EXPECT_EQ(shown(parts, 1), "TWO\nX$");
  EXPECT_EQ(shown(parts, 2), "<|doc|> NO$");
  EXPECT_EQ(parts.statistics().empty_documents, 1);
  EXPECT_EQ(parts.statistics().documents, 3);
  EXPECT_EQ(parts.statistics().masked_tokens, 0);
  EXPECT_EQ(shown(documents("\xEF\xBB\xBFWHOLE\nFILE\n", "b.TXT"), 0), "WHOLE\nFILE\n$");
  const auto windows = documents("A\r\n<|doc|>\r\nB\r\n", "c.txt");
  EXPECT_EQ(shown(windows, 0), "A$");
  EXPECT_EQ(shown(windows, 1), "B$");
  EXPECT_EQ(documents("A\n<|doc|>", "d.txt").size(), 1U);
}

TEST(Documents, LinesOfJson) {
  const std::string lines =
      "{\"text\":\"PLAIN\"}\n\n"
      "{\"prompt\":\"ASK \",\"completion\":\"ANSWER\",\"id\":7}\r\n"
      "{\"text\":\"\"}\n"
      "{\"prompt\":\"ALONE\",\"completion\":\"\"}\n"
      "{\"messages\":[{\"role\":\"user\",\"content\":\"HI\"},{\"role\":\"assistant\",\"content\":"
      "\"YO\"}]}";
  const auto read = documents(lines, "a.jsonl");
  ASSERT_EQ(read.size(), 4U);
  EXPECT_EQ(shown(read, 0), "PLAIN$");
  EXPECT_EQ(shown(read, 1), "ask ANSWER$");
  EXPECT_EQ(shown(read, 2), "alone0");
  EXPECT_EQ(shown(read, 3), "<user\nhi>\n<assistant\nYO>\n");
  EXPECT_EQ(read.statistics().empty_documents, 1);
  EXPECT_EQ(read.statistics().untrained_documents, 1);
  const auto all = documents(lines, "a.jsonl", {.train_on_prompts = true});
  EXPECT_EQ(all.statistics().masked_tokens, 0);
  EXPECT_EQ(all.tokens(), read.tokens());
}

TEST(Documents, ChatsWhoseSayingsCannotBeToldAreTrainedOnWhole) {
  auto tokenizer = byte_tokenizer("{{ messages[0].content }}{{ messages[1].content }}");
  const auto read = parse_documents(
      R"({"messages":[{"role":"user","content":"A"},{"role":"assistant","content":"B"}]})",
      "a.jsonl", tokenizer);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(shown(*read, 0), "AB");
  EXPECT_EQ(read->statistics().unmarked_chats, 1);
}

TEST(Documents, OnlyWhatIsMeantForTheTemplateReachesIt) {
  auto tokenizer = byte_tokenizer("{{ eos_token }}{{ tools[0] }}{{ id is defined }}{{ k }}");
  const auto read =
      parse_documents(R"({"id":1,"eos_token":"E","tools":["T"],"chat_template_kwargs":{"k":"K"},)"
                      R"("messages":[{"role":"user","content":"A"}]})",
                      "a.jsonl", tokenizer, {.train_on_prompts = true});
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(shown(*read, 0), "$TFalseK");
}

TEST(Documents, ErrorsSayFileAndLine) {
  auto tokenizer = byte_tokenizer();
  const auto why = [&](std::string_view bytes, std::string_view name) {
    const auto read = parse_documents(bytes, name, tokenizer);
    return read.ok() ? std::string("read") : read.error().message;
  };
  const auto says = [&](std::string_view bytes, std::string_view name, const std::string& words) {
    EXPECT_NE(why(bytes, name).find(words), std::string::npos) << why(bytes, name);
  };
  says("", "a.txt", "a.txt: the file is empty");
  says("\xEF\xBB\xBF", "a.txt", "the file is empty");
  says(" \n<|doc|>\n\n", "a.txt", "no document in it holds anything");
  says("ok\nbad \xFF\n", "a.txt", "a.txt:2: byte 7 is not UTF-8");
  says("{}", "a.csv", "'.csv' is not read");
  says("{}", "a", "'' is not read");
  says("{\"text\":\"x\"}\n{\"text\":", "a.jsonl", "a.jsonl:2: ");
  says("[1]", "a.jsonl", "a.jsonl:1: not a JSON object: [1]");
  says("{\"question\":1,\"answer\":2}", "a.jsonl", "it has question, answer");
  says("{\"text\":7}", "a.jsonl", "text is no text");
  says("{\"prompt\":\"x\"}", "a.jsonl", "completion is missing");
  says("{\"prompt\":\"x\",\"completion\":\"\"}", "a.jsonl", "nothing in it is to be learnt");
  says("{\"messages\":[]}", "a.jsonl", "a.jsonl:1: messages is not");
  says("{\"messages\":[{\"role\":\"user\"}]}", "a.jsonl", "a.jsonl:1: chat template: line");
  says(std::string(200, '['), "a.jsonl", "a.jsonl:1: ");
  const TemporaryFolder folder;
  EXPECT_EQ(read_documents(folder.path() / "none.txt", tokenizer).error().code, Errc::not_found);
  EXPECT_EQ(read_documents(folder.path(), tokenizer).error().code, Errc::usage);
  EXPECT_EQ(read_documents(folder.put("e.txt", ""), tokenizer).error().code, Errc::malformed);
  EXPECT_EQ(read_documents(folder.put("f.txt", "x"), tokenizer)->tokens(), 2);
}

TEST(Documents, CutAtEveryByteIsReadOrRefused) {
  auto tokenizer = byte_tokenizer();
  const std::string whole =
      "{\"prompt\":\"\u00e9 "
      "\",\"completion\":\"\U0001F600\"}\n{\"messages\":[{\"role\":\"assistant\",\"content\":\"B\"}"
      "]}\n";
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    (void)parse_documents(whole.substr(0, cut), "a.jsonl", tokenizer).ok();
    (void)parse_documents(whole.substr(0, cut), "a.txt", tokenizer).ok();
  }
}

/// Documents of the given lengths; token k of document d is 100 d + k + 1.
std::shared_ptr<const Documents> made(const std::vector<int>& lengths) {
  Documents out;
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    std::vector<std::int32_t> ids;
    for (int k = 0; k < lengths[d]; ++k) ids.push_back(static_cast<std::int32_t>(100 * d) + k + 1);
    out.add(ids);
  }
  return std::make_shared<const Documents>(std::move(out));
}

using Ints = std::vector<std::int32_t>;

TEST(Windows, ConcatCutsOneStream) {
  const auto windows = Windows::make(made({3, 4}), Pack::concat, 4, 9);
  ASSERT_TRUE(windows.ok());
  ASSERT_EQ(windows->size(), 2U);
  const auto first = windows->window(0), last = windows->window(1);
  EXPECT_EQ(first.ids, (Ints{1, 2, 3, 101}));
  EXPECT_EQ(first.targets, (Ints{2, 3, 101, kIgnored}));
  EXPECT_EQ(first.segments, (Ints{0, 4}));
  EXPECT_EQ(first.predicted, 3);
  EXPECT_EQ(last.ids, (Ints{102, 103, 104, 9}));
  EXPECT_EQ(last.targets, (Ints{103, 104, kIgnored, kIgnored}));
  EXPECT_EQ(last.positions, (Ints{0, 1, 2, 3}));
  EXPECT_EQ(last.segments, (Ints{0, 4}));
  EXPECT_EQ(last.tokens, 3);
  EXPECT_EQ(windows->statistics().padding, 1);
  EXPECT_EQ(windows->statistics().predicted, 5);
}

TEST(Windows, DocumentsGoIntoTheFirstWindowWithRoom) {
  // Pieces 3 | 5, 2 of 7 | 2 | 1 by windows of 5
  const auto windows = Windows::make(made({3, 7, 2, 1}), Pack::documents, 5, 9);
  ASSERT_TRUE(windows.ok());
  ASSERT_EQ(windows->size(), 3U);
  const auto first = windows->window(0), second = windows->window(1), third = windows->window(2);
  EXPECT_EQ(first.ids, (Ints{1, 2, 3, 106, 107}));
  EXPECT_EQ(first.targets, (Ints{2, 3, kIgnored, 107, kIgnored}));
  EXPECT_EQ(first.positions, (Ints{0, 1, 2, 0, 1}));
  EXPECT_EQ(first.segments, (Ints{0, 3, 5}));
  EXPECT_EQ(second.ids, (Ints{101, 102, 103, 104, 105}));
  EXPECT_EQ(third.ids, (Ints{201, 202, 301, 9, 9}));
  EXPECT_EQ(third.segments, (Ints{0, 2, 3, 5}));
  EXPECT_EQ(third.positions, (Ints{0, 1, 0, 0, 1}));
  EXPECT_EQ(windows->statistics().split_documents, 1);
  EXPECT_EQ(windows->statistics().padding, 2);
  EXPECT_EQ(windows->statistics().predicted, 3 + 4 + 1);
}

TEST(Windows, NoneIsOneDocumentAWindowAndTheBatchPads) {
  const auto windows = Windows::make(made({3, 7, 2}), Pack::none, 5, 9);
  ASSERT_TRUE(windows.ok());
  ASSERT_EQ(windows->size(), 3U);
  EXPECT_EQ(windows->statistics().truncated_documents, 1);
  EXPECT_EQ(windows->statistics().truncated_tokens, 2);
  EXPECT_EQ(windows->statistics().padding, 5);
  const std::int64_t rows[] = {2, 0};
  const auto batch = make_batch(*windows, rows);
  EXPECT_EQ(batch.width, 3);
  EXPECT_EQ(batch.ids, (Ints{201, 202, 9, 1, 2, 3}));
  EXPECT_EQ(batch.targets, (Ints{202, kIgnored, kIgnored, 2, 3, kIgnored}));
  EXPECT_EQ(batch.positions, (Ints{0, 1, 0, 0, 1, 2}));
  EXPECT_EQ(batch.segments, (Ints{0, 2, 3, 6}));
  EXPECT_EQ(batch.tokens, 5);
  EXPECT_EQ(batch.predicted, 3);
  EXPECT_EQ(make_batch(*windows, rows, 8).width, 8);
}

TEST(Windows, TokensThatAreNotTrainedOnAreNoTargets) {
  Documents documents;
  documents.add({1, 2, 3, 4}, {false, false, true, true});
  documents.add({5, 6}, {false, false});
  EXPECT_EQ(documents.statistics().masked_tokens, 4);
  const auto shared = std::make_shared<const Documents>(std::move(documents));
  const auto windows = Windows::make(shared, Pack::none, 8, 0);
  EXPECT_EQ(windows->window(0).ids, (Ints{1, 2, 3, 4}));
  EXPECT_EQ(windows->window(0).targets, (Ints{kIgnored, 3, 4, kIgnored}));
  EXPECT_EQ(windows->statistics().idle_windows, 1);
  EXPECT_EQ(Windows::make(shared, Pack::none, 2, 0).error().code, Errc::malformed);
  EXPECT_EQ(Windows::make(shared, Pack::none, 1, 0).error().code, Errc::usage);
}

TEST(Windows, EveryTokenIsInExactlyOneWindow) {
  std::vector<int> lengths;
  for (int i = 0; i < 500; ++i) lengths.push_back(1 + i * 7919 % 83);
  const auto all = made(lengths);
  for (const auto pack : {Pack::concat, Pack::documents}) {
    const auto windows = Windows::make(all, pack, 64, 0);
    std::vector<std::int32_t> seen, want;
    std::int64_t predicted = 0;
    for (std::size_t i = 0; i < windows->size(); ++i) {
      const auto window = windows->window(i);
      ASSERT_EQ(window.ids.size(), 64U);
      ASSERT_EQ(window.tokens, windows->tokens(i));
      seen.insert(seen.end(), window.ids.begin(), window.ids.begin() + window.tokens);
      predicted += window.predicted;
      EXPECT_EQ(window.predicted,
                64 - std::count(window.targets.begin(), window.targets.end(), kIgnored));
    }
    for (std::int64_t at = 0; at < all->tokens(); ++at) want.push_back(all->id(at));
    std::sort(seen.begin(), seen.end());
    std::sort(want.begin(), want.end());
    EXPECT_EQ(seen, want);
    EXPECT_EQ(predicted, windows->statistics().predicted);
  }
}

TEST(Windows, TheHashIsOfTokensInOrder) {
  const auto windows = Windows::make(made({3, 4, 5}), Pack::none, 8, 9);
  const std::int64_t order[] = {0, 1, 2}, other[] = {1, 0, 2};
  const auto hash = windows->token_hash(order);
  EXPECT_EQ(hash, windows->token_hash(order));
  EXPECT_NE(hash, windows->token_hash(other));
  // XXH3_64bits of the little-endian 32-bit numbers 3 1 2 3 4 101 102 103 104 5 201 … 205, by
  // Python's xxhash 4.1.0
  EXPECT_EQ(hash, 0x4421ef6bc891efe9ULL);
  EXPECT_EQ(Windows::make(made({3, 4, 5}), Pack::none, 8, 0)->token_hash(order), hash);
}

TEST(EpochOrder, IsTheSameOnEveryMachine) {
  EXPECT_EQ(epoch_order(4, std::nullopt, 7), (std::vector<std::int64_t>{0, 1, 2, 3}));
  auto order = epoch_order(1000, 42, 0);
  EXPECT_EQ(order, epoch_order(1000, 42, 0));
  EXPECT_NE(order, epoch_order(1000, 42, 1));
  EXPECT_NE(order, epoch_order(1000, 43, 0));
  std::sort(order.begin(), order.end());
  for (std::int64_t i = 0; i < 1000; ++i) ASSERT_EQ(order[static_cast<std::size_t>(i)], i);
  // By the generator's description, in Python
  EXPECT_EQ(epoch_order(8, 42, 0), (std::vector<std::int64_t>{1, 6, 0, 5, 4, 2, 7, 3}));
  EXPECT_TRUE(epoch_order(0, 1, 1).empty());
}

}  // namespace
}  // namespace rigwise::engine
