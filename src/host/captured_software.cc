// Software and the machine: `python -V`, torch environments that somebody printed, accelerate env,
// transformers env, torch.utils.collect_env, pip freeze, pip list, conda list, uname -a, lscpu,
// free.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"
#include "base/text.h"
#include "host/captured_forms.h"

namespace rigwise::captured {

namespace {

/// A package's name as pip compares it (PEP 503).
std::string package_name(std::string_view name) {
  std::string out;
  for (const char c : lower(name)) {
    const bool separator = c == '_' || c == '.' || c == '-';
    if (separator && (out.empty() || out.back() == '-')) continue;
    out += separator ? '-' : c;
  }
  return out;
}

bool is_package_name(std::string_view name) {
  return !name.empty() && name.size() <= 100 &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-[]") ==
             std::string_view::npos &&
         count_digits(name) < static_cast<int>(name.size());
}

bool is_version(std::string_view text) {
  return !text.empty() && text.size() <= 64 && count_digits(text.substr(0, 1)) == 1 &&
         text.find_first_not_of(
             "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+!_-") ==
             std::string_view::npos;
}

void package(std::string_view name, std::string_view version, Sink& sink) {
  const std::string key = package_name(name.substr(0, name.find('[')));
  struct Bundled {
    std::string_view key, wheel;
  };
  constexpr std::array kBundled = {Bundled{"cuda_runtime", "nvidia-cuda-runtime"},
                                   Bundled{"cudnn", "nvidia-cudnn"}, Bundled{"nccl", "nvidia-nccl"},
                                   Bundled{"cublas", "nvidia-cublas"}};
  for (const auto& bundled : kBundled) {
    if (key == bundled.wheel || key.starts_with(std::string(bundled.wheel) + "-cu")) {
      sink.version(bundled.key, version);
    }
  }
  if (key == "pytorch") return sink.version("torch", version);  // conda's name of it
  sink.version(key, version);
}

// ---------------------------------------------------------------------------------------- labels

enum class Kind { version, fact, truth, memory, package };

/// How tools and people label a value; the label in lower case without '`', '-' bullets and ':'.
struct Label {
  std::string_view label;
  Kind kind;
  std::string_view key;
};
constexpr std::array kLabels = {
    Label{"python version", Kind::version, "python"},
    Label{"python", Kind::version, "python"},
    Label{"sys.version", Kind::version, "python"},
    Label{"pytorch version", Kind::version, "torch"},
    Label{"pytorch version (gpu?)", Kind::version, "torch"},
    Label{"pytorch version (accelerator?)", Kind::version, "torch"},
    Label{"torch version", Kind::version, "torch"},
    Label{"pytorch", Kind::version, "torch"},
    Label{"torch", Kind::version, "torch"},
    Label{"torch.__version__", Kind::version, "torch"},
    Label{"torchvision version", Kind::version, "torchvision"},
    Label{"transformers version", Kind::version, "transformers"},
    Label{"transformers", Kind::version, "transformers"},
    Label{"transformers.__version__", Kind::version, "transformers"},
    Label{"accelerate version", Kind::version, "accelerate"},
    Label{"accelerate", Kind::version, "accelerate"},
    Label{"deepspeed version", Kind::version, "deepspeed"},
    Label{"peft version", Kind::version, "peft"},
    Label{"trl version", Kind::version, "trl"},
    Label{"datasets version", Kind::version, "datasets"},
    Label{"bitsandbytes version", Kind::version, "bitsandbytes"},
    Label{"numpy version", Kind::version, "numpy"},
    Label{"huggingface_hub version", Kind::version, "huggingface-hub"},
    Label{"safetensors version", Kind::version, "safetensors"},
    Label{"tensorflow version (gpu?)", Kind::version, "tensorflow"},
    Label{"flax version (cpu?/gpu?/tpu?)", Kind::version, "flax"},
    Label{"jax version", Kind::version, "jax"},
    Label{"jaxlib version", Kind::version, "jaxlib"},
    Label{"cuda version", Kind::version, "cuda"},
    Label{"cuda used to build pytorch", Kind::version, "cuda"},
    Label{"torch.version.cuda", Kind::version, "cuda"},
    Label{"cuda", Kind::version, "cuda"},
    Label{"rocm used to build pytorch", Kind::version, "hip"},
    Label{"torch.version.hip", Kind::version, "hip"},
    Label{"hip runtime version", Kind::version, "hip_runtime"},
    Label{"cuda runtime version", Kind::version, "cuda_toolkit"},
    Label{"cudnn version", Kind::version, "cudnn"},
    Label{"torch.backends.cudnn.version()", Kind::version, "cudnn"},
    Label{"nccl version", Kind::version, "nccl"},
    Label{"nccl", Kind::version, "nccl"},
    Label{"torch.cuda.nccl.version()", Kind::version, "nccl"},
    Label{"nvidia driver version", Kind::version, "driver"},
    Label{"driver version", Kind::version, "driver"},
    Label{"gcc version", Kind::version, "gcc"},
    Label{"libc version", Kind::version, "libc"},
    Label{"os", Kind::version, "os"},
    Label{"platform", Kind::fact, "platform"},
    Label{"python platform", Kind::fact, "platform"},
    Label{"is cuda available", Kind::truth, "cuda_available"},
    Label{"cuda available", Kind::truth, "cuda_available"},
    Label{"torch.cuda.is_available()", Kind::truth, "cuda_available"},
    Label{"device count", Kind::fact, "gpu_count"},
    Label{"gpu count", Kind::fact, "gpu_count"},
    Label{"torch.cuda.device_count()", Kind::fact, "gpu_count"},
    Label{"gpu type", Kind::fact, "gpu_name"},
    Label{"device name", Kind::fact, "gpu_name"},
    Label{"gpu", Kind::fact, "gpu_name"},
    Label{"torch.cuda.get_device_name(0)", Kind::fact, "gpu_name"},
    Label{"pytorch accelerator", Kind::fact, "accelerator"},
    Label{"system ram", Kind::memory, ""},
    Label{"accelerate bash location", Kind::fact, "accelerate_path"},
};

const Label* label_of(const std::string& label) {
  const auto found = std::find_if(kLabels.begin(), kLabels.end(),
                                  [&](const Label& l) { return l.label == label; });
  return found == kLabels.end() ? nullptr : &*found;
}

/// "3.11.7 (main, …) [GCC 12.2.0] (64-bit runtime)" → "3.11.7"; "(2, 18, 1)" → "2.18.1".
std::string version_text(const Label& label, std::string_view value) {
  value = unquoted(value);
  if (value.starts_with("(") && value.ends_with(")") && count_digits(value) > 0) {
    std::string out;
    for (const char c : value) {
      if (is_digit(c)) out += c;
      if (c == ',') out += '.';
    }
    return out;
  }
  if (label.key == "os" || label.key == "gcc" || label.key == "libc") return clean_text(value, 120);
  auto word = value.substr(0, value.find_first_of(" ,|"));
  if (word.starts_with("v") && word.size() > 1) word.remove_prefix(1);
  return is_version(word) ? clean_text(word, 64) : std::string();
}

bool take_label(std::string_view name, std::string_view value, Sink& sink) {
  std::string label;
  for (const char c : lower(trim(name))) {
    if (c != '`') label += c;
  }
  while (label.starts_with("- ") || label.starts_with("* ")) label = label.substr(2);
  const Label* known = label_of(std::string(trim(label)));
  value = trim(value);
  if (known == nullptr) return false;
  if (says_nothing(value) || lower(value).starts_with("not "))
    return true;  // known, and says nothing
  switch (known->kind) {
    case Kind::version: {
      const auto text = version_text(*known, value);
      if (text.empty()) return false;
      sink.version(known->key, text);
      return true;
    }
    case Kind::truth: {
      const std::string low = lower(value.substr(0, value.find_first_of(" ,")));
      if (low != "true" && low != "false" && low != "yes" && low != "no") return false;
      sink.fact(known->key, low == "true" || low == "yes" ? "yes" : "no");
      return true;
    }
    case Kind::memory:
      if (const auto bytes = size_of(value, 1024)) sink.into().rig.mem_bytes = bytes;
      return true;
    case Kind::fact:
    case Kind::package:
      sink.fact(known->key, value);
      return true;
  }
  return false;
}

/// "2.13.0+cpu None False", "2.1.0+cu121 12.1 True 2": print(torch.__version__, torch.version.cuda,
/// …)
bool torch_printed(std::string_view text, Sink& sink) {
  const auto words = words_of(text);
  if (words.size() < 2 || words.size() > 6 || !is_version(words[0]) ||
      words[0].find('.') == std::string_view::npos) {
    return false;
  }
  std::optional<bool> available;
  std::string_view cuda;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "True" || words[i] == "False") {
      available = words[i] == "True";
    } else if (i == 1 && (is_version(words[1]) || words[1] == "None")) {
      cuda = words[1];
    } else if (!to_integer(words[i])) {
      return false;
    }
  }
  if (!available) return false;
  sink.version("torch", words[0]);
  if (is_version(cuda)) sink.version("cuda", cuda);
  sink.fact("cuda_available", *available ? "yes" : "no");
  return true;
}

