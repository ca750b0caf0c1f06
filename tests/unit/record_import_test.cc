// Evidence captured by hand becomes a run: which rows, on which clock, and what is said about the
// rest.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "record/import_parts.h"
#include "rigwise/import.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
using OpenedRun = rigwise::Run;  // testing::Test has a Run of its own

class Import : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
    char name[] = "/tmp/rigwise-import-XXXXXX";
    top_ = ::mkdtemp(name);
    from_ = top_ / "june";
    fs::create_directories(from_);
  }
  void TearDown() override { fs::remove_all(top_); }

  void put(const std::string& name, const std::string& text) const {
    fs::create_directories((from_ / name).parent_path());
    std::ofstream(from_ / name, std::ios::binary) << text;
  }
  void put_fixture(const std::string& fixture, const std::string& name) const {
    fs::create_directories((from_ / name).parent_path());
    fs::copy(fs::path(RIGWISE_FIXTURES) / fixture, from_ / name, fs::copy_options::recursive);
  }
  ImportOptions options() const {
    return {.root = top_ / "runs", .paths = {from_}, .version = "test"};
  }
  /// Imports and opens; fails the test where that does not go.
  OpenedRun imported(const ImportOptions& given) {
    auto outcome = import_run(given);
    EXPECT_TRUE(outcome.ok()) << (outcome.ok() ? "" : outcome.error().message);
    if (!outcome.ok()) return {};
    outcome_ = std::move(*outcome);
    auto run = open_run(outcome_.dir);
    EXPECT_TRUE(run.ok());
    return run.ok() ? std::move(*run) : OpenedRun{};
  }
  OpenedRun imported() { return imported(options()); }
  const ImportedFile& file(const std::string& path) const {
    const auto found = std::find_if(outcome_.files.begin(), outcome_.files.end(),
                                    [&](const ImportedFile& f) { return f.path == path; });
    static const ImportedFile kNone;
    EXPECT_NE(found, outcome_.files.end()) << path;
    return found == outcome_.files.end() ? kNone : *found;
  }
  static std::string fact(const OpenedRun& run, const std::string& key) {
    for (const auto& one : run.info.facts) {
      if (one.key == key) return one.value;
    }
    return {};
  }
  static std::size_t rows_of(const Rows<StepRecord>& rows, RecordKind kind) {
    return static_cast<std::size_t>(std::count_if(rows.rows.begin(), rows.rows.end(),
                                                  [&](const auto& r) { return r.kind == kind; }));
  }

  fs::path top_, from_;
  ImportOutcome outcome_;
};

std::string stamped_log() {
  std::string text;
  for (int i = 0; i < 20; ++i) {
    char line[200];
    std::snprintf(line, sizeof line,
                  "2026-11-24 14:03:%02d,500 - INFO - trainer - step: %d loss: %.3f lr: 1.0e-04\n",
                  20 + i, i + 1, 3.0 / (i + 1));
    text += line;
  }
  return text;
}

const std::string kDictLog =
    "{'loss': 2.5, 'grad_norm': 1.2, 'learning_rate': 1e-04, 'epoch': 0.05}\n"
    "{'loss': 2.25, 'grad_norm': 1.1, 'learning_rate': 7.5e-05, 'epoch': 0.1}\n"
    "{'loss': 2.0, 'grad_norm': 1.0, 'learning_rate': 5e-05, 'epoch': 0.15}\n"
    "{'train_runtime': 20.5, 'train_samples_per_second': 15.6, 'train_steps_per_second': 1.95, "
    "'train_loss': 2.125, 'epoch': 0.2}\n";

