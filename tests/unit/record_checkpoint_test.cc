#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "record/checkpoint_files.h"
#include "record/checkpoint_watch.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

/// The least whole safetensors file: one tensor of four bytes.
std::string safetensors() {
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  std::string bytes(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + "wxyz";
}

/// Begins and ends as a zip archive, which torch.save writes.
std::string archive() {
  return "PK\x03\x04 data PK\x05\x06" + std::string(18, '\0');
}

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("rigwise-checkpoint-" + std::to_string(::getpid()));
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    zero_s_ = monotonic_s();
    options_.cwd = dir_.string();
    options_.unix_at_zero_s = unix_s();
    options_.settle_s = 0.01;
    options_.argv = {"python", "train.py", "--output_dir", "out"};
    std::this_thread::sleep_for(std::chrono::milliseconds(10));  // file times tick slower
  }
  void TearDown() override { fs::remove_all(dir_); }

  [[nodiscard]] double now() const { return monotonic_s() - zero_s_; }
  void write(const fs::path& relative, const std::string& bytes) const {
    fs::create_directories((dir_ / relative).parent_path());
    std::ofstream(dir_ / relative, std::ios::binary) << bytes;
  }
  void hf_checkpoint(const std::string& folder, bool whole = true) const {
    write(folder + "/config.json", "{}");
    write(folder + "/model.safetensors", safetensors());
    write(folder + "/training_args.bin", archive());
    write(folder + "/optimizer.pt", archive());
    if (whole) write(folder + "/trainer_state.json", "{}");
  }
  /// Polls until everything that happened is settled.
  std::vector<Event> settled(CheckpointWatch& watch) const {
    std::vector<Event> all = watch.poll(now());
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
    for (auto& event : watch.poll(now())) all.push_back(std::move(event));
    return all;
  }

  fs::path dir_;
  double zero_s_ = 0;
  CheckpointWatchOptions options_;
};

TEST_F(CheckpointTest, FolderOfTheTrainer) {
  CheckpointWatch watch(options_);  // out does not exist yet
  EXPECT_GE(watch.fd(), 0);
  fs::create_directories(dir_ / "out");
  watch.poll(now());
  hf_checkpoint("out/checkpoint-12");
  const auto events = settled(watch);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, EventKind::checkpoint);
  EXPECT_EQ(events[0].name, "out/checkpoint-12");
  EXPECT_EQ(events[0].state, "complete") << events[0].detail;
  EXPECT_EQ(events[0].step, 12);
  EXPECT_EQ(events[0].files, 5);
  EXPECT_GT(events[0].size_bytes.value_or(0), 0);
  EXPECT_EQ(events[0].how, "filesystem");
  EXPECT_GE(events[0].t_s, 0);
  EXPECT_GE(events[0].t_end_s.value(), events[0].t_s);
}

TEST_F(CheckpointTest, WholeTreeThatAppearsAtOnce) {
  CheckpointWatch watch(options_);
  hf_checkpoint("out/checkpoint-5");  // before the first poll
  hf_checkpoint("out/checkpoint-10");
  write("out/runs/events.out.tfevents.1", "x");
  const auto events = settled(watch);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].state + events[1].state, "completecomplete");
}

TEST_F(CheckpointTest, OldCheckpointsAndLogsAreNone) {
  hf_checkpoint("out/checkpoint-5");
  options_.unix_at_zero_s = unix_s() + 1;  // the run starts later
  CheckpointWatch watch(options_);
  write("out/train.log", "hello");
  write("out/metrics.json", "{}");
  write("out/runs/events.out.tfevents.1", "x");
  std::ifstream(dir_ / "out/checkpoint-5/model.safetensors").get();  // a resume reads it
  EXPECT_TRUE(settled(watch).empty());
  EXPECT_TRUE(watch.finish(now(), true).empty());
}

TEST_F(CheckpointTest, StagingNameJoinsItsFinalName) {
  fs::create_directories(dir_ / "out");
  CheckpointWatch watch(options_);
  hf_checkpoint("out/tmp-checkpoint-20");
  watch.poll(now());
  fs::rename(dir_ / "out/tmp-checkpoint-20", dir_ / "out/checkpoint-20");
  const auto events = settled(watch);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "out/checkpoint-20");
  EXPECT_EQ(events[0].state, "complete") << events[0].detail;
  EXPECT_EQ(events[0].files, 5);
}

