// Import: evidence that people captured by hand → a run directory like any other.
//
// Every file is read once: a training log, a tracker's store, what a tool printed, a configuration,
// a launch command, or an attachment. Each original is kept byte for byte below import/ of the run.
// Times are joined where a file states instants: t_s = 0 is the earliest instant that training
// evidence states (or the given start). What states none stays unjoined, and that is said.
//
// Untrusted input throughout: links are not followed, depth, counts and sizes are bounded, and what
// was left out for a bound is named.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/result.h"
#include "rigwise/run.h"

namespace rigwise {

struct ImportOptions {
  std::filesystem::path root = {};                // where run directories lie
  std::vector<std::filesystem::path> paths = {};  // folders and files
  std::string name = {};                          // empty: of the first path
  std::string host = {};                          // empty: as the files state it
  std::optional<double> start_unix_s = {};        // t_s = 0; empty: earliest training instant
  std::string version = {};                       // of rigwise
};

enum class TimesJoined {
  none,  // the file holds nothing that has a time
  yes,   // its instants are on the run's clock
  no,    // it states no instants (or none that could be placed)
};

/// What became of one file.
struct ImportedFile {
  std::string path = {};    // as given, relative to its folder
  std::string kept = {};    // "import/train.log"; empty where it was only named
  std::string became = {};  // "log", "tensorboard", "nvidia-smi csv", "config", "attachment" …
  std::int64_t size_bytes = 0;
  std::int64_t steps = 0, evaluations = 0, samples = 0, figures = 0;  // rows it gave
  std::int64_t host_samples = 0;  // rows of the host, its disks and networks
  std::int64_t versions = 0, facts = 0;
  std::int64_t malformed = 0;  // lines that looked like the form and do not parse
  std::int64_t first_bad_line = 0;
  TimesJoined times = TimesJoined::none;
  std::vector<std::string> notes =
      {};  // "no column says which GPU a row is of", "same training as …"
};

struct ImportOutcome {
  std::filesystem::path dir = {};
  std::vector<ImportedFile> files = {};
  std::vector<std::string> left_out = {};  // files and folders that a bound kept out, and why
  std::string clock = {};                  // what t_s = 0 is, in words
};

/// Errors: not_found (no such file or folder), usage (a name that cannot be a run's), unavailable
/// (nothing in it is of a known form: the hint names them), io.
Result<ImportOutcome> import_run(const ImportOptions& options);

}  // namespace rigwise