/// "Python 3.11.7"
bool python_printed(std::string_view text, Sink& sink) {
  if (!starts_with_word(text, "Python")) return false;
  const auto words = words_of(text);
  if (words.size() != 2 || !is_version(words[1])) return false;
  sink.version("python", words[1]);
  return true;
}

/// "[pip3] torch==2.1.0", "[conda] pytorch   2.1.0   py3.10_…   pytorch"
bool relevant_library(std::string_view text, Sink& sink) {
  if (!text.starts_with("[pip") && !text.starts_with("[conda]")) return false;
  const auto words = words_of(text.substr(std::min(text.find(']'), text.size() - 1) + 1));
  if (words.empty()) return true;
  const auto equals = words[0].find("==");
  if (equals != std::string_view::npos) {
    package(words[0].substr(0, equals), words[0].substr(equals + 2), sink);
  } else if (words.size() >= 2 && is_package_name(words[0]) && is_version(words[1])) {
    package(words[0], words[1], sink);
  }
  return true;
}

/// "GPU 0: NVIDIA GeForce RTX 3090" under "GPU models and configuration:"
bool gpu_model(std::string_view text, Sink& sink) {
  if (!text.starts_with("GPU ")) return false;
  const auto colon = text.find(": ");
  const auto gpu =
      colon == std::string_view::npos ? std::nullopt : to_integer(text.substr(4, colon - 4));
  if (!gpu || *gpu < 0 || *gpu > 63) return false;
  sink.device(static_cast<int>(*gpu)).name = clean_text(trim(text.substr(colon + 2)), 128);
  return true;
}