TEST_F(Import, JoinsLogAndGpuSamplesOnOneClock) {
  put("train.log", stamped_log());
  put_fixture("captured/nvidia-all.csv", "gpu.csv");
  put("command.txt",
      "$ torchrun --nproc_per_node 2 train.py --learning_rate 1e-4 \\\n  --max_steps 20 "
      "--hub_token hf_abcdefghijklmnopqrstuvwxyz0123 | tee log\n");
  const OpenedRun run = imported();
  EXPECT_TRUE(run.info.imported);
  EXPECT_EQ(run.info.name, "june");
  EXPECT_EQ(run.state, RunState::finished);
  EXPECT_DOUBLE_EQ(run.info.start_unix_s, 1795529000.5);  // 14:03:20.5, local time is UTC here
  EXPECT_NEAR(run.wall_s, 19, 1e-6);
  const auto steps = read_steps(run);
  ASSERT_TRUE(steps.ok());
  ASSERT_EQ(rows_of(*steps, RecordKind::train), 20U);
  EXPECT_NEAR(steps->rows[1].t_s, 1, 1e-6);
  EXPECT_EQ(steps->rows[1].log_file, "log/out.log");
  EXPECT_TRUE(run.info.untimed.empty());
  const auto gpu = read_gpu(run, run.info.host);
  ASSERT_TRUE(gpu.ok());
  ASSERT_EQ(gpu->rows.size(), 4U);
  EXPECT_NEAR(gpu->rows[0].t_s, 1.603, 1e-6);
  EXPECT_EQ(file("gpu.csv").samples, 4);
  EXPECT_EQ(file("gpu.csv").times, TimesJoined::yes);
  EXPECT_EQ(run.info.ranks_asked, 2);
  EXPECT_EQ(fact(run, "max_steps"), "20");
  ASSERT_GE(run.info.command.size(), 9U);
  EXPECT_EQ(run.info.command[0], "torchrun");
  EXPECT_EQ(std::count(run.info.command.begin(), run.info.command.end(), "tee"), 0);
  const auto json = read_file(run.dir / "run.json");
  EXPECT_EQ(json->find("hf_abcdefghijkl"), std::string::npos);
  // every original is there as it was
  EXPECT_EQ(*read_file(run.dir / "import/train.log"), stamped_log());
  EXPECT_EQ(*read_file(run.dir / "log/out.log"), stamped_log());
  EXPECT_TRUE(run.info.digests.contains("import/gpu.csv"));
  const auto index = read_log_index(run, "out");
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(index->rows.size(), 20U);
}

TEST_F(Import, LogWithoutTimesIsSaidToHaveNone) {
  put("train.log", kDictLog);
  put_fixture("captured/nvidia-all.csv", "gpu.csv");
  const OpenedRun run = imported();
  EXPECT_EQ(run.info.untimed, std::vector<std::string>{"log/out.log"});
  EXPECT_NEAR(run.wall_s, 20.5, 1e-9);  // the trainer's own word
  EXPECT_EQ(file("train.log").times, TimesJoined::no);
  EXPECT_FALSE(file("gpu.csv").notes.empty());  // its times cannot be placed beside the steps
  EXPECT_TRUE(ended_well(run.info));
  EXPECT_FALSE(run.info.ending->exit_status);
  const auto steps = read_steps(run);
  for (const auto& row : steps->rows) EXPECT_EQ(row.t_s, 0);
}

TEST_F(Import, StartPlacesWhatStatesNoTime) {
  put("train.log",
      "[14:03:21] step: 1 loss: 2.5\n[14:03:22] step: 2 loss: 2.4\n[14:03:23] step: 3 loss: 2.3\n");
  put_fixture("captured/nvidia-all.csv", "gpu.csv");
  ImportOptions given = options();
  given.start_unix_s = 1795528990;  // 14:03:10
  given.name = "with-start";
  given.host = "rig-a";
  const OpenedRun run = imported(given);
  EXPECT_EQ(run.info.host, "rig-a");
  EXPECT_TRUE(run.info.untimed.empty());
  const auto steps = read_steps(run);
  ASSERT_EQ(steps->rows.size(), 3U);
  EXPECT_NEAR(steps->rows[0].t_s, 11, 1e-6);
  EXPECT_EQ(read_gpu(run, "rig-a")->rows.size(), 2U);  // the later two lie behind the run's end
  EXPECT_NE(file("gpu.csv").notes.front().find("outside the run"), std::string::npos);
}

