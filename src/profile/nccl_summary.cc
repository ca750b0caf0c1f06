// Ranks side by side. A collective ends on all ranks together, but begins on each when its stream
// gets there, and then spins: so from its start to the last rank's start a rank waits, and from
// there on data moves. Long waits speak for a late rank, long moves at a low rate for a slow link.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "base/text.h"
#include "rigwise/nccl.h"

namespace rigwise {

namespace {

struct Interval {
  double start, end;
};

double length_of_union(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.start < b.start; });
  double total = 0, reached = -INFINITY;
  for (const auto& [start, end] : intervals) {
    if (end > reached) total += end - std::max(start, reached);
    reached = std::max(reached, end);
  }
  return total;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// One communicator of one file: a rank of it.
struct Unit {
  std::size_t file, comm;
  auto operator<=>(const Unit&) const = default;
};
struct Seen {
  Unit unit;
  const NcclOperation* operation;
};
struct Key {
  std::uint64_t hash;
  std::string_view function;
  std::uint64_t sequence;
  auto operator<=>(const Key&) const = default;
};

class Summary {
 public:
  explicit Summary(std::span<const NcclRank> files) : files_(files) {}

  NcclSummary make() {
    collect();
    align_hosts();
    for (const auto& [key, seen] : matches_) match(key, seen);
    for (std::size_t file = 0; file < files_.size(); ++file) add_rank(file);
    add_traffic();
    add_notes();
    return std::move(result_);
  }

 private:
  struct Verdict {
    double last_start = 0;
    bool is_last = false;
    double late_s = 0;
  };

  void collect();
  void align_hosts();
  void match(const Key& key, const std::vector<Seen>& seen);
  void add_rank(std::size_t file);
  void add_window(std::size_t file, const NcclWindow& window,
                  std::vector<const NcclOperation*> inside, NcclRankSeconds& seconds);
  void add_traffic();
  void add_notes();
  [[nodiscard]] std::optional<int> ranks_of(const NcclCommunicator& comm) const {
    if (comm.ranks) return comm.ranks;
    const auto found = units_.find(comm.hash);
    if (found == units_.end()) return std::nullopt;
    return static_cast<int>(found->second.size());
  }
  [[nodiscard]] double clock_error(std::size_t file) const {
    double error = 0;
    for (const auto& window : files_[file].windows)
      error = std::max(error, window.clock_error_s.value_or(0));
    return error + host_error_.at(files_[file].host);
  }
  /// On the first host's clock.
  [[nodiscard]] double shift(std::size_t file) const { return shift_.at(files_[file].host); }

