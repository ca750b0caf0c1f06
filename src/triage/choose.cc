// Of all that was seen: which line is the cause, and what follows from it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <initializer_list>

#include "base/text.h"
#include "rigwise/triage.h"
#include "triage/clues.h"

namespace rigwise {

using namespace triage_parts;

namespace {

/// Clocks of two hosts, or of a program and the kernel, agree so far.
constexpr double kClocks_s = 2;
constexpr std::size_t kMostFatal = 200;

bool before(const Clue& a, const Clue& b) {
  const bool apart =
      a.place.log != b.place.log || a.place.section != b.place.section || a.host != b.host;
  if (apart && a.unix_s && b.unix_s && std::fabs(*a.unix_s - *b.unix_s) > kClocks_s)
    return *a.unix_s < *b.unix_s;
  return std::pair(a.place.log, a.place.line) < std::pair(b.place.log, b.place.line);
}

/// How much a line is worth as the cause, by its role and by what stands beside it. `logged`: the
/// message of an exception that was not raised, so it was handled, or behind which the training
/// seemed to go on; `ending`: an exit code, of a process that said nothing else; `told`: a line
/// that looks like a cause, where an exception of another kind ended the process, or the machine's
/// record explains it.
enum class Weight {
  none,
  logged,
  lost,
  ending,
  complaint,
  symptom,
  signal,
  told,
  record,
  root,
  joined
};
/// A rank's peers wait for it: they do not come further than this behind its error.
constexpr int kStepsAhead = 2;
/// A complaint is the last that a log says, but for a hint or two.
constexpr std::int64_t kLastLines = 6;

class Choice {
 public:
  /// `attempts`: of each log, for launchers that start anew.
  Choice(Seen seen, std::vector<int> attempts)
      : seen_(std::move(seen)), attempts_(std::move(attempts)) {}

  Failure run() {
    Failure out;
    out.failed = seen_.failed;
    find_ends();
    find_candidates();
    const Candidate cause = best(nullptr);
    if (cause.clue == nullptr) {
      out.why = !stops_.empty() ? "stopped on purpose: " + stops_[0]->message
                : seen_.failed  ? "it ended badly, and no line says why"
                                : "nothing that ends a run";
      out.confidence = seen_.failed && stops_.empty() ? 0.2 : 0.9;
      return out;
    }
    describe(*cause.clue, cause.weight, out);
    if (const Clue* other = best(cause.clue).clue) {
      out.runner_up = other->layer;
      out.runner_up_line = line_of(*other);
    }
    return out;
  }

 private:
  /// With the number of the log for a name.
  static FailureLine line_of(const Clue& event) {
    return {std::to_string(event.place.log), event.place.line, event.text};
  }

  /// Does a launcher or the like say that something ended badly, and not because it was told to?
  static bool says_badly(const Clue& clue) {
    const bool asked = clue.code && (*clue.code == -SIGTERM || *clue.code == -SIGINT);
    return clue.role == Role::teardown || (clue.role == Role::ending && !asked);
  }

  void find_ends() {
    for (const Clue& clue : seen_.clues) {
      if (clue.role == Role::finish) finishes_.push_back(&clue);
      if (clue.role == Role::stop) stops_.push_back(&clue);
    }
    told_ = std::any_of(seen_.clues.begin(), seen_.clues.end(), says_badly);
  }

  /// Did the training go on behind it? A rank's own progress says so; of an error of no rank,
  /// everyone's.
  [[nodiscard]] bool recovered(const Clue& clue) const {
    if (clue.evidence || clue.figure) return false;
    const auto after = [&](const Alive& alive, bool own) {
      if (alive.place.log == clue.place.log && alive.place.section == clue.place.section) {
        // of whoever speaks without a tag: the others' last steps may follow a rank's end
        const Place& place = own || !told_ ? alive.place : alive.before[kStepsAhead - 1];
        return place.log == clue.place.log && place.line > clue.place.line;
      }
      if (attempts_[alive.place.log] > attempts_[clue.place.log]) return true;
      return alive.unix_s && clue.unix_s && *alive.unix_s > *clue.unix_s + kClocks_s;
    };
    if (clue.rank) {
      const auto own = seen_.progress.find(*clue.rank);
      if (own != seen_.progress.end()) return after(own->second, true);
    }
    return !seen_.progress.empty() &&
           std::all_of(seen_.progress.begin(), seen_.progress.end(),
                       [&](const auto& each) { return after(each.second, each.first >= 0); });
  }

