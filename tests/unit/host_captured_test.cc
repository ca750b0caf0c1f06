// What people captured by hand, read into the values of a run (tests/fixtures/captured/README.md
// says which files are real and which follow a documented form).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/wall_time.h"
#include "rigwise/captured.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

std::string text_of(const std::string& name) {
  std::ifstream file(fs::path(RIGWISE_FIXTURES) / "captured" / name, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

Captured read(const std::string& name, const CaptureHints& hints = {}) {
  const std::string text = text_of(name);
  EXPECT_FALSE(text.empty()) << name;
  return read_captured(name, text, hints);
}

std::optional<double> value(const Captured& captured, std::string_view subject,
                            std::string_view quantity) {
  for (const auto& [row, unix_s] : captured.observations) {
    if (row.subject == subject && row.quantity == quantity) return row.value;
  }
  return std::nullopt;
}

std::string version(const Captured& captured, const std::string& name) {
  const auto found = captured.environment.versions.find(name);
  return found == captured.environment.versions.end() ? "" : found->second;
}

const Mount* mount(const Captured& captured, std::string_view path) {
  for (const auto& mount : captured.rig.mounts) {
    if (mount.path == path) return &mount;
  }
  return nullptr;
}

using Kinds = std::vector<std::string>;

// ---------------------------------------------------------------------------------------- nvidia

TEST(Captured, NvidiaCsvOfManyFields) {
  const Captured all = read("nvidia-all.csv");
  EXPECT_EQ(all.kinds, Kinds{"nvidia-smi csv"});
  EXPECT_TRUE(all.gpus_numbered);
  EXPECT_TRUE(all.local_time);
  EXPECT_EQ(version(all, "driver"), "550.127.05");
  ASSERT_EQ(all.gpus.size(), 4U);
  const GpuSample& first = all.gpus[0].row;
  EXPECT_EQ(first.gpu, 0);
  EXPECT_DOUBLE_EQ(*first.util_frac, 0.98);
  EXPECT_DOUBLE_EQ(*first.mem_util_frac, 0.61);
  EXPECT_DOUBLE_EQ(*first.used_bytes, 21041.0 * 1024 * 1024);
  EXPECT_DOUBLE_EQ(*first.total_bytes, 24576.0 * 1024 * 1024);
  EXPECT_DOUBLE_EQ(*first.temp_c, 71);
  EXPECT_FALSE(first.temp_mem_c);  // N/A
  EXPECT_DOUBLE_EQ(*first.power_w, 347.12);
  EXPECT_DOUBLE_EQ(*first.sm_clock_mhz, 1695);
  EXPECT_DOUBLE_EQ(*first.sm_clock_max_mhz, 2100);
  EXPECT_DOUBLE_EQ(*first.fan_frac, 0.74);
  EXPECT_DOUBLE_EQ(*first.throttle_reasons, 4);
  EXPECT_DOUBLE_EQ(*all.gpus[1].row.pcie_width, 4);
  EXPECT_FALSE(all.gpus[2].row.power_w);   // [N/A]
  EXPECT_FALSE(all.gpus[2].row.fan_frac);  // [Unknown Error]
  EXPECT_NEAR(*all.gpus[2].unix_s - *all.gpus[0].unix_s, 5.015, 1e-6);
  ASSERT_EQ(all.rig.gpus.size(), 2U);
  EXPECT_EQ(all.rig.gpus[0].name, "NVIDIA GeForce RTX 3090");
  EXPECT_EQ(all.rig.gpus[1].pci_address, "00000000:03:00.0");
  EXPECT_EQ(*all.rig.gpus[1].pcie_width_max, 16);
  EXPECT_EQ(all.reading.malformed, 0);
}

TEST(Captured, NvidiaCsvWithoutUnitsTellsGpusByUuid) {
  const Captured csv = read("nvidia-nounits-repeated.csv");
  EXPECT_FALSE(csv.gpus_numbered);
  ASSERT_EQ(csv.gpus.size(), 3U);
  EXPECT_EQ(csv.gpus[0].row.gpu, 0);
  EXPECT_EQ(csv.gpus[1].row.gpu, 1);
  EXPECT_EQ(csv.gpus[2].row.gpu, 0);
  EXPECT_DOUBLE_EQ(*csv.gpus[0].row.used_bytes, 10240.0 * 1024 * 1024);
  EXPECT_DOUBLE_EQ(*csv.gpus[0].row.util_frac, 0.87);
  EXPECT_FALSE(csv.gpus[2].row.power_w);
  EXPECT_EQ(csv.reading.malformed, 1);  // the torn last row
  EXPECT_EQ(csv.reading.first_bad_line, 6);
}

TEST(Captured, NvidiaCsvTellsGpusByOrderWithinOneReading) {
  const Captured csv = read("nvidia-no-identity.csv");
  ASSERT_EQ(csv.gpus.size(), 6U);
  for (std::size_t i = 0; i < csv.gpus.size(); ++i) {
    EXPECT_EQ(csv.gpus[i].row.gpu, static_cast<int>(i % 2)) << i;
  }
}

TEST(Captured, NvidiaCsvWithoutHeaderKeepsOnlyWhatIsCertain) {
  const Captured csv = read("nvidia-noheader.csv");
  ASSERT_EQ(csv.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*csv.gpus[0].row.power_w, 347.12);
  EXPECT_FALSE(csv.gpus[0].row.util_frac);  // 98 % or 61 %: which is which stands nowhere
  EXPECT_FALSE(csv.gpus[0].row.used_bytes);
  ASSERT_FALSE(csv.notes.empty());
  EXPECT_NE(csv.notes[0].find("columns 3, 4, 6"), std::string::npos) << csv.notes[0];
}

TEST(Captured, NvidiaCsvWithoutHeaderByTheCommandBesideIt) {
  const Captured csv =
      read("nvidia-noheader.csv",
           {.commands = {"nvidia-smi --query-gpu=index,name --format=csv",
                         "nvidia-smi --query-gpu=timestamp,pci.bus_id,utilization.gpu,"
                         "utilization.memory,power.draw,memory.used --format=csv,noheader -l 5"}});
  ASSERT_EQ(csv.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*csv.gpus[0].row.util_frac, 0.98);
  EXPECT_DOUBLE_EQ(*csv.gpus[0].row.used_bytes, 21041.0 * 1024 * 1024);
}

TEST(Captured, NvidiaThrottleReasonsWithColumnsOfTheirOwn) {
  const Captured csv = read("nvidia-reasons.csv");
  ASSERT_EQ(csv.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*csv.gpus[0].row.throttle_reasons, 0x4);
  EXPECT_DOUBLE_EQ(*csv.gpus[0].row.held_power_s, 1.25);
  EXPECT_DOUBLE_EQ(*csv.gpus[1].row.throttle_reasons, 0x40);
  EXPECT_FALSE(csv.gpus[1].row.held_power_s);
  EXPECT_FALSE(csv.gpus[0].unix_s);
}

TEST(Captured, NvidiaScreens) {
  const Captured now = read("nvidia-smi-550.txt");
  EXPECT_EQ(now.kinds, Kinds{"nvidia-smi"});
  ASSERT_EQ(now.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*now.gpus[0].row.power_w, 347);
  EXPECT_DOUBLE_EQ(*now.gpus[0].row.power_limit_w, 350);
  EXPECT_DOUBLE_EQ(*now.gpus[0].row.util_frac, 0.98);
  EXPECT_DOUBLE_EQ(*now.gpus[0].row.fan_frac, 0.74);
  EXPECT_TRUE(now.gpus[0].unix_s);
  EXPECT_EQ(now.rig.gpus[1].name, "NVIDIA GeForce RTX 3090");
  EXPECT_EQ(version(now, "driver"), "550.127.05");
  const Captured old = read("nvidia-smi-470.txt");
  ASSERT_EQ(old.gpus.size(), 1U);
  EXPECT_FALSE(old.gpus[0].row.power_w);
  EXPECT_FALSE(old.gpus[0].row.fan_frac);
  EXPECT_DOUBLE_EQ(*old.gpus[0].row.temp_c, 45);
  EXPECT_DOUBLE_EQ(*old.gpus[0].row.used_bytes, 512.0 * 1024 * 1024);
  EXPECT_EQ(old.rig.gpus[0].name, "NVIDIA GeForce");  // as much as the screen shows
}

TEST(Captured, NvidiaListAndDmon) {
  const Captured list = read("nvidia-smi-L.txt");
  ASSERT_EQ(list.rig.gpus.size(), 2U);
  EXPECT_EQ(list.rig.gpus[1].name, "NVIDIA RTX A4000");
  EXPECT_EQ(list.rig.gpus[1].uuid, "GPU-66666666-7777-8888-9999-000000000000");
  const Captured dmon = read("nvidia-dmon.txt");
  ASSERT_EQ(dmon.gpus.size(), 3U);
  EXPECT_DOUBLE_EQ(*dmon.gpus[0].row.power_w, 347);
  EXPECT_DOUBLE_EQ(*dmon.gpus[2].row.util_frac, 1);
  EXPECT_FALSE(dmon.gpus[0].row.temp_mem_c);
  EXPECT_NEAR(*dmon.gpus[2].unix_s - *dmon.gpus[0].unix_s, 1, 1e-9);
}

// ------------------------------------------------------------------------------------------- rocm

TEST(Captured, RocmTablesOfThreeVersions) {
  const Captured four = read("rocm-smi-4.txt");
  ASSERT_EQ(four.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*four.gpus[1].row.power_w, 219);
  EXPECT_DOUBLE_EQ(*value(four, "gpu 1", "memory_used_frac"), 0.91);
  const Captured five = read("rocm-smi-5.txt");
  ASSERT_EQ(five.gpus.size(), 1U);
  EXPECT_DOUBLE_EQ(*five.gpus[0].row.temp_c, 64);
  const Captured six = read("rocm-smi-6.txt");
  ASSERT_EQ(six.gpus.size(), 2U);
  EXPECT_DOUBLE_EQ(*six.gpus[0].row.power_w, 288);
  EXPECT_DOUBLE_EQ(*six.gpus[0].row.sm_clock_mhz, 2482);
  EXPECT_FALSE(six.gpus[1].row.sm_clock_mhz);
  EXPECT_FALSE(six.gpus[1].row.power_limit_w);
}

TEST(Captured, RocmLinesCsvAndJsonSayTheSame) {
  for (const char* name : {"rocm-smi-lines.txt", "rocm-smi.csv", "rocm-smi.json"}) {
    const Captured rocm = read(name);
    ASSERT_FALSE(rocm.gpus.empty()) << name;
    EXPECT_DOUBLE_EQ(*rocm.gpus[0].row.temp_c, 61) << name;
    EXPECT_DOUBLE_EQ(*rocm.gpus[0].row.power_w, 288) << name;
    EXPECT_DOUBLE_EQ(*rocm.gpus[0].row.util_frac, 1) << name;
    EXPECT_DOUBLE_EQ(*rocm.rig.gpus[0].total_bytes, 25753026560.0) << name;
  }
  EXPECT_EQ(read("rocm-smi-lines.txt").rig.gpus[0].name, "Navi 31 [Radeon RX 7900 XTX]");
  EXPECT_FALSE(read("rocm-smi.csv").gpus[1].row.power_w);
}

// ------------------------------------------------------------------------------------------ disks

TEST(Captured, DfCountsInWhatItsHeaderSays) {
  const double bytes = 270553174016.0;
  EXPECT_DOUBLE_EQ(*mount(read("df-B1.txt"), "/")->total_bytes, bytes);
  EXPECT_DOUBLE_EQ(*mount(read("df.txt"), "/")->total_bytes, bytes);
  EXPECT_DOUBLE_EQ(*mount(read("df-P.txt"), "/")->total_bytes, bytes);
  EXPECT_DOUBLE_EQ(*mount(read("df-h.txt"), "/")->total_bytes, 252.0 * 1024 * 1024 * 1024);
  EXPECT_EQ(mount(read("df-T.txt"), "/")->fs_type, "ext4");
  const Captured inodes = read("df-i.txt");
  EXPECT_DOUBLE_EQ(*value(inodes, "/", "fs_free_inodes"), 16074984);
  EXPECT_EQ(mount(inodes, "/"), nullptr);
  for (const char* name : {"df-B1.txt", "df.txt", "df-h.txt", "df-T.txt", "df-i.txt"}) {
    EXPECT_EQ(read(name).kinds, Kinds{"df"}) << name;
    EXPECT_EQ(read(name).reading.malformed, 0) << name;
  }
}

TEST(Captured, DfInPowersOfThousand) {
  const std::string text = text_of("df-si.txt");
  EXPECT_DOUBLE_EQ(*mount(read_captured("df -H.txt", text), "/")->total_bytes, 271e9);
  EXPECT_DOUBLE_EQ(*mount(read("mixed.txt"), "/data")->total_bytes, 4e12);
}

TEST(Captured, DfWrappedForeignAndWithBlanks) {
  const Captured busybox = read("df-busybox.txt");
  ASSERT_NE(mount(busybox, "/mnt/nas"), nullptr);
  EXPECT_EQ(mount(busybox, "/mnt/nas")->device, "nas.example:/export/with/a/long/name");
  EXPECT_TRUE(mount(busybox, "/mnt/nas")->network);
  const Captured german = read("df-german.txt");
  ASSERT_NE(mount(german, "/mnt/große platte"), nullptr);
  EXPECT_DOUBLE_EQ(*mount(german, "/mnt/große platte")->total_bytes,
                   3.6 * 1024 * 1024 * 1024 * 1024);
  const Captured mac = read("df-mac.txt");
  ASSERT_NE(mount(mac, "/"), nullptr);
  EXPECT_DOUBLE_EQ(*mount(mac, "/")->free_bytes, 120.0 * 1024 * 1024 * 1024);
}

TEST(Captured, DuSizes) {
  EXPECT_DOUBLE_EQ(*value(read("du-sh.txt"), "/usr/include", "size_bytes"), 134.0 * 1024 * 1024);
  EXPECT_EQ(read("du-h.txt").observations.size(), 20U);
  EXPECT_DOUBLE_EQ(*value(read("mixed.txt"), "checkpoints", "size_bytes"), 5368709120.0);
  const Captured plain = read_captured("sizes.txt", "12\t/data\n");
  EXPECT_DOUBLE_EQ(*value(plain, "/data", "size_bytes"), 12 * 1024);
  EXPECT_FALSE(plain.notes.empty());
}

TEST(Captured, LsblkInEveryForm) {
  const Captured tree = read("lsblk-tree.txt");
  ASSERT_EQ(tree.rig.disks.size(), 2U);
  EXPECT_EQ(tree.rig.disks[0].model, "WDC WD40EFRX-68N32N0");
  EXPECT_TRUE(tree.rig.disks[0].rotational);
  EXPECT_EQ(tree.rig.disks[1].model, "Samsung SSD 980 PRO 1TB");
  EXPECT_FALSE(tree.rig.disks[1].rotational);
  EXPECT_EQ(mount(tree, "/data")->device, "/dev/sda1");
  EXPECT_EQ(mount(tree, "/")->fs_type, "ext4");
  EXPECT_EQ(mount(tree, "/var/snap")->device, "/dev/root");
  for (const char* name :
       {"lsblk.txt", "lsblk-o.txt", "lsblk-P.txt", "lsblk.json", "lsblk-bytes.json"}) {
    const Captured blocks = read(name);
    ASSERT_EQ(blocks.rig.disks.size(), 2U) << name;
    EXPECT_EQ(blocks.rig.disks[1].device, "vda") << name;
    EXPECT_DOUBLE_EQ(*blocks.rig.disks[1].size_bytes, 274877906944.0) << name;
    ASSERT_NE(mount(blocks, "/"), nullptr) << name;
    EXPECT_EQ(mount(blocks, "/")->device, "/dev/vda") << name;
  }
  EXPECT_TRUE(mount(read("lsblk-f.txt"), "/")->free_bytes);
}

TEST(Captured, IostatOfManyVersions) {
  const Captured timed = read("iostat-xzt.txt");
  EXPECT_EQ(timed.kinds, Kinds{"iostat"});
  EXPECT_EQ(timed.host, "rig");
  EXPECT_DOUBLE_EQ(*value(timed, "vda", "write_bytes_per_s"), 71376.0 * 1024);
  EXPECT_DOUBLE_EQ(*value(timed, "vda", "read_wait_s"), 5.83e-3);
  EXPECT_DOUBLE_EQ(*value(timed, "cpu", "cpu_iowait_frac"), 0);
  EXPECT_TRUE(value(timed, "vda (since boot)", "read_bytes_per_s"));
  EXPECT_TRUE(timed.observations.back().unix_s);
  EXPECT_FALSE(read("iostat-xz.txt").notes.empty());  // no -t: not joined
  EXPECT_FALSE(read("iostat-iso.txt").local_time);    // a zone is written
  EXPECT_DOUBLE_EQ(*value(read("iostat-xm.txt"), "vda", "read_bytes_per_s"), 3.66 * 1024 * 1024);
  EXPECT_DOUBLE_EQ(*value(read("iostat-xh.txt"), "vda (since boot)", "busy_frac"), 0.011);
  EXPECT_DOUBLE_EQ(*value(read("iostat.json"), "vda", "reads_per_s"), 166);
  const Captured old = read("iostat-old.txt");
  EXPECT_DOUBLE_EQ(*value(old, "sda (since boot)", "read_bytes_per_s"), 410.2 * 1024);
  EXPECT_DOUBLE_EQ(*value(old, "sda (since boot)", "wait_s"), 15.1e-3);
  const Captured sectors = read("iostat-sectors.txt");
  EXPECT_DOUBLE_EQ(*value(sectors, "sda (since boot)", "read_bytes_per_s"), 820.4 * 512);
  EXPECT_TRUE(sectors.observations.back().unix_s);
}

// ------------------------------------------------------------------------------------------ links

TEST(Captured, PingOfManySystems) {
  const Captured linux_ping = read("ping.txt");
  EXPECT_DOUBLE_EQ(*value(linux_ping, "127.0.0.1", "rtt_avg_s"), 0.071e-3);
  EXPECT_DOUBLE_EQ(*value(linux_ping, "127.0.0.1", "rtt_mdev_s"), 0.056e-3);
  EXPECT_DOUBLE_EQ(*value(linux_ping, "127.0.0.1", "packet_loss_frac"), 0);
  EXPECT_TRUE(read("ping-D.txt").observations[0].unix_s);
  EXPECT_DOUBLE_EQ(*value(read("ping-busybox.txt"), "127.0.0.1", "rtt_max_s"), 0.066e-3);
  const Captured mac = read("ping-mac.txt");
  EXPECT_DOUBLE_EQ(*value(mac, "rig-b", "packet_loss_frac"), 0.333);
  EXPECT_DOUBLE_EQ(*value(mac, "rig-b", "rtt_mdev_s"), 0.012e-3);
  EXPECT_EQ(read("ping-windows.txt").observations.size(), 2U);
  const Captured lost = read("ping-unreachable.txt");
  EXPECT_DOUBLE_EQ(*value(lost, "10.0.0.9", "packet_loss_frac"), 1);
  EXPECT_FALSE(value(lost, "10.0.0.9", "rtt_avg_s"));
}

TEST(Captured, Iperf3TextAndJson) {
  const Captured text = read("iperf3.txt");
  EXPECT_DOUBLE_EQ(*value(text, "127.0.0.1", "sent_bytes_per_s"), 8.77e9 / 8);
  EXPECT_DOUBLE_EQ(*value(text, "127.0.0.1", "received_bytes_per_s"), 8.76e9 / 8);
  EXPECT_DOUBLE_EQ(*value(text, "127.0.0.1", "retransmits"), 42);
  const Captured json = read("iperf3.json");
  EXPECT_NEAR(*value(json, "127.0.0.1", "sent_bytes_per_s"), 8806004213.02679 / 8, 1);
  EXPECT_TRUE(json.observations[0].unix_s);
  const Captured two = read("iperf3-two-streams.txt");
  EXPECT_DOUBLE_EQ(*value(two, "127.0.0.1", "received_bytes_per_s"), 7.13e9 / 8);  // the sum
  EXPECT_EQ(read("iperf3-two-streams.txt").observations.size(), 5U);
  EXPECT_TRUE(read("iperf3-timestamps.txt").observations[0].unix_s);
  EXPECT_NEAR(*value(read("iperf3-udp.txt"), "127.0.0.1", "jitter_s"), 16e-6, 1e-12);
  EXPECT_TRUE(value(read("iperf3-udp.json"), "127.0.0.1", "datagram_loss_frac"));
  EXPECT_FALSE(value(read("iperf3-server.json"), "127.0.0.1", "sent_bytes_per_s"));
  EXPECT_DOUBLE_EQ(*value(read("iperf3-old-lossy-udp.txt"), "10.0.0.2", "datagram_loss_frac"),
                   0.05);
  for (const char* name : {"iperf3-refused.txt", "iperf3-refused.json"}) {
    ASSERT_EQ(read(name).notes.size(), 1U) << name;
    EXPECT_NE(read(name).notes[0].find("Connection refused"), std::string::npos) << name;
  }
}

// --------------------------------------------------------------------------------------- software

TEST(Captured, PrintedEnvironments) {
  EXPECT_EQ(version(read("python-V.txt"), "python"), "3.11.7");
  const Captured printed = read("torch-printed.txt");
  EXPECT_EQ(version(printed, "torch"), "2.13.0+cpu");
  EXPECT_EQ(version(printed, "cuda"), "");  // None
  EXPECT_EQ(printed.environment.facts.at("cuda_available"), "no");
  EXPECT_EQ(version(read("torch-labelled.txt"), "python"), "3.11.7");
  EXPECT_EQ(version(read("accelerate-env.txt"), "accelerate"), "1.15.0");
  EXPECT_NEAR(*read("accelerate-env.txt").rig.mem_bytes, 23.54 * 1024 * 1024 * 1024, 1);
  EXPECT_EQ(version(read("transformers-env.txt"), "transformers"), "5.24.0");
  const Captured env = read("collect-env-cuda.txt");
  EXPECT_EQ(version(env, "torch"), "2.4.1+cu121");
  EXPECT_EQ(version(env, "cuda"), "12.1");
  EXPECT_EQ(version(env, "nccl"), "2.20.5");
  EXPECT_EQ(version(env, "driver"), "550.127.05");
  EXPECT_EQ(version(env, "python"), "3.10.12");
  ASSERT_EQ(env.rig.gpus.size(), 2U);
  EXPECT_EQ(env.rig.gpus[1].name, "NVIDIA GeForce RTX 3090");
  EXPECT_EQ(read("collect-env.txt").rig.cpu_model, "AMD EPYC");
}

TEST(Captured, PackagesUnderPipsOwnNames) {
  for (const char* name : {"pip-freeze.txt", "pip-list.txt", "pip-list.json"}) {
    EXPECT_EQ(version(read(name), "torch"), "2.13.0+cpu") << name;
    EXPECT_EQ(version(read(name), "huggingface-hub"), "2.4.0") << name;
  }
  EXPECT_EQ(version(read("conda-list.txt"), "torch"), "2.1.2");
}

TEST(Captured, Machine) {
  const Captured cpu = read("lscpu.txt");
  EXPECT_EQ(cpu.rig.cpu_model, "AMD EPYC");
  EXPECT_EQ(*cpu.rig.cores, 2);
  EXPECT_EQ(*cpu.rig.threads, 2);
  EXPECT_EQ(read("uname-a.txt").host, "rig");
  EXPECT_EQ(version(read("uname-a.txt"), "kernel"), "6.1.0-28-amd64");
  EXPECT_NEAR(*read("free-h.txt").rig.mem_bytes, 23.0 * 1024 * 1024 * 1024, 1);
}

TEST(Captured, SeveralOutputsInOneFile) {
  const Captured mixed = read("mixed.txt");
  EXPECT_EQ(mixed.kinds, (Kinds{"nvidia-smi -L", "df", "du", "ping", "printed versions"}));
  EXPECT_EQ(version(mixed, "torch"), "2.4.1+cu121");
  EXPECT_EQ(version(mixed, "cuda"), "12.1");
}

TEST(Captured, ALogIsNoCapturedOutput) {
  EXPECT_TRUE(read("train.log").kinds.empty());
  EXPECT_TRUE(read_captured("x", "").kinds.empty());
  EXPECT_TRUE(read_captured("metrics.csv", "step,loss,lr\n1,2.5,0.1\n2,2.4,0.1\n").kinds.empty());
  EXPECT_TRUE(read_captured("x.json", "{\"loss\": 1.5}\n{\"loss\": 1.4}\n").kinds.empty());
}

// -------------------------------------------------------------------------------- hostile, cut

TEST(Captured, EveryPrefixOfEveryFixtureIsHarmless) {
  for (const auto& entry : fs::directory_iterator(fs::path(RIGWISE_FIXTURES) / "captured")) {
    const std::string name = entry.path().filename().string();
    const std::string text = text_of(name);
    const Captured whole = read_captured(name, text);
    const std::size_t stride = text.size() > 3000 ? 37 : 1;
    for (std::size_t end = 0; end < text.size(); end += stride) {
      const Captured part = read_captured(name, text.substr(0, end));
      EXPECT_LE(part.gpus.size(), whole.gpus.size() + 1) << name << " cut at " << end;
    }
  }
}

TEST(Captured, HostileBytesAreCountedNotBelieved) {
  std::string csv = "timestamp, index, utilization.gpu [%]\n";
  csv += "2026/11/24 14:03:22.1, 999999999999, 50 %\n";
  csv += std::string("2026/11/24 14:03:22.1, 0, \x1b[31m\xff\xfe\n");
  csv += "2026/99/99 99:99:99.1, 1, 1e999 %\n";
  const Captured bad = read_captured("gpu.csv", csv);
  for (const auto& gpu : bad.gpus) EXPECT_LT(gpu.row.gpu, 64);
  std::string deep(100000, '[');
  EXPECT_TRUE(read_captured("x.json", deep).kinds.empty());
  std::string wide = "{";
  for (int i = 0; i < 20000; ++i) wide += "\"k" + std::to_string(i) + "\":1,";
  wide += "\"blockdevices\":[]}";
  EXPECT_TRUE(read_captured("x.json", wide).kinds.empty());
  const std::string long_line = "Filesystem " + std::string(1 << 20, 'x') + "\n";
  EXPECT_EQ(read_captured("df", long_line).reading.lines, 1);
}

// --------------------------------------------------------------------------------------- instants

TEST(WallTime, FormsAndWhatTheyLeaveOpen) {
  const double now = 1795538823;  // 2026-11-24 16:47:03 UTC
  const auto at = [&](std::string_view text) { return parse_wall_time(text, now); };
  for (const std::string_view text :
       {"2026-11-24T16:47:22Z", "2026-11-24 16:47:22 UTC", "2026-11-24T17:47:22+01:00",
        "2026/11/24 16:47:22+0000", "Tue Nov 24 16:47:22 UTC 2026", "Tue, 24 Nov 2026 16:47:22 GMT",
        "2026-11-24T08:47:22-08:00", "24/Nov/2026:16:47:22 +0000"}) {
    ASSERT_TRUE(at(text)) << text;
    EXPECT_DOUBLE_EQ(at(text)->unix_s, 1795538842) << text;
    EXPECT_TRUE(at(text)->has_zone) << text;
    EXPECT_EQ(at(text)->length, text.size()) << text;
  }
  const auto local = at("2026-11-24 16:47:22");
  for (const std::string_view text :
       {"11/24/26 16:47:22", "11/24/2026 04:47:22 PM", "24.11.2026 16:47:22", "20261124-164722",
        "I1124 16:47:22", "Tue Nov 24 16:47:22 2026", "2026/11/24 16:47:22",
        "24/11/2026 16:47:22"}) {
    ASSERT_TRUE(at(text)) << text;
    EXPECT_DOUBLE_EQ(at(text)->unix_s, local->unix_s) << text;
    EXPECT_FALSE(at(text)->has_zone) << text;
  }
  EXPECT_NEAR(at("2026-11-24 16:47:22,123")->unix_s - local->unix_s, 0.123, 1e-6);
  EXPECT_FALSE(at("I1124 16:47:22")->has_year);
  EXPECT_FALSE(at("16:47:22.5")->has_date);
  EXPECT_DOUBLE_EQ(at("16:47:22.5")->unix_s, 16 * 3600 + 47 * 60 + 22.5);
  EXPECT_DOUBLE_EQ(at("1795538823.019973] 64 bytes")->unix_s, 1795538823.019973);
  for (const std::string_view text :
       {"", "loss 2.5", "1795538823", "2026-13-01 00:00:00", "25:00:00", "12:34"}) {
    EXPECT_FALSE(at(text)) << text;
  }
}

}  // namespace
}  // namespace rigwise
