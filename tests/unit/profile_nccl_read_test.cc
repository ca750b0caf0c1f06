// Reading the plug-in's files, and ranks side by side.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "unit/nccl_made_file.h"

namespace rigwise {
namespace {

namespace file = nccl_file;

using nccl_made::File;
using nccl_made::kSecond;
using nccl_made::two_files;

File example() {
  File file;
  file.comm(0xabc, 1, 4).window(10, 11);
  for (int i = 0; i < 10; ++i) {
    const double at = 10 + 0.1 * i;
    file.operation(static_cast<std::uint64_t>(i), at, at + 0.010, at + 0.050);
  }
  return file;
}

bool has_note(const std::vector<std::string>& notes, std::string_view words) {
  return std::any_of(notes.begin(), notes.end(), [&](const std::string& note) {
    return note.find(words) != std::string::npos;
  });
}

TEST(NcclRead, PutsTheGpusTimerOnTheHostsClock) {
  const NcclRank rank = example().rank();
  EXPECT_EQ(rank.host, "ann");
  EXPECT_EQ(rank.version, "2.29.7");
  ASSERT_EQ(rank.operations.size(), 10u);
  ASSERT_EQ(rank.windows.size(), 1u);
  // Between 10 ms before each start and 5 us after: the middle, ± half of that and the timer's
  // step.
  EXPECT_NEAR(*rank.windows[0].clock_error_s, (0.010 + 5e-6) / 2 + 1e-6, 1e-9);
  const NcclOperation& first = rank.operations[0];
  EXPECT_EQ(first.timing, NcclTiming::gpu);
  EXPECT_NEAR(*first.start_s, 10.010, *rank.windows[0].clock_error_s);
  EXPECT_NEAR(*first.end_s - *first.start_s, 0.040, 1e-6);
  EXPECT_EQ(first.bytes, 4e6);
  EXPECT_EQ(first.sequence, 0u);
  EXPECT_TRUE(rank.notes.empty());
}

TEST(NcclRead, NarrowsTheClockByWhatIsSeenAtOnce) {
  File file = example();
  file.operation(10, 10.95, 10.950020, 10.96);  // started 20 us after it was launched
  const NcclRank rank = file.rank();
  EXPECT_LT(*rank.windows[0].clock_error_s, 20e-6);
  EXPECT_NEAR(*rank.operations[0].start_s, 10.010, 20e-6);
}

TEST(NcclRead, GivesEachWindowAnOffsetOfItsOwn) {
  File file;
  file.comm(1, 0, 2).window(10, 11);
  for (std::uint64_t i = 0; i < 5; ++i)
    file.operation(i, 10.1 + 0.1 * static_cast<double>(i), 10.15 + 0.1 * static_cast<double>(i),
                   10.16 + 0.1 * static_cast<double>(i));
  file.ahead_ns += 3'000'000;  // three milliseconds of drift
  file.window(30, 31);
  file.operation(9, 30.1, 30.10002, 30.11);
  const NcclRank rank = file.rank();
  ASSERT_EQ(rank.operations.size(), 6u);
  EXPECT_NEAR(*rank.operations[5].start_s, 30.10002, 20e-6);
  EXPECT_NEAR(*rank.operations[0].start_s, 10.15, 0.030);
}

TEST(NcclRead, SaysThatAClockIsWrong) {
  File file;
  file.comm(1, 0, 2).window(10, 11);
  file.operation(0, 10.1, 10.11, 10.12);
  file.ahead_ns -= 5 * kSecond;  // a timer that jumps inside the window
  file.operation(1, 10.2, 10.21, 10.22);
  const NcclRank rank = file.rank();
  EXPECT_TRUE(rank.windows[0].clock_wrong);
  for (const auto& operation : rank.operations) EXPECT_EQ(operation.timing, NcclTiming::polled);
  EXPECT_NEAR(*rank.operations[0].start_s, 10.11, 1e-4);
  const std::vector<NcclRank> ranks = {rank};
  EXPECT_TRUE(has_note(summarise_nccl(ranks).notes, "contradicts"));
}

TEST(NcclRead, TakesALaunchThatWasReportedLate) {
  File file;
  file.comm(1, 0, 2).window(10, 11);
  // NCCL says that a kernel was launched after the launch: the thread lost the CPU in between once.
  file.operation(0, 10.0500, 10.0450, 10.06);
  for (std::uint64_t i = 1; i < 30; ++i) {
    const double at = 10.06 + 0.02 * static_cast<double>(i);
    file.operation(i, at, at + 30e-6, at + 0.01);
  }
  const NcclRank rank = file.rank();
  EXPECT_FALSE(rank.windows[0].clock_wrong);
  EXPECT_LT(*rank.windows[0].clock_error_s, 50e-6);
}

TEST(NcclRead, LeavesOutTimesThatCannotBe) {
  File file;
  file.comm(1, 0, 2).window(10, 11);
  file::OperationRecord record = {};
  record.kind = file::kOperation;
  record.function = 200;
  record.datatype = 200;
  record.comm = 1;
  record.enqueued_ns = 10 * kSecond;
  record.flags = file::kGpuTimes | file::kPolled;
  record.gpu_start_ns = ~std::uint64_t{0};
  record.gpu_stop_ns = 1;
  record.poll_start_ns = 1;
  record.poll_stop_ns = std::int64_t{1} << 62;
  file.raw(record);
  record.count = ~std::uint64_t{0};
  record.datatype = 9;
  record.function = file::kAllGather;
  record.flags |= file::kUnfinished;
  file.raw(record);
  const NcclRank rank = file.rank();
  ASSERT_EQ(rank.operations.size(), 2u);
  EXPECT_EQ(rank.operations[0].timing, NcclTiming::none);
  EXPECT_EQ(rank.operations[0].function, "unknown");
  EXPECT_EQ(rank.operations[0].datatype, "unknown");
  EXPECT_TRUE(rank.operations[1].unfinished);
  const std::vector<NcclRank> ranks = {rank};
  EXPECT_EQ(summarise_nccl(ranks).ranks.at(0).communication_s, 0);
}

TEST(NcclRead, RefusesWhatIsNoneOfItsFiles) {
  EXPECT_FALSE(parse_nccl("").ok());
  EXPECT_FALSE(parse_nccl(std::string(4096, '\0')).ok());
  EXPECT_FALSE(parse_nccl("{\"traceEvents\": []}").ok());
  File newer = example();
  newer.header().version = 2;
  const auto refused = parse_nccl(newer.text());
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("version 2"), std::string::npos);
  EXPECT_EQ(read_nccl("/no/such/file").error().code, Errc::not_found);
}

TEST(NcclRead, ReadsAFileCutAtEveryByte) {
  const std::string whole = example().text();
  std::size_t before = 0;
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    const auto rank = parse_nccl(std::string_view(whole).substr(0, length));
    if (length < sizeof(file::Header)) {
      EXPECT_FALSE(rank.ok());
      continue;
    }
    ASSERT_TRUE(rank.ok());
    EXPECT_GE(rank->operations.size(), before);
    before = rank->operations.size();
    EXPECT_EQ(rank->malformed, (length - sizeof(file::Header)) % 128 == 0 ? 0u : 1u);
  }
  EXPECT_EQ(before, 10u);
}

