#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/subprocess.h"
#include "host/python.h"
#include "host/variables.h"
#include "rigwise/host.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
const HostRoot kRoot{.root = fs::path(RIGWISE_FIXTURES) / "python"};
using Words = std::vector<std::string>;
const Variables kVenv = {{"PATH", "/home/u/venv/bin:/usr/bin"}, {"HOME", "/home/u"}};

std::string python_of(const Words& argv, Variables env = kVenv,
                      const std::string& cwd = "/home/u") {
  const auto found = find_python(kRoot, argv, cwd, env);
  return found ? found->path : "none: " + found.error().message;
}

TEST(HostPython, TheInterpreterThatTheCommandNames) {
  EXPECT_EQ(python_of({"python", "train.py"}), "/home/u/venv/bin/python");
  EXPECT_EQ(python_of({"venv/bin/python3", "-u", "train.py"}), "/home/u/venv/bin/python3");
  EXPECT_EQ(python_of({"/usr/bin/python3", "x.py"}), "/usr/bin/python3");
  EXPECT_EQ(python_of({"python3", "x.py"}, {{"PATH", "/nowhere:/usr/bin"}}), "/usr/bin/python3");
}

TEST(HostPython, ThroughScriptsAndWrappers) {
  EXPECT_EQ(python_of({"torchrun", "--nproc_per_node", "2", "train.py"}),
            "/home/u/venv/bin/python3");
  // Not on PATH's python but by its own first line.
  EXPECT_EQ(python_of({"/home/u/venv/bin/torchrun", "t.py"}, {{"PATH", "/usr/bin"}}),
            "/home/u/venv/bin/python3");
  EXPECT_EQ(python_of({"accelerate", "launch", "t.py"}), "/home/u/venv/bin/python3");
  EXPECT_EQ(python_of({"bin/run.py"}), "/home/u/venv/bin/python3");
  EXPECT_EQ(python_of({"env", "-u", "X", "A=1", "python", "x.py"}), "/home/u/venv/bin/python");
  EXPECT_EQ(python_of({"env", "PATH=/usr/bin", "python3", "x.py"}), "/usr/bin/python3");
  EXPECT_EQ(python_of({"timeout", "-k", "5", "60", "nice", "-n", "5", "python", "x.py"}),
            "/home/u/venv/bin/python");
  EXPECT_EQ(python_of({"mpirun", "-np", "2", "-x", "FOO", "python", "x.py"}),
            "/home/u/venv/bin/python");
  EXPECT_EQ(python_of({"srun", "--ntasks=2", "torchrun", "x.py"}), "/home/u/venv/bin/python3");
}

TEST(HostPython, ProjectsAndEnvironments) {
  EXPECT_EQ(python_of({"uv", "run", "train.py"}, kVenv, "/home/u/project/src"),
            "/home/u/project/.venv/bin/python");
  EXPECT_EQ(python_of({"uv", "run", "--project", "/home/u/project", "t.py"}),
            "/home/u/project/.venv/bin/python");
  EXPECT_EQ(python_of({"bin/uvscript"}, kVenv, "/home/u").substr(0, 5), "none:");
  EXPECT_EQ(python_of({"poetry", "run", "python"}, kVenv, "/home/u/project"),
            "/home/u/project/.venv/bin/python");
  EXPECT_EQ(python_of({"conda", "run", "-n", "ft", "python", "t.py"},
                      {{"CONDA_EXE", "/opt/conda/bin/conda"}}),
            "/opt/conda/envs/ft/bin/python");
  EXPECT_EQ(python_of({"conda", "run", "--prefix=/opt/conda/envs/ft", "python"}, {}),
            "/opt/conda/envs/ft/bin/python");
  EXPECT_EQ(python_of({"python", "t.py"}, {{"PATH", "/home/u/.pyenv/shims"}}),
            "/home/u/.pyenv/versions/3.10.9/bin/python");
}

