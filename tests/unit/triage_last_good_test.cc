// What has changed since the same command last went well. Run directories written by hand.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "rigwise/triage.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

class LastGoodTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / ("rigwise-last-good-" + std::string(test->name()));
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  rigwise::Run run(const std::string& id, std::vector<std::string> command, double start_unix_s,
                   int status) const {
    rigwise::Run out;
    out.dir = folder_ / id;
    out.state = RunState::finished;
    out.info.id = id;
    out.info.host = "box";
    out.info.command = std::move(command);
    out.info.start_unix_s = start_unix_s;
    out.info.ending = Ending{status, {}, "exited", 1};
    return out;
  }
  static void write(const rigwise::Run& run, const std::string& file, const std::string& text) {
    fs::create_directories((run.dir / file).parent_path());
    std::ofstream(run.dir / file) << text;
  }
  static std::string said(const LastGood& good) {
    std::string out;
    for (const Change& each : good.changes)
      out += each.what + " " + each.name + ": " + each.before + " > " + each.now + "\n";
    return out;
  }

  fs::path folder_;
};

TEST_F(LastGoodTest, ArgumentsThatDiffer) {
  const rigwise::Run failed = run("d", {"python", "train.py", "data", "--lr=5", "--bf16"}, 40, 1);
  const std::vector<rigwise::Run> runs = {
      run("a", {"python", "train.py", "data", "--lr", "1"}, 10, 0),
      run("b", {"python", "train.py", "data", "--lr", "2"}, 20, 0),
      run("c", {"python", "train.py", "data", "--lr", "3"}, 30, 1),  // it failed too
      run("e", {"python", "train.py", "data", "--lr", "4"}, 50, 0),  // later
      run("f", {"python", "other.py"}, 35, 0),
      failed};
  const auto good = last_good(failed, runs, FailureLayer::user_config);
  ASSERT_TRUE(good);
  EXPECT_EQ(good->run_id, "b");
  EXPECT_EQ(said(*good), "argument --bf16:  > given\nargument --lr: 2 > 5\n");
  EXPECT_FALSE(good->software_known);
}

TEST_F(LastGoodTest, TheSameWordsBeforeANewerOne) {
  const std::vector<std::string> words = {"torchrun", "--nproc-per-node", "2", "train.py"};
  const rigwise::Run failed = run("c", words, 30, 1);
  const auto good =
      last_good(failed, {run("b", {"python", "train.py"}, 20, 0), run("a", words, 10, 0)},
                FailureLayer::none);
  ASSERT_TRUE(good);
  EXPECT_EQ(good->run_id, "a");
  EXPECT_TRUE(good->changes.empty());
}

TEST_F(LastGoodTest, SoftwareFirstWhereTheEnvironmentFailed) {
  const rigwise::Run before = run("a", {"python", "-m", "lab.train"}, 10, 0);
  const rigwise::Run failed = run("b", {"python", "-m", "lab.train", "--steps", "9"}, 20, 1);
  write(before, "env/box.json",
        R"({"host": "box", "versions": {"torch": "2.6", "numpy": "2.0", "kernel": "6.1"}})");
  write(
      failed, "env/box.json",
      R"({"host": "box", "versions": {"torch": "2.7", "numpy": "2.0"}, "variable_names": ["A"]})");
  write(before, "rig/box.json", R"({"host": "box", "mounts": [{"path": "/", "total_bytes": 1e12,
        "free_bytes": 5e11}]})");
  write(failed, "rig/box.json", R"({"host": "box", "mounts": [{"path": "/", "total_bytes": 1e12,
        "free_bytes": 1e9}]})");
  const auto good = last_good(failed, {before}, FailureLayer::framework_env);
  ASSERT_TRUE(good);
  EXPECT_TRUE(good->software_known);
  ASSERT_EQ(good->changes.size(), 5u);
  EXPECT_EQ(good->changes[0].name, "kernel");
  EXPECT_EQ(good->changes[1].now, "2.7");
  EXPECT_EQ(good->changes[2].name, "--steps");
  const auto space = last_good(failed, {before}, FailureLayer::storage_space);
  ASSERT_TRUE(space);
  EXPECT_EQ(space->changes[0].what, "disk");
}

TEST_F(LastGoodTest, NoneWhereNoneWentWell) {
  const rigwise::Run failed = run("b", {"python", "train.py"}, 20, 1);
  EXPECT_FALSE(last_good(failed, {failed}, FailureLayer::none));
  EXPECT_FALSE(last_good(run("c", {}, 30, 1), {run("a", {}, 10, 0)}, FailureLayer::none));
}

}  // namespace
}  // namespace rigwise
