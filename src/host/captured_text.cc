// Text of captured output: words, numbers with units, padded tables; and the sink of rows.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/clock.h"
#include "base/text.h"
#include "base/wall_time.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {
constexpr std::int64_t kMostRows = 1'000'000;
constexpr std::size_t kMostNotes = 20, kMostDevices = 64, kMostVersions = 2000;
}  // namespace

// ------------------------------------------------------------------------------------------- sink

void Sink::bad(const Line& line) {
  ++into_.reading.malformed;
  if (into_.reading.first_bad_line != 0) return;
  into_.reading.first_bad_line = line.number;
  into_.reading.first_bad_text = clean_text(line.text, 200);
}

void Sink::note(std::string text) {
  auto& notes = into_.notes;
  if (notes.size() >= kMostNotes || std::find(notes.begin(), notes.end(), text) != notes.end()) {
    return;
  }
  notes.push_back(std::move(text));
}

bool Sink::room() {
  if (rows_ >= kMostRows) {
    note("more than 1,000,000 rows: the rest was passed over");
    return false;
  }
  ++rows_;
  return true;
}

bool Sink::gpu(GpuSample sample, std::optional<double> unix_s) {
  if (!room()) return false;
  into_.gpus.push_back({sample, unix_s});
  return true;
}

bool Sink::host(CapturedHost reading, std::optional<double> unix_s) {
  const auto drop = [](std::optional<double>& value) {
    if (value && !std::isfinite(*value)) value.reset();
  };
  for (auto* value : {&reading.busy_frac, &reading.iowait_frac, &reading.steal_frac,
                      &reading.row.mem_available_bytes, &reading.row.swap_used_bytes})
    drop(*value);
  if (!unix_s || !room()) return false;
  into_.hosts.push_back({std::move(reading), unix_s});
  return true;
}

bool Sink::disk(DiskSample sample, std::optional<double> unix_s) {
  if (!unix_s || !room()) return false;
  into_.disks.push_back({std::move(sample), unix_s});
  return true;
}

bool Sink::net(NetSample sample, std::optional<double> unix_s) {
  if (!unix_s || !room()) return false;
  into_.nets.push_back({std::move(sample), unix_s});
  return true;
}

bool Sink::observe(const Line& line, std::string_view subject, std::string_view quantity,
                   double value, std::string_view unit, std::optional<double> unix_s) {
  if (!std::isfinite(value) || !room()) return false;
  into_.observations.push_back({{.line = line.number,
                                 .subject = clean_text(subject, 256),
                                 .quantity = std::string(quantity),
                                 .value = value,
                                 .unit = std::string(unit)},
                                unix_s});
  return true;
}

GpuDevice& Sink::device(int gpu) {
  auto& gpus = into_.rig.gpus;
  const auto found =
      std::find_if(gpus.begin(), gpus.end(), [&](const GpuDevice& d) { return d.gpu == gpu; });
  if (found != gpus.end()) return *found;
  if (gpus.size() >= kMostDevices) {
    note("more than 64 GPUs: the rest was passed over");
    static thread_local GpuDevice beyond;
    return beyond = {};
  }
  gpus.push_back({.gpu = gpu});
  return gpus.back();
}

void Sink::version(std::string_view name, std::string_view value) {
  if (name.empty() || value.empty() || into_.environment.versions.size() >= kMostVersions) return;
  into_.environment.versions.try_emplace(clean_text(name, 100), clean_text(value, 200));
}

void Sink::fact(std::string_view name, std::string_view value) {
  if (name.empty() || value.empty() || into_.environment.facts.size() >= kMostVersions) return;
  into_.environment.facts.try_emplace(clean_text(name, 100), clean_text(value, 400));
}

std::optional<double> Sink::instant(std::string_view text, std::size_t* length) {
  const auto stamp = parse_wall_time(text, unix_s());
  if (!stamp || !stamp->has_date) return std::nullopt;
  if (!stamp->has_zone) into_.local_time = true;
  if (length != nullptr) *length = stamp->length;
  return stamp->unix_s;
}

