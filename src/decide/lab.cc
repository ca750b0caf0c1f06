// lab.toml: the [experiment] table (the sealed statement) and the [context] table. toml++ reads;
// writing splices values into the text, so that other tables, comments and order survive.
#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "rigwise/decide.h"
#include "rigwise/units.h"

namespace rigwise {

namespace {

constexpr std::uint64_t kMaxLabBytes = std::uint64_t{1} << 20;
constexpr std::size_t kMaxFieldBytes = 4000;
constexpr std::string_view kTable = "experiment";

struct Field {
  std::string_view key;
  std::string Statement::*member;
};
// In the order in which a person thinks, and in which the file is written.
constexpr std::array kFields = {
    Field{"name", &Statement::experiment},     Field{"bottleneck", &Statement::bottleneck},
    Field{"threshold", &Statement::threshold}, Field{"option", &Statement::option},
    Field{"reason", &Statement::reason},       Field{"stop", &Statement::stop},
    Field{"baseline", &Statement::baseline},   Field{"candidate", &Statement::candidate},
};
constexpr std::array<std::string_view, 2> kSealKeys = {"sealed", "hash"};

constexpr std::string_view kNewFileHead =
    "# The lab's own page: what is tried, and when it has paid off. `rigwise init` writes the\n"
    "# [experiment] table and seals it; runs carry a copy, so a later change shows in the "
    "record.\n";

std::string one_line(std::string_view text) {
  std::string flat(text);
  std::replace(flat.begin(), flat.end(), '\n', ' ');
  return std::string(trim(clean_text(flat, kMaxFieldBytes)));
}

std::string place(const std::filesystem::path& path, const toml::source_region& source) {
  return fmt::format("{}:{}:{}", path.filename().string(), source.begin.line, source.begin.column);
}

Result<toml::table> parse_toml(const std::filesystem::path& path, const std::string& text) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    return Error{
        Errc::malformed,
        fmt::format("{}: {}", place(path, error.source()), clean_text(error.description(), 300)),
        "correct that line; rigwise changes nothing in a file it cannot read"};
  } catch (const std::exception& error) {
    return Error{Errc::malformed,
                 fmt::format("{}: {}", path.string(), clean_text(error.what(), 300))};
  }
}

struct LabFile {
  std::string text = {};
  toml::table tables = {};
};

Result<LabFile> load(const std::filesystem::path& path) {
  LabFile file;
  RW_TRY(file.text, read_file(path, kMaxLabBytes));
  RW_TRY(file.tables, parse_toml(path, file.text));
  return file;
}

/// A key that looks like a slip of an owned one would silently drop what the user wrote.
Status check_keys(const std::filesystem::path& path, const toml::table& table) {
  std::vector<std::string> known;
  for (const auto& field : kFields) known.emplace_back(field.key);
  known.insert(known.end(), kSealKeys.begin(), kSealKeys.end());
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const auto near = nearest_name(name, known);
    if (!near || table.contains(*near)) continue;
    return Error{Errc::malformed,
                 fmt::format("{}: unknown key '{}' in [{}]", place(path, key.source()),
                             clean_text(name, 80), kTable),
                 fmt::format("did you mean '{}'?", *near)};
  }
  return Ok{};
}

Result<std::string> text_of(const std::filesystem::path& path, const toml::table& table,
                            std::string_view key) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return std::string();
  const auto value = node->value<std::string>();
  if (!node->is_string() || !value) {
    return Error{Errc::malformed,
                 fmt::format("{}: '{}' is not text", place(path, node->source()), key),
                 "put it in quotes"};
  }
  if (value->size() > kMaxFieldBytes) {
    return Error{Errc::malformed, fmt::format("{}: '{}' is longer than {} bytes",
                                              place(path, node->source()), key, kMaxFieldBytes)};
  }
  return one_line(*value);
}

/// When the statement was sealed: only if the seal's hash is that of the text which stands there
/// now. After an edit by hand nobody knows when this wording was first written.
std::optional<double> sealed_of(const toml::table& table, const std::string& hash_now) {
  const auto hash = table["hash"].value<std::string>();
  if (!hash || *hash != hash_now) return std::nullopt;
  const auto when = table["sealed"].value<toml::date_time>();
  if (!when || !when->offset) return std::nullopt;
  const std::chrono::year_month_day day(std::chrono::year(when->date.year),
                                        std::chrono::month(when->date.month),
                                        std::chrono::day(when->date.day));
  if (!day.ok()) return std::nullopt;
  const auto days = std::chrono::sys_days(day).time_since_epoch().count();
  return static_cast<double>(days) * 86400 + when->time.hour * 3600 + when->time.minute * 60 +
         when->time.second + static_cast<double>(when->time.nanosecond) * 1e-9 -
         when->offset->minutes * 60.0;
}