TEST(NcclRead, NoticesEveryDamagedByte) {
  const std::string whole = example().text();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x5a);
    const auto rank = parse_nccl(damaged);
    if (!rank) {
      EXPECT_LT(at, 20u);  // magic, version, sizes
      continue;
    }
    EXPECT_GE(rank->malformed, 1u) << at;
    EXPECT_FALSE(rank->notes.empty());
    const std::vector<NcclRank> ranks = {*rank};
    summarise_nccl(ranks);
  }
}

TEST(NcclRead, SaysWhatIsMissing) {
  const auto notes_of = [](auto change) {
    File file = example();
    change(file.header());
    return file.rank().notes;
  };
  EXPECT_TRUE(has_note(notes_of([](auto& h) { h.state = file::kFull; }), "bound"));
  EXPECT_TRUE(has_note(notes_of([](auto& h) { h.state = file::kRecording; }), "without notice"));
  EXPECT_TRUE(has_note(notes_of([](auto& h) { h.state = file::kBroken, h.write_errno = 28; }),
                       "No space left"));
  EXPECT_TRUE(has_note(notes_of([](auto& h) { h.flags = file::kKernelsUnsafe; }), "2.27"));
  EXPECT_TRUE(has_note(notes_of([](auto& h) { h.abi = 2; }), "before 2.26"));
  EXPECT_TRUE(has_note(notes_of([](auto& h) { h.flags |= file::kSmallShm; }), "/dev/shm"));
  EXPECT_TRUE(has_note(notes_of([](auto& h) { h.lost_slots = 3; }), "3 operations"));
  EXPECT_TRUE(has_note(notes_of([](auto& h) { h.lost_comms = 1; }), "communicators"));
}

