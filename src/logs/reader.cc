#include <algorithm>

#include "base/text.h"
#include "logs/assemble.h"
#include "logs/readers.h"
#include "logs/session.h"
#include "rigwise/logs.h"

namespace rigwise {
namespace {

using logs::Outcome;
using logs::Piece;

bool is_blank_text(std::string_view text) {
  return text.find_first_not_of(" \t") == std::string_view::npos;
}

}  // namespace

struct LogReader::State {
  explicit State(std::string log_file) : session(std::move(log_file)) {}

  logs::LineAssembler assembler;
  logs::Session session;
  logs::MappingReader mappings;
  logs::MetricsTableReader tables;
  ReadStatistics statistics;
  std::int64_t line = 0;  // of the last piece
  bool line_matched = false, line_malformed = false, line_has_text = false;
  std::string line_text;  // the beginning, for first_bad_text

  void take(const Piece& piece);
  Outcome read(const Piece& piece);
  void close_line();
};

/// One line may hold many pieces (redraws); it counts once.
void LogReader::State::close_line() {
  if (line == 0) return;
  if (line_matched) {
    ++statistics.matched;
  } else if (line_malformed) {
    ++statistics.malformed;
    if (statistics.first_bad_line == 0) {
      statistics.first_bad_line = line;
      statistics.first_bad_text = clean_text(line_text, 200);
    }
  } else if (line_has_text) {
    ++statistics.skipped;
  }
  line_matched = line_malformed = line_has_text = false;
}

Outcome LogReader::State::read(const Piece& piece) {
  std::string_view text = piece.text;
  session.rank = logs::strip_rank_prefix(text);
  Outcome best = Outcome::none;
  const auto note = [&best](Outcome outcome) {
    if (outcome == Outcome::matched || best == Outcome::none) best = outcome;
  };
  // Bars first: what is left and right of them is read on its own.
  std::size_t from = 0;
  std::optional<std::int64_t> glued_step;
  while (true) {
    const auto bar =
        text.find('[', from) == std::string_view::npos ? std::nullopt : logs::find_bar(text, from);
    std::string_view part = text.substr(from, bar ? bar->begin - from : std::string_view::npos);
    // Words in front of a bar are its description.
    const bool description = bar && part.size() < 200 && part.find_first_of("{=") == part.npos;
    if (!is_blank_text(part) && !description) {
      const bool was_waiting = mappings.waiting();
      const Outcome mapping = mappings.read(session, piece, part, glued_step);
      note(mapping);
      if (mapping == Outcome::none && !was_waiting && !mappings.waiting()) {
        Outcome other = tables.read(session, piece, part);
        if (other == Outcome::none) other = logs::read_banner(session, piece, part);
        if (other == Outcome::none) other = logs::read_checkpoint_line(session, piece, part);
        if (other == Outcome::none) other = logs::read_key_value(session, piece, part);
        note(other);
      }
    }
    if (!bar) break;
    if (session.draw(*bar, piece)) note(Outcome::matched);
    const bool training = bar->total && session.progress->total == bar->total;
    glued_step = training ? std::optional(bar->n) : std::nullopt;
    from = std::max(bar->end, from + 1);
    if (from >= text.size()) break;
  }
  return best;
}

void LogReader::State::take(const Piece& piece) {
  if (piece.line != line) {
    close_line();
    line = piece.line;
    line_text.clear();
  }
  if (is_blank_text(piece.text)) {
    if (piece.text.size() >= 10) session.cleared();
    return;
  }
  line_has_text = true;
  if (line_text.empty()) line_text = piece.text.substr(0, 200);
  if (piece.cut) line_malformed = true;
  const Outcome outcome = read(piece);
  line_matched = line_matched || outcome == Outcome::matched;
  line_malformed = line_malformed || outcome == Outcome::malformed;
}

LogReader::LogReader(std::string log_file) : state_(std::make_unique<State>(std::move(log_file))) {}
LogReader::LogReader(LogReader&&) noexcept = default;
LogReader& LogReader::operator=(LogReader&&) noexcept = default;
LogReader::~LogReader() = default;

void LogReader::join(LogReader& other) {
  state_->session.progress = other.state_->session.progress;
}

LogBatch LogReader::push(std::string_view bytes, double t_s) {
  LogBatch batch;
  State& state = *state_;
  state.session.out = &batch;
  state.assembler.push(bytes, t_s, [&state](const Piece& piece) { state.take(piece); });
  state.session.release(t_s, false);
  state.statistics.lines = state.assembler.lines();
  state.session.out = nullptr;
  return batch;
}

LogBatch LogReader::finish(double t_s) {
  LogBatch batch;
  State& state = *state_;
  state.session.out = &batch;
  state.assembler.finish([&state](const Piece& piece) { state.take(piece); });
  Piece end;
  end.t_s = t_s;
  end.line = std::max<std::int64_t>(state.line, 1);
  end.end = 0;
  if (state.mappings.finish(state.session, end) == Outcome::matched) state.line_matched = true;
  state.tables.finish(state.session);
  state.session.end(t_s);
  state.close_line();
  state.line = 0;
  state.statistics.lines = state.assembler.lines();
  state.session.out = nullptr;
  return batch;
}

const ReadStatistics& LogReader::statistics() const {
  return state_->statistics;
}

int LogReader::copies() const {
  return state_->session.copies();
}

}  // namespace rigwise
