// Joining of values to entries, and the stores that are text: MLflow's files, trainer_state.json,
// wandb-summary.json.
#include "logs/stores.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "base/text.h"

namespace rigwise {

namespace stores {

namespace {

constexpr double kTogether_s = 0.5;

/// Training, evaluation and closing figures stand in entries of their own, as trainers print them.
std::string family_of(std::string_view name) {
  const std::string low = lower(name);
  const auto last = low.substr(low.rfind('/') + 1);
  for (const std::string_view closing :
       {"train_runtime", "train_loss", "train_samples_per_second", "train_steps_per_second",
        "total_flos", "train_tokens_per_second"}) {
    if (last == closing && (low.starts_with("train/") || low == last)) return "summary";
  }
  const auto head = low.substr(0, low.find_first_of("/_. "));
  for (const std::string_view eval :
       {"eval", "evaluation", "val", "valid", "validation", "test", "dev"}) {
    if (head == eval || low.ends_with("/" + std::string(eval))) return "eval";
  }
  return "train";
}

}  // namespace

bool is_system_name(std::string_view name) {
  const std::string low = lower(name);
  return low.starts_with("system/") || low.starts_with("system.") || low.starts_with("_wandb") ||
         low == "_runtime" || low == "_timestamp" || low == "_step";
}

bool is_step_name(std::string_view name) {
  return name == "train/global_step" || name == "trainer/global_step" || name == "global_step";
}

void Grouper::add(Point point) {
  ++store_.reading.lines;
  if (is_system_name(point.name)) {
    ++store_.reading.skipped;
    return;
  }
  ++store_.reading.matched;
  const std::string family = family_of(point.name);
  auto& entries = store_.entries;
  const auto joins = [&] {
    if (!open_ || entries.empty() || family != family_) return false;
    const MetricEntry& last = entries.back();
    if (last.step != point.step || last.values.size() >= kMostValues) return false;
    if (last.unix_s && point.unix_s && std::fabs(*point.unix_s - *last.unix_s) > kTogether_s)
      return false;
    return std::none_of(last.values.begin(), last.values.end(),
                        [&](const auto& value) { return value.first == point.name; });
  };
  if (!joins()) {
    if (entries.size() >= kMostEntries) {
      --store_.reading.matched;
      ++store_.reading.skipped;
      return;
    }
    entries.push_back({.step = point.step});
    family_ = family;
    open_ = true;
  }
  MetricEntry& entry = entries.back();
  if (point.unix_s) entry.unix_s = std::max(entry.unix_s.value_or(*point.unix_s), *point.unix_s);
  entry.values.emplace_back(std::move(point.name), point.value);
}

void Grouper::add(MetricEntry entry) {
  const auto count = static_cast<std::int64_t>(entry.values.size());
  store_.reading.lines += count;
  if (store_.entries.size() >= kMostEntries || entry.values.empty()) {
    store_.reading.skipped += count;
    return;
  }
  store_.reading.matched += count;
  store_.entries.push_back(std::move(entry));
  open_ = false;
}

void add_system(double unix_s, std::string name, double value, MetricStore& store) {
  ++store.reading.lines;
  auto& readings = store.system;
  const bool joins = !readings.empty() && readings.back().unix_s == unix_s &&
                     readings.back().values.size() < kMostValues;
  if (!std::isfinite(value) || !(unix_s > 0 && unix_s < 1e11) ||
      (!joins && readings.size() >= kMostEntries)) {
    ++store.reading.skipped;
    return;
  }
  ++store.reading.matched;
  if (!joins) readings.push_back({.unix_s = unix_s});
  readings.back().values.emplace_back(std::move(name), value);
}

std::string setting_text(const Json& value) {
  if (value.is_string()) return clean_text(value.get<std::string>(), 512);
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number_integer()) return std::to_string(value.get<std::int64_t>());
  if (value.is_number()) return number_text(value.get<double>());
  if (value.is_array() && value.size() <= 64) {
    std::vector<std::string> parts;
    for (const auto& item : value) {
      auto part = item.is_structured() ? std::string() : setting_text(item);
      if (part.empty()) return {};
      parts.push_back(std::move(part));
    }
    return join(parts, ",");
  }
  return {};
}

void add_settings(const Json& json, const std::string& prefix, MetricStore& store, int depth) {
  if (!json.is_object() || depth > 6) return;
  for (const auto& [key, value] : json.items()) {
    if (store.settings.size() >= kMostSettings) return;
    const std::string name = prefix + clean_text(key, 100);
    if (value.is_object()) {
      add_settings(value, name + '.', store, depth + 1);
    } else if (auto text = setting_text(value); !text.empty()) {
      store.settings.emplace_back(name, std::move(text));
    }
  }
}

// ------------------------------------------------------------------------------------- protobuf

std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 10 && i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << (7 * i);
    if ((byte & 0x80) != 0) continue;
    bytes.remove_prefix(i + 1);
    return value;
  }
  return std::nullopt;
}

