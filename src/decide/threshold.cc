// The threshold language:  METRIC ["(" NUMBER UNIT_OF_WORK ")"] RELATION VALUE
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "rigwise/decide.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

constexpr std::size_t kMaxText = 300;

enum class Quantity { duration, rate, bytes };

struct MetricRow {
  Metric metric;
  Quantity quantity;
  std::string_view rate_unit;  // what a rate may be followed by: "tokens/s"
  std::string_view example;
};

constexpr std::array kMetrics = {
    MetricRow{Metric::wall_clock, Quantity::duration, "", "wall_clock(3000 steps) <= 5h"},
    MetricRow{Metric::tokens_per_s, Quantity::rate, "tokens/s", "tokens_per_s >= 1.4x"},
    MetricRow{Metric::samples_per_s, Quantity::rate, "samples/s", "samples_per_s >= 12"},
    MetricRow{Metric::steps_per_s, Quantity::rate, "steps/s", "steps_per_s >= 0.5"},
    MetricRow{Metric::step_time, Quantity::duration, "", "step_time <= 1.5s"},
    MetricRow{Metric::peak_memory, Quantity::bytes, "", "peak_memory <= 22GiB"},
    MetricRow{Metric::checkpoint_time, Quantity::duration, "", "checkpoint_time <= 20s"},
    MetricRow{Metric::evaluation_delay, Quantity::duration, "", "evaluation_delay <= 10min"},
};

/// What people write instead of a metric's name.
struct Synonym {
  std::string_view said;
  Metric meant;
};
constexpr std::array kSynonyms = {
    Synonym{"time", Metric::wall_clock},
    Synonym{"walltime", Metric::wall_clock},
    Synonym{"wall_time", Metric::wall_clock},
    Synonym{"runtime", Metric::wall_clock},
    Synonym{"throughput", Metric::tokens_per_s},
    Synonym{"tokens", Metric::tokens_per_s},
    Synonym{"tps", Metric::tokens_per_s},
    Synonym{"speed", Metric::tokens_per_s},
    Synonym{"speedup", Metric::tokens_per_s},
    Synonym{"samples", Metric::samples_per_s},
    Synonym{"steps", Metric::steps_per_s},
    Synonym{"memory", Metric::peak_memory},
    Synonym{"vram", Metric::peak_memory},
    Synonym{"gpu_memory", Metric::peak_memory},
    Synonym{"checkpoint", Metric::checkpoint_time},
    Synonym{"save_time", Metric::checkpoint_time},
    Synonym{"evaluation", Metric::evaluation_delay},
    Synonym{"eval_delay", Metric::evaluation_delay},
    Synonym{"eval_time", Metric::evaluation_delay},
};

struct WorkUnit {
  std::string_view said, meant;
};
constexpr std::array kWorkUnits = {WorkUnit{"steps", "steps"},     WorkUnit{"step", "steps"},
                                   WorkUnit{"samples", "samples"}, WorkUnit{"sample", "samples"},
                                   WorkUnit{"tokens", "tokens"},   WorkUnit{"token", "tokens"},
                                   WorkUnit{"examples", "samples"}};

bool is_word(char c) {
  return is_letter(c) || c == '_';
}
bool is_space(char c) {
  return c == ' ' || c == '\t';
}

