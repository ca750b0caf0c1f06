#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"
#include "cli/evidence.h"
#include "cli/verbs.h"

namespace rigwise::cli {

namespace {

namespace fs = std::filesystem;

/// Everything the page draws of one run. What cannot be read is left out, and the page says "not
/// measured".
ReportRun page_of(const Run& run, const Ledger& ledger) {
  ReportRun page{.run = &run, .ledger = &ledger};
  const auto& host = run.info.host;
  const auto take = [](auto result, auto& into) {
    if (result) into = std::move(*result);
  };
  take(read_steps(run), page.steps);
  take(read_events(run), page.events);
  take(read_gpu(run, host), page.gpu);
  take(read_host(run, host), page.host);
  take(read_disk(run, host), page.disk);
  take(read_environment(run, host), page.environment);
  take(read_rig(run, host), page.rig);
  return page;
}

std::vector<const Run*> runs_of(const DecideInput& input) {
  std::vector<const Run*> runs;
  for (const auto& run : input.baseline) runs.push_back(&run);
  for (const auto& run : input.candidate) runs.push_back(&run);
  return runs;
}

std::string report_of(const DecideInput& input, const Decision& decision, const fs::path& folder) {
  ReportInput page;
  page.folder = folder;
  for (std::size_t i = 0; i < input.baseline.size(); ++i) {
    page.runs.push_back(page_of(input.baseline[i], input.baseline_ledgers[i]));
  }
  for (std::size_t i = 0; i < input.candidate.size(); ++i) {
    page.runs.push_back(page_of(input.candidate[i], input.candidate_ledgers[i]));
  }
  page.comparison = input.comparison ? &*input.comparison : nullptr;
  page.decision = &decision;
  return report_html(page);
}

}  // namespace

int cmd_decide(const DecideArgs& args) {
  auto statement = statement_at(args.lab);
  if (!statement) return fail(statement.error());
  Sides sides;
  if (args.baseline) {
    sides.a = {*args.baseline};
  } else if (*statement && !(*statement)->baseline.empty()) {
    sides.a = {(*statement)->baseline};
  }
  if (args.option) {
    sides.b = {*args.option};
  } else if (*statement && !(*statement)->candidate.empty()) {
    sides.b = {(*statement)->candidate};
  }
  // A statement alone can be decided on too: "no stable single run yet", "does not fit", "stop".
  if (sides.a.empty() && sides.b.empty() && !*statement) {
    return fail(
        {Errc::usage,
         "decide: no statement in " + lab_path(args.lab).string() + ", and no flag names runs",
         "rigwise decide --baseline single --option two-gpu"});
  }
  // A name given by hand must exist; one of lab.toml may not have been run yet, which is itself a
  // finding.
  const bool by_hand = args.baseline || args.option;
  auto input = gather(args, sides, args.lab, {}, !by_hand);
  if (!input) return fail_run(input.error());
  input->rivals = rivals_of(args, *input);

  const Decision decision = decide(*input);
  const fs::path folder = runs_root(args.runs) / "decisions" / decision.experiment;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail({Errc::io, folder.string() + ": cannot make it: " + error.message()});
  const Comparison* comparison = input->comparison ? &*input->comparison : nullptr;
  for (const auto& [name, text] :
       {std::pair{"decision.md", decision_markdown(decision, comparison, runs_of(*input), folder)},
        std::pair{"decision.json", decision_json(decision)},
        std::pair{"report.html", report_of(*input, decision, folder)}}) {
    if (auto written = write_file_atomic(folder / name, text); !written)
      return fail(written.error());
  }
  if (args.json) return print(decision_json(decision));
  const TextStyle style = style_of(STDOUT_FILENO);
  return print(decision_text(decision, style) + fmt::format("decision: {}\nreport:   {}\n",
                                                            (folder / "decision.md").string(),
                                                            (folder / "report.html").string()));
}

}  // namespace rigwise::cli
