#include "logs/bar.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "logs/plan.h"
#include "logs/scan.h"

namespace rigwise::logs {
namespace {

// Beginnings of words, lower case.
constexpr std::array<std::string_view, 9> kEvaluationWords = {
    "eval", "valid", "predict", "test", "infer", "generat", "scor", "sanity", "val"};
constexpr std::array<std::string_view, 9> kStartupWords = {
    "load", "map", "token", "filter", "fetch", "download", "extract", "preprocess", "compil"};
constexpr std::array<std::string_view, 15> kOtherWords = {
    "writ",  "sav",  "upload", "shard",   "convert", "cast",  "truncat", "concat",
    "creat", "pack", "prepar", "process", "chunk",   "split", "scann"};
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
  const std::size_t column = front.rfind(" | ");
  if (column != std::string_view::npos) front = trim(front.substr(column + 3));
  bar.description = front.size() > 80 ? front.substr(front.size() - 80) : front;
}

/// "1.27s/it", "4.79it/s", "110MB/s", "?it/s" → rate; bytes: it counts other things than steps.
bool scan_rate(std::string_view part, Bar& bar, bool& bytes, PairReader& pairs) {
  part = strip(part);
  Value value;
  Meaning meaning;
  meaning.figure = Figure::speed;
  const bool none_yet = part.starts_with('?');  // an empty bar
  if (!none_yet && !scan_number(part, value.number, false)) return false;
  const std::string_view unit = part.substr(none_yet ? 1 : value.number.size);
  value.unit = scan_unit(unit);
  switch (value.unit.unit) {
    case Unit::steps_per_s:
    case Unit::s_per_step:
    case Unit::ms_per_step:
      if (!none_yet) pairs.trace().set(bar.figures, meaning, value, part.data(), nullptr);
      return true;
    case Unit::none:
      if (unit.empty()) return true;
      break;
    default:
      break;
  }
  bytes = bytes || unit.find('/') != std::string_view::npos;  // examples/s, MB/s, ba/s
  return true;
}

/// The figures of a set of pairs that a bar carries.
void take_pairs(std::string_view text, Bar& bar, PairReader& pairs) {
  pairs.read(text, bar.figures);
  bar.figures = *pairs.begin();
}

/// Everything between '[' and ']': times, rate, postfix.
void scan_inside(std::string_view inside, Bar& bar, bool& bytes, PairReader& pairs) {
  const std::size_t comma = inside.find(',');
  if (comma == std::string_view::npos) return;
  std::string_view rest = inside.substr(comma + 1);
  const std::size_t next = rest.find(',');
  const std::string_view first = rest.substr(0, next);
  if (first.find('=') == std::string_view::npos) {
    scan_rate(first, bar, bytes, pairs);
    if (next == std::string_view::npos) return;
    rest = rest.substr(next + 1);
  }
  // Without its ']' the edge of the terminal may have cut the last value.
  if (bar.open) {
    const std::size_t last = rest.rfind(',');
    rest = last == std::string_view::npos ? std::string_view{} : rest.substr(0, last);
  }
  if (rest.size() > 4096) rest = rest.substr(0, 4096);
  take_pairs(rest, bar, pairs);
}

BarUse use_of(const Bar& bar, bool bytes) {
  const std::string low = lower_ascii(bar.description);
  if (contains(low, "map50") || contains(low, "calculating loss")) return BarUse::evaluation;
  if (has_word(low, kStartupWords)) return BarUse::startup;
  if (bytes || has_word(low, kOtherWords) || has_text(low, kFileEndings)) return BarUse::other;
  if (has_word(low, kEvaluationWords)) return BarUse::evaluation;
  if (has_word(low, kTrainingWords)) return BarUse::training;
  return BarUse::unnamed;
}

/// What the description tells: "Epoch 3", "1|78|Loss: 1.54", "loss: 2.31".
void scan_description(Bar& bar, PairReader& pairs) {
  std::string_view text = bar.description;
  if (text.empty()) return;
  const std::size_t head = scan_counted_head(text, bar.figures);
  if (head > 0) pairs.trace().fail();
  text.remove_prefix(head);
  if ((shape_of(text) & kDigit) == 0) return;
  take_pairs(text, bar, pairs);
  if (head == 0 && bar.figures.has(Figure::epoch)) bar.epoch = bar.figures.value(Figure::epoch);
  if (bar.figures.has(Figure::batch)) bar.figures.drop(Figure::batch);
}

bool is_glyph(std::string_view text, std::size_t at) {
  // ━ ╸ ╺ ─ ╴ (U+2501, U+2578, U+257A, U+2500, U+2574), █ and its parts (U+2588..258F), ░▒▓
  if (at + 2 >= text.size() || text[at] != '\xe2') return false;
  const auto second = static_cast<unsigned char>(text[at + 1]);
  return second == 0x94 || second == 0x95 || second == 0x96;
}

/// "12/200" at `at`, blanks in front let pass; moves behind it.
bool scan_fraction(std::string_view text, std::size_t& at, Bar& bar) {
  std::size_t i = at;
  while (i < text.size() && text[i] == ' ') ++i;
  Number n, total;
  if (i >= text.size() || !is_digit(text[i]) || !scan_number(text.substr(i), n, false) || !n.whole)
    return false;
  i += n.size;
  if (i >= text.size() || text[i] != '/') return false;
  ++i;
  if (text.substr(i).starts_with("Unknown")) {
    i += 7;
  } else if (text.substr(i).starts_with("--")) {
    i += 2;
  } else {
    if (!scan_number(text.substr(i), total, false) || !total.whole) return false;
    i += total.size;
    bar.total = whole_number(total.value);
  }
  const auto count = whole_number(n.value);
  if (!count) return false;
  bar.n = *count;
  at = i;
  return true;
}

/// Keras 2: "[====>....]"; moves behind it.
bool skip_ascii_bar(std::string_view text, std::size_t& at) {
  if (at >= text.size() || text[at] != '[') return false;
  std::size_t i = at + 1;
  while (i < text.size() && (text[i] == '=' || text[i] == '>' || text[i] == '.' || text[i] == ' '))
    ++i;
  if (i < at + 6 || i >= text.size() || text[i] != ']') return false;
  at = i + 1;
  return true;
}

/// What Keras and Paddle draw or write behind "5/5": glyphs, "[===>...]", or with verbose=2 " - 3s
/// - ".
bool skip_keras_bar(std::string_view text, std::size_t& at) {
  while (at < text.size() && text[at] == ' ') ++at;
  if (is_glyph(text, at)) {
    while (is_glyph(text, at)) at += 3;
    return true;
  }
  if (skip_ascii_bar(text, at)) return true;
  const std::string_view rest = text.substr(at);
  return rest.starts_with("- ") &&
         (contains(rest.substr(0, 24), "s - ") || contains(rest, "s/step"));
}

/// Ignite's bars: "Epoch [1/2]: [1/8]  12%|#▎   , loss=4.74 [00:00<00:01]": the counter comes
/// first.
bool scan_counter_first(std::string_view text, std::size_t at, std::size_t from, Bar& bar,
                        PairReader& pairs) {
  std::size_t i = at + 1;
  if (i >= text.size() || !is_digit(text[i]) || !scan_fraction(text, i, bar)) return false;
  if (!text.substr(i).starts_with(']')) return false;
  ++i;
  while (i < text.size() && text[i] == ' ') ++i;
  Number percent;
  if (i >= text.size() || !scan_number(text.substr(i), percent, false)) return false;
  i += percent.size;
  if (!text.substr(i).starts_with("%|")) return false;
  const std::size_t open = text.find('[', i);
  if (open == std::string_view::npos) return false;
  std::size_t inside = open + 1;
  if (!scan_duration(text, inside, bar.elapsed_s)) return false;
  const std::size_t close = text.find(']', open);
  bar.begin = at;
  bar.end = close == std::string_view::npos ? text.size() : close + 1;
  std::string_view front = strip(text.substr(from, at - from));
  if (front.ends_with(':')) front.remove_suffix(1);
  bar.description = front;
  bool bytes = false;
  bar.use = use_of(bar, false);
  scan_description(bar, pairs);
  const std::string_view postfix = text.substr(i + 2, open - i - 2);
  if ((shape_of(postfix) & kSign) != 0) take_pairs(postfix, bar, pairs);
  scan_inside(text.substr(open + 1, bar.end - open - 1), bar, bytes, pairs);
  return true;
}

/// What transformers draws in a notebook: "[ 500/5000 10:00 < 1:30:00, 0.83 it/s, Epoch 1.2/12]".
bool scan_notebook(std::string_view text, std::size_t at, Bar& bar, PairReader& pairs) {
  std::size_t i = at + 1;
  if (!scan_fraction(text, i, bar) || i >= text.size() || text[i] != ' ') return false;
  while (i < text.size() && text[i] == ' ') ++i;
  const std::size_t close = text.find(']', i);
  const std::size_t comma = text.find(", ", i);
  if (close == std::string_view::npos || comma == std::string_view::npos || comma > close)
    return false;
  if (!scan_duration(text, i, bar.elapsed_s) ||
      !contains(text.substr(comma, close - comma), "Epoch "))
    return false;
  pairs.trace().fail();
  bar.begin = at;
  bar.end = close + 1;
  bar.use = BarUse::training;
  take_pairs(text.substr(comma + 2, close - comma - 2), bar, pairs);
  bar.figures.drop(Figure::step);
  return true;
}

}  // namespace

