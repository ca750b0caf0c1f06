// Dict lines ({'loss': '2.31', …}, Hugging Face Trainer, TRL and kin) and JSON lines.
#include "base/text.h"
#include "logs/readers.h"

namespace rigwise::logs {
namespace {

constexpr std::size_t kMaxOpenBytes = 16 << 10;
constexpr int kMaxOpenLines = 100;

/// Does a mapping start at this brace: {'key or {"key, blanks allowed?
bool starts_mapping(std::string_view text, std::size_t brace) {
  std::size_t at = brace + 1;
  while (at < text.size() && (text[at] == ' ' || text[at] == '\t')) ++at;
  return at < text.size() && (text[at] == '\'' || text[at] == '"');
}

bool only_blanks_after(std::string_view text, std::size_t at) {
  return trim(text.substr(at)).empty();
}

}  // namespace

Outcome MappingReader::use(Session& session, const Piece& piece, const Mapping& mapping,
                           std::optional<std::int64_t> glued_step) {
  auto reading = read_fields(mapping.fields);
  if (!reading) return Outcome::none;
  const StepRecord& record = reading->record;
  const bool entry = reading->has_loss || record.eval_loss || reading->has_summary ||
                     (reading->has_eval && record.runtime_s) ||
                     (record.step && reading->figures >= 2 &&
                      (record.step_time_s || record.steps_per_s || record.samples_per_s ||
                       record.tokens_per_s || record.lr));
  if (!entry) return Outcome::none;
  session.add(std::move(*reading), piece, mapping.json ? "jsonl" : "hf_dict", glued_step);
  return Outcome::matched;
}

Outcome MappingReader::take(Session& session, const Piece& piece, std::string_view text,
                            std::optional<std::int64_t> glued_step) {
  Outcome outcome = Outcome::none;
  for (std::size_t at = text.find('{'); at != std::string_view::npos;) {
    const bool opens_line = only_blanks_after(text, at + 1) && piece.end == '\n';
    if (!starts_mapping(text, at) && !opens_line) {
      at = text.find('{', at + 1);
      continue;
    }
    const Mapping mapping = scan_mapping(text.substr(at));
    if (mapping.malformed) {
      if (outcome == Outcome::none && contains(text.substr(at), "loss"))
        outcome = Outcome::malformed;
      at = text.find('{', at + 1);
      continue;
    }
    if (!mapping.complete) {
      if (piece.end == 0 || piece.cut) {  // no more will come: what is whole counts
        if (use(session, piece, mapping, glued_step) == Outcome::matched)
          outcome = Outcome::matched;
        return outcome;
      }
      if (text.size() - at < kMaxOpenBytes) {
        open_ = std::string(text.substr(at));
        open_lines_ = 1;
        open_step_ = glued_step;
      }
      return outcome;
    }
    if (use(session, piece, mapping, glued_step) == Outcome::matched) outcome = Outcome::matched;
    glued_step.reset();
    at = text.find('{', at + mapping.size);
  }
  return outcome;
}

Outcome MappingReader::read(Session& session, const Piece& piece, std::string_view text,
                            std::optional<std::int64_t> glued_step) {
  if (open_.empty()) {
    if (text.find('{') == std::string_view::npos) return Outcome::none;
    return take(session, piece, text, glued_step);
  }
  const std::string_view trimmed = trim(text);
  // Another entry begins: the open one was torn, or was none.
  if (trimmed.starts_with("{'") || trimmed.starts_with("{\"")) {
    const Outcome torn = finish(session, piece);
    const Outcome next = take(session, piece, text, glued_step);
    return next == Outcome::none ? torn : next;
  }
  open_ += '\n';
  open_ += text;
  ++open_lines_;
  const bool last = trimmed.find('}') != std::string_view::npos;
  if (last || piece.end == 0) {
    const Mapping mapping = scan_mapping(open_);
    if (mapping.complete || piece.end == 0) {
      const Outcome outcome = use(session, piece, mapping, open_step_);
      open_.clear();
      return outcome;
    }
  }
  if (open_.size() > kMaxOpenBytes || open_lines_ > kMaxOpenLines) return finish(session, piece);
  return Outcome::none;
}

Outcome MappingReader::finish(Session& session, const Piece& piece) {
  if (open_.empty()) return Outcome::none;
  const std::string text = std::move(open_);
  open_.clear();
  const Mapping mapping = scan_mapping(text);
  if (use(session, piece, mapping, open_step_) == Outcome::matched) return Outcome::matched;
  return contains(text, "loss'") || contains(text, "loss\"") ? Outcome::malformed : Outcome::none;
}

}  // namespace rigwise::logs
