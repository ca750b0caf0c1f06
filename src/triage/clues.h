// Clues: the lines that mean something, each with its role, and the facts that launchers state.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "rigwise/triage.h"
#include "triage/lines.h"

namespace rigwise::triage_parts {

/// Domain, bus and device of a PCI address in one number.
using BusAddress = std::int64_t;

struct Clue {
  Role role = Role::root;
  FailureLayer layer = FailureLayer::none;
  const Signature* signature = nullptr;  // nullptr: an exception that no row knows
  Place place = {};
  std::string text = {};     // the whole line
  std::string message = {};  // without prefixes
  std::optional<int> rank = {}, pid = {};
  std::optional<int> about = {};        // the rank that the line itself accuses
  std::optional<int> named_by = {};     // the only rank that spoke of what it quotes
  std::optional<int> nccl_device = {};  // that the line is tagged with
  std::optional<BusAddress> bus = {};   // of the device that a machine's record speaks of
  std::string host = {};
  std::optional<double> unix_s = {};
  bool evidence = false;
  bool exception = false;
  bool warning = false;          // no more than that, by its own word
  bool of_table = false;         // inside a launcher's table of failures
  bool figure = false;           // a loss that is no number
  bool chained = false;          // raised while, or because, another one was handled
  std::optional<int> code = {};  // how a process ended: its exit code, or minus the signal
};

/// Somebody's last signs of progress.
struct Alive {
  Place place = {};
  std::optional<double> unix_s = {};
  std::array<Place, 2> before = {};  // the last but one, and the one before it
  int times = 0;
};

/// How far a rank had come with its collectives, by its watchdog.
struct Collective {
  std::optional<std::int64_t> enqueued = {};   // the last that it gave to NCCL
  std::optional<std::int64_t> timed_out = {};  // the one that it waited for
  std::string form = {};                       // that one's operation and size
};

/// A process that a launcher found ended by itself, before it ended the others.
struct Ended {
  Place place = {};
  std::optional<int> rank = {}, pid = {};
  int code = 1;         // negative: the signal
  bool listed = false;  // in a list of all that ended; else it may be the first of several
};

struct Seen {
  std::vector<Clue> clues = {};
  std::map<int, Alive> progress = {};  // by rank; -1: lines of no rank
  std::set<int> ended_as_nan = {};     // ranks, or -1, whose last figures were no numbers
  std::set<int> ranks = {};            // that spoke
  std::set<std::string> hosts = {};    // that a line named
  std::map<std::pair<std::size_t, int>, std::set<int>> speakers = {};  // by log and section
  std::vector<Ended> ended = {};
  std::set<std::pair<std::size_t, int>> closing = {};  // where a launcher ended others that lived
  std::map<std::string, std::set<int>> speakers_of_host = {};
  std::map<int, int> rank_of_pid = {};
  std::map<BusAddress, std::set<int>> ranks_of_bus = {};  // whose GPU it is: one of each host
  std::map<int, Collective> collectives = {};             // by rank
  std::optional<int> preparing = {};                      // the rank that made data ready last
  std::optional<int> talking = {};  // the only rank that spoke for some lines, of no step, before a
                                    // collective timed out
  std::optional<double> began_unix_s = {};  // the first dated line of a program
  bool several_groups = false;  // watchdogs of others than the default process group spoke
  bool nccl = false;            // NCCL or its watchdog spoke
  bool failed = false;          // an exit code, a signal or an exception at the end
  std::map<std::size_t, std::int64_t> last_lines = {};  // that say something, by log
};

class Seeing {
 public:
  explicit Seeing(const Signatures& signatures) : signatures_(signatures) {}
  void take(LogLine line);
  void know_rank(int pid, int rank) { seen_.rank_of_pid[pid] = rank; }
  Seen finish();

