#include "logs/assemble.h"

#include <cstring>

namespace rigwise::logs {
namespace {

constexpr char kEscape = '\x1b';
constexpr std::string_view kRedraw = "\b\b\b\b\b\b\b\b";

/// The index after the escape sequence that starts at `at` (an ESC).
std::size_t after_escape(std::string_view text, std::size_t at) {
  if (at + 1 >= text.size()) return text.size();
  const char kind = text[at + 1];
  std::size_t i = at + 2;
  if (kind == '[') {  // CSI: parameters, then one final byte @..~
    while (i < text.size() && (text[i] < '@' || text[i] > '~')) ++i;
    return i < text.size() ? i + 1 : text.size();
  }
  if (kind == ']') {  // OSC: up to BEL or ESC backslash
    while (i < text.size() && text[i] != '\a' && text[i] != kEscape) ++i;
    if (i < text.size() && text[i] == kEscape) ++i;
    return i < text.size() ? i + 1 : text.size();
  }
  return i;
}

bool holds(std::string_view text, char byte) {
  return !text.empty() && std::memchr(text.data(), byte, text.size()) != nullptr;
}

}  // namespace

void clean_terminal_text(std::string_view text, std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < text.size();) {
    const char byte = text[i];
    if (byte == kEscape) {
      i = after_escape(text, i);
    } else if (byte == '\b') {
      while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xC0) == 0x80)
        out.pop_back();  // a character's continuation bytes go with it
      if (!out.empty()) out.pop_back();
      ++i;
    } else {
      out.push_back(byte);
      ++i;
    }
  }
}

void LineAssembler::take(std::string_view text, char end, double t_s, const OnPiece& on_piece) {
  Piece piece;
  piece.t_s = t_s;
  piece.line = line_;
  piece.end = end;
  piece.cut = text.size() > kMaxPiece;
  if (piece.cut) text = text.substr(0, kMaxPiece);
  const bool back = holds(text, '\b');
  if (!back && !holds(text, kEscape)) {
    piece.text = text;
    on_piece(piece);
    return;
  }
  // A run of backspaces goes back over a bar to draw it anew: a redraw as '\r' is.
  while (back) {
    const std::size_t run = text.find(kRedraw);
    if (run == std::string_view::npos) break;
    Piece drawn = piece;
    drawn.end = '\r';
    clean_terminal_text(text.substr(0, run), cleaned_);
    drawn.text = cleaned_;
    on_piece(drawn);
    text.remove_prefix(run);
    while (!text.empty() && text.front() == '\b') text.remove_prefix(1);
  }
  clean_terminal_text(text, cleaned_);
  piece.text = cleaned_;
  on_piece(piece);
}

void LineAssembler::push(std::string_view bytes, double t_s, const OnPiece& on_piece) {
  // Where the next '\n' is, found once for all the redraws before it: memchr runs at memory speed.
  const char* newline = nullptr;
  bool newline_known = false;
  while (!bytes.empty()) {
    if (!newline_known || (newline != nullptr && newline < bytes.data())) {
      newline = static_cast<const char*>(std::memchr(bytes.data(), '\n', bytes.size()));
      newline_known = true;
    }
    std::size_t size =
        newline == nullptr ? bytes.size() : static_cast<std::size_t>(newline - bytes.data());
    const auto* carriage = static_cast<const char*>(std::memchr(bytes.data(), '\r', size));
    if (carriage != nullptr) size = static_cast<std::size_t>(carriage - bytes.data());
    const bool ended = size < bytes.size();
    const std::string_view text = bytes.substr(0, size);
    if (!ended) {
      if (skipping_ || text.empty()) return;
      partial_t_s_ = t_s;
      partial_.append(text.substr(0, kMaxPiece + 1 - std::min(kMaxPiece, partial_.size())));
      if (partial_.size() > kMaxPiece) {
        take(partial_, '\n', t_s, on_piece);
        partial_.clear();
        skipping_ = true;
      }
      return;
    }
    const char end = bytes[size];
    if (skipping_) {
      skipping_ = false;
    } else if (partial_.empty()) {
      take(text, end, t_s, on_piece);
    } else {
      if (!text.empty()) partial_t_s_ = t_s;
      partial_.append(text.substr(0, kMaxPiece + 1 - std::min(kMaxPiece, partial_.size())));
      take(partial_, end, partial_t_s_, on_piece);
      partial_.clear();
    }
    if (end == '\n') ++line_;
    bytes.remove_prefix(size + 1);
  }
}

void LineAssembler::finish(const OnPiece& on_piece) {
  if (partial_.empty()) return;
  take(partial_, 0, partial_t_s_, on_piece);
  partial_.clear();
  ++line_;
}

}  // namespace rigwise::logs
