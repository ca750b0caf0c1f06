// Kineto's datagrams, the daemon against a client of our own that speaks as libkineto does, and the
// rules for windows.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.h"
#include "profile/kineto_policy.h"
#include "rigwise/kineto.h"

namespace rigwise {
namespace {

namespace fs = std::filesystem;

std::string raw(std::uint64_t size, const std::string& type, const std::string& body) {
  std::string bytes(40, '\0');
  std::memcpy(bytes.data(), &size, sizeof size);
  std::memcpy(bytes.data() + 8, type.data(), type.size());
  return bytes + body;
}

template <class... T>
std::string packed(T... values) {
  std::string bytes;
  (bytes.append(reinterpret_cast<const char*>(&values), sizeof values), ...);
  return bytes;
}

std::string request(std::int32_t type, const std::vector<std::int32_t>& pids) {
  std::string body = packed(type, static_cast<std::int32_t>(pids.size()), std::int64_t{7});
  for (const auto pid : pids) body += packed(pid);
  return raw(body.size(), "req", body);
}

TEST(KinetoWire, ReadsRequestsAndContexts) {
  const auto asks = parse_kineto_message(request(3, {41, 40, 1}));
  ASSERT_TRUE(asks.ok());
  EXPECT_EQ(asks->kind, KinetoKind::request);
  EXPECT_TRUE(asks->takes_trace);
  EXPECT_EQ(asks->job, 7);
  EXPECT_EQ(asks->pids, (std::vector<std::int32_t>{41, 40, 1}));
  // As torch 2.13.0+cpu sends it: five processes, 76 bytes.
  EXPECT_EQ(request(3, {1, 2, 3, 4, 5}).size(), 76U);
  EXPECT_FALSE(parse_kineto_message(request(1, {41}))->takes_trace);
  EXPECT_TRUE(parse_kineto_message(request(2, {}))->pids.empty());
  const std::string body = packed(std::int32_t{0}, std::int32_t{55}, std::int64_t{0});
  const auto context = parse_kineto_message(raw(body.size(), "ctxt", body));
  ASSERT_TRUE(context.ok());
  EXPECT_EQ(context->kind, KinetoKind::context);
  EXPECT_EQ(context->pids, std::vector<std::int32_t>{55});
}

TEST(KinetoWire, RefusesEveryCutAndEveryWrongSize) {
  const std::string whole = request(3, {41, 40});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(parse_kineto_message(whole.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(parse_kineto_message(whole + "x").ok());
  const std::string body = whole.substr(40);
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{23}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    EXPECT_FALSE(parse_kineto_message(raw(size, "req", body)).ok()) << size;
  }
  for (const std::int32_t count : {-1, 3, 1, 0x40000000, 0x7fffffff}) {
    const std::string lying = packed(std::int32_t{3}, count, std::int64_t{0}, 41, 40);
    EXPECT_FALSE(parse_kineto_message(raw(lying.size(), "req", lying)).ok()) << count;
  }
  EXPECT_FALSE(parse_kineto_message(raw(0, "req", "")).ok());
  EXPECT_FALSE(parse_kineto_message(raw(0, "ctxt", "")).ok());
  EXPECT_FALSE(parse_kineto_message(raw(0, std::string(32, 'r'), "")).ok());
  EXPECT_FALSE(parse_kineto_message(raw(body.size(), "reqx", body)).ok());
}

TEST(KinetoWire, WritesWhatLibkinetoReads) {
  EXPECT_EQ(kineto_answer(KinetoKind::request, ""), raw(0, "req", ""));
  EXPECT_EQ(kineto_answer(KinetoKind::request, "A=1\n"), raw(4, "req", "A=1\n"));
  EXPECT_EQ(kineto_answer(KinetoKind::context, ""), raw(4, "ctxt", packed(std::int32_t{1})));
  EXPECT_EQ(kineto_configuration("/d/t.json", 1000.25, 1.5),
            "ACTIVITIES_LOG_FILE=/d/t.json\nACTIVITIES_DURATION_MSECS=1500\n"
            "ACTIVITIES_WARMUP_PERIOD_SECS=1\nPROFILE_START_TIME=1000250\n");
}

// ------------------------------------------------------------------------------------------------

/// A process's side, as libkineto's ipcfabric does it.
class Client {
 public:
  explicit Client(const KinetoDaemon& daemon, const std::string& name = "dynoconfigclient-test")
      : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const std::string folder = fs::path(daemon.socket_path()).parent_path();
    bound_ = name.empty() || bind_to(folder + "/" + name);
    to_ = address(daemon.socket_path());
  }
  [[nodiscard]] bool bound() const { return bound_; }
  /// errno of the attempt.
  int send(const std::string& bytes) {
    const ssize_t count = ::sendto(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT,
                                   reinterpret_cast<const sockaddr*>(&to_), size_of(to_));
    return count < 0 ? errno : 0;
  }
  /// The answer's text; nothing where none came.
  std::optional<std::string> answer() {
    std::string bytes(4096, '\0');
    sockaddr_un from = {};
    socklen_t size = sizeof from;
    const ssize_t count = ::recvfrom(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT,
                                     reinterpret_cast<sockaddr*>(&from), &size);
    if (count < 40) return std::nullopt;
    EXPECT_STREQ(from.sun_path, to_.sun_path);  // else libkinetos ends its process
    return bytes.substr(40, static_cast<std::size_t>(count) - 40);
  }

 private:
  static sockaddr_un address(const std::string& path) {
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, path.c_str(), std::min(path.size(), sizeof name.sun_path - 1));
    return name;
  }
  static socklen_t size_of(const sockaddr_un& name) {
    return static_cast<socklen_t>(sizeof name.sun_family + std::strlen(name.sun_path) + 1);
  }
  bool bind_to(const std::string& path) {
    const sockaddr_un name = address(path);
    return ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&name), size_of(name)) == 0;
  }
  Fd socket_;
  sockaddr_un to_ = {};
  bool bound_ = false;
};