// ------------------------------------------------------------------------------ ranks side by side

std::vector<NcclRank> two_ranks(int late, double lateness_s = 0.030, double moving_s = 0.010) {
  std::vector<NcclRank> ranks;
  for (const File& file : two_files(late, lateness_s, moving_s)) ranks.push_back(file.rank());
  return ranks;
}

TEST(NcclSummary, TellsALateRank) {
  const NcclSummary summary = summarise_nccl(two_ranks(1));
  ASSERT_EQ(summary.ranks.size(), 2u);
  const NcclRankSeconds &early = summary.ranks[0], &late = summary.ranks[1];
  EXPECT_EQ(early.rank, 0);
  EXPECT_EQ(late.rank, 1);
  // From the first start to the last there are 19 turns of 90 ms.
  EXPECT_NEAR(early.observed_s, 19 * 0.09, 1e-3);
  EXPECT_NEAR(early.waiting_s, 19 * 0.030, 2e-3);
  EXPECT_NEAR(early.moving_s, 19 * 0.010, 2e-3);
  EXPECT_NEAR(late.waiting_s, 0, 1e-3);
  EXPECT_NEAR(late.moving_s, 19 * 0.010, 2e-3);
  EXPECT_NEAR(late.late_s, 19 * 0.030, 2e-3);
  EXPECT_EQ(late.last, late.matched);
  EXPECT_EQ(early.last, 0);
  EXPECT_LT(early.error_s, 1e-3);
  EXPECT_EQ(early.unmatched_s, 0);
}

TEST(NcclSummary, TellsASlowLink) {
  const NcclSummary summary = summarise_nccl(two_ranks(0, 0.0, 0.040));
  for (const auto& rank : summary.ranks) {
    EXPECT_NEAR(rank.moving_s, 19 * 0.040, 3e-3);
    EXPECT_LT(rank.waiting_s, 2e-3);
  }
  ASSERT_EQ(summary.traffic.size(), 1u);
  EXPECT_EQ(summary.traffic[0].function, "AllReduce");
  EXPECT_EQ(summary.traffic[0].operations, 40);
  EXPECT_NEAR(*summary.traffic[0].algorithm_bytes_per_s, 4e6 / 0.040, 1e6);
  EXPECT_NEAR(*summary.traffic[0].bus_bytes_per_s, 4e6 / 0.040, 1e6);  // 2(n-1)/n = 1 of two
}

TEST(NcclSummary, CountsOnlyWhatMovesAsTheLinksRate) {
  const NcclSummary summary = summarise_nccl(two_ranks(1, 0.030, 0.010));
  EXPECT_NEAR(*summary.traffic[0].algorithm_bytes_per_s, 4e6 / 0.010, 2e7);
}

TEST(NcclSummary, CountsWhatCameBetweenWindows) {
  File file;
  file.comm(1, 0, 1).window(10, 11);
  file.operation(7, 10.1, 10.11, 10.12).operation(8, 10.2, 10.21, 10.22);
  file.window(30, 31).operation(5007, 30.1, 30.11, 30.12);
  const std::vector<NcclRank> ranks = {file.rank()};
  EXPECT_EQ(summarise_nccl(ranks).traffic.at(0).operations, 3);
  EXPECT_EQ(summarise_nccl(ranks).traffic.at(0).numbered, 5001);
}

TEST(NcclSummary, KnowsTheFactorsOfBandwidth) {
  EXPECT_DOUBLE_EQ(nccl_bus_factor("AllReduce", 4), 1.5);
  EXPECT_DOUBLE_EQ(nccl_bus_factor("AllGather", 4), 0.75);
  EXPECT_DOUBLE_EQ(nccl_bus_factor("ReduceScatter", 2), 0.5);
  EXPECT_DOUBLE_EQ(nccl_bus_factor("Broadcast", 4), 1);
  EXPECT_DOUBLE_EQ(nccl_bus_factor("Send", 4), 1);
  EXPECT_DOUBLE_EQ(nccl_bus_factor("AllReduce", 0), 1);
}

