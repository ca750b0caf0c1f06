#include "engine/files/adapter_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/files/config_reader.h"
#include "engine/text/regex.h"

namespace rigwise::engine {

namespace {

constexpr std::int64_t kMostRank = 1 << 16;
constexpr std::size_t kMostTargets = 10'000;

// Read below.
constexpr std::array kRead = {"peft_type",      "task_type",        "r",
                              "lora_alpha",     "lora_dropout",     "use_rslora",
                              "fan_in_fan_out", "target_modules",   "exclude_modules",
                              "rank_pattern",   "alpha_pattern",    "base_model_name_or_path",
                              "bias",           "init_lora_weights"};
// Whatever they say, the arithmetic of a saved adapter is the same: where it came from, how it was
// initialised, sizes that only count with a switch that is refused.
constexpr std::array kNeutral = {"inference_mode",     "peft_version",   "revision",
                                 "auto_mapping",       "megatron_core",  "megatron_config",
                                 "loftq_config",       "eva_config",     "lora_ga_config",
                                 "qalora_group_size",  "layers_pattern", "runtime_config",
                                 "ensure_weight_tying"};

template <std::size_t N>
bool is_among(const std::array<const char*, N>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// null, false, 0, "", [] and {}: switched off, in whatever way.
bool is_off(const Json& value) {
  if (value.is_null()) return true;
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  if (value.is_string()) return value.get<std::string>().empty();
  return value.empty();
}

void read_modules(ConfigReader& in, const char* key, std::vector<std::string>& names,
                  std::optional<std::string>& pattern) {
  const Json* value = in.find(key);
  if (value == nullptr) return;
  if (value->is_string())
    pattern = value->get<std::string>();
  else
    names = in.texts(key);
  if (names.size() > kMostTargets) in.refuse(key, "more than 10,000 modules");
}

template <class Number>
void read_pattern(ConfigReader& in, const char* key, Number least, Number most,
                  std::vector<std::pair<std::string, Number>>& out) {
  const Json* value = in.find(key);
  if (value == nullptr) return;
  if (!value->is_object()) return in.refuse(key, "must be an object");
  for (const auto& [name, number] : value->items()) {
    const bool fits = std::is_integral_v<Number> ? number.is_number_integer() : number.is_number();
    const double size = fits ? number.template get<double>() : -1;
    if (!(size >= static_cast<double>(least) && size <= static_cast<double>(most)))
      return in.refuse(key, "'" + clean_text(name, 80) + "' is not in range");
    out.emplace_back(name, number.template get<Number>());
  }
}

void read_init(ConfigReader& in) {
  const Json* value = in.find("init_lora_weights");
  if (value == nullptr || value->is_boolean()) return;
  const std::string name = value->is_string() ? lower(value->get<std::string>()) : "";
  if (name == "gaussian" || name == "eva" || name == "orthogonal" || name == "lora_ga") return;
  in.fail({Errc::unavailable,
           in.place() + ": init_lora_weights is " + in.quoted("init_lora_weights") +
               ", which changes the base model's weights and is not supported",
           "In PEFT, save it with path_initial_model_for_weight_conversion to get a plain LoRA."});
}

/// PEFT: re.match(rf"(.*\.)?({key})$", module); the first key that matches counts.
template <class Number>
Result<std::optional<Number>> by_pattern(
    const std::vector<std::pair<std::string, Number>>& patterns, std::string_view module) {
  for (const auto& [key, number] : patterns) {
    RW_TRY(const auto regex, Regex::compile_python("(.*\\.)?(" + key + ")"));
    if (regex.matches_whole(module)) return std::optional<Number>(number);
  }
  return std::optional<Number>();
}

bool ends_with_part(std::string_view module, std::string_view name) {
  if (module == name) return true;
  return module.size() > name.size() && module.ends_with(name) &&
         module[module.size() - name.size() - 1] == '.';
}

bool is_named(const std::vector<std::string>& names, std::string_view module) {
  return std::any_of(names.begin(), names.end(),
                     [&](const auto& name) { return ends_with_part(module, name); });
}

}  // namespace

Result<std::vector<std::string>> adapted_modules(const AdapterConfig& config,
                                                 const std::vector<std::string>& modules) {
  std::optional<Regex> targets, excludes;
  if (config.target_pattern) {
    RW_TRY(targets, Regex::compile_python(*config.target_pattern));
  }
  if (config.exclude_pattern) {
    RW_TRY(excludes, Regex::compile_python(*config.exclude_pattern));
  }
  std::vector<std::string> out;
  std::set<std::string> last_parts;
  for (const auto& module : modules) {
    last_parts.insert(module.substr(module.rfind('.') + 1));
    const bool wanted =
        targets ? targets->matches_whole(module) : is_named(config.target_modules, module);
    const bool excluded =
        excludes ? excludes->matches_whole(module) : is_named(config.exclude_modules, module);
    if (wanted && !excluded) out.push_back(module);
  }
  if (out.empty()) {
    const std::string asked =
        config.target_pattern ? *config.target_pattern : join(config.target_modules, ", ");
    return Error{Errc::not_found, "no module of the model is called " + clean_text(asked, 300),
                 "It has: " + join({last_parts.begin(), last_parts.end()}, ", ") + "."};
  }
  return out;
}

Result<AdapterShape> adapter_shape(const AdapterConfig& config, std::string_view module) {
  RW_TRY(const auto rank, by_pattern(config.rank_pattern, module));
  RW_TRY(const auto alpha, by_pattern(config.alpha_pattern, module));
  AdapterShape out;
  out.rank = rank.value_or(config.rank);
  const auto divisor = static_cast<double>(out.rank);
  out.scale =
      alpha.value_or(config.alpha) / (config.rank_stabilised ? std::sqrt(divisor) : divisor);
  return out;
}

Result<AdapterConfig> parse_adapter_config(std::string_view json, std::string_view place) {
  const std::string where(place);
  auto parsed = parse_foreign_json(json, std::size_t{8} << 20);
  if (!parsed) return std::move(parsed).error().at(where);
  if (!parsed->is_object()) return Error{Errc::malformed, where + ": not a JSON object"};
  ConfigReader in(*parsed, where);
  const auto type = in.text("peft_type", "");
  if (type != "LORA") {
    return Error{type.empty() ? Errc::malformed : Errc::unavailable,
                 where + ": peft_type is '" + clean_text(type, 40) + "', only LORA is supported"};
  }
  const auto task = in.text("task_type", "CAUSAL_LM");
  if (task != "CAUSAL_LM") in.refuse("task_type", "only CAUSAL_LM is supported");
  for (const auto& [key, value] : parsed->items()) {
    if (is_among(kRead, key) || is_among(kNeutral, key) || is_off(value)) continue;
    in.fail({Errc::unavailable,
             where + ": " + clean_text(key, 60) + " is " + in.quoted(key.c_str()) +
                 ", which is not supported",
             "Only plain LoRA is: without DoRA, biases, saved modules or chosen layers."});
  }
  if (in.text("bias", "none") != "none") {
    in.fail(
        {Errc::unavailable, where + ": bias is " + in.quoted("bias") + ", only none is supported"});
  }
  read_init(in);
  AdapterConfig out;
  out.rank = in.integer("r", 8, 1, kMostRank);
  out.alpha = in.number("lora_alpha", 8, 0, 1e9);
  out.dropout = in.number("lora_dropout", 0, 0, 1);
  out.rank_stabilised = in.flag("use_rslora", false);
  out.fan_in_fan_out = in.flag("fan_in_fan_out", false);
  out.base_model = in.text("base_model_name_or_path", "");
  read_modules(in, "target_modules", out.target_modules, out.target_pattern);
  read_modules(in, "exclude_modules", out.exclude_modules, out.exclude_pattern);
  read_pattern<std::int64_t>(in, "rank_pattern", 1, kMostRank, out.rank_pattern);
  read_pattern<double>(in, "alpha_pattern", 0, 1e9, out.alpha_pattern);
  if (in.error()) return *in.error();
  if (out.target_modules.empty() && !out.target_pattern)
    return Error{Errc::malformed, where + ": names no target_modules"};
  return out;
}

Result<AdapterConfig> read_adapter_config(const std::filesystem::path& folder_or_file) {
  std::error_code ignored;
  auto file = folder_or_file;
  if (std::filesystem::is_directory(file, ignored)) file /= "adapter_config.json";
  auto text = read_file(file, std::uint64_t{8} << 20);
  if (!text) {
    Error error = std::move(text).error();
    if (error.code == Errc::not_found)
      error.hint = "An adapter's folder holds adapter_config.json and adapter_model.safetensors.";
    return error;
  }
  return parse_adapter_config(*text, file.string());
}

std::string adapter_config_json(const AdapterConfig& config, bool inference_mode) {
  const auto number = [](double value) {  // PEFT says lora_alpha is an int
    return value == std::floor(value) && std::abs(value) < 1e15
               ? Json(static_cast<std::int64_t>(value))
               : Json(value);
  };
  const auto modules = [](const auto& names, const auto& pattern) {
    return pattern ? Json(*pattern) : names.empty() ? Json(nullptr) : Json(names);
  };
  Json out = {{"alpha_pattern", Json::object()},
              {"auto_mapping", nullptr},
              {"base_model_name_or_path",
               config.base_model.empty() ? Json(nullptr) : Json(config.base_model)},
              {"bias", "none"}};
  for (const auto& [key, value] : config.alpha_pattern) out["alpha_pattern"][key] = number(value);
  if (!config.exclude_modules.empty() || config.exclude_pattern)
    out["exclude_modules"] = modules(config.exclude_modules, config.exclude_pattern);
  out["fan_in_fan_out"] = config.fan_in_fan_out;
  out["inference_mode"] = inference_mode;
  out["init_lora_weights"] = true;
  out["lora_alpha"] = number(config.alpha);
  out["lora_dropout"] = config.dropout;
  out["modules_to_save"] = nullptr;
  out["peft_type"] = "LORA";
  out["r"] = config.rank;
  out["rank_pattern"] = Json::object();
  for (const auto& [key, value] : config.rank_pattern) out["rank_pattern"][key] = value;
  out["revision"] = nullptr;
  out["target_modules"] = modules(config.target_modules, config.target_pattern);
  out["task_type"] = "CAUSAL_LM";
  out["use_dora"] = false;
  out["use_rslora"] = config.rank_stabilised;
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Status write_adapter_config(const AdapterConfig& config, const std::filesystem::path& file,
                            bool inference_mode) {
  return write_file_atomic(file, adapter_config_json(config, inference_mode));
}

}  // namespace rigwise::engine
