#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "base/files.h"
#include "base/text.h"
#include "profile/nccl/format.h"
#include "rigwise/nccl.h"
#include "run/layout.h"

namespace rigwise {

namespace {

namespace file = nccl_file;

constexpr std::uint64_t kMaxFile_bytes = 64u << 20;
constexpr double kLongest_s = 86400;           // of one operation: longer is a wrong clock
constexpr std::int64_t kWrong_ns = 1'000'000;  // an offset that misses by so much does not fit
constexpr double kTimerStep_s = 1e-6;          // GPUs count globaltimer up about once a microsecond

constexpr std::array<std::string_view, file::kFunctions> kFunctionNames = {
    "unknown", "AllReduce", "AllGather", "ReduceScatter", "Broadcast", "Reduce",    "Send",
    "Recv",    "SendRecv",  "AlltoAll",  "Gather",        "Scatter",   "AllGatherV"};

struct Datatype {
  std::string_view name;
  int bytes;
};
constexpr std::array<Datatype, file::kDatatypes> kDatatypes = {{{"unknown", 0},
                                                                {"int8", 1},
                                                                {"uint8", 1},
                                                                {"int32", 4},
                                                                {"uint32", 4},
                                                                {"int64", 8},
                                                                {"uint64", 8},
                                                                {"float16", 2},
                                                                {"float32", 4},
                                                                {"float64", 8},
                                                                {"bfloat16", 2},
                                                                {"float8_e4m3", 1},
                                                                {"float8_e5m2", 1}}};

double seconds(std::int64_t ns) {
  return static_cast<double>(ns) * 1e-9;
}

template <class T>
bool holds(const T& record) {
  std::array<std::uint32_t, sizeof(T) / 4> words = {};
  std::memcpy(words.data(), &record, sizeof record);
  return record.check == file::checksum(words.data() + 1, words.size() - 1);
}

std::optional<int> known(std::int32_t value) {
  return value >= 0 ? std::optional<int>(value) : std::nullopt;
}

std::string version_text(int version) {  // ncclGetVersion: 22809 is 2.28.9
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

/// Its count stands for one rank's part of what moves.
bool counts_a_part(std::uint8_t function) {
  return function == file::kAllGather || function == file::kReduceScatter ||
         function == file::kAllToAll || function == file::kGather || function == file::kScatter ||
         function == file::kAllGatherV;
}

std::optional<double> size_of(const file::OperationRecord& record, const NcclCommunicator& comm) {
  const int element = record.datatype < kDatatypes.size() ? kDatatypes[record.datatype].bytes : 0;
  if (element == 0 || record.function == file::kUnknownFunction) return std::nullopt;
  const double part = static_cast<double>(record.count) * element;
  if (!counts_a_part(record.function)) return part;
  if (!comm.ranks) return std::nullopt;
  return part * *comm.ranks;
}

class Parser {
 public:
  explicit Parser(std::string_view bytes) : bytes_(bytes) {}

  Result<NcclRank> parse() {
    RW_CHECK(read_header());
    read_records();
    std::stable_sort(records_.begin(), records_.end(),
                     [](const auto& a, const auto& b) { return a.enqueued_ns < b.enqueued_ns; });
    std::sort(rank_.windows.begin(), rank_.windows.end(),
              [](const NcclWindow& a, const NcclWindow& b) { return a.start_s < b.start_s; });
    place_on_host_clock();
    add_notes();
    return std::move(rank_);
  }

 private:
  Status read_header();
  void read_records();
  bool take(const file::Record& record);
  void place_on_host_clock();
  void place(std::size_t from, std::size_t to, NcclWindow* window);
  void add(const file::OperationRecord& record, std::optional<std::int64_t> offset_ns);
  void add_notes();
  void note(std::string text) { rank_.notes.push_back(std::move(text)); }

  std::string_view bytes_;
  file::Header header_ = {};
  bool header_holds_ = false;
  std::unordered_map<std::uint16_t, std::size_t> comms_ = {};
  std::vector<file::OperationRecord> records_ = {};
  NcclRank rank_ = {};
};

Status Parser::read_header() {
  if (bytes_.size() < sizeof header_ ||
      std::memcmp(bytes_.data(), file::kMagic, sizeof file::kMagic) != 0) {
    return Error{Errc::malformed, "this is no file of rigwise's NCCL plug-in",
                 "such files lie in a run's folder profile/ and begin with RWNCCL"};
  }
  std::memcpy(&header_, bytes_.data(), sizeof header_);
  if (header_.version != file::kVersion || header_.header_bytes != sizeof(file::Header) ||
      header_.record_bytes != sizeof(file::Record)) {
    return Error{Errc::malformed,
                 "the NCCL plug-in's file is of version " + std::to_string(header_.version) +
                     ", which this rigwise does not know",
                 "read it with the rigwise that recorded the run"};
  }
  std::array<std::uint32_t, sizeof header_ / 4> words = {};
  std::memcpy(words.data(), &header_, sizeof header_);
  header_holds_ = header_.check == file::checksum(words.data(), words.size() - 1);
  if (!header_holds_) {
    ++rank_.malformed;
    note("the file's header is damaged: what it counts is not known");
    return Ok{};
  }
  rank_.host = clean_text(std::string_view(header_.host, ::strnlen(header_.host, 64)), 64);
  rank_.pid = header_.pid;
  rank_.interface = static_cast<int>(std::min<std::uint32_t>(header_.abi, 99));
  if (header_.nccl_version > 0) rank_.version = version_text(header_.nccl_version);
  rank_.opened_s = seconds(header_.opened_ns);
  rank_.opened_unix_s = seconds(header_.opened_realtime_ns);
  rank_.last_s = seconds(header_.written_ns);
  rank_.window_s = seconds(header_.window_ns);
  rank_.period_s = seconds(header_.period_ns);
  rank_.events = header_.events;
  rank_.lost = header_.lost_slots + header_.unwritten;
  rank_.stray = header_.stray;
  rank_.unknown = header_.unknown;
  return Ok{};
}

void Parser::read_records() {
  std::size_t at = sizeof header_;
  for (; at + sizeof(file::Record) <= bytes_.size(); at += sizeof(file::Record)) {
    file::Record record = {};
    std::memcpy(&record, bytes_.data() + at, sizeof record);
    if (!take(record)) ++rank_.malformed;
  }
  if (at < bytes_.size()) {
    ++rank_.malformed;
    note("the file ends inside a record");
  }
}

bool Parser::take(const file::Record& record) {
  // The kinds share their size and where the check stands.
  if (!holds(record.operation)) return false;
  switch (record.any.kind) {
    case file::kCommunicator: {
      const file::CommunicatorRecord& told = record.comm;
      NcclCommunicator comm;
      comm.hash = told.hash;
      comm.name = clean_text(std::string_view(told.name, ::strnlen(told.name, sizeof told.name)),
                             sizeof told.name);
      comm.rank = known(told.rank);
      if (told.ranks > 0 && told.ranks < 1'000'000) comm.ranks = told.ranks;
      if (told.nodes > 0) comm.nodes = told.nodes;
      comms_[told.comm] = rank_.comms.size();
      rank_.comms.push_back(std::move(comm));
      return true;
    }
    case file::kOperation: {
      const file::OperationRecord& told = record.operation;
      if (!comms_.contains(told.comm) || told.enqueued_ns <= 0) return false;
      records_.push_back(told);
      return true;
    }
    case file::kWindow: {
      const file::WindowRecord& told = record.window;
      if (told.start_ns <= 0 || told.end_ns < told.start_ns) return false;
      NcclWindow window;
      window.start_s = seconds(told.start_ns);
      window.end_s = seconds(told.end_ns);
      window.start_unix_s = seconds(told.start_realtime_ns);
      window.kernels = (told.mask & 64) != 0;
      window.events = told.events;
      window.lost = told.lost_slots;
      rank_.windows.push_back(window);
      return true;
    }
    default:
      return false;
  }
}

/// Each window has an offset of its own, since the two clocks drift apart by some ten microseconds
/// a second. The window that was open when a process was killed has no record: its operations
/// belong to none, and get an offset of their own too.
void Parser::place_on_host_clock() {
  rank_.operations.reserve(records_.size());
  std::size_t from = 0;
  for (std::size_t i = 0; i <= rank_.windows.size(); ++i) {
    const bool last = i == rank_.windows.size();
    std::size_t to = from;
    while (to < records_.size() &&
           (last || seconds(records_[to].enqueued_ns) < rank_.windows[i].start_s))
      ++to;
    // [from, to) were enqueued before window i and after the one before it opened.
    NcclWindow* window = i == 0 ? nullptr : &rank_.windows[i - 1];
    place(from, to, window);
    from = to;
  }
}

/// The largest offset (host - GPU) that operations allow: a thread sees a start or an end only
/// after it was. And the smallest: a kernel starts after it was launched; but NCCL reports the
/// launch just after it, later still where its thread lost the CPU in between, so a twentieth may
/// contradict.
struct Offsets {
  std::int64_t low, high;
};
std::optional<Offsets> offsets_of(std::span<const file::OperationRecord> records) {
  std::vector<std::int64_t> lows;
  std::int64_t high = std::numeric_limits<std::int64_t>::max();
  constexpr std::uint64_t kSane = std::uint64_t{1} << 62;
  for (const auto& record : records) {
    constexpr unsigned kBoth = file::kGpuTimes | file::kPolled;
    if ((record.flags & kBoth) != kBoth || record.gpu_start_ns > kSane ||
        record.gpu_stop_ns > kSane || record.gpu_stop_ns < record.gpu_start_ns ||
        record.poll_start_ns <= 0 || record.poll_stop_ns <= 0) {
      continue;
    }
    const auto start = static_cast<std::int64_t>(record.gpu_start_ns);
    high = std::min({high, record.poll_start_ns - start,
                     record.poll_stop_ns - static_cast<std::int64_t>(record.gpu_stop_ns)});
    lows.push_back(record.enqueued_ns - start);
  }
  if (lows.empty()) return std::nullopt;
  const std::size_t place = lows.size() - 1 - lows.size() / 20;
  std::nth_element(lows.begin(), lows.begin() + static_cast<std::ptrdiff_t>(place), lows.end());
  return Offsets{lows[place], high};
}

void Parser::place(std::size_t from, std::size_t to, NcclWindow* window) {
  const std::span<const file::OperationRecord> records(records_.data() + from, to - from);
  std::optional<std::int64_t> offset;
  if (const auto offsets = offsets_of(records)) {
    const auto [low, high] = *offsets;
    if (low > high + kWrong_ns) {
      if (window != nullptr) window->clock_wrong = true;
    } else {
      offset = low <= high ? low + (high - low) / 2 : high;
      const double half_width = seconds(low <= high ? (high - low) / 2 : low - high);
      if (window != nullptr) window->clock_error_s = half_width + kTimerStep_s;
    }
  }
  for (const auto& record : records) add(record, offset);
}

void Parser::add(const file::OperationRecord& record, std::optional<std::int64_t> offset_ns) {
  NcclOperation operation;
  operation.comm = comms_.at(record.comm);
  const std::uint8_t function =
      record.function < file::kFunctions ? record.function : std::uint8_t{file::kUnknownFunction};
  operation.function = kFunctionNames[function];
  operation.datatype = kDatatypes[record.datatype < file::kDatatypes ? record.datatype : 0].name;
  operation.point_to_point =
      function == file::kSend || function == file::kReceive || function == file::kSendReceive;
  if (!operation.point_to_point) operation.sequence = record.sequence;
  operation.count = record.count;
  operation.bytes = size_of(record, rank_.comms[operation.comm]);
  operation.peer = record.peer;
  operation.enqueued_s = seconds(record.enqueued_ns);
  operation.unfinished = (record.flags & file::kUnfinished) != 0;
  operation.partial = (record.flags & file::kPartial) != 0;
  const auto time = [&](NcclTiming timing, double start_s, double end_s) {
    if (!(end_s >= start_s) || end_s - start_s > kLongest_s) return false;
    operation.timing = timing;
    operation.start_s = start_s;
    operation.end_s = end_s;
    return true;
  };
  bool timed = false;
  if (offset_ns && (record.flags & file::kGpuTimes) != 0 && !operation.unfinished) {
    timed =
        time(NcclTiming::gpu, static_cast<double>(record.gpu_start_ns) * 1e-9 + seconds(*offset_ns),
             static_cast<double>(record.gpu_stop_ns) * 1e-9 + seconds(*offset_ns));
  }
  if (!timed && (record.flags & file::kPolled) != 0 && !operation.unfinished) {
    time(NcclTiming::polled, seconds(record.poll_start_ns), seconds(record.poll_stop_ns));
  }
  rank_.operations.push_back(operation);
}

void Parser::add_notes() {
  if (rank_.malformed > 0)
    note(counted(static_cast<std::int64_t>(rank_.malformed), "record", "records") +
         " could not be read");
  if (!header_holds_) return;
  if (header_.state == file::kFull)
    note("the file reached its bound: what came after is not in it");
  if (header_.state == file::kBroken)
    note("writing failed (" + errno_text(header_.write_errno) + "): what came after is not in it");
  if (header_.state == file::kRecording)
    note("the process ended without notice: the last moments may be missing");
  if ((header_.flags & file::kKernelsUnsafe) != 0)
    note("kernels were not timed: NCCL 2.26 and 2.27 can end a run over it");
  if (rank_.interface <= 2) note("kernels were not timed: NCCL before 2.26 cannot");
  if ((header_.flags & file::kSmallShm) != 0)
    note("in some windows kernels were not timed: /dev/shm is too small for NCCL to do it safely");
  if (rank_.lost > 0)
    note(counted(static_cast<std::int64_t>(std::min<std::uint64_t>(rank_.lost, 1u << 30)),
                 "operation was", "operations were") +
         " seen and lost");
  if (header_.lost_comms > 0) note("some communicators were not watched");
}

}  // namespace

Result<NcclRank> parse_nccl(std::string_view bytes) {
  if (bytes.size() > kMaxFile_bytes) {
    return Error{Errc::malformed, "the NCCL plug-in never writes files of this size"};
  }
  return Parser(bytes).parse();
}

std::vector<std::filesystem::path> nccl_files(const std::filesystem::path& run_dir) {
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (std::filesystem::directory_iterator at(run_dir / layout::kProfileFolder, error), end;
       !error && at != end; at.increment(error)) {
    if (at->path().filename().string().starts_with(layout::kNcclFiles)) found.push_back(at->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

Result<NcclRank> read_nccl(const std::filesystem::path& path) {
  RW_TRY(const std::string bytes, read_file(path, kMaxFile_bytes));
  auto rank = parse_nccl(bytes);
  if (!rank) return Error(rank.error()).at(path.string());
  NcclRank read = std::move(rank).value();
  read.file = path;
  return read;
}

}  // namespace rigwise
