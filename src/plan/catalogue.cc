#include "rigwise/catalogue.h"

#include <algorithm>
#include <map>

#include "base/csv.h"
#include "base/text.h"
#include "plan/catalogue_data.h"

namespace rigwise {

namespace {

using Row = std::map<std::string, std::string, std::less<>>;

std::vector<Row> rows_of(std::string_view csv) {
  std::vector<Row> rows;
  std::vector<std::string> head;
  std::vector<std::string_view> fields;
  CsvReader reader(csv);
  while (reader.next(fields)) {
    if (head.empty()) {
      head.assign(fields.begin(), fields.end());
      continue;
    }
    Row row;
    for (std::size_t i = 0; i < std::min(head.size(), fields.size()); ++i) {
      row[head[i]] = std::string(fields[i]);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

double number(const Row& row, std::string_view key) {
  const auto found = row.find(key);
  return found == row.end() ? 0 : to_number(found->second).value_or(0);
}
std::string text(const Row& row, std::string_view key) {
  const auto found = row.find(key);
  return found == row.end() ? "" : found->second;
}

/// Letters and digits only, without the vendor's words: "NVIDIA GeForce RTX 3090" is "rtx3090".
std::string key_of(std::string_view name) {
  std::string low = lower(name);
  for (const std::string_view word :
       {"nvidia", "geforce", "amd", "quadro", "tesla", "-sxm4", "-pcie"}) {
    for (auto at = low.find(word); at != std::string::npos; at = low.find(word)) {
      low.erase(at, word.size());
    }
  }
  std::string key;
  for (const char c : low) {
    if ((c >= 'a' && c <= 'z') || is_digit(c) || c == '.') key += c;
  }
  return key;
}

/// The row that has the name or one of its aliases; else the error with the nearest one.
Result<Row> find_row(const std::vector<Row>& rows, std::string_view name, std::string_view what) {
  const std::string key = key_of(name);
  std::vector<std::string> names;
  for (const auto& row : rows) {
    names.push_back(text(row, "name"));
    if (key_of(names.back()) == key) return row;
    const std::string aliases = text(row, "aliases");  // what split() gives looks into it
    for (const auto alias : split(aliases, '|')) {
      if (!alias.empty() && key_of(alias) == key) return row;
    }
  }
  const auto near = nearest_name(lower(name), names);
  return Error{Errc::usage, "unknown " + std::string(what) + " '" + clean_text(name, 80) + "'",
               near ? "did you mean '" + *near + "'? known: " + join(names, ", ")
                    : "known: " + join(names, ", ")};
}

}  // namespace

Result<GpuSpec> find_gpu(std::string_view name) {
  static const auto rows = rows_of(plan::k_gpus_csv);
  RW_TRY(const Row row, find_row(rows, name, "GPU"));
  return GpuSpec{text(row, "name"), number(row, "mem_gib") * kGibBytes, number(row, "power_w"),
                 text(row, "p2p"), text(row, "source")};
}

Result<LinkSpec> find_link(std::string_view name) {
  static const auto rows = rows_of(plan::k_links_csv);
  RW_TRY(const Row row, find_row(rows, name, "link"));
  return LinkSpec{text(row, "name"),
                  number(row, "low_bytes_per_s"),
                  number(row, "usual_bytes_per_s"),
                  number(row, "high_bytes_per_s"),
                  number(row, "latency_s"),
                  text(row, "between") == "hosts",
                  text(row, "source")};
}

std::vector<PsuWindow> psu_windows() {
  std::vector<PsuWindow> windows;
  for (const auto& row : rows_of(plan::k_psus_csv)) {
    windows.push_back(
        {number(row, "window_s"), number(row, "with_12vhpwr_frac"), number(row, "without_frac")});
  }
  return windows;
}

Result<Circuit> find_circuit(std::string_view name) {
  static const auto rows = rows_of(plan::k_circuits_csv);
  RW_TRY(const Row row, find_row(rows, name, "circuit"));
  return Circuit{text(row, "name"), number(row, "volts"), number(row, "amperes")};
}

Result<ModelSource> find_model(std::string_view name) {
  static const auto rows = rows_of(plan::k_models_csv);
  // "org/Name-Instruct-hf" → "name"
  std::string low = lower(name.substr(name.rfind('/') + 1));
  if (low.starts_with("meta-")) low.erase(0, 5);
  for (bool cut = true; cut;) {
    cut = false;
    for (const std::string_view end :
         {"-hf", "-instruct", "-chat", "-it", "-base", "-v0.1", "-v0.2", "-v0.3", "-v1.0",
          "-uncased", "-cased", "-4k", "-128k", "-4bit", "-bnb"}) {
      if (low.size() > end.size() && low.ends_with(end)) {
        low.resize(low.size() - end.size());
        cut = true;
      }
    }
  }
  RW_TRY(const Row row, find_row(rows, low, "model"));
  const auto whole = [&](std::string_view key) {
    return static_cast<std::int64_t>(number(row, key));
  };
  ModelSource source;
  source.name = text(row, "name");
  source.shape = {whole("layers"),   whole("hidden"),          whole("heads"),
                  whole("kv_heads"), whole("head_dim"),        whole("ffn"),
                  whole("vocab"),    number(row, "gated") > 0, number(row, "tied") > 0};
  return source;
}

}  // namespace rigwise
