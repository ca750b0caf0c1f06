// Trace: a Chrome trace of Kineto (torch.profiler, on-demand windows) → how a device's seconds were
// parted in it, step by step, and which of several ranks the others waited for.
//
// Definitions, on the window [begin, end] of one trace:
//   GPU trace (kernels are in it): from the first to the last kernel, copy or memset of any stream,
//     and on to the profiler's own end where everything launched had ended. compute = union of the
//     kernels that are no collectives; communication = union of the nccl kernels; copies = memcpy
//     and memset; idle = no stream runs anything.
//   CPU trace: from the first event of the training thread to the profiler's end. The training
//     thread carries the optimizer's ranges (else the loader's, else the main thread); compute =
//     operators and Optimizer.step ranges on it and on the threads of autograd, less its loader
//     ranges and calls of collectives; communication = gloo ranges and those calls.
//   Both: exposed communication = communication less compute (on a CPU also less the loader's
//     ranges: a gloo range ends after the wait for it); input = DataLoader __next__ on the
//     training thread; a step ends with Optimizer.step, several without a backward pass between
//     them being one (with ProfilerStep# where there is no optimizer).
//   compute + exposed communication + copies (covered by neither) + idle = the window.
// Launch-bound follows HolisticTraceAnalysis: an idle gap is host wait where the launch of the
// kernel behind it began after the gap did, else kernel wait below 30 µs (its documentation says
// 30 ns, its code compares microseconds), else other.
//
// Memory is bounded (TraceOptions) whatever the size of the trace. Threads: a TraceReader has one
// owner. Never throws; hostile bytes are counted, not believed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

/// Parted seconds of a stretch of a trace. The first four sum to seconds_s.
struct TraceSplit {
  double seconds_s = 0;
  double compute_s = 0, exposed_communication_s = 0, copy_s = 0, idle_s = 0;
  double communication_s = 0;  // whether covered by compute or not
  double input_s = 0;          // training thread inside the data loader's ranges
  double exposed_input_s = 0;  // of that, while the device was idle
  // Of compute, by what launched or ran it; absent where nothing says so.
  std::optional<double> forward_s = {}, backward_s = {}, optimizer_s = {};
  // GPU: of idle, gaps whose next kernel was launched too late, less exposed input.
  std::optional<double> launch_s = {};
};

/// From the end of one optimizer step to the end of the next. On a GPU both ends are those of the
/// last work that was launched by then.
struct TraceStep {
  double begin_s = 0;  // since TraceSummary's begin
  TraceSplit split = {};
};

/// The gaps between consecutive kernels of one stream, as HolisticTraceAnalysis has them.
struct StreamGaps {
  std::int64_t device = 0, stream = 0;
  std::int64_t kernels = 0;
  double busy_s = 0;
  double host_wait_s = 0, kernel_wait_s = 0, other_s = 0;
};

/// Idle seconds by the length of the gap they lie in.
struct IdleGaps {
  std::optional<double> shorter_than_s = {};  // the row's upper end; the last row has none
  std::int64_t count = 0;
  double seconds_s = 0;
};

/// One collective as a rank saw it.
struct TraceCollective {
  std::string name = {};   // "allreduce", "broadcast", …
  std::string group = {};  // process group, where the trace says so
  std::optional<std::int64_t> sequence = {}, elements = {};
  double begin_s = 0, end_s = 0;  // since TraceSummary's begin
};

/// What was read, what was not, and why.
struct TraceReading {
  std::uint64_t bytes = 0;  // of the document, unpacked
  std::int64_t events = 0;  // entries of traceEvents
  std::int64_t used = 0;    // of them, that say something about the split
  std::int64_t malformed = 0, oversized = 0;
  std::int64_t bad_times = 0;  // ts or dur is missing, no number, negative or out of range
  std::int64_t unknown_phases = 0;
  std::int64_t duplicates = 0;  // collectives and step marks that came twice
  std::int64_t foreign = 0;     // of other processes, or of more than 1,024 threads
  std::optional<std::uint64_t> first_bad_byte = {};
  std::string first_bad_text = {};
  bool whole =
      false;  // the document's end was reached; else `why_not` says what stopped the reading
  std::string why_not = {};
};

