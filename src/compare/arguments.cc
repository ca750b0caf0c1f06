// Arguments: words of the two commands that differ and that no fact was read from.
//
// A flag that the recorder understands is a fact and is judged by its own rule; one that it does
// not understand may change anything, so it is shown with both values and caps the verdict.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/text.h"
#include "compare/fields.h"

namespace rigwise::compare_fields {

using compare_data::RunData;
using compare_rules::rule_of;

namespace {

constexpr std::string_view kField = "argument:";
constexpr std::string_view kLoose = "words";  // of no flag
constexpr std::size_t kMostFields = 12;
constexpr std::size_t kShortestName = 4;  // to be found in a free text

/// Flag → its values in one line; words of no flag together.
using Arguments = std::map<std::string, std::string>;

bool is_flag(std::string_view word) {
  return word.starts_with("-") && word.size() > 1 && !to_number(word);
}

/// "--per-device_batch" → "per_device_batch": spellings that launchers take for the same.
std::string plain(std::string_view flag) {
  std::string name = lower(flag.substr(std::min(flag.find_first_not_of('-'), flag.size())));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

/// Where a run puts or calls things changes nothing of its work.
bool names_an_output(std::string_view flag) {
  const std::string name = plain(flag);
  for (const std::string_view tail : {"output_dir", "out_dir", "logging_dir", "log_dir", "save_dir",
                                      "run_name", "experiment_name", "output", "out", "port"}) {
    if (name.ends_with(tail)) return true;
  }
  return false;
}

/// The words behind the script; launchers' own words are told by ranks and launcher.
std::size_t first_argument(const RunData& run) {
  const auto& command = run.run->info.command;
  const auto script = run.facts.find("script");
  if (script != run.facts.end()) {
    const auto found = std::find(command.begin(), command.end(), script->second.value);
    if (found != command.end()) return static_cast<std::size_t>(found - command.begin()) + 1;
  }
  return std::min<std::size_t>(1, command.size());
}

/// Flags that facts were read from: "argv --max_steps" within their sources.
std::set<std::string> read_flags(const RunData& run) {
  std::set<std::string> flags;
  for (const auto& [key, fact] : run.facts) {
    constexpr std::string_view kMark = "argv ";
    for (std::size_t at = fact.source.find(kMark); at != std::string::npos;
         at = fact.source.find(kMark, at + 1)) {
      const std::size_t begin = at + kMark.size();
      const std::size_t end = fact.source.find_first_of(" =;,()", begin);
      flags.insert(plain(fact.source.substr(begin, end - begin)));
    }
  }
  return flags;
}

Arguments arguments_of(const RunData& run) {
  Arguments found;
  const auto& command = run.run->info.command;
  const auto put = [&](const std::string& flag, const std::string& value) {
    std::string& text = found[flag];
    if (text.size() < 400) text += (text.empty() ? "" : " ") + value;
  };
  std::string flag;
  for (std::size_t i = first_argument(run); i < command.size(); ++i) {
    const std::string& word = command[i];
    const std::size_t equals = word.find('=');
    if (is_flag(word) && equals == std::string::npos) {
      flag = word;
      put(flag, "");
    } else if (equals != std::string::npos && equals > 0) {
      put(word.substr(0, equals), word.substr(equals + 1));
      flag.clear();
    } else {
      put(flag.empty() ? std::string(kLoose) : flag, word);
    }
  }
  return found;
}

/// Both sides' commands, each taken apart once.
struct Parsed {
  std::vector<Arguments> a = {}, b = {};  // one a run
  std::set<std::string> unread = {};      // flags of either that no fact was read from on either
};

Parsed parsed(const Side& a, const Side& b) {
  Parsed result;
  std::set<std::string> read;
  for (const auto& [side, into] : {std::pair(&a, &result.a), std::pair(&b, &result.b)}) {
    for (const RunData& run : side->runs) {
      read.merge(read_flags(run));
      into->push_back(arguments_of(run));
    }
  }
  for (const auto* side : {&result.a, &result.b}) {
    for (const Arguments& arguments : *side) {
      for (const auto& [flag, value] : arguments) {
        const std::string name = plain(flag);
        if (read.count(name) > 0 || names_an_output(flag)) continue;
        if (!compare_rules::factor_field(name).empty()) continue;
        result.unread.insert(flag);
      }
    }
  }
  return result;
}

Values values_of(const std::vector<Arguments>& side, const std::string& flag) {
  Values values;
  for (const Arguments& arguments : side) {
    const auto found = arguments.find(flag);
    values.push_back(found == arguments.end() ? "not given"
                     : found->second.empty()  ? "given"
                                              : clean_text(found->second, 120));
  }
  return values;
}

}  // namespace

void look_at_arguments(const Side& a, const Side& b, Gate& gate) {
  const Parsed commands = parsed(a, b);
  std::size_t shown = 0;
  for (const std::string& flag : commands.unread) {
    ComparedField field =
        lay(rule_of("argument"), values_of(commands.a, flag), values_of(commands.b, flag));
    if (field.speed == Impact::none && field.loss == Impact::none) continue;
    if (++shown > kMostFields) {  // two quite different commands: the rest is no news
      gate.findings.push_back({.id = "many-arguments-differ",
                               .severity = Severity::notice,
                               .claim = fmt::format("more than {} arguments differ", kMostFields)});
      return;
    }
    field.field = std::string(kField) + clean_text(flag, 60);
    for (const Side* side : {&a, &b}) {
      field.evidence.push_back(
          {.run = side->runs.front().label, .file = "run.json", .what = "command"});
    }
    gate.fields.push_back(std::move(field));
  }
}

std::string argument_in_words(const Side& a, const Side& b, std::string_view text) {
  const std::string words = plain(text);
  const Parsed commands = parsed(a, b);
  for (const std::string& flag : commands.unread) {
    const std::string name = plain(flag);
    const bool whole = words == name;
    if (!whole && (name.size() < kShortestName || words.find(name) == std::string::npos)) continue;
    if (values_of(commands.a, flag) != values_of(commands.b, flag))
      return std::string(kField) + clean_text(flag, 60);
  }
  return {};
}

}  // namespace rigwise::compare_fields