bool software_line(std::string_view text, Sink& sink) {
  if (python_printed(text, sink) || torch_printed(text, sink) || relevant_library(text, sink) ||
      gpu_model(text, sink)) {
    return true;
  }
  for (const std::string_view mark : {": ", " = ", "=", ":"}) {
    const auto at = text.find(mark);
    if (at != std::string_view::npos && at < 64 &&
        take_label(text.substr(0, at), text.substr(at + mark.size()), sink)) {
      return true;
    }
  }
  const auto words = words_of(text);  // "torch 2.1.0+cu121"
  return words.size() == 2 && is_version(words[1]) && take_label(words[0], words[1], sink);
}

bool begins_environment(const Lines& lines, std::size_t at) {
  const auto text = lines[at].text.substr(0, 200);
  return text.starts_with("Collecting environment information") ||
         text.starts_with("Copy-and-paste the text below in your GitHub issue") ||
         text.starts_with("- `Accelerate` version") ||
         text.starts_with("- `transformers` version") || text.starts_with("PyTorch version: ") ||
         text.starts_with("Versions of relevant libraries");
}

void read_environment(const Section& section, Sink& sink) {
  bool cpu = false;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    cpu = cpu || text == "CPU:";
    software_line(text, sink) ? sink.used() : sink.passed();
    const auto colon = text.find(':');
    if (!cpu || colon == std::string_view::npos) continue;
    const auto value = trim(text.substr(colon + 1));
    auto& rig = sink.into().rig;
    if (text.starts_with("Model name")) rig.cpu_model = clean_text(value, 128);
    if (text.starts_with("CPU(s):")) {
      if (const auto count = to_integer(value); count && *count > 0 && *count < 65536)
        rig.threads = static_cast<int>(*count);
    }
  }
}

// -------------------------------------------------------------------------------------- packages

