// Fields: which spelling of a key means which figure of a StepRecord, in which unit. One table for
// dict lines, JSON lines, key–value lines, tables and the postfix of bars.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "logs/scan.h"
#include "rigwise/run.h"

namespace rigwise::logs {

enum class Figure {
  step,
  step_of_total,  // "1/60"
  epoch,
  loss,
  eval_loss,
  lr,
  grad_norm,
  step_time_s,
  step_time_ms,
  steps_per_s,
  samples_per_s,
  tokens_per_s,
  tokens_per_s_per_device,
  tokens_seen,
  train_runtime_s,
  eval_runtime_s,
  train_loss_mean,  // train_loss beside train_runtime: the mean over the run
  mem,              // unit from the key or the value; GiB where neither says
  mem_mib,
  mfu,
  rank,
};

/// The figure that this key means; nothing for keys that are not known. Case, blanks, '-', quotes
/// and a leading "train/" do not matter.
std::optional<Figure> figure_of(std::string_view key);

/// What a set of fields amounts to.
struct Reading {
  StepRecord record = {};
  bool has_loss = false;     // a current training loss
  bool has_eval = false;     // any key that speaks of an evaluation
  bool has_summary = false;  // train_runtime beside rates or the mean loss, no current loss
  int figures = 0;           // fields that were understood
  std::optional<double> loss_mean = {};
};

/// Fields → record with its kind. Nothing when no field is a figure of training.
std::optional<Reading> read_fields(const std::vector<Field>& fields);

/// Sets one figure from its text; false when the text is not a number. Values that are plainly
/// sentinels (mfu -100 %, "?it/s") are passed over.
bool set_figure(Reading& reading, Figure figure, std::string_view key, std::string_view value);

/// Bytes-like text to GiB: 14.56 with unit "" or "GiB", 512 with "MiB", "MB" / 1024.
std::optional<double> to_gib(double value, std::string_view unit);

}  // namespace rigwise::logs
