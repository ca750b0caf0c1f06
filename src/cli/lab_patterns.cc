#include "cli/lab_patterns.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>

#include "base/files.h"
#include "base/text.h"
#include "cli/verbs.h"

namespace rigwise::cli {

namespace {

constexpr std::uint64_t kMaxLabBytes = std::uint64_t{1} << 20;
constexpr std::size_t kMaxPatterns = 64;
constexpr std::size_t kMaxPatternBytes = 1000;

Error at(const std::filesystem::path& lab, const toml::node& node, const std::string& what,
         const std::string& hint) {
  return Error{Errc::malformed,
               fmt::format("{}:{}: {}", lab.filename().string(), node.source().begin.line, what),
               hint};
}

Result<LogPattern> pattern_of(const std::filesystem::path& lab, const toml::node& node) {
  const std::string hint = "match = \"round {step} cost {loss}\"";
  const toml::table* table = node.as_table();
  const auto match =
      table == nullptr ? std::optional<std::string>() : (*table)["match"].value<std::string>();
  if (!match || match->empty() || match->size() > kMaxPatternBytes)
    return at(lab, node, "a [[log.pattern]] needs `match`, the line as printed", hint);
  LogPattern pattern;
  pattern.match = *match;
  if (const auto kind = (*table)["kind"].value<std::string>()) {
    if (*kind != "train" && *kind != "eval")
      return at(lab, node, "kind is \"train\" or \"eval\"", "kind = \"eval\"");
    pattern.evaluation = *kind == "eval";
  }
  if (const auto unknown = unknown_figure(pattern.match))
    return at(lab, node, fmt::format("no figure is called {{{}}}", clean_text(*unknown, 80)),
              "figures: step, epoch, loss, eval_loss, lr, grad_norm, step_time_s, step_time_ms, "
              "steps_per_s, samples_per_s, tokens_per_s, mem_gib, mem_mib, mfu, rank");
  return pattern;
}

Result<StackPattern> stack_pattern_of(const std::filesystem::path& lab, const toml::node& node) {
  const std::string hint = "file = \"train.py\", function = \"refill\", work = \"input\"";
  const toml::table* table = node.as_table();
  const auto word = [&](const char* key) {
    auto value =
        table == nullptr ? std::optional<std::string>() : (*table)[key].value<std::string>();
    return value && value->size() <= kMaxPatternBytes ? *value : std::string();
  };
  StackPattern pattern{word("file"), word("function"), word("work")};
  if (pattern.file.empty() || pattern.function.empty() || pattern.work.empty())
    return at(lab, node, "a [[stack.pattern]] needs `file`, `function` and `work`", hint);
  const auto works = stack_works();
  if (std::find(works.begin(), works.end(), pattern.work) == works.end()) {
    std::vector<std::string> names(works.begin(), works.end());
    return at(lab, node, fmt::format("no work is called \"{}\"", clean_text(pattern.work, 80)),
              "work is one of " + join(names, ", "));
  }
  pattern.whole = (*table)["whole"].value<bool>().value_or(true);
  return pattern;
}

/// One list of tables of the lab file, each made into a T.
template <class T, class Make>
Result<std::vector<T>> list_of(const Lab& named, const char* section, Make make) {
  const std::filesystem::path lab = lab_path(named);
  std::vector<T> patterns;
  const auto text = read_file(lab, kMaxLabBytes);
  if (!text) {
    if (text.error().code != Errc::not_found) return text.error();
    if (named) {
      return Error{Errc::usage, text.error().message,
                   fmt::format("--lab names the file with your [[{}.pattern]] tables", section)};
    }
    return patterns;
  }
  toml::table tables;
  try {
    tables = toml::parse(*text);
  } catch (const toml::parse_error& error) {
    return Error{Errc::malformed,
                 fmt::format("{}:{}: {}", lab.filename().string(), error.source().begin.line,
                             clean_text(error.description(), 300)),
                 "correct that line, or name another file with --lab"};
  }
  const toml::array* list = tables[section]["pattern"].as_array();
  if (list == nullptr) return patterns;
  for (const toml::node& node : *list) {
    if (patterns.size() == kMaxPatterns) break;
    RW_TRY(auto pattern, make(lab, node));
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

}  // namespace

Result<std::vector<LogPattern>> lab_patterns(const Lab& lab) {
  return list_of<LogPattern>(lab, "log", pattern_of);
}

Result<std::vector<StackPattern>> lab_stack_patterns(const Lab& lab) {
  return list_of<StackPattern>(lab, "stack", stack_pattern_of);
}

}  // namespace rigwise::cli
