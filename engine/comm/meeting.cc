#include "engine/comm/meeting.h"

#include <c10/util/Logging.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <unistd.h>

#include <array>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <exception>

#include "base/files.h"
#include "base/text.h"
#include "engine/comm/sockets.h"

namespace rigwise::engine {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kBeat = 500ms;
constexpr auto kSilence = 3000ms;  // six beats missed: lost
constexpr auto kStoreLimit = 5000ms;
constexpr auto kStuck = 1500ms;  // an operation whose connections were ended and that does not end
constexpr const char* kStopped = "stopped";

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

/// The library's reason without its source file ("[/…/pair.cc:537] ") and its guesses.
std::string reason_of(std::string_view text) {
  text = trim(text.substr(0, text.find('\n')));
  if (text.starts_with('[') && text.find("] ") != std::string_view::npos) {
    text.remove_prefix(text.find("] ") + 2);
  }
  return clean_text(text.substr(0, text.find(". This is typically")), 200);
}

/// What the network said, of "The client socket has failed to connect to … (errno: 113 - No route
/// to host)".
std::string network_reason(std::string_view text) {
  if (text.find("timed out after") != std::string_view::npos) return "no answer in time";
  const std::size_t number = text.find("(errno: ");
  const std::size_t from = text.find(" - ", number), to = text.find(')', from);
  if (number == std::string_view::npos || to == std::string_view::npos) return reason_of(text);
  return clean_text(text.substr(from + 3, to - from - 3), 200);
}

/// libtorch writes a warning with a stack for each broken connection. We say what it means instead.
void quiet_libtorch() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") != nullptr) return;
  ::setenv("TORCH_CPP_LOG_LEVEL", "FATAL", 0);
  c10::initLogging();
}

/// "1", "1 and 3", "1, 2 and 3".
std::string listed(const std::vector<std::string>& names) {
  if (names.size() < 2) return names.empty() ? "" : names[0];
  const std::vector<std::string> head(names.begin(), names.end() - 1);
  return join(head, ", ") + " and " + names.back();
}

std::string link_text(const char* path) {
  std::array<char, PATH_MAX> text = {};
  const ssize_t length = ::readlink(path, text.data(), text.size() - 1);
  return length > 0 ? std::string(text.data(), static_cast<std::size_t>(length)) : "";
}

std::string small_file(const std::string& path) {
  auto text = read_file(path, 4096);
  return text ? std::string(trim(*text)) : "";
}

/// State and start of a process ("S", "12345"), from /proc; empty where there is none.
struct ProcessState {
  std::string state, started;
};

ProcessState process_state(int pid) {
  const std::string stat = small_file(fmt::format("/proc/{}/stat", pid));
  const std::size_t behind_name = stat.rfind(')');
  if (behind_name == std::string::npos) return {};
  const auto fields = split(std::string_view(stat).substr(behind_name + 2), ' ');
  if (fields.size() < 20) return {};
  return {std::string(fields[0]), std::string(fields[19])};
}

Member this_member(const RankPlace& place) {
  Member me;
  me.host = host_name();
  me.pid = ::getpid();
  me.started = process_state(me.pid).started;
  me.machine = small_file("/proc/sys/kernel/random/boot_id") + link_text("/proc/self/ns/net") +
               link_text("/proc/self/ns/pid");
  if (place.rank != 0) {
    if (auto address = address_towards(place.master_host)) me.address = *address;
  }
  return me;
}

std::string to_text(const Member& member, int size) {
  return nlohmann::json{
      {"size", size},      {"machine", member.machine}, {"host", member.host},
      {"pid", member.pid}, {"started", member.started}, {"address", member.address}}
      .dump();
}

/// Empty also where the store does not answer.
std::optional<std::string> read(c10d::Store& store, const std::string& key) {
  try {
    if (!store.check({key})) return {};
    return store.get_to_str(key);
  } catch (const std::exception&) {
    return {};
  }
}

