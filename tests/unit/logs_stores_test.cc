// What experiment trackers leave on disk (tests/fixtures/stores/README.md says what wrote each
// file).
#include "rigwise/logs_stores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace rigwise {
namespace {

namespace fs = std::filesystem;

const fs::path kStores = fs::path(RIGWISE_FIXTURES) / "stores";

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

std::optional<double> value(const MetricEntry& entry, std::string_view name) {
  for (const auto& [key, number] : entry.values) {
    if (key == name) return number;
  }
  return std::nullopt;
}

std::string setting(const MetricStore& store, std::string_view name) {
  for (const auto& [key, text] : store.settings) {
    if (key == name) return text;
  }
  return {};
}

MlflowMetric metric(const fs::path& folder, const std::string& name) {
  return {.name = name, .text = text_of(folder / name)};
}

TEST(Stores, EventFileJoinsWhatWasWrittenTogether) {
  const std::string bytes = text_of(kStores / "events.out.tfevents.1795540528.rig");
  ASSERT_TRUE(looks_like_event_file(bytes));
  const auto read = read_event_file(bytes);
  ASSERT_TRUE(read.ok());
  const MetricStore& store = *read;
  ASSERT_EQ(store.entries.size(), 9U);  // 6 training, 2 evaluations, the closing figures
  EXPECT_EQ(*store.entries[0].step, 10);
  EXPECT_DOUBLE_EQ(*value(store.entries[0], "train/loss"), 3);
  EXPECT_DOUBLE_EQ(*value(store.entries[0], "train/learning_rate"), 1e-4);  // no float noise
  EXPECT_DOUBLE_EQ(*value(store.entries[3], "eval/runtime"), 0.5);
  EXPECT_DOUBLE_EQ(*value(store.entries[8], "train/train_runtime"), 3.9);
  EXPECT_GT(*store.entries[1].unix_s, *store.entries[0].unix_s);
  EXPECT_EQ(setting(store, "per_device_train_batch_size"), "4");
  EXPECT_EQ(store.reading.skipped, 1);  // the histogram
  EXPECT_EQ(json_line(store.entries[3]),
            "{\"step\":30,\"eval/loss\":0.96666664,\"eval/runtime\":0.5}\n");
}

TEST(Stores, EventFileWithScalarsAsTensors) {
  const auto read = read_event_file(text_of(kStores / "events.out.tfevents.tensors"));
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->entries.size(), 4U);
  EXPECT_DOUBLE_EQ(*value(read->entries[0], "loss"), 2.5);
  EXPECT_DOUBLE_EQ(*value(read->entries[0], "epoch"), 1);
  EXPECT_DOUBLE_EQ(*value(read->entries[1], "loss"), 2.25);  // tensor_content
  EXPECT_DOUBLE_EQ(*value(read->entries[1], "lr"), 1e-4);
  EXPECT_DOUBLE_EQ(*value(read->entries[2], "loss"), 2);  // half
  EXPECT_DOUBLE_EQ(*value(read->entries[2], "lr"), 1);    // bfloat16
  EXPECT_TRUE(std::isnan(*value(read->entries[3], "loss")));
  EXPECT_EQ(*read->entries[0].step, 0);
  EXPECT_EQ(json_line(read->entries[3]), "{\"step\":3,\"loss\":\"nan\"}\n");
}

const double* system_value(const SystemReading& reading, std::string_view name) {
  for (const auto& [key, number] : reading.values) {
    if (key == name) return &number;
  }
  return nullptr;
}

TEST(Stores, WandbLogHoldsWhatItMeasured) {
  const std::string bytes = text_of(kStores / "wandb-stats" / "run-72n2iuuq.wandb");
  const auto read = read_wandb_log(bytes);
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->system.size(), 10U);
  EXPECT_NEAR(read->system[2].unix_s, 1795873716.682, 1e-3);
  ASSERT_NE(system_value(read->system[2], "memory_percent"), nullptr);
  EXPECT_NEAR(*system_value(read->system[2], "memory_percent"), 12.7745, 1e-4);
  EXPECT_DOUBLE_EQ(*system_value(read->system[1], "gpu.1.powerWatts"), 341.5);
  EXPECT_EQ(read->entries.size(), 8U);  // none of it among the metrics
  std::size_t before = 0;
  for (std::size_t end = 0; end < bytes.size(); ++end) {
    const auto part = read_wandb_log(std::string_view(bytes).substr(0, end));
    if (!part) continue;
    EXPECT_GE(part->system.size(), before) << end;
    before = part->system.size();
  }
}

TEST(Stores, MlflowSystemMetricsAreReadingsOfTheMachine) {
  const MetricStore store =
      read_mlflow({{"loss", "1000000 2.5 1\n"},
                   {"system/gpu_0_power_usage_watts", "2000000 341.1 1\n1000000 340.1 0\nx\n"},
                   {"system/cpu_utilization_percentage", "1000000 50.0 0\n2000000 nan 1\n"}},
                  "");
  ASSERT_EQ(store.entries.size(), 1U);
  ASSERT_EQ(store.system.size(), 2U);
  EXPECT_DOUBLE_EQ(store.system[0].unix_s, 1000);
  EXPECT_EQ(store.system[0].values.size(), 2U);
  EXPECT_DOUBLE_EQ(*system_value(store.system[1], "system/gpu_0_power_usage_watts"), 341.1);
  EXPECT_EQ(system_value(store.system[1], "system/cpu_utilization_percentage"), nullptr);
  EXPECT_EQ(store.reading.malformed, 1);
}

