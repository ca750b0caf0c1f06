// Run directories for comparison tests, written through RunWriter: made by hand, no real rig.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/compare.h"
#include "rigwise/run.h"
#include "rigwise/stats.h"

namespace rigwise::compare_made {

namespace fs = std::filesystem;

/// A folder of its own for one test, gone with it.
class Folder {
 public:
  Folder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    // Memory, where there is some: every run is synced to disk, and this is not what is tested.
    const fs::path root = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : fs::temp_directory_path();
    path_ = root / ("rigwise-compare-" + std::to_string(::getpid()) + "-" +
                    test->test_suite_name() + "-" + test->name());
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

/// What a made run is like. The defaults are a healthy run of 200 steps of 0.5 s.
struct Made {
  std::string name = "single";
  double start_unix_s = 1.8e9;
  int steps = 200;
  double step_s = 0.5;
  double sd = 0.01;       // of log step time, one step
  double run_shift = 0;   // of log step time, the whole run
  double phi = 0.3;       // AR(1)
  int spike_every = 100;  // a checkpoint, 4 steps long
  std::uint64_t seed = 1;
  int ranks = 1;
  std::optional<int> ranks_asked = {};
  std::map<std::string, std::string> facts = {};  // over the defaults; "" takes one out
  std::vector<std::string> command = {"python", "train.py"};
  std::optional<int> exit_status = 0;  // empty: the run never ended
  double loss_from = 3, loss_to = 2, loss_noise = 0.01;
  std::uint64_t loss_seed = 7;  // equal seeds: equal data order
  bool stated = true;           // step lines state step and step time; else receive times only
  std::function<double(int step)> stretch = {};         // factor on a step's time
  std::function<void(StepRecord&)> edit = {};           // last word on each train record
  std::function<void(RunWriter&, RunInfo&)> more = {};  // further tables and facts
};

inline std::map<std::string, std::string> default_facts(const Made& made) {
  return {{"model", "tiny"},
          {"model_config_hash", "sha256:aa"},
          {"data", "train.jsonl"},
          {"data_hash", "sha256:bb"},
          {"data_rows", "12000"},
          {"sequence_length", "512"},
          {"micro_batch", std::to_string(8 / made.ranks)},
          {"accumulation", "1"},
          {"global_batch", "8"},
          {"max_steps", std::to_string(made.steps)},
          {"optimizer", "adamw"},
          {"learning_rate", "2e-4"},
          {"schedule", "linear"},
          {"precision", "fp32"},
          {"seed", "42"},
          {"checkpoint_interval", "100 steps"},
          {"evaluation_interval", "none"},
          {"logging_interval", "1"},
          {"dataloader_workers", "0"},
          {"script_hash", "sha256:cc"}};
}

inline Environment default_environment() {
  Environment environment;
  environment.host = "box";
  environment.versions = {{"python", "3.11.2"}, {"torch", "2.13.0"}, {"transformers", "5.24.0"}};
  environment.facts = {{"git_commit", "abc123"}, {"git_dirty_hash", "none"}};
  return environment;
}

inline Rig default_rig() {
  Rig rig;
  rig.host = "box";
  rig.cpu_model = "Example CPU";
  rig.threads = 8;
  rig.cpus_allowed = 8;
  rig.mem_bytes = 64e9;
  rig.mounts = {{.path = "/data", .device = "/dev/nvme0n1p2", .fs_type = "ext4"}};
  rig.disks = {{.device = "nvme0n1", .model = "Example SSD"}};
  return rig;
}

/// Writes the run and opens it again, as compare() will find it.
inline Run make(const fs::path& root, const Made& made) {
  RunInfo info;
  info.name = made.name;
  info.command = made.command;
  info.cwd = "/home/user";
  info.host = "box";
  info.start_unix_s = made.start_unix_s;
  info.start_monotonic_s = 50000;
  auto writer = RunWriter::create(root, info);
  EXPECT_TRUE(writer.ok()) << (writer.ok() ? "" : writer.error().message);
  info = writer->info();
  info.ranks_asked = made.ranks_asked.value_or(made.ranks);
  info.ranks_trained = made.ranks;
  info.ranks_why = "by hand";
  auto facts = default_facts(made);
  for (const auto& [key, value] : made.facts) facts[key] = value;
  for (const auto& [key, value] : facts) {
    if (!value.empty()) info.facts.push_back({key, value, "argv --" + key});
  }
  stats::Random random(made.seed), loss_random(made.loss_seed);
  double t_s = 10, noise = random.normal();
  for (int step = 1; step <= made.steps; ++step) {
    double seconds = made.step_s * std::exp(made.run_shift + made.sd * noise);
    noise = made.phi * noise + std::sqrt(1 - made.phi * made.phi) * random.normal();
    if (step == 1) seconds *= 6;  // compile
    if (made.stretch) seconds *= made.stretch(step);
    if (made.spike_every > 0 && step % made.spike_every == 0) {
      Event save{.t_s = t_s + seconds,
                 .t_end_s = t_s + 4 * seconds,
                 .kind = EventKind::checkpoint,
                 .name = "out/checkpoint-" + std::to_string(step),
                 .state = "complete",
                 .size_bytes = 300000000,
                 .how = "filesystem"};
      writer->append(save);
      seconds *= 5;
    }
    t_s += seconds;
    StepRecord record;
    record.t_s = t_s;
    record.step = step;
    const double done = static_cast<double>(step) / made.steps;
    record.loss = std::round(1e4 * (made.loss_from + (made.loss_to - made.loss_from) * done +
                                    made.loss_noise * loss_random.normal())) /
                  1e4;
    record.grad_norm = 1.5;
    if (made.stated) record.step_time_s = seconds;
    record.log_file = "log/out.log";
    record.log_line = step;
    record.log_format = "key_value";
    if (made.edit) made.edit(record);
    writer->append(record);
  }
  HostSample sample;
  for (double at = 0; at <= t_s + 2; at += t_s / 10) {
    sample.t_s = at;
    sample.others_cpu_s = 0.01 * at;
    sample.tree_rss_bytes = 2e9;
    writer->append("box", sample);
  }
  EXPECT_TRUE(writer->write(default_environment()).ok());
  EXPECT_TRUE(writer->write(default_rig()).ok());
  if (made.more) made.more(*writer, info);
  if (made.exit_status) {
    info.ending = Ending{.exit_status = made.exit_status, .reason = "exited", .wall_s = t_s + 3};
    EXPECT_TRUE(writer->finish(info).ok());
  } else {
    EXPECT_TRUE(writer->update(info).ok());
  }
  const fs::path dir = writer->dir();
  writer = Error{Errc::internal, "closed"};  // lets go of the folder's lock
  auto run = open_run(dir);
  EXPECT_TRUE(run.ok());
  return std::move(*run);
}

/// `count` runs that differ in their own spread, made in turn with another side that starts at the
/// same hour: start times two slots apart.
inline std::vector<Run> make_side(const fs::path& root, Made made, int count, double run_sd,
                                  std::uint64_t seed, double slot_s = 300, int first_slot = 0) {
  stats::Random random(seed);
  std::vector<Run> runs;
  for (int i = 0; i < count; ++i) {
    Made one = made;
    one.seed = random.next();
    one.run_shift = made.run_shift + run_sd * random.normal();
    one.start_unix_s = made.start_unix_s + slot_s * (2 * i + first_slot);
    runs.push_back(make(root, one));
  }
  return runs;
}

inline const ComparedField* field_of(const Comparison& comparison, const std::string& name) {
  for (const ComparedField& field : comparison.fields) {
    if (field.field == name) return &field;
  }
  return nullptr;
}

inline bool has_finding(const Comparison& comparison, const std::string& id) {
  for (const Finding& finding : comparison.findings) {
    if (finding.id == id) return true;
  }
  return false;
}

}  // namespace rigwise::compare_made