/// Gone for sure: it ran on this machine and does not any more.
bool is_dead_here(const Member& member, const Member& me) {
  if (member.machine != me.machine) return false;
  const ProcessState now = process_state(member.pid);
  return now.state.empty() || now.state == "Z" || now.state == "X" || now.started != member.started;
}

Error failure_of(int rank, const std::string& message) {
  return Error{Errc::remote, fmt::format("rank {}: {}", rank, message),
               "look at that rank's own output and its host's kernel log, then start again"};
}

/// Ranks that ran on this machine, do not any more, and did not say that they left.
template <class HasLeft, class Who>
std::vector<std::string> lost_here(const std::vector<Member>& members, int self, HasLeft has_left,
                                   Who who) {
  std::vector<std::string> lost;
  for (int rank = 0; rank < static_cast<int>(members.size()); ++rank) {
    if (rank == self || !is_dead_here(members[static_cast<std::size_t>(rank)],
                                      members[static_cast<std::size_t>(self)]))
      continue;
    if (!has_left(rank)) lost.push_back(who(rank));
  }
  return lost;
}

}  // namespace

Result<std::shared_ptr<Meeting>> Meeting::join(const RankPlace& place, double timeout_s,
                                               std::function<void(const Error&)> on_stuck) {
  quiet_libtorch();
  // Gloo and the store write to sockets whose other end may be gone, and would end this rank before
  // it could say who was lost.
  std::signal(SIGPIPE, SIG_IGN);
  std::shared_ptr<Meeting> meeting(new Meeting(place, timeout_s, std::move(on_stuck)));
  RW_CHECK(meeting->open(place));
  RW_CHECK(meeting->introduce(place));
  RW_CHECK(meeting->gather());
  meeting->beating_ = std::thread([raw = meeting.get()] { raw->beat(); });
  return meeting;
}

Meeting::Meeting(const RankPlace& place, double timeout_s,
                 std::function<void(const Error&)> on_stuck)
    : rank_(place.rank), size_(place.size), timeout_s_(timeout_s), on_stuck_(std::move(on_stuck)) {
  members_.resize(static_cast<std::size_t>(size_));
}

Meeting::~Meeting() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stop_changed_.notify_all();
  if (beating_.joinable()) beating_.join();
  if (store_ == nullptr) return;
  try {
    if (!failed_ && introduced_) store_->set(fmt::format("left/{}", rank_), std::string(kStopped));
    if (holds_store_) {
      if (failed_) end_connections(port_);  // or those who wait for us would wait for our end
      let_others_leave(*store_);
    }
  } catch (const std::exception&) {  // the store is gone: nobody is left to hear it
  }
}

bool Meeting::one_machine() const {
  for (const Member& member : members_) {
    if (member.machine != members_[0].machine) return false;
  }
  return true;
}

Status Meeting::open(const RankPlace& place) {
  // An unknown name would be asked for until the timeout, and then read like a silent host.
  RW_CHECK(address_towards(place.master_host));
  c10d::TCPStoreOptions options;
  port_ = place.master_port;
  options.port = static_cast<std::uint16_t>(place.master_port);
  options.numWorkers = static_cast<std::size_t>(size_);
  options.waitWorkers = false;
  options.timeout = milliseconds(timeout_s_);
  holds_store_ = rank_ == 0 && !place.meeting_held;
  if (holds_store_) {
    // our own socket, so that a busy port is told from everything else
    int fd = 0;
    if (place.meeting_fd) {
      fd = *place.meeting_fd;
    } else {
      RW_TRY(fd, listen_on(place.master_host, place.master_port));
    }
    options.isServer = true;
    options.masterListenFd = fd;
  }
  try {
    auto store = c10::make_intrusive<c10d::TCPStore>(place.master_host, options);
    store_ = c10::make_intrusive<c10d::PrefixStore>("rigwise/" + place.meeting_prefix, store);
  } catch (const std::exception& error) {
    return Error{
        Errc::unavailable,
        fmt::format("rank {}: the meeting point {}:{} does not answer ({})", rank_,
                    clean_text(place.master_host, 80), place.master_port,
                    network_reason(error.what())),
        "is rank 0 running there, and does a firewall let the port through? MASTER_ADDR and "
        "MASTER_PORT must be the same on every host"};
  }
  return Ok{};
}

