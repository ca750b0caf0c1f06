#include "engine/data/windows.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

namespace rigwise::engine {

namespace {

constexpr std::int64_t kMostSeq = 1 << 20;
static_assert(std::endian::native == std::endian::little, "token hashes are of little-endian ids");

/// Leaves are windows' free room; finds the first window with at least that much.
class FirstFit {
 public:
  explicit FirstFit(std::size_t most) : leaves_(std::bit_ceil(std::max<std::size_t>(most, 1))) {
    room_.assign(2 * leaves_, 0);
  }
  void set(std::size_t window, std::int64_t room) {
    std::size_t node = leaves_ + window;
    room_[node] = room;
    for (node /= 2; node >= 1; node /= 2)
      room_[node] = std::max(room_[2 * node], room_[2 * node + 1]);
  }
  [[nodiscard]] std::int64_t room(std::size_t window) const { return room_[leaves_ + window]; }
  [[nodiscard]] std::optional<std::size_t> find(std::int64_t need) const {
    if (room_[1] < need) return std::nullopt;
    std::size_t node = 1;
    while (node < leaves_) node = room_[2 * node] >= need ? 2 * node : 2 * node + 1;
    return node - leaves_;
  }

 private:
  std::size_t leaves_;
  std::vector<std::int64_t> room_;
};

std::uint64_t split_mix(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

class Xoshiro256 {  // xoshiro256** 1.0, Blackman and Vigna 2018
 public:
  explicit Xoshiro256(std::uint64_t seed) {
    for (auto& word : state_) word = split_mix(seed);
  }
  std::uint64_t operator()() {
    const std::uint64_t out = std::rotl(state_[1] * 5, 7) * 9, shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return out;
  }
  /// 0 … bound-1, each as likely as the others.
  std::uint64_t below(std::uint64_t bound) {
    const std::uint64_t least = (0 - bound) % bound;
    while (true) {
      const std::uint64_t drawn = (*this)();
      if (drawn >= least) return drawn % bound;
    }
  }

 private:
  std::array<std::uint64_t, 4> state_ = {};
};

/// Appends one piece as a segment (or, joined, as a part of the one segment there is).
void append(Window& window, const Documents& documents, std::int64_t begin, std::int64_t end,
            bool joined) {
  const auto first = static_cast<std::int32_t>(window.ids.size());
  for (std::int64_t at = begin; at < end; ++at) {
    window.ids.push_back(documents.id(at));
    const bool counts = at + 1 < end && documents.trained(at + 1);
    window.targets.push_back(counts ? documents.id(at + 1) : kIgnored);
    window.predicted += counts ? 1 : 0;
    window.positions.push_back(static_cast<std::int32_t>(at - begin));
  }
  if (!joined || first == 0) window.segments.push_back(first);
}

void pad(Window& window, std::size_t width, std::int32_t pad_id, bool as_segment) {
  if (window.ids.size() >= width) return;
  if (as_segment) window.segments.push_back(static_cast<std::int32_t>(window.ids.size()));
  const auto positions_from = as_segment ? 0 : static_cast<std::int32_t>(window.ids.size());
  const auto count = static_cast<std::int32_t>(width - window.ids.size());
  for (std::int32_t i = 0; i < count; ++i) window.positions.push_back(positions_from + i);
  window.ids.resize(width, pad_id);
  window.targets.resize(width, kIgnored);
}

}  // namespace

std::string_view pack_name(Pack pack) {
  switch (pack) {
    case Pack::concat:
      return "concat";
    case Pack::documents:
      return "documents";
    case Pack::none:
      return "none";
  }
  return "";
}

std::optional<Pack> pack_of(std::string_view name) {
  for (const auto pack : {Pack::concat, Pack::documents, Pack::none}) {
    if (pack_name(pack) == name) return pack;
  }
  return std::nullopt;
}

Result<Windows> Windows::make(std::shared_ptr<const Documents> documents, Pack pack,
                              std::int64_t seq, std::int32_t pad_id) {
  if (seq < 2 || seq > kMostSeq)
    return Error{Errc::usage,
                 "a window of " + std::to_string(seq) + " tokens: it must have from 2 to 1048576"};
  Windows out;
  out.documents_ = std::move(documents);
  out.pack_ = pack;
  out.seq_ = seq;
  out.pad_id_ = pad_id;
  const Documents& all = *out.documents_;
  if (pack == Pack::concat) {
    for (std::int64_t at = 0; at < all.tokens(); at += seq) {
      out.pieces_.push_back({at, std::min(at + seq, all.tokens())});
      out.window_begins_.push_back(out.pieces_.size());
    }
  } else if (pack == Pack::none) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::int64_t end = std::min(all.end(i), all.begin(i) + seq);
      out.pieces_.push_back({all.begin(i), end});
      out.window_begins_.push_back(out.pieces_.size());
      out.statistics_.truncated_documents += end < all.end(i) ? 1 : 0;
      out.statistics_.truncated_tokens += all.end(i) - end;
    }
  } else {
    out.fill_first_fit();
  }
  out.count();
  if (out.statistics_.predicted == 0)
    return Error{Errc::malformed,
                 "no window of " + std::to_string(seq) + " tokens has a token to predict",
                 "Give more text, or longer windows (--seq)."};
  return out;
}

