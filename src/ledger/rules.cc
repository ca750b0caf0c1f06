#include "ledger/rules.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace rigwise {

namespace {

// Sources: TF = tensorflow input pipeline analysis; TraceML = its step_time policy; Ktb = kineto
// tb_plugin data.py; HTA = HolisticTraceAnalysis; ours = chosen here, since no peer publishes a
// figure.
constexpr std::array kRules = {
    Rule{"bottleneck-startup", "command start to the first steady step", 0.50,
         "50 % of the wall time: a fixed cost, which a longer run shrinks", "ours",
         "cache the tokenised data and the compiled model, and restart less often"},
    Rule{"bottleneck-input", "ranks wait for data", 0.10, "10 % of the wall time",
         "TraceML 10 % warns, 20 % is critical; TF 5 % and 20 %; Ktb 5 %",
         "more data-loader workers, packed rows, or a faster disk"},
    Rule{"bottleneck-throttle", "clocks held down while steps ran", 0.05, "5 % of the wall time",
         "ours: no peer publishes one", "cooling, spacing between the cards, or a lower power cap"},
    Rule{"bottleneck-sync", "exposed communication, or waiting for the slowest rank", 0.10,
         "10 % of the wall time", "Ktb 10 %; TF all-reduce 6 %; TraceML straggler 10 %",
         "a better link, gradient accumulation, or another strategy"},
    Rule{"bottleneck-host", "the device idles because the CPU cannot launch work fast enough", 0.10,
         "10 % of the wall time", "TF kernel launch 3 % and 15 %",
         "a bigger batch, graphs, fewer other programs, or a faster CPU"},
    Rule{"bottleneck-memory", "reclaim and swapping", 0.05, "5 % of the wall time",
         "ours: no peer publishes one", "use less memory, or add some"},
    Rule{"bottleneck-checkpoint", "steps stand still while a checkpoint is written", 0.10,
         "10 % of the wall time", "ours: no peer publishes one",
         "save less often, save in the background, or write to a faster disk"},
    Rule{"bottleneck-evaluation", "training waits for an evaluation", 0.10, "10 % of the wall time",
         "ours: no peer publishes one",
         "evaluate less often or on fewer rows, or move evaluation to its own device"},
    Rule{"bottleneck-unexplained", "seconds that no evidence covers", 0.25, "25 % of the wall time",
         "ours: above it no other row can be called the main one",
         "see which rows say what would measure them"},
    Rule{"ranks-missing", "ranks asked for against ranks that trained", 1, "1 rank missing", "ours",
         "start the ranks with torchrun --nproc_per_node N and record again"},
    Rule{"log-lossy", "share of metric lines that could not be read, or bytes lost", 0.05,
         "5 % of the metric lines, or any lost byte", "rigwise's comparison rules: 95 % capture",
         "look at the first bad line; free disk space when bytes were lost"},
    Rule{"recorder-died", "samples end before the command did", 10, "10 missing sampling intervals",
         "ours", "record again; rows that rest on samples cover only the part before"},
    Rule{"output-buffered", "metric lines that arrive in bursts", 0.20,
         "20 % of the gaps between lines below 1 ms", "rigwise's comparison rules",
         "set PYTHONUNBUFFERED=1, or record on a terminal, so that lines arrive when they are "
         "printed"},
    Rule{"other-programs-took-cpu", "CPU time of all other programs, and the run queue's delay",
         0.05, "5 % of the CPU time there was, while the run's threads waited for a CPU",
         "ours: schedstat run-queue delay", "close them, or record again on a quiet machine"},
    Rule{"clocks-held", "seconds for which a GPU's clocks were held down", 0.05,
         "5 % of the time from first to last step", "NVML's cumulative counters; limit ours",
         "look at temperatures and power limit in the watch files"},
    Rule{"rank-straggles", "seconds that the other ranks wait for one", 0.10,
         "10 % of the time from first to last step, one rank last in 70 % of it",
         "TraceML straggler 10 %",
         "`rigwise ledger --json` shows each rank's rows: give that rank less of what it has more"},
    Rule{"disk-nearly-full", "free space where the run writes", 2,
         "less than 2 more checkpoints of the largest size, or 5 % of the file system",
         "rigwise's retention rules", "free some space: a half-written checkpoint is lost work"},
    Rule{"checkpoint-torn", "checkpoints of which a file is missing, short or empty", 1, "one",
         "read from each file's own header and index",
         "do not resume from it; look for a full disk, or a run that was killed while it saved"},
    Rule{"clock-jumped", "wall clock against monotonic clock", 1, "1 s between two samples", "ours",
         "nothing: instants of the run use the monotonic clock"},
    Rule{"no-steps", "training entries found in the log", 1, "not one entry", "ours",
         "read forms: dict lines and bars of Hugging Face trainers, key=value and JSON lines"},
    Rule{"step-stalled", "steps far above the steady median with no event beside them", 6,
         "6 robust standard deviations and twice the median", "rigwise's comparison rules",
         "look at the watch files at that instant: disk, other programs, temperature"},
    Rule{"run-hung", "silences in which no process of the run was at work", 1, "one",
         "docs/hangs.md", "look at hangs.jsonl: where each process was"},
};

}  // namespace

std::span<const Rule> ledger_rules() {
  return kRules;
}

const Rule& ledger_rule(std::string_view id) {
  const auto found =
      std::find_if(kRules.begin(), kRules.end(), [&](const Rule& rule) { return rule.id == id; });
  if (found == kRules.end()) {
    std::fprintf(stderr, "rigwise: no ledger rule '%.*s'\n", static_cast<int>(id.size()),
                 id.data());
    std::abort();
  }
  return *found;
}

const Rule* bottleneck_rule(LedgerClass cls) {
  const std::string id = "bottleneck-" + std::string(to_string(cls));
  const auto found =
      std::find_if(kRules.begin(), kRules.end(), [&](const Rule& rule) { return rule.id == id; });
  return found == kRules.end() ? nullptr : &*found;
}

}  // namespace rigwise
