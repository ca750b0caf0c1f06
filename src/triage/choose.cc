// Of all that was seen: which line is the cause, whose it is, and what follows from it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "rigwise/triage.h"
#include "triage/events.h"

namespace rigwise {

using namespace triage_parts;

namespace {

/// Clocks of two hosts, or of a program and the kernel, agree so far.
constexpr double kClocks_s = 2;

bool before(const Event& a, const Event& b) {
  const bool apart = a.log != b.log || a.host != b.host;
  if (apart && a.unix_s && b.unix_s && std::fabs(*a.unix_s - *b.unix_s) > kClocks_s)
    return *a.unix_s < *b.unix_s;
  return std::pair(a.log, a.line) < std::pair(b.log, b.line);
}

/// The text that two ranks print of one failure: without what differs from rank to rank.
std::string likeness(std::string_view message) {
  std::string out;
  for (const char c : message) {
    if (c < '0' || c > '9') out += c;
  }
  return out;
}

/// How much a kind of line is worth as the cause; 0: not at all.
enum class Weight { none, cascade, signal, record, root, joined };

class Choice {
 public:
  explicit Choice(Seen seen) : seen_(std::move(seen)) {}

  Failure run() {
    Failure out;
    out.failed = seen_.failed;
    find_ends();
    const Event* cause = best(nullptr);
    if (cause == nullptr) {
      out.why = stopped_ != nullptr ? "stopped on purpose: " + stopped_->message
                : seen_.failed      ? "it ended badly, and no line says why"
                                    : "nothing that ends a run";
      out.confidence = seen_.failed && stopped_ == nullptr ? 0.2 : 0.9;
      return out;
    }
    describe(*cause, out);
    if (const Event* other = best(cause)) {
      out.runner_up = other->layer;
      out.runner_up_line = line_of(*other);
    }
    return out;
  }

 private:
  /// With the number of the log for a name.
  static FailureLine line_of(const Event& event) {
    return {std::to_string(event.log), event.line, event.text};
  }

  void find_ends() {
    for (const Event& event : seen_.events) {
      if (event.role == Role::finish && (finish_ == nullptr || before(*finish_, event)))
        finish_ = &event;
      if (event.role == Role::stop && (stop_ == nullptr || before(event, *stop_))) stop_ = &event;
    }
  }

  /// Did the training go on behind it? A rank's own progress says so; of an error of no rank,
  /// everyone's.
  [[nodiscard]] bool recovered(const Event& event) const {
    if (event.evidence || event.figure) return false;
    const auto after = [&](const Alive& alive) {
      return alive.log == event.log && alive.line > event.line;
    };
    if (event.rank) {
      const auto own = seen_.progress.find(*event.rank);
      if (own != seen_.progress.end()) return after(own->second);
    }
    bool any = false;
    for (const auto& [rank, alive] : seen_.progress) {
      if (!after(alive)) return false;
      any = true;
    }
    return any;
  }

  /// The kernel's or scheduler's record of a process that a launcher missed, or of a kill that
  /// nothing else explains.
  [[nodiscard]] bool joined(const Event& event) const {
    if (event.pid &&
        (seen_.rank_of_pid.contains(*event.pid) || seen_.signal_of_pid.contains(*event.pid)))
      return true;
    if (event.layer != FailureLayer::host_oom) return false;
    const auto killed = [](const auto& each) { return each.second == 9; };
    return std::any_of(seen_.signal_of_pid.begin(), seen_.signal_of_pid.end(), killed);
  }

  [[nodiscard]] Weight weight_of(const Event& event) const {
    switch (event.role) {
      case Role::confirmation:
        return joined(event) ? Weight::joined : Weight::record;
      case Role::root:
        return Weight::root;
      case Role::cascade:
        return Weight::cascade;
      case Role::teardown:
        return event.layer == FailureLayer::none ? Weight::none : Weight::signal;
      default:
        return Weight::none;
    }
  }

  [[nodiscard]] bool is_candidate(const Event& event) const {
    if (weight_of(event) == Weight::none || recovered(event)) return false;
    if (finish_ != nullptr && !event.evidence && finished_after(event)) return false;
    // what ends because it was told to end is no failure
    return stop_ == nullptr || before(event, *stop_) || event.evidence;
  }

