// Run directories made by hand for tests, through RunWriter, so that they are what a recorder
// writes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>

#include "rigwise/run.h"

namespace rigwise::made {

namespace fs = std::filesystem;

/// A folder of its own for one test, gone with it.
class Folder {
 public:
  Folder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    // Memory rather than a disk, where there is such a place: many small files are synced here.
    const bool memory = ::access("/dev/shm", W_OK) == 0;
    path_ = (memory ? fs::path("/dev/shm") : fs::temp_directory_path()) /
            ("rigwise-made-" + std::to_string(::getpid()) + "-" + test->test_suite_name() + "-" +
             test->name());
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// One run being written. Times are seconds of the run's own clock.
class Maker {
 public:
  Maker(const fs::path& root, const std::string& name, double start_unix_s = 1.8e9,
        const std::string& host = "rig")
      : writer_(create(root, name, start_unix_s, host)) {
    info = writer_->info();
    info.ranks_asked = info.ranks_trained = 1;
  }

  /// A Hugging Face bar on stderr: empty at `begin_s`, then `count` steps of `step_s`. `wait_s(k)`
  /// adds seconds before the end of step k (1-based).
  template <class Wait>
  double bar(double begin_s, int count, double step_s, Wait wait_s, int first = 0) {
    double t_s = begin_s;
    for (int k = first; k <= first + count; ++k) {
      if (k > first) t_s += step_s + wait_s(k);
      StepRecord record;
      record.t_s = t_s;
      record.kind = RecordKind::progress;
      record.step = k;
      record.steps_total = first + count;
      record.log_file = "log/err.log";
      record.log_line = 10 + k;
      record.log_format = "bar";
      add(record);
    }
    return t_s;
  }
  double bar(double begin_s, int count, double step_s) {
    return bar(begin_s, count, step_s, [](int) { return 0.0; });
  }

  /// One "step: k loss: …" line.
  void line(double t_s, std::optional<std::int64_t> step, std::optional<int> rank = {},
            const std::string& file = "log/out.log") {
    StepRecord record;
    record.t_s = t_s;
    record.step = step;
    record.loss = 2.5;
    record.rank = rank;
    record.log_file = file;
    record.log_format = "key_value";
    add(record);
  }

  void checkpoint(double from_s, double to_s, double bytes = 312e6,
                  const std::string& state = "complete") {
    Event event;
    event.t_s = from_s;
    event.t_end_s = to_s;
    event.kind = EventKind::checkpoint;
    event.name = "out/checkpoint";
    event.state = state;
    if (state == "torn") event.detail = "model.safetensors is shorter than its header says";
    event.size_bytes = static_cast<std::int64_t>(bytes);
    event.files = 8;
    event.how = "filesystem";
    add(event);
  }

  void evaluation(double from_s, double to_s, const std::string& detail = "progress bar") {
    Event event;
    event.t_s = from_s;
    event.t_end_s = to_s;
    event.kind = EventKind::evaluation;
    event.how = "log";
    event.detail = detail;
    add(event);
  }

  void train_end(double t_s) {
    Event event;
    event.t_s = t_s;
    event.kind = EventKind::train_end;
    event.how = "log";
    add(event);
  }

  /// Host samples once a second up to `to_s`: an idle machine.
  template <class Change>
  void host(double to_s, Change change) {
    for (int t = 0; t <= static_cast<int>(to_s); ++t) {
      HostSample sample;
      sample.t_s = t + 0.01;
      sample.tree_cpu_s = t * 1.0;
      sample.others_cpu_s = t * 0.002;
      sample.tree_run_delay_s = t * 0.001;
      sample.swap_used_bytes = 0;
      sample.psi_mem_full_s = sample.psi_mem_some_s = 0;
      sample.wall_unix_s = info.start_unix_s + t;
      change(sample);
      writer_->append(info.host, sample);
    }
  }
  void host(double to_s) {
    host(to_s, [](HostSample&) {});
  }

  void rank_process(int rank, double from_s, double to_s) {
    for (double t_s = from_s; t_s <= to_s; t_s += 1) {
      ProcSample sample;
      sample.t_s = t_s;
      sample.pid = 100 + rank;
      sample.role = "rank";
      sample.rank = rank;
      sample.comm = "python";
      writer_->append(info.host, sample);
    }
  }

  void add(const StepRecord& record) { writer_->append(record); }
  void add(const Event& event) { writer_->append(event); }
  void add(const GpuSample& sample) { writer_->append(info.host, sample); }
  void add(const ProcSample& sample) { writer_->append(info.host, sample); }
  void add(const DiskSample& sample) { writer_->append(info.host, sample); }
  void fact(const std::string& key, const std::string& value) {
    info.facts.push_back(Fact{key, value, "argv"});
  }

  Run finish(double wall_s, int exit_status = 0) {
    Ending ending;
    ending.exit_status = exit_status;
    ending.reason = "exited";
    ending.wall_s = wall_s;
    info.ending = ending;
    EXPECT_TRUE(writer_->finish(info).ok());
    const fs::path dir = writer_->dir();
    writer_.reset();
    return opened(dir);
  }
  /// The recorder and everything else died at this point.
  Run torn() {
    EXPECT_TRUE(writer_->update(info).ok());
    const fs::path dir = writer_->dir();
    writer_.reset();  // lets go of the lock
    return opened(dir);
  }
  /// As another process sees it while the recorder lives.
  Run live() {
    EXPECT_TRUE(writer_->update(info).ok());
    return opened(writer_->dir());
  }
  static Run opened(const fs::path& dir) {
    auto run = open_run(dir);
    EXPECT_TRUE(run.ok()) << (run.ok() ? "" : run.error().message);
    return *run;
  }

  RunWriter& writer() { return *writer_; }
  RunInfo info = {};

 private:
  static RunWriter create(const fs::path& root, const std::string& name, double start_unix_s,
                          const std::string& host) {
    RunInfo fresh;
    fresh.name = name;
    fresh.host = host;
    fresh.command = {"python", "train.py"};
    fresh.start_unix_s = start_unix_s;
    auto writer = RunWriter::create(root, fresh);
    EXPECT_TRUE(writer.ok()) << (writer.ok() ? "" : writer.error().message);
    return std::move(*writer);
  }
  std::optional<RunWriter> writer_;
};

}  // namespace rigwise::made
