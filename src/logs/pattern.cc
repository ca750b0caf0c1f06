#include "logs/pattern.h"

#include <algorithm>

#include "logs/scan.h"

namespace rigwise::logs {
namespace {

constexpr std::size_t kMaxParts = 64;

struct Named {
  std::string_view name;
  Figure figure;
  double scale;
};

constexpr Named kNamed[] = {
    {"step", Figure::step, 0},
    {"epoch", Figure::epoch, 0},
    {"loss", Figure::loss, 0},
    {"eval_loss", Figure::eval_loss, 0},
    {"lr", Figure::lr, 0},
    {"grad_norm", Figure::grad_norm, 0},
    {"step_time_s", Figure::step_time_s, 1},
    {"step_time_ms", Figure::step_time_s, 1e-3},
    {"steps_per_s", Figure::steps_per_s, 1},
    {"samples_per_s", Figure::samples_per_s, 1},
    {"tokens_per_s", Figure::tokens_per_s, 1},
    {"mem_gib", Figure::mem, 1},
    {"mem_mib", Figure::mem, 1.0 / 1024},
    {"mfu", Figure::mfu, 0},
    {"rank", Figure::rank, 0},
};

/// `literal` at the start of `text`, a blank in it standing for any run of blanks: bytes taken, or
/// npos.
std::size_t match_literal(std::string_view literal, std::string_view text) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] == ' ') {
      while (at < text.size() && is_blank(text[at])) ++at;
      continue;
    }
    if (at >= text.size() || text[at] != literal[i]) return std::string_view::npos;
    ++at;
  }
  return at;
}

}  // namespace

Patterns::Patterns(std::vector<LogPattern> patterns) {
  for (const LogPattern& given : patterns) {
    Pattern pattern;
    pattern.evaluation = given.evaluation;
    std::string_view rest = given.match;
    std::string literal;
    const auto flush = [&] {
      if (!literal.empty()) pattern.parts.push_back({Part::Kind::literal, literal, {}});
      literal.clear();
    };
    while (!rest.empty() && pattern.parts.size() < kMaxParts) {
      const std::size_t close = rest.find('}');
      const auto* named = std::find_if(std::begin(kNamed), std::end(kNamed), [&](const Named& one) {
        return rest[0] == '{' && close != std::string_view::npos &&
               rest.substr(1, close - 1) == one.name;
      });
      if (named != std::end(kNamed)) {
        flush();
        Meaning meaning;
        meaning.figure = named->figure;
        meaning.scale = named->scale;
        pattern.parts.push_back({Part::Kind::value, {}, meaning});
        rest.remove_prefix(close + 1);
      } else if (rest[0] == '*') {
        flush();
        pattern.parts.push_back({Part::Kind::anything, {}, {}});
        rest.remove_prefix(1);
      } else {
        literal.push_back(rest[0]);
        rest.remove_prefix(1);
      }
    }
    flush();
    // Blanks beside a '*' are part of what it stands for.
    const auto blank_beside_star = [&](std::size_t i) {
      const auto star = [&](std::size_t at) {
        return at < pattern.parts.size() && pattern.parts[at].kind == Part::Kind::anything;
      };
      return pattern.parts[i].kind == Part::Kind::literal &&
             strip(pattern.parts[i].literal).empty() && (star(i + 1) || (i > 0 && star(i - 1)));
    };
    for (std::size_t i = pattern.parts.size(); i-- > 0;)
      if (blank_beside_star(i))
        pattern.parts.erase(pattern.parts.begin() + static_cast<std::ptrdiff_t>(i));
    if (!pattern.parts.empty()) patterns_.push_back(std::move(pattern));
  }
}

bool Patterns::match_at(const Pattern& pattern, std::string_view text, Entry& entry) {
  bool anything = false;  // a '*' stands before the part
  for (const Part& part : pattern.parts) {
    if (part.kind == Part::Kind::anything) {
      anything = true;
      continue;
    }
    std::size_t taken = std::string_view::npos;
    Value value;
    const std::size_t last = anything ? text.size() : 0;
    for (std::size_t at = 0; at <= last; ++at) {
      const std::string_view rest = text.substr(at);
      if (part.kind == Part::Kind::literal) {
        taken = match_literal(part.literal, rest);
      } else {
        std::size_t blanks = 0;
        while (blanks < rest.size() && is_blank(rest[blanks])) ++blanks;
        value = Value{};
        if (scan_number(rest.substr(blanks), value.number)) taken = blanks + value.number.size;
      }
      if (taken != std::string_view::npos) {
        taken += at;
        break;
      }
    }
    if (taken == std::string_view::npos) return false;
    if (part.kind == Part::Kind::value) {
      if (!entry.set(part.meaning, value)) return false;
      ++entry.pairs;
    }
    text.remove_prefix(taken);
    anything = false;
  }
  return true;
}

bool Patterns::match(std::string_view text, Entry& entry) const {
  constexpr std::size_t kMaxLine = 4096;
  if (text.size() > kMaxLine) return false;
  for (const Pattern& pattern : patterns_) {
    const Part& first = pattern.parts.front();
    std::size_t at = 0;
    if (first.kind == Part::Kind::literal && first.literal[0] != ' ')
      at = text.find(first.literal[0]);
    for (int tries = 0; at != std::string_view::npos && tries < 64; ++tries) {
      entry.clear();
      entry.evaluation = pattern.evaluation;
      if (match_at(pattern, text.substr(at), entry)) return true;
      if (first.kind != Part::Kind::literal || first.literal[0] == ' ') break;
      at = text.find(first.literal[0], at + 1);
    }
  }
  entry.clear();
  return false;
}

}  // namespace rigwise::logs

namespace rigwise {

std::optional<std::string> unknown_figure(std::string_view match) {
  bool any = false;
  for (std::size_t at = match.find('{'); at != std::string_view::npos;
       at = match.find('{', at + 1)) {
    const std::size_t close = match.find('}', at);
    if (close == std::string_view::npos) break;
    const std::string_view name = match.substr(at + 1, close - at - 1);
    bool known = false;
    for (const logs::Named& named : logs::kNamed) known = known || named.name == name;
    if (!known) return std::string(name);
    any = true;
  }
  return any ? std::nullopt : std::optional<std::string>("");
}

}  // namespace rigwise
