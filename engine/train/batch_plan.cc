#include "engine/train/batch_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

namespace rigwise::engine {

Result<BatchPlan> BatchPlan::make(std::shared_ptr<const Windows> windows,
                                  const BatchPlanOptions& options, int rank, int ranks) {
  BatchPlan plan;
  plan.windows_ = std::move(windows);
  plan.options_ = options;
  plan.global_batch_ = options.global_batch.value_or(options.micro_batch * options.accumulate *
                                                     static_cast<std::int64_t>(ranks));
  std::vector<std::int64_t> shares = options.shares;
  if (shares.empty()) shares.assign(static_cast<std::size_t>(ranks), 1);
  const bool positive = std::ranges::all_of(shares, [](auto share) { return share > 0; });
  if (static_cast<int>(shares.size()) != ranks || !positive) {
    return Error{Errc::usage,
                 fmt::format("--shares {}: {} data-parallel ranks need a positive number each",
                             fmt::join(shares, ","), ranks),
                 "for example --shares 3,1"};
  }
  const std::int64_t all = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  std::int64_t before = 0;
  for (int r = 0; r < ranks; ++r) {
    const std::int64_t share = shares[static_cast<std::size_t>(r)];
    const std::int64_t first = plan.global_batch_ * before / all,
                       last = plan.global_batch_ * (before + share) / all;
    if (first == last) {
      return Error{Errc::usage,
                   fmt::format("a global batch of {} leaves rank {} of {} without a window",
                               plan.global_batch_, r, ranks),
                   "raise --global-batch, or use fewer ranks"};
    }
    const std::int64_t passes = (last - first + options.micro_batch - 1) / options.micro_batch;
    if (r == rank) plan.first_ = first, plan.last_ = last;
    if (r == rank || options.same_count) {
      plan.micro_batches_ = std::max(plan.micro_batches_, passes);
    }
    before += share;
  }
  return plan;
}

std::int64_t BatchPlan::steps_per_epoch() const {
  const auto count = static_cast<std::int64_t>(windows_->size());
  return (count + global_batch_ - 1) / global_batch_;
}

std::int64_t BatchPlan::window_at(std::int64_t position) {
  const auto count = static_cast<std::int64_t>(windows_->size());
  const std::int64_t epoch = position / count;
  if (epoch != epoch_) {
    order_ = epoch_order(count, options_.shuffle, static_cast<std::uint64_t>(epoch));
    epoch_ = epoch;
  }
  return order_[static_cast<std::size_t>(position % count)];
}

StepWork BatchPlan::step(std::int64_t index) {
  StepWork work;
  for (std::int64_t i = 0; i < global_batch_; ++i) {
    work.windows.push_back(window_at(index * global_batch_ + i));
    const Window window = windows_->window(static_cast<std::size_t>(work.windows.back()));
    work.tokens += window.tokens;
    work.predicted += window.predicted;
  }
  work.token_hash = windows_->token_hash(work.windows);
  work.epoch =
      static_cast<double>((index + 1) * global_batch_) / static_cast<double>(windows_->size());
  std::int64_t at = first_;
  for (std::int64_t micro = 0; micro < micro_batches_; ++micro) {
    // Where another rank has more windows, ours are spread over as many passes as it needs.
    const std::int64_t even = (last_ - at + micro_batches_ - micro - 1) / (micro_batches_ - micro);
    const std::int64_t end =
        options_.same_count ? at + even : std::min(last_, at + options_.micro_batch);
    work.mine.emplace_back(work.windows.begin() + at, work.windows.begin() + end);
    at = end;
  }
  return work;
}

MicroBatch BatchPlan::batch(const std::vector<std::int64_t>& windows, std::uint64_t seed,
                            std::int64_t step) const {
  MicroBatch made =
      micro_batch(*windows_, windows.empty() ? std::vector<std::int64_t>{0} : windows);
  if (windows.empty()) made.targets.fill_(kIgnored);
  made.training = true;
  made.dropout = {.seed = seed, .step = static_cast<std::uint64_t>(step), .windows = windows};
  if (windows.empty()) made.dropout.windows = {0};
  return made;
}

MicroBatch micro_batch(const Windows& windows, const std::vector<std::int64_t>& indices) {
  const Batch rows = make_batch(windows, indices);
  const auto tensor = [](const std::vector<std::int32_t>& values) {
    return at::tensor(values, at::kInt).to(at::kLong);
  };
  MicroBatch made;
  made.ids = tensor(rows.ids);
  made.targets = tensor(rows.targets);
  made.positions = tensor(rows.positions);
  for (std::size_t i = 0; i + 1 < rows.segments.size(); ++i) {
    made.stretches.push_back(
        {.begin = rows.segments[i], .length = rows.segments[i + 1] - rows.segments[i]});
  }
  return made;
}

}  // namespace rigwise::engine