  /// The kernel's or scheduler's record of a process that a launcher missed, or of a kill that
  /// nothing else explains.
  [[nodiscard]] bool joined(const Clue& event) const {
    const auto missed = [&](const Ended& each) {
      return (event.pid && each.pid == event.pid) ||
             (event.layer == FailureLayer::host_oom && each.code == -9);
    };
    return std::any_of(seen_.ended.begin(), seen_.ended.end(), missed);
  }

  /// The record of a kill, where the launcher knows the processes that ended, and neither is it one
  /// of them nor was any of them killed.
  [[nodiscard]] bool of_another(const Clue& record) const {
    if (record.layer != FailureLayer::host_oom || !record.pid) return false;
    return std::any_of(seen_.ended.begin(), seen_.ended.end(),
                       [](const Ended& each) { return each.pid.has_value(); });
  }

  static bool is_of(const Clue& clue, std::initializer_list<FailureLayer> layers) {
    return std::find(layers.begin(), layers.end(), clue.layer) != layers.end();
  }

  /// There were steps, and nothing says that it ended badly.
  [[nodiscard]] bool went_on() const { return !seen_.failed && !seen_.progress.empty(); }

  /// A record from long before a program's first line.
  [[nodiscard]] bool was_before(const Clue& record) const {
    constexpr double kCutOff_s = 600;  // of a log whose beginning may be missing
    return went_on() && record.unix_s && seen_.began_unix_s &&
           *record.unix_s + kCutOff_s < *seen_.began_unix_s;
  }

  /// The record of a kill of what no training is, by its name.
  static bool of_a_stranger(const Clue& record) {
    if (record.layer != FailureLayer::host_oom) return false;
    const std::size_t open = record.message.find("Killed process ");
    const std::size_t name = open == std::string::npos ? open : record.message.find('(', open);
    if (name == std::string::npos) return false;
    const std::string_view rest = std::string_view(record.message).substr(name + 1);
    constexpr std::array<std::string_view, 15> kStrangers = {
        "chrom", "firefox", "Web Content", "Isolated", "electron", "code)",  "gnome-", "Xorg",
        "java)", "node)",   "R)",          "mysqld",   "postgres", "mongod", "redis"};
    return std::any_of(kStrangers.begin(), kStrangers.end(),
                       [&](std::string_view name_of) { return rest.starts_with(name_of); });
  }

  [[nodiscard]] Weight weight_of(const Clue& clue) const {
    if (clue.evidence && (came_to_its_end() || was_before(clue))) return Weight::none;
    // a warning, or trouble with starting
    const bool outlived = (clue.warning && clue.layer != FailureLayer::numerics) ||
                          clue.layer == FailureLayer::launcher;
    if (outlived && !clue.exception && went_on()) return Weight::none;
    switch (clue.role) {
      case Role::confirmation:
        if (joined(clue)) return Weight::joined;
        if (of_another(clue)) return Weight::logged;
        // a program's own error, or a full disk that it writes to, ends with an error of its own
        if (went_on() && (of_a_stranger(clue) ||
                          is_of(clue, {FailureLayer::user_code, FailureLayer::storage_space})))
          return Weight::none;
        return came_to_its_end() ? Weight::none : Weight::record;
      case Role::raised:
        if (!clue.exception && !foretells(clue))
          return seen_.failed ? Weight::logged : Weight::none;
        return weight_of_cause(clue);
      case Role::root:
        return weight_of_cause(clue);
      case Role::symptom:
        return is_idle_talk(clue) ? Weight::none : Weight::symptom;
      case Role::lost:
        return Weight::lost;
      case Role::teardown:
        return clue.layer == FailureLayer::none ? Weight::none : Weight::signal;
      case Role::ending:
        return weight_of_ending(clue);
      case Role::complaint: {
        const auto last = seen_.last_lines.find(clue.place.log);
        const bool at_the_end =
            last != seen_.last_lines.end() && clue.place.line + kLastLines >= last->second;
        const bool counts = !clue.evidence && !clue.warning && (told_ || seen_.progress.empty());
        if (counts && could_not_start()) return Weight::told;
        return counts && at_the_end ? Weight::complaint : Weight::none;
      }
      default:
        return Weight::none;
    }
  }

