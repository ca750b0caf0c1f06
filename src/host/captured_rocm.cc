// AMD: `rocm-smi` (the concise tables of ROCm 3 to 6, `GPU[0] : key: value` lines), --csv, --json.
// One table of key spellings serves the lines, the CSV header and the JSON members.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

constexpr int kMostGpus = 64;
using S = GpuSample;

/// How rocm-smi spells a value: all words must occur in the lower-case key.
struct Key {
  std::array<std::string_view, 3> words;
  std::optional<double> GpuSample::*member;
  double scale;
};
constexpr double kPercent = 0.01;
// First match wins: the edge sensor before others, the average before the cap.
constexpr std::array kKeys = {
    Key{{"temperature", "edge"}, &S::temp_c, 1},
    Key{{"temperature", "memory"}, &S::temp_mem_c, 1},
    Key{{"max", "package power"}, &S::power_limit_w, 1},
    Key{{"average", "package power"}, &S::power_w, 1},
    Key{{"current", "package power"}, &S::power_w, 1},
    Key{{"gpu use (%)"}, &S::util_frac, kPercent},
    Key{{"vram total memory (b)"}, &S::total_bytes, 1},
    Key{{"vram total used memory (b)"}, &S::used_bytes, 1},
    Key{{"fan speed (%)"}, &S::fan_frac, kPercent},
    Key{{"fan level"}, &S::fan_frac, kPercent},
    Key{{"sclk clock speed"}, &S::sm_clock_mhz, 1},
    Key{{"sclk clock level"}, &S::sm_clock_mhz, 1},
    Key{{"mclk clock speed"}, &S::mem_clock_mhz, 1},
    Key{{"mclk clock level"}, &S::mem_clock_mhz, 1},
};

const Key* key_of(const std::string& low) {
  for (const auto& key : kKeys) {
    if (std::all_of(key.words.begin(), key.words.end(), [&](std::string_view word) {
          return word.empty() || low.find(word) != std::string::npos;
        })) {
      return &key;
    }
  }
  return nullptr;
}

/// "0: (500Mhz)", "(500Mhz)", "38 (15%)", "35.0": the figure in parentheses, else the first one.
std::optional<double> figure(std::string_view text) {
  const auto open = text.find('(');
  if (open != std::string_view::npos) {
    if (const auto inner = number_of(text.substr(open + 1))) return inner;
  }
  return number_of(text);
}

bool set_pair(std::string_view name, std::string_view value, int gpu, GpuSample& sample,
              Sink& sink) {
  if (says_nothing(value)) return false;
  const std::string low = lower(trim(name));
  GpuDevice& device = sink.device(gpu);
  device.vendor = "amd";
  if (low == "card series" || (low == "card model" && device.name.empty()) ||
      low == "device name") {
    device.name = clean_text(trim(value), 128);
    return true;
  }
  if (low == "pci bus") {
    device.pci_address = lower(clean_text(trim(value), 32));
    return true;
  }
  if (low == "unique id") {
    device.uuid = clean_text(trim(value), 64);
    return true;
  }
  if (low == "driver version") {
    sink.version("driver", "amdgpu " + clean_text(trim(value), 100));
    return true;
  }
  const Key* key = key_of(low);
  const auto number = key != nullptr ? figure(value) : std::nullopt;
  if (!number || !std::isfinite(*number)) return false;
  sample.*key->member = *number * key->scale;
  if (key->member == &S::total_bytes) device.total_bytes = *number;
  if (key->member == &S::power_limit_w) device.power_limit_w = *number;
  return true;
}

bool says_something(const GpuSample& sample) {
  return sample.util_frac || sample.temp_c || sample.power_w || sample.used_bytes ||
         sample.sm_clock_mhz || sample.fan_frac || sample.temp_mem_c;
}

/// "card0", "GPU[0]", "0"
std::optional<int> gpu_of(std::string_view text) {
  const auto first = text.find_first_of("0123456789");
  if (first == std::string_view::npos) return std::nullopt;
  const auto digits = text.substr(first, text.find_first_not_of("0123456789", first) - first);
  const auto gpu = to_integer(digits);
  if (!gpu || *gpu < 0 || *gpu >= kMostGpus) return std::nullopt;
  return static_cast<int>(*gpu);
}

// ------------------------------------------------------------------------------------------ text

/// Column names; what stands in parentheses belongs to the name before: "Temp (DieEdge)".
std::vector<std::string_view> concise_names(std::string_view line) {
  std::vector<std::string_view> names = words_of(line);
  std::erase_if(names, [](std::string_view name) { return name.starts_with("("); });
  return names;
}

bool is_concise_header(std::string_view line) {
  if (line.size() > 512 || line.find("GPU%") == std::string_view::npos) return false;
  const auto words = concise_names(line);
  return words.size() >= 5 && (words[0] == "GPU" || words[0] == "Device") &&
         std::find(words.begin(), words.end(), "GPU%") != words.end();
}

/// Words of a row; those that a comma joins are one cell: "0x744c,   27211", "N/A, N/A, 0".
std::vector<std::string> concise_cells(std::string_view line) {
  std::vector<std::string> cells;
  for (const auto word : words_of(line)) {
    if (!cells.empty() && cells.back().ends_with(',')) {
      cells.back() += word;
    } else {
      cells.emplace_back(word);
    }
  }
  return cells;
}

struct Concise {
  std::string_view name;
  std::optional<double> GpuSample::*member;
  double scale;
};
constexpr std::array kConcise = {
    Concise{"Temp", &S::temp_c, 1},          Concise{"AvgPwr", &S::power_w, 1},
    Concise{"Power", &S::power_w, 1},        Concise{"SCLK", &S::sm_clock_mhz, 1},
    Concise{"MCLK", &S::mem_clock_mhz, 1},   Concise{"Fan", &S::fan_frac, kPercent},
    Concise{"PwrCap", &S::power_limit_w, 1}, Concise{"GPU%", &S::util_frac, kPercent}};

