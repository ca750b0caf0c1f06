#include "record/profile_gate.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "base/files.h"
#include "base/text.h"
#include "host/python.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMaxSource = std::uint64_t{1} << 20;
constexpr int kMaxSources = 64;

bool has(std::string_view text, std::string_view what) {
  return text.find(what) != std::string_view::npos;
}

std::optional<std::string> text_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;  // a pipe would hang
  auto text = read_file(path, kMaxSource);
  if (!text) return std::nullopt;
  return std::move(*text);
}

fs::path in(const std::string& cwd, std::string_view word) {
  const fs::path path(word);
  return path.is_absolute() ? path : fs::path(cwd) / path;
}

/// "pkg.train" → pkg/train.py
std::string module_file(std::string_view dotted) {
  std::string path(dotted);
  std::replace(path.begin(), path.end(), '.', '/');
  return path + ".py";
}

/// Why this source wants no windows; empty where nothing speaks against them.
std::string against(std::string_view source) {
  if (source_profiles(source)) return "profiles itself";
  if (source_forks(source)) return "forks by itself";
  return {};
}

/// The script and the modules beside it: what `import helpers` of the script would read.
std::string against_script(const fs::path& script) {
  const auto text = text_of(script);
  if (!text) return {};
  std::string why = against(*text);
  std::error_code error;
  int looked = 0;
  for (fs::directory_iterator at(script.parent_path(), error), end;
       why.empty() && script.extension() == ".py" && !error && at != end; at.increment(error)) {
    if (at->path().extension() != ".py" || at->path() == script) continue;
    if (++looked > kMaxSources) break;
    if (const auto beside = text_of(at->path())) why = against(*beside);
  }
  return why;
}

/// Why the user's own words and files speak against windows; empty where they do not.
std::string against_command(const std::vector<std::string>& argv, const std::string& cwd) {
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string word = lower(argv[i]);
    const std::string name = fs::path(word).filename().string();
    if (has(name, "profil") || name == "ncu" || name == "nsys") {
      return "the command's own '" + clean_text(argv[i], 80) + "'";
    }
    const fs::path extension = fs::path(word).extension();
    std::string why;
    std::string_view where = argv[i];
    if (extension == ".py" || extension == ".sh") {
      why = against_script(in(cwd, argv[i]));
    } else if (extension == ".yaml" || extension == ".yml" || extension == ".json" ||
               extension == ".toml") {
      const auto text = text_of(in(cwd, argv[i]));
      if (text && settings_profile(*text)) why = "switches a profiler on";
    } else if (argv[i] == "-m" && i + 1 < argv.size()) {
      where = argv[i + 1];
      why = against_script(in(cwd, module_file(where)));
    }
    if (!why.empty()) return clean_text(where, 200) + " " + why;
  }
  return {};
}

std::optional<std::string> torch_version(const PythonInstall& install) {
  for (const auto& folder : install.folders) {
    const auto text = text_of(fs::path(folder) / "torch/version.py");
    if (!text) continue;
    const auto names = parse_torch_version(*text);
    const auto found = names.find("__version__");
    if (found != names.end()) return found->second;
  }
  return std::nullopt;
}

std::string_view trimmed_value(std::string_view line) {
  const auto at = line.find_first_of(":=");
  if (at == std::string_view::npos) return {};
  std::string_view value = trim(line.substr(at + 1));
  value = value.substr(0, value.find('#'));
  while (!value.empty() && (value.back() == ',' || value.back() == '"' || value.back() == ' ' ||
                            value.back() == '\'')) {
    value.remove_suffix(1);
  }
  while (!value.empty() && (value.front() == '"' || value.front() == '\'')) value.remove_prefix(1);
  return value;
}

bool is_off(std::string_view value) {
  constexpr std::array<std::string_view, 7> kOff = {"false", "0", "null", "none", "~", "no", "off"};
  const std::string word = lower(value);
  return std::find(kOff.begin(), kOff.end(), word) != kOff.end();
}

}  // namespace

bool source_profiles(std::string_view source) {
  constexpr std::array<std::string_view, 8> kWords = {
      "torch.profiler",  "autograd.profiler", "import profiler",   "ProfilerActivity",
      "PyTorchProfiler", "ProfileKwargs",     "KinetoStepTracker", "torch.cuda.profiler"};
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](std::string_view word) { return has(source, word); });
}

bool source_forks(std::string_view source) {
  return has(source, "os.fork(") || has(source, "import fork") || has(source, "DaemonContext");
}

bool settings_profile(std::string_view settings) {
  constexpr std::size_t kLinesBelow = 5;
  const auto lines = split(settings, '\n');
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string line = lower(trim(lines[i]));
    const std::string_view key = std::string_view(line).substr(0, line.find_first_of(":="));
    if (line.starts_with("#") || !has(key, "profil")) continue;
    const std::string_view value = trimmed_value(line);
    if (is_off(value)) continue;
    bool off = false;
    if (value.empty() || value == "{") {  // its members stand below it
      for (std::size_t j = i + 1; j < lines.size() && j <= i + kLinesBelow; ++j) {
        const std::string below = lower(trim(lines[j]));
        if (has(below, "enabled") && is_off(trimmed_value(below))) off = true;
      }
    }
    if (!off) return true;
  }
  return false;
}

bool torch_is_sound(std::string_view version) {
  const auto parts = split(version, '.');
  if (parts.size() < 2) return false;
  const auto major = to_integer(parts[0]);
  const auto minor = to_integer(parts[1]);
  return major && minor && *major == 2 && *minor >= 7;
}

ProfileGate profile_gate(const std::vector<std::string>& argv, const std::string& cwd,
                         const std::vector<std::string>& environment) {
  ProfileGate gate;
  Variables variables;
  for (const auto& entry : environment) {
    const auto equals = entry.find('=');
    if (equals == std::string::npos) continue;
    variables.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  const HostRoot root;
  const auto python = find_python(root, argv, cwd, variables);
  if (!python) return gate;  // no Python, as far as files tell
  const auto version = torch_version(inspect_python(root, python->path, variables));
  if (!version) return gate;
  for (const auto& [name, value] : variables) {
    if (!name.starts_with("KINETO_") && name != "CUDA_INJECTION64_PATH") continue;
    gate.why = name + " is set in the command's environment";
    return gate;
  }
  if (!torch_is_sound(*version)) {
    gate.why = "torch " + clean_text(*version, 40) + " is not known to be sound for it (2.7 on is)";
    return gate;
  }
  gate.why = against_command(argv, cwd);
  gate.open = gate.why.empty();
  return gate;
}

}  // namespace rigwise
