// Machine: what the watch files say about a stretch of a run, reduced to the few figures that the
// ledger and its findings need.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ledger/rank_numbers.h"
#include "rigwise/finding.h"
#include "rigwise/run.h"

namespace rigwise {

struct Stretch {
  double from_s = 0, to_s = 0;
};

/// Clocks held down on the GPU that lost most.
struct Throttling {
  bool counted = false;    // a cumulative counter was read at least twice
  double held_s = 0;       // longest over GPUs, all causes
  double lost_s = 0;       // held time times the clock's shortfall against its unheld level
  double lost_high_s = 0;  // the same against the highest clock there is
  int gpu = 0;
  std::string cause = {};  // "power", "heat", "power brake", "sync boost"
  std::string host = {};
  Evidence evidence = {};
};
Throttling see_throttling(const Run& run, const Stretch& steps);

/// Processes of the run's ranks, from the slow walk of the tree.
struct RankProcess {
  int rank = 0;
  std::string host = {};
  double first_seen_s = 0, last_seen_s = 0;
};

struct HostView {
  std::string host = {};
  bool present = false;  // watch/HOST.host.csv has rows
  std::optional<double> first_s = {}, last_s = {};
  std::optional<double> others_cpu_s = {}, tree_cpu_s = {}, run_delay_s = {};
  std::optional<double> cpus = {};
  std::string top_other = {};
  std::optional<double> swap_rise_bytes = {};              // during the steps
  std::optional<double> mem_full_s = {}, mem_some_s = {};  // pressure stall during the steps
  std::optional<double> jump_s = {}, jump_at_s = {};       // largest step of the wall clock
  Evidence evidence = {};
  Evidence jump_evidence = {};
};
HostView see_host(const Run& run, const std::string& host, const Stretch& steps);

struct FileSystemView {
  std::string host = {}, mount = {};
  double free_bytes = 0, total_bytes = 0;
  Evidence evidence = {};
};
/// The last word on every file system that the run touches.
std::vector<FileSystemView> see_file_systems(const Run& run, const std::string& host);

std::vector<RankProcess> see_ranks(const Run& run, const std::string& host,
                                   const std::map<int, int>& numbers);

/// A rank's process while steps ran, by its rows in watch/HOST.proc.csv.
struct RankHeld {
  int rank = 0;
  double cpu_s = 0;      // of all its threads
  double queued_s = 0;   // all its threads in a run queue
  double stopped_s = 0;  // by a signal
  std::optional<double> main_cpu_s = {},
                        main_queued_s = {};  // of its main thread; older runs: not
                                             // recorded, and stopped_s is to a tick
};

std::vector<RankHeld> see_held_ranks(const Run& run, const Stretch& steps,
                                     const RankNumbers& all_numbers);

}  // namespace rigwise
