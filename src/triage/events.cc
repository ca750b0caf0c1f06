#include "triage/events.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"
#include "triage/lines.h"

namespace rigwise::triage_parts {

namespace {

constexpr std::size_t kMostEvents = 20000;
constexpr std::size_t kMostFrames = 8 << 10;  // bytes of a traceback's frames that are kept
constexpr std::size_t kMostText = 2000;
constexpr std::size_t kMostHosts = 1000;
constexpr std::size_t kMostSpoken =
    2000;  // first lines of ranks that are kept, to know who named what

bool digit(char c) {
  return c >= '0' && c <= '9';
}

/// The number behind `name`, over ':', '=' and blanks.
std::optional<int> number_after(std::string_view text, std::string_view name) {
  std::size_t at = text.find(name);
  if (at == std::string_view::npos) return {};
  at += name.size();
  while (at < text.size() && (text[at] == ' ' || text[at] == ':' || text[at] == '=')) ++at;
  std::size_t end = at;
  if (end < text.size() && text[end] == '-') ++end;
  while (end < text.size() && digit(text[end]) && end - at < 10) ++end;
  const auto value = to_integer(text.substr(at, end - at));
  if (!value) return {};
  return static_cast<int>(*value);
}

/// A figure of a training: "loss 0.61", "'loss': 0.61", "loss=0.61".
struct Progress {
  bool seen = false, finite = true;
};  // a bar is none: it is drawn once more when the program dies

Progress progress_of(std::string_view message) {
  Progress out;
  for (std::size_t at = message.find("loss"); at != std::string_view::npos;
       at = message.find("loss", at + 4)) {
    std::size_t value = at + 4;
    while (value < message.size() &&
           std::string_view("'\": =").find(message[value]) != std::string_view::npos)
      ++value;
    if (value == at + 4 || value >= message.size()) continue;
    const std::string small = lower(message.substr(value, 4));
    const bool nan =
        small.starts_with("nan") || small.starts_with("inf") || small.starts_with("-inf");
    const std::size_t first = value + (message[value] == '-' ? 1 : 0);
    if (!nan && (first >= message.size() || !digit(message[first]))) continue;
    out.seen = true;
    out.finite = out.finite && !nan;
  }
  return out;
}

/// One stream of lines (a file's, or a rank's in it): the traceback that is being read.
struct Stream {
  std::string frames = {};
  bool chained = false;
  bool handling = false;  // chained by "During handling of"
  bool in_traceback = false;
};

/// torchelastic's closing table: entries that name a rank and may quote its traceback.
struct Table {
  bool open = false;
  std::optional<int> rank = {}, pid = {};
};

class Seeing {
 public:
  Seeing(const std::vector<FailureLog>& logs, const Signatures& signatures)
      : logs_(logs), signatures_(signatures) {}

  Seen run() {
    walk(logs_, [this](const LogLine& line) { take(line); });
    for (Event& event : seen_.events) {
      if (event.exception && !event.rank) event.named_by = who_named(event.message);
    }
    return std::move(seen_);
  }

 private:
  void take(const LogLine& line) {
    ++seen_.lines;
    if (line.log != log_ || line.section != section_) {
      streams_.clear();
      table_ = {};
      log_ = line.log, section_ = line.section;
    }
    if (line.rank && !line.evidence) {
      seen_.ranks.insert(*line.rank);
      if (spoken_.size() < kMostSpoken)
        spoken_.emplace_back(*line.rank, clean_text(line.message, 400));
    }
    if (!line.host.empty() && seen_.hosts.size() < kMostHosts && line.host != last_host_) {
      last_host_ = line.host;
      seen_.hosts.insert(last_host_);
    }
    const std::string_view message = line.message;
    const std::string_view bare = trim(message);
    if (bare.empty()) return;
    read_table(bare);
    const bool at_start = !message.starts_with(' ') && !message.starts_with('\t');
    Stream& stream = streams_[line.rank.value_or(-1)];
    if (read_traceback(bare, stream)) return;
    if (const Progress progress = progress_of(message); progress.seen && !line.evidence) {
      seen_.progress[line.rank.value_or(-1)] = {line.log, line.number, progress.finite};
      note_figures(line, progress.finite);
    }
    // a traceback quotes the source: what stands there was not said
    if (stream.in_traceback && !at_start && !table_.open) return;
    const auto match = signatures_.match(message, stream.frames);
    const std::string_view name = exception_name(bare);
    const bool exception = !name.empty() && (at_start || stream.in_traceback || table_.open);
    if (!match && !exception) return;
    add(line, stream, match, exception ? name : std::string_view());
    if (exception) stream = Stream{};
  }