  /// Exit codes by which a shell says that it could not start a command (POSIX sh, 2.8.2).
  [[nodiscard]] bool could_not_start() const {
    return std::any_of(seen_.clues.begin(), seen_.clues.end(),
                       [](const Clue& clue) { return clue.code == 126 || clue.code == 127; });
  }

  [[nodiscard]] Weight weight_of_cause(const Clue& clue) const {
    return explained(clue) && !foretells(clue) ? Weight::told : Weight::root;
  }

  /// Which way a transfer takes is told of every run; it counts where none ever came through.
  [[nodiscard]] bool is_idle_talk(const Clue& clue) const {
    if (clue.layer != FailureLayer::topology_p2p || !clue.nccl_device) return false;
    return !seen_.progress.empty() ||
           std::any_of(seen_.collectives.begin(), seen_.collectives.end(), [](const auto& each) {
             return each.second.timed_out.value_or(0) > 2;  // not one of the first
           });
  }

  /// The line to begin with: where NCCL's talk of the way is all there is to a hang, the hang.
  [[nodiscard]] const Clue& first_line_of(const Clue& cause) const {
    if (cause.layer != FailureLayer::topology_p2p || !cause.nccl_device) return cause;
    const auto found = std::find_if(seen_.clues.begin(), seen_.clues.end(), [](const Clue& clue) {
      return clue.layer == FailureLayer::collective_timeout && clue.role == Role::symptom;
    });
    return found == seen_.clues.end() ? cause : *found;
  }

  /// Only where a GPU works can this be raised.
  static bool proves_the_driver(const Clue& raised) {
    return is_of(raised, {FailureLayer::gpu_oom, FailureLayer::gpu_runtime,
                          FailureLayer::hardware_fault, FailureLayer::data_pipeline,
                          FailureLayer::rendezvous_network, FailureLayer::collective_timeout});
  }

  /// A warning that the driver does not work, where an exception then speaks of a GPU: what comes
  /// of none differs from program to program.
  [[nodiscard]] bool foretells(const Clue& clue) const {
    if (clue.layer != FailureLayer::driver || clue.evidence || clue.exception) return false;
    return std::any_of(seen_.clues.begin(), seen_.clues.end(), [&](const Clue& later) {
      if (!later.exception || proves_the_driver(later) || !before(clue, later) || survived(later))
        return false;
      const std::string words = lower(later.message);
      return words.find("cuda") != std::string::npos || words.find("gpu") != std::string::npos ||
             words.find("nccl") != std::string::npos;
    });
  }

  /// A signal tells something by itself; abort() and an exit code only that this process ended,
  /// which counts where it said no word of it.
  [[nodiscard]] Weight weight_of_ending(const Clue& clue) const {
    if (!clue.code || clue.layer == FailureLayer::none) return Weight::none;
    if (clue.signature != nullptr && clue.signature->role == Role::teardown &&
        *clue.code != -SIGABRT)
      return Weight::signal;
    if (*clue.code == -SIGABRT || *clue.code > 1) return Weight::ending;
    return *clue.code == 1 && silent(clue) ? Weight::ending : Weight::none;
  }

  /// Of a rank that ended: do others' exceptions carry their ranks, and is none its own?
  [[nodiscard]] bool silent(const Clue& ending) const {
    auto rank = ending.rank;
    if (!rank && ending.pid) {
      const auto known = seen_.rank_of_pid.find(*ending.pid);
      if (known != seen_.rank_of_pid.end()) rank = known->second;
    }
    bool others = false, own = false;
    for (const Clue& clue : seen_.clues) {
      if (!clue.exception || !clue.rank || clue.of_table) continue;
      (clue.rank == rank ? own : others) = true;
    }
    return rank && others && !own;
  }

  /// Can no figure of the training have brought it about?
  static bool is_apart(const Clue& fatal) {
    return is_of(fatal, {FailureLayer::gpu_oom, FailureLayer::host_oom, FailureLayer::storage_space,
                         FailureLayer::storage_io_permission, FailureLayer::driver,
                         FailureLayer::hardware_fault});
  }

