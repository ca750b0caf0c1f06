#include "triage/clues.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstring>

#include "base/text.h"
#include "triage/endings.h"

namespace rigwise::triage_parts {

namespace {

constexpr std::size_t kMostClues = 20000;
constexpr std::size_t kMostFrames = 8 << 10;  // bytes of a traceback's frames that are kept
constexpr std::size_t kMostText = 2000;
constexpr std::size_t kMostHosts = 1000, kMostRanks = 65536, kMostSections = 10000;
constexpr std::size_t kMostEnded = 10000, kMostForms = 1000;
// first lines of ranks that are kept, to know who named what
constexpr std::size_t kMostSpoken = 2000;
constexpr int kMostTasks = 1024, kMostAlike = 64, kMostMessageLines = 12;

struct Figures {
  bool seen = false, finite = true;
};

/// Figures of a training: "loss 0.61", "'loss': 0.61", "loss=nan". A gradient that is no number
/// counts beside a loss of 0: that is how a loss that is none is logged by some trainers.
Figures figures_of(std::string_view line) {
  Figures out;
  bool zero = false;
  for (std::size_t at = line.find("oss"); at != std::string_view::npos;
       at = line.find("oss", at + 3)) {
    if (at == 0 || (line[at - 1] | 0x20) != 'l') continue;  // torchtune writes "Loss: 0.61"
    std::size_t value = at + 3;
    while (value < line.size() &&
           std::string_view("'\": =").find(line[value]) != std::string_view::npos)
      ++value;
    if (value == at + 3 || value >= line.size()) continue;
    const std::string small = lower(line.substr(value, 4));
    const bool nan =
        small.starts_with("nan") || small.starts_with("inf") || small.starts_with("-inf");
    const std::size_t first = value + (line[value] == '-' ? 1 : 0);
    if (!nan && (first >= line.size() || !is_digit(line[first]))) continue;
    out.seen = true;
    out.finite = out.finite && !nan;
    zero = zero || small.starts_with("0.0,") || small.starts_with("0.0}");
  }
  if (zero && lower(line).find("'grad_norm': nan") != std::string::npos) out.finite = false;
  return out;
}

/// "SeqNum=3104", "last enqueued NCCL work: 3104": the number behind `name` and what parts it off.
std::optional<std::int64_t> work_after(std::string_view text, std::string_view name) {
  std::size_t at = text.find(name);
  if (at == std::string_view::npos) return {};
  at = text.find_first_of("0123456789-", at + name.size());
  if (at == std::string_view::npos || text[at] == '-') return {};  // -1: none yet
  std::size_t end = at;
  while (end < text.size() && end - at < 18 && is_digit(text[end])) ++end;
  return to_integer(text.substr(at, end - at));
}

std::optional<std::int64_t> hex_at(std::string_view text, std::size_t& at) {
  constexpr std::size_t kLongest = 12;
  if (at > text.size()) return {};
  const std::string_view digits = text.substr(at, kLongest);
  std::uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc()) return {};
  at += static_cast<std::size_t>(end - digits.data());
  return static_cast<std::int64_t>(value);
}

/// NCCL's "busId 3b000" is domain, bus, device and function; the driver's "PCI:0000:3b:00" the same
/// without the function (NVIDIA Xid Errors: "PCI:domain:bus:device").
std::optional<BusAddress> bus_of(std::string_view text) {
  constexpr std::string_view kNccl = "busId ", kDriver = "PCI:";
  std::size_t at = text.find(kNccl);
  if (at != std::string_view::npos) {
    const auto value = hex_at(text, at += kNccl.size());
    return value ? std::optional(*value >> 4) : std::nullopt;
  }
  at = text.find(kDriver);
  if (at == std::string_view::npos) return {};
  at += kDriver.size();
  BusAddress bus = 0;
  for (const int bits : {0, 8, 8}) {
    const auto part = hex_at(text, at);
    if (!part || *part >= (bits == 0 ? 1 << 16 : 1 << bits)) return {};
    bus = (bus << bits) | *part;
    ++at;  // ':'
  }
  return bus;
}

/// "train.py:280: UserWarning: …", "| WARNING |", "[W1112 05:10:43.71 TCPStore.cpp:125]", "[W
/// socket.cpp:697]". NCCL's WARN is its word for errors.
bool is_warning(std::string_view line) {
  const std::size_t glog = line.find("[W");
  if (glog != std::string_view::npos && glog + 2 < line.size() &&
      (is_digit(line[glog + 2]) || line[glog + 2] == ' '))
    return true;
  return line.find("Warning: ") != std::string_view::npos ||
         line.find("WARNING") != std::string_view::npos;
}

/// All that is asked of a set is whether it has one member: no more than two are kept.
void insert_of_two(std::set<int>& set, int member) {
  if (set.size() < 2) set.insert(member);
}

/// Frames of what only reports of a training to somebody.
bool is_telemetry(std::string_view frames) {
  constexpr std::array<std::string_view, 5> kPlaces = {"/wandb/", "/mlflow/", "/comet_ml/",
                                                       "/neptune/", "/tensorboard/"};
  return std::any_of(kPlaces.begin(), kPlaces.end(), [&](std::string_view place) {
    return frames.find(place) != std::string_view::npos;
  });
}

}  // namespace

