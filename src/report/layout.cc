#include "report/layout.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/text.h"

namespace rigwise::report {

namespace {
struct CodePoint {
  std::uint32_t value = 0;
  std::size_t bytes = 1;
};

/// Reads one code point; a broken byte counts as one cell of its own.
CodePoint decode(std::string_view text) {
  const auto at = [&](std::size_t i) -> std::uint32_t {
    return static_cast<unsigned char>(text[i]);
  };
  const std::uint32_t lead = at(0);
  if (lead >= 0xC2 && lead < 0xE0 && text.size() >= 2)
    return {(lead & 0x1F) << 6 | (at(1) & 0x3F), 2};
  if (lead >= 0xE0 && lead < 0xF0 && text.size() >= 3)
    return {(lead & 0x0F) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F), 3};
  if (lead >= 0xF0 && lead < 0xF5 && text.size() >= 4)
    return {(lead & 0x07) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 | (at(3) & 0x3F), 4};
  return {lead, 1};
}

struct Range {
  std::uint32_t first, last;
};
// East Asian wide and emoji blocks (Unicode Standard Annex 11, by block).
constexpr std::array kWide = {
    Range{0x1100, 0x115F},   Range{0x2E80, 0x303E},   Range{0x3041, 0x33FF},
    Range{0x3400, 0x4DBF},   Range{0x4E00, 0x9FFF},   Range{0xA000, 0xA4CF},
    Range{0xAC00, 0xD7A3},   Range{0xF900, 0xFAFF},   Range{0xFE30, 0xFE6F},
    Range{0xFF00, 0xFF60},   Range{0xFFE0, 0xFFE6},   Range{0x1F300, 0x1F64F},
    Range{0x1F900, 0x1F9FF}, Range{0x20000, 0x3FFFD},
};
constexpr std::array kNoWidth = {
    Range{0x0300, 0x036F}, Range{0x200B, 0x200F}, Range{0x202A, 0x202E}, Range{0x2060, 0x206F},
    Range{0x20D0, 0x20FF}, Range{0xFE00, 0xFE0F}, Range{0xFEFF, 0xFEFF},
};
template <std::size_t N>
bool within(const std::array<Range, N>& ranges, std::uint32_t value) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& r) { return value >= r.first && value <= r.last; });
}

/// Zero-width and direction-changing code points hide or reorder what a reader sees.
bool hides(std::uint32_t value) {
  return (value >= 0x200B && value <= 0x200F) || (value >= 0x202A && value <= 0x202E) ||
         (value >= 0x2060 && value <= 0x206F) || value == 0xFEFF || value == 0x2028 ||
         value == 0x2029;
}

bool ends_in_digit(std::string_view word) {
  return !word.empty() && is_digit(word.back());
}
bool starts_with_digit(std::string_view word) {
  return !word.empty() && is_digit(word.front());
}

/// May the line not be broken between these two words?
bool glued(std::string_view left, std::string_view right) {
  if (left == "±" || right == "±" || left == "−" || left == "<" || left == ">") return true;
  if (right == "→" || (left == "→" && starts_with_digit(right))) return true;
  // A number and its unit: "71.4 s", "19 %)", "6 min", and "6 min 12 s" as one.
  if (ends_in_digit(left)) {
    static constexpr std::array<std::string_view, 27> kUnits = {
        "s", "ms", "min", "h", "%",  "B", "kB", "MB", "GB",   "TB",   "KiB",  "MiB",   "GiB", "TiB",
        "W", "°C", "MHz", "d", "of", "x", "s)", "%)", "GiB,", "min,", "runs", "steps", "€"};
    std::string_view bare = right;
    while (!bare.empty() && (bare.back() == ')' || bare.back() == ',' || bare.back() == '.' ||
                             bare.back() == ';' || bare.back() == ':'))
      bare.remove_suffix(1);
    return std::find(kUnits.begin(), kUnits.end(), bare) != kUnits.end();
  }
  return (left == "min" || left == "h" || left == "of") && starts_with_digit(right);
}

/// The longest prefix of `word` that takes at most `width` cells; at least one code point.
std::size_t prefix_bytes(std::string_view word, std::size_t width) {
  std::size_t bytes = 0;
  while (bytes < word.size()) {
    const std::size_t next = bytes + decode(word.substr(bytes)).bytes;
    if (bytes > 0 && display_width(word.substr(0, next)) > width) break;
    bytes = next;
  }
  return bytes;
}
}  // namespace