TEST_F(CheckpointTest, SingleFilesAndOverwrites) {
  fs::create_directories(dir_ / "out");
  CheckpointWatch watch(options_);
  write("out/epoch=3-step=200.ckpt", archive());
  write("out/ckpt.pt.tmp", archive());
  fs::rename(dir_ / "out/ckpt.pt.tmp", dir_ / "out/ckpt.pt");
  auto events = settled(watch);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].name, "out/ckpt.pt");
  EXPECT_EQ(events[1].step, 200);
  write("out/ckpt.pt", archive());  // the same name again
  events = settled(watch);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "out/ckpt.pt");
  EXPECT_EQ(events[0].state, "complete") << events[0].detail;
}

TEST_F(CheckpointTest, FinalModelInTheOutputFolder) {
  fs::create_directories(dir_ / "out");
  CheckpointWatch watch(options_);
  hf_checkpoint("out/checkpoint-5");
  ASSERT_EQ(settled(watch).size(), 1u);
  write("out/config.json", "{}");
  write("out/model.safetensors", safetensors());
  write("out/training_args.bin", archive());
  write("out/train.log", "not a part");
  const auto events = settled(watch);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "out");
  EXPECT_EQ(events[0].files, 3);
  EXPECT_EQ(events[0].state, "complete") << events[0].detail;
}

TEST_F(CheckpointTest, WriterThatDiedLeavesTorn) {
  fs::create_directories(dir_ / "out");
  CheckpointWatch watch(options_);
  hf_checkpoint("out/checkpoint-5", false);  // killed before the last file
  EXPECT_TRUE(settled(watch).empty());       // perhaps more is to come
  const auto events = watch.finish(now(), true);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].state, "torn");
  EXPECT_NE(events[0].detail.find("trainer_state.json"), std::string::npos);
}

TEST_F(CheckpointTest, NamelessTemporaryFiles) {
  fs::create_directories(dir_ / "out");
  CheckpointWatch watch(options_);
  write("out/step_1/.tmpA1b2C3", safetensors());
  watch.poll(now());
  fs::rename(dir_ / "out/step_1/.tmpA1b2C3", dir_ / "out/step_1/model.safetensors");
  const auto events = settled(watch);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "out/step_1");
  EXPECT_EQ(events[0].state, "complete") << events[0].detail;
  write("out/step_2/.tmpD4e5F6", "half of it");
  const auto torn = watch.finish(now(), true);  // killed before the rename
  ASSERT_EQ(torn.size(), 1u);
  EXPECT_EQ(torn[0].name, "out/step_2");
  EXPECT_EQ(torn[0].state, "torn");
}

TEST_F(CheckpointTest, FileStillBeingWritten) {
  fs::create_directories(dir_ / "out");
  CheckpointWatch watch(options_);
  std::ofstream half(dir_ / "out/step_7.pt", std::ios::binary);
  half << "PK\x03\x04 half" << std::flush;
  EXPECT_TRUE(settled(watch).empty());
  const auto events = watch.finish(now(), false);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].state, "open");
}

TEST_F(CheckpointTest, OneFileFewerThanTheOneBefore) {
  fs::create_directories(dir_ / "out");
  CheckpointWatch watch(options_);
  write("out/step_1/model.safetensors", safetensors());
  write("out/step_1/extra.pt", archive());
  ASSERT_EQ(settled(watch).size(), 1u);
  write("out/step_2/model.safetensors", safetensors());
  const auto events = watch.finish(now(), true);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].state, "torn");
}

TEST_F(CheckpointTest, RotatedAwayAndManyFolders) {
  fs::create_directories(dir_ / "out");
  options_.max_watches = 8;
  CheckpointWatch watch(options_);
  std::vector<Event> all;
  for (int i = 1; i <= 20; ++i) {
    const std::string name = "out/checkpoint-" + std::to_string(i);
    hf_checkpoint(name);
    for (auto& event : settled(watch)) all.push_back(event);
    fs::remove_all(dir_ / name);
    watch.poll(now());
  }
  EXPECT_EQ(all.size(), 20u);
  EXPECT_EQ(watch.counts().refused_watches, 0);  // removed folders give their watches back
}

TEST_F(CheckpointTest, LinksAreNotFollowed) {
  fs::create_directories(dir_ / "out");
  fs::create_directories(dir_ / "elsewhere");
  CheckpointWatch watch(options_);
  fs::create_directory_symlink(dir_ / "elsewhere", dir_ / "out/checkpoint-9");
  write("elsewhere/model.safetensors", safetensors());
  fs::create_symlink(dir_ / "elsewhere/model.safetensors", dir_ / "out/model_best.pt");
  EXPECT_TRUE(settled(watch).empty());
  EXPECT_TRUE(watch.finish(now(), true).empty());
}

