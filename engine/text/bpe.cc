#include "engine/text/bpe.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>

#include "base/text.h"
#include "engine/text/unicode.h"

namespace rigwise::engine {

namespace {

constexpr std::size_t kMostTokens = std::size_t{1} << 22, kMostMerges = std::size_t{1} << 22;
constexpr std::size_t kMostTokenBytes = 1 << 16;
// Memory: words above this length are rarely met again; the pools are dropped when they are full
constexpr std::size_t kLongestKept = 256, kMostEntries = std::size_t{1} << 18;
constexpr std::size_t kMostKeyBytes = std::size_t{16} << 20;
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // ▁

struct ByteLevel {
  std::array<char32_t, 256> char_of = {};
  std::array<int, 512> byte_of = {};  // -1: none
  ByteLevel() {
    byte_of.fill(-1);
    char32_t next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      char_of[byte] = printable ? byte : next++;
      byte_of[char_of[byte]] = static_cast<int>(byte);
    }
  }
};

const ByteLevel& byte_level_table() {
  static const ByteLevel table;
  return table;
}

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::size_t slot_of(std::uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15;
  return static_cast<std::size_t>(pair ^ pair >> 32);
}

std::string shown(std::string_view token) {
  return "'" + clean_text(token, 60) + "'";
}

}  // namespace

char32_t byte_level_char(unsigned char byte) {
  return byte_level_table().char_of[byte];
}

std::optional<unsigned char> byte_level_byte(char32_t character) {
  if (character >= 512 || byte_level_table().byte_of[character] < 0) return std::nullopt;
  return static_cast<unsigned char>(byte_level_table().byte_of[character]);
}

std::string byte_level_text(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 5 / 4);
  for (const char byte : bytes) append_utf8(out, byte_level_char(static_cast<unsigned char>(byte)));
  return out;
}

Result<Bpe> Bpe::make(Vocabulary vocabulary, const Merges& merges, BpeOptions options) {
  if (vocabulary.empty()) return Error{Errc::malformed, "model.vocab is empty"};
  if (vocabulary.size() > kMostTokens || merges.size() > kMostMerges)
    return Error{Errc::malformed, "model.vocab or model.merges has more than 4,194,304 entries"};
  Bpe out;
  std::size_t end = 0;
  for (const auto& [token, id] : vocabulary) {
    if (id < 0 || static_cast<std::size_t>(id) >= kMostTokens)
      return Error{Errc::malformed, "model.vocab: id " + std::to_string(id) + " of " +
                                        shown(token) + " is out of range"};
    if (token.size() > kMostTokenBytes)
      return Error{Errc::malformed, "model.vocab: token " + shown(token) + " is above 64 KiB"};
    end = std::max(end, static_cast<std::size_t>(id) + 1);
  }
  out.tokens_.resize(end);
  out.has_token_.resize(end);
  for (auto& [token, id] : vocabulary) {
    const auto at = static_cast<std::size_t>(id);
    if (out.has_token_[at])
      return Error{Errc::malformed, "model.vocab: " + shown(token) + " and " +
                                        shown(out.tokens_[at]) + " have the same id " +
                                        std::to_string(id)};
    out.tokens_[at] = std::move(token);
    out.has_token_[at] = true;
  }
  out.ids_.reserve(vocabulary.size());
  out.ascii_ids_.fill(-1);
  out.byte_ids_.fill(-1);
  for (std::size_t at = 0; at < end; ++at) {
    if (!out.has_token_[at]) continue;
    const std::string& token = out.tokens_[at];
    const auto id = static_cast<std::int32_t>(at);
    if (!out.ids_.emplace(token, id).second)
      return Error{Errc::malformed, "model.vocab: token " + shown(token) + " is there twice"};
    if (token.empty()) continue;
    std::size_t behind = 0;
    const char32_t first = next_char(token, behind);
    if (behind != token.size()) continue;
    out.char_ids_.emplace(first, id);
    if (first < 128) out.ascii_ids_[first] = id;
    if (const auto byte = byte_level_byte(first)) out.byte_ids_[*byte] = id;
  }
  if (options.byte_fallback) {
    out.fallback_ids_.emplace().fill(-1);
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::string name = {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
      if (const auto id = out.id(name)) (*out.fallback_ids_)[byte] = *id;
    }
  }
  if (options.unk_token) {
    out.unk_id_ = out.id(*options.unk_token);
    if (!out.unk_id_)
      return Error{Errc::malformed,
                   "model.unk_token " + shown(*options.unk_token) + " is not in model.vocab"};
  }
  out.options_ = std::move(options);
  RW_CHECK(out.add_merges(merges));
  return out;
}