  /// The one rank that spoke of what the message quotes ('runs/step-400/rank_01.pt') before.
  [[nodiscard]] std::optional<int> who_named(std::string_view message) const {
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

  void read_table(std::string_view bare) {
    if (bare.find("(first observed failure)") != std::string_view::npos || bare == "Failures:") {
      table_ = {true, {}, {}};
      seen_.failed = true;
    }
    if (bare.find("failed (exitcode: ") != std::string_view::npos) {
      const auto pid = number_after(bare, "(pid");
      const auto rank = number_after(bare, "local_rank");
      const auto code = number_after(bare, "(exitcode");
      seen_.failed = true;
      if (pid && rank) seen_.rank_of_pid.emplace(*pid, *rank);  // the table below knows better
      if (rank && code && *code > 0) seen_.exited.insert(*rank);
      if (pid && code && *code < 0) seen_.signal_of_pid[*pid] = -*code;
    }
    if (!table_.open) return;
    if (bare.starts_with("rank ")) {
      table_.rank = number_after(bare, "rank");
    } else if (bare.starts_with("exitcode ")) {
      table_.pid = number_after(bare, "(pid");
      const auto code = number_after(bare, "exitcode");
      if (table_.pid && table_.rank) seen_.rank_of_pid[*table_.pid] = *table_.rank;
      if (table_.rank && code && *code > 0) seen_.exited.insert(*table_.rank);
      if (table_.pid && code && *code < 0) seen_.signal_of_pid[*table_.pid] = -*code;
    }
  }

  /// Lines that are a traceback's own; true where nothing else is to be looked for.
  static bool read_traceback(std::string_view bare, Stream& stream) {
    if (bare.find("Traceback (most recent call last)") != std::string_view::npos) {
      const bool chained = stream.chained, handling = stream.handling;
      stream = {};
      stream.chained = chained, stream.handling = handling;
      stream.in_traceback = true;
      return true;
    }
    if (bare.starts_with("During handling of the above exception") ||
        bare.starts_with("The above exception was the direct cause")) {
      stream.chained = true;
      stream.handling = bare.starts_with("During");
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

  Event event_of(const LogLine& line) const {
    Event event;
    event.log = line.log;
    event.line = line.number;
    event.text = clean_text(line.shown, kMostText);
    event.message = clean_text(trim(line.message), kMostText);
    event.rank = line.rank;
    event.host = clean_text(line.host, 255);
    event.unix_s = line.unix_s;
    event.evidence = line.evidence;
    event.of_table = table_.open;
    if (table_.open && !line.rank) event.rank = table_.rank;
    return event;
  }

  /// The first of the figures that are no numbers; forgotten when a number follows.
  void note_figures(const LogLine& line, bool finite) {
    const int rank = line.rank.value_or(-1);
    const auto open = first_nan_.find(rank);
    if (finite) {
      if (open == first_nan_.end()) return;
      seen_.events[open->second].role = Role::advice;
      first_nan_.erase(open);
      return;
    }
    if (open != first_nan_.end() || seen_.events.size() >= kMostEvents) return;
    Event event = event_of(line);
    event.role = Role::root;
    event.layer = FailureLayer::numerics;
    event.figure = true;
    first_nan_[rank] = seen_.events.size();
    push(std::move(event));
  }

  void add(const LogLine& line, const Stream& stream, const std::optional<Signatures::Match>& match,
           std::string_view name) {
    Event event = event_of(line);
    event.exception = !name.empty();
    event.chained = event.exception && stream.chained;
    if (match) {
      event.signature = match->signature;
      event.role = match->signature->role;
      event.layer = match->signature->layer;
      event.about = match->rank;
      if (match->self && !event.rank) event.rank = match->self;
      event.pid = match->pid;
    } else {
      event.layer = layer_of_exception(name, event.message, stream.frames);
    }
    if (event.exception || event.role == Role::teardown) seen_.failed = true;
    // what a clumsy handler hid: the row of the table tells more than the type above it
    if (event.exception && stream.handling && match && event.role == Role::root &&
        !seen_.events.empty()) {
      Event& before = seen_.events.back();
      if (before.exception && before.signature == nullptr) before.role = Role::cascade;
    }
    push(std::move(event));
  }

  void push(Event event) {
    if (seen_.events.size() < kMostEvents) seen_.events.push_back(std::move(event));
  }

  const std::vector<FailureLog>& logs_;
  const Signatures& signatures_;
  Seen seen_;
  std::map<int, Stream> streams_;
  std::map<int, std::size_t> first_nan_;             // by rank: the event
  std::vector<std::pair<int, std::string>> spoken_;  // by whom, what
  Table table_;
  std::string last_host_;
  std::size_t log_ = 0;
  int section_ = 0;
};

/// Where exceptions of these types come from when nothing else is known.
struct TypeLayer {
  std::string_view type;
  FailureLayer layer;
};
constexpr std::array kTypes = {
    TypeLayer{"ImportError", FailureLayer::framework_env},
    TypeLayer{"ModuleNotFoundError", FailureLayer::framework_env},
    TypeLayer{"PermissionError", FailureLayer::storage_io_permission},
    TypeLayer{"FileNotFoundError", FailureLayer::user_config},
    TypeLayer{"NotADirectoryError", FailureLayer::user_config},
    TypeLayer{"IsADirectoryError", FailureLayer::user_config},
    TypeLayer{"FileExistsError", FailureLayer::user_config},
    TypeLayer{"OSError", FailureLayer::storage_io_permission},
    TypeLayer{"IOError", FailureLayer::storage_io_permission},
    TypeLayer{"MemoryError", FailureLayer::host_oom},
    TypeLayer{"OutOfMemoryError", FailureLayer::gpu_oom},
    TypeLayer{"ConnectionRefusedError", FailureLayer::rendezvous_network},
    TypeLayer{"ConnectionResetError", FailureLayer::rendezvous_network},
    TypeLayer{"ConnectionError", FailureLayer::rendezvous_network},
    TypeLayer{"TimeoutError", FailureLayer::rendezvous_network},
    TypeLayer{"gaierror", FailureLayer::rendezvous_network},
    TypeLayer{"DistNetworkError", FailureLayer::rendezvous_network},
    TypeLayer{"DistStoreError", FailureLayer::rendezvous_network},
    TypeLayer{"RendezvousConnectionError", FailureLayer::rendezvous_network},
    TypeLayer{"UnicodeDecodeError", FailureLayer::data_pipeline},
    TypeLayer{"JSONDecodeError", FailureLayer::data_pipeline},
    TypeLayer{"SafetensorError", FailureLayer::checkpoint},
    TypeLayer{"UnpicklingError", FailureLayer::checkpoint},
    TypeLayer{"ValueError", FailureLayer::user_config},
    TypeLayer{"TypeError", FailureLayer::user_config},
    TypeLayer{"AssertionError", FailureLayer::user_config},
    TypeLayer{"ValidationError", FailureLayer::user_config},
    TypeLayer{"ScannerError", FailureLayer::user_config},
    TypeLayer{"ParserError", FailureLayer::user_config},
    TypeLayer{"ConfigError", FailureLayer::user_config},
    TypeLayer{"MissingConfigException", FailureLayer::user_config},
    TypeLayer{"FloatingPointError", FailureLayer::numerics},
};

/// Code that one layer is made of; the innermost frame that is in one of them counts.
struct FrameLayer {
  std::string_view file;
  FailureLayer layer;
};
constexpr std::array kFiles = {
    FrameLayer{"torch/utils/data/_utils/", FailureLayer::data_pipeline},
    FrameLayer{"/datasets/", FailureLayer::data_pipeline},
    FrameLayer{"torch/serialization.py", FailureLayer::checkpoint},
    FrameLayer{"load_state_dict", FailureLayer::checkpoint},
    FrameLayer{"torch/distributed/checkpoint/", FailureLayer::checkpoint},
    FrameLayer{"safetensors/", FailureLayer::checkpoint},
    FrameLayer{"load_checkpoint", FailureLayer::checkpoint},
    FrameLayer{"argparse.py", FailureLayer::user_config},
    FrameLayer{"/yaml/", FailureLayer::user_config},
    FrameLayer{"configparser.py", FailureLayer::user_config},
};

/// Is a frame of the user's own code in it, and not of Python's or an installed package's alone?
bool has_own_frame(std::string_view frames) {
  for (const std::string_view frame : split(frames, '\n')) {
    if (!frame.starts_with("File \"")) continue;
    bool installed = false;
    for (const std::string_view place :
         {"/site-packages/", "/dist-packages/", "/lib/python", "/bin/"})
      installed = installed || frame.find(place) != std::string_view::npos;
    if (!installed && !frame.starts_with("File \"<")) return true;
  }
  return false;
}

}  // namespace

std::string_view exception_name(std::string_view message) {
  std::size_t end = 0;
  while (end < message.size() && end < 120 &&
         (std::isalnum(static_cast<unsigned char>(message[end])) != 0 || message[end] == '_' ||
          message[end] == '.'))
    ++end;
  if (end < 5 || (end < message.size() && message[end] != ':')) return {};
  if (end < message.size() && end + 1 < message.size() && message[end + 1] != ' ' &&
      message[end + 1] != ':')
    return {};  // "Error:torch.distributed…" is a logger's
  std::string_view name = message.substr(0, end);
  const std::size_t dot = name.rfind('.');
  if (dot != std::string_view::npos) name.remove_prefix(dot + 1);
  if (name.empty() || std::isupper(static_cast<unsigned char>(name[0])) == 0) return {};
  if (name == "Error" || name.ends_with("Warning")) return {};
  for (const std::string_view kind : {"Error", "Exception", "Interrupt", "SystemExit", "Timeout"}) {
    if (name.ends_with(kind)) return name;
  }
  return {};
}

FailureLayer layer_of_exception(std::string_view name, std::string_view message,
                                std::string_view frames) {
  if (name == "AttributeError" && message.find("module '") != std::string_view::npos)
    return FailureLayer::framework_env;
  std::size_t innermost = 0;
  std::optional<FailureLayer> by_frame;
  for (const FrameLayer& each : kFiles) {
    const std::size_t at = frames.rfind(each.file);
    if (at == std::string_view::npos || at + 1 <= innermost) continue;
    innermost = at + 1;
    by_frame = each.layer;
  }
  if (by_frame) return *by_frame;
  for (const TypeLayer& each : kTypes) {
    if (name.ends_with(each.type)) return each.layer;  // two ranks' names may be glued together
  }
  return !frames.empty() && !has_own_frame(frames) ? FailureLayer::framework_env
                                                   : FailureLayer::user_code;
}

Seen see(const std::vector<FailureLog>& logs, const Signatures& signatures) {
  return Seeing(logs, signatures).run();
}

}  // namespace rigwise::triage_parts
