// The Python that a command will run, and what is installed in it: told from words, files and links
// alone, so that no interpreter starts and nothing is imported.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/host.h"

namespace rigwise {

/// The command's own environment, not ours.
using Variables = std::map<std::string, std::string, std::less<>>;

struct FoundPython {
  std::string path;  // absolute, links not followed: a venv's bin/python
  std::string how;   // "argv", "#! of /venv/bin/torchrun", "VIRTUAL_ENV", "uv project"
};

/// Sees through env, timeout, nice and their like, uv, poetry, conda, mpirun and srun, `#!` lines
/// and pyenv's shims. A shell script tells nothing: then VIRTUAL_ENV or CONDA_PREFIX of the
/// environment stand. Errors: not_found, with what was looked at.
Result<FoundPython> find_python(const HostRoot& root, const std::vector<std::string>& argv,
                                const std::string& cwd, const Variables& env);

struct PythonInstall {
  std::string prefix, base_prefix;     // differ in a venv
  std::string minor;                   // "3.11"
  std::optional<std::string> version;  // "3.11.7"; nothing where no file says
  std::string kind;                    // "venv", "conda", "system"
  std::vector<std::string> folders;    // that hold packages, as sys.path orders them
};
PythonInstall inspect_python(const HostRoot& root, const std::string& interpreter,
                             const Variables& env);

/// Installed distributions, names normalised as package indices do ("flash-attn"), from the
/// METADATA and PKG-INFO of `folders`; the first of a name wins, as on import.
std::map<std::string, std::string> installed_packages(const HostRoot& root,
                                                      const std::vector<std::string>& folders);

/// torch/version.py as text: names of strings assigned there, None left out.
std::map<std::string, std::string> parse_torch_version(std::string_view text);

/// "Name" and "Version" of a METADATA file's head.
struct Distribution {
  std::string name, version;
};
std::optional<Distribution> parse_metadata(std::string_view text);

std::string normal_package_name(std::string_view name);

/// An absolute path below a root: "/usr/bin" → ROOT/usr/bin.
std::filesystem::path below(const HostRoot& root, std::string_view absolute);

/// The file that an absolute path leads to; links are followed by hand, so that absolute ones stay
/// below the root.
std::string follow_links(const HostRoot& root, std::string path);

/// Home folders, PATH and the like: the variable's value, else `fallback`.
std::string variable(const Variables& env, std::string_view name, std::string_view fallback = "");

}  // namespace rigwise
