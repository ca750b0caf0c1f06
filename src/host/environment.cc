// Environment: the software around a command. Read on a thread of its own, part by part, cheap
// parts first; at the time limit whatever is there is handed back and what is not is named in
// `missing`.
#include <gnu/libc-version.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <set>

#include "base/clock.h"
#include "base/files.h"
#include "base/subprocess.h"
#include "base/text.h"
#include "host/gpu_sources.h"
#include "host/kept_file.h"
#include "host/proc_text.h"
#include "host/python.h"
#include "host/variables.h"
#include "host/worker.h"
#include "rigwise/host.h"

namespace rigwise {

namespace fs = std::filesystem;

namespace {
constexpr std::size_t kMaxDiffBytes = 16 << 20;

/// What the reading thread and the caller share: the thread may hang and outlive the caller.
struct Shared {
  std::mutex mutex;
  Environment environment;
  std::string reading;  // the part being read
};

class Reader {
 public:
  Reader(HostRoot root, EnvironmentQuery query, std::shared_ptr<Shared> shared)
      : root_(std::move(root)),
        query_(std::move(query)),
        shared_(std::move(shared)),
        deadline_s_(monotonic_s() + static_cast<double>(query_.limit.count()) / 1000) {
    for (const auto& entry : query_.env) {
      const auto equals = entry.find('=');
      if (equals != std::string::npos && equals > 0)
        env_[entry.substr(0, equals)] = entry.substr(equals + 1);
    }
  }

  void read() {
    part("environment variables", [&] { read_variables(); });
    part("system", [&] { read_system(); });
    part("container", [&] { read_container(); });
    part("python", [&] { read_python(); });
    part("git", [&] { read_git(); });
    part("driver", [&] { read_driver(); });
  }

 private:
  template <class F>
  void part(const char* name, F read_part) {
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->reading = name;
    }
    if (left_ms().count() <= 0) return missing(std::string(name) + ": no time left");
    read_part();
  }
  [[nodiscard]] std::chrono::milliseconds left_ms() const {
    return std::chrono::milliseconds(static_cast<long>((deadline_s_ - monotonic_s()) * 1000));
  }
  void version(const std::string& key, const std::string& value) {
    if (value.empty()) return;
    const std::lock_guard lock(shared_->mutex);
    shared_->environment.versions[key] = clean_text(value, 256);
  }
  void fact(const std::string& key, const std::string& value) {
    if (value.empty()) return;
    const std::lock_guard lock(shared_->mutex);
    shared_->environment.facts[key] = clean_text(value, 4096);
  }
  void missing(const std::string& what) {
    const std::lock_guard lock(shared_->mutex);
    shared_->environment.missing.push_back(clean_text(what, 512));
  }

  void read_variables() {
    const std::lock_guard lock(shared_->mutex);
    sort_variables(env_, shared_->environment.variables, shared_->environment.variable_names);
  }

  void read_system() {
    const std::string kernel = read_small(root_ / "proc/sys/kernel/osrelease").value_or("");
    version("kernel", kernel);
    if (lower(kernel).find("microsoft") != std::string::npos) fact("virtual", "wsl2");
    for (const char* file : {"etc/os-release", "usr/lib/os-release"}) {
      const auto text = read_file(root_ / file, 65536);
      if (!text) continue;
      Lines lines(*text);
      std::string_view line;
      while (lines.next(line)) {
        if (!line.starts_with("PRETTY_NAME=")) continue;
        std::string_view name = trim(line.substr(12));
        if (name.size() >= 2 && name.front() == '"') name = name.substr(1, name.size() - 2);
        version("os", std::string(name));
      }
      break;
    }
    if (root_.live()) version("libc", std::string("glibc ") + ::gnu_get_libc_version());
    if (const auto text = read_small(root_ / "opt/rocm/.info/version")) version("rocm", *text);
    if (const auto text = read_small(root_ / "usr/local/cuda/version.json")) {
      // {"cuda": {"name": "CUDA SDK", "version": "12.4.1"}, …}: the first version is the toolkit's.
      const auto at = text->find("\"version\"");
      const auto open = at == std::string::npos ? at : text->find('"', at + 9);
      const auto close = open == std::string::npos ? open : text->find('"', open + 1);
      if (close != std::string::npos)
        version("cuda_toolkit", text->substr(open + 1, close - open - 1));
    }
    if (const auto text = read_file(root_ / "proc/cpuinfo", 16 << 20)) {
      if (text->find(" hypervisor") != std::string::npos) fact("virtual_machine", "yes");
    }
  }