bool concise_row(std::string_view line, const std::vector<std::string_view>& names,
                 std::optional<double> unix_s, Sink& sink) {
  const auto cells = concise_cells(line);
  if (cells.size() != names.size()) return false;
  const auto gpu = to_integer(cells[0]);
  if (!gpu || *gpu < 0 || *gpu >= kMostGpus) return false;
  GpuSample sample = {.gpu = static_cast<int>(*gpu)};
  GpuDevice& device = sink.device(sample.gpu);
  device.vendor = "amd";
  for (std::size_t i = 1; i < cells.size(); ++i) {
    for (const auto& column : kConcise) {
      if (column.name != names[i] || says_nothing(cells[i])) continue;
      if (const auto number = number_of(cells[i])) sample.*column.member = *number * column.scale;
    }
    if (names[i] == "VRAM%") {  // a share alone: no total is printed here
      if (const auto number = number_of(cells[i])) {
        sink.observe({}, "gpu " + std::to_string(sample.gpu), "memory_used_frac",
                     *number * kPercent, "1", unix_s);
      }
    }
  }
  if (sample.power_limit_w) device.power_limit_w = sample.power_limit_w;
  return sink.gpu(sample, unix_s);
}

void read_text(const Section& section, Sink& sink) {
  std::vector<std::string_view> names;
  std::optional<double> unix_s;
  GpuSample sample;
  bool open = false;
  const auto close = [&] {
    if (open && says_something(sample)) sink.gpu(sample, unix_s);
    open = false;
  };
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    std::size_t length = 0;
    if (const auto stamp = sink.instant(text, &length); stamp && length == text.size()) {
      close();
      unix_s = stamp;
      sink.used();
    } else if (text.starts_with("GPU[")) {
      const auto gpu = gpu_of(text);
      const auto colon = text.find(':');
      const auto pair = colon == std::string_view::npos ? text : trim(text.substr(colon + 1));
      const auto second = pair.find(": ");
      if (!gpu || second == std::string_view::npos) {
        sink.passed();
        continue;
      }
      if (!open || sample.gpu != *gpu) {
        close();
        sample = {.gpu = *gpu};
        open = true;
      }
      set_pair(pair.substr(0, second), pair.substr(second + 2), *gpu, sample, sink) ? sink.used()
                                                                                    : sink.passed();
    } else if (is_concise_header(text)) {
      names = concise_names(text);
      sink.used();
    } else if (!names.empty() && count_digits(text.substr(0, 1)) == 1) {
      concise_row(text, names, unix_s, sink) ? sink.used() : sink.bad(line);
    } else {
      if (text.find("End of ROCm") != std::string_view::npos) names.clear();
      sink.passed();
    }
  }
  close();
}

bool text_begins(const Lines& lines, std::size_t at) {
  const auto text = trim(lines[at].text);
  return text.find("ROCm System Management Interface") != std::string_view::npos ||
         is_concise_header(text) ||
         (text.starts_with("GPU[") && text.find(':') != std::string_view::npos);
}

// ------------------------------------------------------------------------------------- CSV, JSON

bool is_csv_header(std::string_view line) {
  const auto cells = split(line, ',');
  if (cells.size() < 2 || trim(cells[0]) != "device") return false;
  return std::any_of(cells.begin() + 1, cells.end(), [](std::string_view cell) {
    const std::string low = lower(trim(cell));
    return key_of(low) != nullptr || low.starts_with("card ") || low.starts_with("gpu ");
  });
}

void read_csv(const Section& section, Sink& sink) {
  std::vector<std::string_view> names;
  for (const auto& line : section.lines) {
    if (trim(line.text).empty()) continue;
    if (is_csv_header(line.text)) {
      names = split(line.text, ',');
      sink.used();
      continue;
    }
    const auto cells = split(line.text, ',');
    const auto gpu = gpu_of(cells[0]);
    if (trim(cells[0]) == "system") {
      sink.passed();
      continue;
    }
    if (cells.size() != names.size() || !gpu) {
      sink.bad(line);
      continue;
    }
    GpuSample sample = {.gpu = *gpu};
    for (std::size_t i = 1; i < cells.size(); ++i) {
      set_pair(names[i], unquoted(cells[i]), *gpu, sample, sink);
    }
    if (says_something(sample)) sink.gpu(sample, std::nullopt);
    sink.used();
  }
}

}  // namespace

const Form kRocmText = {"rocm-smi", text_begins, read_text};
const Form kRocmCsv = {
    "rocm-smi csv",
    [](const Lines& lines, std::size_t at) { return is_csv_header(lines[at].text); }, read_csv};

/// {"card0": {"Temperature (Sensor edge) (C)": "35.0", …}, "system": {"Driver version": …}}
bool read_rocm_json(const Json& json, Sink& sink) {
  bool any = false;
  for (const auto& [name, values] : json.items()) {
    if (!values.is_object() || (!name.starts_with("card") && name != "system")) continue;
    const auto gpu = name == "system" ? std::optional(0) : gpu_of(name);
    if (!gpu) continue;
    GpuSample sample = {.gpu = *gpu};
    for (const auto& [key, value] : values.items()) {
      const std::string text = value.is_string()   ? value.get<std::string>()
                               : value.is_number() ? number_text(value.get<double>())
                                                   : std::string();
      if (name == "system" && lower(key) != "driver version") continue;
      any = set_pair(key, text, *gpu, sample, sink) || any;
    }
    if (says_something(sample)) sink.gpu(sample, std::nullopt);
  }
  return any;
}

}  // namespace rigwise::captured
