// Plans: what was read out of a line serves the next line of the same shape.
//
// Two texts have one shape when they differ in digits alone. Where the values stand, what their
// keys mean and which form the line has is the same for both; only the numbers have to be read
// anew. A line's shape in which nothing was found is remembered too. Everything that depends on
// more than the shape (groups of thousands, clocks, glued records, what the lines before said)
// makes no plan.
//
// Memory: a fixed number of slots; a shape that falls into a taken slot takes its place.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "logs/bar.h"
#include "logs/entry.h"

namespace rigwise::logs {

/// Digits count as one byte; equal for texts of one shape (and else equal by 128-bit chance).
struct Signature {
  std::uint64_t a = 0, b = 0;
  bool operator==(const Signature&) const = default;
};
Signature signature_of(std::string_view text, char end);

struct PlannedValue {
  Meaning meaning = {};
  UnitRead unit = {};
  std::uint16_t at = 0, total_at = 0;  // total_at 0: no "/total"
  std::uint8_t size = 0;               // bytes of the number, where it holds a comma
  bool has_mean = false;
  bool taken = false;  // Entry::set() took it
};

struct Plan {
  static constexpr std::size_t kMaxValues = 16;
  enum class Kind : std::uint8_t { none, nothing, entry, bar };
  Kind kind = Kind::none;
  std::uint8_t count = 0;
  std::array<PlannedValue, kMaxValues> values = {};
  // of an entry
  bool evaluation = false, summary = false;
  int pairs = 0;
  Form form = Form::pairs;
  const char* format = "";
  // of a bar
  BarUse use = BarUse::unnamed;
  bool has_epoch = false;
  std::uint16_t counter_at = 0, elapsed_at = 0, description_at = 0, description_size = 0;
};

/// Sets figures, and notes where their values stand while a line is read that may become a plan.
class Trace {
 public:
  void begin(std::string_view base);
  /// The line depends on more than its shape.
  void fail() { failed_ = true; }
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] bool untouched() const {
    return plan_.count == 0 && plan_.kind == Plan::Kind::none;
  }
  [[nodiscard]] const Plan& plan() const { return plan_; }

  /// entry.set(), noted. `at` is where the value's number begins, `total` where that behind its
  /// slash does (nullptr: none).
  bool set(Entry& entry, const Meaning& meaning, const Value& value, const char* at,
           const char* total);
  /// The line amounted to this entry, or bar.
  void told(const Entry& entry, Form form, const char* format);
  void told(const Bar& bar, std::string_view text);

 private:
  bool offset_of(const char* at, std::uint16_t& offset);
  std::string_view base_;
  bool failed_ = true;
  Plan plan_;
};

class PlanCache {
 public:
  PlanCache();
  [[nodiscard]] const Plan* find(const Signature& signature) const;
  [[nodiscard]] bool is_nothing(const Signature& signature) const;
  void keep(const Plan& plan, const Signature& signature);
  void keep_nothing(const Signature& signature);

 private:
  static constexpr std::size_t kPlans = 1024, kNothings = 4096;
  std::unique_ptr<std::array<Plan, kPlans>> plans_;
  // Apart from what they name, so that a look costs no more than a line of the cache.
  std::unique_ptr<std::array<Signature, kPlans>> names_;
  std::unique_ptr<std::array<std::uint64_t, kNothings>> nothings_;  // halves of signatures
};

/// The plan's values read out of `text` into `entry`. False: this text does not go by the plan.
bool follow(const Plan& plan, std::string_view text, Entry& entry);
/// The same for a bar.
bool follow(const Plan& plan, std::string_view text, Bar& bar);

}  // namespace rigwise::logs
