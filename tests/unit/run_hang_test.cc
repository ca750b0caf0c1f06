// hangs.jsonl: what goes in comes out, and nothing that is torn or foreign is taken for it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "rigwise/hang.h"
#include "run/codec.h"

namespace rigwise {
namespace {

Hang made_hang() {
  Hang hang;
  hang.number = 1;
  hang.host = "lab";
  hang.t_s = 312.5;
  hang.found_s = 372.6;
  hang.threshold_s = 60;
  hang.last_progress = "a step";
  hang.last_step = 180;
  hang.look.t_s = 372.7;
  hang.look.verdict.where = "rank 1 sits in DataLoader.__next__ on /data/\"part\"";
  hang.look.verdict.cause = HangCause::input;
  hang.look.verdict.ranks = {1};
  hang.look.verdict.because = "the cause is rank 1's input";
  hang.look.verdict.advice = "read it";
  ProcessLook process;
  process.pid = 4127;
  process.ppid = 4000;
  process.role = "rank";
  process.rank = 1;
  process.comm = "python3";
  process.state = "S";
  process.python = "3.11";
  process.read = "whole";
  process.work = "input";
  process.syscall = "read";
  process.waits_fd = 7;
  process.waits_on = "/data/part-3";
  process.wchan = "pipe_read";
  process.still_s = 60.1;
  process.cpu_frac = 0;
  process.connections = 2;
  process.closed_by_peer = 0;
  process.holds_gpu = true;
  process.frames = {{"data.py", "Rows.__getitem__", 12}, {"train.py", "main", 0}};
  process.threads = {{"python3", "S", "futex_wait_queue", 3}, {"pt_gloo", "S", "", 2}};
  hang.look.processes = {process, ProcessLook{.pid = 7, .role = "launcher"}};
  GpuSample gpu;
  gpu.gpu = 1;
  gpu.util_frac = 1;
  gpu.mem_util_frac = 0;
  hang.look.gpus = {gpu};
  return hang;
}

TEST(RunHang, ComesBackAsItWas) {
  const auto rows = decode_hangs(encode_line(made_hang()));
  ASSERT_EQ(rows.rows.size(), 1U);
  EXPECT_EQ(rows.bad_rows, 0);
  const Hang& hang = rows.rows[0];
  EXPECT_EQ(hang.line, 1);
  EXPECT_EQ(hang.state, HangState::open);
  EXPECT_FALSE(hang.t_end_s);
  EXPECT_EQ(hang.look.verdict.claim(), made_hang().look.verdict.claim());
  EXPECT_EQ(hang.look.verdict.ranks, std::vector<int>{1});
  ASSERT_EQ(hang.look.processes.size(), 2U);
  EXPECT_EQ(hang.look.processes[0].frames[0].line, 12);
  EXPECT_EQ(hang.look.processes[0].threads[0].count, 3);
  EXPECT_EQ(hang.look.processes[0].cpu_frac, 0);
  EXPECT_FALSE(hang.look.processes[1].cpu_frac);  // not known is not zero
  EXPECT_FALSE(hang.look.processes[1].connections);
  EXPECT_EQ(encode_line(hang), encode_line(made_hang()));
}

TEST(RunHang, AnEndingIsJoinedToItsHang) {
  Hang ended = made_hang();
  std::string text = encode_line(ended);
  ended.number = 2;
  text += encode_line(ended);
  ended.number = 1;
  ended.t_end_s = 400;
  ended.state = HangState::over;
  text += encode_line(ended);
  const auto rows = decode_hangs(text);
  ASSERT_EQ(rows.rows.size(), 2U);
  EXPECT_EQ(rows.rows[0].state, HangState::over);
  EXPECT_EQ(rows.rows[0].t_end_s, 400);
  EXPECT_EQ(rows.rows[1].state, HangState::open);
  EXPECT_EQ(rows.rows[1].line, 2);
}

TEST(RunHang, CutAnywhereIsNeverAnotherHang) {
  Hang ended = made_hang();
  const std::string first = encode_line(ended);
  ended.t_end_s = 400;
  ended.state = HangState::ended;
  const std::string text = first + encode_line(ended);
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    const auto rows = decode_hangs(std::string_view(text).substr(0, cut));
    EXPECT_EQ(rows.bad_rows, 0) << cut;
    EXPECT_EQ(rows.rows.size(), cut < first.size() ? 0U : 1U) << cut;
    if (!rows.rows.empty()) {
      EXPECT_EQ(rows.rows[0].state, HangState::open) << cut;
    }
  }
}

TEST(RunHang, ForeignLinesAreCounted) {
  const auto rows = decode_hangs(
      "not json\n[1]\n{\"hang\":\"x\"}\n{\"hang\":1,\"t_s\":1e999,\"found_s\":2}\n"
      "{\"hang\":9,\"t_end_s\":3,\"state\":\"over\"}\n" +
      std::string(200, '[') +
      "\n{\"hang\":3,\"t_s\":1,\"found_s\":2,\"processes\":[1,{\"pid\":\"x\"}],"
      "\"verdict\":{\"cause\":\"magic\",\"ranks\":[\"a\",2]}}\n");
  EXPECT_EQ(rows.bad_rows, 6);
  ASSERT_EQ(rows.rows.size(), 1U);
  EXPECT_EQ(rows.rows[0].look.verdict.cause, HangCause::unknown);
  EXPECT_EQ(rows.rows[0].look.verdict.ranks, std::vector<int>{2});
}

TEST(RunHang, ARunWithoutAny) {
  rigwise::Run run;
  run.dir = std::filesystem::temp_directory_path() / "rigwise-no-such-run";
  const auto rows = read_hangs(run);
  ASSERT_TRUE(rows);
  EXPECT_FALSE(rows->present);
}

}  // namespace
}  // namespace rigwise