TEST_F(Import, TrackersGiveStepsWithTheirInstants) {
  put_fixture("stores/events.out.tfevents.1795540528.rig",
              "logs/events.out.tfevents.1795540528.rig");
  put_fixture("stores/trainer_state.json", "checkpoint-40/trainer_state.json");
  const OpenedRun run = imported();
  const auto steps = read_steps(run);
  EXPECT_EQ(rows_of(*steps, RecordKind::train), 6U);
  EXPECT_EQ(fact(run, "seed"), "42");
  // the same steps once more, without instants
  EXPECT_TRUE(run.info.untimed.empty());
  EXPECT_FALSE(file("checkpoint-40/trainer_state.json").notes.empty());
  EXPECT_EQ(fact(run, "checkpoint_interval"), "20 steps");
  EXPECT_EQ(file("logs/events.out.tfevents.1795540528.rig").became, "tensorboard");
}

TEST_F(Import, MlflowAndWandbFolders) {
  put_fixture("stores/mlruns", "mlruns");
  const OpenedRun mlflow = imported();
  EXPECT_EQ(rows_of(*read_steps(mlflow), RecordKind::train), 6U);
  EXPECT_EQ(rows_of(*read_steps(mlflow), RecordKind::eval), 2U);
  EXPECT_EQ(fact(mlflow, "micro_batch"), "4");
  EXPECT_TRUE(ended_well(mlflow.info));
  fs::remove_all(from_ / "mlruns");
  put_fixture("stores/wandb-offline-run", "wandb/offline-run");
  const OpenedRun wandb = imported();
  const auto steps = read_steps(wandb);
  EXPECT_EQ(rows_of(*steps, RecordKind::train), 6U);  // not once more from wandb-summary.json
  EXPECT_EQ(fact(wandb, "learning_rate"), "1e-04");
  EXPECT_EQ(wandb.info.command[0], "python");
  EXPECT_EQ(file("wandb/offline-run/files/wandb-metadata.json").became, "wandb metadata");
}

TEST_F(Import, TrackersReadingsOfTheMachineBecomeSamples) {
  put_fixture("stores/wandb-stats", "wandb/run");
  const OpenedRun wandb = imported();
  const std::string host = wandb.info.host;
  EXPECT_EQ(host, "rig");
  const auto gpu = read_gpu(wandb, host);
  ASSERT_EQ(gpu->rows.size(), 20U);
  EXPECT_DOUBLE_EQ(*gpu->rows[0].util_frac, 0.97);
  EXPECT_DOUBLE_EQ(*gpu->rows[0].power_w, 340.5);
  EXPECT_DOUBLE_EQ(*gpu->rows[0].used_bytes, 21041.0 * 1024 * 1024);
  EXPECT_FALSE(gpu->rows[0].total_bytes);
  const auto machine = read_host(wandb, host);
  ASSERT_EQ(machine->rows.size(), 10U);
  EXPECT_NEAR(*machine->rows[2].mem_available_bytes, 21026.18 * 1024 * 1024, 1e5);
  EXPECT_DOUBLE_EQ(*machine->rows[0].cpu_busy_s, 0);
  const double apart_s = machine->rows[9].t_s - machine->rows[0].t_s;
  EXPECT_NEAR(*machine->rows[9].cpu_busy_s, apart_s * (0.88 + 0.36), 1e-3);
  EXPECT_FALSE(machine->rows[0].psi_cpu_some_s);
  const auto disk = read_disk(wandb, host);
  ASSERT_EQ(disk->rows.size(), 10U);
  EXPECT_EQ(disk->rows[0].device, "vda");
  EXPECT_DOUBLE_EQ(*disk->rows[2].read_bytes, 36 * 1024);
  EXPECT_EQ(read_net(wandb, host)->rows.size(), 10U);
  EXPECT_EQ(file("wandb/run/run-72n2iuuq.wandb").samples, 20);

  fs::remove_all(from_ / "wandb");
  put_fixture("stores/mlruns-system", "mlruns/0");
  const OpenedRun mlflow = imported();
  EXPECT_EQ(read_gpu(mlflow, mlflow.info.host)->rows.size(), 6U);
  EXPECT_DOUBLE_EQ(*read_gpu(mlflow, mlflow.info.host)->rows[0].used_bytes, 21041e6);
  // how many CPUs there are stands nowhere: their share stays a share
  EXPECT_FALSE(fs::exists(mlflow.dir / "watch" / (mlflow.info.host + ".host.csv")));
  const auto evidence = read_evidence(mlflow);
  EXPECT_TRUE(std::any_of(evidence->rows.begin(), evidence->rows.end(), [](const Observation& row) {
    return row.quantity == "cpu_busy_frac" && row.t_s && row.value == 1;
  }));
  EXPECT_EQ(read_disk(mlflow, mlflow.info.host)->rows[0].device, "/");
  put_fixture("captured/lscpu.txt", "lscpu.txt");
  const OpenedRun counted = imported();
  EXPECT_GT(*read_host(counted, counted.info.host)->rows.back().cpu_busy_s, 0);
}