/// "numpy==2.4.6", "torch @ file:///…", "-e git+https://…#egg=name"
struct Pin {
  std::string_view name, version;
};
std::optional<Pin> pin_of(std::string_view text) {
  const auto equals = text.find("==");
  if (equals == std::string_view::npos || equals == 0) return std::nullopt;
  const auto version = text.substr(equals + 2, text.substr(equals + 2).find_first_of(" ;"));
  const auto name = trim(text.substr(0, equals));
  if (!is_package_name(name) || !is_version(version)) return std::nullopt;
  return Pin{name, version};
}

bool is_list_header(std::string_view text) {
  const auto words = words_of(text);
  return words.size() >= 2 && words.size() <= 5 && words[0] == "Package" && words[1] == "Version";
}
bool is_conda_header(std::string_view text) {
  return text.starts_with("# packages in environment at ");
}

bool packages_begin(const Lines& lines, std::size_t at) {
  const auto text = trim(lines[at].text.substr(0, 400));
  if (is_list_header(text) || is_conda_header(text)) return true;
  if (!pin_of(text)) return false;
  // one pin in a log is nothing: pip freeze prints a list of them
  std::size_t pins = 0;
  for (std::size_t i = at; i < std::min(lines.size(), at + 4); ++i)
    pins += pin_of(trim(lines[i].text)) ? 1U : 0U;
  return pins >= 2;
}

void read_packages(const Section& section, Sink& sink) {
  bool listed = false;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text.substr(0, 1000));
    if (text.empty()) continue;
    if (is_list_header(text) || is_conda_header(text)) {
      listed = true;
      sink.used();
      continue;
    }
    if (text.front() == '#' || text.starts_with("---")) {
      sink.passed();
      continue;
    }
    if (const auto pin = pin_of(text)) {
      package(pin->name, pin->version, sink);
      sink.used();
      continue;
    }
    const auto words = words_of(text);
    if (listed && words.size() >= 2 && is_package_name(words[0]) && is_version(words[1])) {
      package(words[0], words[1], sink);
      sink.used();
    } else if (text.starts_with("-e ") || text.find(" @ ") != std::string_view::npos) {
      sink.passed();  // a package from a folder or an address: no version stands there
    } else if (!software_line(text, sink)) {
      sink.bad(line);
    } else {
      sink.used();
    }
  }
}

// --------------------------------------------------------------------------------------- machine

/// "Linux host 6.1.0-18-amd64 #1 SMP … x86_64 GNU/Linux"
bool uname_begins(const Lines& lines, std::size_t at) {
  const auto text = lines[at].text.substr(0, 400);
  return text.starts_with("Linux ") && text.find(" #") != std::string_view::npos &&
         text.find("SMP") != std::string_view::npos;
}

void read_uname(const Section& section, Sink& sink) {
  for (const auto& line : section.lines) {
    if (trim(line.text).empty()) continue;
    const auto words = words_of(line.text);
    if (words.size() < 4 || words[0] != "Linux") {
      software_line(trim(line.text), sink) ? sink.used() : sink.bad(line);
      continue;
    }
    sink.into().host = clean_text(words[1], 100);
    sink.version("kernel", words[2]);
    sink.used();
  }
}

struct CpuLabel {
  std::string_view label;
  std::optional<int> Rig::*member;
};
constexpr std::array kCpuLabels = {CpuLabel{"CPU(s)", &Rig::threads},
                                   CpuLabel{"Socket(s)", &Rig::sockets},
                                   CpuLabel{"NUMA node(s)", &Rig::numa_nodes}};

void read_lscpu(const Section& section, Sink& sink) {
  Rig& rig = sink.into().rig;
  std::optional<int> per_socket;
  for (const auto& line : section.lines) {
    const auto text = trim(line.text);
    if (text.empty()) continue;
    const auto colon = text.find(':');
    const auto label = text.substr(0, colon);
    const auto value =
        colon == std::string_view::npos ? std::string_view() : trim(text.substr(colon + 1));
    const auto number = to_integer(value);
    bool known = false;
    if (label == "Model name" || label == "Modellname") {
      rig.cpu_model = clean_text(value, 128);
      known = true;
    }
    if (number && *number > 0 && *number < 65536) {
      for (const auto& entry : kCpuLabels) {
        if (entry.label != label) continue;
        rig.*entry.member = static_cast<int>(*number);
        known = true;
      }
      if (label == "Core(s) per socket") per_socket = static_cast<int>(*number), known = true;
    }
    known ? sink.used() : sink.passed();
  }
  if (per_socket && rig.sockets) rig.cores = *per_socket * *rig.sockets;
}

