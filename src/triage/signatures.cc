// The table of signatures, and the automaton that finds their lines: one pass over the bytes,
// however many rows the table has (Aho and Corasick 1975, CACM 18:6).
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <queue>

#include "base/csv.h"
#include "base/text.h"
#include "rigwise/triage.h"
#include "triage/table.h"

namespace rigwise {

namespace {

constexpr std::array<std::string_view, 18> kLayerNames = {"launcher",      "rendezvous_network",
                                                          "user_config",   "driver",
                                                          "framework_env", "user_code",
                                                          "checkpoint",    "hardware_fault",
                                                          "host_oom",      "gpu_oom",
                                                          "gpu_runtime",   "storage_io_permission",
                                                          "storage_space", "topology_p2p",
                                                          "data_pipeline", "collective_timeout",
                                                          "numerics",      "none"};

constexpr std::array<std::string_view, 14> kRoleNames = {
    "root",      "raised", "confirmation", "symptom",  "lost",      "teardown", "ending",
    "complaint", "stop",   "advice",       "progress", "preparing", "frames",   "finish"};

constexpr std::size_t kMostRows = 5000, kLongestPattern = 400;  // states × columns: below 2^30

/// A piece of a pattern: a literal, and what stands between it and the one before.
struct Piece {
  enum class Gap { start, any, rank, self, pid };
  Gap gap = Gap::start;
  std::string literal = {};

  [[nodiscard]] bool is_number() const {
    return gap == Gap::rank || gap == Gap::self || gap == Gap::pid;
  }
};

std::vector<Piece> pieces_of(std::string_view pattern) {
  std::vector<Piece> out;
  Piece piece;
  const auto next = [&](Piece::Gap gap) {
    if (!piece.literal.empty() || piece.is_number()) out.push_back(std::move(piece));
    piece = {gap, {}};
  };
  while (!pattern.empty()) {
    if (pattern.front() == '*') {
      next(Piece::Gap::any);
      pattern.remove_prefix(1);
    } else if (pattern.starts_with("{rank}")) {
      next(Piece::Gap::rank);
      pattern.remove_prefix(6);
    } else if (pattern.starts_with("{self}")) {
      next(Piece::Gap::self);
      pattern.remove_prefix(6);
    } else if (pattern.starts_with("{pid}")) {
      next(Piece::Gap::pid);
      pattern.remove_prefix(5);
    } else {
      piece.literal += pattern.front();
      pattern.remove_prefix(1);
    }
  }
  next(Piece::Gap::any);
  return out;
}

std::optional<int> number_at(std::string_view text, std::size_t at, std::size_t& length) {
  length = 0;
  while (at + length < text.size() && length < 9 && is_digit(text[at + length])) ++length;
  if (length == 0) return {};
  return static_cast<int>(*to_integer(text.substr(at, length)));
}

/// Do the pieces stand in `line` in their order? The first literal may stand anywhere.
bool bears(std::string_view line, const std::vector<Piece>& pieces, Signatures::Match& match) {
  std::size_t from = 0;
  for (std::size_t first = line.find(pieces[0].literal); first != std::string_view::npos;
       first = line.find(pieces[0].literal, first + 1)) {
    from = first + pieces[0].literal.size();
    bool whole = true;
    for (std::size_t i = 1; whole && i < pieces.size(); ++i) {
      const Piece& piece = pieces[i];
      if (piece.gap == Piece::Gap::any) {
        const std::size_t at = line.find(piece.literal, from);
        if (at == std::string_view::npos) return false;
        from = at + piece.literal.size();
        continue;
      }
      std::size_t digits = 0;
      const auto number = number_at(line, from, digits);
      whole = number && line.substr(from + digits).starts_with(piece.literal);
      if (!whole) break;
      (piece.gap == Piece::Gap::rank   ? match.rank
       : piece.gap == Piece::Gap::self ? match.self
                                       : match.pid) = number;
      from += digits + piece.literal.size();
    }
    if (whole) return true;
  }
  return false;
}

}  // namespace

std::string_view to_string(FailureLayer layer) {
  return kLayerNames[static_cast<std::size_t>(layer)];
}

std::optional<FailureLayer> failure_layer(std::string_view name) {
  const auto found = std::find(kLayerNames.begin(), kLayerNames.end(), name);
  if (found == kLayerNames.end()) return {};
  return static_cast<FailureLayer>(found - kLayerNames.begin());
}

std::optional<Role> role_of(std::string_view name) {
  const auto found = std::find(kRoleNames.begin(), kRoleNames.end(), name);
  if (found == kRoleNames.end()) return {};
  return static_cast<Role>(found - kRoleNames.begin());
}

struct Signatures::Automaton {
  // Bytes that stand in no pattern share column 0, so that a row of the table fits few cache lines.
  std::array<std::uint8_t, 256> column = {};
  std::size_t columns = 1;
  // state * columns + column → state * columns of the next, with kEnds where keys end there: the
  // walk is one addition and one load a byte
  std::vector<std::int32_t> next = {};
  static constexpr std::int32_t kEnds = std::int32_t{1} << 30;
  std::vector<std::vector<std::uint16_t>> ends = {};  // signatures whose key ends in a state
  std::vector<std::vector<Piece>> pieces = {};        // by signature