TEST_F(Import, EventsOfOldWandbAreOnTheirOwnClock) {
  put_fixture("stores/wandb-events.jsonl", "wandb/run/files/wandb-events.jsonl");
  const OpenedRun run = imported();
  EXPECT_EQ(file("wandb/run/files/wandb-events.jsonl").became, "wandb events");
  const auto gpu = read_gpu(run, run.info.host);
  ASSERT_EQ(gpu->rows.size(), 2U);
  EXPECT_NEAR(gpu->rows[1].t_s, 30, 1e-9);
  EXPECT_DOUBLE_EQ(*gpu->rows[1].util_frac, 0);
  EXPECT_FALSE(gpu->rows[1].temp_c);
}

TEST_F(Import, OneTrainingIsTakenOnce) {
  put("train.log", stamped_log());
  put("copy/train.log", stamped_log());
  put("rank1.log", "step: 1 loss: 2.5\nstep: 2 loss: 2.4\n");
  const OpenedRun run = imported();
  const auto steps = read_steps(run);
  EXPECT_EQ(rows_of(*steps, RecordKind::train), 22U);
  const auto& copy =
      file("copy/train.log").notes.empty() ? file("train.log") : file("copy/train.log");
  ASSERT_FALSE(copy.notes.empty());
  EXPECT_NE(copy.notes[0].find("the same bytes"), std::string::npos);
  EXPECT_TRUE(fs::exists(run.dir / "log/rank1.log"));
}

TEST_F(Import, FiguresWithoutAPlaceBecomeEvidence) {
  put_fixture("captured/ping.txt", "ping.txt");
  put_fixture("captured/iperf3.json", "iperf3.json");
  put_fixture("captured/df-T.txt", "df.txt");
  put_fixture("captured/nvidia-reasons.csv", "gpu.csv");
  put_fixture("captured/pip-freeze.txt", "pip.txt");
  const OpenedRun run = imported();
  EXPECT_EQ(run.info.host, "rig");  // iperf3 names it
  const auto evidence = read_evidence(run);
  ASSERT_TRUE(evidence.ok());
  EXPECT_EQ(evidence->bad_rows, 0);
  const auto has = [&](std::string_view subject, std::string_view quantity) {
    return std::any_of(evidence->rows.begin(), evidence->rows.end(), [&](const Observation& row) {
      return row.subject == subject && row.quantity == quantity;
    });
  };
  EXPECT_TRUE(has("127.0.0.1", "rtt_avg_s"));
  EXPECT_TRUE(has("/", "fs_used_bytes"));
  EXPECT_TRUE(has("gpu 0", "held_power_s"));  // a sample without an instant
  EXPECT_EQ(evidence->rows[0].source.rfind("import/", 0), 0U);
  EXPECT_EQ(read_environment(run, "rig")->versions.at("torch"), "2.13.0+cpu");
  EXPECT_EQ(read_rig(run, "rig")->mounts.front().path, "/");
  EXPECT_TRUE(end_unknown(run.info));
  EXPECT_FALSE(ended_well(run.info));
}

