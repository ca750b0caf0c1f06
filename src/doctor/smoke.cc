// Kept smoke tests: RUNS/doctor/smoke.json, a JSON array, newest last.
#include <algorithm>

#include "base/files.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "rigwise/doctor.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMostKept = 50, kMostBytes = std::size_t{1} << 20;

fs::path file_of(const fs::path& runs) {
  return runs / "doctor" / "smoke.json";
}

Json to_json(const SmokeResult& result) {
  Json out = {{"program", result.program}, {"cwd", result.cwd},
              {"run", result.run},         {"unix_s", result.unix_s},
              {"passed", result.passed},   {"steps_asked", result.steps_asked}};
  put(out, "steps_seen", result.steps_seen);
  put(out, "wall_s", result.wall_s);
  put(out, "last_loss", result.last_loss);
  put(out, "ranks_asked", result.ranks_asked);
  put(out, "ranks_trained", result.ranks_trained);
  put(out, "exit_status", result.exit_status);
  if (result.late) out["late"] = true;
  if (!result.trouble.empty()) out["trouble"] = result.trouble;
  return out;
}

SmokeResult from_json(const Json& json) {
  SmokeResult result;
  result.program = clean_text(get<std::string>(json, "program").value_or(""), 512);
  result.cwd = clean_text(get<std::string>(json, "cwd").value_or(""), 4096);
  result.run = clean_text(get<std::string>(json, "run").value_or(""), 256);
  result.unix_s = get<double>(json, "unix_s").value_or(0);
  result.passed = get<bool>(json, "passed").value_or(false);
  result.steps_asked = get<int>(json, "steps_asked").value_or(0);
  result.steps_seen = get<int>(json, "steps_seen");
  result.wall_s = get<double>(json, "wall_s");
  result.last_loss = get<double>(json, "last_loss");
  result.ranks_asked = get<int>(json, "ranks_asked");
  result.ranks_trained = get<int>(json, "ranks_trained");
  result.exit_status = get<int>(json, "exit_status");
  result.late = get<bool>(json, "late").value_or(false);
  result.trouble = clean_text(get<std::string>(json, "trouble").value_or(""), 600);
  return result;
}

/// What is kept, read in a child: the runs may lie on a mount that blocks for ever. A file that is
/// broken counts as empty, since the next test writes it anew.
Result<Json> kept(const fs::path& runs) {
  const auto text = run_in_child([&] { return read_file(file_of(runs), kMostBytes).value_or(""); },
                                 std::chrono::seconds(4));
  if (!text)
    return Error{Errc::unavailable, file_of(runs).string() + ": " + text.error().message, ""};
  auto json = parse_foreign_json(*text, kMostBytes);
  return json && json->is_array() ? std::move(*json) : Json(Json::array());
}

}  // namespace

std::int64_t steps_made(std::vector<std::int64_t> stated, int asked) {
  std::erase_if(stated, [](std::int64_t step) { return step <= 0; });  // a bar that just began
  std::sort(stated.begin(), stated.end());
  stated.erase(std::unique(stated.begin(), stated.end()), stated.end());
  if (stated.empty()) return 0;
  if (stated[0] <= asked) return stated.back();
  const std::int64_t apart = stated.size() > 1 ? stated[1] - stated[0] : 1;
  return stated.back() - std::max<std::int64_t>(stated[0] - apart, 0);
}

Status keep_smoke(const fs::path& runs, const SmokeResult& result) {
  RW_TRY(Json list, kept(runs));  // first: it says where the file system does not answer
  std::error_code error;
  fs::create_directories(file_of(runs).parent_path(), error);
  if (error)
    return Error{Errc::io,
                 file_of(runs).parent_path().string() + ": cannot make it: " + error.message()};
  list.push_back(to_json(result));
  while (list.size() > kMostKept) list.erase(list.begin());
  return write_file_atomic(file_of(runs),
                           list.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<std::optional<SmokeResult>> recent_smoke(const fs::path& runs, const std::string& program,
                                                const std::string& cwd) {
  RW_TRY(const Json list, kept(runs));
  std::optional<SmokeResult> newest;
  for (const Json& item : list) {
    if (!item.is_object()) continue;
    SmokeResult result = from_json(item);
    if (result.program == program && result.cwd == cwd &&
        (!newest || result.unix_s >= newest->unix_s))
      newest = std::move(result);
  }
  return newest;
}

}  // namespace rigwise
