// Any bytes as a log that was kept by hand, as UTF-16, as a script, and as what a tracker measured:
// no crash, no hang, instants in order, readings within bounds.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "record/import_parts.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace rigwise;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto log = importing::read_log_text(bytes, "log/out.log", std::nullopt, 1795538823);
  for (const auto& row : log.steps) {
    if (!std::isfinite(row.t_s) || (log.timed && row.t_s < *log.first_unix_s)) std::abort();
  }
  (void)importing::read_log_text(bytes, "log/out.log", 1795500000, std::nullopt);
  (void)importing::command_in(bytes);
  const std::string text = importing::utf8_of_utf16(bytes);
  if (text.size() > bytes.size() * 2) std::abort();
  // names and values of a tracker: a byte of length before each name, one of the value behind it
  MetricStore store;
  store.system.push_back({.unix_s = 1795538823});
  auto rest = bytes;
  while (rest.size() > 1) {
    const auto length = std::min<std::size_t>(static_cast<unsigned char>(rest[0]), rest.size() - 2);
    const double value = static_cast<signed char>(rest[1 + length]);
    store.system.back().values.emplace_back(rest.substr(1, length), value);
    if (value == 0) store.system.push_back({.unix_s = store.system.back().unix_s + 1});
    rest.remove_prefix(2 + length);
  }
  importing::Source source;
  importing::take_system(store, source);
  for (const auto& gpu : source.captured.gpus) {
    if (gpu.row.gpu < 0 || gpu.row.gpu >= 64) std::abort();
  }
  return 0;
}
