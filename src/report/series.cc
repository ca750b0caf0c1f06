#include "report/series.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "base/text.h"
#include "report/layout.h"

namespace rigwise::report {

namespace {
constexpr std::size_t kMaxGpus = 16, kMaxMounts = 8;

/// Longer than this between two samples, and the line is broken.
double gap_after_s(const ReportRun& run) {
  const double interval = run.run != nullptr ? run.run->info.interval_s : 1;
  return std::max(3.5 * interval, 5.0);
}

/// Appends a sample; what was not measured, or a hole in time, becomes one gap point.
void add_sample(std::vector<Point>& points, double t, std::optional<double> v, double gap_s) {
  if (v && !std::isfinite(*v)) v.reset();
  if (!points.empty()) {
    if (t < points.back().t) return;  // a file that went back in time: the later row is not drawn
    if (t - points.back().t > gap_s && points.back().v)
      points.push_back({(points.back().t + t) / 2, {}});
    if (!v && !points.back().v) return;
  } else if (!v) {
    return;
  }
  points.push_back({t, v});
}

bool has_values(const std::vector<Point>& points) {
  return std::any_of(points.begin(), points.end(), [](const Point& p) { return p.v.has_value(); });
}

/// A cumulative counter as a rate; a counter that falls (restart) is a gap.
class Rate {
 public:
  std::optional<double> next(double t, std::optional<double> total) {
    std::optional<double> rate;
    if (total && last_ && t > last_t_ && *total >= *last_) rate = (*total - *last_) / (t - last_t_);
    last_ = total;
    last_t_ = t;
    return rate;
  }

