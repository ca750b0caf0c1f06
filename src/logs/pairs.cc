#include "logs/pairs.h"

#include <algorithm>

#include "logs/plan.h"

namespace rigwise::logs {
namespace {

constexpr std::size_t kMaxEntries = 64;
constexpr std::size_t kMaxKey = 72;
constexpr std::size_t kMaxBareKey = 28;
constexpr int kMaxPairs = 512;

bool is_evaluation_word(std::string_view word) {
  static constexpr std::string_view kKnown[] = {
      "eval",  "evaluation", "evaluating", "validation", "validate", "validating",
      "valid", "val",        "test",       "testing",    "dev"};
  if (word.size() < 3) return false;
  const char first = static_cast<char>(word[0] | 0x20);
  if (first != 'e' && first != 'v' && first != 't' && first != 'd') return false;
  for (const std::string_view known : kKnown)
    if (equals_word(word, known)) return true;
  return false;
}

/// The last word of `text`, what stands around it taken off.
std::string_view last_word(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0 && !is_word(text[end - 1])) --end;
  std::size_t from = end;
  while (from > 0 && is_letter(text[from - 1])) --from;
  return text.substr(from, end - from);
}

std::string_view first_word(std::string_view text) {
  std::size_t from = 0;
  while (from < text.size() && !is_letter(text[from])) ++from;
  std::size_t end = from;
  while (end < text.size() && is_letter(text[end])) ++end;
  return text.substr(from, end - from);
}

struct KeyText {
  std::string_view key = {};
  std::string_view before = {};  // what was cut off in front of it
  bool strong = false;           // ':' or '=' stands behind it
  bool bracket = false;          // '[' does
};

/// The key in what stands in front of a number.
KeyText key_of(std::string_view region) {
  KeyText out;
  std::size_t end = region.size();
  while (end > 0) {
    const char byte = region[end - 1];
    if (byte == ':' || byte == '=')
      out.strong = true;
    else if (byte == '[')
      out.bracket = true;
    else if (!is_blank(byte) && byte != '"' && byte != '\'' && byte != '(' && byte != '`' &&
             byte != '~' && byte != '<' && byte != '#' && byte != '$')
      break;
    --end;
  }
  region = region.substr(0, end);
  if (region.size() >= 7 && region.ends_with("tensor")) {  // loss=tensor(2.3
    std::string_view rest = region.substr(0, region.size() - 6);
    if (!rest.empty() && (rest.back() == ':' || rest.back() == '=' || rest.back() == ' '))
      return key_of(rest);
  }
  const std::size_t low = region.size() > kMaxKey ? region.size() - kMaxKey : 0;
  std::size_t from = region.size();
  bool cut = false;
  while (from > low) {
    const char byte = region[from - 1];
    if (byte == ':' || byte == '=' || byte == '"' || byte == '\'' || byte == '`' || byte == ']' ||
        byte == '>' || byte == '{' || byte == '}' || byte == '[' || byte == '\\' || byte == '*' ||
        (class_of(byte) & kHigh) != 0) {
      cut = true;
      break;
    }
    if (byte == ' ' && from < region.size()) {
      const char next = region[from];
      if (next == ' ' || (next == '-' && from + 1 < region.size() && region[from + 1] == ' ')) {
        cut = true;
        break;
      }
      if (from >= 2 && region[from - 2] == ')') {
        cut = true;
        break;
      }
    }
    --from;
  }
  if (from == low && low > 0 && !cut) return out;  // prose
  std::string_view key = region.substr(from);
  while (!key.empty() && !is_word(key.front())) key.remove_prefix(1);
  static constexpr std::string_view kLevels[] = {"INFO ", "DEBUG ", "WARNING "};
  for (const std::string_view level : kLevels)
    if (key.starts_with(level)) key = strip(key.substr(level.size()));
  out.key = key;
  out.before = region.substr(0, region.size() - key.size());
  return out;
}

bool is_counter(Figure figure) {
  return figure == Figure::step || figure == Figure::epoch || figure == Figure::batch ||
         figure == Figure::rank;
}

}  // namespace

bool PairReader::set(const Meaning& meaning, const Token& token) {
  return trace_.set(entry(), meaning, token.value, text_.data() + token.begin, token.total);
}

