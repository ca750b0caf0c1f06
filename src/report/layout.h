// Layout: text of a known display width: safe strings, wrapping, aligned columns, colour.
//
// Colour never carries a meaning of its own: `Paint` adds it around text that already says the
// thing. Hostile strings go through safe() once, here, before they reach a terminal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rigwise/report.h"

namespace rigwise::report {

/// Free of control characters, escape sequences' ESC, bidirectional overrides and newlines.
std::string safe(std::string_view text, std::size_t max_bytes = 600);

/// Terminal cells that `text` (UTF-8, no control characters) takes; colour sequences count nothing.
std::size_t display_width(std::string_view text);

/// Lines of at most `width` cells. A number keeps its unit, sign and ± on its own line; a word
/// longer than a line is cut into pieces rather than let run over.
std::vector<std::string> wrap(std::string_view text, std::size_t width);

/// wrap(), with `first` before the first line and as many blanks before the others.
std::string hang(std::string_view first, std::string_view text, std::size_t width);

std::string pad_right(std::string text, std::size_t width);
std::string pad_left(std::string text, std::size_t width);

/// Adds terminal colour to words, or leaves them alone.
class Paint {
 public:
  explicit Paint(const TextStyle& style) : on_(style.colour) {}
  [[nodiscard]] std::string bold(std::string_view text) const { return wrapped("1", text); }
  [[nodiscard]] std::string grey(std::string_view text) const { return wrapped("2", text); }
  [[nodiscard]] std::string green(std::string_view text) const { return wrapped("1;32", text); }
  [[nodiscard]] std::string yellow(std::string_view text) const { return wrapped("1;33", text); }
  [[nodiscard]] std::string red(std::string_view text) const { return wrapped("1;31", text); }

 private:
  [[nodiscard]] std::string wrapped(std::string_view code, std::string_view text) const;
  bool on_;
};

/// Columns with two blanks between them. Every column but the last is as wide as its widest cell;
/// the last is wrapped into what is left of the width, or stands on lines of its own under the row
/// where too little is left.
struct Table {
  enum class Align { left, right };
  std::vector<Align> align = {};               // one a column
  std::vector<std::string> head = {};          // empty: none
  std::vector<std::vector<std::string>> rows;  // cells are safe() text without colour
  std::size_t indent = 2;
  bool grey_last = true;  // the last column is evidence

  [[nodiscard]] std::string text(const TextStyle& style) const;
};

/// The widest line that `style` allows: 60 to 200 cells. Tables of numbers need 60; a narrower
/// terminal breaks the lines itself.
std::size_t line_width(const TextStyle& style);

}  // namespace rigwise::report
