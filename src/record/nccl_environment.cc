#include "record/nccl_environment.h"

#include <optional>
#include <string_view>
#include <system_error>

#include "base/files.h"
#include "base/text.h"
#include "run/layout.h"

namespace rigwise {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kVariable = "NCCL_PROFILER_PLUGIN";
constexpr std::size_t kLongestName = 254;  // that NCCL keeps of a plug-in's name
constexpr std::uint64_t kMaxConfiguration = 1u << 16;

std::optional<std::string_view> value_of(const std::vector<std::string>& environment,
                                         std::string_view name) {
  for (const std::string& entry : environment) {
    const std::string_view view = entry;
    if (view.size() > name.size() && view.starts_with(name) && view[name.size()] == '=')
      return view.substr(name.size() + 1);
  }
  return std::nullopt;
}

fs::path below(const HostRoot& root, const fs::path& path) {
  return root.root / path.relative_path();
}

bool file_names_a_plugin(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;  // a pipe would hang
  const auto text = read_file(path, kMaxConfiguration);
  if (!text) return false;
  for (const auto line : split(*text, '\n')) {
    if (trim(line).starts_with(kVariable)) return true;
  }
  return false;
}

/// As NCCL reads them: NCCL_CONF_FILE or ~/.nccl.conf, then /etc/nccl.conf.
bool configuration_names_a_plugin(const HostRoot& root,
                                  const std::vector<std::string>& environment) {
  if (const auto named = value_of(environment, "NCCL_CONF_FILE")) {
    if (file_names_a_plugin(below(root, fs::path(*named)))) return true;
  } else if (const auto home = value_of(environment, "HOME")) {
    if (file_names_a_plugin(below(root, fs::path(*home) / ".nccl.conf"))) return true;
  }
  return file_names_a_plugin(below(root, "/etc/nccl.conf"));
}

/// NCCL loads a library of this name without being told.
bool finds_a_plugin(const HostRoot& root, const std::vector<std::string>& environment) {
  const auto folders = value_of(environment, "LD_LIBRARY_PATH");
  if (!folders) return false;
  std::error_code error;
  for (const auto folder : split(*folders, ':')) {
    if (!folder.empty() && fs::exists(below(root, fs::path(folder) / "libnccl-profiler.so"), error))
      return true;
  }
  return false;
}

}  // namespace

bool nccl_is_likely(const HostRoot& root, const std::vector<std::string>& environment) {
  const auto visible = value_of(environment, "CUDA_VISIBLE_DEVICES");
  if (visible && (trim(*visible).empty() || trim(*visible).starts_with("-"))) return false;
  std::error_code error;
  return fs::exists(below(root, "/dev/nvidiactl"), error) ||
         fs::exists(below(root, "/dev/dxg"), error);  // WSL
}

fs::path nccl_plugin_path() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return {};
  for (const char* place : {"librigwise-nccl.so", "../lib/librigwise-nccl.so"}) {
    const fs::path path = fs::weakly_canonical(program.parent_path() / place, error);
    if (!error && fs::is_regular_file(path, error)) return path;
  }
  return {};
}

std::vector<std::string> nccl_environment(const HostRoot& root,
                                          const std::vector<std::string>& environment,
                                          const fs::path& run_dir, const fs::path& plugin) {
  if (plugin.empty() || plugin.native().size() > kLongestName || value_of(environment, kVariable) ||
      configuration_names_a_plugin(root, environment) || finds_a_plugin(root, environment)) {
    return {};
  }
  std::error_code error;
  const fs::path folder = fs::absolute(run_dir / layout::kProfileFolder, error);
  if (error) return {};
  fs::create_directory(folder, error);
  if (error) return {};
  std::string pattern;
  const std::string prefix = (folder / layout::kNcclFiles).string();
  for (const char c : prefix) {
    pattern += c;
    if (c == '%') pattern += c;
  }
  return {std::string(kVariable) + "=" + plugin.string(),
          "RIGWISE_NCCL_OUT=" + pattern + "%h-%p.bin"};
}

}  // namespace rigwise
