#include "logs/session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/text.h"
#include "logs/scan.h"

namespace rigwise::logs {
namespace {

constexpr double kHold_s = 0.5;         // how long an entry waits for the bar behind it
constexpr double kBarThrottle_s = 0.1;  // tqdm draws at most ten times a second
constexpr std::size_t kMaxMarks = 4096;

bool same(const std::optional<double>& a, const std::optional<double>& b) {
  if (!a || !b) return !a && !b;
  return *a == *b || (std::isnan(*a) && std::isnan(*b));
}

bool near(const std::optional<double>& a, const std::optional<double>& b, double absolute) {
  return a && b && std::abs(*a - *b) <= absolute;
}

/// By how much a printed number may be off: half of its last decimal place, of two at least.
double rounding_of(double printed) {
  double unit = 0.01;
  for (int places = 2; places < 9; ++places, unit /= 10) {
    const double scaled = printed / unit;
    if (std::abs(scaled - std::round(scaled)) < 1e-4) break;
  }
  return unit / 2;
}

std::string phase_name(std::string_view description) {
  const std::string low = lower_ascii(description);
  if (contains(low, "download") || contains(low, "fetch")) return "download";
  if (contains(low, "load")) {
    for (const auto word : {"shard", "weight", "model", "checkpoint"})
      if (contains(low, word)) return "model load";
    return "data load";
  }
  if (contains(low, "token")) return "tokenising";
  if (contains(low, "compil")) return "compile";
  return "data preparation";
}

}  // namespace

Session::Session(std::string file)
    : progress(std::make_shared<Progress>()), log_file(std::move(file)) {}

void Session::fact(std::string key, std::string value, const Piece& piece) {
  out->facts.push_back(
      Fact{std::move(key), clean_text(value, 256), log_file + ':' + std::to_string(piece.line)});
}

void Session::event(Event event) {
  event.name = clean_text(event.name, 1024);
  out->events.push_back(std::move(event));
  out->steps_before.push_back(out->steps.size());
}

// ------------------------------------------------------------------------------------------------
// entries

Session::Kept::Kept(const StepRecord& record)
    : kind(record.kind),
      step(record.step),
      rank(record.rank),
      epoch(record.epoch),
      loss(record.loss),
      eval_loss(record.eval_loss),
      lr(record.lr),
      grad_norm(record.grad_norm),
      step_time_s(record.step_time_s),
      steps_per_s(record.steps_per_s),
      samples_per_s(record.samples_per_s),
      tokens_per_s(record.tokens_per_s),
      tokens_seen(record.tokens_seen),
      runtime_s(record.runtime_s),
      t_s(record.t_s),
      bar_or_table(record.log_format == "bar" || record.log_format == "columns") {}

bool Session::same_figures(const Kept& a, const Kept& b) {
  return same(a.loss, b.loss) && a.step == b.step && a.rank == b.rank && same(a.epoch, b.epoch) &&
         same(a.eval_loss, b.eval_loss) && same(a.lr, b.lr) && same(a.grad_norm, b.grad_norm) &&
         same(a.step_time_s, b.step_time_s) && same(a.steps_per_s, b.steps_per_s) &&
         same(a.samples_per_s, b.samples_per_s) && same(a.tokens_per_s, b.tokens_per_s) &&
         same(a.runtime_s, b.runtime_s);
}

/// The same entry from another process: all that training decides is equal, only the clock differs.
bool Session::same_training(const Kept& a, const Kept& b) {
  if (!same(a.loss, b.loss) || !a.loss) return false;
  // A whole epoch names many entries.
  const bool placed = a.step || (a.epoch && *a.epoch != std::floor(*a.epoch));
  return placed && a.bar_or_table == b.bar_or_table && a.step == b.step && same(a.epoch, b.epoch) &&
         same(a.lr, b.lr) && same(a.grad_norm, b.grad_norm) && same(a.tokens_seen, b.tokens_seen);
}

bool Session::repeats(const Kept& kept, bool table) {
  if (kept.kind == RecordKind::train)
    return (last_train_ && same_figures(*last_train_, kept)) || is_copy(kept);
  if (kept.kind == RecordKind::summary)  // printed as a dict, then as a table with fewer digits
    return last_summary_ && (table || same_figures(*last_summary_, kept));
  if (kept.kind == RecordKind::eval && last_eval_) {
    if (same_figures(*last_eval_, kept)) return true;
    if (table && !kept.runtime_s) return true;  // cut before its end
    return table && near(last_eval_->runtime_s, kept.runtime_s, 0.011) &&
           near(last_eval_->eval_loss, kept.eval_loss, 1e-3);
  }
  return false;
}

/// Two processes that were started together but never joined print every entry twice.
bool Session::is_copy(const Kept& kept) {
  constexpr std::size_t kWindow = 16;  // processes drift apart by a few entries
  if (kept.rank) return false;
  for (const Kept& other : recent_) {
    if (!same_training(other, kept)) continue;
    ++copies_;
    return true;
  }
  ++distinct_;
  if (recent_.size() < kWindow) {
    recent_.push_back(kept);
  } else {
    recent_[recent_next_] = kept;
    recent_next_ = (recent_next_ + 1) % kWindow;
  }
  return false;
}

int Session::copies() const {
  constexpr std::int64_t kEnough = 4;
  if (distinct_ < kEnough) return 1;
  return static_cast<int>((distinct_ + copies_ + distinct_ / 2) / distinct_);
}

void Session::emit(StepRecord record) {
  out->steps.push_back(std::move(record));
}

void Session::add(Reading reading, const Piece& piece, const char* format,
                  std::optional<std::int64_t> glued_step) {
  StepRecord record = std::move(reading.record);
  record.t_s = piece.t_s;
  record.log_file = log_file;
  record.log_line = piece.line;
  record.log_format = format;
  if (!record.rank) record.rank = rank;
  if (reading.has_summary) {
    if (reading.total_steps) record.step = whole_number(*reading.total_steps);
    if (reading.final_loss) record.loss = reading.final_loss;
  }
  const Kept kept(record);
  if (repeats(kept, record.log_format == "metrics_table")) return;
  if (!record.step && glued_step) {
    // Behind a bar that was not cleared for it: it may have waited in a buffer.
    if (progress->stream == this) record.bar_step = mark_for(record);
    if (!record.bar_step) record.bar_step = glued_step;
  }
  switch (record.kind) {
    case RecordKind::train:
      burst_ = last_train_ && last_train_->t_s == record.t_s ? burst_ + 1 : 0;
      last_train_ = kept;
      if ((record.step || record.epoch) && record.log_format != "hf_dict") ++stated_;
      confirm_bar();
      hold_or_emit(std::move(record));
      break;
    case RecordKind::eval:
      last_eval_ = kept;
      evaluation_entry(record);
      hold_or_emit(std::move(record));
      break;
    case RecordKind::summary:
      last_summary_ = kept;
      summary_entry(record);
      emit(std::move(record));
      break;
    default:
      emit(std::move(record));
  }
}

/// A training entry came while a bar was up: that bar counts training steps.
void Session::confirm_bar() {
  Progress& p = *progress;
  if (!p.confirmed && p.bar_open && p.bar_unnamed && !p.bar_reported && p.bar_total) {
    p.total = p.bar_total;
    p.step = p.bar_n;
    p.drawn_s = p.bar_last_s;
    p.complete = p.step == p.total;
    p.bar_open = false;
    --p.bars_seen;
  }
  if (p.total) p.confirmed = true;
}

void Session::hold_or_emit(StepRecord record) {
  const Progress& p = *progress;
  // A second entry without a bar between: both waited in a buffer.
  const bool late = std::exchange(entry_since_bar_, true);
  let_go();
  if (record.step || record.bar_step || p.stream == nullptr) return emit(std::move(record));
  if (late || p.stream != this) record.bar_step = mark_for(record);
  if (record.bar_step) return emit(std::move(record));
  held_ = std::move(record);
}

/// Emits the entry that waits, without the bar behind it: it came late and one of the marks is its,
/// or the bar before it counts when it is drawn anew at every step.
void Session::let_go() {
  if (!held_) return;
  StepRecord record = std::move(*held_);
  held_.reset();
  const Progress& p = *progress;
  record.bar_step = mark_for(record);
  if (!record.bar_step && p.stream == this && p.step_time_s.value_or(0) >= kBarThrottle_s)
    record.bar_step = p.step;
  emit(std::move(record));
}

void Session::release(double t_s, bool all) {
  if (held_ && progress->stream != this) {
    held_->bar_step = mark_for(*held_);
    if (held_->bar_step) {
      emit(std::move(*held_));
      held_.reset();
    }
  }
  if (held_ && (all || t_s > held_->t_s + kHold_s)) let_go();
}

/// The step at which the bar was drawn anew for this entry, which comes late: through the other
/// stream or out of a buffer. Marks come in the order of the entries; the epoch that the entry
/// states must fit, so that a stray mark misleads nobody.
std::optional<std::int64_t> Session::mark_for(const StepRecord& record) {
  Progress& p = *progress;
  if (!record.epoch || !(*record.epoch > 0)) return std::nullopt;
  while (!p.marks.empty() && p.marks.front() <= 0) p.marks.pop_front();
  if (p.marks.empty()) return std::nullopt;
  if (!p.steps_per_epoch) {
    const std::int64_t step = p.marks.front();
    p.marks.pop_front();
    measure_epoch(step, *record.epoch);
    return step;
  }
  const double expected = *record.epoch * *p.steps_per_epoch;
  const double tolerance =
      0.5 + rounding_of(*record.epoch) * *p.steps_per_epoch + p.steps_per_epoch_error * expected;
  for (std::size_t i = 0; i < p.marks.size(); ++i) {
    const auto step = static_cast<double>(p.marks[i]);
    if (step > expected + tolerance) return std::nullopt;
    if (step < expected - tolerance) continue;
    const std::int64_t found = p.marks[i];
    p.marks.erase(p.marks.begin(), p.marks.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    measure_epoch(found, *record.epoch);
    return found;
  }
  return std::nullopt;
}

void Session::measure_epoch(std::int64_t step, double epoch) {
  if (step <= 0 || !(epoch > 0)) return;
  progress->steps_per_epoch = static_cast<double>(step) / epoch;
  progress->steps_per_epoch_error = rounding_of(epoch) / epoch;
}

// ------------------------------------------------------------------------------------------------
// bars

bool Session::is_training(const Bar& bar) const {
  const Progress& p = *progress;
  if (bar.use == BarUse::training) {
    const std::string low = lower_ascii(bar.description);
    return !(low.ends_with("epoch") || low.ends_with("epochs"));  // counts epochs, not steps
  }
  if (bar.use != BarUse::unnamed) return false;
  if (bar.figures.has(Figure::loss)) return true;
  if (!bar.total) return false;
  if (p.total == bar.total) return true;
  if (evaluation_banner || bar.total == 1) return false;
  if (!p.confirmed && stated_ > 0) return false;  // lines tell the training, and this is no line
  if (!p.total) return true;
  if (p.bars_seen > 0 && p.bar_total == bar.total) return false;
  // Another bar while the training bar stands: an evaluation. After it: one as well, unless nothing
  // ever showed that the finished bar was training.
  return p.complete && !p.confirmed;
}

bool Session::draw(const Bar& bar, const Piece& piece) {
  if (bar.use == BarUse::other) return cleared_ = false, false;
  if (bar.use == BarUse::startup) return startup_bar(bar, piece.t_s), cleared_ = false, true;
  if (is_training(bar)) return training_bar(bar, piece), true;
  cleared_ = false;
  if (bar.use == BarUse::training) return false;
  if (bar.use == BarUse::evaluation || bar.total) evaluation_bar(bar, piece.t_s);
  if (bar.use == BarUse::evaluation && bar.total && bar.n >= *bar.total)
    evaluation_result(bar, piece);
  return true;
}

void Session::training_bar(const Bar& bar, const Piece& piece) {
  Progress& p = *progress;
  close_phase();
  const bool fresh = p.total != bar.total || p.stream == nullptr || (p.step && bar.n < *p.step);
  constexpr std::int64_t kLag = 3;
  if (fresh && p.total == bar.total && p.step && bar.n > 0 && *p.step - bar.n <= kLag)
    return;  // another rank's bar in the same stream, a little behind
  if (fresh) {
    p.total = bar.total;
    p.step.reset();
    p.stream = this;
  }
  if (cleared_) {
    p.confirmed = p.confirmed || bar.n > 0;
    p.marks.push_back(bar.n);
    if (p.marks.size() > kMaxMarks) p.marks.pop_front();
    cleared_ = false;
  }
  entry_since_bar_ = false;
  if (held_) {
    held_->bar_step = bar.n;
    while (!p.marks.empty() && p.marks.front() <= bar.n) p.marks.pop_front();
    measure_epoch(bar.n, held_->epoch.value_or(0));
    held_->steps_total = held_->steps_total ? held_->steps_total : bar.total;
    emit(std::move(*held_));
    held_.reset();
  }
  StepRecord record = bar.figures.record(false);
  if (record.step_time_s) p.step_time_s = record.step_time_s;
  if (record.steps_per_s) p.step_time_s = 1 / *record.steps_per_s;
  // Drawn again; with another loss, it tells another one.
  if (p.step == bar.n &&
      (!record.loss || (same(record.loss, drawn_loss_) && same(record.steps_per_s, drawn_rate_))))
    return;
  if (p.step && bar.n > *p.step) close_evaluation();
  if (p.step != bar.n) p.drawn_s = piece.t_s;
  p.step = bar.n;
  p.complete = bar.total && bar.n >= *bar.total;
  drawn_loss_ = record.loss;
  drawn_rate_ = record.steps_per_s;

  record.kind = record.loss ? RecordKind::train : RecordKind::progress;
  record.t_s = piece.t_s;
  if (bar.epoch) {  // the bar counts inside an epoch
    record.epoch = bar.epoch;
    if (!record.step) record.bar_step = bar.n;
  } else if (!record.step) {
    record.step = bar.n;
  }
  record.steps_total = bar.total;
  if (!record.rank) record.rank = rank;
  record.log_file = log_file;
  record.log_line = piece.line;
  record.log_format = "bar";
  if (record.loss) p.confirmed = true;
  emit(std::move(record));
}

void Session::startup_bar(const Bar& bar, double t_s) {
  std::string name = phase_name(bar.description);
  const double start = t_s - bar.elapsed_s.value_or(0);
  if (phase_ != name) {
    close_phase();
    phase_ = std::move(name);
    phase_start_s_ = std::max(start, 0.0);
  }
  phase_last_s_ = t_s;
}

void Session::close_phase() {
  if (phase_.empty()) return;
  Event told;
  told.t_s = phase_start_s_;
  told.t_end_s = phase_last_s_;
  told.kind = EventKind::phase;
  told.name = std::move(phase_);
  told.how = "log";
  phase_.clear();
  event(std::move(told));
}

// ------------------------------------------------------------------------------------------------
// evaluations, the end

void Session::evaluation_bar(const Bar& bar, double t_s) {
  Progress& p = *progress;
  const bool fresh = !p.bar_open || p.bar_total != bar.total || (p.bar_n && bar.n < *p.bar_n);
  if (fresh) {
    close_evaluation();
    // Left over on the screen, drawn once more: not another evaluation.
    if (p.bar_total == bar.total && p.bar_n == bar.n && bar.total == bar.n && p.bars_seen > 0)
      return;
    ++p.bars_seen;
    p.bar_open = true;
    p.bar_reported = false;
    p.bar_start_s = std::max(0.0, t_s - bar.elapsed_s.value_or(0));
    p.bar_unnamed = bar.use == BarUse::unnamed;
  }
  p.bar_last_s = t_s;
  p.bar_n = bar.n;
  p.bar_total = bar.total;
  // Full: it is over. Its result was printed before, or waits in a buffer and comes too late.
  if (bar.total && bar.n >= *bar.total) close_evaluation();
}

/// A full evaluation bar with a loss behind it tells the result.
void Session::evaluation_result(const Bar& bar, const Piece& piece) {
  StepRecord record = bar.figures.record(true);
  if (!record.eval_loss) record.eval_loss = record.loss;
  record.loss.reset();
  if (!record.eval_loss) return;
  record.kind = RecordKind::eval;
  record.t_s = piece.t_s;
  if (!record.rank) record.rank = rank;
  record.log_file = log_file;
  record.log_line = piece.line;
  record.log_format = "bar";
  const Kept kept(record);
  if (repeats(kept, false)) return;
  last_eval_ = kept;
  emit(std::move(record));
}

void Session::close_evaluation() {
  Progress& p = *progress;
  if (!p.bar_open) return;
  p.bar_open = false;
  if (p.bar_reported) return;
  Event told;
  told.t_s = p.bar_start_s;
  told.t_end_s = p.bar_last_s;
  told.kind = EventKind::evaluation;
  told.step = p.step;
  told.how = "log";
  told.detail = "progress bar";
  event(std::move(told));
}

void Session::evaluation_entry(const StepRecord& record) {
  Progress& p = *progress;
  ++p.entries_seen;
  const bool this_bar = p.bar_open && !p.bar_reported && p.entries_seen >= p.bars_seen;
  if (!this_bar && p.entries_seen <= p.bars_seen) return;  // its bar told it
  if (!this_bar && !record.runtime_s) return;              // no duration is known
  Event told;
  told.t_s = record.t_s - record.runtime_s.value_or(0);
  if (this_bar) told.t_s = std::min(told.t_s, p.bar_start_s);
  told.t_s = std::max(told.t_s, 0.0);
  told.t_end_s = record.t_s;
  told.kind = EventKind::evaluation;
  told.step = record.step ? record.step : p.step;
  told.how = "log";
  told.detail = this_bar ? "progress bar and result" : "result";
  if (this_bar) p.bar_reported = true;
  event(std::move(told));
}

void Session::summary_entry(const StepRecord& record) {
  close_evaluation();
  if (train_end_told_) return;
  train_end_told_ = true;
  const Progress& p = *progress;
  Event told;
  told.t_s = record.t_s;
  told.kind = EventKind::train_end;
  told.step = p.complete ? p.step : std::nullopt;
  told.how = "log";
  // Output that waited in a buffer arrives in one burst: the bar knows better when training ended.
  if (burst_ >= 2 && p.complete && p.stream != this) {
    told.t_s = std::min(told.t_s, std::max(p.drawn_s, p.bar_last_s));
    told.detail = "by the bar: the summary line waited in a buffer";
  }
  event(std::move(told));
}

void Session::checkpoint(std::string_view path, std::optional<std::int64_t> step, bool done,
                         const Piece& piece) {
  const bool part = !last_checkpoint_.empty() && path.size() > last_checkpoint_.size() &&
                    path.starts_with(last_checkpoint_) &&
                    (path[last_checkpoint_.size()] == '/' || last_checkpoint_.ends_with('/')) &&
                    contains(path.substr(last_checkpoint_.size()), ".");  // a file
  // One save: announced, then told to be done; or told of each of its files.
  if (!step && (part || (path == last_checkpoint_ && done))) return;
  last_checkpoint_ = std::string(path);
  Event told;
  told.t_s = piece.t_s;
  told.kind = EventKind::checkpoint;
  told.name = std::string(path);
  told.step = step;
  told.rank = rank;
  told.how = "log";
  event(std::move(told));
}

void Session::end(double t_s) {
  release(t_s, true);
  close_phase();
  close_evaluation();
}

}  // namespace rigwise::logs