  std::span<const NcclRank> files_;
  std::map<std::uint64_t, std::set<Unit>> units_ = {};  // by communicator
  std::map<Key, std::vector<Seen>> matches_ = {};
  std::map<std::string, double> shift_ = {}, host_error_ = {};
  std::map<const NcclOperation*, Verdict> verdicts_ = {};
  std::int64_t twice_ = 0, incomplete_ = 0;
  bool unpaired_interface_ = false;
  NcclSummary result_ = {};
};

void Summary::collect() {
  for (std::size_t file = 0; file < files_.size(); ++file) {
    const NcclRank& rank = files_[file];
    shift_.try_emplace(rank.host, 0);
    host_error_.try_emplace(rank.host, 0);
    for (std::size_t comm = 0; comm < rank.comms.size(); ++comm)
      units_[rank.comms[comm].hash].insert({file, comm});
    // NCCL 2.23 counts only what it reports, so its ranks' numbers part with the first window.
    if (rank.interface == 1) {
      unpaired_interface_ = true;
      continue;
    }
    for (const auto& operation : rank.operations) {
      if (!operation.sequence || operation.timing == NcclTiming::none) continue;
      const Unit unit = {file, operation.comm};
      auto& seen =
          matches_[{rank.comms[operation.comm].hash, operation.function, *operation.sequence}];
      const bool again = std::any_of(seen.begin(), seen.end(),
                                     [&](const Seen& other) { return other.unit == unit; });
      if (again) {
        ++twice_;
      } else {
        seen.push_back({unit, &operation});
      }
    }
  }
}

/// Other hosts' clocks are put on the first one's by the ends of all-reduces, which come at the
/// same moment everywhere; where there are none, by the wall clocks.
void Summary::align_hosts() {
  if (shift_.size() < 2) return;
  const std::string& first = files_.front().host;
  for (auto& [host, shift] : shift_) {
    if (host == first) continue;
    std::vector<double> differences;
    for (const auto& [key, seen] : matches_) {
      if (key.function != "AllReduce") continue;
      const NcclOperation *here = nullptr, *there = nullptr;
      for (const auto& [unit, operation] : seen) {
        if (files_[unit.file].host == first) here = operation;
        if (files_[unit.file].host == host) there = operation;
      }
      if (here != nullptr && there != nullptr) differences.push_back(*here->end_s - *there->end_s);
    }
    if (differences.size() >= 5) {
      shift = median(differences);
      for (double& difference : differences) difference = std::abs(difference - shift);
      host_error_[host] = median(differences);
      result_.notes.push_back("the clock of " + host + " was put on that of " + first +
                              " by the ends of " + std::to_string(differences.size()) +
                              " all-reduces");
      continue;
    }
    const auto clock = [&](const std::string& name) {
      const auto found = std::find_if(files_.begin(), files_.end(),
                                      [&](const NcclRank& rank) { return rank.host == name; });
      return found->opened_unix_s - found->opened_s;
    };
    shift = clock(host) - clock(first);
    host_error_[host] = 0.01;  // NTP on a home network
    result_.notes.push_back("the clock of " + host + " was put on that of " + first +
                            " by their wall clocks: starts may be off by some 10 ms");
  }
}

void Summary::match(const Key&, const std::vector<Seen>& seen) {
  const NcclRank& rank = files_[seen.front().unit.file];
  const auto expected = ranks_of(rank.comms[seen.front().unit.comm]);
  if (seen.size() < 2 || !expected || static_cast<int>(seen.size()) < *expected) {
    ++incomplete_;
    return;
  }
  // Ranks that do not agree on the size are not at the same collective.
  for (const auto& [unit, operation] : seen) {
    if (operation->count != seen.front().operation->count) {
      ++incomplete_;
      return;
    }
  }
  const Seen* last = nullptr;
  double last_start = -INFINITY, before = -INFINITY;
  for (const auto& one : seen) {
    const double start = *one.operation->start_s + shift(one.unit.file);
    if (start > last_start) {
      before = last_start;
      last_start = start;
      last = &one;
    } else {
      before = std::max(before, start);
    }
  }
  for (const auto& one : seen) {
    const bool is_last = &one == last;
    verdicts_[one.operation] = {.last_start = last_start - shift(one.unit.file),
                                .is_last = is_last,
                                .late_s = is_last ? last_start - before : 0};
  }
}

void Summary::add_window(std::size_t, const NcclWindow& window,
                         std::vector<const NcclOperation*> inside, NcclRankSeconds& seconds) {
  double from = window.start_s, to = window.end_s;
  std::sort(inside.begin(), inside.end(),
            [](const auto* a, const auto* b) { return *a->start_s < *b->start_s; });
  // The device runs behind the host: the window as it sees it reaches from its first operation's
  // start to its last one's, whole turns of work between two starts.
  if (inside.size() >= 3 && *inside.back()->start_s > *inside.front()->start_s) {
    from = *inside.front()->start_s;
    to = *inside.back()->start_s;
  }
  std::vector<Interval> all, moving, unmatched;
  const auto keep = [&](std::vector<Interval>& into, double start, double end) {
    start = std::max(start, from);
    end = std::min(end, to);
    if (end > start) into.push_back({start, end});
  };
  for (const auto* operation : inside) {
    const double start = *operation->start_s, end = *operation->end_s;
    keep(all, start, end);
    const auto verdict = verdicts_.find(operation);
    if (verdict == verdicts_.end()) {
      keep(unmatched, start, end);
      continue;
    }
    const double turn = std::clamp(verdict->second.last_start, start, end);
    keep(moving, turn, end);
    if (start >= to) continue;
    ++seconds.matched;
    if (verdict->second.is_last) {
      ++seconds.last;
      seconds.late_s += verdict->second.late_s;
    }
  }
  const double moving_s = length_of_union(moving);
  unmatched.insert(unmatched.end(), moving.begin(), moving.end());
  const double known_s = length_of_union(unmatched);
  const double all_s = length_of_union(all);
  seconds.observed_s += to - from;
  seconds.communication_s += all_s;
  seconds.moving_s += moving_s;
  seconds.unmatched_s += known_s - moving_s;
  seconds.waiting_s += std::max(0.0, all_s - known_s);
}

void Summary::add_rank(std::size_t file) {
  const NcclRank& rank = files_[file];
  NcclRankSeconds seconds;
  seconds.file = file;
  seconds.error_s = 2 * clock_error(file);
  int largest = 0;
  for (const auto& comm : rank.comms) {
    const int ranks = ranks_of(comm).value_or(1);
    if (comm.rank && ranks > largest) {
      largest = ranks;
      seconds.rank = comm.rank;
    }
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < rank.windows.size(); ++i) {
    const NcclWindow& window = rank.windows[i];
    const double until = i + 1 < rank.windows.size() ? rank.windows[i + 1].start_s : INFINITY;
    std::vector<const NcclOperation*> inside;
    for (; next < rank.operations.size() && rank.operations[next].enqueued_s < until; ++next) {
      const auto& operation = rank.operations[next];
      if (operation.enqueued_s >= window.start_s && operation.timing != NcclTiming::none)
        inside.push_back(&operation);
    }
    if (window.kernels) add_window(file, window, std::move(inside), seconds);
  }
  result_.ranks.push_back(seconds);
}

void Summary::add_traffic() {
  struct Sums {
    std::map<Unit, double> seconds = {};
    std::map<Unit, double> bytes = {};
    std::vector<double> rates = {};
    std::map<Unit, std::pair<std::uint64_t, std::uint64_t>> numbers = {};  // first and last
    std::int64_t operations = 0;
  };
  std::map<std::pair<std::uint64_t, std::string>, Sums> sums;
  for (std::size_t file = 0; file < files_.size(); ++file) {
    for (const auto& operation : files_[file].operations) {
      const NcclCommunicator& comm = files_[file].comms[operation.comm];
      Sums& sum = sums[{comm.hash, std::string(operation.function)}];
      if (operation.sequence && files_[file].interface != 1) {
        const std::uint64_t number = *operation.sequence;
        auto& [first, last] =
            sum.numbers.try_emplace({file, operation.comm}, number, number).first->second;
        first = std::min(first, number);
        last = std::max(last, number);
      }
      if (operation.timing == NcclTiming::none) continue;
      const double took_s = *operation.end_s - *operation.start_s;
      ++sum.operations;
      sum.seconds[{file, operation.comm}] += took_s;
      if (!operation.bytes) continue;
      sum.bytes[{file, operation.comm}] += *operation.bytes;
      const auto verdict = verdicts_.find(&operation);
      const double moving_s =
          verdict == verdicts_.end() ? took_s : *operation.end_s - verdict->second.last_start;
      if (moving_s > 0) sum.rates.push_back(*operation.bytes / moving_s);
    }
  }
  for (auto& [key, sum] : sums) {
    NcclTraffic traffic;
    traffic.hash = key.first;
    traffic.function = key.second;
    const Unit& unit = *units_.at(key.first).begin();
    const NcclCommunicator& comm = files_[unit.file].comms[unit.comm];
    traffic.name = comm.name;
    traffic.ranks = ranks_of(comm);
    traffic.operations = sum.operations;
    for (const auto& [one, bytes] : sum.bytes) traffic.bytes = std::max(traffic.bytes, bytes);
    for (const auto& [one, range] : sum.numbers) {
      constexpr std::uint64_t kSane = std::uint64_t{1} << 48;
      const std::uint64_t numbered = range.second - range.first;
      if (numbered < kSane) {
        traffic.numbered =
            std::max(traffic.numbered.value_or(0), static_cast<std::int64_t>(numbered) + 1);
      }
    }
    double total_s = 0;
    for (const auto& [one, took_s] : sum.seconds) total_s += took_s;
    if (!sum.seconds.empty()) traffic.seconds = total_s / static_cast<double>(sum.seconds.size());
    if (!sum.rates.empty()) {
      traffic.algorithm_bytes_per_s = median(sum.rates);
      if (traffic.ranks) {
        traffic.bus_bytes_per_s =
            *traffic.algorithm_bytes_per_s * nccl_bus_factor(key.second, *traffic.ranks);
      }
    }
    result_.traffic.push_back(std::move(traffic));
  }
  std::sort(result_.traffic.begin(), result_.traffic.end(),
            [](const NcclTraffic& a, const NcclTraffic& b) {
              return std::tuple(b.seconds, a.hash, a.function) <
                     std::tuple(a.seconds, b.hash, b.function);
            });
}

void Summary::add_notes() {
  if (unpaired_interface_) {
    result_.notes.push_back(
        "NCCL 2.23 numbers only what it reports: its ranks' collectives cannot be paired");
  }
  if (incomplete_ > 0) {
    result_.notes.push_back(counted(incomplete_, "collective was", "collectives were") +
                            " not seen of all ranks: who waited there for whom is not known");
  }
  if (twice_ > 0) {
    result_.notes.push_back(counted(twice_, "collective", "collectives") +
                            " came twice under one number and were left out of the pairing");
  }
  for (const NcclRank& rank : files_) {
    const auto wrong = std::count_if(rank.windows.begin(), rank.windows.end(),
                                     [](const NcclWindow& window) { return window.clock_wrong; });
    if (wrong > 0) {
      result_.notes.push_back("process " + std::to_string(rank.pid) + ": in " +
                              counted(wrong, "window", "windows") +
                              " the GPU's timer contradicts the host's clock; times are those at "
                              "which a thread saw kernels start and end");
    }
  }
}

}  // namespace

double nccl_bus_factor(std::string_view function, int ranks) {
  if (ranks < 1) return 1;
  const double n = ranks;
  if (function == "AllReduce") return 2 * (n - 1) / n;
  if (function == "AllGather" || function == "ReduceScatter" || function == "AlltoAll" ||
      function == "AllGatherV" || function == "Gather" || function == "Scatter") {
    return (n - 1) / n;
  }
  return 1;
}

NcclSummary summarise_nccl(std::span<const NcclRank> ranks) {
  return Summary(ranks).make();
}

}  // namespace rigwise
