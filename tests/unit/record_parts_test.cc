// The recorder's parts that need no process: channel, log writer and tail, tally, names.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "base/clock.h"
#include "record/channel.h"
#include "record/launch.h"
#include "record/log_tail.h"
#include "record/log_writer.h"
#include "record/tally.h"
#include "record/tick_grid.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "rigwise-parts-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    fs::create_directory(dir_ / "log");
  }
  void TearDown() override { fs::remove_all(dir_); }
  static std::string text(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  fs::path dir_;
};

TEST(Channel, CarriesTextNumbersAndADescriptor) {
  auto channel = make_channel();
  ASSERT_TRUE(channel.ok());
  EXPECT_FALSE(receive_message(channel->other.get()).message.has_value());
  Message message;
  message.kind = MessageKind::recording;
  message.text = "runs/a";
  message.number = -5;
  message.t_s = 1.5;
  message.descriptor = 0;
  ASSERT_TRUE(send_message(channel->one.get(), message));
  const Received received = receive_message(channel->other.get());
  ASSERT_TRUE(received.message.has_value());
  EXPECT_EQ(received.message->kind, MessageKind::recording);
  EXPECT_EQ(received.message->text, "runs/a");
  EXPECT_EQ(received.message->number, -5);
  EXPECT_EQ(received.message->t_s, 1.5);
  ASSERT_GE(received.message->descriptor, 3);
  ::close(received.message->descriptor);
  channel->one.reset();
  EXPECT_TRUE(receive_message(channel->other.get()).closed);
}

TEST(Channel, NeverBlocksOnAPeerThatDoesNotRead) {
  auto channel = make_channel();
  ASSERT_TRUE(channel.ok());
  Message message;
  message.text.assign(8000, 'x');
  int sent = 0;
  while (sent < 10000 && send_message(channel->one.get(), message)) ++sent;
  EXPECT_LT(sent, 10000);
  EXPECT_GT(sent, 0);
}

TEST_F(Folder, SocketsWorkHoweverLongThePathIs) {
  const fs::path deep = dir_ / std::string(120, 'a') / std::string(120, 'b');
  fs::create_directories(deep);
  EXPECT_EQ(connect_in(deep, "attach").error().code, Errc::not_found);
  auto listener = listen_in(deep, "attach");
  ASSERT_TRUE(listener.ok()) << listener.error().message;
  auto client = connect_in(deep, "attach");
  ASSERT_TRUE(client.ok());
  EXPECT_TRUE(accept_own(listener->get()).valid());
}

TEST_F(Folder, LogAndIndexHoldWhatWasPushed) {
  std::string whole;
  {
    LogWriter writer(monotonic_s(), 2);
    for (int i = 0; i < 1000; ++i) {
      const std::string line = "line " + std::to_string(i) + "\n";
      writer.push(0, line, 0.001 * i);  // one mark holds 20 ms
      whole += line;
      if (i == 100) writer.start(dir_);  // the folder may come late
    }
    Ending ending;
    ending.exit_status = 0;
    EXPECT_EQ(writer.close(ending, 5), 0);
  }
  EXPECT_EQ(text(dir_ / "log/out.log"), whole);
  EXPECT_TRUE(fs::exists(dir_ / "log/err.log"));
  EXPECT_FALSE(fs::exists(dir_ / "log/out.lost.csv"));
  EXPECT_TRUE(fs::exists(dir_ / "keeper.json"));

  LogTail tail(dir_, "out");
  std::string seen;
  double last_s = -1;
  int pieces = 0;
  const auto take = [&](std::string_view bytes, double t_s) {
    seen += bytes;
    EXPECT_GE(t_s, last_s);
    last_s = t_s;
    ++pieces;
  };
  EXPECT_TRUE(tail.read(take, 5, 100, false));  // bounded
  EXPECT_EQ(seen.size(), 100U);
  EXPECT_FALSE(tail.read(take, 5, 1 << 20, true));
  EXPECT_EQ(seen, whole);
  EXPECT_NEAR(last_s, 0.999, 1e-9);
  EXPECT_GT(pieces, 300);  // a thousand lines, one a millisecond: at most 500 marks a second
  EXPECT_LT(pieces, 510);
}

TEST_F(Folder, WithoutAFolderNothingWaitsAndNothingIsKept) {
  LogWriter writer(monotonic_s(), 1);
  const std::string block(65536, 'x');
  writer.push(0, block, 0);
  writer.give_up();
  for (int i = 0; i < 1000; ++i) writer.push(0, block, 0);
  EXPECT_EQ(writer.close({}, 1), 0);
}