TEST(HostPython, AShellScriptTellsNothing) {
  EXPECT_EQ(python_of({"bash", "train.sh"}).substr(0, 5), "none:");
  EXPECT_EQ(python_of({"bin/train.sh"}).substr(0, 5), "none:");
  Variables env = kVenv;
  env["VIRTUAL_ENV"] = "/home/u/venv";
  EXPECT_EQ(python_of({"bash", "train.sh"}, env), "/home/u/venv/bin/python");
  EXPECT_EQ(python_of({"bash", "t.sh"}, {{"CONDA_PREFIX", "/opt/conda/envs/ft"}}),
            "/opt/conda/envs/ft/bin/python");
  EXPECT_EQ(python_of({"docker", "run", "image", "python", "t.py"}, env).substr(0, 5), "none:");
  EXPECT_EQ(python_of({"no-such-program"}).substr(0, 5), "none:");
  EXPECT_EQ(python_of({}).substr(0, 5), "none:");
  EXPECT_EQ(python_of({""}).substr(0, 5), "none:");
  EXPECT_EQ(python_of(Words(40, "env")).substr(0, 5), "none:");
}

TEST(HostPython, AVenvAndItsPackages) {
  const auto install = inspect_python(kRoot, "/home/u/venv/bin/python3", kVenv);
  EXPECT_EQ(install.kind, "venv");
  EXPECT_EQ(install.minor, "3.11");
  EXPECT_EQ(install.version, "3.11.2");  // of the base as it is now, not of the day it was made
  EXPECT_EQ(install.folders, (Words{"/home/u/venv/lib/python3.11/site-packages"}));
  const auto packages = installed_packages(kRoot, install.folders);
  EXPECT_EQ(packages.at("torch"), "2.5.1+cu124");
  EXPECT_EQ(packages.at("flash-attn"), "2.6.3");
  EXPECT_EQ(packages.at("broken"), "1.0");
  EXPECT_EQ(packages.at("nometa"), "3.2");
}

TEST(HostPython, SystemSitePackagesCondaAndDebian) {
  const auto project = inspect_python(kRoot, "/home/u/project/.venv/bin/python", kVenv);
  EXPECT_EQ(installed_packages(kRoot, project.folders),
            (std::map<std::string, std::string>{
                {"numpy", "1.24.2"}, {"pyyaml", "6.0"}, {"trl", "0.11.0"}}));
  const auto conda = inspect_python(kRoot, "/opt/conda/envs/ft/bin/python", {});
  EXPECT_EQ(conda.kind, "conda");
  EXPECT_EQ(conda.version, "3.12.4");
  EXPECT_EQ(installed_packages(kRoot, conda.folders).at("peft"), "0.13.0");
  const auto system = inspect_python(kRoot, "/usr/bin/python3", kVenv);
  EXPECT_EQ(system.kind, "system");
  EXPECT_EQ(system.version, "3.11.2");
  EXPECT_EQ(system.folders.front(), "/usr/local/lib/python3.11/dist-packages");
}

TEST(HostPython, TorchVersionText) {
  const auto names = parse_torch_version(
      "cuda: Optional[str] = '12.4'\nhip: Optional[str] = None\n__version__ = \"2.5.1\"\nbad = "
      "'x\n");
  EXPECT_EQ(names.at("cuda"), "12.4");
  EXPECT_FALSE(names.contains("hip"));
  EXPECT_EQ(names.at("__version__"), "2.5.1");
  EXPECT_FALSE(names.contains("bad"));
}