  /// Does an exception that ended a process say better what was wrong than what was told before?
  static bool overrides(const Clue& fatal, const Clue& told) {
    const bool same = fatal.layer == told.layer;
    if (told.warning && !same) return true;
    if (!before(told, fatal)) return false;
    if (same) return told.figure;
    // figures that are no numbers break what computes with them, but nothing else
    if (told.figure && !is_apart(fatal)) return false;
    return fatal.place.log == told.place.log && fatal.place.section == told.place.section &&
           fatal.rank == told.rank;
  }

  /// An exception of another kind that ended the process which told of this one and went on, or a
  /// record of a GPU's trouble beside what the GPU's user saw of it.
  [[nodiscard]] bool explained(const Clue& clue) const {
    const bool only_told = !clue.exception && !clue.evidence;
    if (only_told && std::any_of(fatal_.begin(), fatal_.end(),
                                 [&](const Clue* fatal) { return overrides(*fatal, clue); }))
      return true;
    if (!is_of(clue,
               {FailureLayer::gpu_runtime, FailureLayer::hardware_fault, FailureLayer::driver}))
      return false;
    return std::any_of(records_.begin(), records_.end(), [&](const Clue* record) {
      // of what a tool says of the machine, only the kernel knows more
      const bool kernels =
          record->role == Role::confirmation && record->layer == FailureLayer::hardware_fault;
      if (clue.evidence && !kernels) return false;
      const bool later = record->unix_s && clue.unix_s && *record->unix_s > *clue.unix_s + 10;
      return record != &clue && !later &&
             (record->layer == FailureLayer::hardware_fault ||
              record->layer == FailureLayer::driver);
    });
  }

  /// Then a machine's record of some other process is none of its business.
  [[nodiscard]] bool came_to_its_end() const {
    return !finishes_.empty() && !seen_.failed && seen_.ended_as_nan.empty();
  }

  [[nodiscard]] bool survived(const Clue& clue) const {
    return recovered(clue) || finished_after(clue) || stopped_before(clue);
  }

  /// What ends because it was told to end is no failure, unless a scheduler says why it told so.
  [[nodiscard]] bool stopped_before(const Clue& clue) const {
    if (clue.evidence || clue.role == Role::confirmation) return false;
    return std::any_of(stops_.begin(), stops_.end(), [&](const Clue* stop) {
      const bool here =
          stop->place.log == clue.place.log && stop->place.section == clue.place.section;
      const bool comparable = here || (stop->unix_s && clue.unix_s);
      return comparable ? before(*stop, clue)
                        : clue.role == Role::lost || clue.role == Role::symptom;
    });
  }

  /// Did the rank itself, or the whole run, come to its own end later, with figures that are
  /// numbers?
  [[nodiscard]] bool finished_after(const Clue& clue) const {
    if (clue.evidence || !seen_.ended_as_nan.empty()) return false;
    return std::any_of(finishes_.begin(), finishes_.end(), [&](const Clue* finish) {
      const bool others = finish->rank && clue.rank && finish->rank != clue.rank;
      return !others && before(clue, *finish);
    });
  }

  struct Candidate {
    const Clue* clue = nullptr;
    Weight weight = Weight::none;
  };

  void find_candidates() {
    for (const Clue& clue : seen_.clues) {
      const bool root = clue.role == Role::root || clue.role == Role::raised;
      if (root && clue.exception && clue.signature != nullptr && secondhand(clue) == 0 &&
          fatal_.size() < kMostFatal && !survived(clue))
        fatal_.push_back(&clue);
      const bool record = clue.role == Role::confirmation || (root && clue.evidence);
      if (record && records_.size() < kMostFatal) records_.push_back(&clue);
    }
    for (const Clue& clue : seen_.clues) {
      const Weight weight = weight_of(clue);
      if (weight != Weight::none && !survived(clue)) candidates_.push_back({&clue, weight});
    }
    if (!candidates_.empty() || !ended_badly()) return;
    // What a program kept back in its buffers is written at its end, behind the error.
    for (const Clue& clue : seen_.clues) {
      const bool root = clue.role == Role::root || clue.role == Role::raised;
      if (root && clue.exception && !finished_after(clue) && !stopped_before(clue))
        candidates_.push_back({&clue, Weight::logged});
    }
  }