Status Bpe::add_merges(const Merges& merges) {
  merges_.assign(std::bit_ceil(std::max<std::size_t>(merges.size() * 2, 16)), Merge{});
  cuts_at_space_ = !options_.ignore_merges && id(kSpaceMark).has_value();
  std::string joined;
  std::int32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const auto place = [&] { return "model.merges[" + std::to_string(rank) + "]: "; };
    const auto left_id = id(left), right_id = id(right);
    if (!left_id || !right_id)
      return Error{Errc::malformed,
                   place() + shown(left_id ? right : left) + " is not in model.vocab"};
    joined.assign(left).append(right);
    const auto joined_id = id(joined);
    if (!joined_id)
      return Error{Errc::malformed, place() + shown(left) + " and " + shown(right) +
                                        " make a token that is not in model.vocab"};
    if (right.starts_with(kSpaceMark) && !left.ends_with(kSpaceMark)) cuts_at_space_ = false;
    const auto pair = pair_of(*left_id, *right_id);
    auto slot = slot_of(pair) & (merges_.size() - 1);
    while (merges_[slot].pair != kNoPair && merges_[slot].pair != pair)
      slot = (slot + 1) & (merges_.size() - 1);
    merges_[slot] = {pair, rank++, *joined_id};  // the last of several counts
  }
  return Ok{};
}

std::optional<std::int32_t> Bpe::id(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Bpe::token(std::int32_t id) const {
  const auto at = static_cast<std::size_t>(id);
  return id >= 0 && at < tokens_.size() && has_token_[at] ? &tokens_[at] : nullptr;
}

const Bpe::Merge* Bpe::merge_of(std::int32_t left, std::int32_t right) const {
  const auto pair = pair_of(left, right);
  for (auto slot = slot_of(pair) & (merges_.size() - 1);;
       slot = (slot + 1) & (merges_.size() - 1)) {
    if (merges_[slot].pair == pair) return &merges_[slot];
    if (merges_[slot].pair == kNoPair) return nullptr;
  }
}

Bpe::Memory::Memory() : entries_(1 << 12) {}

Bpe::Memory::Entry* Bpe::Memory::look_up(std::string_view word, std::uint64_t hash) {
  const std::size_t mask = entries_.size() - 1;
  for (auto slot = static_cast<std::size_t>(hash) & mask; entries_[slot].used;
       slot = (slot + 1) & mask) {
    Entry& entry = entries_[slot];
    if (entry.hash == hash && std::string_view(keys_).substr(entry.key, entry.key_bytes) == word)
      return &entry;
  }
  return nullptr;
}

void Bpe::Memory::keep(std::string_view word, std::uint64_t hash, const std::int32_t* ids,
                       std::size_t count) {
  if (filled_ >= kMostEntries || keys_.size() + word.size() > kMostKeyBytes) clear();
  const auto place = [&](const Entry& entry) {
    const std::size_t mask = entries_.size() - 1;
    auto slot = static_cast<std::size_t>(entry.hash) & mask;
    while (entries_[slot].used) slot = (slot + 1) & mask;
    entries_[slot] = entry;
  };
  if ((filled_ + 1) * 2 > entries_.size()) {
    std::vector<Entry> old(entries_.size() * 2);
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.used) place(entry);
    }
  }
  place({hash, static_cast<std::uint32_t>(keys_.size()), static_cast<std::uint32_t>(word.size()),
         static_cast<std::uint32_t>(ids_.size()), static_cast<std::uint32_t>(count), true});
  ++filled_;
  keys_ += word;
  ids_.insert(ids_.end(), ids, ids + count);
}

void Bpe::Memory::clear() {
  entries_.assign(1 << 12, Entry{});
  filled_ = 0;
  keys_.clear();
  ids_.clear();
}

void Bpe::encode(std::string_view word, bool byte_level, Memory& memory,
                 std::vector<std::int32_t>& out) const {
  if (!cuts_at_space_ || byte_level) return encode_piece(word, byte_level, memory, out);
  // No merge reaches over the start of a run of ▁, so that a text without pre-tokenizer falls into
  // words all the same
  std::size_t begin = 0;
  while (begin < word.size()) {
    std::size_t end = begin;
    while (word.substr(end).starts_with(kSpaceMark)) end += kSpaceMark.size();
    end = std::min(word.find(kSpaceMark, end), word.size());
    encode_piece(word.substr(begin, end - begin), byte_level, memory, out);
    begin = end;
  }
}

