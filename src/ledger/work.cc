#include "ledger/work.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/text.h"
#include "ledger/lone_forwards.h"
#include "ledger/settle.h"
#include "rigwise/stats.h"

namespace rigwise {

namespace {

constexpr std::size_t kClasses = kLedgerClasses.size();
constexpr double kHole_s = 0.5;  // a hole between spans up to this long goes to its neighbours
constexpr std::size_t kMostDistances = 100000;
constexpr double kWindow_s = 1.0;  // where no meeting of the ranks was seen

/// Spans of one process, holes closed where they are small.
void add_span(RankWork& rank, const StackSpan& row) {
  WorkSpan span;
  span.from_s = std::max(0.0, row.t_s);
  span.to_s = row.t_end_s;
  span.work = work_of(row.work);
  span.samples = static_cast<std::uint16_t>(std::clamp<std::int64_t>(row.samples, 1, 65535));
  if (row.stretches) {
    span.stretches =
        static_cast<std::uint16_t>(std::clamp<std::int64_t>(*row.stretches, 1, span.samples));
  }
  span.stack = static_cast<std::int32_t>(std::clamp<std::int64_t>(row.stack, 0, 2147483647));
  if (!rank.spans.empty()) {
    WorkSpan& before = rank.spans.back();
    // A process that took over (a restart) or a damaged row: what was first stays.
    span.from_s = std::max(span.from_s, before.to_s);
    const double hole_s = span.from_s - before.to_s;
    if (hole_s > 0 && hole_s < kHole_s) before.to_s = span.from_s = before.to_s + hole_s / 2;
  }
  if (!(span.to_s > span.from_s)) return;
  float all_used_s = 0;
  if (row.running_s && row.queued_s) {
    span.scheduled = true;
    const double used_s = std::max(0.0, *row.running_s) + std::max(0.0, *row.queued_s);
    // The kernel adds up a running thread's time by the tick: a short span may hold more.
    const double scale = used_s > span.length_s() ? span.length_s() / used_s : 1;
    const double running_s = std::max(0.0, *row.running_s) * scale;
    const double queued_s = std::max(0.0, *row.queued_s) * scale;
    span.running_s = static_cast<float>(running_s);
    span.queued_s = static_cast<float>(queued_s);
    span.asleep_s = static_cast<float>(std::max(0.0, span.length_s() - running_s - queued_s));
    all_used_s = static_cast<float>(used_s);
  }
  const bool states = row.asleep && row.samples > 0 && span.scheduled;
  rank.seen_asleep.push_back(
      states ? std::clamp(static_cast<float>(*row.asleep) / static_cast<float>(row.samples), 0.0F,
                          1.0F)
             : -1.0F);
  rank.used_s.push_back(all_used_s);
  rank.spans.push_back(span);
}

}  // namespace

WorkSeen see_work(const Run& run, const RankNumbers& numbers) {
  WorkSeen seen;
  std::map<int, RankWork> ranks;
  for (const auto& host : hosts_of(run)) {
    std::map<int, int> rank_of_pid;
    if (const auto known = numbers.find(host); known != numbers.end()) rank_of_pid = known->second;
    std::set<int> trains;
    (void)visit_stacks(run, host, {"t_s", "t_end_s", "pid", "role", "work", "running_s"},
                       [&](const StackSpan& row, std::int64_t) {
                         if (row.work == "backward") trains.insert(row.pid);
                         if (row.role != "loader") return true;
                         seen.loaders = true;
                         seen.loaders_seen_s += std::max(0.0, row.t_end_s - row.t_s);
                         seen.loaders_running_s += row.running_s.value_or(0);
                         return true;
                       })
        .ok();
    // Where nobody was called a rank, the one that makes gradients is.
    if (rank_of_pid.empty() && trains.size() == 1) rank_of_pid[*trains.begin()] = 0;
    std::vector<double> distances_s;
    (void)visit_stacks(
        run, host,
        {"t_s", "t_end_s", "pid", "work", "samples", "running_s", "queued_s", "stack", "asleep",
         "stretches"},
        [&](const StackSpan& row, std::int64_t line) {
          const auto place = rank_of_pid.find(row.pid);
          if (place == rank_of_pid.end()) return true;
          RankWork& rank = ranks[place->second];
          rank.rank = place->second;
          rank.host = host;
          if (rank.first_line == 0) rank.first_line = line;
          rank.last_line = line;
          if (row.samples > 1 && distances_s.size() < kMostDistances) {
            distances_s.push_back((row.t_end_s - row.t_s) / static_cast<double>(row.samples));
          }
          add_span(rank, row);
          return true;
        })
        .ok();
    const double usual_s = stats::median(distances_s).value_or(0.05);
    for (auto& [number, rank] : ranks) {
      if (rank.host == host) rank.gap_s = usual_s;
    }
    if (const auto frames = read_stack_frames(run, host); frames.ok()) {
      auto& places = seen.places[host];
      for (const auto& row : frames->rows) {
        const auto last = row.frames.rfind(';');
        places[row.stack] =
            clean_text(last == std::string::npos ? row.frames : row.frames.substr(last + 1), 100);
        if (row.work == "forward")
          seen.callers[host][row.stack] = row.frames.substr(0, row.frames.find(";torch/"));
      }
    }
  }
  for (auto& [number, rank] : ranks) {
    settle(rank, ranks.size() == 1);
    seen.ranks.push_back(std::move(rank));
  }
  return seen;
}

std::optional<Window> trained_by_stacks(const WorkSeen& seen) {
  std::optional<Window> trained;
  for (const auto& rank : seen.ranks) {
    const auto& spans = rank.spans;
    const auto back = std::find_if(spans.begin(), spans.end(),
                                   [](const WorkSpan& s) { return s.work == Work::backward; });
    if (back == spans.end()) continue;
    auto first = back;
    while (first != spans.begin() &&
           (is_step_work((first - 1)->work) || (first - 1)->work == Work::input)) {
      --first;
    }
    double end_s = back->to_s;
    for (const auto& span : spans) {
      if (span.work == Work::backward || span.work == Work::optimizer) end_s = span.to_s;
    }
    if (!trained) trained = Window{first->from_s, end_s};
    trained->from_s = std::min(trained->from_s, first->from_s);
    trained->to_s = std::max(trained->to_s, end_s);
  }
  return trained;
}

namespace {

/// Seconds of one rank in one stretch of time, by class.
struct Slice {
  std::array<double, kClasses> seconds = {};
  std::array<double, kClasses> variance = {};
  double asleep_s = 0;   // in compute, of a lone rank
  double covered_s = 0;  // of the steps' time
  double running_s = 0, queued_s = 0;
  double& of(LedgerClass cls) { return seconds[static_cast<std::size_t>(cls)]; }
};

struct Given {
  LedgerClass cls = LedgerClass::unexplained;
  double seconds = 0;
  std::string part = {};
};

class Splitter {
 public:
  explicit Splitter(const WorkInput& input) : input_(input) {}
  WorkLedger run();