/// Columns on a terminal that the first `bytes` bytes take: one a character.
std::size_t columns(std::string_view text, std::size_t bytes) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bytes),
                    [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// One pass over the text; each read_ function leaves the cursor where it could not go on.
class Reader {
 public:
  explicit Reader(std::string text) : text_(std::move(text)) {}

  Result<Threshold> read() {
    if (trim(text_).empty()) {
      return fail(0, "a metric", "for example: " + std::string(kMetrics[1].example));
    }
    Threshold threshold;
    threshold.text = std::string(trim(text_));
    RW_TRY(const MetricRow row, read_metric());
    threshold.metric = row.metric;
    RW_CHECK(read_work(row, threshold));
    RW_CHECK(read_relation(threshold));
    RW_CHECK(read_value(row, threshold));
    skip_spaces();
    if (at_ < text_.size()) {
      return fail(at_, "the end of the threshold", "one threshold holds one comparison");
    }
    return threshold;
  }

 private:
  void skip_spaces() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }
  [[nodiscard]] std::string_view rest() const { return std::string_view(text_).substr(at_); }

  [[nodiscard]] Error fail(std::size_t at, const std::string& expected, std::string hint) const {
    const std::string found =
        at >= text_.size() ? "the text ends here" : fmt::format("found '{}'", word_at(at));
    return Error{Errc::usage,
                 fmt::format("threshold: expected {}, {}\n  {}\n  {}^", expected, found, text_,
                             std::string(columns(text_, std::min(at, text_.size())), ' ')),
                 std::move(hint)};
  }

  /// The word, number or single character at `at`, for the message.
  [[nodiscard]] std::string word_at(std::size_t at) const {
    std::size_t end = at;
    while (end < text_.size() && (is_word(text_[end]) || is_digit(text_[end]))) ++end;
    if (end == at) {
      ++end;
      while (end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xC0) == 0x80) ++end;
    }
    return text_.substr(at, end - at);
  }

  std::string_view read_word() {
    const std::size_t start = at_;
    while (at_ < text_.size() && (is_word(text_[at_]) || (at_ > start && is_digit(text_[at_])))) {
      ++at_;
    }
    return std::string_view(text_).substr(start, at_ - start);
  }

  Result<MetricRow> read_metric() {
    skip_spaces();
    const std::size_t start = at_;
    const std::string name = lower(read_word());
    for (const auto& row : kMetrics) {
      if (name == to_string(row.metric)) return row;
    }
    std::vector<std::string> names;
    for (const auto& row : kMetrics) names.emplace_back(to_string(row.metric));
    std::string hint = "metrics: " + join(names, ", ");
    for (const auto& synonym : kSynonyms) {
      if (name == synonym.said) hint = fmt::format("did you mean {}?", to_string(synonym.meant));
    }
    if (const auto near = nearest_name(name, names)) hint = fmt::format("did you mean {}?", *near);
    return fail(start, "a metric", hint);
  }

  /// 3000, 3_000, 3,000, 1.5e6, 3k, 2M. Digits must follow or precede a point.
  Result<double> read_number(const char* what, const std::string& hint) {
    skip_spaces();
    const std::size_t start = at_;
    std::string digits;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      const bool groups = (c == '_' || c == ',') && at_ > start && at_ + 3 < text_.size() &&
                          is_digit(text_[at_ + 1]) && is_digit(text_[at_ + 2]) &&
                          is_digit(text_[at_ + 3]) &&
                          (at_ + 4 >= text_.size() || !is_digit(text_[at_ + 4]));
      if (is_digit(c) || c == '.') {
        digits += c;
      } else if ((c == 'e' || c == 'E') && exponent_follows()) {
        digits += c;
        digits += text_[++at_];
      } else if (!groups) {
        break;
      }
      ++at_;
    }
    const auto number = to_number(digits);
    if (!number || !std::isfinite(*number)) {
      return fail(start, digits.empty() ? what : "a number that can be read", hint);
    }
    if (*number <= 0) return fail(start, std::string(what) + " above 0", hint);
    return *number;
  }

  [[nodiscard]] bool exponent_follows() const {
    std::size_t next = at_ + 1;
    if (next < text_.size() && (text_[next] == '+' || text_[next] == '-')) ++next;
    return next < text_.size() && is_digit(text_[next]);
  }

  /// "k", "M" or "G" right behind a number, and not the start of a word.
  double read_multiplier() {
    if (at_ >= text_.size()) return 1;
    const bool word = at_ + 1 < text_.size() && is_word(text_[at_ + 1]);
    if (word) return 1;
    const char c = text_[at_];
    const double factor = c == 'k' || c == 'K' ? 1e3 : c == 'M' ? 1e6 : c == 'G' ? 1e9 : 1;
    if (factor != 1) ++at_;
    return factor;
  }

  Status read_work(const MetricRow& row, Threshold& threshold) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != '(') return Ok{};
    if (row.metric != Metric::wall_clock) {
      return fail(at_, "a relation (<=, <, >=, >)",
                  fmt::format("only wall_clock takes an amount of work; write: {}", row.example));
    }
    ++at_;
    const std::string hint = "write: wall_clock(3000 steps) <= 5h";
    RW_TRY(double work, read_number("an amount of work", hint));
    work *= read_multiplier();
    skip_spaces();
    const std::size_t start = at_;
    const std::string unit = lower(read_word());
    const auto found = std::find_if(kWorkUnits.begin(), kWorkUnits.end(),
                                    [&](const WorkUnit& known) { return known.said == unit; });
    if (found == kWorkUnits.end()) {
      const auto near = nearest_name(unit, {"steps", "samples", "tokens"});
      return fail(start, "steps, samples or tokens",
                  near && !unit.empty() ? fmt::format("did you mean {}?", *near) : hint);
    }
    threshold.work = work;
    threshold.work_unit = std::string(found->meant);
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != ')') return fail(at_, "')'", hint);
    ++at_;
    return Ok{};
  }

  Status read_relation(Threshold& threshold) {
    skip_spaces();
    struct Sign {
      std::string_view text;
      Relation relation;
    };
    constexpr std::array kSigns = {
        Sign{"<=", Relation::less_equal}, Sign{">=", Relation::greater_equal},
        Sign{"=<", Relation::less_equal}, Sign{"=>", Relation::greater_equal},
        Sign{"≤", Relation::less_equal},  Sign{"≥", Relation::greater_equal},
        Sign{"<", Relation::less},        Sign{">", Relation::greater}};
    for (const auto& sign : kSigns) {
      if (!rest().starts_with(sign.text)) continue;
      at_ += sign.text.size();
      threshold.relation = sign.relation;
      return Ok{};
    }
    return fail(
        at_, "a relation (<=, <, >=, >)",
        rest().starts_with("=") ? "a measurement is never exactly equal: use <= or >=" : "");
  }

  Status read_value(const MetricRow& row, Threshold& threshold) {
    const std::string hint = "write: " + std::string(row.example);
    const std::size_t start = at_;
    RW_TRY(double value, read_number("a number", hint));
    if (read_factor_sign()) {
      threshold.value = value;
      threshold.relative = true;
      return Ok{};
    }
    if (rest().starts_with('%')) {
      return fail(at_, "a unit, or x for a factor of the baseline",
                  "a change is written as a factor: 40 % more is 1.4x, 40 % less is 0.6x");
    }
    switch (row.quantity) {
      case Quantity::duration:
        at_ = start;
        return read_duration(threshold, hint);
      case Quantity::rate:
        threshold.value = value * read_multiplier();
        return read_rate_unit(row, hint);
      case Quantity::bytes:
        threshold.value = value;
        return read_bytes(threshold, hint);
    }
    return Ok{};
  }

  bool read_factor_sign() {
    const std::size_t start = at_;
    skip_spaces();
    for (const std::string_view sign : {"×", "x", "X"}) {
      const bool whole = at_ + sign.size() >= text_.size() || !is_word(text_[at_ + sign.size()]);
      if (rest().starts_with(sign) && whole) return at_ += sign.size(), true;
    }
    at_ = start;
    return false;
  }

  /// One or more of NUMBER UNIT: 5h, 1h30m, 250 ms.
  Status read_duration(Threshold& threshold, const std::string& hint) {
    double total_s = 0;
    do {
      RW_TRY(const double value, read_number("a number", hint));
      skip_spaces();
      const std::size_t start = at_;
      const std::string unit = lower(read_word());
      const auto seconds = unit.empty() ? Result<double>(Error{}) : parse_duration("1" + unit);
      if (!seconds) {
        const auto near =
            nearest_name(unit, {"s", "min", "h", "ms", "seconds", "minutes", "hours"});
        return fail(start, "a unit of time (s, min, h)",
                    near && unit.size() > 1 ? fmt::format("did you mean {}?", *near) : hint);
      }
      total_s += value * *seconds;
      skip_spaces();
    } while (at_ < text_.size() && is_digit(text_[at_]));
    threshold.value = total_s;
    return Ok{};
  }

  Status read_rate_unit(const MetricRow& row, const std::string& hint) {
    skip_spaces();
    const std::size_t start = at_;
    if (at_ >= text_.size()) return Ok{};
    std::string unit;
    while (at_ < text_.size() && (is_word(text_[at_]) || text_[at_] == '/')) unit += text_[at_++];
    unit = lower(unit);
    const std::string full(row.rate_unit);
    const std::string singular = full.substr(0, full.size() - 3) + "/s";  // "token/s"
    if (unit == full || unit == singular || unit == "/s") return Ok{};
    if (row.metric == Metric::tokens_per_s && (unit == "tok/s" || unit == "toks/s")) return Ok{};
    if (row.metric == Metric::steps_per_s && unit == "it/s") return Ok{};
    return fail(start, fmt::format("{}, x for a factor of the baseline, or the end", full), hint);
  }

  Status read_bytes(Threshold& threshold, const std::string& hint) {
    skip_spaces();
    const std::size_t start = at_;
    const std::string unit(read_word());
    const auto bytes = unit.empty() ? Result<double>(Error{}) : parse_bytes("1" + unit);
    if (!bytes) {
      const auto near = nearest_name(unit, {"GiB", "GB", "MiB", "MB"});
      return fail(start, "a unit of memory (GiB, MiB, GB, MB)",
                  near && unit.size() > 1 ? fmt::format("did you mean {}?", *near) : hint);
    }
    threshold.value *= *bytes;
    return Ok{};
  }

  std::string text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<Threshold> parse_threshold(std::string_view text) {
  if (text.size() > kMaxText) {
    return Error{Errc::usage, fmt::format("threshold: longer than {} characters", kMaxText),
                 "write one comparison, for example: wall_clock(3000 steps) <= 5h"};
  }
  // Bytes that no threshold holds are made visible rather than obeyed, so that the caret stays
  // true.
  std::string clean = clean_text(text, 4 * kMaxText);
  std::replace(clean.begin(), clean.end(), '\t', ' ');
  return Reader(std::move(clean)).read();
}

}  // namespace rigwise