  /// Says a launcher so, and nothing went on behind it?
  [[nodiscard]] bool ended_badly() const {
    return std::any_of(seen_.clues.begin(), seen_.clues.end(),
                       [&](const Clue& clue) { return says_badly(clue) && !survived(clue); });
  }

  /// The heaviest line, of those the first. Beside `cause`: the best one of another layer.
  [[nodiscard]] Candidate best(const Clue* cause) const {
    Candidate found;
    for (const Candidate& each : candidates_) {
      if (cause != nullptr && each.clue->layer == cause->layer) continue;
      if (found.clue == nullptr || better(each, found)) found = each;
    }
    return found;
  }

  [[nodiscard]] static bool better(const Candidate& one, const Candidate& other) {
    if (one.weight != other.weight) return one.weight > other.weight;
    const Clue &a = *one.clue, &b = *other.clue;
    const int ha = secondhand(a), hb = secondhand(b);
    if (ha != hb) return ha < hb;
    if (quotes(a, b) || quotes(b, a)) return quotes(b, a);
    return before(a, b);
  }

  /// Does a line hold the words of an exception among others? Then they were said there, not here.
  static bool quotes(const Clue& line, const Clue& said) {
    // who reports of an exception, or was torn into its traceback; a program may also say what is
    // wrong before it raises it
    if (line.message.find("exception") == std::string::npos &&
        line.message.find("File \"") == std::string::npos)
      return false;
    if (line.exception || !said.exception || line.signature != said.signature) return false;
    const std::string_view words = words_of(said);
    return words.size() < said.message.size() && line.message.find(words) != std::string::npos;
  }

  /// What a table quotes was printed before; what was raised while handling follows from what was
  /// handled; a line that names a signal tells more than its number.
  static int secondhand(const Clue& event) {
    const bool numbered = event.code && event.message.find("ignal") == std::string::npos &&
                          event.message.find("SIG") == std::string::npos;
    return (event.of_table ? 2 : 0) + (event.chained ? 1 : 0) + (numbered ? 3 : 0);
  }

  /// The kernel may know better what was wrong with an access: the address, by the program's own
  /// code (Xid 13).
  [[nodiscard]] FailureLayer layer_of(const Clue& cause) const {
    const bool by_itself = std::any_of(records_.begin(), records_.end(), [](const Clue* record) {
      return record->layer == FailureLayer::user_code;
    });
    return cause.layer == FailureLayer::gpu_runtime && by_itself ? FailureLayer::user_code
                                                                 : cause.layer;
  }

  void describe(const Clue& cause, Weight weight, Failure& out) {
    out.layer = layer_of(cause);
    out.first_meaningful = line_of(first_line_of(cause));
    out.host = cause.host;
    out.rank = rank_of_failure(cause, seen_);
    if (cause.signature != nullptr) {
      out.signature = cause.signature->id;
      out.advice = cause.signature->advice;
      out.confirms = cause.signature->confirms;
    }
    out.confidence = weight == Weight::joined                               ? 0.95
                     : weight == Weight::root && cause.signature != nullptr ? 0.9
                     : weight == Weight::root                               ? 0.6
                     : weight == Weight::record                             ? 0.6
                     : weight == Weight::symptom || weight == Weight::told  ? 0.5
                                                                            : 0.3;
    fold(cause, out);
    out.why = why_of(cause, weight, out);
  }

  void fold(const Clue& cause, Failure& out) const {
    std::map<std::string, Consequence> kinds;
    for (const Clue& event : seen_.clues) {
      if (&event == &cause || event.evidence) continue;
      const bool closing = event.role == Role::teardown || event.role == Role::ending;
      const bool peers = event.role == Role::lost || event.role == Role::symptom;
      const bool follows = peers || closing || (event.role == Role::root && before(cause, event));
      if (!follows) continue;
      const std::string what = peers     ? "peers that lost the failing rank"
                               : closing ? "the launcher's closing lines"
                                         : "later errors";
      Consequence& kind = kinds[what];
      kind.what = what;
      ++kind.lines;
      if (event.rank &&
          std::find(kind.ranks.begin(), kind.ranks.end(), *event.rank) == kind.ranks.end())
        kind.ranks.push_back(*event.rank);
    }
    for (auto& [what, kind] : kinds) {
      std::sort(kind.ranks.begin(), kind.ranks.end());
      out.consequences.push_back(std::move(kind));
    }
  }