/// UTF-16 with its mark, as PowerShell's > writes it.
std::string utf16(const std::string& text, bool big) {
  std::string out = big ? "\xFE\xFF" : "\xFF\xFE";
  for (const char c : text) {
    if (big) out += '\0';
    out += c;
    if (!big) out += '\0';
  }
  return out;
}

TEST_F(Import, TextOfWindows) {
  std::string crlf = stamped_log();
  for (std::size_t at = 0; (at = crlf.find('\n', at)) != std::string::npos; at += 2)
    crlf.insert(at, "\r");
  put("train.log", utf16(crlf, false));
  const auto csv = read_file(fs::path(RIGWISE_FIXTURES) / "captured/nvidia-all.csv");
  put("gpu.csv", utf16(*csv, true));
  put("df.txt", "\xEF\xBB\xBF" + *read_file(fs::path(RIGWISE_FIXTURES) / "captured/df-T.txt"));
  const OpenedRun run = imported();
  const auto steps = read_steps(run);
  EXPECT_EQ(rows_of(*steps, RecordKind::train), 20U);
  EXPECT_NEAR(run.wall_s, 19, 1e-6);
  EXPECT_EQ(file("gpu.csv").samples, 4);
  EXPECT_EQ(file("df.txt").became, "df");
  EXPECT_EQ(*read_file(run.dir / "import/train.log"), utf16(crlf, false));  // as it was
  fs::remove_all(from_);
  put("train.log", "\xEF\xBB\xBF" + crlf);
  const OpenedRun marked = imported();
  const auto again = read_steps(marked);
  EXPECT_EQ(rows_of(*again, RecordKind::train), 20U);  // the first line too
}

TEST_F(Import, Utf16OutsideTheFirstPlaneAndCut) {
  EXPECT_EQ(importing::utf8_of_utf16(std::string("\xFF\xFE\x3D\xD8\x00\xDE\xAC\x20", 8)),
            "\xF0\x9F\x98\x80\xE2\x82\xAC");
  const std::string whole = utf16("loss\n", false);
  for (std::size_t end = 0; end < whole.size(); ++end)
    EXPECT_LE(importing::utf8_of_utf16(whole.substr(0, end)).size(), 5U);
  EXPECT_EQ(importing::utf8_of_utf16(std::string("\xFF\xFE\x3D\xD8", 4)), "\xEF\xBF\xBD");
}

TEST_F(Import, OddFoldersAreReadWithoutHanging) {
  put("train.log", stamped_log());
  put("old.log.gz", "\x1f\x8b\x08");
  put("model.tar.gz", "\x1f\x8b\x08");
  put("new\nline \x1b[31mred.txt", *read_file(fs::path(RIGWISE_FIXTURES) / "captured/ping.txt"));
  ASSERT_EQ(::mkfifo((from_ / "pipe").c_str(), 0600), 0);
  fs::create_directory_symlink("..", from_ / "loop");
  fs::create_directories(from_ / "nothing");
  const OpenedRun run = imported();
  EXPECT_EQ(outcome_.left_out.size(), 2U);  // the pipe and the loop
  EXPECT_EQ(file("old.log.gz").became, "attachment");
  EXPECT_NE(file("old.log.gz").notes.at(0).find("not read"), std::string::npos);
  EXPECT_TRUE(fs::exists(run.dir / "import/old.log.gz"));
  EXPECT_EQ(file("model.tar.gz").became, "named only");
  const auto evidence = read_evidence(run);
  EXPECT_EQ(evidence->bad_rows, 0);
  EXPECT_EQ(evidence->rows.size(), 11U);
  ImportOptions pipe = options();
  pipe.paths = {from_ / "pipe"};
  EXPECT_FALSE(import_run(pipe).ok());
}

