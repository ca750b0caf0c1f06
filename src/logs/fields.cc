#include "logs/fields.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"

namespace rigwise::logs {
namespace {

struct Spelling {
  std::string_view key;
  Figure figure;
};

// Normalised: lower case, blanks and '-' as '_', "train/" and quotes taken off. Sorted by key.
constexpr std::array kSpellings = {
    Spelling{"cuda_mem_allocated", Figure::mem},
    Spelling{"current_steps", Figure::step},
    Spelling{"dev_loss", Figure::eval_loss},
    Spelling{"dt", Figure::step_time_s},
    Spelling{"elapsed_time_per_iteration_(ms)", Figure::step_time_ms},
    Spelling{"epoch", Figure::epoch},
    Spelling{"eval/loss", Figure::eval_loss},
    Spelling{"eval/runtime", Figure::eval_runtime_s},
    Spelling{"eval_loss", Figure::eval_loss},
    Spelling{"eval_runtime", Figure::eval_runtime_s},
    Spelling{"evaluation_loss", Figure::eval_loss},
    Spelling{"global_step", Figure::step},
    Spelling{"global_step/max_steps", Figure::step_of_total},
    Spelling{"global_step/sec", Figure::steps_per_s},
    Spelling{"gnorm", Figure::grad_norm},
    Spelling{"gpu_mem", Figure::mem},
    Spelling{"gpu_memory", Figure::mem},
    Spelling{"grad_norm", Figure::grad_norm},
    Spelling{"gradient_norm", Figure::grad_norm},
    Spelling{"gradnorm", Figure::grad_norm},
    Spelling{"it", Figure::step},
    Spelling{"it/s", Figure::steps_per_s},
    Spelling{"iter", Figure::step},
    Spelling{"iter/s", Figure::steps_per_s},
    Spelling{"iter_time", Figure::step_time_s},
    Spelling{"iter_time_ms", Figure::step_time_ms},
    Spelling{"iteration", Figure::step},
    Spelling{"iterations/s", Figure::steps_per_s},
    Spelling{"learning_rate", Figure::lr},
    Spelling{"lm_loss", Figure::loss},
    Spelling{"loss", Figure::loss},
    Spelling{"lr", Figure::lr},
    Spelling{"main_model_loss", Figure::loss},
    Spelling{"max_memory", Figure::mem},
    Spelling{"mem", Figure::mem},
    Spelling{"mem_gb", Figure::mem},
    Spelling{"mem_gib", Figure::mem},
    Spelling{"mem_mb", Figure::mem_mib},
    Spelling{"memory", Figure::mem},
    Spelling{"memory(gib)", Figure::mem},
    Spelling{"memory/max_active_(gib)", Figure::mem},
    Spelling{"memory/max_mem_active(gib)", Figure::mem},
    Spelling{"memory_gb", Figure::mem},
    Spelling{"memory_gib", Figure::mem},
    Spelling{"memory_mb", Figure::mem_mib},
    Spelling{"mfu", Figure::mfu},
    Spelling{"ms/step", Figure::step_time_ms},
    Spelling{"num_input_tokens_seen", Figure::tokens_seen},
    Spelling{"num_tokens", Figure::tokens_seen},
    Spelling{"num_updates", Figure::step},
    Spelling{"overall_throughput", Figure::samples_per_s},
    Spelling{"peak_mem", Figure::mem},
    Spelling{"peak_mem_gb", Figure::mem},
    Spelling{"peak_memory", Figure::mem},
    Spelling{"peak_memory_alloc", Figure::mem},
    Spelling{"peak_memory_gb", Figure::mem},
    Spelling{"peak_memory_mb", Figure::mem_mib},
    Spelling{"rank", Figure::rank},
    Spelling{"reduced_train_loss", Figure::loss},
    Spelling{"s/it", Figure::step_time_s},
    Spelling{"samples/s", Figure::samples_per_s},
    Spelling{"samples/sec", Figure::samples_per_s},
    Spelling{"samples/second", Figure::samples_per_s},
    Spelling{"samples_per_s", Figure::samples_per_s},
    Spelling{"samples_per_sec", Figure::samples_per_s},
    Spelling{"samples_per_second", Figure::samples_per_s},
    Spelling{"sec/it", Figure::step_time_s},
    Spelling{"seconds", Figure::step_time_s},
    Spelling{"step", Figure::step},
    Spelling{"step_loss", Figure::loss},
    Spelling{"step_time", Figure::step_time_s},
    Spelling{"step_time_ms", Figure::step_time_ms},
    Spelling{"step_time_s", Figure::step_time_s},
    Spelling{"steps/s", Figure::steps_per_s},
    Spelling{"steps/sec", Figure::steps_per_s},
    Spelling{"steps_per_s", Figure::steps_per_s},
    Spelling{"steps_per_sec", Figure::steps_per_s},
    Spelling{"steps_per_second", Figure::steps_per_s},
    Spelling{"test_loss", Figure::eval_loss},
    Spelling{"time_per_step", Figure::step_time_s},
    Spelling{"time_per_step_s", Figure::step_time_s},
    Spelling{"tok/s", Figure::tokens_per_s},
    Spelling{"tok/sec", Figure::tokens_per_s},
    Spelling{"tokens/s", Figure::tokens_per_s},
    Spelling{"tokens/s/device", Figure::tokens_per_s_per_device},
    Spelling{"tokens/sec", Figure::tokens_per_s},
    Spelling{"tokens_per_s", Figure::tokens_per_s},
    Spelling{"tokens_per_sec", Figure::tokens_per_s},
    Spelling{"tokens_per_second", Figure::tokens_per_s},
    Spelling{"tokens_per_second_per_gpu", Figure::tokens_per_s_per_device},
    Spelling{"tokens_seen", Figure::tokens_seen},
    Spelling{"total_loss", Figure::loss},
    Spelling{"tps", Figure::tokens_per_s},
    Spelling{"train_loss", Figure::loss},
    Spelling{"train_runtime", Figure::train_runtime_s},
    Spelling{"train_samples_per_second", Figure::samples_per_s},
    Spelling{"train_speed(iter/s)", Figure::steps_per_s},
    Spelling{"train_speed(s/it)", Figure::step_time_s},
    Spelling{"train_steps_per_second", Figure::steps_per_s},
    Spelling{"train_tokens_per_second", Figure::tokens_per_s},
    Spelling{"training_loss", Figure::loss},
    Spelling{"ups", Figure::steps_per_s},
    Spelling{"val/loss", Figure::eval_loss},
    Spelling{"val_loss", Figure::eval_loss},
    Spelling{"valid_loss", Figure::eval_loss},
    Spelling{"validation/loss", Figure::eval_loss},
    Spelling{"validation_loss", Figure::eval_loss},
    Spelling{"wps", Figure::tokens_per_s},
};

constexpr bool is_sorted_table() {
  for (std::size_t i = 1; i < kSpellings.size(); ++i)
    if (!(kSpellings[i - 1].key < kSpellings[i].key)) return false;
  return true;
}
static_assert(is_sorted_table());

/// Normalises into a fixed buffer; empty when the key is too long to be one of ours.
std::string_view normalise(std::string_view key, std::array<char, 48>& buffer) {
  key = trim(key);
  while (!key.empty() && (key.front() == '\'' || key.front() == '"')) key.remove_prefix(1);
  while (!key.empty() && (key.back() == '\'' || key.back() == '"')) key.remove_suffix(1);
  if (key.starts_with("train/")) key.remove_prefix(6);
  if (key.size() > buffer.size()) return {};
  for (std::size_t i = 0; i < key.size(); ++i) {
    char byte = key[i];
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte - 'A' + 'a');
    if (byte == ' ' || byte == '-') byte = '_';
    buffer[i] = byte;
  }
  return {buffer.data(), key.size()};
}

bool starts_with_any_case(std::string_view text, std::string_view start) {
  if (text.size() < start.size()) return false;
  for (std::size_t i = 0; i < start.size(); ++i) {
    char byte = text[i];
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte - 'A' + 'a');
    if (byte != start[i]) return false;
  }
  return true;
}

