// Fields: the comparability table. Every fact, version, device and condition of both sides laid
// side by side, each with its severity for speed and for loss.
#pragma once

#include <string>
#include <vector>

#include "compare/data.h"
#include "compare/rules.h"
#include "compare/series.h"
#include "rigwise/compare.h"

namespace rigwise::compare_fields {

/// The runs of one side with their series, in the order given.
struct Side {
  std::string name = {};
  std::vector<compare_data::RunData> runs = {};
  std::vector<compare_series::Series> series = {};
};

struct Gate {
  std::string factor = {};   // what is under test; empty: nothing
  bool factor_shown = true;  // see Comparison
  std::vector<ComparedField> fields = {};
  std::vector<std::string> blockers = {};  // of speed
  std::vector<std::string> loss_blockers = {};
  std::vector<std::string> wall_blockers = {};
  std::string smallest_change = {};
  Comparable comparable = Comparable::yes;
  bool capped = false;          // a caveat on speed
  bool batches_differ = false;  // known and different
  std::string scaling = {};     // "strong", "weak" or "" where ranks are not the factor
  std::vector<Finding> findings = {};
};

/// Errors: usage, options.factor names no field (nearest name as hint).
Result<Gate> judge(const Side& a, const Side& b, const CompareOptions& options);

// --- the parts of the gate that look at more than facts (conditions.cc, machine.cc) ---

/// One value a run, empty = not known.
using Values = std::vector<std::string>;

/// Lays two sides' values side by side by the rule; evidence and wording are the caller's.
ComparedField lay(const compare_rules::FieldRule& rule, const Values& a, const Values& b);
std::string in_words(const Values& values);

/// How the runs ended, ranks, capture, pauses, foreign load, throttling, order, cache.
void look_at_conditions(const Side& a, const Side& b, const std::string& factor, Gate& gate);
/// Hosts, devices, links, software, environment variables, code revision.
void look_at_machines(const Side& a, const Side& b, Gate& gate);

/// Arguments of the two commands that differ and that no fact was read from, one field each:
/// "argument:--prefetch". Those that only name an output are left out.
void look_at_arguments(const Side& a, const Side& b, Gate& gate);
/// The field of such an argument that `text` speaks of ("--prefetch 8", "prefetch"); else empty.
std::string argument_in_words(const Side& a, const Side& b, std::string_view text);

/// The share of the machine's CPU that other programs took during the steps; nothing unless both
/// counters and the machine's size are known.
std::optional<double> foreign_cpu_share(const compare_data::RunData& data, Evidence* evidence);
/// GPUs that the run used, by index; all of the rig's where the record does not tell.
std::vector<int> gpus_used(const compare_data::HostData& host);

}  // namespace rigwise::compare_fields
