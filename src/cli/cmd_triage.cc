#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/files.h"
#include "base/text.h"
#include "cli/failed_run.h"
#include "cli/verbs.h"
#include "report/failure.h"
#include "rigwise/triage.h"
#include "run/layout.h"

namespace rigwise::cli {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kWhole = ~std::uint64_t{0};
constexpr int kDeepest = 6;
constexpr std::size_t kMostFiles = 2000;

/// Logs of a folder, such as torchrun's --log-dir, in the order of their paths.
std::vector<fs::path> logs_below(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code failed;
  for (auto entry = fs::recursive_directory_iterator(folder, failed);
       !failed && entry != fs::recursive_directory_iterator() && files.size() < kMostFiles;
       entry.increment(failed)) {
    if (entry.depth() >= kDeepest) entry.disable_recursion_pending();
    const std::string kind = lower(entry->path().extension().string());
    const bool log =
        kind.empty() || kind == ".log" || kind == ".txt" || kind == ".err" || kind == ".out";
    if (log && entry->is_regular_file(failed) && !entry->is_symlink(failed))
      files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Result<Failure> triage_files(const std::vector<fs::path>& files, const Signatures& signatures) {
  std::vector<std::string> names;
  for (const auto& file : files) names.push_back(file.string());
  const auto ranks = ranks_of_logs(names);
  Triage triage(signatures);
  for (std::size_t i = 0; i < files.size(); ++i)
    RW_CHECK(push_file(triage, files[i], {names[i], ranks[i], ""}, kWhole));
  return triage.finish();
}

Result<Failure> triage_with(const TriageArgs& args, const Signatures& signatures) {
  std::error_code ignored;
  std::vector<fs::path> files;
  for (const std::string& name : args.names) {
    const bool run = fs::exists(fs::path(name) / layout::kRunJson, ignored);
    if (fs::is_directory(name, ignored) && !run) {
      const auto below = logs_below(name);
      if (below.empty())
        return Error{Errc::not_found, "no log in " + clean_text(name, 200),
                     "files of *.log, *.txt, *.err, *.out"};
      files.insert(files.end(), below.begin(), below.end());
    } else if (fs::exists(name, ignored) && !run) {
      files.emplace_back(name);
    }
  }
  if (!files.empty() && files.size() >= args.names.size()) return triage_files(files, signatures);
  if (args.names.size() > 1) {
    for (const std::string& name : args.names) {
      if (!fs::exists(name, ignored))
        return Error{Errc::not_found, "no such file: " + clean_text(name, 200), ""};
    }
    return Error{Errc::usage, "triage: one run at a time, or files", "rigwise triage NAME"};
  }
  RW_TRY(const Run run, latest_run(args, args.names[0]));
  return failure_of_run(run, signatures, kWhole);
}

Result<Failure> triage_of(const TriageArgs& args) {
  if (!args.signatures) return triage_with(args, Signatures::built_in());
  RW_TRY(const std::string csv, read_file(*args.signatures, 1 << 20));
  auto own = Signatures::parse(csv, &Signatures::built_in());
  if (!own) {
    Error error = std::move(own).error();
    error.code = Errc::usage;
    error.message = clean_text(*args.signatures, 200) + ": " + error.message;
    return error;
  }
  return triage_with(args, *own);
}

}  // namespace

int cmd_triage(const TriageArgs& args) {
  // Unless TZ names it, glibc looks at this file again for every local time that it reckons.
  ::setenv("TZ", ":/etc/localtime", 0);
  const auto failure = triage_of(args);
  if (!failure) return fail_run(failure.error());
  const int printed =
      print(args.json ? failure_json(*failure) : failure_text(*failure, style_of(STDOUT_FILENO)));
  if (printed != kOk) return printed;
  const bool failed = failure->failed || failure->layer != FailureLayer::none;
  return args.fail_on && failed ? kFinding : kOk;  // a run that failed is as severe as it gets
}

}  // namespace rigwise::cli