bool PairReader::set(Figure figure, int order, const Token& token) {
  Meaning meaning;
  meaning.figure = figure;
  meaning.order = static_cast<std::uint8_t>(order);
  return set(meaning, token);
}

void PairReader::new_entry() {
  if (count_ > 0) trace_.fail();
  if (count_ == entries_.size()) entries_.emplace_back();
  entries_[count_].clear();
  entries_[count_].decimal_commas = decimal_commas;
  ++count_;
  first_key_ = {};
  last_ = Figure::none;
}

void PairReader::read(std::string_view text, const Entry& base) {
  text_ = text;
  count_ = 0;
  new_entry();
  if (!base.empty()) {
    entry() = base;
    entry().decimal_commas = decimal_commas;
  }
  segment_ = at_ = 0;
  context_ = {};
  mean_end_ = 0;
  int numbers = 0;
  const std::size_t size = text.size();
  while (at_ < size) {
    const char byte = text[at_];
    const std::uint8_t bits = class_of(byte);
    if ((bits & kLetter) != 0) {
      if ((byte | 0x20) == 'n' || (byte | 0x20) == 'i') {
        if (number_starts(at_)) {
          take_number(at_);
          if (++numbers > kMaxPairs) return;
          continue;
        }
      }
      ++at_;
      while (at_ < size && is_word(text[at_])) ++at_;
      continue;
    }
    if ((bits & kDigit) != 0 || byte == '-' || byte == '.' || byte == '+') {
      if (number_starts(at_)) {
        take_number(at_);
        if (++numbers > kMaxPairs) return;
        continue;
      }
      if (byte == '-' && at_ > 0 && text[at_ - 1] == ' ' && at_ + 1 < size && text[at_ + 1] == ' ')
        close_segment(at_);
      ++at_;
      while ((bits & kDigit) != 0 && at_ < size && is_word(text[at_])) ++at_;
      continue;
    }
    if (byte == '|' || byte == ',' || byte == ';' || byte == '\t') close_segment(at_);
    ++at_;
  }
}

/// A segment that held no number: a word in it may say what the line is about.
void PairReader::close_segment(std::size_t at) {
  const std::string_view segment = strip(text_.substr(segment_, std::max(at, segment_) - segment_));
  segment_ = at + 1;
  if (segment.empty() || segment.size() > 60) return;
  std::size_t from = segment.size();
  while (from > 0 && segment[from - 1] != ':' && segment[from - 1] != '=') --from;
  const std::string_view said = strip(segment.substr(from));
  if (said.empty()) return;  // "val: n/a"
  // "evaluator INFO: Validation Results"
  if (is_word(said[0]) && is_evaluation_word(first_word(said))) entry().evaluation = true;
  if (text_[at] != '|' || segment.size() > 24) return;
  const std::string_view last = segment.substr(segment.rfind(']') + 1);
  context_ =
      contains(segment, "mem") ? strip(last.substr(last.rfind(") m") + 1)) : std::string_view{};
}

/// Whether a number that is a value begins here; not the 3 of "top3", "2.5-7B" or "checkpoint-156".
bool PairReader::number_starts(std::size_t at) const {
  const char byte = text_[at];
  const char before = at > 0 ? text_[at - 1] : ' ';
  if (is_letter(byte)) {
    if (is_word(before) || at == segment_) return false;
    Number ignored;
    return scan_number(text_.substr(at, 9), ignored) && before != '+';
  }
  std::size_t digit = at;
  if (!is_digit(byte)) {
    const bool sign = byte == '-' || byte == '+';
    if (sign) ++digit;
    if (digit < text_.size() && text_[digit] == '.') ++digit;
    if (digit >= text_.size()) return false;
    if (!is_digit(text_[digit])) {
      Number ignored;
      return sign &&
             (before == ' ' || before == ':' || before == '=' || before == '\'' || before == '"') &&
             scan_number(text_.substr(at, 10), ignored, false);
    }
    return !is_word(before) && before != ')' && before != '.' && before != '/';
  }
  if (is_word(before) || before == '-' || before == '.' || before == '@' || before == '/' ||
      before == '+')
    return at == segment_;                                   // right behind a value: glued
  if (before == '(' && at >= 2 && is_word(text_[at - 2])) {  // "lr(1e-4): 0.1": part of the key
    const std::size_t close = text_.substr(at, 12).find(')');
    if (close != std::string_view::npos && at + close + 1 < text_.size() &&
        (text_[at + close + 1] == ':' || text_[at + close + 1] == '='))
      return false;
  }
  return true;
}

