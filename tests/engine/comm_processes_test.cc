// Comm among real processes: this program starts itself as the ranks (main, below), each runs the
// body that its argument names.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "engine/comm/comm.h"
#include "engine/comm/sockets.h"

namespace rigwise::engine {
namespace {

using namespace std::chrono_literals;

// In a rank a failed check ends the process with 9.
#define CHECK_THAT(condition)                                                                    \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      std::fprintf(stderr, "rank %d: %s:%d: %s\n", comm.rank(), __FILE__, __LINE__, #condition); \
      ::_exit(9);                                                                                \
    }                                                                                            \
  } while (false)

template <class Call>
bool refuses(Call call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

at::Tensor values(int rank, std::int64_t count, at::ScalarType type) {
  return ((at::arange(count, at::kFloat) * 7 + rank * 3).remainder(11) - 4).to(type);
}

at::Tensor stacked(int size, std::int64_t count, at::ScalarType type) {
  std::vector<at::Tensor> rows;
  for (int rank = 0; rank < size; ++rank) rows.push_back(values(rank, count, type).to(at::kFloat));
  return at::stack(rows);
}

// Small whole numbers, so that every type and every order of summing gives exactly the same.
void collectives(Comm& comm) {
  const int size = comm.size();
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kLong, at::kHalf}) {
    for (const std::int64_t count : {1, 12, 5000, 300000}) {
      const at::Tensor all = stacked(size, count, type);
      at::Tensor x = values(comm.rank(), count, type);
      comm.all_reduce(x).wait();
      CHECK_THAT(at::equal(x.to(at::kFloat), all.sum(0)));
      x = values(comm.rank(), count, type);
      comm.all_reduce(x, ReduceOp::max).wait();
      CHECK_THAT(at::equal(x.to(at::kFloat), all.amax(0)));
      x = values(comm.rank(), count, type);
      comm.all_reduce(x, ReduceOp::min).wait();
      CHECK_THAT(at::equal(x.to(at::kFloat), all.amin(0)));

      at::Tensor gathered = at::empty({size, count}, type);
      comm.all_gather(values(comm.rank(), count, type), gathered).wait();
      CHECK_THAT(at::equal(gathered.to(at::kFloat), all));

      at::Tensor part = at::empty({count}, type);
      const at::Tensor whole = values(comm.rank(), count * size, type);
      const at::Tensor want = stacked(size, count * size, type).view({size, size, count});
      comm.reduce_scatter(whole, part).wait();
      CHECK_THAT(at::equal(part.to(at::kFloat), want.sum(0)[comm.rank()]));
      comm.reduce_scatter(whole, part, ReduceOp::max).wait();
      CHECK_THAT(at::equal(part.to(at::kFloat), want.amax(0)[comm.rank()]));

      x = values(comm.rank(), count, type);
      comm.broadcast(x, size - 1).wait();
      CHECK_THAT(at::equal(x, values(size - 1, count, type)));
      comm.barrier();
    }
  }
  at::Tensor bytes = at::full({7, 3}, comm.rank(), at::kByte);
  at::Tensor all_bytes = at::empty({size * 21}, at::kByte);
  comm.all_gather(bytes, all_bytes).wait();
  CHECK_THAT(all_bytes[-1].item<int>() == size - 1 && all_bytes[0].item<int>() == 0);
  CHECK_THAT(comm.counters().operations > 0 && comm.counters().payload_bytes > 0);
  CHECK_THAT(comm.counters().waited_s > 0);
  CHECK_THAT(!comm.notes().empty() && comm.notes()[0].starts_with("gloo over lo"));
}

// Both send first: with sends that block this would never end (a pipeline's 1F1B).
void point_to_point(Comm& comm) {
  const int peer = 1 - comm.rank();
  for (const std::int64_t count : {1, 2'000'000}) {
    const at::Tensor there = values(comm.rank(), count, at::kFloat);
    at::Tensor here = at::empty({count});
    Pending sent = comm.send(there, peer, 3);
    Pending received = comm.recv(here, peer, 3);
    received.wait();
    sent.wait();
    sent.wait();  // does nothing
    CHECK_THAT(at::equal(here, values(peer, count, at::kFloat)));
  }
  // tags match whatever the order; the same tag in order
  at::Tensor a = at::empty({4}), b = at::empty({4}), c = at::empty({4});
  {
    const auto one = comm.send(at::full({4}, 1.0), peer, 1);
    const auto two = comm.send(at::full({4}, 2.0), peer, 2);
    const auto three = comm.send(at::full({4}, 3.0), peer, 2);
    comm.recv(a, peer, 2).wait();
    comm.recv(b, peer, 2).wait();
    comm.recv(c, peer, 1).wait();
  }
  CHECK_THAT(a[0].item<float>() == 2 && b[0].item<float>() == 3 && c[0].item<float>() == 1);
}

