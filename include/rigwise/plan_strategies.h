// Strategies: what one measured step would take under each way of sharing it out, over a link that
// is known, and the order in which they are worth trying.
//
// Pure. Seconds and bytes; intervals are meant to hold the truth 8 times in 10. docs/plan.md has
// the model of each strategy.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rigwise/catalogue.h"
#include "rigwise/plan.h"
#include "rigwise/result.h"
#include "rigwise/stats.h"

namespace rigwise {

enum class Transfer { all_reduce, all_gather, reduce_scatter, one_way };

/// What a link delivers: measured (messages or a rate) or from the catalogue.
struct LinkKnown {
  std::string name = {};
  Interval bytes_per_s = {};  // all-reduce as bus bandwidth, at the number of ranks to be used
  double latency_s = 0;
  bool measured = false, between_hosts = false;
  std::string source = {};
  // Where messages of several sizes were measured: whole buffers as nccl-tests count them, smallest
  // first, among `ranks`. Empty: from bytes_per_s and latency_s.
  double ranks = 2;
  std::vector<CollectivePoint> all_reduce = {}, all_gather = {}, reduce_scatter = {}, one_way = {};
  /// Of a collective beside arithmetic, the share that cost no time; and what arithmetic on all
  /// ranks at once takes over one alone: with their extremes. Not there: nobody measured it.
  std::map<Transfer, Interval> hidden_frac = {};
  std::optional<Interval> together_factor = {};
};

LinkKnown link_from(const LinkSpec& spec);
/// A file of measurements: `rigwise-engine link --json`, nccl-tests' table, `iperf3 --json`.
/// `name` is its path. Errors: malformed, with what was expected.
Result<LinkKnown> read_link(std::string_view text, const std::string& name);

/// Seconds of one operation on a whole buffer of `bytes` among `ranks`: between measured messages
/// by straight lines, beyond the largest at its rate, below the smallest at its time; of a
/// catalogue's link steps · latency + bytes on the wire / rate of a ring.
Interval transfer_s(const LinkKnown& link, Transfer operation, double bytes, double ranks);

/// One optimizer step as one device did it: forward_s and backward_s of all its micro-steps.
struct MeasuredStep {
  double forward_s = 0, backward_s = 0, optimizer_s = 0;
  double other_s = 0;  // input and whatever else stands in the step's time
  double micro_steps = 1;
  bool phases_measured = false;  // else parted by the usual ratios
  /// Of the step time: standard deviation of the same run made again, as far as one run tells.
  double run_to_run_frac = stats::kRunToRunFrac;
  [[nodiscard]] double compute_s() const { return forward_s + backward_s + optimizer_s; }
  [[nodiscard]] double step_s() const { return compute_s() + other_s; }
};
/// From one run's step times in their order: how far its quarters differ, which the next run does
/// too, but no less than what is assumed where nobody looked.
double run_to_run_frac(std::span<const double> step_times_s);
/// Phases of a step of which only the compute seconds are known: backward 2 × forward, or as long
/// as it where weights are frozen, one more forward pass where it is made again; a twentieth for
/// the optimizer.
MeasuredStep assumed_phases(const Workload& workload, double compute_s, double other_s);

struct StrategyStep {
  std::string strategy = {};  // "ddp", "ddp:2,tp:2"
  std::int64_t ranks = 1;
  Interval step_s = {}, compute_s = {}, exposed_s = {};  // of the slowest rank; exposed: waiting
  double sent_bytes = 0;                                 // by one rank
  bool assumed = false;                                  // rests on a figure that nobody measured
  std::string refused = {};                              // why there is no prediction
};

/// The step under one strategy: single, split, ddp, zero1, zero2, fsdp (zero3 is the same), tp, pp,
/// or ddp:A,tp:B and ddp:A,pp:B. A name without sizes takes `ranks`. Errors: usage (unknown name,
/// with the nearest), unavailable (what cannot be, or what is not known of the workload).
Result<StrategyStep> predict_strategy(std::string_view strategy, std::int64_t ranks,
                                      const Workload& workload, const MeasuredStep& step,
                                      const LinkKnown& link);

/// All of them, the fastest predicted one first, refused ones (`refused` says why) last.
std::vector<StrategyStep> order_strategies(const std::vector<std::string>& strategies,
                                           std::int64_t ranks, const Workload& workload,
                                           const MeasuredStep& step, const LinkKnown& link);

/// A predicted order held against what was measured.
struct OrderJudged {
  std::string first = {}, best = {};  // predicted, measured
  double regret_frac = 0;             // how much longer the first one's step is than the best one's
  std::optional<double> kendall_tau = {};  // of those both predicted and measured; from two on
};
/// `measured`: step seconds by name. Empty: none of the predicted ones was measured.
std::optional<OrderJudged> judge_order(const std::vector<StrategyStep>& predicted,
                                       const std::vector<std::pair<std::string, double>>& measured);

}  // namespace rigwise
