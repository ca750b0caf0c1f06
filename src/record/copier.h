// Copier: moves one output stream of the command to the user and to the log, in a thread of its
// own, so that a slow reader of one stream holds up neither the other nor the keeper.
//
//   reader gone (EPIPE)   our reading end is closed at once: the command meets SIGPIPE or EPIPE at
//                         its next write, as it would without us
//   terminal gone (EIO)   the stream goes on into the log only
//   terminal stalls       after 10 s its output is passed over until it takes bytes again (a
//                         connection that is lost but not yet closed must not stop the training)
//   full disk behind it   what is not taken is dropped and counted
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <thread>

#include "base/files.h"
#include "record/launch.h"
#include "record/log_writer.h"

namespace rigwise {

/// Somebody who joined the terminal of a run: gets what the command prints, never holds it up.
class Audience {
 public:
  /// Gives `client` the terminal and what follows. False: somebody is there already.
  bool join(Fd client, int terminal);
  void show(std::string_view bytes);
  void say_exited(int wait_status);
  /// The client's descriptor, to notice that it leaves; -1 while nobody is there.
  [[nodiscard]] int descriptor() const;
  void leave();

 private:
  mutable std::mutex mutex_;
  Fd client_;
  std::int64_t passed_ = 0, skipped_ = 0;
};

class Copier {
 public:
  /// `notify`: an eventfd that is written when the stream drains or ends.
  Copier(OutputStream& stream, int log_stream, LogWriter& log, Audience* audience,
         double start_monotonic_s, int notify);
  ~Copier();
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;

  void start();
  /// The command has exited: what it wrote is still delivered (drained), then the log is left
  /// alone; processes that it left behind keep their output until they close it (ended).
  void command_exited();

  [[nodiscard]] bool drained() const { return drained_; }
  [[nodiscard]] bool ended() const { return ended_; }
  /// The user's terminal hung up, or there was none from the start.
  [[nodiscard]] bool user_gone() const { return user_gone_; }

 private:
  void run();
  void deliver(std::string_view bytes);
  bool wait_for_room();
  void lose_user();
  void note_drained();

  OutputStream& stream_;
  const int log_stream_;
  LogWriter& log_;
  Audience* audience_;
  const double start_monotonic_s_;
  const int notify_;
  Fd wake_;
  Fd own_terminal_end_;  // the user's terminal opened once more, without blocking
  int destination_ = -1;
  bool is_terminal_ = false, reader_gone_ = false, stalled_ = false;
  std::atomic<bool> exited_ = false, drained_ = false, ended_ = false, user_gone_ = false;
  std::thread thread_;
};

}  // namespace rigwise
