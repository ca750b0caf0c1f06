// A worker: one source's own thread, asked at most one thing at a time, waited for with a limit.
//
// A source that hangs (a GPU driver, a stale network mount) keeps its thread busy and nobody else:
// `post` refuses while an earlier question is unanswered, an answer that comes after its `wait`
// gave up is thrown away, and when the source answers again the next `post` goes through. The
// thread owns everything it touches, so that a worker whose thread hangs can be destroyed at once;
// the thread ends by itself when the call returns.
#pragma once

#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace rigwise {

template <class Request, class Reply>
class Worker {
 public:
  using Work = std::function<Reply(const Request&)>;

  Worker(std::string name, Work work) : name_(std::move(name)), state_(std::make_shared<State>()) {
    state_->work = std::move(work);
    sigset_t all, before;
    sigfillset(&all);
    // Signals belong to whoever owns the process; this thread must not run its handlers.
    const bool masked = ::pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
    try {
      thread_ = std::thread(loop, state_);
    } catch (const std::exception&) {
      state_->busy = true;  // no thread to be had: every question is refused, and counted
    }
    if (masked) ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~Worker() {
    if (!state_) return;
    bool hung = false;
    {
      const std::lock_guard lock(state_->mutex);
      state_->stop = true;
      hung = state_->busy;
    }
    state_->asked.notify_one();
    if (!thread_.joinable()) return;
    if (hung)
      thread_.detach();
    else
      thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// False while an earlier question has no answer yet.
  bool post(Request request) {
    {
      const std::lock_guard lock(state_->mutex);
      if (state_->busy) return false;
      state_->busy = true;
      state_->reply.reset();
      state_->request = std::move(request);
      state_->pending = true;
    }
    state_->asked.notify_one();
    return true;
  }

  /// The answer to the last accepted question, once; nothing when it is not there by `deadline`.
  std::optional<Reply> wait(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(state_->mutex);
    state_->answered.wait_until(lock, deadline, [&] { return state_->reply.has_value(); });
    return std::exchange(state_->reply, std::nullopt);
  }

  [[nodiscard]] bool busy() const {
    const std::lock_guard lock(state_->mutex);
    return state_->busy;
  }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable asked, answered;
    Work work;
    Request request = {};
    std::optional<Reply> reply;
    bool pending = false, busy = false, stop = false;
  };

  static void loop(std::shared_ptr<State> state) {
    std::unique_lock lock(state->mutex);
    for (;;) {
      state->asked.wait(lock, [&] { return state->pending || state->stop; });
      if (state->stop) return;
      state->pending = false;
      const Request request = std::move(state->request);
      lock.unlock();
      std::optional<Reply> reply;
      try {
        reply = state->work(request);
      } catch (const std::exception&) {
        // Out of memory or the like: no answer, the next question is welcome.
      }
      lock.lock();
      state->reply = std::move(reply);
      state->busy = false;
      state->answered.notify_one();
    }
  }

  std::string name_;
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace rigwise