void overlapping(Comm& comm) {
  std::vector<at::Tensor> tensors;
  std::vector<Pending> pending;
  for (int i = 0; i < 20; ++i) {
    tensors.push_back(at::full({10000 + i}, comm.rank() + i));
    pending.push_back(comm.all_reduce(tensors.back()));
  }
  at::Tensor part = at::empty({500});
  pending.push_back(comm.reduce_scatter(at::ones({500 * comm.size()}), part));
  while (!pending.empty()) {  // in the other order
    pending.back().wait();
    pending.pop_back();
  }
  for (int i = 0; i < 20; ++i) {
    const int want = comm.size() * i + comm.size() * (comm.size() - 1) / 2;
    CHECK_THAT(at::all(tensors[static_cast<std::size_t>(i)] == want).item<bool>());
  }
  CHECK_THAT(at::all(part == comm.size()).item<bool>());
}

void mesh(Comm& comm) {  // ddp 2 × tp 2
  const auto tp = comm.split(comm.rank() / 2);
  const auto ddp = comm.split(comm.rank() % 2);
  CHECK_THAT(tp->size() == 2 && ddp->size() == 2);
  CHECK_THAT((tp->members() == std::vector<int>{comm.rank() / 2 * 2, comm.rank() / 2 * 2 + 1}));
  CHECK_THAT((ddp->members() == std::vector<int>{comm.rank() % 2, comm.rank() % 2 + 2}));
  at::Tensor x = at::full({3}, comm.rank());
  tp->all_reduce(x).wait();
  CHECK_THAT(x[0].item<int>() == (comm.rank() < 2 ? 1 : 5));
  x = at::full({3}, comm.rank());
  ddp->all_reduce(x).wait();
  CHECK_THAT(x[0].item<int>() == (comm.rank() % 2 == 0 ? 2 : 4));
  // a group of its members' own, turned round by the key, and one rank alone
  const auto last = comm.split(comm.rank() == 0 ? -1 : 0, -comm.rank());
  CHECK_THAT((last == nullptr) == (comm.rank() == 0));
  if (last != nullptr) {
    CHECK_THAT((last->members() == std::vector<int>{3, 2, 1}));
    at::Tensor y = at::full({1}, comm.rank());
    last->broadcast(y, 0).wait();
    CHECK_THAT(y.item<int>() == 3);
    const auto inner = last->split(comm.rank() == 2 ? 1 : 0);
    CHECK_THAT(inner->size() == (comm.rank() == 2 ? 1 : 2));
    inner->all_reduce(y).wait();
    CHECK_THAT(y.item<int>() == (comm.rank() == 2 ? 3 : 6));
  }
  CHECK_THAT(comm.counters().operations == ddp->counters().operations);
}

void misuse(Comm& comm) {
  at::Tensor x = at::ones({4, 4});
  CHECK_THAT(refuses([&] { comm.all_reduce(x.t()).wait(); }));
  at::Tensor out = at::empty({5});
  CHECK_THAT(refuses([&] { comm.all_gather(x, out).wait(); }));
  CHECK_THAT(refuses([&] { comm.reduce_scatter(x, out).wait(); }));
  CHECK_THAT(refuses([&] { comm.send(x, comm.size()).wait(); }));
  CHECK_THAT(refuses([&] { comm.recv(x, 0, -1).wait(); }));
  CHECK_THAT(refuses([&] { comm.broadcast(x, -1).wait(); }));
  comm.all_reduce(x).wait();  // it is none the worse
  CHECK_THAT(x[0][0].item<int>() == comm.size());
}