std::optional<int> number_after(std::string_view text, std::string_view name) {
  std::size_t at = text.find(name);
  if (at == std::string_view::npos) return {};
  at += name.size();
  while (at < text.size() && (text[at] == ' ' || text[at] == ':' || text[at] == '=')) ++at;
  std::size_t end = at;
  if (end < text.size() && text[end] == '-') ++end;
  while (end < text.size() && is_digit(text[end]) && end - at < 10) ++end;
  const auto value = to_integer(text.substr(at, end - at));
  if (!value) return {};
  return static_cast<int>(*value);
}

std::string likeness(std::string_view message) {
  std::string out;
  for (const char c : message) {
    if (!is_digit(c)) out += c;
  }
  return out;
}

void Seeing::take(LogLine line) {
  const std::string_view bare = trim(line.message);
  if (bare.empty()) return;  // "[0]:" of a launcher's table is nobody's word
  line.rank = rank_of(line);
  place(line);
  Stream& stream = streams_[line.rank.value_or(-1)];
  const auto match = match_of(line, stream.frames);
  const Role role = match ? match->signature->role : Role::advice;
  const bool of_launcher = role == Role::teardown || role == Role::ending || role == Role::lost;
  if (table_.open || actor_died_ || of_launcher || bare.starts_with("srun: "))
    read_launcher(bare, line.place);
  if (!line.evidence) {
    seen_.last_lines[line.place.log] = line.place.line;
    if (!seen_.began_unix_s) seen_.began_unix_s = line.unix_s;
  }
  if (match && (match->self || match->rank) && role == Role::advice)
    read_introduction(line, *match, stream);
  if (match && match->signature->layer == FailureLayer::collective_timeout) {
    read_collective(line, match->self);
    timed_out_ = true;
  }
  if (!stream.in_traceback && (!match || role == Role::progress || role == Role::advice))
    hear_out(line, role == Role::progress);
  if (read_traceback(bare, role == Role::frames, stream)) return;
  if (!line.evidence && role == Role::progress) read_progress(line);
  if (!line.evidence && role == Role::preparing) {
    const auto first = first_rank_.find({line.place.log, std::string(line.host)});
    seen_.preparing = line.rank.value_or(first == first_rank_.end() ? 0 : first->second);
  }
  // a traceback quotes the source: what stands there was not said
  const bool at_start = !line.message.starts_with(' ') && !line.message.starts_with('\t');
  if (stream.in_traceback && !at_start && !table_.open) return;
  const bool alive = role == Role::progress || role == Role::preparing;
  const bool counts = alive && std::any_of(bare.begin(), bare.end(), is_digit);
  const bool due = at_start && stream.in_traceback && !counts;
  const std::string_view name = exception_name(bare, due);
  const bool exception = !name.empty() && (at_start || stream.in_traceback || table_.open);
  const bool telling = match && !alive && !(exception && role == Role::complaint);
  if (exception && (stream.ignored || (stream.of_thread && is_telemetry(stream.frames)))) {
    stream = Stream{};
    return;
  }
  if (!exception && goes_on(line, stream, match)) return;
  if (!exception && (!telling || role == Role::advice)) return;
  add(line, stream, telling ? match : std::nullopt, exception ? name : std::string_view());
  if (!exception) return;
  stream = Stream{};
  if (!telling && !seen_.clues.empty() && seen_.clues.back().place.line == line.place.line)
    stream.open = seen_.clues.size() - 1;
}