  void read_container() {
    std::error_code error;
    const auto is_there = [&](const char* file) { return fs::exists(root_ / file, error); };
    const auto set = [&](const char* name) { return !variable(env_, name).empty(); };
    std::string kind;
    if (set("KUBERNETES_SERVICE_HOST")) kind = "kubernetes";
    if (kind.empty() && (set("APPTAINER_CONTAINER") || set("APPTAINER_NAME"))) kind = "apptainer";
    if (kind.empty() && (set("SINGULARITY_CONTAINER") || set("SINGULARITY_NAME")))
      kind = "singularity";
    if (kind.empty() && is_there("run/.containerenv")) kind = "podman";
    if (kind.empty() && is_there(".dockerenv")) kind = "docker";
    if (kind.empty()) {
      const std::string groups = read_small(root_ / "proc/1/cgroup").value_or("");
      for (const char* word : {"kubepods", "docker", "libpod", "lxc"}) {
        if (kind.empty() && groups.find(word) != std::string::npos) kind = word;
      }
    }
    fact("container", kind.empty() ? "none seen" : kind);
    const std::string image =
        variable(env_, "APPTAINER_CONTAINER", variable(env_, "SINGULARITY_CONTAINER"));
    fact("container_image", image);
  }

  void read_python() {
    const auto found = find_python(root_, query_.argv, query_.cwd, env_);
    if (!found) return missing(found.error().message);
    fact("python_path", found->path);
    fact("python_how", found->how);
    const PythonInstall install = inspect_python(root_, found->path, env_);
    fact("python_prefix", install.prefix);
    fact("python_kind", install.kind);
    if (install.version)
      version("python", *install.version);
    else
      ask_python_version(found->path, install.minor);
    if (install.folders.empty()) missing("packages: no site-packages beside " + found->path);
    const auto packages = installed_packages(root_, install.folders);
    read_torch(install.folders);
    for (const auto& [name, text] : packages) {
      const std::lock_guard lock(shared_->mutex);
      // Keys of ours come first: a distribution of such a name is set apart.
      static const std::set<std::string> kOurs = {"python", "cuda",   "hip", "nccl", "cudnn",
                                                  "driver", "kernel", "os",  "libc", "rocm"};
      auto& versions = shared_->environment.versions;
      if (name == "torch")
        versions.try_emplace(name, text);
      else
        versions[kOurs.contains(name) ? "package:" + name : name] = text;
    }
    read_bundled(packages, install);
  }

  /// The last way: the interpreter is started, but only to print its version.
  void ask_python_version(const std::string& path, const std::string& minor) {
    if (root_.live()) {
      ProcessOptions options;
      options.limit = std::min(left_ms(), std::chrono::milliseconds(1000));
      options.max_output_bytes = 4096;
      const auto answer = run_process({path, "-I", "-S", "--version"}, options);
      if (answer && answer->exit_status == 0) {
        const std::string_view text = trim(answer->out.empty() ? answer->err : answer->out);
        if (text.starts_with("Python ")) return version("python", std::string(text.substr(7)));
      }
    }
    if (minor.empty()) return missing("python: no file tells its version");
    version("python", minor);
    missing("python: patch level");
  }

  void read_torch(const std::vector<std::string>& folders) {
    for (const auto& folder : folders) {
      const auto text = read_file(below(root_, folder + "/torch/version.py"), 65536);
      if (!text) continue;
      const auto names = parse_torch_version(*text);
      const auto take = [&](const char* name, const char* key) {
        const auto it = names.find(name);
        if (it != names.end()) version(key, it->second);
      };
      take("__version__", "torch");
      take("cuda", "cuda");
      take("hip", "hip");
      const auto git = names.find("git_version");
      if (git != names.end()) fact("torch_git", git->second);
      return;
    }
  }

  /// CUDA libraries come as wheels (nvidia-nccl-cu12) or conda packages (nccl).
  void read_bundled(const std::map<std::string, std::string>& packages,
                    const PythonInstall& install) {
    struct Library {
      const char* key;
      std::string_view wheel;  // with or without "-cuNN"
      std::string_view conda;
    };
    static constexpr std::array<Library, 4> kLibraries = {
        {{"cuda_runtime", "nvidia-cuda-runtime", "cuda-cudart"},
         {"cudnn", "nvidia-cudnn", "cudnn"},
         {"nccl", "nvidia-nccl", "nccl"},
         {"cublas", "nvidia-cublas", "libcublas"}}};
    std::vector<std::string> conda;
    if (install.kind == "conda")
      conda = list_folder(below(root_, install.prefix + "/conda-meta"), 65536);
    for (const auto& library : kLibraries) {
      for (const auto& [name, text] : packages) {
        if (name == library.wheel || (name.starts_with(library.wheel) &&
                                      name.substr(library.wheel.size()).starts_with("-cu")))
          version(library.key, text);
      }
      for (const auto& file : conda) {
        // NAME-VERSION-BUILD.json
        if (!file.starts_with(std::string(library.conda) + "-")) continue;
        const std::string rest = file.substr(library.conda.size() + 1);
        if (!rest.empty() && is_digit(rest[0]))
          version(library.key, rest.substr(0, rest.find('-')));
      }
    }
  }

