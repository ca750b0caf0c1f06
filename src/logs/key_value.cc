// Key–value lines: "Step 1 | loss:6.40 lr:5e-07", "epoch 3 step 20: loss = 2.3, lr = 1e-4",
// "iter 10: loss 3.2". A line counts only when it tells a loss, or a step with a rate.
#include <array>
#include <utility>

#include "base/text.h"
#include "logs/readers.h"

namespace rigwise::logs {
namespace {

/// Words that a bare number may follow: "step 12", "loss 2.3".
bool is_strong_key(std::string_view word) {
  const std::string low = lower_ascii(word.substr(0, 12));
  for (const std::string_view key : {"step", "iter", "iteration", "epoch", "loss", "lr"})
    if (low == key) return true;
  return false;
}

/// A word in front of "loss" that leaves it the training loss.
bool keeps_meaning(std::string_view word) {
  const std::string low = lower_ascii(word.substr(0, 12));
  for (const std::string_view key : {"train", "training", "step", "current", "batch"})
    if (low == key) return true;
  return false;
}

bool is_word_byte(char byte) {
  return is_letter(byte) || is_digit(byte) || byte == '_' || byte == '/' || byte == '.' ||
         byte == '(' || byte == ')' || byte == '@';
}

/// The figure of the last words before a separator: three of them, two, one.
std::optional<Figure> figure_of_words(const std::array<std::string_view, 3>& words, int count) {
  for (int take = std::min(count, 3); take > 1; --take) {
    std::string key;
    for (int i = 3 - take; i < 3; ++i) {
      if (!key.empty()) key += '_';
      key += words[static_cast<std::size_t>(i)];
    }
    if (const auto figure = figure_of(key)) return figure;
  }
  const auto figure = figure_of(words[2]);
  if (figure == Figure::loss && count > 1 && !keeps_meaning(words[1])) return std::nullopt;
  return figure;
}

class KeyValueScanner {
 public:
  explicit KeyValueScanner(std::string_view text) : text_(text) {}

  /// One reading, or several where records were glued in one line.
  std::vector<Reading> run() {
    while (at_ < text_.size()) {
      if (is_letter(text_[at_]) || text_[at_] == '_') {
        word();
      } else {
        if (text_[at_] != ' ') count_ = 0;
        ++at_;
      }
    }
    readings_.push_back(std::move(reading_));
    return std::move(readings_);
  }

 private:
  void word() {
    const std::size_t from = at_;
    while (at_ < text_.size() && is_word_byte(text_[at_])) ++at_;
    std::string_view name = text_.substr(from, at_ - from);
    words_ = {words_[1], words_[2], name};
    ++count_;
    std::size_t next = at_;
    while (next < text_.size() && text_[next] == ' ') ++next;
    if (next >= text_.size()) return;
    const bool separated = text_[next] == '=' || text_[next] == ':';
    if (separated) {
      ++next;
      while (next < text_.size() && text_[next] == ' ') ++next;
    } else if (!is_digit(text_[next]) || !is_strong_key(name)) {
      return;
    }
    const auto quantity = scan_quantity(text_.substr(next));
    if (!quantity) return;
    if (const auto figure = figure_of_words(words_, count_)) {
      const std::size_t end = value_end(next, *quantity);
      if (reading_.has_loss && begins_another(*figure) && readings_.size() < kMaxGlued) {
        readings_.push_back(std::move(reading_));
        reading_ = Reading();
      }
      if (set_figure(reading_, *figure, name, text_.substr(next, end - next))) note(*figure);
    }
    at_ = next + quantity->size;
    count_ = 0;
  }

  /// The value's end: its unit and a "/200" behind it belong to it.
  std::size_t value_end(std::size_t from, const Quantity& quantity) const {
    std::size_t end = from + quantity.size;
    if (!quantity.unit.empty())
      end = static_cast<std::size_t>(quantity.unit.data() + quantity.unit.size() - text_.data());
    while (end < text_.size() && (text_[end] == '/' || is_digit(text_[end]))) ++end;
    return end;
  }

  /// A step, epoch, rank or loss that the record has already: the next record starts here.
  [[nodiscard]] bool begins_another(Figure figure) const {
    const StepRecord& record = reading_.record;
    switch (figure) {
      case Figure::step:
        return record.step.has_value();
      case Figure::epoch:
        return record.epoch.has_value();
      case Figure::rank:
        return record.rank.has_value();
      case Figure::loss:
        return record.loss.has_value();
      default:
        return false;
    }
  }

  void note(Figure figure) {
    ++reading_.figures;
    if (figure == Figure::loss) reading_.has_loss = true;
    if (figure == Figure::eval_loss) reading_.has_eval = true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::array<std::string_view, 3> words_ = {};
  int count_ = 0;
  static constexpr std::size_t kMaxGlued = 64;
  Reading reading_;
  std::vector<Reading> readings_;
};

bool starts_with_loss(std::string_view text) {
  const std::string low = lower_ascii(trim(text).substr(0, 16));
  return low.starts_with("loss") || low.starts_with("train loss") ||
         low.starts_with("train_loss") || low.starts_with("training loss");
}

/// Does the line speak of a validation, in a word of its own?
bool is_evaluation_line(std::string_view text) {
  const std::string low = lower_ascii(text.substr(0, 256));
  if (contains(low, "train")) return false;
  for (const std::string_view word : {"valid", "eval", "val", "test", "validation", "evaluation"}) {
    const std::size_t at = low.find(word);
    if (at == std::string::npos) continue;
    const std::size_t end = at + word.size();
    const bool open =
        at == 0 || (!is_letter(low[at - 1]) && low[at - 1] != '/' && low[at - 1] != '_');
    if (open && (end == low.size() || (!is_letter(low[end]) && low[end] != '_' && low[end] != '/')))
      return true;
  }
  return false;
}

/// Is this the reading of an entry, and of which kind?
bool settle(Reading& reading, std::string_view text) {
  StepRecord& record = reading.record;
  if (record.loss && !record.eval_loss && is_evaluation_line(text))
    std::swap(record.loss, record.eval_loss);
  const bool rated =
      record.step_time_s || record.steps_per_s || record.samples_per_s || record.tokens_per_s;
  const bool lone_loss = reading.figures == 1 && (record.loss || record.eval_loss);
  if (lone_loss && !(record.loss && starts_with_loss(text))) return false;
  if (!record.loss && !record.eval_loss && !(record.step && rated) &&
      !(reading.figures == 1 && record.steps_per_s && text.size() < 80))
    return false;
  if (record.loss) return true;
  if (record.eval_loss) {
    record.kind = RecordKind::eval;
    record.steps_per_s = record.samples_per_s = record.tokens_per_s = record.step_time_s =
        std::nullopt;
  } else {
    record.kind = record.lr || record.grad_norm ? RecordKind::train : RecordKind::progress;
  }
  return true;
}

}  // namespace

Outcome read_key_value(Session& session, const Piece& piece, std::string_view text) {
  // "oss", "tep", "ter", "poch": the cheap look that most lines fail.
  if (!contains(text, "oss") && !contains(text, "tep") && !contains(text, "ter") &&
      !contains(text, "poch"))
    return Outcome::none;
  Outcome outcome = Outcome::none;
  for (Reading& reading : KeyValueScanner(text.substr(0, 8192)).run()) {
    if (!settle(reading, text)) continue;
    session.add(std::move(reading), piece, "key_value", std::nullopt);
    outcome = Outcome::matched;
  }
  return outcome;
}

}  // namespace rigwise::logs
