#include "logs/block.h"

namespace rigwise::logs {
namespace {

constexpr int kMaxRows = 200;
constexpr std::size_t kMaxLine = 512;

/// "| > loss: 2.27" → "loss: 2.27"; "• Loss: 0.1" → "Loss: 0.1".
std::string_view undecorated(std::string_view line) {
  while (!line.empty() && !is_word(line[0]) && line[0] != '\'' && line[0] != '"')
    line.remove_prefix(1);
  return line;
}

/// Where the sign between key and value stands.
std::size_t sign_of(std::string_view row) {
  const std::size_t colon = row.find(": ");
  return colon != std::string_view::npos ? colon : row.find('=');
}

}  // namespace

bool BlockReader::is_row(std::string_view line) {
  const std::string_view row = undecorated(line);
  const std::size_t sign = sign_of(row);
  if (sign == std::string_view::npos || sign == 0 || sign > 64) return false;
  Value value;
  const std::string_view text = strip(row.substr(sign + 1));
  if (!read_value(text, value)) return false;
  std::string_view rest = text.substr(std::min(text.size(), value.number.size));
  rest = strip(rest.substr(std::min(rest.size(), value.unit.size)));
  return rest.empty() || rest[0] == '(' || rest[0] == '/' || value.seconds.has_value();
}

void BlockReader::start(Kind kind) {
  kind_ = kind;
  entry_.clear();
  rows_ = 0;
}

bool BlockReader::close() {
  if (kind_ == Kind::none) return false;
  done_ = entry_;
  done_kind_ = kind_;
  const bool any = rows_ > 0;
  kind_ = Kind::none;
  return any;
}

void BlockReader::open_indented(const Entry& base) {
  start(Kind::indented);
  entry_ = base;
}

bool BlockReader::pair_row(std::string_view key, std::string_view text) {
  key = strip(key);
  text = strip(text);
  if (key.empty() || key.size() > 64 || text.empty()) return false;
  if (++rows_ > kMaxRows) return false;
  ++entry_.pairs;
  Value value;
  const Meaning& meaning = meanings_.of(key);
  if (meaning.figure != Figure::none && read_value(text, value)) entry_.set(meaning, value);
  return true;
}

/// "|    fps             | 882      |", "| rollout/ |          |".
bool BlockReader::box_row(std::string_view text) {
  text = strip(text);
  if (!text.starts_with('|')) return false;
  text.remove_prefix(1);
  const std::size_t bar = text.find('|');
  if (bar == std::string_view::npos) return false;
  const std::string_view key = strip(text.substr(0, bar));
  std::string_view value = strip(text.substr(bar + 1));
  if (value.ends_with('|')) value = strip(value.substr(0, value.size() - 1));
  if (value.find('|') != std::string_view::npos || key.empty()) return false;
  if (!is_letter(key[0]) || value.size() > 32 || value.find_first_of(":=,") != value.npos)
    return false;
  if (value.empty()) return key.ends_with('/');
  return pair_row(key, value);
}

bool BlockReader::read(std::string_view text, bool cut, bool& done) {
  done = false;
  if (cut && kind_ == Kind::metrics) return true;
  if (text.size() > kMaxLine) return done = close(), false;
  const std::string_view line = strip(text);
  if (line.starts_with("*****") && line.ends_with("metrics *****")) {
    done = close();
    start(Kind::metrics);
    return true;
  }
  std::string_view bare = line;
  const bool wandb = bare.starts_with("wandb:");
  if (wandb) bare = strip(bare.substr(6));
  if (bare == "Run summary:") {
    done = close();
    start(Kind::summary);
    entry_.summary = true;
    return true;
  }
  // Rows.
  const bool high = !line.empty() && (class_of(line[0]) & kHigh) != 0;
  if (kind_ != Kind::indented && (line.starts_with('|') || (high && line.find("\xe2\x94") == 0))) {
    scratch_.clear();
    for (std::size_t i = 0; i < line.size();) {
      const std::string_view glyph = line.substr(i, 3);
      const bool upright = glyph == "\xe2\x94\x82" || glyph == "\xe2\x94\x83";
      scratch_.push_back(upright ? '|' : line[i]);
      i += upright ? 3 : 1;
    }
    if (kind_ != Kind::box) {
      done = close();
      start(Kind::box);
      if (box_row(scratch_)) return true;
      kind_ = Kind::none;
      return false;
    }
    if (box_row(scratch_)) return true;
    done = close();
    return false;
  }
  switch (kind_) {
    case Kind::none:
      return false;
    case Kind::box:
      done = close();
      return false;
    case Kind::metrics: {
      const std::size_t equals = line.find('=');
      if (text.starts_with("  ") && equals != std::string_view::npos &&
          pair_row(line.substr(0, equals), line.substr(equals + 1)))
        return true;
      if (line.empty()) return false;
      done = close();
      return false;
    }
    case Kind::summary: {
      const std::size_t blank = bare.find_first_of(" \t");
      if (bare.empty() && rows_ == 0) return true;
      if (blank != std::string_view::npos && pair_row(bare.substr(0, blank), bare.substr(blank)))
        return true;
      done = close();
      return false;
    }
    case Kind::indented: {
      const std::string_view row = undecorated(line);
      const std::size_t sign = sign_of(row);
      const bool indented = !text.empty() && is_blank(text[0]);
      const bool words =
          sign != std::string_view::npos && (shape_of(row.substr(sign + 1)) & kDigit) == 0;
      if (indented && sign != std::string_view::npos && (words || is_row(line)) &&
          pair_row(row.substr(0, sign), row.substr(sign + 1)))
        return true;
      if (line.empty()) return false;
      done = close();
      return false;
    }
  }
  return false;
}

}  // namespace rigwise::logs
