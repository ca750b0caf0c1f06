#include "ledger/rank_numbers.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

namespace rigwise {

namespace {

constexpr std::size_t kMostProcesses = 65536;

struct Seen {
  double first_s = 0;
  std::int64_t as_rank = 0, as_other = 0;    // rows
  std::map<int, std::int64_t> numbers = {};  // rows that name one
};

std::map<int, int> numbers_on(const Run& run, const std::string& host) {
  std::map<int, Seen> processes;
  const auto note = [&](const auto& row, std::int64_t) {
    if (!std::isfinite(row.t_s)) return true;
    if (processes.size() >= kMostProcesses && !processes.contains(row.pid)) return true;
    Seen& seen = processes.try_emplace(row.pid, Seen{row.t_s}).first->second;
    if (row.role != "rank") {
      ++seen.as_other;
      return true;
    }
    ++seen.as_rank;
    if (row.rank && *row.rank >= 0) ++seen.numbers[*row.rank];
    return true;
  };
  (void)visit_proc(run, host, {"t_s", "pid", "role", "rank"}, note).ok();
  (void)visit_stacks(run, host, {"t_s", "pid", "role", "rank"}, note).ok();
  std::map<int, int> ranks;
  std::set<int> taken;
  std::vector<std::pair<double, int>> without;  // first seen, process
  for (const auto& [pid, seen] : processes) {
    if (seen.as_rank == 0 || seen.as_rank < seen.as_other) continue;
    const auto number =
        std::max_element(seen.numbers.begin(), seen.numbers.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (number == seen.numbers.end()) {
      without.emplace_back(seen.first_s, pid);
    } else {
      ranks[pid] = number->first;
      taken.insert(number->first);
    }
  }
  std::sort(without.begin(), without.end());
  int next = 0;
  for (const auto& [first_s, pid] : without) {
    while (taken.contains(next)) ++next;
    ranks[pid] = next++;
  }
  return ranks;
}

}  // namespace

RankNumbers rank_numbers(const Run& run) {
  RankNumbers numbers;
  for (const auto& host : hosts_of(run)) numbers[host] = numbers_on(run, host);
  return numbers;
}

}  // namespace rigwise