class Daemon : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "rigwise-kineto-test-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    parent_ = pattern;
  }
  void TearDown() override { fs::remove_all(parent_); }
  KinetoDaemon open() {
    auto daemon = KinetoDaemon::open(parent_);
    EXPECT_TRUE(daemon.ok()) << (daemon.ok() ? "" : daemon.error().message);
    return std::move(*daemon);
  }
  fs::path parent_;
};

TEST_F(Daemon, AnswersAtOnceAndGivesAConfigurationOnce) {
  KinetoDaemon daemon = open();
  Client client(daemon);
  ASSERT_TRUE(client.bound());
  EXPECT_TRUE(daemon.serve(0).empty());
  ASSERT_EQ(client.send(request(3, {12345})), 0);
  auto news = daemon.serve(1);
  ASSERT_EQ(news.size(), 1U);
  EXPECT_EQ(news[0].event, KinetoEvent::appeared);
  EXPECT_EQ(news[0].pid, ::getpid());  // the kernel's word, not the datagram's
  EXPECT_EQ(client.answer(), "");

  daemon.ask(::getpid(), "CONFIG", 10);
  ASSERT_EQ(client.send(request(1, {12345})), 0);  // busy: it waits for a better moment
  news = daemon.serve(2);
  ASSERT_EQ(news.size(), 1U);
  EXPECT_EQ(news[0].event, KinetoEvent::busy);
  EXPECT_EQ(client.answer(), "");
  ASSERT_EQ(client.send(request(3, {12345})), 0);
  news = daemon.serve(3);
  ASSERT_EQ(news.size(), 2U);
  EXPECT_EQ(news[0].event, KinetoEvent::ready);
  EXPECT_EQ(news[1].event, KinetoEvent::took);
  EXPECT_EQ(client.answer(), "CONFIG");
  ASSERT_EQ(client.send(request(3, {12345})), 0);
  EXPECT_TRUE(daemon.serve(4).empty());
  EXPECT_EQ(client.answer(), "");
}

TEST_F(Daemon, AConfigurationGoesStale) {
  KinetoDaemon daemon = open();
  Client client(daemon);
  daemon.ask(::getpid(), "CONFIG", 10);
  ASSERT_EQ(client.send(request(3, {1})), 0);
  daemon.serve(10.1);
  EXPECT_EQ(client.answer(), "");
}

TEST_F(Daemon, CountsNonsenseAndStrangersAndAnswersNone) {
  KinetoDaemon daemon = open();
  Client nameless(daemon, ""), stranger(daemon, "somebody"), client(daemon);
  ASSERT_EQ(nameless.send(request(3, {1})), 0);
  ASSERT_EQ(stranger.send(request(3, {1})), 0);
  const std::string whole = request(3, {1, 2});
  EXPECT_TRUE(daemon.serve(0).empty());
  EXPECT_EQ(daemon.refused(), 2);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    ASSERT_EQ(client.send(whole.substr(0, size)), 0);
    EXPECT_TRUE(daemon.serve(1).empty()) << size;
  }
  ASSERT_EQ(client.send(std::string(60000, 'x')), 0);
  EXPECT_TRUE(daemon.serve(2).empty());
  EXPECT_FALSE(stranger.answer().has_value());
  EXPECT_FALSE(client.answer().has_value());
  EXPECT_EQ(daemon.refused(), static_cast<std::int64_t>(2 + whole.size() + 1));
}

