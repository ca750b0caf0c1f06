// Line assembly: bytes in any chunks → pieces of text, as a terminal would have shown them.
//
// A piece ends at '\n' or at '\r' (a redraw). Colours and other escape sequences are taken out,
// backspaces are obeyed, a half piece is kept until its end arrives. Memory is bounded: a piece
// longer than kMaxPiece is cut there and the rest of it is passed over.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace rigwise::logs {

inline constexpr std::size_t kMaxPiece = 64 << 10;

struct Piece {
  std::string_view text = {};  // valid during the call only
  double t_s = 0;              // when its last byte was received (not its terminator)
  std::int64_t line = 0;       // 1-based, counted by '\n'
  char end = '\n';             // '\n', '\r', or 0: the stream ended
  bool cut = false;            // longer than kMaxPiece
};

class LineAssembler {
 public:
  using OnPiece = std::function<void(const Piece&)>;
  void push(std::string_view bytes, double t_s, const OnPiece& on_piece);
  void finish(const OnPiece& on_piece);
  [[nodiscard]] std::int64_t lines() const { return line_ - 1; }  // newlines seen so far

 private:
  void take(std::string_view text, char end, double t_s, bool marks, const OnPiece& on_piece);
  void keep(std::string_view text, double t_s, const OnPiece& on_piece);
  std::string partial_;
  std::string cleaned_;
  double partial_t_s_ = 0;
  std::int64_t line_ = 1;
  bool skipping_ = false;  // inside the rest of a piece that was cut
};

/// `text` without escape sequences, with backspaces obeyed; appended to `out`, which is cleared
/// first.
void clean_terminal_text(std::string_view text, std::string& out);

}  // namespace rigwise::logs
