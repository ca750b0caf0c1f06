// Any bytes through the readers of experiment trackers' files. The first byte picks the format; an
// event file's records are framed here with the right checksums, or nothing would come behind them.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "rigwise/logs.h"
#include "rigwise/logs_stores.h"

namespace {

using namespace rigwise;

std::uint32_t masked_crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
}

/// Records cut where the bytes say so: a byte of length before each.
std::string framed(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const auto length =
        std::min<std::size_t>(static_cast<unsigned char>(bytes[0]), bytes.size() - 1);
    const auto record = bytes.substr(1, length);
    bytes.remove_prefix(1 + length);
    std::string head;
    put(head, record.size(), 8);
    out += head;
    put(out, masked_crc32c(head), 4);
    out += record;
    put(out, masked_crc32c(record), 4);
  }
  return out;
}

void use(const MetricStore& store) {
  LogReader reader("store");
  for (std::size_t i = 0; i < store.system.size(); ++i) {
    const SystemReading& reading = store.system[i];
    const bool in_order = i == 0 || store.system[i - 1].unix_s <= reading.unix_s;
    if (!in_order || !(reading.unix_s > 0 && reading.unix_s < 1e11)) {
      std::fputs("broken promise: instants in order\n", stderr);
      std::abort();
    }
    for (const auto& [name, value] : reading.values) {
      if (value - value == 0) continue;
      std::fputs("broken promise: a finite figure\n", stderr);
      std::abort();
    }
  }
  for (const auto& entry : store.entries) {
    const std::string line = json_line(entry);
    if (line.empty() || line.find('\n') != line.size() - 1) {
      std::fputs("broken promise: one line an entry\n", stderr);
      std::abort();
    }
    (void)reader.push(line, entry.unix_s.value_or(0));
  }
  (void)reader.finish(0);
}

void use(const Result<MetricStore>& store) {
  if (store) use(*store);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 7) {
    case 0:
      use(read_event_file(framed(bytes)));
      break;
    case 1:
      use(read_event_file(bytes));
      break;
    case 2:
      use(read_wandb_log(":W&B\xe1\xbe\x01" + std::string(bytes)));
      break;
    case 3:
      use(read_trainer_state(bytes));
      break;
    case 4:
      use(read_wandb_summary(bytes));
      break;
    case 5:
      use(read_wandb_events(bytes));
      break;
    default: {
      const auto half = bytes.size() / 2;
      use(read_mlflow({{"loss", std::string(bytes.substr(0, half))},
                       {"eval_loss", std::string(bytes)},
                       {"system/gpu_0_power_usage_watts", std::string(bytes)}},
                      bytes.substr(half)));
      break;
    }
  }
  return 0;
}
