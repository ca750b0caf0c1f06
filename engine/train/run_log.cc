#include "engine/train/run_log.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <fcntl.h>
#include <fmt/format.h>

#include "base/json.h"
#include "base/text.h"

namespace rigwise::engine {

std::string step_line(const StepRecord& record) {
  Json line = {
      {"step", record.step},
      {"epoch", json_number(record.epoch)},
      {"loss", json_number(record.loss)},
      {"grad_norm", json_number(record.grad_norm)},
      {"lr", json_number(record.lr)},
      {"tokens", record.tokens},
      {"predicted_tokens", record.predicted_tokens},
      {"tokens_per_s", json_number(static_cast<double>(record.tokens) / record.step_time_s)},
      {"step_time_s", json_number(record.step_time_s)}};
  constexpr const char* kNames[kPhases] = {"data_s", "forward_s", "backward_s", "sync_s",
                                           "optimizer_s"};
  for (std::size_t i = 0; i < kPhases; ++i) line[kNames[i]] = json_number(record.phases[i]);
  line["peak_memory_bytes"] = record.peak_memory_bytes;
  line["token_hash"] = fmt::format("{:016x}", record.token_hash);
  return line.dump();
}

std::string checkpoint_line(std::int64_t step, const std::filesystem::path& folder,
                            double seconds) {
  return Json{{"kind", "checkpoint_saved"},
              {"step", step},
              {"path", folder.string()},
              {"checkpoint_s", json_number(seconds)}}
      .dump();
}

Result<RunLog> RunLog::open(const std::filesystem::path& file, std::int64_t done) {
  std::string kept;
  if (done > 0 && std::filesystem::exists(file)) {
    RW_TRY(const std::string text, read_file(file));
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = text.find('\n', at);
      if (end == std::string::npos) break;
      const std::string_view line = std::string_view(text).substr(at, end - at);
      const auto json = parse_foreign_json(line, std::size_t{1} << 16);
      const auto step = json ? get<std::int64_t>(*json, "step") : std::nullopt;
      if (step && *step <= done) kept.append(line).push_back('\n');
      at = end + 1;
    }
  }
  RW_CHECK(write_file_atomic(file, kept));
  RunLog log;
  log.file_ = file;
  log.fd_ = Fd(::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!log.fd_.valid()) {
    return Error{Errc::io, fmt::format("{}: {}", file.string(), errno_text(errno))};
  }
  return log;
}

Status RunLog::append(const std::string& line) {
  if (broken_) return Ok{};
  const std::string text = line + "\n";
  if (write_all(fd_.get(), text) == text.size()) return Ok{};
  broken_ = true;
  return Error{Errc::io, fmt::format("{}: {}", file_.string(), errno_text(errno)),
               "training goes on; later steps are not in that file"};
}

std::int64_t peak_memory_bytes(at::Device device) {
  if (!device.is_cpu()) {
    const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    return stats.allocated_bytes[0].peak;  // 0: of all pools together
  }
  const auto status = read_file("/proc/self/status", 1 << 16);
  if (!status) return 0;
  const std::size_t at = status->find("VmHWM:");
  if (at == std::string::npos) return 0;
  return std::atoll(status->c_str() + at + 6) * 1024;
}

void reset_peak_memory(at::Device device) {
  if (!device.is_cpu()) c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
}

}  // namespace rigwise::engine