struct TraceSummary {
  std::string file = {};  // as given to read_trace
  std::string host = {};
  int pid = 0;  // 0: not known
  std::optional<int> rank = {}, ranks = {};
  std::string backend = {};  // "gloo", "nccl"; empty without a process group
  std::string device = {};   // "gpu", "cpu"; empty: nothing ran in it
  std::int64_t devices = 0;  // GPUs that ran something
  /// Wall clock of the begin; absent where the trace does not know it.
  std::optional<double> begin_unix_s = {};
  double lead_s = 0;  // profiler's begin to the window's: what ran across it is not in the trace
  double tail_s = 0;  // of idle: behind the last activity
  std::int64_t kernels = 0, operators = 0;
  std::optional<std::int64_t> unlaunched = {};  // kernels whose launch is not in the trace
  TraceSplit total = {};
  std::int64_t steps_ended = 0;       // optimizer steps that ended in the window
  std::vector<TraceStep> steps = {};  // the whole ones
  std::vector<StreamGaps> streams = {};
  std::vector<IdleGaps> idle = {};
  std::vector<TraceCollective> collectives = {};  // by begin; at most 65,536
  TraceReading reading = {};
};

struct TraceOptions {
  std::uint64_t most_bytes = std::uint64_t{64} << 30;    // of the document, unpacked
  std::size_t most_kept_bytes = std::size_t{512} << 20;  // of intervals kept while reading
};

/// A trace in chunks, cut anywhere.
class TraceReader {
 public:
  explicit TraceReader(TraceOptions options = {});
  TraceReader(TraceReader&&) noexcept;
  TraceReader& operator=(TraceReader&&) noexcept;
  ~TraceReader();

  /// False once nothing more will be read.
  bool push(std::string_view bytes);
  /// The end of the bytes. Errors: malformed (not one byte of a trace: what stands there instead).
  Result<TraceSummary> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A whole file, plain or gzip. A trace that was cut or is partly unreadable is a value: see
/// TraceReading. Errors: not_found, io, malformed.
Result<TraceSummary> read_trace(const std::filesystem::path& path, TraceOptions options = {});

/// What goes to profile/windows.csv; start_unix_s is the run's start on the wall clock. Where the
/// trace does not know the wall clock, the window lies at 0. Seconds stay absent where the trace
/// was not read to its end: what is missing could be anything.
TraceWindow window_of(const TraceSummary& summary, double start_unix_s);

/// One rank beside the others.
struct RankArrival {
  std::size_t trace = 0;  // which of the summaries
  std::optional<int> rank = {};
  std::int64_t last = 0;      // collectives at which it arrived last
  double waited_s = 0;        // it waited in collectives for the last one to arrive
  double caused_wait_s = 0;   // the others waited for it, mean over them
  double late_s = 0;          // median of its arrival behind the first
  double clock_offset_s = 0;  // taken off its instants
};

struct TraceComparison {
  std::vector<RankArrival> ranks = {};
  std::int64_t matched = 0;    // collectives that all ranks have
  std::int64_t unmatched = 0;  // that some rank lacks, the windows' edges included
  double seconds_s = 0;        // first to last matched collective
  /// Index into ranks: the one that causes the most waiting; absent where nobody waits 1 % of
  /// the time for anybody, or nothing matched.
  std::optional<std::size_t> straggler = {};
  double straggler_share = 0;  // its caused_wait_s over seconds_s
  bool clocks_agree = true;    // else the offsets were estimated from the collectives' ends
  std::vector<std::string> notes = {};
};

/// Who arrives last: collectives of the same name, group and size are matched in their order on
/// each rank (by sequence number where there is one), windows that began at different collectives
/// included. Errors: usage (fewer than two traces), unavailable (a rank without collectives, or
/// none that match).
Result<TraceComparison> compare_ranks(std::span<const TraceSummary> summaries);

}  // namespace rigwise