/// A line in which a rank says who it is, or a launcher which process is which rank.
void Seeing::read_introduction(const LogLine& line, const Signatures::Match& match,
                               Stream& stream) {
  if (match.rank) {  // one of several that introduce themselves
    if (first_rank_.size() >= kMostSections) return;
    const auto [first, fresh] =
        first_rank_.try_emplace({line.place.log, std::string(line.host)}, *match.rank);
    first->second = std::min(first->second, *match.rank);
    return;
  }
  const int self = *match.self;
  if (match.pid) {
    // a local rank, and a process of one host: of the first host they say which rank it is
    if (seen_.rank_of_pid.size() < kMostEnded && seen_.hosts.size() <= 1)
      seen_.rank_of_pid[*match.pid] = self;
  } else if (line.nccl_pid) {
    if (rank_of_nccl_.size() < kMostRanks)
      rank_of_nccl_[{std::string(line.host), *line.nccl_pid}] = self;
    const auto bus = bus_of(line.message);
    if (bus && seen_.ranks_of_bus.size() < kMostRanks)
      insert_of_two(seen_.ranks_of_bus[*bus], self);
  } else {  // the next traceback is its own
    stream.speaker = self;
  }
}

/// What a watchdog says of its rank's collectives.
void Seeing::read_collective(const LogLine& line, std::optional<int> self) {
  const std::size_t group = line.message.find("[PG ID ");
  if (group != std::string_view::npos && !line.message.substr(group + 7).starts_with("0 "))
    seen_.several_groups = true;  // each counts for itself
  if (!self) self = line.rank ? line.rank : number_after(line.message, "Rank");
  if (!self || (!seen_.collectives.contains(*self) && seen_.collectives.size() >= kMostRanks))
    return;
  Collective& own = seen_.collectives[*self];
  if (!own.enqueued) {
    // "last enqueued work: 5" and "Last enqueued NCCL work: 5"
    own.enqueued = work_after(line.message, "ast enqueued ");
  }
  const std::size_t form = line.message.find("WorkNCCL(");
  if (form == std::string_view::npos || own.timed_out) return;
  own.timed_out = work_after(line.message, "SeqNum=");
  const std::size_t begin = line.message.find("OpType=", form);
  const std::size_t end = line.message.find(", Timeout", form);
  if (begin < end && end != std::string_view::npos)
    own.form = clean_text(line.message.substr(begin, end - begin), 200);
}

/// The message of an exception that no row knows may go on for some lines, and a row may know one
/// of those.
bool Seeing::goes_on(const LogLine& line, Stream& stream,
                     const std::optional<Signatures::Match>& match) {
  if (!stream.open) return false;
  Clue& exception = seen_.clues[*stream.open];
  if (++stream.open_lines > kMostMessageLines) {
    stream.open.reset();
    return false;
  }
  const Role role = match ? match->signature->role : Role::advice;
  if (role != Role::root && role != Role::raised && role != Role::symptom) return false;
  Clue clue = clue_of(line);
  clue.exception = true;
  clue.chained = exception.chained;
  if (!clue.rank) clue.rank = exception.rank;
  clue.signature = match->signature;
  clue.role = role, clue.layer = match->signature->layer;
  clue.about = match->rank, clue.pid = match->pid;
  exception.role = Role::advice;
  stream.open.reset();
  push(std::move(clue));
  return true;
}

/// Tabs are as good as blanks: "ACSCtl:\tSrcValid+".
std::optional<Signatures::Match> Seeing::match_of(const LogLine& line, std::string_view frames) {
  if (line.hits) return signatures_.match(line.message, frames, *line.hits);
  if (!line.has_tabs) return signatures_.match(line.message, frames);
  blanks_ = line.message;
  std::replace(blanks_.begin(), blanks_.end(), '\t', ' ');
  return signatures_.match(blanks_, frames);
}

