// The plug-in under a stand-in for NCCL's core (tests/fakes/nccl_core.h): every version of the
// interface, and what goes wrong in real ones.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/files.h"
#include "base/subprocess.h"
#include "fakes/nccl_core.h"
#include "profile/nccl/format.h"
#include "rigwise/nccl.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;
using fake_nccl::Call;
using fake_nccl::Core;

constexpr auto kPlugin = RIGWISE_BINARY_DIR "/librigwise-nccl.so";
constexpr std::uint64_t kHash = 0x1234567890abcdef;

std::uint64_t host_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                    std::chrono::nanoseconds(1));
}

/// A plug-in of its own for each test: a copy of the file is loaded anew, with memory of its own.
class NcclPlugin : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "rigwise-nccl-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
    fs::copy_file(kPlugin, dir_ / "plugin.so");
    ::setenv("RIGWISE_NCCL_OUT", (dir_ / "nccl-%h-%p.bin").c_str(), 1);
    ::setenv("RIGWISE_NCCL_WINDOW", "always", 1);
    ::unsetenv("RIGWISE_NCCL_KERNELS");
  }
  void TearDown() override {
    ::unsetenv("RIGWISE_NCCL_OUT");
    ::unsetenv("RIGWISE_NCCL_WINDOW");
    ::unsetenv("RIGWISE_NCCL_KERNELS");
    fs::remove_all(dir_);
  }

  std::unique_ptr<Core> load(int version) { return Core::load(dir_ / "plugin.so", version); }

  std::vector<fs::path> outputs() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(dir_)) {
      if (entry.path().filename().string().starts_with("nccl-")) found.push_back(entry.path());
    }
    return found;
  }

  /// The file as soon as `enough` says so of it; what there is after 20 s.
  template <class Enough>
  NcclRank file_when(const Enough& enough) const {
    NcclRank last;
    for (int i = 0; i < 2000; ++i) {
      for (const auto& path : outputs()) {
        auto rank = read_nccl(path);
        if (!rank) continue;
        last = std::move(*rank);
        if (enough(last)) return last;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "the file never showed what was waited for";
    return last;
  }
  NcclRank file_with(std::size_t operations) const {
    return file_when(
        [&](const NcclRank& rank) { return rank.operations.size() + rank.lost >= operations; });
  }

  static bool wait_for_window(const Core& core) {
    for (int i = 0; i < 2000 && core.mask() == 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return core.mask() != 0;
  }

  /// A collective whose kernels ran at this moment of a GPU whose timer is 1000 s ahead.
  static int call_now(Core& core, void* context, const Call& call, const char* name = "dp",
                      std::uint64_t hash = kHash, int rank = 1) {
    const std::uint64_t start = host_ns() + 1'000'000'000'000;
    return whole_call(core, context, call, name, hash, rank, start, start + 700);
  }

  fs::path dir_;
};

class NcclPluginOfVersion : public NcclPlugin, public testing::WithParamInterface<int> {};

TEST_P(NcclPluginOfVersion, RecordsCollectives) {
  const int version = GetParam();
  const auto core = load(version);
  ASSERT_NE(core, nullptr);
  EXPECT_STREQ(core->name(), "rigwise");
  int result = -1;
  void* context = core->init("dp", kHash, 1, 2, 1, &result);
  EXPECT_EQ(result, 0);
  ASSERT_NE(context, nullptr);
  ASSERT_TRUE(wait_for_window(*core));
  // Collectives and point-to-point always; kernels only where no NCCL of that interface can fail
  // over it; the copy engines' where the interface has them.
  EXPECT_EQ(core->mask(), version <= 4 ? 6 : version == 5 ? 70 : 4166);
  for (int i = 0; i < 50; ++i) {
    call_now(*core, context, {.sequence = static_cast<std::uint64_t>(i), .count = 1000});
    call_now(*core, context,
             {.function = "AllGather",
              .datatype = "ncclBfloat16",
              .sequence = static_cast<std::uint64_t>(i),
              .count = 10});
    call_now(*core, context,
             {.function = "Send",
              .datatype = "ncclInt8",
              .count = 7,
              .peer = 3,
              .point_to_point = true});
  }
  core->finalize(context);
  const NcclRank rank = file_with(150);
  ASSERT_EQ(rank.operations.size(), 150u);
  EXPECT_EQ(rank.interface, version);
  EXPECT_EQ(rank.pid, ::getpid());
  EXPECT_EQ(rank.lost + rank.stray + rank.unknown + rank.malformed, 0u);
  ASSERT_EQ(rank.comms.size(), 1u);
  EXPECT_EQ(rank.comms[0].hash, kHash);
  EXPECT_EQ(rank.comms[0].name, "dp");
  EXPECT_EQ(rank.comms[0].rank, 1);
  EXPECT_EQ(rank.comms[0].ranks, version >= 4 ? std::optional<int>(2) : std::nullopt);
  std::map<std::string_view, int> seen;
  for (const auto& operation : rank.operations) {
    ++seen[operation.function];
    EXPECT_EQ(operation.timing, version >= 5 ? NcclTiming::gpu : NcclTiming::none);
    if (operation.function == "AllReduce") {
      EXPECT_EQ(operation.datatype, "float32");
      EXPECT_EQ(operation.bytes, 4000);
      EXPECT_FALSE(operation.unfinished);
    } else if (operation.function == "AllGather") {
      EXPECT_EQ(operation.bytes, version >= 4 ? std::optional<double>(40) : std::nullopt);
    } else {
      EXPECT_EQ(operation.function, "Send");
      EXPECT_EQ(operation.bytes, 7);
      EXPECT_EQ(operation.peer, 3);
      EXPECT_FALSE(operation.sequence.has_value());
    }
    if (operation.timing == NcclTiming::gpu) {
      EXPECT_NEAR(*operation.end_s - *operation.start_s, 700e-9, 20e-9);
      EXPECT_LT(std::abs(*operation.start_s - operation.enqueued_s), 0.1);
    }
  }
  EXPECT_EQ(seen["AllReduce"], 50);
  EXPECT_EQ(seen["AllGather"], 50);
  EXPECT_EQ(seen["Send"], 50);
}
INSTANTIATE_TEST_SUITE_P(All, NcclPluginOfVersion, testing::Values(1, 2, 3, 4, 5, 6));

TEST_F(NcclPlugin, TimesKernelsOfOlderInterfacesWhereAsked) {
  ::setenv("RIGWISE_NCCL_KERNELS", "1", 1);
  for (const int version : {3, 4}) {
    const fs::path plugin = dir_ / ("plugin" + std::to_string(version) + ".so");
    fs::copy_file(kPlugin, plugin);
    ::setenv("RIGWISE_NCCL_OUT", (dir_ / ("nccl-" + std::to_string(version))).c_str(), 1);
    const auto core = Core::load(plugin, version);
    void* context = core->init("dp", kHash, 1, 2, 0);
    ASSERT_TRUE(wait_for_window(*core));
    EXPECT_EQ(core->mask(), 70);
    for (std::uint64_t i = 0; i < 20; ++i) call_now(*core, context, {.sequence = i});
    core->finalize(context);
    const NcclRank rank = file_when([&](const NcclRank& read) {
      return read.interface == version && read.operations.size() == 20;
    });
    for (const auto& operation : rank.operations)
      EXPECT_EQ(operation.timing, version == 3 ? NcclTiming::polled : NcclTiming::gpu);
  }
}

TEST_F(NcclPlugin, ReportsOnlyInWindows) {
  ::setenv("RIGWISE_NCCL_WINDOW", "0.05/0.2", 1);
  const auto core = load(6);
  void* context = core->init("dp", kHash, 1, 2, 0);
  int opened = 0, closed = 0;
  std::uint64_t made = 0, reported = 0;
  bool open = false;
  for (int i = 0; i < 2000 && (opened < 3 || closed < 3); ++i) {
    const bool now = core->mask() != 0;
    opened += now && !open ? 1 : 0;
    closed += !now && open ? 1 : 0;
    open = now;
    if (call_now(*core, context, {.sequence = made++}) > 0) ++reported;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GE(opened, 3);
  EXPECT_GE(closed, 3);
  EXPECT_LT(reported, made);
  core->finalize(context);
  EXPECT_EQ(core->mask(), 0);
  const NcclRank rank = file_when([&](const NcclRank& read) {
    return read.operations.size() == reported && read.windows.size() >= 3;
  });
  EXPECT_EQ(rank.operations.size(), reported);
  for (const auto& window : rank.windows) {
    EXPECT_TRUE(window.kernels);
    EXPECT_GT(window.end_s, window.start_s);
  }
}

TEST_F(NcclPlugin, TakesEventsInAnyOrderAndOfAnyKind) {
  const auto core = load(6);
  void* context = core->init(nullptr, kHash, 1, 2, 0);
  ASSERT_TRUE(wait_for_window(*core));
  std::uint64_t strays = 0;
  // no descriptor, no place for a handle
  core->start_null(context);
  // no names
  Call nameless{.function = nullptr, .datatype = nullptr, .sequence = 1, .channels = 1};
  call_now(*core, context, nameless);
  // names that are not known
  call_now(*core, context, {.function = "AllFrobnicate", .datatype = "ncclFloat3", .sequence = 2});
  // stops without a start; a stop of nothing; one twice
  core->stop(nullptr);
  core->stop(reinterpret_cast<void*>(0xdeadbeefdeadbee9));
  core->stop(reinterpret_cast<void*>(~std::uintptr_t{0}));
  strays += 3;
  const Call single{.sequence = 3, .channels = 1};
  void* handle = core->start_call(context, nullptr, single, "dp", kHash, 0);
  ASSERT_NE(handle, nullptr);
  core->stop(handle);
  core->stop(handle);
  strays += 1;
  // a channel that ends before it started (nccl#2221), that ends twice, that says so after its end
  // (nccl#1992), that starts twice
  core->stop_channel(nullptr, 5);
  strays += 2;
  void* channel = core->start_channel(context, handle, 0, 100);
  void* again = core->start_channel(context, handle, 0, 90);
  EXPECT_NE(channel, nullptr);
  EXPECT_NE(again, nullptr);
  strays += 1;
  core->record_stop(channel, 200, true);
  core->stop_channel(channel, 300);  // ends it
  core->stop_channel(again, 300);
  core->record_stop(channel, 400, false);
  strays += 3;
  // a channel of a collective that is over, of a group, of a number that is none
  EXPECT_EQ(core->start_channel(context, handle, 1, 100), nullptr);
  EXPECT_EQ(core->start_channel(context, core->start_group(context), 1, 100), nullptr);
  strays += 2;
  void* open = core->start_call(context, nullptr, {.sequence = 4, .channels = 2}, "dp", kHash, 0);
  EXPECT_EQ(core->start_channel(context, open, 64, 100), nullptr);
  EXPECT_EQ(core->start_channel(context, open, 255, 100), nullptr);
  strays += 2;
  // kernels before the call's own stop
  void* early = core->start_channel(context, open, 0, 100);
  core->stop_channel(early, 200);
  // another process's proxy operation (PXN), and kinds that nobody asked for or that are not known
  EXPECT_EQ(core->start_any(context, 8, reinterpret_cast<void*>(0x10), ::getpid() + 1), nullptr);
  for (const std::uint64_t type : {16, 32, 128, 256, 512, 1024, 2048, 8192, 16384})
    EXPECT_EQ(core->start_any(context, type, nullptr, 0), nullptr);
  for (const std::uint64_t type :
       {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{1} << 15, std::uint64_t{1} << 40})
    EXPECT_EQ(core->start_any(context, type, nullptr, 0), nullptr);
  // started and never stopped; communicators that are none
  core->start_call(context, nullptr, {.sequence = 5}, "dp", kHash, 0);
  EXPECT_EQ(core->start_call(nullptr, nullptr, {}, "dp", kHash, 0), nullptr);
  EXPECT_EQ(core->start_call(handle, nullptr, {}, "dp", kHash, 0), nullptr);
  core->finalize(handle);
  strays += 3;
  core->finalize(context);
  core->finalize(context);
  EXPECT_EQ(core->start_call(context, nullptr, {}, "dp", kHash, 0), nullptr);
  strays += 2;
  const NcclRank rank = file_when([](const NcclRank& read) {
    return read.operations.size() >= 5 && read.unknown > 0;  // the header comes after the records
  });
  // The header is written once more only when there is something new: these came before.
  EXPECT_EQ(rank.operations.size(), 5u);
  EXPECT_EQ(rank.unknown, 4u);
  EXPECT_LE(rank.stray, strays);
  EXPECT_GE(rank.stray, strays - 4);
  int unfinished = 0;
  for (const auto& operation : rank.operations) {
    unfinished += operation.unfinished ? 1 : 0;
    if (operation.sequence == 1 || operation.sequence == 2) {
      EXPECT_EQ(operation.function, "unknown");
      EXPECT_FALSE(operation.bytes.has_value());
    }
  }
  EXPECT_EQ(unfinished, 1);  // sequence 5; of 4 one channel of two is missing
}

TEST_F(NcclPlugin, GoesWithoutWhereNothingCanBeWritten) {
  int mask_after = 0;
  const auto refused = [&](int number) {
    const fs::path plugin = dir_ / ("plugin" + std::to_string(number) + ".so");
    fs::copy_file(kPlugin, plugin);
    const auto core = Core::load(plugin, 6);
    int result = 0;
    void* context = core->init("dp", kHash, 1, 2, 0, &result);
    mask_after = core->mask();
    // NCCL 2.28 goes on calling with no context.
    call_now(*core, context, {});
    core->stop(reinterpret_cast<void*>(0x11));
    core->finalize(context);
    return context == nullptr && result != 0;
  };
  ::unsetenv("RIGWISE_NCCL_OUT");
  EXPECT_TRUE(refused(0));
  ::setenv("RIGWISE_NCCL_OUT", (dir_ / "no/such/folder/%p").c_str(), 1);
  EXPECT_TRUE(refused(1));
  ::setenv("RIGWISE_NCCL_OUT", (dir_ / "%q").c_str(), 1);
  EXPECT_TRUE(refused(2));
  ::setenv("RIGWISE_NCCL_OUT", ("/" + std::string(5000, 'x')).c_str(), 1);
  EXPECT_TRUE(refused(3));
  ::setenv("RIGWISE_NCCL_OUT", "", 1);
  EXPECT_TRUE(refused(4));
  EXPECT_TRUE(outputs().empty());
}

TEST_F(NcclPlugin, NeverWritesOverAFile) {
  ::setenv("RIGWISE_NCCL_OUT", (dir_ / "nccl-out").c_str(), 1);
  std::ofstream(dir_ / "nccl-out") << "the user's own";
  const auto core = load(6);
  core->finalize(core->init("dp", kHash, 1, 2, 0));
  EXPECT_EQ(*read_file(dir_ / "nccl-out"), "the user's own");
  EXPECT_TRUE(fs::exists(dir_ / "nccl-out.2"));
}

TEST_F(NcclPlugin, TakesManyCommunicatorsAndThreads) {
  const auto core = load(5);
  constexpr std::uint64_t kThreads = 8, kCalls = 400;
  std::atomic<int> ready = 0;
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        void* context = core->init("dp", kHash + t, 1, 2, 0);
        ASSERT_NE(context, nullptr);
        ++ready;
        while (ready < static_cast<int>(kThreads)) std::this_thread::yield();
        ASSERT_TRUE(wait_for_window(*core));
        // The proxy thread reports kernels of calls that the launching thread goes on making.
        std::array<std::atomic<void*>, kCalls> handles = {};
        std::jthread proxy([&] {
          for (auto& place : handles) {
            void* parent = nullptr;
            while ((parent = place.load()) == nullptr) std::this_thread::yield();
            if (parent == &place) continue;  // lost
            const std::uint64_t now = host_ns();
            void* first = core->start_channel(context, parent, 0, now);
            void* second = core->start_channel(context, parent, 1, now + 10);
            core->stop_channel(first, now + 500);
            core->stop_channel(second, now + 510);
          }
        });
        for (std::uint64_t i = 0; i < kCalls; ++i) {
          void* group = core->start_group(context);
          void* handle = core->start_call(context, group, {.sequence = i}, "dp", kHash + t, 0);
          handles[i] = handle == nullptr ? &handles[i] : handle;
          core->stop(handle);
          core->stop(group);
        }
        proxy.join();
        core->finalize(context);
      });
    }
  }
  const NcclRank rank = file_with(kThreads * kCalls);
  EXPECT_EQ(rank.operations.size() + rank.lost, kThreads * kCalls);
  EXPECT_EQ(rank.comms.size(), kThreads);
  std::map<std::size_t, std::uint64_t> per_comm;
  for (const auto& operation : rank.operations) {
    ++per_comm[operation.comm];
    EXPECT_FALSE(operation.unfinished);
    EXPECT_FALSE(operation.partial);
  }
  EXPECT_EQ(per_comm.size(), kThreads);
}

