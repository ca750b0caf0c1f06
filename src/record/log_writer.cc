#include "record/log_writer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include "base/clock.h"
#include "base/csv.h"
#include "base/files.h"
#include "record/process.h"
#include "run/layout.h"

namespace rigwise {

namespace {
using std::chrono::milliseconds;

constexpr std::size_t kQueueBytes = std::size_t{8} << 20;
constexpr std::size_t kKeepWarmBytes = std::size_t{256} << 10;
constexpr std::size_t kWriteBytes = std::size_t{1} << 20;
constexpr double kMarkEvery_s = 0.002;
constexpr double kRetryEvery_s = 0.5;
constexpr double kStalledAfter_s = 1.0;
constexpr double kWaitAllowedShare = 0.01;  // of the run
constexpr double kFastBytesPerS = 32e6, kRateWindow_s = 0.5;
constexpr std::size_t kMaxMarks = 4096, kMaxLosses = 1024;

struct Loss {
  std::int64_t offset_bytes = 0, lost_bytes = 0;
  double t_s = 0;
};
}  // namespace

struct LogWriter::Stream {
  std::string name;
  char* ring = nullptr;
  std::size_t head = 0, used = 0, touched = 0;
  std::int64_t accepted = 0;  // log offset behind the last byte in the queue
  std::int64_t written = 0;   // log offset behind the last byte on disk
  std::int64_t lost = 0;
  std::deque<LogMark> marks;
  double mark_began_s = 0;  // when the youngest mark was opened
  // Rows in front that are being written: they do not change.
  std::size_t marks_under_way = 0, losses_under_way = 0;
  std::deque<Loss> losses;
  Fd log;
  AppendFile index, lost_rows;

