// LineReader: one piece of text → the records it tells. Bars, mappings, tables, blocks and pairs
// are tried in the order of how sure their shape is; what waits for the next line is kept here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "logs/bar.h"
#include "logs/block.h"
#include "logs/entry.h"
#include "logs/mapping.h"
#include "logs/meaning.h"
#include "logs/pairs.h"
#include "logs/pattern.h"
#include "logs/plan.h"
#include "logs/session.h"
#include "logs/table.h"

namespace rigwise::logs {

enum class Outcome { none, matched, malformed };

class LineReader {
 public:
  /// `plans`: lines of a known shape are read by it. False reads every line in full: what comes out
  /// is the same, which tests hold it to.
  explicit LineReader(std::vector<LogPattern> patterns, bool plans = true);

  Outcome read(Session& session, const Piece& piece);
  /// The end of the stream: what waited counts as far as it is whole.
  Outcome finish(Session& session, const Piece& piece);

 private:
  using Step = std::optional<std::int64_t>;

  /// Something of the lines before decides how the next is read.
  [[nodiscard]] bool waits(std::string_view text) const;
  std::optional<Outcome> follow_plan(Session& session, const Piece& piece, const Plan& plan);
  Outcome read_anew(Session& session, const Piece& piece);
  Outcome read_text(Session& session, const Piece& piece, std::string_view text, int depth);
  Outcome read_around_bars(Session& session, const Piece& piece, std::string_view text, int depth);
  Outcome read_part(Session& session, const Piece& piece, std::string_view text, Step glued,
                    int depth);
  Outcome read_plain(Session& session, const Piece& piece, std::string_view text, Step glued);
  Outcome read_pairs(Session& session, const Piece& piece, std::string_view text, Step glued);
  bool read_lines_of_their_own(Session& session, const Piece& piece, std::string_view text);

  Outcome read_mappings(Session& session, const Piece& piece, std::string_view text, Step glued,
                        int depth);
  Outcome go_on_mapping(Session& session, const Piece& piece, std::string_view text, int depth);
  Outcome close_mapping(Session& session, const Piece& piece);
  Outcome use_mapping(Session& session, const Piece& piece, const Mapping& mapping, Step glued,
                      int depth);

  Outcome draw(Session& session, const Piece& piece, Bar& bar);
  bool emit(Session& session, const Piece& piece, const Entry& entry, Form form, const char* format,
            Step glued);
  Outcome emit_block(Session& session, const Piece& piece);
  bool mend_torn(Session& session);
  void begin_epoch(double epoch);
  void flush_torn(Session& session);

  Meanings meanings_;
  const bool use_plans_;
  Trace trace_;
  PlanCache plans_;
  PairReader pairs_{meanings_, trace_};
  ColumnTable table_{meanings_};
  BlockReader block_{meanings_};
  Patterns patterns_;
  Entry entry_;  // of the mapping, row or line being read

  std::string open_;  // a mapping whose closing brace has not come yet
  int open_lines_ = 0;
  Step open_step_;
  Entry open_base_;

  std::string open_bar_;  // a bar whose ']' or counter has not come yet
  int open_bar_lines_ = 0;

  bool open_rich_ = false;  // … of rich, that may go on in indented lines

  std::optional<double> epoch_header_;        // "Epoch 3/10" on a line of its own: Keras
  std::optional<std::int64_t> header_total_;  // of the epoch's own bars
  bool evaluating_ = false;                   // "Eval begin...": bars tell an evaluation

  std::string path_follows_;  // the line before announced a checkpoint's path

  std::optional<Entry> header_;  // the line before told a place and nothing else
  std::optional<Piece> header_piece_;
  int header_patience_ = 0;  // lines that may stand between it and the first row

  // Records of a line that were torn by another process's, and where they stood.
  std::vector<Entry> torn_;
  Piece torn_piece_;

  std::string restored_, unescaped_, joined_;
  Piece block_piece_;
};

}  // namespace rigwise::logs
