// The run directory: written, opened, torn, killed between any two system calls.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "base/files.h"
#include "rigwise/run.h"
#include "run/layout.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

class RunStore : public testing::Test {
 protected:
  RunStore() {
    std::string pattern = (fs::temp_directory_path() / "rigwise-run-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~RunStore() override {
    std::error_code error;
    fs::remove_all(root_, error);
  }

  static RunInfo info(const std::string& name) {
    RunInfo info;
    info.name = name;
    info.command = {"python", "train.py"};
    info.host = "lab";
    info.start_unix_s = 1764000000;
    info.statement = Statement{.threshold = "tokens_per_s >= 1.4x", .hash = "abc"};
    info.facts = {{"global_batch", "8", "argv --batch"}};
    return info;
  }

  /// What a recorder does from start to finish, in small.
  static void record(const fs::path& root) {
    auto made = RunWriter::create(root, info("killed"));
    if (!made) return;
    for (int i = 0; i < 3; ++i) {
      StepRecord step;
      step.t_s = i;
      step.loss = 2.5;
      made->append(step);
      HostSample sample;
      sample.t_s = i;
      sample.load1 = 0.5;
      made->append("lab", sample);
    }
    static_cast<void>(made->write(Environment{.host = "lab"}));
    static_cast<void>(made->write(Rig{.host = "lab"}));
    RunInfo end = made->info();
    end.ending = Ending{.exit_status = 0, .reason = "exited", .wall_s = 3};
    static_cast<void>(made->finish(end));
  }

  fs::path root_;
};

TEST_F(RunStore, WhatWasWrittenComesBack) {
  auto writer = RunWriter::create(root_, info("two-gpu"));
  ASSERT_TRUE(writer.ok()) << writer.error().message;
  StepRecord step;
  step.t_s = 1.25;
  step.step = 4;
  step.loss = 2.5;
  step.log_file = "log/out.log";
  step.log_line = 12;
  writer->append(step);
  Event event;
  event.t_s = 2;
  event.t_end_s = 3;
  event.kind = EventKind::checkpoint;
  event.name = "out/checkpoint-4, \"best\"";
  event.size_bytes = 312000000;
  writer->append(event);
  GpuSample gpu;
  gpu.t_s = 1;
  gpu.gpu = 3;
  gpu.power_w = 0.0;  // a true zero is not an absent value
  writer->append("lab", gpu);
  Rig rig;
  rig.host = "lab";
  rig.gpus.push_back({.gpu = 3, .name = "card", .pcie_width_max = 16});
  ASSERT_TRUE(writer->write(rig).ok());

  {
    const auto open = open_run(writer->dir());
    ASSERT_TRUE(open.ok()) << open.error().message;
    EXPECT_EQ(open->state, RunState::running);
    EXPECT_DOUBLE_EQ(open->wall_s, 1);  // the last instant that a table mentions
  }
  RunInfo end = writer->info();
  end.ending = Ending{.exit_status = 0, .reason = "exited", .wall_s = 10};
  end.ranks_asked = 2;
  ASSERT_TRUE(writer->finish(end).ok());

  const auto run = open_run(writer->dir());
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(run->state, RunState::finished);
  EXPECT_EQ(run->info.name, "two-gpu");
  EXPECT_EQ(run->info.ranks_asked, 2);
  EXPECT_EQ(run->info.ranks_trained, std::nullopt);
  EXPECT_EQ(run->info.statement->threshold, "tokens_per_s >= 1.4x");
  EXPECT_EQ(run->info.facts.at(0).value, "8");
  EXPECT_EQ(run->info.digests.at("steps.csv"),
            "sha256:" + sha256_file_hex(run->dir / "steps.csv").value());
  const auto steps = read_steps(*run).value();
  ASSERT_EQ(steps.rows.size(), 1U);
  EXPECT_EQ(steps.rows[0].step, 4);
  EXPECT_EQ(steps.rows[0].eval_loss, std::nullopt);
  EXPECT_EQ(steps.rows[0].log_line, 12);
  const auto events = read_events(*run).value();
  EXPECT_EQ(events.rows.at(0).name, "out/checkpoint-4, \"best\"");
  EXPECT_EQ(events.rows.at(0).kind, EventKind::checkpoint);
  const auto gpus = read_gpu(*run, "lab").value();
  EXPECT_EQ(gpus.rows.at(0).power_w, 0.0);
  EXPECT_EQ(gpus.rows.at(0).util_frac, std::nullopt);
  EXPECT_EQ(read_rig(*run, "lab")->gpus.at(0).pcie_width_max, 16);
  EXPECT_FALSE(read_net(*run, "lab")->present);
}

TEST_F(RunStore, ANameMayRepeat) {
  const auto one = RunWriter::create(root_, info("single"));
  const auto two = RunWriter::create(root_, info("single"));
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_NE(one->dir(), two->dir());
  EXPECT_EQ(find_runs(root_, "single")->size(), 2U);
  EXPECT_EQ(find_runs(root_, one->info().id)->size(), 1U);
  EXPECT_EQ(find_runs(root_, one->dir().string())->size(), 1U);
  const auto none = find_runs(root_, "singel");
  EXPECT_EQ(none.error().code, Errc::not_found);
  EXPECT_EQ(none.error().hint, "did you mean 'single'?");
}

TEST_F(RunStore, BadNamesAndPlaces) {
  for (const auto* name : {"", "../x", "a b", "-x", ".hidden", "a/b"}) {
    EXPECT_EQ(RunWriter::create(root_, info(name)).error().code, Errc::usage) << name;
  }
  EXPECT_EQ(RunWriter::create("/proc/no-such", info("x")).error().code, Errc::io);
  EXPECT_EQ(open_run(root_).error().code, Errc::not_found);
  std::ofstream(root_ / "run.json") << "{\"format\": 1, \"name\": ";
  EXPECT_EQ(open_run(root_).error().code, Errc::malformed);
  std::ofstream(root_ / "run.json") << "{\"format\": 99}";
  EXPECT_EQ(open_run(root_).error().code, Errc::malformed);
  std::ofstream(root_ / "run.json") << "{\"format\": 1, \"name\": 7, \"command\": [1, \"x\"]}";
  EXPECT_EQ(open_run(root_)->info.command, std::vector<std::string>{"x"});
}

TEST_F(RunStore, BadRowsAreCountedAndAHalfRowIsNot) {
  fs::path dir;
  {
    const auto writer = RunWriter::create(root_, info("x"));
    dir = writer->dir();
  }
  std::ofstream(dir / "steps.csv") << "t_s,loss,not_yet_known\n1,2.5,7\nx,1,1\n2,nan,\n3\n4,1.";
  const auto run = open_run(dir);
  EXPECT_EQ(run->state, RunState::torn);
  const auto steps = read_steps(*run).value();
  ASSERT_EQ(steps.rows.size(), 2U);
  EXPECT_EQ(steps.bad_rows, 2);
  EXPECT_TRUE(std::isnan(*steps.rows[1].loss));
}

TEST_F(RunStore, FieldsThatAreNoValuesOfTheirColumnMakeABadRow) {
  fs::path dir;
  {
    const auto writer = RunWriter::create(root_, info("x"));
    dir = writer->dir();
  }
  std::ofstream(dir / "steps.csv") << "t_s,step,rank,loss,per_device,log_line\n"
                                      "1,4,0,2.5,0,7\n"    // good
                                      "nan,4,0,2.5,0,7\n"  // no instant
                                      "inf,4,0,2.5,0,7\n"
                                      ",4,0,2.5,0,7\n"
                                      "2,4.5,0,2.5,0,7\n"         // half a step
                                      "2,4,4294967297,2.5,0,7\n"  // would become rank 1
                                      "2,99999999999999999999,0,2,0,7\n"
                                      "2,4,0,much,0,7\n"
                                      "2,4,0,2.5,maybe,7\n"
                                      "3,,,inf,,\n";  // good: absent, diverged
  std::ofstream(dir / "events.csv") << "t_s,t_end_s,kind\n1,2,checkpoint\n1,nan,checkpoint\n"
                                       "1,,not_yet_known\n";
  std::ofstream(dir / "log/out.idx.csv") << "offset_bytes,t_s\n10,1\n20,nan\n30,\n40,2\n";
  std::ofstream(dir / "watch/lab.gpu.csv")
      << "t_s,gpu,power_w,name\n1,0,9,a\n-inf,0,9,a\n2,0,x,\"b,\"\n3,0,7,\"c,\"\nnan,1,7,\"\"\n";
  const auto run = open_run(dir);
  EXPECT_DOUBLE_EQ(run->wall_s, 3);  // of the last row with an instant
  const auto steps = read_steps(*run).value();
  ASSERT_EQ(steps.rows.size(), 2U);
  EXPECT_EQ(steps.bad_rows, 8);
  EXPECT_EQ(steps.rows[1].step, std::nullopt);
  EXPECT_TRUE(std::isinf(*steps.rows[1].loss));
  EXPECT_EQ(read_events(*run)->rows.size(), 2U);
  EXPECT_EQ(read_events(*run)->bad_rows, 1);
  EXPECT_EQ(read_log_index(*run, "out")->bad_rows, 2);
  EXPECT_EQ(read_gpu(*run, "lab")->bad_rows, 3);
  std::vector<std::int64_t> lines;
  ASSERT_TRUE(visit_gpu(*run, "lab", {"power_w"}, [&](const GpuSample& row, std::int64_t line) {
                EXPECT_TRUE(std::isfinite(row.t_s) && row.power_w);
                lines.push_back(line);
                return true;
              }).ok());
  EXPECT_EQ(lines, (std::vector<std::int64_t>{2, 5}));
}

TEST_F(RunStore, AFullDiskLosesRowsAndNothingElse) {
  // RLIMIT_FSIZE stands in for the full disk: a write is cut short, then refused.
  ::signal(SIGXFSZ, SIG_IGN);
  const fs::path path = root_ / "t.csv";
  AppendFile file(path, "t_s,loss\n");
  EXPECT_EQ(file.append(""), 0U);
  rlimit before = {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 9 + 6;
  ::setrlimit(RLIMIT_FSIZE, &small);
  file.append("1,2.5\n");
  file.append("2,2.5\n");
  ::setrlimit(RLIMIT_FSIZE, &before);
  file.append("3,2.5\n");
  EXPECT_EQ(file.lost_bytes(), 6);
  EXPECT_EQ(file.lost_rows(), 1);
  EXPECT_EQ(read_file(path).value(), "t_s,loss\n1,2.5\n3,2.5\n");

  small.rlim_cur = 21 + 9;  // the second of these rows is cut in its middle: "5,2" could pass
  ::setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_EQ(file.append("4,2.5\n5,2.5\n6,2.5\n"), 1U);
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(file.append("7,2.5\n"), 1U);
  EXPECT_EQ(read_file(path).value(), "t_s,loss\n1,2.5\n3,2.5\n4,2.5\n7,2.5\n");
  EXPECT_EQ(file.lost_rows(), 3);
}

TEST_F(RunStore, AHeaderThatMetAFullDiskComesLater) {
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const std::string header = "t_s,loss\n";
  for (std::size_t room = 0; room <= header.size(); ++room) {
    const fs::path path = root_ / (std::to_string(room) + ".csv");
    AppendFile file(path, header);
    rlimit small = before;
    small.rlim_cur = room;
    ::setrlimit(RLIMIT_FSIZE, &small);
    EXPECT_EQ(file.append("1,2.5\n"), 0U);
    EXPECT_EQ(file.append("2,2.5\n"), 0U);
    ::setrlimit(RLIMIT_FSIZE, &before);
    if (room % 2 == 1) file = AppendFile(path, header);  // found by another writer
    EXPECT_EQ(file.append("3,2.5\n"), 1U);
    EXPECT_EQ(read_file(path).value(), header + "3,2.5\n") << room;
  }
}

TEST_F(RunStore, AFileThatCannotBeOpenedIsTriedAgain) {
  const fs::path folder = root_ / "late";
  AppendFile file(folder / "t.csv", "t_s\n");
  EXPECT_EQ(file.append("1\n2\n"), 0U);
  fs::create_directory(folder);
  EXPECT_EQ(file.append("3\n"), 1U);
  EXPECT_EQ(read_file(folder / "t.csv").value(), "t_s\n3\n");
  EXPECT_EQ(file.lost_rows(), 2);
}

TEST_F(RunStore, LostRowsAreToldByTable) {
  auto writer = RunWriter::create(root_, info("full"));
  ASSERT_TRUE(writer.ok());
  fs::create_directory(writer->dir() / "steps.csv");  // cannot be opened for writing
  for (int i = 0; i < 3; ++i) writer->append(StepRecord{.t_s = 1.0 * i});
  writer->append(Event{.t_s = 1});
  fs::remove(writer->dir() / "steps.csv");
  writer->append(StepRecord{.t_s = 4});
  RunInfo end = writer->info();
  end.ending = Ending{.exit_status = 0, .reason = "exited", .wall_s = 5};
  ASSERT_TRUE(writer->finish(end).ok());
  const auto run = open_run(writer->dir());
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(run->info.missing, std::vector<std::string>{"steps.csv: 3 rows could not be written"});
  EXPECT_EQ(read_steps(*run)->rows.size(), 1U);
  EXPECT_FALSE(fs::exists(run->dir / "reserve"));
}

/// A file system of its own, as small as asked for; empty where that needs rights we lack.
class SmallDisk {
 public:
  SmallDisk(const fs::path& at, const char* size) : at_(at) {
    fs::create_directory(at);
    mounted_ = ::mount("none", at.c_str(), "tmpfs", 0, (std::string("size=") + size).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(at_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }
  void fill() const {
    std::ofstream ballast(at_ / "ballast", std::ios::binary);
    const std::string block(65536, 'x');
    while (ballast.write(block.data(), 65536).flush()) {
    }
  }

 private:
  fs::path at_;
  bool mounted_ = false;
};

TEST_F(RunStore, ARunIsClosedOnAFullDisk) {
  const SmallDisk disk(root_ / "disk", "2m");
  if (!disk.mounted()) GTEST_SKIP() << "no right to mount a small tmpfs";
  auto writer = RunWriter::create(root_ / "disk", info("full"));
  ASSERT_TRUE(writer.ok());
  writer->append(StepRecord{.t_s = 1, .step = 1});
  disk.fill();
  writer->append("lab", HostSample{.t_s = 1});
  RunInfo end = writer->info();
  end.ending = Ending{.exit_status = 0, .reason = "exited", .wall_s = 5};
  ASSERT_TRUE(writer->close(end).ok());
  const auto run = open_run(writer->dir());
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(run->state, RunState::finished);
  EXPECT_EQ(run->info.missing,
            std::vector<std::string>{"watch/lab.host.csv: 1 row could not be written"});
  int signs = 0;
  EXPECT_TRUE(writer->seal([&] { ++signs; }).ok());
  EXPECT_GT(signs, 0);
  EXPECT_TRUE(open_run(writer->dir())->info.digests.contains("steps.csv"));
}

TEST_F(RunStore, TheFrontAddsDigestsOnlyWhereTheRecorderHadTheEnding) {
  fs::path dir;
  {
    auto writer = RunWriter::create(root_, info("sealed"));
    dir = writer->dir();
    RunInfo end = writer->info();
    end.ending = Ending{.exit_status = 3, .reason = "exited", .wall_s = 5};
    ASSERT_TRUE(writer->close(end).ok());
    EXPECT_EQ(open_run(dir)->state, RunState::finished);
    EXPECT_TRUE(open_run(dir)->info.digests.empty());
  }
  ASSERT_TRUE(write_keeper_record(dir, {}).ok());
  ASSERT_TRUE(finish_run(dir, Ending{.reason = "status lost"}, {"all of it"}).ok());
  const auto run = open_run(dir);
  EXPECT_EQ(run->info.ending->exit_status, 3);
  EXPECT_TRUE(run->info.missing.empty());
  EXPECT_FALSE(run->info.end_unwatched);
  EXPECT_TRUE(run->info.digests.contains("keeper.json"));

  {
    const auto writer = RunWriter::create(root_, info("dead"));
    dir = writer->dir();
  }
  ASSERT_TRUE(finish_run(dir, Ending{.signal = 9, .reason = "signal SIGKILL"}, {"the end"}).ok());
  EXPECT_TRUE(open_run(dir)->info.end_unwatched);
  EXPECT_EQ(open_run(dir)->info.missing, std::vector<std::string>{"the end"});
}

TEST_F(RunStore, GapsAreFlagsThatComeBack) {
  auto writer = RunWriter::create(root_, info("gaps"));
  ASSERT_TRUE(writer.ok());
  RunInfo end = writer->info();
  end.ending = Ending{.exit_status = 0, .reason = "exited", .wall_s = 5};
  end.log_end_unread = true;
  end.checkpoints_unwatched = true;
  end.recorder = RecorderCost{.missed_ticks = 4};
  ASSERT_TRUE(writer->finish(end).ok());
  const auto run = open_run(writer->dir());
  EXPECT_TRUE(run->info.log_end_unread && run->info.checkpoints_unwatched);
  EXPECT_FALSE(run->info.end_unwatched);
  EXPECT_EQ(run->info.recorder->missed_ticks, 4);
  EXPECT_EQ(read_file(run->dir / "run.json")->find("end_unwatched"), std::string::npos);
}

TEST_F(RunStore, ANameThatIsAnotherRunsIdHidesNothing) {
  const auto first = RunWriter::create(root_, info("single"));
  const std::string id = first->info().id;
  const auto second = RunWriter::create(root_, info(id));
  ASSERT_TRUE(second.ok());
  const auto both = find_runs(root_, id);
  ASSERT_FALSE(both.ok());
  EXPECT_EQ(both.error().code, Errc::conflict);
  EXPECT_NE(both.error().hint.find(second->info().id), std::string::npos) << both.error().hint;
  EXPECT_EQ(find_runs(root_, (root_ / id).string())->at(0).info.name, "single");
  EXPECT_EQ(find_runs(root_, second->info().id)->size(), 1U);
  EXPECT_EQ(find_runs(root_, "single")->size(), 1U);
}

/// Runs `record` in a child that is killed just before its n-th system call. True when it came to
/// its end by itself.
bool killed_before_call(int n, const fs::path& root, void (*record)(const fs::path&)) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    record(root);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  bool entering = true;
  for (int calls = 0;;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) return true;
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    if (entering && ++calls == n) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return false;
    }
    entering = !entering;
  }
}

TEST_F(RunStore, KilledBetweenAnyTwoSystemCallsItStillOpens) {
  int seen_whole = 0, seen_torn = 0;
  for (int n = 1;; ++n) {
    const fs::path root = root_ / std::to_string(n);
    const bool ended = killed_before_call(n, root, &RunStore::record);
    std::error_code error;
    for (auto entry = fs::directory_iterator(root, error);
         !error && entry != fs::directory_iterator(); entry.increment(error)) {
      const auto run = open_run(entry->path());
      if (!run) {  // only where run.json was not there yet
        EXPECT_EQ(run.error().code, Errc::not_found) << n << ": " << run.error().message;
        EXPECT_FALSE(fs::exists(entry->path() / "run.json"));
        continue;
      }
      const auto steps = read_steps(*run).value();
      EXPECT_EQ(steps.bad_rows, 0) << n;
      for (const auto& step : steps.rows) EXPECT_EQ(step.loss, 2.5) << n;
      if (run->state == RunState::finished) {
        ++seen_whole;
        EXPECT_EQ(steps.rows.size(), 3U);
        for (const auto& [file, digest] : run->info.digests) {
          EXPECT_EQ(digest, "sha256:" + sha256_file_hex(run->dir / file).value()) << n << file;
        }
      } else {
        ++seen_torn;
        EXPECT_EQ(run->state, RunState::torn) << n;
        EXPECT_FALSE(run->missing.empty());
      }
    }
    fs::remove_all(root, error);
    if (ended) break;
    ASSERT_LT(n, 2000);
  }
  EXPECT_GT(seen_torn, 20);
  EXPECT_GE(seen_whole, 1);
}

}  // namespace
}  // namespace rigwise