std::string gpu_csv(const std::string& uuid, int util) {
  std::string text = "timestamp, index, uuid, utilization.gpu [%]\n";
  for (int i = 20; i < 30; ++i)
    text += "2026/11/24 14:03:" + std::to_string(i) + ".500, 0, " + uuid + ", " +
            std::to_string(util) + " %\n";
  return text;
}

TEST_F(Import, GpusOfTwoMachinesAreKeptApart) {
  put("rig-a/train.log", stamped_log());
  put("rig-a/gpu.csv", gpu_csv("GPU-aaaaaaaa-0000", 97));
  put("rig-b/gpu.csv", gpu_csv("GPU-bbbbbbbb-0000", 12));
  const OpenedRun run = imported();
  EXPECT_EQ(run.info.host, "rig-a");
  const auto first = read_gpu(run, "rig-a"), second = read_gpu(run, "rig-b");
  ASSERT_EQ(first->rows.size(), 10U);
  ASSERT_EQ(second->rows.size(), 10U);
  EXPECT_DOUBLE_EQ(*second->rows[0].util_frac, 0.12);
  EXPECT_FALSE(file("rig-b/gpu.csv").notes.empty());
  fs::remove_all(from_);
  put("train.log", stamped_log());
  put("left.csv", gpu_csv("GPU-aaaaaaaa-0000", 97));
  put("right.csv", gpu_csv("GPU-bbbbbbbb-0000", 12));
  const OpenedRun flat = imported();
  EXPECT_EQ(read_gpu(flat, "left")->rows.size(), 10U);
  EXPECT_EQ(read_gpu(flat, "right")->rows.size(), 10U);
  fs::remove_all(from_);
  put("train.log", stamped_log());
  put("first.csv", gpu_csv("GPU-aaaaaaaa-0000", 97));
  put("second.csv", gpu_csv("GPU-aaaaaaaa-0000", 97));  // one machine's, kept in two files
  const OpenedRun one = imported();
  EXPECT_EQ(read_gpu(one, one.info.host)->rows.size(), 20U);
}

TEST_F(Import, AJobsLogBehindWhatToolsPrinted) {
  const auto text_of = [](const std::string& name) {
    return *read_file(fs::path(RIGWISE_FIXTURES) / "captured" / name);
  };
  for (const char* before : {"nvidia-smi-550.txt", "nvidia-smi-q.txt", "collect-env.txt",
                             "pip-freeze.txt", "amd-smi-metric.txt", "sensors.txt", "top.txt"}) {
    put("slurm.out", text_of(before) + stamped_log());
    const OpenedRun run = imported();
    EXPECT_EQ(rows_of(*read_steps(run), RecordKind::train), 20U) << before;
    EXPECT_NE(file("slurm.out").became.find("log"), std::string::npos) << before;
  }
  put("slurm.out", text_of("nvidia-smi-550.txt") + stamped_log());
  imported();
  EXPECT_EQ(file("slurm.out").became, "log + nvidia-smi");
  for (const char* line : {"GPU: 0\n  Memory: 24 GB\n", "Loading\nAdapter: lora\n"}) {
    put("slurm.out", line + stamped_log());
    imported();
    EXPECT_EQ(file("slurm.out").became, "log") << line;
  }
}

