// Any bytes as a log that was kept by hand, and as a script: no crash, no hang, instants in order.
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
  return 0;
}
