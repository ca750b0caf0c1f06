// Which commands may be given what makes PyTorch ask for windows.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "record/profile_gate.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

TEST(ProfileGateWords, VersionsThatAreSound) {
  for (const char* version : {"2.7.0", "2.7.1+cu126", "2.13.0+cpu", "2.10.0a0+git1234", "2.8"}) {
    EXPECT_TRUE(torch_is_sound(version)) << version;
  }
  for (const char* version :
       {"2.6.0", "2.1.0+cu118", "1.13.1", "3.0.0", "", "2", "x.y", "2.", "-2.9"}) {
    EXPECT_FALSE(torch_is_sound(version)) << version;
  }
}

TEST(ProfileGateWords, SourcesThatProfile) {
  EXPECT_TRUE(source_profiles("from torch.profiler import profile\n"));
  EXPECT_TRUE(source_profiles("with torch.autograd.profiler.profile() as p:\n"));
  EXPECT_TRUE(source_profiles("from torch import profiler\nfrom torch.autograd import profiler"));
  EXPECT_TRUE(source_profiles("Accelerator(kwargs_handlers=[ProfileKwargs()])"));
  EXPECT_TRUE(source_profiles("trainer = Trainer(profiler=PyTorchProfiler())"));
  EXPECT_FALSE(source_profiles("import torch\nprofile = load('user_profile.json')\n"));
  EXPECT_FALSE(source_profiles(""));
}

TEST(ProfileGateWords, SourcesThatFork) {
  EXPECT_TRUE(source_forks("pid = os.fork()\n"));
  EXPECT_TRUE(source_forks("from os import fork\n"));
  EXPECT_TRUE(source_forks("with daemon.DaemonContext():\n"));
  EXPECT_FALSE(source_forks("context = multiprocessing.get_context('fork')\n"));
}

TEST(ProfileGateWords, SettingsThatProfile) {
  EXPECT_TRUE(settings_profile("profiler_steps: 3\n"));
  EXPECT_TRUE(
      settings_profile("profiler:\n  _component_: torchtune.training.setup_torch_profiler\n"
                       "  enabled: True\n"));
  EXPECT_TRUE(settings_profile("{\"profiler\": \"pytorch\"}"));
  // torchtune's recipes come with it written down and off
  EXPECT_FALSE(
      settings_profile("profiler:\n  _component_: torchtune.training.setup_torch_profiler\n"
                       "  enabled: False\n  output_dir: x/profiling_outputs\n"));
  EXPECT_FALSE(settings_profile("profiler_steps: 0\nprofile: false  # off\n# profiler: on\n"));
  EXPECT_FALSE(settings_profile("lr: 1e-4\n"));
  EXPECT_FALSE(settings_profile(""));
}

/// A venv of files alone, with a torch of the given version.
class Gate : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "rigwise-gate-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    write("venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.11.2\n");
    write("venv/bin/python", "");
    fs::permissions(dir_ / "venv/bin/python", fs::perms::owner_all);
    torch("2.13.0+cpu");
    write("train.py", "import torch\n");
  }
  void TearDown() override { fs::remove_all(dir_); }
  void write(const std::string& name, const std::string& text) {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name) << text;
  }
  void torch(const std::string& version) {
    write("venv/lib/python3.11/site-packages/torch/version.py",
          "from typing import Optional\n__version__ = '" + version +
              "'\ncuda: Optional[str] = None\n");
  }
  ProfileGate gate(std::vector<std::string> words, const std::vector<std::string>& env = {}) {
    words.insert(words.begin(), (dir_ / "venv/bin/python").string());
    return profile_gate(words, dir_.string(), env);
  }
  fs::path dir_;
};

TEST_F(Gate, OpenForAnUneditedScript) {
  const ProfileGate open = gate({"train.py", "--lr", "1e-4"}, {"PATH=/usr/bin", "HOME=/root"});
  EXPECT_TRUE(open.open);
  EXPECT_EQ(open.why, "");
}

TEST_F(Gate, ShutWithoutAWordWhereThereIsNoPyTorch) {
  fs::remove_all(dir_ / "venv/lib/python3.11/site-packages/torch");
  const ProfileGate shut = gate({"train.py"}, {"HOME=" + dir_.string()});
  EXPECT_FALSE(shut.open);
  EXPECT_EQ(shut.why, "");
  EXPECT_FALSE(profile_gate({"/bin/true"}, dir_.string(), {}).open);
  EXPECT_FALSE(profile_gate({}, dir_.string(), {}).open);
}

TEST_F(Gate, ShutForVersionsThatAreNotSound) {
  torch("2.5.1+cu121");
  const ProfileGate shut = gate({"train.py"});
  EXPECT_FALSE(shut.open);
  EXPECT_EQ(shut.why, "torch 2.5.1+cu121 is not known to be sound for it (2.7 on is)");
}

TEST_F(Gate, ShutWhereTheUserHasSetAnyOfIt) {
  for (const char* name :
       {"KINETO_USE_DAEMON", "KINETO_LOG_LEVEL", "KINETO_CONFIG", "CUDA_INJECTION64_PATH"}) {
    const ProfileGate shut = gate({"train.py"}, {std::string(name) + "=1"});
    EXPECT_FALSE(shut.open);
    EXPECT_EQ(shut.why, std::string(name) + " is set in the command's environment");
  }
}

TEST_F(Gate, ShutWhereTheUserProfiles) {
  EXPECT_FALSE(gate({"train.py", "--profile", "true"}).open);
  EXPECT_FALSE(gate({"train.py", "--use_torch_profiler"}).open);
  write("config.yaml", "profiler_steps: 5\n");
  EXPECT_FALSE(gate({"train.py", "config.yaml"}).open);
  write("config.yaml", "profiler_steps: 0\n");
  EXPECT_TRUE(gate({"train.py", "config.yaml"}).open);
  write("helpers.py", "from torch.profiler import profile\n");
  const ProfileGate shut = gate({"train.py"});
  EXPECT_FALSE(shut.open);
  EXPECT_EQ(shut.why, "train.py profiles itself");
  write("helpers.py", "if os.fork() == 0:\n");
  EXPECT_EQ(gate({"train.py"}).why, "train.py forks by itself");
  fs::remove(dir_ / "helpers.py");
  EXPECT_TRUE(gate({"-m", "train"}).open);
  write("train.py", "import torch.profiler\n");
  EXPECT_FALSE(gate({"-m", "train"}).open);
}

}  // namespace
}  // namespace rigwise
