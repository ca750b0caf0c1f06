// The nouns of the spine: what a run directory holds (format 1; docs/run-directory.md owns the
// details).
//
// Every instant `t_s` is seconds since the command was started, on the monotonic clock; run.json
// holds the wall clock beside it, so a clock jump changes nothing. Every figure carries its unit in
// its name. `optional` without a value means "this machine, driver or log does not say": never 0.
//
// Threads: plain values, no locks. Reading functions may run while another process appends: they
// see whole rows only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"

namespace rigwise {

inline constexpr int kRunFormat = 1;

// ----------------------------------------------------------------------------------------------
// what the log said

enum class RecordKind {
  train,     // a training metric entry
  eval,      // an evaluation result
  progress,  // a bar refresh with a counter or rate but no metric
  system,    // memory only
  summary,   // end-of-run totals
};

/// One metric-bearing entry of a training log: only what the entry itself states. One row of
/// steps.csv.
struct StepRecord {
  double t_s = 0;  // when its bytes were received
  RecordKind kind = RecordKind::train;
  std::optional<std::int64_t> step = {};         // as printed: 0- or 1-based
  std::optional<std::int64_t> steps_total = {};  // of a bar "12/200"
  std::optional<std::int64_t> bar_step =
      {};  // where the entry states no step: that of the training bar beside it in the same stream
  std::optional<double> epoch = {};
  std::optional<double> loss = {};  // may be nan or inf: the log said so
  std::optional<double> eval_loss = {};
  std::optional<double> lr = {};
  std::optional<double> grad_norm = {};
  std::optional<double> step_time_s = {};
  // Phases of one step, as a trainer that measures them states them; they sum to step_time_s.
  std::optional<double> input_s = {}, forward_s = {}, backward_s = {}, sync_s = {},
                        optimizer_s = {};
  std::optional<double> steps_per_s = {};
  std::optional<double> samples_per_s = {};
  std::optional<double> tokens_per_s = {};
  std::optional<double> tokens_seen = {};  // cumulative, as stated
  std::optional<double> runtime_s = {};  // of a summary or an evaluation; of a train entry: seconds
                                         // since training began, as stated
  std::optional<double> mem_gib = {};
  std::optional<double> mfu_frac = {};
  std::optional<int> rank = {};
  bool per_device = false;      // rates are per device, not global
  std::string log_file = {};    // "log/out.log"
  std::int64_t log_line = 0;    // 1-based; 0 where unknown
  std::string log_format = {};  // which reader matched: "hf_dict", "key_value", "jsonl", "bar"
};

enum class EventKind {
  checkpoint,  // [t_s, t_end_s] first write to last close of one checkpoint
  evaluation,  // training waited for an evaluation
  phase,       // startup phases: imports, model load, tokenising
  train_end,   // the trainer said it was done
  throttle,
  gap,
  profile_window,
  warning,
  error,
  recorder,  // the recorder's own doings: paused, resumed, a source hung
};

/// Something that happened, from the log or the file system. One row of events.csv.
struct Event {
  double t_s = 0;
  std::optional<double> t_end_s = {};
  EventKind kind = EventKind::warning;
  std::string name = {};  // checkpoint path as seen, evaluation set, source name
  std::string state =
      {};  // checkpoint: "complete", "torn", "open" (still being written when the record ends)
  std::optional<std::int64_t> step = {};
  std::optional<std::int64_t> size_bytes = {};
  std::optional<std::int64_t> files = {};
  std::optional<int> rank = {};
  std::string how = {};     // "filesystem", "log", "recorder"
  std::string detail = {};  // free text, already free of control characters
};

/// What a reader could and could not use. A result that rests on lossy input says so.
struct ReadStatistics {
  std::int64_t lines = 0, matched = 0, skipped = 0, malformed = 0;
  std::int64_t first_bad_line = 0;  // 1-based; 0 = none
  std::string first_bad_text = {};
};

// ----------------------------------------------------------------------------------------------
// what the machine did

/// One GPU at one instant (a row of watch/HOST.gpu.csv). Cumulative counters are as the device
/// gives them.
struct GpuSample {
  double t_s = 0;
  int gpu = 0;  // index as the driver counts
  std::optional<double> util_frac, mem_util_frac;
  std::optional<double> used_bytes, total_bytes;
  std::optional<double> temp_c, temp_mem_c;
  std::optional<double> power_w, power_limit_w, energy_j;
  std::optional<double> sm_clock_mhz, mem_clock_mhz, sm_clock_max_mhz;
  std::optional<double> pcie_gen, pcie_gen_max, pcie_width, pcie_width_max;
  std::optional<double> pcie_tx_bytes, pcie_rx_bytes;  // cumulative
  std::optional<double> throttle_reasons;              // NVML's bit mask at this instant
  // Cumulative seconds for which clocks were held down, by cause (NVML field values 74, 76, 269,
  // 270, 271).
  std::optional<double> held_power_s, held_sync_s, held_sw_thermal_s, held_hw_thermal_s,
      held_brake_s;
  std::optional<double> fan_frac;
  std::optional<double> tree_processes,
      other_processes;                    // compute processes of the run, and of others (slow tier)
  std::optional<double> tree_used_bytes;  // device memory held by the run's processes (slow tier)
  std::optional<double> graphics_processes = {};  // screens' (slow tier); not recorded
};

/// The host at one instant (watch/HOST.host.csv).
struct HostSample {
  double t_s = 0;
  std::optional<double> cpu_busy_s, cpu_iowait_s,
      cpu_steal_s;  // cumulative over all CPUs since boot
  std::optional<double>
      tree_cpu_s;  // cumulative CPU of the command's process tree, ended children included
  std::optional<double> own_cpu_s;     // of rigwise's own processes
  std::optional<double> others_cpu_s;  // CPU that everything else took since the run's start
  std::optional<double>
      tree_run_delay_s;  // seconds the tree's threads stood in a run queue (schedstat)
  std::optional<double> tree_rss_bytes, tree_processes, tree_threads;
  std::optional<double> load1;
  std::optional<double> mem_total_bytes, mem_available_bytes, swap_used_bytes, dirty_bytes,
      writeback_bytes;
  std::optional<double> psi_cpu_some_s, psi_io_some_s, psi_io_full_s, psi_mem_some_s,
      psi_mem_full_s;                      // cumulative
  std::optional<double> temp_cpu_c;        // hottest CPU sensor
  std::optional<double> package_energy_j;  // RAPL, cumulative, all packages
  std::optional<double> wall_unix_s;       // wall clock at this tick: shows clock jumps
  std::string top_other =
      {};  // the other process with most CPU since the last slow tick: "chrome:4127"
};

/// One block device (watch/HOST.disk.csv) or one file system (device = mount point, capacity
/// columns only).
struct DiskSample {
  double t_s = 0;
  std::string device = {};
  std::optional<double> read_bytes, write_bytes, reads, writes;  // cumulative
  std::optional<double> read_time_s, write_time_s,
      busy_s;                         // cumulative, as iostat's await and %util rest on
  std::optional<double> queue_depth;  // requests in flight at this instant
  std::optional<double> fs_total_bytes, fs_free_bytes, fs_free_inodes;
};

/// One network interface (watch/HOST.net.csv); cumulative.
struct NetSample {
  double t_s = 0;
  std::string interface = {};
  std::optional<double> rx_bytes, tx_bytes, rx_drops, tx_drops, rx_errors, tx_errors,
      link_bytes_per_s;
};

/// One process of the command's tree (watch/HOST.proc.csv).
struct ProcSample {
  double t_s = 0;
  int pid = 0, ppid = 0;
  std::string role = {};  // "launcher", "rank", "loader" (a data-loader worker), "other"
  std::optional<int> rank = {};
  std::string comm = {};
  std::optional<double> cpu_s, run_delay_s, rss_bytes, read_bytes, write_bytes;
  std::optional<double> threads, threads_running, threads_disk_wait;
  std::string main_state = {};                         // R, S, D, T, Z of the main thread
  std::optional<double> main_cpu_s, main_run_delay_s;  // of the main thread alone
  std::optional<double> written_bytes = {};            // by its calls, to anything; not kept
};

/// What the recorder itself cost up to this instant (watch/HOST.self.csv).
struct SelfSample {
  double t_s = 0;
  std::optional<double> cpu_s, rss_bytes, peak_rss_bytes, tick_s, longest_tick_s;
  std::optional<double> dropped;  // source readings dropped so far (hung or late)
  std::optional<double> keeper_cpu_s;
  std::string paused = {};  // "1" while sampling is paused
};

// ----------------------------------------------------------------------------------------------
// what the processes were doing

/// A stretch of at most about a second in which one process's main thread was in one class of work
/// (profile/HOST.stacks.csv): a run of Python stack samples that say the same. Spans of a process
/// do not overlap; where two of them leave a hole, nothing was seen.
struct StackSpan {
  double t_s = 0;      // the span reaches from here …
  double t_end_s = 0;  // … to here: halfway to its neighbours' samples
  int pid = 0;
  std::string role = {};  // "rank", "loader", "launcher", "other", as in ProcSample
  std::optional<int> rank = {};
  std::string work = {};  // a name of profile's table of classes: "input", "forward", "backward", …
  std::int64_t samples = 0;  // that it rests on
  std::int64_t torn = 0;     // samples in it that could not be read
  // Of the main thread, by schedstat: on a CPU, waiting in a run queue for one; the rest it slept.
  std::optional<double> running_s = {}, queued_s = {};
  std::int64_t stack = 0;                   // id in profile/HOST.frames.csv: the commonest one
  std::optional<std::int64_t> asleep = {};  // of the samples: the main thread slept that moment
  // How many stretches of one work were put together in it: short steps make many in a second.
  std::optional<std::int64_t> stretches = {};
};

/// One Python stack that was seen (profile/HOST.frames.csv), outermost frame first:
/// "train.py:main;trainer.py:train;…".
struct StackFrames {
  double t_s = 0;  // first seen
  std::int64_t stack = 0;
  std::string work = {};
  std::string frames = {};
};

/// How often a stack was seen in about a minute (profile/HOST.folded.csv).
struct StackCount {
  double t_s = 0;
  int pid = 0;
  std::string role = {};
  std::optional<int> rank = {};
  std::int64_t stack = 0;
  std::int64_t samples = 0;
};

/// One short trace of one process, reduced (profile/windows.csv). Seconds are of [t_s, t_end_s] and
/// parted without overlap: compute + exposed communication + copies + idle = t_end_s - t_s.
struct TraceWindow {
  double t_s = 0, t_end_s = 0;
  std::string host = {};
  int pid = 0;
  std::optional<int> rank = {};
  std::string device = {};  // "gpu": kernels were traced; "cpu": operators of the main thread
  std::optional<std::int64_t> steps = {};  // optimizer steps that ended in it
  std::optional<double> compute_s, communication_s, exposed_communication_s, copy_s, idle_s;
  std::optional<double> input_s;          // main thread in the data loader's ranges
  std::optional<double> exposed_input_s;  // of that, while the device was idle
  std::optional<double> optimizer_s;
  std::optional<double> launch_s;  // of idle: gaps in which the next kernel was launched too late
  std::string file = {};           // the trace it came from: "profile/trace-4127-1.json"
};

/// What the NCCL plug-in saw of one process, all processes of the host read together at the run's
/// end (profile/nccl.csv). Seconds lie inside `observed_s`, the sum of the plug-in's windows with
/// times; they are the GPU's, whether or not it computed meanwhile.
struct NcclSeconds {
  double t_s = 0, t_end_s = 0;  // first and last window
  std::string host = {};
  int pid = 0;
  std::optional<int> rank = {};  // on the largest communicator
  double observed_s = 0;
  double communication_s = 0;  // in collectives
  double waiting_s = 0;        // of that: until the last rank had come
  double late_s = 0;           // what the others waited for this one, the last to come
  std::int64_t matched = 0;    // collectives seen of all ranks
  std::int64_t last = 0;       // of these: it came last
  std::string file = {};       // "profile/nccl-host-a-4127.bin"
};

/// A figure that has no other place (evidence.csv): sizes of folders, ping times, link rates, what
/// iostat printed.
struct Observation {
  std::int64_t line = 0;  // 1-based, of the source; 0 where unknown
  std::optional<double> t_s = {};
  std::string source = {};    // the file it stands in: "import/ping.txt"
  std::string subject = {};   // what it is about: "nvme0n1", "/data", "192.168.1.20"
  std::string quantity = {};  // "read_bytes_per_s"
  double value = 0;
  std::string unit = {};  // "bytes/s", "s", "1" (a share), "count"
};

// ----------------------------------------------------------------------------------------------
// what was run, on what

/// A setting or identity of the run that decides comparability. `key` is one of kFactKeys
/// (docs/run-directory.md).
struct Fact {
  std::string key = {};    // "global_batch"
  std::string value = {};  // "8"
  std::string source =
      {};  // where it was read: "argv --per_device_train_batch_size", "log/out.log:12"
};

/// Software of one host: env/HOST.json. Flat, so that two can be laid side by side.
struct Environment {
  std::string host = {};
  std::map<std::string, std::string> versions =
      {};  // "python", "torch", "cuda", "nccl", "driver", "kernel", …
  std::map<std::string, std::string> variables =
      {};                                        // environment variables, allow-listed values only
  std::vector<std::string> variable_names = {};  // the other variables, names only
  std::map<std::string, std::string> facts =
      {};  // "container", "python_path", "git_commit", "git_dirty_hash", …
  std::vector<std::string> missing = {};  // what could not be read, and why
};

struct GpuDevice {
  int gpu = 0;
  std::string name = {}, uuid = {}, pci_address = {}, vendor = {};
  std::optional<double> total_bytes, power_limit_w, power_limit_max_w, slowdown_c, shutdown_c;
  std::optional<int> pcie_gen_max, pcie_width_max, numa_node;
  std::vector<std::string> pci_path = {};  // root port first: "0000:00:01.0 x16 16.0 GT/s"
  // Not recorded: split into MIG instances; NVLink leads to every other GPU.
  std::optional<bool> mig = {}, nvlink_to_all = {};
};

struct Disk {
  std::string device = {}, model = {};
  bool rotational = false;
  std::optional<double> size_bytes = {};
};
struct Mount {
  std::string path = {}, device = {}, fs_type = {};
  bool network = false;
  std::optional<double> total_bytes = {}, free_bytes = {};
};
struct Nic {
  std::string interface = {}, driver = {};
  std::optional<double> link_bytes_per_s = {};
};

/// Hardware and topology of one host: rig/HOST.json.
struct Rig {
  std::string host = {};
  std::string cpu_model = {};
  std::optional<int> sockets = {}, cores = {}, threads = {}, numa_nodes = {};
  std::optional<int> cpus_allowed = {};  // by affinity and cgroup quota
  std::optional<double> mem_bytes = {};
  std::vector<GpuDevice> gpus = {};
  std::vector<Disk> disks = {};
  std::vector<Mount> mounts = {};  // those that the run touches
  std::vector<Nic> nics = {};
  std::vector<std::string> missing = {};
};

/// The user's statement, sealed before the runs (lab.toml, `rigwise init`). `hash` is SHA-256 over
/// the fields in this order, each followed by a newline; `sealed_unix_s` is when it was first
/// written with this hash.
struct Statement {
  std::string bottleneck = {}, threshold = {}, option = {}, reason = {}, stop = {};
  std::string baseline = {}, candidate = {};  // names of the runs it speaks of
  std::string experiment = {};                // names runs/decisions/<experiment>
  std::string hash = {};
  std::optional<double> sealed_unix_s = {};
};

struct RecorderCost {
  std::optional<double> cpu_s, peak_rss_bytes, longest_tick_s, keeper_cpu_s;
  std::int64_t dropped_readings = 0;
  std::int64_t missed_ticks = 0;    // instants left out because the tick before took too long
  std::int64_t lost_log_bytes = 0;  // bytes that reached the terminal but not the log (full disk)
};

/// How the command ended. Exactly one of exit_status and signal is set once state is not "running";
/// neither where nobody saw the end (an imported run, a status that was lost).
struct Ending {
  std::optional<int> exit_status = {};
  std::optional<int> signal = {};
  std::string reason =
      {};  // "exited", "signal SIGKILL", "not found", "not executable", "status lost"
  double wall_s = 0;
};

/// keeper.json: the keeper's own word, written before it exits, so that a run is told right
/// although front and recorder both died.
struct KeeperRecord {
  Ending ending = {};
  std::int64_t lost_log_bytes = 0;
  std::optional<double> cpu_s = {};
};

/// run.json.
struct RunInfo {
  std::string id = {};                    // "20261123-141502-two-gpu": also the folder's name
  std::string name = {};                  // "two-gpu"; may repeat
  std::vector<std::string> command = {};  // argv, secrets masked
  std::string cwd = {};
  std::string host = {};
  double start_unix_s = 0;
  double start_monotonic_s = 0;  // CLOCK_MONOTONIC at t_s = 0
  std::string boot_id = {};
  std::string version = {};  // of rigwise
  double interval_s = 1;
  bool on_terminal = false;
  std::optional<Statement> statement = {};
  std::optional<int> ranks_asked = {}, ranks_trained = {};
  std::string ranks_why = {};  // "torchrun --nproc_per_node 2"; and what showed the trained ones
  std::vector<Fact> facts = {};
  std::optional<ReadStatistics> log_reading = {};
  std::optional<Ending> ending = {};  // empty while running
  std::optional<RecorderCost> recorder = {};
  std::map<std::string, std::string> digests = {};  // file → "sha256:…"
  std::vector<std::string> missing = {};            // what the recorder knows it could not record
  // The gaps that change what the rest of the record can show, as flags beside the words of
  // `missing`.
  bool end_unwatched = false;   // the recorder died first: samples, steps and events end early
  bool log_end_unread = false;  // steps may have gone on behind the last one on record
  bool checkpoints_unwatched = false;      // not all output folders were watched all the time
  std::vector<std::string> warnings = {};  // "the command printed the value of HF_TOKEN"
  bool imported = false;                   // made from files that people kept, not recorded
  std::vector<std::string> untimed = {};   // log files whose rows state no instant: their t_s in
                                           // steps.csv and events.csv say nothing
};

/// The command is known to have done what it was asked: exit status 0; of an imported run, which
/// has no status, that its log says so.
bool ended_well(const RunInfo& info);
/// An imported run whose files do not say how it ended: neither well nor badly.
bool end_unknown(const RunInfo& info);
inline constexpr std::string_view kEndedAsLogged = "training ended, as the log says";
inline constexpr std::string_view kEndNotKnown = "imported: how it ended is not known";

enum class RunState { running, finished, torn };

/// An opened run directory. Tables are read on demand with the functions below.
struct Run {
  std::filesystem::path dir = {};
  RunInfo info = {};
  RunState state = RunState::running;
  std::vector<std::string> missing =
      {};  // info.missing and what open() itself found torn or absent, in words

