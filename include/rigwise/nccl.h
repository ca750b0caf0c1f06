// NCCL: what the plug-in librigwise-nccl.so saw of a rank's collectives, and what several ranks'
// files say together: seconds in communication, of which seconds waited for the last rank to come,
// and how fast the data moved.
//
// The plug-in looks in windows (about one second in twenty), so everything here is a sample; the
// sequence numbers that NCCL counts all the time say how many collectives there were between.
// Times are seconds on the host's CLOCK_MONOTONIC, as in run.json's start_monotonic_s. A GPU's
// timer is another clock: it is put on the host's by what must hold of every kernel (it starts
// after it was enqueued and before a thread saw it start), window by window; `clock_error_s` is the
// half width of what that leaves.
//
// Threads: plain values and pure functions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rigwise/result.h"

namespace rigwise {

enum class NcclTiming {
  none,    // only when it was enqueued is known
  gpu,     // by the GPU's own timer
  polled,  // when a CPU thread saw the kernels start and end: too late by its polling
};

/// One collective or point-to-point operation of one rank.
struct NcclOperation {
  std::size_t comm = 0;            // index into NcclRank::comms
  std::string_view function = {};  // "AllReduce", …; "unknown"
  std::string_view datatype = {};  // "float32", …; "unknown"
  bool point_to_point = false;
  std::optional<std::uint64_t> sequence = {};  // of this function on this communicator
  std::uint64_t count = 0;                     // elements
  std::optional<double> bytes = {};  // that the rate is of: as nccl-tests count a collective's size
  int peer = -1;                     // or root
  double enqueued_s = 0;
  NcclTiming timing = NcclTiming::none;
  std::optional<double> start_s = {}, end_s = {};
  bool unfinished = false;  // its end was not seen
  bool partial = false;     // times are of some of its channels
};

struct NcclCommunicator {
  std::uint64_t hash = 0;
  std::string name = {};
  std::optional<int> rank = {}, ranks = {}, nodes = {};
};

struct NcclWindow {
  double start_s = 0, end_s = 0;
  double start_unix_s = 0;
  bool kernels = false;  // their times were asked for
  std::uint64_t events = 0, lost = 0;
  std::optional<double> clock_error_s = {};  // of the GPU's timer; empty: no operation tells
  bool clock_wrong = false;                  // no offset fits: polled times stand in for the GPU's
};

/// One process's file.
struct NcclRank {
  std::filesystem::path file = {};
  std::string host = {};
  int pid = 0;
  int interface = 0;                        // 1 to 6
  std::optional<std::string> version = {};  // of NCCL: "2.28.9"
  double opened_s = 0, opened_unix_s = 0, last_s = 0;
  double window_s = 0, period_s = 0;
  std::vector<NcclCommunicator> comms = {};
  std::vector<NcclWindow> windows = {};
  std::vector<NcclOperation> operations = {};  // by enqueued_s
  std::uint64_t events = 0, lost = 0, stray = 0, unknown = 0;
  std::uint64_t malformed = 0;          // records that do not hold
  std::vector<std::string> notes = {};  // what is missing and why, as sentences
};

/// Errors: not_found, io; malformed (no file of the plug-in's, or of a version that is not known).
/// A torn or damaged file is read as far as it holds; `malformed` and `notes` say so.
Result<NcclRank> read_nccl(const std::filesystem::path& file);
/// The plug-in's files of a run directory, in the order of their names.
std::vector<std::filesystem::path> nccl_files(const std::filesystem::path& run_dir);
/// The same of bytes in memory.
Result<NcclRank> parse_nccl(std::string_view bytes);

/// How much faster the busiest link must be than size / time: 2(n-1)/n for AllReduce, (n-1)/n for
/// AllGather, ReduceScatter and AllToAll, else 1 (nccl-tests, doc/PERFORMANCE.md).
double nccl_bus_factor(std::string_view function, int ranks);

/// Operations of one function on one communicator, all ranks together.
struct NcclTraffic {
  std::uint64_t hash = 0;
  std::string name = {};
  std::string function = {};
  std::optional<int> ranks = {};
  std::int64_t operations = 0;  // timed ones
  // Collectives of one rank from the first seen to the last, those between the windows too: NCCL
  // numbers all. Empty where it numbers only what it reports, and of point-to-point.
  std::optional<std::int64_t> numbered = {};
  double bytes = 0;                    // of one rank's view, summed
  std::optional<double> seconds = {};  // mean over ranks of their sums
  std::optional<double> algorithm_bytes_per_s = {}, bus_bytes_per_s = {};  // median operation
};

/// Seconds of one rank inside its windows. Overlapping operations count once.
struct NcclRankSeconds {
  std::size_t file = 0;                // index into what was given
  std::optional<int> rank = {};        // on the largest communicator
  double observed_s = 0;               // length of the windows with times
  double communication_s = 0;          // in collectives' kernels
  double waiting_s = 0;                // of that: until the last rank's kernel started
  double moving_s = 0;                 // of that: after it
  double unmatched_s = 0;              // of that: in operations that no other rank's file shows
  double late_s = 0;                   // what the others waited for this one, the last to come
  std::int64_t matched = 0, last = 0;  // operations seen of all ranks; those it came last to
  double error_s = 0;                  // of one start against another rank's: clocks
};

struct NcclSummary {
  std::vector<NcclRankSeconds> ranks = {};
  std::vector<NcclTraffic> traffic = {};
  std::vector<std::string> notes = {};
};

/// Joins the files of one run's ranks by communicator, function and sequence number.
NcclSummary summarise_nccl(std::span<const NcclRank> ranks);

}  // namespace rigwise
