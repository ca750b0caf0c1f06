// CSV as rigwise writes it: comma, one header line, RFC 4180 quotes only where needed, no newline
// inside a field (newlines are dropped on writing), so that `less`, a spreadsheet and pandas all
// read it, and a torn last row is recognised by its missing newline.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rigwise {

/// One row's text, built field by field.
class CsvRow {
 public:
  CsvRow& add(std::string_view text);
  CsvRow& add(double value);  // shortest text that reads back the same
  CsvRow& add(const std::optional<double>& value);
  CsvRow& add_integer(std::int64_t value);
  CsvRow& add_empty();
  [[nodiscard]] std::string line() const { return text_ + '\n'; }

 private:
  void separate();
  std::string text_;
  bool first_ = true;
};

/// Walks the whole rows of a file's text; a last row without newline is not returned.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) : rest_(text) {}
  /// The next row's fields, unquoted; false at the end. Views live until the next call.
  bool next(std::vector<std::string_view>& fields);
  [[nodiscard]] std::int64_t line() const { return line_; }  // 1-based, of the row just returned
  [[nodiscard]] bool torn() const { return torn_; }          // a half row was left at the end

 private:
  std::string_view rest_;
  std::vector<std::string> unquoted_;
  std::int64_t line_ = 0;
  bool torn_ = false;
};

}  // namespace rigwise