/// Dates, clocks and versions, whose digits are no values. False: it is a plain number.
bool PairReader::scan_compound(Token& token) {
  const std::string_view rest = text_.substr(token.end);
  if (rest.size() < 2 || !token.value.number.whole) {
    if (rest.size() >= 2 && rest[0] == '.' && is_digit(rest[1])) {  // a version
      while (token.end < text_.size() && (is_digit(text_[token.end]) || text_[token.end] == '.'))
        ++token.end;
      token.has_value = false;
      return true;
    }
    return false;
  }
  if (rest[0] == ':' && is_digit(rest[1])) {
    std::size_t end = token.end;
    while (end < text_.size() &&
           (is_digit(text_[end]) || ((text_[end] == ':' || text_[end] == '.') &&
                                     end + 1 < text_.size() && is_digit(text_[end + 1]))))
      ++end;
    token.value.seconds = scan_clock(text_.substr(token.begin, end - token.begin));
    token.has_value = token.value.seconds.has_value();
    token.end = end;
    // ",186": the milliseconds of a time stamp
    if (end + 3 < text_.size() && text_[end] == ',' && is_digit(text_[end + 1])) {
      ++token.end;
      while (token.end < text_.size() && is_digit(text_[token.end])) ++token.end;
    }
    return true;
  }
  if (rest[0] == '-' && is_digit(rest[1])) {
    while (token.end < text_.size() &&
           (is_digit(text_[token.end]) || text_[token.end] == '-' || text_[token.end] == ':' ||
            text_[token.end] == '.' || text_[token.end] == 'T' || text_[token.end] == 'Z'))
      ++token.end;
    token.has_value = false;
    return true;
  }
  return false;
}

/// Unit, "/total", and the mean in parentheses behind a number.
void PairReader::scan_behind(Token& token) {
  std::string_view rest = text_.substr(token.end);
  if (token.value.number.whole) {
    std::size_t slash = 0;
    while (slash < rest.size() && slash < 4 && rest[slash] == ' ') ++slash;
    if (slash < rest.size() && rest[slash] == '/') {
      std::size_t digit = slash + 1;
      while (digit < rest.size() && digit < slash + 10 && rest[digit] == ' ') ++digit;
      Number total;
      if (digit < rest.size() && is_digit(rest[digit]) &&
          scan_number(rest.substr(digit), total, true)) {
        token.value.total = total.value;
        token.total = rest.data() + digit;
        if (total.grouped) trace_.fail();
        token.end += digit + total.size;
        if (token.end < text_.size() && text_[token.end] == '/') token.has_value = false;  // a date
        rest = text_.substr(token.end);
      }
    }
  }
  if (!token.value.total) {
    token.value.unit = scan_unit(rest);
    token.end += token.value.unit.size;
    rest = text_.substr(token.end);
  }
  std::size_t open = 0;
  while (open < rest.size() && open < 2 && rest[open] == ' ') ++open;
  if (open < rest.size() && rest[open] == '(') {
    std::size_t inside = open + 1;
    while (inside < rest.size() && rest[inside] == ' ') ++inside;
    Number ignored;
    const bool number = scan_number(rest.substr(inside, 32), ignored, false) ||
                        rest.substr(inside).starts_with("+nan");
    const std::size_t close = rest.substr(0, open + 64).find(')', open);
    if (number && close != std::string_view::npos) {
      token.value.has_mean =
          rest.substr(inside, close - inside).find('%') == std::string_view::npos;
      mean_end_ = token.end + close + 1;
    }
  }
}

void PairReader::take_number(std::size_t at) {
  Token token;
  token.begin = at;
  if (!scan_number(text_.substr(at), token.value.number)) {
    at_ = at + 1;
    return;
  }
  token.end = at + token.value.number.size;
  if (!scan_compound(token)) scan_behind(token);
  take_value(token);
  // "9.7031 (9.7031)": what stands in the parentheses is the mean, unless it has its own key or
  // unit
  at_ = std::max(token.end, at + 1);
  segment_ = at_;
}

