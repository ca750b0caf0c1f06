// Entry: the figures of one entry as they are found, then the record that they amount to.
//
// Several spellings of one figure may stand in one entry ("loss" beside "train_loss"): the one with
// the lowest order is taken, the first among equals.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "logs/meaning.h"
#include "logs/scan.h"
#include "rigwise/run.h"

namespace rigwise::logs {

/// A value as printed: a number, its unit, the total behind a slash; or a clock.
struct Value {
  Number number = {};
  UnitRead unit = {};
  std::optional<double> total = {};    // "12/200"
  std::optional<double> seconds = {};  // "0:25:30.13", "41m 48s"
  bool in_mean = false;                // stands in the parentheses behind another value
  bool has_mean = false;               // such parentheses follow it
};

/// The value that `text` is, wholly or at its start; false when it begins with no number.
bool read_value(std::string_view text, Value& value);

/// What a finished entry amounts to.
struct Reading {
  StepRecord record = {};
  bool has_loss = false;                   // a current training loss
  bool has_summary = false;                // end-of-run totals
  std::optional<double> loss_mean = {};    // of a summary: over the run
  std::optional<double> final_loss = {};   // of a summary, as stated
  std::optional<double> total_steps = {};  // of a summary, as stated
};

/// How sure the form is that its pairs are metrics.
enum class Form {
  mapping,  // a dict or a JSON object
  pairs,    // key–value pairs in a line of text
  table,    // a row under remembered column names
  block,    // one pair a line
};

class Entry {
 public:
  void clear();
  [[nodiscard]] bool empty() const { return set_ == 0 && !evaluation; }

  /// Sets a figure. False when the value is no number of that kind, or a sentinel ("mfu -100 %").
  bool set(const Meaning& meaning, const Value& value);
  bool set(Figure figure, double number, std::uint8_t order = 1);

  [[nodiscard]] bool has(Figure figure) const {
    return (set_ & (1u << static_cast<unsigned>(figure))) != 0;
  }
  [[nodiscard]] double value(Figure figure) const {
    return values_[static_cast<std::size_t>(figure)];
  }
  void drop(Figure figure) { set_ &= ~(1u << static_cast<unsigned>(figure)); }
  /// Figures of `other` that this one lacks.
  void fill_from(const Entry& other);
  [[nodiscard]] int figures() const { return __builtin_popcount(set_); }

  bool evaluation = false;      // the entry as a whole tells an evaluation
  bool summary = false;         // … the end of the run
  bool decimal_commas = false;  // "1,234" is 1.234 in this log
  int pairs = 0;                // pairs seen, understood or not

  /// The figures as they stand, of no kind yet; an evaluation's has no rates.
  [[nodiscard]] StepRecord record(bool of_evaluation) const;
  /// The record, or nothing when the figures tell no training, evaluation or end.
  [[nodiscard]] std::optional<Reading> finish(Form form) const;

 private:
  void put(Figure figure, std::uint8_t order, double number);
  bool put_rate(const Meaning& meaning, const Value& value);
  bool put_memory(const Meaning& meaning, const Value& value);
  [[nodiscard]] bool tells_training(Form form) const;

  static constexpr std::size_t kFigures = static_cast<std::size_t>(Figure::count);
  static_assert(kFigures <= 32);
  std::uint32_t set_ = 0;
  std::array<double, kFigures> values_{};
  std::array<std::uint8_t, kFigures> orders_{};
  std::optional<double> total_ = {};  // of the step
  bool per_device_ = false;           // of tokens_per_s or samples_per_s as set
  bool time_is_step_ = false;         // "time" has a unit or a mean, as step times have
  bool loss_only_train_ = false;      // "train_loss" and no "loss": the mean in a summary
  bool evaluation_keys_ = false;      // some key speaks of an evaluation
};

}  // namespace rigwise::logs
