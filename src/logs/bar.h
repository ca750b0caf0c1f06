// Bars: progress bars as tqdm, Keras, rich and their kin draw them:
// "desc:  6%|▌   | 12/200 [00:10<02:40, 1.2it/s, loss=2.3]",
// "422/422 ━━━━ 47s 108ms/step - loss: 0.49", "epoch 1 ━━━━━━ 3/6 loss 0.83 0:00:00".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "logs/entry.h"
#include "logs/pairs.h"

namespace rigwise::logs {

enum class BarUse { unnamed, training, evaluation, startup, other };

struct Bar {
  std::string_view description = {};
  std::int64_t n = 0;
  std::optional<std::int64_t> total = {};
  std::optional<double> elapsed_s = {};
  Entry figures = {};                // rate, postfix, and what the description tells
  std::optional<double> epoch = {};  // "Epoch 3: …": n counts inside the epoch
  BarUse use = BarUse::unnamed;      // by its words and units alone
  std::size_t begin = 0, end = 0;    // where it stands in the text
  // Where counter and elapsed time stand (0: it is no bar of tqdm's plain form).
  std::size_t counter_at = 0, elapsed_at = 0;
  bool open = false;    // its ']' has not come: the postfix goes on in the next line
  bool glyphs = false;  // Keras or rich: a metric line that begins with a bar
};

/// The next bar of `text` at or after `from`. Pairs of the description and the postfix are read
/// through `pairs`.
std::optional<Bar> find_bar(std::string_view text, std::size_t from, PairReader& pairs);

/// A line of Keras or rich, or nothing.
std::optional<Bar> find_glyph_bar(std::string_view text, PairReader& pairs);

/// Whether `text` ends with a bar's glyphs and its counter must be on the next line.
bool is_bar_head(std::string_view text);

/// Whether `text` is a bar that rich drew with its metrics behind it ("v_num: 0").
bool is_rich_bar(std::string_view text);

/// "1|78|" of torchtune's descriptions: bytes taken, epoch and step set; or 0.
std::size_t scan_counted_head(std::string_view text, Entry& entry);

}  // namespace rigwise::logs
