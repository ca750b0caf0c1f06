// Pairs: keys and values anywhere in a line of text: "Step 1 | loss:6.40 lr:5e-07", "iter 10: loss
// 3.2, time 26.58ms", "Epoch: [0][ 10/2500] Time 0.225 (9.306)", "203557 tok/s".
//
// Numbers lead: each one's key is what stands between it and the value or separator before it, its
// unit what stands behind. A key must be known as a whole; words in front of it are let pass only
// before a counter ("Finished step 20"). Numbers without a key count by their unit alone.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "logs/entry.h"

namespace rigwise::logs {

class Trace;

class PairReader {
 public:
  PairReader(Meanings& meanings, Trace& trace) : meanings_(meanings), trace_(trace) {}
  [[nodiscard]] Trace& trace() { return trace_; }

  /// Reads the pairs of `text`; the first of `entries()` starts as `base`. Records that were glued
  /// in one line become one entry each.
  void read(std::string_view text, const Entry& base);

  /// The entries of the last read, in order.
  [[nodiscard]] Entry* begin() { return entries_.data(); }
  [[nodiscard]] Entry* end() { return entries_.data() + count_; }
  [[nodiscard]] std::size_t size() const { return count_; }

  /// The line's commas were decimal ones at least once: they are in the rest of the log too.
  bool decimal_commas = false;

 private:
  struct Token {
    std::size_t begin = 0, end = 0;  // of the number
    Value value = {};
    bool has_value = true;        // false: a date, a version
    const char* total = nullptr;  // where the total stands
  };

  void take_number(std::size_t at);
  void take_value(Token& token);
  [[nodiscard]] bool begins_next_pair(Figure figure, const Token& token) const;
  [[nodiscard]] bool number_starts(std::size_t at) const;
  void scan_behind(Token& token);
  bool scan_compound(Token& token);
  bool set(const Meaning& meaning, const Token& token);
  bool set(Figure figure, int order, const Token& token);
  bool name_behind(const Token& token);
  void unit_only(const Token& token);
  void bracket_counter(const Token& token);
  void close_segment(std::size_t at);
  void new_entry();
  Entry& entry() { return entries_[count_ - 1]; }

  Meanings& meanings_;
  Trace& trace_;
  std::vector<Entry> entries_;
  std::size_t count_ = 0;

  std::string_view text_;
  std::size_t at_ = 0, segment_ = 0;  // segment_: where the key of the next number may begin
  std::string_view first_key_;        // of the entry: where it comes again, a new entry begins
  std::string_view context_;          // "memory (MB)" of "memory (MB) | allocated: 12"
  Figure last_ = Figure::none;        // of the pair before
  std::size_t mean_end_ = 0;          // behind the parentheses that hold a mean
};

}  // namespace rigwise::logs