std::string safe(std::string_view text, std::size_t max_bytes) {
  std::string flat(text.substr(0, max_bytes * 2));
  std::replace_if(
      flat.begin(), flat.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  const std::string clean = clean_text(flat, max_bytes);
  std::string out;
  out.reserve(clean.size());
  for (std::size_t i = 0; i < clean.size();) {
    const CodePoint point = decode(std::string_view(clean).substr(i));
    if (!hides(point.value)) out.append(clean, i, point.bytes);
    i += point.bytes;
  }
  return out;
}

std::size_t display_width(std::string_view text) {
  std::size_t cells = 0;
  while (!text.empty()) {
    if (text[0] == '\x1b') {  // our own colour sequences: ESC [ … m
      const auto end = text.find('m');
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      continue;
    }
    const CodePoint point = decode(text);
    cells += within(kNoWidth, point.value) ? 0 : within(kWide, point.value) ? 2 : 1;
    text.remove_prefix(point.bytes);
  }
  return cells;
}

std::vector<std::string> wrap(std::string_view text, std::size_t width) {
  // Words first glued into pieces that must stay whole, pieces then into lines.
  std::vector<std::string> pieces;
  std::string_view last;
  for (const std::string_view word : split(text, ' ')) {
    if (word.empty()) continue;
    const bool join = !pieces.empty() && glued(last, word) &&
                      display_width(pieces.back()) + 1 + display_width(word) <= width;
    if (join) {
      pieces.back() += ' ';
      pieces.back() += word;
    } else {
      pieces.emplace_back(word);
    }
    last = word;
  }
  std::vector<std::string> lines;
  std::string line;
  const auto flush = [&] {
    if (!line.empty()) lines.push_back(std::move(line));
    line.clear();
  };
  for (const std::string& piece : pieces) {
    if (!line.empty() && display_width(line) + 1 + display_width(piece) > width) flush();
    std::string_view rest = piece;
    while (line.empty() && display_width(rest) > width) {
      const std::size_t bytes = prefix_bytes(rest, width);
      lines.emplace_back(rest.substr(0, bytes));
      rest.remove_prefix(bytes);
    }
    if (!line.empty()) line += ' ';
    line += rest;
  }
  flush();
  return lines;
}

std::string hang(std::string_view first, std::string_view text, std::size_t width) {
  const std::size_t indent = display_width(first);
  std::string out;
  std::string lead(first);
  for (const std::string& line :
       wrap(text, std::max<std::size_t>(width - std::min(width, indent), 20))) {
    out += lead + line + '\n';
    lead.assign(indent, ' ');
  }
  return out;
}

std::string pad_right(std::string text, std::size_t width) {
  const std::size_t cells = display_width(text);
  if (cells < width) text.append(width - cells, ' ');
  return text;
}

std::string pad_left(std::string text, std::size_t width) {
  const std::size_t cells = display_width(text);
  if (cells < width) text.insert(0, width - cells, ' ');
  return text;
}

std::string Paint::wrapped(std::string_view code, std::string_view text) const {
  if (!on_ || text.empty()) return std::string(text);
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

std::size_t line_width(const TextStyle& style) {
  return static_cast<std::size_t>(std::clamp(style.width, 60, 200));
}

std::string Table::text(const TextStyle& style) const {
  if (align.empty()) return {};
  const Paint paint(style);
  const std::size_t width = line_width(style);
  const std::size_t fixed = align.size() - 1;
  std::vector<std::size_t> widths(fixed, 0);
  const auto measure = [&](const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < std::min(fixed, cells.size()); ++i)
      widths[i] = std::max(widths[i], display_width(cells[i]));
  };
  measure(head);
  for (const auto& row : rows) measure(row);
  std::size_t used = indent;
  for (const std::size_t w : widths) used += w + 2;
  const bool beside = used + 20 <= width;
  const std::size_t last_at = beside ? used : indent + 4;
  const std::size_t last_width = width - std::min(width - 20, last_at);

  const auto fixed_part = [&](const std::vector<std::string>& cells) {
    std::string line(indent, ' ');
    for (std::size_t i = 0; i < fixed; ++i) {
      const std::string& cell = i < cells.size() ? cells[i] : std::string();
      line += align[i] == Align::left ? pad_right(cell, widths[i]) : pad_left(cell, widths[i]);
      line += "  ";
    }
    return line;
  };
  const auto trimmed = [](std::string line) {
    while (!line.empty() && line.back() == ' ') line.pop_back();
    return line + '\n';
  };

  std::string out;
  if (!head.empty()) {
    std::string line = fixed_part(head);
    if (beside && head.size() > fixed) line += head[fixed];
    std::string plain = trimmed(line);
    plain.pop_back();
    out += paint.grey(plain) + '\n';
  }
  for (const auto& row : rows) {
    std::string line = fixed_part(row);
    const auto lines =
        row.size() > fixed ? wrap(row[fixed], last_width) : std::vector<std::string>();
    std::size_t next = 0;
    const auto evidence = [&](const std::string& cell) {
      return grey_last ? paint.grey(cell) : cell;
    };
    if (beside && !lines.empty()) line += evidence(lines[next++]);
    out += trimmed(line);
    for (; next < lines.size(); ++next)
      out += trimmed(std::string(last_at, ' ') + evidence(lines[next]));
  }
  return out;
}

}  // namespace rigwise::report