// ------------------------------------------------------------------------------------------- text

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  std::size_t at = 0;
  while ((at = line.find_first_not_of(" \t", at)) != std::string_view::npos) {
    const std::size_t end = std::min(line.find_first_of(" \t", at), line.size());
    words.push_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

bool says_nothing(std::string_view text) {
  constexpr std::array<std::string_view, 19> kNothing = {"",
                                                         "-",
                                                         "--",
                                                         "–",
                                                         "n/a",
                                                         "na",
                                                         "none",
                                                         "null",
                                                         "err!",
                                                         "unknown",
                                                         "undefined",
                                                         "not supported",
                                                         "not found",
                                                         "[n/a]",
                                                         "[unknown]",
                                                         "unknown error",
                                                         "n/a%",
                                                         "n/aw",
                                                         "could not collect"};
  std::string low = lower(trim(text));
  if (low.size() > 40) return false;
  if (low.size() > 2 && low.front() == '[' && low.back() == ']')
    low = low.substr(1, low.size() - 2);
  return low.find("insufficient permission") != std::string::npos ||
         low.find("requested functionality") != std::string::npos || low == "gpu is lost" ||
         low == "gpu requires reset" ||
         std::find(kNothing.begin(), kNothing.end(), low) != kNothing.end();
}

std::optional<double> number_of(std::string_view text, std::string_view* rest) {
  text = trim(text);
  std::size_t end = 0;
  if (end < text.size() && (text[end] == '-' || text[end] == '+')) ++end;
  const std::size_t first = end;
  std::size_t commas = 0, dots = 0;
  for (; end < text.size(); ++end) {
    const char c = text[end];
    if (is_digit(c)) continue;
    const bool more = end + 1 < text.size() && is_digit(text[end + 1]);
    if (c == '.' && more) {
      ++dots;
    } else if (c == ',' && more) {
      ++commas;
    } else {
      break;
    }
  }
  // an exponent, as JSON and Python print it
  if (end > first && end + 2 < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    std::size_t digits = end + 1;
    if (text[digits] == '-' || text[digits] == '+') ++digits;
    const std::size_t from = digits;
    while (digits < text.size() && is_digit(text[digits])) ++digits;
    if (digits > from) end = digits;
  }
  if (end == first || end - first > 40) return std::nullopt;
  std::string digits(text.substr(0, end));
  if (commas == 1 && dots == 0) {
    std::replace(digits.begin(), digits.end(), ',', '.');  // a decimal comma
  } else if (commas > 0) {
    digits.erase(std::remove(digits.begin(), digits.end(), ','), digits.end());  // thousands
  }
  if (rest != nullptr) *rest = trim(text.substr(end));
  return to_number(digits);
}

std::optional<double> size_of(std::string_view text, double base, double unit_bytes) {
  std::string_view rest;
  const auto number = number_of(text, &rest);
  if (!number) return std::nullopt;
  if (rest.empty()) return *number * unit_bytes;
  std::string unit = lower(rest);
  for (const std::string_view ending : {"ytes", "yte"}) {
    if (unit.size() > ending.size() && unit.ends_with(ending)) {
      unit.resize(unit.size() - ending.size());
    }
  }
  if (unit == "b") return *number;
  constexpr std::string_view kPowers = "kmgtpe";
  const auto power = kPowers.find(unit.front());
  if (power == std::string_view::npos) return std::nullopt;
  const std::string_view behind = std::string_view(unit).substr(1);
  if (behind != "" && behind != "b" && behind != "i" && behind != "ib") return std::nullopt;
  const double of = behind.starts_with("i") ? 1024 : base;
  return *number * std::pow(of, static_cast<double>(power) + 1);
}

bool starts_with_word(std::string_view line, std::string_view word) {
  return line.starts_with(word) &&
         (line.size() == word.size() || line[word.size()] == ' ' || line[word.size()] == '\t');
}

int count_digits(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), is_digit));
}

std::string_view unquoted(std::string_view text) {
  text = trim(text);
  if (text.size() >= 2 && text.front() == text.back() &&
      (text.front() == '"' || text.front() == '\'' || text.front() == '`')) {
    return text.substr(1, text.size() - 2);
  }
  return text;
}

bool is_bus_id(std::string_view text) {
  const auto colon = text.find(':');
  return (colon == 4 || colon == 8) && text.size() == colon + 8 && text[colon + 3] == ':' &&
         text[colon + 6] == '.' &&
         text.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
}

std::string without_escapes(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\x1b') {
      out += text[i];
      continue;
    }
    if (i + 1 >= text.size() || text[i + 1] != '[') continue;
    ++i;
    while (i + 1 < text.size() && (text[i + 1] < '@' || text[i + 1] > '~')) ++i;
    ++i;
  }
  return out;
}

// ----------------------------------------------------------------------------------------- outline