  /// Wall seconds: the ending's, else the last instant that any file of the run mentions.
  double wall_s = 0;
};

// ----------------------------------------------------------------------------------------------
// opening and reading

/// Reads run.json and looks at every other file; never repairs. A directory whose writer died is
/// `torn`, with what is missing in words; one whose recorder or keeper still lives is `running`.
/// Errors: not_found (no run.json), malformed (run.json does not parse: place named), io.
Result<Run> open_run(const std::filesystem::path& dir);

/// Rows of a table that do not parse are skipped and counted in `bad_rows`; a half last row is not
/// a bad row.
template <class T>
struct Rows {
  std::vector<T> rows = {};
  std::int64_t bad_rows = 0;
  bool present = false;   // the file exists
  std::string file = {};  // relative to the run directory
};

Result<Rows<StepRecord>> read_steps(const Run& run);
Result<Rows<Event>> read_events(const Run& run);
Result<Rows<GpuSample>> read_gpu(const Run& run, const std::string& host);
Result<Rows<HostSample>> read_host(const Run& run, const std::string& host);
Result<Rows<DiskSample>> read_disk(const Run& run, const std::string& host);
Result<Rows<NetSample>> read_net(const Run& run, const std::string& host);
Result<Rows<ProcSample>> read_proc(const Run& run, const std::string& host);
Result<Rows<SelfSample>> read_self(const Run& run, const std::string& host);
Result<Rows<Observation>> read_evidence(const Run& run);
Result<Rows<StackSpan>> read_stacks(const Run& run, const std::string& host);
Result<Rows<StackFrames>> read_stack_frames(const Run& run, const std::string& host);
Result<Rows<StackCount>> read_stack_counts(const Run& run, const std::string& host);
Result<Rows<TraceWindow>> read_trace_windows(const Run& run);
Result<Rows<NcclSeconds>> read_nccl_seconds(const Run& run);

/// Walks a table of many hours row by row without keeping it. Only the named columns are filled in
/// (names as in the file); `line` is the row's 1-based line. Bad rows are passed over; the walk
/// ends where the visitor returns false. An absent file is an empty one.
using ColumnNames = std::vector<std::string_view>;
template <class T>
using RowVisitor = std::function<bool(const T& row, std::int64_t line)>;
Status visit_gpu(const Run& run, const std::string& host, const ColumnNames& columns,
                 const RowVisitor<GpuSample>& visit);
Status visit_host(const Run& run, const std::string& host, const ColumnNames& columns,
                  const RowVisitor<HostSample>& visit);
Status visit_disk(const Run& run, const std::string& host, const ColumnNames& columns,
                  const RowVisitor<DiskSample>& visit);
Status visit_proc(const Run& run, const std::string& host, const ColumnNames& columns,
                  const RowVisitor<ProcSample>& visit);
Status visit_stacks(const Run& run, const std::string& host, const ColumnNames& columns,
                    const RowVisitor<StackSpan>& visit);

/// Receive times of the log: after the first `offset_bytes` bytes of `file`, the clock showed
/// `t_s`.
struct LogMark {
  std::int64_t offset_bytes = 0;
  double t_s = 0;
};
Result<Rows<LogMark>> read_log_index(const Run& run, std::string_view file);  // "out" or "err"

Result<Environment> read_environment(const Run& run, const std::string& host);
Result<Rig> read_rig(const Run& run, const std::string& host);
std::vector<std::string> hosts_of(
    const Run& run);  // those with any watch, env or rig file; the run's own host first

/// The root under which runs lie: `flag`, else $RIGWISE_RUNS, else "./runs".
std::filesystem::path runs_root(const std::optional<std::string>& flag);

/// Every run directory under `root`, oldest first. Folders that are not runs are passed over.
std::vector<Run> list_runs(const std::filesystem::path& root);

/// All runs of that name (or that id, or that path), oldest first. Errors: not_found, with the
/// nearest name as hint; conflict, where it is the id of one run and the name of another.
Result<std::vector<Run>> find_runs(const std::filesystem::path& root, const std::string& name);

constexpr std::string_view to_string(RunState value) {
  switch (value) {
    case RunState::running:
      return "running";
    case RunState::finished:
      return "finished";
    case RunState::torn:
      return "torn";
  }
  return "?";
}
constexpr std::string_view to_string(RecordKind value) {
  switch (value) {
    case RecordKind::train:
      return "train";
    case RecordKind::eval:
      return "eval";
    case RecordKind::progress:
      return "progress";
    case RecordKind::system:
      return "system";
    case RecordKind::summary:
      return "summary";
  }
  return "?";
}
constexpr std::string_view to_string(EventKind value) {
  switch (value) {
    case EventKind::checkpoint:
      return "checkpoint";
    case EventKind::evaluation:
      return "evaluation";
    case EventKind::phase:
      return "phase";
    case EventKind::train_end:
      return "train_end";
    case EventKind::throttle:
      return "throttle";
    case EventKind::gap:
      return "gap";
    case EventKind::profile_window:
      return "profile_window";
    case EventKind::warning:
      return "warning";
    case EventKind::error:
      return "error";
    case EventKind::recorder:
      return "recorder";
  }
  return "?";
}

// ----------------------------------------------------------------------------------------------
// writing

/// One append-only file with one writer. Each append is one write(2) of whole rows. What cannot be
/// written (a full disk, a folder that is gone) is counted and dropped, so that it degrades the
/// evidence and nothing else; half a row is taken back. Opening and the header are tried again at
/// every append until they succeed.
class AppendFile {
 public:
  AppendFile() = default;
  /// Opens nothing yet. `header` ends in '\n'; it is written where the file is new or holds only
  /// the beginning of it.
  AppendFile(std::filesystem::path path, std::string header);
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&& other) noexcept;
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  ~AppendFile();