Seen Seeing::finish() {
  constexpr int kSome = 2;
  if (last_times_ >= kSome) seen_.talking = last_rank_;
  for (Clue& clue : seen_.clues) {
    if (clue.exception && !clue.rank) clue.named_by = who_named(clue.message);
  }
  for (const auto& [rank, clue] : first_nan_) seen_.ended_as_nan.insert(rank);
  if (by_member_ && has_master_) {
    for (Clue& clue : seen_.clues) {
      if (clue.rank && clue.host.find("master-0") == std::string::npos) ++*clue.rank;
    }
    seen_.ranks.insert(seen_.ranks.empty() ? 0 : *seen_.ranks.rbegin() + 1);
  }
  return std::move(seen_);
}

/// The rank of the line's own tag. Where no line has one, the number of its pod: all that was heard
/// of pods is forgotten when the first rank speaks.
std::optional<int> Seeing::rank_of(const LogLine& line) {
  if (line.rank && !line.evidence) {
    if (by_member_) {
      seen_.ranks.clear(), seen_.speakers.clear(), seen_.progress.clear();
      seen_.speakers_of_host.clear();
      spoken_.clear(), streams_.clear(), first_nan_.clear();
      for (Clue& clue : seen_.clues) clue.rank.reset();
    }
    tagged_ = true, by_member_ = false;
  }
  if (!line.rank && line.actor_pid) {
    const auto known = seen_.rank_of_pid.find(*line.actor_pid);
    if (known != seen_.rank_of_pid.end()) return known->second;
  }
  if (line.rank || tagged_ || !line.member || line.evidence) return line.rank;
  by_member_ = true;
  has_master_ = has_master_ || line.host.find("master-0") != std::string_view::npos;
  return line.member;
}

/// Whose line it is, and where.
void Seeing::place(const LogLine& line) {
  if (line.place.log != last_.log || line.place.section != last_.section) {
    streams_.clear();
    table_ = {};
    actor_died_ = false;
  }
  last_ = line.place;
  if (line.rank && !line.evidence) hear(line);
  if (!line.host.empty() && line.host != last_host_ && seen_.hosts.size() < kMostHosts) {
    last_host_ = line.host;
    seen_.hosts.insert(last_host_);
  }
}

void Seeing::hear(const LogLine& line) {
  if (seen_.ranks.size() < kMostRanks) seen_.ranks.insert(*line.rank);
  const std::pair section(line.place.log, line.place.section);
  if (seen_.speakers.size() < kMostSections) seen_.speakers[section].insert(*line.rank);
  if (!line.host.empty() && seen_.speakers_of_host.size() < kMostHosts)
    insert_of_two(seen_.speakers_of_host[std::string(line.host)], *line.rank);
  if (spoken_.size() < kMostSpoken) spoken_.emplace_back(*line.rank, clean_text(line.message, 400));
}

/// Who speaks while the others wait? Not for whom a logger speaks: of its steps anyone could.
void Seeing::hear_out(const LogLine& line, bool of_step) {
  if (timed_out_ || !line.rank || line.evidence) return;
  if (line.rank != last_rank_) last_times_ = 0;
  last_rank_ = line.rank;
  last_times_ = of_step ? 0 : last_times_ + 1;
}

/// The one rank that spoke of what the message quotes ('runs/step-400/rank_01.pt') before.
std::optional<int> Seeing::who_named(std::string_view message) const {
  const std::size_t open = message.find('\'');
  const std::size_t close = open == std::string_view::npos ? open : message.find('\'', open + 1);
  if (close == std::string_view::npos || close - open < 6) return {};
  const std::string_view quoted = message.substr(open + 1, close - open - 1);
  std::optional<int> found;
  for (const auto& [rank, text] : spoken_) {
    if (text.find(quoted) == std::string::npos) continue;
    if (found && *found != rank) return {};
    found = rank;
  }
  return found;
}

