// Whether, and how, NCCL is told of our plug-in, and what becomes of its files at the run's end.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "record/nccl_environment.h"
#include "record/nccl_table.h"
#include "unit/ledger_made_run.h"
#include "unit/nccl_made_file.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class NcclEnvironment : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "rigwise-nccl-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
    fs::create_directories(dir_ / "root/dev");
    fs::create_directories(dir_ / "root/etc");
    fs::create_directories(dir_ / "root/home/ann");
    fs::create_directories(dir_ / "root/opt/lib");
    fs::create_directories(dir_ / "run");
    root_.root = dir_ / "root";
  }
  void TearDown() override { fs::remove_all(dir_); }

  void put(const std::string& path, const std::string& text = "") {
    std::ofstream(root_.root / path) << text;
  }
  Words asked(const Words& environment) const {
    return nccl_environment(root_, environment, dir_ / "run", "/usr/lib/librigwise-nccl.so");
  }

  fs::path dir_;
  HostRoot root_;
};

TEST_F(NcclEnvironment, IsLikelyWhereADeviceCanBeSeen) {
  EXPECT_FALSE(nccl_is_likely(root_, {}));
  put("dev/nvidiactl");
  EXPECT_TRUE(nccl_is_likely(root_, {}));
  EXPECT_TRUE(nccl_is_likely(root_, {"CUDA_VISIBLE_DEVICES=0,1"}));
  EXPECT_FALSE(nccl_is_likely(root_, {"CUDA_VISIBLE_DEVICES="}));
  EXPECT_FALSE(nccl_is_likely(root_, {"CUDA_VISIBLE_DEVICES=-1"}));
}

TEST_F(NcclEnvironment, NamesPluginAndFile) {
  const Words words = asked({"PATH=/bin", "NCCL_DEBUG=INFO", "NCCL_PROFILER_PLUGIN_X=1"});
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[0], "NCCL_PROFILER_PLUGIN=/usr/lib/librigwise-nccl.so");
  EXPECT_EQ(words[1], "RIGWISE_NCCL_OUT=" + (dir_ / "run/profile").string() + "/nccl-%h-%p.bin");
  EXPECT_TRUE(fs::is_directory(dir_ / "run/profile"));
}

TEST_F(NcclEnvironment, LeavesTheUsersOwnPlugin) {
  EXPECT_TRUE(asked({"NCCL_PROFILER_PLUGIN=inspector"}).empty());
  EXPECT_TRUE(asked({"NCCL_PROFILER_PLUGIN=none"}).empty());
  EXPECT_TRUE(asked({"NCCL_PROFILER_PLUGIN="}).empty());
  put("home/ann/.nccl.conf", "NCCL_DEBUG=WARN\n NCCL_PROFILER_PLUGIN=mine\n");
  EXPECT_TRUE(asked({"HOME=/home/ann"}).empty());
  EXPECT_FALSE(asked({"HOME=/home/ann", "NCCL_CONF_FILE=/etc/other.conf"}).empty());
  EXPECT_FALSE(asked({}).empty());
  put("etc/nccl.conf", "# NCCL_PROFILER_PLUGIN=old\n");
  EXPECT_FALSE(asked({}).empty());
  put("etc/nccl.conf", "NCCL_PROFILER_PLUGIN=site\n");
  EXPECT_TRUE(asked({}).empty());
  put("etc/nccl.conf");
  put("opt/lib/libnccl-profiler.so");
  EXPECT_FALSE(asked({"LD_LIBRARY_PATH=/opt::/usr/lib"}).empty());
  EXPECT_TRUE(asked({"LD_LIBRARY_PATH=/usr/lib:/opt/lib"}).empty());
}

TEST_F(NcclEnvironment, TakesPathsAsTheyAre) {
  fs::create_directories(dir_ / "a%p b");
  const Words words = nccl_environment(root_, {}, dir_ / "a%p b", "/p.so");
  ASSERT_EQ(words.size(), 2u);
  EXPECT_NE(words[1].find("/a%%p b/profile/nccl-%h-%p.bin"), std::string::npos);
  // NCCL would cut the name off and load something else.
  EXPECT_TRUE(nccl_environment(root_, {}, dir_ / "run", "/" + std::string(300, 'x')).empty());
  EXPECT_TRUE(nccl_environment(root_, {}, dir_ / "run", "").empty());
  EXPECT_TRUE(nccl_environment(root_, {}, dir_ / "no/such", "/p.so").empty());
}

// ------------------------------------------------------------------------- what it left behind

class NcclTable : public testing::Test {
 protected:
  NcclTable() : maker_(folder_.path(), "nccl", 1'800'000'000) {
    fs::create_directory(maker_.writer().dir() / "profile");
  }
  void put(int pid, const std::string& bytes) {
    std::ofstream(maker_.writer().dir() / ("profile/nccl-ann-" + std::to_string(pid) + ".bin")) << bytes;
  }

  made::Folder folder_;
  made::Maker maker_;
};

TEST_F(NcclTable, HoldsARowAProcess) {
  const auto files = nccl_made::two_files(1);
  put(100, files[0].text());
  put(101, files[1].text());
  EXPECT_EQ(write_nccl_table(maker_.writer(), 10), "");
  const auto rows = read_nccl_seconds(maker_.finish(60));
  ASSERT_TRUE(rows.ok());
  ASSERT_EQ(rows->rows.size(), 2u);
  const NcclSeconds &early = rows->rows[0], &late = rows->rows[1];
  EXPECT_EQ(early.rank, 0);
  EXPECT_EQ(early.pid, 100);
  EXPECT_EQ(early.file, "profile/nccl-ann-100.bin");
  EXPECT_NEAR(early.t_end_s - early.t_s, 2, 1e-6);
  EXPECT_NEAR(early.communication_s, 19 * 0.040, 2e-3);
  EXPECT_NEAR(early.waiting_s, 19 * 0.030, 2e-3);
  EXPECT_NEAR(late.late_s, 19 * 0.030, 2e-3);
  EXPECT_EQ(late.last, late.matched);
}

TEST_F(NcclTable, SaysWhatCouldNotBeRead) {
  EXPECT_EQ(write_nccl_table(maker_.writer(), 10), "");  // no process used NCCL
  EXPECT_FALSE(fs::exists(maker_.writer().dir() / "profile/nccl.csv"));
  put(7, "no file of ours");
  EXPECT_NE(write_nccl_table(maker_.writer(), 10).find("not all files"), std::string::npos);
  put(100, nccl_made::two_files(1)[0].text());
  EXPECT_NE(write_nccl_table(maker_.writer(), 10).find("not all files"), std::string::npos);
  EXPECT_EQ(read_nccl_seconds(maker_.finish(60))->rows.size(), 1u);
}

}  // namespace
}  // namespace rigwise