Status Meeting::introduce(const RankPlace& place) {
  const std::string key = fmt::format("rank/{}", rank_);
  const std::string me = to_text(this_member(place), size_);
  try {
    const std::string there = store_->compareSet(key, std::string(), me);
    introduced_ = there == me;
    if (introduced_) return Ok{};
    return Error{Errc::conflict,
                 fmt::format("rank {} is taken at {}:{}: another run meets there", rank_,
                             clean_text(place.master_host, 80), place.master_port),
                 "choose another MASTER_PORT for one of them"};
  } catch (const std::exception& error) {
    return Error{Errc::unavailable, "the meeting point was lost: " + reason_of(error.what())};
  }
}

Status Meeting::gather() {
  const auto deadline = Clock::now() + milliseconds(timeout_s_);
  for (int other = 0; other < size_; ++other) {
    const std::string key = fmt::format("rank/{}", other);
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    std::string text;
    try {
      store_->wait({key}, std::max(left, 1ms));
      text = store_->get_to_str(key);
    } catch (const std::exception&) {
      std::vector<std::string> missing;
      for (int rank = 0; rank < size_; ++rank) {
        if (!read(*store_, fmt::format("rank/{}", rank))) missing.push_back(std::to_string(rank));
      }
      return Error{
          Errc::unavailable,
          fmt::format("{} {} of {} did not come within {:g} s",
                      missing.size() == 1 ? "rank" : "ranks", listed(missing), size_, timeout_s_),
          "look at their own output; --timeout SECONDS waits longer"};
    }
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object() || !json.contains("size") || !json["size"].is_number_integer()) {
      return Error{
          Errc::conflict,
          fmt::format("rank {} speaks another language: '{}'", other, clean_text(text, 80)),
          "every rank must be the same version of rigwise-engine"};
    }
    if (json["size"].get<int>() != size_) {
      return Error{Errc::conflict,
                   fmt::format("rank {} was started as one of {}, rank {} as one of {}", other,
                               json["size"].get<int>(), rank_, size_),
                   "WORLD_SIZE must be the same on every host"};
    }
    Member& member = members_[static_cast<std::size_t>(other)];
    member.machine = json.value("machine", "");
    member.host = clean_text(json.value("host", ""), 255);
    member.pid = json.value("pid", 0);
    member.started = json.value("started", "");
    member.address = json.value("address", "");
  }
  return Ok{};
}

void Meeting::begin(const char* name) {
  if (someone_is_lost_) fail(name, "noticed before it began");
  operation_name_.store(name, std::memory_order_relaxed);
  operation_.fetch_add(1, std::memory_order_relaxed);
}

void Meeting::beat() {
  c10::intrusive_ptr<c10d::Store> store;
  const std::string key = fmt::format("beat/{}", rank_);
  std::int64_t count = 0;
  try {
    store = store_->clone();  // a connection of its own: the other may be waiting
    store->setTimeout(kStoreLimit);
  } catch (const std::exception&) {
    return;
  }
  bool answers = true;
  std::unique_lock lock(mutex_);
  while (!stop_) {
    lock.unlock();
    try {
      if (answers) {
        store->set(key,
                   fmt::format("{} {} {}", ++count, operation_.load(), operation_name_.load()));
        look_after_others(*store);
      }
    } catch (const std::exception&) {
      answers = false;  // it went down with who held it, which may still be on its way out
    }
    if (!answers) {
      if (!one_machine()) return;  // the next operation will fail and say so
      const Member& me = members_[static_cast<std::size_t>(rank_)];
      if (is_dead_here(members_[0], me)) note_loss();
    }
    end_if_stuck(*store);
    lock.lock();
    stop_changed_.wait_for(lock, kBeat, [this] { return stop_; });
  }
}

