#include "logs/mapping.h"

#include <algorithm>
#include <cstring>

#include "logs/plan.h"

namespace rigwise::logs {
namespace {

constexpr int kMaxPairs = 1024;
constexpr int kMaxDepth = 4;

bool is_space(char byte) {
  return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

class Scanner {
 public:
  Scanner(std::string_view text, Meanings& meanings, Trace& trace, Entry& entry)
      : text_(text), meanings_(meanings), trace_(trace), entry_(entry) {}

  Mapping run() {
    const bool closed = scan(0);
    mapping_.size = std::min(at_, text_.size());
    if (broken_)
      mapping_.state = MappingState::broken;
    else
      mapping_.state = closed ? MappingState::complete : MappingState::open;
    return mapping_;
  }

 private:
  bool fail() {
    broken_ = true;
    return false;
  }
  void skip_spaces() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  /// A quoted string at at_; the view is without quotes. False: its end is missing.
  bool quoted(std::string_view& out) {
    const char quote = text_[at_];
    const std::size_t start = ++at_;
    while (true) {
      const auto* end = static_cast<const char*>(
          at_ < text_.size() ? std::memchr(text_.data() + at_, quote, text_.size() - at_)
                             : nullptr);
      if (end == nullptr) {
        at_ = text_.size();
        return false;
      }
      at_ = static_cast<std::size_t>(end - text_.data());
      std::size_t slashes = 0;
      while (at_ - slashes > start && text_[at_ - slashes - 1] == '\\') ++slashes;
      if (slashes % 2 == 0) break;
      ++at_;
    }
    out = text_.substr(start, at_ - start);
    ++at_;
    return true;
  }

  /// Passes over (…), […] or {…} with quotes obeyed. False: it does not end.
  bool nested() {
    int depth = 0;
    while (at_ < text_.size()) {
      const char byte = text_[at_];
      if (byte == '\'' || byte == '"') {
        std::string_view ignored;
        if (!quoted(ignored)) return false;
        continue;
      }
      if (byte == '[' || byte == '(' || byte == '{') ++depth;
      if (byte == ']' || byte == ')' || byte == '}') --depth;
      ++at_;
      if (depth == 0) return true;
    }
    return false;
  }

  /// True: the closing brace was read.
  bool scan(int depth) {
    ++at_;  // '{'
    while (true) {
      skip_spaces();
      if (at_ >= text_.size()) return false;
      const char byte = text_[at_];
      if (byte == '}') return ++at_, true;
      if (byte == ',') {
        ++at_;
        continue;
      }
      if (byte == '.' && text_.substr(at_).starts_with("...")) {
        at_ += 3;
        continue;
      }
      if (!pair(depth)) return false;
      if (++entry_.pairs > kMaxPairs) return fail();
    }
  }

  bool pair(int depth) {
    std::string_view key;
    if (text_[at_] == '\'' || text_[at_] == '"') {
      if (text_[at_] == '"') mapping_.json = true;
      if (!quoted(key)) return false;
    } else {
      const std::size_t from = at_;
      while (at_ < text_.size() && (is_word(text_[at_]) || text_[at_] == '.' || text_[at_] == '/'))
        ++at_;
      if (at_ == from) return fail();
      key = text_.substr(from, at_ - from);
    }
    skip_spaces();
    if (at_ >= text_.size()) return false;
    if (text_[at_] != ':' && text_[at_] != '=') return fail();
    ++at_;
    skip_spaces();
    return at_ < text_.size() && value(key, depth);
  }

  bool value(std::string_view key, int depth) {
    const char first = text_[at_];
    if (first == '{') {
      if (depth + 1 >= kMaxDepth) return nested();
      const std::size_t before = parents_.size();
      if (before + key.size() > 128) return nested();
      parents_.append(key).push_back('/');
      const bool closed = scan(depth + 1);
      parents_.resize(before);
      return closed;
    }
    if (first == '[' || first == '(') return nested();
    if (first == '\'' || first == '"') {
      std::string_view text;
      if (!quoted(text)) return false;
      string_value(key, text);
      return true;
    }
    const std::size_t from = at_;
    int inside = 0;  // tensor(2.3, device='cuda:0')
    while (at_ < text_.size()) {
      const char byte = text_[at_];
      if (inside == 0 && (byte == ',' || byte == '}' || byte == '\n')) break;
      if (byte == '(') ++inside;
      if (byte == ')') --inside;
      ++at_;
    }
    const std::string_view text = text_.substr(from, at_ - from);
    if (!bare_value(key, strip(text))) return fail();
    return at_ < text_.size();
  }

  const Meaning& meaning(std::string_view key) {
    if (parents_.empty()) return meanings_.of(key);
    joined_ = parents_;
    joined_ += key;
    return meanings_.of(joined_);
  }

  /// False: JSON holds no such word.
  bool bare_value(std::string_view key, std::string_view text) {
    const bool whole = at_ < text_.size();  // else the end of the text may have cut it
    Value value;
    const std::string_view body = text.starts_with("tensor(") ? text.substr(7) : text;
    const bool number = scan_number(body, value.number, false);
    if (mapping_.json && whole && (!number || value.number.size != body.size()) &&
        !one_of(text, {"null", "true", "false", "None", "True", "False", "NaN", "Infinity",
                       "-Infinity", "nan", "inf", "-inf", "..."}) &&
        !text.starts_with("tensor("))
      return false;
    if (mapping_.json && !whole && !number && !text.empty() && !may_become_word(text)) return false;
    if (!number || !whole) return true;
    if (named_metric_.size() > 0 && key == "value") {
      trace_.set(entry_, meanings_.of(named_metric_), value, body.data(), nullptr);
      return true;
    }
    const Meaning& what = meaning(key);
    if (what.figure != Figure::none) trace_.set(entry_, what, value, body.data(), nullptr);
    return true;
  }

  static bool may_become_word(std::string_view text) {
    for (const std::string_view word :
         {"null", "true", "false", "None", "True", "False", "NaN", "Infinity", "-Infinity"})
      if (word.starts_with(text)) return true;
    return false;
  }

  void string_value(std::string_view key, std::string_view text) {
    if (text.empty() || text.size() > 4096) return;
    if (parents_.empty() && (is_letter(text[0]) || text.size() > 24)) {
      if (one_of(key, {"type", "kind", "mode", "split", "phase", "stage", "event"})) {
        if (starts_with_word(text, "eval") || starts_with_word(text, "val") ||
            equals_word(text, "test"))
          entry_.evaluation = true;
        if (equals_word(text, "summary") || equals_word(text, "final") ||
            equals_word(text, "train_end"))
          entry_.summary = true;
        if (equals_word(text, "checkpoint") ||
            (text.size() < 40 && contains(text, "sav") &&
             (contains(text, "checkpoint") || contains(text, "ckpt"))))
          mapping_.saving = text;
      }
      if (one_of(key, {"key", "tag", "metric", "name"})) named_metric_ = text;
      if (one_of(key, {"message", "msg", "log", "event", "text"})) mapping_.message = text;
    }
    if (parents_.empty() && one_of(key, {"path", "checkpoint", "checkpoint_path", "checkpoint_dir",
                                         "ckpt_path", "dir", "folder", "file"}))
      mapping_.path = text;
    if (text.size() > 40 || (!is_digit(text[0]) && text[0] != '-' && text[0] != '.' &&
                             lower_byte(text[0]) != 'n' && lower_byte(text[0]) != 'i'))
      return;
    const Meaning& what = meaning(key);
    if (what.figure == Figure::none) return;
    Value value;
    if (!read_value(text, value)) return;
    // Where its number stands, past blanks; what stands behind a slash too.
    const char* at = text.data();
    while (is_blank(*at)) ++at;
    const char* total = value.total ? at + value.number.size + 1 : nullptr;
    trace_.set(entry_, what, value, at, total);
  }

  std::string_view text_;
  Meanings& meanings_;
  Trace& trace_;
  Entry& entry_;
  Mapping mapping_;
  std::size_t at_ = 0;
  bool broken_ = false;
  std::string parents_, joined_;
  std::string_view named_metric_;  // MLPerf: {"key": "eval_accuracy", "value": 0.72}
};

}  // namespace

bool starts_mapping(std::string_view text, std::size_t at) {
  std::size_t i = at + 1;
  while (i < text.size() && is_space(text[i])) ++i;
  if (i >= text.size()) return true;  // the keys are on the next lines
  if (text[i] == '\'' || text[i] == '"') return true;
  if (!is_letter(text[i])) return false;
  while (i < text.size() && (is_word(text[i]) || text[i] == '/' || text[i] == '.')) ++i;
  while (i < text.size() && text[i] == ' ') ++i;
  return i < text.size() && (text[i] == ':' || text[i] == '=');
}

Mapping scan_mapping(std::string_view text, Meanings& meanings, Trace& trace, Entry& entry) {
  return Scanner(text, meanings, trace, entry).run();
}

void unescape(std::string_view text, std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out.push_back(text[i]);
      continue;
    }
    const char next = text[++i];
    if (next == 'n' || next == 't' || next == 'r') {
      out.push_back(next == 't' ? '\t' : ' ');
    } else if (next == 'u' && i + 4 < text.size()) {
      // Escapes and colours only: "\u001b[32m"; other characters are no part of a metric.
      if (text.substr(i + 1, 4) == "001b" || text.substr(i + 1, 4) == "001B") out.push_back('\x1b');
      i += 4;
    } else {
      out.push_back(next);
    }
  }
}

}  // namespace rigwise::logs
