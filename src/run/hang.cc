// hangs.jsonl: one JSON object a line. A hang has a line when it is found, and one when it ends.
#include "rigwise/hang.h"

#include <algorithm>
#include <array>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "run/codec.h"
#include "run/hang_json.h"
#include "run/layout.h"

namespace rigwise {

namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMostLine = std::size_t{4} << 20;
constexpr std::size_t kMostText = 4096;  // of one value

std::string text_of(const Json& object, const char* key, std::size_t most = kMostText) {
  const auto value = get<std::string>(object, key);
  return value ? clean_text(*value, most) : std::string();
}

void put_text(Json& object, const char* key, const std::string& text) {
  if (!text.empty()) object[key] = text;
}

Json json_of(const GpuSample& gpu) {
  Json out = {{"gpu", gpu.gpu}, {"t_s", json_number(gpu.t_s)}};
  put(out, "util_frac", gpu.util_frac);
  put(out, "mem_util_frac", gpu.mem_util_frac);
  put(out, "power_w", gpu.power_w);
  put(out, "tree_used_bytes", gpu.tree_used_bytes);
  return out;
}

template <class Visit>
void each(const Json& object, const char* key, std::size_t most, const Visit& visit) {
  const auto array = object.find(key);
  if (array == object.end() || !array->is_array()) return;
  for (std::size_t i = 0; i < std::min(most, array->size()); ++i) {
    if ((*array)[i].is_object()) visit((*array)[i]);
  }
}

ProcessLook process_of(const Json& in) {
  ProcessLook process;
  process.pid = get<int>(in, "pid").value_or(0);
  process.ppid = get<int>(in, "ppid").value_or(0);
  process.role = text_of(in, "role", 32);
  process.rank = get<int>(in, "rank");
  process.comm = text_of(in, "comm", 64);
  process.state = text_of(in, "state", 4);
  process.python = text_of(in, "python", 32);
  process.read = text_of(in, "read", 32);
  process.why = text_of(in, "why");
  process.hint = text_of(in, "hint");
  process.work = text_of(in, "work", 64);
  process.wchan = text_of(in, "wchan", 128);
  process.syscall = text_of(in, "syscall", 64);
  process.waits_fd = get<int>(in, "waits_fd");
  process.waits_on = text_of(in, "waits_on");
  process.holds_gpu = get<bool>(in, "holds_gpu").value_or(false);
  process.spins_on_gpu = get<bool>(in, "spins_on_gpu").value_or(false);
  process.still_s = get<double>(in, "still_s");
  process.cpu_frac = get<double>(in, "cpu_frac");
  process.queued_frac = get<double>(in, "queued_frac");
  process.connections = get<int>(in, "connections");
  process.closed_by_peer = get<int>(in, "closed_by_peer");
  process.unsent_bytes = get<double>(in, "unsent_bytes");
  process.unread_bytes = get<double>(in, "unread_bytes");
  each(in, "frames", 1000, [&](const Json& one) {
    process.frames.push_back(
        {text_of(one, "file"), text_of(one, "function"), get<int>(one, "line").value_or(0)});
  });
  each(in, "threads", 1000, [&](const Json& one) {
    process.threads.push_back({text_of(one, "comm", 64), text_of(one, "state", 4),
                               text_of(one, "wchan", 128), get<int>(one, "count").value_or(0)});
  });
  return process;
}

GpuSample gpu_of(const Json& in) {
  GpuSample gpu;
  gpu.t_s = get<double>(in, "t_s").value_or(0);
  gpu.gpu = get<int>(in, "gpu").value_or(0);
  gpu.util_frac = get<double>(in, "util_frac");
  gpu.mem_util_frac = get<double>(in, "mem_util_frac");
  gpu.power_w = get<double>(in, "power_w");
  gpu.tree_used_bytes = get<double>(in, "tree_used_bytes");
  return gpu;
}

template <class Enum>
Enum named(std::string_view name, Enum last, Enum fallback) {
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    if (to_string(static_cast<Enum>(i)) == name) return static_cast<Enum>(i);
  }
  return fallback;
}

HangVerdict verdict_of(const Json& in) {
  HangVerdict verdict;
  verdict.where = text_of(in, "where");
  verdict.because = text_of(in, "because");
  verdict.advice = text_of(in, "advice");
  verdict.at_work = get<bool>(in, "at_work").value_or(false);
  verdict.cause = named(text_of(in, "cause", 32), HangCause::collective, HangCause::unknown);
  const auto ranks = in.find("ranks");
  if (ranks == in.end() || !ranks->is_array()) return verdict;
  for (const Json& rank : *ranks) {
    if (rank.is_number_integer() && verdict.ranks.size() < 1024)
      verdict.ranks.push_back(rank.get<int>());
  }
  return verdict;
}

/// The line of a hang that was found.
std::optional<Hang> found_of(const Json& in) {
  const auto number = get<int>(in, "hang");
  const auto t_s = get<double>(in, "t_s"), found_s = get<double>(in, "found_s");
  if (!number || !t_s || !found_s) return std::nullopt;
  Hang hang;
  hang.number = *number;
  hang.host = text_of(in, "host", 128);
  hang.t_s = *t_s;
  hang.found_s = *found_s;
  hang.threshold_s = get<double>(in, "threshold_s").value_or(0);
  hang.last_progress = text_of(in, "last_progress", 128);
  hang.last_step = get<std::int64_t>(in, "last_step");
  hang.look.t_s = get<double>(in, "looked_s").value_or(*found_s);
  if (const auto verdict = in.find("verdict"); verdict != in.end() && verdict->is_object())
    hang.look.verdict = verdict_of(*verdict);
  each(in, "processes", 4096,
       [&](const Json& one) { hang.look.processes.push_back(process_of(one)); });
  each(in, "gpus", 256, [&](const Json& one) { hang.look.gpus.push_back(gpu_of(one)); });
  return hang;
}

}  // namespace