  explicit Automaton(const std::vector<Signature>& signatures) {
    std::vector<std::string> keys;
    for (const Signature& signature : signatures) {
      pieces.push_back(pieces_of(signature.pattern));
      const auto longest = std::max_element(
          pieces.back().begin(), pieces.back().end(),
          [](const Piece& a, const Piece& b) { return a.literal.size() < b.literal.size(); });
      keys.push_back(longest->literal);
      for (const char c : keys.back()) {
        auto& at = column[static_cast<unsigned char>(c)];
        if (at == 0) at = static_cast<std::uint8_t>(columns++);
      }
    }
    add_state();
    for (std::size_t i = 0; i < keys.size(); ++i) insert(keys[i], static_cast<std::uint16_t>(i));
    link();
  }

  /// No key holds a newline, so that none reaches from one line into the next.
  [[nodiscard]] Hits scan(std::string_view bytes) const {
    Hits hits;
    std::int32_t row = 0;
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      row = next[static_cast<std::size_t>(row) + column[static_cast<unsigned char>(bytes[at])]];
      if ((row & kEnds) == 0) continue;
      row &= ~kEnds;
      for (const std::uint16_t signature : ends[static_cast<std::size_t>(row) / columns])
        hits.push_back({static_cast<std::uint32_t>(at), signature});
    }
    return hits;
  }

 private:
  std::size_t add_state() {
    next.resize(next.size() + columns, -1);
    ends.emplace_back();
    return ends.size() - 1;
  }

  void insert(std::string_view key, std::uint16_t index) {
    std::size_t state = 0;
    for (const char c : key) {
      const std::size_t at = state * columns + column[static_cast<unsigned char>(c)];
      if (next[at] < 0) {
        const auto added = static_cast<std::int32_t>(add_state());
        next[at] = added;
      }
      state = static_cast<std::size_t>(next[at]);
    }
    ends[state].push_back(index);
  }

  /// Missing moves become those of the longest proper suffix.
  void link() {
    std::vector<std::size_t> fall(ends.size(), 0);
    std::queue<std::size_t> todo;
    for (std::size_t c = 0; c < columns; ++c) {
      if (next[c] < 0) {
        next[c] = 0;
      } else {
        todo.push(static_cast<std::size_t>(next[c]));
      }
    }
    while (!todo.empty()) {
      const std::size_t state = todo.front();
      todo.pop();
      const auto& more = ends[fall[state]];
      ends[state].insert(ends[state].end(), more.begin(), more.end());
      for (std::size_t c = 0; c < columns; ++c) {
        auto& to = next[state * columns + c];
        const std::int32_t fallen = next[fall[state] * columns + c];
        if (to < 0) {
          to = fallen;
        } else {
          fall[static_cast<std::size_t>(to)] = static_cast<std::size_t>(fallen);
          todo.push(static_cast<std::size_t>(to));
        }
      }
    }
    for (auto& to : next) {
      const auto state = static_cast<std::size_t>(to);
      to = static_cast<std::int32_t>(state * columns) | (ends[state].empty() ? 0 : kEnds);
    }
  }
};

