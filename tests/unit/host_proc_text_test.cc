#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "host/gpu_sources.h"
#include "host/pci.h"
#include "host/peers.h"
#include "host/proc_text.h"
#include "host/python.h"
#include "host/tree.h"

namespace rigwise {
namespace {

constexpr std::string_view kStat =
    "4127 (a) b (c) R 1 4127 4127 0 -1 4194304 1 2 3 4 900 100 50 25 20 0 7 0 5000 999 321 "
    "18446744073709551615 94000 0 140000 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
constexpr std::string_view kDisks =
    " 259 0 nvme0n1 1000 5 80000 400 2000 9 160000 900 3 700 1300 0 0 0 0 10 20\n"
    " 259 1 short 10 0\n";
constexpr std::string_view kNet =
    "Inter-|   Receive  |  Transmit\n face |bytes packets\n"
    "  eth0: 100 1 2 3 0 0 0 0 200 4 5 6 0 0 0 0\n  bad: x y\n";
constexpr std::string_view kMounts =
    "25 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n"
    "80 25 0:50 / /data\\040set rw master:1 - nfs4 server:/export rw\n"
    "81 25 0:51 / /data\\040set/in rw - tmpfs none rw\nnonsense\n";

TEST(HostText, CpuTimes) {
  const auto times = parse_cpu_times("cpu  100 20 30 1000 40 5 6 7 0 0\ncpu0 1 1\n", 100);
  ASSERT_TRUE(times);
  EXPECT_DOUBLE_EQ(times->process_s, 1.5);
  EXPECT_DOUBLE_EQ(times->busy_s, 1.61);
  EXPECT_DOUBLE_EQ(times->iowait_s, 0.4);
  EXPECT_DOUBLE_EQ(times->steal_s, 0.07);
  EXPECT_FALSE(parse_cpu_times("cpu  100 20", 100));
  EXPECT_FALSE(parse_cpu_times("", 100));
}

TEST(HostText, PidStatWithHostileName) {
  const auto stat = parse_pid_stat(kStat, 100);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->comm, "a) b (c");
  EXPECT_EQ(stat->state, 'R');
  EXPECT_EQ(stat->ppid, 1);
  EXPECT_DOUBLE_EQ(stat->cpu_s, 10);
  EXPECT_DOUBLE_EQ(stat->children_cpu_s, 0.75);
  EXPECT_EQ(stat->threads, 7);
  EXPECT_EQ(stat->start_ticks, 5000u);
  EXPECT_NE(stat->exec_mark, 0u);
}

TEST(HostText, DisksNetsPressureMounts) {
  std::vector<DiskCounters> disks;
  parse_diskstats(kDisks, disks);
  ASSERT_EQ(disks.size(), 1u);
  EXPECT_DOUBLE_EQ(disks[0].read_bytes, 80000 * 512.0);
  EXPECT_DOUBLE_EQ(disks[0].busy_s, 0.7);
  std::vector<NetCounters> nets;
  parse_net_dev(kNet, nets);
  ASSERT_EQ(nets.size(), 1u);
  EXPECT_EQ(nets[0].name, "eth0");
  EXPECT_DOUBLE_EQ(nets[0].tx_bytes, 200);
  EXPECT_DOUBLE_EQ(nets[0].rx_drops, 3);
  const auto pressure = parse_pressure("some avg10=0 total=1500000\nfull avg10=0 total=oops\n");
  EXPECT_DOUBLE_EQ(pressure.some_s.value(), 1.5);
  EXPECT_FALSE(pressure.full_s);
  const auto mounts = parse_mountinfo(kMounts);
  ASSERT_EQ(mounts.size(), 3u);
  EXPECT_EQ(mount_of(mounts, "/data set/out")->fs_type, "nfs4");
  EXPECT_EQ(mount_of(mounts, "/data set/in/x")->fs_type, "tmpfs");
  EXPECT_EQ(mount_of(mounts, "/data settle")->fs_type, "ext4");
  EXPECT_TRUE(is_network_fs("nfs4"));
  EXPECT_FALSE(is_network_fs("ext4"));
}

TEST(HostText, SmallOnes) {
  EXPECT_EQ(parse_ns_pids("Name:\tx\nNSpid:\t4100\t12\t3\n"), (std::vector<int>{4100, 12, 3}));
  EXPECT_EQ(count_cpu_list("0-3,8"), 5);
  EXPECT_FALSE(count_cpu_list("3-1"));
  EXPECT_FALSE(count_cpu_list("a"));
  EXPECT_EQ(parse_loadavg("0.5 0.4 0.3 2/100 4242\n").last_pid, 4242);
  EXPECT_EQ(parse_nul_list(std::string_view("a\0b\0", 4), 10),
            (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(pcie_generation(16.0), 4);
  EXPECT_FALSE(pcie_generation(7));
  EXPECT_EQ(sysfs_pci_address("00000000:0A:00.0"), "0000:0a:00.0");
  EXPECT_EQ(starred_mhz("0: 500Mhz\n1: 2304Mhz *\n"), 2304);
  EXPECT_FALSE(starred_mhz("0: 500Mhz\n"));
}

/// Every parser gets every prefix of good text, and the good text with each byte replaced in turn.
TEST(HostText, NoParserMindsTornOrWrongText) {
  std::vector<DiskCounters> disks;
  std::vector<NetCounters> nets;
  std::string metrics(120, '\x07');
  metrics[0] = 120, metrics[1] = 0, metrics[2] = 1, metrics[3] = 3;
  const std::vector<std::pair<std::string, std::function<void(std::string_view)>>> cases = {
      {std::string(kStat), [](auto text) { (void)parse_pid_stat(text, 100); }},
      {std::string(kDisks), [&](auto text) { parse_diskstats(text, disks); }},
      {std::string(kNet), [&](auto text) { parse_net_dev(text, nets); }},
      {std::string(kMounts),
       [](auto text) {
         const auto mounts = parse_mountinfo(text);
         (void)mount_of(mounts, "/data set/in");
       }},
      {"cpu  100 20 30 1000 40 5 6 7 0 0\n", [](auto text) { (void)parse_cpu_times(text, 100); }},
      {"MemTotal: 5 kB\nWriteback: 6 kB\n", [](auto text) { (void)parse_meminfo(text); }},
      {"0.5 0.4 0.3 2/100 4242\n", [](auto text) { (void)parse_loadavg(text); }},
      {"some avg10=0 total=15\n", [](auto text) { (void)parse_pressure(text); }},
      {"1000 2000 3\n", [](auto text) { (void)parse_schedstat(text); }},
      {"read_bytes: 5\nwrite_bytes: 6\n", [](auto text) { (void)parse_pid_io(text); }},
      {"NSpid:\t1\t2\n", [](auto text) { (void)parse_ns_pids(text); }},
      {"0-3,8", [](auto text) { (void)count_cpu_list(text); }},
      {"__version__ = '2.5'\ncuda: Optional[str] = '12.4'\n",
       [](auto text) { (void)parse_torch_version(text); }},
      {"Name: x\nVersion: 1\n", [](auto text) { (void)parse_metadata(text); }},
      {"1: 2304Mhz *\n", [](auto text) { (void)starred_mhz(text); }},
      {metrics, [](auto text) { (void)parse_amd_metrics(text); }},
  };
  for (const auto& [good, parse] : cases) {
    for (std::size_t cut = 0; cut <= good.size(); ++cut) {
      const std::string exact =
          good.substr(0, cut);  // its own allocation: a sanitizer sees overruns
      parse(exact);
    }
    for (std::size_t at = 0; at < good.size(); ++at) {
      for (const char wrong : {'\0', '\xff', '-', '9', '\n', ' '}) {
        std::string bad = good;
        bad[at] = wrong;
        parse(bad);
      }
    }
  }
}

TEST(HostText, AmdMetrics) {
  std::string bytes(120, '\0');
  bytes[0] = 120, bytes[2] = 1, bytes[3] = 3;
  bytes[74] = 8;
  bytes[112 + 4] = 0x10;  // bit 36, the hotspot: always set on some cards, so it tells nothing
  EXPECT_EQ(parse_amd_metrics(bytes).throttle_reasons, 0);
  EXPECT_EQ(parse_amd_metrics(bytes).pcie_width, 8);
  bytes[112] = 1;
  bytes[112 + 5] = 0x40;  // PPT0; bit 46, PROCHOT
  EXPECT_EQ(parse_amd_metrics(bytes).throttle_reasons, kReasonPower | kReasonHwThermal);
  bytes[112] = 0, bytes[112 + 5] = 0;
  bytes[112 + 2] = 0x40;  // EDC of the GPU: a limit on current, not the brake of a failing supply
  EXPECT_EQ(parse_amd_metrics(bytes).throttle_reasons, kReasonPower);
  bytes[3] = 2;
  EXPECT_FALSE(parse_amd_metrics(bytes).throttle_reasons);  // 1.2 knows only the chip's own bits
}

// ----------------------------------------------------------------------------------------------
// roles

using Words = std::vector<std::string>;
RoleInput process(int parent, const Words& argv, std::optional<int> rank = {},
                  std::string_view comm = "python3", std::optional<int> local = {}) {
  RoleInput input;
  input.parent = parent;
  input.argv = &argv;
  input.kind = command_kind(argv);
  input.rank_env = rank;
  input.local_rank_env = local;
  input.comm = comm;
  input.settled = true;
  return input;
}
std::string roles_of(const std::vector<RoleInput>& inputs) {
  std::string out;
  for (const auto& role : decide_roles(inputs)) {
    out += (out.empty() ? "" : " ") + std::string(role.role);
    if (role.rank) out += std::to_string(*role.rank);
  }
  return out;
}

const Words kTorchrun = {"/v/bin/python", "/v/bin/torchrun", "train.py"};
const Words kRunModule = {"python", "-u", "-m", "torch.distributed.run", "train.py"};
const Words kAccelerate = {"/v/bin/python", "/v/bin/accelerate", "launch", "train.py"};
const Words kTrain = {"python", "-u", "train.py"};
const Words kSpawn = {"python", "-c",
                      "from multiprocessing.spawn import spawn_main; spawn_main(1)"};
const Words kTracker = {"python", "-c",
                        "from multiprocessing.resource_tracker import main;main(5)"};
const Words kShell = {"bash", "run.sh"};
const Words kGcc = {"/usr/bin/gcc"};
const Words kNative = {"./train"};
const Words kMpirun = {"mpirun", "-np", "2", "python", "train.py"};

TEST(HostRoles, AProgramThatStartsItselfAsItsRanks) {
  const Words engine = {"rigwise-engine", "train", "--ranks", "2"};
  EXPECT_EQ(
      roles_of({process(-1, engine), process(0, engine, 0, "exe"), process(0, engine, 1, "exe")}),
      "launcher rank0 rank1");
  EXPECT_EQ(roles_of({process(-1, kShell), process(0, engine), process(1, engine, 0, "exe"),
                      process(1, engine, 1, "exe"), process(1, kGcc)}),
            "other launcher rank0 rank1 other");
  EXPECT_EQ(roles_of({process(-1, engine)}), "rank0");
  // under a launcher the number is the program's own, and its copies are helpers
  EXPECT_EQ(roles_of({process(-1, kMpirun), process(0, engine, 0), process(0, engine, 1),
                      process(1, engine, 0)}),
            "launcher rank0 rank1 other");
}

TEST(HostRoles, Launchers) {
  EXPECT_EQ(command_kind(kTorchrun), CommandKind::launcher);
  EXPECT_EQ(command_kind(kRunModule), CommandKind::launcher);
  EXPECT_EQ(command_kind(kAccelerate), CommandKind::launcher);
  EXPECT_EQ(command_kind({"deepspeed", "x.py"}), CommandKind::launcher);
  EXPECT_EQ(command_kind({"python3.11", "-X", "dev", "train.py"}), CommandKind::python);
  EXPECT_EQ(command_kind({"pythonic"}), CommandKind::program);
  EXPECT_EQ(command_kind({}), CommandKind::unknown);
}

TEST(HostRoles, TorchrunWithLoaders) {
  EXPECT_EQ(roles_of({process(-1, kTorchrun), process(0, kTrain, 0), process(0, kTrain, 1),
                      process(1, kTrain, 0), process(1, kTracker, 0),
                      process(2, kSpawn, 1, "pt_data_worker"), process(2, kGcc, 1)}),
            "launcher rank0 rank1 loader0 other loader1 other");
}

TEST(HostRoles, PlainPythonAndShell) {
  EXPECT_EQ(roles_of({process(-1, kTrain), process(0, kTrain), process(0, kTracker)}),
            "rank0 loader0 other");
  EXPECT_EQ(roles_of({process(-1, kShell), process(0, kTrain)}), "other rank0");
  EXPECT_EQ(roles_of({process(-1, kShell), process(0, kGcc), process(0, kTrain)}),
            "other other rank0");
  EXPECT_EQ(roles_of({process(-1, kNative)}), "rank0");
}

/// Connected with its family, as ranks are.
RoleInput joined(RoleInput input) {
  input.joined = true;
  return input;
}

TEST(HostRoles, RanksThatTheProgramStartedItself) {
  // torch.multiprocessing.spawn: the parent only waits; loaders below a rank stay loaders.
  EXPECT_EQ(roles_of({process(-1, kTrain), process(0, kTracker), joined(process(0, kSpawn)),
                      joined(process(0, kSpawn)), process(2, kSpawn, 1),
                      process(3, kSpawn, {}, "pt_data_worker")}),
            "launcher other rank rank loader loader");
  RoleInput alone = process(-1, kTrain);
  alone.started_ranks = true;  // they have ended
  EXPECT_EQ(roles_of({alone, process(0, kTracker)}), "launcher other");
  EXPECT_EQ(roles_of({alone, joined(process(0, kSpawn))}), "launcher rank");
  RoleInput tracker = process(-1, kTracker);
  tracker.left_behind = true;  // the program has ended before it
  EXPECT_EQ(roles_of({tracker}), "other");
  // The parent trains too.
  EXPECT_EQ(roles_of({joined(process(-1, kTrain)), joined(process(0, kTrain))}), "rank rank");
  // A number that all inherited is nobody's.
  EXPECT_EQ(roles_of({process(-1, kTrain, 0), joined(process(0, kSpawn, 0)),
                      joined(process(0, kSpawn, 0))}),
            "launcher rank rank");
  EXPECT_EQ(roles_of({process(-1, kTrain), process(0, kSpawn), process(0, kSpawn)}),
            "rank0 loader0 loader0");
}

TEST(HostPeers, BothEndsInTheFamily) {
  TcpEnds ends;
  parse_tcp(
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
      "inode\n"
      "   0: 0100007F:73AB 00000000:0000 0A 0:0 0:0 0 0 0 10 1\n"  // listens
      "   1: 0100007F:8B72 0100007F:9D05 01 0:0 0:0 0 0 0 11 1\n"
      "   2: 0100007F:9D05 0100007F:8B72 01 0:0 0:0 0 0 0 12 1\n"
      "   3: 0A00000A:1000 08080808:01BB 01 0:0 0:0 0 0 0 13 1\n"  // to another host
      "   4: 0100007F:0001 0100007F:0002 06 0:0 0:0 0 0 0 0 3\n"   // TIME_WAIT has no inode
      "garbage\n",
      ends);
  parse_tcp(
      "   0: 0000000000000000FFFF00000100007F:73AB 0000000000000000FFFF00000100007F:E48A 01 0 0 0 "
      "0 0 14 1\n",
      ends);
  parse_tcp("   0: 0100007F:E48A 0100007F:73AB 01 0 0 0 0 0 15 1", ends);
  EXPECT_EQ(ends.size(), 5U);
  using Answer = std::vector<bool>;
  EXPECT_EQ(joined_peers({{11, 10}, {12}, {13}}, ends), (Answer{true, true, false}));
  EXPECT_EQ(joined_peers({{14}, {15}}, ends), (Answer{true, true}));        // IPv4 met IPv6
  EXPECT_EQ(joined_peers({{11, 12}, {13}}, ends), (Answer{false, false}));  // with itself
  // Forked workers of a rank: both ends are held by all of them.
  EXPECT_EQ(joined_peers({{11, 12}, {11, 12}, {11, 12}}, ends), (Answer{false, false, false}));
  EXPECT_EQ(joined_peers({{11}, {12}, {12}}, ends), (Answer{false, false, false}));
  EXPECT_EQ(joined_peers({}, ends), Answer{});
}

TEST(HostRoles, AccelerateThatStartsOneProcess) {
  // No rank variable anywhere: one trained, whatever was asked for.
  EXPECT_EQ(roles_of({process(-1, kAccelerate), process(0, kTrain)}), "launcher rank0");
}

TEST(HostRoles, MpiSlurmAndLightning) {
  EXPECT_EQ(roles_of({process(-1, kMpirun), process(0, kTrain, 0), process(0, kTrain, 1)}),
            "launcher rank0 rank1");
  // An allocation's SLURM_PROCID=0 is in the shell's environment too.
  EXPECT_EQ(roles_of({process(-1, kShell, 0), process(0, kTrain, 0), process(1, kTrain, 0)}),
            "other rank0 loader0");
  // Lightning's rank 0 starts the others.
  EXPECT_EQ(roles_of({process(-1, kTrain), process(0, kTrain, {}, "python3", 1)}), "rank0 rank1");
}

TEST(HostRoles, RankWords) {
  EXPECT_EQ(rank_words({"SLURM_PROCID=0", "RANK=3", "LOCAL_RANK=1"}).rank, 3);
  EXPECT_EQ(rank_words({"OMPI_COMM_WORLD_RANK=2"}).rank, 2);
  EXPECT_FALSE(rank_words({"RANK=-1", "RANKS=1", "XRANK=1"}).rank);
  EXPECT_EQ(rank_words({"LOCAL_RANK=1"}).local_rank, 1);
}

}  // namespace
}  // namespace rigwise