void PairReader::take_value(Token& token) {
  if (!token.has_value) return;
  Value value = token.value;
  value.in_mean =
      token.begin < mean_end_ && token.end <= mean_end_ && token.begin > 0 && mean_end_ > token.end;
  const KeyText found = key_of(text_.substr(segment_, token.begin - segment_));
  ++entry().pairs;
  if (found.key.empty()) {
    if (value.total && found.bracket)
      bracket_counter(token);
    else if (found.bracket && value.number.whole && !value.total && token.end + 2 < text_.size() &&
             text_[token.end] == ']' && text_[token.end + 1] == ' ' &&
             is_letter(text_[token.end + 2]))
      set(Figure::step, 70, token);  // CLU: "[10] train_loss=0.29"
    else if (value.total && found.strong && last_ == Figure::epoch)
      set(Figure::batch, 1, token);
    else
      unit_only(token);
    return;
  }
  // Long words without a sign behind them are prose; only a counter may end it.
  const bool prose = !found.strong && found.key.size() > kMaxBareKey;
  Meaning meaning = prose ? Meaning{} : meanings_.of(found.key);
  if (meaning.figure == Figure::none && !context_.empty() && found.key.size() < 24) {
    std::string joined(context_);
    joined += ' ';
    joined += found.key;
    meaning = meanings_.of(joined);
  }
  const std::size_t blank = found.key.rfind(' ');
  const bool weak = meaning.figure == Figure::component || meaning.figure == Figure::quality;
  if (weak && !found.strong && blank != std::string_view::npos &&
      is_counter(meanings_.of(found.key.substr(blank + 1)).figure))
    meaning.figure = Figure::none;  // "validation loss at iteration 1000"
  if (meaning.figure == Figure::none) {
    // "loss train: 0.841, val: 1.039"; "Test: [   0/30]"; "Train: 0 [  50/10009"
    if (is_evaluation_word(found.key)) {
      if (last_ == Figure::loss && found.strong && !value.total) {
        meaning.figure = Figure::eval_loss;
        meaning.order = 12;
      } else {
        if (found.bracket || value.total) entry().evaluation = true;
        return;
      }
    } else if (equals_word(found.key, "train") && value.total && value.number.whole) {
      // Swin: "Train: [0/300][10/1251]"; others "train: 10/100"
      meaning.figure = found.bracket ? Figure::epoch : Figure::step;
      meaning.order = 60;
    } else if (equals_word(found.key, "train") && value.number.whole && !value.total &&
               strip(text_.substr(token.end, 4)).starts_with('[')) {
      meaning.figure = Figure::epoch;
      meaning.order = 6;
    } else {
      // "(after 100 iterations)"
      if (equals_word(last_word(found.key), "after") && value.number.whole) {
        const std::string_view noun = first_word(text_.substr(token.end, 16));
        if (equals_word(noun, "iterations") || equals_word(noun, "steps"))
          set(Figure::step, 60, token);
      }
      // Words in front of a counter: "Finished step 20".
      if (blank != std::string_view::npos) {
        if (is_evaluation_word(first_word(found.key)) ||
            is_evaluation_word(last_word(found.key.substr(0, blank))))
          entry().evaluation = true;
        meaning = meanings_.of(found.key.substr(blank + 1));
        if (!is_counter(meaning.figure)) meaning.figure = Figure::none;
        meaning.order = static_cast<std::uint8_t>(meaning.order + 20);
      }
      if (meaning.figure == Figure::none) {
        unit_only(token);
        last_ = Figure::none;
        return;
      }
    }
  }
  // The end of the run, glued to the last record.
  if (meaning.figure == Figure::runtime_s && equals_word(found.key, "training time") &&
      entry().has(Figure::loss) && count_ < kMaxEntries) {
    new_entry();
    entry().summary = true;
  }
  // A record that was glued to the one before begins with the same key.
  if (!first_key_.empty() && found.key == first_key_ && entry().has(meaning.figure) &&
      entry().figures() >= 2 && count_ < kMaxEntries)
    new_entry();
  if (entry().figures() == 0 && !found.before.empty()) {
    // "[eval] step 10", "Validation Results - Epoch: 1"
    std::string_view front = found.before;
    while (!front.empty() && !is_word(front.back())) front.remove_suffix(1);
    front = front.substr(front.find_last_of(":]>|") + 1);
    if (is_evaluation_word(last_word(found.before)) ||
        (front.size() < 32 && is_evaluation_word(first_word(front))))
      entry().evaluation = true;
  }
  if (token.value.unit.size > 0 && begins_next_pair(meaning.figure, token)) {
    token.end -= token.value.unit.size;
    token.value.unit = {};
  }
  if (set(meaning, token)) {
    const bool real = meaning.figure == Figure::loss || meaning.figure == Figure::eval_loss ||
                      meaning.figure == Figure::lr || meaning.figure == Figure::grad_norm;
    if (real && value.number.sure_comma && !decimal_commas) {
      decimal_commas = true;
      entry().decimal_commas = true;
    }
    if (first_key_.empty()) first_key_ = found.key;
    last_ = meaning.figure;
  } else {
    last_ = Figure::none;
  }
}

