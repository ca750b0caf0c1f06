#include "record/engine_log.h"

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

}  // namespace

std::vector<StepRecord> engine_steps(const std::vector<std::string>& argv, const std::string& cwd,
                                     double start_unix_s, std::int64_t first_step, double t_s) {
  std::vector<StepRecord> found;
  const std::string folder = out_folder(argv);
  if (folder.empty()) return found;
  const auto path = std::filesystem::path(cwd) / folder / "log.jsonl";
  struct stat state = {};
  if (::stat(path.c_str(), &state) != 0 || !S_ISREG(state.st_mode)) return found;
  if (static_cast<double>(state.st_mtime) < start_unix_s - 1) return found;  // of another run
  const auto text = read_file(path, kMostBytes);
  if (!text) return found;
  LogReader reader(kEngineLog);
  LogBatch batch = reader.push(*text, t_s);
  const auto keep = [&](LogBatch& some) {
    for (StepRecord& step : some.steps) {
      const bool phased = step.step_time_s && step.input_s && step.step;
      if (phased && *step.step >= first_step) found.push_back(std::move(step));
    }
  };
  keep(batch);
  batch = reader.finish(t_s);
  keep(batch);
  return found;
}

}  // namespace rigwise