Result<Statement> statement_of(const std::filesystem::path& path, const toml::table& tables) {
  const toml::node* node = tables.get(kTable);
  if (node == nullptr) {
    return Error{Errc::not_found,
                 fmt::format("{}: no [{}] table, so nothing is sealed", path.string(), kTable),
                 "rigwise init writes it"};
  }
  const toml::table* table = node->as_table();
  if (table == nullptr) {
    return Error{Errc::malformed,
                 fmt::format("{}: '{}' is not a table", place(path, node->source()), kTable)};
  }
  RW_CHECK(check_keys(path, *table));
  Statement statement;
  for (const auto& field : kFields) {
    RW_TRY(statement.*field.member, text_of(path, *table, field.key));
  }
  if (!statement.threshold.empty()) {
    const auto threshold = parse_threshold(statement.threshold);
    if (!threshold) {
      return Error(threshold.error()).at(place(path, table->get("threshold")->source()));
    }
  }
  statement.hash = statement_hash(statement);
  statement.sealed_unix_s = sealed_of(*table, statement.hash);
  return statement;
}

// ---- writing ----------------------------------------------------------------------------------

std::string toml_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\t') {
      out += "\\t";
    } else {
      out += c;
    }
  }
  return out + '"';
}

/// Byte offset of a 1-based line and column (columns count characters).
std::size_t offset_of(std::string_view text, const toml::source_position& position) {
  std::size_t at = 0;
  for (toml::source_index line = 1; line < position.line && at < text.size(); ++line) {
    at = std::min(text.find('\n', at), text.size() - 1) + 1;
  }
  for (toml::source_index column = 1; column < position.column && at < text.size(); ++column) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  }
  return at;
}

struct Value {
  std::string key, text;
};

/// What the table shall hold. A field that is empty is written only where one stands already.
std::vector<Value> values_of(const Statement& statement, double sealed_unix_s,
                             const toml::table* old) {
  std::vector<Value> values;
  for (const auto& field : kFields) {
    const std::string text = one_line(statement.*field.member);
    if (text.empty() && (old == nullptr || !old->contains(field.key))) continue;
    values.push_back({std::string(field.key), toml_string(text)});
  }
  values.push_back({"sealed", format_iso_utc(sealed_unix_s)});
  values.push_back({"hash", toml_string(statement_hash(statement))});
  return values;
}

std::string lines_of(const std::vector<Value>& values) {
  std::string lines;
  for (const auto& value : values) lines += fmt::format("{} = {}\n", value.key, value.text);
  return lines;
}

struct Splice {
  std::size_t from, to;
  std::string text;
};

/// Replaces values in place; keys that are new go below the table's last own line.
std::string spliced(const std::string& text, const toml::table& table,
                    const std::vector<Value>& values) {
  std::vector<Splice> splices;
  std::vector<Value> fresh;
  std::size_t below = offset_of(text, table.source().end);
  for (const auto& [key, node] : table) {
    if (node.is_table() || node.is_array_of_tables()) continue;
    below = std::max(below, offset_of(text, node.source().end));
  }
  for (const auto& value : values) {
    const toml::node* node = table.get(value.key);
    if (node == nullptr) {
      fresh.push_back(value);
      continue;
    }
    splices.push_back(
        {offset_of(text, node->source().begin), offset_of(text, node->source().end), value.text});
  }
  const std::size_t line_end = std::min(text.find('\n', below), text.size());
  splices.push_back({line_end, line_end, fresh.empty() ? "" : "\n" + lines_of(fresh)});
  if (!fresh.empty()) splices.back().text.pop_back();
  std::stable_sort(splices.begin(), splices.end(),
                   [](const Splice& a, const Splice& b) { return a.from > b.from; });
  std::string out = text;
  for (const auto& splice : splices) {
    out.replace(splice.from, splice.to - splice.from, splice.text);
  }
  return out;
}

/// The written text must read back as the statement, with every foreign key unchanged.
Status verify(const std::filesystem::path& path, const std::string& text, const toml::table& before,
              const Statement& statement) {
  const Error refusal{
      Errc::conflict,
      fmt::format("{}: [{}] is written in a way that cannot be edited safely", path.string(),
                  kTable),
      "make it an ordinary table ([experiment], then one key = \"value\" a line) and try again"};
  auto after = parse_toml(path, text);
  if (!after) return refusal;
  const auto read = statement_of(path, *after);
  if (!read || read->hash != statement_hash(statement)) return refusal;
  toml::table old = before;
  for (toml::table* tables : {&old, &*after}) {
    if (toml::table* own = (*tables)[kTable].as_table(); own != nullptr) {
      for (const auto& field : kFields) own->erase(field.key);
      for (const auto key : kSealKeys) own->erase(key);
      if (own->empty()) tables->erase(kTable);
    }
  }
  if (old != *after) return refusal;
  return Ok{};
}