bool speaks_of_evaluation(std::string_view key) {
  if (key.empty() || !contains("eEvVtT", key.substr(0, 1))) return false;
  for (const std::string_view start :
       {"eval_", "eval/", "val_", "val/", "valid_", "validation_", "test_"})
    if (starts_with_any_case(key, start)) return true;
  return false;
}

/// {"type": "eval"} and its kin.
bool names_evaluation(const Field& field) {
  std::string_view key = field.key;
  if (key.size() < 4 || key.size() > 5) return false;
  if (key != "type" && key != "kind" && key != "mode" && key != "split" && key != "phase" &&
      key != "stage" && key != "event")
    return false;
  return starts_with_any_case(field.value, "eval") || starts_with_any_case(field.value, "val") ||
         field.value == "test";
}

void set_once(std::optional<double>& target, double value) {
  if (!target) target = value;
}

/// Step numbers are whole; anything else is no step.
std::optional<std::int64_t> whole(double value) {
  if (!(std::abs(value) < 9e15) || value != std::floor(value)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

bool set_step_of_total(StepRecord& record, std::string_view value) {
  const auto parts = split(value, '/');
  if (parts.size() != 2) return false;
  const auto step = to_integer(trim(parts[0]));
  const auto total = to_integer(trim(parts[1]));
  if (!step || !total) return false;
  record.step = step;
  record.steps_total = total;
  return true;
}

bool set_whole(StepRecord& record, Figure figure, double number) {
  const auto value = whole(number);
  if (!value || *value < 0) return false;
  if (figure == Figure::rank) {
    if (*value > 1'000'000) return false;
    record.rank = static_cast<int>(*value);
  } else if (!record.step) {
    record.step = value;
  }
  return true;
}

bool set_memory(StepRecord& record, Figure figure, std::string_view key, double number,
                std::string_view unit) {
  if (!(number >= 0)) return false;
  if (figure == Figure::mem_mib || (unit.empty() && contains(lower_ascii(key), "_mb")))
    unit = "MiB";
  const auto gib = to_gib(number, unit);
  if (!gib) return false;
  set_once(record.mem_gib, *gib);
  return true;
}

bool set_rate(std::optional<double>& target, double number) {
  if (!(number > 0) || std::isinf(number)) return false;  // 0 tok/s: nothing was timed yet
  set_once(target, number);
  return true;
}

/// "1.2K" and "3.4M" where a rate is scaled; "ms" where a time is.
double scale_of(Figure figure, std::string_view unit) {
  if (figure == Figure::step_time_ms) return 1e-3;
  if (figure == Figure::step_time_s) {
    if (unit.starts_with("ms")) return 1e-3;
    if (unit.starts_with("us")) return 1e-6;
    return 1;
  }
  if (unit.starts_with("K") || unit.starts_with("k")) return 1e3;
  if (unit.starts_with("M")) return 1e6;
  return 1;
}

}  // namespace

std::optional<Figure> figure_of(std::string_view key) {
  std::array<char, 48> buffer{};
  const std::string_view name = normalise(key, buffer);
  if (name.empty()) return std::nullopt;
  const auto* found = std::lower_bound(
      kSpellings.begin(), kSpellings.end(), name,
      [](const Spelling& spelling, std::string_view wanted) { return spelling.key < wanted; });
  if (found == kSpellings.end() || found->key != name) return std::nullopt;
  return found->figure;
}

std::optional<double> to_gib(double value, std::string_view unit) {
  const std::string low = lower_ascii(unit.substr(0, 4));
  if (low.empty()) return value > 2048 ? value / 1024 : value;  // no card has 2 TiB: it was MiB
  if (low == "g" || low == "gb" || low == "gib") return value;
  if (low == "m" || low == "mb" || low == "mib") return value / 1024;
  if (low == "b") return value / 1073741824.0;
  return std::nullopt;
}

bool set_figure(Reading& reading, Figure figure, std::string_view key, std::string_view value) {
  StepRecord& record = reading.record;
  if (figure == Figure::step_of_total) return set_step_of_total(record, value);
  if (figure == Figure::train_runtime_s || figure == Figure::eval_runtime_s) {
    const auto seconds = contains(value, ":") ? scan_clock(value) : plain_number(value);
    if (!seconds || !(*seconds >= 0)) return false;
    set_once(record.runtime_s, *seconds);
    return true;
  }
  const auto quantity = scan_quantity(value.starts_with("tensor(") ? value.substr(7) : value);
  if (!quantity) return figure == Figure::step && set_step_of_total(record, value);
  if (figure == Figure::step && quantity->size < value.size() && value[quantity->size] == '/')
    return set_step_of_total(record, value);
  const double number = quantity->value;
  const double scaled = number * scale_of(figure, quantity->unit);
  switch (figure) {
    case Figure::step:
    case Figure::rank:
      return set_whole(record, figure, number);
    case Figure::epoch:
      return set_once(record.epoch, number), true;
    case Figure::loss:
      return set_once(record.loss, number), true;
    case Figure::eval_loss:
      return set_once(record.eval_loss, number), true;
    case Figure::lr:
      return set_once(record.lr, number), true;
    case Figure::grad_norm:
      return set_once(record.grad_norm, number), true;
    case Figure::step_time_s:
    case Figure::step_time_ms:
      return set_rate(record.step_time_s, scaled);
    case Figure::steps_per_s:
      return set_rate(record.steps_per_s, scaled);
    case Figure::samples_per_s:
      return set_rate(record.samples_per_s, scaled);
    case Figure::tokens_per_s_per_device:
      record.per_device = true;
      return set_rate(record.tokens_per_s, scaled);
    case Figure::tokens_per_s:
      return set_rate(record.tokens_per_s, scaled);
    case Figure::tokens_seen:
      return set_once(record.tokens_seen, number), true;
    case Figure::train_loss_mean:
      reading.loss_mean = number;
      return true;
    case Figure::mem:
    case Figure::mem_mib:
      return set_memory(record, figure, key, number, quantity->unit);
    case Figure::mfu: {
      if (!(number >= 0)) return false;
      const bool percent = quantity->unit == "%" || number > 1;
      set_once(record.mfu_frac, percent ? number / 100 : number);
      return true;
    }
    case Figure::step_of_total:
    case Figure::train_runtime_s:
    case Figure::eval_runtime_s:
      break;
  }
  return false;
}

std::optional<Reading> read_fields(const std::vector<Field>& fields) {
  Reading reading;
  bool train_runtime = false, rates = false, current_loss = false, is_evaluation = false;
  std::vector<std::optional<Figure>> figures(fields.size());
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const Field& field = fields[i];
    const bool nested = !field.parent.empty();
    figures[i] = figure_of(nested ? field.parent + '/' + std::string(field.key) : field.key);
    if (figures[i] == Figure::train_runtime_s) train_runtime = true;
    if (figures[i] == Figure::loss && field.key != "train_loss") current_loss = true;
    is_evaluation = is_evaluation || names_evaluation(field);
    reading.has_eval = reading.has_eval || is_evaluation || speaks_of_evaluation(field.key);
  }
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (!figures[i]) continue;
    Figure figure = *figures[i];
    if (figure == Figure::loss && is_evaluation) figure = Figure::eval_loss;
    if (figure == Figure::loss && train_runtime && !current_loss) figure = Figure::train_loss_mean;
    if (!set_figure(reading, figure, fields[i].key, fields[i].value)) continue;
    ++reading.figures;
    if (figure == Figure::loss) reading.has_loss = true;
    if (figure == Figure::samples_per_s || figure == Figure::steps_per_s ||
        figure == Figure::train_loss_mean)
      rates = true;
  }
  if (reading.figures == 0) return std::nullopt;
  StepRecord& record = reading.record;
  reading.has_summary = train_runtime && rates && !reading.has_loss && !record.eval_loss;
  if (reading.has_summary) {
    record.kind = RecordKind::summary;
  } else if (reading.has_eval && !reading.has_loss) {
    record.kind = RecordKind::eval;  // its rates are an evaluation's, never training throughput
    record.steps_per_s = record.samples_per_s = record.tokens_per_s = record.step_time_s =
        std::nullopt;
  }
  return reading;
}

}  // namespace rigwise::logs
