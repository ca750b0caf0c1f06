// Probes and what carries their facts: children with a limit, JSON both ways, storage, kept smoke
// tests, and words that a hostile process might write.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <fstream>

#include "base/clock.h"
#include "base/files.h"
#include "base/subprocess.h"
#include "doctor/probes.h"
#include "doctor_made.h"

namespace rigwise::doctor {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

TEST(DoctorChild, BringsBackWhatItFound) {
  const auto text = run_in_child([] { return std::string(200000, 'x'); }, milliseconds(20000));
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_EQ(text->size(), 200000u);
}

TEST(DoctorChild, IsEndedAtItsLimit) {
  const auto text = run_in_child(
      [] {
        for (;;) ::pause();
        return std::string();
      },
      milliseconds(300));
  ASSERT_FALSE(text.ok());
  EXPECT_NE(text.error().message.find("no answer within 300 ms"), std::string::npos);
  EXPECT_EQ(text.error().code, Errc::unavailable);
}

TEST(DoctorChild, ItsEndIsTold) {
  const auto crashed = run_in_child(
      [] {
        ::raise(SIGKILL);
        return std::string();
      },
      milliseconds(20000));
  ASSERT_FALSE(crashed.ok());
  EXPECT_NE(crashed.error().message.find("signal 9"), std::string::npos);
  EXPECT_EQ(crashed.error().code, Errc::io);  // and no time limit
  const auto thrown =
      run_in_child([]() -> std::string { throw std::bad_alloc(); }, milliseconds(20000));
  EXPECT_FALSE(thrown.ok());
  const auto much =
      run_in_child([] { return std::string(100000, 'x'); }, milliseconds(20000), 1000);
  EXPECT_FALSE(much.ok());
}

TEST(DoctorBudget, AProbeGetsItsLimitOrWhatIsLeft) {
  const Budget much(3600);
  EXPECT_EQ(much.of(std::chrono::seconds(20)), std::optional(milliseconds(20000)));
  const auto rest = Budget(10).of(std::chrono::seconds(20));
  ASSERT_TRUE(rest.has_value());
  EXPECT_LE(*rest, milliseconds(10000));
  const Budget over(0);
  EXPECT_FALSE(over.of(std::chrono::seconds(20)).has_value());
  FrameworkFacts facts;
  facts.python = "/nowhere/python";
  probe_framework(facts, over);
  EXPECT_NE(facts.no_time.find("time:"), std::string::npos);
  EXPECT_EQ(facts.trouble, "");
}

TEST(DoctorBudget, TransfersLeaveRoomForTheirCopies) {
  constexpr double kMiB = 1 << 20;
  EXPECT_EQ(largest_transfer(2, 2, 64e9), 16 * kMiB);
  EXPECT_EQ(largest_transfer(3, 2, std::nullopt), 256 * kMiB);
  EXPECT_LE(largest_transfer(3, 8, 4e9) * 8 * 6, 2e9);
  EXPECT_EQ(largest_transfer(3, 8, 0), kMiB / 4);
}

TEST(DoctorFactsJson, KeepsWhatIsThereAndWhatIsNot) {
  MadeMachine machine;
  const DeviceFacts facts = read_devices(machine.root());
  DeviceFacts back;
  ASSERT_TRUE(from_json(to_json(facts), back).ok());
  EXPECT_EQ(to_json(back), to_json(facts));
  ASSERT_EQ(back.pci.size(), 2u);
  EXPECT_EQ(back.pci[0].driver, "nvidia");
  EXPECT_EQ(back.pci[0].hops.size(), 2u);
  EXPECT_EQ(back.pci[0].acs_redirects, std::optional(false));
  HostFacts host = read_host(machine.root()), again;
  EXPECT_TRUE(std::isinf(host.locked_bytes.value_or(0)));
  host.clock_synced.reset();
  ASSERT_TRUE(from_json(to_json(host), again).ok());
  EXPECT_TRUE(std::isinf(again.locked_bytes.value_or(0)));
  EXPECT_FALSE(again.clock_synced.has_value());
}

TEST(DoctorFactsJson, WordsOfAStrangerAreHeldToTheirTypes) {
  FrameworkFacts facts;
  for (const char* line :
       {"", "{", "[]", "null", R"({"torch": 5, "gpus": "two", "devices": [1, {"index": "x"}]})",
        R"({"gpus": 1e99, "packages": {"a": 1, "b": "2"}})",
        R"({"torch": "2.0\u001b[31m", "extensions": [{"name": "x", "error": 4}]})"})
    (void)from_json(line, facts).ok();
  EXPECT_FALSE(facts.gpus.has_value());
  EXPECT_EQ(facts.torch.find('\x1b'), std::string::npos);
  EXPECT_EQ(facts.packages.size(), 1u);
  DoctorFacts told;
  (void)from_json(R"({"torch_error": "401 for hf_abcdefghij0123456789"})", told.framework).ok();
  EXPECT_NE(told.framework.torch_error.find("hf_"), std::string::npos);
  EXPECT_EQ(to_json(told).find("hf_"), std::string::npos);  // the report
  const std::string whole = R"({"step": "join", "world": 2, "pair": {"from": 0, "to": 1}})";
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    RankWord word;
    EXPECT_EQ(from_json(whole.substr(0, cut), word).ok(), cut == whole.size());
  }
}

TEST(DoctorStorage, WritesReadsBackAndLeavesNothing) {
  MadeMachine machine;
  const auto folder = machine.root() / "data";
  fs::create_directories(folder);
  const StorageTry found = try_storage(folder / "runs" / "not-yet", 4 << 20);
  EXPECT_EQ(found.error, "");
  EXPECT_EQ(found.test_bytes, std::optional<double>(4 << 20));
  EXPECT_FALSE(found.wrong);
  EXPECT_TRUE(found.write_bytes_per_s && found.read_bytes_per_s && found.free_bytes);
  EXPECT_TRUE(fs::is_empty(folder));
}

TEST(DoctorStorage, SaysWhichFolderStoodInForOneThatIsNotThere) {
  MadeMachine machine;
  const auto folder = machine.root() / "data";
  fs::create_directories(folder);
  EXPECT_EQ(try_storage(folder / "runs" / "not-yet", 1 << 20).place, folder.string());
  EXPECT_EQ(try_storage(folder, 1 << 20).place, "");
}

// Half of the time is over before the size is reached: what was written counts.
TEST(DoctorStorage, ASlowDriveIsToldByItsRate) {
  MadeMachine machine;
  const StorageTry found = try_storage(machine.root().root, 64e12, milliseconds(600));
  EXPECT_EQ(found.error, "");
  EXPECT_TRUE(found.short_test);
  EXPECT_FALSE(found.wrong);
  EXPECT_GT(found.test_bytes.value_or(0), 0);
  EXPECT_TRUE(found.write_bytes_per_s.has_value());
}

/// A run of `program` from `cwd` that wrote checkpoints of these sizes below cwd/out.
void made_run(const fs::path& runs, const std::string& program, const fs::path& cwd,
              const std::vector<std::int64_t>& sizes) {
  RunInfo info;
  info.name = program;
  info.command = {"python", program + ".py"};
  info.cwd = cwd.string();
  auto writer = RunWriter::create(runs, info);
  ASSERT_TRUE(writer.ok()) << writer.error().message;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Event event;
    event.kind = EventKind::checkpoint;
    event.name = "out/checkpoint-" + std::to_string(i + 1);
    event.size_bytes = sizes[i];
    writer->append(event);
  }
  ASSERT_TRUE(writer->finish(writer->info()).ok());
}