void Seeing::add_ended(const Ended& ended) {
  if (ended.pid && ended.rank && seen_.rank_of_pid.size() < kMostEnded)
    seen_.rank_of_pid[*ended.pid] = *ended.rank;
  const auto same = [&](const Ended& other) { return ended.pid && other.pid == ended.pid; };
  const auto known = std::find_if(seen_.ended.begin(), seen_.ended.end(), same);
  if (known != seen_.ended.end()) {  // the table knows better than the line above it
    *known = ended;
  } else if (seen_.ended.size() < kMostEnded) {
    seen_.ended.push_back(ended);
  }
}

/// torchelastic's closing table.
void Seeing::read_table(std::string_view bare, const Place& place) {
  if (bare.find("(first observed failure)") != std::string_view::npos || bare == "Failures:") {
    table_ = {true, {}, {}};
    seen_.failed = true;
  }
  if (!table_.open) return;
  constexpr std::size_t kRule = 20;  // "====…" ends it
  if (bare.size() >= kRule && bare.find_first_not_of(bare[0]) == std::string_view::npos &&
      (bare[0] == '=' || bare[0] == '*')) {
    table_ = {};
    return;
  }
  if (bare.starts_with("rank ")) {
    table_.rank = number_after(bare, "rank");
  } else if (bare.starts_with("exitcode ")) {
    const auto code = number_after(bare, "exitcode");
    if (code) add_ended({place, table_.rank, number_after(bare, "(pid"), *code, true});
  }
}

/// What launchers say of the processes that ended.
void Seeing::read_launcher(std::string_view bare, const Place& place) {
  read_table(bare, place);
  if (actor_died_ && bare.starts_with("pid: ")) {
    actor_died_ = false;
    const auto pid = number_after(bare, "pid");
    const auto known = seen_.rank_of_pid.find(pid.value_or(0));
    if (known != seen_.rank_of_pid.end()) add_ended({place, known->second, pid, 1, true});
  } else if (bare.find("Global rank ") != std::string_view::npos) {  // Composer
    const auto code = ending_in(bare);
    if (code)
      add_ended({place, number_after(bare, "rank"), number_after(bare, "(PID"), *code, true});
  } else if (bare.find("ActorDiedError") != std::string_view::npos) {
    actor_died_ = true;
  } else if (bare.find("failed (exitcode: ") != std::string_view::npos) {
    const auto code = number_after(bare, "(exitcode");
    if (code) {
      add_ended(
          {place, number_after(bare, "local_rank"), number_after(bare, "(pid"), *code, false});
    }
  } else if (bare.find("closing signal SIG") != std::string_view::npos) {
    if (seen_.closing.size() < kMostSections) seen_.closing.insert({place.log, place.section});
  } else if (bare.starts_with("srun: error: ")) {
    // "srun: error: host-a: task 0: Exited with exit code 1", "…: tasks 0-3: Killed"
    const bool one = bare.find(": task ") != std::string_view::npos;
    const auto first = number_after(bare, one ? ": task" : ": tasks");
    if (!first || *first < 0 || *first > kMostTasks) return;
    int last = *first;
    if (!one) {  // "tasks 1,3": more than one is all that counts
      const std::size_t dash = bare.find_first_of("-,", bare.find(": tasks"));
      const auto end = number_after(bare.substr(dash == std::string_view::npos ? 0 : dash), "-");
      last = std::clamp(end ? *end : *first + 1, *first, *first + kMostTasks);
    }
    const int code = ending_in(bare).value_or(1);
    for (int task = *first; task <= last; ++task) add_ended({place, task, {}, code, true});
  } else if (bare.find("noticed that process rank ") != std::string_view::npos) {
    add_ended({place, number_after(bare, "process rank"), {}, ending_in(bare).value_or(1), true});
  } else if (bare.starts_with("Process name: [[")) {  // Open MPI: "[[23129,1],2]"
    table_.rank = number_after(bare, "],");
  } else if (bare.starts_with("Exit code: ") && table_.rank) {
    add_ended({place, table_.rank, {}, ending_in(bare).value_or(1), true});
    table_.rank.reset();
  }
}

