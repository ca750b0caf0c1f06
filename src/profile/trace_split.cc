#include "profile/trace_split.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "base/json.h"

namespace rigwise {

namespace {

constexpr std::int64_t kKernelWaitNs = 30'000;
constexpr std::size_t kMostDistributedBytes = std::size_t{1} << 20;

double seconds(std::int64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

bool begins_before(const Span& a, const Span& b) {
  return a.begin_ns < b.begin_ns;
}

/// Sets of instants from which every stretch of the window is split in the same way.
struct Parts {
  Spans compute, communication, exposed, copies, idle;  // copies: covered by neither
  Spans input, exposed_input;
  bool by_phase = false;
  Spans forward, backward, optimizer;
  bool by_launch = false;
  Spans launch;
};

TraceSplit split_within(const Parts& parts, std::int64_t begin_ns, std::int64_t end_ns) {
  const auto of = [&](const Spans& spans) { return seconds(covered_ns(spans, begin_ns, end_ns)); };
  TraceSplit split{.seconds_s = seconds(end_ns - begin_ns),
                   .compute_s = of(parts.compute),
                   .exposed_communication_s = of(parts.exposed),
                   .copy_s = of(parts.copies),
                   .idle_s = of(parts.idle),
                   .communication_s = of(parts.communication),
                   .input_s = of(parts.input),
                   .exposed_input_s = of(parts.exposed_input)};
  if (parts.by_phase) {
    split.forward_s = of(parts.forward);
    split.backward_s = of(parts.backward);
    split.optimizer_s = of(parts.optimizer);
  }
  if (parts.by_launch) split.launch_s = of(parts.launch);
  return split;
}

/// The thread that trains: it carries the optimizer's ranges, else the loader's, else it is the
/// process's main thread, else it has most operators.
std::size_t training_thread(const std::vector<TraceThread>& threads) {
  const auto rank = [](const TraceThread& thread) {
    return std::tuple(thread.steps.size(), thread.input.size(),
                      thread.pid == thread.tid && thread.operators > 0, thread.operators);
  };
  const auto best = std::max_element(
      threads.begin(), threads.end(),
      [&](const TraceThread& a, const TraceThread& b) { return rank(a) < rank(b); });
  return static_cast<std::size_t>(best - threads.begin());
}

/// Ends of the steps on the training thread, each once.
std::vector<std::int64_t> step_ends(TraceThread& training, const Spans& backward) {
  auto& marks = training.steps.empty() ? training.profiler_steps : training.steps;
  std::sort(marks.begin(), marks.end(), begins_before);
  std::vector<std::int64_t> ends;
  std::int64_t last_end = 0;
  for (const Span& mark : marks) {
    // two optimizers behind one backward pass are one step; the same mark twice is one, too
    const bool same = !ends.empty() && !training.steps.empty() &&
                      (mark.begin_ns < last_end ||
                       (!backward.empty() && covered_ns(backward, last_end, mark.begin_ns) == 0));
    const bool again = !ends.empty() && mark.end_ns <= last_end;
    if (same || again) {
      ends.back() = std::max(ends.back(), mark.end_ns);
    } else {
      ends.push_back(mark.end_ns);
    }
    last_end = ends.back();
  }
  return ends;
}

void read_distributed(const TraceGather& gather, TraceSummary& summary) {
  summary.host = gather.host;
  if (gather.distributed.empty()) return;
  const auto info = parse_foreign_json(gather.distributed, kMostDistributedBytes);
  if (!info || !info->is_object()) return;
  summary.rank = get<int>(*info, "rank");
  summary.ranks = get<int>(*info, "world_size");
  summary.backend = get<std::string>(*info, "backend").value_or("");
  if (summary.backend.size() > 64) summary.backend.resize(64);
  for (char& byte : summary.backend) {
    if (static_cast<unsigned char>(byte) < 0x20 || static_cast<unsigned char>(byte) > 0x7e)
      byte = '?';
  }
}

// ----------------------------------------------------------------------------------------------
// GPU

class GpuSplit {
 public:
  GpuSplit(TraceGather& gather, TraceSummary& summary) : gather_(gather), summary_(summary) {}

  Parts parts(TraceThread* training);
  [[nodiscard]] std::int64_t begin_ns() const { return begin_ns_; }
  [[nodiscard]] std::int64_t end_ns() const { return end_ns_; }
  /// When the device had done what was launched by then.
  [[nodiscard]] std::int64_t done_ns(std::int64_t host_ns) const;

 private:
  void join_launches();
  void extend_over_tail(std::int64_t last_ns);
  void phases(Parts& parts);
  Spans late_launches() const;
  void stream_gaps();

  TraceGather& gather_;
  TraceSummary& summary_;
  std::int64_t begin_ns_ = 0, end_ns_ = 0;
  std::vector<const TraceLaunch*> launch_of_;                // one a kernel
  std::vector<std::pair<std::int64_t, std::int64_t>> done_;  // launched by, all of that ended by
  bool in_flight_ = false;  // work was launched behind the last one that is in the trace
};

Parts GpuSplit::parts(TraceThread* training) {
  auto& kernels = gather_.kernels;
  std::sort(kernels.begin(), kernels.end(),
            [](const TraceKernel& a, const TraceKernel& b) { return a.begin_ns < b.begin_ns; });
  Spans lists[3];
  begin_ns_ = kernels.front().begin_ns;
  std::int64_t last_ns = begin_ns_;
  for (const TraceKernel& kernel : kernels) {
    lists[static_cast<std::size_t>(kernel.kind)].push_back({kernel.begin_ns, kernel.end_ns});
    last_ns = std::max(last_ns, kernel.end_ns);
  }
  join_launches();
  extend_over_tail(last_ns);
  Parts parts;
  parts.compute = settled(std::move(lists[0]));
  parts.communication = settled(std::move(lists[1]));
  const Spans copies = settled(std::move(lists[2]));
  parts.exposed = subtract(parts.communication, parts.compute);
  const Spans kernels_run = unite(parts.compute, parts.communication);
  parts.copies = subtract(copies, kernels_run);
  parts.idle = complement(unite(kernels_run, copies), begin_ns_, end_ns_);
  if (training != nullptr) parts.input = training->input.settle();
  parts.exposed_input = intersect(parts.input, parts.idle);
  parts.by_launch = parts.by_phase = !gather_.launches.empty();
  if (parts.by_launch) {
    parts.launch = subtract(late_launches(), parts.exposed_input);
    phases(parts);
  }
  stream_gaps();
  return parts;
}

void GpuSplit::join_launches() {
  auto& launches = gather_.launches;
  std::sort(launches.begin(), launches.end(), [](const TraceLaunch& a, const TraceLaunch& b) {
    return std::tie(a.correlation, a.begin_ns) < std::tie(b.correlation, b.begin_ns);
  });
  launch_of_.resize(gather_.kernels.size());
  std::int64_t unlaunched = 0, last_joined_ns = 0;
  std::vector<bool> joined(launches.size());
  for (std::size_t i = 0; i < launch_of_.size(); ++i) {
    const TraceKernel& kernel = gather_.kernels[i];
    const auto found = std::lower_bound(
        launches.begin(), launches.end(), kernel.correlation,
        [](const TraceLaunch& launch, std::int64_t id) { return launch.correlation < id; });
    if (found == launches.end() || found->correlation != kernel.correlation) {
      ++unlaunched;
      continue;
    }
    launch_of_[i] = &*found;
    joined[static_cast<std::size_t>(found - launches.begin())] = true;
    done_.emplace_back(found->begin_ns, kernel.end_ns);
    last_joined_ns = std::max(last_joined_ns, found->begin_ns);
  }
  summary_.unlaunched = unlaunched;
  std::sort(done_.begin(), done_.end());
  for (std::size_t i = 1; i < done_.size(); ++i)
    done_[i].second = std::max(done_[i].second, done_[i - 1].second);
  in_flight_ = done_.empty();
  for (std::size_t i = 0; i < launches.size(); ++i) {
    if (!joined[i] && launches[i].begin_ns >= last_joined_ns) in_flight_ = true;
  }
}

/// Behind the last kernel the device idles only where nothing was on its way to it: a kernel that
/// had not ended when the profiler stopped is not in the trace.
void GpuSplit::extend_over_tail(std::int64_t last_ns) {
  end_ns_ = last_ns;
  if (!gather_.profiler) return;
  summary_.lead_s = seconds(std::max<std::int64_t>(0, begin_ns_ - gather_.profiler->begin_ns));
  if (in_flight_ || gather_.profiler->end_ns <= last_ns) return;
  end_ns_ = gather_.profiler->end_ns;
  summary_.tail_s = seconds(end_ns_ - last_ns);
}

std::int64_t GpuSplit::done_ns(std::int64_t host_ns) const {
  const auto behind =
      std::upper_bound(done_.begin(), done_.end(), host_ns,
                       [](std::int64_t at, const std::pair<std::int64_t, std::int64_t>& row) {
                         return at < row.first;
                       });
  return behind == done_.begin() ? host_ns : std::prev(behind)->second;
}

void GpuSplit::phases(Parts& parts) {
  std::vector<std::pair<Spans, Spans>> of_thread;  // optimizer, backward
  for (auto& thread : gather_.threads) {
    of_thread.emplace_back(thread.optimizer.settle(), thread.backward.settle());
  }
  Spans lists[3];
  for (std::size_t i = 0; i < launch_of_.size(); ++i) {
    const TraceKernel& kernel = gather_.kernels[i];
    if (kernel.kind != TraceKernel::Kind::compute || launch_of_[i] == nullptr) continue;
    const auto& [optimizer, backward] = of_thread[launch_of_[i]->thread];
    const std::int64_t at = launch_of_[i]->begin_ns;
    const std::size_t phase = contains(optimizer, at) ? 2 : contains(backward, at) ? 1 : 0;
    lists[phase].push_back({kernel.begin_ns, kernel.end_ns});
  }
  parts.optimizer = settled(std::move(lists[2]));
  parts.backward = subtract(settled(std::move(lists[1])), parts.optimizer);
  parts.forward = subtract(settled(std::move(lists[0])), unite(parts.optimizer, parts.backward));
}

/// Gaps of the whole device whose next work was launched only after they had begun.
Spans GpuSplit::late_launches() const {
  Spans late;
  std::int64_t busy_until = begin_ns_;
  for (std::size_t i = 0; i < launch_of_.size(); ++i) {
    const TraceKernel& kernel = gather_.kernels[i];
    if (kernel.begin_ns > busy_until && launch_of_[i] != nullptr &&
        launch_of_[i]->begin_ns > busy_until) {
      late.push_back({busy_until, kernel.begin_ns});
    }
    busy_until = std::max(busy_until, kernel.end_ns);
  }
  return settled(std::move(late));
}

void GpuSplit::stream_gaps() {
  std::vector<std::int64_t> busy_until(gather_.streams.size());
  summary_.streams.resize(gather_.streams.size());
  for (std::size_t i = 0; i < summary_.streams.size(); ++i) {
    std::tie(summary_.streams[i].device, summary_.streams[i].stream) = gather_.streams[i];
  }
  for (std::size_t i = 0; i < launch_of_.size(); ++i) {
    const TraceKernel& kernel = gather_.kernels[i];
    StreamGaps& row = summary_.streams[kernel.stream];
    std::int64_t& until = busy_until[kernel.stream];
    const std::int64_t gap =
        row.kernels == 0 ? 0 : std::max<std::int64_t>(0, kernel.begin_ns - until);
    const bool late = launch_of_[i] != nullptr && launch_of_[i]->begin_ns > until;
    (late                  ? row.host_wait_s
     : gap < kKernelWaitNs ? row.kernel_wait_s
                           : row.other_s) += seconds(gap);
    const std::int64_t from = row.kernels == 0 ? kernel.begin_ns : std::max(until, kernel.begin_ns);
    row.busy_s += seconds(std::max<std::int64_t>(0, kernel.end_ns - from));
    until = row.kernels == 0 ? kernel.end_ns : std::max(until, kernel.end_ns);
    ++row.kernels;
  }
  std::sort(summary_.streams.begin(), summary_.streams.end(),
            [](const StreamGaps& a, const StreamGaps& b) {
              return std::tie(a.device, a.stream) < std::tie(b.device, b.stream);
            });
  std::vector<std::int64_t> devices;
  for (const auto& row : summary_.streams) devices.push_back(row.device);
  devices.erase(std::unique(devices.begin(), devices.end()), devices.end());
  summary_.devices = static_cast<std::int64_t>(devices.size());
}

// ----------------------------------------------------------------------------------------------
// CPU

Parts cpu_parts(TraceGather& gather, TraceThread& training, std::int64_t begin_ns,
                std::int64_t end_ns) {
  Parts parts;
  Spans communication, backward;
  for (const auto& range : gather.collectives) {
    if (!range.on_gpu) communication.push_back({range.begin_ns, range.end_ns});
  }
  communication = settled(std::move(communication));
  for (auto& thread : gather.threads) {
    if (thread.pid != training.pid) continue;
    const Spans evaluated = thread.backward.settle();
    if (&thread != &training && evaluated.empty()) continue;  // a pinning thread, a logger
    const Spans waits = unite(thread.calls.settle(), thread.input.settle());
    const Spans ran = unite(thread.work.settle(), thread.optimizer.settle());
    parts.compute = unite(parts.compute, subtract(ran, waits));
    communication = unite(communication, thread.calls.settle());
    backward = unite(backward, evaluated);
  }
  parts.communication = intersect(communication, {{begin_ns, end_ns}});
  // A gloo range ends some time after the wait for it did: the loader's time is not communication.
  parts.input = training.input.settle();
  parts.exposed = subtract(parts.communication, unite(parts.compute, parts.input));
  parts.idle = complement(unite(parts.compute, parts.exposed), begin_ns, end_ns);
  parts.exposed_input = intersect(parts.input, parts.idle);
  parts.by_phase = true;
  parts.backward = intersect(parts.compute, backward);
  parts.optimizer = subtract(intersect(parts.compute, training.optimizer.settle()), backward);
  parts.forward = subtract(parts.compute, unite(parts.backward, parts.optimizer));
  return parts;
}

// ----------------------------------------------------------------------------------------------

std::vector<IdleGaps> gaps_by_length(const Spans& idle) {
  constexpr std::array kEnds_ns = {std::int64_t{100'000}, std::int64_t{1'000'000},
                                   std::int64_t{10'000'000}, std::int64_t{100'000'000},
                                   std::int64_t{1'000'000'000}};
  std::vector<IdleGaps> rows(kEnds_ns.size() + 1);
  for (std::size_t i = 0; i < kEnds_ns.size(); ++i) rows[i].shorter_than_s = seconds(kEnds_ns[i]);
  for (const Span& gap : idle) {
    const std::int64_t length = gap.end_ns - gap.begin_ns;
    const auto row = std::upper_bound(kEnds_ns.begin(), kEnds_ns.end(), length) - kEnds_ns.begin();
    ++rows[static_cast<std::size_t>(row)].count;
    rows[static_cast<std::size_t>(row)].seconds_s += seconds(length);
  }
  return rows;
}

void take_collectives(TraceGather& gather, std::int64_t begin_ns, TraceSummary& summary) {
  auto& ranges = gather.collectives;
  const bool on_gpu = summary.device == "gpu";
  std::erase_if(ranges, [&](const TraceRange& range) { return range.on_gpu != on_gpu; });
  std::stable_sort(ranges.begin(), ranges.end(), [](const TraceRange& a, const TraceRange& b) {
    return a.begin_ns < b.begin_ns;
  });
  const TraceRange* last = nullptr;
  for (const TraceRange& range : ranges) {
    if (last != nullptr && last->begin_ns == range.begin_ns && last->end_ns == range.end_ns &&
        last->name == range.name) {
      ++summary.reading.duplicates;
      continue;
    }
    last = &range;
    TraceCollective row{.name = range.name,
                        .group = range.group,
                        .begin_s = seconds(range.begin_ns - begin_ns),
                        .end_s = seconds(range.end_ns - begin_ns)};
    if (range.sequence >= 0) row.sequence = range.sequence;
    if (range.elements >= 0) row.elements = range.elements;
    summary.collectives.push_back(std::move(row));
  }
}

/// Wall clock of an instant of the trace. Before baseTimeNanoseconds (torch 2.4), ts was the wall
/// clock itself.
std::optional<double> unix_of(const TraceGather& gather, std::int64_t at_ns) {
  constexpr std::int64_t kYear2001Ns = 978'307'200'000'000'000;
  constexpr std::int64_t kYear2200Ns = 7'258'118'400'000'000'000;
  if (gather.base_ns) {
    if (*gather.base_ns < 0 || *gather.base_ns > kYear2200Ns) return std::nullopt;
    const std::int64_t whole = *gather.base_ns / 1'000'000'000;  // apart: a double has 53 bits
    return static_cast<double>(whole) + seconds(*gather.base_ns - whole * 1'000'000'000 + at_ns);
  }
  if (at_ns > kYear2001Ns) return seconds(at_ns);
  return std::nullopt;
}

}  // namespace

void split_trace(TraceGather& gather, TraceSummary& summary) {
  read_distributed(gather, summary);
  summary.kernels = static_cast<std::int64_t>(gather.kernels.size());
  TraceThread* training = nullptr;
  if (!gather.threads.empty()) training = &gather.threads[training_thread(gather.threads)];
  Spans backward;
  for (auto& thread : gather.threads) {
    if (thread.pid != training->pid) {
      gather.foreign += thread.operators;
      continue;
    }
    summary.operators += thread.operators;
    backward = unite(backward, thread.backward.settle());
  }
  if (training != nullptr && training->pid > 0 && training->pid <= (1 << 22))
    summary.pid = static_cast<int>(training->pid);

  Parts parts;
  GpuSplit gpu(gather, summary);
  std::int64_t begin_ns = 0, end_ns = 0;
  if (!gather.kernels.empty()) {
    summary.device = "gpu";
    parts = gpu.parts(training);
    begin_ns = gpu.begin_ns();
    end_ns = gpu.end_ns();
  } else if (training != nullptr && training->seen) {
    summary.device = "cpu";
    begin_ns = training->first_ns;
    end_ns = training->last_ns;
    if (gather.profiler) {
      summary.lead_s = seconds(std::max<std::int64_t>(0, begin_ns - gather.profiler->begin_ns));
      summary.tail_s = seconds(std::max<std::int64_t>(0, gather.profiler->end_ns - end_ns));
      end_ns = std::max(end_ns, gather.profiler->end_ns);
    }
    parts = cpu_parts(gather, *training, begin_ns, end_ns);
  } else {
    return;
  }
  summary.begin_unix_s = unix_of(gather, begin_ns);
  summary.total = split_within(parts, begin_ns, end_ns);
  summary.idle = gaps_by_length(parts.idle);
  take_collectives(gather, begin_ns, summary);
  if (training == nullptr) return;
  std::optional<std::int64_t> from_ns;
  for (const std::int64_t end : step_ends(*training, backward)) {
    const std::int64_t to_ns =
        std::clamp(summary.device == "gpu" ? gpu.done_ns(end) : end, begin_ns, end_ns);
    if (end < begin_ns) continue;  // on a GPU: before its first kernel
    ++summary.steps_ended;
    if (from_ns && to_ns > *from_ns) {
      summary.steps.push_back(
          {.begin_s = seconds(*from_ns - begin_ns), .split = split_within(parts, *from_ns, to_ns)});
    }
    from_ns = to_ns;
  }
}

}  // namespace rigwise
