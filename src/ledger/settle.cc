#include "ledger/settle.h"

#include <algorithm>
#include <array>

namespace rigwise {

namespace {

constexpr double kShort_s = 0.5;         // longer stretches are known by their edges
constexpr std::int64_t kBlock = 400;     // samples that are held to the scheduler together
constexpr double kFew = 8;               // fewer samples say nothing of a part
constexpr double kLeastVariance = 0.05;  // of what it would be without the scheduler's word

/// An instant between two samples is known to a twelfth of their distance squared; a stretch that
/// one sample stands for may as well have been twice as long or nothing. How many of a span's
/// stretches are such is not recorded: where they are short, about as many as samples allow.
double variance_of(const WorkSpan& span, double gap_s) {
  const double stretches = std::max<int>(1, span.stretches),
               singles = stretches * stretches / span.samples;
  return gap_s * gap_s * (stretches / 6 + singles / 3);
}

/// Of a span that was asleep and awake for so long; the scheduler's figures only say how running
/// and queued share what is awake, since they reach over to the works before and after.
void divide(WorkSpan& span, double asleep_s, double awake_s) {
  const double used_s = static_cast<double>(span.running_s) + span.queued_s;
  const double queued_s = used_s > 0 ? awake_s * span.queued_s / used_s : 0;
  span.asleep_s = static_cast<float>(asleep_s);
  span.queued_s = static_cast<float>(queued_s);
  span.running_s = static_cast<float>(awake_s - queued_s);
}

bool is_mixed(const WorkSpan& span) {  // one of many short stretches, as steps have them
  const bool apart =
      span.work == Work::checkpoint || span.work == Work::evaluation || span.work == Work::stopped;
  return !apart && span.length_s() <= kShort_s * span.stretches;
}

struct Sum {
  double all_s = 0, used_s = 0, seen_s = 0;  // seen: asleep, by the samples
  double samples = 0, asleep_samples = 0;
  void add(const RankWork& rank, std::size_t at) {
    const WorkSpan& span = rank.spans[at];
    const double seen_asleep = rank.seen_asleep[at];
    all_s += span.length_s();
    used_s += rank.used_s[at];
    seen_s += seen_asleep * span.length_s();
    samples += span.samples;
    asleep_samples += seen_asleep * span.samples;
  }
  /// Asleep, by the scheduler. What one span has too much of is its neighbour's: the sum is right.
  [[nodiscard]] double scheduled_s() const { return std::clamp(all_s - used_s, 0.0, all_s); }
  /// Both kinds were seen often enough, and are there.
  [[nodiscard]] bool tells() const {
    return asleep_samples >= kFew && samples - asleep_samples >= kFew && scheduled_s() > 0 &&
           scheduled_s() < all_s;
  }
};

/// What was seen asleep, scaled to what the scheduler says of the whole; lengths stay.
void scale_sleep(RankWork& rank) {
  Sum sum;
  for (std::size_t i = 0; i < rank.spans.size(); ++i) {
    if (rank.seen_asleep[i] >= 0) sum.add(rank, i);
  }
  const double scale = sum.seen_s > 0 ? sum.scheduled_s() / sum.seen_s : 1;
  for (std::size_t i = 0; i < rank.spans.size(); ++i) {
    if (rank.seen_asleep[i] < 0) continue;
    WorkSpan& span = rank.spans[i];
    const double length_s = span.length_s();
    const double asleep_s = std::min(length_s, scale * rank.seen_asleep[i] * length_s);
    divide(span, asleep_s, length_s - asleep_s);
  }
}

/// Spans [from, to): each kind of second weighs so much that their sums are the scheduler's.
void weigh(RankWork& rank, std::size_t from, std::size_t to, const Sum& sum) {
  double asleep_weight = 1, awake_weight = 1;
  if (sum.tells()) {
    // Chance alone does not see half, or twice, of what there is: then the two mean other things.
    asleep_weight = std::clamp(sum.scheduled_s() / sum.seen_s, 0.5, 2.0);
    awake_weight = (sum.all_s - asleep_weight * sum.seen_s) / (sum.all_s - sum.seen_s);
  }
  for (std::size_t i = from; i < to; ++i) {
    if (rank.seen_asleep[i] < 0) continue;
    WorkSpan& span = rank.spans[i];
    const bool mixed = is_mixed(span);
    const double length_s = span.length_s(), seen_s = rank.seen_asleep[i] * length_s;
    const double asleep_s = seen_s * (mixed ? asleep_weight : 1);
    const double awake_s = (length_s - seen_s) * (mixed ? awake_weight : 1);
    divide(span, asleep_s, awake_s);
    span.weight = static_cast<float>((asleep_s + awake_s) / length_s);
  }
}

/// By how much knowing both sums lowers the variance of one work's seconds: what is left is how
/// uncertain the work is among the sleeping samples, and among the waking ones.
double lowered(const Sum& work, const Sum& all) {
  const auto spread = [](double part, double whole) {
    return whole > 0 ? part * (1 - part / whole) : 0;
  };
  const double before = spread(work.samples, all.samples);
  const double after = spread(work.asleep_samples, all.asleep_samples) +
                       spread(work.samples - work.asleep_samples, all.samples - all.asleep_samples);
  return before > 0 ? std::clamp(after / before, kLeastVariance, 1.0) : 1;
}

void settle_alone(RankWork& rank) {
  std::array<Sum, kWorkNames.size()> works;
  Sum all, block;
  std::size_t from = 0;
  std::int64_t samples = 0;
  for (std::size_t i = 0; i < rank.spans.size(); ++i) {
    WorkSpan& span = rank.spans[i];
    if (rank.seen_asleep[i] >= 0 && is_mixed(span)) {
      for (Sum* sum : {&works[static_cast<std::size_t>(span.work)], &all, &block})
        sum->add(rank, i);
      samples += span.samples;
    }
    if (samples < kBlock && i + 1 < rank.spans.size()) continue;
    weigh(rank, from, i + 1, block);
    from = i + 1;
    block = {};
    samples = 0;
  }
  if (!all.tells()) return;
  for (std::size_t i = 0; i < rank.spans.size(); ++i) {
    WorkSpan& span = rank.spans[i];
    if (rank.seen_asleep[i] < 0 || !is_mixed(span)) continue;
    const auto work = static_cast<std::size_t>(span.work);
    span.variance *= static_cast<float>(span.weight * span.weight * lowered(works[work], all));
  }
}

}  // namespace

void settle(RankWork& rank, bool alone) {
  for (WorkSpan& span : rank.spans)
    span.variance = static_cast<float>(variance_of(span, rank.gap_s));
  const bool counted = std::none_of(rank.spans.begin(), rank.spans.end(),
                                    [](const WorkSpan& span) { return span.stretches == 0; });
  if (alone && counted) {
    settle_alone(rank);
  } else {
    scale_sleep(rank);
  }
}

}  // namespace rigwise