  [[nodiscard]] bool finished_after(const Event& event) const { return before(event, *finish_); }

  /// The heaviest line, of those the first. Beside `cause`: the best one of another layer.
  const Event* best(const Event* cause) {
    const Event* found = nullptr;
    for (const Event& event : seen_.events) {
      if (!is_candidate(event)) continue;
      if (cause != nullptr && event.layer == cause->layer) continue;
      if (found == nullptr || better(event, *found)) found = &event;
    }
    if (found == nullptr && cause == nullptr && stop_ != nullptr) stopped_ = stop_;
    return found;
  }

  [[nodiscard]] bool better(const Event& a, const Event& b) const {
    const Weight wa = weight_of(a), wb = weight_of(b);
    if (wa != wb) return wa > wb;
    const int ha = secondhand(a), hb = secondhand(b);
    if (ha != hb) return ha < hb;
    // a program's own exception before the loggers that repeat it
    if (a.signature == b.signature && a.exception != b.exception) return a.exception;
    return before(a, b);
  }

  /// What a table quotes was printed before; what was raised while handling follows from what was
  /// handled.
  static int secondhand(const Event& event) {
    return (event.of_table ? 2 : 0) + (event.chained ? 1 : 0);
  }

  void describe(const Event& cause, Failure& out) {
    out.layer = cause.layer;
    out.first_meaningful = line_of(cause);
    out.host = cause.host;
    out.rank = rank_of(cause);
    if (cause.signature != nullptr) {
      out.signature = cause.signature->id;
      out.advice = cause.signature->advice;
      out.confirms = cause.signature->confirms;
    }
    const Weight weight = weight_of(cause);
    out.confidence = weight == Weight::joined                               ? 0.95
                     : weight == Weight::root && cause.signature != nullptr ? 0.9
                     : weight == Weight::root                               ? 0.6
                     : weight == Weight::record                             ? 0.6
                     : weight == Weight::cascade                            ? 0.5
                                                                            : 0.3;
    fold(cause, out);
    out.why = why_of(cause, weight, out);
  }

  /// Whose failure it is. Several ranks that say the same failed together.
  [[nodiscard]] std::optional<int> rank_of(const Event& cause) const {
    auto rank = stated_rank(cause);
    return rank ? rank : rank_of_host(cause.host);
  }

  /// "worker-1" of a set of pods, where no line names a rank: the set's own number, behind the
  /// master where it has a name of its own.
  [[nodiscard]] std::optional<int> rank_of_host(const std::string& host) const {
    if (!seen_.ranks.empty()) return {};
    const std::size_t dash = host.rfind('-');
    if (dash == std::string::npos) return {};
    const auto number = to_integer(std::string_view(host).substr(dash + 1));
    if (!number || *number < 0 || *number > 65535) return {};
    const std::string stem = host.substr(0, dash + 1);
    const auto of_set = [&](const std::string& other) {
      return other.starts_with(stem) || other.find("master-0") != std::string::npos;
    };
    if (std::count_if(seen_.hosts.begin(), seen_.hosts.end(), of_set) < 2) return {};
    const bool behind = stem.find("master-") == std::string::npos &&
                        std::any_of(seen_.hosts.begin(), seen_.hosts.end(), [](const auto& other) {
                          return other.find("master-0") != std::string::npos;
                        });
    return static_cast<int>(*number) + (behind ? 1 : 0);
  }

  /// Says this line that the rank which prints it is the one in trouble, and not a peer?
  static bool of_its_own(const Event& event) {
    return event.role != Role::cascade || event.layer == FailureLayer::gpu_runtime ||
           event.layer == FailureLayer::hardware_fault || event.layer == FailureLayer::driver ||
           event.layer == FailureLayer::storage_space || event.layer == FailureLayer::checkpoint ||
           event.layer == FailureLayer::host_oom || event.layer == FailureLayer::data_pipeline;
  }