int variable(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

// One rank is killed at some operation of a long mixed sequence.
void lose_one(Comm& comm) {
  const int victim = variable("TEST_VICTIM", 0), at = variable("TEST_AT", 10);
  const auto half = comm.split(comm.rank() % 2);
  for (int i = 0; i < 100000; ++i) {
    if (comm.rank() == victim && i == at) ::kill(::getpid(), SIGKILL);
    at::Tensor x = at::ones({1000});
    at::Tensor all = at::empty({1000 * comm.size()});
    switch (i % 4) {
      case 0:
        comm.all_reduce(x).wait();
        break;
      case 1:
        comm.all_gather(x, all).wait();
        break;
      case 2:
        comm.reduce_scatter(all, x).wait();
        break;
      default:
        half->all_reduce(x).wait();
        break;
    }
  }
}

void stop_one(Comm& comm) {
  if (comm.rank() == 1) throw std::runtime_error("out of memory, say");
  comm.barrier();
}

void end_early(Comm& comm) {
  if (comm.rank() != 1) comm.barrier();
}

void dawdle(Comm& comm) {
  comm.barrier();
  if (comm.rank() == 1) std::this_thread::sleep_for(8s);
  comm.barrier();
}

void exit_seven(Comm& comm) {
  if (comm.rank() == 1) ::_exit(7);
  std::this_thread::sleep_for(60s);  // ended by the one who watches
}

const std::map<std::string, void (*)(Comm&)> kBodies = {
    {"collectives", collectives}, {"point_to_point", point_to_point},
    {"overlapping", overlapping}, {"mesh", mesh},
    {"misuse", misuse},           {"lose_one", lose_one},
    {"stop_one", stop_one},       {"end_early", end_early},
    {"dawdle", dawdle},           {"exit_seven", exit_seven}};

int rank_main(const std::string& body) {
  at::set_num_threads(1);
  const auto place = place_from_environment();
  if (!place) return 8;
  const std::filesystem::path folder = std::getenv("TEST_FOLDER");
  std::ofstream said(folder / std::to_string(place->rank));
  said << "pid " << ::getpid() << "\n" << std::flush;
  CommOptions options;
  options.timeout_s = variable("TEST_TIMEOUT_S", 30);
  auto comm = connect(*place, options);
  if (!comm) {
    said << comm.error().message << "\n";
    return 8;
  }
  try {
    kBodies.at(body)(**comm);
  } catch (const CommFailure& failure) {
    said << failure.error.message << "\n" << std::flush;
    return 1;
  } catch (const std::exception& error) {
    said << error.what() << "\n" << std::flush;
    return 3;
  }
  return 0;
}

/// A run of a body; what each rank said lies in `said`, its process in `pids`.
struct Ran {
  int status = -1;
  std::vector<std::string> said, watcher_said;
  std::vector<int> pids;
};

Ran run(const std::string& body, int ranks, const std::map<std::string, int>& variables = {}) {
  const auto folder = std::filesystem::temp_directory_path() /
                      ("rigwise-comm-" + body + "-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  ::setenv("TEST_FOLDER", folder.c_str(), 1);
  for (const auto& [name, value] : variables) {
    ::setenv(name.c_str(), std::to_string(value).c_str(), 1);
  }
  Ran out;
  RanksOptions options;
  options.ranks = ranks;
  auto status = run_ranks({"comm-test", "--body=" + body}, options,
                          [&](std::string_view line) { out.watcher_said.emplace_back(line); });
  for (const auto& [name, value] : variables) ::unsetenv(name.c_str());
  EXPECT_TRUE(status) << status.error().message;
  if (status) out.status = *status;
  for (int rank = 0; rank < ranks; ++rank) {
    std::ifstream file(folder / std::to_string(rank));
    std::string word, rest;
    int pid = 0;
    file >> word >> pid >> std::ws;
    std::getline(file, rest);
    out.pids.push_back(pid);
    out.said.push_back(rest);
  }
  std::filesystem::remove_all(folder);
  return out;
}

TEST(Processes, CollectivesOfTwo) {
  EXPECT_EQ(run("collectives", 2).status, 0);
}
TEST(Processes, CollectivesOfThree) {
  EXPECT_EQ(run("collectives", 3).status, 0);
}
TEST(Processes, PointToPoint) {
  EXPECT_EQ(run("point_to_point", 2).status, 0);
}
TEST(Processes, Overlapping) {
  EXPECT_EQ(run("overlapping", 4).status, 0);
}
TEST(Processes, Mesh) {
  EXPECT_EQ(run("mesh", 4).status, 0);
}
TEST(Processes, Misuse) {
  EXPECT_EQ(run("misuse", 2).status, 0);
}

// Rank 0 holds the meeting point; the others are lost at each kind of operation.
TEST(Processes, ALostRankIsNamedByTheOthers) {
  int at = 8;
  for (const auto& [ranks, victim] :
       std::vector<std::pair<int, int>>{{2, 1}, {2, 0}, {4, 2}, {4, 0}, {4, 3}}) {
    const Ran ran = run("lose_one", ranks, {{"TEST_VICTIM", victim}, {"TEST_AT", at++}});
    EXPECT_EQ(ran.status, 1);
    ASSERT_FALSE(ran.watcher_said.empty());
    EXPECT_EQ(ran.watcher_said[0], "rank " + std::to_string(victim) + " (pid " +
                                       std::to_string(ran.pids[static_cast<std::size_t>(victim)]) +
                                       ") was killed by signal 9 (Killed)");
    for (int rank = 0; rank < ranks; ++rank) {
      if (rank == victim) continue;
      const std::string& said = ran.said[static_cast<std::size_t>(rank)];
      EXPECT_NE(said.find("rank " + std::to_string(victim) + " on "), std::string::npos)
          << "rank " << rank << " of " << ranks << " said: " << said;
      EXPECT_NE(said.find("lost"), std::string::npos) << said;
    }
  }
}

TEST(Processes, ARankThatStopsIsNamed) {
  const Ran ran = run("stop_one", 3);
  EXPECT_EQ(ran.status, 3);
  EXPECT_EQ(ran.said[1], "out of memory, say");
  for (const std::size_t rank : {0U, 2U}) {
    EXPECT_NE(ran.said[rank].find("rank 1 on "), std::string::npos) << ran.said[rank];
    EXPECT_NE(ran.said[rank].find("stopped while the others went on"), std::string::npos)
        << ran.said[rank];
  }
}

TEST(Processes, ARankThatEndedEarlyIsNamed) {
  const Ran ran = run("end_early", 2);
  EXPECT_EQ(ran.status, 1);
  EXPECT_NE(ran.said[0].find("stopped while the others went on"), std::string::npos) << ran.said[0];
}

TEST(Processes, ASlowRankIsToldFromALostOne) {
  const Ran ran = run("dawdle", 2, {{"TEST_TIMEOUT_S", 2}});
  EXPECT_EQ(ran.status, 1);
  EXPECT_NE(ran.said[0].find("rank 1 on "), std::string::npos) << ran.said[0];
  EXPECT_NE(ran.said[0].find("is at operation 1 (barrier)"), std::string::npos) << ran.said[0];
}

TEST(Processes, TheFirstFailuresStatusIsReturned) {
  EXPECT_EQ(run("exit_seven", 2).status, 7);
}

RankPlace first_of_two() {
  const auto socket = listen_on("127.0.0.1", 0);
  RankPlace place;
  place.size = 2;
  place.master_port = *port_of(*socket);
  ::close(*socket);
  return place;
}

TEST(Connect, ABusyPortIsSaidSo) {
  const auto socket = listen_on("127.0.0.1", 0);
  RankPlace place;
  place.size = 2;
  place.master_port = *port_of(*socket);
  const auto refused = connect(place);
  ::close(*socket);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "port " + std::to_string(place.master_port) + " is in use by another program");
}

TEST(Connect, RanksThatDoNotComeAreNamed) {
  CommOptions options;
  options.timeout_s = 1;
  const auto alone = connect(first_of_two(), options);
  ASSERT_FALSE(alone);
  EXPECT_EQ(alone.error().message, "rank 1 of 2 did not come within 1 s");
  RankPlace second = first_of_two();
  second.rank = 1;
  const auto nobody = connect(second, options);
  ASSERT_FALSE(nobody);
  EXPECT_NE(nobody.error().message.find("does not answer"), std::string::npos)
      << nobody.error().message;
}

TEST(Connect, RanksOfAnotherRunAreRefused) {
  const RankPlace zero = first_of_two();
  CommOptions options;
  options.timeout_s = 10;
  std::thread other([&] {
    RankPlace one = zero;
    one.rank = 1;
    one.size = 3;
    const auto refused = connect(one, options);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("rank 0 was started as one of 2, rank 1 as one of 3"),
              std::string::npos)
        << refused.error().message;
  });
  const auto refused = connect(zero, options);
  other.join();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::conflict);
}

