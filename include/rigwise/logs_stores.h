// Stores: what experiment trackers leave on disk → metric entries and settings. TensorBoard event
// files, MLflow's metric files, W&B's transaction log (run-ID.wandb) and wandb-summary.json,
// Hugging Face's trainer_state.json.
//
// Metric names are not interpreted here: an entry becomes one JSON line that LogReader reads like
// any other, so that spellings live in one place. Values that were written together (same step,
// within half a second, same family) are one entry.
//
// Bytes are untrusted: lengths are checked against what is there, checksums where the format has
// them, counts are bounded, nothing throws. A file cut off at its end (a run that was killed, or is
// still going on) gives what is whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

/// Values that a trainer wrote together.
struct MetricEntry {
  std::optional<double> unix_s = {};  // when the last of them was written
  std::optional<std::int64_t> step = {};
  std::vector<std::pair<std::string, double>> values = {};  // names as the tracker holds them
};

/// {"step": 10, "train/loss": 2.1}, newline included: a line for LogReader. nan and inf as strings.
std::string json_line(const MetricEntry& entry);

/// What the tracker itself measured of the machine at one instant, under its own names:
/// "system/gpu_0_power_usage_watts" (MLflow), "gpu.0.powerWatts" (W&B).
struct SystemReading {
  double unix_s = 0;
  std::vector<std::pair<std::string, double>> values = {};
};

struct MetricStore {
  std::string kind = {};  // "tensorboard", "mlflow", "wandb", "wandb summary", "trainer_state"
  std::vector<MetricEntry> entries = {};                           // in the order of their instants
  std::vector<std::pair<std::string, std::string>> settings = {};  // ("learning_rate", "0.0001")
  std::vector<SystemReading> system = {};                          // in the order of their instants
  std::vector<std::string> command = {};  // argv, where the tracker keeps it; as it stands there
  std::string name = {}, host = {}, git_commit = {};
  std::vector<std::pair<std::string, std::string>> versions = {};  // ("python", "3.11.7")
  std::optional<double> begin_unix_s = {}, end_unix_s = {};
  std::optional<bool> ended_well = {};  // where the tracker says how it ended
  ReadStatistics reading = {};          // of values: matched = kept, skipped = no scalar
  std::vector<std::string> notes = {};
};

/// TFRecord framing (length and masked CRC-32C of both parts) around Event messages: simple_value
/// and scalar tensors; a text named "args/text_summary" or "hparams…" that is a JSON object gives
/// settings. Errors: malformed (not one whole record at its begin).
Result<MetricStore> read_event_file(std::string_view bytes);

/// W&B's run-ID.wandb: LevelDB log blocks around Record messages: history, stats, config, run,
/// environment, exit. Errors: malformed (no header of it).
Result<MetricStore> read_wandb_log(std::string_view bytes);

/// log_history, and the settings beside it. Errors: malformed.
Result<MetricStore> read_trainer_state(std::string_view text);

/// W&B's wandb-events.jsonl (before 0.13): {"system.gpu.0.gpu": 98, "_timestamp": …} a line. Only
/// `system` is filled.
MetricStore read_wandb_events(std::string_view text);

/// The last value of every metric. One entry, at `_timestamp`. Errors: malformed.
Result<MetricStore> read_wandb_summary(std::string_view text);

/// One file of MLflow's metrics/: rows "1795540534011 2.31 10" (ms, value, step).
struct MlflowMetric {
  std::string name = {};  // the path below metrics/
  std::string text = {};
};
/// All metrics of one run. `meta` is its meta.yaml: begin, end, status, name. Never fails: rows
/// that do not parse are counted.
MetricStore read_mlflow(const std::vector<MlflowMetric>& metrics, std::string_view meta);

/// Does the file begin like that store? For event files and W&B logs.
bool looks_like_event_file(std::string_view head);
bool looks_like_wandb_log(std::string_view head);

}  // namespace rigwise