 private:
  /// One stream of lines (a file's, or a rank's in it): the traceback that is being read.
  struct Stream {
    std::string frames = {};
    bool chained = false;
    bool in_traceback = false;
    bool ignored = false;                  // Python itself says that nothing comes of it
    bool of_thread = false;                // one besides the main one ended so
    std::optional<int> speaker = {};       // whose traceback a parent process prints
    std::optional<std::size_t> open = {};  // the exception whose message may go on
    int open_lines = 0;
  };
  /// torchelastic's closing table: entries that name a rank and may quote its traceback.
  struct Table {
    bool open = false;
    std::optional<int> rank = {}, pid = {};
  };

  [[nodiscard]] std::optional<int> rank_of(const LogLine& line);
  void place(const LogLine& line);
  void hear(const LogLine& line);
  void hear_out(const LogLine& line, bool of_step);
  [[nodiscard]] std::optional<int> who_named(std::string_view message) const;
  void read_table(std::string_view bare, const Place& place);
  void read_launcher(std::string_view bare, const Place& place);
  void add_ended(const Ended& ended);
  bool read_traceback(std::string_view bare, bool head, Stream& stream);
  bool goes_on(const LogLine& line, Stream& stream, const std::optional<Signatures::Match>& match);
  void read_collective(const LogLine& line, std::optional<int> self);
  void read_introduction(const LogLine& line, const Signatures::Match& match, Stream& stream);
  void read_progress(const LogLine& line);
  bool is_drawn_again(const LogLine& line);
  bool advances(const LogLine& line);
  [[nodiscard]] Clue clue_of(const LogLine& line) const;
  void note_figures(const LogLine& line, bool finite);
  void add(const LogLine& line, const Stream& stream, const std::optional<Signatures::Match>& match,
           std::string_view exception);
  bool read_ending(Clue& clue) const;
  std::optional<Signatures::Match> match_of(const LogLine& line, std::string_view frames);
  void push(Clue clue);

  const Signatures& signatures_;
  Seen seen_;
  std::map<int, Stream> streams_;
  std::map<int, std::size_t> first_nan_;  // by rank: the clue
  struct Said {
    int times = 0;
    std::size_t last = 0;  // the clue
  };
  std::map<std::pair<const Signature*, int>, Said> said_;    // by signature and rank
  std::map<std::size_t, std::int64_t> forms_;                // last number of lines of one form
  std::vector<std::pair<int, std::string>> spoken_;          // by whom, what
  std::map<std::pair<std::string, int>, int> rank_of_nccl_;  // by host and process
  std::map<std::pair<std::size_t, std::string>, int> first_rank_;  // of a log's host, as they say
  Table table_;
  std::string last_host_, blanks_;
  Place last_;
  bool tagged_ = false;           // lines name ranks
  bool by_member_ = false;        // they do not, so that members of a set of pods stand for them
  std::optional<int> last_rank_;  // that spoke, and for how many lines without another between
  int last_times_ = 0;
  bool timed_out_ = false;
  bool actor_died_ = false;  // Ray says so, and will say which process that was
  bool has_master_ = false;  // "job-master-0": the workers' ranks begin behind it
};

/// "KeyError" of "KeyError: 'mixed'"; empty where the message begins with no exception's name.
/// `due`: a traceback's frames stand above it, so that any name can be one's.
std::string_view exception_name(std::string_view message, bool due = false);

/// Where an exception that no row of the table knows belongs, by its type and the files it came
/// through.
FailureLayer layer_of_exception(std::string_view name, std::string_view message,
                                std::string_view frames);

/// The number behind `name`, over ':', '=' and blanks.
std::optional<int> number_after(std::string_view text, std::string_view name);

/// The text that two ranks print of one failure: without what differs from rank to rank.
std::string likeness(std::string_view message);

/// What a clue says, without the type of an exception.
std::string_view words_of(const Clue& clue);

/// The rank that failed first, of a cause; several ranks that say the same failed together, which
/// is nobody's.
std::optional<int> rank_of_failure(const Clue& cause, const Seen& seen);

}  // namespace rigwise::triage_parts