TEST(Connect, CudaRanksWithoutNcclSaySo) {
  if (at::hasCUDA()) GTEST_SKIP() << "this libtorch has CUDA";
  const RankPlace zero = first_of_two();
  CommOptions options;
  options.device = at::Device(at::kCUDA, 0);
  std::thread other([&] {
    RankPlace one = zero;
    one.rank = 1;
    EXPECT_FALSE(connect(one, options));
  });
  const auto refused = connect(zero, options);
  other.join();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unavailable);
}

TEST(Connect, OneRankNeedsNoSocket) {
  const auto comm = connect(RankPlace{});
  ASSERT_TRUE(comm);
  at::Tensor x = at::ones({3}), y = at::zeros({3});
  (*comm)->all_reduce(x).wait();
  (*comm)->all_gather(x, y).wait();
  EXPECT_TRUE(at::equal(x, y));
  EXPECT_EQ((*comm)->split(0)->size(), 1);
  EXPECT_EQ((*comm)->split(-1), nullptr);
  EXPECT_THROW((void)(*comm)->send(x, 0), std::invalid_argument);
}

}  // namespace
}  // namespace rigwise::engine

int main(int argc, char** argv) {
  const std::string word = argc > 1 ? argv[1] : "";
  if (word.starts_with("--body=")) return rigwise::engine::rank_main(word.substr(7));
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
