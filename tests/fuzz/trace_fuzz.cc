// Bytes as a trace: never a crash, never more than was written, the same whatever the chunks, and
// every split sums.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "rigwise/trace.h"

namespace {

using namespace rigwise;

void hold(bool holds) {
  if (!holds) std::abort();
}

void hold_sum(const TraceSplit& split) {
  const double parts =
      split.compute_s + split.exposed_communication_s + split.copy_s + split.idle_s;
  hold(split.seconds_s >= 0 && std::isfinite(split.seconds_s));
  hold(std::abs(parts - split.seconds_s) <= 1e-9 + 1e-12 * split.seconds_s);
  hold(split.exposed_input_s <= split.idle_s + 1e-9 + 1e-12 * split.seconds_s);
}

Result<TraceSummary> read(std::string_view bytes, std::size_t chunk) {
  TraceReader reader({.most_kept_bytes = 8 << 20});
  for (std::size_t at = 0; at < bytes.size(); at += chunk)
    if (!reader.push(bytes.substr(at, chunk))) break;
  return reader.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto whole = read(bytes, std::max<std::size_t>(size, 1));
  const auto cut = read(bytes, size % 61 + 1);
  hold(whole.ok() == cut.ok());
  if (!whole.ok()) return 0;
  const TraceReading& reading = whole->reading;
  hold(reading.bytes <= size && reading.events <= static_cast<std::int64_t>(size));
  hold(reading.malformed + reading.oversized <= reading.events);
  hold(reading.events == cut->reading.events && reading.malformed == cut->reading.malformed &&
       reading.used == cut->reading.used && reading.whole == cut->reading.whole &&
       reading.first_bad_byte == cut->reading.first_bad_byte &&
       whole->total.compute_s == cut->total.compute_s && whole->steps.size() == cut->steps.size());
  hold_sum(whole->total);
  for (const auto& step : whole->steps) hold_sum(step.split);
  window_of(*whole, 0);
  auto other = *whole;
  if (other.begin_unix_s) *other.begin_unix_s += static_cast<double>(size);
  const std::vector<TraceSummary> ranks = {*whole, other};
  const auto compared = compare_ranks(ranks);
  hold(!compared.ok() || compared->matched >= 0);
  return 0;
}