/// "loss 1.23 tokens/s 9000": the rate behind a figure that has none names the next number.
bool PairReader::begins_next_pair(Figure figure, const Token& token) const {
  const Unit unit = token.value.unit.unit;
  if (unit < Unit::steps_per_s || unit > Unit::per_s_per_device) return false;
  if (figure != Figure::loss && figure != Figure::eval_loss && figure != Figure::lr &&
      figure != Figure::grad_norm && figure != Figure::step && figure != Figure::epoch)
    return false;
  const std::string_view rest = text_.substr(token.end);
  return rest.size() > 1 && (rest[0] == ' ' || rest[0] == '=' || rest[0] == ':') &&
         (is_digit(rest[1]) || rest[1] == ' ');
}

/// "[  10/2500]" behind "Epoch: [0]": counts inside the epoch. "[ 640/60000 (1%)]" may count
/// samples.
void PairReader::bracket_counter(const Token& token) {
  const std::string_view rest = strip(text_.substr(token.end, 12));
  if (!rest.starts_with(']')) return;  // a share, or the time of day behind a date
  set(Figure::batch, 1, token);
}

/// "7.01 loss, 0.0001 LR": the name stands behind its number, and nothing else in the segment.
bool PairReader::name_behind(const Token& token) {
  const char first = token.begin > 0 ? text_[token.begin - 1] : ',';
  if (token.end + 3 > text_.size() || text_[token.end] != ' ' || !is_blank(first)) return false;
  std::string_view rest = text_.substr(token.end + 1, 16);
  std::size_t end = 0;
  while (end < rest.size() && rest[end] != ',' && rest[end] != '|' && rest[end] != ';') ++end;
  if (end == rest.size()) return false;
  rest = rest.substr(0, end);
  Meaning meaning = meanings_.of(rest);
  if (meaning.figure != Figure::loss && meaning.figure != Figure::lr) return false;
  meaning.order = 50;
  return set(meaning, token);
}

/// "203557 tok/s", "39.0% bf16 MFU", "2575.63 ms": the unit says what it is.
void PairReader::unit_only(const Token& token) {
  const Unit unit = token.value.unit.unit;
  Meaning meaning;
  meaning.order = 50;
  if (unit == Unit::none && name_behind(token)) return;
  switch (unit) {
    case Unit::percent: {
      std::string_view rest = text_.substr(token.end, 16);
      rest = strip(rest.substr(0, rest.find_first_of("|,;(")));
      if (!equals_word(last_word(rest), "mfu")) return;
      meaning.figure = Figure::mfu;
      break;
    }
    case Unit::millisecond: {
      // "| 2575.63 ms |": a column of its own
      const std::string_view before = strip(text_.substr(segment_, token.begin - segment_));
      const std::string_view rest = strip(text_.substr(token.end, 8));
      if (!before.empty() || (!rest.empty() && rest[0] != '|' && rest[0] != ',')) return;
      meaning.figure = Figure::step_time_s;
      break;
    }
    case Unit::steps_per_s:
    case Unit::s_per_step:
    case Unit::ms_per_step:
    case Unit::us_per_step:
    case Unit::samples_per_s:
    case Unit::samples_per_s_per_device:
    case Unit::tokens_per_s:
    case Unit::tokens_per_s_per_device:
    case Unit::per_s:
    case Unit::per_s_per_device:
    case Unit::mfu:
      meaning.figure = Figure::speed;
      break;
    default:
      return;
  }
  set(meaning, token);
}

}  // namespace rigwise::logs
