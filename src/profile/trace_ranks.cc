// Several ranks' traces: which collectives are the same one, whether the clocks agree, who arrives
// last and how long the others wait for it.
//
// A collective ends on all ranks at about the same instant and holds each from its arrival to that
// end, so that the ranks' ranges of one collective overlap. Windows of different ranks begin at
// different collectives: the ranges of one name, group and size are shifted against each other
// until most of them overlap. Where none do, the clocks differ: then the shift is the one at which
// the ends' differences spread least, and their median is the clocks' difference.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "profile/trace_spans.h"
#include "rigwise/trace.h"

namespace rigwise {

namespace {

constexpr std::size_t kMostOfAKind = 4096;
constexpr std::int64_t kMostShift = 256;
constexpr std::size_t kMostRanks = 4096;
constexpr double kLeastShare = 0.01;  // of the time: below it nobody is called a straggler
constexpr double kClockSlackS = 0.005;

struct Seen {
  double begin_s = 0, end_s = 0;  // wall clock, less the rank's offset once it is known
  std::int64_t sequence = -1;
};
using Kind = std::tuple<std::string, std::string, std::int64_t>;  // name, group, elements
using Kinds = std::map<Kind, std::vector<Seen>>;

Kinds kinds_of(const TraceSummary& summary) {
  static const std::set<std::string> kBetweenTwo = {"send", "recv", "recvanysource", "sendrecv"};
  Kinds kinds;
  const double zero_s = summary.begin_unix_s.value_or(0);
  for (const auto& row : summary.collectives) {
    if (kBetweenTwo.contains(row.name)) continue;
    auto& list = kinds[{row.name, row.group, row.elements.value_or(-1)}];
    if (list.size() < kMostOfAKind)
      list.push_back({zero_s + row.begin_s, zero_s + row.end_s, row.sequence.value_or(-1)});
  }
  return kinds;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double spread(const std::vector<double>& values, double middle) {
  std::vector<double> away;
  for (const double value : values) away.push_back(std::abs(value - middle));
  return median(std::move(away));
}

/// Pairs (index into a, index into b) at a shift: a[i] with b[i + shift].
template <class Use>
void at_shift(const std::vector<Seen>& a, const std::vector<Seen>& b, std::int64_t shift, Use use) {
  const auto size_a = static_cast<std::int64_t>(a.size());
  const auto size_b = static_cast<std::int64_t>(b.size());
  for (std::int64_t i = std::max<std::int64_t>(0, -shift); i < std::min(size_a, size_b - shift);
       ++i)
    use(static_cast<std::size_t>(i), static_cast<std::size_t>(i + shift));
}

std::int64_t widest_shift(const std::vector<Seen>& a, const std::vector<Seen>& b) {
  return std::min(kMostShift, static_cast<std::int64_t>(std::max(a.size(), b.size())) - 1);
}

struct Match {
  std::vector<std::pair<std::size_t, std::size_t>> pairs = {};
  std::size_t overlapping = 0;
};

bool have_sequences(const std::vector<Seen>& list) {
  return std::all_of(list.begin(), list.end(), [](const Seen& seen) { return seen.sequence >= 0; });
}

/// The same collectives of one kind on two ranks, b's clock being ahead by offset_s.
Match match_kind(const std::vector<Seen>& a, const std::vector<Seen>& b, double offset_s) {
  const auto overlaps = [&](std::size_t i, std::size_t j) {
    return a[i].begin_s <= b[j].end_s - offset_s && b[j].begin_s - offset_s <= a[i].end_s;
  };
  Match match;
  if (have_sequences(a) && have_sequences(b)) {
    std::map<std::int64_t, std::size_t> place;
    for (std::size_t j = 0; j < b.size(); ++j) place.emplace(b[j].sequence, j);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const auto found = place.find(a[i].sequence);
      if (found == place.end()) continue;
      match.pairs.emplace_back(i, found->second);
      match.overlapping += overlaps(i, found->second);
      place.erase(found);
    }
    return match;
  }
  std::int64_t best_shift = 0;
  double best = -1;
  const std::int64_t widest = widest_shift(a, b);
  for (std::int64_t distance = 0; distance <= widest; ++distance) {
    for (const std::int64_t shift : {distance, -distance}) {
      // by how much: several that are under way at once overlap each other's ranges too
      double together_s = 0;
      std::size_t count = 0;
      at_shift(a, b, shift, [&](std::size_t i, std::size_t j) {
        if (!overlaps(i, j)) return;
        ++count;
        together_s += std::min(a[i].end_s, b[j].end_s - offset_s) -
                      std::max(a[i].begin_s, b[j].begin_s - offset_s);
      });
      const double score = static_cast<double>(count) + together_s / (1 + together_s);
      if (score > best) {
        best = score;
        best_shift = shift;
        match.overlapping = count;
      }
    }
  }
  at_shift(a, b, best_shift, [&](std::size_t i, std::size_t j) { match.pairs.emplace_back(i, j); });
  return match;
}

using Matches = std::map<Kind, Match>;

/// All kinds; the share of pairs that overlap.
double match_all(const Kinds& a, const Kinds& b, double offset_s, Matches& matches) {
  matches.clear();
  std::size_t pairs = 0, overlapping = 0;
  for (const auto& [kind, list] : a) {
    const auto other = b.find(kind);
    if (other == b.end()) continue;
    Match match = match_kind(list, other->second, offset_s);
    pairs += match.pairs.size();
    overlapping += match.overlapping;
    matches.emplace(kind, std::move(match));
  }
  return pairs == 0 ? 0 : static_cast<double>(overlapping) / static_cast<double>(pairs);
}

/// How far b's clock is ahead of a's, from the ends of their commonest kind of collective.
std::optional<double> clock_offset(const Kinds& a, const Kinds& b) {
  const std::vector<Seen>*list_a = nullptr, *list_b = nullptr;
  std::size_t most = 0;
  for (const auto& [kind, list] : a) {
    const auto other = b.find(kind);
    const std::size_t size = other == b.end() ? 0 : std::min(list.size(), other->second.size());
    if (size > most) {
      most = size;
      list_a = &list;
      list_b = &other->second;
    }
  }
  if (most == 0) return std::nullopt;
  std::optional<double> offset;
  double least = 0;
  const std::int64_t widest = widest_shift(*list_a, *list_b);
  for (std::int64_t distance = 0; distance <= widest; ++distance) {
    for (const std::int64_t shift : {distance, -distance}) {
      std::vector<double> apart;
      at_shift(*list_a, *list_b, shift, [&](std::size_t i, std::size_t j) {
        apart.push_back((*list_b)[j].end_s - (*list_a)[i].end_s);
      });
      if (apart.empty() ||
          apart.size() < std::max<std::size_t>(most / 2, std::min<std::size_t>(most, 3)))
        continue;
      const double middle = median(apart), off = spread(apart, middle);
      if (!offset || off < least) {
        offset = middle;
        least = off;
      }
    }
  }
  return offset;
}

/// One collective on all ranks.
using Meeting = std::vector<Seen>;

struct Joined {
  std::vector<Meeting> meetings = {};
  std::vector<double> offsets_s = {};
  std::int64_t unmatched = 0;
};

/// The ends' differences of what is matched, where they say that the clocks of two hosts differ.
std::optional<double> rest_offset(const Kinds& a, const Kinds& b, const Matches& matches) {
  std::vector<double> apart;
  for (const auto& [kind, match] : matches) {
    for (const auto& [i, j] : match.pairs)
      apart.push_back(b.at(kind)[j].end_s - a.at(kind)[i].end_s);
  }
  if (apart.empty()) return std::nullopt;
  const double middle = median(apart);
  if (std::abs(middle) < kClockSlackS + 3 * spread(apart, middle)) return std::nullopt;
  return middle;
}

Joined join_ranks(std::span<const TraceSummary> summaries, const std::vector<Kinds>& kinds,
                  TraceComparison& out) {
  Joined joined;
  joined.offsets_s.assign(kinds.size(), 0);
  // index of each of rank 0's collectives on every rank
  std::map<Kind, std::vector<std::vector<std::optional<std::size_t>>>> places;
  std::int64_t seen = 0;
  for (const auto& [kind, list] : kinds[0])
    places[kind].assign(list.size(), std::vector<std::optional<std::size_t>>(kinds.size()));
  for (std::size_t r = 0; r < kinds.size(); ++r) {
    for (const auto& [kind, list] : kinds[r]) seen += static_cast<std::int64_t>(list.size());
    if (r == 0) continue;
    Matches matches;
    const double overlap = match_all(kinds[0], kinds[r], 0, matches);
    std::optional<double> offset;
    if (overlap < 0.5) {
      offset = clock_offset(kinds[0], kinds[r]);
    } else if (summaries[r].host != summaries[0].host) {
      offset = rest_offset(kinds[0], kinds[r], matches);
    }
    if (offset) {
      match_all(kinds[0], kinds[r], *offset, matches);
      joined.offsets_s[r] = *offset;
      out.clocks_agree = false;
    }
    for (const auto& [kind, match] : matches) {
      for (const auto& [i, j] : match.pairs) places[kind][i][r] = j;
    }
  }
  for (const auto& [kind, rows] : places) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      Meeting meeting;
      for (std::size_t r = 0; r < kinds.size(); ++r) {
        const auto place = r == 0 ? std::optional(i) : rows[i][r];
        if (!place) break;
        Seen at = kinds[r].at(kind)[*place];
        at.begin_s -= joined.offsets_s[r];
        at.end_s -= joined.offsets_s[r];
        meeting.push_back(at);
      }
      if (meeting.size() == kinds.size()) joined.meetings.push_back(std::move(meeting));
    }
  }
  joined.unmatched = seen - static_cast<std::int64_t>(joined.meetings.size() * kinds.size());
  return joined;
}

