// Log writer: the keeper's second half. Takes the command's bytes from the copying threads through
// a bounded queue and writes them to log/, with receive times, in a thread of its own.
//
// Files of the run directory that it owns, for each stream NAME ("out", "err"):
//   log/NAME.log       the bytes
//   log/NAME.idx.csv   offset_bytes,t_s: the first offset_bytes bytes had been received at t_s;
//                      at most 500 rows a second
//   log/NAME.lost.csv  offset_bytes,lost_bytes,t_s: behind the first offset_bytes bytes of the log,
//                      lost_bytes bytes are missing (only there when something was lost)
//   keeper.json        how the command ended, by the keeper's own word
//
// A full disk or a hung file system fills the queue; what then does not fit is counted, recorded
// and dropped, while everything in the queue, and rows of the tables, are kept and tried again
// until room returns. A copying thread waits for room in the queue: freely while the writer writes
// 32 MB/s or more (a burst on a healthy disk, which no training prints for long), not at all where
// writing fails, else no longer than 10 s (no run directory yet, a write that hangs) and 1 % of the
// run (a slow or busy disk) in all. So a burst reaches the log whole, and a bad disk cannot hold
// the command up.
//
// Threads: push() from any number of threads; the rest from one owner.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "rigwise/run.h"

namespace rigwise {

class LogWriter {
 public:
  static constexpr double kPatience_s = 10;

  /// `streams` 1 or 2: "out", "err". Until start() or give_up() bytes wait in the queue.
  /// `patience_s`: what copying threads may wait in all for a writer that hardly moves.
  LogWriter(double start_monotonic_s, int streams, double patience_s = kPatience_s);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  void start(const std::filesystem::path& run_dir);
  /// There is no run directory: bytes are passed over from now on.
  void give_up();

  void push(int stream, std::string_view bytes, double t_s);

  /// Writes what waits and then keeper.json with `ending`; gives up where nothing moves for
  /// `patience_s`. Returns the bytes that the log lacks.
  std::int64_t close(const Ending& ending, double patience_s);
  /// After close(): receive times that could not be written.
  [[nodiscard]] std::int64_t lost_times() const;

 private:
  struct Stream;
  void run();
  void open_log(Stream& stream) const;
  bool write_some(Stream& stream, std::unique_lock<std::mutex>& lock);
  bool write_rows(Stream& stream, std::unique_lock<std::mutex>& lock);
  void write_ending(std::unique_lock<std::mutex>& lock);
  bool anything_waits() const;

  const double start_monotonic_s_, patience_s_;
  mutable std::mutex mutex_;
  std::condition_variable data_, space_, done_;
  std::array<std::unique_ptr<Stream>, 2> streams_;
  std::filesystem::path dir_;
  bool off_ = false, closing_ = false, finished_ = false;
  bool failing_ = false;                 // the last write failed: only tried now and then
  bool rows_failing_ = false;            // the same of the tables beside the log
  double failed_at_s_ = 0;               // on the monotonic clock
  std::optional<double> write_began_s_;  // a write is under way since
  double window_began_s_ = 0;            // of the writer's recent rate
  double window_bytes_ = 0;
  bool fast_ = true;     // the writer's rate in the last whole window
  double waited_s_ = 0;  // what the copying threads have waited so far
  std::uint64_t progress_ = 0;
  Ending ending_;
  std::thread thread_;
};

}  // namespace rigwise