TEST(Stores, WandbEventsOfOldVersions) {
  const MetricStore store = read_wandb_events(text_of(kStores / "wandb-events.jsonl"));
  ASSERT_EQ(store.system.size(), 2U);
  EXPECT_DOUBLE_EQ(store.system[0].unix_s, 1606000002);
  EXPECT_DOUBLE_EQ(*system_value(store.system[0], "gpu.0.powerWatts"), 240.5);
  EXPECT_EQ(system_value(store.system[1], "gpu.0.temp"), nullptr);
  EXPECT_EQ(store.reading.malformed, 1);
  EXPECT_EQ(store.reading.first_bad_line, 3);
}

TEST(Stores, EventFileCutOrBroken) {
  const std::string bytes = text_of(kStores / "events.out.tfevents.1795540528.rig");
  std::size_t before = 0;
  for (std::size_t end = 0; end < bytes.size(); end += end < 1500 ? 1 : 13) {
    const auto part = read_event_file(std::string_view(bytes).substr(0, end));
    if (!part) continue;
    EXPECT_GE(part->entries.size(), before) << end;
    before = part->entries.size();
  }
  std::string flipped = bytes;
  flipped[bytes.size() / 16] = static_cast<char>(flipped[bytes.size() / 16] ^ 0x10);
  const auto broken = read_event_file(flipped);
  ASSERT_TRUE(broken.ok());
  EXPECT_EQ(broken->reading.malformed, 1);
  ASSERT_EQ(broken->notes.size(), 1U);
  EXPECT_LT(broken->entries.size(), 9U);
  EXPECT_FALSE(read_event_file("not an event file at all").ok());
  EXPECT_FALSE(read_event_file("").ok());
}

TEST(Stores, WandbLogHoldsHistoryConfigAndExit) {
  const std::string bytes = text_of(kStores / "wandb-offline-run" / "run-p41h3jnn.wandb");
  ASSERT_TRUE(looks_like_wandb_log(bytes));
  const auto read = read_wandb_log(bytes);
  ASSERT_TRUE(read.ok());
  const MetricStore& store = *read;
  ASSERT_EQ(store.entries.size(), 8U);
  EXPECT_EQ(*store.entries[0].step, 10);  // train/global_step, not the count of calls
  EXPECT_DOUBLE_EQ(*value(store.entries[1], "train/loss"), 1.5);
  EXPECT_TRUE(store.entries[0].unix_s);
  EXPECT_EQ(setting(store, "max_steps"), "60");
  EXPECT_EQ(store.ended_well, true);
  EXPECT_EQ(store.command,
            (std::vector<std::string>{"python", "/home/me/demo/train.py", "--max_steps", "60",
                                      "--learning_rate", "1e-4"}));
  ASSERT_EQ(store.versions.size(), 1U);
  EXPECT_EQ(store.versions[0].second, "3.11.7");
  std::size_t before = 0;
  for (std::size_t end = 0; end < bytes.size(); end += 3) {
    const auto part = read_wandb_log(std::string_view(bytes).substr(0, end));
    if (!part) continue;
    EXPECT_GE(part->entries.size(), before) << end;
    before = part->entries.size();
  }
  EXPECT_FALSE(read_wandb_log("x").ok());
}

TEST(Stores, MlflowPutsItsFilesTogetherByTime) {
  fs::path run;
  for (const auto& entry : fs::recursive_directory_iterator(kStores / "mlruns")) {
    if (entry.path().filename() == "metrics") run = entry.path().parent_path();
  }
  ASSERT_FALSE(run.empty());
  std::vector<MlflowMetric> metrics;
  for (const auto& entry : fs::directory_iterator(run / "metrics")) {
    metrics.push_back(metric(run / "metrics", entry.path().filename().string()));
  }
  const MetricStore store = read_mlflow(metrics, text_of(run / "meta.yaml"));
  EXPECT_EQ(store.name, "two-gpu");
  EXPECT_EQ(store.ended_well, true);
  ASSERT_TRUE(store.begin_unix_s && store.end_unix_s);
  EXPECT_NEAR(*store.end_unix_s - *store.begin_unix_s, 1.834, 1e-3);
  ASSERT_EQ(store.entries.size(), 9U);
  EXPECT_EQ(*store.entries[0].step, 10);
  EXPECT_EQ(store.entries[0].values.size(), 3U);  // loss, grad_norm, learning_rate
  const MetricStore torn = read_mlflow({{"loss", "1795540534011 3.0 10\n17955405343"}}, "");
  EXPECT_EQ(torn.entries.size(), 1U);
  EXPECT_EQ(torn.reading.malformed, 1);
  EXPECT_FALSE(torn.ended_well);
}

TEST(Stores, TrainerStateHasNoInstants) {
  const auto read = read_trainer_state(text_of(kStores / "trainer_state.json"));
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->entries.size(), 6U);
  EXPECT_FALSE(read->entries[0].unix_s);
  EXPECT_EQ(*read->entries[2].step, 20);
  EXPECT_DOUBLE_EQ(*value(read->entries[2], "eval_loss"), 2.2);
  EXPECT_EQ(setting(*read, "save_steps"), "20");
  EXPECT_EQ(read->ended_well, true);  // global_step reached max_steps
  EXPECT_FALSE(read_trainer_state("{\"loss\": 1}").ok());
  EXPECT_FALSE(read_trainer_state("{\"log_history\": [").ok());
  EXPECT_FALSE(read_trainer_state(std::string(100000, '[')).ok());
}

TEST(Stores, WandbSummaryIsOneEntryAFamily) {
  const auto read =
      read_wandb_summary(text_of(kStores / "wandb-offline-run" / "files" / "wandb-summary.json"));
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->entries.size(), 2U);
  EXPECT_EQ(*read->entries[0].step, 60);
  EXPECT_NEAR(*read->end_unix_s - *read->begin_unix_s, 1.3, 1e-6);
}

}  // namespace
}  // namespace rigwise