TEST_F(CheckpointTest, LogAndOpenFilesShowFolders) {
  options_.argv = {"python", "train.py"};
  CheckpointWatch watch(options_);
  EXPECT_TRUE(watch.outputs().empty());
  LogBatch batch;
  Event said;
  said.kind = EventKind::checkpoint;
  said.name = "logged/checkpoint-3";
  batch.events.push_back(said);
  hf_checkpoint("logged/checkpoint-3");
  watch.note_log(batch, now());
  auto events = settled(watch);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "logged/checkpoint-3");

  fs::create_directories(dir_ / "hidden");
  {
    std::ofstream open(dir_ / "hidden/step_1.pt", std::ios::binary);
    open << archive() << std::flush;
    watch.look_at_tree({::getpid()}, now());
    EXPECT_TRUE(settled(watch).empty());  // still open
  }
  events = settled(watch);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "hidden/step_1.pt");
  EXPECT_EQ(watch.outputs().size(), 2u);
}

TEST_F(CheckpointTest, FolderThatIsMovedAway) {
  fs::create_directories(dir_ / "out");
  CheckpointWatch watch(options_);
  hf_checkpoint("out/checkpoint-1");
  ASSERT_EQ(settled(watch).size(), 1u);
  fs::rename(dir_ / "out", dir_ / "gone");
  settled(watch);
  hf_checkpoint("out/checkpoint-2");  // a new folder of the old name
  settled(watch);
  const auto events = watch.finish(now(), true);
  EXPECT_LE(events.size(), 1u);
}

TEST(CheckpointFiles, Torn) {
  const fs::path dir = fs::temp_directory_path() / ("rigwise-torn-" + std::to_string(::getpid()));
  fs::create_directories(dir);
  const std::string whole = safetensors();
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    std::ofstream(dir / "a.safetensors", std::ios::binary) << whole.substr(0, cut);
    EXPECT_FALSE(inspect_checkpoint(dir / "a.safetensors", 0).torn.empty()) << cut;
  }
  std::ofstream(dir / "a.safetensors", std::ios::binary) << whole;
  EXPECT_EQ(inspect_checkpoint(dir / "a.safetensors", 0).torn, "");
  std::ofstream(dir / "a.safetensors", std::ios::binary) << std::string(8, '\xff') << "x";
  EXPECT_FALSE(inspect_checkpoint(dir / "a.safetensors", 0).torn.empty());
  fs::remove(dir / "a.safetensors");

  std::ofstream(dir / "model-00001-of-00002.safetensors", std::ios::binary) << whole;
  EXPECT_NE(inspect_checkpoint(dir, 0).torn.find("00002-of-00002"), std::string::npos);
  std::ofstream(dir / "model-00002-of-00002.safetensors", std::ios::binary) << whole;
  EXPECT_EQ(inspect_checkpoint(dir, 0).torn, "");
  std::ofstream(dir / "model.safetensors.index.json")
      << R"({"weight_map":{"a":"other.safetensors"}})";
  EXPECT_NE(inspect_checkpoint(dir, 0).torn.find("other.safetensors"), std::string::npos);
  fs::remove_all(dir);
}

TEST(CheckpointFiles, Names) {
  EXPECT_EQ(step_of_checkpoint_name("checkpoint-200"), 200);
  EXPECT_EQ(step_of_checkpoint_name("out/epoch=3-step=200.ckpt"), 200);
  EXPECT_EQ(step_of_checkpoint_name("iter_0000200/"), 200);
  EXPECT_EQ(step_of_checkpoint_name("iteration-5"), 5);
  EXPECT_EQ(step_of_checkpoint_name("epoch_3"), std::nullopt);
  EXPECT_EQ(step_of_checkpoint_name("final"), std::nullopt);
  EXPECT_TRUE(is_checkpoint_file("rng_state_0.pth"));
  EXPECT_TRUE(is_checkpoint_file("model.safetensors.tmp"));
  EXPECT_FALSE(is_checkpoint_file("events.out.tfevents.17.bin"));
  EXPECT_FALSE(is_checkpoint_file("train.log"));
  EXPECT_TRUE(is_staging_name("tmp-checkpoint-5"));
  EXPECT_FALSE(is_staging_name("template"));
}

TEST(CheckpointFiles, OutputsOfArgv) {
  const auto outputs = output_directories_of(
      {"torchrun", "--nproc_per_node", "2", "train.py", "--output_dir", "out/two",
       "--save-dir=/abs/x/", "hydra.run.dir=h", "trainer.default_root_dir=r", "--out", "model.gguf",
       "--save", "true", "s3://bucket/x", "positional", "20"},
      "/base");
  EXPECT_EQ(outputs, (std::vector<fs::path>{"/base/out/two", "/abs/x", "/base/h", "/base/r",
                                            "/base", "/base/positional"}));
}

}  // namespace
}  // namespace rigwise