/// Lines that are a traceback's own; true where nothing else is to be looked for.
bool Seeing::read_traceback(std::string_view bare, bool head, Stream& stream) {
  if (head) {
    const bool chained = stream.chained;
    const auto speaker = stream.speaker;
    const bool ignored = stream.ignored, of_thread = stream.of_thread;
    stream = {};
    stream.chained = chained, stream.speaker = speaker, stream.ignored = ignored;
    stream.of_thread = of_thread;
    stream.in_traceback = true;
    return true;
  }
  if (bare.starts_with("During handling of the above exception") ||
      bare.starts_with("The above exception was the direct cause")) {
    stream.chained = true;
    return true;
  }
  if (bare.starts_with("Exception ignored in") || bare == "--- Logging error ---") {
    stream = {};
    stream.ignored = true;
    return true;
  }
  if (bare.starts_with("Exception in thread ")) {
    stream = {};
    stream.of_thread = true;
    return true;
  }
  if (bare.starts_with("File \"")) {
    stream.in_traceback = true;
    if (stream.frames.size() > kMostFrames) stream.frames.erase(0, stream.frames.size() / 2);
    stream.frames += bare.substr(0, 500);
    stream.frames += '\n';
    return true;
  }
  return bare.find_first_not_of("^~ ") == std::string_view::npos;
}

void Seeing::read_progress(const LogLine& line) {
  if (is_drawn_again(line)) return;
  const Figures figures = figures_of(line.message);
  if (figures.seen) note_figures(line, figures.finite);
  if (figures.seen ? !figures.finite : !advances(line)) return;
  Alive& alive = seen_.progress[line.rank.value_or(-1)];
  alive.before = {alive.place, alive.before[0]};
  alive.place = line.place, alive.unix_s = line.unix_s;
  ++alive.times;
}

/// A bar is drawn once more when the program dies, and shows figures that are no news; before its
/// first step it shows averages of nothing.
bool Seeing::is_drawn_again(const LogLine& line) {
  const void* bar = ::memrchr(line.message.data(), '|', line.message.size());
  if (bar == nullptr) return false;
  auto at = static_cast<std::size_t>(static_cast<const char*>(bar) - line.message.data()) + 1;
  while (at < line.message.size() && line.message[at] == ' ') ++at;
  std::size_t end = at;
  while (end < line.message.size() && end - at < 12 && is_digit(line.message[end])) ++end;
  if (end == at || end >= line.message.size() || line.message[end] != '/') return false;
  const std::int64_t done = *to_integer(line.message.substr(at, end - at));
  std::size_t of = end + 1;
  while (of < line.message.size() && is_digit(line.message[of])) ++of;
  const std::string title = likeness(line.message.substr(0, line.message.find('%')));
  const std::size_t form =
      std::hash<std::string>()(title + std::string(line.message.substr(end, of - end)) + "#" +
                               std::to_string(line.rank.value_or(-1)));
  const auto known = forms_.find(form);
  if (known == forms_.end()) {
    if (forms_.size() < kMostForms) forms_[form] = done;
    return done == 0;
  }
  const bool again = done == known->second;
  known->second = done;
  return again;
}

/// "step 20" behind "step 10": a line of a form that was seen with a smaller number. A bar is none:
/// it is drawn once more when the program dies.
bool Seeing::advances(const LogLine& line) {
  const std::string_view message = line.message.substr(0, 200);
  if (message.find("%|") != std::string_view::npos) return false;
  std::string small = lower(message);
  std::size_t at = std::string::npos;
  for (const std::string_view word : {"step", "iter", "epoch", "batch"})
    at = std::min(at, small.find(word));
  if (at == std::string::npos) return false;
  at = small.find_first_of("0123456789", at);
  if (at == std::string::npos) return false;
  std::size_t end = at;
  while (end < small.size() && end - at < 12 && is_digit(small[end])) ++end;
  const std::int64_t number = *to_integer(std::string_view(small).substr(at, end - at));
  const std::size_t form =
      std::hash<std::string>()(likeness(small)) ^ static_cast<std::size_t>(line.rank.value_or(-1));
  const auto known = forms_.find(form);
  if (known == forms_.end()) {
    if (forms_.size() < kMostForms) forms_[form] = number;
    return false;
  }
  const bool more = number > known->second;
  known->second = number;
  return more;
}

