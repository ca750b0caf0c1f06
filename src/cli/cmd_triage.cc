#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "report/failure.h"
#include "rigwise/triage.h"
#include "run/layout.h"

namespace rigwise::cli {

namespace {

constexpr std::size_t kMostBytes = std::size_t{4} << 30;  // of one log

/// Logs and the bytes that they are views of.
struct Texts {
  std::vector<FailureLog> logs = {};
  std::vector<std::string> bytes = {};
};

Status add_file(Texts& texts, const std::filesystem::path& path, const std::string& name,
                const std::string& host) {
  RW_TRY(std::string bytes, read_file(path, kMostBytes));
  texts.bytes.push_back(std::move(bytes));
  texts.logs.push_back({name, {}, {}, host});
  return Ok{};
}

/// What the run's command wrote: log/*.log of its folder.
Status add_run(Texts& texts, const Run& run) {
  std::vector<std::filesystem::path> files;
  std::error_code failed;
  const auto folder = run.dir / layout::kLogFolder;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    if (entry.path().extension() == ".log" && entry.is_regular_file(failed))
      files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    const auto name = std::filesystem::path(layout::kLogFolder) / file.filename();
    RW_CHECK(add_file(texts, file, name.string(), run.info.host));
  }
  if (!files.empty()) return Ok{};
  return Error{Errc::unavailable, "run " + run.info.id + " has no log", ""};
}

Result<Failure> triage_of(const TriageArgs& args) {
  Texts texts;
  std::error_code ignored;
  const auto is_file = [&](const std::string& name) {
    return std::filesystem::exists(name, ignored) && !std::filesystem::is_directory(name, ignored);
  };
  const bool files = std::any_of(args.names.begin(), args.names.end(), is_file);
  for (const std::string& name : args.names) {
    if (files) {
      RW_CHECK(add_file(texts, name, name, ""));
    } else {
      RW_TRY(const Run run, latest_run(args, name));
      RW_CHECK(add_run(texts, run));
    }
  }
  for (std::size_t i = 0; i < texts.logs.size(); ++i) texts.logs[i].text = texts.bytes[i];
  if (!args.signatures) return triage(texts.logs, Signatures::built_in());
  RW_TRY(const std::string csv, read_file(*args.signatures, 1 << 20));
  auto own = Signatures::parse(csv, &Signatures::built_in());
  if (!own) {
    Error error = std::move(own).error();
    error.code = Errc::usage;
    error.message = clean_text(*args.signatures, 200) + ": " + error.message;
    return error;
  }
  return triage(texts.logs, *own);
}

}  // namespace

int cmd_triage(const TriageArgs& args) {
  const auto failure = triage_of(args);
  if (!failure) return fail_run(failure.error());
  const int printed =
      print(args.json ? failure_json(*failure) : failure_text(*failure, style_of(STDOUT_FILENO)));
  if (printed != kOk) return printed;
  const bool failed = failure->failed || failure->layer != FailureLayer::none;
  return args.fail_on && failed ? kFinding : kOk;  // a run that failed is as severe as it gets
}

}  // namespace rigwise::cli