/// Some ranks have nothing to do with the lost one for a long while (a pipeline's other end):
/// what they wait for fails too. Only where there is no doubt: a run must not end because
/// a host was busy for some seconds.
void Meeting::look_after_others(c10d::Store& store) {
  const Member& me = members_[static_cast<std::size_t>(rank_)];
  const auto now = Clock::now();
  heard_.resize(members_.size(), {"", now});
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    const Member& member = members_[static_cast<std::size_t>(rank)];
    auto& [beat, when] = heard_[static_cast<std::size_t>(rank)];
    bool gone = is_dead_here(member, me);
    if (member.machine != me.machine) {
      std::string latest = read(store, fmt::format("beat/{}", rank)).value_or("");
      if (latest != beat) {
        beat = std::move(latest);
        when = now;
      }
      gone = now - when > std::max<Clock::duration>(milliseconds(timeout_s_), kSilence);
    }
    if (gone && !store.check({fmt::format("left/{}", rank)})) note_loss();
  }
}

/// Someone is lost for sure: the next operation fails, and so does the one that is waiting now, at
/// once. It may wait for a rank that lives, waits itself, and would tell by its own end only.
void Meeting::note_loss() {
  if (someone_is_lost_.exchange(true)) return;
  lost_since_ = Clock::now();
  end_connections(port_);
}

/// Gloo does not always hear that a connection was ended, and waits on.
void Meeting::end_if_stuck(c10d::Store& store) {
  if (!on_stuck_ || !someone_is_lost_ || failed_ || waits_ == 0) return;
  if (Clock::now() - lost_since_ < kStuck) return;
  const std::lock_guard telling(telling_);
  if (failed_) return;
  const std::string message = tell(store, operation_name_.load(), "it did not end");
  if (holds_store_) let_others_leave(store);
  on_stuck_(failure_of(rank_, message));
}