TEST_F(Daemon, FolderIsOursAloneAndGoes) {
  fs::path folder;
  {
    KinetoDaemon daemon = open();
    Client client(daemon);
    folder = daemon.folder();
    struct stat info = {};
    ASSERT_EQ(::stat(folder.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0700U);
    ASSERT_TRUE(daemon.set_trace_folder(parent_).ok());
    EXPECT_TRUE(fs::is_directory(fs::path(daemon.trace_path("x")).parent_path()));
    EXPECT_LT(daemon.socket_path().size(), 60U);  // a client's own name must fit behind it
    KinetoDaemon moved = std::move(daemon);
    EXPECT_TRUE(fs::exists(folder));
  }
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(Daemon, AChildThatDropsItLeavesItAlone) {
  KinetoDaemon daemon = open();
  const pid_t child = ::fork();
  if (child == 0) {
    { const KinetoDaemon mine = std::move(daemon); }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(fs::exists(daemon.folder()));
  Client client(daemon);
  EXPECT_EQ(client.send(request(3, {1})), 0);
}

// What a training sees when whoever served the socket was killed: no path at all, at which
// libkineto gives up at once, and not a socket that refuses, at which it tries for ten seconds.
TEST_F(Daemon, AKilledOwnerLeavesNoPath) {
  std::array<int, 2> pipe_ends = {};
  ASSERT_EQ(::pipe(pipe_ends.data()), 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    auto daemon = KinetoDaemon::open(parent_);
    const std::string path = daemon ? daemon->socket_path() + "\n" + daemon->folder().string() : "";
    write_all(pipe_ends[1], path);
    ::close(pipe_ends[1]);
    ::pause();
    ::_exit(0);
  }
  ::close(pipe_ends[1]);
  std::string text(1024, '\0');
  const ssize_t count = ::read(pipe_ends[0], text.data(), text.size());
  ::close(pipe_ends[0]);
  ASSERT_GT(count, 0);
  text.resize(static_cast<std::size_t>(count));
  const std::string path = text.substr(0, text.find('\n'));
  const std::string folder = text.substr(text.find('\n') + 1);
  EXPECT_EQ(::access(path.c_str(), W_OK), 0) << path;  // another process of ours reaches it
  ::kill(owner, SIGKILL);
  ASSERT_EQ(::waitpid(owner, nullptr, 0), owner);
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_TRUE(fs::exists(folder + "/dynolog"));
  const KinetoDaemon living = open();
  { const KinetoDaemon next = open(); }  // clears up behind the dead one, and nobody else
  EXPECT_FALSE(fs::exists(folder));
  EXPECT_TRUE(fs::exists(living.folder()));
  Client client(living);
  EXPECT_EQ(client.send(request(3, {1})), 0);
}

TEST(KinetoFolder, NothingElseIsRemoved) {
  std::string pattern = (fs::temp_directory_path() / "rigwise-kineto-other-XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  write_all(Fd(::open((pattern + "/mine.txt").c_str(), O_WRONLY | O_CREAT, 0600)).get(), "x");
  remove_kineto_folder(pattern);
  EXPECT_TRUE(fs::exists(pattern + "/mine.txt"));
  remove_kineto_folder(pattern + "/mine.txt");
  remove_kineto_folder("");
  EXPECT_TRUE(fs::exists(pattern + "/mine.txt"));
  fs::remove_all(pattern);
}

// ------------------------------------------------------------------------------------------------

StepRecord entry(double t_s, std::int64_t step, std::optional<std::int64_t> total = {}) {
  StepRecord record;
  record.t_s = t_s;
  record.step = step;
  record.steps_total = total;
  return record;
}

TEST(StepPaceTest, StepsAndWhatIsLeft) {
  StepPace pace;
  EXPECT_FALSE(pace.step_s().has_value());
  for (int i = 0; i <= 20; ++i) pace.note(entry(30 + i * 2, i * 10, 1000));
  EXPECT_EQ(pace.first_s(), 30);
  EXPECT_EQ(pace.entries(), 21);
  EXPECT_DOUBLE_EQ(*pace.step_s(), 0.2);
  EXPECT_DOUBLE_EQ(*pace.remaining_s(70), 160);
  EXPECT_DOUBLE_EQ(*pace.remaining_s(80), 150);
  StepRecord other = entry(100, 5, 7);
  other.kind = RecordKind::progress;
  pace.note(other);  // a bar of something else
  EXPECT_EQ(pace.entries(), 21);
}

StepPace steady(double first_s, double step_s, int entries,
                std::optional<std::int64_t> total = {}) {
  StepPace pace;
  for (int i = 0; i < entries; ++i) pace.note(entry(first_s + i * step_s, i + 1, total));
  return pace;
}

TEST(WindowPlannerTest, AGpuGetsItsFirstWindowOnceStepsAreSteady) {
  const WindowPlanner planner({});
  EXPECT_FALSE(planner.due(100, StepPace(), true, 4.5).has_value());
  EXPECT_FALSE(planner.due(12, steady(10, 0.5, 5), true, 4.5).has_value());
  EXPECT_DOUBLE_EQ(*planner.due(15, steady(10, 0.5, 10), true, 4.5), 1.5);
  EXPECT_DOUBLE_EQ(*planner.due(30, steady(10, 10, 3), true, 4.5), 4);  // a long step, bounded
  EXPECT_DOUBLE_EQ(*planner.due(200, StepPace(), true, 4.5), 1.5);      // no steps in the log
}

TEST(WindowPlannerTest, ElsewhereItMustBeWorthIt) {
  const WindowPlanner planner({});
  const StepPace pace = steady(10, 0.1, 50);
  EXPECT_FALSE(planner.due(60, pace, false, 4.5).has_value());
  // 0.5 s traced costs 0.25 s, 7.5 MB to write 0.75 s, the exit 0.5 s: 0.5 % of 300 s
  EXPECT_FALSE(planner.due(299, pace, false, 4.5).has_value());
  EXPECT_DOUBLE_EQ(*planner.due(301, pace, false, 4.5), 0.5);
}

TEST(WindowPlannerTest, TheCostOfAllStaysBelowTheShare) {
  WindowPlanner planner({});
  const StepPace pace = steady(10, 0.1, 50);
  double t_s = 0;
  int asked = 0;
  for (; t_s < 40000; t_s += 1) {
    const auto length_s = planner.due(t_s, pace, true, 4.5);
    if (!length_s) continue;
    planner.note_asked(t_s);
    planner.note_done(*length_s, 40e6 * *length_s);
    EXPECT_LE(*length_s, 1.5);
    if (++asked > 1) {
      EXPECT_LE(planner.cost_s(), 0.005 * t_s);
    }
  }
  EXPECT_EQ(asked, 3);
  EXPECT_LE(planner.cost_s(), 0.005 * t_s);
  EXPECT_FALSE(planner.due(t_s, pace, true, 4.5).has_value());
}

TEST(WindowPlannerTest, SpreadOverTheRunAndSmallerWhereTracesAreLarge) {
  WindowLimits limits;
  limits.share = 1;
  WindowPlanner planner(limits);
  const StepPace pace = steady(10, 0.1, 50);
  ASSERT_TRUE(planner.due(20, pace, false, 4.5).has_value());
  planner.note_asked(20);
  planner.note_done(0.5, 32e6);
  EXPECT_FALSE(planner.due(79, pace, false, 4.5).has_value());
  EXPECT_DOUBLE_EQ(*planner.due(80, pace, false, 4.5), 0.5);
  planner.note_done(0.5, 320e6);
  EXPECT_DOUBLE_EQ(*planner.due(80, pace, false, 4.5), 0.2);
}

TEST(WindowPlannerTest, NotNearTheEnd) {
  const WindowPlanner planner({});
  EXPECT_TRUE(planner.due(20, steady(10, 0.5, 20, 100), true, 4.5).has_value());
  EXPECT_FALSE(planner.due(20, steady(10, 0.5, 20, 60), true, 4.5).has_value());
}

TEST(WindowPlannerTest, AWindowThatFailedComesAgainWithALongerLead) {
  WindowPlanner planner({});
  const StepPace pace = steady(10, 0.5, 20);
  EXPECT_DOUBLE_EQ(planner.lead_s(4.5), 4.5);
  for (const double t_s : {20.0, 40.0, 60.0}) {
    ASSERT_TRUE(planner.due(t_s, pace, true, 4.5).has_value());
    planner.note_asked(t_s);
    planner.note_failed(t_s + 5);
    EXPECT_FALSE(planner.due(t_s + 14, pace, true, 4.5).has_value());
  }
  EXPECT_DOUBLE_EQ(planner.lead_s(4.5), 18);
  EXPECT_FALSE(planner.due(1000, pace, true, 4.5).has_value());
  EXPECT_EQ(planner.cost_s(), 0);
}

TEST(WindowPlannerTest, TheUsersOwnNumbers) {
  WindowLimits limits;
  limits.count = 1;
  limits.first_s = 3;
  limits.length_s = 0.7;
  WindowPlanner planner(limits);
  const StepPace pace = steady(10, 1, 2);
  EXPECT_FALSE(planner.due(12.9, pace, false, 4.5).has_value());
  EXPECT_DOUBLE_EQ(*planner.due(13, pace, false, 4.5), 0.7);
  planner.note_asked(13);
  EXPECT_FALSE(planner.due(1000, pace, false, 4.5).has_value());
  limits.count = 3;
  limits.every_s = 20;
  limits.share = 1;
  WindowPlanner regular(limits);
  regular.note_asked(13);
  EXPECT_FALSE(regular.due(32, pace, false, 4.5).has_value());
  EXPECT_TRUE(regular.due(33, pace, false, 4.5).has_value());
}

}  // namespace
}  // namespace rigwise