TEST_F(NcclPlugin, GoesOnWithoutTheCommunicatorsItHasNoRoomFor) {
  const auto core = load(6);
  std::vector<void*> contexts;
  for (std::uint64_t i = 0; i < 140; ++i) {
    int result = -1;
    contexts.push_back(core->init("dp", i, 1, 2, 0, &result));
    EXPECT_EQ(result, 0);
  }
  EXPECT_EQ(std::count(contexts.begin(), contexts.end(), nullptr), 12);
  for (void* context : contexts) call_now(*core, context, {});
  for (void* context : contexts) core->finalize(context);
  // What has ended makes room.
  void* late = nullptr;
  for (int i = 0; i < 2000 && late == nullptr; ++i) {
    late = core->init("dp", 1000, 1, 2, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_NE(late, nullptr);
  core->finalize(late);
}

TEST_F(NcclPlugin, KeepsOutOfForkedChildren) {
  const auto core = load(6);
  void* context = core->init("dp", kHash, 1, 2, 0);
  ASSERT_TRUE(wait_for_window(*core));
  void* handle = core->start_call(context, nullptr, {.sequence = 1, .channels = 0}, "dp", kHash, 0);
  const pid_t child = ::fork();
  if (child == 0) {
    int result = 0;
    core->stop(handle);
    const bool quiet = core->start_call(context, nullptr, {}, "dp", kHash, 0) == nullptr &&
                       core->init("dp", kHash, 1, 2, 0, &result) == nullptr && result != 0;
    core->finalize(context);
    ::_exit(quiet ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  core->stop(handle);
  core->finalize(context);
  EXPECT_EQ(file_with(1).operations.size(), 1u);
  EXPECT_EQ(outputs().size(), 1u);
}

TEST_F(NcclPlugin, StopsAtItsBound) {
  const auto core = load(6);
  void* context = core->init("dp", kHash, 1, 2, 0);
  ASSERT_TRUE(wait_for_window(*core));
  const auto bound = std::uintmax_t{16} << 20;
  Call call{.channels = 0};
  for (int round = 0; round < 2000 && core->mask() != 0; ++round) {
    for (int i = 0; i < 2000; ++i, ++call.sequence) call_now(*core, context, call);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(core->mask(), 0);  // nothing is asked for any more
  core->finalize(context);
  const NcclRank rank = file_when([](const NcclRank& read) {
    return !read.notes.empty() && read.notes.front().find("bound") != std::string::npos;
  });
  EXPECT_LE(fs::file_size(outputs().at(0)), bound);
  EXPECT_GT(fs::file_size(outputs().at(0)), bound - 1000);
  EXPECT_GT(rank.lost, 0u);
}

// --------------------------------------------------------------------------- whole processes

class NcclProcess : public NcclPlugin {
 protected:
  std::string run(const std::string& words, const std::string& before = "") {
    const std::string command = before + RIGWISE_BINARY_DIR "/nccl_mock '" +
                                (dir_ / "plugin.so").string() + "' " + words + " 2>&1";
    FILE* pipe = ::popen(command.c_str(), "r");
    std::string output;
    std::array<char, 4096> piece = {};
    for (std::size_t got = 0; (got = std::fread(piece.data(), 1, piece.size(), pipe)) > 0;)
      output.append(piece.data(), got);
    status_ = ::pclose(pipe);
    return output;
  }
  int status_ = 0;
};

TEST_F(NcclProcess, LosesNothingAtAnOrderlyEnd) {
  EXPECT_NE(run("6 2 300 2 exit").find("\"events\""), std::string::npos);
  EXPECT_EQ(status_, 0);
  const auto rank = read_nccl(outputs().at(0));
  ASSERT_TRUE(rank.ok());
  EXPECT_EQ(rank->operations.size() + rank->lost, 600u);
  EXPECT_TRUE(rank->notes.empty() || rank->lost > 0) << rank->notes.front();
  EXPECT_EQ(rank->malformed, 0u);
  ASSERT_FALSE(rank->windows.empty());
}

TEST_F(NcclProcess, LeavesAReadableFileWhenKilled) {
  run("5 2 300 2 kill; true");
  const auto rank = read_nccl(outputs().at(0));
  ASSERT_TRUE(rank.ok());
  EXPECT_EQ(rank->operations.size() + rank->lost, 600u);
  EXPECT_EQ(rank->malformed, 0u);
  ASSERT_FALSE(rank->notes.empty());
  EXPECT_NE(rank->notes.front().find("without notice"), std::string::npos);
}

TEST_F(NcclProcess, OutlivesAFileThatMayNotGrow) {
  // As a full disk: a limit of a few KiB on files (SIGXFSZ would end a thread that does not block it).
  run("6 1 5000 2 finalize", "ulimit -f 8; ");
  EXPECT_EQ(status_, 0);
  const auto rank = read_nccl(outputs().at(0));
  ASSERT_TRUE(rank.ok());
  EXPECT_GT(rank->lost, 0u);
  EXPECT_TRUE(std::any_of(rank->notes.begin(), rank->notes.end(), [](const std::string& note) {
    return note.find("writing failed") != std::string::npos;
  }));
}

}  // namespace
}  // namespace rigwise
