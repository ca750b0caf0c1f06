#include <unistd.h>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "report/change.h"
#include "rigwise/flame.h"
#include "rigwise/ledger.h"

namespace rigwise::cli {

namespace {

/// Against the threshold that was sealed before the run, where its words can be held to one ledger.
std::optional<SealedThreshold> sealed_threshold(const Run& run, const Ledger& ledger) {
  if (!run.info.statement || run.info.statement->threshold.empty()) return std::nullopt;
  const auto threshold = parse_threshold(run.info.statement->threshold);
  if (!threshold) return std::nullopt;
  auto gap = threshold_gap(*threshold, ledger);
  if (!gap) return std::nullopt;
  return SealedThreshold{run.info.statement->threshold, *std::move(gap)};
}

Result<std::vector<Ledger>> ledgers_of(const Common& args, const std::vector<std::string>& names) {
  RW_TRY(const auto runs, all_runs(args, names));
  std::vector<Ledger> ledgers;
  for (const Run& run : runs) {
    auto ledger = make_ledger(run);
    if (!ledger) {
      Error error = std::move(ledger).error();
      error.message = run.info.id + ": " + error.message;
      return error;
    }
    ledger->run = run.info.id;  // names may repeat
    ledgers.push_back(*std::move(ledger));
  }
  return ledgers;
}

Result<LedgerChange> change_between(const LedgerArgs& args) {
  RW_TRY(const auto a, ledgers_of(args, args.names));
  RW_TRY(const auto b, ledgers_of(args, args.against));
  RW_TRY(LedgerChange change, change_of(a, b));
  change.a.name = join(args.names, " ");
  change.b.name = join(args.against, " ");
  return change;
}

int print_change(const LedgerArgs& args) {
  const auto change = change_between(args);
  if (!change) return fail_run(change.error());
  return print(args.json ? ledger_change_json(*change)
                         : ledger_change_text(*change, style_of(STDOUT_FILENO)));
}

Result<FlameInput> stacks_of(const Run& run) {
  FlameInput input;
  input.run = run.info.name.empty() ? run.info.id : run.info.name;
  for (const auto& host : hosts_of(run)) {
    FlameHost one;
    one.host = host;
    RW_TRY(one.frames, read_stack_frames(run, host));
    RW_TRY(one.counts, read_stack_counts(run, host));
    if (one.counts.present) input.hosts.push_back(std::move(one));
  }
  if (flame_size(input).samples == 0) {
    return Error{Errc::unavailable,
                 "run " + clean_text(input.run, 100) +
                     " has no Python stack samples (profile/HOST.folded.csv)",
                 "rigwise run takes them of every Python process that it may read"};
  }
  return input;
}

int write_flame(const LedgerArgs& args) {
  const std::filesystem::path file = *args.flame;
  const bool drawn = file.extension() == ".svg";
  if (!drawn && file.extension() != ".json") {
    return fail({Errc::usage, "--flame '" + clean_text(*args.flame, 200) + "': which form?",
                 "FILE.svg for a picture, FILE.json for speedscope.app"});
  }
  const auto run = latest_run(args, args.names[0]);
  if (!run) return fail_run(run.error());
  const auto input = stacks_of(*run);
  if (!input) return fail(input.error());
  const auto written =
      write_file_atomic(file, drawn ? flame_svg(*input) : flame_speedscope(*input));
  if (!written) return fail(written.error());
  const FlameSize size = flame_size(*input);
  if (args.json) {
    return print(Json{{"schema", 1},
                      {"file", file.string()},
                      {"samples", size.samples},
                      {"processes", size.processes},
                      {"stacks", size.stacks}}
                     .dump(-1, ' ', false, Json::error_handler_t::replace) +
                 "\n");
  }
  return print(clean_text(file.string(), 500) + ": " + counted(size.samples, "sample", "samples") +
               " of " + counted(size.processes, "process", "processes") +
               (drawn ? "\n" : "; open it at https://www.speedscope.app\n"));
}

}  // namespace

int cmd_ledger(const LedgerArgs& args) {
  if (!args.traces.empty()) return cmd_trace(args);
  if (!args.against.empty()) return print_change(args);
  if (args.flame) return write_flame(args);
  const auto run = latest_run(args, args.names[0]);
  if (!run) return fail_run(run.error());
  const auto ledger = make_ledger(*run);
  if (!ledger) return fail(ledger.error());
  const auto sealed = sealed_threshold(*run, *ledger);
  const int printed =
      print(args.json ? ledger_json(*ledger, sealed)
                      : ledger_text(*ledger, *run, style_of(STDOUT_FILENO), sealed));
  if (printed != kOk) return printed;
  for (const auto& finding : ledger->findings) {
    if (args.fail_on && finding.severity >= *args.fail_on) return kFinding;
  }
  return kOk;
}

}  // namespace rigwise::cli
