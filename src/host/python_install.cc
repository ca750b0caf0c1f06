// inspect_python and installed_packages: what lies around an interpreter.
#include <algorithm>
#include <cctype>
#include <set>

#include "base/files.h"
#include "base/text.h"
#include "host/kept_file.h"
#include "host/proc_text.h"
#include "host/python.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {
constexpr std::size_t kMaxPackages = 5000;
constexpr std::uint64_t kMaxMetadata = 4 << 20;  // some carry a whole readme

/// "key = value" lines of pyvenv.cfg.
std::map<std::string, std::string> parse_config(std::string_view text) {
  std::map<std::string, std::string> out;
  Lines lines(text);
  std::string_view line;
  while (lines.next(line) && out.size() < 64) {
    const auto equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    out[lower(trim(line.substr(0, equals)))] = std::string(trim(line.substr(equals + 1)));
  }
  return out;
}

/// "3.11.7.final.0" → "3.11.7".
std::string three_numbers(std::string_view text) {
  std::string out;
  int dots = 0;
  for (const char c : text) {
    if (c == '.' && ++dots > 2) break;
    if (c != '.' && (c < '0' || c > '9')) break;
    out += c;
  }
  while (out.ends_with(".")) out.pop_back();
  return out;
}

std::string two_numbers(const std::string& version) {
  const auto first = version.find('.');
  if (first == std::string::npos) return "";
  return version.substr(0, version.find('.', first + 1));
}

bool is_folder(const HostRoot& root, const std::string& path) {
  std::error_code error;
  return fs::is_directory(below(root, path), error);
}

/// "3.11" of PREFIX/lib/python3.11, where there is one that holds packages or the standard library.
std::string minor_of_folder(const HostRoot& root, const std::string& prefix) {
  std::string best;
  for (const auto& name : list_folder(below(root, prefix + "/lib"))) {
    if (!name.starts_with("python3.")) continue;
    std::error_code error;
    const std::string folder = prefix + "/lib/" + name;
    if (!fs::exists(below(root, folder + "/os.py"), error) &&
        !is_folder(root, folder + "/site-packages"))
      continue;
    best = name.substr(6);
  }
  return best;
}

std::string minor_of_name(const std::string& interpreter) {
  const std::string name = fs::path(interpreter).filename();
  if (!name.starts_with("python")) return "";
  const std::string version = three_numbers(std::string_view(name).substr(6));
  return version.find('.') == std::string::npos ? "" : two_numbers(version);
}

std::optional<std::string> version_of_header(const HostRoot& root, const PythonInstall& install) {
  const auto text = read_file(
      below(root, install.base_prefix + "/include/python" + install.minor + "/patchlevel.h"),
      65536);
  if (!text) return std::nullopt;
  Lines lines(*text);
  std::string_view line;
  while (lines.next(line)) {
    static constexpr std::string_view kName = "#define PY_VERSION ";
    if (!line.starts_with(kName)) continue;
    const auto first = line.find('"'), last = line.rfind('"');
    if (first == std::string_view::npos || last <= first) return std::nullopt;
    return clean_text(line.substr(first + 1, last - first - 1), 32);
  }
  return std::nullopt;
}

/// conda-meta/python-3.11.5-h….json
std::optional<std::string> version_of_conda(const HostRoot& root, const std::string& prefix) {
  for (const auto& name : list_folder(below(root, prefix + "/conda-meta"))) {
    if (!name.starts_with("python-3.") || !name.ends_with(".json")) continue;
    return three_numbers(std::string_view(name).substr(7));
  }
  return std::nullopt;
}

void add_folders(const HostRoot& root, const Variables& env, bool venv, bool system_too,
                 PythonInstall& install) {
  const auto add = [&](const std::string& path) {
    if (is_folder(root, path) &&
        std::find(install.folders.begin(), install.folders.end(), path) == install.folders.end())
      install.folders.push_back(path);
  };
  const std::string extra = variable(env, "PYTHONPATH");
  for (const auto part : split(extra, ':')) {
    if (part.starts_with("/")) add(std::string(part));
  }
  const std::string library = "/lib/python" + install.minor;
  if (venv) {
    add(install.prefix + library + "/site-packages");
    add(install.prefix + "/lib64/python" + install.minor + "/site-packages");
    if (!system_too) return;
  }
  if (variable(env, "PYTHONNOUSERSITE").empty()) {
    std::string user = variable(env, "PYTHONUSERBASE");
    if (user.empty() && !variable(env, "HOME").empty()) user = variable(env, "HOME") + "/.local";
    if (!user.empty()) add(user + library + "/site-packages");
  }
  const std::string& base = install.base_prefix;
  if (base == "/usr") add("/usr/local" + library + "/dist-packages");  // Debian's
  add(base + library + "/site-packages");
  add(base + "/lib64/python" + install.minor + "/site-packages");
  add(base + "/lib/python3/dist-packages");
  add(base + library + "/dist-packages");
}
}  // namespace