  Result<ProcessOutput> git(std::vector<std::string> words) {
    // Nothing that the repository's configuration names may run (hooks, a file watcher, external
    // diffs), and nothing may be written or locked.
    std::vector<std::string> argv = {
        "git", "--no-optional-locks",      "--no-pager", "-c",      "core.fsmonitor=false",
        "-c",  "core.hooksPath=/dev/null", "-C",         query_.cwd};
    argv.insert(argv.begin() + 1, no_filters_.begin(), no_filters_.end());
    argv.insert(argv.end(), words.begin(), words.end());
    ProcessOptions options;
    options.limit = left_ms();
    options.max_output_bytes = kMaxDiffBytes;
    options.extra_env = {"GIT_TERMINAL_PROMPT=0", "LC_ALL=C"};
    return run_process(argv, options);
  }

  void read_git() {
    if (!root_.live() || query_.cwd.empty()) return;
    const auto head = git({"rev-parse", "HEAD", "--abbrev-ref", "HEAD"});
    if (!head) return missing("git: " + head.error().message);
    if (head->exit_status != 0) {
      // Outside a repository there is nothing to miss.
      if (head->err.find("not a git repository") == std::string::npos)
        missing("git: " +
                std::string(trim(std::string_view(head->err).substr(0, head->err.find('\n')))));
      return;
    }
    read_git_head(head->out);
    disarm_filters();
    const auto diff = git({"diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color",
                           "--full-index", "--ignore-submodules=all"});
    if (!diff) return missing("git: dirty or not: " + diff.error().message);
    if (diff->exit_status != 0) return missing("git: dirty or not: git diff failed");
    fact("git_dirty", diff->out.empty() ? "no" : "yes");
    if (!diff->out.empty()) fact("git_dirty_hash", sha256_hex(diff->out));
    if (diff->truncated)
      missing("git: the difference is longer than 16 MiB, its hash covers that much");
  }

  /// `git diff` pipes changed files through the filters that the configuration names. The user's
  /// own ones (git-lfs) may; a repository that came with filters of its own may not.
  void disarm_filters() {
    const auto names = git({"config", "--local", "--name-only", "--get-regexp",
                            "^filter[.].*[.](clean|process|smudge)$"});
    if (!names || names->exit_status != 0) return;
    Lines lines(names->out);
    std::string_view line;
    while (lines.next(line) && no_filters_.size() < 128) {
      no_filters_.push_back("-c");
      no_filters_.push_back(std::string(line) + "=");
      no_filters_.push_back("-c");
      no_filters_.push_back(std::string(line.substr(0, line.rfind('.'))) + ".required=false");
    }
  }

  void read_git_head(std::string_view text) {
    Lines lines(text);
    std::string_view line;
    if (lines.next(line)) fact("git_commit", std::string(trim(line)));
    if (lines.next(line)) fact("git_branch", std::string(trim(line)));
  }

  void read_driver() {
    const auto text = read_small(root_ / "proc/driver/nvidia/version");
    if (text) {
      // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 …"
      Fields fields(std::string_view(*text).substr(0, text->find('\n')));
      std::string_view word;
      while (fields.next(word)) {
        if (std::count(word.begin(), word.end(), '.') >= 1 && is_digit(word.front())) {
          version("driver", std::string(word));
          break;
        }
      }
      fact("nvidia_module",
           text->find("Open Kernel") != std::string::npos ? "open" : "proprietary");
      return;
    }
    if (const auto module = read_small(root_ / "sys/module/nvidia/version"))
      return version("driver", *module);
    if (const auto module = read_small(root_ / "sys/module/amdgpu/version"))
      return version("driver", "amdgpu " + *module);
    std::error_code error;
    if (fs::exists(root_ / "sys/module/amdgpu", error))
      return version("driver", "amdgpu of the kernel");
    if (fs::exists(root_ / "sys/module/xe", error)) return version("driver", "xe of the kernel");
    // A container may show the library but not the module's files.
    if (root_.live() || root_.nvml_stands_in) {
      auto nvml = open_nvml(root_, 0);
      if (!nvml) return missing("driver: " + nvml.error().message);
      if (const auto text_of = nvml.value()->version()) return version("driver", *text_of);
    }
    missing("driver: no GPU driver seen");
  }

  HostRoot root_;
  EnvironmentQuery query_;
  std::shared_ptr<Shared> shared_;
  double deadline_s_;
  Variables env_;
  std::vector<std::string> no_filters_;
};
}  // namespace

Environment read_environment_of(const HostRoot& root, const EnvironmentQuery& query) {
  auto shared = std::make_shared<Shared>();
  auto reader = std::make_shared<Reader>(root, query, shared);
  Worker<int, int> worker("environment", [reader](const int&) {
    reader->read();
    return 0;
  });
  worker.post(0);
  // A little more than the parts themselves may take, so that they end by their own limit.
  const auto grace = query.limit + std::chrono::milliseconds(200);
  const bool whole = worker.wait(std::chrono::steady_clock::now() + grace).has_value();
  const std::lock_guard lock(shared->mutex);
  Environment environment = shared->environment;
  if (!whole)
    environment.missing.push_back(shared->reading + " and what comes after: no answer within " +
                                  std::to_string(query.limit.count()) + " ms");
  return environment;
}

}  // namespace rigwise