/// "               total        used        free …" over "Mem:   23Gi  1.9Gi …"
void read_free(const Section& section, Sink& sink) {
  std::vector<std::string_view> head;
  std::optional<double> stated;  // by the command or the file's name: "free -m", "free-m.txt"
  if (const auto at = section.command.find("free"); at != std::string::npos) {
    for (const auto word : words_of(std::string_view(section.command).substr(at + 4))) {
      if (word == "-b" || word == "--bytes") stated = 1;
      if (word == "-k" || word == "--kibi") stated = 1024;
      if (word == "-m" || word == "--mebi") stated = 1024.0 * 1024;
      if (word == "-g" || word == "--gibi") stated = 1024.0 * 1024 * 1024;
    }
  }
  double unit_bytes = stated.value_or(1024);  // without -h, free counts in KiB
  for (const auto& line : section.lines) {
    const auto words = words_of(line.text);
    if (words.empty()) continue;
    if (words[0] == "total") {
      head = words;
      sink.used();
    } else if (words[0] == "Mem:" || words[0] == "Swap:") {
      if (const auto total = words.size() > 1 ? to_number(words[1]) : std::nullopt;
          total && !stated && words[0] == "Mem:") {
        // bare figures: no machine that trains has less than half a GiB, or 16 TiB and more
        constexpr double kGiB = 1024.0 * 1024 * 1024;
        for (const double unit : {1024.0 * 1024, kGiB}) {
          if (*total * unit_bytes < kGiB / 2) unit_bytes = unit;
        }
        if (*total * unit_bytes > 16384 * kGiB) unit_bytes = 1;
        if (unit_bytes != 1024)
          sink.note("free's unit is not stated: taken as " +
                    std::string(unit_bytes == 1      ? "bytes"
                                : unit_bytes == kGiB ? "GiB"
                                                     : "MiB") +
                    ", the size of its total says so");
      }
      for (std::size_t i = 1; i < words.size() && i <= head.size(); ++i) {
        const auto bytes = size_of(words[i], 1024, unit_bytes);
        if (!bytes) continue;
        const std::string_view of = words[0] == "Mem:" ? "memory" : "swap";
        std::string quantity = clean_text(head[i - 1], 24) + "_bytes";
        std::replace(quantity.begin(), quantity.end(), '/', '_');
        sink.observe(line, of, quantity, *bytes, "bytes");
        if (of == "memory" && head[i - 1] == "total") sink.into().rig.mem_bytes = bytes;
      }
      sink.used();
    } else {
      software_line(trim(line.text), sink) ? sink.used() : sink.passed();
    }
  }
}

}  // namespace

const Form kSoftware = {"environment", begins_environment, read_environment};
const Form kPackages = {"packages", packages_begin, read_packages};
const Form kUname = {"uname", uname_begins, read_uname};
const Form kLscpu = {"lscpu",
                     [](const Lines& lines, std::size_t at) {
                       const auto text = lines[at].text;
                       return text.starts_with("Architecture:") &&
                              text.find("  ") != std::string_view::npos;
                     },
                     read_lscpu};
const Form kFree = {"free",
                    [](const Lines& lines, std::size_t at) {
                      const auto text = trim(lines[at].text);
                      return text.starts_with("total ") &&
                             text.find(" used ") != std::string_view::npos &&
                             at + 1 < lines.size() && lines[at + 1].text.starts_with("Mem:");
                    },
                    read_free};

std::size_t read_software_lines(const Lines& lines, Sink& sink) {
  std::size_t used = 0;
  for (const auto& line : lines) {
    const auto text = trim(line.text.substr(0, 400));
    if (!text.empty() && software_line(text, sink)) ++used;
  }
  return used;
}

/// [{"name": "torch", "version": "2.1.0"}, …]: pip list --format=json
bool read_packages_json(const Json& json, Sink& sink) {
  if (!json.is_array()) return false;
  bool any = false;
  for (const auto& item : json) {
    if (!item.is_object()) return any;
    const auto name = get<std::string>(item, "name"), version = get<std::string>(item, "version");
    if (!name || !version || !is_package_name(*name)) return any;
    package(*name, *version, sink);
    any = true;
  }
  return any;
}

}  // namespace rigwise::captured