Json json_of(const ProcessLook& process) {
  Json out = {{"pid", process.pid}, {"ppid", process.ppid}, {"role", process.role}};
  put(out, "rank", process.rank);
  put_text(out, "comm", process.comm);
  put_text(out, "state", process.state);
  put_text(out, "python", process.python);
  put_text(out, "read", process.read);
  put_text(out, "why", process.why);
  put_text(out, "hint", process.hint);
  put_text(out, "work", process.work);
  put_text(out, "wchan", process.wchan);
  put_text(out, "syscall", process.syscall);
  put(out, "waits_fd", process.waits_fd);
  put_text(out, "waits_on", process.waits_on);
  if (process.holds_gpu) out["holds_gpu"] = true;
  if (process.spins_on_gpu) out["spins_on_gpu"] = true;
  put(out, "still_s", process.still_s);
  put(out, "cpu_frac", process.cpu_frac);
  put(out, "queued_frac", process.queued_frac);
  put(out, "connections", process.connections);
  put(out, "closed_by_peer", process.closed_by_peer);
  put(out, "unsent_bytes", process.unsent_bytes);
  put(out, "unread_bytes", process.unread_bytes);
  out["frames"] = Json::array();
  for (const LookFrame& frame : process.frames) {
    Json one = {{"file", frame.file}};
    if (frame.line > 0) one["line"] = frame.line;
    one["function"] = frame.function;
    out["frames"].push_back(std::move(one));
  }
  out["threads"] = Json::array();
  for (const ThreadGroup& group : process.threads) {
    Json one = {{"comm", group.comm}, {"state", group.state}};
    put_text(one, "wchan", group.wchan);
    one["count"] = group.count;
    out["threads"].push_back(std::move(one));
  }
  return out;
}

std::string encode_line(const Hang& hang) {
  Json out = {{"hang", hang.number}};
  if (hang.t_end_s) {  // the second line: what was found stands in the first
    out["state"] = to_string(hang.state);
    out["t_end_s"] = json_number(*hang.t_end_s);
    return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  out["host"] = hang.host;
  out["t_s"] = json_number(hang.t_s);
  out["found_s"] = json_number(hang.found_s);
  out["threshold_s"] = json_number(hang.threshold_s);
  put_text(out, "last_progress", hang.last_progress);
  put(out, "last_step", hang.last_step);
  out["looked_s"] = json_number(hang.look.t_s);
  const HangVerdict& verdict = hang.look.verdict;
  out["verdict"] = {{"where", verdict.where},
                    {"cause", to_string(verdict.cause)},
                    {"ranks", verdict.ranks},
                    {"because", verdict.because},
                    {"advice", verdict.advice}};
  if (verdict.at_work) out["verdict"]["at_work"] = true;
  out["processes"] = Json::array();
  for (const ProcessLook& process : hang.look.processes)
    out["processes"].push_back(json_of(process));
  for (const GpuSample& gpu : hang.look.gpus) out["gpus"].push_back(json_of(gpu));
  return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Rows<Hang> decode_hangs(std::string_view text) {
  Rows<Hang> rows;
  rows.present = true;
  rows.file = std::string(layout::kHangs);
  for (std::int64_t number_of_line = 1;; ++number_of_line) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) return rows;  // a half line is no bad one
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const auto parsed = parse_foreign_json(line, kMostLine);
    if (!parsed || !parsed->is_object()) {
      ++rows.bad_rows;
      continue;
    }
    const auto ended_s = get<double>(*parsed, "t_end_s");
    if (!ended_s) {
      auto hang = found_of(*parsed);
      if (hang) {
        hang->line = number_of_line;
        rows.rows.push_back(std::move(*hang));
      } else {
        ++rows.bad_rows;
      }
      continue;
    }
    const auto number = get<int>(*parsed, "hang");
    const auto whose = std::find_if(rows.rows.begin(), rows.rows.end(),
                                    [&](const Hang& hang) { return hang.number == number; });
    if (whose == rows.rows.end()) {
      ++rows.bad_rows;
      continue;
    }
    whose->t_end_s = *ended_s;
    whose->state = named(text_of(*parsed, "state", 32), HangState::stopped, HangState::ended);
  }
}

Result<Rows<Hang>> read_hangs(const Run& run) {
  const auto text = read_file(run.dir / layout::kHangs, kMostBytes);
  if (text) return decode_hangs(*text);
  if (text.error().code != Errc::not_found) return text.error();
  Rows<Hang> none;
  none.file = std::string(layout::kHangs);
  return none;
}

HangLog::HangLog(const std::filesystem::path& run_dir) : file_(run_dir / layout::kHangs, {}) {}

void HangLog::append(const Hang& hang) {
  file_.append(encode_line(hang));
}

double seconds_of(const Hang& hang, const Run& run) {
  return std::max(0.0, hang.t_end_s.value_or(std::max(run.wall_s, hang.found_s)) - hang.t_s);
}

}  // namespace rigwise
