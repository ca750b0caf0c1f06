#include "logs/peel.h"

#include <cstring>

#include "base/text.h"
#include "logs/scan.h"

namespace rigwise::logs {
namespace {

constexpr std::int64_t kMaxRank = 1'000'000;

std::optional<int> to_rank(std::string_view digits) {
  digits = strip(digits);
  const auto rank = digits.size() > 7 ? std::nullopt : to_integer(digits);
  if (!rank || *rank < 0 || *rank > kMaxRank || !is_digit(digits.front())) return std::nullopt;
  return static_cast<int>(*rank);
}

/// "[rank0]:", "[default0]:", "[1,0]<stdout>:", "[rank: 0] ", "[Rank 0] ".
bool peel_bracket(std::string_view& text, std::optional<int>& rank) {
  const std::size_t close = text.substr(0, 96).find(']');
  if (close == std::string_view::npos) return false;
  std::string_view inside = text.substr(1, close - 1);
  std::string_view after = text.substr(close + 1);
  bool stream = false;
  if (after.starts_with("<stdout>") || after.starts_with("<stderr>")) {
    after.remove_prefix(8);
    stream = true;
  }
  const bool colon = after.starts_with(':');
  std::optional<int> found;
  if (starts_with_word(inside, "rank")) {
    inside.remove_prefix(4);
    while (!inside.empty() && (inside.front() == ':' || inside.front() == ' '))
      inside.remove_prefix(1);
    found = to_rank(inside.substr(0, inside.find_first_of(" ,/]|")));
  } else if (colon && inside.starts_with("default")) {
    found = to_rank(inside.substr(7));
  } else if ((colon || stream) && inside.starts_with("1,")) {
    inside.remove_prefix(2);
    if (inside.starts_with("mpirank:")) inside.remove_prefix(8);
    found = to_rank(inside.substr(0, inside.find(',')));
  } else if (inside.starts_with("pod/")) {
    text = strip(after);
    return true;
  }
  if (!found) return false;
  rank = found;
  text = colon ? after.substr(1) : after;
  return true;
}

/// "2024-03-07 15:27:02,646 ", "2024-03-07T15:27:02.646Z ": bytes taken, or 0.
std::size_t time_stamp(std::string_view text) {
  if (text.size() < 20 || text[4] != '-' || text[7] != '-' || text[13] != ':' || text[16] != ':')
    return 0;
  if (!is_digit(text[0]) || !is_digit(text[9]) || !is_digit(text[18])) return 0;
  std::size_t at = 19;
  while (at < text.size() && (is_digit(text[at]) || text[at] == '.' || text[at] == ',' ||
                              text[at] == '+' || text[at] == 'Z'))
    ++at;
  return at < text.size() && text[at] == ' ' ? at + 1 : 0;
}

/// "rank0: ", "rank 3: ".
bool peel_rank_word(std::string_view& text, std::optional<int>& rank) {
  std::string_view rest = text.substr(4);
  if (rest.starts_with(' ')) rest.remove_prefix(1);
  const std::size_t colon = rest.substr(0, 8).find(':');
  if (colon == std::string_view::npos || colon + 1 >= rest.size() || rest[colon + 1] != ' ')
    return false;
  const auto found = to_rank(rest.substr(0, colon));
  if (!found) return false;
  rank = found;
  text = rest.substr(colon + 1);
  return true;
}

/// srun --label: "2: text". A number behind it would make it a key and a value.
bool peel_label(std::string_view& text, std::optional<int>& rank) {
  std::size_t digits = 0;
  while (digits < text.size() && digits < 5 && is_digit(text[digits])) ++digits;
  if (digits + 2 >= text.size() || text[digits] != ':' || text[digits + 1] != ' ') return false;
  const char next = text[digits + 2];
  if (is_digit(next) || next == '-' || next == '+') return false;
  const auto found = to_rank(text.substr(0, digits));
  if (!found) return false;
  rank = found;
  text = text.substr(digits + 2);
  return true;
}

}  // namespace

std::optional<int> peel(std::string_view& text) {
  std::optional<int> rank;
  for (int prefixes = 0; prefixes < 4; ++prefixes) {
    std::string_view rest = text;
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    if (rest.size() < 4) return rank;
    const char first = rest.front();
    if (first == '[') {
      if (!peel_bracket(rest, rank)) return rank;
    } else if (is_digit(first)) {
      const std::size_t stamp = time_stamp(rest);
      if (stamp > 0)
        rest.remove_prefix(stamp);
      else if (!peel_label(rest, rank))
        return rank;
    } else if (first == '(') {
      const std::size_t pid = rest.substr(0, 64).find("pid=");
      const std::size_t close = rest.substr(0, 128).find(')');
      if (pid == std::string_view::npos || close == std::string_view::npos || close < pid)
        return rank;
      rest.remove_prefix(close + 1);
    } else if (first == 'r' || first == 'R') {
      if (!starts_with_word(rest, "rank") || !peel_rank_word(rest, rank)) return rank;
    } else {
      return rank;
    }
    text = rest;
  }
  return rank;
}

bool has_written_controls(std::string_view text) {
  const auto holds = [text](char byte) {
    return std::memchr(text.data(), byte, text.size()) != nullptr;
  };
  if (text.empty()) return false;
  if (holds('#') && contains(text, "#0")) return true;
  if (holds('^') && (contains(text, "^[[") || contains(text, "^M"))) return true;
  return holds('\\') &&
         (contains(text, "\\x1b[") || contains(text, "\\033[") || contains(text, "\\u001b["));
}

void restore_controls(std::string_view text, std::string& out) {
  struct Written {
    std::string_view text;
    char byte;
  };
  constexpr Written kWritten[] = {{"#015", '\r'},     {"#033", '\x1b'},   {"#010", '\b'},
                                  {"#011", '\t'},     {"^[[", '\x1b'},    {"^M", '\r'},
                                  {"\\x1b[", '\x1b'}, {"\\033[", '\x1b'}, {"\\u001b[", '\x1b'}};
  out.clear();
  for (std::size_t i = 0; i < text.size();) {
    const char byte = text[i];
    bool found = false;
    if (byte == '#' || byte == '^' || byte == '\\') {
      for (const Written& written : kWritten) {
        if (!text.substr(i).starts_with(written.text)) continue;
        out.push_back(written.byte);
        if (written.text.back() == '[') out.push_back('[');
        i += written.text.size();
        found = true;
        break;
      }
    }
    if (!found) out.push_back(text[i++]);
  }
}

}  // namespace rigwise::logs
