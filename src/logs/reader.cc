#include <algorithm>
#include <optional>

#include "base/text.h"
#include "logs/assemble.h"
#include "logs/line_reader.h"
#include "logs/session.h"
#include "rigwise/logs.h"

namespace rigwise {
namespace {

using logs::Outcome;
using logs::Piece;

bool is_blank_text(std::string_view text) {
  for (const char byte : text)
    if (byte != ' ' && byte != '\t') return false;
  return true;
}

}  // namespace

struct LogReader::State {
  State(std::string log_file, std::vector<LogPattern> patterns)
      : session(std::move(log_file)), reader(std::move(patterns)) {}

  logs::LineAssembler assembler;
  logs::Session session;
  logs::LineReader reader;
  ReadStatistics statistics;
  std::int64_t line = 0;           // of the last piece
  std::optional<double> t_s = {};  // when the last piece with text was there
  bool line_matched = false, line_malformed = false, line_has_text = false;
  std::string line_text;  // the beginning of what was malformed in it

  void take(const Piece& piece);
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

void LogReader::State::take(const Piece& piece) {
  if (piece.line != line) {
    close_line();
    line = piece.line;
  }
  if (is_blank_text(piece.text)) {
    if (piece.text.size() >= 10) session.cleared();
    return;
  }
  line_has_text = true;
  t_s = piece.t_s;
  const Outcome outcome = reader.read(session, piece);
  line_matched = line_matched || outcome == Outcome::matched;
  if (piece.cut || outcome == Outcome::malformed) {
    if (!line_malformed && statistics.first_bad_line == 0) line_text = piece.text.substr(0, 200);
    line_malformed = true;
  }
}

LogReader::LogReader(std::string log_file, std::vector<LogPattern> patterns)
    : state_(std::make_unique<State>(std::move(log_file), std::move(patterns))) {}
LogReader::LogReader(LogReader&&) noexcept = default;
LogReader& LogReader::operator=(LogReader&&) noexcept = default;
LogReader::~LogReader() = default;

void LogReader::join(LogReader& other) {
  state_->session.progress = other.state_->session.progress;
}

LogBatch LogReader::push(std::string_view bytes, double t_s) {
  LogBatch batch;
  push_into(bytes, t_s, batch);
  return batch;
}

void LogReader::push_into(std::string_view bytes, double t_s, LogBatch& batch) {
  batch.steps.clear();
  batch.events.clear();
  batch.steps_before.clear();
  batch.facts.clear();
  State& state = *state_;
  state.session.out = &batch;
  state.assembler.push(bytes, t_s, [&state](const Piece& piece) { state.take(piece); });
  state.session.release(t_s, false);
  state.statistics.lines = state.assembler.lines();
  state.session.out = nullptr;
}

LogBatch LogReader::finish(double t_s) {
  LogBatch batch;
  State& state = *state_;
  state.session.out = &batch;
  state.assembler.finish([&state](const Piece& piece) { state.take(piece); });
  Piece end;
  end.t_s = state.t_s.value_or(t_s);  // what waited for more was there then, not at the log's end
  end.line = std::max<std::int64_t>(state.line, 1);
  end.end = 0;
  const Outcome last = state.reader.finish(state.session, end);
  state.line_matched = state.line_matched || last == Outcome::matched;
  state.line_malformed = state.line_malformed || last == Outcome::malformed;
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