  static std::string why_of(const Clue& cause, Weight weight, const Failure& out) {
    std::int64_t later = 0;
    for (const Consequence& kind : out.consequences) later += kind.lines;
    const std::string tail = later == 0 ? std::string()
                                        : fmt::format("; {} other {} from it", later,
                                                      later == 1 ? "line follows" : "lines follow");
    switch (weight) {
      case Weight::joined:
        return "the machine's own record of the process that was lost" + tail;
      case Weight::record:
        return "a record of the machine; no program's own error stands beside it" + tail;
      case Weight::root:
        return std::string(cause.figure
                               ? "the first figure that is no number, and none came after it"
                               : "the first error that the training did not survive") +
               tail;
      case Weight::told:
        return "the first line that looks like a cause" + tail;
      case Weight::logged:
        return "the message of an exception that was handled; no other line says why it ended";
      case Weight::signal:
        return "the launcher says which signal ended it, and no line says why" + tail;
      case Weight::ending:
        return "a process ended so and said nothing of it" + tail;
      case Weight::complaint:
        return "the last that was said, and nothing ran" + tail;
      case Weight::symptom:
      case Weight::lost:
        return "only lines that speak of somebody else's failure were found: look at that rank's "
               "own output" +
               tail;
      default:
        return "only the launcher says how it ended" + tail;
    }
  }

  Seen seen_;
  std::vector<int> attempts_;
  bool told_ = false;  // a launcher says that something ended badly
  std::vector<const Clue*> finishes_ = {}, stops_ = {}, fatal_ = {}, records_ = {};
  std::vector<Candidate> candidates_ = {};
};

void name_file(std::optional<FailureLine>& line, const std::vector<LogName>& logs) {
  if (!line) return;
  const auto at = to_integer(line->file);
  line->file = at ? logs[static_cast<std::size_t>(*at)].file : "";
}

}  // namespace

struct Triage::Parts {
  explicit Parts(const Signatures& table)
      : signatures(table),
        seeing(table),
        lines([this](const LogLine& line) { seeing.take(line); }) {}
  const Signatures& signatures;
  std::vector<LogName> logs = {};
  Seeing seeing;
  Lines lines;
};

Triage::Triage(const Signatures& signatures) : parts_(std::make_unique<Parts>(signatures)) {}
Triage::Triage(Triage&&) noexcept = default;
Triage& Triage::operator=(Triage&&) noexcept = default;
Triage::~Triage() = default;

void Triage::begin(const LogName& log) {
  if (!parts_->logs.empty()) parts_->lines.end();
  parts_->logs.push_back(log);
  parts_->lines.begin(log);
}

void Triage::push(std::string_view bytes) {
  push(bytes, scan(bytes));
}

void Triage::push(std::string_view bytes, const Signatures::Hits& hits) {
  parts_->lines.push(bytes, hits);
}

Signatures::Hits Triage::scan(std::string_view bytes) const {
  return parts_->signatures.scan(bytes);
}

void Triage::skip(std::string_view bytes) {
  parts_->lines.skip(bytes);
}

void Triage::know_rank(int pid, int rank) {
  parts_->seeing.know_rank(pid, rank);
}

std::vector<std::optional<int>> ranks_of_logs(const std::vector<std::string>& files) {
  return ranks_of_files(files);
}

Failure Triage::finish() {
  if (!parts_->logs.empty()) parts_->lines.end();
  std::vector<int> attempts;
  for (const LogName& log : parts_->logs) attempts.push_back(attempt_of_file(log.file));
  Failure failure = Choice(parts_->seeing.finish(), std::move(attempts)).run();
  name_file(failure.first_meaningful, parts_->logs);
  name_file(failure.runner_up_line, parts_->logs);
  return failure;
}

Failure triage(const std::vector<FailureLog>& logs, const Signatures& signatures) {
  std::vector<std::string> files;
  for (const FailureLog& log : logs) files.push_back(log.name.file);
  const auto ranks = ranks_of_logs(files);
  Triage triage(signatures);
  for (std::size_t i = 0; i < logs.size(); ++i) {
    LogName name = logs[i].name;
    if (!name.rank) name.rank = ranks[i];
    triage.begin(name);
    triage.push(logs[i].text);
  }
  return triage.finish();
}

}  // namespace rigwise