void Windows::fill_first_fit() {
  const Documents& all = *documents_;
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::int64_t at = all.begin(i); at < all.end(i); at += seq_)
      pieces.push_back({at, std::min(at + seq_, all.end(i))});
    statistics_.split_documents += all.end(i) - all.begin(i) > seq_ ? 1 : 0;
  }
  FirstFit rooms(pieces.size());
  std::vector<std::size_t> window_of;
  std::size_t windows = 0;
  for (const auto& piece : pieces) {
    const std::int64_t need = piece.end - piece.begin;
    const auto found = rooms.find(need);
    const std::size_t window = found ? *found : windows++;
    rooms.set(window, (found ? rooms.room(window) : seq_) - need);
    window_of.push_back(window);
  }
  // By window, in the order of the documents inside each
  std::vector<std::size_t> begins(windows + 1, 0);
  for (const auto window : window_of) ++begins[window + 1];
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  window_begins_ = begins;
  pieces_.resize(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) pieces_[begins[window_of[i]]++] = pieces[i];
}

void Windows::count() {
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < size(); ++i) {
    const std::int64_t held = tokens(i);
    longest = std::max(longest, held);
    statistics_.tokens += held;
    std::int64_t predicted = 0;
    for (std::size_t p = window_begins_[i]; p < window_begins_[i + 1]; ++p) {
      for (std::int64_t at = pieces_[p].begin + 1; at < pieces_[p].end; ++at)
        predicted += documents_->trained(at) ? 1 : 0;
    }
    statistics_.predicted += predicted;
    statistics_.idle_windows += predicted == 0 ? 1 : 0;
  }
  statistics_.windows = static_cast<std::int64_t>(size());
  statistics_.padding =
      statistics_.windows * (pack_ == Pack::none ? longest : seq_) - statistics_.tokens;
}

std::int64_t Windows::tokens(std::size_t index) const {
  std::int64_t out = 0;
  for (std::size_t p = window_begins_[index]; p < window_begins_[index + 1]; ++p)
    out += pieces_[p].end - pieces_[p].begin;
  return out;
}

Window Windows::window(std::size_t index) const {
  Window out;
  for (std::size_t p = window_begins_[index]; p < window_begins_[index + 1]; ++p)
    append(out, *documents_, pieces_[p].begin, pieces_[p].end, pack_ == Pack::concat);
  out.tokens = static_cast<std::int64_t>(out.ids.size());
  if (pack_ != Pack::none)
    pad(out, static_cast<std::size_t>(seq_), pad_id_, pack_ == Pack::documents);
  out.segments.push_back(static_cast<std::int32_t>(out.ids.size()));
  return out;
}

std::uint64_t Windows::token_hash(std::span<const std::int64_t> indices) const {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::vector<std::int32_t> ids;
  for (const auto index : indices) {
    const auto at = static_cast<std::size_t>(index);
    ids.assign(1, static_cast<std::int32_t>(tokens(at)));
    for (std::size_t p = window_begins_[at]; p < window_begins_[at + 1]; ++p) {
      for (std::int64_t t = pieces_[p].begin; t < pieces_[p].end; ++t)
        ids.push_back(documents_->id(t));
    }
    XXH3_64bits_update(state.get(), ids.data(), ids.size() * sizeof ids[0]);
  }
  return XXH3_64bits_digest(state.get());
}

Batch make_batch(const Windows& windows, std::span<const std::int64_t> indices,
                 std::int64_t width) {
  Batch out;
  out.rows = static_cast<std::int64_t>(indices.size());
  std::vector<Window> rows;
  std::size_t longest = static_cast<std::size_t>(std::max<std::int64_t>(width, 0));
  for (const auto index : indices) {
    rows.push_back(windows.window(static_cast<std::size_t>(index)));
    longest = std::max(longest, rows.back().ids.size());
  }
  out.width = static_cast<std::int64_t>(longest);
  for (auto& row : rows) {
    if (row.ids.size() < longest) {
      row.segments.pop_back();
      pad(row, longest, windows.pad_id(), true);
      row.segments.push_back(static_cast<std::int32_t>(longest));
    }
    const auto first = static_cast<std::int32_t>(out.ids.size());
    for (std::size_t i = 0; i + 1 < row.segments.size(); ++i)
      out.segments.push_back(first + row.segments[i]);
    out.ids.insert(out.ids.end(), row.ids.begin(), row.ids.end());
    out.targets.insert(out.targets.end(), row.targets.begin(), row.targets.end());
    out.positions.insert(out.positions.end(), row.positions.begin(), row.positions.end());
    out.tokens += row.tokens;
    out.predicted += row.predicted;
  }
  out.segments.push_back(static_cast<std::int32_t>(out.ids.size()));
  return out;
}

std::vector<std::int64_t> epoch_order(std::int64_t count, std::optional<std::uint64_t> seed,
                                      std::uint64_t epoch) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(std::max<std::int64_t>(count, 0)));
  std::iota(out.begin(), out.end(), 0);
  if (!seed) return out;
  std::uint64_t mixed = *seed;
  mixed = split_mix(mixed) ^ epoch;
  Xoshiro256 random(mixed);
  for (std::size_t i = out.size(); i > 1; --i) std::swap(out[i - 1], out[random.below(i)]);
  return out;
}

}  // namespace rigwise::engine
