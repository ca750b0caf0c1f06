// What iostat, mpstat, sar, vmstat, top, free and sensors print
// (tests/fixtures/captured/README.md).
#include <gtest/gtest.h>
#include <stdlib.h>
#include <time.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "rigwise/captured.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
using Kinds = std::vector<std::string>;

Captured read(const std::string& name) {
  std::ifstream file(fs::path(RIGWISE_FIXTURES) / "captured" / name, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  EXPECT_FALSE(out.str().empty()) << name;
  return read_captured(name, out.str());
}

std::optional<double> value(const Captured& captured, std::string_view subject,
                            std::string_view quantity) {
  for (const auto& [row, unix_s] : captured.observations) {
    if (row.subject == subject && row.quantity == quantity) return row.value;
  }
  return std::nullopt;
}

TEST(CapturedLoad, IostatsRatesAreCountersAgain) {
  const Captured timed = read("iostat-xzt.txt");
  std::vector<DiskSample> vda;
  for (const auto& [row, unix_s] : timed.disks) {
    EXPECT_TRUE(unix_s);
    if (row.device == "vda") vda.push_back(row);
  }
  ASSERT_GE(vda.size(), 2U);
  EXPECT_DOUBLE_EQ(*vda[0].write_bytes, 0);  // counting begins with the block since boot
  const double first = *value(timed, "vda", "write_bytes_per_s");
  const double seconds = *timed.disks[1].unix_s - *timed.disks[0].unix_s;
  EXPECT_DOUBLE_EQ(*vda[1].write_bytes, first * seconds);
  EXPECT_LE(*vda[1].busy_s, seconds * 1.1);
  EXPECT_TRUE(vda[1].read_time_s);
  EXPECT_FALSE(vda[1].queue_depth);  // iostat's is a mean
  ASSERT_GE(timed.hosts.size(), 2U);
  EXPECT_GT(*timed.hosts[1].row.busy_frac + *timed.hosts[1].row.iowait_frac, 0);
  EXPECT_TRUE(read("iostat-xz.txt").disks.empty());  // no -t
  EXPECT_TRUE(read("iostat.json").disks.empty());
  const Captured json = read("iostat-t.json");
  ASSERT_GE(json.disks.size(), 2U);
  EXPECT_NEAR(*json.disks.back().unix_s - *json.disks.front().unix_s, 1, 1e-9);
  EXPECT_FALSE(read("iostat-sectors.txt").disks.empty());  // "Time: 02:03:22 PM"
}

TEST(CapturedLoad, IostatWithoutTheBlockSinceBoot) {
  const Captured without = read("iostat-yxt.txt");
  EXPECT_DOUBLE_EQ(*value(without, "vda", "write_bytes_per_s"), 10637.62 * 1024);
  EXPECT_FALSE(value(without, "vda (since boot)", "write_bytes_per_s"));
  EXPECT_FALSE(value(without, "cpu (since boot)", "cpu_user_frac"));
  EXPECT_TRUE(value(read("iostat-xz.txt"), "vda (since boot)", "write_bytes_per_s"));
}

TEST(CapturedLoad, Mpstat) {
  const Captured all = read("mpstat-P.txt");
  EXPECT_EQ(all.kinds, Kinds{"mpstat/sar"});
  EXPECT_EQ(all.host, "rig");
  EXPECT_EQ(all.rig.threads, 2);
  EXPECT_DOUBLE_EQ(*value(all, "cpu", "cpu_user_frac"), 0.9604);
  ASSERT_EQ(all.hosts.size(), 1U);  // neither single CPUs nor the average
  EXPECT_NEAR(*all.hosts[0].row.busy_frac, 1, 1e-9);
  EXPECT_TRUE(all.hosts[0].unix_s);
  EXPECT_EQ(all.reading.malformed, 0);
}

TEST(CapturedLoad, SarOfFourTables) {
  const Captured sar = read("sar.txt");
  EXPECT_EQ(sar.kinds, Kinds{"mpstat/sar"});
  EXPECT_EQ(sar.reading.malformed, 0);
  ASSERT_EQ(sar.disks.size(), 2U);
  EXPECT_DOUBLE_EQ(*sar.disks[0].row.write_bytes, 0);
  EXPECT_NEAR(*sar.disks[1].row.write_bytes, 5556.44 * 1024, 1e-6);
  EXPECT_NEAR(*sar.disks[1].row.busy_s, 0.004, 1e-9);
  EXPECT_NEAR(*sar.disks[1].unix_s - *sar.disks[0].unix_s, 1, 1e-9);
  EXPECT_EQ(sar.nets.size(), 8U);
  double available = 0;
  for (const auto& [row, unix_s] : sar.hosts) {
    if (row.row.mem_available_bytes) available = *row.row.mem_available_bytes;
  }
  EXPECT_DOUBLE_EQ(available, 20114844.0 * 1024);
  // past midnight the day goes on
  const Captured night = read_captured("sar.txt",
                                       "Linux 6.1.0 (rig) \t11/28/26 \t_x86_64_\t(2 CPU)\n\n"
                                       "23:59:58        IFACE    rxkB/s    txkB/s\n"
                                       "23:59:59         eth0      1.00      2.00\n\n"
                                       "23:59:59        IFACE    rxkB/s    txkB/s\n"
                                       "00:00:01         eth0      3.00      4.00\n");
  ASSERT_EQ(night.nets.size(), 2U);
  EXPECT_NEAR(*night.nets[1].unix_s - *night.nets[0].unix_s, 2, 1e-9);
  EXPECT_NEAR(*night.nets[1].row.rx_bytes, 1024 + 2 * 3 * 1024, 1e-6);
}

TEST(CapturedLoad, VmstatWithAndWithoutTimes) {
  const Captured timed = read("vmstat-tw.txt");
  EXPECT_EQ(timed.kinds, Kinds{"vmstat"});
  EXPECT_EQ(timed.reading.malformed, 0);
  ASSERT_EQ(timed.hosts.size(), 3U);
  EXPECT_DOUBLE_EQ(*timed.hosts[0].unix_s, 1795874093);  // the header names the zone
  EXPECT_FALSE(timed.local_time);
  EXPECT_DOUBLE_EQ(*timed.hosts[1].row.busy_frac, 1);
  EXPECT_DOUBLE_EQ(*timed.hosts[1].row.row.swap_used_bytes, 0);
  EXPECT_DOUBLE_EQ(*value(timed, "host (since boot)", "read_bytes_per_s"), 1013 * 1024);
  EXPECT_DOUBLE_EQ(*value(timed, "host", "run_queue"), 11);
  const Captured plain = read("vmstat.txt");
  EXPECT_EQ(plain.kinds, Kinds{"vmstat"});
  EXPECT_TRUE(plain.hosts.empty());
  EXPECT_DOUBLE_EQ(*value(plain, "host", "write_bytes_per_s"), 3032 * 1024);
  EXPECT_FALSE(plain.notes.empty());
}

TEST(CapturedLoad, TopsHeadAndBusiestProcesses) {
  const Captured top = read("top.txt");
  EXPECT_EQ(top.kinds, Kinds{"top"});
  EXPECT_DOUBLE_EQ(*value(top, "host", "load1"), 9.56);
  EXPECT_DOUBLE_EQ(*value(top, "cpu (since boot)", "cpu_user_frac"), 0.867);
  EXPECT_NEAR(*value(top, "memory", "available_bytes"), 19643.4 * 1024 * 1024, 1);
  EXPECT_NEAR(*top.rig.mem_bytes, 24105.6 * 1024 * 1024, 1);
  EXPECT_DOUBLE_EQ(*value(top, "process 11835 cc1plus", "cpus_busy"), 0.25);
}

TEST(CapturedLoad, FreeInUnitsThatNobodyStates) {
  EXPECT_DOUBLE_EQ(*read("free.txt").rig.mem_bytes, 24684084.0 * 1024);
  const Captured mib = read("free-m.txt");
  EXPECT_DOUBLE_EQ(*mib.rig.mem_bytes, 24105.0 * 1024 * 1024);
  EXPECT_TRUE(mib.notes.empty());  // the file's name says it
  const std::string rows =
      "      total  used  free  shared  buff/cache  available\nMem: 23 4 13 0 5 19\n";
  const Captured gib = read_captured("memory.txt", rows);
  EXPECT_DOUBLE_EQ(*gib.rig.mem_bytes, 23.0 * 1024 * 1024 * 1024);
  EXPECT_FALSE(gib.notes.empty());
  EXPECT_DOUBLE_EQ(*read_captured("free -g.txt", rows).rig.mem_bytes, 23.0 * 1024 * 1024 * 1024);
}

TEST(CapturedLoad, Sensors) {
  const Captured sensors = read("sensors.txt");
  EXPECT_EQ(sensors.kinds, Kinds{"sensors"});
  EXPECT_DOUBLE_EQ(*value(sensors, "k10temp-pci-00c3 Tctl", "temp_c"), 54.9);
  EXPECT_DOUBLE_EQ(*value(sensors, "nct6798-isa-0290 fan1", "fan_rpm"), 1200);
  EXPECT_DOUBLE_EQ(*value(sensors, "nct6798-isa-0290 in0", "voltage_v"), 0.824);
  EXPECT_FALSE(value(sensors, "nvme-pci-0100 Sensor 2", "temp_c"));
  EXPECT_EQ(sensors.reading.malformed, 0);
}

}  // namespace
}  // namespace rigwise