  /// Rows end in '\n'. Returns how many of them are in the file now.
  std::size_t append(std::string_view rows);
  [[nodiscard]] std::int64_t lost_rows() const { return lost_rows_; }
  [[nodiscard]] std::int64_t lost_bytes() const { return lost_bytes_; }

 private:
  bool ready();
  bool close_half_row();

  std::filesystem::path path_;
  std::string header_;
  std::size_t header_done_ = 0;
  int fd_ = -1;
  bool half_row_ = false;
  std::int64_t lost_rows_ = 0, lost_bytes_ = 0;
};

/// The recorder's side of a run directory: everything but log/, which belongs to the keeper. Not
/// thread-safe: one owner.
class RunWriter {
 public:
  /// Takes the folder's lock (it lives as long as any process that inherited this object's
  /// descriptor) and makes `root/ID/` with its folders and run.json (state running) before the
  /// command starts. `info.id` is filled in: start time and name, with a suffix when that folder
  /// exists already. Errors: io (unwritable: the caller warns and trains unrecorded), usage (a name
  /// with characters that are not letters, digits, '.', '_' or '-').
  static Result<RunWriter> create(const std::filesystem::path& root, RunInfo info);

  void append(const StepRecord& row);
  void append(const Event& row);
  void append(const Observation& row);
  void append(const std::string& host, const GpuSample& row);
  void append(const std::string& host, const HostSample& row);
  void append(const std::string& host, const DiskSample& row);
  void append(const std::string& host, const NetSample& row);
  void append(const std::string& host, const ProcSample& row);
  void append(const std::string& host, const SelfSample& row);
  void append(const std::string& host, const StackSpan& row);
  void append(const std::string& host, const StackFrames& row);
  void append(const std::string& host, const StackCount& row);
  void append(const TraceWindow& row);
  void append(const NcclSeconds& row);

