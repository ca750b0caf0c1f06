// ledger --trace: how a device's seconds were parted in traces that the user already has.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "cli/verbs.h"
#include "report/layout.h"
#include "rigwise/trace.h"
#include "rigwise/units.h"

namespace rigwise::cli {

namespace {

using report::hang;
using report::safe;

struct Part {
  const char* name;
  const char* key;
  double seconds_s;
  bool of_the_one_above;
};

/// The rows of a split: those that sum to the window, each with what it is made of.
std::vector<Part> parts_of(const TraceSplit& split) {
  std::vector<Part> parts;
  const auto inner = [&](const char* name, const char* key, const std::optional<double>& value) {
    if (value) parts.push_back({name, key, *value, true});
  };
  parts.push_back({"compute", "compute_s", split.compute_s, false});
  inner("forward", "forward_s", split.forward_s);
  inner("backward", "backward_s", split.backward_s);
  inner("optimizer", "optimizer_s", split.optimizer_s);
  parts.push_back(
      {"exposed communication", "exposed_communication_s", split.exposed_communication_s, false});
  parts.push_back({"copies", "copy_s", split.copy_s, false});
  parts.push_back({"idle", "idle_s", split.idle_s, false});
  inner("waiting for data", "exposed_input_s", split.exposed_input_s);
  inner("launched too late", "launch_s", split.launch_s);
  return parts;
}

std::string name_of(const TraceSummary& trace) {
  std::string name = trace.rank ? fmt::format("rank {}", *trace.rank) : "process";
  if (!trace.rank && trace.pid > 0) name += fmt::format(" {}", trace.pid);
  if (!trace.host.empty()) name += " on " + safe(trace.host, 80);
  return name;
}

/// Median of one part over the whole steps, with its least and most.
std::string a_step(const TraceSummary& trace, std::size_t part) {
  std::vector<double> values;
  for (const auto& step : trace.steps) {
    const auto parts = parts_of(step.split);
    if (part < parts.size()) values.push_back(parts[part].seconds_s);
  }
  if (values.empty()) return "";
  std::sort(values.begin(), values.end());
  const double unit = values.back() < 1 ? 1e3 : 1;
  const int digits = values.back() * unit < 10 ? 2 : values.back() * unit < 100 ? 1 : 0;
  return fmt::format("{:.{}f} ({:.{}f} to {:.{}f}) {}", values[values.size() / 2] * unit, digits,
                     values.front() * unit, digits, values.back() * unit, digits,
                     unit > 1 ? "ms" : "s");
}

/// What was not read, and why: one line each.
std::vector<std::string> complaints(const TraceReading& reading) {
  std::vector<std::string> lines;
  if (!reading.whole) lines.push_back("not read to the end: " + safe(reading.why_not));
  const std::int64_t lost = reading.malformed + reading.oversized;
  if (lost > 0) {
    std::string line = counted(lost, "event", "events") + " could not be read";
    if (reading.first_bad_byte)
      line += fmt::format(" (first at byte {}: '{}')", *reading.first_bad_byte,
                          safe(reading.first_bad_text, 40));
    lines.push_back(std::move(line));
  }
  if (reading.bad_times > 0)
    lines.push_back(counted(reading.bad_times, "event", "events") + " without a usable time");
  if (reading.unknown_phases > 0)
    lines.push_back(counted(reading.unknown_phases, "event", "events") + " of an unknown phase");
  if (reading.foreign > 0)
    lines.push_back(counted(reading.foreign, "event", "events") + " of other processes left out");
  return lines;
}

std::string trace_text(const TraceSummary& trace, const TextStyle& style) {
  const std::size_t width = report::line_width(style);
  std::string out;
  if (trace.device.empty()) {
    out = hang("",
               fmt::format("{}: nothing ran in it ({}).", safe(trace.file),
                           counted(trace.reading.events, "event", "events")),
               width);
  } else {
    out = hang("",
               fmt::format("{} trace of {}: {}, {}.", trace.device == "gpu" ? "GPU" : "CPU",
                           name_of(trace), format_duration(trace.total.seconds_s),
                           counted(trace.steps_ended, "step", "steps")),
               width);
    out += hang("  ", safe(trace.file), width) + '\n';
    report::Table table;
    using enum report::Table::Align;
    table.align = {left, right, right, left};
    table.head = {"part", "seconds", "share", trace.steps.empty() ? "" : "a step (least to most)"};
    table.grey_last = false;
    const auto parts = parts_of(trace.total);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Part& part = parts[i];
      table.rows.push_back(
          {(part.of_the_one_above ? "  " : "") + std::string(part.name),
           fmt::format("{:.4f}", part.seconds_s),
           trace.total.seconds_s > 0 ? format_share(part.seconds_s / trace.total.seconds_s) : "",
           a_step(trace, i)});
    }
    table.rows.push_back({"window", fmt::format("{:.4f}", trace.total.seconds_s), "100 %", ""});
    out += table.text(style);
    if (trace.total.communication_s > 0) {
      out += hang("  ",
                  fmt::format("communication {}, {} of it under compute",
                              format_duration(trace.total.communication_s),
                              format_share(1 - trace.total.exposed_communication_s /
                                                   trace.total.communication_s)),
                  width);
    }
  }
  for (const auto& line : complaints(trace.reading)) out += hang("  note: ", line, width);
  return out;
}

std::string ranks_text(const TraceComparison& ranks, const TextStyle& style) {
  const std::size_t width = report::line_width(style);
  const auto name = [](const RankArrival& row) {
    return row.rank ? fmt::format("rank {}", *row.rank) : fmt::format("trace {}", row.trace + 1);
  };
  std::string out;
  if (ranks.straggler) {
    const RankArrival& late = ranks.ranks[*ranks.straggler];
    out += hang("",
                fmt::format("The others wait for {}: {} of {}, {}; it is last at {} of {}.",
                            name(late), format_duration(late.caused_wait_s),
                            format_duration(ranks.seconds_s), format_share(ranks.straggler_share),
                            late.last, counted(ranks.matched, "collective", "collectives")),
                width);
  } else {
    out += hang("",
                fmt::format("No rank is late: over {} nobody waits 1 % of the time.",
                            counted(ranks.matched, "collective", "collectives")),
                width);
  }
  report::Table table;
  using enum report::Table::Align;
  table.align = {left, right, right, right, right};
  table.head = {"rank", "waited s", "others waited s", "behind the first ms", "last"};
  table.grey_last = false;
  for (const auto& row : ranks.ranks) {
    table.rows.push_back({name(row), fmt::format("{:.4f}", row.waited_s),
                          fmt::format("{:.4f}", row.caused_wait_s),
                          fmt::format("{:.2f}", row.late_s * 1e3), std::to_string(row.last)});
  }
  out += '\n' + table.text(style);
  for (const auto& note : ranks.notes) out += hang("  note: ", safe(note), width);
  return out;
}

Json split_json(const TraceSplit& split) {
  Json json = {{"seconds_s", split.seconds_s}};
  for (const Part& part : parts_of(split)) json[part.key] = part.seconds_s;
  json["communication_s"] = split.communication_s;
  json["input_s"] = split.input_s;
  return json;
}

Json reading_json(const TraceReading& reading) {
  Json json = {{"bytes", reading.bytes},
               {"events", reading.events},
               {"used", reading.used},
               {"malformed", reading.malformed},
               {"oversized", reading.oversized},
               {"bad_times", reading.bad_times},
               {"unknown_phases", reading.unknown_phases},
               {"duplicates", reading.duplicates},
               {"foreign", reading.foreign},
               {"whole", reading.whole}};
  if (!reading.why_not.empty()) json["why_not"] = reading.why_not;
  put(json, "first_bad_byte", reading.first_bad_byte);
  return json;
}

Json trace_json(const TraceSummary& trace) {
  Json json = {{"file", trace.file}, {"device", nullptr}};
  if (!trace.device.empty()) json["device"] = trace.device;
  if (!trace.host.empty()) json["host"] = trace.host;
  if (trace.pid > 0) json["pid"] = trace.pid;
  put(json, "rank", trace.rank);
  put(json, "ranks", trace.ranks);
  if (!trace.backend.empty()) json["backend"] = trace.backend;
  if (trace.begin_unix_s) json["begin"] = format_iso_utc(*trace.begin_unix_s);
  json["kernels"] = trace.kernels;
  json["operators"] = trace.operators;
  json["lead_s"] = trace.lead_s;
  json["tail_s"] = trace.tail_s;
  json["total"] = split_json(trace.total);
  json["steps_ended"] = trace.steps_ended;
  json["steps"] = Json::array();
  for (const auto& step : trace.steps) {
    Json row = {{"begin_s", step.begin_s}};
    row.update(split_json(step.split));
    json["steps"].push_back(std::move(row));
  }
  json["streams"] = Json::array();
  for (const auto& row : trace.streams) {
    json["streams"].push_back({{"device", row.device},
                               {"stream", row.stream},
                               {"kernels", row.kernels},
                               {"busy_s", row.busy_s},
                               {"host_wait_s", row.host_wait_s},
                               {"kernel_wait_s", row.kernel_wait_s},
                               {"other_s", row.other_s}});
  }
  json["idle_gaps"] = Json::array();
  for (const auto& row : trace.idle) {
    Json gap = {{"count", row.count}, {"seconds_s", row.seconds_s}};
    put(gap, "shorter_than_s", row.shorter_than_s);
    json["idle_gaps"].push_back(std::move(gap));
  }
  json["collectives"] = trace.collectives.size();
  json["reading"] = reading_json(trace.reading);
  return json;
}

Json ranks_json(const TraceComparison& ranks) {
  Json json = {{"matched", ranks.matched},           {"unmatched", ranks.unmatched},
               {"seconds_s", ranks.seconds_s},       {"straggler", nullptr},
               {"clocks_agree", ranks.clocks_agree}, {"notes", ranks.notes}};
  if (ranks.straggler) {
    json["straggler"] = *ranks.straggler;
    json["straggler_share_frac"] = ranks.straggler_share;
  }
  json["ranks"] = Json::array();
  for (const auto& row : ranks.ranks) {
    Json rank = {{"trace", row.trace}};
    put(rank, "rank", row.rank);
    rank.update({{"last", row.last},
                 {"waited_s", row.waited_s},
                 {"caused_wait_s", row.caused_wait_s},
                 {"late_s", row.late_s},
                 {"clock_offset_s", row.clock_offset_s}});
    json["ranks"].push_back(std::move(rank));
  }
  return json;
}

}  // namespace