std::size_t scan_counted_head(std::string_view text, Entry& entry) {
  Number epoch, step;
  if (!scan_number(text, epoch, false) || !epoch.whole) return 0;
  std::size_t at = epoch.size;
  if (at >= text.size() || text[at] != '|') return 0;
  ++at;
  if (!scan_number(text.substr(at), step, false) || !step.whole) return 0;
  at += step.size;
  if (at + 1 >= text.size() || text[at] != '|' || !is_letter(text[at + 1])) return 0;
  entry.set(Figure::epoch, epoch.value);
  entry.set(Figure::step, step.value);
  return at + 1;
}

bool is_bar_head(std::string_view text) {
  text = strip(text);
  std::size_t glyphs = 0;
  while (!text.empty() && (text.back() == '#' || text.back() == '|' || text.back() == ' ')) {
    if (text.back() == '#') ++glyphs;
    text.remove_suffix(1);
  }
  while (text.size() >= 3 && is_glyph(text, text.size() - 3)) {
    ++glyphs;
    text.remove_suffix(3);
    while (!text.empty() && (text.back() == '|' || text.back() == ' ')) text.remove_suffix(1);
  }
  return glyphs >= 5 && text.ends_with('%');
}

bool is_rich_bar(std::string_view text) {
  const std::size_t glyphs = text.find("\xe2\x94\x81");
  return glyphs != std::string_view::npos &&
         text.find("\xe2\x80\xa2", glyphs) != std::string_view::npos;
}