/// Looks for a rank that is dead on this machine, or does not beat for kSilence, or has left.
std::string Meeting::diagnose(c10d::Store& store, const char* name, std::string_view reason) {
  const auto who = [this](int rank) {
    const Member& member = members_[static_cast<std::size_t>(rank)];
    return fmt::format("rank {} on {} (pid {})", rank, member.host, member.pid);
  };
  const Member& me = members_[static_cast<std::size_t>(rank_)];
  const std::string during = fmt::format("during {} ({})", name, reason_of(reason));

  store.setTimeout(kStoreLimit);
  // What the kernel knows comes first: each question to the store waits for a turn of rank 0's
  // process, and of a busy host's cores there are many that want one.
  const auto has_left = [&store](int rank) {
    return read(store, fmt::format("left/{}", rank)).has_value();
  };
  std::vector<std::string> lost = lost_here(members_, rank_, has_left, who);
  std::vector<std::string> beats_at_first(members_.size());
  for (int rank = 0; rank < size_ && lost.empty(); ++rank) {
    beats_at_first[static_cast<std::size_t>(rank)] =
        read(store, fmt::format("beat/{}", rank)).value_or("");
  }
  std::vector<bool> beats(members_.size(), false);
  const auto deadline = Clock::now() + kSilence;
  while (lost.empty() && Clock::now() < deadline) {
    std::this_thread::sleep_for(100ms);
    lost = lost_here(members_, rank_, has_left, who);
    bool all_beat = true;
    for (int rank = 0; rank < size_ && lost.empty(); ++rank) {
      const auto at = static_cast<std::size_t>(rank);
      if (rank == rank_ || has_left(rank)) continue;
      beats[at] =
          beats[at] || read(store, fmt::format("beat/{}", rank)).value_or("") != beats_at_first[at];
      all_beat = all_beat && beats[at];
    }
    if (all_beat) break;
  }
  if (lost.empty()) {
    for (int rank = 0; rank < size_; ++rank) {
      const auto at = static_cast<std::size_t>(rank);
      // one that lives on this machine is not lost, however long it gets no time to beat
      if (rank == rank_ || beats[at] || members_[at].machine == me.machine) continue;
      if (!read(store, fmt::format("left/{}", rank))) lost.push_back(who(rank));
    }
    try {
      store.check({"rank/0"});
    } catch (const std::exception&) {  // nothing can be asked: it went down with who held it
      return holds_store_
                 ? "the meeting point was lost " + during
                 : who(0) + " is lost, or the launcher that held the meeting point, " + during;
    }
  }
  if (!lost.empty()) {
    return fmt::format("{} {} lost {}", listed(lost), lost.size() == 1 ? "is" : "are", during);
  }

  for (int rank = 0; rank < size_; ++rank) {
    const auto why = read(store, fmt::format("left/{}", rank));
    if (!why || rank == rank_) continue;
    return *why == kStopped ? who(rank) + " stopped while the others went on, " + during
                            : *why;  // it knew who was lost
  }
  std::vector<std::string> behind;
  for (int rank = 0; rank < size_; ++rank) {
    const auto beat = read(store, fmt::format("beat/{}", rank));
    if (!beat || rank == rank_) continue;
    const auto words = split(*beat, ' ');
    const auto operation = words.size() > 2 ? to_integer(words[1]) : std::nullopt;
    if (operation && *operation < operation_.load()) {
      behind.push_back(fmt::format("{} is at operation {} ({})", who(rank), *operation,
                                   clean_text(words[2], 40)));
    }
  }
  return fmt::format("operation {}, {}, failed ({}){}{}", operation_.load(), name,
                     reason_of(reason), behind.empty() ? "" : ": ", rigwise::join(behind, "; "));
}

/// Finds out who is lost, and lets the others know that this rank has left, and why.
std::string Meeting::tell(c10d::Store& store, const char* name, std::string_view reason) {
  std::string message;
  try {
    message = diagnose(store, name, reason);
  } catch (const std::exception& error) {
    message = fmt::format("{} failed ({}), and the meeting point is lost ({})", name,
                          reason_of(reason), reason_of(error.what()));
  }
  failed_ = true;
  try {
    store.set(fmt::format("left/{}", rank_), message);
  } catch (const std::exception&) {
  }
  return message;
}

void Meeting::fail(const char* name, std::string_view reason) {
  const std::lock_guard telling(telling_);
  throw CommFailure(failure_of(rank_, tell(*store_, name, reason)));
}

/// The store dies with this process: whoever is still finding out what happened needs it.
void Meeting::let_others_leave(c10d::Store& store) {
  store.setTimeout(kStoreLimit);
  const Member& me = members_[0];
  const auto deadline = Clock::now() + std::min<Clock::duration>(milliseconds(timeout_s_), 15s);
  std::vector<std::string> last(members_.size());
  std::vector<Clock::time_point> changed(members_.size(), Clock::now());
  while (Clock::now() < deadline) {
    bool waiting = false;
    for (int rank = 1; rank < size_; ++rank) {
      const auto at = static_cast<std::size_t>(rank);
      if (!read(store, fmt::format("rank/{}", rank)) || read(store, fmt::format("left/{}", rank)))
        continue;
      if (!members_[at].host.empty() && is_dead_here(members_[at], me)) continue;
      const std::string beat = read(store, fmt::format("beat/{}", rank)).value_or("");
      if (beat != last[at]) {
        last[at] = beat;
        changed[at] = Clock::now();
      }
      waiting = waiting || Clock::now() - changed[at] < kSilence;
    }
    if (!waiting) return;
    std::this_thread::sleep_for(20ms);
  }
}

}  // namespace rigwise::engine