TEST(DoctorStorage, WhatALikeRunHeldAtOnceIsExpected) {
  MadeMachine machine;
  const fs::path top = machine.root().root, runs = top / "runs", cwd = top / "work";
  const auto mine = [&](const RunInfo& info) {
    return info.name == "train" && info.cwd == cwd.string();
  };
  EXPECT_FALSE(look_back(runs, mine).earlier.has_value());
  made_run(runs, "train", cwd, {100, 100, 100, 130});
  made_run(runs, "other", cwd, {900, 900});
  made_run(runs, "train", top, {900, 900});
  for (const char* name : {"3", "4"})
    machine.put(std::string("work/out/checkpoint-") + name + "/model.safetensors", "x");
  auto facts = look_back(runs, mine);  // two of four were removed on the way
  ASSERT_TRUE(facts.earlier.has_value()) << facts.why_no_earlier;
  EXPECT_EQ(facts.earlier->checkpoints, 4);
  EXPECT_EQ(facts.earlier->kept, 2);
  EXPECT_EQ(facts.earlier->peak_bytes, 100 + 130 + 130);
  EXPECT_EQ(facts.earlier->last_bytes, 130);
  EXPECT_EQ(facts.earlier->folder, (cwd / "out").string());
  for (const char* name : {"1", "2"}) machine.put(std::string("work/out/checkpoint-") + name, "x");
  EXPECT_EQ(look_back(runs, mine).earlier->peak_bytes, 430);
  machine.take("work/out");
  EXPECT_EQ(look_back(runs, mine).earlier->peak_bytes, 130);
}