std::uint64_t little_endian(std::string_view bytes, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count && i < bytes.size(); ++i) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return value;
}

bool ProtoFields::next() {
  if (rest_.empty() || malformed_) return false;
  malformed_ = true;  // until the field is whole
  const auto key = take_varint(rest_);
  if (!key || *key >> 3 == 0 || *key >> 3 > 0x1FFFFFFF) return false;
  number_ = static_cast<std::uint32_t>(*key >> 3);
  wire_ = static_cast<int>(*key & 7);
  bytes_ = {};
  value_ = 0;
  if (wire_ == 0) {
    const auto value = take_varint(rest_);
    if (!value) return false;
    value_ = *value;
  } else if (wire_ == 1 || wire_ == 5) {
    const std::size_t size = wire_ == 1 ? 8 : 4;
    if (rest_.size() < size) return false;
    value_ = little_endian(rest_, size);
    rest_.remove_prefix(size);
  } else if (wire_ == 2) {
    const auto size = take_varint(rest_);
    if (!size || *size > rest_.size()) return false;
    bytes_ = rest_.substr(0, static_cast<std::size_t>(*size));
    rest_.remove_prefix(bytes_.size());
  } else {
    return false;  // groups: none of ours has any
  }
  malformed_ = false;
  return true;
}

double shortest(float value) {
  if (!std::isfinite(value)) return static_cast<double>(value);
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return to_number({text, static_cast<std::size_t>(end - text)})
      .value_or(static_cast<double>(value));
}

double ProtoFields::real() const {
  if (wire_ == 1) return std::bit_cast<double>(value_);
  if (wire_ == 5) return shortest(std::bit_cast<float>(static_cast<std::uint32_t>(value_)));
  return static_cast<double>(static_cast<std::int64_t>(value_));
}

}  // namespace stores

std::string json_line(const MetricEntry& entry) {
  Json json = Json::object();
  const bool named = std::any_of(entry.values.begin(), entry.values.end(),
                                 [](const auto& value) { return value.first == "step"; });
  if (entry.step && !named) json["step"] = *entry.step;
  for (const auto& [name, value] : entry.values) {
    // a whole number stays one: counters are read as integers
    if (std::isfinite(value) && value == std::floor(value) && std::fabs(value) < 9e15) {
      json[name] = static_cast<std::int64_t>(value);
    } else {
      json[name] = json_number(value);
    }
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

// ----------------------------------------------------------------------------------------- mlflow

MetricStore read_mlflow(const std::vector<MlflowMetric>& metrics, std::string_view meta) {
  MetricStore store = {.kind = "mlflow"};
  for (const auto line : split(meta, '\n')) {
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const auto key = trim(line.substr(0, colon));
    auto value = trim(line.substr(colon + 1));
    if (value.size() >= 2 && value.front() == '\'' && value.back() == '\'')
      value = value.substr(1, value.size() - 2);
    if (key == "run_name") store.name = clean_text(value, 100);
    if (key == "start_time" || key == "end_time") {
      const auto ms = to_number(value);
      if (ms && *ms > 0) (key == "start_time" ? store.begin_unix_s : store.end_unix_s) = *ms / 1000;
    }
    // RunStatus: 1 running, 2 scheduled, 3 finished, 4 failed, 5 killed
    if (key == "status") {
      if (value == "3" || value == "FINISHED") store.ended_well = true;
      if (value == "4" || value == "5" || value == "FAILED" || value == "KILLED")
        store.ended_well = false;
    }
  }
  std::vector<stores::Point> points, system;
  for (const auto& metric : metrics) {
    auto& into = stores::is_system_name(metric.name) ? system : points;
    std::int64_t number = 0;
    for (const auto line : split(metric.text, '\n')) {
      ++number;
      if (trim(line).empty()) continue;
      const auto fields = split(trim(line), ' ');
      const auto ms = to_number(fields[0]);
      const auto value = fields.size() > 1 ? to_number(fields[1]) : std::nullopt;
      const auto step = fields.size() > 2 ? to_integer(fields[2]) : std::nullopt;
      if (!ms || !value || into.size() >= stores::kMostEntries) {
        ++store.reading.lines;
        ++store.reading.malformed;
        if (store.reading.first_bad_line == 0) {
          store.reading.first_bad_line = number;
          store.reading.first_bad_text = clean_text(metric.name + ": " + std::string(line), 200);
        }
        continue;
      }
      into.push_back({*ms / 1000, step, clean_text(metric.name, 200), *value});
    }
  }
  // A trainer's one call writes every metric with one time: the files are put together by it.
  std::stable_sort(points.begin(), points.end(), [](const auto& a, const auto& b) {
    return std::tuple(*a.unix_s, a.step.value_or(-1), stores::family_of(a.name)) <
           std::tuple(*b.unix_s, b.step.value_or(-1), stores::family_of(b.name));
  });
  stores::Grouper grouper(store);
  for (auto& point : points) grouper.add(std::move(point));
  std::stable_sort(system.begin(), system.end(),
                   [](const auto& a, const auto& b) { return *a.unix_s < *b.unix_s; });
  for (auto& point : system)
    stores::add_system(*point.unix_s, std::move(point.name), point.value, store);
  return store;
}

// ---------------------------------------------------------------------------------- trainer state

Result<MetricStore> read_trainer_state(std::string_view text) {
  RW_TRY(const Json json, parse_foreign_json(text, stores::kMostJsonBytes));
  const auto history = json.is_object() ? json.find("log_history") : json.end();
  if (!json.is_object() || history == json.end() || !history->is_array()) {
    return Error{Errc::malformed, "no log_history in it"};
  }
  MetricStore store = {.kind = "trainer_state"};
  stores::Grouper grouper(store);
  for (const auto& item : *history) {
    if (!item.is_object()) {
      ++store.reading.malformed;
      continue;
    }
    MetricEntry entry;
    for (const auto& [key, value] : item.items()) {
      if (key == "step" && value.is_number()) {
        entry.step = value.is_number_integer() ? value.get<std::int64_t>()
                                               : static_cast<std::int64_t>(value.get<double>());
      } else if (value.is_number()) {
        entry.values.emplace_back(clean_text(key, 200), value.get<double>());
      } else if (value.is_string()) {
        if (const auto number = to_number(value.get<std::string>()))
          entry.values.emplace_back(clean_text(key, 200), *number);
      }
    }
    if (entry.values.size() <= stores::kMostValues) grouper.add(std::move(entry));
  }
  for (const char* key : {"max_steps", "num_train_epochs", "train_batch_size", "logging_steps",
                          "save_steps", "eval_steps"}) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number()) continue;
    if (found->get<double>() > 0) store.settings.emplace_back(key, stores::setting_text(*found));
  }
  const auto global = get<std::int64_t>(json, "global_step"),
             most = get<std::int64_t>(json, "max_steps");
  if (global && most && *most > 0 && *global >= *most) store.ended_well = true;
  return store;
}

