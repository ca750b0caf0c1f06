// The chain of readers: each looks at a piece of text for one family of formats. A new family is a
// new file with one function here and one line in reader.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "logs/session.h"

namespace rigwise::logs {

enum class Outcome { none, matched, malformed };

/// Mappings in braces, as Python or JSON prints them, that may run over several lines.
class MappingReader {
 public:
  Outcome read(Session& session, const Piece& piece, std::string_view text,
               std::optional<std::int64_t> glued_step);
  [[nodiscard]] bool waiting() const { return !open_.empty(); }
  Outcome finish(Session& session, const Piece& piece);

 private:
  Outcome take(Session& session, const Piece& piece, std::string_view text,
               std::optional<std::int64_t> glued_step);
  Outcome use(Session& session, const Piece& piece, const Mapping& mapping,
              std::optional<std::int64_t> glued_step);
  std::string open_;  // a mapping whose closing brace has not come yet
  int open_lines_ = 0;
  std::optional<std::int64_t> open_step_;
};

/// "***** eval metrics *****" and the aligned "key = value" rows under it.
class MetricsTableReader {
 public:
  Outcome read(Session& session, const Piece& piece, std::string_view text);
  void finish(Session& session);

 private:
  struct Row {
    std::string key, value;
  };
  std::vector<Row> rows_;
  bool open_ = false;
  double t_s_ = 0;
  std::int64_t line_ = 0;
};

/// "Step 1 | loss:6.40 lr:5e-07", "epoch 3 step 20: loss = 2.3".
Outcome read_key_value(Session& session, const Piece& piece, std::string_view text);

/// "Total train batch size (…) = 8", "trainable params: …": facts.
Outcome read_banner(Session& session, const Piece& piece, std::string_view text);

/// "Saving model checkpoint to out/checkpoint-200": events.
Outcome read_checkpoint_line(Session& session, const Piece& piece, std::string_view text);

}  // namespace rigwise::logs