TEST(HostEnvironment, OfAVenv) {
  EnvironmentQuery query;
  query.argv = {"torchrun", "train.py"};
  query.cwd = "/home/u";
  query.env = {"PATH=/home/u/venv/bin:/usr/bin", "HOME=/home/u"};
  query.limit = std::chrono::seconds(20);
  const Environment environment = read_environment_of(kRoot, query);
  EXPECT_EQ(environment.versions.at("python"), "3.11.2");
  EXPECT_EQ(environment.versions.at("torch"), "2.5.1+cu124");
  EXPECT_EQ(environment.versions.at("cuda"), "12.4");
  EXPECT_EQ(environment.versions.at("nccl"), "2.21.5");
  EXPECT_EQ(environment.versions.at("cudnn"), "9.1.0.70");
  EXPECT_EQ(environment.versions.at("cuda_runtime"), "12.4.127");
  EXPECT_EQ(environment.versions.at("transformers"), "4.46.0");
  EXPECT_EQ(environment.versions.at("package:cuda"), "0.0.1");  // a distribution of that name
  EXPECT_EQ(environment.facts.at("python_path"), "/home/u/venv/bin/python3");
  EXPECT_EQ(environment.facts.at("torch_git"), "a8d6afb511a69687bbb2b7e88a3cf67917e1697e");
}

TEST(HostEnvironment, OfARecordedMachine) {
  const Environment environment = read_environment_of(
      {.root = fs::path(RIGWISE_FIXTURES) / "hosts/two-cards-one-x4"}, {.argv = {"bash", "x.sh"}});
  EXPECT_EQ(environment.versions.at("driver"), "560.35.03");
  EXPECT_EQ(environment.facts.at("nvidia_module"), "open");
  EXPECT_EQ(environment.versions.at("kernel"), "6.8.0-45-generic");
  EXPECT_EQ(environment.versions.at("os"), "Ubuntu 24.04.1 LTS");
  EXPECT_FALSE(environment.versions.contains("python"));
  ASSERT_FALSE(environment.missing.empty());
}

TEST(HostEnvironment, SecretsAreNeverInIt) {
  const std::string token = "hf_AbCdEfGhIjKlMnOpQrStUvWx", password = "correct-horse",
                    key = "0123456789abcdef";
  EnvironmentQuery query;
  query.argv = {"bash"};
  query.cwd = "/";
  query.limit = std::chrono::seconds(20);
  query.env = {"HF_TOKEN=" + token,
               "TORCH_TOKEN=" + key,             // in an allowed prefix
               "NCCL_SECRET_THING=" + password,  // as well
               "WANDB_API_KEY=" + key,
               "TRANSFORMERS_CACHE=/c/" + key,  // the value of another secret
               "NCCL_NET=sk-abcdefghijklmnopqrstuvwxyz",
               "TORCH_HOME=https://user:" + password + "@host/x",
               "TORCHELASTIC_X=prefix " + token + " suffix",
               "MY_OWN=" + key,
               "NAME_" + key + "=1",
               "CUDA_VISIBLE_DEVICES=0,1",
               "TOKENIZERS_PARALLELISM=false",
               "NCCL_DEBUG=INFO",
               "GOOD\x1b[31m=1"};
  const Environment environment = read_environment_of({}, query);
  std::string all;
  for (const auto& [name, value] : environment.variables) all += name + "=" + value + "\n";
  for (const auto& name : environment.variable_names) all += name + "\n";
  for (const auto& [name, value] : environment.facts) all += name + "=" + value + "\n";
  for (const auto& [name, value] : environment.versions) all += name + "=" + value + "\n";
  for (const auto& what : environment.missing) all += what + "\n";
  for (const auto& secret : {token, password, key, std::string("sk-abcdef")})
    EXPECT_EQ(all.find(secret), std::string::npos) << secret << " in\n" << all;
  EXPECT_EQ(all.find('\x1b'), std::string::npos);
  EXPECT_EQ(environment.variables.at("CUDA_VISIBLE_DEVICES"), "0,1");
  EXPECT_EQ(environment.variables.at("TOKENIZERS_PARALLELISM"), "false");
  EXPECT_EQ(environment.variables.at("NCCL_DEBUG"), "INFO");
  EXPECT_EQ(environment.variables.at("TRANSFORMERS_CACHE"), "/c/***");
  EXPECT_EQ(environment.variables.at("TORCH_HOME"), "https://***@host/x");
  EXPECT_FALSE(environment.variables.contains("TORCH_TOKEN"));
  EXPECT_FALSE(environment.variables.contains("NCCL_SECRET_THING"));
  const auto& names = environment.variable_names;
  EXPECT_NE(std::find(names.begin(), names.end(), "HF_TOKEN"), names.end());
}

