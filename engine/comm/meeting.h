// Meeting: where the ranks of a run find each other (a c10d TCPStore), who they are, and who of
// them is still alive. Used by the engines of Comm; nothing else includes it.
//
// Keys, under a prefix of the attempt:
//   rank/R  who: size, machine, host, pid, start of the process, address towards rank 0
//   beat/R  a counter twice a second, the number of R's last operation and its name
//   left/R  that R ended, and why; a rank that neither beats nor has left is lost
//
// Threads: one of its own that beats. begin() may be called from any thread, the rest from one.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/comm/comm.h"

namespace rigwise::engine {

struct Member {
  std::string machine;  // the same where processes see each other: boot, network and pid namespaces
  std::string host;
  int pid = 0;
  std::string started;  // in the kernel's ticks, so that a pid used again is not mistaken
  std::string address;  // of this host towards rank 0; empty for rank 0
};

class Meeting {
 public:
  /// Errors as connect() has them. `on_stuck`: see CommOptions.
  static Result<std::shared_ptr<Meeting>> join(const RankPlace& place, double timeout_s,
                                               std::function<void(const Error&)> on_stuck = {});
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;
  /// Says that this rank has left. The rank that holds the store first lets the others leave.
  ~Meeting();

  [[nodiscard]] const std::vector<Member>& members() const { return members_; }
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] double timeout_s() const { return timeout_s_; }
  [[nodiscard]] bool one_machine() const;
  [[nodiscard]] const c10::intrusive_ptr<c10d::Store>& store() const { return store_; }

  /// An operation starts; the others can see how far this rank has come. `name` is a literal. Fails
  /// as fail() does where a rank is known to be lost.
  void begin(const char* name);
  /// Held while this rank waits for others.
  class Waiting {
   public:
    explicit Waiting(Meeting& meeting) : meeting_(meeting) { ++meeting_.waits_; }
    ~Waiting() { --meeting_.waits_; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    Meeting& meeting_;
  };
  /// An operation failed for the reason that the library gives: finds out who is lost, and throws.
  [[noreturn]] void fail(const char* name, std::string_view reason);
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  Meeting(const RankPlace& place, double timeout_s, std::function<void(const Error&)> on_stuck);
  Status open(const RankPlace& place);
  Status introduce(const RankPlace& place);
  Status gather();
  void beat();
  void look_after_others(c10d::Store& store);
  void note_loss();
  void end_if_stuck(c10d::Store& store);
  std::string diagnose(c10d::Store& store, const char* name, std::string_view reason);
  std::string tell(c10d::Store& store, const char* name, std::string_view reason);
  void let_others_leave(c10d::Store& store);

  int rank_, size_, port_ = 0;
  double timeout_s_;
  bool holds_store_ = false, introduced_ = false;
  std::vector<Member> members_;
  c10::intrusive_ptr<c10d::Store> store_;

  std::atomic<std::int64_t> operation_ = 0;
  std::atomic<const char*> operation_name_ = "start";
  std::atomic<int> waits_ = 0;
  std::atomic<bool> someone_is_lost_ = false, failed_ = false;
  std::chrono::steady_clock::time_point lost_since_ = {};  // of the thread that beats
  std::function<void(const Error&)> on_stuck_;
  std::mutex telling_;  // one of the two threads says what happened

  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  std::vector<std::pair<std::string, std::chrono::steady_clock::time_point>>
      heard_;  // beats, by rank
  std::thread beating_;
};

}  // namespace rigwise::engine
