// Triage: the lines that a failed run left behind → where it failed, and the first line that says
// so.
//
// Signatures are data (data/failures.csv): what a line means is a role and a layer, never the
// severity word that it carries. Which of the lines is the cause is decided by role, time, rank and
// by what came after it; launchers' tables are read for process ids and exit codes only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

enum class FailureLayer {
  launcher,
  rendezvous_network,
  user_config,
  driver,
  framework_env,
  user_code,
  checkpoint,
  hardware_fault,
  host_oom,
  gpu_oom,
  gpu_runtime,
  storage_io_permission,
  storage_space,
  topology_p2p,
  data_pipeline,
  collective_timeout,
  numerics,
  none,  // nothing to mend: healthy, recovered, or stopped on purpose
};
std::string_view to_string(FailureLayer layer);
std::optional<FailureLayer> failure_layer(std::string_view name);

/// What a line that bears a signature is.
enum class Role {
  root,          // can be the cause of the end
  raised,        // the same, where an exception says it; logged, it was handled
  confirmation,  // a record of the kernel, a scheduler or the host: the cause where it fits
  symptom,       // that something failed, not why: a collective timed out, a device's error code
  lost,          // what a rank says when another has gone
  teardown,      // what a launcher says while it ends
  ending,        // states the exit code or the signal of a process
  complaint,     // of a shell or a program that could not begin; counts at the very end of a log
  stop,          // somebody ended the run on purpose
  advice,        // warns or explains, and ends nothing
  progress,      // a step, an epoch or a figure: the training was alive here
  preparing,     // one rank makes the data ready while the others wait
  frames,        // a traceback begins
  finish,        // it came to its own end
};
std::optional<Role> role_of(std::string_view name);

struct Signature {
  std::string id = {};
  Role role = Role::root;
  FailureLayer layer = FailureLayer::none;
  std::string pattern = {};  // pieces of a line in their order, with '*' for anything between them,
                             // {rank} and {pid} for the number of whom the line speaks, {self} for
                             // the rank that speaks
  std::string within = {};   // if given: in a frame of the traceback that the line ends
  std::string advice = {};   // one change to try
  std::string confirms = {};
  std::string source = {};
};

/// The table, and the automaton that finds its lines.
class Signatures {
 public:
  /// rigwise's own table.
  static const Signatures& built_in();
  /// Rows of a table as data/failures.csv has it, behind those of `base`, which they come before in
  /// a choice. Errors: malformed (the line).
  static Result<Signatures> parse(std::string_view csv, const Signatures* base = nullptr);
  Signatures();
  Signatures(Signatures&&) noexcept;
  Signatures& operator=(Signatures&&) noexcept;
  ~Signatures();

  [[nodiscard]] const std::vector<Signature>& all() const;
  struct Match {
    const Signature* signature = nullptr;
    std::optional<int> rank = {}, self = {}, pid = {};  // as the pattern took them from the line
  };
  /// The first signature of the table that a line bears; `frames` is the traceback above it.
  [[nodiscard]] std::optional<Match> match(std::string_view line,
                                           std::string_view frames = {}) const;

  /// Where in some bytes what a signature must have ends. Most of the work of match(), and of no
  /// state: any thread can do it ahead.
  struct Hit {
    std::uint32_t at = 0;
    std::uint16_t signature = 0;
  };
  using Hits = std::vector<Hit>;  // in the order of the bytes
  [[nodiscard]] Hits scan(std::string_view bytes) const;
  /// match(), from the hits of bytes that hold the line.
  [[nodiscard]] std::optional<Match> match(std::string_view line, std::string_view frames,
                                           std::span<const Hit> hits) const;

 private:
  struct Automaton;
  std::vector<Signature> signatures_;
  std::unique_ptr<Automaton> automaton_;
};

struct FailureLine {
  std::string file = {};
  std::int64_t line = 0;  // 1-based
  std::string text = {};
};

/// Later lines that follow from the cause, of one kind.
struct Consequence {
  std::string what = {};  // "peers closed their connections"
  std::int64_t lines = 0;
  std::vector<int> ranks = {};
};

/// Something that is not as it was. Empty: it was not there, or is not now.
struct Change {
  std::string what =
      {};  // "argument", "setting", "software", "variable", "machine", "disk", "place"
  std::string name = {}, before = {}, now = {};
};

/// The last run of the same command that went well, and what has changed since.
struct LastGood {
  std::string run_id = {};
  double started_unix_s = 0;
  bool software_known = false;       // both runs recorded theirs
  std::vector<Change> changes = {};  // first what is likeliest to matter for the failure's layer
};

struct Failure {
  FailureLayer layer = FailureLayer::none;
  std::optional<FailureLine> first_meaningful = {};
  std::optional<int> rank = {};  // that failed first; empty: all, none, or not known
  std::string host = {};
  std::string signature = {};  // id of the row that named it; empty: an exception of no row
  double confidence = 0;       // 0..1
  std::string why = {};        // this line, and not another
  std::optional<FailureLayer> runner_up = {};
  std::optional<FailureLine> runner_up_line = {};
  std::vector<Consequence> consequences = {};
  std::string advice = {};
  std::string confirms = {};
  bool failed = false;  // something ended badly, whether or not its cause is known
  std::optional<LastGood> last_good = {};  // of a recorded run
};

struct LogName {
  std::string file = {};
  std::optional<int> rank = {};  // where the file itself is one rank's
  std::string host = {};
};

/// Logs, one after another, their bytes in pieces of any size and kind. What cannot be read as a
/// log has no lines. Cost: linear in the bytes; memory does not grow with them.
class Triage {
 public:
  /// `signatures` must live as long.
  explicit Triage(const Signatures& signatures);
  Triage(Triage&&) noexcept;
  Triage& operator=(Triage&&) noexcept;
  ~Triage();

  void begin(const LogName& log);
  void push(std::string_view bytes);
  /// The same, with what scan() found in these bytes before.
  void push(std::string_view bytes, const Signatures::Hits& hits);
  [[nodiscard]] Signatures::Hits scan(std::string_view bytes) const;
  void skip(std::string_view bytes);  // counts their lines, and looks at nothing in them
  void know_rank(int pid, int rank);  // of a process, from who watched it
  Failure finish();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// Which rank each of these files is of, by its own name or by what tells it from the others
/// ("out.0.txt", "out.1.txt").
std::vector<std::optional<int>> ranks_of_logs(const std::vector<std::string>& files);

/// Of a failed run: the newest of `runs` that ended well before it, with the same words, else of
/// the same script, module or program; and what differs: arguments, settings of other sources,
/// software, environment variables, machine, free space where little is left. Nothing where no run
/// is such.
std::optional<LastGood> last_good(const Run& failed, const std::vector<Run>& runs,
                                  FailureLayer layer);

/// Whole logs at once; ranks are taken from what tells the files' names apart, where they say none.
struct FailureLog {
  LogName name = {};
  std::string_view text = {};
};
Failure triage(const std::vector<FailureLog>& logs, const Signatures& signatures);

}  // namespace rigwise
