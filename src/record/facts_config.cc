#include "record/facts_config.h"

#include <toml++/toml.h>

#include <sstream>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"

namespace rigwise {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;
constexpr std::uint64_t kMaxBytes = 1 << 20;
constexpr std::size_t kMaxSettings = 2000;
constexpr int kMaxDepth = 12;

std::string joined(const std::string& parent, std::string_view key) {
  return parent.empty() ? std::string(key) : parent + '.' + std::string(key);
}

void add(Settings& out, std::string key, std::string value) {
  if (out.size() < kMaxSettings && value.size() <= 4096)
    out.emplace_back(std::move(key), std::move(value));
}

// JSON -----------------------------------------------------------------------------------------

std::string json_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return number_text(value.get<double>());
  return value.dump();
}

void flatten(const Json& value, const std::string& path, int depth, Settings& out) {
  if (depth > kMaxDepth || value.is_null()) return;
  if (value.is_object()) {
    for (const auto& [key, member] : value.items())
      flatten(member, joined(path, key), depth + 1, out);
    return;
  }
  if (!value.is_array()) return add(out, path, json_text(value));
  std::string list;
  for (const auto& item : value) {
    if (item.is_object()) {
      flatten(item, path, depth + 1, out);
    } else if (!item.is_array()) {
      if (!list.empty()) list += ',';
      list += json_text(item);
    }
  }
  if (!list.empty()) add(out, path, list);
}

// TOML -----------------------------------------------------------------------------------------

std::string toml_text(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* real = node.as_floating_point()) return number_text(real->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  return {};
}

void flatten(const toml::node& node, const std::string& path, int depth, Settings& out) {
  if (depth > kMaxDepth) return;
  if (const auto* table = node.as_table()) {
    for (const auto& [key, member] : *table)
      flatten(member, joined(path, key.str()), depth + 1, out);
    return;
  }
  if (const auto* array = node.as_array()) {
    std::string list;
    for (const auto& item : *array) {
      if (item.is_table()) {
        flatten(item, path, depth + 1, out);
        continue;
      }
      if (!list.empty()) list += ',';
      list += toml_text(item);
    }
    if (!list.empty()) add(out, path, list);
    return;
  }
  std::string text = toml_text(node);
  if (!text.empty()) add(out, path, std::move(text));
}

// YAML -----------------------------------------------------------------------------------------

/// The value without its comment and quotes; "[a, b]" as "a,b". Empty: no plain value.
std::string yaml_value(std::string_view text) {
  text = trim(text);
  if (text.empty() || text.front() == '#') return {};
  if (text.front() == '"' || text.front() == '\'') {
    const std::size_t close = text.find(text.front(), 1);
    return close == std::string_view::npos ? std::string() : std::string(text.substr(1, close - 1));
  }
  const std::size_t comment = text.find(" #");
  text = trim(text.substr(0, comment));
  if (text.empty() || std::string_view("|>&*!{@`%").find(text.front()) != std::string_view::npos)
    return {};
  if (text == "null" || text == "~") return {};
  if (text.front() == '[' && text.back() == ']') {
    std::string list;
    for (auto item : split(text.substr(1, text.size() - 2), ',')) {
      item = trim(item);
      if (item.size() >= 2 && (item.front() == '"' || item.front() == '\''))
        item = item.substr(1, item.size() - 2);
      if (!list.empty()) list += ',';
      list += item;
    }
    return list;
  }
  return std::string(text);
}

Settings read_yaml(std::string_view text) {
  Settings out;
  std::vector<std::pair<std::size_t, std::string>> parents;  // indentation and path
  std::string list_path, list;
  const auto end_list = [&] {
    if (!list.empty()) add(out, list_path, list);
    list.clear();
  };
  for (std::string_view line : split(text, '\n')) {
    std::size_t indent = 0;
    while (indent < line.size() && line[indent] == ' ') ++indent;
    std::string_view rest = trim(line);
    if (rest.empty() || rest.front() == '#' || rest == "---") continue;
    bool item = false;
    if (rest.starts_with("- ")) {
      item = true;
      rest = trim(rest.substr(2));
      indent += 1;  // an item may stand as far left as its key
    }
    while (!parents.empty() && parents.back().first >= indent) parents.pop_back();
    const std::string parent = parents.empty() ? std::string() : parents.back().second;
    std::size_t colon = rest.find(": ");
    if (colon == std::string_view::npos && rest.ends_with(":")) colon = rest.size() - 1;
    if (colon == std::string_view::npos || rest.front() == '"' || rest.front() == '[') {
      if (item && !parent.empty()) {
        if (list_path != parent) end_list(), list_path = parent;
        const std::string value = yaml_value(rest);
        if (!list.empty()) list += ',';
        list += value;
      }
      continue;
    }
    end_list();
    const std::string path = joined(parent, trim(rest.substr(0, colon)));
    std::string value = yaml_value(rest.substr(colon + 1));
    if (value.empty()) {
      // In an item the next keys stand two columns further right than the dash.
      if (parents.size() < static_cast<std::size_t>(kMaxDepth)) parents.emplace_back(indent, path);
    } else {
      add(out, path, std::move(value));
    }
  }
  end_list();
  return out;
}

}  // namespace

Settings settings_of_file(const std::filesystem::path& path) {
  const auto text = read_file(path, kMaxBytes);
  if (!text) return {};
  const std::string ending = lower(path.extension().string());
  Settings out;
  if (ending == ".json") {
    const auto json = parse_json(*text);
    if (json) flatten(*json, "", 0, out);
  } else if (ending == ".toml") {
    try {
      const toml::table table = toml::parse(std::string_view(*text));
      flatten(table, "", 0, out);
    } catch (const std::exception&) {
      return {};  // half-written or no TOML: no facts from it
    }
  } else if (ending == ".yaml" || ending == ".yml") {
    out = read_yaml(*text);
  }
  return out;
}

}  // namespace rigwise
