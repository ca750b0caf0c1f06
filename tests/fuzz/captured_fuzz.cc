// Any bytes through the readers of captured output: no crash, no hang, and what comes out is safe
// to store: figures are finite, GPUs are numbered within bounds, text has no control characters.
#include <cmath>
#include <string_view>

#include "base/text.h"
#include "hold.h"
#include "rigwise/captured.h"

namespace {

bool clean(const std::string& text) {
  return rigwise::clean_text(text, text.size() + 1) == text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace rigwise;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const std::string_view name : {"gpu.csv", "du -sh.txt", "vmstat -S M.txt"}) {
    const Captured captured = read_captured(
        name, bytes,
        {.commands = {"nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv"}});
    for (const auto& gpu : captured.gpus) {
      hold(gpu.row.gpu >= 0 && gpu.row.gpu < 64, "GPU number");
      for (const auto& value :
           {gpu.row.util_frac, gpu.row.used_bytes, gpu.row.power_w, gpu.row.temp_c,
            gpu.row.sm_clock_mhz, gpu.row.fan_frac, gpu.row.held_power_s})
        hold(!value || std::isfinite(*value), "a finite reading");
    }
    for (const auto& [row, unix_s] : captured.observations) {
      hold(std::isfinite(row.value), "a finite figure");
      hold(clean(row.subject) && clean(row.quantity), "clean words");
      hold(!unix_s || std::isfinite(*unix_s), "a finite instant");
    }
    for (const auto& [reading, unix_s] : captured.hosts) {
      hold(unix_s && std::isfinite(*unix_s), "a host reading has its instant");
      hold(!reading.busy_frac || std::isfinite(*reading.busy_frac), "a finite share");
    }
    for (const auto& [row, unix_s] : captured.disks) {
      hold(unix_s && clean(row.device), "a disk reading has its instant and a clean name");
      hold(!row.read_bytes || !std::isnan(*row.read_bytes), "a counter is a number");
    }
    for (const auto& [row, unix_s] : captured.nets)
      hold(unix_s && clean(row.interface), "a network reading has its instant and a clean name");
    for (const auto& [key, value] : captured.environment.facts)
      hold(clean(key) && clean(value), "clean facts");
    for (const auto& gpu : captured.rig.gpus)
      hold(clean(gpu.name) && clean(gpu.uuid), "clean names");
    for (const auto& [key, value] : captured.environment.versions) {
      hold(clean(key) && clean(value), "clean versions");
    }
    for (const auto& note : captured.notes) hold(clean(note), "clean notes");
  }
  return 0;
}
