#include "base/csv.h"

#include "base/text.h"

namespace rigwise {

void CsvRow::separate() {
  if (!first_) text_ += ',';
  first_ = false;
}

CsvRow& CsvRow::add(std::string_view text) {
  separate();
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) {
    text_ += text;
    return *this;
  }
  text_ += '"';
  for (const char c : text) {
    if (c == '\n' || c == '\r') continue;
    if (c == '"') text_ += '"';
    text_ += c;
  }
  text_ += '"';
  return *this;
}

CsvRow& CsvRow::add(double value) {
  separate();
  text_ += number_text(value);
  return *this;
}

CsvRow& CsvRow::add(const std::optional<double>& value) {
  return value ? add(*value) : add_empty();
}

CsvRow& CsvRow::add_integer(std::int64_t value) {
  separate();
  text_ += std::to_string(value);
  return *this;
}

CsvRow& CsvRow::add_empty() {
  separate();
  return *this;
}

bool CsvReader::next(std::vector<std::string_view>& fields) {
  const auto end = rest_.find('\n');
  if (end == std::string_view::npos) {
    torn_ = !rest_.empty();
    return false;
  }
  std::string_view row = rest_.substr(0, end);
  rest_.remove_prefix(end + 1);
  ++line_;
  if (!row.empty() && row.back() == '\r') row.remove_suffix(1);

  fields.clear();
  unquoted_.clear();
  if (row.find('"') == std::string_view::npos) {
    for (;;) {
      const auto comma = row.find(',');
      fields.push_back(row.substr(0, comma));
      if (comma == std::string_view::npos) return true;
      row.remove_prefix(comma + 1);
    }
  }
  std::vector<std::string> parts(1);
  bool quoted = false;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const char c = row[i];
    if (c == '"' && quoted && i + 1 < row.size() && row[i + 1] == '"') {
      parts.back() += '"';
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  unquoted_ = std::move(parts);
  for (const auto& part : unquoted_) fields.emplace_back(part);
  return true;
}

}  // namespace rigwise