std::optional<Bar> find_bar(std::string_view text, std::size_t from, PairReader& pairs) {
  for (std::size_t at = text.find('[', from); at != std::string_view::npos;
       at = text.find('[', at + 1)) {
    Bar bar;
    std::size_t inside = at + 1;
    if (scan_counter_first(text, at, from, bar, pairs)) return bar;
    if (scan_notebook(text, at, bar, pairs)) return bar;
    bar = Bar{};
    if (!scan_duration(text, inside, bar.elapsed_s)) continue;
    if (inside >= text.size() || (text[inside] != '<' && text[inside] != ',')) continue;
    bool bytes = false;
    if (!scan_counter(text, at, bar, bytes) || bar.begin < from) continue;
    if (!bytes) {
      bar.counter_at = bar.begin;
      bar.elapsed_at = at + 1;
    }
    std::size_t close = text.find(']', inside);
    const std::size_t brace = text.find('{', inside);
    if (brace != std::string_view::npos && (close == std::string_view::npos || brace < close))
      close = brace;
    bar.open = close == std::string_view::npos;
    close = std::min(close, text.size());
    bar.end = close < text.size() && text[close] == ']' ? close + 1 : close;
    scan_front(text, from, bar);
    bar.use = use_of(bar, false);
    if (bar.use != BarUse::startup && bar.use != BarUse::other) scan_description(bar, pairs);
    scan_inside(text.substr(at + 1, close - at - 1), bar, bytes, pairs);
    if (bytes && bar.use != BarUse::startup && !bar.figures.has(Figure::loss))
      bar.use = BarUse::other;
    return bar;
  }
  return std::nullopt;
}

std::optional<Bar> find_glyph_bar(std::string_view text, PairReader& pairs) {
  Bar bar;
  bar.glyphs = true;
  std::size_t at = 0;
  if (text.starts_with("step ")) at = 5;  // Paddle
  if (scan_fraction(text, at, bar) && skip_keras_bar(text, at)) {
    ;
  } else {  // rich
    bar = Bar{};
    bar.glyphs = true;
    std::size_t first = text.find("\xe2\x94\x81");
    const std::size_t half = text.find("\xe2\x95\xba");
    first = std::min(first, half);
    if (first == std::string_view::npos || first > 200) return std::nullopt;
    at = first;
    std::size_t run = 0;
    for (; is_glyph(text, at); at += 3) ++run;
    if (run < 3) return std::nullopt;
    std::size_t counter = at;
    while (counter < text.size() && text[counter] == ' ') ++counter;
    Number percent;
    if (scan_number(text.substr(counter), percent, false) &&
        text.substr(counter + percent.size).starts_with('%'))
      counter += percent.size + 1;
    if (!scan_fraction(text, counter, bar)) return std::nullopt;
    at = counter;
    bar.description = strip(text.substr(0, first));
    if (bar.description.ends_with('%')) {  // Ultralytics: "64: 100% ━━━ 2/2"
      const std::size_t colon = bar.description.rfind(':');
      if (colon != std::string_view::npos) bar.description = bar.description.substr(0, colon);
    }
    scan_description(bar, pairs);
    bar.figures.set(Figure::step, static_cast<double>(bar.n), 4);
  }
  std::string_view rest = text.substr(at);
  // The epoch's own seconds, or the time left: "47s", "ETA: 0s", "1:23".
  bar.figures.pairs = 0;
  take_pairs(rest, bar, pairs);
  bar.use = use_of(bar, false);
  bar.end = text.size();
  return bar;
}

}  // namespace rigwise::logs