  explicit Stream(std::string stream_name) : name(std::move(stream_name)) {
    void* area = ::mmap(nullptr, kQueueBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ring = area == MAP_FAILED ? nullptr : static_cast<char*>(area);
  }
  ~Stream() {
    if (ring != nullptr) ::munmap(ring, kQueueBytes);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  [[nodiscard]] std::size_t room() const { return ring == nullptr ? 0 : kQueueBytes - used; }

  void put(std::string_view bytes) {
    const std::size_t tail = (head + used) % kQueueBytes;
    const std::size_t first = std::min(bytes.size(), kQueueBytes - tail);
    std::memcpy(ring + tail, bytes.data(), first);
    std::memcpy(ring, bytes.data() + first, bytes.size() - first);
    touched = std::max(touched, first < bytes.size() ? kQueueBytes : tail + first);
    used += bytes.size();
    accepted += static_cast<std::int64_t>(bytes.size());
  }

  /// The queue restarts at its beginning whenever it runs empty, so that few pages are ever
  /// touched; what a burst has touched goes back.
  void take(std::size_t count) {
    head = (head + count) % kQueueBytes;
    used -= count;
    written += static_cast<std::int64_t>(count);
    if (used > 0) return;
    head = 0;
    if (touched > kKeepWarmBytes) {
      ::madvise(ring + kKeepWarmBytes, kQueueBytes - kKeepWarmBytes, MADV_DONTNEED);
      touched = kKeepWarmBytes;
    }
  }

  void mark(double t_s) {
    const bool may_grow = marks.size() > marks_under_way;
    if (may_grow && (t_s - mark_began_s < kMarkEvery_s || marks.size() >= kMaxMarks)) {
      marks.back() = {accepted, t_s};
      return;
    }
    marks.push_back({accepted, t_s});
    mark_began_s = t_s;
  }

  void lose(std::size_t count, double t_s) {
    const auto bytes = static_cast<std::int64_t>(count);
    lost += bytes;
    if (losses.size() > losses_under_way &&
        (losses.back().offset_bytes == accepted || losses.size() >= kMaxLosses)) {
      losses.back().lost_bytes += bytes;
      return;
    }
    losses.push_back({accepted, bytes, t_s});
  }
};

LogWriter::LogWriter(double start_monotonic_s, int streams, double patience_s)
    : start_monotonic_s_(start_monotonic_s), patience_s_(patience_s) {
  for (int i = 0; i < streams; ++i) {
    streams_[static_cast<std::size_t>(i)] = std::make_unique<Stream>(i == 0 ? "out" : "err");
  }
}

LogWriter::~LogWriter() {
  // A thread that hangs in a write cannot be joined; the process is about to end anyway.
  if (thread_.joinable()) thread_.detach();
}

void LogWriter::start(const std::filesystem::path& run_dir) {
  const std::lock_guard lock(mutex_);
  if (off_ || thread_.joinable()) return;
  dir_ = run_dir;
  for (auto& stream : streams_) {
    if (!stream) continue;
    stream->index =
        AppendFile(dir_ / layout::log_index(stream->name), std::string(layout::kLogIndexHeader));
    stream->lost_rows =
        AppendFile(dir_ / layout::log_losses(stream->name), std::string(layout::kLogLossesHeader));
  }
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {  // no thread to be had: train without a log
    off_ = true;
  }
}

void LogWriter::give_up() {
  const std::lock_guard lock(mutex_);
  off_ = true;
  for (auto& stream : streams_) {
    if (stream) stream->take(stream->used);
  }
  space_.notify_all();
}

void LogWriter::push(int index, std::string_view bytes, double t_s) {
  std::unique_lock lock(mutex_);
  Stream& stream = *streams_[static_cast<std::size_t>(index)];
  while (!bytes.empty() && !off_ && !closing_) {
    const std::size_t count = std::min(bytes.size(), stream.room());
    if (count > 0) {
      stream.put(bytes.substr(0, count));
      bytes.remove_prefix(count);
      stream.mark(t_s);
      data_.notify_one();
      continue;
    }
    const double now_s = monotonic_s();
    const bool stalled = write_began_s_ && now_s - *write_began_s_ > kStalledAfter_s;
    const bool moves = thread_.joinable() && fast_ && !stalled;
    // of one stand no more than the patience: a rank's peers give up after minutes
    double allowed_s = patience_s_;
    if (!stalled && thread_.joinable())
      allowed_s += kWaitAllowedShare * (now_s - start_monotonic_s_);
    if (failing_ || stream.ring == nullptr || (!moves && waited_s_ >= allowed_s)) {
      stream.lose(bytes.size(), t_s);
      return;
    }
    space_.wait_for(lock, milliseconds(10));
    if (!moves) waited_s_ += monotonic_s() - now_s;
  }
}

bool LogWriter::anything_waits() const {
  return std::any_of(streams_.begin(), streams_.end(), [](const auto& stream) {
    return stream && (stream->used > 0 || !stream->marks.empty() || !stream->losses.empty());
  });
}

void LogWriter::open_log(Stream& stream) const {
  if (stream.log.valid()) return;
  stream.log.reset(::open((dir_ / layout::log_file(stream.name)).c_str(),
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
}

// One piece of one stream; the lock is open while the disk works. False: it failed.
bool LogWriter::write_some(Stream& stream, std::unique_lock<std::mutex>& lock) {
  const std::size_t count = std::min({stream.used, kQueueBytes - stream.head, kWriteBytes});
  const char* bytes = stream.ring + stream.head;
  write_began_s_ = monotonic_s();
  lock.unlock();
  open_log(stream);
  ssize_t done = -1;
  if (stream.log.valid()) {
    do {
      done = ::write(stream.log.get(), bytes, count);
    } while (done < 0 && errno == EINTR);
  }
  lock.lock();
  write_began_s_.reset();
  failing_ = done <= 0;
  if (failing_) {
    failed_at_s_ = monotonic_s();
    return false;
  }
  stream.take(static_cast<std::size_t>(done));
  ++progress_;
  window_bytes_ += static_cast<double>(done);
  const double now_s = monotonic_s();
  if (const double window_s = now_s - window_began_s_; window_s > kRateWindow_s) {
    fast_ = window_bytes_ > kFastBytesPerS * window_s;
    window_began_s_ = now_s;
    window_bytes_ = 0;
  }
  space_.notify_all();
  return true;
}

/// Rows whose bytes are in the log. What cannot be written stays and is tried again. False: it was
/// not all written.
bool LogWriter::write_rows(Stream& stream, std::unique_lock<std::mutex>& lock) {
  std::string rows, lost_rows;
  std::size_t marks = 0, losses = 0;
  const double now_s = monotonic_s() - start_monotonic_s_;
  for (const LogMark& mark : stream.marks) {
    if (mark.offset_bytes > stream.written) break;
    // The youngest mark may still grow.
    const bool youngest = marks + 1 == stream.marks.size();
    if (youngest && !closing_ && now_s - stream.mark_began_s < kMarkEvery_s) break;
    rows += CsvRow().add_integer(mark.offset_bytes).add(mark.t_s).line();
    ++marks;
  }
  for (const Loss& loss : stream.losses) {
    // As long as nothing was taken in behind it, it may still grow.
    if (loss.offset_bytes > stream.written) break;
    if (!closing_ && loss.offset_bytes == stream.accepted) break;
    lost_rows +=
        CsvRow().add_integer(loss.offset_bytes).add_integer(loss.lost_bytes).add(loss.t_s).line();
    ++losses;
  }
  if (rows.empty() && lost_rows.empty()) return true;
  write_began_s_ = monotonic_s();
  stream.marks_under_way = marks;
  stream.losses_under_way = losses;
  lock.unlock();
  const std::size_t marks_done = rows.empty() ? 0 : stream.index.append(rows);
  const std::size_t losses_done = lost_rows.empty() ? 0 : stream.lost_rows.append(lost_rows);
  lock.lock();
  write_began_s_.reset();
  stream.marks_under_way = stream.losses_under_way = 0;
  stream.marks.erase(stream.marks.begin(),
                     stream.marks.begin() + static_cast<std::ptrdiff_t>(marks_done));
  stream.losses.erase(stream.losses.begin(),
                      stream.losses.begin() + static_cast<std::ptrdiff_t>(losses_done));
  return marks_done == marks && losses_done == losses;
}

void LogWriter::run() {
  std::unique_lock lock(mutex_);
  // A program that prints nothing leaves an empty log, not none. To open may hang as a write may.
  write_began_s_ = monotonic_s();
  lock.unlock();
  for (auto& stream : streams_) {
    if (stream) open_log(*stream);
  }
  lock.lock();
  write_began_s_.reset();
  for (;;) {
    if (!closing_) {
      // Small writes of a chatty program are gathered for a moment; a full queue is not kept
      // waiting.
      const auto full = [this] {
        return closing_ || std::any_of(streams_.begin(), streams_.end(), [](const auto& stream) {
                 return stream && stream->used > kQueueBytes / 8;
               });
      };
      if (!anything_waits()) {
        data_.wait(lock, [this] { return closing_ || anything_waits(); });
        window_began_s_ = monotonic_s();  // idle time says nothing about the disk
        window_bytes_ = 0;
        fast_ = true;
      }
      const std::chrono::duration<double> retry(kRetryEvery_s);
      if (failing_) {
        data_.wait_for(lock, retry, [this] { return closing_; });
      } else if (rows_failing_) {
        data_.wait_for(lock, retry, full);
      } else {
        data_.wait_for(lock, milliseconds(20), full);
      }
    }
    bool failed = false;
    rows_failing_ = false;
    for (auto& stream : streams_) {
      while (stream && stream->used > 0 && !failed) failed = !write_some(*stream, lock);
      if (stream && !write_rows(*stream, lock)) rows_failing_ = true;
    }
    if (closing_ && (failed || rows_failing_ || !anything_waits())) break;
  }
  write_ending(lock);
}

void LogWriter::write_ending(std::unique_lock<std::mutex>& lock) {
  KeeperRecord record;
  record.ending = ending_;
  for (const auto& stream : streams_) {
    if (stream) record.lost_log_bytes += stream->lost + static_cast<std::int64_t>(stream->used);
  }
  lock.unlock();
  record.cpu_s = cpu_seconds_of(::getpid());
  const auto ignored = write_keeper_record(dir_, record);  // a full disk: nothing more can be done
  static_cast<void>(ignored);
  lock.lock();
  finished_ = true;
  done_.notify_all();
}

std::int64_t LogWriter::lost_times() const {
  const std::lock_guard lock(mutex_);
  std::int64_t lost = 0;
  for (const auto& stream : streams_) {
    if (stream && !off_) lost += static_cast<std::int64_t>(stream->marks.size());
  }
  return lost;
}

std::int64_t LogWriter::close(const Ending& ending, double patience_s) {
  std::unique_lock lock(mutex_);
  ending_ = ending;
  closing_ = true;
  data_.notify_all();
  if (thread_.joinable()) {
    std::uint64_t seen = progress_;
    double moved_s = monotonic_s();
    while (!finished_ && monotonic_s() - moved_s < patience_s) {
      done_.wait_for(lock, milliseconds(50));
      if (progress_ != seen) {
        seen = progress_;
        moved_s = monotonic_s();
      }
    }
    if (finished_) {
      lock.unlock();
      thread_.join();
      lock.lock();
    }
  }
  std::int64_t lost = 0;
  for (const auto& stream : streams_) {
    if (stream && !off_) lost += stream->lost + static_cast<std::int64_t>(stream->used);
  }
  return lost;
}

}  // namespace rigwise