const std::string& Outline::enter(std::size_t indent, std::string_view name) {
  constexpr std::size_t kDeepest = 16;
  while (!levels_.empty() && levels_.back().indent >= indent) levels_.pop_back();
  if (levels_.size() >= kDeepest) levels_.pop_back();
  std::string low = lower(trim(name.substr(0, 100)));
  std::replace(low.begin(), low.end(), ' ', '_');
  levels_.push_back({indent, std::move(low)});
  join_names();
  return path_;
}

void Outline::leave() {
  if (!levels_.empty()) levels_.pop_back();
  join_names();
}

void Outline::join_names() {
  path_.clear();
  for (const auto& level : levels_) {
    if (!path_.empty()) path_ += '/';
    path_ += level.name;
  }
}

bool path_ends(std::string_view path, std::string_view tail) {
  return path.ends_with(tail) &&
         (path.size() == tail.size() || path[path.size() - tail.size() - 1] == '/');
}

// ------------------------------------------------------------------------------------ padded table

namespace {

/// The line as one char a printed cell, so that box characters of a tree count once: every
/// multi-byte character becomes '*'.
std::string cells_of(std::string_view line) {
  std::string out;
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0xC0) {
      out += '*';
    } else if (byte < 0x80) {
      out += c == '\t' ? ' ' : c;
    }
  }
  return out;
}

/// Bytes [from, to) of printed cells of a line.
std::string_view part_of(std::string_view line, std::size_t from, std::size_t to) {
  std::size_t cell = 0, begin = line.size(), end = line.size();
  for (std::size_t i = 0; i < line.size(); ++i) {
    if ((static_cast<unsigned char>(line[i]) & 0xC0) == 0x80) continue;
    if (cell == from) begin = i;
    if (cell == to) {
      end = i;
      break;
    }
    ++cell;
  }
  return begin < end ? line.substr(begin, end - begin) : std::string_view();
}

struct Span {
  std::size_t from = 0, to = 0;
};

std::vector<Span> spans_of(const std::string& cells) {
  std::vector<Span> spans;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (cells[i] == ' ') continue;
    if (spans.empty() || spans.back().to != i) spans.push_back({i, i});
    spans.back().to = i + 1;
  }
  return spans;
}

}  // namespace

PaddedTable::PaddedTable(std::string_view header, const std::vector<std::string_view>& rows) {
  constexpr std::size_t kWidest = 4096;
  std::string ink = cells_of(header.substr(0, kWidest));
  const std::vector<Span> words = spans_of(ink);
  for (const auto& word : words) {
    names_.emplace_back(trim(part_of(header, word.from, word.to)));
  }
  for (const auto row : rows) {
    const std::string cells = cells_of(row.substr(0, kWidest));
    if (cells.size() > ink.size()) ink.resize(cells.size(), ' ');
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (cells[i] != ' ') ink[i] = '#';
    }
  }
  // A group of inked places belongs to the header word that it touches; one that touches none is
  // the later part of a cell with blanks, or stands left of a right-aligned word.
  std::vector<Span> columns(words.size());
  std::vector<bool> seen(words.size(), false);
  std::vector<Span> loose;
  for (const auto& group : spans_of(ink)) {
    bool touched = false;
    std::size_t first = 0, last = 0;
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i].from >= group.to || words[i].to <= group.from) continue;
      if (!touched) first = i;
      last = i;
      touched = true;
    }
    if (!touched) {
      loose.push_back(group);
      continue;
    }
    for (std::size_t i = first; i <= last; ++i) {  // several words: cut at the words
      columns[i] = {i == first ? group.from : words[i].from,
                    i == last ? group.to : words[i + 1].from};
      seen[i] = true;
    }
  }
  for (const auto& group : loose) {
    for (std::size_t i = words.size(); i-- > 0;) {
      if (!seen[i] || columns[i].from > group.from) continue;
      columns[i].to = std::max(columns[i].to, group.to);
      break;
    }
  }
  for (const auto row : rows) {
    auto& cells = cells_.emplace_back();
    for (const auto& column : columns) {
      cells.emplace_back(trim(part_of(row, column.from, column.to)));
    }
  }
}

std::optional<std::size_t> PaddedTable::column(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found == names_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - names_.begin());
}

std::string PaddedTable::cell(std::size_t row, std::optional<std::size_t> column) const {
  if (!column || row >= cells_.size() || *column >= cells_[row].size()) return {};
  return cells_[row][*column];
}

}  // namespace rigwise::captured
