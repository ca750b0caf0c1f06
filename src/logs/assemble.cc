#include "logs/assemble.h"

#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

/// The first control character at or after `at` that is no tab; `end` when there is none.
const char* find_control(const char* at, const char* end) {
#if defined(__SSE2__)
  const __m128i last = _mm_set1_epi8(0x1F), tab = _mm_set1_epi8('\t');
  for (; end - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last), bytes);
    const int found = _mm_movemask_epi8(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), control));
    if (found != 0) return at + __builtin_ctz(static_cast<unsigned>(found));
  }
#endif
  while (at < end && (static_cast<unsigned char>(*at) > 0x1F || *at == '\t')) ++at;
  return at;
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

void LineAssembler::take(std::string_view text, char end, double t_s, bool marks,
                         const OnPiece& on_piece) {
  Piece piece;
  piece.t_s = t_s;
  piece.line = line_;
  piece.end = end;
  piece.cut = text.size() > kMaxPiece;
  if (piece.cut) text = text.substr(0, kMaxPiece);
  const bool back = marks && holds(text, '\b');
  if (!back && !(marks && holds(text, kEscape))) {
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
  while (!bytes.empty()) {
    const char* const begin = bytes.data();
    const char* const end = begin + bytes.size();
    bool marks = false;  // escape sequences or backspaces
    const char* stop = find_control(begin, end);
    while (stop < end && *stop != '\n' && *stop != '\r') {
      marks = marks || *stop == kEscape || *stop == '\b';
      stop = find_control(stop + 1, end);
    }
    const auto size = static_cast<std::size_t>(stop - begin);
    const std::string_view text = bytes.substr(0, size);
    if (stop == end) {
      keep(text, t_s, on_piece);
      return;
    }
    if (skipping_) {
      skipping_ = false;
    } else if (partial_.empty()) {
      take(text, *stop, t_s, marks, on_piece);
    } else {
      if (!text.empty()) partial_t_s_ = t_s;
      partial_.append(text.substr(0, kMaxPiece + 1 - std::min(kMaxPiece, partial_.size())));
      take(partial_, *stop, partial_t_s_, true, on_piece);
      partial_.clear();
    }
    if (*stop == '\n') ++line_;
    bytes.remove_prefix(size + 1);
  }
}

/// The beginning of a piece whose end has not come.
void LineAssembler::keep(std::string_view text, double t_s, const OnPiece& on_piece) {
  if (skipping_ || text.empty()) return;
  partial_t_s_ = t_s;
  partial_.append(text.substr(0, kMaxPiece + 1 - std::min(kMaxPiece, partial_.size())));
  if (partial_.size() <= kMaxPiece) return;
  take(partial_, '\n', t_s, true, on_piece);
  partial_.clear();
  skipping_ = true;
}

void LineAssembler::finish(const OnPiece& on_piece) {
  if (partial_.empty()) return;
  take(partial_, 0, partial_t_s_, true, on_piece);
  partial_.clear();
  ++line_;
}

}  // namespace rigwise::logs
