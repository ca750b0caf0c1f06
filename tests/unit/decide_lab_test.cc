#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/files.h"
#include "rigwise/decide.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

class Lab : public ::testing::Test {
 protected:
  void SetUp() override {
    const bool memory = ::access("/dev/shm", W_OK) == 0;
    dir_ = (memory ? fs::path("/dev/shm") : fs::temp_directory_path()) /
           ("rigwise-lab-" + std::to_string(::getpid()) + "-" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(dir_);
    path_ = dir_ / "lab.toml";
  }
  void TearDown() override { fs::remove_all(dir_); }
  void put(std::string_view text) { ASSERT_TRUE(write_file_atomic(path_, text).ok()); }
  std::string text() { return *read_file(path_); }

  fs::path dir_, path_;
};

Statement good() {
  Statement statement;
  statement.experiment = "second-gpu";
  statement.bottleneck = "one GPU needs 8 h for 3000 steps, nearly all of it compute";
  statement.threshold = "wall_clock(3000 steps) <= 5h";
  statement.option = "a second GPU, data parallel";
  statement.reason = "the steps' compute is split over two ranks";
  statement.stop = "less than 1.2x after two tries";
  statement.baseline = "single";
  statement.candidate = "two-gpu";
  return statement;
}

TEST_F(Lab, RoundTripKeepsTheSealOfTheSameWords) {
  Statement statement = good();
  statement.sealed_unix_s = 1795194131;
  ASSERT_TRUE(write_lab(path_, statement).ok());
  auto read = read_lab(path_);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->hash, statement_hash(statement));
  EXPECT_EQ(read->sealed_unix_s, 1795194131);
  EXPECT_EQ(read->reason, statement.reason);
  EXPECT_EQ(read->candidate, "two-gpu");

  statement.sealed_unix_s = 1795199999;  // written again, same words: first sealing stands
  ASSERT_TRUE(write_lab(path_, statement).ok());
  EXPECT_EQ(read_lab(path_)->sealed_unix_s, 1795194131);
  statement.stop = "none";
  ASSERT_TRUE(write_lab(path_, statement).ok());
  EXPECT_EQ(read_lab(path_)->sealed_unix_s, 1795199999);
}

TEST_F(Lab, ForeignTablesCommentsAndOrderSurvive) {
  put("# my lab\n"
      "[hosts.b]  # the noisy one\n"
      "ssh = \"b\"\n"
      "\n"
      "[experiment] # what we try\n"
      "# the big question\n"
      "threshold = \"step_time <= 9s\"  # in the office é\n"
      "owner = 'me'\n"
      "\n"
      "[context]\n"
      "agenda = [\"heat\"]\n"
      "[[roles]]\n"
      "name = \"train\"");
  Statement statement = good();
  statement.sealed_unix_s = 0;
  statement.reason = "splits \"compute\" over C:\\two ranks";
  ASSERT_TRUE(write_lab(path_, statement).ok()) << write_lab(path_, statement).error().message;
  EXPECT_EQ(text(),
            "# my lab\n"
            "[hosts.b]  # the noisy one\n"
            "ssh = \"b\"\n"
            "\n"
            "[experiment] # what we try\n"
            "# the big question\n"
            "threshold = \"wall_clock(3000 steps) <= 5h\"  # in the office é\n"
            "owner = 'me'\n"
            "name = \"second-gpu\"\n"
            "bottleneck = \"one GPU needs 8 h for 3000 steps, nearly all of it compute\"\n"
            "option = \"a second GPU, data parallel\"\n"
            "reason = \"splits \\\"compute\\\" over C:\\\\two ranks\"\n"
            "stop = \"less than 1.2x after two tries\"\n"
            "baseline = \"single\"\n"
            "candidate = \"two-gpu\"\n"
            "sealed = 1970-01-01T00:00:00Z\n"
            "hash = \"" +
                statement_hash(statement) +
                "\"\n"
                "\n"
                "[context]\n"
                "agenda = [\"heat\"]\n"
                "[[roles]]\n"
                "name = \"train\"");
  EXPECT_EQ(read_context(path_)->agenda, std::vector<std::string>{"heat"});
  EXPECT_EQ(read_lab(path_)->reason, statement.reason);
}

TEST_F(Lab, TableAtTheEndWithoutNewlineAndInlineTable) {
  put("[experiment]\nthreshold = \"step_time <= 9s\"");
  ASSERT_TRUE(write_lab(path_, good()).ok());
  EXPECT_EQ(read_lab(path_)->bottleneck, good().bottleneck);

  const std::string inline_table = "experiment = { threshold = \"step_time <= 9s\" }\n";
  put(inline_table);
  const auto refused = write_lab(path_, good());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::conflict);
  EXPECT_EQ(text(), inline_table);  // untouched
}

TEST_F(Lab, AnEditByHandBreaksTheSeal) {
  ASSERT_TRUE(write_lab(path_, good()).ok());
  std::string edited = text();
  edited.replace(edited.find("<= 5h"), 5, "<= 7h");
  put(edited);
  const auto read = read_lab(path_);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->sealed_unix_s, std::nullopt);
  EXPECT_NE(read->hash, statement_hash(good()));
}