TEST_F(Folder, ABurstWaitsForTheRunDirectory) {
  LogWriter writer(monotonic_s(), 1);
  std::thread late([&] {
    ::usleep(100000);
    writer.start(dir_);
  });
  const std::string block(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) writer.push(0, block, i);  // 8 MiB are held
  late.join();
  EXPECT_EQ(writer.close({}, 5), 0);
  EXPECT_EQ(fs::file_size(dir_ / "log/out.log"), std::uintmax_t{20} << 20);
}

TEST_F(Folder, WhatDoesNotFitIsCounted) {
  LogWriter writer(monotonic_s(), 1, 0);
  const std::string block(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) writer.push(0, block, i);  // no writer yet: 8 MiB are held
  writer.start(dir_);
  writer.push(0, "", 21);
  const std::int64_t lost = writer.close({}, 5);
  EXPECT_EQ(lost, 12 << 20);
  EXPECT_EQ(fs::file_size(dir_ / "log/out.log"), std::uintmax_t{8} << 20);
  EXPECT_EQ(text(dir_ / "log/out.lost.csv"), "offset_bytes,lost_bytes,t_s\n8388608,12582912,8\n");
}

TEST_F(Folder, TailWaitsForReceiveTimes) {
  std::ofstream(dir_ / "log/out.log") << "abcdef";
  std::ofstream(dir_ / "log/out.idx.csv") << "offset_bytes,t_s\n3,0.5\n6,0.";  // half a row
  LogTail tail(dir_, "out");
  std::string seen;
  const auto take = [&](std::string_view bytes, double t_s) {
    seen += std::string(bytes) + "@" + std::to_string(t_s).substr(0, 3) + " ";
  };
  tail.read(take, 1, 100, false);
  EXPECT_EQ(seen, "abc@0.5 ");
  std::ofstream(dir_ / "log/out.idx.csv", std::ios::app) << "7\n";
  tail.read(take, 1.1, 100, false);
  EXPECT_EQ(seen, "abc@0.5 def@0.7 ");
  std::ofstream(dir_ / "log/out.log", std::ios::app) << "gh";  // its row never comes
  tail.read(take, 2, 100, false);
  EXPECT_EQ(tail.left_bytes(), 2);
  tail.read(take, 5, 100, false);
  EXPECT_EQ(seen, "abc@0.5 def@0.7 gh@5.0 ");
}

TEST_F(Folder, HeaderAndRowsThatMetAFullDiskComeLater) {
  // A folder in a table's place stands in for what cannot be written.
  fs::create_directories(dir_ / "log/out.idx.csv");
  fs::create_directories(dir_ / "log/out.lost.csv");
  LogWriter writer(monotonic_s(), 1, 0);
  const std::string block(1 << 20, 'x');
  for (int i = 0; i < 9; ++i) writer.push(0, block, i);  // 8 MiB are held
  writer.start(dir_);
  std::error_code error;
  for (int i = 0; i < 1000; ++i) {
    const auto size = fs::file_size(dir_ / "log/out.log", error);
    if (!error && size == (8U << 20)) break;
    ::usleep(10000);
  }
  ::usleep(50000);  // the tables are tried, and fail
  fs::remove(dir_ / "log/out.idx.csv");
  fs::remove(dir_ / "log/out.lost.csv");
  writer.push(0, "end\n", 9);
  EXPECT_EQ(writer.close({}, 5), 1 << 20);
  EXPECT_EQ(writer.lost_times(), 0);
  EXPECT_EQ(text(dir_ / "log/out.idx.csv"),
            "offset_bytes,t_s\n1048576,0\n2097152,1\n3145728,2\n4194304,3\n5242880,4\n"
            "6291456,5\n7340032,6\n8388608,7\n8388612,9\n");
  EXPECT_EQ(text(dir_ / "log/out.lost.csv"), "offset_bytes,lost_bytes,t_s\n8388608,1048576,8\n");
}

TEST_F(Folder, ReceiveTimesThatNeverFoundRoomAreCounted) {
  fs::create_directories(dir_ / "log/out.idx.csv");
  LogWriter writer(monotonic_s(), 1);
  for (int i = 0; i < 5; ++i) writer.push(0, "line\n", i);
  writer.start(dir_);
  EXPECT_EQ(writer.close({}, 5), 0);  // the log itself is whole
  EXPECT_EQ(writer.lost_times(), 5);
  EXPECT_EQ(fs::file_size(dir_ / "log/out.log"), 25U);
}