TEST(DoctorStorage, SaysWhyAFolderCannotBeWritten) {
  const StorageTry found = try_storage("/proc/self", 4 << 20);
  EXPECT_NE(found.error.find("cannot make a file"), std::string::npos) << found.error;
}

TEST(DoctorSmoke, StepsOfAResumedRunAreItsOwn) {
  EXPECT_EQ(steps_made({}, 20), 0);
  EXPECT_EQ(steps_made({0, 0}, 20), 0);
  EXPECT_EQ(steps_made({1, 2, 3}, 20), 3);
  EXPECT_EQ(steps_made({0, 7, 3, 7}, 20), 7);
  EXPECT_EQ(steps_made({10, 20}, 20), 20);              // every tenth is stated
  EXPECT_EQ(steps_made({5001}, 20), 1);                 // resumed at 5000
  EXPECT_EQ(steps_made({0, 5001, 5002, 5003}, 20), 3);  // its bar began at 0
  EXPECT_EQ(steps_made({5010, 5020}, 20), 20);
  EXPECT_EQ(steps_made({50, 100}, 20), 100);
}

TEST(DoctorSmoke, IsKeptByProgramAndFolder) {
  MadeMachine machine;
  const auto runs = machine.root() / "runs";
  EXPECT_FALSE(*recent_smoke(runs, "train", "/work"));
  SmokeResult result = well_smoked();
  result.cwd = "/work";
  for (int i = 0; i < 60; ++i) {
    result.unix_s = 1e9 + i;
    result.passed = i < 59;
    ASSERT_TRUE(keep_smoke(runs, result).ok());
  }
  const auto newest = *recent_smoke(runs, "train", "/work");
  ASSERT_TRUE(newest.has_value());
  EXPECT_EQ(newest->unix_s, 1e9 + 59);
  EXPECT_FALSE(newest->passed);
  EXPECT_EQ(newest->steps_seen, std::optional(20));
  EXPECT_FALSE(*recent_smoke(runs, "train", "/elsewhere"));
  EXPECT_FALSE(*recent_smoke(runs, "other", "/work"));
  machine.put("runs/doctor/smoke.json", "{ broken");
  EXPECT_FALSE(*recent_smoke(runs, "train", "/work"));
  EXPECT_TRUE(keep_smoke(runs, result).ok());
  EXPECT_TRUE(*recent_smoke(runs, "train", "/work"));
}

TEST(DoctorHostFacts, ControlGroupsBoundTheMemory) {
  MadeMachine machine;
  machine.put("proc/self/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  machine.put("proc/self/cgroup", "0::/user/job\n");
  machine.put("sys/fs/cgroup/user/job/memory.max", "max\n");
  machine.put("sys/fs/cgroup/user/memory.max", "8000000000\n");
  machine.put("sys/fs/cgroup/user/memory.current", "7500000000\n");
  const HostFacts two = read_host(machine.root());
  EXPECT_EQ(two.mem_total_bytes, std::optional(8e9));
  EXPECT_EQ(two.mem_available_bytes, std::optional(0.5e9));
  machine.put("sys/fs/cgroup/user/memory.stat", "anon 500000000\ninactive_file 6000000000\n");
  EXPECT_EQ(read_host(machine.root()).mem_available_bytes, std::optional(6.5e9));
  machine.put("proc/self/mountinfo",
              "30 1 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  machine.put("proc/self/cgroup", "4:memory:/job\n");
  machine.put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "4000000000\n");
  machine.put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000000000\n");
  machine.put("sys/fs/cgroup/memory/job/memory.stat",
              "inactive_file 1\ntotal_inactive_file 400000000\n");
  EXPECT_EQ(read_host(machine.root()).mem_total_bytes, std::optional(4e9));
  EXPECT_EQ(read_host(machine.root()).mem_available_bytes, std::optional(3.4e9));
}

TEST(DoctorHostFacts, ListenersAreFoundInBothFamilies) {
  MadeMachine machine;
  machine.put("proc/net/tcp6",
              "  sl  local_address rem st\n 0: 00000000000000000000000000000000:72D8 "
              "00000000000000000000000000000000:0000 0A 0:0\n 1: 0:733C 0:0 01 0:0\n x\n 2: a\n");
  EXPECT_EQ(listening_ports(machine.root(), {29500, 29400}), std::vector<int>{29400});
}

}  // namespace
}  // namespace rigwise::doctor