  [[nodiscard]] std::optional<int> stated_rank(const Event& cause) const {
    if (cause.about) return cause.about;
    if (cause.pid) {
      const auto known = seen_.rank_of_pid.find(*cause.pid);
      if (known != seen_.rank_of_pid.end()) return known->second;
    }
    if (cause.named_by) return cause.named_by;
    if (!of_its_own(cause)) return accused(cause);
    if (cause.role == Role::confirmation && !cause.rank) return rank_of_record(cause);
    const std::string like = likeness(cause.message);
    std::set<int> same, quoted;
    std::size_t untagged = 0;
    for (const Event& event : seen_.events) {
      if (event.role != cause.role || event.layer != cause.layer) continue;
      if (&event != &cause && likeness(event.message) != like) continue;
      if (event.of_table && event.rank) {
        quoted.insert(*event.rank);
      } else if (event.rank) {
        same.insert(*event.rank);
      } else {
        ++untagged;
      }
    }
    if (same.size() == 1 && untagged <= 1) return *same.begin();
    if (!same.empty() || untagged > 1) return {};
    if (quoted.size() == 1) return *quoted.begin();
    if (const auto spoken = rank_in(cause.message)) return spoken;
    return accused(cause);
  }

  /// Of a failure that nobody says is his: the one rank that is left when all others say that
  /// somebody else has gone or did not come.
  [[nodiscard]] std::optional<int> accused(const Event& cause) const {
    std::set<int> left = seen_.ranks;
    for (const Event& event : seen_.events) {
      if (event.role == Role::cascade && event.rank && !of_its_own(event)) left.erase(*event.rank);
    }
    if (cause.role == Role::cascade) {
      for (const int rank : seen_.exited) left.erase(rank);
    }
    if (seen_.ranks.size() > 1 && left.size() == 1) return *left.begin();
    return {};
  }

  /// Of a device's or disk's record: the only rank that complains of the same.
  [[nodiscard]] std::optional<int> rank_of_record(const Event& record) const {
    std::set<int> complain;
    for (const Event& event : seen_.events) {
      if (event.role == Role::confirmation || !event.rank || !of_its_own(event)) continue;
      const bool same =
          event.layer == record.layer || (record.layer == FailureLayer::hardware_fault &&
                                          event.layer == FailureLayer::gpu_runtime);
      if (same) complain.insert(*event.rank);
    }
    if (complain.size() == 1) return *complain.begin();
    return {};
  }

  /// "on rank 3": the only rank that a message speaks of.
  static std::optional<int> rank_in(const std::string& message) {
    const std::string small = lower(message);
    std::optional<int> found;
    for (std::size_t at = small.find("rank "); at != std::string::npos;
         at = small.find("rank ", at + 5)) {
      std::size_t end = at + 5;
      while (end < small.size() && end - at < 11 && small[end] >= '0' && small[end] <= '9') ++end;
      const auto value = to_integer(std::string_view(small).substr(at + 5, end - at - 5));
      if (!value) continue;
      if (found && *found != static_cast<int>(*value)) return {};
      found = static_cast<int>(*value);
    }
    return found;
  }

  void fold(const Event& cause, Failure& out) const {
    std::map<std::string, Consequence> kinds;
    for (const Event& event : seen_.events) {
      if (&event == &cause || event.evidence) continue;
      const bool follows = event.role == Role::cascade || event.role == Role::teardown ||
                           (event.role == Role::root && before(cause, event));
      if (!follows) continue;
      const std::string what = event.role == Role::cascade    ? "peers that lost the failing rank"
                               : event.role == Role::teardown ? "the launcher's closing lines"
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

  static std::string why_of(const Event& cause, Weight weight, const Failure& out) {
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
      case Weight::signal:
        return "the launcher says which signal ended it, and no line says why" + tail;
      case Weight::cascade:
        return "only lines that speak of somebody else's failure were found: look at that rank's "
               "own output" +
               tail;
      default:
        return "only the launcher says how it ended" + tail;
    }
  }

  Seen seen_;
  const Event* finish_ = nullptr;
  const Event* stop_ = nullptr;
  const Event* stopped_ = nullptr;
};

void name_file(std::optional<FailureLine>& line, const std::vector<FailureLog>& logs) {
  if (!line) return;
  const auto at = to_integer(line->file);
  line->file = at ? logs[static_cast<std::size_t>(*at)].file : "";
}

}  // namespace

Failure triage(const std::vector<FailureLog>& logs, const Signatures& signatures) {
  Failure failure = Choice(see(logs, signatures)).run();
  name_file(failure.first_meaningful, logs);
  name_file(failure.runner_up_line, logs);
  return failure;
}

}  // namespace rigwise