  Status write(const Environment& environment);
  Status write(const Rig& rig);

  /// Rewrites run.json (temporary, fsync, rename, fsync of the folder) with what is known so far.
  Status update(const RunInfo& info);

  /// The ending: rows that no table could take go to `missing`, then run.json as in update(). From
  /// here on the run is finished, and nothing more is appended.
  Status close(RunInfo info);
  /// After close(): digests of every file into run.json. Afterwards the run is immutable.
  /// `sign_of_life` is called now and then, since reading much from a slow disk takes its time.
  Status seal(const std::function<void()>& sign_of_life = {});
  /// close() and seal().
  Status finish(RunInfo info);

  [[nodiscard]] const std::filesystem::path& dir() const { return dir_; }
  [[nodiscard]] const RunInfo& info() const { return info_; }
  /// The descriptor that holds the folder's lock, for processes that are to hold it too.
  [[nodiscard]] int lock_descriptor() const;

 private:
  RunWriter() = default;
  template <class T>
  void append_row(const std::string& relative, const T& row);

  std::filesystem::path dir_;
  RunInfo info_;
  std::shared_ptr<void> lock_;  // closes this process's copy of the lock's descriptor
  std::map<std::string, AppendFile> files_;
};

/// Written by the keeper as its last act.
Status write_keeper_record(const std::filesystem::path& dir, const KeeperRecord& record);

/// Finishes run.json of a run whose recorder died: used by the front, and by nothing else. Where
/// the recorder had written the ending already, only digests are added.
Status finish_run(const std::filesystem::path& dir, const Ending& ending,
                  std::vector<std::string> missing);

}  // namespace rigwise
