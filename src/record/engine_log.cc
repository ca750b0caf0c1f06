#include "record/engine_log.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/files.h"
#include "rigwise/logs.h"

namespace rigwise {

namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;

/// The value of --out, as "--out DIR" or "--out=DIR"; empty where the command is no training.
std::string out_folder(const std::vector<std::string>& argv) {
  bool engine = false, train = false;
  std::string folder;
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string name = std::filesystem::path(argv[i]).filename().string();
    if (name == "rigwise-engine") engine = true;
    if (engine && argv[i] == "train") train = true;
    if (argv[i] == "--out" && i + 1 < argv.size()) folder = argv[i + 1];
    if (argv[i].starts_with("--out=")) folder = argv[i].substr(6);
  }
  return engine && train ? folder : std::string();
}

/// Steps of one file that state their phases; empty where it is not there, or another run's.
std::vector<StepRecord> steps_in(const std::filesystem::path& path, const std::string& name,
                                 double start_unix_s, std::int64_t first_step, double t_s) {
  std::vector<StepRecord> found;
  struct stat state = {};
  if (::stat(path.c_str(), &state) != 0 || !S_ISREG(state.st_mode)) return found;
  if (static_cast<double>(state.st_mtime) < start_unix_s - 1) return found;
  const auto text = read_file(path, kMostBytes);
  if (!text) return found;
  LogReader reader(name);
  const auto keep = [&](LogBatch batch) {
    for (StepRecord& step : batch.steps) {
      const bool phased = step.step_time_s && step.input_s && step.step;
      if (phased && *step.step >= first_step) found.push_back(std::move(step));
    }
  };
  keep(reader.push(*text, t_s));
  keep(reader.finish(t_s));
  return found;
}

}  // namespace

std::vector<EngineLog> engine_logs(const std::vector<std::string>& argv, const std::string& cwd,
                                   double start_unix_s, std::int64_t first_step, double t_s,
                                   bool of_rank_0) {
  constexpr int kMostRanks = 64;
  std::vector<EngineLog> logs;
  const std::string out = out_folder(argv);
  if (out.empty()) return logs;
  const auto folder = std::filesystem::path(cwd) / out;
  for (int rank = of_rank_0 ? 0 : 1; rank < kMostRanks; ++rank) {
    const std::string file =
        rank == 0 ? std::string("log.jsonl") : fmt::format("log.rank{}.jsonl", rank);
    EngineLog log{"OUT/" + file, {}};
    log.steps = steps_in(folder / file, log.name, start_unix_s, first_step, t_s);
    for (StepRecord& step : log.steps) step.rank = rank;
    if (!log.steps.empty()) logs.push_back(std::move(log));
  }
  return logs;
}

}  // namespace rigwise