std::int64_t ns_of(double s) {
  return static_cast<std::int64_t>(std::llround(s * 1e9));
}

/// Who waits for whom, each second once however many collectives are under way in it.
void count_waits(const std::vector<Meeting>& meetings, double zero_s, TraceComparison& out) {
  const std::size_t ranks = out.ranks.size();
  std::map<std::pair<std::size_t, std::size_t>, Spans> waits;  // of the first for the second
  std::vector<std::vector<double>> late(ranks);
  for (const auto& meeting : meetings) {
    std::size_t last = 0;
    double first_s = meeting[0].begin_s;
    for (std::size_t r = 1; r < ranks; ++r) {
      if (meeting[r].begin_s > meeting[last].begin_s) last = r;
      first_s = std::min(first_s, meeting[r].begin_s);
    }
    ++out.ranks[last].last;
    for (std::size_t r = 0; r < ranks; ++r) {
      late[r].push_back(meeting[r].begin_s - first_s);
      const double until_s = std::min(meeting[last].begin_s, meeting[r].end_s);
      if (r != last && until_s > meeting[r].begin_s)
        waits[{r, last}].push_back({ns_of(meeting[r].begin_s - zero_s), ns_of(until_s - zero_s)});
    }
  }
  for (auto& [who, spans] : waits) {
    double sum_s = 0;
    for (const Span& span : settled(std::move(spans)))
      sum_s += static_cast<double>(span.end_ns - span.begin_ns) / 1e9;
    out.ranks[who.first].waited_s += sum_s;
    out.ranks[who.second].caused_wait_s += sum_s / static_cast<double>(ranks - 1);
  }
  for (std::size_t r = 0; r < ranks; ++r) out.ranks[r].late_s = median(std::move(late[r]));
}

