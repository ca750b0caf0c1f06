// Session: what the readers of one stream share, and what the two streams of one command share.
//
// Two rules live here. Joining: a dict line of the Hugging Face Trainer states no step; the
// training bar is cleared before it and drawn anew right behind it, so the entry waits for that
// bar. Lines that waited in a buffer come in a burst: theirs are the bars that were drawn anew.
// Evaluations: one is told once, by its bar or by its dict line, whichever has the better instants.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "logs/assemble.h"
#include "logs/bar.h"
#include "logs/entry.h"
#include "rigwise/logs.h"

namespace rigwise::logs {

/// What out and err of one command share.
struct Progress {
  // The training bar.
  std::optional<std::int64_t> total = {}, step = {};
  double drawn_s = 0;                      // when `step` was first drawn
  bool complete = false;                   // step reached total
  bool confirmed = false;                  // a training entry came while this bar was up
  std::optional<double> step_time_s = {};  // by the bar's own rate
  const void* stream = nullptr;            // the reader whose stream it is drawn in
  // Steps at which the bar was cleared and drawn anew: something was printed through it then.
  std::deque<std::int64_t> marks = {};
  std::optional<double> steps_per_epoch = {};  // checks late joins
  double steps_per_epoch_error = 0;            // relative

  // Evaluation bars.
  std::int64_t bars_seen = 0, entries_seen = 0;
  bool bar_open = false, bar_reported = false;
  double bar_start_s = 0, bar_last_s = 0;
  std::optional<std::int64_t> bar_n = {}, bar_total = {};
  bool bar_unnamed = false;  // taken for an evaluation by its place alone
};

class Session {
 public:
  explicit Session(std::string log_file);

  /// Where results go; set by the reader before each call.
  LogBatch* out = nullptr;
  std::shared_ptr<Progress> progress;
  const std::string log_file;

  /// An entry that was understood: waits for the bar where it has no step, is dropped where it
  /// repeats its neighbour. `glued_bar` = the training bar drawn right before it in the same piece.
  void add(Reading reading, const Piece& piece, const char* format,
           std::optional<std::int64_t> glued_step);

  /// A bar, as drawn. True when it was of use.
  bool draw(const Bar& bar, const Piece& piece);
  /// A cleared bar line (blanks between two '\r').
  void cleared() { cleared_ = true; }

  void fact(std::string key, std::string value, const Piece& piece);
  void event(Event event);

  /// Lets go of entries that have waited long enough.
  void release(double t_s, bool all);
  /// The end of the stream: an evaluation that is still open ends here.
  void end(double t_s);

  /// How many processes printed the same entries without a rank, each as if it were the first.
  [[nodiscard]] int copies() const;

  std::optional<int> rank = {};    // of the piece being read
  bool evaluation_banner = false;  // "Num examples" speaks of an evaluation now

  /// A checkpoint that the log says is saved. Parts of the one named last are passed over. `done`:
  /// the line says that the save is over, not that it begins.
  void checkpoint(std::string_view path, std::optional<std::int64_t> step, bool done,
                  const Piece& piece);

 private:
  void emit(StepRecord record);
  /// What makes two entries equal, without their names and places.
  struct Kept {
    RecordKind kind = RecordKind::train;
    std::optional<std::int64_t> step = {};
    std::optional<int> rank = {};
    std::optional<double> epoch = {}, loss = {}, eval_loss = {}, lr = {}, grad_norm = {},
                          step_time_s = {}, steps_per_s = {}, samples_per_s = {}, tokens_per_s = {},
                          tokens_seen = {}, runtime_s = {};
    double t_s = 0;
    bool bar_or_table = false;  // which of two readers of one fact: forms do not repeat each other
    explicit Kept(const StepRecord& record);
  };
  static bool same_figures(const Kept& a, const Kept& b);
  static bool same_training(const Kept& a, const Kept& b);
  bool repeats(const Kept& kept, bool table);
  bool is_copy(const Kept& kept);
  bool is_training(const Bar& bar) const;
  void training_bar(const Bar& bar, const Piece& piece);
  void evaluation_bar(const Bar& bar, double t_s);
  void startup_bar(const Bar& bar, double t_s);
  void evaluation_result(const Bar& bar, const Piece& piece);
  void close_evaluation();
  void close_phase();
  void evaluation_entry(const StepRecord& record);
  void summary_entry(const StepRecord& record);
  void confirm_bar();
  void hold_or_emit(StepRecord record);
  void let_go();
  std::optional<std::int64_t> mark_for(const StepRecord& record);
  /// The entry at `epoch` stands at `step`.
  void measure_epoch(std::int64_t step, double epoch);

  std::optional<StepRecord> held_;
  bool entry_since_bar_ = false;
  std::vector<Kept> recent_;  // the last training entries that state no rank, in a ring
  std::size_t recent_next_ = 0;
  std::optional<Kept> last_train_, last_eval_, last_summary_;
  std::int64_t distinct_ = 0, copies_ = 0;
  std::int64_t stated_ = 0;  // training entries of text lines that state where they stand
  bool cleared_ = false;
  std::optional<double> drawn_loss_ = {}, drawn_rate_ = {};  // of the training bar, as drawn last
  std::string phase_;
  double phase_start_s_ = 0, phase_last_s_ = 0;
  int burst_ = 0;  // training entries in a row that arrived in one instant: output was buffered
  bool train_end_told_ = false;
  std::string last_checkpoint_;
};

}  // namespace rigwise::logs