// -------------------------------------------------------------------------------------- W&B
// summary

MetricStore read_wandb_events(std::string_view text) {
  MetricStore store = {.kind = "wandb events"};
  std::int64_t number = 0;
  for (const auto line : split(text, '\n')) {
    ++number;
    if (trim(line).empty()) continue;
    const auto json = parse_foreign_json(line, std::size_t{1} << 20);
    const auto at = json && json->is_object() ? get<double>(*json, "_timestamp") : std::nullopt;
    if (!at) {
      ++store.reading.lines;
      ++store.reading.malformed;
      if (store.reading.first_bad_line == 0) {
        store.reading.first_bad_line = number;
        store.reading.first_bad_text = clean_text(line, 200);
      }
      continue;
    }
    for (const auto& [key, value] : json->items()) {
      if (key.starts_with("system.") && value.is_number())
        stores::add_system(*at, clean_text(key.substr(7), 200), value.get<double>(), store);
    }
  }
  std::stable_sort(store.system.begin(), store.system.end(),
                   [](const auto& a, const auto& b) { return a.unix_s < b.unix_s; });
  return store;
}

Result<MetricStore> read_wandb_summary(std::string_view text) {
  RW_TRY(const Json json, parse_foreign_json(text, stores::kMostJsonBytes));
  if (!json.is_object()) return Error{Errc::malformed, "not an object of last values"};
  MetricStore store = {.kind = "wandb summary"};
  stores::Grouper grouper(store);
  const auto at = get<double>(json, "_timestamp");
  store.end_unix_s = at;
  if (const auto runtime = get<double>(json, "_runtime"); at && runtime)
    store.begin_unix_s = *at - *runtime;
  // one entry a family, as if each had been printed once more at the end
  std::vector<stores::Point> points;
  std::optional<std::int64_t> step;
  for (const auto& [key, value] : json.items()) {
    if (!value.is_number()) continue;
    if (stores::is_step_name(key)) {
      step = static_cast<std::int64_t>(value.get<double>());
    } else {
      points.push_back({at, std::nullopt, clean_text(key, 200), value.get<double>()});
    }
  }
  std::stable_sort(points.begin(), points.end(), [](const auto& a, const auto& b) {
    return stores::family_of(a.name) < stores::family_of(b.name);
  });
  for (auto& point : points) {
    point.step = step;
    grouper.add(std::move(point));
  }
  return store;
}

}  // namespace rigwise
