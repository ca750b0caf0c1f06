// Arguments: what the person typed, as one value a verb. The only place that knows flags (args.cc,
// with CLI11).
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "rigwise/doctor.h"
#include "rigwise/finding.h"

namespace rigwise::cli {

// The one table of exit codes (docs/cli.md).
inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kPartial = 3;  // not comparable, or only part of it could be done
inline constexpr int kFinding = 4;  // a finding at or above --fail-on
inline constexpr int kNoSuchRun = 10;
inline constexpr int kLocked = 11;
inline constexpr int kUnreachable = 12;
inline constexpr int kInterrupted = 130;

struct Common {
  std::optional<std::string> runs = {};  // --runs
  bool json = false;
};

/// --lab FILE; without it ./lab.toml, which need not be there.
using Lab = std::optional<std::string>;

struct RunArgs : Common {
  std::string name = {};
  std::vector<std::string> command = {};
  double interval_s = 1;
  std::string profile = "auto";
  std::string hang_after = "auto", on_hang = "record";
  Lab lab = {};
  bool detach = false, quiet = false;
  int preflight = 0;      // levels of doctor to pass first
  bool long_run = false;  // --long: a smoke test should be on record
};
struct AttachArgs : Common {
  std::string name = {};
};
struct StacksArgs : Common {
  std::string name = {};
};
struct RunsArgs : Common {
  std::string action = "list";  // list, show, import, pause, resume
  std::string name = {};
  std::vector<std::string> paths = {};  // import: folders and files
  std::string import_name = {}, host = {};
  std::optional<double> start_unix_s = {};
};
struct ReadArgs : Common {
  std::vector<std::string> files = {};  // "-": standard input
  Lab lab = {};
  int rows = 12;  // of the table; 0: all
};
struct LedgerArgs : Common {
  std::vector<std::string> names = {};    // one; with `against`: those of side A
  std::vector<std::string> against = {};  // side B
  std::vector<std::string> traces = {};   // --trace: files of torch.profiler, instead of a run
  std::optional<std::string> flame = {};  // file to write
  std::optional<Severity> fail_on = {};
};
struct TriageArgs : Common {
  std::vector<std::string> names = {};  // log files and folders of them, or one run
  std::optional<std::string> signatures = {};
  std::optional<Severity> fail_on = {};
};
struct CompareArgs : Common {
  std::vector<std::string> a = {}, b = {};
  std::optional<std::string> factor = {};
  std::optional<double> floor_percent = {}, practical_percent = {};
  Lab lab = {};
};
struct InitArgs : Common {
  std::string lab = "lab.toml";
  std::optional<std::string> bottleneck = {}, threshold = {}, option = {}, reason = {}, stop = {},
                             baseline = {}, candidate = {}, experiment = {};
  bool force = false;
};
struct DecideArgs : Common {
  Lab lab = {};
  std::optional<std::string> baseline = {}, option = {};
};
struct ProbeArgs : Common {
  std::optional<std::string> model = {}, data = {}, name = {}, device = {}, dtype = {};
  std::vector<std::string> strategies = {};
  std::string method = "lora", limit = "30min";
  std::optional<int> seq = {}, global_batch = {}, ranks = {}, threads = {};
  int steps = 50, micro_batch = 1, repeats = 3;
  double limit_s = 0;  // of `limit`
  double loss_tolerance = 1e-4;
};
struct PlanArgs : Common {
  std::string action = {};              // memory, score; empty: --from
  std::vector<std::string> words = {};  // score: the file
  // memory
  std::optional<std::string> model = {}, gpu = {}, method = {}, quant = {}, precision = {},
                             optimizer = {}, checkpointing = {}, attention = {}, logits = {},
                             framework = {}, strategy = {}, metric = {};
  std::optional<double> seq = {}, micro_batch = {}, accumulate = {}, lora_rank = {}, gpus = {};
  std::vector<std::string> lora_targets = {};
  // --from RUN
  std::optional<std::string> from = {}, threshold = {}, circuit = {};
  std::vector<std::string> add = {};
  std::optional<double> price = {}, kwh_price = {}, rent_per_h = {}, rent_speedup = {}, psu_w = {};
  std::optional<std::string> link_file = {};
  Lab lab = {};
};
struct DoctorArgs : Common {
  int level = 1;
  std::vector<Rung> only = {};
  bool keep_going = false, cpu = false;
  std::string python = {}, root = {}, fail_on = "fail";
  std::vector<std::string> dirs = {};
  std::optional<double> need_bytes = {};
  std::vector<std::string> smoke = {};  // words of --smoke
  int steps = 20;
  double smoke_limit_s = 0;
};
struct DemoArgs : Common {
  std::optional<std::string> dir = {}, model = {}, workload = {};
  int runs_a_side = 3;
};

using Args =
    std::variant<RunArgs, AttachArgs, StacksArgs, RunsArgs, ReadArgs, LedgerArgs, TriageArgs,
                 CompareArgs, InitArgs, DecideArgs, ProbeArgs, PlanArgs, DoctorArgs, DemoArgs>;

/// What to do, or the exit code after help, version or an error was printed.
std::variant<Args, int> parse_args(int argc, char** argv);

}  // namespace rigwise::cli
