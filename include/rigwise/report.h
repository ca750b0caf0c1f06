// Report: text, JSON, Markdown and HTML of the same values. Pure: values in, one string out;
// nothing is read or printed.
//
// JSON documents carry "schema": 1 and the fields of docs/json.md. Text fits `width` columns, never
// wraps a number, and says the same with and without colour.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "rigwise/compare.h"
#include "rigwise/decide.h"
#include "rigwise/ledger.h"
#include "rigwise/run.h"

namespace rigwise {

struct TextStyle {
  bool colour = false;
  int width = 80;
};

std::string run_json(const Run& run);
std::string run_text(const Run& run, const TextStyle& style);
std::string runs_json(const std::vector<Run>& runs);
std::string runs_text(const std::vector<Run>& runs, const TextStyle& style);

/// The run's own threshold and how far it is from it; where it has none, or nothing can be said.
struct SealedThreshold {
  std::string text = {};
  ThresholdGap gap = {};
};
std::string ledger_json(const Ledger& ledger, const std::optional<SealedThreshold>& sealed = {});
std::string ledger_text(const Ledger& ledger, const Run& run, const TextStyle& style,
                        const std::optional<SealedThreshold>& sealed = {});

std::string comparison_json(const Comparison& comparison);
std::string comparison_text(const Comparison& comparison, const TextStyle& style);

std::string decision_json(const Decision& decision);
std::string decision_text(const Decision& decision, const TextStyle& style);

/// The decision record. `runs` are the runs that the decision speaks of and `folder` is where the
/// record will lie, so that every sentence can end in a relative link to its evidence. A piece of
/// evidence names its run by id, or by name (then the latest of that name is meant).
std::string decision_markdown(const Decision& decision, const Comparison* comparison,
                              const std::vector<const Run*>& runs = {},
                              const std::filesystem::path& folder = {});

/// The closing lines of `run` (without the "rigwise: " of the first).
std::string run_closing_text(const Run& run, const Ledger* ledger, const TextStyle& style);

/// Everything the page draws of one run, thinned to at most `max_points` a series (extremes kept).
struct ReportRun {
  const Run* run = nullptr;
  const Ledger* ledger = nullptr;
  Rows<StepRecord> steps = {};
  Rows<Event> events = {};
  Rows<GpuSample> gpu = {};
  Rows<HostSample> host = {};
  Rows<DiskSample> disk = {};
  Environment environment = {};
  std::optional<Rig> rig = {};  // names of devices, and the temperature at which they slow down
};

struct ReportInput {
  std::vector<ReportRun> runs =
      {};  // baseline runs first; the first of each name is drawn by default
  const Comparison* comparison = nullptr;
  const Decision* decision = nullptr;
  std::size_t max_points = 2000;
  std::filesystem::path folder =
      {};  // where the page will lie; empty: evidence is named, not linked
};

/// One self-contained HTML file: no network, no script from elsewhere; every string of a run is
/// escaped. Everything but the plots is there without scripts too. Cost: linear in the rows given.
std::string report_html(const ReportInput& input);

}  // namespace rigwise
