// Which rank a process is, from the variables of each launcher.
#include <gtest/gtest.h>

#include <map>

#include "engine/comm/ranks.h"
#include "engine/comm/sockets.h"

namespace rigwise::engine {
namespace {

using Variables = std::map<std::string, std::string>;

Result<RankPlace> place(const Variables& variables) {
  return place_from_environment([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return {};
    return found->second;
  });
}

TEST(Place, OneRankWithoutALauncher) {
  const auto got = place({});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->size, 1);
  EXPECT_EQ(got->launcher, "none");
}

// As torch/distributed/elastic/agent/server/local_elastic_agent.py of torch 2.13 sets them.
TEST(Place, Torchrun) {
  const auto got = place({{"RANK", "3"},
                          {"WORLD_SIZE", "4"},
                          {"LOCAL_RANK", "1"},
                          {"LOCAL_WORLD_SIZE", "2"},
                          {"MASTER_ADDR", "gpu1"},
                          {"MASTER_PORT", "29511"},
                          {"TORCHELASTIC_RUN_ID", "none"},
                          {"TORCHELASTIC_RESTART_COUNT", "2"},
                          {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->launcher, "torchrun");
  EXPECT_EQ(got->rank, 3);
  EXPECT_EQ(got->size, 4);
  EXPECT_EQ(got->local_rank, 1);
  EXPECT_EQ(got->local_size, 2);
  EXPECT_EQ(got->master_host, "gpu1");
  EXPECT_EQ(got->master_port, 29511);
  EXPECT_TRUE(got->meeting_held);
  EXPECT_EQ(got->meeting_prefix, "none/2/");
}

TEST(Place, OpenMpi) {
  const auto got = place({{"OMPI_COMM_WORLD_RANK", "1"},
                          {"OMPI_COMM_WORLD_SIZE", "2"},
                          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                          {"PMI_RANK", "0"}});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->launcher, "mpirun");
  EXPECT_EQ(got->rank, 1);
  EXPECT_EQ(got->master_host, "127.0.0.1");
}

TEST(Place, MpiOverHostsNeedsMasterAddr) {
  const Variables variables = {{"OMPI_COMM_WORLD_RANK", "1"},
                               {"OMPI_COMM_WORLD_SIZE", "4"},
                               {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                               {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  const auto got = place(variables);
  ASSERT_FALSE(got);
  EXPECT_NE(got.error().message.find("MASTER_ADDR"), std::string::npos);
  EXPECT_NE(got.error().hint.find("mpirun -x MASTER_ADDR"), std::string::npos);
}

TEST(Place, Srun) {
  const Variables step = {{"SLURM_JOB_ID", "4711"},
                          {"SLURM_STEP_ID", "0"},
                          {"SLURM_PROCID", "2"},
                          {"SLURM_STEP_NUM_TASKS", "4"},
                          {"SLURM_NTASKS", "8"},
                          {"SLURM_LOCALID", "0"},
                          {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"},
                          {"SLURM_JOB_NODELIST", "gpu[03-05,9],login1"}};
  const auto got = place(step);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->launcher, "srun");
  EXPECT_EQ(got->rank, 2);
  EXPECT_EQ(got->size, 4);
  EXPECT_EQ(got->local_size, 2);
  EXPECT_EQ(got->master_host, "gpu03");
  EXPECT_GT(got->master_port, 1024);

  Variables other = step;
  other["SLURM_JOB_ID"] = "4712";
  EXPECT_NE(place(other)->master_port, got->master_port);
}

TEST(Place, ABatchScriptIsNoLaunch) {
  // sbatch sets these for the script itself, which is one process however many tasks it asked for
  const auto got = place({{"SLURM_JOB_ID", "4711"},
                          {"SLURM_PROCID", "0"},
                          {"SLURM_NTASKS", "8"},
                          {"SLURM_LOCALID", "0"}});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->size, 1);
}

TEST(Place, HalfALaunchNamesWhatIsMissing) {
  const std::vector<std::pair<Variables, std::string>> cases = {
      {{{"RANK", "0"}}, "WORLD_SIZE is not set"},
      {{{"WORLD_SIZE", "2"}}, "RANK is not set"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}}, "MASTER_ADDR is not"},
      {{{"RANK", "2"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}},
       "RANK=2 is not below WORLD_SIZE=2"},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "2"}}, "RANK='-1'"},
      {{{"RANK", "one"}, {"WORLD_SIZE", "2"}}, "RANK='one': not a whole number"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "999999999999999999999"}}, "WORLD_SIZE='9999"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "0"}}, "WORLD_SIZE='0'"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}}, "MASTER_PORT='70000'"},
  };
  for (const auto& [variables, text] : cases) {
    const auto got = place(variables);
    ASSERT_FALSE(got) << text;
    EXPECT_EQ(got.error().code, Errc::usage);
    EXPECT_NE(got.error().message.find(text), std::string::npos) << got.error().message;
  }
}

TEST(Place, FirstHostOfASlurmList) {
  EXPECT_EQ(first_slurm_host("gpu1"), "gpu1");
  EXPECT_EQ(first_slurm_host("gpu1,gpu2"), "gpu1");
  EXPECT_EQ(first_slurm_host("gpu[03-05,9],login1"), "gpu03");
  EXPECT_EQ(first_slurm_host("gpu[7,9]"), "gpu7");
  EXPECT_EQ(first_slurm_host("a,gpu[7,9]"), "a");
  EXPECT_EQ(first_slurm_host("rack[1-2]n[3-4]"), "rack1n3");
  EXPECT_EQ(first_slurm_host("n[1-2]-ib"), "n1-ib");
  EXPECT_EQ(first_slurm_host("gpu["), "");
  EXPECT_EQ(first_slurm_host("gpu[]"), "");
  EXPECT_EQ(first_slurm_host(""), "");
}

TEST(Threads, AtLeastOneARank) {
  EXPECT_GE(threads_per_rank(1), threads_per_rank(2));
  EXPECT_EQ(threads_per_rank(100000), 1);
}

TEST(Sockets, ABusyPortIsSaidSo) {
  const auto first = listen_on("127.0.0.1", 0);
  ASSERT_TRUE(first);
  const auto port = port_of(*first);
  ASSERT_TRUE(port);
  const auto second = listen_on("127.0.0.1", *port);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::unavailable);
  EXPECT_EQ(second.error().message,
            "port " + std::to_string(*port) + " is in use by another program");

  RanksOptions options;
  options.port = *port;
  const auto ran = run_ranks({"never-started"}, options, [](std::string_view) {});
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().code, Errc::unavailable);
}

TEST(Sockets, TheLoopbackInterfaceIsFound) {
  const auto address = address_towards("127.0.0.1");
  ASSERT_TRUE(address);
  EXPECT_EQ(*address, "127.0.0.1");
  EXPECT_EQ(*interface_of("127.0.0.1"), "lo");
  EXPECT_FALSE(interface_of("192.0.2.77"));  // an address of the documentation's range
  EXPECT_FALSE(address_towards("no.such.host.invalid"));
}

}  // namespace
}  // namespace rigwise::engine
