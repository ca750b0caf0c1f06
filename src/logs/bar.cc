#include "logs/bar.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace rigwise::logs {
namespace {

// Beginnings of words, lower case.
constexpr std::array<std::string_view, 7> kEvaluationWords = {"eval",  "valid",   "predict", "test",
                                                              "infer", "generat", "scor"};
constexpr std::array<std::string_view, 9> kStartupWords = {
    "load", "map", "token", "filter", "fetch", "download", "extract", "preprocess", "compil"};
constexpr std::array<std::string_view, 14> kOtherWords = {
    "writ",   "sav",   "upload", "shard",  "convert", "cast",  "truncat",
    "concat", "creat", "pack",   "prepar", "process", "chunk", "split"};
constexpr std::array<std::string_view, 4> kFileEndings = {".json", ".safetensors", ".bin", ".txt"};
constexpr std::array<std::string_view, 4> kTrainingWords = {"train", "step", "epoch", "iter"};

template <std::size_t N>
bool has_word(std::string_view text, const std::array<std::string_view, N>& words) {
  for (const auto word : words)
    for (std::size_t at = text.find(word); at != std::string_view::npos;
         at = text.find(word, at + 1))
      if (at == 0 || !is_letter(text[at - 1])) return true;
  return false;
}

template <std::size_t N>
bool has_text(std::string_view text, const std::array<std::string_view, N>& parts) {
  for (const auto part : parts)
    if (contains(text, part)) return true;
  return false;
}

/// "00:10", "1:02:03", "?" at `at`; moves behind it.
bool scan_duration(std::string_view text, std::size_t& at, std::optional<double>& seconds) {
  const std::size_t from = at;
  bool colon = false;
  for (; at < text.size() && (is_digit(text[at]) || text[at] == ':' || text[at] == '?'); ++at)
    colon = colon || text[at] == ':';
  if (at == from || at - from > 16) return false;
  if (text.substr(from, at - from) == "?") return true;
  if (!colon) return false;
  seconds = scan_clock(text.substr(from, at - from));
  return seconds.has_value();
}

/// "12/200" or "12it" that ends right before `end`. Byte counters ("1.2M/4.5G") give no count.
bool scan_counter(std::string_view text, std::size_t end, Bar& bar, bool& bytes) {
  std::size_t stop = end;
  while (stop > 0 && text[stop - 1] == ' ') --stop;
  std::size_t start = stop;
  while (start > 0 && stop - start < 32 &&
         (is_digit(text[start - 1]) || is_letter(text[start - 1]) || text[start - 1] == '/' ||
          text[start - 1] == '.' || text[start - 1] == '?'))
    --start;
  const std::string_view token = text.substr(start, stop - start);
  bar.begin = start;
  const std::size_t slash = token.find('/');
  if (slash != std::string_view::npos) {
    const auto n = to_integer(token.substr(0, slash));
    const auto total = to_integer(token.substr(slash + 1));
    bytes = !n || !total;
    if (n && *n >= 0 && (!total || *total >= 0)) {
      bar.n = *n;
      bar.total = total;
      return true;
    }
    return !token.empty() && is_digit(token.front());
  }
  std::size_t digits = 0;
  while (digits < token.size() && is_digit(token[digits])) ++digits;
  const auto n = to_integer(token.substr(0, digits));
  if (!n || digits == token.size()) return false;
  bytes = token.substr(digits) != "it" && token.substr(digits) != "steps";
  bar.n = *n;
  return true;
}

/// Takes the percentage and the glyphs in front of the counter, and what is written before them.
void scan_front(std::string_view text, std::size_t from, Bar& bar) {
  std::size_t at = bar.begin;
  while (at > from && text[at - 1] == ' ') --at;
  if (at > from && text[at - 1] == '|') {
    const std::size_t open = at >= 2 ? text.rfind("%|", at - 2) : std::string_view::npos;
    if (open != std::string_view::npos && open >= from) at = open + 1;
  }
  if (at > from && text[at - 1] == '%') {
    --at;
    while (at > from && is_digit(text[at - 1])) --at;
    // A log collector may have written the carriage return as the text "#015".
    if (at > from && text[at - 1] == '#') --at;
  }
  bar.begin = at;
  std::string_view front = trim(text.substr(from, at - from));
  if (front.ends_with(':')) front.remove_suffix(1);
  // The description is the last run of words; whatever stood further left is another text.
  const std::size_t brace = front.find_last_of("}>");
  if (brace != std::string_view::npos) front = trim(front.substr(brace + 1));
  bar.description = front.size() > 80 ? front.substr(front.size() - 80) : front;
}

void scan_rate(std::string_view part, Bar& bar, bool& bytes) {
  part = trim(part);
  const auto quantity = scan_quantity(part);
  if (!quantity) {
    bytes = bytes || part.ends_with("B/s");
    return;
  }
  const std::string_view unit = quantity->unit;
  const std::string low = lower_ascii(unit);
  if (low.starts_with("s/")) {
    if (quantity->value > 0) bar.step_time_s = quantity->value;
  } else if (low == "it/s" || low == "step/s" || low == "steps/s" || low == "batch/s" ||
             low == "batches/s" || low == "iter/s") {
    if (quantity->value > 0) bar.steps_per_s = quantity->value;
  } else if (!low.empty()) {
    bytes = true;  // examples/s, MB/s, ba/s: counts other things than steps
  }
}

/// Everything between '[' and ']': times, rate, postfix.
void scan_inside(std::string_view inside, Bar& bar, bool& bytes) {
  const std::size_t comma = inside.find(',');
  if (comma == std::string_view::npos) return;
  std::string_view rest = inside.substr(comma + 1);
  bool first = true;
  while (!rest.empty() && bar.postfix.size() < 64) {
    const std::size_t next = rest.find(',');
    const std::string_view part = rest.substr(0, next);
    const std::size_t equals = part.find('=');
    if (first) {
      scan_rate(part, bar, bytes);
    } else if (equals != std::string_view::npos) {
      Field field;
      field.key = trim(part.substr(0, equals));
      field.value = trim(part.substr(equals + 1));
      bar.postfix.push_back(field);
    }
    first = false;
    if (next == std::string_view::npos) break;
    rest = rest.substr(next + 1);
  }
}

BarUse use_of(const Bar& bar, bool bytes) {
  const std::string low = lower_ascii(bar.description);
  if (has_word(low, kStartupWords)) return BarUse::startup;
  if (bytes || has_word(low, kOtherWords) || has_text(low, kFileEndings)) return BarUse::other;
  if (has_word(low, kEvaluationWords)) return BarUse::evaluation;
  if (has_word(low, kTrainingWords)) return BarUse::training;
  return BarUse::unnamed;
}

/// "Epoch 3", "Epoch 0:" → 3, 0.
std::optional<double> epoch_of(std::string_view description) {
  const std::string low = lower_ascii(description);
  const std::size_t at = low.rfind("epoch ");
  if (at == std::string::npos) return std::nullopt;
  const auto quantity = scan_quantity(trim(description.substr(at + 6)));
  return quantity ? std::optional(quantity->value) : std::nullopt;
}

}  // namespace

std::optional<Bar> find_bar(std::string_view text, std::size_t from) {
  for (std::size_t at = text.find('[', from); at != std::string_view::npos;
       at = text.find('[', at + 1)) {
    Bar bar;
    std::size_t inside = at + 1;
    if (!scan_duration(text, inside, bar.elapsed_s)) continue;
    if (inside >= text.size() || (text[inside] != '<' && text[inside] != ',')) continue;
    bool bytes = false;
    if (!scan_counter(text, at, bar, bytes) || bar.begin < from) continue;
    std::size_t close = text.find(']', inside);
    const std::size_t brace = text.find('{', inside);
    if (close == std::string_view::npos || (brace != std::string_view::npos && brace < close))
      close = std::min(brace, text.size());
    scan_inside(text.substr(at + 1, close - at - 1), bar, bytes);
    bar.end = close < text.size() && text[close] == ']' ? close + 1 : close;
    scan_front(text, from, bar);
    bar.use = use_of(bar, bytes);
    bar.epoch = epoch_of(bar.description);
    return bar;
  }
  return std::nullopt;
}

}  // namespace rigwise::logs
