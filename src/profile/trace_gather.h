// Trace gather: the events of one trace → the lists that its split is made of. Nothing is judged
// here but names: which thread is the training thread is known only at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "profile/trace_scan.h"
#include "profile/trace_spans.h"

namespace rigwise {

/// What one CPU thread did.
struct TraceThread {
  std::int64_t pid = 0, tid = 0;
  std::int64_t operators = 0;
  bool seen = false;
  std::int64_t first_ns = 0, last_ns = 0;   // of anything on it, once seen
  SpanList work;                            // operators
  SpanList backward;                        // of them, what the autograd engine evaluates
  SpanList calls;                           // of them, calls of collectives
  SpanList input;                           // the data loader's __next__
  SpanList optimizer;                       // Optimizer.step
  std::vector<Span> steps, profiler_steps;  // Optimizer.step and ProfilerStep# ranges, one by one
};

struct TraceKernel {
  enum class Kind : std::uint8_t { compute, communication, copy };
  std::int64_t begin_ns = 0, end_ns = 0;
  std::int64_t correlation = -1;
  std::uint32_t stream = 0;  // index into TraceGather::streams
  Kind kind = Kind::compute;
};

struct TraceLaunch {
  std::int64_t correlation = 0;
  std::int64_t begin_ns = 0;
  std::uint32_t thread = 0;  // index into TraceGather::threads
};

struct TraceRange {
  std::string name = {}, group = {};
  std::int64_t sequence = -1, elements = -1;
  std::int64_t begin_ns = 0, end_ns = 0;
  bool on_gpu = false;
};

class TraceGather : public TraceSink {
 public:
  explicit TraceGather(std::size_t most_kept_bytes) : most_kept_bytes_(most_kept_bytes) {}

  void event(const TraceEvent& event) override;
  void member(std::string_view key, std::string_view value) override;

  /// Bytes that the lists hold; `full` once they are more than allowed, and then nothing is added.
  [[nodiscard]] bool full() const { return full_; }

  std::vector<TraceThread> threads;
  std::vector<TraceKernel> kernels;
  std::vector<TraceLaunch> launches;
  std::vector<std::pair<std::int64_t, std::int64_t>> streams;  // device, stream
  std::vector<TraceRange> collectives;
  std::optional<std::int64_t> base_ns;  // baseTimeNanoseconds
  std::optional<Span> profiler;         // what the profiler says that it recorded
  std::string distributed, host;        // distributedInfo and host_name, as written
  std::int64_t used = 0, bad_times = 0, unknown_phases = 0, foreign = 0;

 private:
  void complete(const TraceEvent& event);
  void host_event(const TraceEvent& event);
  void kernel(const TraceEvent& event, TraceKernel::Kind kind);
  void launch(const TraceEvent& event);
  void collective(const TraceEvent& event, std::string_view name, bool on_gpu);
  TraceThread* thread_of(const TraceEvent& event);
  std::optional<std::uint32_t> stream_of(const TraceEvent& event);
  void weigh();

  std::size_t most_kept_bytes_;
  std::size_t last_thread_ = 0, last_stream_ = 0;
  std::int64_t until_weighed_ = 0;
  bool full_ = false;
};

}  // namespace rigwise