/// A git repository in a temporary folder, made with git itself.
class Repository {
 public:
  Repository()
      : folder_(fs::temp_directory_path() / ("rigwise-git-" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    ok = git({"init", "-q", "."}) && put("a.txt", "one\n") && git({"add", "a.txt"}) &&
         git({"-c", "user.name=n", "-c", "user.email=e@x", "commit", "-q", "-m", "m"});
  }
  ~Repository() { fs::remove_all(folder_); }
  Repository(const Repository&) = delete;
  Repository& operator=(const Repository&) = delete;
  [[nodiscard]] bool git(Words words) const {
    words.insert(words.begin(), "git");
    ProcessOptions options;
    options.limit = std::chrono::seconds(30);
    options.cwd = folder_;
    const auto result = run_process(words, options);
    return result && result->exit_status == 0;
  }
  [[nodiscard]] bool put(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return true;
  }
  [[nodiscard]] Environment read() const {
    EnvironmentQuery query;
    query.argv = {"bash"};
    query.cwd = folder_;
    query.limit = std::chrono::seconds(30);
    return read_environment_of({}, query);
  }
  [[nodiscard]] const fs::path& folder() const { return folder_; }
  bool ok = false;

 private:
  fs::path folder_;
};

TEST(HostEnvironment, GitCommitAndDirtyHash) {
  const Repository repository;
  if (!repository.ok) GTEST_SKIP() << "no git on this machine";
  const Environment clean = repository.read();
  EXPECT_EQ(clean.facts.at("git_commit").size(), 40u);
  EXPECT_EQ(clean.facts.at("git_dirty"), "no");
  EXPECT_FALSE(clean.facts.contains("git_dirty_hash"));
  ASSERT_TRUE(repository.put("a.txt", "two\n"));
  const Environment dirty = repository.read();
  EXPECT_EQ(dirty.facts.at("git_dirty"), "yes");
  EXPECT_EQ(dirty.facts.at("git_dirty_hash"), repository.read().facts.at("git_dirty_hash"));
  ASSERT_TRUE(repository.put("a.txt", "three\n"));
  EXPECT_NE(repository.read().facts.at("git_dirty_hash"), dirty.facts.at("git_dirty_hash"));
}

TEST(HostEnvironment, GitRunsNothingThatTheRepositoryNames) {
  const Repository repository;
  if (!repository.ok) GTEST_SKIP() << "no git on this machine";
  const std::string mark = (repository.folder() / "ran").string();
  ASSERT_TRUE(repository.put(".gitattributes", "*.txt filter=evil diff=evil\n"));
  for (const char* key : {"filter.evil.clean", "filter.evil.process", "diff.evil.command",
                          "diff.evil.textconv", "core.fsmonitor", "diff.external"})
    ASSERT_TRUE(repository.git({"config", key, "touch " + mark + "; cat"}));
  ASSERT_TRUE(repository.put("a.txt", "two\n"));
  EXPECT_EQ(repository.read().facts.at("git_dirty"), "yes");
  EXPECT_FALSE(fs::exists(mark));
}

TEST(HostEnvironment, OutsideARepositoryNothingIsMissing) {
  EnvironmentQuery query;
  query.argv = {"bash"};
  query.cwd = "/proc";
  const Environment environment = read_environment_of({}, query);
  for (const auto& what : environment.missing) EXPECT_FALSE(what.starts_with("git")) << what;
}

}  // namespace
}  // namespace rigwise
