#include "ledger/straggler.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "ledger/facts.h"

namespace rigwise {

namespace {

constexpr double kMostly = 0.7;  // of the time, or of the collectives

/// The class of which that rank has most more than the others have on average.
std::string excess_of(const WorkLedger& worked, std::size_t rank) {
  constexpr std::array kClasses = {LedgerClass::input, LedgerClass::compute, LedgerClass::host,
                                   LedgerClass::checkpoint, LedgerClass::evaluation};
  const auto others = static_cast<double>(worked.ranks.size() - 1);
  LedgerClass most = LedgerClass::unexplained;
  double most_s = 0, all_s = 0;
  for (const LedgerClass cls : kClasses) {
    double more_s = worked.ranks[rank].of(cls).seconds;
    for (std::size_t i = 0; i < worked.ranks.size(); ++i) {
      if (i != rank) more_s -= worked.ranks[i].of(cls).seconds / others;
    }
    all_s += std::max(0.0, more_s);
    if (more_s > most_s) most_s = more_s, most = cls;
  }
  return most_s >= all_s / 2 && most_s > 0 ? std::string(to_string(most)) : std::string();
}

std::optional<Straggler> by_stacks(const Facts& facts) {
  const WorkLedger& worked = *facts.worked;
  const std::size_t ranks = worked.ranks.size();
  if (ranks < 2 || worked.critical_s.size() != ranks) return std::nullopt;
  const auto led = std::max_element(worked.critical_s.begin(), worked.critical_s.end());
  const double all_s = std::accumulate(worked.critical_s.begin(), worked.critical_s.end(), 0.0);
  if (*led < kMostly * all_s) return std::nullopt;
  const auto leader = static_cast<std::size_t>(led - worked.critical_s.begin());
  Straggler found;
  found.rank = facts.work.ranks[leader].rank;
  // What all wait at once is the communication itself.
  const double common_s = worked.run.of(LedgerClass::sync).seconds;
  for (std::size_t i = 0; i < ranks; ++i) {
    if (i == leader) continue;
    const double waits_s = worked.ranks[i].of(LedgerClass::sync).seconds;
    found.waited_s += std::max(0.0, waits_s - common_s) / static_cast<double>(ranks - 1);
  }
  found.steps_s = facts.stretch.to_s - facts.stretch.from_s;
  found.with = excess_of(worked, leader);
  const RankWork& rank = facts.work.ranks[leader];
  found.evidence.file = facts.by_phases ? "steps.csv" : "profile/" + rank.host + ".stacks.csv";
  if (rank.first_line > 0) {
    found.evidence.first_row = rank.first_line;
    found.evidence.last_row = rank.last_line;
  }
  return found;
}

std::optional<Straggler> by_nccl(const Facts& facts) {
  const NcclSeen& nccl = facts.device.nccl;
  if (!nccl.last_rank ||
      static_cast<double>(nccl.last) < kMostly * static_cast<double>(nccl.matched))
    return std::nullopt;
  Straggler found;
  found.rank = *nccl.last_rank;
  found.steps_s = facts.stretch.to_s - facts.stretch.from_s;
  found.waited_s = nccl.late_frac * found.steps_s;
  found.evidence =
      Evidence{"", "profile/nccl.csv", std::nullopt, std::nullopt,
               fmt::format("it came last to {} of {} collectives", nccl.last, nccl.matched)};
  return found;
}

}  // namespace

std::optional<Straggler> straggler_of(const Facts& facts) {
  if (facts.device.worked) return by_nccl(facts);
  return facts.worked ? by_stacks(facts) : std::nullopt;
}

}  // namespace rigwise
