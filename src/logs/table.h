// Tables: rows under column names that were printed once: fastai's and spaCy's blank-aligned
// columns, CSV, tab-separated and boxed ones, the rows of a notebook's HTML.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "logs/entry.h"

namespace rigwise::logs {

class ColumnTable {
 public:
  explicit ColumnTable(Meanings& meanings) : meanings_(meanings) {}

  /// Takes `text` for a header if it is one.
  bool header(std::string_view text);
  /// Reads a row of the remembered header; false when `text` is none.
  bool row(std::string_view text, Entry& entry);
  /// The cells that YOLO draws in front of its bar, under the remembered header.
  bool bar_row(std::string_view description, Entry& entry);
  /// "<th>Step</th>", "<td>10</td>", "</tr>": true when a row became complete.
  bool html(std::string_view text, Entry& entry, bool& used);

  [[nodiscard]] bool known() const { return count_ > 0; }
  /// A row begins with a number or an upright, whatever else stands under the column names.
  static bool may_be_row(std::string_view text);
  void forget() { count_ = 0; }

 private:
  static constexpr std::size_t kMaxColumns = 64;
  enum class Separator : char { blanks = ' ', comma = ',', tab = '\t', box = '|' };

  std::size_t split(std::string_view text, Separator separator, bool names);
  bool header_of_blanks(std::string_view text);
  bool keep(Separator separator, std::size_t count);
  bool fill(std::size_t count, Entry& entry);

  Meanings& meanings_;
  std::array<std::string_view, kMaxColumns> cells_{};
  std::array<Meaning, kMaxColumns> columns_{};
  std::size_t count_ = 0;  // of columns; 0: no header is known
  Separator separator_ = Separator::blanks;
  int misses_ = 0;
  std::string scratch_;

  bool html_header_ = false;
  std::vector<std::string> html_cells_;
};

}  // namespace rigwise::logs
