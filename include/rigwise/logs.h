// Logs: bytes of a training log in any chunks → StepRecord, Event and Fact, with read statistics.
//
// Formats: Hugging Face Trainer and TRL dict lines (numbers bare or as strings, nested, wrapped),
// the tables of log_metrics, tqdm bars, JSON lines, key–value lines. Times are receive times in
// seconds since the run's start; an entry that came in pieces has the time of its last byte.
//
// Threads: one owner per LogReader; two joined readers have the same owner. Memory: a few pieces of
// at most 64 KiB, whatever the line length. Never throws; hostile bytes are counted, not believed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/run.h"

namespace rigwise {

/// What became known with a push. Events: evaluation [start, end], train_end (the summary line),
/// phase (startup bars: "model load", "tokenising" …), checkpoint (the log says that one is saved;
/// name = path as printed; state empty), all how "log".
struct LogBatch {
  std::vector<StepRecord> steps = {};
  std::vector<Event> events = {};
  std::vector<std::size_t> steps_before = {};  // one an event: how many of `steps` were told before
  std::vector<Fact> facts = {};                // banners: "Total train batch size = 8"
};

/// A line that only this user's trainer prints (lab.toml, [[log.pattern]]): `match` is the line as
/// printed, with {figure} where a value stands and '*' for anything: "round {step} cost {loss}".
/// Figures: step, epoch, loss, eval_loss, lr, grad_norm, step_time_s, step_time_ms, steps_per_s,
/// samples_per_s, tokens_per_s, mem_gib, mem_mib, mfu, rank.
struct LogPattern {
  std::string match = {};
  bool evaluation = false;  // its loss is an evaluation's
};

/// The first {name} in a pattern that is no figure: "{los}"; nothing when all are. A pattern with
/// no figure at all gives "".
std::optional<std::string> unknown_figure(std::string_view match);

class LogReader {
 public:
  /// log_file: "log/out.log", becomes StepRecord::log_file. Patterns are tried on lines that
  /// nothing else reads; those that name no figure are passed over.
  explicit LogReader(std::string log_file, std::vector<LogPattern> patterns = {});
  LogReader(LogReader&&) noexcept;
  LogReader& operator=(LogReader&&) noexcept;
  ~LogReader();

  /// Tells that `other` reads the other stream (out, err) of the same command: the bars of one give
  /// the entries of the other their step. Call once, before the first push.
  void join(LogReader& other);

  /// Bytes as received at t_s, cut anywhere. Returns what became complete with them. An entry that
  /// states no step waits up to half a second for the training bar that is drawn behind it; a push
  /// of no bytes (at each tick) lets it go.
  LogBatch push(std::string_view bytes, double t_s);
  /// The same into a batch that the caller uses again and again: what it held is replaced.
  void push_into(std::string_view bytes, double t_s, LogBatch& batch);

  /// The end of the stream: the half line that was kept is read too. Join readers of one command:
  /// finish the one with the bars (err) first.
  LogBatch finish(double t_s);

  [[nodiscard]] const ReadStatistics& statistics() const;

  /// 1; or N when every training entry came N times without a rank: N processes that each take
  /// themselves for the first, so they were started together but train apart. The copies are
  /// dropped.
  [[nodiscard]] int copies() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rigwise
