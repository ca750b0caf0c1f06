// Blocks: one pair a line, told together: the boxes of stable-baselines3 and Lightning, the tables
// of log_metrics, W&B's run summary, Composer's records under "[batch=1/100]:".
#pragma once

#include <optional>
#include <string_view>

#include "logs/pairs.h"

namespace rigwise::logs {

class BlockReader {
 public:
  explicit BlockReader(Meanings& meanings) : meanings_(meanings) {}

  enum class Kind : char {
    none,
    box,      // "|    fps | 882 |"
    metrics,  // "***** eval metrics *****", then "  eval_loss = 2.31"
    summary,  // "wandb: Run summary:", then "wandb:   loss 0.51"
    indented  // "[batch=1/100]:", then indented "name: 10.97"
  };

  /// Whether the line belongs to a block. `done` says that a block ended before it, or with it:
  /// entry() holds its figures then.
  /// `cut`: the stream ended inside the line; a row that it cuts is no row.
  bool read(std::string_view text, bool cut, bool& done);
  /// "[batch=1/100]:": an indented block begins with these figures.
  void open_indented(const Entry& base);
  /// "  | > loss: 2.27 (2.27)", "    train/CE loss=5.53": one key and its value.
  static bool is_row(std::string_view line);
  /// The end of the stream, or another entry: true when entry() holds a block's figures.
  bool close();

  [[nodiscard]] const Entry& entry() const { return done_; }
  [[nodiscard]] Kind kind() const { return done_kind_; }
  [[nodiscard]] bool open() const { return kind_ != Kind::none; }

 private:
  bool box_row(std::string_view text);
  bool pair_row(std::string_view key, std::string_view value);
  void start(Kind kind);

  Meanings& meanings_;
  Kind kind_ = Kind::none, done_kind_ = Kind::none;
  Entry entry_, done_;
  int rows_ = 0;
  std::string scratch_;
};

}  // namespace rigwise::logs
