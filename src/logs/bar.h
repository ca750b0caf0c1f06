// Bars: progress bars as tqdm and its kin draw them: "desc:  6%|▌   | 12/200 [00:10<02:40, 1.2it/s,
// loss=2.3]".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "logs/scan.h"

namespace rigwise::logs {

enum class BarUse { unnamed, training, evaluation, startup, other };

struct Bar {
  std::string_view description = {};
  std::int64_t n = 0;
  std::optional<std::int64_t> total = {};
  std::optional<double> elapsed_s = {};
  std::optional<double> step_time_s = {}, steps_per_s = {};  // as drawn, one of them
  std::vector<Field> postfix = {};
  std::optional<double> epoch = {};  // "Epoch 3: …": n counts inside the epoch
  BarUse use = BarUse::unnamed;      // by its words and units alone
  std::size_t begin = 0, end = 0;    // where it stands in the text
};

/// The next bar of `text` at or after `from`.
std::optional<Bar> find_bar(std::string_view text, std::size_t from);

}  // namespace rigwise::logs
