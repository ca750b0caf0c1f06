// The table that trainer.log_metrics() prints: a line of stars, then "  eval_loss = 2.31" rows.
#include "base/text.h"
#include "logs/readers.h"

namespace rigwise::logs {

Outcome MetricsTableReader::read(Session& session, const Piece& piece, std::string_view text) {
  const std::string_view line = trim(text);
  if (line.starts_with("*****") && line.ends_with("metrics *****")) {
    finish(session);
    open_ = true;
    t_s_ = piece.t_s;
    line_ = piece.line;
    return Outcome::matched;
  }
  if (!open_ || line.empty()) return Outcome::none;
  if (piece.end == 0) return Outcome::matched;  // a row that the end of the stream cuts is no row
  const std::size_t equals = line.find('=');
  const bool row = equals != std::string_view::npos && text.starts_with("  ") &&
                   rows_.size() < 64 && line.size() < 256;
  if (!row) {
    finish(session);
    return Outcome::none;
  }
  rows_.push_back(
      {std::string(trim(line.substr(0, equals))), std::string(trim(line.substr(equals + 1)))});
  t_s_ = piece.t_s;
  return Outcome::matched;
}

void MetricsTableReader::finish(Session& session) {
  if (!open_) return;
  open_ = false;
  std::vector<Field> fields;
  for (const Row& row : rows_) fields.push_back(Field{row.key, row.value, {}});
  auto reading = read_fields(fields);
  if (reading && (reading->has_summary || reading->record.eval_loss)) {
    Piece piece;
    piece.t_s = t_s_;
    piece.line = line_;
    session.add(std::move(*reading), piece, "metrics_table", std::nullopt);
  }
  rows_.clear();
}

}  // namespace rigwise::logs
