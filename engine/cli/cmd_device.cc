// device: what the device can do at best.
#include <fmt/format.h>

#include "base/json.h"
#include "base/text.h"
#include "engine/cli/flags.h"
#include "engine/measure/device.h"
#include "rigwise/units.h"

namespace rigwise::engine {

namespace {

struct Flags {
  DeviceFlags device;
  int repeats = 7;
  std::string memory = "256MiB";
  bool json = false;
};

void put_spread(Json& out, const Spread& time) {
  out["repeats"] = time.repeats;
  out["time_s"] = time.median_s;
  out["time_low_s"] = time.low_s;
  out["time_high_s"] = time.high_s;
}

Json to_json(const DeviceReport& report) {
  Json out = {{"schema", 1}, {"device", report.device}};
  put(out, "model", report.model);
  put(out, "threads", report.threads);
  out["torch"] = RIGWISE_TORCH_VERSION;
  out["matmul"] = Json::array();
  for (const auto& rates : report.matmul) {
    Json sizes = Json::array();
    for (const auto& rate : rates.sizes) {
      Json row = {{"size", rate.size}};
      put_spread(row, rate.time);
      row["flop_per_s"] = rate.flop_per_s;
      sizes.push_back(std::move(row));
    }
    out["matmul"].push_back(
        {{"dtype", rates.dtype}, {"best_flop_per_s", rates.best_flop_per_s}, {"sizes", sizes}});
  }
  out["memory"] = Json::array();
  for (const auto& rate : report.memory) {
    Json row = {{"operation", rate.operation}, {"moved_bytes", rate.bytes}};
    put_spread(row, rate.time);
    row["bytes_per_s"] = rate.bytes_per_s;
    out["memory"].push_back(std::move(row));
  }
  return out;
}

std::string milliseconds(const Spread& time) {
  return fmt::format("{:.3f} ms ({:.3f} to {:.3f})", time.median_s * 1e3, time.low_s * 1e3,
                     time.high_s * 1e3);
}

std::string to_text(const DeviceReport& report) {
  std::string out = report.device;
  if (report.model) out += ", " + *report.model;
  if (report.threads) out += ", " + counted(*report.threads, "thread", "threads");
  out += ", torch " RIGWISE_TORCH_VERSION "\n";
  for (const auto& rates : report.matmul) {
    out += fmt::format("\nmatmul {}: {:.1f} GFLOP/s at best\n", rates.dtype,
                       rates.best_flop_per_s / 1e9);
    for (const auto& rate : rates.sizes) {
      out += fmt::format("  {:>6}³ {:>12.1f} GFLOP/s   {}\n", rate.size, rate.flop_per_s / 1e9,
                         milliseconds(rate.time));
    }
  }
  out += "\nmemory\n";
  for (const auto& rate : report.memory) {
    out += fmt::format("  {:<24}{:>8.2f} GB/s   {}\n", rate.operation, rate.bytes_per_s / 1e9,
                       milliseconds(rate.time));
  }
  return out;
}

Result<int> measure(const Flags& flags) {
  RW_TRY(const double memory_bytes, parse_bytes(flags.memory));
  if (memory_bytes < 4096 || memory_bytes > 64e9) {
    return Error{Errc::usage,
                 fmt::format("--memory {}: between 4 KB and 64 GB", clean_text(flags.memory, 40))};
  }
  RW_TRY(const at::Device device, use_device(flags.device, RankPlace{}));
  DeviceOptions options;
  options.device = device;
  options.repeats = flags.repeats;
  options.memory_bytes = static_cast<std::int64_t>(memory_bytes);
  const DeviceReport report = measure_device(options);
  return print(flags.json ? to_json(report).dump(2) + "\n" : to_text(report));
}

}  // namespace

void add_device(CLI::App& app, Program& program) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb =
      app.add_subcommand("device", "Achievable matmul rate, memory and host-device bandwidth");
  add_device_flags(*verb, flags->device);
  verb->add_option("--memory", flags->memory, "Size of each array of the memory figures")
      ->type_name("SIZE")
      ->capture_default_str();
  verb->add_option("--repeats", flags->repeats, "Timed repeats, behind one warm-up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "Print one JSON document (docs/engine.md)");
  verb->footer("Example:\n  rigwise-engine device --json");
  verb->callback([flags, &program] { program.status = exit_code(measure(*flags)); });
}

}  // namespace rigwise::engine
