// runs import: what each file became, one line a file, then the run as its closing lines say it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/json.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "rigwise/import.h"
#include "rigwise/ledger.h"
#include "rigwise/units.h"

namespace rigwise::cli {

namespace {

std::string_view times_word(TimesJoined times) {
  switch (times) {
    case TimesJoined::yes:
      return "joined";
    case TimesJoined::no:
      return "unjoined";
    case TimesJoined::none:
      break;
  }
  return "none";
}

/// "log: 120 steps, 4 evaluations, times joined, 3 lines malformed (first: 17)"
std::string became_text(const ImportedFile& file) {
  std::vector<std::string> parts;
  const auto add = [&](std::int64_t count, std::string_view one, std::string_view many) {
    if (count > 0) parts.push_back(counted(count, one, many));
  };
  add(file.steps, "training entry", "training entries");
  add(file.evaluations, "evaluation", "evaluations");
  add(file.samples, "GPU sample", "GPU samples");
  add(file.host_samples, "host sample", "host samples");
  add(file.figures, "figure", "figures");
  add(file.versions, "version", "versions");
  add(file.facts, "setting", "settings");
  if (file.times == TimesJoined::yes) parts.emplace_back("times joined");
  if (file.times == TimesJoined::no) parts.emplace_back("times not joined");
  if (file.malformed > 0) {
    parts.push_back(counted(file.malformed, "line malformed", "lines malformed"));
    if (file.first_bad_line > 0) parts.back() += fmt::format(" (first: {})", file.first_bad_line);
  }
  const std::string what = join(parts, ", ");
  return clean_text(file.became, 80) + (what.empty() ? "" : ": " + what);
}

std::string file_lines(const ImportOutcome& outcome) {
  std::size_t width = 0;
  for (const auto& file : outcome.files) width = std::max(width, file.path.size());
  width = std::min<std::size_t>(width, 36);
  std::string out;
  for (const auto& file : outcome.files) {
    const std::string path = clean_text(file.path, 200);
    const std::string head =
        "  " + path + std::string(path.size() < width ? width - path.size() : 0, ' ') + "  ";
    out += head + became_text(file) + '\n';
    for (const auto& note : file.notes)
      out += std::string(width + 4, ' ') + clean_text(note, 300) + '\n';
  }
  for (const auto& what : outcome.left_out) out += "  left out: " + clean_text(what, 300) + '\n';
  if (!outcome.clock.empty()) {
    std::string words = outcome.clock;  // one line a statement: they fit 80 columns
    if (const auto more = words.find("; "); more != std::string::npos)
      words.replace(more, 2, "\n  clock: ");
    out += "  clock: t = 0 is " + words + '\n';
  }
  return out;
}

Json files_json(const ImportOutcome& outcome) {
  Json files = Json::array();
  for (const auto& file : outcome.files) {
    Json item = {{"path", clean_text(file.path, 4096)},
                 {"became", file.became},
                 {"size_bytes", file.size_bytes}};
    if (!file.kept.empty()) item["kept"] = clean_text(file.kept, 4096);
    item["steps"] = file.steps;
    item["evaluations"] = file.evaluations;
    item["samples"] = file.samples;
    item["host_samples"] = file.host_samples;
    item["figures"] = file.figures;
    item["versions"] = file.versions;
    item["settings"] = file.facts;
    item["times"] = times_word(file.times);
    item["malformed"] = file.malformed;
    if (file.first_bad_line > 0) item["first_bad_line"] = file.first_bad_line;
    item["notes"] = file.notes;
    files.push_back(std::move(item));
  }
  return files;
}

}  // namespace

int cmd_import(const RunsArgs& args) {
  ImportOptions options{.root = runs_root(args.runs),
                        .name = args.import_name,
                        .host = args.host,
                        .start_unix_s = args.start_unix_s,
                        .version = RIGWISE_VERSION};
  for (const auto& path : args.paths) options.paths.emplace_back(path);
  const auto outcome = import_run(options);
  if (!outcome) return fail(outcome.error());
  const auto run = open_run(outcome->dir);
  if (!run) return fail(run.error());
  const bool partial =
      std::any_of(outcome->files.begin(), outcome->files.end(),
                  [](const ImportedFile& file) { return file.became == "unreadable"; });
  int code = kOk;
  if (args.json) {
    auto document = parse_json(run_json(*run));
    if (!document) return fail(document.error());
    (*document)["files"] = files_json(*outcome);
    (*document)["left_out"] = outcome->left_out;
    (*document)["clock"] = outcome->clock;
    code = print(document->dump(2, ' ', false, Json::error_handler_t::replace) + '\n');
  } else {
    const auto ledger = make_ledger(*run);
    code = print(file_lines(*outcome) + '\n' +
                 run_closing_text(*run, ledger ? &*ledger : nullptr, style_of(STDOUT_FILENO)));
  }
  return code != kOk ? code : partial ? kPartial : kOk;
}

}  // namespace rigwise::cli
