// The recording library without the command line: what tests of src/record drive.
//
//   record_driver run [--name N] [--runs DIR] [--interval S] [--host-root DIR] [--detach] -- COMMAND…
//   record_driver attach|pause|resume|show DIR
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/json.h"
#include "rigwise/record.h"

namespace {

int show(const std::filesystem::path& dir) {
  const auto run = rigwise::open_run(dir);
  if (!run) {
    std::fprintf(stderr, "%s\n", run.error().message.c_str());
    return 1;
  }
  rigwise::Json json;
  json["state"] = rigwise::to_string(run->state);
  json["wall_s"] = run->wall_s;
  json["missing"] = run->missing;
  json["warnings"] = run->info.warnings;
  if (run->info.ending) {
    rigwise::put(json, "exit_status", run->info.ending->exit_status);
    rigwise::put(json, "signal", run->info.ending->signal);
    json["reason"] = run->info.ending->reason;
  }
  rigwise::put(json, "ranks_asked", run->info.ranks_asked);
  rigwise::put(json, "ranks_trained", run->info.ranks_trained);
  if (run->info.recorder) {
    rigwise::put(json, "cpu_s", run->info.recorder->cpu_s);
    rigwise::put(json, "peak_rss_bytes", run->info.recorder->peak_rss_bytes);
    rigwise::put(json, "longest_tick_s", run->info.recorder->longest_tick_s);
    rigwise::put(json, "keeper_cpu_s", run->info.recorder->keeper_cpu_s);
    json["lost_log_bytes"] = run->info.recorder->lost_log_bytes;
  }
  if (const auto steps = rigwise::read_steps(*run)) json["steps"] = steps->rows.size();
  if (const auto events = rigwise::read_events(*run)) {
    for (const auto& event : events->rows) json["events"].push_back(event.name);
  }
  std::puts(json.dump().c_str());
  return 0;
}

int run(const std::vector<std::string>& words) {
  rigwise::RecordOptions options;
  options.root = "runs";
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--") {
      options.command.assign(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      break;
    }
    if (words[i] == "--detach") options.detach = true;
    if (i + 1 == words.size()) break;
    if (words[i] == "--name") options.name = words[i + 1];
    if (words[i] == "--profile") options.profile.inside = words[i + 1] != "none";
    if (words[i] == "--runs") options.root = words[i + 1];
    if (words[i] == "--host-root") options.host_root = words[i + 1];
    if (words[i] == "--interval") options.interval_s = std::atof(words[i + 1].c_str());
  }
  const auto outcome = rigwise::record_run(options);
  if (outcome.detached && outcome.dir) std::puts(outcome.dir->c_str());
  return outcome.exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 2) return 2;
  if (words[0] == "run") return run({words.begin() + 1, words.end()});
  if (words[0] == "show") return show(words[1]);
  if (words[0] == "attach") {
    const auto status = rigwise::attach_run(words[1]);
    if (!status) std::fprintf(stderr, "%s\n", status.error().message.c_str());
    return status ? *status : 11;
  }
  const auto status = rigwise::pause_recorder(words[1], words[0] == "pause");
  if (!status) std::fprintf(stderr, "%s\n", status.error().message.c_str());
  return status ? 0 : 10;
}
