#include <algorithm>

#include "base/text.h"
#include "engine/text/jinja_program.h"
#include "engine/text/unicode.h"

namespace rigwise::engine::jinja {

namespace {

constexpr std::size_t kMostTokens = 1 << 20;

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// Line ends are \n, and one at the end of the template is dropped.
std::string plain_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : text_(std::move(source)) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) {
      const std::size_t tag = next_tag();
      std::string_view data = std::string_view(text_).substr(at_, tag - at_);
      if (tag == text_.size()) {
        add_data(data);
        at_ = tag;
        break;
      }
      const char kind = text_[tag + 1];
      const char mark = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
      if (mark == '-') {
        while (!data.empty() && is_space(data.back())) data.remove_suffix(1);
      } else if (mark != '+' && kind != '{') {
        data = without_indent(data);
      }
      add_data(data);
      line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                           text_.begin() + static_cast<std::ptrdiff_t>(tag), '\n'));
      at_ = tag + 2;
      if (mark == '-' || mark == '+') ++at_;
      if (kind == '#') {
        comment();
      } else if (kind == '%' && raw()) {
        continue;
      } else {
        inside(kind == '{');
      }
    }
    add(Token::Kind::end, "");
    return std::move(tokens_);
  }

 private:
  void add(Token::Kind kind, std::string text) {
    if (tokens_.size() >= kMostTokens) fail("the template is too long");
    tokens_.push_back({kind, std::move(text), line_});
  }
  void add_data(std::string_view data) {
    if (!data.empty()) add(Token::Kind::data, std::string(data));
  }
  [[noreturn]] void fail_here(const std::string& why) {
    fail("line " + std::to_string(line_) + ": " + why);
  }
  [[nodiscard]] std::size_t next_tag() const {
    for (auto at = text_.find('{', at_); at != std::string::npos; at = text_.find('{', at + 1)) {
      const char next = at + 1 < text_.size() ? text_[at + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return at;
    }
    return text_.size();
  }
  /// lstrip_blocks: blanks between the line's start and a tag.
  [[nodiscard]] std::string_view without_indent(std::string_view data) const {
    const auto line_end = data.rfind('\n');
    if (line_end == std::string_view::npos && !line_starting_) return data;
    const std::size_t begin = line_end == std::string_view::npos ? 0 : line_end + 1;
    for (const char c : data.substr(begin)) {
      if (!is_space(c)) return data;
    }
    return data.substr(0, begin);
  }
  /// Behind a tag's end: "-" takes all white space along; a block or comment, one line end.
  void after_tag(bool strips, bool trims) {
    const std::size_t before = at_;
    if (strips) {
      while (at_ < text_.size() && is_space(text_[at_])) ++at_;
    } else if (trims && at_ < text_.size() && text_[at_] == '\n') {
      ++at_;
    }
    line_starting_ = at_ > before && text_[at_ - 1] == '\n';
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(before),
                                         text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n'));
  }
  void comment() {
    const auto end = text_.find("#}", at_);
    if (end == std::string::npos) fail_here("a comment {# has no end");
    const char mark = end > at_ ? text_[end - 1] : '\0';
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    at_ = end + 2;
    after_tag(mark == '-', mark != '+');
  }
  /// {% raw %} … {% endraw %}; at_ is behind "{%".
  bool raw() {
    std::size_t at = at_;
    const auto skip = [&] {
      while (at < text_.size() && is_space(text_[at])) ++at;
    };
    const auto word = [&](std::string_view name) {
      skip();
      if (std::string_view(text_).substr(at, name.size()) != name) return false;
      at += name.size();
      skip();
      return true;
    };
    if (!word("raw")) return false;
    const bool strips = at < text_.size() && text_[at] == '-';
    if (strips || (at < text_.size() && text_[at] == '+')) ++at;
    if (std::string_view(text_).substr(at, 2) != "%}") return false;
    at_ = at + 2;
    after_tag(strips, true);
    for (auto tag = text_.find("{%", at_); tag != std::string::npos;
         tag = text_.find("{%", tag + 1)) {
      at = tag + 2;
      const bool strips_before = at < text_.size() && text_[at] == '-';
      if (strips_before || (at < text_.size() && text_[at] == '+')) ++at;
      if (!word("endraw")) continue;
      const bool strips_after = at < text_.size() && text_[at] == '-';
      if (strips_after || (at < text_.size() && text_[at] == '+')) ++at;
      if (std::string_view(text_).substr(at, 2) != "%}") continue;
      std::string_view data = std::string_view(text_).substr(at_, tag - at_);
      if (strips_before) {
        while (!data.empty() && is_space(data.back())) data.remove_suffix(1);
      } else {
        data = without_indent(data);
      }
      add_data(data);
      at_ = at + 2;
      after_tag(strips_after, true);
      return true;
    }
    fail_here("{% raw %} has no {% endraw %}");
  }

  /// The tokens of one {{ }} or {% %}.
  void inside(bool is_variable) {
    add(is_variable ? Token::Kind::variable_begin : Token::Kind::block_begin, "");
    const std::string_view close = is_variable ? "}}" : "%}";
    int open = 0;  // a dict's braces may stand before "}}"
    while (true) {
      while (at_ < text_.size() && is_space(text_[at_])) line_ += text_[at_++] == '\n' ? 1 : 0;
      if (at_ >= text_.size()) fail_here(is_variable ? "{{ has no end" : "{% has no end");
      const std::string_view rest = std::string_view(text_).substr(at_);
      const bool marked = (rest[0] == '-' || rest[0] == '+') && rest.substr(1).starts_with(close);
      if (open == 0 && (marked || rest.starts_with(close))) {
        add(is_variable ? Token::Kind::variable_end : Token::Kind::block_end, "");
        at_ += marked ? 3 : 2;
        after_tag(marked && rest[0] == '-', !is_variable && !(marked && rest[0] == '+'));
        return;
      }
      token(rest, open);
    }
  }
  void token(std::string_view rest, int& open) {
    const char c = rest[0];
    if (is_name_start(c)) {
      std::size_t end = 0;
      while (end < rest.size() && (is_name_start(rest[end]) || is_digit(rest[end]))) ++end;
      add(Token::Kind::name, std::string(rest.substr(0, end)));
      at_ += end;
    } else if (is_digit(c)) {
      number(rest);
    } else if (c == '\'' || c == '"') {
      quoted(rest);
    } else {
      for (const std::string_view sign :
           {"//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<",
            ">",  "=",  ".",  ",",  ":",  "|",  "(", ")", "[", "]", "{", "}"}) {
        if (!rest.starts_with(sign)) continue;
        if (sign == "(" || sign == "[" || sign == "{") ++open;
        if (sign == ")" || sign == "]" || sign == "}") {
          if (--open < 0) fail_here("unexpected '" + std::string(sign) + "'");
        }
        add(Token::Kind::sign, std::string(sign));
        at_ += sign.size();
        return;
      }
      fail_here("unexpected character '" + clean_text(rest.substr(0, 4), 4) + "'");
    }
  }
  void number(std::string_view rest) {
    std::size_t end = 0;
    bool real = false;
    std::string digits;
    while (end < rest.size() && (is_digit(rest[end]) || rest[end] == '_')) ++end;
    if (end + 1 < rest.size() && rest[end] == '.' && is_digit(rest[end + 1])) {
      real = true;
      for (++end; end < rest.size() && is_digit(rest[end]);) ++end;
    }
    if (end < rest.size() && (rest[end] == 'e' || rest[end] == 'E')) {
      std::size_t at = end + 1;
      if (at < rest.size() && (rest[at] == '+' || rest[at] == '-')) ++at;
      if (at < rest.size() && is_digit(rest[at])) {
        real = true;
        for (end = at; end < rest.size() && is_digit(rest[end]);) ++end;
      }
    }
    for (const char d : rest.substr(0, end)) {
      if (d != '_') digits += d;
    }
    add(real ? Token::Kind::real : Token::Kind::integer, digits);
    at_ += end;
  }
  void quoted(std::string_view rest) {
    const int first_line = line_;
    std::string out;
    std::size_t i = 1;
    for (; i < rest.size() && rest[i] != rest[0]; ++i) {
      if (rest[i] == '\n') ++line_;
      if (rest[i] != '\\' || i + 1 >= rest.size())
        out += rest[i];
      else
        i = escape(rest, i + 1, out);
    }
    if (i >= rest.size()) {
      line_ = first_line;
      fail_here("a text has no end");
    }
    add(Token::Kind::string, std::move(out));
    at_ += i + 1;
  }
  /// Python's escapes; returns the place of the last character that was read.
  std::size_t escape(std::string_view rest, std::size_t i, std::string& out) {
    constexpr std::string_view kFrom = "nrtabfv\\'\"", kTo = "\n\r\t\a\b\f\v\\'\"";
    const char c = rest[i];
    if (const auto known = kFrom.find(c); known != std::string_view::npos) {
      out += kTo[known];
      return i;
    }
    if (c == '\n') {  // a line that goes on
      ++line_;
      return i;
    }
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      char32_t value = 0;
      for (std::size_t k = 1; k <= digits; ++k) {
        const char d = i + k < rest.size() ? lower_digit(rest[i + k]) : '\0';
        if (!is_digit(d) && !(d >= 'a' && d <= 'f')) fail_here("a broken escape in a text");
        value = value << 4 | static_cast<char32_t>(is_digit(d) ? d - '0' : d - 'a' + 10);
      }
      if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        fail_here("an escape in a text is no character");
      append_utf8(out, value);
      return i + digits;
    }
    if (c >= '0' && c <= '7') {
      unsigned value = 0;
      std::size_t k = i;
      for (; k < rest.size() && k < i + 3 && rest[k] >= '0' && rest[k] <= '7'; ++k)
        value = value * 8 + static_cast<unsigned>(rest[k] - '0');
      append_utf8(out, value);
      return k - 1;
    }
    out += '\\';  // not an escape: both stay
    out += c;
    return i;
  }
  static char lower_digit(char c) {
    return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
  }

  std::string text_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(plain_source(source)).run();
}

}  // namespace rigwise::engine::jinja