std::string follow_links(const HostRoot& root, std::string path) {
  for (int hop = 0; hop < 32; ++hop) {
    std::error_code error;
    const fs::path target = fs::read_symlink(below(root, path), error);
    if (error) return path;
    path = target.is_absolute()
               ? target.lexically_normal().string()
               : (fs::path(path).parent_path() / target).lexically_normal().string();
  }
  return path;
}

PythonInstall inspect_python(const HostRoot& root, const std::string& interpreter,
                             const Variables& env) {
  PythonInstall install;
  const fs::path bin = fs::path(interpreter).parent_path();
  install.prefix = bin.parent_path();
  install.kind = "system";
  bool system_too = true;
  std::map<std::string, std::string> config;
  for (const fs::path& folder : {bin.parent_path(), bin}) {
    const auto text = read_file(below(root, (folder / "pyvenv.cfg").string()), 65536);
    if (!text) continue;
    config = parse_config(*text);
    install.kind = "venv";
    install.prefix = folder;
    system_too = lower(config["include-system-site-packages"]) == "true";
    break;
  }
  const std::string real = follow_links(root, interpreter);
  if (install.kind == "venv") {
    const std::string home = config["home"];
    install.base_prefix = home.empty() ? fs::path(real).parent_path().parent_path().string()
                                       : fs::path(home).parent_path().string();
  } else {
    // The standard library lies by the name that was called, or by the file that it leads to.
    if (minor_of_folder(root, install.prefix).empty())
      install.prefix = fs::path(real).parent_path().parent_path();
    install.base_prefix = install.prefix;
    if (is_folder(root, install.prefix + "/conda-meta")) install.kind = "conda";
  }
  const std::string stated =
      three_numbers(config.contains("version_info") ? config["version_info"] : config["version"]);
  install.minor = two_numbers(stated);
  if (install.minor.empty()) install.minor = minor_of_name(real);
  if (install.minor.empty()) install.minor = minor_of_folder(root, install.prefix);
  install.version = version_of_header(root, install);
  if (!install.version) install.version = version_of_conda(root, install.base_prefix);
  if (!install.version && std::count(stated.begin(), stated.end(), '.') == 2)
    install.version = stated;
  if (!install.minor.empty()) add_folders(root, env, install.kind == "venv", system_too, install);
  return install;
}

std::string normal_package_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == '-' || c == '_' || c == '.') {
      if (!out.ends_with("-")) out += '-';
    } else {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

std::optional<Distribution> parse_metadata(std::string_view text) {
  Distribution found;
  Lines lines(text);
  std::string_view line;
  while (lines.next(line) && !trim(line).empty()) {
    if (line.starts_with("Name:"))
      found.name = normal_package_name(clean_text(trim(line.substr(5)), 128));
    if (line.starts_with("Version:")) found.version = clean_text(trim(line.substr(8)), 64);
    if (!found.name.empty() && !found.version.empty()) return found;
  }
  return std::nullopt;
}

std::map<std::string, std::string> installed_packages(const HostRoot& root,
                                                      const std::vector<std::string>& folders) {
  std::map<std::string, std::string> packages;
  for (const auto& folder : folders) {
    for (const auto& name : list_folder(below(root, folder), 65536)) {
      const bool dist = name.ends_with(".dist-info"), egg = name.ends_with(".egg-info");
      if ((!dist && !egg) || packages.size() >= kMaxPackages) continue;
      const std::string path = folder + "/" + name;
      auto text = read_file(below(root, path + (dist ? "/METADATA" : "/PKG-INFO")), kMaxMetadata);
      if (!text && egg) text = read_file(below(root, path), kMaxMetadata);  // a file of its own
      std::optional<Distribution> found;
      if (text) found = parse_metadata(*text);
      if (!found) {
        // The folder's name says the same: torch-2.13.0+cpu.dist-info
        const std::string stem = name.substr(0, name.rfind('.'));
        const auto dash = stem.find('-');
        if (dash == std::string::npos) continue;
        const std::string rest = stem.substr(dash + 1);
        found = Distribution{normal_package_name(clean_text(stem.substr(0, dash), 128)),
                             clean_text(rest.substr(0, rest.find('-')), 64)};
      }
      packages.emplace(found->name, found->version);
    }
  }
  return packages;
}

std::map<std::string, std::string> parse_torch_version(std::string_view text) {
  std::map<std::string, std::string> out;
  Lines lines(text);
  std::string_view line;
  while (lines.next(line) && out.size() < 32) {
    // cuda: Optional[str] = '12.4'
    const auto equals = line.find(" = ");
    if (equals == std::string_view::npos || line.starts_with(" ") || line.starts_with("#"))
      continue;
    const std::string_view name = line.substr(0, line.find_first_of(": "));
    const std::string_view value = trim(line.substr(equals + 3));
    if (value.size() < 2 || (value.front() != '\'' && value.front() != '"')) continue;
    const auto end = value.find(value.front(), 1);
    if (end == std::string_view::npos) continue;
    out[std::string(name)] = clean_text(value.substr(1, end - 1), 128);
  }
  return out;
}

}  // namespace rigwise
