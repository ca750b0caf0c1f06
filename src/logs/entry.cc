#include "logs/entry.h"

#include <cmath>

namespace rigwise::logs {
namespace {

constexpr int kMaxQualities = 16;
constexpr double kNoUnitMib = 512;  // memory without a unit: no device has this many GiB

double seconds_per(Unit unit) {
  switch (unit) {
    case Unit::millisecond:
    case Unit::ms_per_step:
      return 1e-3;
    case Unit::microsecond:
    case Unit::us_per_step:
      return 1e-6;
    case Unit::minute:
      return 60;
    case Unit::hour:
      return 3600;
    default:
      return 1;
  }
}

bool is_time(Unit unit) {
  return unit == Unit::none || unit == Unit::second || unit == Unit::millisecond ||
         unit == Unit::microsecond || unit == Unit::minute || unit == Unit::s_per_step ||
         unit == Unit::ms_per_step || unit == Unit::us_per_step || unit == Unit::hour;
}

double multiplier(const UnitRead& read) {
  if (read.unit == Unit::kilo) return 1e3;
  if (read.unit == Unit::mega) return 1e6;
  return read.scale;
}

/// What a value's unit alone says it is.
Figure figure_of_unit(Unit unit) {
  switch (unit) {
    case Unit::steps_per_s:
      return Figure::steps_per_s;
    case Unit::s_per_step:
    case Unit::ms_per_step:
    case Unit::us_per_step:
      return Figure::step_time_s;
    case Unit::samples_per_s:
    case Unit::samples_per_s_per_device:
    case Unit::per_s:
    case Unit::per_s_per_device:
      return Figure::samples_per_s;
    case Unit::tokens_per_s:
    case Unit::tokens_per_s_per_device:
      return Figure::tokens_per_s;
    case Unit::mfu:
      return Figure::mfu;
    default:
      return Figure::none;
  }
}

}  // namespace

bool read_value(std::string_view text, Value& value) {
  value = Value{};
  text = strip(text);
  if (text.size() >= 2 && (text.front() == '\'' || text.front() == '"')) text.remove_prefix(1);
  if (text.starts_with("tensor(")) text.remove_prefix(7);
  text = strip(text);
  if (!scan_number(text, value.number, false)) return false;
  std::string_view rest = text.substr(value.number.size);
  if (!rest.empty() && rest.front() == '/') {
    Number total;
    if (scan_number(rest.substr(1), total, false)) value.total = total.value;
    return true;
  }
  if (!rest.empty() && rest.front() == ':') {
    value.seconds = scan_clock(text);
    return value.seconds.has_value();
  }
  if (!rest.empty() && (rest.front() == ',')) scan_number(text, value.number, true);
  value.unit = scan_unit(text.substr(value.number.size));
  if (value.unit.unit >= Unit::second && value.unit.unit <= Unit::hour)
    value.seconds = scan_clock(text);
  // "1m 35s": the whole of it is a duration
  if (value.unit.unit == Unit::mega && !value.seconds) value.seconds = scan_clock(text);
  return true;
}

void Entry::clear() {
  set_ = 0;
  total_.reset();
  evaluation = summary = false;
  per_device_ = time_is_step_ = loss_only_train_ = evaluation_keys_ = false;
  pairs = 0;
}

void Entry::put(Figure figure, std::uint8_t order, double number) {
  const auto slot = static_cast<std::size_t>(figure);
  if (has(figure) && orders_[slot] <= order) return;
  set_ |= 1u << slot;
  orders_[slot] = order;
  values_[slot] = number;
}

bool Entry::set(Figure figure, double number, std::uint8_t order) {
  put(figure, order, number);
  return true;
}

bool Entry::put_rate(const Meaning& meaning, const Value& value) {
  const double number = value.number.value * multiplier(value.unit);
  if (!(number > 0) || std::isinf(number)) return false;  // 0 tok/s: nothing was timed yet
  const bool device = meaning.per_device || value.unit.unit == Unit::tokens_per_s_per_device ||
                      value.unit.unit == Unit::samples_per_s_per_device ||
                      value.unit.unit == Unit::per_s_per_device;
  const auto slot = static_cast<std::size_t>(meaning.figure);
  const auto order = static_cast<std::uint8_t>(meaning.order + (device ? 1 : 0));
  if (has(meaning.figure) && orders_[slot] <= order) return true;
  put(meaning.figure, order, number);
  if (meaning.figure == Figure::tokens_per_s || !has(Figure::tokens_per_s)) per_device_ = device;
  return true;
}

bool Entry::put_memory(const Meaning& meaning, const Value& value) {
  const double number = value.number.value;
  if (!(number >= 0) || std::isinf(number) || value.unit.unit == Unit::percent) return false;
  double scale = meaning.scale;
  if (scale == 0) scale = gib_per(value.unit.unit);
  if (scale == 0 && value.unit.unit != Unit::none) return false;
  if (scale == 0) scale = number >= kNoUnitMib ? 1.0 / 1024 : 1;
  put(Figure::mem, meaning.order, number * scale);
  return true;
}

// One case a figure: it reads best whole.
bool Entry::set(const Meaning& meaning, const Value& value) {
  double number = value.number.value;
  const Unit unit = value.unit.unit;
  if (meaning.evaluation) {
    evaluation_keys_ = true;
    if (meaning.figure == Figure::epoch) evaluation = true;  // "Validation epoch 3"
  }
  switch (meaning.figure) {
    case Figure::none:
      return false;
    case Figure::step:
    case Figure::batch:
    case Figure::rank:
    case Figure::total_steps: {
      if (value.seconds || unit == Unit::percent || unit == Unit::second) return false;
      const double counted =
          unit == Unit::kilo || unit == Unit::mega ? number * multiplier(value.unit) : number;
      if (!whole_number(counted) || (meaning.figure == Figure::rank && counted > 1e6)) return false;
      const auto slot = static_cast<std::size_t>(meaning.figure);
      if (meaning.figure == Figure::step && (!has(Figure::step) || orders_[slot] > meaning.order))
        total_ = value.total;
      put(meaning.figure, meaning.order, counted);
      return true;
    }
    case Figure::epoch:
      if (!(number >= 0) || number > 1e9) return false;
      put(meaning.figure, meaning.order, number);
      return true;
    case Figure::loss:
    case Figure::eval_loss:
    case Figure::lr:
    case Figure::grad_norm:
    case Figure::final_loss: {
      if (value.seconds || (unit == Unit::percent)) return false;
      if (value.number.grouped && decimal_commas) number = value.number.decimal;
      if (meaning.figure == Figure::lr && meaning.scale > 0) number *= meaning.scale;
      const auto slot = static_cast<std::size_t>(meaning.figure);
      if (meaning.figure == Figure::loss && (!has(Figure::loss) || orders_[slot] > meaning.order))
        loss_only_train_ = meaning.order == 8;
      put(meaning.figure, meaning.order, number);
      return true;
    }
    case Figure::step_time_s: {
      if (!is_time(unit)) return false;
      if (value.seconds && unit == Unit::none) number = *value.seconds;
      const double scale =
          meaning.scale > 0 && unit == Unit::none ? meaning.scale : seconds_per(unit);
      if (value.number.grouped && decimal_commas) number = value.number.decimal;
      number *= scale;
      if (!(number > 0) || std::isinf(number)) return false;
      put(Figure::step_time_s, meaning.order, number);
      return true;
    }
    case Figure::time: {
      if (value.seconds && unit == Unit::none) return false;  // a clock: of an epoch, or of day
      if (!is_time(unit) || !(number > 0)) return false;
      time_is_step_ = time_is_step_ || unit == Unit::millisecond || value.has_mean;
      put(Figure::time, meaning.order, number * seconds_per(unit));
      return true;
    }
    case Figure::forward_s:
    case Figure::backward_s:
    case Figure::sync_s:
    case Figure::optimizer_s:
    case Figure::data_time:
      put(meaning.figure, meaning.order, number * (is_time(unit) ? seconds_per(unit) : 1));
      return true;
    case Figure::steps_per_s:
    case Figure::samples_per_s:
    case Figure::tokens_per_s:
      if (meaning.evaluation) return true;  // an evaluation's rate is never training throughput
      return put_rate(meaning, value);
    case Figure::speed: {
      Meaning by_unit = meaning;
      by_unit.figure = figure_of_unit(unit);
      if (by_unit.figure == Figure::none) return false;
      return set(by_unit, value);
    }
    case Figure::tokens_seen:
      if (!(number >= 0)) return false;
      put(Figure::tokens_seen, meaning.order, number * multiplier(value.unit));
      return true;
    case Figure::mem:
      return put_memory(meaning, value);
    case Figure::mfu: {
      if (!(number >= 0)) return false;
      const bool percent = unit == Unit::percent || number > 1;
      put(Figure::mfu, meaning.order, percent ? number / 100 : number);
      return true;
    }
    case Figure::train_runtime_s:
    case Figure::runtime_s:
    case Figure::eval_runtime_s: {
      const double seconds = value.seconds ? *value.seconds : number * seconds_per(unit);
      if (!is_time(unit) && !value.seconds) return false;
      if (!(seconds >= 0)) return false;
      put(meaning.figure, meaning.order, seconds);
      return true;
    }
    case Figure::component:
    case Figure::quality:
      put(meaning.figure, meaning.order, number);
      return true;
    case Figure::count:
      break;
  }
  return false;
}

void Entry::fill_from(const Entry& other) {
  const std::uint32_t lacking = other.set_ & ~set_;
  for (std::size_t i = 0; i < kFigures; ++i)
    if ((lacking & (1u << i)) != 0) {
      values_[i] = other.values_[i];
      orders_[i] = other.orders_[i];
    }
  set_ |= lacking;
  if ((lacking & (1u << static_cast<unsigned>(Figure::step))) != 0) total_ = other.total_;
  if ((lacking & (1u << static_cast<unsigned>(Figure::tokens_per_s))) != 0)
    per_device_ = other.per_device_;
  if ((lacking & (1u << static_cast<unsigned>(Figure::loss))) != 0)
    loss_only_train_ = other.loss_only_train_;
  evaluation = evaluation || other.evaluation;
  evaluation_keys_ = evaluation_keys_ || other.evaluation_keys_;
  summary = summary || other.summary;
  time_is_step_ = time_is_step_ || other.time_is_step_;
}

bool Entry::tells_training(Form form) const {
  if (has(Figure::loss) || has(Figure::eval_loss)) return true;
  const bool rates = has(Figure::steps_per_s) || has(Figure::samples_per_s) ||
                     has(Figure::tokens_per_s) || has(Figure::step_time_s);
  const bool where = has(Figure::step) || has(Figure::epoch);
  if (has(Figure::step) && (has(Figure::grad_norm) || rates || has(Figure::mfu))) return true;
  if (where && has(Figure::component)) return form != Form::pairs || pairs >= 4;
  if (where && has(Figure::mem) && has(Figure::lr)) return true;
  if (has(Figure::step) && has(Figure::lr)) return true;
  if (form == Form::mapping || form == Form::table) return where && (rates || has(Figure::lr));
  return false;
}

std::optional<Reading> Entry::finish(Form form) const {
  Reading reading;
  StepRecord& record = reading.record;
  const auto get = [&](Figure figure) -> std::optional<double> {
    return has(figure) ? std::optional(value(figure)) : std::nullopt;
  };
  std::optional<double> loss = get(Figure::loss), eval_loss = get(Figure::eval_loss);
  const bool rates = has(Figure::steps_per_s) || has(Figure::samples_per_s);
  const bool ended = (has(Figure::train_runtime_s) && (!loss || loss_only_train_)) ||
                     (summary && (has(Figure::runtime_s) || has(Figure::step) || loss));
  if (ended && (rates || loss || summary) && (!eval_loss || summary)) {
    record.kind = RecordKind::summary;
    reading.has_summary = true;
    if (loss && !summary) {
      reading.loss_mean = loss;  // HF: "train_loss" of a summary is the mean over the run
      loss.reset();
    }
    reading.final_loss = get(Figure::final_loss);
    if (summary && loss && !reading.final_loss) reading.final_loss = loss;
    if (summary)
      reading.total_steps = has(Figure::total_steps) ? get(Figure::total_steps) : get(Figure::step);
  } else if (evaluation && loss && !eval_loss && !has(Figure::lr) && !has(Figure::grad_norm)) {
    eval_loss = loss;
    loss.reset();
  }
  if (!reading.has_summary) {
    const bool training = tells_training(form);
    // Configurations hold words like "precision" among dozens of others.
    const bool quality = has(Figure::quality) && pairs <= kMaxQualities;
    const bool tells_evaluation =
        eval_loss || ((evaluation || evaluation_keys_) && (has(Figure::eval_runtime_s) || quality));
    if (loss || (training && !tells_evaluation)) {
      record.kind = RecordKind::train;
    } else if (tells_evaluation || (form == Form::mapping && quality)) {
      record.kind = RecordKind::eval;
    } else if (has(Figure::steps_per_s) && !has(Figure::lr) && form == Form::pairs && pairs <= 2) {
      record.kind = RecordKind::progress;
    } else if (has(Figure::mem) && form == Form::pairs &&
               figures() - (has(Figure::rank) ? 1 : 0) - (has(Figure::step) ? 1 : 0) == 1) {
      record.kind = RecordKind::system;
    } else {
      return std::nullopt;
    }
  }
  const RecordKind kind = record.kind;
  record = this->record(kind == RecordKind::eval);
  record.kind = kind;
  record.loss = loss;
  record.eval_loss = eval_loss;
  reading.has_loss = loss.has_value();
  return reading;
}

StepRecord Entry::record(bool of_evaluation) const {
  StepRecord record;
  const auto get = [&](Figure figure) -> std::optional<double> {
    return has(figure) ? std::optional(value(figure)) : std::nullopt;
  };
  record.loss = get(Figure::loss);
  record.eval_loss = get(Figure::eval_loss);
  const auto step = get(Figure::step), batch = get(Figure::batch);
  record.epoch = get(Figure::epoch);
  if (step)
    record.step = static_cast<std::int64_t>(*step);
  else if (batch && !record.epoch)
    record.step = static_cast<std::int64_t>(*batch);
  else if (batch)
    record.bar_step = static_cast<std::int64_t>(*batch);
  if (total_) record.steps_total = whole_number(*total_);
  record.lr = get(Figure::lr);
  // A bare "norm" is the gradients' where the rate of learning stands beside it.
  const bool bare_norm = orders_[static_cast<std::size_t>(Figure::grad_norm)] == 30;
  if (!bare_norm || has(Figure::lr)) record.grad_norm = get(Figure::grad_norm);
  record.tokens_seen = get(Figure::tokens_seen);
  record.mem_gib = get(Figure::mem);
  if (const auto rank = get(Figure::rank)) record.rank = static_cast<int>(*rank);
  if (has(Figure::train_runtime_s))
    record.runtime_s = get(Figure::train_runtime_s);
  else
    record.runtime_s = get(of_evaluation ? Figure::eval_runtime_s : Figure::runtime_s);
  if (of_evaluation) return record;  // its rates are an evaluation's
  record.mfu_frac = get(Figure::mfu);
  record.step_time_s = get(Figure::step_time_s);
  if (!record.step_time_s && has(Figure::time) && (time_is_step_ || has(Figure::data_time)))
    record.step_time_s = get(Figure::time);
  if (record.step_time_s && orders_[static_cast<std::size_t>(Figure::data_time)] == 5) {
    record.input_s = get(Figure::data_time);
    record.forward_s = get(Figure::forward_s);
    record.backward_s = get(Figure::backward_s);
    record.sync_s = get(Figure::sync_s);
    record.optimizer_s = get(Figure::optimizer_s);
  }
  record.steps_per_s = get(Figure::steps_per_s);
  record.samples_per_s = get(Figure::samples_per_s);
  record.tokens_per_s = get(Figure::tokens_per_s);
  record.per_device = per_device_ && (record.tokens_per_s || record.samples_per_s);
  return record;
}

}  // namespace rigwise::logs