Result<std::vector<std::string>> names_of(const std::filesystem::path& path,
                                          const toml::table& table, std::string_view key,
                                          const std::vector<std::string>& known) {
  std::vector<std::string> names;
  const toml::node* node = table.get(key);
  if (node == nullptr) return names;
  const toml::array* array = node->as_array();
  const Error bad{Errc::malformed,
                  fmt::format("{}: '{}' is not a list of names", place(path, node->source()), key),
                  fmt::format("write: {} = [\"{}\"]", key, known.front())};
  if (array == nullptr) return bad;
  for (const auto& element : *array) {
    const auto text = element.value<std::string>();
    if (!text) return bad;
    const std::string name = lower(one_line(*text));
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const auto near = nearest_name(name, known);
      return Error{
          Errc::malformed,
          fmt::format("{}: '{}' is not known in {}", place(path, element.source()), name, key),
          near ? fmt::format("did you mean '{}'?", *near) : "known: " + join(known, ", ")};
    }
    names.push_back(name);
  }
  return names;
}

}  // namespace

std::string statement_hash(const Statement& statement) {
  std::string text;
  for (const auto* field :
       {&statement.bottleneck, &statement.threshold, &statement.option, &statement.reason,
        &statement.stop, &statement.baseline, &statement.candidate, &statement.experiment}) {
    text += one_line(*field) + '\n';
  }
  return sha256_hex(text);
}

Result<Statement> read_lab(const std::filesystem::path& path) {
  RW_TRY(const LabFile file, load(path));
  return statement_of(path, file.tables);
}

Status write_lab(const std::filesystem::path& path, const Statement& statement) {
  if (const auto gaps = statement_gaps(statement); !gaps.empty()) {
    return Error{Errc::usage, join(gaps, "\n"),
                 "a claim without a metric, a number and a reason cannot be tested"};
  }
  LabFile file;
  if (auto loaded = load(path)) {
    file = std::move(*loaded);
  } else if (loaded.error().code != Errc::not_found) {
    return loaded.error();
  }
  const std::string hash = statement_hash(statement);
  const toml::table* old = file.tables[kTable].as_table();
  // The same words keep the moment at which they were first sealed.
  std::optional<double> sealed_unix_s = statement.sealed_unix_s;
  if (old != nullptr) {
    if (const auto before = sealed_of(*old, hash)) sealed_unix_s = before;
  }
  const auto values = values_of(statement, std::floor(sealed_unix_s.value_or(unix_s())), old);
  std::string text = file.text.empty() ? std::string(kNewFileHead) : file.text;
  if (old != nullptr) {
    text = spliced(text, *old, values);
  } else {
    if (!text.ends_with('\n')) text += '\n';
    text += fmt::format("\n[{}]\n{}", kTable, lines_of(values));
  }
  RW_CHECK(verify(path, text, file.tables, statement));
  return write_file_atomic(path, text);
}

Result<LabContext> read_context(const std::filesystem::path& path) {
  LabContext context;
  auto file = load(path);
  if (!file) {
    if (file.error().code == Errc::not_found) return context;
    return std::move(file).error();
  }
  const toml::node* node = file->tables.get("context");
  if (node == nullptr) return context;
  const toml::table* table = node->as_table();
  if (table == nullptr) {
    return Error{Errc::malformed,
                 fmt::format("{}: 'context' is not a table", place(path, node->source()))};
  }
  if (const toml::node* fits = table->get("fits_on_one"); fits != nullptr) {
    context.fits_known = fits->is_boolean() ? fits->value<bool>() : std::nullopt;
    if (!context.fits_known) {
      return Error{Errc::malformed, fmt::format("{}: 'fits_on_one' is neither true nor false",
                                                place(path, fits->source()))};
    }
    context.fits_on_one = *context.fits_known;
  }
  RW_TRY(context.waits_for_training,
         names_of(path, *table, "waits_for_training", {"evaluation", "demos"}));
  RW_TRY(context.tried,
         names_of(path, *table, "tried", {"quantisation", "lora", "sequence", "checkpointing"}));
  RW_TRY(context.agenda,
         names_of(path, *table, "agenda", {"users", "backups", "failures", "heat"}));
  return context;
}

}  // namespace rigwise