 private:
  void give(const WorkSpan& span, const RankWork& rank, std::vector<Given>& out) const;
  void give_step_work(const WorkSpan& span, std::vector<Given>& out) const;
  void give_other(const WorkSpan& span, const RankWork& rank, std::vector<Given>& out) const;
  [[nodiscard]] std::vector<double> meetings() const;
  [[nodiscard]] std::string place_of(const RankWork& rank, std::int64_t stack) const;
  void note(const RankWork& rank, const WorkSpan& span, bool evaluates,
            const std::vector<double>& edges, std::vector<Slice>& slices, WorkSplit& split) const;
  void follow_critical_path(WorkLedger& ledger, const std::vector<std::vector<Slice>>& slices);
  [[nodiscard]] bool alone() const { return input_.seen->ranks.size() < 2; }

  const WorkInput& input_;
};

/// Ends of steps, where ranks leave a collective together: the begins of the optimizer's spans of
/// the rank that shows most of them. Without any, a regular grid.
std::vector<double> Splitter::meetings() const {
  std::vector<double> best;
  for (const auto& rank : input_.seen->ranks) {
    std::vector<double> edges;
    for (std::size_t i = 1; i < rank.spans.size(); ++i) {
      const WorkSpan& span = rank.spans[i];
      if (span.work != Work::optimizer || rank.spans[i - 1].work == Work::optimizer) continue;
      if (span.from_s > input_.time.begin_s && span.from_s < input_.time.end_s)
        edges.push_back(span.from_s);
    }
    if (edges.size() > best.size()) best = std::move(edges);
  }
  std::vector<double> edges = {0, input_.time.begin_s};
  const auto fill_to = [&](double t_s) {
    // Longer stretches without a meeting are cut, so that one rank need not lead all of them.
    while (t_s - edges.back() > 10 * kWindow_s) edges.push_back(edges.back() + 10 * kWindow_s);
    if (t_s > edges.back()) edges.push_back(t_s);
  };
  if (best.size() < 3) {
    best.clear();
    for (double t_s = input_.time.begin_s + kWindow_s; t_s < input_.time.end_s; t_s += kWindow_s) {
      best.push_back(t_s);
    }
  }
  for (const double t_s : best) fill_to(t_s);
  fill_to(input_.time.end_s);
  fill_to(input_.time.wall_s);
  return edges;
}

std::string Splitter::place_of(const RankWork& rank, std::int64_t stack) const {
  const auto host = input_.seen->places.find(rank.host);
  if (host == input_.seen->places.end()) return {};
  const auto place = host->second.find(stack);
  return place == host->second.end() ? std::string() : place->second;
}

void Splitter::give_step_work(const WorkSpan& span, std::vector<Given>& out) const {
  double rest_s = span.seconds();
  if (input_.devices || !span.scheduled) {
    out.push_back({LedgerClass::compute, rest_s, std::string(to_string(span.work))});
    return;
  }
  // The thread itself computes: where it stood in a run queue, others had the CPU; where it slept
  // under backward beside other ranks, it waited for their gradients.
  out.push_back({LedgerClass::host, span.queued_s, "waiting for a CPU"});
  rest_s -= span.queued_s;
  if (!alone() && span.work == Work::backward) {
    out.push_back({LedgerClass::sync, span.asleep_s, "gradients of other ranks"});
    rest_s -= span.asleep_s;
  }
  out.push_back({LedgerClass::compute, std::max(0.0, rest_s), std::string(to_string(span.work))});
}

void Splitter::give_other(const WorkSpan& span, const RankWork& rank,
                          std::vector<Given>& out) const {
  // Names that no table knows: a save or an evaluation that others saw meanwhile explains them.
  const double saved_s = overlap_s(input_.time.checkpoints, span.from_s, span.to_s);
  double rest_s = span.seconds();
  if (saved_s > 0) {
    out.push_back({LedgerClass::checkpoint, saved_s, "files were being written"});
    rest_s -= saved_s;
  }
  const double evaluated_s =
      std::min(rest_s, overlap_s(input_.time.evaluations, span.from_s, span.to_s));
  if (evaluated_s > 0) {
    out.push_back({LedgerClass::evaluation, evaluated_s, "as the log says"});
    rest_s -= evaluated_s;
  }
  if (rest_s <= 0) return;
  const double share = rest_s / span.seconds();
  const std::string place = place_of(rank, span.stack);
  if (!span.scheduled) {
    out.push_back({LedgerClass::unexplained, rest_s, place});
    return;
  }
  out.push_back({LedgerClass::host, span.queued_s * share, "waiting for a CPU"});
  out.push_back({LedgerClass::compute, span.running_s * share, "the loop's own code"});
  out.push_back({LedgerClass::unexplained, span.asleep_s * share, place});
}

void Splitter::give(const WorkSpan& span, const RankWork& rank, std::vector<Given>& out) const {
  const double seconds = span.seconds();
  const Work work = span.work;
  const auto all = [&](LedgerClass cls, std::string part) {
    out.push_back({cls, seconds, std::move(part)});
  };
  if (work == Work::checkpoint && span.to_s > input_.time.begin_s)
    return all(LedgerClass::checkpoint, {});
  if (work == Work::evaluation) return all(LedgerClass::evaluation, {});
  const double middle_s = (span.from_s + span.to_s) / 2;
  if (middle_s < input_.time.begin_s)
    return all(LedgerClass::startup, std::string(to_string(work)));
  // Of the second in which training ended, the order of the works is lost: these belong before it.
  const bool of_steps = span.stretches > 1 && (is_step_work(work) || work == Work::input) &&
                        span.from_s < input_.time.end_s + kWindow_s;
  if (middle_s > input_.time.end_s && !of_steps) {
    const double saved_s = work == Work::python || work == Work::none
                               ? overlap_s(input_.time.checkpoints, span.from_s, span.to_s)
                               : 0;
    out.push_back({LedgerClass::checkpoint, saved_s, {}});
    out.push_back({LedgerClass::teardown, seconds - saved_s, std::string(to_string(work))});
    return;
  }
  if (work == Work::stopped) return all(LedgerClass::host, "stopped by a signal");
  if (work == Work::input || work == Work::prepare)
    return all(LedgerClass::input, place_of(rank, span.stack));
  if (work == Work::sync || work == Work::rendezvous) {
    return all(LedgerClass::sync, place_of(rank, span.stack));
  }
  if (work == Work::compile || work == Work::import || work == Work::load)
    return all(LedgerClass::startup, std::string(to_string(work)));
  if (is_step_work(work)) return give_step_work(span, out);
  give_other(span, rank, out);
}

/// The part of a span that lies between two instants.
WorkSpan cut(const WorkSpan& span, double from_s, double to_s) {
  WorkSpan part = span;
  part.from_s = std::max(span.from_s, from_s);
  part.to_s = std::min(span.to_s, to_s);
  const auto share = static_cast<float>(part.length_s() / span.length_s());
  part.running_s *= share, part.queued_s *= share, part.asleep_s *= share;
  return part;
}

void Splitter::note(const RankWork& rank, const WorkSpan& span, bool evaluates,
                    const std::vector<double>& edges, std::vector<Slice>& slices,
                    WorkSplit& split) const {
  auto slot = static_cast<std::size_t>(std::upper_bound(edges.begin(), edges.end(), span.from_s) -
                                       edges.begin());
  slot = slot == 0 ? 0 : slot - 1;
  std::vector<Given> given;
  for (; slot < slices.size() && edges[slot] < span.to_s; ++slot) {
    const WorkSpan part = cut(span, edges[slot], edges[slot + 1]);
    if (!(part.length_s() > 0)) continue;
    given.clear();
    if (evaluates && part.from_s >= input_.time.begin_s) {
      given.push_back({LedgerClass::evaluation, part.seconds(), "forward passes alone"});
    } else {
      give(part, rank, given);
    }
    Slice& slice = slices[slot];
    for (auto& one : given) {
      if (!(one.seconds > 0)) continue;
      slice.of(one.cls) += one.seconds;
      slice.variance[static_cast<std::size_t>(one.cls)] +=
          span.variance * part.length_s() / span.length_s() *
          std::min(1.0, one.seconds / part.seconds());
      split.parts[one.cls][one.part] += one.seconds;
    }
    if (part.from_s >= input_.time.begin_s && part.to_s <= input_.time.end_s) {
      slice.covered_s += part.length_s();
      if (is_step_work(span.work)) {
        slice.running_s += part.running_s, slice.queued_s += part.queued_s;
        if (alone()) slice.asleep_s += part.asleep_s;
      }
    }
  }
}

void add(const Slice& slice, WorkSplit& split) {
  for (std::size_t c = 0; c < kClasses; ++c) {
    split.shares[c].seconds += slice.seconds[c];
    split.shares[c].variance += slice.variance[c];
  }
  split.asleep_in_compute_s += slice.asleep_s;
  split.covered_s += slice.covered_s;
  split.running_s += slice.running_s;
  split.queued_s += slice.queued_s;
}

void Splitter::follow_critical_path(WorkLedger& ledger,
                                    const std::vector<std::vector<Slice>>& slices) {
  const auto sync = static_cast<std::size_t>(LedgerClass::sync);
  ledger.critical_s.assign(slices.size(), 0);
  for (std::size_t slot = 0; slot < slices.front().size(); ++slot) {
    std::size_t leader = 0;
    double least_s = INFINITY;
    for (std::size_t r = 0; r < slices.size(); ++r) {
      const Slice& slice = slices[r][slot];
      double sum_s = 0;
      for (const double s : slice.seconds) sum_s += s;
      if (sum_s <= 0) continue;  // not seen: it cannot be said to lead
      if (slice.seconds[sync] < least_s) least_s = slice.seconds[sync], leader = r;
    }
    const Slice& slice = slices[leader][slot];
    for (const double seconds : slice.seconds) ledger.critical_s[leader] += seconds;
    add(slice, ledger.run);
  }
  // What a class is made of: of the ranks that led, by how long they did.
  double led_s = 0;
  for (const double s : ledger.critical_s) led_s += s;
  for (std::size_t r = 0; r < slices.size() && led_s > 0; ++r) {
    for (const auto& [cls, parts] : ledger.ranks[r].parts) {
      for (const auto& [part, seconds] : parts) {
        ledger.run.parts[cls][part] += seconds * ledger.critical_s[r] / led_s;
      }
    }
  }
}

/// What sampling does not know of itself: where in a call one work ends and the next begins. Held
/// against trainings that take their own times (tests/faults), rows stray by some hundredths.
void add_method_error(WorkSplit& split) {
  for (const auto cls : {LedgerClass::input, LedgerClass::compute, LedgerClass::host}) {
    split.of(cls).add(0, 0.02 * split.of(cls).seconds);
  }
  split.of(LedgerClass::sync).add(0, 0.1 * split.of(LedgerClass::sync).seconds);
}

WorkLedger Splitter::run() {
  WorkLedger ledger;
  const auto edges = meetings();
  std::vector<std::vector<Slice>> slices;
  for (const auto& rank : input_.seen->ranks) {
    auto& own = slices.emplace_back(edges.size() - 1);
    WorkSplit& split = ledger.ranks.emplace_back();
    const auto callers = input_.seen->callers.find(rank.host);
    static const CallPaths kNone;
    const auto lone =
        lone_forwards(rank, callers == input_.seen->callers.end() ? kNone : callers->second);
    for (std::size_t i = 0; i < rank.spans.size(); ++i) {
      note(rank, rank.spans[i], lone[i], edges, own, split);
    }
    for (const auto& slice : own) add(slice, split);
  }
  if (!slices.empty()) follow_critical_path(ledger, slices);
  for (WorkSplit& split : ledger.ranks) add_method_error(split);
  add_method_error(ledger.run);
  // Before the first rank's process and after the last one's: the launcher's time.
  const auto close = [&](WorkSplit& split, double first_s, double last_s) {
    split.of(LedgerClass::startup).add(std::min(first_s, input_.time.begin_s));
    if (last_s >= input_.time.end_s) {
      split.of(input_.time.ended ? LedgerClass::teardown : LedgerClass::unexplained)
          .add(input_.time.wall_s - last_s);
    }
    double sum_s = 0;
    for (const auto& share : split.shares) sum_s += share.seconds;
    split.of(LedgerClass::unexplained).add(std::max(0.0, input_.time.wall_s - sum_s));
  };
  double first_s = input_.time.wall_s, last_s = 0;
  for (std::size_t r = 0; r < slices.size(); ++r) {
    const auto& spans = input_.seen->ranks[r].spans;
    if (spans.empty()) continue;
    close(ledger.ranks[r], spans.front().from_s, spans.back().to_s);
    first_s = std::min(first_s, spans.front().from_s);
    last_s = std::max(last_s, spans.back().to_s);
  }
  close(ledger.run, first_s, last_s);
  return ledger;
}

}  // namespace

WorkLedger split_by_work(const WorkInput& input) {
  return Splitter(input).run();
}

double team_share(bool several) {
  return several ? 0.8 : 0.3;  // threads that carry gradients to other ranks are none
}

TeamLoss lost_to_team(double others_queued_s) {
  // Of two threads' waits, part falls on the same moments: between half a second (both at once)
  // and a second is lost for a second of the second thread's. On two cores with one and two
  // others' programs it was 0.5.
  constexpr double kLost = 0.5, kLost_sd = 0.12;
  return {kLost * others_queued_s, kLost_sd * others_queued_s};
}

void note_team(WorkSplit& split, double others_queued_s, double others_cpu_s, bool several) {
  if (split.running_s <= 0 || others_cpu_s < team_share(several) * split.running_s) return;
  split.team = true;
  Share& compute = split.of(LedgerClass::compute);
  const TeamLoss lost = lost_to_team(others_queued_s);
  const double lost_s = std::min({lost.seconds, 0.9 * split.running_s, compute.seconds});
  if (lost_s <= 0) return;
  compute.seconds -= lost_s;
  split.of(LedgerClass::host).seconds += lost_s;
  split.parts[LedgerClass::host]["its other threads waiting for a CPU"] += lost_s;
  compute.variance += lost.sd_s * lost.sd_s;
  split.of(LedgerClass::host).variance += lost.sd_s * lost.sd_s;
}

}  // namespace rigwise
