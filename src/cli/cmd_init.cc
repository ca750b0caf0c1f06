#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "base/json.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "rigwise/decide.h"
#include "run/layout.h"

namespace rigwise::cli {

namespace {

struct Question {
  const char* field;
  const char* ask;
  const char* example;
  std::optional<std::string> InitArgs::*flag;
  std::string Statement::*into;
};

constexpr Question kQuestions[] = {
    {"bottleneck", "What holds the work back, with a number?",
     "compute: one GPU is busy 95 % of the time and a run takes 8 h", &InitArgs::bottleneck,
     &Statement::bottleneck},
    {"threshold", "What would count as success?", "tokens_per_s >= 1.4x", &InitArgs::threshold,
     &Statement::threshold},
    {"option", "What do you think of doing?", "train on two GPUs (data parallel)",
     &InitArgs::option, &Statement::option},
    {"reason", "Why would that move this bottleneck?",
     "each GPU takes half of every batch, so the compute time halves", &InitArgs::reason,
     &Statement::reason},
    {"stop", "When would you stop trying?", "two attempts without 1.4x", &InitArgs::stop,
     &Statement::stop},
    {"baseline", "Name of the runs as they are now?", "single", &InitArgs::baseline,
     &Statement::baseline},
    {"candidate", "Name of the runs with the option?", "two-gpu", &InitArgs::candidate,
     &Statement::candidate},
};

/// What is wrong with one answer; empty where it will do.
std::string trouble_with(const Question& question, const Statement& statement) {
  const std::string& answer = statement.*question.into;
  const bool names_runs =
      question.into == &Statement::baseline || question.into == &Statement::candidate;
  if (names_runs && !answer.empty() && !layout::is_run_name(answer)) {
    return fmt::format("'{}' cannot name a run: use letters, digits, '.', '_' and '-', at most 100",
                       clean_text(answer, 80));
  }
  if (question.into == &Statement::candidate && !answer.empty() && answer == statement.baseline) {
    return "the runs with the option need a name of their own";
  }
  if (question.into == &Statement::threshold && !answer.empty()) {
    const auto threshold = parse_threshold(answer);
    if (!threshold) return threshold.error().message + "\n  " + threshold.error().hint;
  }
  for (const auto& gap : statement_gaps(statement)) {
    if (gap.starts_with(std::string(question.field) + ":")) return gap;
  }
  return "";
}

/// Asks the person at the terminal until the answer will do. False at the end of input.
bool ask(const Question& question, Statement& statement) {
  for (;;) {
    std::fprintf(stderr, "%s\n  e.g. %s\n> ", question.ask, question.example);
    std::string line;
    if (!std::getline(std::cin, line)) return false;
    statement.*question.into = std::string(trim(clean_text(line, 2000)));
    const std::string trouble = trouble_with(question, statement);
    if (trouble.empty()) return true;
    std::fprintf(stderr, "%s\n", trouble.c_str());
  }
}

}  // namespace

int cmd_init(const InitArgs& args) {
  const bool exists = std::filesystem::exists(args.lab);
  if (exists && !args.force) {
    const auto old = read_lab(args.lab);
    if (old || old.error().code != Errc::not_found) {
      return fail({Errc::usage, args.lab + " holds a statement already",
                   "--force replaces it; runs made under the old one will show the change"});
    }
  }
  const bool may_ask = ::isatty(STDIN_FILENO) == 1;
  Statement statement;
  statement.experiment = args.experiment.value_or("");
  for (const auto& question : kQuestions) {
    if (args.*question.flag) {
      statement.*question.into = *(args.*question.flag);
    } else if (may_ask) {
      if (ask(question, statement)) continue;
      return fail({Errc::usage, "the input ended before the last question; nothing was written",
                   "rigwise init --help names a flag for every answer"});
    }
  }
  const auto threshold = parse_threshold(statement.threshold);
  if (!statement.threshold.empty() && !threshold) return fail(threshold.error());
  for (const auto& question : kQuestions) {
    const bool name =
        question.into == &Statement::baseline || question.into == &Statement::candidate;
    const std::string trouble = name ? trouble_with(question, statement) : "";
    if (!trouble.empty()) {
      return fail({Errc::usage, fmt::format("--{}: {}", question.field, trouble), ""});
    }
  }
  if (const auto gaps = statement_gaps(statement); !gaps.empty()) {
    std::string text = "a statement that cannot be tested; nothing was written";
    for (const auto& gap : gaps) text += "\n  - " + gap;
    return fail({Errc::usage, text, ""});
  }
  if (auto written = write_lab(args.lab, statement); !written) return fail(written.error());
  const auto sealed = read_lab(args.lab);
  if (!sealed) return fail(sealed.error());
  if (args.json) {
    const Json json = {{"schema", 1}, {"lab", args.lab}, {"hash", sealed->hash}};
    return print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  const std::string name = sealed->baseline.empty() ? "NAME" : sealed->baseline;
  return print(fmt::format("{}: sealed, {} ({})\n  next: rigwise run --name {} -- YOUR COMMAND\n",
                           args.lab, sealed->threshold, sealed->hash.substr(0, 12), name));
}

}  // namespace rigwise::cli