TEST(Ticks, StayOnTheirGridAndLeaveOutWhatIsMissed) {
  TickGrid grid(1);
  grid.begin(10);
  EXPECT_TRUE(grid.due(10));
  grid.done(10.2);
  EXPECT_FALSE(grid.due(10.9));
  EXPECT_NEAR(grid.wait_s(10.25), 0.75, 1e-9);
  EXPECT_TRUE(grid.due(11.1));  // late by a little: the next one is not
  grid.done(11.3);
  EXPECT_NEAR(grid.wait_s(11.3), 0.7, 1e-9);
  EXPECT_EQ(grid.missed(), 0);
  grid.done(15.5);  // began at 12: 13, 14 and 15 went by
  EXPECT_FALSE(grid.due(15.9));
  EXPECT_TRUE(grid.due(16));
  EXPECT_EQ(grid.missed(), 3);
  EXPECT_EQ(grid.ticks(), 3);
}

TEST(Channel, HandsOverAllThatWaitsAndTellsTheEnd) {
  auto pair = make_channel();
  ASSERT_TRUE(pair.ok());
  Message message;
  for (int i = 0; i < 3; ++i) {
    message.detail = i;
    ASSERT_TRUE(send_message(pair->one.get(), message));
  }
  std::vector<int> seen;
  const auto take = [&](const Message& news) { seen.push_back(news.detail); };
  EXPECT_TRUE(take_messages(pair->other.get(), take));
  EXPECT_EQ(seen, (std::vector<int>{0, 1, 2}));
  ASSERT_TRUE(send_message(pair->one.get(), message));
  pair->one.reset();
  EXPECT_FALSE(take_messages(pair->other.get(), take));
  EXPECT_EQ(seen.size(), 4U);  // what was sent before the end is not lost
}

TEST(Tally, StaysSmallAndKeepsBothEnds) {
  RunTally tally;
  for (int i = 0; i < 100000; ++i) {
    ProcSample row;
    row.t_s = i;
    row.pid = 1 + i % 2;
    row.role = "rank";
    tally.note(row);
    tally.note_dropped("source " + std::to_string(i));
    tally.note(Fact{"key" + std::to_string(i), "value", "log"});
  }
  const auto rows = tally.ranks();
  EXPECT_LT(rows.size(), 300U);
  EXPECT_EQ(rows.front().t_s, 0);
  EXPECT_EQ(rows.back().t_s, 99999);
  EXPECT_EQ(tally.dropped(), 100000);
  EXPECT_LT(tally.dropped_words().size(), 50U);
  EXPECT_LT(tally.facts().size(), 1000U);
}

TEST(Tally, ForgetsARankThatTurnsOutToBeTheLauncher) {
  RunTally tally;
  for (const auto& [pid, role] : {std::pair<int, std::string>{1, "rank"},
                                  {2, "loader"},
                                  {1, "launcher"},
                                  {2, "rank"},
                                  {3, "rank"}}) {
    ProcSample row;
    row.t_s = 1;
    row.pid = pid;
    row.role = role;
    tally.note(row);
  }
  ASSERT_EQ(tally.ranks().size(), 2U);
  EXPECT_EQ(tally.ranks()[0].pid, 2);
}

TEST(Names, AreMadeFromTheCommand) {
  EXPECT_EQ(name_of_command({"python3", "-u", "train.py", "--x"}), "train");
  EXPECT_EQ(name_of_command({"/usr/bin/torchrun", "--nproc_per_node", "2", "a/fine tune.py"}),
            "fine-tune");
  EXPECT_EQ(name_of_command({"python", "-m", "torch.distributed.run", "-m", "pkg.tune"}), "tune");
  EXPECT_EQ(name_of_command({"env", "A=1", "uv", "run", "python", "sft.py"}), "sft");
  EXPECT_EQ(name_of_command({"accelerate", "launch", "--num_processes", "2", "x/lora.py"}), "lora");
  EXPECT_EQ(name_of_command({"bash", "-c", "cd x && python train.py --n 1"}), "train");
  EXPECT_EQ(name_of_command({"./go.sh", "train.py"}), "go");
  EXPECT_EQ(name_of_command({"python"}), "python");
  EXPECT_EQ(name_of_command({"./my tool"}), "my-tool");
  EXPECT_EQ(name_of_command({".."}), "run");
  EXPECT_EQ(name_of_command({}), "run");
}

}  // namespace
}  // namespace rigwise
