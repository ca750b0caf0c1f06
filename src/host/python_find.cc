// find_python: from the words of a command to an interpreter.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/files.h"
#include "base/text.h"
#include "host/kept_file.h"
#include "host/proc_text.h"
#include "host/python.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {
using Words = std::vector<std::string>;
constexpr std::string_view kDefaultPath = "/usr/local/bin:/usr/bin:/bin";
constexpr int kMostWrappers = 12;

bool is_python(std::string_view name) {
  if (name.starts_with("pypy")) return true;
  if (!name.starts_with("python")) return false;
  return std::all_of(name.begin() + 6, name.end(),
                     [](char c) { return is_digit(c) || c == '.' || c == 't'; });
}

std::string base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

/// The first bytes of a file: a script's head.
std::string head_of(const fs::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  std::string text(1024, '\0');
  const ssize_t count = fd.valid() ? ::read(fd.get(), text.data(), text.size()) : -1;
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  return text;
}

class Finder {
 public:
  Finder(const HostRoot& root, std::string cwd, Variables env)
      : root_(root), cwd_(std::move(cwd)), env_(std::move(env)) {}

  Result<FoundPython> find(Words words) {
    for (int depth = 0; depth < kMostWrappers && !words.empty(); ++depth) {
      const std::string name = base_name(words[0]);
      if (is_python(name)) return resolved(words[0], how_.empty() ? "argv" : how_);
      if (auto known = runner(name, words)) return *known;
      if (peel_wrapper(name, words)) continue;
      if (name == "mpirun" || name == "mpiexec" || name == "srun" || name == "orterun" ||
          name == "prterun" || name == "horovodrun") {
        if (skip_to_program(words)) continue;
        return from_environment("no Python is named after " + name);
      }
      if (name == "docker" || name == "podman" || name == "apptainer" || name == "singularity")
        return Error{Errc::not_found,
                     "python: the command runs in a container of its own (" + name + ")"};
      const auto file = lookup(words[0]);
      if (!file) return from_environment(words[0] + " is not on the command's PATH");
      if (auto found = through_script(*file, words)) return *found;
      if (next_) {
        words = std::move(*next_);
        next_.reset();
        continue;
      }
      return from_environment(name + " is no Python script");
    }
    return from_environment("the command names no program");
  }

 private:
  [[nodiscard]] std::string value(std::string_view name) const { return variable(env_, name); }
  [[nodiscard]] bool is_file(const std::string& absolute) const {
    std::error_code error;
    return fs::is_regular_file(below(root_, follow_links(root_, absolute)), error);
  }
  [[nodiscard]] std::string absolute(std::string_view path) const {
    if (path.starts_with("/")) return fs::path(path).lexically_normal();
    return (fs::path(cwd_) / path).lexically_normal();
  }

  /// As execvp does: a word with a slash is a path, else PATH of the command's environment is
  /// searched.
  [[nodiscard]] std::optional<std::string> lookup(const std::string& word) const {
    if (word.find('/') != std::string::npos) {
      const std::string path = absolute(word);
      return is_file(path) ? std::optional(path) : std::nullopt;
    }
    const std::string search = variable(env_, "PATH", kDefaultPath);
    for (const auto folder : split(search, ':')) {
      const std::string path = absolute((folder.empty() ? "." : std::string(folder)) + "/" + word);
      if (is_file(path)) return path;
    }
    return std::nullopt;
  }

  Result<FoundPython> resolved(const std::string& word, const std::string& how) const {
    auto path = lookup(word);
    if (!path) return from_environment(word + " is not on the command's PATH");
    if (path->find("/shims/") != std::string::npos) {
      if (auto real = pyenv_target(*path)) return FoundPython{*real, how + ", pyenv"};
    }
    return FoundPython{*path, how};
  }

  /// pyenv's shim is a script that asks PYENV_VERSION, .python-version, then the global choice.
  [[nodiscard]] std::optional<std::string> pyenv_target(const std::string& shim) const {
    const std::string top = shim.substr(0, shim.find("/shims/"));
    std::string version = value("PYENV_VERSION");
    for (fs::path at = cwd_; version.empty() && !at.empty(); at = at.parent_path()) {
      version = read_small(below(root_, (at / ".python-version").string())).value_or("");
      if (!at.has_relative_path()) break;
    }
    if (version.empty()) version = read_small(below(root_, top + "/version")).value_or("");
    version = std::string(trim(std::string_view(version).substr(0, version.find_first_of(":\n"))));
    if (version.empty() || version.find('/') != std::string::npos) return std::nullopt;
    const std::string path = top + "/versions/" + version + "/bin/python";
    if (is_file(path)) return path;
    return std::nullopt;
  }

