#include "logs/line_reader.h"

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "logs/bar.h"
#include "logs/peel.h"
#include "logs/readers.h"

namespace rigwise::logs {
namespace {

constexpr std::size_t kMaxOpenBytes = 16 << 10;
constexpr int kMaxOpenLines = 100;
constexpr int kMaxBarLines = 8;
constexpr std::size_t kMaxPlanned = 4096;
constexpr int kMaxDepth = 2;  // a line in a JSON string in a line

bool is_blank_text(std::string_view text) {
  return text.find_first_not_of(" \t") == std::string_view::npos;
}

void note(Outcome& best, Outcome outcome) {
  if (outcome == Outcome::matched || best == Outcome::none) best = outcome;
}

bool holds(std::string_view text, char byte) {
  return !text.empty() && std::memchr(text.data(), byte, text.size()) != nullptr;
}

/// "[1,  2000] loss: 2.2" of PyTorch's beginners: epoch and batch. Bytes taken, or 0.
std::size_t scan_pair_head(std::string_view text, Entry& entry) {
  Number epoch, batch;
  if (!text.starts_with('[') || text.size() < 8 || !is_digit(text[1])) return 0;
  if (!scan_number(text.substr(1), epoch, false) || !epoch.whole) return 0;
  std::size_t at = 1 + epoch.size;
  if (text[at] != ',') return 0;
  ++at;
  while (at < text.size() && text[at] == ' ') ++at;
  if (at >= text.size() || !scan_number(text.substr(at), batch, false) || !batch.whole) return 0;
  at += batch.size;
  if (!text.substr(at).starts_with("] ")) return 0;
  entry.set(Figure::epoch, epoch.value, 60);
  entry.set(Figure::batch, batch.value, 60);
  return at + 1;
}

/// The first word of the line, marks in front let pass, speaks of an evaluation.
bool tells_evaluation(std::string_view line) {
  while (!line.empty() && !is_letter(line[0])) line.remove_prefix(1);
  return starts_with_word(line, "eval") || starts_with_word(line, "validation") ||
         starts_with_word(line, "test ");
}

}  // namespace

LineReader::LineReader(std::vector<LogPattern> patterns, bool plans)
    : use_plans_(plans), patterns_(std::move(patterns)) {}

bool LineReader::emit(Session& session, const Piece& piece, const Entry& entry, Form form,
                      const char* format, Step glued) {
  auto reading = entry.finish(form);
  if (!reading) return false;
  session.add(std::move(*reading), piece, format, glued);
  const std::string_view shape(format);
  if (glued || (shape != "key_value" && shape != "hf_dict" && shape != "jsonl"))
    trace_.fail();
  else
    trace_.told(entry, form, format);
  return true;
}

bool LineReader::waits(std::string_view text) const {
  if (!open_.empty() || !open_bar_.empty() || !torn_.empty() || header_ || block_.open() ||
      !path_follows_.empty())
    return true;
  return table_.known() && ColumnTable::may_be_row(text);
}

/// A line of a shape that is known. Nothing: it has to be read in full after all.
std::optional<Outcome> LineReader::follow_plan(Session& session, const Piece& piece,
                                               const Plan& plan) {
  std::string_view text = piece.text;
  session.rank = peel(text);
  if (plan.kind == Plan::Kind::bar) {
    Bar bar;
    if (!follow(plan, piece.text, bar)) return std::nullopt;
    return session.draw(bar, piece) ? Outcome::matched : Outcome::none;
  }
  entry_.clear();
  entry_.decimal_commas = pairs_.decimal_commas;
  if (!follow(plan, piece.text, entry_)) return std::nullopt;
  if (!emit(session, piece, entry_, plan.form, plan.format, std::nullopt)) return std::nullopt;
  return Outcome::matched;
}

Outcome LineReader::read(Session& session, const Piece& piece) {
  trace_.fail();
  if (!use_plans_ || waits(piece.text) || piece.end == 0 || piece.cut ||
      piece.text.size() > kMaxPlanned)
    return read_anew(session, piece);
  const Signature signature = signature_of(piece.text, piece.end);
  if (plans_.is_nothing(signature)) return Outcome::none;
  if (const Plan* plan = plans_.find(signature))
    if (const auto outcome = follow_plan(session, piece, *plan)) return *outcome;
  trace_.begin(piece.text);
  const Outcome outcome = read_anew(session, piece);
  if (trace_.failed() || waits(piece.text)) return outcome;
  if (outcome == Outcome::none && trace_.untouched() && patterns_.empty())
    plans_.keep_nothing(signature);
  if (outcome == Outcome::matched && trace_.plan().kind != Plan::Kind::none)
    plans_.keep(trace_.plan(), signature);
  return outcome;
}

Outcome LineReader::read_anew(Session& session, const Piece& piece) {
  std::string_view text = piece.text;
  if (has_written_controls(text)) {
    // A collector wrote the control characters out: they are obeyed as if they had come.
    trace_.fail();
    std::string restored = std::move(restored_);
    restore_controls(text, restored);
    Outcome best = Outcome::none;
    std::string cleaned;
    std::string_view rest = restored;
    const auto rank = peel(rest);
    while (true) {
      const std::size_t end = rest.find('\r');
      clean_terminal_text(rest.substr(0, end), cleaned);
      session.rank = rank;
      if (!is_blank_text(cleaned)) note(best, read_text(session, piece, cleaned, 0));
      if (end == std::string_view::npos) break;
      rest.remove_prefix(end + 1);
    }
    restored_ = std::move(restored);
    return best;
  }
  session.rank = peel(text);
  return read_text(session, piece, text, 0);
}

Outcome LineReader::read_text(Session& session, const Piece& piece, std::string_view text,
                              int depth) {
  if (!open_.empty()) return go_on_mapping(session, piece, text, depth);
  if (!open_bar_.empty()) {
    std::string joined = std::move(open_bar_);
    open_bar_.clear();
    const bool counter = !text.empty() && is_digit(strip(text).empty() ? ' ' : strip(text)[0]);
    const bool head = is_bar_head(joined);
    const bool rich = open_rich_;
    const bool indented =
        text.size() > 16 && text.substr(0, 16).find_first_not_of(' ') == text.npos;
    open_rich_ = false;
    if (rich && !indented) {
      const Outcome before = read_pairs(session, piece, joined, std::nullopt);
      const Outcome now = read_text(session, piece, text, depth);
      return now == Outcome::none ? before : now;
    }
    if (rich) {
      joined += ' ';
      joined += strip(text);
      open_bar_ = std::move(joined);
      open_rich_ = true;
      if (++open_bar_lines_ < kMaxBarLines) return Outcome::matched;
      const std::string whole = std::move(open_bar_);
      open_bar_.clear();
      open_rich_ = false;
      return read_pairs(session, piece, whole, std::nullopt);
    }
    if (head ? counter : open_bar_lines_ < kMaxBarLines) {
      joined += ' ';
      joined += text;
      ++open_bar_lines_;
      return read_around_bars(session, piece, joined, depth);
    }
    const Outcome before = read_around_bars(session, piece, joined + "]", depth);
    const Outcome now = read_text(session, piece, text, depth);
    return now == Outcome::none ? before : now;
  }
  open_bar_lines_ = 0;
  return read_around_bars(session, piece, text, depth);
}

/// Bars first: what is left and right of them is read on its own.
Outcome LineReader::read_around_bars(Session& session, const Piece& piece, std::string_view text,
                                     int depth) {
  const Shape shape = shape_of(text);
  if ((shape & kBracket) == 0) {
    if ((shape & kPercent) != 0 && piece.end == '\n' && text.size() < 2048 && is_bar_head(text)) {
      open_bar_ = text;
      return Outcome::matched;
    }
    // rich breaks a bar that is too wide into indented lines.
    if ((shape & kHigh) != 0 && piece.end == '\n' && text.size() < 1024 && is_rich_bar(text)) {
      open_bar_ = text;
      open_rich_ = true;
      return Outcome::matched;
    }
    return read_part(session, piece, text, std::nullopt, depth);
  }
  Outcome best = Outcome::none;
  std::size_t from = 0;
  Step glued;
  while (true) {
    auto bar = find_bar(text, from, pairs_);
    if (bar && bar->open && piece.end == 0) break;  // the end of the stream cut it
    if (bar && bar->open && piece.end == '\n' && text.size() < kMaxOpenBytes &&
        strip(text).ends_with(',')) {
      open_bar_ = text;
      return Outcome::matched;
    }
    const std::string_view part =
        text.substr(from, bar ? bar->begin - from : std::string_view::npos);
    // Words in front of a bar are its description.
    const bool description = bar && part.size() < 200 && part.find('{') == part.npos &&
                             (part.find('=') == part.npos || bar->figures.has(Figure::loss));
    if (!is_blank_text(part) && !description) {
      if (bar || from > 0) trace_.fail();
      note(best, read_part(session, piece, part, glued, depth));
    }
    if (!bar) break;
    note(best, draw(session, piece, *bar));
    trace_.told(*bar, text);
    const bool training = bar->total && session.progress->total == bar->total;
    glued = training ? Step(bar->n) : std::nullopt;
    from = std::max(bar->end, from + 1);
    if (from >= text.size()) break;
  }
  return best;
}

Outcome LineReader::draw(Session& session, const Piece& piece, Bar& bar) {
  if (table_.known() && !bar.description.empty()) {  // YOLO: a row of its table before the bar
    entry_.clear();
    if (table_.bar_row(bar.description, entry_)) {
      entry_.fill_from(bar.figures);
      entry_.set(Figure::batch, static_cast<double>(bar.n));
      if (emit(session, piece, entry_, Form::table, "columns", std::nullopt))
        return Outcome::matched;
    }
  }
  return session.draw(bar, piece) ? Outcome::matched : Outcome::none;
}

Outcome LineReader::read_part(Session& session, const Piece& piece, std::string_view text,
                              Step glued, int depth) {
  if (holds(text, '{')) {
    const Outcome outcome = read_mappings(session, piece, text, glued, depth);
    if (outcome == Outcome::none && !trace_.untouched()) trace_.fail();
    if (outcome != Outcome::none || !open_.empty()) return outcome;
  }
  return read_plain(session, piece, text, glued);
}

Outcome LineReader::read_plain(Session& session, const Piece& piece, std::string_view text,
                               Step glued) {
  // Blocks: rows of one pair each.
  const std::string_view line = strip(text);
  const char first = line.empty() ? ' ' : line[0];
  if (header_ && !block_.open() && !line.empty()) {
    --header_patience_;
    const bool row = text.size() > 2 && is_blank(text[0]) && is_blank(text[1]) &&
                     text.size() < 512 && BlockReader::is_row(line);
    if (row) {
      block_.open_indented(*header_);
      block_piece_ = *header_piece_;
    }
    if (row || header_patience_ <= 0) header_.reset();
  }
  const bool boxed = first == '|' || line.starts_with("\xe2\x94\x82") ||
                     line.starts_with("\xe2\x94\x83");  // "│", "┃"
  if (block_.open() || first == '|' || first == '*' || first == 'w' || first == 'R' ||
      (class_of(first) & kHigh) != 0) {
    if (boxed && !block_.open() && table_.header(text)) return Outcome::matched;
    bool done = false;
    if (table_.known() && !block_.open() && boxed) {
      entry_.clear();
      if (table_.row(text, entry_) && emit(session, piece, entry_, Form::table, "columns", glued))
        return Outcome::matched;
    }
    const bool row = block_.read(text, piece.end == 0, done);
    if (done) emit_block(session, piece);
    if (row) {
      if (block_.open()) block_piece_ = piece;
      return Outcome::matched;
    }
  }
  if (first == '<') {  // a notebook's table
    bool used = false;
    entry_.clear();
    if (table_.html(text, entry_, used))
      emit(session, piece, entry_, Form::table, "columns", std::nullopt);
    if (used) return Outcome::matched;
  }
  const Shape shape = shape_of(text);
  if ((shape & kDigit) != 0 || (shape & (kSign | kHigh)) != 0) {
    const Outcome outcome = read_pairs(session, piece, text, glued);
    if (outcome == Outcome::matched) {
      if (hints_of(text).saves) {
        trace_.fail();
        read_checkpoint_line(session, piece, text);
      }
      return outcome;
    }
  }
  flush_torn(session);
  // "--> EVAL PERFORMANCE": indented lines may tell its figures.
  if ((shape & kDigit) == 0 && line.size() < 40 && tells_evaluation(line)) {
    header_.emplace();
    header_->clear();
    header_->evaluation = true;
    header_piece_ = piece;
    header_patience_ = 1;
  }
  if ((shape & kSign) == 0 && table_.header(text)) return Outcome::matched;
  return read_lines_of_their_own(session, piece, text) ? Outcome::matched : Outcome::none;
}

/// Facts, checkpoints, the end: sentences.
bool LineReader::read_lines_of_their_own(Session& session, const Piece& piece,
                                         std::string_view text) {
  if (!patterns_.empty()) {
    entry_.clear();
    if (patterns_.match(text, entry_) &&
        emit(session, piece, entry_, Form::mapping, "pattern", std::nullopt))
      return true;
  }
  // "Eval begin...": bars that look like training's follow.
  if (text.size() < 40 && (starts_with_word(strip(text), "eval begin") ||
                           starts_with_word(strip(text), "evaluation begin")))
    evaluating_ = true, trace_.fail();
  const Hints hints = hints_of(text);
  entry_.clear();
  if (hints.better && read_improvement(text, meanings_, pairs_, entry_) &&
      emit(session, piece, entry_, Form::block, "improved", std::nullopt)) {
    if (hints.saves) read_checkpoint_line(session, piece, text);
    return true;
  }
  entry_.clear();
  if (hints.training && read_ending(text, entry_)) {
    emit(session, piece, entry_, Form::pairs, "sentence", std::nullopt);
    return true;
  }
  if (contains(text, "***** R")) trace_.fail();  // evaluation or training
  if (hints.banner || hints.training) {
    if (session.evaluation_banner) trace_.fail();  // the same words are told of the training later
    if (read_banner(session, piece, text)) return true;
  }
  if (!path_follows_.empty()) {  // spaCy: the path stands on the next line
    path_follows_.clear();
    if (text.size() < 512 && strip(text).find(' ') == std::string_view::npos) {
      session.checkpoint(strip(text), {}, false, piece);
      return true;
    }
  }
  if (!hints.saves) return false;
  if (strip(text).ends_with("aved pipeline to output directory")) path_follows_ = "yes";
  return read_checkpoint_line(session, piece, text);
}

Outcome LineReader::read_pairs(Session& session, const Piece& piece, std::string_view text,
                               Step glued) {
  entry_.clear();
  const Shape shape = shape_of(text);
  const bool bar_may =
      (shape & kHigh) != 0 || is_digit(text[0]) || text[0] == ' ' || text[0] == 's';
  if (const auto bar = bar_may ? find_glyph_bar(text, pairs_) : std::nullopt) {
    trace_.fail();
    flush_torn(session);
    Entry figures = bar->figures;
    if (!bar->figures.has(Figure::step)) {  // Keras: counts inside the epoch
      figures.set(Figure::batch, static_cast<double>(bar->n));
      if (!header_total_) header_total_ = bar->total;
      if (header_total_ != bar->total) epoch_header_.reset();  // another loop than the epoch's
      if (epoch_header_ && !figures.has(Figure::epoch)) figures.set(Figure::epoch, *epoch_header_);
      figures.evaluation = figures.evaluation || evaluating_;
      if (evaluating_) figures.drop(Figure::epoch);
    }
    if (table_.known() && !bar->description.empty()) {
      entry_.clear();
      if (table_.bar_row(bar->description, entry_)) {
        entry_.fill_from(bar->figures);
        entry_.drop(Figure::step);
        entry_.set(Figure::batch, static_cast<double>(bar->n));
        if (emit(session, piece, entry_, Form::table, "columns", std::nullopt))
          return Outcome::matched;
      }
    }
    if (bar->use != BarUse::unnamed && bar->use != BarUse::training) return Outcome::none;
    if (emit(session, piece, figures, Form::mapping, "bar", glued)) return Outcome::matched;
    return Outcome::none;
  }
  if (read_boosting(text, entry_)) {
    flush_torn(session);
    return emit(session, piece, entry_, Form::pairs, "rounds", glued) ? Outcome::matched
                                                                      : Outcome::none;
  }
  if (table_.known()) {
    entry_.clear();
    if (table_.row(text, entry_)) {
      flush_torn(session);
      if (emit(session, piece, entry_, Form::table, "columns", glued)) return Outcome::matched;
    }
  }
  entry_.clear();
  const std::string_view line = strip(text);
  const std::size_t head = scan_counted_head(line, entry_);
  if (head > 0) trace_.fail();
  if (const std::size_t at = scan_pair_head(line, entry_); at > 0 && head == 0) {
    trace_.fail();
    pairs_.read(line.substr(at), entry_);
  } else {
    entry_.evaluation = entry_.evaluation || contains(line, "Saving dict for ");  // tf.estimator
    pairs_.read(line.substr(head), entry_);
  }
  if (!torn_.empty() && mend_torn(session)) return Outcome::matched;
  flush_torn(session);
  const Entry& last = *(pairs_.end() - 1);
  const bool one = pairs_.size() == 1;
  if (one && last.has(Figure::epoch) && last.figures() <= 2 && line.size() < 60 &&
      !last.has(Figure::loss) && !last.evaluation)
    begin_epoch(last.value(Figure::epoch));
  // Nothing but a place: indented lines may tell the figures.
  const bool place = last.has(Figure::step) || last.has(Figure::batch);
  if (place &&
      last.figures() <= 1 + (last.has(Figure::epoch) ? 1 : 0) +
                            (last.has(Figure::batch) && last.has(Figure::step) ? 1 : 0) &&
      line.size() < 200) {
    header_ = last;
    header_piece_ = piece;
    // "===== Step 3/100 =====": what it heads may stand further down.
    header_patience_ = line.starts_with("===") || line.starts_with("---") ? 8 : 1;
    if (line.ends_with(':')) return Outcome::matched;
  }
  // Another process's line tore this one: its end comes on the next.
  if (pairs_.size() > 1) {
    const auto whole = static_cast<int>(last.figures());
    for (const Entry& entry : pairs_)
      if (entry.figures() < whole && entry.has(Figure::loss)) {
        torn_.assign(pairs_.begin(), pairs_.end());
        torn_piece_ = piece;
        return Outcome::matched;
      }
  }
  Outcome best = Outcome::none;
  for (const Entry& entry : pairs_)
    if (emit(session, piece, entry, Form::pairs, "key_value", glued)) best = Outcome::matched;
  return best;
}

void LineReader::begin_epoch(double epoch) {
  trace_.fail();
  epoch_header_ = epoch;
  header_total_.reset();
  evaluating_ = false;
}

/// The rest of a torn record on a line of its own: figures without a place.
bool LineReader::mend_torn(Session& session) {
  const Entry& rest = *pairs_.begin();
  if (pairs_.size() != 1 || rest.figures() == 0 || rest.has(Figure::step) ||
      rest.has(Figure::loss) || rest.has(Figure::rank) || rest.has(Figure::epoch))
    return false;
  std::size_t fewest = 0;
  for (std::size_t i = 1; i < torn_.size(); ++i)
    if (torn_[i].figures() < torn_[fewest].figures()) fewest = i;
  torn_[fewest].fill_from(rest);
  flush_torn(session);
  return true;
}

void LineReader::flush_torn(Session& session) {
  if (torn_.empty()) return;
  std::vector<Entry> entries;
  entries.swap(torn_);
  for (const Entry& entry : entries)
    emit(session, torn_piece_, entry, Form::pairs, "key_value", std::nullopt);
}

Outcome LineReader::emit_block(Session& session, const Piece& piece) {
  Piece at = block_piece_;
  at.t_s = piece.t_s;
  const BlockReader::Kind kind = block_.kind();
  const char* format = kind == BlockReader::Kind::metrics   ? "metrics_table"
                       : kind == BlockReader::Kind::summary ? "run_summary"
                                                            : "block";
  // Its "train_loss" is a mean: only what ends the table says so.
  const Entry& told = block_.entry();
  if (kind == BlockReader::Kind::metrics && !told.has(Figure::train_runtime_s) &&
      !told.has(Figure::eval_loss) && !told.has(Figure::eval_runtime_s))
    return Outcome::none;
  const Form form = kind == BlockReader::Kind::box ? Form::mapping : Form::block;
  return emit(session, at, block_.entry(), form, format, std::nullopt) ? Outcome::matched
                                                                       : Outcome::none;
}

// ------------------------------------------------------------------------------------------------
// mappings

Outcome LineReader::use_mapping(Session& session, const Piece& piece, const Mapping& mapping,
                                Step glued, int depth) {
  if (emit(session, piece, entry_, Form::mapping, mapping.json ? "jsonl" : "hf_dict", glued))
    return Outcome::matched;
  if (!mapping.saving.empty() && (!mapping.path.empty() || entry_.has(Figure::step))) {
    trace_.fail();
    std::string path;
    unescape(mapping.path, path);
    std::optional<std::int64_t> step;
    if (path.empty()) step = whole_number(entry_.value(Figure::step));
    session.checkpoint(path, step, !contains(mapping.saving, "saving"), piece);
    return Outcome::matched;
  }
  if (mapping.message.empty() || depth >= kMaxDepth) return Outcome::none;
  // A logger wrapped the line into JSON.
  std::string inner;
  unescape(mapping.message, inner);
  std::string cleaned;
  clean_terminal_text(inner, cleaned);
  std::string_view text = cleaned;
  const auto rank = peel(text);
  if (rank) session.rank = rank;
  return read_text(session, piece, text, depth + 1);
}

Outcome LineReader::read_mappings(Session& session, const Piece& piece, std::string_view text,
                                  Step glued, int depth) {
  Outcome outcome = Outcome::none;
  std::size_t from = 0;
  for (std::size_t at = text.find('{'); at != std::string_view::npos;) {
    const bool opens_line = is_blank_text(text.substr(at + 1)) && piece.end == '\n';
    if (!starts_mapping(text, at) && !opens_line) {
      at = text.find('{', at + 1);
      continue;
    }
    // "epoch 0: {'accuracy': 0.68}": what stands in front tells the place.
    Entry base;
    base.clear();
    const std::string_view front = strip(text.substr(from, at - from));
    if (!front.empty() && front.size() <= 200 && (shape_of(front) & kDigit) != 0) {
      pairs_.read(front, base);
      if (!trace_.untouched()) trace_.fail();
      base = *pairs_.begin();
      for (const Entry& more : pairs_) base.fill_from(more);  // the logger may repeat the place
      if (base.has(Figure::loss) || base.has(Figure::eval_loss)) base.clear();
      base.drop(Figure::mem);
      base.pairs = 0;
    }
    entry_.clear();
    const Mapping mapping = scan_mapping(text.substr(at), meanings_, trace_, entry_);
    if (mapping.state == MappingState::broken) {
      if (outcome == Outcome::none && contains(text.substr(at), "loss"))
        outcome = Outcome::malformed;
      at = text.find('{', at + 1);
      continue;
    }
    if (mapping.state == MappingState::open) {
      if (piece.end == 0 || piece.cut) {  // no more will come: what is whole counts
        entry_.fill_from(base);
        note(outcome, use_mapping(session, piece, mapping, glued, depth));
        return outcome;
      }
      if (text.size() - at < kMaxOpenBytes) {
        open_ = text.substr(at);
        open_lines_ = 1;
        open_step_ = glued;
        open_base_ = base;
      }
      return outcome;
    }
    if (!base.empty()) trace_.fail();
    entry_.fill_from(base);
    const Outcome used = use_mapping(session, piece, mapping, glued, depth);
    if (used == Outcome::none && !trace_.untouched()) trace_.fail();
    note(outcome, used);
    glued.reset();
    from = at + mapping.size;
    at = text.find('{', from);
  }
  return outcome;
}

Outcome LineReader::go_on_mapping(Session& session, const Piece& piece, std::string_view text,
                                  int depth) {
  const std::string_view trimmed = strip(text);
  // Another entry begins: the open one was torn, or was none.
  if (trimmed.starts_with("{'") || trimmed.starts_with("{\"") ||
      (trimmed.starts_with('{') && trimmed.size() == 1)) {
    const Outcome torn = close_mapping(session, piece);
    const Outcome next = read_text(session, piece, text, depth);
    return next == Outcome::none ? torn : next;
  }
  open_ += '\n';
  open_ += text;
  ++open_lines_;
  if (holds(trimmed, '}') || piece.end == 0) {
    entry_.clear();
    const Mapping mapping = scan_mapping(open_, meanings_, trace_, entry_);
    if (mapping.state == MappingState::complete || piece.end == 0) {
      entry_.fill_from(open_base_);
      const std::string text_behind = mapping.state == MappingState::complete
                                          ? open_.substr(std::min(mapping.size, open_.size()))
                                          : std::string();
      open_.clear();
      Outcome outcome = use_mapping(session, piece, mapping, open_step_, depth);
      if (!is_blank_text(text_behind)) note(outcome, read_text(session, piece, text_behind, depth));
      return outcome;
    }
    if (mapping.state == MappingState::broken) return close_mapping(session, piece);
  }
  if (open_.size() > kMaxOpenBytes || open_lines_ > kMaxOpenLines)
    return close_mapping(session, piece);
  return Outcome::none;
}

Outcome LineReader::close_mapping(Session& session, const Piece& piece) {
  if (open_.empty()) return Outcome::none;
  std::string text = std::move(open_);
  open_.clear();
  entry_.clear();
  const Mapping mapping = scan_mapping(text, meanings_, trace_, entry_);
  entry_.fill_from(open_base_);
  if (mapping.state != MappingState::broken &&
      use_mapping(session, piece, mapping, open_step_, kMaxDepth) == Outcome::matched)
    return Outcome::matched;
  return contains(text, "loss'") || contains(text, "loss\"") ? Outcome::malformed : Outcome::none;
}

Outcome LineReader::finish(Session& session, const Piece& piece) {
  Outcome outcome = close_mapping(session, piece);
  if (!open_bar_.empty()) {
    std::string joined = std::move(open_bar_);
    open_bar_.clear();
    if (open_rich_) {
      open_rich_ = false;
      note(outcome, read_pairs(session, piece, joined, std::nullopt));
    } else {
      joined += ']';
      note(outcome, read_around_bars(session, piece, joined, 0));
    }
  }
  flush_torn(session);
  if (block_.close()) note(outcome, emit_block(session, piece));
  return outcome;
}

}  // namespace rigwise::logs
