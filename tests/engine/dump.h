// What the programs share that scripts drive by a JSON request.
#pragma once

#include <cstdio>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "engine/model/model.h"

namespace rigwise::engine {

using IdWindows = std::vector<std::vector<std::int64_t>>;

/// The windows [first, last) as a batch for training. `starts`, where it is not empty, holds for
/// each window where its stretches begin, 0 first.
inline MicroBatch batch_of(const IdWindows& windows, std::size_t first, std::size_t last,
                           const IdWindows& starts = {}) {
  std::vector<std::int64_t> ids, positions, targets;
  MicroBatch batch;
  for (std::size_t w = first; w < last; ++w) {
    const std::vector<std::int64_t> begins =
        starts.empty() ? std::vector<std::int64_t>{0} : starts[w];
    const auto length = static_cast<std::int64_t>(windows[w].size());
    for (std::size_t s = 0; s < begins.size(); ++s) {
      const std::int64_t end = s + 1 < begins.size() ? begins[s + 1] : length;
      batch.stretches.push_back(
          {.begin = static_cast<std::int64_t>(ids.size()) + begins[s], .length = end - begins[s]});
      for (std::int64_t i = begins[s]; i < end; ++i) {
        positions.push_back(i - begins[s]);
        targets.push_back(i + 1 < end ? windows[w][static_cast<std::size_t>(i + 1)] : -100);
      }
    }
    ids.insert(ids.end(), windows[w].begin(), windows[w].end());
    batch.dropout.windows.push_back(static_cast<std::int64_t>(w));
  }
  batch.ids = at::tensor(ids), batch.positions = at::tensor(positions);
  batch.targets = at::tensor(targets);
  batch.training = true;
  return batch;
}

/// Does what the request in that file asks; tells what went wrong on stderr.
inline int run_request(const char* file, Status (*dump)(const Json& request)) {
  const auto text = read_file(file);
  const auto request = text ? parse_json(*text) : text.error();
  const auto done = request ? dump(*request) : request.error();
  if (done) return 0;
  std::fprintf(stderr, "%s\n%s\n", done.error().message.c_str(), done.error().hint.c_str());
  return 1;
}

}  // namespace rigwise::engine
