// Documents → windows: the rows of a batch, their order, and the hash that proves two runs did the
// same work.
//
// B rows, S tokens a row (the width). Targets are shifted already: target t is the token behind
// token t, or kIgnored where none is to be predicted (the last of a window or segment, a token
// that is not trained on, padding).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/data/dataset.h"
#include "rigwise/result.h"

namespace rigwise::engine {

enum class Pack {
  /// All documents as one stream, cut every `seq` tokens (as Hugging Face's group_texts; the last,
  /// short piece is padded instead of dropped). Attention reaches over documents' borders.
  concat,
  /// Whole documents, each into the first window with room for it; no attention between them and
  /// positions restart. What is longer than `seq` is cut into pieces.
  documents,
  /// One document a window, no padding in it (a batch pads); what is longer is cut off.
  none,
};
std::string_view pack_name(Pack pack);
std::optional<Pack> pack_of(std::string_view name);

inline constexpr std::int32_t kIgnored = -100;

struct Window {
  std::vector<std::int32_t> ids = {}, targets = {}, positions = {};
  /// Attention stays inside [segments[i], segments[i + 1]): 0 first, ids.size() last. Padding is a
  /// segment of its own.
  std::vector<std::int32_t> segments = {};
  std::int64_t tokens = 0;     // without padding, which stands at the end
  std::int64_t predicted = 0;  // targets that count
};

struct WindowStatistics {
  std::int64_t windows = 0;
  std::int64_t tokens = 0, padding = 0;  // padding of `none`: up to the longest window
  std::int64_t predicted = 0;
  std::int64_t split_documents = 0;      // documents: cut into pieces
  std::int64_t truncated_documents = 0;  // none: cut off
  std::int64_t truncated_tokens = 0;
  std::int64_t idle_windows = 0;  // nothing in them is predicted
  [[nodiscard]] double padding_frac() const {
    return tokens + padding == 0
               ? 0
               : static_cast<double>(padding) / static_cast<double>(tokens + padding);
  }
};

class Windows {
 public:
  /// Errors: usage (`seq` below 2 or above 1,048,576), malformed (no window predicts anything).
  static Result<Windows> make(std::shared_ptr<const Documents> documents, Pack pack,
                              std::int64_t seq, std::int32_t pad_id);

  [[nodiscard]] std::size_t size() const { return window_begins_.size() - 1; }
  [[nodiscard]] Window window(std::size_t index) const;
  /// Tokens of that window, without padding.
  [[nodiscard]] std::int64_t tokens(std::size_t index) const;
  [[nodiscard]] std::int64_t seq() const { return seq_; }
  [[nodiscard]] std::int32_t pad_id() const { return pad_id_; }
  [[nodiscard]] const WindowStatistics& statistics() const { return statistics_; }

  /// XXH3 (64 bits) of those windows' ids in that order, each window led by its count of tokens;
  /// all as little-endian 32-bit numbers, padding left out. The same whatever the ranks' shares.
  [[nodiscard]] std::uint64_t token_hash(std::span<const std::int64_t> indices) const;

 private:
  struct Piece {
    std::int64_t begin = 0, end = 0;  // in the numbering of the documents' tokens
  };
  Windows() = default;
  void fill_first_fit();
  void count();
  std::shared_ptr<const Documents> documents_;
  Pack pack_ = Pack::concat;
  std::int64_t seq_ = 0;
  std::int32_t pad_id_ = 0;
  std::vector<Piece> pieces_;                     // window by window
  std::vector<std::size_t> window_begins_ = {0};  // into pieces_
  WindowStatistics statistics_;
};

/// Rows of one width, row by row.
struct Batch {
  std::int64_t rows = 0, width = 0;
  std::vector<std::int32_t> ids = {}, targets = {}, positions = {};  // rows × width
  std::vector<std::int32_t> segments = {};  // of all rows in one line: 0 … rows × width
  std::int64_t tokens = 0, predicted = 0;   // without padding
};
/// The windows of those numbers, padded to the longest of them (or to `width`, where it is longer).
Batch make_batch(const Windows& windows, std::span<const std::int64_t> indices,
                 std::int64_t width = 0);

/// 0 … count-1: in order, or shuffled by seed and epoch (Fisher-Yates by xoshiro256** seeded from
/// SplitMix64): the same on every machine.
std::vector<std::int64_t> epoch_order(std::int64_t count, std::optional<std::uint64_t> seed,
                                      std::uint64_t epoch);

}  // namespace rigwise::engine
