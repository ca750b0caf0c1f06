// Captured: one file's text → sections by form → values. The forms stand in captured_*.cc.
#include "rigwise/captured.h"

#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise {

namespace captured {
// of captured_*.cc: a whole JSON document of that tool
bool read_rocm_json(const Json& json, Sink& sink);
bool read_amd_json(const Json& json, Sink& sink);
bool read_gpustat_json(const Json& json, Sink& sink);
bool read_lsblk_json(const Json& json, Sink& sink);
bool read_iostat_json(const Json& json, Sink& sink);
bool read_iperf3_json(const Json& json, Sink& sink);
bool read_packages_json(const Json& json, Sink& sink);

namespace {

constexpr std::size_t kMostBytes = std::size_t{64} << 20;
constexpr std::size_t kMostLines = 2'000'000;
constexpr std::size_t kMostJsonBytes = std::size_t{16} << 20;

// Asked in this order: those with the surest marks first.
constexpr std::array kForms = {&kNvidiaScreen,
                               &kNvidiaQuery,
                               &kNvidiaNvlink,
                               &kNvidiaList,
                               &kNvidiaDmon,
                               &kNvidiaPmon,
                               &kNvidiaTopo,
                               &kNvidiaApps,
                               &kGpustat,
                               &kAmdSmi,
                               &kAmdMonitor,
                               &kAmdCsv,
                               &kRocmText,
                               &kRocmCsv,
                               &kNvidiaCsv,
                               &kSar,
                               &kVmstat,
                               &kTop,
                               &kSensors,
                               &kIostat,
                               &kIperf3,
                               &kPing,
                               &kLsblkPairs,
                               &kLsblk,
                               &kDf,
                               &kFree,
                               &kSoftware,
                               &kUname,
                               &kLscpu,
                               &kPackages,
                               &kDu};

Lines lines_of(std::string_view text, Sink& sink) {
  Lines lines;
  std::int64_t number = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (lines.size() >= kMostLines) {
      sink.note("more than 2,000,000 lines: the rest was not read");
      break;
    }
    lines.push_back({line, ++number});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// "$ df -h", "# iostat -xz 1", "user@host:~/work$ nvidia-smi", "(venv) me@rig:~$ pip freeze", "+
/// df -h"
std::optional<std::string> prompt_of(std::string_view line) {
  line = trim(line.substr(0, 1000));
  std::string_view command;
  if (line.starts_with("$ ") || line.starts_with("+ ") || line.starts_with("> ")) {
    command = line.substr(2);
  } else if (const auto at = line.find("$ ");
             at != std::string_view::npos && at < 100 &&
             line.substr(0, at).find('@') != std::string_view::npos) {
    command = line.substr(at + 2);
  } else if (const auto root = line.find("# ");
             root != std::string_view::npos && root < 100 &&
             line.substr(0, root).find('@') != std::string_view::npos) {
    command = line.substr(root + 2);
  } else if (line.starts_with("# ")) {
    // a comment or a root prompt: only with a command that we know
    constexpr std::array<std::string_view, 18> kCommands = {
        "nvidia-smi", "rocm-smi", "amd-smi", "df",  "du",   "lsblk",
        "iostat",     "vmstat",   "mpstat",  "sar", "top",  "sensors",
        "ping",       "iperf3",   "python",  "pip", "free", "lscpu"};
    const auto words = words_of(line.substr(2));
    const bool known = !words.empty() &&
                       std::find(kCommands.begin(), kCommands.end(), words[0]) != kCommands.end();
    // dmon's own header begins so too: "# gpu    pwr …"
    if (known) command = line.substr(2);
  }
  if (trim(command).empty()) return std::nullopt;
  return clean_text(trim(command), 400);
}

/// "du -sb checkpoints", "du-sh" as a file's name
bool is_du(std::string_view command) {
  return command.starts_with("du") && (command.size() == 2 || !is_letter(command[2]));
}

const Form* form_at(const Lines& lines, std::size_t at, std::string_view command) {
  const auto text = trim(lines[at].text.substr(0, 4096));
  if (text.empty()) return nullptr;
  for (const Form* form : kForms) {
    if (form->begins(lines, at)) return form;
  }
  if (is_du(command) && is_du_row(lines[at].text)) return &kDu;
  return nullptr;
}

/// Reads a document that is JSON as a whole.
bool read_json(std::string_view text, Sink& sink) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || (text[first] != '{' && text[first] != '[')) return false;
  const auto json = parse_foreign_json(text, kMostJsonBytes);
  if (!json || !(json->is_object() || json->is_array())) return false;
  struct JsonForm {
    std::string_view name;
    bool (*read)(const Json&, Sink&);
  };
  constexpr std::array kJson = {
      JsonForm{"iperf3 json", read_iperf3_json},    JsonForm{"lsblk json", read_lsblk_json},
      JsonForm{"iostat json", read_iostat_json},    JsonForm{"rocm-smi json", read_rocm_json},
      JsonForm{"amd-smi json", read_amd_json},      JsonForm{"gpustat json", read_gpustat_json},
      JsonForm{"pip list json", read_packages_json}};
  for (const auto& form : kJson) {
    if (json->is_array() && form.read != read_packages_json && form.read != read_amd_json) continue;
    if (!form.read(*json, sink)) continue;
    const auto count = 1 + std::count(text.begin(), text.end(), '\n');
    sink.into().kinds.emplace_back(form.name);
    sink.into().reading.lines = sink.into().reading.matched = count;
    return true;
  }
  return false;
}

std::vector<std::string> known_names() {
  std::vector<std::string> names;
  for (const Form* form : kForms) names.emplace_back(form->name);
  return names;
}

void add_kind(std::string_view kind, Sink& sink) {
  auto& kinds = sink.into().kinds;
  if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.emplace_back(kind);
}

/// The command that a file's name suggests: "df_H.txt" says little, "df -H.txt" all.
std::string command_of_name(std::string_view name) {
  const auto slash = name.rfind('/');
  if (slash != std::string_view::npos) name.remove_prefix(slash + 1);
  const auto dot = name.rfind('.');
  return clean_text(name.substr(0, dot), 200);
}

/// A row of --query-compute-apps with a UUID looks like one of --query-gpu.
bool is_apps_row(const Form* form, const Form* here, const Section& section,
                 std::string_view line) {
  return form == &kNvidiaApps && here == &kNvidiaCsv && !section.lines.empty() &&
         std::count(line.begin(), line.end(), ',') ==
             std::count(section.lines.front().text.begin(), section.lines.front().text.end(), ',');
}

void read_sections(std::string_view file_name, const Lines& lines, const CaptureHints& hints,
                   Sink& sink) {
  Lines loose;  // of no form
  Section section;
  const Form* form = nullptr;
  std::string command = command_of_name(file_name);
  const auto close = [&] {
    if (form != nullptr && !section.lines.empty()) {
      form->read(section, sink);
      add_kind(form->name, sink);
    }
    section = {};
    form = nullptr;
  };
  for (std::size_t at = 0; at < lines.size(); ++at) {
    if (auto prompt = prompt_of(lines[at].text)) {
      close();
      command = std::move(*prompt);
      sink.passed();
      continue;
    }
    const Form* here = form_at(lines, at, command);
    // the environment of collect_env holds an lscpu of its own
    const bool inside = form != nullptr && (here == nullptr || here == form ||
                                            (form == &kSoftware && here == &kLscpu) ||
                                            is_apps_row(form, here, section, lines[at].text));
    if (!inside) {
      close();
      form = here;
      section = {.command = command, .file_name = file_name, .hints = &hints};
    }
    if (form != nullptr) {
      section.lines.push_back(lines[at]);
    } else {
      loose.push_back(lines[at]);
    }
  }
  close();
  if (const auto used = read_software_lines(loose, sink); used > 0) {
    const auto said = std::count_if(loose.begin(), loose.end(),
                                    [](const Line& l) { return !trim(l.text).empty(); });
    // a few words among a log's lines make no captured file of it, but they are kept
    if (static_cast<std::int64_t>(used) * 2 >= said) add_kind("printed versions", sink);
    sink.used(used);
  }
}

}  // namespace
}  // namespace captured

Captured read_captured(std::string_view file_name, std::string_view text,
                       const CaptureHints& hints) {
  using namespace captured;
  Captured result;
  Sink sink(result);
  if (text.size() > kMostBytes) {
    text = text.substr(0, kMostBytes);
    sink.note("larger than 64 MiB: only the beginning was read");
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  if (read_json(text, sink)) return result;
  const Lines lines = lines_of(text, sink);
  result.reading.lines = std::count_if(lines.begin(), lines.end(),
                                       [](const Line& line) { return !trim(line.text).empty(); });
  read_sections(file_name, lines, hints, sink);
  return result;
}

std::string captured_forms() {
  auto names = captured::known_names();
  std::sort(names.begin(), names.end());
  return join(names, ", ");
}

}  // namespace rigwise