TEST(NcclSummary, SaysWhereARankIsMissing) {
  std::vector<NcclRank> ranks = two_ranks(1);
  ranks.pop_back();
  const NcclSummary summary = summarise_nccl(ranks);
  EXPECT_NEAR(summary.ranks[0].communication_s, 19 * 0.040, 2e-3);
  EXPECT_NEAR(summary.ranks[0].unmatched_s, summary.ranks[0].communication_s, 1e-9);
  EXPECT_EQ(summary.ranks[0].matched, 0);
  EXPECT_TRUE(has_note(summary.notes, "not seen of all ranks"));
}

TEST(NcclSummary, PairsNothingThatIsNotTheSame) {
  // Another communicator; another size; a number that comes twice.
  File a("ann", 1), b("ann", 2);
  a.comm(1, 0, 2).window(10, 11);
  b.comm(1, 1, 2).window(10, 11);
  a.operation(0, 10.1, 10.11, 10.12);
  b.operation(0, 10.1, 10.11, 10.12, file::kAllReduce, 77);
  a.operation(1, 10.2, 10.21, 10.22);
  b.operation(1, 10.2, 10.21, 10.22, file::kAllGather);
  a.operation(2, 10.3, 10.31, 10.32).operation(2, 10.4, 10.41, 10.42);
  b.operation(2, 10.3, 10.31, 10.32);
  const std::vector<NcclRank> ranks = {a.rank(), b.rank()};
  const NcclSummary summary = summarise_nccl(ranks);
  EXPECT_EQ(summary.ranks[0].matched, 1);
  EXPECT_TRUE(has_note(summary.notes, "3 collectives were not seen of all ranks"));
  EXPECT_TRUE(has_note(summary.notes, "1 collective came twice"));
  EXPECT_TRUE(summarise_nccl({}).ranks.empty());
}

TEST(NcclSummary, CountsOverlappingOperationsOnce) {
  File file;
  file.comm(1, 0, 1).window(10, 11);
  file.operation(0, 10.0, 10.1, 10.3)
      .operation(1, 10.05, 10.2, 10.4)
      .operation(2, 10.5, 10.6, 10.7);
  const std::vector<NcclRank> ranks = {file.rank()};
  const NcclSummary summary = summarise_nccl(ranks);
  EXPECT_NEAR(summary.ranks[0].observed_s, 0.5, 1e-6);       // from 10.1 to 10.6
  EXPECT_NEAR(summary.ranks[0].communication_s, 0.3, 1e-6);  // 10.1 to 10.4
}

TEST(NcclSummary, PutsHostsOnOneClock) {
  // The second host's monotonic clock began 5000 s earlier; its wall clock is 2 s off as well.
  std::vector<NcclRank> ranks;
  for (int r = 0; r < 2; ++r) {
    const double shift = r * 5000.0;
    File file(r == 0 ? "ann" : "bob", 100);
    file.header().opened_realtime_ns += r * 2 * kSecond;
    file.comm(0xabc, r, 2).window(10 + shift, 12 + shift);
    for (int i = 0; i < 20; ++i) {
      const double at = 10.05 + 0.09 * i + shift;
      const double start = at + (r == 1 ? 0.02 : 0);
      file.operation(static_cast<std::uint64_t>(i), start - 20e-6, start, at + 0.05);
    }
    ranks.push_back(file.rank());
  }
  const NcclSummary summary = summarise_nccl(ranks);
  EXPECT_NEAR(summary.ranks[0].waiting_s, 19 * 0.02, 2e-3);
  EXPECT_NEAR(summary.ranks[1].late_s, 19 * 0.02, 2e-3);
  EXPECT_TRUE(has_note(summary.notes, "ends of 20 all-reduces"));
}

TEST(NcclSummary, DoesNotPairWhatNccl223Numbers) {
  std::vector<NcclRank> ranks = two_ranks(1);
  for (auto& rank : ranks) rank.interface = 1;
  const NcclSummary summary = summarise_nccl(ranks);
  EXPECT_EQ(summary.ranks[0].matched, 0);
  EXPECT_TRUE(has_note(summary.notes, "NCCL 2.23"));
}

}  // namespace
}  // namespace rigwise