TEST_F(Import, WhatToolsPrintIsNoTraining) {
  fs::copy(fs::path(RIGWISE_FIXTURES) / "captured", from_, fs::copy_options::recursive);
  fs::remove(from_ / "train.log");
  imported();
  for (const auto& one : outcome_.files) {
    EXPECT_EQ(one.steps, 0) << one.path;
    EXPECT_EQ(one.became.find("log"), std::string::npos) << one.path << " became " << one.became;
  }
}

TEST_F(Import, RatesOfIostatAndSarBecomeCounters) {
  put_fixture("captured/sar.txt", "sar.txt");
  const OpenedRun run = imported();
  const auto disk = read_disk(run, "rig");
  ASSERT_EQ(disk->rows.size(), 2U);
  EXPECT_NEAR(*disk->rows[1].write_bytes - *disk->rows[0].write_bytes, 5556.44 * 1024, 1e-3);
  const auto machine = read_host(run, "rig");
  ASSERT_EQ(machine->rows.size(), 4U);  // CPU and memory, twice
  EXPECT_EQ(file("sar.txt").host_samples, 14);
  put_fixture("captured/iostat-yxt.txt", "iostat.txt");
  const OpenedRun both = imported();              // the same disk counted once
  EXPECT_EQ(file("iostat.txt").host_samples, 0);  // sar tells more
  const auto counted = read_disk(both, "rig");
  double last = 0;
  for (const auto& row : counted->rows) {
    EXPECT_GE(*row.write_bytes, last);
    last = *row.write_bytes;
  }
}

TEST_F(Import, HostileFolders) {
  put("train.log", kDictLog);
  put("a/b/c/d/e/f/g/deep.log", kDictLog);
  put("odd \x01name.txt", "hello\n");
  put("bin.dat", std::string("\x00\x01\x02\xff", 4));
  put("model.safetensors", "weights");
  put("empty.csv", "");
  fs::create_symlink("/etc/passwd", from_ / "link.txt");
  fs::create_directory_symlink("/", from_ / "everything");
  put("runs/20260101-000000-x/run.json", "{\"format\": 1}");
  const OpenedRun run = imported();
  EXPECT_FALSE(fs::exists(run.dir / "import/link.txt"));
  EXPECT_FALSE(fs::exists(run.dir / "import/model.safetensors"));
  EXPECT_FALSE(fs::exists(run.dir / "import/runs"));
  EXPECT_TRUE(fs::exists(run.dir / "import/bin.dat"));
  EXPECT_EQ(outcome_.left_out.size(), 4U);
  EXPECT_EQ(file("bin.dat").became, "attachment");
  EXPECT_EQ(file("empty.csv").became, "empty");
  EXPECT_EQ(file("model.safetensors").became, "named only");
  EXPECT_FALSE(import_run({.root = top_ / "runs", .paths = {run.dir}}).ok());  // a run already
}

TEST_F(Import, RunsLieInsideTheFolder) {
  put("train.log", kDictLog);
  ImportOptions given = options();
  given.root = from_ / "runs";
  imported(given);
  const OpenedRun again = imported(given);  // the first one is not imported with it
  EXPECT_FALSE(fs::exists(again.dir / "import/runs"));
  EXPECT_EQ(list_runs(given.root).size(), 2U);
}

TEST_F(Import, Errors) {
  const auto code = [](const ImportOptions& given) {
    const auto outcome = import_run(given);
    EXPECT_FALSE(outcome.ok());
    return outcome.ok() ? Errc::internal : outcome.error().code;
  };
  EXPECT_EQ(code({.root = top_ / "runs", .paths = {from_ / "nothing"}}), Errc::not_found);
  EXPECT_EQ(code(options()), Errc::unavailable);  // empty
  put("notes.md", "# hello\n");
  EXPECT_EQ(code(options()), Errc::unavailable);
  ImportOptions bad = options();
  bad.name = "../x";
  EXPECT_EQ(code(bad), Errc::usage);
  EXPECT_FALSE(fs::exists(top_ / "runs"));  // nothing was made
}

}  // namespace
}  // namespace rigwise