Clue Seeing::clue_of(const LogLine& line) const {
  Clue clue;
  clue.place = line.place;
  clue.text = clean_text(line.shown, kMostText);
  clue.message = clean_text(trim(line.message), kMostText);
  clue.rank = line.rank;
  clue.nccl_device = line.nccl_device;
  clue.host = clean_text(line.host, 255);
  clue.unix_s = line.unix_s;
  clue.evidence = line.evidence;
  clue.warning = is_warning(line.shown);
  clue.of_table = table_.open;
  if (table_.open && !line.rank) clue.rank = table_.rank;
  if (line.nccl_pid && !clue.rank) {
    const auto known = rank_of_nccl_.find({clue.host, *line.nccl_pid});
    if (known != rank_of_nccl_.end()) clue.rank = known->second;
  }
  return clue;
}

/// The first of the figures that are no numbers; forgotten when a number follows.
void Seeing::note_figures(const LogLine& line, bool finite) {
  const int rank = line.rank.value_or(-1);
  const auto open = first_nan_.find(rank);
  if (finite) {
    if (open == first_nan_.end()) return;
    seen_.clues[open->second].role = Role::advice;
    first_nan_.erase(open);
    return;
  }
  if (open != first_nan_.end() || seen_.clues.size() >= kMostClues) return;
  Clue clue = clue_of(line);
  clue.role = Role::root;
  clue.layer = FailureLayer::numerics;
  clue.figure = true;
  first_nan_[rank] = seen_.clues.size();
  push(std::move(clue));
}

void Seeing::add(const LogLine& line, const Stream& stream,
                 const std::optional<Signatures::Match>& match, std::string_view exception) {
  Clue clue = clue_of(line);
  clue.exception = !exception.empty();
  clue.chained = clue.exception && stream.chained;
  if (match) {
    clue.signature = match->signature;
    clue.role = match->signature->role;
    clue.layer = match->signature->layer;
    clue.about = match->rank;
    if (line.evidence || clue.role == Role::confirmation) clue.bus = bus_of(line.message);
    if (clue.bus && !clue.pid) clue.pid = number_after(clue.message, "pid=");
    if (match->self && !clue.rank) clue.rank = match->self;
    if (match->pid) clue.pid = match->pid;
  } else {
    clue.layer = layer_of_exception(exception, clue.message, stream.frames);
  }
  if (clue.exception && !clue.rank) clue.rank = stream.speaker;
  if (clue.role == Role::ending && !read_ending(clue)) return;
  if (clue.exception || clue.role == Role::teardown || clue.role == Role::ending)
    seen_.failed = true;
  if (clue.message.find("NCCL") != std::string::npos) seen_.nccl = true;
  // what a clumsy handler hid: the row of the table tells more than the type above it
  const bool root = clue.role == Role::root || clue.role == Role::raised;
  if (clue.exception && stream.chained && match && root && !seen_.clues.empty()) {
    Clue& before = seen_.clues.back();
    if (before.exception && before.signature == nullptr) before.role = Role::symptom;
  }
  push(std::move(clue));
}

/// What the code that a line states means; false where it says that all went well.
bool Seeing::read_ending(Clue& clue) const {
  clue.code = ending_in(clue.message);
  if (!clue.code) return true;
  if (*clue.code == 0) return false;
  if (!clue.pid) clue.pid = number_after(clue.message, "(pid");
  clue.layer = FailureLayer::user_code;
  const auto means = signatures_.match(ending_words(*clue.code));
  if (!means || means->signature->layer == FailureLayer::none) return true;
  clue.signature = means->signature;
  clue.layer = means->signature->layer;
  return true;
}

/// Of the same said again and again: the first ones, and the last.
void Seeing::push(Clue clue) {
  if (clue.figure) {
    if (seen_.clues.size() < kMostClues) seen_.clues.push_back(std::move(clue));
    return;
  }
  Said& said = said_[{clue.signature, clue.rank.value_or(-1)}];
  if (said.times >= kMostAlike || seen_.clues.size() >= kMostClues) {
    if (said.times > 0) seen_.clues[said.last] = std::move(clue);
    return;
  }
  ++said.times;
  said.last = seen_.clues.size();
  seen_.clues.push_back(std::move(clue));
}

}  // namespace rigwise::triage_parts