TEST_F(Lab, ErrorsSayWhere) {
  EXPECT_EQ(read_lab(path_).error().code, Errc::not_found);
  put("[hosts]\n");
  EXPECT_EQ(read_lab(path_).error().code, Errc::not_found);
  EXPECT_NE(read_lab(path_).error().hint.find("rigwise init"), std::string::npos);
  put("[experiment]\nthreshold = 5h\n");
  EXPECT_EQ(read_lab(path_).error().code, Errc::malformed);
  EXPECT_NE(read_lab(path_).error().message.find("lab.toml:2:"), std::string::npos)
      << read_lab(path_).error().message;
  put("[experiment]\n\ntreshold = \"step_time <= 1s\"\n");
  EXPECT_EQ(read_lab(path_).error().message,
            "lab.toml:3:1: unknown key 'treshold' in [experiment]");
  EXPECT_EQ(read_lab(path_).error().hint, "did you mean 'threshold'?");
  put("[experiment]\nthreshold = \"step_time <= 1q\"\n");
  EXPECT_EQ(read_lab(path_).error().code, Errc::usage);
  EXPECT_NE(read_lab(path_).error().message.find("  step_time <= 1q\n                ^"),
            std::string::npos)
      << read_lab(path_).error().message;
  put("[experiment]\nbottleneck = 5\n");
  EXPECT_EQ(read_lab(path_).error().message, "lab.toml:2:14: 'bottleneck' is not text");
  put("[context]\nagenda = [\"haet\"]\n");
  EXPECT_EQ(read_context(path_).error().hint, "did you mean 'heat'?");
  put("[context]\nfits_on_one = \"no\"\n");
  EXPECT_EQ(read_context(path_).error().code, Errc::malformed);
}

TEST_F(Lab, CutAtEveryByteNeverCrashesAndIsNeverOverwrittenWhenUnreadable) {
  Statement statement = good();
  statement.sealed_unix_s = 1;
  ASSERT_TRUE(write_lab(path_, statement).ok());
  const std::string whole = text();
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    put(whole.substr(0, cut));
    (void)read_context(path_).ok();
    const auto read = read_lab(path_);
    if (read.ok() || read.error().code == Errc::not_found) continue;
    if (read.error().code == Errc::usage) continue;  // a cut threshold that is still valid TOML
    EXPECT_FALSE(write_lab(path_, statement).ok()) << cut;
    EXPECT_EQ(text(), whole.substr(0, cut));
  }
}

TEST(LabExample, ReadsWithoutGaps) {
  const std::string path = std::string(RIGWISE_FIXTURES) + "/../../examples/lab.toml";
  const auto statement = read_lab(path);
  ASSERT_TRUE(statement.ok()) << statement.error().message;
  EXPECT_TRUE(statement_gaps(*statement).empty());
  EXPECT_EQ(statement->sealed_unix_s, std::nullopt);
  const auto context = read_context(path);
  ASSERT_TRUE(context.ok()) << context.error().message;
  EXPECT_EQ(context->fits_known, true);
  EXPECT_EQ(context->tried, (std::vector<std::string>{"lora", "sequence"}));
}

TEST(StatementGaps, VagueClaimsAreAnsweredWithWhatIsMissing) {
  Statement vague;
  vague.bottleneck = "training is slow";
  vague.option = "we need two GPUs";
  const auto gaps = statement_gaps(vague);
  ASSERT_EQ(gaps.size(), 3u);
  EXPECT_EQ(gaps[0],
            "bottleneck: 'training is slow' names nothing that can be measured; for example: one "
            "GPU needs 8 h for 3000 steps, and 93 % of it is the steps' compute");
  EXPECT_EQ(gaps[1].substr(0, 12), "threshold: n");
  EXPECT_EQ(gaps[2].substr(0, 8), "reason: ");

  Statement words = good();
  EXPECT_TRUE(statement_gaps(words).empty());
  words.bottleneck = "we need two GPUs";
  EXPECT_EQ(statement_gaps(words).size(), 1u);
  words = good();
  words.reason = "two GPUs are faster";
  ASSERT_EQ(statement_gaps(words).size(), 1u);
  EXPECT_EQ(statement_gaps(words)[0].substr(0, 45),
            "reason: 'two GPUs are faster' does not say ho");
  words.reason = words.option;
  EXPECT_EQ(statement_gaps(words).size(), 1u);
  words = good();
  words.threshold = "faster";
  EXPECT_NE(statement_gaps(words)[0].find('^'), std::string::npos);
  words.threshold = "tokens_per_s <= 1.4x";
  EXPECT_EQ(
      statement_gaps(words)[0],
      "threshold: 'tokens_per_s <= 1.4x' is met by doing worse; turn the relation round (>=)");
}

TEST(StatementGaps, OrdinaryGoodSentencesPass) {
  for (const char* bottleneck :
       {"3000 steps take 8 h on one card", "evaluation and demos wait for training",
        "throughput is too low", "7B does not fit into 24 GiB", "GPU utilisation is 97 %"}) {
    Statement statement = good();
    statement.bottleneck = bottleneck;
    EXPECT_TRUE(statement_gaps(statement).empty()) << bottleneck;
  }
  for (const char* reason :
       {"each rank takes half of the batch", "compute is parallel over samples",
        "evaluation moves to its own device", "because data parallel training splits each step"}) {
    Statement statement = good();
    statement.reason = reason;
    EXPECT_TRUE(statement_gaps(statement).empty()) << reason;
  }
}

}  // namespace
}  // namespace rigwise
