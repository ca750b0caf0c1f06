#include "logs/table.h"

namespace rigwise::logs {
namespace {

constexpr std::size_t kMaxLine = 4096;
constexpr int kMaxMisses = 200;  // lines that are no row, since the last one that was

/// Box glyphs "│" and "┃" (three bytes) as '|'. Nothing to do: the text itself.
std::string_view plain_box(std::string_view text, std::string& scratch) {
  if (text.find("\xe2\x94") == std::string_view::npos) return text;
  scratch.clear();
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view glyph = text.substr(i, 3);
    if (glyph == "\xe2\x94\x82" || glyph == "\xe2\x94\x83") {
      scratch.push_back('|');
      i += 3;
    } else {
      scratch.push_back(text[i++]);
    }
  }
  return scratch;
}

bool is_name(std::string_view cell) {
  if (cell == "#") return true;
  if (cell.empty() || cell.size() > 48 || (!is_letter(cell[0]) && cell[0] != '%')) return false;
  int blanks = 0;
  for (const char byte : cell) {
    if (byte == ':' || byte == '=' || byte == '"' || byte == '\'') return false;
    if (byte == ' ') ++blanks;
  }
  return blanks <= 3;
}

}  // namespace

/// Cuts `text` into cells_. Blanks between names are two or more, between values any.
std::size_t ColumnTable::split(std::string_view text, Separator separator, bool names) {
  std::size_t count = 0;
  if (separator == Separator::blanks) {
    std::size_t at = 0;
    while (at < text.size()) {
      while (at < text.size() && is_blank(text[at])) ++at;
      if (at == text.size()) break;
      const std::size_t from = at;
      while (at < text.size()) {
        if (text[at] == '\t') break;
        if (text[at] == ' ' && (!names || at + 1 == text.size() || is_blank(text[at + 1]))) break;
        ++at;
      }
      if (count == kMaxColumns) return 0;
      const std::string_view cell = text.substr(from, at - from);
      const bool mark = (class_of(cell[0]) & kHigh) != 0 && !names && cell.size() <= 4;
      if (!mark) cells_[count++] = cell;  // not "▼", which says that the loss fell
    }
    return count;
  }
  if (separator == Separator::box) {
    text = strip(text);
    if (text.starts_with('|')) text.remove_prefix(1);
    if (text.ends_with('|')) text.remove_suffix(1);
  }
  while (true) {
    const std::size_t end = text.find(static_cast<char>(separator));
    if (count == kMaxColumns) return 0;
    cells_[count++] = strip(text.substr(0, end));
    if (end == std::string_view::npos) return count;
    text.remove_prefix(end + 1);
  }
}

bool ColumnTable::keep(Separator separator, std::size_t count) {
  if (count < 2) return false;
  std::array<Meaning, kMaxColumns> columns{};
  std::size_t known = 0;
  bool where = false, what = false;
  for (std::size_t i = 0; i < count; ++i) {
    if (cells_[i].empty() && separator != Separator::blanks) continue;
    if (!is_name(cells_[i])) return false;
    Meaning meaning = meanings_.of(cells_[i]);
    if (cells_[i] == "#" && i == 1 && cells_[0] == "E") {  // spaCy
      meaning.figure = Figure::step;
      columns[0].figure = Figure::epoch;
      where = true;
      ++known;
    }
    columns[i] = meaning;
    if (meaning.figure == Figure::none) continue;
    ++known;
    where = where || meaning.figure == Figure::step || meaning.figure == Figure::epoch;
    what = what || meaning.figure == Figure::loss || meaning.figure == Figure::eval_loss ||
           meaning.figure == Figure::component;
  }
  // Some column names a place in the training and another what is told there.
  if (!where || !what || known < 2) return false;
  columns_ = columns;
  count_ = count;
  separator_ = separator;
  misses_ = 0;
  return true;
}

bool ColumnTable::header(std::string_view text) {
  if (text.size() < 8 || text.size() > kMaxLine) return false;
  const Shape shape = shape_of(text);
  if ((shape & kHigh) != 0) text = plain_box(text, scratch_);
  if ((shape & (kHigh | kBar)) == 0) return header_of_blanks(text);
  if (text.find('|') != std::string_view::npos)
    return keep(Separator::box, split(text, Separator::box, true));
  if (text.find(',') != std::string_view::npos)
    return keep(Separator::comma, split(text, Separator::comma, true));
  if (text.find('\t') != std::string_view::npos &&
      keep(Separator::tab, split(strip(text), Separator::tab, true)))
    return true;
  return header_of_blanks(text);
}