  [[nodiscard]] Result<FoundPython> from_environment(const std::string& why) const {
    for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
      const std::string prefix = value(name);
      if (prefix.empty()) continue;
      const std::string path = absolute(prefix + "/bin/python");
      if (is_file(path)) return FoundPython{path, name};
    }
    return Error{Errc::not_found,
                 "python: " + clean_text(why, 256) + "; VIRTUAL_ENV and CONDA_PREFIX name none"};
  }

  /// Programs that choose an environment themselves.
  std::optional<Result<FoundPython>> runner(const std::string& name, const Words& words) const {
    const auto sub = std::find(words.begin(), words.end(), "run");
    if (name == "uv" && sub != words.end()) return project_python(words, "uv");
    if ((name == "poetry" || name == "pdm" || name == "pipenv" || name == "hatch") &&
        sub != words.end())
      return project_python(words, name);
    if ((name == "conda" || name == "mamba" || name == "micromamba") && sub != words.end())
      return conda_python(words);
    if (name == "pixi" && sub != words.end())
      return folder_python(cwd_, ".pixi/envs/default", "pixi");
    return std::nullopt;
  }

  static std::string option(const Words& words, std::initializer_list<std::string_view> names) {
    for (std::size_t i = 1; i < words.size(); ++i) {
      for (const auto name : names) {
        if (words[i] == name && i + 1 < words.size()) return words[i + 1];
        if (name.starts_with("--") && words[i].starts_with(std::string(name) + "="))
          return words[i].substr(name.size() + 1);
      }
    }
    return "";
  }

  /// FOLDER/bin/python in `start` or above.
  Result<FoundPython> folder_python(const std::string& start, const std::string& folder,
                                    const std::string& how) const {
    for (fs::path at = start; !at.empty(); at = at.parent_path()) {
      const std::string path = (at / folder / "bin/python").lexically_normal();
      if (is_file(path)) return FoundPython{path, how + " project"};
      if (!at.has_relative_path()) break;
    }
    return from_environment(how + ": no " + folder + " in the working directory or above");
  }

  Result<FoundPython> project_python(const Words& words, const std::string& how) const {
    if (how == "uv") {
      const bool active = std::find(words.begin(), words.end(), "--active") != words.end();
      if (active) return from_environment("uv: --active");
      const std::string named = value("UV_PROJECT_ENVIRONMENT");
      const std::string project = option(words, {"--project", "--directory"});
      const std::string start = project.empty() ? cwd_ : absolute(project);
      if (named.starts_with("/")) return folder_python("/", named.substr(1), how);
      return folder_python(start, named.empty() ? ".venv" : named, how);
    }
    // These use an environment that is active before one of their own.
    if (!value("VIRTUAL_ENV").empty()) return from_environment(how);
    return folder_python(cwd_, ".venv", how);
  }

  Result<FoundPython> conda_python(const Words& words) const {
    const std::string prefix = option(words, {"-p", "--prefix"});
    if (!prefix.empty()) return folder_python(absolute(prefix), ".", "conda");
    const std::string name = option(words, {"-n", "--name"});
    if (name.empty()) return from_environment("conda run names no environment");
    std::vector<std::string> places;
    for (const char* key : {"CONDA_ENVS_PATH", "CONDA_ENVS_DIRS"}) {
      const std::string list = value(key);
      for (const auto part : split(list, ':')) places.emplace_back(part);
    }
    const std::string exe = value("CONDA_EXE");  // TOP/bin/conda
    std::vector<std::string> tops = {value("MAMBA_ROOT_PREFIX")};
    if (!exe.empty()) tops.push_back(fs::path(exe).parent_path().parent_path());
    if (const auto conda = lookup(words[0]))
      tops.push_back(fs::path(*conda).parent_path().parent_path());
    const std::string home = value("HOME");
    for (const char* folder : {"miniconda3", "anaconda3", "miniforge3", "mambaforge", ".conda"}) {
      if (!home.empty()) tops.push_back(home + "/" + folder);
    }
    for (const auto& top : tops) {
      if (top.empty()) continue;
      if (name == "base" && is_file(top + "/bin/python"))
        return FoundPython{top + "/bin/python", "conda"};
      places.push_back(top + "/envs");
    }
    for (const auto& place : places) {
      const std::string path = absolute(place + "/" + name + "/bin/python");
      if (!place.empty() && is_file(path)) return FoundPython{path, "conda"};
    }
    return from_environment("conda: no environment " + name + " was found");
  }

  /// `env A=1 timeout 60 …` → `…`; false when `words` begins with no such wrapper.
  bool peel_wrapper(const std::string& name, Words& words) {
    struct Wrapper {
      std::string_view name;
      std::string_view value_options;  // options that take the next word, blank-separated
      int arguments;                   // words of its own before the command
    };
    static constexpr std::array<Wrapper, 16> kWrappers = {{{"env", "-u -C -S", 0},
                                                           {"time", "-f -o", 0},
                                                           {"nohup", "", 0},
                                                           {"setsid", "", 0},
                                                           {"exec", "", 0},
                                                           {"command", "", 0},
                                                           {"nice", "-n", 0},
                                                           {"ionice", "-c -n -p", 0},
                                                           {"chrt", "-p -T -P -D", 1},
                                                           {"stdbuf", "-i -o -e", 0},
                                                           {"taskset", "", 1},
                                                           {"numactl", "-N -m -C -i -p", 0},
                                                           {"timeout", "-s -k", 1},
                                                           {"sudo", "-u -g -p -C", 0},
                                                           {"nsys", "-o -t -w -f", 1},
                                                           {"catchsegv", "", 0}}};
    const auto found = std::find_if(kWrappers.begin(), kWrappers.end(),
                                    [&](const Wrapper& wrapper) { return wrapper.name == name; });
    if (found == kWrappers.end()) return false;
    const auto takes_value = split(found->value_options, ' ');
    std::size_t i = 1;
    int arguments = found->arguments;
    for (; i < words.size(); ++i) {
      const std::string& word = words[i];
      if (word == "--") {
        ++i;
        break;
      }
      if (name == "env" && (word == "-i" || word == "-")) env_.clear();
      if (word.starts_with("-")) {
        if (std::find(takes_value.begin(), takes_value.end(), word) != takes_value.end()) {
          if (word == "-S" && i + 1 < words.size()) {
            Words rest;
            for (const auto part : split(words[i + 1], ' ')) {
              if (!part.empty()) rest.emplace_back(part);
            }
            rest.insert(rest.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 2,
                        words.end());
            words = std::move(rest);
            return true;
          }
          ++i;
        }
        continue;
      }
      const auto equals = word.find('=');
      if ((name == "env" || name == "sudo") && equals != std::string::npos && equals > 0) {
        env_[word.substr(0, equals)] = word.substr(equals + 1);
        continue;
      }
      if (arguments-- > 0) continue;
      break;
    }
    words.erase(words.begin(),
                words.begin() + static_cast<std::ptrdiff_t>(std::min(i, words.size())));
    return true;
  }

  /// mpirun's and srun's options are many: the first word that is a Python or a Python script
  /// counts.
  bool skip_to_program(Words& words) const {
    for (std::size_t i = 1; i < words.size(); ++i) {
      if (words[i].starts_with("-")) continue;
      bool is_program = is_python(base_name(words[i]));
      if (!is_program) {
        const auto file = lookup(words[i]);
        is_program = file && head_of(below(root_, *file)).starts_with("#!");
      }
      if (!is_program) continue;
      words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(i));
      return true;
    }
    return false;
  }

  /// A `#!` line's interpreter. Sets next_ when the script is run by another wrapper.
  std::optional<Result<FoundPython>> through_script(const std::string& file, const Words& words) {
    const std::string head = head_of(below(root_, file));
    if (!head.starts_with("#!")) return std::nullopt;
    Words line;
    const auto end = head.find('\n');
    const std::string first_line = head.substr(2, end == std::string::npos ? end : end - 2);
    for (const auto part : split(first_line, ' ')) {
      if (!trim(part).empty()) line.emplace_back(trim(part));
    }
    if (line.empty()) return std::nullopt;
    how_ = "#! of " + file;
    const std::string name = base_name(line[0]);
    if (name == "sh" && end != std::string::npos) {
      // An installer's way round the length limit of `#!`: '''exec' /long/path/python "$0" "$@"
      const std::string_view rest = std::string_view(head).substr(end + 1);
      const std::string_view second = rest.substr(0, rest.find('\n'));
      static constexpr std::string_view kExec = "'''exec' ";
      if (second.starts_with(kExec)) {
        std::string_view path = second.substr(kExec.size());
        if (path.starts_with("\"")) {
          path.remove_prefix(1);
          path = path.substr(0, path.find('"'));
        } else {
          path = path.substr(0, path.find(' '));
        }
        if (is_python(base_name(path))) return resolved(std::string(path), how_);
      }
    }
    if (is_python(name)) return resolved(line[0], how_);
    if (name == "env" || name == "uv") {
      line.insert(line.end(), file);
      line.insert(line.end(), words.begin() + 1, words.end());
      next_ = std::move(line);
    }
    return std::nullopt;
  }

  const HostRoot& root_;
  std::string cwd_;
  Variables env_;
  std::string how_;
  std::optional<Words> next_;
};
}  // namespace

fs::path below(const HostRoot& root, std::string_view absolute) {
  const fs::path path(absolute);
  return root.live() ? path : root.root / path.relative_path();
}

std::string variable(const Variables& env, std::string_view name, std::string_view fallback) {
  const auto found = env.find(name);
  return found == env.end() ? std::string(fallback) : found->second;
}

Result<FoundPython> find_python(const HostRoot& root, const std::vector<std::string>& argv,
                                const std::string& cwd, const Variables& env) {
  return Finder(root, cwd.empty() ? "/" : cwd, env).find(argv);
}

}  // namespace rigwise
