#include "logs/scan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/text.h"

namespace rigwise::logs {
namespace {

constexpr std::size_t kMaxFields = 512;
constexpr int kMaxDepth = 4;

bool is_blank(char byte) {
  return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

void skip_blanks(std::string_view text, std::size_t& at) {
  while (at < text.size() && is_blank(text[at])) ++at;
}

/// A quoted string at `at`; the view is without quotes. False: the closing quote is missing.
bool scan_quoted(std::string_view text, std::size_t& at, std::string_view& out) {
  const char quote = text[at];
  const std::size_t start = ++at;
  while (at < text.size() && text[at] != quote) at += text[at] == '\\' ? 2 : 1;
  if (at >= text.size()) return false;
  out = text.substr(start, at - start);
  ++at;
  return true;
}

/// Passes over a balanced (…), […] with quotes obeyed. False: it does not end.
bool skip_nested(std::string_view text, std::size_t& at) {
  int depth = 0;
  while (at < text.size()) {
    const char byte = text[at];
    if (byte == '\'' || byte == '"') {
      std::string_view ignored;
      if (!scan_quoted(text, at, ignored)) return false;
      continue;
    }
    if (byte == '[' || byte == '(' || byte == '{') ++depth;
    if (byte == ']' || byte == ')' || byte == '}') --depth;
    ++at;
    if (depth == 0) return true;
  }
  return false;
}

class MappingScanner {
 public:
  explicit MappingScanner(std::string_view text) : text_(text) {}

  Mapping run() {
    mapping_.complete = scan(0, {}, 0);
    mapping_.size = std::min(at_, text_.size());
    return std::move(mapping_);
  }

 private:
  bool fail() {
    mapping_.malformed = true;
    return false;
  }

  /// True: the closing brace was read. False: text ended, or it is no mapping (malformed set).
  bool scan(std::size_t start, const std::string& parent, int depth) {
    at_ = start + 1;
    while (true) {
      skip_blanks(text_, at_);
      if (at_ >= text_.size()) return false;
      if (text_[at_] == '}') return ++at_, true;
      if (text_[at_] == ',') {
        ++at_;
        continue;
      }
      if (text_.substr(at_).starts_with("...")) {
        at_ += 3;
        continue;
      }
      if (!scan_pair(parent, depth)) return false;
      if (mapping_.fields.size() > kMaxFields) return fail();
    }
  }

  bool scan_pair(const std::string& parent, int depth) {
    Field field;
    field.parent = parent;
    if (text_[at_] == '\'' || text_[at_] == '"') {
      if (text_[at_] == '"') mapping_.json = true;
      if (!scan_quoted(text_, at_, field.key)) return false;
    } else {
      const std::size_t from = at_;
      while (at_ < text_.size() && (is_letter(text_[at_]) || is_digit(text_[at_]) ||
                                    text_[at_] == '_' || text_[at_] == '.' || text_[at_] == '/'))
        ++at_;
      if (at_ == from) return fail();
      field.key = text_.substr(from, at_ - from);
    }
    skip_blanks(text_, at_);
    if (at_ >= text_.size()) return false;
    if (text_[at_] != ':' && text_[at_] != '=') return fail();
    ++at_;
    skip_blanks(text_, at_);
    return at_ < text_.size() && scan_value(field, depth);
  }

  bool scan_value(Field& field, int depth) {
    const char first = text_[at_];
    if (first == '{') {
      if (depth + 1 >= kMaxDepth) return skip_nested(text_, at_);
      const std::string path = field.parent.empty() ? std::string(field.key)
                                                    : field.parent + '/' + std::string(field.key);
      return scan(at_, path, depth + 1);
    }
    if (first == '[' || first == '(') return skip_nested(text_, at_);
    if (first == '\'' || first == '"') {
      if (!scan_quoted(text_, at_, field.value)) return false;
    } else {
      const std::size_t from = at_;
      int depth_inside = 0;  // tensor(2.3, device='cuda:0')
      while (at_ < text_.size() && (depth_inside > 0 || (text_[at_] != ',' && text_[at_] != '}'))) {
        if (text_[at_] == '(') ++depth_inside;
        if (text_[at_] == ')') --depth_inside;
        ++at_;
      }
      if (at_ >= text_.size()) return false;
      field.value = trim(text_.substr(from, at_ - from));
    }
    mapping_.fields.push_back(field);
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Mapping mapping_;
};

}  // namespace

bool is_letter(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}
bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

std::string lower_ascii(std::string_view text) {
  std::string out(text);
  for (char& byte : out)
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte - 'A' + 'a');
  return out;
}

bool contains(std::string_view text, std::string_view needle) {
  return text.find(needle) != std::string_view::npos;
}

Mapping scan_mapping(std::string_view text) {
  if (text.empty() || text[0] != '{') return Mapping{.malformed = true};
  return MappingScanner(text).run();
}

std::optional<Quantity> scan_quantity(std::string_view text) {
  Quantity quantity;
  std::size_t at = 0;
  const bool sign = !text.empty() && (text[0] == '-' || text[0] == '+');
  if (sign) ++at;
  const std::string_view body = text.substr(at);
  const std::string head = lower_ascii(body.substr(0, 8));
  if (head.starts_with("nan") && (head.size() == 3 || !is_letter(head[3]))) {
    quantity.value = std::numeric_limits<double>::quiet_NaN();
    at += 3;
  } else if (head.starts_with("infinity") ||
             (head.starts_with("inf") && (head.size() == 3 || !is_letter(head[3])))) {
    quantity.value = std::numeric_limits<double>::infinity();
    at += head.starts_with("infinity") ? 8 : 3;
  } else {
    if (body.empty() || (!is_digit(body[0]) && body[0] != '.')) return std::nullopt;
    // Thousands: digits, then groups of ",ddd" that a digit does not follow.
    std::string digits;
    std::size_t i = 0;
    while (i < body.size() && is_digit(body[i])) ++i;
    std::size_t end = i;
    while (i > 0 && i <= 3 && end + 3 < body.size() && body[end] == ',' &&
           is_digit(body[end + 1]) && is_digit(body[end + 2]) && is_digit(body[end + 3]) &&
           (end + 4 >= body.size() || !is_digit(body[end + 4])))
      end += 4;
    std::string_view number = body;
    if (end > i) {
      for (const char byte : body.substr(0, end))
        if (byte != ',') digits.push_back(byte);
      std::size_t rest = end;
      while (rest < body.size() && rest < end + 24 && (is_digit(body[rest]) || body[rest] == '.'))
        ++rest;
      digits.append(body.substr(end, rest - end));
      number = digits;
    }
    const auto [after, error] =
        std::from_chars(number.data(), number.data() + number.size(), quantity.value);
    if (error != std::errc()) return std::nullopt;
    const auto used = static_cast<std::size_t>(after - number.data());
    at += used + (end > i ? (end - i) / 4 : 0);
  }
  if (sign && text[0] == '-') quantity.value = -quantity.value;
  quantity.size = at;
  std::size_t from = at;
  if (from + 1 < text.size() && text[from] == ' ' &&
      (is_letter(text[from + 1]) || text[from + 1] == '%'))
    ++from;
  std::size_t end = from;
  while (end < text.size() && (is_letter(text[end]) || text[end] == '%' || text[end] == '/')) ++end;
  quantity.unit = text.substr(from, end - from);
  return quantity;
}

std::optional<double> plain_number(std::string_view text) {
  text = trim(text);
  if (text.size() >= 2 && (text.front() == '\'' || text.front() == '"') &&
      text.back() == text.front())
    text = trim(text.substr(1, text.size() - 2));
  if (text.starts_with("tensor(")) text.remove_prefix(7);
  const auto quantity = scan_quantity(text);
  if (!quantity) return std::nullopt;
  const std::string_view rest = text.substr(quantity->size);
  if (rest.empty() || rest.front() == ',' || rest.front() == ')') return quantity->value;
  return std::nullopt;
}

std::optional<double> scan_clock(std::string_view text) {
  text = trim(text);
  double total = 0;
  if (text.find(':') != std::string_view::npos) {
    for (const auto part : split(text, ':')) {
      const auto value = to_number(trim(part));
      if (!value || *value < 0) return std::nullopt;
      total = total * 60 + *value;
    }
    return total;
  }
  bool any = false;
  while (!text.empty()) {
    const auto quantity = scan_quantity(text);
    if (!quantity || quantity->unit.empty()) return any ? std::optional(total) : std::nullopt;
    const char unit = quantity->unit.front();
    if (unit != 'd' && unit != 'h' && unit != 'm' && unit != 's') return std::nullopt;
    total += quantity->value * (unit == 'd' ? 86400 : unit == 'h' ? 3600 : unit == 'm' ? 60 : 1);
    any = true;
    text.remove_prefix(
        static_cast<std::size_t>(quantity->unit.data() + quantity->unit.size() - text.data()));
    text = trim(text);
  }
  return any ? std::optional(total) : std::nullopt;
}

std::optional<int> strip_rank_prefix(std::string_view& text) {
  std::string_view rest = text;
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  if (rest.size() < 4 || rest.front() != '[') return std::nullopt;
  const std::size_t close = rest.find(']');
  if (close == std::string_view::npos || close > 48) return std::nullopt;
  std::string_view inside = rest.substr(1, close - 1);
  std::string_view after = rest.substr(close + 1);
  if (after.starts_with("<stdout>"))
    after.remove_prefix(8);
  else if (after.starts_with("<stderr>"))
    after.remove_prefix(8);
  if (after.empty() || after.front() != ':') return std::nullopt;
  after.remove_prefix(1);
  if (inside.starts_with("rank"))
    inside.remove_prefix(4);
  else if (inside.starts_with("default"))
    inside.remove_prefix(7);
  else if (inside.starts_with("1,")) {
    inside.remove_prefix(2);
    if (inside.starts_with("mpirank:")) inside.remove_prefix(8);
    inside = inside.substr(0, inside.find(','));
  } else {
    return std::nullopt;
  }
  const auto rank = to_integer(inside);
  if (!rank || *rank < 0 || *rank > 1'000'000) return std::nullopt;
  text = after;
  return static_cast<int>(*rank);
}

}  // namespace rigwise::logs