bool ColumnTable::header_of_blanks(std::string_view text) {
  if (text.find("  ") != std::string_view::npos)
    return keep(Separator::blanks, split(text, Separator::blanks, true));
  // One blank between names: only when each is a name that is known.
  text = strip(text);
  if (meanings_.of(text.substr(0, text.find(' '))).figure == Figure::none) return false;
  const std::size_t count = split(text, Separator::blanks, false);
  if (count < 3) return false;
  for (std::size_t i = 0; i < count; ++i)
    if (meanings_.of(cells_[i]).figure == Figure::none) return false;
  return keep(Separator::blanks, count);
}

bool ColumnTable::fill(std::size_t count, Entry& entry) {
  if (count != count_) return false;
  std::size_t numbers = 0, known = 0;
  Value value;
  for (std::size_t i = 0; i < count; ++i) {
    const bool number = read_value(cells_[i], value);
    if (number) ++numbers;
    if (columns_[i].figure == Figure::none) continue;
    // mlx-lm: "  6   val 5.704   0.03s" stands among the rows of training
    if (!number && columns_[i].figure == Figure::loss && i > 0 && i + 1 < count &&
        (equals_word(cells_[i], "val") || equals_word(cells_[i], "eval")) &&
        read_value(cells_[i + 1], value))
      return entry.set(Figure::eval_loss, value.number.value);
    if (!number) {
      const bool absent = cells_[i].empty() || cells_[i] == "-" || equals_word(cells_[i], "none") ||
                          equals_word(cells_[i], "no log");
      if (!absent) return false;
      continue;
    }
    ++entry.pairs;
    if (entry.set(columns_[i], value)) ++known;
  }
  return numbers >= 2 && known >= 2;
}

bool ColumnTable::may_be_row(std::string_view text) {
  text = strip(text);
  if (text.empty() || (class_of(text[0]) & (kDigit | kBar | kHigh)) == 0) return false;
  std::size_t digits = 0;
  while (digits < text.size() && is_digit(text[digits])) ++digits;
  return digits == 0 || digits == text.size() || text[digits] != '-';  // no time stamp
}

bool ColumnTable::row(std::string_view text, Entry& entry) {
  if (count_ == 0 || text.size() > kMaxLine || !may_be_row(text)) return false;
  const std::string_view plain = separator_ == Separator::box ? plain_box(text, scratch_) : text;
  if (fill(split(separator_ == Separator::tab ? strip(plain) : plain, separator_, false), entry)) {
    misses_ = 0;
    return true;
  }
  entry.clear();
  if (++misses_ > kMaxMisses) forget();
  return false;
}

bool ColumnTable::bar_row(std::string_view description, Entry& entry) {
  if (count_ == 0 || separator_ != Separator::blanks) return false;
  const std::size_t count = split(description, separator_, false);
  if (count == count_ && fill(count, entry)) return true;
  entry.clear();
  return false;
}

bool ColumnTable::html(std::string_view text, Entry& entry, bool& used) {
  bool row = false;
  for (std::size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at + 1)) {
    const std::string_view tag = text.substr(at);
    const bool name = tag.starts_with("<th>"), cell = tag.starts_with("<td>");
    if (name || cell) {
      const std::size_t end = tag.find('<', 4);
      if (end == std::string_view::npos || html_cells_.size() >= kMaxColumns) return row;
      html_header_ = name;
      html_cells_.emplace_back(strip(tag.substr(4, std::min<std::size_t>(end - 4, 64))));
      used = true;
    } else if (tag.starts_with("</tr>")) {
      const std::size_t count = html_cells_.size();
      for (std::size_t i = 0; i < count; ++i) cells_[i] = html_cells_[i];
      if (html_header_)
        keep(Separator::tab, count);
      else if (!row && fill(count, entry))
        row = true;
      html_cells_.clear();
    } else if (tag.starts_with("<tr") || tag.starts_with("<table")) {
      html_cells_.clear();
    }
  }
  return row;
}

}  // namespace rigwise::logs