void Bpe::encode_piece(std::string_view word, bool byte_level, Memory& memory,
                       std::vector<std::int32_t>& out) const {
  const bool kept = word.size() <= kLongestKept;
  std::uint64_t hash = 0;
  if (kept) {
    hash = XXH3_64bits_withSeed(word.data(), word.size(), byte_level ? 1 : 0);
    if (const auto* entry = memory.look_up(word, hash)) {
      const auto* ids = memory.ids_.data() + entry->ids;
      out.insert(out.end(), ids, ids + entry->id_count);
      return;
    }
  }
  const std::size_t before = out.size();
  const auto whole =
      options_.ignore_merges ? (byte_level ? id(byte_level_text(word)) : id(word)) : std::nullopt;
  if (whole) {
    out.push_back(*whole);
  } else {
    begin_symbols(word, byte_level, memory);
    merge_symbols(memory);
    for (const auto& symbol : memory.symbols_) {
      if (!symbol.merged) out.push_back(symbol.id);
    }
  }
  if (kept) memory.keep(word, hash, out.data() + before, out.size() - before);
}

void Bpe::begin_symbols(std::string_view word, bool byte_level, Memory& memory) const {
  auto& symbols = memory.symbols_;
  symbols.clear();
  const auto add = [&](std::int32_t id) { symbols.push_back({id, -1, -1, false}); };
  bool unk_waits = false;  // as in the reference: what fallback bytes follow it may pass it by
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t begin = at;
    std::int32_t found = -1;
    if (byte_level) {
      found = byte_ids_[static_cast<unsigned char>(word[at++])];
    } else {
      const char32_t c = next_char(word, at);
      if (c < 128) {
        found = ascii_ids_[c];
      } else if (const auto known = char_ids_.find(c); known != char_ids_.end()) {
        found = known->second;
      }
    }
    if (found >= 0) {
      if (unk_waits) add(*unk_id_);
      unk_waits = false;
      add(found);
      continue;
    }
    if (fallback_ids_) {
      const std::string spelled = byte_level ? byte_level_text(word.substr(begin, 1))
                                             : std::string(word.substr(begin, at - begin));
      const auto fallback = [&](char byte) {
        return (*fallback_ids_)[static_cast<unsigned char>(byte)];
      };
      if (std::all_of(spelled.begin(), spelled.end(), [&](char b) { return fallback(b) >= 0; })) {
        for (const char byte : spelled) add(fallback(byte));
        continue;
      }
    }
    if (unk_id_) {
      if (unk_waits && !options_.fuse_unk) add(*unk_id_);
      unk_waits = true;
    }
  }
  if (unk_waits) add(*unk_id_);
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<std::int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<std::int32_t>(i) + 1 : -1;
  }
}

void Bpe::merge_symbols(Memory& memory) const {
  auto& symbols = memory.symbols_;
  auto& heap = memory.heap_;
  heap.clear();
  using Candidate = Memory::Candidate;
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  const auto symbol = [&](std::int32_t at) -> Memory::Symbol& {
    return symbols[static_cast<std::size_t>(at)];
  };
  const auto consider = [&](std::int32_t at) -> bool {
    const auto next = symbol(at).next;
    if (next < 0) return false;
    const Merge* merge = merge_of(symbol(at).id, symbol(next).id);
    if (merge != nullptr) heap.push_back({merge->rank, at, merge->id});
    return merge != nullptr;
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) consider(static_cast<std::int32_t>(i));
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    const Candidate top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
    auto& left = symbol(top.position);
    if (left.merged || left.next < 0) continue;
    auto& right = symbol(left.next);
    const Merge* merge = merge_of(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;  // overtaken by another merge
    left.id = top.id;
    left.next = right.next;
    right.merged = true;
    if (right.next >= 0) symbol(right.next).previous = top.position;
    if (left.previous >= 0 && consider(left.previous))
      std::push_heap(heap.begin(), heap.end(), later);
    if (consider(top.position)) std::push_heap(heap.begin(), heap.end(), later);
  }
}

}  // namespace rigwise::engine