Signatures::Signatures() = default;
Signatures::Signatures(Signatures&&) noexcept = default;
Signatures& Signatures::operator=(Signatures&&) noexcept = default;
Signatures::~Signatures() = default;

const std::vector<Signature>& Signatures::all() const {
  return signatures_;
}

Signatures::Hits Signatures::scan(std::string_view bytes) const {
  return automaton_ == nullptr ? Hits{} : automaton_->scan(bytes);
}

std::optional<Signatures::Match> Signatures::match(std::string_view line,
                                                   std::string_view frames) const {
  return match(line, frames, scan(line));
}

std::optional<Signatures::Match> Signatures::match(std::string_view line, std::string_view frames,
                                                   std::span<const Hit> hits) const {
  if (hits.empty()) return {};
  std::vector<std::uint16_t> found;
  for (const Hit& hit : hits) found.push_back(hit.signature);
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  for (const std::uint16_t index : found) {
    const Signature& signature = signatures_[index];
    if (!signature.within.empty() && frames.find(signature.within) == std::string_view::npos)
      continue;
    Match match{&signature, {}, {}, {}};
    if (bears(line, automaton_->pieces[index], match)) return match;
  }
  return {};
}

Result<Signatures> Signatures::parse(std::string_view csv, const Signatures* base) {
  Signatures out;
  std::string ended(csv);  // the last row of a file that a person wrote may lack its line's end
  if (!ended.ends_with('\n')) ended += '\n';
  CsvReader reader(ended);
  std::vector<std::string_view> fields;
  const auto bad = [&](const std::string& what) {
    return Error{Errc::malformed, fmt::format("line {}: {}", reader.line(), what),
                 "columns: id,role,layer,pattern,within,advice,confirms,source"};
  };
  while (reader.next(fields)) {
    if (reader.line() == 1 && !fields.empty() && fields[0] == "id") continue;
    if (fields.empty() || (fields.size() == 1 && trim(fields[0]).empty())) continue;
    if (fields[0].starts_with('#')) continue;
    if (fields.size() != 8) return bad(fmt::format("{} fields, not 8", fields.size()));
    if (out.signatures_.size() >= kMostRows) return bad("too many rows");
    Signature row;
    row.id = clean_text(fields[0], 80);
    const auto role = role_of(fields[1]);
    const auto layer = failure_layer(fields[2].empty() ? "none" : fields[2]);
    if (!role) return bad("no role: '" + clean_text(fields[1], 40) + "'");
    if (!layer) return bad("no layer: '" + clean_text(fields[2], 40) + "'");
    row.role = *role, row.layer = *layer;
    row.pattern = fields[3], row.within = fields[4];
    row.advice = fields[5], row.confirms = fields[6], row.source = fields[7];
    const auto pieces = pieces_of(row.pattern);
    const bool anchored = !pieces.empty() && !pieces[0].is_number();
    std::size_t longest = 0;
    for (const Piece& piece : pieces) longest = std::max(longest, piece.literal.size());
    if (!anchored || longest < 4 || row.pattern.size() > kLongestPattern)
      return bad("a pattern begins with text, and four letters of it stand together");
    out.signatures_.push_back(std::move(row));
  }
  if (reader.torn()) return bad("a quoted field behind it has no end");
  if (base != nullptr) {
    out.signatures_.insert(out.signatures_.end(), base->signatures_.begin(),
                           base->signatures_.end());
  }
  out.automaton_ = std::make_unique<Automaton>(out.signatures_);
  return out;
}

const Signatures& Signatures::built_in() {
  static const Signatures table = [] {
    auto parsed = parse(kFailureTable);
    return parsed ? *std::move(parsed) : Signatures();  // a test parses it
  }();
  return table;
}

}  // namespace rigwise