 private:
  std::optional<double> last_ = {};
  double last_t_ = 0;
};

using GpuField = std::optional<double> (*)(const GpuSample&);

Panel gpu_panel(const ReportRun& run, std::string key, GpuField field) {
  Panel panel;
  panel.key = std::move(key);
  std::map<int, Series> by_gpu;
  const double gap = gap_after_s(run);
  for (const GpuSample& sample : run.gpu.rows) {
    auto found = by_gpu.find(sample.gpu);
    if (found == by_gpu.end()) {
      if (by_gpu.size() >= kMaxGpus) continue;
      found = by_gpu.emplace(sample.gpu, Series{fmt::format("GPU {}", sample.gpu), {}}).first;
    }
    add_sample(found->second.points, sample.t_s, field(sample), gap);
  }
  for (auto& [gpu, series] : by_gpu) {
    if (has_values(series.points)) panel.series.push_back(std::move(series));
  }
  return panel;
}

void add_series(Panel& panel, std::string label, std::vector<Point> points) {
  if (has_values(points)) panel.series.push_back({std::move(label), std::move(points)});
}

void add_host(const ReportRun& run, std::vector<Panel>& panels) {
  Panel cpu{"cpu", "", {}}, memory{"ram", "", {}};
  std::vector<Point> tree, others, rss, available;
  Rate tree_rate, others_rate;
  const double gap = gap_after_s(run);
  for (const HostSample& s : run.host.rows) {
    // The first sample of a counter has no rate: it is passed over, not drawn as a gap.
    const auto tree_now = tree_rate.next(s.t_s, s.tree_cpu_s);
    const auto others_now = others_rate.next(s.t_s, s.others_cpu_s);
    add_sample(tree, s.t_s, tree_now, gap);
    add_sample(others, s.t_s, others_now, gap);
    add_sample(rss, s.t_s, s.tree_rss_bytes, gap);
    std::optional<double> used;
    if (s.mem_total_bytes && s.mem_available_bytes)
      used = *s.mem_total_bytes - *s.mem_available_bytes;
    add_sample(available, s.t_s, used, gap);
  }
  add_series(cpu, "this run", std::move(tree));
  add_series(cpu, "other programs", std::move(others));
  add_series(memory, "this run", std::move(rss));
  add_series(memory, "whole host", std::move(available));
  panels.push_back(std::move(cpu));
  panels.push_back(std::move(memory));
}

void add_disk(const ReportRun& run, std::vector<Panel>& panels) {
  Panel growth{"disk", "of the whole file system, other programs' files included", {}};
  struct Mounted {
    std::optional<double> first_free = {};
    std::vector<Point> points = {};
  };
  std::map<std::string, Mounted> mounts;
  const double gap = std::max(gap_after_s(run), 60.0);  // file systems may be read on the slow tier
  for (const DiskSample& s : run.disk.rows) {
    if (!s.fs_free_bytes) continue;
    auto found = mounts.find(s.device);
    if (found == mounts.end()) {
      if (mounts.size() >= kMaxMounts) continue;
      found = mounts.emplace(s.device, Mounted{}).first;
    }
    Mounted& mount = found->second;
    if (!mount.first_free) mount.first_free = s.fs_free_bytes;
    add_sample(mount.points, s.t_s, *mount.first_free - *s.fs_free_bytes, gap);
  }
  for (auto& [path, mount] : mounts) add_series(growth, safe(path, 80), std::move(mount.points));
  panels.push_back(std::move(growth));
}

/// Records of one rank only: without a rank, else the lowest.
std::vector<const StepRecord*> of_one_rank(const ReportRun& run) {
  std::optional<int> lowest;
  for (const StepRecord& record : run.steps.rows) {
    if (record.rank && (!lowest || *record.rank < *lowest)) lowest = record.rank;
  }
  std::vector<const StepRecord*> records;
  for (const StepRecord& record : run.steps.rows) {
    if (!record.rank || record.rank == lowest) records.push_back(&record);
  }
  return records;
}

/// An imported log may state no instants: its rows have no place on a time axis.
bool is_timed(const ReportRun& run, const StepRecord& record) {
  if (run.run == nullptr) return true;
  const auto& untimed = run.run->info.untimed;
  return std::find(untimed.begin(), untimed.end(), record.log_file) == untimed.end();
}

/// Seconds a step between receive times of successive step numbers of one kind of record.
std::vector<Point> between_steps(const std::vector<const StepRecord*>& records, RecordKind kind) {
  std::vector<Point> points;
  const StepRecord* last = nullptr;
  for (const StepRecord* record : records) {
    if (record->kind != kind || !record->step) continue;
    if (last != nullptr && *record->step > *last->step && record->t_s > last->t_s) {
      points.push_back({record->t_s, (record->t_s - last->t_s) /
                                         static_cast<double>(*record->step - *last->step)});
    }
    if (last == nullptr || *record->step != *last->step) last = record;
  }
  return points;
}

std::optional<double> number_fact(const ReportRun& run, std::string_view key) {
  if (run.run == nullptr) return std::nullopt;
  for (const Fact& fact : run.run->info.facts) {
    if (fact.key == key) return to_number(fact.value);
  }
  return std::nullopt;
}

/// Samples a step: as stated, from a rank's share, or from two rates of one entry.
std::optional<double> global_batch(const ReportRun& run) {
  if (const auto stated = number_fact(run, "global_batch"); stated && *stated > 0) return stated;
  const auto micro = number_fact(run, "micro_batch");
  const int ranks = run.run != nullptr ? run.run->info.ranks_trained.value_or(0) : 0;
  if (micro && *micro > 0 && ranks > 0)
    return *micro * number_fact(run, "accumulation").value_or(1) * ranks;
  for (const StepRecord& record : run.steps.rows) {
    if (record.per_device || !record.samples_per_s || !record.steps_per_s) continue;
    if (!(*record.steps_per_s > 0)) continue;
    const double whole = std::round(*record.samples_per_s / *record.steps_per_s);
    // Summaries round both rates: only a ratio that is nearly whole is believed.
    if (whole >= 1 &&
        std::fabs(*record.samples_per_s / *record.steps_per_s - whole) <= 0.02 * whole)
      return whole;
  }
  return std::nullopt;
}

/// A log entry that carries a loss, with the last step number that the log had shown by then.
struct LossEntry {
  double t_s = 0, value = 0;
  bool evaluation = false, timed = true;
  std::optional<double> step = {}, tokens = {};
};

std::vector<LossEntry> loss_entries(const ReportRun& run) {
  std::vector<LossEntry> entries;
  std::optional<double> step;
  for (const StepRecord* record : of_one_rank(run)) {
    const bool counts = record->kind == RecordKind::train || record->kind == RecordKind::progress;
    const auto shown = record->step ? record->step : record->bar_step;
    if (shown && (counts || record->kind == RecordKind::eval)) step = static_cast<double>(*shown);
    const bool evaluation = record->kind == RecordKind::eval;
    const std::optional<double> value = evaluation ? record->eval_loss : record->loss;
    if (!value || (!evaluation && record->kind != RecordKind::train)) continue;
    entries.push_back(
        {record->t_s, *value, evaluation, is_timed(run, *record), step, record->tokens_seen});
  }
  return entries;
}

void count_bad(Panel& panel, const std::vector<LossEntry>& entries) {
  std::size_t bad = 0;
  double first_t = 0;
  for (const LossEntry& entry : entries) {
    if (std::isfinite(entry.value)) continue;
    if (bad++ == 0) first_t = entry.timed ? entry.t_s : -1;
  }
  if (bad > 0) {
    panel.note = fmt::format("{} of {} losses are nan or inf", bad, entries.size());
    if (first_t >= 0) panel.note += fmt::format(", the first at {:.0f} s", first_t);
  }
}

std::optional<double> place_of(const LossEntry& entry, LossBasis basis,
                               std::optional<double> batch) {
  switch (basis) {
    case LossBasis::samples:
      if (!entry.step || !batch) return std::nullopt;
      return *entry.step * *batch;
    case LossBasis::tokens:
      return entry.tokens;
    case LossBasis::steps:
      return entry.step;
    case LossBasis::none:
      break;
  }
  return std::nullopt;
}
}  // namespace

std::vector<Point> thin(const std::vector<Point>& points, std::size_t max_points) {
  if (points.size() <= max_points || points.size() < 8) return points;
  const std::size_t inner = points.size() - 2;
  const std::size_t buckets =
      std::max<std::size_t>(1, (std::max<std::size_t>(max_points, 5) - 2) / 3);
  std::vector<Point> out;
  out.reserve(buckets * 3 + 2);
  out.push_back(points.front());
  for (std::size_t b = 0; b < buckets; ++b) {
    const std::size_t first = 1 + b * inner / buckets, end = 1 + (b + 1) * inner / buckets;
    std::size_t low = end, high = end, gap = end;
    for (std::size_t i = first; i < end; ++i) {
      const auto& v = points[i].v;
      if (!v) {
        if (gap == end) gap = i;
        continue;
      }
      if (low == end || *v < *points[low].v) low = i;
      if (high == end || *v > *points[high].v) high = i;
    }
    std::array<std::size_t, 3> keep = {low, high, gap};
    std::sort(keep.begin(), keep.end());
    for (std::size_t k = 0; k < keep.size(); ++k) {
      if (keep[k] < end && (k == 0 || keep[k] != keep[k - 1])) out.push_back(points[keep[k]]);
    }
  }
  out.push_back(points.back());
  return out;
}

Panel step_times(const ReportRun& run) {
  Panel panel{"step_time", "", {}};
  auto records = of_one_rank(run);
  if (std::erase_if(records, [&](const StepRecord* record) { return !is_timed(run, *record); }) >
          0 &&
      records.empty()) {
    panel.note = "the log states no instants, so nothing can be drawn over time";
    return panel;
  }
  std::vector<Point> stated, rates;
  for (const StepRecord* record : records) {
    if (record->kind != RecordKind::train) continue;
    if (record->step_time_s) stated.push_back({record->t_s, record->step_time_s});
    if (record->steps_per_s && *record->steps_per_s > 0)
      rates.push_back({record->t_s, 1 / *record->steps_per_s});
  }
  std::vector<Point> trained = between_steps(records, RecordKind::train);
  std::vector<Point> bar = between_steps(records, RecordKind::progress);
  std::vector<Point> best;
  if (stated.size() >= 2) {
    best = std::move(stated);
    panel.note = "step times as the log states them";
  } else if (rates.size() >= 2) {
    best = std::move(rates);
    panel.note = "from the steps a second that the log states";
  } else if (trained.size() >= bar.size()) {
    best = std::move(trained);
    panel.note = "from the times at which log entries arrived, events in between included";
  } else {
    best = std::move(bar);
    panel.note = "from the times at which the progress bar moved, events in between included";
  }
  std::vector<Point> points;
  for (const Point& p : best) add_sample(points, p.t, p.v, std::numeric_limits<double>::infinity());
  add_series(panel, "", std::move(points));
  return panel;
}

Panel losses(const ReportRun& run) {
  Panel panel{"loss", "", {}};
  const auto entries = loss_entries(run);
  std::vector<Point> training, evaluation;
  for (const LossEntry& entry : entries) {
    if (!entry.timed) continue;
    add_sample(entry.evaluation ? evaluation : training, entry.t_s, entry.value,
               std::numeric_limits<double>::infinity());
  }
  count_bad(panel, entries);
  add_series(panel, "training", std::move(training));
  add_series(panel, "evaluation", std::move(evaluation));
  return panel;
}

LossBasis loss_basis(const std::vector<ReportRun>& runs) {
  // A basis serves when it places nearly every loss of every run: the first entries of a log may
  // come before any step number.
  constexpr double kEnough = 0.8;
  bool any = false, samples = true, tokens = true, steps = true;
  for (const ReportRun& run : runs) {
    const auto batch = global_batch(run);
    const auto entries = loss_entries(run);
    if (entries.empty()) continue;
    any = true;
    const auto serves = [&](LossBasis basis) {
      const auto placed = std::count_if(entries.begin(), entries.end(), [&](const LossEntry& e) {
        return place_of(e, basis, batch).has_value();
      });
      return static_cast<double>(placed) >= kEnough * static_cast<double>(entries.size());
    };
    samples = samples && serves(LossBasis::samples);
    tokens = tokens && serves(LossBasis::tokens);
    steps = steps && serves(LossBasis::steps);
  }
  if (!any) return LossBasis::none;
  return samples  ? LossBasis::samples
         : tokens ? LossBasis::tokens
         : steps  ? LossBasis::steps
                  : LossBasis::none;
}

Panel losses_seen(const ReportRun& run, LossBasis basis) {
  Panel panel{"loss_seen", "", {}};
  const auto batch = global_batch(run);
  std::vector<Point> training, evaluation;
  for (const LossEntry& entry : loss_entries(run)) {
    const auto x = place_of(entry, basis, batch);
    if (x) {
      add_sample(entry.evaluation ? evaluation : training, *x, entry.value,
                 std::numeric_limits<double>::infinity());
    }
  }
  add_series(panel, "training", std::move(training));
  add_series(panel, "evaluation", std::move(evaluation));
  return panel;
}

std::vector<Panel> machine_panels(const ReportRun& run) {
  std::vector<Panel> panels;
  panels.push_back(gpu_panel(run, "gpu_util", [](const GpuSample& s) -> std::optional<double> {
    if (!s.util_frac) return std::nullopt;
    return *s.util_frac * 100;
  }));
  panels.push_back(gpu_panel(run, "gpu_temp", [](const GpuSample& s) { return s.temp_c; }));
  panels.push_back(gpu_panel(run, "gpu_power", [](const GpuSample& s) { return s.power_w; }));
  panels.push_back(gpu_panel(run, "gpu_mem", [](const GpuSample& s) { return s.used_bytes; }));
  add_host(run, panels);
  add_disk(run, panels);
  panels.erase(std::remove_if(panels.begin(), panels.end(),
                              [](const Panel& panel) { return panel.series.empty(); }),
               panels.end());
  return panels;
}

}  // namespace rigwise::report