int cmd_trace(const LedgerArgs& args) {
  std::vector<TraceSummary> traces;
  bool whole = true;
  std::optional<Error> first_error;
  for (const auto& file : args.traces) {
    auto trace = read_trace(file);
    if (!trace) {
      fail(trace.error());
      if (!first_error) first_error = trace.error();
      continue;
    }
    whole = whole && trace->reading.whole;
    traces.push_back(std::move(*trace));
  }
  if (traces.empty()) return kFailed;
  // several traces are ranks only where each has collectives
  std::optional<Result<TraceComparison>> ranks;
  const bool communicate = std::all_of(traces.begin(), traces.end(), [](const TraceSummary& trace) {
    return !trace.collectives.empty();
  });
  if (traces.size() > 1 && communicate) ranks = compare_ranks(traces);

  std::string out;
  if (args.json) {
    Json document = {{"schema", 1}, {"traces", Json::array()}, {"comparison", nullptr}};
    for (const auto& trace : traces) document["traces"].push_back(trace_json(trace));
    if (ranks && ranks->ok()) document["comparison"] = ranks_json(**ranks);
    out = document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
  } else {
    const TextStyle style = style_of(STDOUT_FILENO);
    for (const auto& trace : traces) {
      if (!out.empty()) out += '\n';
      out += trace_text(trace, style);
    }
    if (ranks) {
      out +=
          '\n' + (ranks->ok() ? ranks_text(**ranks, style)
                              : hang("", ranks->error().message + ".", report::line_width(style)));
    }
  }
  const int printed = print(out);
  if (printed != kOk) return printed;
  return first_error || !whole ? kPartial : kOk;
}

}  // namespace rigwise::cli