std::string name_of(const TraceSummary& summary, std::size_t place) {
  return summary.rank ? fmt::format("rank {}", *summary.rank) : fmt::format("trace {}", place + 1);
}

}  // namespace

Result<TraceComparison> compare_ranks(std::span<const TraceSummary> summaries) {
  if (summaries.size() < 2 || summaries.size() > kMostRanks) {
    return Error{Errc::usage,
                 fmt::format("{} traces cannot be held against each other", summaries.size()),
                 "give the traces of two ranks or more of one run"};
  }
  TraceComparison out;
  std::vector<Kinds> kinds;
  for (std::size_t i = 0; i < summaries.size(); ++i) {
    kinds.push_back(kinds_of(summaries[i]));
    if (kinds.back().empty()) {
      return Error{Errc::unavailable, name_of(summaries[i], i) + " has no collective in its trace",
                   "trace all ranks over the same seconds, with a step in them"};
    }
    out.ranks.push_back({.trace = i, .rank = summaries[i].rank});
    if (!summaries[i].begin_unix_s)
      out.notes.push_back(name_of(summaries[i], i) + ": its trace does not know the wall clock");
    if (!summaries[i].reading.whole)
      out.notes.push_back(name_of(summaries[i], i) +
                          ": its trace was not read to the end: " + summaries[i].reading.why_not);
  }
  Joined joined = join_ranks(summaries, kinds, out);
  if (joined.meetings.empty()) {
    return Error{Errc::unavailable, "the ranks' traces share no collective",
                 "trace all ranks of one run over the same seconds"};
  }
  out.matched = static_cast<std::int64_t>(joined.meetings.size());
  out.unmatched = joined.unmatched;
  double first_s = joined.meetings[0][0].begin_s, last_s = joined.meetings[0][0].end_s;
  for (const auto& meeting : joined.meetings) {
    for (const Seen& seen : meeting) {
      first_s = std::min(first_s, seen.begin_s);
      last_s = std::max(last_s, seen.end_s);
    }
  }
  out.seconds_s = last_s - first_s;
  count_waits(joined.meetings, first_s, out);
  for (std::size_t r = 0; r < out.ranks.size(); ++r) {
    out.ranks[r].clock_offset_s = joined.offsets_s[r];
    if (joined.offsets_s[r] != 0) {
      out.notes.push_back(fmt::format(
          "the clock of {} is {:.3f} s {} that of {}, by the ends of {}", name_of(summaries[r], r),
          std::abs(joined.offsets_s[r]), joined.offsets_s[r] > 0 ? "ahead of" : "behind",
          name_of(summaries[0], 0), "their collectives"));
    }
  }
  const auto worst = std::max_element(
      out.ranks.begin(), out.ranks.end(),
      [](const RankArrival& a, const RankArrival& b) { return a.caused_wait_s < b.caused_wait_s; });
  const double share = out.seconds_s > 0 ? worst->caused_wait_s / out.seconds_s : 0;
  if (share >= kLeastShare) {
    out.straggler = static_cast<std::size_t>(worst - out.ranks.begin());
    out.straggler_share = share;
  }
  return out;
}

}  // namespace rigwise
