#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "base/json.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "rigwise/decide.h"

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

/// One answer from the person at the terminal; empty at the end of input.
std::string ask(const Question& question) {
  std::fprintf(stderr, "%s\n  e.g. %s\n> ", question.ask, question.example);
  std::string line;
  std::getline(std::cin, line);
  return std::string(trim(clean_text(line, 2000)));
}

/// Asks until a threshold parses; the caret shows where reading stopped.
std::string ask_threshold(const Question& question) {
  for (;;) {
    std::string text = ask(question);
    const auto threshold = parse_threshold(text);
    if (threshold || !std::cin) return text;
    std::fprintf(stderr, "%s\n  %s\n", threshold.error().message.c_str(),
                 threshold.error().hint.c_str());
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
      statement.*question.into =
          question.into == &Statement::threshold ? ask_threshold(question) : ask(question);
    }
  }
  const auto threshold = parse_threshold(statement.threshold);
  if (!statement.threshold.empty() && !threshold) return fail(threshold.error());
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
