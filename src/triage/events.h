// Events: the lines that mean something, each with its role, and the facts that launchers state.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "rigwise/triage.h"

namespace rigwise::triage_parts {

struct Event {
  Role role = Role::root;
  FailureLayer layer = FailureLayer::none;
  const Signature* signature = nullptr;  // nullptr: an exception that no row knows
  std::size_t log = 0;
  std::int64_t line = 0;
  std::string text = {};     // the whole line
  std::string message = {};  // without prefixes
  std::optional<int> rank = {}, pid = {};
  std::optional<int> about = {};     // the rank that the line itself accuses
  std::optional<int> named_by = {};  // the only rank that spoke of what it quotes
  std::string host = {};
  std::optional<double> unix_s = {};
  bool evidence = false;
  bool exception = false;
  bool of_table = false;  // inside a launcher's table of failures
  bool figure = false;    // a loss that is no number
  bool chained = false;   // raised while, or because, another one was handled
};

/// One rank's last sign of life and of progress.
struct Alive {
  std::size_t log = 0;
  std::int64_t line = 0;
  bool finite = true;  // its figures were numbers
};

struct Seen {
  std::vector<Event> events = {};
  std::map<int, Alive> progress = {};  // by rank; -1: lines of no rank
  std::set<int> ranks = {};            // that spoke
  std::set<std::string> hosts = {};    // that a line named
  std::map<int, int> rank_of_pid = {};
  std::set<int> exited = {};              // ranks that a launcher says ended by themselves
  std::map<int, int> signal_of_pid = {};  // that a launcher says ended it
  std::int64_t lines = 0;
  bool failed = false;  // an exit code, a signal or an exception at the end
};

Seen see(const std::vector<FailureLog>& logs, const Signatures& signatures);

/// "KeyError" of "KeyError: 'mixed'"; empty where the message begins with no exception's name.
std::string_view exception_name(std::string_view message);

/// Where an exception that no row of the table knows belongs, by its type and the files it came
/// through.
FailureLayer layer_of_exception(std::string_view name, std::string_view message,
                                std::string_view frames);

}  // namespace rigwise::triage_parts
