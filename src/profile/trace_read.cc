// Reading a trace: chunks or a file, plain or gzip → its summary.
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <memory>

#include "base/files.h"
#include "base/text.h"
#include "profile/trace_gather.h"
#include "profile/trace_scan.h"
#include "profile/trace_split.h"
#include "rigwise/trace.h"

namespace rigwise {

namespace {

constexpr std::size_t kChunkBytes = std::size_t{256} << 10;

/// gzip members in any chunks → their bytes.
class Unpacker {
 public:
  Unpacker() : out_(kChunkBytes, '\0') { ready_ = inflateInit2(&stream_, 15 + 16) == Z_OK; }
  ~Unpacker() {
    if (ready_) inflateEnd(&stream_);
  }
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;

  /// False once the reader wants no more, or the bytes are no gzip: then `broken`.
  bool push(std::string_view bytes, TraceReader& reader) {
    if (!ready_) return !(broken = true);
    // zlib takes the input as writable and does not write to it
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<uInt>(bytes.size());
    do {
      if (ended && inflateReset(&stream_) != Z_OK) return !(broken = true);
      ended = false;
      stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
      stream_.avail_out = static_cast<uInt>(out_.size());
      const int status = inflate(&stream_, Z_NO_FLUSH);
      const std::size_t size = out_.size() - stream_.avail_out;
      if (size > 0 && !reader.push(std::string_view(out_.data(), size))) return false;
      if (status == Z_STREAM_END) {
        ended = true;  // another member may follow
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        return !(broken = true);
      }
    } while (stream_.avail_in > 0 || stream_.avail_out == 0);
    return true;
  }

  bool broken = false;
  bool ended = false;  // at a member's end

 private:
  z_stream stream_ = {};
  bool ready_ = false;
  std::string out_;
};

}  // namespace

struct TraceReader::State {
  explicit State(TraceOptions given)
      : options(given), gather(given.most_kept_bytes), scanner(gather) {}
  TraceOptions options;
  TraceGather gather;
  TraceScanner scanner;
  bool too_long = false;
};

TraceReader::TraceReader(TraceOptions options) : state_(std::make_unique<State>(options)) {}
TraceReader::TraceReader(TraceReader&&) noexcept = default;
TraceReader& TraceReader::operator=(TraceReader&&) noexcept = default;
TraceReader::~TraceReader() = default;

bool TraceReader::push(std::string_view bytes) {
  State& state = *state_;
  if (state.scanner.counts().bytes + bytes.size() > state.options.most_bytes) {
    state.too_long = true;
    return false;
  }
  return state.scanner.push(bytes) && !state.gather.full();
}

Result<TraceSummary> TraceReader::finish() {
  State& state = *state_;
  if (!state.gather.full() && !state.too_long) state.scanner.finish();
  const TraceScanCounts& counts = state.scanner.counts();
  if (!counts.started) {
    if (!counts.first_bad_byte) {
      return Error{Errc::malformed, "no trace: nothing stands in it",
                   "a trace of torch.profiler begins with {"};
    }
    return Error{Errc::malformed,
                 "no trace: it begins with '" + counts.first_bad_text.substr(0, 40) + "'",
                 "a trace of torch.profiler is JSON and begins with {"};
  }
  TraceSummary summary;
  TraceReading& reading = summary.reading;
  reading.bytes = counts.bytes;
  reading.events = counts.events;
  reading.malformed = counts.malformed;
  reading.oversized = counts.oversized;
  reading.first_bad_byte = counts.first_bad_byte;
  reading.first_bad_text = counts.first_bad_text;
  reading.whole = counts.whole;
  if (state.gather.full()) {
    reading.whole = false;
    reading.why_not = "its intervals need more than " +
                      std::to_string(state.options.most_kept_bytes >> 20) + " MiB of memory";
  } else if (state.too_long) {
    reading.whole = false;
    reading.why_not = "it is longer than " + std::to_string(state.options.most_bytes) + " bytes";
  } else if (!reading.whole) {
    reading.why_not = "it stops in the middle: cut, or still being written";
  }
  split_trace(state.gather, summary);
  reading.used = state.gather.used;
  reading.bad_times = state.gather.bad_times;
  reading.unknown_phases = state.gather.unknown_phases;
  reading.foreign = state.gather.foreign;
  return summary;
}

Result<TraceSummary> read_trace(const std::filesystem::path& path, TraceOptions options) {
  const std::string name = clean_text(path.string(), 4096);
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    return Error{errno == ENOENT ? Errc::not_found : Errc::io,
                 name + ": cannot open it: " + errno_text(errno)};
  }
  TraceReader reader(options);
  std::unique_ptr<Unpacker> unpacker;
  std::string chunk(kChunkBytes, '\0');
  std::string failed;
  for (bool first = true;; first = false) {
    const ssize_t got = ::read(file.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      if (first) return Error{Errc::io, name + ": cannot read it: " + errno_text(errno)};
      failed = "the disk refused the rest: " + errno_text(errno);
      break;
    }
    if (got == 0) break;
    const std::string_view bytes(chunk.data(), static_cast<std::size_t>(got));
    if (first && bytes.starts_with("\x1f\x8b")) unpacker = std::make_unique<Unpacker>();
    const bool more = unpacker ? unpacker->push(bytes, reader) : reader.push(bytes);
    if (!more) break;
  }
  auto summary = reader.finish();
  if (!summary) return std::move(summary).error().at(name);
  summary->file = name;
  if (unpacker && unpacker->broken) failed = "its gzip stream is broken";
  if (!failed.empty() && !summary->reading.whole) summary->reading.why_not = failed;
  return summary;
}

TraceWindow window_of(const TraceSummary& summary, double start_unix_s) {
  const TraceSplit& total = summary.total;
  TraceWindow window{.t_s = summary.begin_unix_s ? *summary.begin_unix_s - start_unix_s : 0,
                     .host = summary.host,
                     .pid = summary.pid,
                     .rank = summary.rank,
                     .device = summary.device,
                     .file = summary.file};
  window.t_end_s = window.t_s + total.seconds_s;
  if (!summary.reading.whole || summary.device.empty()) return window;
  window.steps = summary.steps_ended;
  window.compute_s = total.compute_s;
  window.communication_s = total.communication_s;
  window.exposed_communication_s = total.exposed_communication_s;
  window.copy_s = total.copy_s;
  window.idle_s = total.idle_s;
  window.input_s = total.input_s;
  window.exposed_input_s = total.exposed_input_s;
  window.optimizer_s = total.optimizer_s;
  window.launch_s = total.launch_s;
  return window;
}

}  // namespace rigwise
