#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "cli/read_log.h"

namespace rigwise::cli {

namespace {

/// How a shape of line is called in an entry's "format".
bool is_run_summary(const StepRecord& record) {
  return record.kind == RecordKind::summary &&
         (record.log_format == "run_summary" ||
          (record.log_format == "sentence" && record.epoch && !record.step));
}

void put_name(Json& object, const char* key, const std::string& text) {
  if (!text.empty()) object[key] = clean_text(text, 4096);
}

}  // namespace

bool is_told(const StepRecord& record) {
  if (record.kind == RecordKind::summary) return is_run_summary(record);
  if (record.kind != RecordKind::progress) return true;
  return record.step_time_s || record.steps_per_s || record.samples_per_s || record.tokens_per_s;
}

Json entry_json(const StepRecord& record, const std::string& file) {
  Json entry;
  entry["kind"] = std::string(to_string(record.kind));
  const bool bar_alone = record.kind == RecordKind::progress;
  put(entry, "step", record.step || !bar_alone ? record.step : record.bar_step);
  put(entry, "epoch", record.epoch);
  put(entry, "loss", record.loss);
  put(entry, "eval_loss", record.eval_loss);
  put(entry, "lr", record.lr);
  put(entry, "grad_norm", record.grad_norm);
  put(entry, "step_time_s", record.step_time_s);
  put(entry, "input_s", record.input_s);
  put(entry, "forward_s", record.forward_s);
  put(entry, "backward_s", record.backward_s);
  put(entry, "sync_s", record.sync_s);
  put(entry, "optimizer_s", record.optimizer_s);
  put(entry, "steps_per_s", record.steps_per_s);
  put(entry, "samples_per_s", record.samples_per_s);
  put(entry, "tokens_per_s", record.tokens_per_s);
  put(entry, "mem_gib", record.mem_gib);
  put(entry, "mfu", record.mfu_frac);
  put(entry, "rank", record.rank);
  if (record.per_device) entry["scope"] = "per_device";
  put(entry, "bar_step", record.bar_step);
  put(entry, "steps_total", record.steps_total);
  put(entry, "tokens_seen", record.tokens_seen);
  put(entry, "runtime_s", record.runtime_s);
  put_name(entry, "file", file);
  if (record.log_line > 0) entry["line"] = record.log_line;
  put_name(entry, "format", record.log_format);
  return entry;
}

Json checkpoint_json(const Event& event, const std::string& file) {
  Json checkpoint;
  checkpoint["kind"] = "checkpoint_saved";
  put(checkpoint, "step", event.step);
  put_name(checkpoint, event.step ? "name" : "path", event.name);
  put(checkpoint, "rank", event.rank);
  put_name(checkpoint, "file", file);
  return checkpoint;
}

Json summary_json(const LogSummary& summary) {
  Json object;
  object["kind"] = "summary";
  if (summary.ended) {
    put(object, "train_runtime_s", summary.train_runtime_s);
    put(object, "train_samples_per_s", summary.train_samples_per_s);
    put(object, "train_steps_per_s", summary.train_steps_per_s);
    if (summary.totals && summary.last_loss) object["final_loss"] = json_number(*summary.last_loss);
    put(object, "total_steps", summary.total_steps ? summary.total_steps : summary.bar_total);
  } else {
    // The log does not say that the training ended: only what it said last.
    if (summary.last_loss) object["last_loss"] = json_number(*summary.last_loss);
    put(object, "last_step", summary.last_step);
  }
  return object;
}

Json statistics_json(const ReadStatistics& statistics) {
  Json object;
  object["kind"] = "read_statistics";
  object["lines"] = statistics.lines;
  object["matched"] = statistics.matched;
  object["skipped"] = statistics.skipped;
  object["malformed"] = statistics.malformed;
  if (statistics.first_bad_line > 0) {
    object["first_bad_line"] = statistics.first_bad_line;
    put_name(object, "first_bad_text", statistics.first_bad_text);
  }
  return object;
}

void note(LogSummary& summary, const StepRecord& record) {
  if (record.kind == RecordKind::summary) {
    summary.ended = true;
    if (record.runtime_s) summary.train_runtime_s = record.runtime_s;
    if (record.samples_per_s) summary.train_samples_per_s = record.samples_per_s;
    if (record.steps_per_s) summary.train_steps_per_s = record.steps_per_s;
    if (record.loss) summary.last_loss = record.loss;
    // A JSON summary states its final loss, or null where it is not a number.
    const bool stated = record.log_format == "jsonl";
    if (stated && !record.loss && summary.last_loss && !std::isfinite(*summary.last_loss))
      summary.last_loss.reset();
    summary.totals = summary.totals || record.log_format != "sentence";
    if (record.step) summary.total_steps = record.step;
    return;
  }
  if (record.kind == RecordKind::train && record.loss) summary.last_loss = record.loss;
  if (record.kind != RecordKind::eval && record.step) summary.last_step = record.step;
  if (record.log_format == "bar" && record.steps_total && record.step == record.steps_total)
    summary.bar_total = record.steps_total;
}

}  // namespace rigwise::cli
